// Package deliver hands on what the audit logs have to a [Sink], such as a collector of
// logs. A [Follower] reads the logs behind their writers, so that nobody waits for it,
// and keeps on disk how far its sink has taken them: after a crash, and while the sink is
// away, nothing is left out. What was sent and not yet noted is sent again, with the same
// id. The order of each log is kept.
//
// A record that the sink refuses for what it is does not hold up the others: it is tried
// without what is large, and then passed over, counted, and told of. The more are refused
// in a row, the longer the pause before the next is given up.
package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/notify"
)

const (
	// A batch is so many records or bytes. One record may be larger than that.
	maxBatch      = 1000
	maxBatchBytes = 1 << 20
	// maxRead is how many bytes of the log are read for one batch, if a filter leaves most
	// of them out.
	maxRead = 8 << 20

	// firstPause is how long a sink that failed is left alone, doubled up to mostPause.
	firstPause = time.Second
	mostPause  = time.Minute
	// patience is how many records in a row a sink may refuse before each of them costs a
	// pause: it may be the sink that is wrong, and not the records.
	patience = 5

	// saveInterval is how often the place is kept on disk while there is much to hand on:
	// what was sent since comes again after a crash.
	saveInterval = 200 * time.Millisecond

	// DefaultTimeout ends a try.
	DefaultTimeout = 10 * time.Second

	maxPositions = 64 << 10 // bytes of the file
	maxReason    = 500      // bytes

	reasonRefused    = "refused"
	reasonUnreadable = "unreadable"
)

// A Sink takes audit records. One goroutine calls it.
type Sink interface {
	// Send hands over records, the oldest first, and returns when the sink has taken them
	// all. After an error all of them may come again, unless it is a [LostError].
	Send(ctx context.Context, entries []Entry) error
	Close() error
}

// A RefusedError is of a sink that works and does not take these records, now or later.
type RefusedError struct{ Err error }

func (r *RefusedError) Error() string { return r.Err.Error() }

// Unwrap returns the reason.
func (r *RefusedError) Unwrap() error { return r.Err }

// A LostError is of a sink that has taken all records but so many, and does not say which.
type LostError struct {
	Records int64
	Err     error
}

func (l *LostError) Error() string { return l.Err.Error() }

// Unwrap returns the reason.
func (l *LostError) Unwrap() error { return l.Err }

// A BusyError is of a sink that says when to come again.
type BusyError struct {
	Err   error
	After time.Duration
}

func (b *BusyError) Error() string { return b.Err.Error() }

// Unwrap returns the reason.
func (b *BusyError) Unwrap() error { return b.Err }

// A Source is an audit log; *audit.Log is one.
type Source interface {
	Lines(after audit.Position, fn func(line []byte, next audit.Position) error) (audit.Position, error)
	Wait(ctx context.Context, after audit.Position) error
	End() audit.Position
	Behind(after audit.Position) (int64, error)
	Hold(name string, at audit.Position) *audit.Hold
}

// Options say what a [Follower] follows, for whom.
type Options struct {
	// Name of the sink: of a file, and in metrics and logs.
	Name string
	// Dir is where the position is kept.
	Dir    string
	Sink   Sink
	Filter Filter
	// Sources are the logs that there are.
	Sources map[Log]Source
	// FromNow begins at the end of the logs, and not with all that they have, the first time.
	FromNow bool
	// Timeout ends a try. Default [DefaultTimeout].
	Timeout time.Duration
	// Pause is how long a sink that failed is left alone first. Default 1s.
	Pause   time.Duration
	Logger  *slog.Logger
	Metrics *Metrics
}

