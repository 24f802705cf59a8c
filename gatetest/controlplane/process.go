package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopGrace is what a program has to end in by itself. Its state is thrown
// away, so nothing is lost when it is killed then.
const stopGrace = 5 * time.Second

// A process is a running program whose output goes to a file.
type process struct {
	name  string
	log   string
	child *os.Process
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; valid once done is closed
}

// startProcess starts bin as the program that name says, with its output in log.
func startProcess(bin, name, log string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	cmd := exec.Command(bin, append([]string{name}, args...)...) //nolint:noctx // stop ends it, SIGTERM first
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	p := &process{name: name, log: log, done: make(chan struct{})}
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

// stop asks the process to end, kills it if it does not in time, and returns when it
// has ended.
func (p *process) stop(grace time.Duration) {
	// The only error is that it has ended already.
	_ = p.child.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.child.Kill()
		<-p.done
	}
}

// failure says how a process that should still run ended, with the end of what
// it wrote. It may be called once done is closed.
func (p *process) failure() error {
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
