package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// registries answer the question how to log in, and count how often each is asked.
type registries struct {
	asked  map[string]int
	says   string // their challenge, unless answer is set
	answer func(r *http.Request) (*http.Response, error)
}

func (r *registries) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked[req.URL.Scheme+"://"+req.URL.Host]++
	if r.answer != nil {
		return r.answer(req)
	}
	return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {r.says}}, Body: http.NoBody}, nil
}

// greet asks a registry how to log in, in a call of its own.
func greet(t *testing.T, r http.RoundTripper, url string, fail error) (challenge, error) {
	t.Helper()
	var greetErr error
	g, _ := r.(*remembering)
	answer, err := inquire(withBudget(t.Context()), g.greetings, func(ctx context.Context) (challenge, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := r.RoundTrip(req)
		if err != nil {
			greetErr = err
			return challenge{}, err
		}
		defer func() { _ = answer.Body.Close() }()
		c, _ := challengeOf(answer)
		return c, fail
	})
	if greetErr != nil {
		return challenge{}, greetErr
	}
	return answer, err
}

func TestGreetingsEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	next := &registries{asked: map[string]int{}, says: `Basic realm="r"`}
	r := (&greetings{now: func() time.Time { return now }, hosts: map[string]greeted{}}).over(next)
	const reg = "https://registry.example"
	for _, step := range []struct {
		after time.Duration
		fail  error
		want  int // how often it has been asked in all
	}{
		{0, nil, 1}, {greetingLife - 1, nil, 1}, {1, nil, 2}, {greetingLife / 2, nil, 2},
		// It is forgotten when a call fails, and the call is made again when it was refused.
		{0, ErrTooLarge, 2}, {0, nil, 3}, {0, ErrUnauthorized, 4}, {0, nil, 5}, {0, ErrNotFound, 6}, {0, ErrNotFound, 7}, {0, nil, 8},
	} {
		now = now.Add(step.after)
		answer, err := greet(t, r, reg, step.fail)
		if !errors.Is(err, step.fail) {
			t.Fatalf("after %s: %v", step.after, err)
		}
		if err == nil && (answer.status != http.StatusUnauthorized || answer.header.Get("WWW-Authenticate") != `Basic realm="r"`) {
			t.Errorf("after %s: %+v", step.after, answer)
		}
		if got := next.asked[reg]; got != step.want {
			t.Errorf("after %s, with %v: asked %d times, want %d", step.after, step.fail, got, step.want)
		}
	}
}

// While others are let in, who is refused is so after one more try.
func TestARefusedCallIsMadeAgainOnce(t *testing.T) {
	t.Parallel()
	next := &registries{asked: map[string]int{}, says: `Basic realm="r"`}
	g := &greetings{now: time.Now, hosts: map[string]greeted{}}
	r := g.over(next)
	const reg = "https://registry.example"
	if _, err := greet(t, r, reg, nil); err != nil {
		t.Fatal(err)
	}
	calls := 0
	_, err := inquire(withBudget(t.Context()), g, func(ctx context.Context) (struct{}, error) {
		if calls++; calls > 10 {
			return struct{}{}, nil
		}
		g.put("registry.example", "https", challenge{status: http.StatusUnauthorized}) // by another call
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg+"/v2/", nil)
		if err != nil {
			return struct{}{}, err
		}
		answer, err := r.RoundTrip(req)
		if err != nil {
			return struct{}{}, err
		}
		_ = answer.Body.Close()
		return struct{}{}, ErrUnauthorized
	})
	if !errors.Is(err, ErrUnauthorized) || calls != 2 || next.asked[reg] != 2 {
		t.Errorf("%v after %d calls, for the second of which the registry was asked %d times, want 2 and 1", err, calls, next.asked[reg]-1)
	}
}

func TestGreetingsAreBounded(t *testing.T) {
	t.Parallel()
	next := &registries{asked: map[string]int{}, says: `Basic realm="r"`}
	g := &greetings{now: time.Now, hosts: map[string]greeted{}}
	r := g.over(next)
	for n := range maxGreetings + 10 {
		if _, err := greet(t, r, fmt.Sprintf("https://r%d.example", n), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.hosts) != maxGreetings {
		t.Errorf("%d are remembered, want %d", len(g.hosts), maxGreetings)
	}
	next.says = strings.Repeat("x", maxChallenge+1)
	for range 2 {
		if _, err := greet(t, r, "https://talks.example", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := next.asked["https://talks.example"]; n != 2 {
		t.Errorf("a long answer was remembered: asked %d times, want 2", n)
	}
}

func TestPlainHTTPIsRememberedOnThisMachineOnlyAfterTLSFailed(t *testing.T) {
	t.Parallel()
	down := errors.New("first record does not look like a TLS handshake")
	for about, row := range map[string]struct {
		host    string
		tls     bool // is tried first, and fails
		answers int  // to plain HTTP
		refused bool // TLS is refused from memory after
	}{
		"after TLS failed":                  {"127.0.0.1:5000", true, http.StatusOK, true},
		"without TLS having been tried":     {"127.0.0.1:5000", false, http.StatusOK, false},
		"after an answer that is no answer": {"127.0.0.1:5000", true, http.StatusBadRequest, false},
		"elsewhere":                         {"registry.example", true, http.StatusOK, false},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			next := &registries{asked: map[string]int{}, answer: func(r *http.Request) (*http.Response, error) {
				if r.URL.Scheme == "https" {
					return nil, down
				}
				return &http.Response{StatusCode: row.answers, Body: http.NoBody}, nil
			}}
			g := &greetings{now: time.Now, hosts: map[string]greeted{}}
			r := g.over(next)
			_, err := inquire(withBudget(t.Context()), g, func(ctx context.Context) (struct{}, error) {
				for _, scheme := range []string{"https", "http"} {
					if scheme == "https" && !row.tls {
						continue
					}
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+row.host+"/v2/", nil)
					if err != nil {
						return struct{}{}, err
					}
					if answer, err := r.RoundTrip(req); err == nil {
						_ = answer.Body.Close()
					}
				}
				return struct{}{}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			before := next.asked["https://"+row.host]
			_, err = greet(t, r, "https://"+row.host, nil)
			if errors.Is(err, errPlain) != row.refused || (next.asked["https://"+row.host] == before) != row.refused {
				t.Errorf("over TLS: %v, asked %d times more", err, next.asked["https://"+row.host]-before)
			}
		})
	}
}
