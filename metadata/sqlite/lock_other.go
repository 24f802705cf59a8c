//go:build !unix

package sqlite

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two processes could write one file.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("this operating system has no file locks that Gatehouse knows; use Linux, macOS or a BSD")
}
