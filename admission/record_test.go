package admission_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
)

// unsynced is a recorder that takes what nobody waits for, and says that it may never be
// on disk.
type unsynced struct {
	*recorder
	err error
}

func (u *unsynced) AppendSync(context.Context, audit.Record) error { return u.err }
func (u *unsynced) Unwritable() error                              { return u.err }

func TestWhatBecomesOfWhatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	broken := func(o *admission.Options) { o.Recorder = &unsynced{o.Recorder.(*recorder), full} }
	marked := pod(bad)
	marked["metadata"].(object)["labels"] = object{admission.BreakGlassLabel: "true"}
	t.Run("break-glass is refused, which is recorded when it can be", func(t *testing.T) {
		f := start(t, ruleset(false), broken)
		a := f.post(t, reviewOf(marked, nil))
		r := f.recorder.records
		if a.Response.Allowed || len(r) != 1 || r[0].Event != "refused" || !strings.Contains(r[0].Error, "disk full") || r[0].Decision != nil {
			t.Errorf("allowed %v, recorded %+v", a.Response.Allowed, r)
		}
	})
	t.Run("break-glass is let in by choice, which is counted and said", func(t *testing.T) {
		f := start(t, ruleset(false), func(o *admission.Options) { broken(o); o.AllowUnrecorded = true })
		a := f.post(t, reviewOf(marked, nil))
		r := f.recorder.records
		if !a.Response.Allowed || !strings.Contains(strings.Join(a.Response.Warnings, " "), "could not be put on record") {
			t.Errorf("allowed %v, said %q", a.Response.Allowed, a.Response.Warnings)
		}
		if len(r) != 1 || r[0].Decision.Override != decide.BreakGlass {
			t.Errorf("recorded %+v", r)
		}
		want := "# HELP gatehouse_breakglass_unrecorded_total Requests that were let in by break-glass although that was not on disk.\n" +
			"# TYPE gatehouse_breakglass_unrecorded_total counter\ngatehouse_breakglass_unrecorded_total 1\n"
		if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "gatehouse_breakglass_unrecorded_total"); err != nil {
			t.Error(err)
		}
	})
	t.Run("all else is answered", func(t *testing.T) {
		f := start(t, ruleset(false), broken)
		if !f.post(t, reviewOf(pod(good), nil)).Response.Allowed || len(f.recorder.records) != 1 {
			t.Error("refused, or not recorded")
		}
	})
	t.Run("all else is refused by choice", func(t *testing.T) {
		f := start(t, ruleset(false), func(o *admission.Options) { broken(o); o.RefuseUnrecorded = true })
		a := f.post(t, reviewOf(pod(good), nil))
		r := f.recorder.records
		if a.Response.Allowed || a.Response.Status.Code != http.StatusServiceUnavailable || len(r) != 1 || r[0].Event != "refused" || r[0].Decision != nil {
			t.Errorf("allowed %v, status %+v, recorded %+v", a.Response.Allowed, a.Response.Status, r)
		}
		if a := f.post(t, reviewOf(pod(bad), nil)); a.Response.Allowed || a.Response.Status.Code != http.StatusForbidden || f.recorder.records[1].Decision == nil {
			t.Errorf("a denial: %+v, recorded %+v", a.Response.Status, f.recorder.records[1])
		}
		if !f.post(t, reviewOf(pod(good), func(r object) { r["dryRun"] = true })).Response.Allowed {
			t.Error("what is only tried out is refused")
		}
	})
	t.Run("all else is refused by choice when too much waits", func(t *testing.T) {
		f := start(t, ruleset(false), func(o *admission.Options) { o.RefuseUnrecorded = true })
		f.recorder.fail = audit.ErrFull
		if a := f.post(t, reviewOf(pod(good), nil)); a.Response.Allowed || !strings.Contains(a.Response.Status.Message, "queue is full") {
			t.Errorf("allowed %v: %+v", a.Response.Allowed, a.Response.Status)
		}
	})
}

func TestARecordSaysHowLongItTook(t *testing.T) {
	t.Parallel()
	var ticks time.Duration
	f := start(t, ruleset(false), func(o *admission.Options) {
		begun := o.Now()
		o.Now = func() time.Time { ticks += 10 * time.Millisecond; return begun.Add(ticks) }
	})
	f.post(t, reviewOf(pod(good), nil))
	r := f.recorder.records[0]
	if want := (ticks - 10*time.Millisecond).Seconds(); r.Took != want || r.DryRun {
		t.Errorf("took %v s, want %v; dry run %v", r.Took, want, r.DryRun)
	}
	d := r.Decision
	if d.PolicyVersion != "v1" || d.Images[0].Reasons[0].Occurrence == "" {
		t.Errorf("the record does not tell by which version of the policy, and by which statement: %+v", d)
	}
}

func TestWhatIsPinnedIsRecorded(t *testing.T) {
	t.Parallel()
	p := newPinner(t, admission.PinPods)
	kept := &recorder{}
	begun := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	var err error
	if p.Pinner, err = admission.NewPinner(admission.PinOptions{
		Mode: p.Mode, Resolve: p.Resolve, Recorder: kept, Place: admission.Place{Cluster: "l.c"}, Now: func() time.Time { return begun },
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}); err != nil {
		t.Fatal(err)
	}
	p.send(pinReview("CREATE", "pods", `{"spec":{"containers":[{"name":"a","image":"`+good+`"}]}}`, ""))
	if len(kept.records) != 0 {
		t.Errorf("nothing was pinned, and recorded: %+v", kept.records)
	}
	p.send(pinReview("CREATE", "pods", `{"spec":{"containers":[{"name":"a","image":"good:1"},{"name":"b","image":"missing:1"},{"name":"c","image":"good:1"}]}}`, ""))
	if len(kept.records) != 1 {
		t.Fatalf("%+v", kept.records)
	}
	r := kept.records[0]
	want := []audit.Pinned{{Image: "good:1", Digest: image.DigestOf([]byte("good:1")).String()}, {Image: "missing:1", Error: "no such tag\n\x1b[31m"}}
	if diff := cmp.Diff(r.Pinned, want); diff != "" {
		t.Error(diff)
	}
	if r.Event != "pinned" || r.Namespace != "shop" || r.Cluster != "l.c" || r.Operation != "CREATE" || r.ID == "" || !r.Time.Equal(begun) {
		t.Errorf("%+v", r)
	}
}
