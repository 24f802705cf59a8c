package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// retryDelay is how long a disk that failed is left alone.
	retryDelay = time.Second
	// spillSegment is where a new file of the spill is begun: one is moved at a time.
	spillSegment = 8 << 20
	// takenAtOnce bounds what is moved back before records that wait are written.
	takenAtOnce = 64 << 20
)

// write commits groups until the log is closed and the queue empty.
func (l *Log) write() {
	defer close(l.done)
	for {
		group, closed := l.gather()
		if group.records == 0 && len(l.spilled) == 0 {
			if closed {
				return
			}
			continue
		}
		err := l.commit(group.chunks)
		if err == nil {
			err = l.tellLost()
		}
		l.settle(err)
		switch {
		case err == nil:
			l.written(group)
		case closed:
			l.drop(group)
		default:
			l.putBack(group)
		}
		for _, w := range group.waits { // what they see then is how it is
			w.done <- err
		}
		if err != nil && !closed {
			l.pause()
		}
		if closed && l.empty() {
			return
		}
	}
}

// gather waits for records, and then for more until FlushInterval has passed, somebody
// waits for the disk, many have come, or the log is closing. It returns none when there
// are records in the spill, and it is time to look whether they can be moved.
func (l *Log) gather() (group lines, closed bool) {
	var later <-chan time.Time
	if len(l.spilled) > 0 {
		timer := time.NewTimer(l.retry)
		defer timer.Stop()
		later = timer.C
	}
	select {
	case <-l.wake:
	case <-later:
	}
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
	group, l.queue, l.urgent = l.queue, lines{}, false
	return group, l.closed
}

// written gives back the room of a group that is on disk.
func (l *Log) written(group lines) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records -= group.records
	l.bytes -= group.bytes
	for _, c := range group.chunks {
		if cap(c) == chunkSize && len(l.spare) < keptChunks {
			l.spare = append(l.spare, c[:0])
		}
	}
}

// putBack puts back what nobody waits for, to be written when the disk can: what was
// waited for has been answered with the error, and must not turn up later.
func (l *Log) putBack(group lines) {
	kept := group.unwaited()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records -= group.records - kept.records
	l.bytes -= group.bytes - kept.bytes
	l.queue = kept.and(l.queue)
	l.signal()
}

// drop counts what a log that is closed could not write.
func (l *Log) drop(group lines) {
	kept := group.unwaited()
	l.mu.Lock()
	l.records -= group.records
	l.bytes -= group.bytes
	now := l.Now()
	for range kept.records {
		l.lost.add(now)
		l.missing++
	}
	l.mu.Unlock()
	if kept.records > 0 {
		l.Logger.Error("records are lost: the audit log is closed, and could not be written", "log", l.dir, "records", kept.records)
	}
}

func (l *Log) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.records == 0
}

// pause leaves the disk alone, unless somebody waits for it.
func (l *Log) pause() {
	timer := time.NewTimer(l.retry)
	defer timer.Stop()
	defer l.signal() // what it takes here was for gather
	for {
		l.mu.Lock()
		waited := len(l.queue.waits) > 0
		l.mu.Unlock()
		if waited {
			return
		}
		select {
		case <-l.closing:
			return
		case <-timer.C:
			return
		case <-l.wake:
		}
	}
}

// commit puts lines on disk: in the log, or else in the spill.
func (l *Log) commit(lines [][]byte) error {
	err := l.intoMain(lines)
	if err == nil || l.Spill == "" {
		return err
	}
	if len(lines) == 0 {
		return nil // what is in the spill stays there
	}
	if spillErr := l.intoSpill(lines); spillErr != nil {
		return errors.Join(err, fmt.Errorf("spilling: %w", spillErr))
	}
	return nil
}