// A Follower hands on what logs have to one sink.
type Follower struct {
	opts Options
	logs []Log // that are followed, in a fixed order

	mu        sync.Mutex
	positions map[Log]audit.Position
	oldest    map[Log]time.Time // of what the sink has not taken, zero if it has all

	holds map[Log]*audit.Hold // keep what the sink has not taken from being removed

	// Of Run alone.
	saved    map[Log]audit.Position
	pauses   int       // in a row
	since    time.Time // when the sink began to fail, zero while it works
	refusals int       // in a row
	savedAt  time.Time // when the places were last kept
	unsaved  bool      // something was handed on since
	// unreadable is after the last line that was told of because it could not be read.
	unreadable map[Log]audit.Position
}

// Open returns a follower that goes on where the last one of this name was.
func Open(o Options) (*Follower, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Pause <= 0 {
		o.Pause = firstPause
	}
	f := &Follower{opts: o, positions: map[Log]audit.Position{}, oldest: map[Log]time.Time{}, holds: map[Log]*audit.Hold{}, saved: map[Log]audit.Position{}, unreadable: map[Log]audit.Position{}}
	for _, log := range Logs() {
		if o.Sources[log] != nil && o.Filter.Takes(log) {
			f.logs = append(f.logs, log)
		}
	}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("opening audit sink %q: %w", o.Name, err)
	}
	for _, log := range f.logs {
		f.holds[log] = o.Sources[log].Hold("audit sink "+o.Name, f.position(log))
	}
	return f, o.Metrics.follow(f)
}

func (f *Follower) path() string { return filepath.Join(f.opts.Dir, f.opts.Name+".json") }

// load reads how far the sink is. Of a file that cannot be understood nothing is believed:
// the sink gets all again.
func (f *Follower) load() error {
	if err := os.MkdirAll(f.opts.Dir, 0o700); err != nil {
		return err
	}
	text, err := bounded.ReadFile(f.path(), maxPositions)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if err := json.Unmarshal(text, &f.saved); err != nil {
			f.opts.Logger.Error("how far an audit sink is cannot be read: it gets all records again", "sink", f.opts.Name, "error", err)
			f.saved = map[Log]audit.Position{}
		}
	}
	for _, log := range f.logs {
		at, found := f.saved[log]
		if !found && f.opts.FromNow {
			at = f.opts.Sources[log].End()
		}
		f.positions[log] = at
	}
	return f.save() // now is now, whatever comes
}

// save puts on disk how far the sink is. Logs that are not followed at present keep their
// places.
func (f *Follower) save() error {
	for _, log := range f.logs {
		f.saved[log] = f.position(log)
	}
	text, err := json.Marshal(f.saved)
	if err == nil {
		err = durable.WriteFile(f.path(), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping how far audit sink %q is: %w", f.opts.Name, err)
	}
	f.savedAt, f.unsaved = time.Now(), false
	for log, hold := range f.holds {
		hold.Set(f.saved[log])
	}
	return nil
}

func (f *Follower) position(log Log) audit.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.positions[log]
}

func (f *Follower) move(log Log, to audit.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.positions[log] = to
}

// waits notes of when the oldest record of a log is that the sink has not taken.
func (f *Follower) waits(log Log, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oldest[log] = since
}

// Position is how far the sink has taken a log; ok is false if it is not to get that log.
func (f *Follower) Position(log Log) (at audit.Position, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok = f.positions[log]
	return at, ok
}

// Lag is how old the oldest record is that the sink has not taken.
func (f *Follower) Lag() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var most time.Duration
	for _, since := range f.oldest {
		if !since.IsZero() {
			most = max(most, time.Since(since))
		}
	}
	return most
}

// Behind is how many bytes of the logs the sink has not taken.
func (f *Follower) Behind() int64 {
	var sum int64
	for _, log := range f.logs {
		if n, err := f.opts.Sources[log].Behind(f.position(log)); err == nil {
			sum += n
		}
	}
	return sum
}

// Run hands on what there is, and what comes, until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		more, err := f.round(ctx)
		switch {
		case err != nil:
			f.rest(ctx, errors.Join(err, f.saveIf(true)))
		case !more:
			f.wait(ctx)
		}
	}
	if err := f.saveIf(true); err != nil {
		f.opts.Logger.Error("after a restart an audit sink gets records again", "sink", f.opts.Name, "error", err)
	}
	return nil
}

