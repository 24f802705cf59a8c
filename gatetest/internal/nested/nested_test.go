package nested

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func tiny() Module {
	return Module{Name: "tiny", Title: "a tiny program", Cost: "no time", Links: []string{"alias"}}
}

// tinySource is a module that builds at once and passes for the real one.
func tinySource(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module tiny\n\ngo 1.26.0\n",
		"go.sum":  "",
		"main.go": "package main\n\nfunc main() {" + body + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConcurrentBuildsBuildOnce(t *testing.T) {
	t.Parallel()
	source, cache := tinySource(t, ""), t.TempDir()
	var mu sync.Mutex
	lines := map[string]int{}
	logf := func(format string, _ ...any) {
		mu.Lock()
		defer mu.Unlock()
		lines[format]++
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			bin, err := tiny().BuildCached(t.Context(), source, cache, logf)
			if err != nil {
				t.Error(err)
			} else if !isExecutable(bin) || !isExecutable(filepath.Join(filepath.Dir(bin), "alias")) {
				t.Errorf("%q or the link beside it is no program", bin)
			}
		})
	}
	wg.Wait()
	if n := lines["%s is built"]; n != 1 {
		t.Errorf("built %d times, want once", n)
	}
	leftovers, err := filepath.Glob(filepath.Join(cache, "building-*"))
	if err != nil || len(leftovers) != 0 {
		t.Errorf("left over: %q, %v", leftovers, err)
	}
}

func TestOtherSourcesAreAnotherBinary(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	first, err := tiny().BuildCached(t.Context(), tinySource(t, ""), cache, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	second, err := tiny().BuildCached(t.Context(), tinySource(t, "println()"), cache, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Errorf("both are %q", first)
	}
}

func TestFailedBuildSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	_, err := tiny().BuildCached(t.Context(), tinySource(t, "undefined()"), cache, t.Logf)
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("got %v, want the compiler's words", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("left over: %q, %v; want the lock only", left, err)
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, "it", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := func(string, ...any) { cancel() } // told that it has to wait
	if _, err := lock(ctx, path, "it", waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v, want it cancelled", err)
	}
	unlock()
	again, err := lock(t.Context(), path, "it", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