// intoMain writes to the log itself, once nothing is in the spill any more.
func (l *Log) intoMain(lines [][]byte) error {
	now := time.Now()
	if l.mainErr != nil && l.Spill != "" && now.Before(l.tryAgain) {
		return l.mainErr
	}
	err := l.takeBack()
	if err == nil && len(l.spilled) > 0 {
		return errBehind
	}
	if err == nil && len(lines) > 0 {
		if err = l.roomInMain(now); err == nil {
			err = l.main.write(lines)
		}
	}
	switch {
	case err != nil && l.mainErr == nil:
		if l.Spill != "" {
			l.Logger.Error("the audit log cannot be written; records go to the spill", "log", l.dir, "spill", l.Spill, "error", err)
		} else {
			l.Logger.Error("the audit log cannot be written; records wait in memory", "log", l.dir, "error", err)
		}
	case err == nil && l.mainErr != nil:
		l.Logger.Info("the audit log is written again", "log", l.dir)
	}
	if l.mainErr = err; err != nil {
		l.tryAgain = now.Add(l.retry)
		return err
	}
	if len(lines) > 0 {
		l.committed.set(Position{l.main.name(), l.main.size})
	}
	return nil
}

// errBehind says that there is more in the spill than is moved at once.
var errBehind = errors.New("what was spilled is being moved to the log")

// roomInMain begins a segment if there is none to go on with.
func (l *Log) roomInMain(now time.Time) error {
	if l.main.file != nil && l.main.size < SegmentSize && !l.aged(now) {
		return nil
	}
	name := nameAfter(l.last)
	if err := l.main.begin(name); err != nil {
		return err
	}
	l.last = name
	select {
	case l.rotated <- struct{}{}:
	default:
	}
	return nil
}

// aged reports whether the segment is so old that another is to be begun, so that records
// can be removed by their age, and found by it.
func (l *Log) aged(now time.Time) bool {
	const day = 24 * time.Hour
	most := day
	if l.Retention > 0 {
		most = min(day, max(l.Retention/8, time.Minute))
	}
	at := begun(l.main.name())
	return l.main.size > 0 && !at.IsZero() && now.Sub(at) > most
}

// takeBack moves segments from the spill to the log, in their order, as far as it can be
// done at once.
func (l *Log) takeBack() error {
	if err := l.main.mend(); err != nil {
		return err
	}
	for moved := int64(0); len(l.spilled) > 0 && moved < takenAtOnce; {
		name := l.spilled[0]
		if l.spill.file != nil && l.spill.name() == name {
			l.spill.end()
		}
		info, err := os.Stat(filepath.Join(l.Spill, name))
		if err == nil {
			moved += info.Size()
			err = l.main.take(l.Spill, name)
		} else if errors.Is(err, fs.ErrNotExist) {
			l.Logger.Error("a file of the spill was taken away before it was moved to the audit log", "log", l.dir, "spill", l.Spill, "segment", name)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("moving %s from the spill: %w", name, err)
		}
		l.main.end() // what comes now is later
		l.spilled = l.spilled[1:]
	}
	return nil
}

// intoSpill writes to the spill.
func (l *Log) intoSpill(lines [][]byte) error {
	if l.spill.file == nil || l.spill.size >= spillSegment {
		name := nameAfter(l.last)
		if err := l.spill.begin(name); err != nil {
			return err
		}
		l.last = name
		l.spilled = append(l.spilled, name)
	}
	if err := l.spill.write(lines); err != nil {
		return err
	}
	l.mu.Lock()
	l.spills++
	l.mu.Unlock()
	l.committed.set(Position{l.spill.name(), l.spill.size})
	return nil
}

// settle remembers whether records can be put on disk.
func (l *Log) settle(err error) {
	if err == nil {
		l.fault.Store(nil)
		return
	}
	if l.fault.Swap(&err) == nil {
		l.Logger.Error("nothing can be recorded now", "log", l.dir, "error", err)
	}
}

