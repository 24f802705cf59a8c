package child

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Attributes make the kernel send the child a signal when its parent dies, and keep
// a Ctrl-C in the terminal for the parent, which stops its children in order.
func Attributes(atDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: atDeath, Setpgid: true}
}

// KillTree kills the process and its children, whose ids are read while it is
// halted, so that it makes no new ones. The children would end by themselves,
// though not before they have finished what they do.
func (p *Process) KillTree() error {
	if err := p.child.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pid := p.child.Pid
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, field := range strings.Fields(string(list)) {
		child, convErr := strconv.Atoi(field)
		if convErr != nil {
			err = errors.Join(err, convErr)
			continue
		}
		// The only error is that it has ended already; its id is not given to
		// another process before its halted parent has taken note.
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	err = errors.Join(err, p.child.Kill())
	<-p.done
	return err
}
