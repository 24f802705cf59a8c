package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	modulePath = "github.com/gatehouse-dev/gatehouse"
	binaryName = "kube"

	// progressEvery is how often a build that is under way says so.
	progressEvery = 10 * time.Second
	// lockEvery is how often a waiting build asks whether the lock is free.
	lockEvery = 200 * time.Millisecond
	// interruptGrace is what an interrupted build has to end in.
	interruptGrace = 10 * time.Second
)

// programs are the links beside the binary, for tools that look for the
// programs by name, such as envtest or a shell.
var programs = [...]string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}

// Build returns the path of the binary that acts as etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl, depending on its first
// argument; links of these names are beside it. When the user's cache directory
// holds none that was built from these sources by this version of Go, Build
// builds it, which takes minutes, and reports progress to logf, which may be
// nil. Concurrent calls, in this process and in others, build once.
func Build(ctx context.Context, logf func(format string, args ...any)) (bin string, err error) {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	source, err := sourceDir(ctx)
	if err != nil {
		return "", fmt.Errorf("building the Kubernetes test binary: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("building the Kubernetes test binary: finding the cache directory (set XDG_CACHE_HOME or HOME): %w", err)
	}
	bin, err = buildCached(ctx, source, filepath.Join(cache, "gatehouse"), logf)
	if err != nil {
		return "", fmt.Errorf("building the Kubernetes test binary from %q: %w", source, err)
	}
	return bin, nil
}

// buildCached is [Build] from source into a folder of cache.
func buildCached(ctx context.Context, source, cache string, logf func(string, ...any)) (string, error) {
	key, err := cacheKey(ctx, source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "kube-"+key)
	bin := filepath.Join(dir, binaryName)
	if isExecutable(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, dir+".lock", logf)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isExecutable(bin) { // another process built it while this one waited
		return bin, nil
	}
	fresh, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	if err := compile(ctx, source, filepath.Join(fresh, binaryName), logf); err != nil {
		return "", err
	}
	for _, name := range programs {
		if err := os.Symlink(binaryName, filepath.Join(fresh, name)); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return "", err
	}
	// What a broken earlier build may have left cannot be renamed over.
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", err
	}
	return bin, nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// sourceDir finds the folder test/kube of this module: beside this source file,
// or, in a build with -trimpath, where the go command says that the module is.
func sourceDir(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		dir := filepath.Join(filepath.Dir(file), "..", "..", "test", "kube")
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	out, err := goCommand(ctx, ".", "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return "", fmt.Errorf("finding module %q: %w", modulePath, err)
	}
	dir := filepath.Join(out, "test", "kube")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("module %q at %q has no folder test/kube; a downloaded module lacks it, so use a checkout, or build test/kube and set Options.Binary: %w", modulePath, out, err)
	}
	return dir, nil
}

// cacheKey names everything that the binary is built from.
func cacheKey(ctx context.Context, source string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(hash, "%s %d\n", name, len(content))
		_, _ = hash.Write(content)
	}
	toolchain, err := goCommand(ctx, source, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	_, _ = io.WriteString(hash, toolchain)
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// goCommand runs the go command in dir and returns what it printed.
func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// compile builds the module in source to out and reports progress.
func compile(ctx context.Context, source, out string, logf func(string, ...any)) error {
	flags, err := versionFlags(source)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-o", out, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptGrace
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	logf("building the Kubernetes test binary (6 minutes on two idle cores when nothing is cached, seconds otherwise)")
	if err := cmd.Start(); err != nil {
		return err
	}
	last := reportBuild(stderr, logf)
	if err := cmd.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(err, cause)
		}
		return fmt.Errorf("go build: %w\n%s", err, strings.Join(last, "\n"))
	}
	logf("the Kubernetes test binary is built")
	return nil
}

// reportBuild reads what go build -v prints, a line for each package, until it
// ends. It sums that up in a line now and then, and returns the last lines.
func reportBuild(stderr io.Reader, logf func(string, ...any)) []string {
	const keep = 20
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(stderr)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		// A line beyond the scanner's limit must not block the compiler.
		_, _ = io.Copy(io.Discard, stderr)
	}()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	start, packages := time.Now(), 0
	var last []string
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return last
			}
			if !strings.Contains(line, " ") {
				packages++
			}
			last = append(last, line)
			if len(last) > keep {
				last = slices.Delete(last, 0, 1)
			}
		case <-ticker.C:
			logf("still building the Kubernetes test binary: %d packages compiled in %v", packages, time.Since(start).Round(time.Second))
		}
	}
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// versionFlags stamps the version that go.mod names: without it the programs
// call themselves v0.0.0-master.
func versionFlags(source string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	match := kubernetesVersion.FindSubmatch(mod)
	if match == nil {
		return "", fmt.Errorf("%q does not require k8s.io/kubernetes", filepath.Join(source, "go.mod"))
	}
	flags := []string{"-s", "-w"}
	for _, stamp := range [][2]string{
		{"gitVersion", string(match[1])},
		{"gitMajor", string(match[2])},
		{"gitMinor", string(match[3])},
		{"gitTreeState", "clean"},
		{"gitCommit", strings.Repeat("0", 40)},
		{"buildDate", "1970-01-01T00:00:00Z"},
	} {
		flags = append(flags, "-X", "k8s.io/component-base/version."+stamp[0]+"="+stamp[1])
	}
	return strings.Join(flags, " "), nil
}
