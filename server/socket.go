package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	unixScheme = "unix://"
	// maxSocketPath is the least that systems take: macOS has 104 with the end.
	maxSocketPath = 103
)

// unixPath returns the path of an address "unix:///path".
func unixPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, unixScheme) }

func checkUnixPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("want unix:// and a clean absolute path, such as unix:///run/gatehouse/metadata.sock, not %q", path)
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("path %q is longer than the %d bytes that a socket's may have", path, maxSocketPath)
	}
	return nil
}

// listenUnix binds a socket that only this user can connect to.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{Control: privateSocket}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// removeStale removes the socket that a server left which was killed. One that
// somebody listens at, and what is no socket, stays.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%q is there and is no socket: move it away, or choose another path", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("somebody listens at %q already", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("finding out whether somebody listens at %q: %w", path, err)
	}
	return os.Remove(path)
}
