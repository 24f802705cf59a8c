package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// hangUpBound is how long a test waits for the server to hang up.
const hangUpBound = 20 * time.Second

// tlsOf returns what a client of the gate needs.
func (r *running) tlsOf() *tls.Config {
	return r.gate.Transport.(*http.Transport).TLSClientConfig.Clone()
}

// connect opens a connection to the gate, from an address of this machine if it is
// given.
func (r *running) connect(config *tls.Config, from string) (*tls.Conn, error) {
	r.t.Helper()
	dialer := &net.Dialer{Timeout: hangUpBound}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := tls.DialWithDialer(dialer, "tcp", r.Admission, config)
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn, conn.SetDeadline(time.Now().Add(hangUpBound))
}

func (r *running) mustConnect(from string) *tls.Conn {
	r.t.Helper()
	conn, err := r.connect(r.tlsOf(), from)
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// answerOn sends a whole request on a connection and returns the answer.
func answerOn(t *testing.T, conn net.Conn, body string) (head, string) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "POST /validate?timeout=5s HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, bufio.NewReader(conn))
}

// A head is how an answer begins; its body has been read.
type head struct {
	Status     string
	StatusCode int
	Header     http.Header
}

func readAnswer(t *testing.T, from *bufio.Reader) (head, string) {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return head{resp.Status, resp.StatusCode, resp.Header}, string(text)
}

// hold begins a request of which the body does not come, and returns once it is being
// read. finish sends the body and returns the answer.
func (r *running) hold(from, body string) (finish func() (head, string)) {
	r.t.Helper()
	t, conn := r.t.(*testing.T), r.mustConnect(from)
	if _, err := fmt.Fprintf(conn, "POST /validate?timeout=15s HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%v: %q", err, line)
	}
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return func() (head, string) {
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatal(err)
		}
		return readAnswer(t, lines)
	}
}

func podReview() string {
	return string(review.Pod("shop", "web").Image("main", "nginx").Review())
}

func TestTheWebhookSpeaksHTTP11Only(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	config := r.tlsOf()
	config.NextProtos = []string{"h2", "http/1.1"}
	conn, err := r.connect(config, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("negotiated %q", got)
	}
	config.NextProtos = []string{"h2"}
	if _, err := r.connect(config, ""); err == nil {
		t.Error("HTTP/2 was negotiated")
	}
}

func TestWhatNoAPIServerSendsIsTurnedAway(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := io.WriteString(zip, podReview()); err != nil || zip.Close() != nil {
		t.Fatal(err)
	}
	const json = "Content-Type: application/json\r\n"
	for name, tc := range map[string]struct {
		request string
		want    int
	}{
		"another method":        {"GET /validate HTTP/1.1\r\nHost: gate\r\n\r\n", 405},
		"a compressed review":   {fmt.Sprintf("POST /validate HTTP/1.1\r\nHost: gate\r\n%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", json, packed.Len(), packed.String()), 415},
		"a form":                {"POST /validate HTTP/1.1\r\nHost: gate\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}", 415},
		"no type":               {"POST /validate HTTP/1.1\r\nHost: gate\r\nContent-Length: 2\r\n\r\n{}", 415},
		"a body that is huge":   {"POST /validate HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 41943041\r\n\r\n", 413},
		"what is no review":     {"POST /validate HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 2\r\n\r\n{}", 400},
		"an endless header":     {"POST /validate HTTP/1.1\r\nHost: gate\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", 431},
		"two lengths":           {"POST /validate HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
		"another path":          {"POST /validate/x HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 2\r\n\r\n{}", 404},
		"a cluster of no place": {"POST /imagereview/prod HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 2\r\n\r\n{}", 404},
		"no image review":       {"POST /imagereview/us-east1-b.prod HTTP/1.1\r\nHost: gate\r\n" + json + "Content-Length: 2\r\n\r\n{}", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := r.mustConnect("")
			if _, err := io.WriteString(conn, tc.request); err != nil {
				t.Fatal(err)
			}
			if resp, text := readAnswer(t, bufio.NewReader(conn)); resp.StatusCode != tc.want {
				t.Errorf("%s: %s", resp.Status, text)
			}
		})
	}
	t.Run("a body whose length was not told", func(t *testing.T) {
		t.Parallel()
		conn := r.mustConnect("")
		if _, err := io.WriteString(conn, "POST /validate HTTP/1.1\r\nHost: gate\r\n"+json+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat("[", 1<<20))
		for range 41 {
			if _, err := io.WriteString(conn, chunk); err != nil {
				break // it has answered, and hung up
			}
		}
		if resp, text := readAnswer(t, bufio.NewReader(conn)); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", resp.Status, text)
		}
	})
}

// TestALargeReviewIsRead: an API server can be made to send it, and cutting it would
// leave the decision to the webhook's failurePolicy.
func TestALargeReviewIsRead(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, t.TempDir()+"/policy.yaml", enforced)}
	}))
	large := review.Pod("shop", "web").Image("main", "nginx").Edit(func(o map[string]any) {
		o["metadata"].(map[string]any)["annotations"] = map[string]any{"a": strings.Repeat("<", 3<<20)}
	})
	body := large.Update(review.Pod("shop", "web").Image("main", "busybox").Edit(func(o map[string]any) {
		o["metadata"].(map[string]any)["annotations"] = map[string]any{"a": strings.Repeat(">", 3<<20)}
	})).Review()
	if len(body) < 36<<20 {
		t.Fatalf("%d bytes", len(body))
	}
	if allowed, message := r.ask(body); allowed || !strings.Contains(message, "nginx denied") {
		t.Errorf("allowed %v: %s", allowed, message)
	}
}

