package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// A Filter selects records; a field that is empty selects all.
type Filter struct {
	Since     time.Time
	Until     time.Time
	ID        string
	Event     string
	Cluster   string
	Namespace string
	User      string
	// Image selects records with an image whose text contains it.
	Image    string
	Verdict  string
	Override string
	// Policy selects records of policies whose name contains it, or whose version begins
	// with it.
	Policy string
	// BreakGlass selects records of requests that carried a break-glass marker.
	BreakGlass bool
}

func (f Filter) match(r Record) bool {
	if !within(r.Time, f.Since, f.Until) {
		return false
	}
	for _, field := range [...]struct{ want, got string }{{f.ID, r.ID}, {f.Event, r.Event}, {f.Cluster, r.Cluster}, {f.Namespace, r.Namespace}, {f.User, r.User}} {
		if field.want != "" && field.want != field.got {
			return false
		}
	}
	d := r.Decision
	if (f.Verdict != "" || f.Override != "" || f.BreakGlass) && d == nil {
		return false
	}
	if (f.Verdict != "" && d.Verdict.String() != f.Verdict) || (f.Override != "" && string(d.Override) != f.Override) || (f.BreakGlass && d.BreakGlass == "") {
		return false
	}
	return (f.Image == "" || r.has(f.Image)) && (f.Policy == "" || r.by(f.Policy))
}

// has reports whether an image of the record contains a text.
func (r *Record) has(text string) bool {
	return r.Decision != nil && slices.ContainsFunc(r.Decision.Images, func(i decide.ImageDecision) bool { return strings.Contains(i.Image, text) }) ||
		slices.ContainsFunc(r.Pinned, func(p Pinned) bool { return strings.Contains(p.Image, text) })
}

// by reports whether the record is of a policy.
func (r *Record) by(policy string) bool {
	is := func(name, version string) bool {
		return strings.Contains(name, policy) || strings.HasPrefix(version, policy)
	}
	if d := r.Decision; d != nil {
		if is(d.Policy, d.PolicyVersion) || slices.ContainsFunc(d.Policies, func(p decide.PolicyDecision) bool { return is(p.Policy, p.PolicyVersion) }) {
			return true
		}
	}
	version := func(p PolicyVersion) bool { return is(p.Policy, p.Version) }
	return slices.ContainsFunc(r.Policies, version) || slices.ContainsFunc(r.Before, version)
}

func (f Filter) query() query {
	return query{f.Since, f.Until, needles(f.ID, f.Event, f.Cluster, f.Namespace, f.User, f.Verdict, f.Override)}
}

func within(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

// A Source is a log as others read it, while it is written or not.
type Source struct {
	Dir string
	// Spill is the spill of the log, "" for none.
	Spill string
	// Progress, unless it is nil, is told now and then how many bytes were read of how many.
	// Its error ends the reading, and is returned.
	Progress func(read, total int64) error
}

// Records calls fn with each record that the filter selects, oldest first, until fn
// returns an error, which it returns. Lines that cannot be read are reported in the end,
// with their place. A line being written is left for the next time.
func (s Source) Records(f Filter, fn func(Record) error) error {
	return read(s, f.query(), f.match, fn)
}

// Calls is Records for a log of calls.
func (s Source) Calls(f CallFilter, fn func(Call) error) error {
	return read(s, query{f.Since, f.Until, nil}, f.match, fn)
}

// Runs is Records for a log of runs.
func (s Source) Runs(f RunFilter, fn func(Run) error) error {
	return read(s, query{f.Since, f.Until, nil}, f.match, fn)
}

// FollowRecords is Records, and goes on with what comes, until ctx ends, which is no error.
func (s Source) FollowRecords(ctx context.Context, f Filter, fn func(Record) error) error {
	return follow(ctx, s, f.query(), f.match, fn)
}

// FollowCalls is FollowRecords for a log of calls.
func (s Source) FollowCalls(ctx context.Context, f CallFilter, fn func(Call) error) error {
	return follow(ctx, s, query{f.Since, f.Until, nil}, f.match, fn)
}

// FollowRuns is FollowRecords for a log of runs.
func (s Source) FollowRuns(ctx context.Context, f RunFilter, fn func(Run) error) error {
	return follow(ctx, s, query{f.Since, f.Until, nil}, f.match, fn)
}

// Query is [Source.Records] of a log without a spill.
func Query(dir string, filter Filter, fn func(Record) error) error {
	return Source{Dir: dir}.Records(filter, fn)
}

// A query tells which files and lines need not be looked at.
type query struct {
	since, until time.Time
	needles      [][]byte // that a line has, if it is selected
}

// needles are values as they are in a line, those that can be written in one way only.
func needles(values ...string) [][]byte {
	var list [][]byte
	for _, v := range values {
		plain := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:@", r)
		}
		if v != "" && strings.IndexFunc(v, func(r rune) bool { return !plain(r) }) < 0 {
			list = append(list, []byte(`"`+v+`"`))
		}
	}
	return list
}

