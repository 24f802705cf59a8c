// Package audit keeps the record of what the gate decided ([Record]) and of who
// called the metadata API ([Call]): one JSON object a line, appended in order to
// files of a folder, fsynced in groups, and read back with [Query] or
// [QueryCalls]. Each kind has a folder, and a [Log], of its own.
//
// [Log.Append] only enqueues, so that the request path never waits for a disk; a
// writer commits what has gathered within [FlushInterval], and kill -9 may lose
// that window. While the disk fails, records wait; when too many do, Append fails. [Log.AppendSync] returns when the record is on disk; a used
// break-glass is recorded that way, before it is answered.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// FlushInterval bounds how long an appended record waits for its fsync.
	FlushInterval = 100 * time.Millisecond

	// retryDelay is how long a disk that failed is left alone.
	retryDelay = time.Second

	// DefaultQueueRecords and DefaultQueueBytes are how much may wait for the disk: a
	// minute of a thousand decisions a second of 1 kB each.
	DefaultQueueRecords = 65536
	DefaultQueueBytes   = 64 << 20

	// SegmentSize is where a new file is begun, so that old ones can be moved away.
	SegmentSize = 64 << 20

	// MaxRecord bounds a line. What is larger is shortened to its first images,
	// and then to none: a record of a request must be there, whatever was in it.
	MaxRecord    = 1 << 20
	keptOfRecord = 20      // images
	keptOfField  = 4 << 10 // bytes

	suffix = ".jsonl"
)

// ErrFull is returned when records arrive faster than the disk takes them.
var ErrFull = errors.New("audit queue is full")

// ErrClosed is returned after [Log.Close].
var ErrClosed = errors.New("audit log is closed")

// A Record is one line of the log.
type Record struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Event is "admission" for a judged request, "unchanged" or "deleting" for one
	// that was let in without a judgement, and "refused" for one that could not
	// be understood, of which Error says why.
	Event     string           `json:"event"`
	Error     string           `json:"error,omitempty"`
	Cluster   string           `json:"cluster,omitempty"`
	UID       string           `json:"uid,omitempty"`
	Operation string           `json:"operation,omitempty"`
	Resource  string           `json:"resource,omitempty"`
	Namespace string           `json:"namespace,omitempty"`
	Name      string           `json:"name,omitempty"`
	User      string           `json:"user,omitempty"`
	Decision  *decide.Decision `json:"decision,omitempty"`
	// BreakGlass is what is known of the marker, if there was one.
	BreakGlass *BreakGlass `json:"breakGlass,omitempty"`
	// Truncated is set when the record was too large to be kept whole.
	Truncated bool `json:"truncated,omitempty"`
}

// NewID returns a new record id; ids sort by time.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

type item struct {
	line []byte
	done chan error // nil unless somebody waits
}

// A Log appends records to the files of one folder. It is safe for concurrent use.
type Log struct {
	dir    string
	logger *slog.Logger

	mu     sync.Mutex
	queue  []item
	urgent bool // somebody in the queue waits
	closed bool

	// wake tells the writer that the queue is no longer empty, or urgent, or
	// closed. It is signalled for the first record of a group only, so that
	// the writer costs the others nothing.
	wake chan struct{}
	done chan struct{} // closed when the writer has ended

	closing chan struct{} // closed by Close

	// Of the writer alone.
	file *os.File
	size int64

	committed committed
}

// Open opens the log in dir, creating the folder if need be. A last line that a
// crash left unfinished is cut off: it was never reported as written.
func Open(dir string, logger *slog.Logger) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	l := &Log{
		dir: dir, logger: logger, wake: make(chan struct{}, 1), done: make(chan struct{}), closing: make(chan struct{}),
	}
	names, err := segments(dir)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	name := segmentName()
	if len(names) > 0 {
		name = names[len(names)-1]
	}
	if err := l.openSegment(name); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	l.committed.more = make(chan struct{})
	l.committed.set(Position{name, l.size})
	go l.write()
	return l, nil
}

// Append hands a record to the writer without waiting for the disk. It fails
// with [ErrFull] or [ErrClosed].
func (l *Log) Append(r Record) error { return l.append(r, nil) }

// AppendSync returns once the record is on disk, or with the reason that it is
// not.
func (l *Log) AppendSync(ctx context.Context, r Record) error {
	done := make(chan error, 1)
	if err := l.append(r, done); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the audit log: %w", ctx.Err())
	}
}

func (l *Log) append(r Record, done chan error) error {
	line, err := encode(r)
	if err != nil {
		return encoding(err)
	}
	return l.enqueue(line, done)
}

func encoding(err error) error { return fmt.Errorf("encoding audit record: %w", err) }

