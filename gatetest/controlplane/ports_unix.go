//go:build unix

package controlplane

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// reservePort binds a free loopback port without listening on it. While the
// reservation is held, the kernel gives the port to nobody who has not asked
// for it with SO_REUSEPORT under the same user, which is what the child
// processes do; and since only they listen, only they get connections.
func reservePort() (port int, release func(), err error) {
	fd, err := inheritedByNone()
	if err != nil {
		return 0, nil, fmt.Errorf("reserving a loopback port: %w", err)
	}
	port, err = bindFreePort(fd)
	if err != nil {
		_ = unix.Close(fd)
		return 0, nil, fmt.Errorf("reserving a loopback port: %w", err)
	}
	return port, func() { _ = unix.Close(fd) }, nil
}

// inheritedByNone opens a TCP socket that child processes do not get.
func inheritedByNone() (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

func bindFreePort(fd int) (port int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	address, ok := bound.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("bound to a %T", bound)
	}
	return address.Port, nil
}
