package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStoppingFailsNoRequest: while the server drains it says that it is not ready, takes
// nobody new, finishes what runs, and answers on connections that were open before, each
// for the last time. Then it ends by itself.
func TestStoppingFailsNoRequest(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) { c.Admission.DrainDelay, c.Admission.DrainTimeout = 300*time.Millisecond, time.Hour }))
	running := r.hold("", podReview())
	idle := r.mustConnect("")
	if _, text := answerOn(t, idle, podReview()); !strings.Contains(text, `"allowed":true`) {
		t.Fatal(text)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	within(t, "it says that it is not ready", func() bool {
		code, _ := r.get("http://" + r.Ops + "/readyz")
		return code == http.StatusServiceUnavailable
	})
	if late, err := r.connect(r.tlsOf(), ""); err != nil {
		t.Errorf("a connection that comes while others do not know yet: %v", err)
	} else {
		expectLastAnswer(t, late)
	}
	within(t, "it takes nobody new", func() bool {
		conn, err := r.connect(r.tlsOf(), "")
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if code, text := r.get("http://" + r.Ops + "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readiness at the end: %d %s", code, text)
	}
	expectLastAnswer(t, idle)
	select {
	case err := <-stopped:
		t.Errorf("it ended while a request was running: %v", err)
	default:
	}
	if _, text := running(); !strings.Contains(text, `"allowed":true`) {
		t.Errorf("what was running: %s", text)
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hangUpBound):
		t.Error("it does not end, and nobody is connected")
	}
}

// TestStoppingHasAnEnd for a client that neither asks nor hangs up: at once where nobody
// else could take over, and after a while where somebody can.
func TestStoppingHasAnEnd(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"alone": 0, "one of several": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, testConfig(t, func(c *Config) {
				if c.Admission.DrainDelay = delay; delay > 0 {
					c.Admission.DrainTimeout = 300 * time.Millisecond
				}
			}))
			idle := r.mustConnect("")
			answerOn(t, idle, podReview())
			begun := time.Now()
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > hangUpBound || delay > 0 && took < 300*time.Millisecond {
				t.Errorf("after %v", took)
			}
		})
	}
}

// expectLastAnswer asks, and demands an answer after which the server hangs up.
func expectLastAnswer(t *testing.T, conn net.Conn) {
	t.Helper()
	body := podReview()
	if _, err := fmt.Fprintf(conn, "POST /validate?timeout=5s HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn) // up to the end of the connection
	if text := string(all); err != nil || !strings.Contains(text, `"allowed":true`) || !strings.Contains(text, "\r\nConnection: close\r\n") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestAGateThatWasNeverReadyDoesNotDrain: nobody was sent to it.
func TestAGateThatWasNeverReadyDoesNotDrain(t *testing.T) {
	t.Parallel()
	cfg := gateConfig(t, "http://127.0.0.1:1", func(c *Config) { c.Admission.DrainDelay = time.Hour })
	cfg.Ops.Address = free(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, discard(), func(Addresses) error { t.Error("it is ready"); return nil })
	}()
	unready{ops: cfg.Ops.Address}.says(t, "metadata service")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hangUpBound):
		t.Error("it does not end")
	}
}
