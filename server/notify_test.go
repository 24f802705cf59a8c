package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
)

// TestAServerDeliversWhatWaits: what an earlier server has left in the outbox.
func TestAServerDeliversWhatWaits(t *testing.T) {
	t.Parallel()
	arrived := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- string(body)
	}))
	t.Cleanup(hook.Close)
	cfg := testConfig(t, func(c *Config) {
		c.Notify.Receivers = []pager.Receiver{{Name: "hook", Webhook: &pager.Webhook{URL: hook.URL, SecretFile: write(t, filepath.Join(t.TempDir(), "secret"), "c2VjcmV0LXNlY3JldC1zZWNyZXQh")}}}
		c.Notify.Routes = []notify.Route{{Name: "all", Receivers: []string{"hook"}}}
	})
	receivers, err := cfg.Notify.Open()
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := notify.Open(notify.Options{Dir: filepath.Join(cfg.Data, "notify"), Routes: cfg.Notify.Routes, Receivers: receivers})
	if err != nil {
		t.Fatal(err)
	}
	// It has waited for the others of its page before the server stopped.
	if err := earlier.Enqueue(t.Context(), notify.Message{Kind: notify.Opened, Key: "incident-1", Severity: notify.Critical, Title: "glass"}); err != nil {
		t.Fatal(err)
	}
	if err := earlier.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Notify.Routes[0].GroupWait = 1 // ns
	r := start(t, cfg)
	if body := <-arrived; !strings.Contains(body, `"key":"incident-1"`) {
		t.Errorf("%s", body)
	}
	if code, body := r.get("http://" + r.Ops + "/metrics"); code != http.StatusOK || !strings.Contains(body, "gatehouse_notify_outbox_oldest_seconds") {
		t.Errorf("metrics: %d", code)
	}
}
