//go:build linux || darwin

package server

import "golang.org/x/sys/unix"

// diskRoom returns the bytes that are free for this user where path is, and the size of
// the file system there.
func diskRoom(path string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)                                       //nolint:gosec // never negative
	return uint64(s.Bavail) * block, uint64(s.Blocks) * block, nil //nolint:gosec,unconvert // as above
}
