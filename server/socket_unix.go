//go:build unix

package server

import "syscall"

// privateSocket gives the socket its mode before it has a name, where the system
// can: there is no moment in which others could connect.
func privateSocket(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }) // its path is given the mode too
}