// Drain hands on what there is, and returns when that is done, or fails.
func (f *Follower) Drain(ctx context.Context) error {
	for {
		more, err := f.round(ctx)
		if err != nil {
			return errors.Join(err, f.saveIf(true))
		}
		if !more {
			return nil
		}
	}
}

// Close closes the sink. Logs that are still open may remove what it has not taken.
func (f *Follower) Close() error {
	for _, hold := range f.holds {
		hold.Release()
	}
	return f.opts.Sink.Close()
}

// round hands on one batch of each log. more says that there may be more.
func (f *Follower) round(ctx context.Context) (more bool, err error) {
	for _, log := range f.logs {
		moved, err := f.step(ctx, log)
		if err != nil {
			return false, err
		}
		more = more || moved
	}
	if err := f.saveIf(!more || time.Since(f.savedAt) >= saveInterval); err != nil {
		return false, err
	}
	return more, ctx.Err()
}

// saveIf keeps the places on disk, if there is something new and now is the time.
func (f *Follower) saveIf(now bool) error {
	if !now || !f.unsaved {
		return nil
	}
	return f.save()
}

// wait returns when a log has more.
func (f *Follower) wait(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for _, log := range f.logs {
		all.Go(func() {
			defer cancel()
			_ = f.opts.Sources[log].Wait(ctx, f.position(log)) // only that of ctx
		})
	}
	if len(f.logs) == 0 {
		<-ctx.Done()
	}
	all.Wait()
}

// An item is a record, and the place after it.
type item struct {
	Entry
	next audit.Position
}

var errBatchFull = errors.New("the batch is full")

// read gathers the next records of a log, and says how far it has read.
func (f *Follower) read(log Log) (batch []item, end audit.Position, err error) {
	at := f.position(log)
	size, seen := 0, 0
	end, err = f.opts.Sources[log].Lines(at, func(line []byte, next audit.Position) error {
		at = next
		seen += len(line)
		e, err := Parse(log, line)
		if err != nil {
			f.skip(log, next, err)
		} else if f.opts.Filter.Selects(e) {
			batch = append(batch, item{e, next})
			size += len(line)
		}
		if len(batch) >= maxBatch || size >= maxBatchBytes || seen >= maxRead {
			return errBatchFull
		}
		return nil
	})
	if errors.Is(err, errBatchFull) {
		return batch, at, nil
	}
	return batch, end, err
}

// skip passes over a line that cannot be read, and tells of it once.
func (f *Follower) skip(log Log, next audit.Position, err error) {
	if told := f.unreadable[log]; next.Segment > told.Segment || next.Segment == told.Segment && next.Offset > told.Offset {
		f.unreadable[log] = next
		f.lose(1, reasonUnreadable, "", err)
	}
}

// step hands on one batch of a log. moved says that there was something to read.
func (f *Follower) step(ctx context.Context, log Log) (moved bool, err error) {
	from := f.position(log)
	batch, end, err := f.read(log)
	if err != nil {
		return false, err
	}
	if len(batch) > 0 {
		f.waits(log, batch[0].Time)
	}
	done, err := f.deliver(ctx, batch)
	if err != nil {
		if done > 0 {
			f.move(log, batch[done-1].next)
			f.unsaved = true
			f.waits(log, batch[done].Time)
		}
		return false, err
	}
	f.move(log, end)
	f.waits(log, time.Time{})
	far := end.Segment != f.saved[log].Segment || end.Offset-f.saved[log].Offset >= maxRead
	f.unsaved = f.unsaved || len(batch) > 0 || far
	return end != from, nil
}

