package feed

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// trailLength is how many changes mark a position. Those of a store that was set back
// and went on differ from those of before in names, which are random, and in times.
const trailLength = 8

// A trail is the last changes before a position.
type trail struct {
	seq  uint64
	last [][sha256.Size]byte
}

// trailTo reads the changes before a position. The error is
// [metadata.ErrCompacted] if there is no such position, or nothing is known of it.
func (s *Service) trailTo(ctx context.Context, seq uint64) (*trail, error) {
	t := &trail{seq: seq}
	if seq == 0 {
		return t, nil
	}
	from := seq - min(seq, trailLength)
	changes, err := s.svc.Changes(ctx, from, int(seq-from))
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		t.add(c)
	}
	if t.seq != seq || uint64(len(t.last)) != seq-from {
		return nil, metadata.ErrCompacted
	}
	return t, nil
}

func (t *trail) add(c metadata.Change) {
	t.seq = c.Seq
	if len(t.last) == trailLength {
		t.last = append(t.last[:0], t.last[1:]...)
	}
	t.last = append(t.last, footprint(c))
}

// footprint tells a change from any other that might have its number.
func footprint(c metadata.Change) [sha256.Size]byte {
	name, revision, at := "", uint64(0), ""
	stamp := func(ts *timestamppb.Timestamp) string { return fmt.Sprint(ts.GetSeconds(), ".", ts.GetNanos()) }
	switch {
	case c.Note != nil:
		name, at = c.Note.GetName(), stamp(c.Note.GetUpdateTime())
	case c.Occurrence != nil:
		name, at = c.Occurrence.GetName(), stamp(c.Occurrence.GetUpdateTime())
	case c.Document != nil:
		name, revision, at = c.Document.Name, c.Document.Revision, c.Document.Time.UTC().Format(time.RFC3339Nano)
	}
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %d %s %q", c.Seq, c.Op, revision, at, name))
}

func (t *trail) position() *gatehousev1.Position {
	h := sha256.New()
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, t.seq)) // a hash never fails
	for _, f := range t.last {
		_, _ = h.Write(f[:])
	}
	return &gatehousev1.Position{Seq: t.seq, Mark: h.Sum(nil)[:16]}
}
