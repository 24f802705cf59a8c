package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Bounds of trying again: about two minutes in all.
const (
	maxTries     = 9
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// DefaultTimeout bounds one call: the reference server takes seconds for a page
// of a large store.
const DefaultTimeout = time.Minute

// A caller makes calls, each within a time, again if the server is busy.
type caller struct {
	timeout time.Duration
	// sleep waits, less if ctx is done.
	sleep func(ctx context.Context, d time.Duration) error
}

func newCaller(timeout time.Duration, sleep func(context.Context, time.Duration) error) caller {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if sleep == nil {
		sleep = wait
	}
	return caller{timeout, sleep}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// once makes one call. It is finished even if ctx is done meanwhile, so that
// nothing is left in doubt.
func (c caller) once(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	return f(ctx)
}

// call makes a call that may be made twice, again as long as the server is busy or
// cannot be reached.
func (c caller) call(ctx context.Context, f func(context.Context) error) error {
	var err error
	for try := range maxTries {
		if try > 0 {
			if stop := c.sleep(ctx, backoff(try, err)); stop != nil {
				return stop
			}
		}
		if err = c.once(ctx, f); !busy(err) {
			return err
		}
	}
	return err
}

// backoff is how long to wait before a try, longer if the server says so.
func backoff(try int, err error) time.Duration {
	d := min(firstBackoff<<(try-1), maxBackoff)
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			d = max(d, min(info.GetRetryDelay().AsDuration(), 2*maxBackoff))
		}
	}
	return d
}

// codeOf is the code with which a server has answered, OK for an error that is not
// a server's.
func codeOf(err error) codes.Code {
	if s, answered := status.FromError(err); answered {
		return s.Code()
	}
	return codes.OK
}

// busy reports whether the same call may succeed later.
func busy(err error) bool {
	switch codeOf(err) {
	case codes.Unavailable, codes.Aborted:
		return true
	case codes.ResourceExhausted:
		return !tooLarge(err)
	}
	return false
}

// tooLarge tells a message that is too large from too many calls, which have the
// same code. The texts are those of gRPC for Go and for Java.
func tooLarge(err error) bool {
	s := status.Convert(err)
	return s.Code() == codes.ResourceExhausted &&
		(strings.Contains(s.Message(), "larger than max") || strings.Contains(s.Message(), "exceeds maximum size"))
}

// doubtful reports whether a call that failed may have had its effect.
func doubtful(err error) bool {
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.DataLoss, codes.Aborted:
		return true
	}
	return false
}

// explain says what was being done when a call failed, in plain words.
func explain(err error, format string, args ...any) error {
	doing := fmt.Sprintf(format, args...)
	var own *metadata.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own), codeOf(err) == codes.OK:
		return fmt.Errorf("%s: %w", doing, err)
	}
	kind := metadata.KindOfCode(codeOf(err))
	return metadata.Errorf(kind, "%s: %s: %s%s", doing, kind, clean(status.Convert(err).Message()), hint(kind))
}

// hint is the way out of some refusals.
func hint(kind metadata.Kind) string {
	switch kind {
	case metadata.Unauthenticated:
		return "; give --token-file, --user with --password-file, or --cert-file with --key-file"
	case metadata.Unavailable:
		return "; is the server up, at this address, with TLS as the flags say?"
	case metadata.DeadlineExceeded:
		return "; a slow server needs a longer --timeout, or a smaller --page-size"
	}
	return ""
}
