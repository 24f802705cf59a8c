//go:build !linux

package clients

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
