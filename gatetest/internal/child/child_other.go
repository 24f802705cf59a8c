//go:build !linux

package child

import "syscall"

// Attributes are none: children get the terminal's Ctrl-C with their parent.
func Attributes(syscall.Signal) *syscall.SysProcAttr { return nil }

// KillTree kills the process; its children end when they notice.
func (p *Process) KillTree() error {
	err := p.child.Kill()
	<-p.done
	return err
}
