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
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// FlushInterval bounds how long an appended record waits for its fsync.
	FlushInterval = 100 * time.Millisecond

	// DefaultQueueRecords is how many records may wait for the disk: a minute of a thousand
	// decisions a second.
	DefaultQueueRecords = 65536
	// DefaultQueueBytes is how large they may be together: 1 kB each.
	DefaultQueueBytes = 64 << 20

	// SegmentSize is where a new file is begun, so that old ones can be moved away.
	SegmentSize = 64 << 20

	// MaxRecord bounds a line. What is larger is shortened to its first images,
	// and then to none: a record of a request must be there, whatever was in it.
	MaxRecord    = 1 << 20
	keptOfRecord = 20      // images
	keptOfField  = 4 << 10 // bytes

	// keptBuffer bounds what is kept to encode records in, each.
	keptBuffer = 64 << 10
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
	// that was let in without a judgement, and "refused" for one that could not be
	// understood, or not be recorded as it was judged, of which Error says why; "pinned" for
	// one whose tags were looked up; "pull" for an image that a node is about to pull;
	// "policy" for policies that are about to be in force; and "lost".
	Event     string `json:"event"`
	Error     string `json:"error,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
	UID       string `json:"uid,omitempty"`
	Operation string `json:"operation,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	User      string `json:"user,omitempty"`
	// Replica is the process that decided, and Took how long that took, in seconds, up to
	// the record.
	Replica string  `json:"replica,omitempty"`
	Took    float64 `json:"took,omitempty"`
	// DryRun is set when the API server only tried the request out.
	DryRun   bool             `json:"dryRun,omitempty"`
	Decision *decide.Decision `json:"decision,omitempty"`
	// BreakGlass is what is known of the marker, if there was one.
	BreakGlass *BreakGlass `json:"breakGlass,omitempty"`
	// Pinned are the tags of an event "pinned".
	Pinned []Pinned `json:"pinned,omitempty"`
	// Policies are those of an event "policy", and Before those that were in force until
	// then.
	Policies []PolicyVersion `json:"policies,omitempty"`
	Before   []PolicyVersion `json:"before,omitempty"`
	// Truncated is set when the record was too large to be kept whole.
	Truncated bool `json:"truncated,omitempty"`
	// Origin is where the record was made, if that was not where this log is.
	Origin *Origin `json:"origin,omitempty"`
	// Lost is set for an event "lost", which stands for records that are missing.
	Lost *Lost `json:"lost,omitempty"`
}

// Pinned is a tag beside which a digest was written, or why not.
type Pinned struct {
	Image  string `json:"image"`
	Digest string `json:"digest,omitempty"`
	Error  string `json:"error,omitempty"`
}

// A PolicyVersion is a policy as it is in force.
type PolicyVersion struct {
	Policy string `json:"policy"`
	Source string `json:"source,omitempty"`
	// Version is the hexadecimal SHA-256 of its text and of what that depends on, as it is
	// in decisions by it.
	Version string `json:"version,omitempty"`
}

// An Origin is a gate in another place, whose log had the record first.
type Origin struct {
	// Gate is what the gate calls itself, and Caller who it has proved to be.
	Gate   string `json:"gate"`
	Caller string `json:"caller,omitempty"`
	// After is the position after the record in its log. No two files of logs have one name.
	After Position `json:"after"`
}

// NewID returns a new record id; ids sort by time.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// Options configure a [Log]. Only Logger is needed.
type Options struct {
	// Spill is a folder that takes records while the log's own cannot be written.
	Spill string
	// QueueRecords and QueueBytes bound what waits for the disk; 0 is the default.
	QueueRecords int
	QueueBytes   int64
	// Retention is how long records are kept at least, and MaxBytes beyond what size of all
	// segments the oldest are removed all the same; 0 is for ever, and no bound.
	Retention time.Duration
	MaxBytes  int64
	// HoldFor is how long a follower may stand still before MaxBytes takes from him what he
	// has not read; 0 is [DefaultHoldFor].
	HoldFor time.Duration
	// Replica is the process that records, for records that do not name one.
	Replica string
	// Now is the clock; nil is [time.Now].
	Now    func() time.Time
	Logger *slog.Logger

	retry time.Duration // retryDelay, unless a test has less time
}

