package admission_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// broken is evidence with a bug.
type broken struct{}

func (broken) Collect(context.Context, []image.Reference) evidence.Facts { panic("a bug") }

func TestAPanicIsADenialWithAnAlarm(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	change := func(o *admission.Options) {
		o.Evidence = broken{}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}
	f := imageGate(t, ruleset(false), change)
	if a := f.reviewImages(t, "/imagereview", imageReview(nil, good)); a.Status.Allowed || !strings.Contains(a.Status.Reason, "failed inside the gate") {
		t.Errorf("an image review: %+v", a.Status)
	}
	f = start(t, ruleset(false), change)
	a := f.post(t, reviewOf(pod(good), nil)) // which looks at the uid
	if a.Response.Allowed || a.Response.Status.Code != 500 || !strings.Contains(a.Response.Status.Message, "failed inside the gate") {
		t.Errorf("got %+v", a.Response)
	}
	if strings.Contains(a.Response.Status.Message, "a bug") {
		t.Error("the caller is told about the inside")
	}
	if n, err := testutil.GatherAndCount(f.registry, "gatehouse_admission_panics_total"); err != nil || n != 1 {
		t.Errorf("%d counters, %v", n, err)
	}
	want := "# HELP gatehouse_admission_panics_total Reviews that were denied because judging them panicked. Any is a bug: see the log.\n# TYPE gatehouse_admission_panics_total counter\ngatehouse_admission_panics_total 1\n"
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "gatehouse_admission_panics_total"); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "a bug") || !strings.Contains(text, "Collect") {
		t.Errorf("logged %s", text)
	}
}

// waiting is evidence that comes when the request's time is nearly over.
type waiting struct{ asked chan<- struct{} }

func (w waiting) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	if w.asked != nil {
		close(w.asked)
	}
	<-ctx.Done()
	return facts{down: true}.Collect(context.Background(), refs)
}

const timeoutOfAPIServer = time.Second

func TestTheAnswerComesBeforeTheAPIServerGivesUp(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Evidence = waiting{} })
	ctx, cancel := context.WithTimeout(t.Context(), timeoutOfAPIServer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+"/validate?timeout="+timeoutOfAPIServer.String(), bytes.NewReader(review.Pod("shop", "web").Image("main", good).Review()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(text, []byte("EVIDENCE_UNAVAILABLE")) {
		t.Errorf("%v %s", err, text)
	}
}

// TestMetricsDoNotGrowWithWhatIsAsked: whoever can ask can make up any resource.
func TestMetricsDoNotGrowWithWhatIsAsked(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Resources = resources(t) })
	for _, name := range []string{"services", "a", "b", "c", strings.Repeat("x", 1000)} {
		f.post(t, reviewOf(object{"kind": "Service"}, func(r object) { r["resource"] = object{"group": "g", "resource": name} }))
	}
	f.post(t, pipeline(object{}, nil))
	if n, err := testutil.GatherAndCount(f.registry, "gatehouse_admission_decisions_total"); err != nil || n != 2 {
		t.Errorf("%d series, %v", n, err)
	}
}

// TestWarningsReachThePerson: an API server cuts them when one, or all of them, are
// too long.
func TestWarningsReachThePerson(t *testing.T) {
	t.Parallel()
	dry := ruleset(true)
	var many policy.Set
	for i := range 30 {
		r := *dry
		r.Name = strings.Repeat("p", i+1)
		many = append(many, &r)
	}
	f := start(t, nil, func(o *admission.Options) {
		o.Rules = func() policy.Set { return many }
		o.Resources = resources(t)
	})
	workers := object{}
	for i := range 20 {
		account := fmt.Sprint("robot", i)
		x := templateOf(strings.Repeat("é", 200)+account, "reg.test/"+account+"/"+strings.Repeat("x", 100)+":1", "reg.test/"+account+"/"+strings.Repeat("y", 100)+":1")
		x["spec"].(object)["serviceAccountName"] = account
		workers[account] = object{"template": x}
	}
	a := f.post(t, pipeline(object{"workers": workers}, nil))
	total := 0
	for _, w := range a.Response.Warnings {
		if n := utf8.RuneCountInString(w); n > 256 {
			t.Errorf("a warning of %d characters", n)
		}
		total += utf8.RuneCountInString(w)
	}
	if !a.Response.Allowed || total < 3000 || total > 4096 {
		t.Errorf("%d warnings of %d characters in all", len(a.Response.Warnings), total)
	}
	for key, value := range a.Response.AuditAnnotations {
		if len(value) > 64<<10 {
			t.Errorf("annotation %s of %d bytes", key, len(value))
		}
	}
}

func TestSizesOfStrings(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	long := strings.Repeat("x", 1<<20)
	for name, obj := range map[string]object{
		"an image":     pod("reg.test/" + long),
		"a container":  {"kind": "Pod", "spec": object{"containers": []any{object{"name": long, "image": bad}}}},
		"a label":      {"kind": "Pod", "metadata": object{"labels": object{long: long}}, "spec": object{"containers": containers(bad)}},
		"an annotated": {"kind": "Pod", "metadata": object{"annotations": object{admission.JustificationAnnotation: long}}, "spec": object{"containers": containers(bad)}},
	} {
		a := f.post(t, reviewOf(obj, nil))
		if a.Response.Allowed || len(a.Response.Status.Message) > 8<<10 {
			t.Errorf("%s: allowed %v, a message of %d bytes", name, a.Response.Allowed, len(a.Response.Status.Message))
		}
	}
}

// TestRequestsAreHeldWithinTheirShare: while one is being judged by the only share of
// its source, the next is asked to wait.
func TestRequestsAreHeldWithinTheirShare(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	f := start(t, ruleset(false), func(o *admission.Options) {
		o.MaxRequests = 2
		o.Evidence = waiting{asked}
	})
	f.patience = "2s"
	done := make(chan answer, 1)
	go func() { done <- f.post(t, reviewOf(pod(good), nil)) }()
	<-asked
	body := bytes.NewReader(review.Pod("shop", "web").Image("main", good).Review())
	resp, err := f.Client().Post(f.URL+"/validate", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if a := <-done; a.Response.Allowed {
		t.Error("the first was let in")
	}
}
