package metadata

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxUpdateTries bounds how often an update is repeated because somebody else
// changed the same message at the same time.
const maxUpdateTries = 10

// untilUnchanged repeats an update that read a message which was changed before
// it could be written.
func untilUnchanged[T any](ctx context.Context, update func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		result, err := update()
		var own *Error
		if try == maxUpdateTries || ctx.Err() != nil || !errors.As(err, &own) || own.Kind != Aborted {
			return result, err
		}
	}
}

// updateTime returns the time of an update, later than that of the one before
// even if the clock stepped back: it tells versions of a message apart.
func updateTime(now time.Time, before *timestamppb.Timestamp) *timestamppb.Timestamp {
	if last := before.AsTime(); before != nil && !now.After(last) {
		return timestamppb.New(last.Add(time.Nanosecond))
	}
	return timestamppb.New(now)
}
