//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock that one process can have. It ends with the process,
// however that ends, so that a lock file left behind blocks nobody.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close() // the lock's error is the one that counts
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another process has it open (lock %q); stop that process, or give this one a file of its own", path)
	}
	return nil, fmt.Errorf("locking %q: %w", path, err)
}
