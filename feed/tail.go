package feed

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// page is how many changes are read at once.
	page = 1000
	// The tail has the latest changes: so many, and not more bytes than that but for
	// the last page.
	maxTail      = 4 * page
	maxTailBytes = 16 << 20
)

// A tail keeps the latest changes, so that what commits is read from the store once
// and not once for each gate.
type tail struct {
	svc *metadata.Service

	mu      sync.Mutex
	changes []metadata.Change // without gaps
	bytes   int
	sizes   []int
}

func newTail(svc *metadata.Service) *tail { return &tail{svc: svc} }

// after returns changes after the one of a number, none if there are none. They are
// shared, and not to be modified.
func (t *tail) after(ctx context.Context, seq uint64) ([]metadata.Change, error) {
	t.mu.Lock()
	if n := len(t.changes); n > 0 {
		first, last := t.changes[0].Seq, t.changes[n-1].Seq
		if seq+1 < first {
			t.mu.Unlock()
			return t.svc.Changes(ctx, seq, page) // of a gate that is far behind
		}
		if seq < last {
			defer t.mu.Unlock()
			rest := t.changes[seq+1-first:]
			return rest[:min(len(rest), page):min(len(rest), page)], nil
		}
		if seq > last {
			t.forget()
		}
	}
	defer t.mu.Unlock()
	changes, err := t.svc.Changes(ctx, seq, page)
	if err != nil {
		t.forget() // the store may have been set back
		return nil, err
	}
	for _, c := range changes {
		t.add(c)
	}
	return changes, nil
}

func (t *tail) forget() { t.changes, t.sizes, t.bytes = nil, nil, 0 }

func (t *tail) add(c metadata.Change) {
	n := len(t.changes)
	if n > 0 && t.changes[n-1].Seq+1 != c.Seq {
		t.forget()
	}
	size := sizeOf(c)
	t.changes, t.sizes, t.bytes = append(t.changes, c), append(t.sizes, size), t.bytes+size
	for len(t.changes) > 1 && (len(t.changes) > maxTail || t.bytes > maxTailBytes) {
		t.bytes -= t.sizes[0]
		t.changes, t.sizes = t.changes[1:], t.sizes[1:]
	}
}

func sizeOf(c metadata.Change) int {
	const row = 100
	switch {
	case c.Note != nil:
		return row + proto.Size(c.Note)
	case c.Occurrence != nil:
		return row + proto.Size(c.Occurrence)
	case c.Document != nil:
		return row + len(c.Document.Content)
	}
	return row
}
