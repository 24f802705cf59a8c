package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// handlerTimes are how long each request was in the handler.
type handlerTimes struct {
	mu  sync.Mutex
	all []time.Duration
}

func (h *handlerTimes) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		next.ServeHTTP(w, r)
		took := time.Since(begun)
		h.mu.Lock()
		h.all = append(h.all, took)
		h.mu.Unlock()
	})
}

// take returns what there is, and forgets it.
func (h *handlerTimes) take() []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

// runTimed is a server whose webhook's handler is timed.
func runTimed(ctx context.Context, cfg Config, times *handlerTimes, ready func(Addresses) error) (err error) {
	p := newParts(cfg, discard())
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.build(ctx); err != nil {
		return err
	}
	p.admission.server.Handler = times.around(p.admission.server.Handler)
	return p.run(ctx, ready)
}

// BenchmarkHalfLoad sends reviews as BenchmarkWebhook does, but at half of the rate that
// the gate was seen to do with clients that wait for each answer, and without waiting:
// requests begin at random moments, whatever became of those before. It reports
//
//	max-req/s      the rate of clients that wait
//	req/s          the rate that was sent, half of it
//	handler-p50-µs, handler-p99-µs  inside the gate's handler; the goal is 2,000 for p99
//	client-p50-µs, client-p99-µs    from the moment at which a request was to begin
//	trivial-p50-µs, trivial-p99-µs  the same of the handler that does nothing, at that rate
//	trivial/gate-p99                the ratio of those
//	handler-p99-quiet-µs, client-p99-quiet-µs  of the round in which that was least
//
// They are the medians of several rounds. The client runs on the same machine, and is
// late itself when that is busy: what the trivial handler takes is what machine, TLS and
// client take.
func BenchmarkHalfLoad(b *testing.B) {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "policy.yaml"), enforced)
	gate, control := spawn(b, "timed gate", dir)
	trivial, _ := spawn(b, "trivial", b.TempDir())
	ref := push(b, "65532")
	gate.check(ref, "nobody", true)
	body := review.Pod("shop", "web").Realistic().Image("app", ref.String()).Image("proxy", ref.String()).Image("agent", ref.String()).Review()
	if allowed, message := gate.ask(body); !allowed {
		b.Fatalf("refused: %s", message)
	}
	const rounds, requests = 7, 2000
	load(b, trivial, body, requests)
	load(b, gate, body, requests)
	for b.Loop() {
		seen := map[string][]float64{}
		note := func(what string, value float64) { seen[what] = append(seen[what], value) }
		for range rounds { // in turns, so that a machine that changes its speed changes it for both
			begun := time.Now()
			load(b, gate, body, requests)
			most := requests / time.Since(begun).Seconds()
			note("max-req/s", most)
			base := openLoop(b, trivial, body, requests, most/2)
			handlerTimesOf(b, control) // forgotten
			begun = time.Now()
			client := openLoop(b, gate, body, requests, most/2)
			note("req/s", requests/time.Since(begun).Seconds())
			handler := handlerTimesOf(b, control)
			if len(handler) < requests {
				b.Fatalf("the handler was called %d times, want %d", len(handler), requests)
			}
			handler = handler[len(handler)-requests:] // those before made the connections
			for name, times := range map[string][]time.Duration{"handler": handler, "client": client, "trivial": base} {
				note(name+"-p50-µs", microseconds(times, 50))
				note(name+"-p99-µs", microseconds(times, 99))
			}
			note("trivial/gate-p99", microseconds(base, 99)/microseconds(client, 99))
		}
		for what, values := range seen {
			slices.Sort(values)
			b.ReportMetric(values[rounds/2], what)
		}
		b.ReportMetric(seen["handler-p99-µs"][0], "handler-p99-quiet-µs")
		b.ReportMetric(seen["client-p99-µs"][0], "client-p99-quiet-µs")
	}
	b.ReportMetric(0, "ns/op") // the figures above are what counts
	b.Logf("a review of %d bytes", len(body))
}

func microseconds(times []time.Duration, percent int) float64 {
	slices.Sort(times)
	return float64(times[len(times)*percent/100].Nanoseconds()) / 1000
}

func handlerTimesOf(b *testing.B, control string) (times []time.Duration) {
	b.Helper()
	resp, err := http.Get("http://" + control + "/times")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&times); err != nil {
		b.Fatal(err)
	}
	return times
}

// openLoop sends requests at a rate, at random moments, and returns how long each took
// from the moment at which it was to be sent.
func openLoop(b *testing.B, r *running, body []byte, requests int, rate float64) []time.Duration {
	b.Helper()
	// As many connections as an API server keeps. More, when everything stands still for a
	// while, would measure handshakes.
	const connections, atOnce = 25, 4096
	slots := make(chan struct{}, atOnce)
	transport := r.gate.Transport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = connections, connections
	client := &http.Client{Transport: transport}
	random := rand.New(rand.NewPCG(1, 2))
	times := make([]time.Duration, requests)
	var wg sync.WaitGroup
	for range connections { // which are there when the first is sent
		wg.Go(func() {
			if err := r.send(client, body); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	at := time.Now()
	wait := time.NewTimer(0)
	defer wait.Stop()
	for i := range requests {
		at = at.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		wait.Reset(time.Until(at))
		<-wait.C
		slots <- struct{}{}
		due := at
		wg.Go(func() {
			defer func() { <-slots }()
			if err := r.send(client, body); err != nil {
				b.Error(err)
			}
			times[i] = time.Since(due)
		})
	}
	wg.Wait()
	return times
}

// send asks once, and reads the answer.
func (r *running) send(client *http.Client, body []byte) error {
	resp, err := client.Post("https://"+r.Admission+"/validate?timeout=10s", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the webhook answered %s", resp.Status)
	}
	return nil
}
