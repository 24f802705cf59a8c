package admission_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

func TestReasonsAndOverridesAreCounted(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	broken := pod(bad)
	broken["metadata"].(object)["labels"] = object{admission.BreakGlassLabel: "true"}
	for _, p := range []object{pod(good), pod(bad), pod(bad), pod("UPPER CASE"), broken} {
		f.post(t, reviewOf(p, nil))
	}
	f.post(t, reviewOf(pod(good), func(r object) { r["operation"] = "DELETE" }))
	f.post(t, reviewOf(object{"kind": "Pod", "spec": 1}, nil))
	want := `
# HELP gatehouse_admission_overrides_total Requests let in that policy did not allow, by what overrode it. Those that the API server only tried out are not among them.
# TYPE gatehouse_admission_overrides_total counter
gatehouse_admission_overrides_total{override="BREAK_GLASS"} 1
gatehouse_admission_overrides_total{override="DRY_RUN"} 0
gatehouse_admission_overrides_total{override="FAIL_OPEN"} 0
gatehouse_admission_overrides_total{override="LAST_ALLOWED"} 0
gatehouse_admission_overrides_total{override="NO_POLICY"} 0
# HELP gatehouse_admission_reasons_total Admission requests answered, by verdict of policy, the class of what that rests on, and what overrode it.
# TYPE gatehouse_admission_reasons_total counter
gatehouse_admission_reasons_total{class="allowed",override="",verdict="ALLOW"} 1
gatehouse_admission_reasons_total{class="invalid_reference",override="",verdict="DENY"} 1
gatehouse_admission_reasons_total{class="malformed",override="",verdict="DENY"} 1
gatehouse_admission_reasons_total{class="not_attested",override="",verdict="DENY"} 2
gatehouse_admission_reasons_total{class="not_attested",override="BREAK_GLASS",verdict="DENY"} 1
gatehouse_admission_reasons_total{class="nothing_new",override="",verdict="NONE"} 1
`
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "gatehouse_admission_reasons_total", "gatehouse_admission_overrides_total"); err != nil {
		t.Error(err)
	}
}

// histogram returns a family's only metric.
func histogram(t *testing.T, registry prometheus.Gatherer, name string) *dto.Histogram {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram()
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

func TestReviewsAreMeasured(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f := newGate(t, ruleset(false), func(o *admission.Options) {
		now := o.Now
		o.Now = func() time.Time {
			once.Do(func() { close(entered); <-leave })
			return now()
		}
	})
	registry := f.registry
	body := review.Pod("shop", "web").Image("main", good).Review()
	done := make(chan struct{})
	go func() {
		defer close(done)
		id := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4}, TraceFlags: trace.FlagsSampled})
		r := httptest.NewRequestWithContext(trace.ContextWithSpanContext(context.Background(), id), http.MethodPost, "/validate?timeout=10s", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		f.gate.ServeHTTP(httptest.NewRecorder(), r)
	}()
	<-entered
	if n := gaugeOf(t, registry, "gatehouse_admission_reviews_in_flight"); n != 1 {
		t.Errorf("%v in flight, want 1", n)
	}
	close(leave)
	<-done
	if n := gaugeOf(t, registry, "gatehouse_admission_reviews_in_flight"); n != 0 {
		t.Errorf("%v in flight, want 0", n)
	}
	if h := histogram(t, registry, "gatehouse_admission_review_size_bytes"); h.GetSampleCount() != 1 || h.GetSampleSum() != float64(len(body)) {
		t.Errorf("sizes %v, want one of %d", h, len(body))
	}
	h := histogram(t, registry, "gatehouse_admission_review_duration_seconds")
	exemplar := ""
	for _, b := range h.GetBucket() {
		for _, l := range b.GetExemplar().GetLabel() {
			exemplar += l.GetName() + "=" + l.GetValue()
		}
	}
	if h.GetSampleCount() != 1 || h.GetSchema() == 0 && h.GetZeroThreshold() == 0 || exemplar != "trace_id=01020300000000000000000000000000" {
		t.Errorf("durations %v", h)
	}
}

func gaugeOf(t *testing.T, registry prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
