package voucherapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A password that was not compared is not called wrong.
func TestALoginThatCannotBeComparedIsBusy(t *testing.T) {
	t.Parallel()
	for about, fill := range map[string]func(*login) context.Context{
		"its time is over before its turn": func(l *login) context.Context {
			for range maxComparisons {
				l.turns <- struct{}{}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		},
		"too many wait already": func(l *login) context.Context {
			for range maxComparisons + maxWaiting {
				l.queue <- struct{}{}
			}
			for range maxComparisons {
				l.turns <- struct{}{}
			}
			return t.Context()
		},
	} {
		t.Run(about, func(t *testing.T) {
			h := NewHandler(nil, Options{RequireAuth: true, Username: "vouch", PasswordHash: "hash"}).(*handler)
			r := httptest.NewRequestWithContext(fill(h.login), http.MethodPost, "/good", nil)
			r.SetBasicAuth("vouch", "hunter2")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("got %d, %v: %s", w.Code, w.Header(), w.Body)
			}
		})
	}
	t.Run("places are given back", func(t *testing.T) {
		l := newLogin("vouch", "hash")
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/good", nil)
		r.SetBasicAuth("vouch", "hunter2")
		for range maxComparisons + maxWaiting + 1 {
			if ok, err := l.allows(t.Context(), r); ok || err != nil {
				t.Fatalf("got %v, %v", ok, err)
			}
		}
	})
}

// deadlines records the read deadlines that are set.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestTheDeadlineOfTheBodyIsLifted(t *testing.T) {
	t.Parallel()
	h := NewHandler(nil, Options{}).(*handler)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/good", strings.NewReader("{}"))
	if body, _, err := h.readBody(w, r); err != nil || string(body) != "{}" {
		t.Fatalf("got %q, %v", body, err)
	}
	if len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
		t.Errorf("deadlines set: %v", w.set)
	}
}
