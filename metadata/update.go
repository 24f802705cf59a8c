package metadata

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxUpdateTries bounds how often an update is repeated because another process
// changed the same message at the same time. Those of this process wait in turn.
const maxUpdateTries = 100

// turns lets updates of one message follow each other; names share a few locks.
type turns [256]sync.Mutex

func (t *turns) of(name string) *sync.Mutex { return &t[KeyOf(name)[0]] }

// untilUnchanged repeats an update that read a message which was changed before
// it could be written.
func untilUnchanged[T any](ctx context.Context, s *Service, name string, update func() (T, error)) (T, error) {
	turn := s.updates.of(name)
	turn.Lock()
	defer turn.Unlock()
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

// Details returns a copy of a note or an occurrence without the fields that every
// kind, and every version of the API, has: what is left is for its kind to define.
func Details[T proto.Message](m T) T {
	c := proto.CloneOf(m)
	r := c.ProtoReflect()
	for _, name := range []protoreflect.Name{
		"name", "kind", "create_time", "update_time", "resource_uri", "note_name", "remediation",
		"short_description", "long_description", "related_url", "expiration_time", "related_note_names",
	} {
		if field := r.Descriptor().Fields().ByName(name); field != nil {
			r.Clear(field)
		}
	}
	return c
}

// ruled returns the error of a dialect's rules about a changed message, unless it
// is about details that have not changed: another dialect may have let them in.
func ruled[T proto.Message](err error, current, changed T) error {
	if err == nil || proto.Equal(Details(current), Details(changed)) {
		return nil
	}
	return err
}
