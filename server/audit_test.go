package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// smallDisks mounts file systems of their own where a server keeps its records.
func smallDisks(t *testing.T, data string, dirs ...string) (fill, free func()) {
	t.Helper()
	var fillers []string
	for _, name := range dirs {
		dir := filepath.Join(data, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
			t.Skipf("a file system of its own cannot be mounted: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		fillers = append(fillers, filepath.Join(dir, "filler"))
	}
	fill = func() {
		t.Helper()
		for _, path := range fillers {
			if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("filling the disk: %v", err)
			}
		}
	}
	free = func() {
		t.Helper()
		for _, path := range fillers {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fill, free
}

// What one asks of a server whose records have no room.
var (
	plainPod  = review.Pod("shop", "web").Image("main", "reg.test/app:1").Review()
	brokenPod = review.Pod("shop", "web").Label("image-policy.k8s.io/break-glass", "true").Image("main", "reg.test/app:1").Review()
)

func (r *running) events(kind string) (events []string) {
	r.t.Helper()
	if err := audit.Query(filepath.Join(r.data, kind), audit.Filter{}, func(rec audit.Record) error { events = append(events, rec.Event); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return events
}

func TestWhatCannotBeRecordedIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, nil)
	fill, free := smallDisks(t, cfg.Data, "audit", "audit-api")
	r := start(t, cfg)
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the policy is in force", func() bool { ok, _ := r.ask(plainPod); return !ok })
	if ok, said := r.ask(brokenPod); !ok {
		t.Fatalf("break-glass on a disk with room: %s", said)
	}
	fill()
	within(t, "break-glass is refused", func() bool {
		ok, said := r.ask(brokenPod)
		return !ok && strings.Contains(said, "no space left on device")
	})
	within(t, "a change of policy is refused", func() bool {
		status, _, text := r.api().do("", "PUT", policyAt, deniesAll) // as long as the last page of the file has room
		return status == 503 && strings.Contains(text, "UNAVAILABLE") && strings.Contains(text, "must be on record before it is made") && strings.Contains(text, "no space left")
	})
	r.api().expect("", "PUT", policyAt, allowsAll, 503)
	r.api().expect("", "GET", policyAt, "", 200, "ALWAYS_DENY")
	if ok, said := r.ask(plainPod); ok || !strings.Contains(said, "ALWAYS_DENY") && !strings.Contains(said, "always_deny") {
		t.Errorf("an ordinary decision: allowed %v, %s", ok, said)
	}
	_, metrics := r.get("http://" + r.Ops + "/metrics")
	for _, want := range []string{`gatehouse_audit_unwritable{kind="decisions"} 1`, `gatehouse_audit_unwritable{kind="calls"} 1`, `gatehouse_audit_lost_total{kind="decisions"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	free()
	within(t, "what waited is recorded", func() bool {
		_, metrics := r.get("http://" + r.Ops + "/metrics")
		return strings.Contains(metrics, `gatehouse_audit_unwritable{kind="decisions"} 0`) && strings.Contains(metrics, `gatehouse_audit_queue_records{kind="decisions"} 0`)
	})
	if text := strings.Join(r.events("audit"), " "); !strings.Contains(text, "policy") || !strings.Contains(text, "refused") {
		t.Errorf("recorded: %s", text)
	}
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
}

func TestWhatCannotBeRecordedIsAllowedIfTheOperatorChose(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Audit.OnUnwritable, c.Audit.OrdinaryOnUnwritable = AllowUnrecorded, RefuseUnrecorded
	})
	fill, free := smallDisks(t, cfg.Data, "audit", "audit-api")
	r := start(t, cfg)
	fill()
	within(t, "an ordinary decision is refused", func() bool {
		ok, said := r.ask(plainPod)
		return !ok && strings.Contains(said, "decisions must be recorded here")
	})
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "break-glass is let in, and says so", func() bool {
		ok, said := r.ask(brokenPod)
		return ok && strings.Contains(said, "could not be put on record")
	})
	_, metrics := r.get("http://" + r.Ops + "/metrics")
	if !strings.Contains(metrics, "gatehouse_breakglass_unrecorded_total ") || strings.Contains(metrics, "gatehouse_breakglass_unrecorded_total 0") {
		t.Error("it is not counted")
	}
	free()
	within(t, "ordinary decisions are answered again", func() bool {
		_, said := r.ask(plainPod)
		return strings.Contains(said, "always_deny")
	})
	within(t, "what waited is recorded", func() bool {
		return strings.Contains(strings.Join(r.events("audit"), " "), "refused") && strings.Contains(strings.Join(r.events("audit"), " "), "policy")
	})
}

func TestASpillTakesWhatMustBeRecorded(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) { c.Audit.SpillDir = t.TempDir() })
	fill, free := smallDisks(t, cfg.Data, "audit", "audit-api")
	r := start(t, cfg)
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the policy is in force", func() bool { ok, _ := r.ask(plainPod); return !ok })
	fill()
	for range 30 { // more than what the last page of the file has room for
		if ok, said := r.ask(brokenPod); !ok {
			t.Fatalf("break-glass: %s", said)
		}
	}
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	_, metrics := r.get("http://" + r.Ops + "/metrics")
	if strings.Contains(metrics, `gatehouse_audit_spills_total{kind="decisions"} 0`) {
		t.Error("nothing went to the spill")
	}
	// Incidents are made of it meanwhile.
	within(t, "the incident has all uses", func() bool {
		_, _, text := r.api().do("", "GET", "/v1/projects/default/breakGlassIncidents", "")
		return strings.Contains(text, `"uses":30`) || strings.Contains(text, `"uses": 30`) || strings.Contains(text, `"uses":"30"`)
	})
	free()
	within(t, "the spill is empty", func() bool {
		left, err := filepath.Glob(filepath.Join(cfg.Audit.SpillDir, "*", "*.jsonl"))
		return err == nil && len(left) == 0
	})
	n := 0
	if err := audit.Query(filepath.Join(r.data, "audit"), audit.Filter{Override: "BREAK_GLASS"}, func(audit.Record) error { n++; return nil }); err != nil || n != 30 {
		t.Errorf("%d of 30 uses are in the log: %v", n, err)
	}
}

func TestAPolicyThatCannotBeRecordedIsNotPutInForce(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "policy.yaml"), openPolicy)
	k := keep(t, file)
	var fail error
	type change struct{ before, next policy.Set }
	var changes []change
	k.record = func(_ context.Context, before, next policy.Set) error {
		changes = append(changes, change{before, next})
		return fail
	}
	fail = errors.New("no room")
	if err := k.load(t.Context()); err != nil || !k.decide("nginx").Allowed {
		t.Fatalf("the first policy: %v", err)
	}
	write(t, file, strings.Replace(openPolicy, "ALWAYS_ALLOW", "ALWAYS_DENY", 1))
	for range 2 { // it is tried again
		if err := k.load(t.Context()); !errors.Is(err, fail) || !k.decide("nginx").Allowed {
			t.Fatalf("a policy that cannot be recorded is in force: %v", err)
		}
	}
	fail = nil
	if err := k.load(t.Context()); err != nil || k.decide("nginx").Allowed {
		t.Fatalf("a policy that was recorded is not in force: %v", err)
	}
	last := changes[len(changes)-1]
	if len(changes) != 4 || versionsOf(last.before)[0].Version == versionsOf(last.next)[0].Version {
		t.Errorf("recorded: %+v", changes)
	}
}
