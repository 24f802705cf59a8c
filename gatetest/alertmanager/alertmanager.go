// Package alertmanager starts real Alertmanagers for tests, as child processes in
// temporary folders, on ports of 127.0.0.1 that are free. Only the program has to be
// installed (on Debian the package prometheus-alertmanager); no running one is needed,
// none is touched, and nothing is left behind.
//
//	am := alertmanager.Start(t, alertmanager.Options{Webhook: server.URL})
//	… post to am.URL() + "/api/v2/alerts" …
//	am.Kill(t)    // as kill -9 would
//	am.Restart(t) // at the same address; what it was told before, it forgot
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
)

const (
	// startBound ends a start that does not succeed. An idle machine needs a second.
	startBound = time.Minute
	pollEvery  = 20 * time.Millisecond
	stopGrace  = 5 * time.Second
	maxAnswer  = 16 << 20
)

// Options configure a Server.
type Options struct {
	// Webhook is where notifications are sent to, as soon as there is something to tell;
	// empty: nowhere.
	Webhook string
}

// A Server is a running Alertmanager.
type Server struct {
	program, dir, addr string
	child              *child.Process
}

// Start starts a server for a test and stops it when the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	program, err := find()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{program: program, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, "alertmanager.yml"), []byte(configuration(opts)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.addr, err = freeAddress(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	t.Cleanup(func() { s.child.Stop(syscall.SIGTERM, stopGrace) })
	return s
}

// find looks for the program under Debian's name and its own.
func find() (string, error) {
	for _, name := range []string{"prometheus-alertmanager", "alertmanager"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("neither prometheus-alertmanager nor alertmanager is in PATH; install prometheus-alertmanager")
}

func configuration(opts Options) string {
	const head = "route: {receiver: r, group_by: ['...'], group_wait: 0s, group_interval: 1s}\n"
	if opts.Webhook == "" {
		return head + "receivers: [{name: r}]\n"
	}
	return head + fmt.Sprintf("receivers: [{name: r, webhook_configs: [{url: %q, send_resolved: true}]}]\n", opts.Webhook)
}

// freeAddress is one that nobody listens at. Somebody may, until it is used; the server
// then ends, and the test says so.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// URL is where the server listens, without a path.
func (s *Server) URL() string { return "http://" + s.addr }

// Kill kills the server with SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.child.KillTree(); err != nil {
		t.Fatalf("killing Alertmanager: %v", err)
	}
}

// Restart starts the server anew at its address, and returns when it is ready.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.child.Stop(syscall.SIGTERM, stopGrace)
	s.run(t)
}

func (s *Server) run(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.program, //nolint:noctx // Stop ends it
		"--config.file="+filepath.Join(s.dir, "alertmanager.yml"), "--storage.path="+filepath.Join(s.dir, "data"),
		"--web.listen-address="+s.addr, "--cluster.listen-address=")
	cmd.Dir, cmd.SysProcAttr = s.dir, child.Attributes(syscall.SIGKILL)
	var err error
	if s.child, err = child.Start("alertmanager", filepath.Join(s.dir, "log"), cmd); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startBound)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if _, err = get(ctx, s.URL()+"/-/ready"); err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-s.child.Done():
			t.Fatal(s.child.Failure())
		case <-ctx.Done():
			t.Fatalf("Alertmanager is not ready within %v: %v", startBound, err)
		}
	}
}

// An Alert is one that the server has.
type Alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// Alerts are those that fire now.
func (s *Server) Alerts(t testing.TB) []Alert {
	t.Helper()
	body, err := get(t.Context(), s.URL()+"/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	var alerts []Alert
	if err := json.Unmarshal(body, &alerts); err != nil {
		t.Fatalf("reading alerts: %v", err)
	}
	return alerts
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return body, err
}
