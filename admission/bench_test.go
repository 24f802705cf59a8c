package admission_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// BenchmarkGate measures one decision in process, from the bytes of a review of
// three containers to the bytes of the answer, with the record written to a real
// audit log; network and TLS are left out.
func BenchmarkGate(b *testing.B) {
	log, err := audit.Open(b.TempDir(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	rules := ruleset(false)
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return policy.Set{rules} }, Evidence: facts{}, Recorder: patient{log},
		Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	body := review.Pod("shop", "web").Realistic().Image("app", good).Image("proxy", good).Image("agent", good).Review()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/validate?timeout=10s", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		gate.ServeHTTP(w, r)
		if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(`"allowed":true`)) {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

// BenchmarkPinnedPod prints what the webhook that pins tags costs for a pod that has none,
// by what the gate costs for it, both in process and in the same run. An API server whose
// webhook has the match conditions of docs/pin-tags.md does not ask it at all.
func BenchmarkPinnedPod(b *testing.B) {
	rules := ruleset(false)
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return policy.Set{rules} }, Evidence: facts{}, Recorder: &recorder{},
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	pinner, err := admission.NewPinner(admission.PinOptions{
		Mode: func(string) admission.PinMode { return admission.PinPods }, Resolve: func(context.Context, admission.PinQuestion) (image.Digest, error) { panic("asked") },
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	body := review.Pod("shop", "web").Realistic().Image("app", good).Image("proxy", good).Image("agent", good).Review()
	ask := func(h http.Handler) time.Duration {
		begun := time.Now()
		for range 100 {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/?timeout=10s", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if h.ServeHTTP(w, r); !bytes.Contains(w.Body.Bytes(), []byte(`"allowed":true`)) {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		return time.Since(begun)
	}
	var gates, pinners time.Duration
	for b.Loop() {
		gates, pinners = gates+ask(gate), pinners+ask(pinner)
	}
	b.ReportMetric(float64(pinners)/float64(gates), "pinner/gate")
}

// patient waits for the log instead of losing records: a benchmark is faster than
// any cluster.
type patient struct{ *audit.Log }

func (p patient) Append(r audit.Record) error {
	for {
		if err := p.Log.Append(r); err != audit.ErrFull { //nolint:errorlint // the sentinel itself
			return err
		}
	}
}
