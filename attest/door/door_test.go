package door

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/attest"
)

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func request(t *testing.T, user, password string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/good", nil)
	r.RemoteAddr = "192.0.2.1:1234"
	r.SetBasicAuth(user, password)
	return r
}

func status(err error) int {
	var refusal *RefusalError
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}

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
			d := New(Options{RequireAuth: true, Username: "vouch", PasswordHash: "hash"})
			_, err := d.Identify(fill(d.login), request(t, "vouch", "hunter2"))
			h := http.Header{}
			var refusal *RefusalError
			if errors.As(err, &refusal) {
				refusal.SetHeader(h)
			}
			if status(err) != http.StatusServiceUnavailable || h.Get("Retry-After") != "5" || h.Get("WWW-Authenticate") != "" {
				t.Errorf("got %v, %v", err, h)
			}
		})
	}
	t.Run("places are given back", func(t *testing.T) {
		d := New(Options{RequireAuth: true, Username: "vouch", PasswordHash: "hash"})
		for range maxComparisons + maxWaiting + 1 {
			if _, err := d.Identify(t.Context(), request(t, "vouch", "hunter2")); status(err) != http.StatusUnauthorized {
				t.Fatalf("got %v", err)
			}
		}
	})
}

func TestB18_CallersAreToldApartAndMayBeHeldToSomeChecks(t *testing.T) {
	t.Parallel()
	d := New(Options{RequireAuth: true, Username: "vouch", PasswordHash: hash(t, "hunter2"), Callers: map[string]attest.CallerConfig{
		"ci": {PasswordHash: hash(t, "hunter3"), May: []string{"all"}},
	}})
	for _, row := range []struct {
		user, password, name string
		identify, may        int
	}{
		{"vouch", "hunter2", "diy", 0, 0}, {"ci", "hunter3", "all", 0, 0}, {"ci", "hunter3", "diy", 0, 403},
		{"ci", "hunter2", "all", 401, 0}, {"vouch", "hunter3", "all", 401, 0}, {"other", "hunter3", "all", 401, 0}, {"", "hunter3", "all", 401, 0},
	} {
		caller, err := d.Identify(t.Context(), request(t, row.user, row.password))
		if status(err) != row.identify || (err == nil && caller != (attest.Caller{Name: row.user, Address: "192.0.2.1"})) {
			t.Errorf("%+v: %+v, %v", row, caller, err)
			continue
		}
		if err := d.May(caller, row.name); err == nil != (row.may == 0) || status(err) != row.may {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

func TestB18_RunsAreLimitedPerCaller(t *testing.T) {
	t.Parallel()
	a, b := attest.Caller{Name: "a", Address: "192.0.2.1"}, attest.Caller{Name: "b", Address: "192.0.2.1"}
	enter := func(d *Door, c attest.Caller, want int) func() {
		t.Helper()
		leave, err := d.Enter(c)
		if status(err) != want {
			t.Fatalf("%+v enters: %v, want %d", c, err, want)
		}
		return leave
	}
	t.Run("at once", func(t *testing.T) {
		d := New(Options{MaxRequests: 3, PerCaller: 2})
		leave := enter(d, a, 0)
		enter(d, a, 0)
		enter(d, a, 429)
		enter(d, b, 0)
		enter(d, b, 503) // there is no place for anybody
		leave()
		enter(d, a, 0)
		if n := d.here["a@192.0.2.1"]; n != 2 {
			t.Errorf("%d of a are counted", n)
		}
	})
	t.Run("in a minute", func(t *testing.T) {
		now := time.Unix(0, 0)
		d := New(Options{PerMinute: 6, Burst: 2, Now: func() time.Time { return now }})
		enter(d, a, 0)()
		enter(d, a, 0)()
		_, err := d.Enter(a)
		var refusal *RefusalError
		if !errors.As(err, &refusal) || refusal.Status != 429 || refusal.RetryAfter != 10*time.Second {
			t.Errorf("the third: %v", err)
		}
		enter(d, b, 0)()
		now = now.Add(10 * time.Second)
		enter(d, a, 0)()
		if len(d.here) != 0 || len(d.turns) != 0 {
			t.Errorf("places are not given back: %v", d.here)
		}
	})
}
