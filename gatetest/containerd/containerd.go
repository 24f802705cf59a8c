// Package containerd starts real containerds for tests, as child processes in temporary
// folders; none that is installed or running is touched. It needs root, as containerd does.
//
//	c := containerd.Start(t, containerd.Options{Verifiers: dir})
//	out, err := c.Pull(t.Context(), "127.0.0.1:5000/web:1")
package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
	"github.com/gatehouse-dev/gatehouse/gatetest/internal/nested"
)

const (
	// startBound ends a start that does not succeed. An idle machine needs a second.
	startBound = time.Minute
	pollEvery  = 20 * time.Millisecond
	stopGrace  = 10 * time.Second
)

// Options configure a Daemon.
type Options struct {
	// Verifiers is the folder of its image verifiers.
	Verifiers string
	// Env is added to the environment of the daemon and of its verifiers.
	Env []string
}

// A Daemon is a running containerd. It pulls and keeps images; containers it runs none.
type Daemon struct {
	program, socket string
	child           *child.Process
}

// Build returns the path of the program, which is containerd and ctr, and builds it if the
// user's cache does not hold it.
func Build(ctx context.Context, logf func(format string, args ...any)) (string, error) {
	return nested.Module{
		Name: "containerd", Title: "containerd", Cost: "a minute", Links: []string{"ctr"},
		Tags: []string{"no_btrfs", "no_cri", "no_zfs", "no_devmapper"},
	}.Build(ctx, logf)
}

// Start starts a daemon for a test and stops it when the test ends.
func Start(t testing.TB, opts Options) *Daemon {
	t.Helper()
	program, err := Build(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	// A path of a socket has 108 bytes, and those of tests may be longer.
	dir, err := os.MkdirTemp("", "containerd-")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{program: program, socket: filepath.Join(dir, "sock")}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `version = 3
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.image-verifier.v1.bindir"]
  bin_dir = %q
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/%s"
  snapshotter = "native"
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.socket, opts.Verifiers, runtime.GOARCH), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--config", config) // it is stopped below
	cmd.Env = append(os.Environ(), opts.Env...)
	log := filepath.Join(dir, "log")
	if d.child, err = child.Start("containerd", log, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.child.Stop(syscall.SIGTERM, stopGrace)
		if t.Failed() {
			if text, err := os.ReadFile(log); err == nil {
				t.Logf("containerd said:\n%s", text)
			}
		}
		_ = os.RemoveAll(dir)
	})
	d.wait(t)
	return d
}

// wait returns when the daemon takes connections.
func (d *Daemon) wait(t testing.TB) {
	t.Helper()
	late := time.After(startBound)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "unix", d.socket); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-d.child.Done():
			t.Fatal("containerd ended instead of starting")
		case <-late:
			t.Fatalf("containerd does not listen after %v", startBound)
		}
	}
}

// Pull pulls an image of a registry without TLS, as a node does, and returns what was
// said about it.
func (d *Daemon) Pull(ctx context.Context, ref string) (said string, err error) {
	cmd := exec.CommandContext(ctx, d.program, "ctr", "--address", d.socket, "--namespace", "k8s.io",
		"images", "pull", "--plain-http", "--snapshotter", "native", ref)
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// A Judgement is what the verifiers of a folder say of an image, put together.
type Judgement struct {
	OK     bool
	Reason string
}

// Verify runs the verifiers of a folder by containerd's code, without a daemon.
func Verify(ctx context.Context, program, folder, name, digest string, env ...string) (Judgement, error) {
	cmd := exec.CommandContext(ctx, program, "verify", folder, name, digest)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Judgement{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var j Judgement
	return j, json.Unmarshal(out, &j)
}
