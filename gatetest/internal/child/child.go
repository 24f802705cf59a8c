// Package child runs the programs that test kits start. They write to a file, end
// when the test process does, and are asked to end before they are killed.
package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// A Process is a running program whose output goes to a file.
type Process struct {
	name  string
	log   string
	child *os.Process
	done  chan struct{}
	err   error // how it ended; valid once done is closed
}

// Start starts a command as the program of that name, with its output in the file
// log. The command has neither output nor context of its own.
func Start(name, log string, cmd *exec.Cmd) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	p := &Process{name: name, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent death signal is sent when the thread that started the
		// child ends, so that thread must stay until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = out.Close() }()
		err := cmd.Start()
		p.child = cmd.Process
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the process to end by a signal, kills it if it does not in time, and
// returns when it has ended.
func (p *Process) Stop(ask os.Signal, grace time.Duration) {
	// The only error is that it has ended already.
	_ = p.child.Signal(ask)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.child.Kill()
		<-p.done
	}
}

// Failure says how a process that should still run ended, with the end of what
// it wrote. It may be called once Done is closed.
func (p *Process) Failure() error {
	err := p.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w; the end of %s:\n%s", p.name, err, p.log, logTail(p.log))
}

// logTail returns the last lines of a log.
func logTail(path string) []byte {
	const lines, most = 12, 16 << 10
	file, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return []byte(err.Error())
	}
	tail := make([]byte, min(info.Size(), most))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return []byte(err.Error())
	}
	tail = bytes.TrimSpace(tail)
	start := len(tail)
	for range lines {
		start = bytes.LastIndexByte(tail[:start], '\n')
		if start < 0 {
			return tail
		}
	}
	return tail[start+1:]
}
