package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/relay"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
)

// told keeps what a receiver is told.
type told struct {
	*httptest.Server
	mu       sync.Mutex
	messages []string // KIND KEY
	pages    int
	down     bool
}

func newTold(t *testing.T) *told {
	t.Helper()
	r := &told{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var event struct {
			Data struct{ Messages []struct{ Kind, Key string } }
		}
		if err := json.NewDecoder(req.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		r.pages++
		for _, m := range event.Data.Messages {
			r.messages = append(r.messages, m.Kind+" "+m.Key)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *told) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

func (r *told) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pages
}

func (r *told) turnOff(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// tells has a server page the receivers, in this order, without waiting for more.
func tells(t *testing.T, receivers ...*told) func(*Config) {
	secret := write(t, filepath.Join(t.TempDir(), "secret"), "c2VjcmV0LXNlY3JldC1zZWNyZXQh")
	return func(c *Config) {
		route := notify.Route{Name: "all", GroupWait: 1, FailAfter: 1, Burst: 100, PagesPerHour: 3600}
		for n, r := range receivers {
			name := fmt.Sprint("hook", n)
			c.Notify.Receivers = append(c.Notify.Receivers, pager.Receiver{Name: name, Webhook: &pager.Webhook{URL: r.URL, SecretFile: secret}})
			route.Receivers = append(route.Receivers, name)
		}
		c.Notify.Routes = []notify.Route{route}
	}
}

// incidents are those of a server whose text contains this.
func (r *running) incidents(text string) []breakglass.Incident {
	r.t.Helper()
	code, body := r.get("http://" + r.Metadata + "/v1/projects/default/breakGlassIncidents?pageSize=1000&text=" + text)
	var list struct{ BreakGlassIncidents []breakglass.Incident }
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
		r.t.Fatalf("listing incidents: %d %s %v", code, body, err)
	}
	return list.BreakGlassIncidents
}

// own are the incidents that a gate has for itself.
func (r *running) own() []breakglass.Incident {
	r.t.Helper()
	list, err := breakglass.ReadIncidents(filepath.Join(r.data, "breakglass"))
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func glassPod(name string) []byte {
	return review.Pod("shop", name).Label("image-policy.k8s.io/break-glass", "true").Image("main", unattested).Review()
}

func (r *running) breakGlass(name string, times int) {
	r.t.Helper()
	for range times {
		if ok, said := r.ask(glassPod(name)); !ok {
			r.t.Fatalf("%s: %s", name, said)
		}
	}
}

// TestTheGatesOfAClusterHaveOneIncident at the service, which tells people once; and what
// people say of it there reaches the gates.
func TestTheGatesOfAClusterHaveOneIncident(t *testing.T) {
	t.Parallel()
	people, nobody := newTold(t), newTold(t)
	r := start(t, testConfig(t, tells(t, people)))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	var gates []*running
	configs := map[*running]Config{}
	for _, name := range []string{"one", "two", "three"} {
		cfg := gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Admission.Feed.Gate = name; tells(t, nobody)(c) })
		gate := start(t, cfg)
		configs[gate] = cfg
		gates = append(gates, gate)
	}
	const uses = 7
	for _, gate := range gates {
		gate.breakGlass("web", uses)
	}
	var i breakglass.Incident
	within(t, "the service has all uses in one incident", func() bool {
		list := r.incidents("web")
		if len(list) > 0 {
			i = list[0]
		}
		return len(list) == 1 && i.Uses == int64(uses*len(gates))
	})
	if len(i.Gates) != len(gates) {
		t.Errorf("it is of the gates %q", i.Gates)
	}
	within(t, "people are told", func() bool { return slices.Contains(people.all(), "incident.opened "+i.Key()) })
	settled := func(state breakglass.State) func() bool {
		return func() bool {
			return !slices.ContainsFunc(gates, func(g *running) bool {
				list := g.own()
				return len(list) != 1 || list[0].State != state || len(list[0].Untold) > 0
			})
		}
	}
	within(t, "the gates know that the service tells of it", settled(breakglass.StateOpen))

	r.api().expect("", "POST", "/v1/projects/default/breakGlassIncidents/"+i.ID+":acknowledge", `{"by":"eve","comment":"I look"}`, 200)
	within(t, "the gates know that somebody looks", settled(breakglass.StateAcknowledged))
	if e := gates[0].own()[0].History; e[len(e)-1].Text != "I look" || !strings.Contains(e[len(e)-1].Who, "eve") {
		t.Errorf("the history of a gate: %+v", e)
	}
	// A gate that is started again, and has lost how far it was, tells nothing twice.
	if err := gates[0].stop(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(gates[0].data, "breakglass", "forwarded.json"), "{}")
	gates[0] = start(t, configs[gates[0]])
	gates[0].breakGlass("web", 1)
	within(t, "one more use is counted", func() bool { return r.incidents("web")[0].Uses >= int64(uses*len(gates)+1) })
	if got := r.incidents("web")[0].Uses; got != int64(uses*len(gates)+1) {
		t.Errorf("%d uses, want %d", got, uses*len(gates)+1)
	}

	r.api().expect("", "POST", "/v1/projects/default/breakGlassIncidents/"+i.ID+":resolve", "", 200)
	within(t, "the gates know that it is over", settled(breakglass.StateResolved))
	gates[1].breakGlass("web", 1)
	within(t, "another use is another incident", func() bool { return len(r.incidents("web")) == 2 })
	if again := r.incidents("web")[0]; again.Before != i.ID || again.Uses != 1 {
		t.Errorf("it is %+v", again)
	}
	if all := people.all(); count(all, "incident.opened "+i.Key()) != 1 {
		t.Errorf("people are told %q", all)
	}
	if all := nobody.all(); len(all) > 0 {
		t.Errorf("a gate has told people itself: %q", all)
	}
}

func count(list []string, of string) (n int) {
	for _, s := range list {
		if s == of {
			n++
		}
	}
	return n
}

// TestAGatePagesAloneWhenItsServiceIsAway, after its time; and when the service is back it
// is told all, and what is said there reaches whom the gate has paged.
func TestAGatePagesAloneWhenItsServiceIsAway(t *testing.T) {
	t.Parallel()
	people, fallback := newTold(t), newTold(t)
	address := free(t)
	cfg := testConfig(t, func(c *Config) { c.Metadata.Address = address; tells(t, people)(c) })
	r := start(t, cfg)
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	const alone = 3 * time.Second
	gate := start(t, gateConfig(t, "http://"+address, func(c *Config) { c.BreakGlass.PageAloneAfter = alone; tells(t, fallback)(c) }))
	gate.breakGlass("before", 1)
	within(t, "the service tells of the first", func() bool { return len(people.all()) == 1 && len(gate.own()[0].Untold) == 0 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	gate.breakGlass("while", 3)
	within(t, "the gate tells by itself", func() bool { return len(fallback.all()) > 0 })
	if took := time.Since(begun); took < alone {
		t.Errorf("after %v", took)
	}
	own := gate.own()
	id := own[slices.IndexFunc(own, func(i breakglass.Incident) bool { return i.Workload.Name == "while" })].Key()
	if all := fallback.all(); !slices.Equal(all, []string{"incident.opened " + id}) {
		t.Errorf("the gate tells %q, want %s", all, id)
	}

	again := start(t, cfg)
	within(t, "the service is told when it is back", func() bool {
		list := again.incidents("while")
		return len(list) == 1 && list[0].Uses == 3
	})
	if i := again.incidents("while")[0]; i.Key() != id {
		t.Errorf("the service calls it %s, and the gate %s", i.Key(), id)
	}
	again.api().expect("", "POST", "/v1/projects/default/breakGlassIncidents/"+strings.TrimPrefix(id, "breakglass/")+":acknowledge", `{"by":"eve"}`, 200)
	within(t, "whom the gate has called is told that somebody looks", func() bool { return slices.Contains(fallback.all(), "incident.acknowledged "+id) })
	if all := fallback.all(); len(all) != 2 {
		t.Errorf("the gate tells %q", all)
	}
}

// TestAServiceThatHasNobodyToTellIsNotReliedOn: its gate pages by itself.
func TestAServiceThatHasNobodyToTellIsNotReliedOn(t *testing.T) {
	t.Parallel()
	fallback := newTold(t)
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.BreakGlass.PageAloneAfter = time.Second; tells(t, fallback)(c) }))
	gate.breakGlass("web", 1)
	within(t, "the service has the incident", func() bool { return len(r.incidents("web")) == 1 })
	within(t, "the gate tells", func() bool { return len(fallback.all()) == 1 })
}

