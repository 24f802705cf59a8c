//go:build darwin || linux

package doctor

import "golang.org/x/sys/unix"

// room returns how much of the disk that a folder is on is free for us, and its size.
func room(dir string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize) //nolint:gosec // it is positive
	return s.Bavail * block, s.Blocks * block, nil
}
