package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/gatetest/alertmanager"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
)

const (
	webhookName = "imagepolicywebhook.image-policy.k8s.io"
	// webhookTimeout is that of the webhook, which controlplane registers.
	webhookTimeout = 10 * time.Second
	// pageBound is how long a page may take that goes out as soon as somebody takes it: the
	// tries of a pager that fails are up to a minute apart.
	pageBound = 3 * time.Minute
)

// An emergency is an API server whose gate has nobody to ask and nobody to page.
type emergency struct {
	*testing.T
	kube      *controlplane.ControlPlane
	pager     *alertmanager.Server
	dir       string
	addr, ops string
	arguments []string // of the gate
}

// TestAnEmergencyOnARealAPIServer: the store, the registry and the pager are away, and
// the webhook fails closed. Break-glass lets pods in within the webhook's time-out; the
// gate is killed as soon as the API server has answered; and when it is started again and
// the pager is back, exactly the incident is told, with all its pods.
func TestAnEmergencyOnARealAPIServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	kube := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	begin := func(t *testing.T, config string) *emergency {
		e := &emergency{T: t, kube: kube, dir: t.TempDir(), addr: freePort(t), ops: freePort(t), pager: alertmanager.Start(t, alertmanager.Options{})}
		e.pager.Kill(t)
		path := filepath.Join(e.dir, "gatehouse.yaml")
		e.write(path, config+fmt.Sprintf(`
notify:
  receivers: [{name: am, timeout: 1s, alertmanager: {urls: [%q]}}]
  routes: [{name: all, receivers: [am], groupWait: 1s}]
`, e.pager.URL()))
		e.arguments = []string{"--config", path, "--data", filepath.Join(e.dir, "data"), "--admission-addr", e.addr, "--ops-addr", e.ops}
		return e
	}
	t.Run("a gate whose service never answers", func(t *testing.T) {
		e := begin(t, fmt.Sprintf("role: admission\nadmission: {feed: {server: \"http://%s\"}}\nbreakGlass: {pageAloneAfter: 1s}\n", freePort(t)))
		gate := e.launch()
		e.register()
		e.breaksGlass(gate)
		e.launch()
		e.isTold("INDETERMINATE")
	})
	t.Run("a server whose PostgreSQL is gone", func(t *testing.T) {
		store := postgres.Start(t, postgres.Options{})
		secrets := t.TempDir()
		e := begin(t, "")
		e.write(filepath.Join(secrets, "store"), store.Database(t))
		e.write(filepath.Join(secrets, "policy.yaml"), "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n")
		e.arguments = append(e.arguments, "--policy", filepath.Join(secrets, "policy.yaml"), "--postgres-connection-file", filepath.Join(secrets, "store"))
		server := startServe(t, e.arguments...)
		e.register()
		store.Kill(t)
		e.breaksGlass(server)
		store.Restart(t)
		startServe(t, e.arguments...)
		e.isTold("DENY")
	})
}

func (e *emergency) write(path, text string) {
	e.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.Fatal(err)
	}
}

// launch starts a gate, which is never ready.
func (e *emergency) launch() *serveProcess {
	e.Helper()
	p := launchServe(e, e.arguments...)
	until(e, "the gate serves its health", func() bool {
		resp, err := http.Get("http://" + e.ops + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return true
	})
	return p
}

func (e *emergency) register() {
	e.Helper()
	ca, err := os.ReadFile(filepath.Join(e.dir, "data", "tls", "ca.crt"))
	if err != nil {
		e.Fatal(err)
	}
	if err := e.kube.RegisterWebhook(e.Context(), webhookName, "https://"+e.addr+"/validate", ca); err != nil {
		e.Fatal(err)
	}
}

// create creates a pod of the replica set of a Deployment, and returns the status and how
// long the API server took.
func (e *emergency) create(marked bool) (status int, said string, took time.Duration) {
	e.Helper()
	labels := map[string]string{"pod-template-hash": "6d4"}
	if marked {
		labels["image-policy.k8s.io/break-glass"] = "true"
	}
	begun := time.Now()
	status, body, err := e.kube.Do(e.Context(), http.MethodPost, "/api/v1/namespaces/default/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"generateName": "web-6d4-", "labels": labels},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "main", "image": unattestedImage}}},
	})
	if err != nil {
		e.Fatal(err)
	}
	return status, string(body), time.Since(begun)
}

// glassPods is how many pods are let in before the gate is killed.
const glassPods = 5

