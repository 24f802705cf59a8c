package controlplane

import "syscall"

// childAttributes make the kernel kill a child when its parent dies, and keep
// a Ctrl-C in the terminal for the parent, which stops its children in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
