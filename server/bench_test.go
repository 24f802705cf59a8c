package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
)

// The benchmark runs each server in a process of its own, so that the CPU it
// uses can be told from the client's. The test binary is that process when this
// variable says which server to be.
const childVariable = "GATEHOUSE_BENCHMARK_SERVER"

// childReady is the line that a child prints.
type childReady struct {
	Addresses
	CPU string // address that answers with the CPU time used, in nanoseconds
}

func TestMain(m *testing.M) {
	if kind := os.Getenv(childVariable); kind != "" {
		if err := runChild(kind, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(postgres.Main(m))
}

func runChild(kind, dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cpu, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	times := new(handlerTimes)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, cpuTime()) })
	mux.HandleFunc("/times", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(times.take()) })
	go func() { _ = http.Serve(cpu, mux) }()
	ready := func(a Addresses) error {
		return json.NewEncoder(os.Stdout).Encode(childReady{a, cpu.Addr().String()})
	}
	switch kind {
	case "verifying":
		return runVerifying(ctx, dir, ready)
	case "gate", "timed gate":
		cfg := DefaultConfig()
		cfg.Data = filepath.Join(dir, "data")
		cfg.Admission.PolicyFiles = []string{filepath.Join(dir, "policy.yaml")}
		for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
			*addr = "127.0.0.1:0"
		}
		if kind == "gate" {
			return Run(ctx, cfg, discard(), ready)
		}
		return runTimed(ctx, cfg, times, ready)
	}
	return runTrivial(ctx, dir, ready)
}

// runTrivial is the baseline: TLS and HTTP as the gate has them, around a handler
// that reads the request and answers with as many bytes as the gate does.
func runTrivial(ctx context.Context, dir string, ready func(Addresses) error) error {
	ca, err := testCA(filepath.Join(dir, "tls"))
	if err != nil {
		return err
	}
	l, err := listen(ctx, "trivial", "127.0.0.1:0", discard())
	if err != nil {
		return err
	}
	answer := []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"` + strings.Repeat("0", 36) + `","allowed":true}}`)
	harden(l.server, admissionTLS(ca.Certificate))
	l.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	if err := ready(Addresses{Admission: l.addr(), CA: ca.BundlePath()}); err != nil {
		return err
	}
	return l.serve(ctx.Done())
}

// testCA issues certificates for servers that a test makes.
func testCA(dir string) (*ownca.Authority, error) {
	return ownca.Open(ownca.Options{Dir: dir, Hosts: []string{"localhost", "127.0.0.1"}, Now: time.Now, Logger: discard()})
}

func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// spawn starts a server in a process of its own, which ends with the benchmark.
func spawn(b testing.TB, kind, dir string) (*running, string) {
	b.Helper()
	r, cpu, _ := spawnProcess(b, kind, dir)
	return r, cpu
}

func spawnProcess(b testing.TB, kind, dir string) (r *running, cpu string, pid int) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second // then it is killed
	cmd.Env = append(os.Environ(), childVariable+"="+kind)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Wait() // b.Context has ended
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	var ready childReady
	if err := json.Unmarshal(line, &ready); err != nil {
		b.Fatal(err)
	}
	return &running{t: b, data: filepath.Join(dir, "data"), Addresses: ready.Addresses, gate: gateClient(b, ready.CA)}, ready.CPU, cmd.Process.Pid
}

// BenchmarkWebhook measures what one admission review costs the gate: CPU of the
// server process for a review of 8.7 kB with three containers of one image that
// has one attestation, over TLS and HTTP/1.1 with connections kept alive, beside
// a handler that does nothing, in the same run. It reports
//
//	trivial/gate   the ratio of their CPU time; 1 would be a gate that costs nothing
//	gate-cpu-µs    CPU of the gate's process a request
//	trivial-cpu-µs CPU of the trivial server's process a request
//	req/s, p50-µs, p99-µs  of the gate as this client saw it, on a shared machine
//
// The server verifies a signature once, when it arrives, so that is the first case. In
// the second a P-256 signature is verified for each request, as if it were always new.
func BenchmarkWebhook(b *testing.B) {
	b.Run("memoised", func(b *testing.B) {
		dir := b.TempDir()
		write(b, filepath.Join(dir, "policy.yaml"), enforced)
		gate, cpu := spawn(b, "gate", dir)
		ref := push(b, "65532")
		gate.check(ref, "nobody", true)
		benchmarkWebhook(b, gate, cpu, ref.String())
	})
	b.Run("one P-256 verification", func(b *testing.B) {
		gate, cpu := spawn(b, "verifying", b.TempDir())
		benchmarkWebhook(b, gate, cpu, verifiedImage)
	})
}

func benchmarkWebhook(b *testing.B, gate *running, gateCPU, ref string) {
	trivial, trivialCPU := spawn(b, "trivial", b.TempDir())
	body := review.Pod("shop", "web").Realistic().Image("app", ref).Image("proxy", ref).Image("agent", ref).Review()
	if allowed, message := gate.ask(body); !allowed {
		b.Fatalf("refused: %s", message)
	}
	for _, warm := range []*running{trivial, gate} {
		load(b, warm, body, 2000)
	}
	for b.Loop() {
		// In turns, so that a machine that changes its speed changes it for both.
		const rounds, requests = 5, 2000
		var spent [2]time.Duration
		var times []time.Duration
		var wall time.Duration
		for range rounds {
			before := cpuOf(b, trivialCPU)
			load(b, trivial, body, requests)
			spent[0] += cpuOf(b, trivialCPU) - before
			before = cpuOf(b, gateCPU)
			begin := time.Now()
			times = append(times, load(b, gate, body, requests)...)
			wall += time.Since(begin)
			spent[1] += cpuOf(b, gateCPU) - before
		}
		slices.Sort(times)
		n := float64(rounds * requests)
		b.ReportMetric(float64(spent[0])/float64(spent[1]), "trivial/gate")
		b.ReportMetric(float64(spent[0].Microseconds())/n, "trivial-cpu-µs")
		b.ReportMetric(float64(spent[1].Microseconds())/n, "gate-cpu-µs")
		b.ReportMetric(n/wall.Seconds(), "req/s")
		b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	}
	b.ReportMetric(0, "ns/op") // the figures above are what counts
	b.Logf("a review of %d bytes", len(body))
}

func cpuOf(b *testing.B, addr string) time.Duration {
	b.Helper()
	resp, err := http.Get("http://" + addr)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// load sends a number of requests over connections that stay open, and returns
// how long each took.
func load(b *testing.B, r *running, body []byte, requests int) []time.Duration {
	b.Helper()
	const connections = 8
	transport := r.gate.Transport.(*http.Transport)
	transport.MaxIdleConnsPerHost = connections
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(connections)
	var left atomic.Int64
	left.Store(int64(requests))
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			var times []time.Duration
			for left.Add(-1) >= 0 {
				begin := time.Now()
				resp, err := r.gate.Post("https://"+r.Admission+"/validate?timeout=10s", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%s, %v", resp.Status, err)
					return
				}
				times = append(times, time.Since(begin))
			}
			mu.Lock()
			all = append(all, times...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return all
}
