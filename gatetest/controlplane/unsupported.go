//go:build !unix

package controlplane

import "errors"

var errNotUnix = errors.New("a control plane can be started on Unix systems only")

func reservePort() (int, func(), error) { return 0, nil, errNotUnix }
