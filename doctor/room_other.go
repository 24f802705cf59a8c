//go:build !(darwin || linux)

package doctor

import "errors"

func room(string) (free, size uint64, err error) {
	return 0, 0, errors.New("it cannot be asked for on this system")
}