// A Log appends records to the files of one folder. It is safe for concurrent use.
type Log struct {
	dir string
	Options

	mu      sync.Mutex
	queue   lines
	spare   [][]byte // chunks for the next queue
	urgent  bool     // somebody in the queue waits, or there is much in it
	closed  bool
	records int   // that wait, those that are being written too
	bytes   int64 // of them
	lost    Lost  // not told yet
	missing uint64
	spills  uint64
	holds   []*Hold
	removed uint64
	forced  uint64

	// wake tells the writer that the queue is no longer empty, or urgent, or
	// closed. It is signalled for the first record of a group only, so that
	// the writer costs the others nothing.
	wake    chan struct{}
	rotated chan struct{}
	done    chan struct{} // closed when the writer has ended
	closing chan struct{} // closed by Close
	tidied  chan struct{} // closed when nothing is removed any more

	// Of the writer alone.
	main, spill folder
	spilled     []string // segments in the spill
	last        string   // the newest segment, wherever it is
	mainErr     error    // why the folder could not be written last
	tryAgain    time.Time

	buffers sync.Pool // of *[]byte, to encode records in

	fault     atomic.Pointer[error]
	committed committed
}

// Open opens the log in dir, creating the folder if need be. A last line that a
// crash left unfinished is cut off: it was never reported as written.
func Open(dir string, logger *slog.Logger) (*Log, error) {
	return OpenWith(dir, Options{Logger: logger})
}

// OpenWith is [Open] with options. What an earlier process left in the spill is moved to
// the log. With a spill, a folder that cannot be written now is no error.
func OpenWith(dir string, o Options) (*Log, error) { return open(dir, o, openFile) }

func open(dir string, o Options, openFile func(path string, flag int) (file, error)) (*Log, error) {
	if o.Logger == nil {
		return nil, errors.New("opening audit log: no logger")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.QueueRecords = cmp.Or(o.QueueRecords, DefaultQueueRecords)
	o.QueueBytes = cmp.Or(o.QueueBytes, DefaultQueueBytes)
	o.retry = cmp.Or(o.retry, retryDelay)
	o.HoldFor = cmp.Or(o.HoldFor, DefaultHoldFor)
	l := &Log{
		dir: dir, Options: o, main: folder{dir: dir, open: openFile}, spill: folder{dir: o.Spill, open: openFile},
		wake: make(chan struct{}, 1), rotated: make(chan struct{}, 1), done: make(chan struct{}), closing: make(chan struct{}), tidied: make(chan struct{}),
	}
	l.buffers.New = func() any { return new([]byte) }
	l.committed.more = make(chan struct{})
	if err := l.openFolders(); err != nil {
		return nil, err
	}
	go l.write()
	if l.Retention > 0 || l.MaxBytes > 0 {
		go l.keepTidy()
	} else {
		close(l.tidied)
	}
	return l, nil
}

// Append hands a record to the writer without waiting for the disk. It fails
// with [ErrFull] or [ErrClosed], and the record is counted as lost.
func (l *Log) Append(r Record) error { return l.append(r, nil) }

// AppendSync returns once the record is on disk, or with the reason that it is
// not; then it is not counted as lost. If it is ctx that ended, the record comes to be on
// disk all the same only if it was being written then.
func (l *Log) AppendSync(ctx context.Context, r Record) error {
	return l.await(ctx, func(done chan error) error { return l.append(r, done) })
}

// await returns when what was enqueued is on disk.
func (l *Log) await(ctx context.Context, enqueue func(done chan error) error) error {
	done := make(chan error, 1)
	if err := enqueue(done); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		l.withdraw(done)
		return fmt.Errorf("waiting for the audit log: %w", ctx.Err())
	}
}

// withdraw takes back what nobody waits for any more, unless it is being written.
func (l *Log) withdraw(done chan error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size := l.queue.withdraw(done); size > 0 {
		l.records--
		l.bytes -= int64(size)
	}
}