// deliver sends records, and returns how many of them are done with: taken, or given up.
func (f *Follower) deliver(ctx context.Context, batch []item) (done int, err error) {
	if len(batch) == 0 {
		return 0, nil
	}
	entries := make([]Entry, len(batch))
	for i := range batch {
		entries[i] = batch[i].Entry
	}
	err = f.send(ctx, entries)
	var lost *LostError
	switch {
	case err == nil:
		f.took(len(batch))
		return len(batch), nil
	case errors.As(err, &lost):
		n := min(max(lost.Records, 0), int64(len(batch)))
		f.lose(n, reasonRefused, "", err)
		f.took(len(batch) - int(n))
		return len(batch), nil
	case !isRefusal(err):
		return 0, err
	case len(batch) == 1:
		if err := f.deliverRefused(ctx, batch[0].Entry, err); err != nil {
			return 0, err
		}
		return 1, nil
	}
	half := len(batch) / 2
	done, err = f.deliver(ctx, batch[:half])
	if err != nil {
		return done, err
	}
	more, err := f.deliver(ctx, batch[half:])
	return done + more, err
}

// deliverRefused tries a record that was refused without what is large, and gives it up if
// that is refused too. Its error says that the sink does not work.
func (f *Follower) deliverRefused(ctx context.Context, e Entry, refusal error) error {
	if over := f.refusals - patience; over >= 0 {
		pause(ctx, backoff(f.opts.Pause, over))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	err := f.send(ctx, []Entry{e.Shortened()})
	switch {
	case err == nil:
		f.opts.Metrics.shortened.WithLabelValues(f.opts.Name).Inc()
		f.took(1)
	case isRefusal(err):
		f.refusals++
		f.lose(1, reasonRefused, e.ID, refusal)
	default:
		return err
	}
	return nil
}

func isRefusal(err error) bool { return errors.As(err, new(*RefusedError)) }

func (f *Follower) send(ctx context.Context, entries []Entry) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.opts.Timeout, fmt.Errorf("no answer within %v", f.opts.Timeout))
	defer cancel()
	err := f.opts.Sink.Send(ctx, entries)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// took notes that the sink has taken records.
func (f *Follower) took(n int) {
	if n == 0 {
		return
	}
	f.opts.Metrics.delivered.WithLabelValues(f.opts.Name).Add(float64(n))
	f.refusals, f.pauses = 0, 0
	if !f.since.IsZero() {
		f.opts.Logger.Info("an audit sink works again", "sink", f.opts.Name, "failed for", time.Since(f.since).Round(time.Millisecond), "bytes behind", f.Behind())
		f.since = time.Time{}
	}
	f.opts.Metrics.up.WithLabelValues(f.opts.Name).Set(1)
}

// lose notes that the sink will not get records.
func (f *Follower) lose(n int64, reason, id string, err error) {
	f.opts.Metrics.lost.WithLabelValues(f.opts.Name, reason).Add(float64(n))
	f.opts.Logger.Error("an audit sink does not get records; the log has them", "sink", f.opts.Name, "records", n, "record", id,
		"reason", reason, "error", notify.Line(err.Error(), maxReason))
}

// rest leaves a sink alone that failed.
func (f *Follower) rest(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.opts.Metrics.failures.WithLabelValues(f.opts.Name).Inc()
	f.opts.Metrics.up.WithLabelValues(f.opts.Name).Set(0)
	if f.since.IsZero() {
		f.since = time.Now()
		f.opts.Logger.Error("an audit sink does not take records; they wait in the log", "sink", f.opts.Name, "error", notify.Line(err.Error(), maxReason))
	}
	d := backoff(f.opts.Pause, f.pauses)
	if busy := (*BusyError)(nil); errors.As(err, &busy) {
		d = max(d, min(busy.After, mostPause))
	}
	f.pauses++
	pause(ctx, d)
}

// backoff is the first pause, doubled so many times.
func backoff(first time.Duration, doubled int) time.Duration {
	return min(first<<min(doubled, 16), mostPause)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