// TestWhatAGateForwards: records with a marker, all, or none.
func TestWhatAGateForwards(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	// forwarded are decisions of gates that the service has on record.
	forwarded := func() map[string]int {
		n := map[string]int{}
		if err := audit.Query(filepath.Join(r.data, "audit"), audit.Filter{}, func(rec audit.Record) error {
			if rec.Origin != nil && rec.Event == "admission" {
				n[rec.Origin.Gate]++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for what, want := range map[relay.What]int{relay.BreakGlass: 1, relay.All: 3, relay.None: 0} {
		gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Admission.Feed.Gate, c.Audit.Forward = string(what), what }))
		for range 2 {
			gate.ask(review.Pod("shop", "plain").Image("main", unattested).Review())
		}
		gate.breakGlass("web", 1)
		_, metrics := gate.get("http://" + gate.Ops + "/metrics")
		if what == relay.None {
			if strings.Contains(metrics, "gatehouse_audit_forwarded_total") {
				t.Error("none, and there is a relay")
			}
			continue
		}
		within(t, fmt.Sprintf("%s: the records are there", what), func() bool { return forwarded()[string(what)] == want })
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := forwarded(); got["breakGlass"] != 1 || got["all"] != 3 || got["none"] != 0 {
		t.Errorf("the service's log has %v", got)
	}
}

// TestAPagerThatFailsIsAnIncident: one receiver is dead, the other is told of it, and it
// ends when the receiver works.
func TestAPagerThatFailsIsAnIncident(t *testing.T) {
	t.Parallel()
	broken, other := newTold(t), newTold(t)
	broken.turnOff(true)
	r := start(t, testConfig(t, func(c *Config) {
		c.BreakGlass.ReceiverFailedAfter, c.BreakGlass.EscalateAfter = time.Second, 2*time.Second
		tells(t, broken, other)(c)
	}))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the policy is in force", func() bool {
		ok, _ := r.ask(review.Pod("shop", "web").Image("main", unattested).Review())
		return !ok
	})
	r.breakGlass("web", 1)
	of := func() breakglass.Incident {
		list := r.incidents("hook0")
		if len(list) != 1 {
			return breakglass.Incident{}
		}
		return list[0]
	}
	within(t, "the dead receiver is an incident", func() bool { return of().Kind == breakglass.Receiver })
	within(t, "the other receiver is told of it", func() bool { return slices.Contains(other.all(), "pager.failed pager/hook0") })
	within(t, "and called again when nobody looks", func() bool { return slices.Contains(other.all(), "incident.escalated pager/hook0") })
	broken.turnOff(false)
	more := 0
	within(t, "it is over when the receiver works", func() bool {
		if more++; more%100 == 0 { // so that there is something to tell it
			r.breakGlass(fmt.Sprint("more", more), 1)
		}
		return of().State == breakglass.StateResolved
	})
	if text := string(mustRead(t, r, of().ID)); !strings.Contains(text, "it works again") {
		t.Error(text)
	}
}

func mustRead(t *testing.T, r *running, id string) []byte {
	t.Helper()
	resp, err := http.Get("http://" + r.Metadata + "/v1/projects/default/breakGlassIncidents/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