// breaksGlass creates pods with a marker, which the gate lets in and is killed.
func (e *emergency) breaksGlass(gate *serveProcess) {
	e.Helper()
	if status, said, _ := e.create(false); status == http.StatusCreated || !strings.Contains(said, "denied the request") {
		e.Fatalf("without a marker: %d %s", status, said)
	}
	var slowest time.Duration
	for n := range glassPods {
		status, said, took := e.create(true)
		if n == glassPods-1 {
			gate.kill()
		}
		if slowest = max(slowest, took); status != http.StatusCreated || took >= webhookTimeout {
			e.Fatalf("pod %d: %d after %v: %s\n%s", n, status, took, said, gate.stderr)
		}
	}
	e.Logf("%d pods were let in with everything down, the slowest in %v", glassPods, slowest)
	if status, said, _ := e.create(true); status == http.StatusCreated || !strings.Contains(said, "failed calling webhook") {
		e.Fatalf("the gate is killed, and the webhook does not fail closed: %d %s", status, said)
	}
	recorded := 0
	if err := audit.Query(filepath.Join(e.dir, "data", "audit"), audit.Filter{Override: "BREAK_GLASS"}, func(audit.Record) error { recorded++; return nil }); err != nil || recorded != glassPods {
		e.Fatalf("%d uses are on record after kill -9, want %d; error %v", recorded, glassPods, err)
	}
}

// isTold demands that the pager, when it is back, is told of the incident and of nothing
// else.
func (e *emergency) isTold(verdict string) {
	e.Helper()
	var list []breakglass.Incident
	until(e, "the incident has all its pods", func() bool {
		var err error
		list, err = breakglass.ReadIncidents(filepath.Join(e.dir, "data", "breakglass"))
		return err == nil && len(list) == 1 && list[0].Pods == glassPods
	})
	if list[0].Verdict != verdict || list[0].State != breakglass.StateOpen {
		e.Errorf("the incident: %+v", list[0])
	}
	e.pager.Restart(e)
	var told []alertmanager.Alert
	untilWithin(e, pageBound, "somebody is paged", func() bool {
		told = slices.DeleteFunc(e.pager.Alerts(e), func(a alertmanager.Alert) bool { return a.Labels["alertname"] != "GatehouseIncident" })
		return len(told) > 0
	})
	if len(told) != 1 || told[0].Labels["incident"] != list[0].ID {
		e.Errorf("told %+v, want incident %s", told, list[0].ID)
	}
}

