//go:build !linux

package postgres

import "syscall"

// childAttributes are none: the server gets the terminal's Ctrl-C with its parent,
// and root cannot start one.
func childAttributes() (*syscall.SysProcAttr, error) { return nil, nil }

func giveAway(string) error { return nil }

// killTree kills the server; its children end when they notice.
func (p *process) killTree() error {
	err := p.child.Kill()
	<-p.done
	return err
}
