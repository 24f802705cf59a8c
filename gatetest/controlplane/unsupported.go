//go:build !unix

package controlplane

import (
	"context"
	"errors"
)

var errNotUnix = errors.New("a control plane can be started on Unix systems only")

func lock(context.Context, string, func(string, ...any)) (func(), error) { return nil, errNotUnix }

func reservePort() (int, func(), error) { return 0, nil, errNotUnix }
