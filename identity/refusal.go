package identity

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A refusal is an error with what an HTTP answer says of it in its header.
type refusal struct {
	error
	header http.Header
}

// Unwrap returns the error, which has a kind.
func (r *refusal) Unwrap() error { return r.error }

// SetHeader adds what an HTTP answer should say.
func (r *refusal) SetHeader(h http.Header) {
	for name, values := range r.header {
		h[name] = values
	}
}

// exhausted refuses for a while.
func exhausted(wait time.Duration, format string, args ...any) error {
	seconds := int64((wait + time.Second - 1) / time.Second)
	err := metadata.Errorf(metadata.ResourceExhausted, "%s: try again in %d s", fmt.Sprintf(format, args...), seconds)
	return &refusal{err, http.Header{"Retry-After": {strconv.FormatInt(seconds, 10)}}}
}

// unauthenticated refuses credentials that are wrong, or missing.
func (i *Identity) unauthenticated(err error) error {
	err = metadata.Errorf(metadata.Unauthenticated, "cannot tell who is calling: %w", err)
	return &refusal{err, http.Header{"Www-Authenticate": i.challenge}}
}
