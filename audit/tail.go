package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// A Position is a place in a log: after so many bytes of a file. The zero Position is
// before everything.
type Position struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
}

// Before reports whether p is before q.
func (p Position) Before(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// committed is how far a log is on disk.
type committed struct {
	mu   sync.Mutex
	at   Position
	more chan struct{} // closed when there is more
}

func (c *committed) set(at Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
	close(c.more)
	c.more = make(chan struct{})
}

func (c *committed) get() (Position, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at, c.more
}

// Lines calls fn with each line that is on disk after a position, without its end, and
// with the position after it, as far as the log goes now; fn must not keep the line. A
// file that was taken away is passed over. A position within one is one of a line that
// Lines has given. Lines returns how far that is.
func (l *Log) Lines(after Position, fn func(line []byte, next Position) error) (Position, error) {
	end, _ := l.committed.get()
	if end.Before(after) { // a backup was put back
		return end, nil
	}
	names, err := allSegments(l.dir, l.Spill)
	if err != nil {
		return after, fmt.Errorf("reading audit log: %w", err)
	}
	for _, name := range names {
		if name < after.Segment || name > end.Segment {
			continue
		}
		from := Position{Segment: name}
		if name == after.Segment {
			from = after
		}
		till := int64(-1)
		if name == end.Segment {
			till = end.Offset
		}
		if err := l.segmentLines(from, till, fn); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return after, err
		}
	}
	return end, nil
}

// segmentLines reads a file from a position until the byte till, or to its end if that is
// negative.
func (l *Log) segmentLines(from Position, till int64, fn func([]byte, Position) error) error {
	f, err := openForReading(l.dir, l.Spill, from.Segment)
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	return linesOf(f, from, till, fn)
}

// linesOf calls fn with each whole line of a file after a position.
func linesOf(f *os.File, from Position, till int64, fn func([]byte, Position) error) error {
	if _, err := f.Seek(from.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	var source io.Reader = f
	if till >= 0 {
		source = io.LimitReader(f, till-from.Offset)
	}
	lines := bufio.NewReaderSize(source, 64<<10)
	for at := from; ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what has no end was never reported as written
		}
		if err != nil {
			return fmt.Errorf("reading audit log %s: %w", f.Name(), err)
		}
		at.Offset += int64(len(line))
		if err := fn(line[:len(line)-1], at); err != nil {
			return err
		}
	}
}

// Wait returns when there is something on disk after a position, or ctx ends.
func (l *Log) Wait(ctx context.Context, after Position) error {
	for {
		at, more := l.committed.get()
		if after.Before(at) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
