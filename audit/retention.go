package audit

import (
	"os"
	"path/filepath"
	"time"
)

const (
	// DefaultHoldFor is how long a follower may stand still before [Options].MaxBytes
	// takes from him what he has not read.
	DefaultHoldFor = time.Hour

	// tidyInterval is how often it is looked at what is too old.
	tidyInterval = time.Minute
)

// A Hold keeps what a follower has not read from being removed.
type Hold struct {
	log   *Log
	name  string
	at    Position
	moved time.Time
}

// Hold keeps what is after a position, until it is set further, or released. The name of
// the follower is for the log of the process.
func (l *Log) Hold(name string, at Position) *Hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &Hold{log: l, name: name, at: at, moved: l.Now()}
	l.holds = append(l.holds, h)
	return h
}

// Set says how far the follower has read.
func (h *Hold) Set(at Position) {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	if at != h.at {
		h.at, h.moved = at, h.log.Now()
	}
}

// Release ends the hold.
func (h *Hold) Release() {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	kept := h.log.holds[:0]
	for _, other := range h.log.holds {
		if other != h {
			kept = append(kept, other)
		}
	}
	h.log.holds = kept
}

// keepTidy removes what is too old, or too much, until the log is closed.
func (l *Log) keepTidy() {
	defer close(l.tidied)
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		if err := l.tidy(l.Now()); err != nil {
			l.Logger.Error("old records cannot be removed", "log", l.dir, "error", err)
		}
		select {
		case <-l.closing:
			return
		case <-tick.C:
		case <-l.rotated:
		}
	}
}

// A segment as it is on disk.
type segment struct {
	name string
	size int64
	next string // the name of the one after it
}

// tidy removes whole segments, the oldest first: those of which every record is older than
// Retention, and those that are beyond MaxBytes. The one that is written stays.
func (l *Log) tidy(now time.Time) error {
	list, total, err := l.closedSegments()
	if err != nil {
		return err
	}
	for _, s := range list {
		old := l.Retention > 0 && !begun(s.next).IsZero() && now.Sub(begun(s.next)) > l.Retention
		over := l.MaxBytes > 0 && total > l.MaxBytes
		if !old && !over {
			break
		}
		holder, stuck := l.holder(s, now)
		if holder != "" && (!over || !stuck) {
			break
		}
		if err := os.Remove(filepath.Join(l.dir, s.name)); err != nil {
			return err
		}
		total -= s.size
		l.mu.Lock()
		l.removed++
		if holder != "" {
			l.forced++
		}
		l.mu.Unlock()
		if holder != "" {
			l.Logger.Error("records were removed that a follower has not read: it stands still, and the audit log is larger than it may be", "log", l.dir, "follower", holder, "segment", s.name, "bytes", s.size)
			continue
		}
		l.Logger.Info("old records were removed", "log", l.dir, "segment", s.name, "bytes", s.size)
	}
	return nil
}

// closedSegments are those of the folder that nothing is written to, and the size of all.
func (l *Log) closedSegments() (list []segment, total int64, err error) {
	end, _ := l.committed.get()
	names, err := segments(l.dir)
	if err != nil {
		return nil, 0, err
	}
	for i, name := range names {
		info, err := os.Stat(filepath.Join(l.dir, name))
		if err != nil {
			return nil, 0, err
		}
		total += info.Size()
		if i+1 < len(names) && name < end.Segment {
			list = append(list, segment{name, info.Size(), names[i+1]})
		}
	}
	return list, total, nil
}

// holder returns a follower that has not read a segment, "" if there is none, and whether
// all of those stand still.
func (l *Log) holder(s segment, now time.Time) (name string, stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stuck = true
	for _, h := range l.holds {
		if h.at.Segment > s.name || h.at.Segment == s.name && h.at.Offset >= s.size {
			continue
		}
		name = h.name
		stuck = stuck && now.Sub(h.moved) > l.HoldFor
	}
	return name, stuck
}
