//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package ownca

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockEvery is how often it is asked whether a lock is free.
const lockEvery = 5 * time.Millisecond

// lock takes the lock at path, waiting for whoever holds it. The kernel gives it back
// when a process dies.
func lock(path string, wait time.Duration) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick, late := time.NewTicker(lockEvery), time.After(wait)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // which gives it back
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-late:
			_ = file.Close()
			return nil, errBusy
		}
	}
}
