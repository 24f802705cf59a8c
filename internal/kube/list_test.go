package kube_test

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// pages serves a list of two pages, by a token that expires some times.
type pages struct {
	gone  int
	asked []string
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked = append(p.asked, r.URL.String())
	switch token := r.URL.Query().Get("continue"); {
	case token == "":
		_, _ = io.WriteString(w, `{"kind": "PodList", "metadata": {"continue": "two"}, "items": ["a"]}`)
	case p.gone > 0:
		p.gone--
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"kind": "Status", "reason": "Expired", "message": "too old", "metadata": {"continue": "now"}}`)
	default:
		_, _ = io.WriteString(w, `{"kind": "PodList", "items": ["b"]}`)
	}
}

func listPages(t *testing.T, h http.Handler, fn func([]byte) error) error {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	c := client(t, s.URL, "secret-token", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return c.List(t.Context(), fn, "api", "v1", "pods")
}

func TestAListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]int{"in one go": 0, "by a token that expires": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pages{gone: gone}
			var got []string
			err := listPages(t, p, func(page []byte) error {
				_, items, _ := strings.Cut(string(page), `"items": `)
				got = append(got, items)
				return nil
			})
			if d := cmp.Diff([]string{`["a"]}`, `["b"]}`}, got); d != "" || err != nil {
				t.Error(err, d)
			}
			if p.asked[0] != "/api/v1/pods?limit=500" {
				t.Error(p.asked)
			}
		})
	}
}

func TestAListThatCannotBeRead(t *testing.T) {
	t.Parallel()
	nothing := func([]byte) error { return nil }
	var refused *kube.Error
	if err := listPages(t, &pages{gone: 9}, nothing); !errors.As(err, &refused) || refused.Code != http.StatusGone {
		t.Errorf("a token that expires for ever: %v", err)
	}
	if err := listPages(t, http.NotFoundHandler(), nothing); !kube.NotFound(err) {
		t.Errorf("no such list: %v", err)
	}
	stop := errors.New("stop")
	if err := listPages(t, &pages{}, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped by the caller: %v", err)
	}
	text := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	if err := listPages(t, text, nothing); err == nil || !strings.Contains(err.Error(), "reading what") {
		t.Errorf("no JSON: %v", err)
	}
}
