package admission_test

import (
	"bytes"
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
