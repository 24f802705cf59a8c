package voucherapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

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