func (l *Log) append(r Record, done chan error) error {
	if r.Replica == "" {
		r.Replica = l.Replica
	}
	buffer := l.buffers.Get().(*[]byte)
	defer l.buffers.Put(buffer)
	line, err := encode((*buffer)[:0], &r)
	if err != nil {
		return encoding(err)
	}
	if cap(line) <= keptBuffer {
		*buffer = line
	}
	return l.enqueue(line, done)
}

func encoding(err error) error { return fmt.Errorf("encoding audit record: %w", err) }

// chunk returns a chunk to begin with, in which a line has room.
func (l *Log) chunk(size int) []byte {
	if n := len(l.spare); n > 0 && size <= chunkSize {
		c := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return c
	}
	return make([]byte, 0, max(size, chunkSize))
}

// enqueue takes a line without its end, and done if somebody waits.
func (l *Log) enqueue(line []byte, done chan error) error {
	first, err := l.put(line, done)
	if first {
		l.Logger.Error("records are lost: more wait for the audit log than may", "log", l.dir, "error", l.Unwritable())
	}
	return err
}

// put reports with the error whether it is the first record that is lost.
func (l *Log) put(line []byte, done chan error) (first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mostRecords, mostBytes := l.QueueRecords, l.QueueBytes
	if done != nil { // what somebody waits for is not kept out by what nobody does
		mostRecords, mostBytes = mostRecords+mostRecords/4+1, mostBytes+mostBytes/4+MaxRecord
	}
	switch {
	case l.closed:
		err = ErrClosed
	case l.records >= mostRecords || l.bytes+int64(len(line)) >= mostBytes:
		err = ErrFull
	}
	if err != nil {
		if done == nil {
			l.missing++
			l.lost.add(l.Now())
			first = l.lost.Records == 1
		}
		return first, err
	}
	l.queue.add(line, done, l.chunk)
	l.records++
	l.bytes += int64(len(line)) + 1
	if much := l.records >= l.QueueRecords/2 || l.bytes >= l.QueueBytes/2; l.queue.records == 1 || ((done != nil || much) && !l.urgent) {
		l.urgent = l.urgent || done != nil || much
		l.signal()
	}
	return false, nil
}

// encode appends a line of at most MaxRecord bytes to none.
func encode(b []byte, r *Record) ([]byte, error) {
	line, err := AppendRecord(b, r)
	if err != nil || len(line) <= MaxRecord {
		return line, err
	}
	short := *r
	short.Truncated = true
	short.Pinned = short.Pinned[:min(len(short.Pinned), keptOfRecord)]
	if short.Decision != nil {
		d := *short.Decision
		d.Images = d.Images[:min(len(d.Images), keptOfRecord)]
		short.Decision = &d
	}
	if line, err = AppendRecord(line[:0], &short); err != nil || len(line) <= MaxRecord {
		return line, err
	}
	// What is large still was made so by the requester.
	for _, field := range []*string{&short.UID, &short.Operation, &short.Resource, &short.Namespace, &short.Name, &short.User, &short.Error} {
		*field = strings.ToValidUTF8((*field)[:min(len(*field), keptOfField)], "")
	}
	if short.Pinned = nil; short.Decision != nil {
		short.Decision.Images = nil
	}
	if short.BreakGlass != nil {
		b := *short.BreakGlass
		b.Object, short.BreakGlass = nil, &b
	}
	return AppendRecord(line[:0], &short)
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
	<-l.tidied
	l.main.end()
	l.spill.end()
	return nil
}

// Stats are counts since a log was opened, and how it is now.
type Stats struct {
	// Lost are records that are not in the log.
	Lost uint64
	// Spills are how many times a group of records went to the spill.
	Spills uint64
	// Removed are segments that were removed for their age, or for the size of all, and
	// Overruled how many of them a follower had not read.
	Removed, Overruled uint64
	// QueueRecords and QueueBytes wait for the disk.
	QueueRecords int
	QueueBytes   int64
	// Unwritable is set while records can be put nowhere.
	Unwritable bool
}

// Stats returns the counts.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Lost: l.missing, Spills: l.spills, Removed: l.removed, Overruled: l.forced, QueueRecords: l.records, QueueBytes: l.bytes, Unwritable: l.fault.Load() != nil,
	}
}
