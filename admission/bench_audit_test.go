package admission_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// auditBatch is less than the queue takes, so that the writer is never waited for.
const auditBatch = 1000

// BenchmarkAuditPath prints what recording costs for each decision: to encode and enqueue
// it, which is what the request waits for, by the decision itself (audit/decision), from
// the bytes of a review of three containers to the bytes of the answer, without a record;
// by the bare decide.Decide of it, which has neither bytes nor HTTP (audit/decide); and by
// the CPU of record and whole decision, with the writer's (cpu-audit/decision).
func BenchmarkAuditPath(b *testing.B) {
	log, err := audit.OpenWith(b.TempDir(), audit.Options{Replica: "gate-5c9f8d7b6-x2x4z", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	decided := &recorder{}
	keep := decided
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return policy.Set{ruleset(false)} }, Evidence: facts{}, Recorder: &keptLast{keep},
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	rules := policy.Set{ruleset(false)}
	gate.Rules = func() policy.Set { return rules }
	body := review.Pod("shop", "web").Realistic().Image("app", good).Image("proxy", good).Image("agent", good).Review()
	ask := func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/validate?timeout=10s", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if gate.ServeHTTP(w, r); !bytes.Contains(w.Body.Bytes(), []byte(`"allowed":true`)) {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	ask()
	r := decided.records[0]
	ref, err := image.Parse(good)
	if err != nil {
		b.Fatal(err)
	}
	question := decide.Request{Namespace: "shop"}
	for _, container := range []string{"app", "proxy", "agent"} {
		question.Images = append(question.Images, decide.ImageUse{Container: container, Text: good})
	}
	known := facts{}.Collect(b.Context(), []image.Reference{ref})
	bare := func() {
		if d := decide.Decide(question, rules, known, time.Now()); d.Verdict != decide.ALLOW {
			b.Fatalf("%+v", d)
		}
	}
	record := func() {
		if err := log.Append(r); err != nil {
			b.Fatal(err)
		}
	}
	settle := func() {
		if err := log.AppendSync(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	var reviewing, deciding, recording, reviewCPU, recordCPU time.Duration
	settle()
	for b.Loop() {
		at, cpu := time.Now(), cpuTime(b)
		for range auditBatch {
			ask()
		}
		reviewing, reviewCPU = reviewing+time.Since(at), reviewCPU+cpuTime(b)-cpu
		at = time.Now()
		for range auditBatch {
			bare()
		}
		deciding += time.Since(at)
		at, cpu = time.Now(), cpuTime(b)
		for range auditBatch {
			record()
		}
		recording += time.Since(at)
		settle() // the writer's part
		recordCPU += cpuTime(b) - cpu
	}
	n := float64(b.N) * auditBatch
	b.ReportMetric(float64(recording)/float64(reviewing), "audit/decision")
	b.ReportMetric(float64(recording)/float64(deciding), "audit/decide")
	b.ReportMetric(float64(recordCPU)/float64(reviewCPU), "cpu-audit/decision")
	b.ReportMetric(float64(recording.Nanoseconds())/n, "ns/record")
	b.ReportMetric(float64(recordCPU.Nanoseconds())/n, "cpu-ns/record")
	b.ReportMetric(float64(reviewing.Nanoseconds())/n, "ns/decision")
	b.ReportMetric(float64(deciding.Nanoseconds())/n, "ns/decide")
	b.ReportMetric(testing.AllocsPerRun(auditBatch, record), "allocs/record")
	b.ReportMetric(testing.AllocsPerRun(auditBatch, ask), "allocs/decision")
	b.ReportMetric(0, "ns/op") // of a batch of both, which says nothing
}

// BenchmarkDurableRecords prints how many records a second are put on disk (records/s), how
// many the disk takes of the same bytes, written and fsynced in groups of as many
// (raw-records/s), and the one by the other (x-of-the-disk).
func BenchmarkDurableRecords(b *testing.B) {
	dir := b.TempDir()
	log, err := audit.OpenWith(filepath.Join(dir, "log"), audit.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	f := start(b, ruleset(false), nil)
	f.post(b, reviewOf(pod(good), nil))
	r := f.recorder.records[0]
	line, err := audit.AppendRecord(nil, &r)
	if err != nil {
		b.Fatal(err)
	}
	const batch, group = 100_000, audit.DefaultQueueRecords / 2
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	text := bytes.Repeat(append(line, '\n'), group)
	var logging, writing time.Duration
	for b.Loop() {
		at := time.Now()
		for range batch {
			if err := (patient{log}).Append(r); err != nil {
				b.Fatal(err)
			}
		}
		if err := log.AppendSync(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		logging += time.Since(at)
		at = time.Now()
		for left := batch; left > 0; left -= group {
			if _, err := raw.Write(text[:min(left, group)*(len(line)+1)]); err != nil {
				b.Fatal(err)
			}
			if err := raw.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		writing += time.Since(at)
	}
	b.ReportMetric(float64(b.N)*batch/logging.Seconds(), "records/s")
	b.ReportMetric(float64(b.N)*batch/writing.Seconds(), "raw-records/s")
	b.ReportMetric(float64(writing)/float64(logging), "x-of-the-disk")
	b.ReportMetric(float64(len(line)+1), "B/record")
	b.ReportMetric(0, "ns/op")
}

// keptLast keeps the last record and no other.
type keptLast struct{ *recorder }

func (k *keptLast) Append(r audit.Record) error {
	k.records = append(k.records[:0], r)
	return nil
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
