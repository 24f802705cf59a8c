//go:build !linux && !darwin

package server

import "errors"

func diskRoom(string) (free, size uint64, err error) {
	return 0, 0, errors.New("not known on this system")
}