func (q *query) skips(line []byte) bool {
	return slices.ContainsFunc(q.needles, func(n []byte) bool { return !bytes.Contains(line, n) })
}

// mostLate is how much older a record may be than the file that it is in: it has waited in
// memory, while nothing could be written.
const mostLate = 24 * time.Hour

// skipsFile reports whether all records of a file are too old or too new. A file has none
// that are newer than the one after it, and is begun with what has waited longest.
func (r *reader[T]) skipsFile(name, next string) bool {
	if at := begun(next); !r.since.IsZero() && !at.IsZero() && at.Before(r.since) {
		return true
	}
	at := begun(name)
	return !r.until.IsZero() && !at.IsZero() && at.Add(-mostLate).After(r.until) && r.firstTime(name).After(r.until)
}

// firstTime returns the time of the first record of a file, if it can be read.
func (r *reader[T]) firstTime(name string) time.Time {
	var first struct {
		Time time.Time `json:"time"`
	}
	f, err := openForReading(r.Dir, r.Spill, name)
	if err != nil {
		return first.Time
	}
	defer func() { _ = f.Close() }() // read only
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &first) != nil {
		return time.Time{}
	}
	return first.Time
}

// progressEvery is how many bytes are read between two calls of Progress.
const progressEvery = 1 << 20

// A reader reads a log on from where it was.
type reader[T any] struct {
	Source
	query
	match   func(T) bool
	fn      func(T) error
	at      Position
	damage  []error
	done    int64
	total   int64
	told    int64
	skipped func(name string) // for tests
}

func read[T any](s Source, q query, match func(T) bool, fn func(T) error) error {
	r := reader[T]{Source: s, query: q, match: match, fn: fn}
	if err := r.readOn(); err != nil {
		return err
	}
	return errors.Join(r.damage...)
}

// followEvery is how often somebody who follows looks for more.
const followEvery = 200 * time.Millisecond

func follow[T any](ctx context.Context, s Source, q query, match func(T) bool, fn func(T) error) error {
	r := reader[T]{Source: s, query: q, match: match, fn: fn}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if err := r.readOn(); err != nil {
			return err
		}
		if err := errors.Join(r.damage...); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// readOn reads what there is after what was read.
func (r *reader[T]) readOn() error {
	names, err := allSegments(r.Dir, r.Spill)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading audit log: no log at %s (is that a folder in the server's --data?): %w", r.Dir, err)
	}
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	if r.Progress != nil {
		r.measure(names)
	}
	for i, name := range names {
		next := ""
		if i+1 < len(names) {
			next = names[i+1]
		}
		if name < r.at.Segment {
			continue
		}
		if name > r.at.Segment {
			r.at = Position{Segment: name}
			if r.skipsFile(name, next) {
				if r.skipped != nil {
					r.skipped(name)
				}
				continue
			}
		}
		if err := r.readFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was taken away
			return err
		}
	}
	return r.progress(true)
}

// measure adds up what is to be read.
func (r *reader[T]) measure(names []string) {
	r.total = 0
	for i, name := range names {
		if i+1 < len(names) && r.skipsFile(name, names[i+1]) {
			continue
		}
		if f, err := openForReading(r.Dir, r.Spill, name); err == nil {
			if info, err := f.Stat(); err == nil {
				r.total += info.Size()
			}
			_ = f.Close() // read only
		}
	}
}

func (r *reader[T]) progress(now bool) error {
	if r.Progress == nil || !now && r.done-r.told < progressEvery {
		return nil
	}
	r.told = r.done
	return r.Progress(r.done, max(r.total, r.done))
}

// readFile reads one file on. A line that cannot be read hides no other: it is among the
// damage.
func (r *reader[T]) readFile(name string) error {
	f, err := openForReading(r.Dir, r.Spill, name)
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err == nil && info.Size() < r.at.Offset {
		r.at.Offset = info.Size() // what was not reported as written was cut off again
	}
	n := 0
	return linesOf(f, r.at, -1, func(line []byte, next Position) error {
		n++
		r.done += next.Offset - r.at.Offset
		r.at = next
		if err := r.progress(false); err != nil {
			return err
		}
		if r.skips(line) && json.Valid(line) { // a line that is broken is told of
			return nil
		}
		return r.line(line, f.Name(), n)
	})
}

func (r *reader[T]) line(line []byte, file string, n int) error {
	var v T
	if err := json.Unmarshal(line, &v); err != nil {
		const most = 10
		if len(r.damage) < most {
			r.damage = append(r.damage, fmt.Errorf("reading audit log %s line %d: %w", file, n, err))
		}
		return nil
	}
	if !r.match(v) {
		return nil
	}
	return r.fn(v)
}
