//go:build !linux

package controlplane

import "syscall"

// childAttributes are none: children get the terminal's Ctrl-C with their parent.
func childAttributes() *syscall.SysProcAttr { return nil }
