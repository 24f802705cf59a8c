package breakglass_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// used is the record of a pod of a workload that was let in by break-glass.
func used(workload string, digestNumber int, by string) audit.Record {
	ref, err := image.Parse("reg.test/app@" + digest(digestNumber))
	if err != nil {
		panic(err)
	}
	return audit.Record{
		ID: audit.NewID(), Time: noon, Event: "admission", Cluster: "c.x", Operation: "CREATE", Resource: "pods", Namespace: "shop", Name: workload + "-x", User: "controller",
		Decision: &decide.Decision{
			Allowed: true, Verdict: decide.DENY, Override: decide.BreakGlass, BreakGlass: "label b", Justification: "it burns",
			Images: []decide.ImageDecision{{Image: ref.String(), Digest: ref.Digest(), Verdict: decide.DENY, Reasons: []decide.Reason{{Message: "not attested"}}}},
		},
		BreakGlass: &audit.BreakGlass{Needed: true, Permit: "open", By: by, Kind: "Deployment", Name: workload},
	}
}

// pager keeps events; it fails while down.
type pager struct {
	mu     sync.Mutex
	events []string
	uses   []int64
	down   error
	answer func(breakglass.Incident) error // nil: it takes all
	took   chan struct{}
}

func newPager() *pager { return &pager{took: make(chan struct{}, 1000)} }

func (p *pager) Page(_ context.Context, i breakglass.Incident, e breakglass.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return p.down
	}
	if p.answer != nil {
		p.took <- struct{}{}
		return p.answer(i)
	}
	p.events = append(p.events, i.Key()+" "+string(e.Kind))
	p.uses = append(p.uses, i.Uses)
	p.took <- struct{}{}
	return nil
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type desk struct {
	*testing.T
	dir string
	log *audit.Log
	*breakglass.Incidents
	clock *clock
	pager *pager
	over  reviewer
}

type reviewer struct {
	why map[string]string
	// during is what happens while it looks.
	during *func()
}

func (r reviewer) Over(_ context.Context, i breakglass.Incident) (string, error) {
	if *r.during != nil {
		(*r.during)()
	}
	return r.why[i.Workload.Name], nil
}

func openDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{T: t, dir: t.TempDir(), clock: &clock{at: noon}, pager: newPager(), over: reviewer{map[string]string{}, new(func())}}
	d.open()
	t.Cleanup(d.close)
	return d
}

func (d *desk) open() {
	d.Helper()
	var err error
	logger := slog.New(slog.DiscardHandler)
	if d.log, err = audit.Open(filepath.Join(d.dir, "audit"), logger); err != nil {
		d.Fatal(err)
	}
	d.Incidents, err = breakglass.OpenIncidents(breakglass.IncidentOptions{
		Dir: filepath.Join(d.dir, "breakglass"), Log: d.log, Writers: breakglass.NewWriters(breakglass.Controllers()),
		Pager: d.pager, Reviewer: d.over, Now: d.clock.now, Logger: logger,
	})
	if err != nil {
		d.Fatal(err)
	}
}

func (d *desk) close() {
	if err := d.Close(); err != nil {
		d.Error(err)
	}
	if err := d.log.Close(); err != nil {
		d.Error(err)
	}
}

// happens records uses, and has the incidents follow.
func (d *desk) happens(records ...audit.Record) {
	d.Helper()
	for _, r := range records {
		if err := d.log.AppendSync(d.Context(), r); err != nil {
			d.Fatal(err)
		}
	}
	if err := d.CatchUp(); err != nil {
		d.Fatal(err)
	}
}

func (d *desk) all() []breakglass.Incident {
	list, _ := d.List(breakglass.Filter{}, "", 10_000)
	return list
}

func (d *desk) one() breakglass.Incident {
	d.Helper()
	list := d.all()
	if len(list) != 1 {
		d.Fatalf("%d incidents, want one", len(list))
	}
	return list[0]
}

func TestAnIncidentIsOneWorkloadWithOneImage(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.happens(used("web", 1, "ann"), used("web", 1, "ann"), used("web", 1, "bob"), used("web", 2, "ann"), used("api", 1, "ann"))
	if n := len(d.all()); n != 3 {
		t.Fatalf("%d incidents, want 3", n)
	}
	list, _ := d.List(breakglass.Filter{Text: "bob"}, "", 10)
	if len(list) != 1 {
		t.Fatalf("bob is in %d incidents", len(list))
	}
	i := list[0]
	if i.Uses != 3 || i.Pods != 3 || i.Workload.String() != "Deployment/web" || i.Digest != digest(1) || i.Said != "not attested" || i.State != breakglass.StateOpen {
		t.Errorf("got %+v", i)
	}
	want := []breakglass.Person{{Name: "ann", Uses: 2, First: noon}, {Name: "bob", Uses: 1, First: noon}}
	if diff := cmp.Diff(want, i.People); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]breakglass.Reason{{Text: "it burns"}}, i.Reasons); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasNotUsedOpensNothing(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	unneeded, refused := used("web", 1, "ann"), used("web", 1, "ann")
	unneeded.Decision.Override, unneeded.BreakGlass.Needed = "", false
	refused.Decision.Override, refused.BreakGlass.Refused = "", "no"
	d.happens(unneeded, refused)
	if n := len(d.all()); n != 0 {
		t.Errorf("%d incidents", n)
	}
}

func TestIncidentsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.happens(used("web", 1, "ann"), used("api", 1, "ann"))
	if _, err := d.Acknowledge(d.all()[0].ID, "eve", "I look"); err != nil {
		t.Fatal(err)
	}
	before := d.all()
	// These are on disk, and the process ends before incidents are made of them.
	for range 3 {
		if err := d.log.AppendSync(t.Context(), used("web", 1, "bob")); err != nil {
			t.Fatal(err)
		}
	}
	journal := filepath.Join(d.dir, "breakglass", "incidents.jsonl")
	killed, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	d.close()
	// What the process would have written in the end is not there, but half a line is.
	if err := os.WriteFile(journal, append(killed, `{"at":{"segm`...), 0o600); err != nil {
		t.Fatal(err)
	}
	d.open()
	if diff := cmp.Diff(before, d.all()); diff != "" {
		t.Error(diff)
	}
	d.happens()
	list, _ := d.List(breakglass.Filter{Text: "Deployment/web"}, "", 10)
	if len(list) != 1 || list[0].Uses != 4 || len(list[0].People) != 2 {
		t.Errorf("got %+v", list)
	}

	t.Run("and the loss of their journal", func(t *testing.T) {
		ids := map[string]int64{}
		for _, i := range d.all() {
			ids[i.ID] = i.Uses
		}
		d.close()
		if err := os.Remove(journal); err != nil {
			t.Fatal(err)
		}
		d.open()
		d.happens()
		again := map[string]int64{}
		for _, i := range d.all() {
			again[i.ID] = i.Uses
		}
		if diff := cmp.Diff(ids, again); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTheLifeOfAnIncident(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.Incidents.Run(ctx) }()
	told := func(n int) []string {
		t.Helper()
		for range n {
			<-d.pager.took
		}
		d.pager.mu.Lock()
		defer d.pager.mu.Unlock()
		got := d.pager.events
		d.pager.events = nil
		var kinds []string
		for _, e := range got {
			kinds = append(kinds, e[len("breakglass/")+17:])
		}
		return kinds
	}
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, told(len(want))); diff != "" {
			t.Error(diff)
		}
	}
	if err := d.log.AppendSync(ctx, used("web", 1, "ann")); err != nil {
		t.Fatal(err)
	}
	expect("opened")
	id := d.one().ID
	d.clock.add(breakglass.DefaultEscalateAfter)
	expect("escalated")
	if _, err := d.Acknowledge(id, "eve", ""); err != nil {
		t.Fatal(err)
	}
	expect("acknowledged")
	if err := d.log.AppendSync(ctx, used("web", 1, "bob")); err != nil {
		t.Fatal(err)
	}
	expect("reopened")
	if _, err := d.Acknowledge(id, "eve", ""); err != nil {
		t.Fatal(err)
	}
	expect("acknowledged")
	d.clock.add(breakglass.DefaultForgottenAfter)
	expect("reopened")
	if _, err := d.Resolve(id, "eve", "rolled back"); err != nil {
		t.Fatal(err)
	}
	expect("resolved")
	if _, err := d.Acknowledge(id, "eve", ""); err == nil {
		t.Error("one that is resolved was acknowledged")
	}
	if err := d.log.AppendSync(ctx, used("web", 1, "ann")); err != nil {
		t.Fatal(err)
	}
	expect("opened")
	list, _ := d.List(breakglass.Filter{State: breakglass.StateOpen}, "", 10)
	if len(list) != 1 || list[0].ID == id || list[0].Before != id {
		t.Fatalf("got %+v, want another after %s", list, id)
	}
	d.over.why["web"] = "policy allows the image now"
	if err := d.CloseOver(ctx); err != nil {
		t.Fatal(err)
	}
	expect("closed")
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestAnIncidentThatIsUsedMeanwhileIsNotClosed(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.happens(used("web", 1, "ann"))
	d.over.why["web"] = "gone"
	*d.over.during = func() { d.happens(used("web", 1, "ann")) }
	if err := d.CloseOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i := d.one(); i.State != breakglass.StateOpen || i.Uses != 2 {
		t.Errorf("got %+v", i)
	}
	*d.over.during = nil
	if err := d.CloseOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i := d.one(); i.State != breakglass.StateResolved || i.History[len(i.History)-1].What != breakglass.EventClosed {
		t.Errorf("got %+v", i)
	}
}

func TestWhatThePagerDidNotTakeIsToldAfterARestart(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.pager.down = fmt.Errorf("no network")
	d.happens(used("web", 1, "ann"))
	d.close()
	d.open()
	if got := d.one().Untold; len(got) != 1 || got[0].Kind != breakglass.EventOpened {
		t.Fatalf("untold: %+v", got)
	}
	d.pager.down = nil
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.Incidents.Run(ctx) }()
	<-d.pager.took
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// TestAStorm: 10,000 pods of 50 workloads are 50 incidents with complete counts, and take
// no more memory than 50 incidents do.
func TestAStorm(t *testing.T) {
	t.Parallel()
	const pods, workloads = 10_000, 50
	d := openDesk(t)
	var group errgroup.Group
	group.SetLimit(64) // as many as ask at the same time
	for n := range pods {
		group.Go(func() error {
			return d.log.AppendSync(t.Context(), used(fmt.Sprintf("w%d", n%workloads), 1, fmt.Sprintf("person-%d", n%7)))
		})
		if n%4000 == 0 {
			d.happens()
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	last := used("w0", 1, "person-0")
	d.happens(last)
	total := int64(0)
	for _, i := range d.all() {
		total += i.Uses
	}
	if n := len(d.all()); n != workloads || total != pods+1 {
		t.Errorf("%d incidents with %d uses, want %d with %d", n, total, workloads, pods+1)
	}
	raw, err := json.Marshal(d.all())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > workloads*4096 {
		t.Errorf("%d bytes of incidents", len(raw))
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 200<<20 {
		t.Errorf("%d MB in use", m.HeapAlloc>>20)
	}
}
