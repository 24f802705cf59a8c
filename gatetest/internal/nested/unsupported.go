//go:build !unix

package nested

import (
	"context"
	"errors"
)

func lock(context.Context, string, string, func(string, ...any)) (func(), error) {
	return nil, errors.New("programs for tests are built on Unix systems only")
}