// Unwritable returns why records cannot be put on disk, neither in the log nor in its
// spill, or nil if they can as far as is known.
func (l *Log) Unwritable() error {
	if err := l.fault.Load(); err != nil {
		return fmt.Errorf("writing the audit log: %w", *err)
	}
	return nil
}

// Lost tells that records are missing from a log at its place.
type Lost struct {
	Records uint64 `json:"records"`
	// Since and Until are when the first and the last of them came.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

func (l *Lost) add(now time.Time) {
	if l.Records == 0 {
		l.Since = now.UTC()
	}
	l.Records++
	l.Until = now.UTC()
}

// EventLost is the event, and the method, of a line that is there for others that are
// missing.
const EventLost = "lost"

// tellLost writes what was lost, now that the log can be written. It is a line that each
// kind of log reads as one of its own.
func (l *Log) tellLost() error {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	if lost.Records == 0 {
		return nil
	}
	text := fmt.Sprintf("%d records were lost between %s and %s, because neither the log nor a spill could be written, or not fast enough",
		lost.Records, lost.Since.Format(time.RFC3339), lost.Until.Format(time.RFC3339))
	line, err := json.Marshal(struct {
		ID      string    `json:"id"`
		Time    time.Time `json:"time"`
		Event   string    `json:"event"`
		Method  string    `json:"method"`
		Code    string    `json:"code"`
		Error   string    `json:"error"`
		Replica string    `json:"replica,omitempty"`
		Lost    Lost      `json:"lost"`
	}{NewID(), l.Now().UTC(), EventLost, EventLost, "DATA_LOSS", text, l.Replica, lost})
	if err == nil {
		err = l.commit([][]byte{append(line, '\n')})
	}
	if err != nil {
		return nil // the next group tells; this one is on disk
	}
	l.Logger.Error(text, "log", l.dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost.Records -= lost.Records; l.lost.Records > 0 {
		l.lost.Since = lost.Until
	}
	return nil
}

// openFolders opens the folders, and finds what a process before has left in the spill. A
// log that has a spill can do without its own folder for a while.
func (l *Log) openFolders() error {
	if l.Spill != "" {
		if err := l.openSpill(); err != nil {
			return fmt.Errorf("opening the spill of the audit log: %w", err)
		}
	}
	err := l.openMain()
	if err != nil && l.Spill != "" {
		l.mainErr = err
		l.Logger.Error("the audit log cannot be opened; records go to the spill", "log", l.dir, "spill", l.Spill, "error", err)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	return nil
}

func (l *Log) openMain() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if err := sweep(l.dir); err != nil {
		return err
	}
	names, err := segments(l.dir)
	if err != nil {
		return err
	}
	// What was moved before the process was killed is not to be moved again.
	for _, name := range slices.Clone(l.spilled) {
		if slices.Contains(names, name) {
			if err := os.Remove(filepath.Join(l.Spill, name)); err != nil {
				return err
			}
			l.spilled = slices.DeleteFunc(l.spilled, func(s string) bool { return s == name })
		}
	}
	if l.spill.file != nil && !slices.Contains(l.spilled, l.spill.name()) {
		l.spill.end()
	}
	if len(names) > 0 {
		l.last = max(l.last, names[len(names)-1])
	}
	if len(l.spilled) > 0 {
		return nil // the writer begins a segment after those
	}
	if l.last == "" {
		l.last = nameAfter("")
	}
	if err := l.main.begin(l.last); err != nil {
		return err
	}
	l.committed.at = Position{l.last, l.main.size}
	return nil
}

func (l *Log) openSpill() error {
	if err := os.MkdirAll(l.Spill, 0o700); err != nil {
		return err
	}
	names, err := segments(l.Spill)
	if err != nil || len(names) == 0 {
		return err
	}
	l.spilled, l.last = names, names[len(names)-1]
	if err := l.spill.begin(l.last); err != nil {
		return err
	}
	l.committed.at = Position{l.last, l.spill.size}
	return nil
}
