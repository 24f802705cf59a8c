package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gatehouse-dev/gatehouse/image"
)

// What can be wrong with an answer. Errors of a [Resolver] wrap these.
var (
	ErrNotFound     = errors.New("not found in the registry")
	ErrUnauthorized = errors.New("the registry refused access")
	ErrTooLarge     = errors.New("the registry's answer is too large")
	ErrMismatch     = errors.New("content does not have the digest it was asked for by")
	ErrNoPlatform   = errors.New("no image for the platform")
	ErrNotAnImage   = errors.New("not a container image")
	ErrEndless      = errors.New("the registry redirects without end")
	ErrInsecure     = errors.New("plain HTTP is used on loopback addresses only; serve the registry over HTTPS")
)

// refused reports whether the registry gave a final answer, so that asking
// again in another way is pointless.
func refused(err error) bool {
	var te *transport.Error
	if !errors.As(err, &te) {
		return errors.Is(err, ErrInsecure) || errors.Is(err, ErrEndless) || errors.Is(err, ErrForeignRealm)
	}
	return te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden
}

// explain says what was being done to which image, what the registry answered,
// and what to do about it.
func explain(doing string, ref image.Reference, err error) error {
	fail := func(kind error, hint string) error {
		if err == nil {
			return fmt.Errorf("%s %q: %w%s", doing, ref, kind, hint)
		}
		return fmt.Errorf("%s %q: %w%s (%s)", doing, ref, kind, hint, brief(err))
	}
	var te *transport.Error
	var lookup *lookupError
	switch {
	case errors.As(err, &lookup):
		return fmt.Errorf("%s %q: %w", doing, ref, lookup)
	case errors.Is(err, ErrForeignRealm):
		return fail(ErrForeignRealm, "")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %q: registry %s did not answer in time: %w", doing, ref, ref.Registry(), context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s %q: %w", doing, ref, context.Canceled)
	case errors.Is(err, ErrEndless):
		return fail(ErrEndless, fmt.Sprintf("; this is a fault of registry %s", ref.Registry()))
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrInsecure):
		return fmt.Errorf("%s %q: %w", doing, ref, err)
	case errors.As(err, &te):
		switch te.StatusCode {
		case http.StatusNotFound:
			return fail(ErrNotFound, "; check that it was pushed and not deleted")
		case http.StatusUnauthorized, http.StatusForbidden:
			return fail(ErrUnauthorized, fmt.Sprintf("; run \"docker login %s\" as the user Gatehouse runs as, or give that account the right to pull", ref.Registry()))
		case http.StatusTooManyRequests:
			return fmt.Errorf("%s %q: registry %s limits the rate of requests; log in or try later: %s", doing, ref, ref.Registry(), brief(err))
		}
	case strings.Contains(err.Error(), "does not match requested digest"),
		strings.Contains(err.Error(), "error verifying"):
		return fail(ErrMismatch, "")
	}
	return fmt.Errorf("%s %q: %w", doing, ref, &registryError{cause: err})
}

// registryError keeps the cause for errors.Is and shortens what it says: its
// text is partly what the registry chose to answer.
type registryError struct{ cause error }

func (e *registryError) Error() string { return brief(e.cause) }
func (e *registryError) Unwrap() error { return e.cause }

// brief is the first part of an error's text on one line.
func brief(err error) string {
	const most = 300
	s := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	// What follows is what a token service answered, and it may be half a secret.
	s, _, _ = strings.Cut(s, " in bearer response:")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
