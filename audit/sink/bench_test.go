package sink_test

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// benchRecords are handed on in one go: about 20 MB.
const benchRecords = 20_000

// fill writes the records to a log, and tells how long that took until they were on disk.
func fill(b *testing.B, dir string) (*audit.Log, time.Duration) {
	b.Helper()
	log, err := audit.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	r := *decision(b, "1", "web", decide.BreakGlass).Decision
	began := time.Now()
	for range benchRecords - 1 {
		r.ID = audit.NewID()
		for log.Append(r) != nil { // the queue is full: the disk has to catch up
			if err := log.AppendSync(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := log.AppendSync(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	return log, time.Since(began)
}

// BenchmarkSinks hands on a log of 20,000 records to each kind of sink on loopback, and
// compares that with writing the log: ratio 1 is as fast.
func BenchmarkSinks(b *testing.B) {
	discard := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, conn) }()
			}
		}()
		return listener.Addr().String()
	}
	c := newCollector(b)
	for _, one := range []struct {
		name   string
		config sink.Config
	}{
		{"file", sink.Config{File: &sink.File{Path: filepath.Join(b.TempDir(), "f")}}},
		{"google", sink.Config{File: &sink.File{Path: filepath.Join(b.TempDir(), "f"), Format: sink.Google}}},
		{"otlp-grpc", sink.Config{OTLP: &sink.OTLP{Endpoint: c.urls["grpc"], TLS: sink.TLS{CAFile: c.caFile}}}},
		{"otlp-http", sink.Config{OTLP: &sink.OTLP{Endpoint: c.urls["http/protobuf"], Protocol: "http/protobuf", TLS: sink.TLS{CAFile: c.caFile}}}},
		{"syslog-tcp", sink.Config{Syslog: &sink.Syslog{Address: discard(), Transport: "tcp"}}},
	} {
		b.Run(one.name, func(b *testing.B) {
			var writing, handing time.Duration
			for b.Loop() {
				log, took := fill(b, b.TempDir())
				writing += took
				metrics, err := deliver.NewMetrics(prometheus.NewRegistry())
				if err != nil {
					b.Fatal(err)
				}
				f, err := deliver.Open(deliver.Options{
					Name: "it", Dir: b.TempDir(), Sink: open(b, one.config, options(nil)), Sources: map[deliver.Log]deliver.Source{deliver.Decisions: log},
					Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
				})
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				if err := f.Drain(b.Context()); err != nil {
					b.Fatal(err)
				}
				handing += time.Since(began)
			}
			b.ReportMetric(float64(b.N*benchRecords)/handing.Seconds(), "records/s")
			b.ReportMetric(float64(b.N*benchRecords)/writing.Seconds(), "written/s")
			b.ReportMetric(writing.Seconds()/handing.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
