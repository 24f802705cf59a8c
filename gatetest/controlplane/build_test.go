package controlplane

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// tinySource is a module that builds at once and passes for the real one.
func tinySource(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		// What is required is stamped; replaced, so that nothing is fetched.
		"go.mod":      "module tiny\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\n\nreplace k8s.io/kubernetes => ./none\n",
		"go.sum":      "",
		"none/go.mod": "module k8s.io/kubernetes\n",
		"main.go":     "package main\n\nfunc main() {" + body + "}\n",
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
			bin, err := buildCached(t.Context(), source, cache, logf)
			if err != nil {
				t.Error(err)
			} else if !isExecutable(bin) || !isExecutable(filepath.Join(filepath.Dir(bin), "kubectl")) {
				t.Errorf("%q or the link beside it is no program", bin)
			}
		})
	}
	wg.Wait()
	if n := lines["the Kubernetes test binary is built"]; n != 1 {
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
	first, err := buildCached(t.Context(), tinySource(t, ""), cache, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	second, err := buildCached(t.Context(), tinySource(t, "println()"), cache, t.Logf)
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
	_, err := buildCached(t.Context(), tinySource(t, "undefined()"), cache, t.Logf)
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
	unlock, err := lock(t.Context(), path, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := func(string, ...any) { cancel() } // told that it has to wait
	if _, err := lock(ctx, path, waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v, want it cancelled", err)
	}
	unlock()
	again, err := lock(t.Context(), path, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestVersionIsStamped(t *testing.T) {
	t.Parallel()
	flags, err := versionFlags(tinySource(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version.gitVersion=v1.37.2", "version.gitMajor=1", "version.gitMinor=37"} {
		if !strings.Contains(flags, want) {
			t.Errorf("flags %q lack %q", flags, want)
		}
	}
	if _, err := versionFlags(t.TempDir()); err == nil {
		t.Error("a folder without go.mod has a version")
	}
}

func TestReservedPortIsKeptFromOthers(t *testing.T) {
	t.Parallel()
	port, release, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if listener, err := net.Listen("tcp", address); err == nil {
		_ = listener.Close()
		t.Errorf("somebody else could listen at %s", address)
	}
	other, releaseOther, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer releaseOther()
	if other == port {
		t.Errorf("port %d was reserved twice", port)
	}
}