// untilWithin demands that something comes about within a time.
func untilWithin(t testing.TB, bound time.Duration, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(bound), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// TestAStormOfBreakGlass: 10,000 pods of 50 workloads through the webhook of a server are
// 50 incidents with complete counts and a handful of pages, and take no more memory in the
// end than after the first of them.
func TestAStormOfBreakGlass(t *testing.T) {
	t.Parallel()
	const pods, first, workloads, atOnce = 10_000, 2_000, 50, 32
	dir := t.TempDir()
	pages := newPages(t)
	for name, text := range map[string]string{
		"secret":      "c2VjcmV0LXNlY3JldC1zZWNyZXQh",
		"policy.yaml": "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n",
		"gatehouse.yaml": fmt.Sprintf(`
notify:
  receivers: [{name: hook, webhook: {url: %q, secretFile: %q}}]
  routes: [{name: all, receivers: [hook], groupWait: 1s}]
`, pages.URL, filepath.Join(dir, "secret")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startServe(t, "--config", filepath.Join(dir, "gatehouse.yaml"), "--data", filepath.Join(dir, "data"), "--policy", filepath.Join(dir, "policy.yaml"))
	client := trusting(t, p.CA)
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = atOnce
	t.Cleanup(client.CloseIdleConnections)
	begun := time.Now()
	if err := storm(client, p.Admission, 0, first, workloads, atOnce); err != nil {
		t.Fatal(err)
	}
	before := p.memory(t)
	if err := storm(client, p.Admission, first, pods, workloads, atOnce); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	var list []breakglass.Incident
	total := func() (uses int64) {
		for _, i := range list {
			uses += i.Pods
		}
		return uses
	}
	until(t, "all are counted", func() bool {
		var err error
		list, err = breakglass.ReadIncidents(filepath.Join(dir, "data", "breakglass"))
		return err == nil && total() == pods
	})
	after := p.memory(t)
	if len(list) != workloads {
		t.Errorf("%d incidents, want %d", len(list), workloads)
	}
	for _, i := range list {
		if i.Pods != pods/workloads {
			t.Errorf("%s was used by %d pods, want %d", i.Workload, i.Pods, pods/workloads)
		}
	}
	untilWithin(t, pageBound, "all incidents are told", func() bool { _, keys := pages.told(); return keys == workloads })
	const handful = 6 // five at once, and then one every two minutes
	if n, _ := pages.told(); n > handful {
		t.Errorf("%d pages", n)
	}
	n, _ := pages.told()
	t.Logf("%d pods in %v, %d pages; resident %d MB after %d, %d MB after all; heap in use %d and %d MB",
		pods, took.Round(time.Millisecond), n, before.resident>>20, first, after.resident>>20, before.heap>>20, after.heap>>20)
	const more = 48 << 20
	if after.resident > before.resident+more {
		t.Errorf("resident memory grew from %d to %d bytes", before.resident, after.resident)
	}
}

// TestAStormOverSeveralGates: while the pods of 50 workloads come through three gates, the
// service is killed and started again, and then a gate. The service has 50 incidents in the
// end, with each pod counted once.
func TestAStormOverSeveralGates(t *testing.T) {
	t.Parallel()
	const rounds, each, workloads, atOnce = 3, 500, 50, 16
	c := startCluster(t)
	address := c.server.Metadata
	names := []string{"one", "two", "three"}
	gates := map[string]*gateProcess{}
	for _, name := range names {
		gates[name] = c.gate(name)
	}
	sent := 0
	for round := range rounds {
		var wg sync.WaitGroup
		for n, name := range names {
			from := sent + n*each
			gate := gates[name]
			wg.Go(func() {
				if err := storm(gate.client, gate.Admission, from, from+each, workloads, atOnce); err != nil {
					t.Error(err)
				}
			})
		}
		if round == 1 {
			c.server.kill()
		}
		wg.Wait()
		sent += len(names) * each
		switch round {
		case 1:
			c.startServer(address)
		case 0:
			gates["two"].kill()
			gates["two"] = c.gate("two")
		}
	}
	var list struct{ BreakGlassIncidents []breakglass.Incident }
	total := func() (pods int64) {
		for _, i := range list.BreakGlassIncidents {
			pods += i.Pods
		}
		return pods
	}
	until(t, "the service has all pods", func() bool {
		list.BreakGlassIncidents = nil
		if err := json.Unmarshal([]byte(c.do("GET", "breakGlassIncidents?pageSize=1000", "")), &list); err != nil {
			t.Fatal(err)
		}
		return total() >= int64(sent)
	})
	if n := len(list.BreakGlassIncidents); n != workloads || total() != int64(sent) {
		t.Errorf("%d incidents with %d pods, want %d with %d", n, total(), workloads, sent)
	}
	for _, i := range list.BreakGlassIncidents {
		if i.Pods != int64(sent/workloads) || len(i.Gates) != len(names) {
			t.Errorf("%s: %d pods of gates %q", i.Workload, i.Pods, i.Gates)
		}
	}
	recorded := 0
	if err := audit.Query(filepath.Join(c.dir, "server", "audit"), audit.Filter{Override: "BREAK_GLASS"}, func(audit.Record) error { recorded++; return nil }); err != nil || recorded != sent {
		t.Errorf("the service's log has %d uses, want %d; error %v", recorded, sent, err)
	}
	m := c.server.memory(t)
	t.Logf("%d pods through %d gates; the service has %d MB resident, %d MB of heap in use", sent, len(names), m.resident>>20, m.heap>>20)
}

// storm sends the reviews of pods with numbers from one to below another.
func storm(client *http.Client, addr string, from, to, workloads, atOnce int) error {
	numbers := make(chan int)
	done := make(chan error, atOnce)
	for range atOnce {
		go func() {
			var failed error
			for n := range numbers {
				a, err := ask(client, addr, glassReviewOf(fmt.Sprintf("w%d", n%workloads), n))
				if err == nil && !a.Response.Allowed {
					err = fmt.Errorf("pod %d is denied: %s", n, a.Response.Status.Message)
				}
				if failed == nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for n := from; n < to; n++ {
		numbers <- n
	}
	close(numbers)
	var failed error
	for range atOnce {
		failed = cmp.Or(failed, <-done)
	}
	return failed
}

// memory is what a process takes, in bytes.
type memory struct{ resident, heap int64 }

func (p *serveProcess) memory(t *testing.T) (m memory) {
	t.Helper()
	resp, err := http.Get("http://" + p.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var value float64
		switch {
		case strings.HasPrefix(line, "process_resident_memory_bytes "):
			_, _ = fmt.Sscanf(line, "process_resident_memory_bytes %g", &value)
			m.resident = int64(value)
		case strings.HasPrefix(line, "go_memstats_heap_inuse_bytes "):
			_, _ = fmt.Sscanf(line, "go_memstats_heap_inuse_bytes %g", &value)
			m.heap = int64(value)
		}
	}
	if m.resident == 0 || m.heap == 0 {
		t.Skip("how much memory a process takes is not told here")
	}
	return m
}

// A pages is a receiver of signed webhooks that counts what it is told.
type pages struct {
	*httptest.Server
	mu    sync.Mutex
	count int
	keys  map[string]bool // of incidents that were opened
}

func newPages(t *testing.T) *pages {
	p := &pages{keys: map[string]bool{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Data struct{ Messages []struct{ Kind, Key string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.count++
		for _, m := range event.Data.Messages {
			if m.Kind == "incident.opened" {
				p.keys[m.Key] = true
			}
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// told returns how many pages have come, and of how many incidents they told.
func (p *pages) told() (count, incidents int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, len(p.keys)
}
