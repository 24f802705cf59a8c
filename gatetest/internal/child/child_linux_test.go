package child

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperVariable makes the test binary act as another program.
const helperVariable = "GATEHOUSE_CHILD_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperVariable) {
	case "":
		os.Exit(m.Run())
	case "parent":
		os.Exit(parent(os.Args[1]))
	case "child":
		os.Exit(grandchild(os.Args[1]))
	}
}

// start starts a program with one argument.
func start(bin, argument, log string) (*Process, error) {
	cmd := exec.Command(bin, argument)
	cmd.SysProcAttr = Attributes(syscall.SIGKILL)
	return Start(argument, log, cmd)
}

// parent starts a child as test kits do, and then does nothing.
func parent(fifo string) int {
	if err := os.Setenv(helperVariable, "child"); err != nil {
		return 1
	}
	if _, err := start(os.Args[0], fifo, fifo+".log"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// grandchild is started with the fifo as its first argument, writes a line to it,
// and stays, holding it open, however politely it is asked to end; though not
// for ever, should the test fail to kill it.
func grandchild(fifo string) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	out, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = fmt.Fprintln(out, "here")
	<-time.After(time.Minute)
	return 0
}

// newFIFO makes a pipe in the file system: who reads it sees its end when the
// last writer is dead.
func newFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readFIFO opens the pipe and waits for the child's line.
func readFIFO(t *testing.T, path string) *bufio.Reader {
	t.Helper()
	pipe, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	reader := bufio.NewReader(pipe)
	if line, err := reader.ReadString('\n'); err != nil || line != "here\n" {
		t.Fatalf("the child wrote %q, %v", line, err)
	}
	return reader
}

func TestChildrenDieWithTheirParent(t *testing.T) {
	t.Parallel()
	fifo := newFIFO(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], fifo)
	cmd.Env = append(os.Environ(), helperVariable+"=parent")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	pipe := readFIFO(t, fifo)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The pipe ends when the child is dead, and the test hangs if it lives on.
	if rest, err := io.ReadAll(pipe); err != nil || len(rest) != 0 {
		t.Errorf("after its parent's death the child wrote %q, %v", rest, err)
	}
	_ = cmd.Wait()
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	fifo := newFIFO(t)
	bin := filepath.Join(t.TempDir(), "child")
	script := fmt.Sprintf("#!/bin/sh\n%s=child exec %q %q\n", helperVariable, os.Args[0], fifo)
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := start(bin, "stubborn", filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	readFIFO(t, fifo)
	p.Stop(syscall.SIGTERM, 10*time.Millisecond)
	select {
	case <-p.done:
	default:
		t.Fatal("stop returned before the process ended")
	}
	if p.err == nil || !strings.Contains(p.err.Error(), "killed") {
		t.Errorf("the process ended with %v, want it killed", p.err)
	}
}
