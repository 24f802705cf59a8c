package voucherapi_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest/voucherapi"
	"github.com/gatehouse-dev/gatehouse/check"
)

// stall begins a request and, once the server reads its body, sends half of it.
func stall(t *testing.T, s *httptest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(`{"image_`)); err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestABodyThatStallsHoldsNoTurn(t *testing.T) {
	t.Parallel()
	s := serve(t, voucherapi.Options{MaxRequests: 1}, nil)
	stall(t, s)
	if got := do(t, s, "POST", "/good", good); got.Status != 200 {
		t.Errorf("while the body of another stalls: %+v", got)
	}
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	t.Parallel()
	s := serve(t, voucherapi.Options{BodyTimeout: 50 * time.Millisecond}, nil)
	_, r := stall(t, s)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
		t.Errorf("got %+v", resp)
	}
}

func TestACheckMayTakeLongerThanTheBody(t *testing.T) {
	t.Parallel()
	const body = 100 * time.Millisecond
	s := serve(t, voucherapi.Options{BodyTimeout: body}, map[string]runFunc{"long": func(ctx context.Context, _ *check.Input) (check.Result, error) {
		over := time.NewTimer(3 * body)
		defer over.Stop()
		select {
		case <-ctx.Done():
			return check.Result{}, context.Cause(ctx)
		case <-over.C:
			return check.Pass(), nil
		}
	}})
	if got := do(t, s, "POST", "/long", good); got.Status != 200 || !strings.Contains(got.Body, `"success":true`) {
		t.Errorf("got %+v", got)
	}
}
