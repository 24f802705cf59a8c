package postgres

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

// stopGrace is what the server has to end in by itself. Its data is thrown away,
// or recovered, so nothing is lost when it is killed then.
const stopGrace = 10 * time.Second

// A process is a running server whose output goes to a file.
type process struct {
	log   string
	child *os.Process
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; valid once done is closed
}

func startProcess(bin, log, dir string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...) //nolint:noctx // stop ends it
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, dir
	if cmd.SysProcAttr, err = childAttributes(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	p := &process{log: log, done: make(chan struct{})}
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
	return p, <-started
}

// stop ends the server without writing a checkpoint, and returns when it has ended.
func (p *process) stop() {
	if p.child == nil {
		return
	}
	// The only error is that it has ended already.
	_ = p.child.Signal(syscall.SIGQUIT)
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.child.Kill()
		<-p.done
	}
}

// failure says how a process that should still run ended, with what it wrote. It
// may be called once done is closed.
func (p *process) failure() error {
	err := p.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	const most = 2000
	text, readErr := os.ReadFile(p.log)
	if readErr != nil {
		text = []byte(readErr.Error())
	}
	text = bytes.TrimSpace(text)
	return fmt.Errorf("postgres ended: %w\n%s", err, text[max(0, len(text)-most):])
}
