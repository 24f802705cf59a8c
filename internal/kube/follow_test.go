package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told is what a follower was told.
type told struct {
	mu     sync.Mutex
	lines  []string
	failed []error
}

func (l *told) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take returns what was told since it was last asked.
func (l *told) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *told) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

// follow follows a fake's objects until the test ends.
func follow(t *testing.T, f *fake) *told {
	t.Helper()
	l := &told{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.client().Follow(ctx, Follower{
			Resource: Resource{Version: "v1", Name: "things"},
			Set: func(o Object) {
				_, value, _ := strings.Cut(string(o.JSON), `"value":`)
				l.add("%s/%s %s", o.Namespace, o.Name, strings.Trim(value, `"}`))
			},
			Gone:   func(k Key) { l.add("%s/%s gone", k.Namespace, k.Name) },
			Listed: func() { l.add("listed") },
			Failed: func(err error) { l.mu.Lock(); defer l.mu.Unlock(); l.failed = append(l.failed, err) },
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return l
}

func want(t *testing.T, l *told, lines ...string) {
	t.Helper()
	synctest.Wait()
	if d := cmp.Diff(lines, l.take()); d != "" {
		t.Fatal(d)
	}
}

func TestAFollowerIsToldWhatThereIsAndWhatChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for _, name := range []string{"a", "b", "c"} { // two pages
			f.put(name, "1")
		}
		l := follow(t, f)
		want(t, l, "shop/a 1", "shop/b 1", "shop/c 1", "listed")
		f.put("d", "1")
		f.put("a", "2")
		f.remove("b")
		want(t, l, "shop/d 1", "shop/a 2", "shop/b gone")
	})
}

func TestAWatchThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put("a", "1")
		l := follow(t, f)
		want(t, l, "shop/a 1", "listed")
		f.bookmark()
		synctest.Wait()
		f.set(func() { f.broken = errors.New("connection refused") })
		f.hang()
		f.put("a", "2")
		time.Sleep(time.Minute) // of the bubble
		if l.failures() == 0 {
			t.Error("nobody was told that the server is away")
		}
		want(t, l)
		f.set(func() { f.broken = nil })
		time.Sleep(time.Minute)
		want(t, l, "shop/a 2")
		if f.lists != 1 {
			t.Errorf("listed %d times", f.lists)
		}
		if last := f.watch[len(f.watch)-1]; last != "2" {
			t.Errorf("watched from %q, want the bookmark: %q", last, f.watch)
		}
		f.hang()
		time.Sleep(time.Minute)
		if last := f.watch[len(f.watch)-1]; last != "3" {
			t.Errorf("watched from %q, want what was told last: %q", last, f.watch)
		}
	})
}

// TestWhenTheServerHasForgotten everything is read anew, what has not changed is not told
// again, and what has gone meanwhile is.
func TestWhenTheServerHasForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for _, name := range []string{"a", "b", "c"} {
			f.put(name, "1")
		}
		l := follow(t, f)
		want(t, l, "shop/a 1", "shop/b 1", "shop/c 1", "listed")
		f.set(func() { f.broken = errors.New("away") })
		f.hang()
		f.remove("b")
		f.put("c", "2")
		f.forget()
		f.set(func() { f.broken = nil })
		time.Sleep(time.Minute)
		want(t, l, "shop/c 2", "shop/b gone", "listed")
	})
}

// TestAServerThatFailsIsNotAskedAllTheTime in the first minute not more than 20 times, and
// then about twice a minute.
func TestAServerThatFailsIsNotAskedAllTheTime(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(f *fake){
		"refuses":          func(f *fake) { f.status = http.StatusForbidden },
		"does not know it": func(f *fake) { f.status = http.StatusNotFound },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.put("a", "1")
				f.set(func() { fail(f) })
				l := follow(t, f)
				time.Sleep(10 * time.Minute)
				if n := l.failures(); n < 10 || n > 40 {
					t.Errorf("failed %d times in ten minutes", n)
				}
				want(t, l) // and not that there is nothing
				f.set(func() { f.status = 0 })
				time.Sleep(time.Minute)
				want(t, l, "shop/a 1", "listed")
			})
		})
	}
	t.Run("hangs up at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			l := follow(t, f)
			for range 200 {
				synctest.Wait()
				f.hang()
				time.Sleep(time.Second)
			}
			if n := len(f.watch); n > 60 {
				t.Errorf("watched %d times", n)
			}
			if l.failures() == 0 {
				t.Error("nobody was told")
			}
		})
	})
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ kind, object string }{
		"an unknown kind":             {"SURPRISE", `{"metadata": {"name": "a", "resourceVersion": "1"}}`},
		"an object without a version": {"ADDED", `{"metadata": {"name": "a"}}`},
		"an object without a name":    {"ADDED", `{"metadata": {"resourceVersion": "1"}}`},
		"a bookmark of nothing":       {"BOOKMARK", `{}`},
		"no JSON":                     {"MODIFIED", `x`},
	} {
		s := &following{known: map[Key]string{}, version: "7", Follower: Follower{Set: func(Object) { t.Errorf("%s is told", name) }}}
		if err := s.event(tc.kind, []byte(tc.object)); err == nil || s.version != "7" {
			t.Errorf("%s: %v, and goes on from %s", name, err, s.version)
		}
	}
}

func TestAnEventIsBounded(t *testing.T) {
	t.Parallel()
	b := &budget{from: strings.NewReader(strings.Repeat("x", 100)), left: 10}
	buffer := make([]byte, 64)
	if n, err := b.Read(buffer); n != 10 || err != nil {
		t.Error(n, err)
	}
	if _, err := b.Read(buffer); err == nil {
		t.Error("more was read than is taken")
	}
}

func TestPathsOfResources(t *testing.T) {
	t.Parallel()
	for want, got := range map[string][]string{
		"api/v1/pods":                             Resource{Version: "v1", Name: "pods"}.Path(),
		"api/v1/namespaces/shop/pods/web/status":  Resource{Version: "v1", Name: "pods", Namespace: "shop"}.Path("web", "status"),
		"apis/kritis.grafeas.io/v1beta1/policies": Resource{Group: "kritis.grafeas.io", Version: "v1beta1", Name: "policies"}.Path(),
	} {
		if joined := strings.Join(got, "/"); joined != want {
			t.Errorf("got %s, want %s", joined, want)
		}
	}
}
