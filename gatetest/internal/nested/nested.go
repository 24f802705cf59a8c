// Package nested builds programs for tests from modules of their own (test/NAME), whose
// hundreds of dependencies the product's module never meets, and keeps them in the user's
// cache.
package nested

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
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	modulePath = "github.com/gatehouse-dev/gatehouse"

	// progressEvery is how often a build that is under way says so.
	progressEvery = 10 * time.Second
	// lockEvery is how often a waiting build asks whether the lock is free.
	lockEvery = 200 * time.Millisecond
	// interruptGrace is what an interrupted build has to end in.
	interruptGrace = 10 * time.Second
)

// A Module is a nested module that has one program, in its root.
type Module struct {
	// Name is that of the folder below test/, and of the program.
	Name string
	// Title is what people are told is built, and Cost how long that takes.
	Title, Cost string
	// Links are names that the program goes by too.
	Links []string
	// Flags returns linker flags, given the module's folder; nil is "-s -w".
	Flags func(source string) (string, error)
	// Tags are build tags.
	Tags []string
}

// Build returns the path of the program; its links are beside it. When the user's cache
// directory holds none that was built from these sources by this version of Go, Build
// builds it, and reports progress to logf, which may be nil. Concurrent calls, in this
// process and in others, build once.
func (m Module) Build(ctx context.Context, logf func(format string, args ...any)) (bin string, err error) {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	source, err := m.sourceDir(ctx)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", m.Title, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("building %s: finding the cache directory (set XDG_CACHE_HOME or HOME): %w", m.Title, err)
	}
	bin, err = m.BuildCached(ctx, source, filepath.Join(cache, "gatehouse"), logf)
	if err != nil {
		return "", fmt.Errorf("building %s from %q: %w", m.Title, source, err)
	}
	return bin, nil
}

// BuildCached is [Module.Build] from source into a folder of cache.
func (m Module) BuildCached(ctx context.Context, source, cache string, logf func(string, ...any)) (string, error) {
	key, err := m.cacheKey(ctx, source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, m.Name+"-"+key)
	bin := filepath.Join(dir, m.Name)
	if isExecutable(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, dir+".lock", m.Title, logf)
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
	if err := m.compile(ctx, source, filepath.Join(fresh, m.Name), logf); err != nil {
		return "", err
	}
	for _, name := range m.Links {
		if err := os.Symlink(m.Name, filepath.Join(fresh, name)); err != nil {
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

// sourceDir finds the module below test/: beside this source file,
// or, in a build with -trimpath, where the go command says that the module is.
func (m Module) sourceDir(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		dir := filepath.Join(filepath.Dir(file), "..", "..", "..", "test", m.Name)
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	out, err := goCommand(ctx, ".", "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return "", fmt.Errorf("finding module %q: %w", modulePath, err)
	}
	dir := filepath.Join(out, "test", m.Name)
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("module %q at %q has no folder test/%s; a downloaded module lacks it, so use a checkout: %w", modulePath, out, m.Name, err)
	}
	return dir, nil
}

// cacheKey names everything that the binary is built from.
func (m Module) cacheKey(ctx context.Context, source string) (string, error) {
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
	_, _ = io.WriteString(hash, toolchain+strings.Join(m.Tags, ","))
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
func (m Module) compile(ctx context.Context, source, out string, logf func(string, ...any)) error {
	flags := "-s -w"
	if m.Flags != nil {
		var err error
		if flags, err = m.Flags(source); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-tags="+strings.Join(m.Tags, ","), "-o", out, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptGrace
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	logf("building %s (%s when nothing is cached, seconds otherwise)", m.Title, m.Cost)
	if err := cmd.Start(); err != nil {
		return err
	}
	last := m.reportBuild(stderr, logf)
	if err := cmd.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(err, cause)
		}
		return fmt.Errorf("go build: %w\n%s", err, strings.Join(last, "\n"))
	}
	logf("%s is built", m.Title)
	return nil
}

// reportBuild reads what go build -v prints, a line for each package, until it
// ends. It sums that up in a line now and then, and returns the last lines.
func (m Module) reportBuild(stderr io.Reader, logf func(string, ...any)) []string {
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
			logf("still building %s: %d packages compiled in %v", m.Title, packages, time.Since(start).Round(time.Second))
		}
	}
}
