package metadata

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
)

// A Kind says what sort of failure an error is. The zero Kind is Internal.
type Kind int

// The kinds of error, in the words of gRPC.
const (
	Internal Kind = iota
	InvalidArgument
	NotFound
	AlreadyExists
	FailedPrecondition
	Aborted
	OutOfRange
	PermissionDenied
	Unauthenticated
	ResourceExhausted
	Unimplemented
	Unavailable
	Canceled
	DeadlineExceeded
)

// statusClientClosed is what proxies log when a client went away; nobody is left
// to read it.
const statusClientClosed = 499

// kinds is the one table from kinds to what goes over the wire.
var kinds = [...]struct {
	name string
	code codes.Code
	http int
}{
	Internal:           {"INTERNAL", codes.Internal, http.StatusInternalServerError},
	InvalidArgument:    {"INVALID_ARGUMENT", codes.InvalidArgument, http.StatusBadRequest},
	NotFound:           {"NOT_FOUND", codes.NotFound, http.StatusNotFound},
	AlreadyExists:      {"ALREADY_EXISTS", codes.AlreadyExists, http.StatusConflict},
	FailedPrecondition: {"FAILED_PRECONDITION", codes.FailedPrecondition, http.StatusBadRequest},
	Aborted:            {"ABORTED", codes.Aborted, http.StatusConflict},
	OutOfRange:         {"OUT_OF_RANGE", codes.OutOfRange, http.StatusBadRequest},
	PermissionDenied:   {"PERMISSION_DENIED", codes.PermissionDenied, http.StatusForbidden},
	Unauthenticated:    {"UNAUTHENTICATED", codes.Unauthenticated, http.StatusUnauthorized},
	ResourceExhausted:  {"RESOURCE_EXHAUSTED", codes.ResourceExhausted, http.StatusTooManyRequests},
	Unimplemented:      {"UNIMPLEMENTED", codes.Unimplemented, http.StatusNotImplemented},
	Unavailable:        {"UNAVAILABLE", codes.Unavailable, http.StatusServiceUnavailable},
	Canceled:           {"CANCELLED", codes.Canceled, statusClientClosed},
	DeadlineExceeded:   {"DEADLINE_EXCEEDED", codes.DeadlineExceeded, http.StatusGatewayTimeout},
}

// known returns k, or Internal if there is no such kind.
func (k Kind) known() Kind {
	if k < 0 || int(k) >= len(kinds) {
		return Internal
	}
	return k
}

// String returns the canonical name, such as "NOT_FOUND".
func (k Kind) String() string { return kinds[k.known()].name }

// Code returns the gRPC code.
func (k Kind) Code() codes.Code { return kinds[k.known()].code }

// HTTPStatus returns the HTTP status.
func (k Kind) HTTPStatus() int { return kinds[k.known()].http }

// KindOfCode returns the kind of a gRPC code, Internal if it has none here.
func KindOfCode(code codes.Code) Kind {
	for k := range kinds {
		if kinds[k].code == code {
			return Kind(k)
		}
	}
	return Internal
}

// An Error is a failure of a known kind, with a text for the caller.
type Error struct {
	Kind Kind
	err  error
}

// Errorf returns an Error of the kind; the format is that of [fmt.Errorf], %w
// included.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, err: fmt.Errorf(format, args...)}
}

// Error returns the text.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns what the error wraps, if anything.
func (e *Error) Unwrap() error { return errors.Unwrap(e.err) }

// KindOf returns the kind of err: that of the outermost [Error] in its chain,
// else that of a context error, else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	}
	return Internal
}

// ErrCompacted is returned by Changes when changes after the asked number have
// been dropped. The follower reads a snapshot and goes on from there.
var ErrCompacted = Errorf(OutOfRange, "reading changes: those asked for were dropped; read a snapshot and follow on from it")

// ErrClosed is returned by a store after Close.
var ErrClosed = Errorf(Unavailable, "the metadata store is closed")