func TestASourceThatTakesTooMuchIsAskedToWait(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) { c.Admission.MaxRequests = 4 }))
	first, second := r.hold("127.0.0.1", podReview()), r.hold("127.0.0.1", podReview())

	resp, text := answerOn(t, r.mustConnect("127.0.0.1"), podReview())
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("the third of one source: %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), text)
	}
	if resp, text := answerOn(t, r.mustConnect("127.0.0.2"), podReview()); resp.StatusCode != http.StatusOK {
		t.Errorf("another source: %s: %s", resp.Status, text)
	}
	third, fourth := r.hold("127.0.0.2", podReview()), r.hold("127.0.0.3", podReview())
	if resp, text := answerOn(t, r.mustConnect("127.0.0.4"), podReview()); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("when there is no room: %s: %s", resp.Status, text)
	}
	for _, finish := range []func() (head, string){first, second, third, fourth} {
		if resp, text := finish(); resp.StatusCode != http.StatusOK {
			t.Errorf("what was begun: %s: %s", resp.Status, text)
		}
	}
	if resp, text := answerOn(t, r.mustConnect("127.0.0.1"), podReview()); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s: %s", resp.Status, text)
	}
	if _, text := r.get("http://" + r.Ops + "/metrics"); !strings.Contains(text, `gatehouse_admission_turned_away_total{status="429"} 1`) {
		t.Error("it was not counted")
	}
}

func TestLargeBodiesAreShared(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	body := podReview()
	large := body + strings.Repeat(" ", 36<<20-len(body))
	// 128 MiB are one source's share.
	holding := []func() (head, string){r.hold("127.0.0.1", large), r.hold("127.0.0.1", large), r.hold("127.0.0.1", large)}
	conn := r.mustConnect("127.0.0.1")
	if _, err := fmt.Fprintf(conn, "POST /validate HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(large)); err != nil {
		t.Fatal(err)
	}
	if resp, text := readAnswer(t, bufio.NewReader(conn)); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the fourth of one source: %s: %s", resp.Status, text)
	}
	if resp, text := answerOn(t, r.mustConnect("127.0.0.2"), podReview()); resp.StatusCode != http.StatusOK {
		t.Errorf("another source: %s: %s", resp.Status, text)
	}
	if resp, text := holding[0](); resp.StatusCode != http.StatusOK {
		t.Errorf("what was begun: %s: %s", resp.Status, text)
	}
}

func TestASourceWithTooManyConnectionsIsHungUpOn(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) { c.Admission.MaxConnections = 4 }))
	first, second := r.mustConnect("127.0.0.1"), r.mustConnect("127.0.0.1")
	if conn, err := r.connect(r.tlsOf(), "127.0.0.1"); err == nil {
		t.Errorf("a third connection of one source was taken: %v", conn.ConnectionState().Version)
	}
	other := r.mustConnect("127.0.0.2")
	if resp, text := answerOn(t, other, podReview()); resp.StatusCode != http.StatusOK {
		t.Errorf("another source: %s: %s", resp.Status, text)
	}
	if resp, text := answerOn(t, first, podReview()); resp.StatusCode != http.StatusOK {
		t.Errorf("a connection from before: %s: %s", resp.Status, text)
	}
	if err := errors.Join(second.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	// The server notices in its own time.
	for deadline := time.Now().Add(hangUpBound); ; {
		conn, err := r.connect(r.tlsOf(), "127.0.0.1")
		if err == nil {
			if resp, text := answerOn(t, conn, podReview()); resp.StatusCode != http.StatusOK {
				t.Errorf("after some were closed: %s: %s", resp.Status, text)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after some were closed: %v", err)
		}
	}
}

// TestWhoStopsSendingIsHungUpOn: the gate does not wait for one that promised more
// than it sends.
func TestWhoStopsSendingIsHungUpOn(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	conn := r.mustConnect("")
	if _, err := io.WriteString(conn, "POST /validate?timeout=1s HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: 16777216\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("%v: %q", err, answer)
	}
}

// impatient serves as the webhook does, around a handler, with bounds of time that a
// test can wait for.
func impatient(t *testing.T, h http.Handler) *running {
	t.Helper()
	ca, err := testCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t.Context(), "impatient", "127.0.0.1:0", discard())
	if err != nil {
		t.Fatal(err)
	}
	harden(l.server, admissionTLS(ca.Certificate))
	if l.server.ReadHeaderTimeout <= 0 || l.server.ReadTimeout <= 0 || l.server.WriteTimeout <= 0 || l.server.IdleTimeout <= 0 {
		t.Fatalf("a webhook's server waits for ever: %+v", l.server)
	}
	l.server.ReadHeaderTimeout, l.server.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	l.server.Handler = h
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.serve(ctx.Done()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return &running{t: t, Addresses: Addresses{Admission: l.addr(), CA: ca.BundlePath()}, gate: gateClient(t, ca.BundlePath())}
}

func TestSlowClientsAreHungUpOn(t *testing.T) {
	t.Parallel()
	r := impatient(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = w.Write(make([]byte, 32<<10))
	}))
	t.Run("that do not shake hands", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", r.Admission)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		expectHangUp(t, conn)
	})
	t.Run("that do not end their header", func(t *testing.T) {
		t.Parallel()
		conn := r.mustConnect("")
		if _, err := io.WriteString(conn, "POST /validate HTTP/1.1\r\nHost: gate\r\nX-A: a"); err != nil {
			t.Fatal(err)
		}
		expectHangUp(t, conn)
	})
	t.Run("that do not read their answers", func(t *testing.T) {
		t.Parallel()
		conn := r.mustConnect("")
		for {
			if _, err := io.WriteString(conn, "POST /validate HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n"); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("it was waited for")
				}
				return
			}
		}
	})
}

// expectHangUp reads until the other end closes.
func expectHangUp(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(hangUpBound)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it was waited for")
	}
}