// enqueue takes a line without its end, and done if somebody waits.
func (l *Log) enqueue(line []byte, done chan error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case len(l.queue) >= DefaultQueueRecords:
		return ErrFull
	}
	l.queue = append(l.queue, item{line: append(line, '\n'), done: done})
	if len(l.queue) == 1 || (done != nil && !l.urgent) {
		l.urgent = l.urgent || done != nil
		l.signal()
	}
	return nil
}

// encode makes a line of at most MaxRecord bytes.
func encode(r Record) ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil || len(line) <= MaxRecord {
		return line, err
	}
	r.Truncated = true
	if r.Decision != nil {
		d := *r.Decision
		d.Images = d.Images[:min(len(d.Images), keptOfRecord)]
		r.Decision = &d
	}
	if line, err = json.Marshal(r); err != nil || len(line) <= MaxRecord {
		return line, err
	}
	// What is large still was made so by the requester.
	for _, field := range []*string{&r.UID, &r.Operation, &r.Resource, &r.Namespace, &r.Name, &r.User, &r.Error} {
		*field = strings.ToValidUTF8((*field)[:min(len(*field), keptOfField)], "")
	}
	if r.Decision != nil {
		r.Decision.Images = nil
	}
	if r.BreakGlass != nil {
		b := *r.BreakGlass
		b.Object, r.BreakGlass = nil, &b
	}
	return json.Marshal(r)
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close commits what was appended and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	l.signal()
	l.mu.Unlock()
	<-l.done
	return l.file.Close()
}

// write commits groups until the log is closed and the queue empty.
func (l *Log) write() {
	defer close(l.done)
	for {
		group, closed := l.gather()
		if len(group) == 0 {
			if closed {
				return
			}
			continue
		}
		err := l.commit(group)
		for _, it := range group {
			if it.done != nil {
				it.done <- err
			}
		}
		if err != nil {
			l.logger.Error("writing audit log", "records", len(group), "error", err)
		}
		if closed {
			return
		}
		if err != nil {
			l.retry(group)
		}
	}
}

// retry puts back what nobody waits for, to be written when the disk can: what
// was waited for has been answered with the error.
func (l *Log) retry(group []item) {
	group = slices.DeleteFunc(group, func(it item) bool { return it.done != nil })
	select {
	case <-l.closing:
	case <-time.After(retryDelay):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(group, l.queue...)
	l.signal()
}

// gather waits for records, and then for more until FlushInterval has passed,
// somebody waits for the disk, or the log is closing.
func (l *Log) gather() (group []item, closed bool) {
	<-l.wake
	timer := time.NewTimer(FlushInterval)
	defer timer.Stop()
	for {
		l.mu.Lock()
		urgent := l.urgent || l.closed
		l.mu.Unlock()
		if urgent {
			break
		}
		select {
		case <-l.wake:
			continue
		case <-timer.C:
		}
		break
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	group, l.queue, l.urgent = l.queue, nil, false
	return group, l.closed
}

// commit writes a group and fsyncs it. After a failure the file is cut back to
// where the group began, so that half a line can never run into the next.
func (l *Log) commit(group []item) error {
	if l.size >= SegmentSize {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	var buf bytes.Buffer
	for _, it := range group {
		buf.Write(it.line)
	}
	n, err := l.file.Write(buf.Bytes())
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		if n > 0 {
			if cut := l.file.Truncate(l.size); cut != nil {
				err = errors.Join(err, cut)
				l.size = SegmentSize // what is torn stays alone in its file
			}
		}
		return err
	}
	l.size += int64(n)
	l.committed.set(Position{filepath.Base(l.file.Name()), l.size})
	return nil
}

func (l *Log) rotate() error {
	old := l.file
	if err := l.openSegment(segmentName()); err != nil {
		return err
	}
	return old.Close()
}

func (l *Log) openSegment(name string) error {
	path := filepath.Join(l.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := cutTornLine(f)
	if err == nil { // whoever follows the log may rest on what a process left that was killed
		err = errors.Join(f.Sync(), syncDir(l.dir))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, size
	return nil
}

// cutTornLine truncates f after its last newline and returns its size.
func cutTornLine(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const block = 64 << 10
	buf := make([]byte, block)
	for end := st.Size(); end > 0; {
		start := max(0, end-block)
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			size := start + int64(i) + 1
			if size == st.Size() {
				return size, nil
			}
			return size, f.Truncate(size)
		}
		end = start
	}
	if st.Size() > 0 {
		return 0, f.Truncate(0)
	}
	return 0, nil
}

// segmentName returns a name that sorts after all earlier ones.
func segmentName() string { return NewID() + suffix }

func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
