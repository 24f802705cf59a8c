package index

import (
	"math"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// coldShare is the part of the limit that is dropped at once, so that finding out
	// what is old is not done for each statement.
	coldShare = 8
	// coldSample is how many statements tell what is old: with so many, the part that
	// is dropped is between 0.11 and 0.14 of all, but for one time in a thousand.
	coldSample = 4096
	// coldBatch is how many digests are looked at while a lock is held.
	coldBatch = 1000
)

// cold are the statements that are not kept because there are too many: those created
// before a moment.
type cold struct {
	limit  int // of statements; 0 is no bound
	kept   int
	before int64 // in nanoseconds since 1970
	// next is how many there may be before more are dropped, when there are more that
	// are never dropped than the limit has room for.
	next int
}

// A sparable statement can be missed: there is less to rest on without it. The earliest
// upload is what an image's age is counted from, so that without it more would be.
func (s *statement) sparable() bool { return s.kind() != upload }

func (c *cold) is(s *statement) bool { return s.created < c.before && s.sparable() }

// warm drops those that are not kept, in place.
func (c *cold) warm(statements []statement) []statement {
	if c.before == math.MinInt64 {
		return statements
	}
	return slices.DeleteFunc(statements, func(s statement) bool { return c.is(&s) })
}

func (c *cold) full() bool { return c.limit > 0 && c.kept > max(c.limit, c.next) }

// Bound sets how many statements are kept, about; 0 is no bound. It is called before
// anything is read.
func (x *Index) Bound(statements int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.book.cold.limit = statements
}

// Cold returns the moment of creation before which statements are not in memory, but
// for uploads; and false if all are.
func (x *Index) Cold() (before time.Time, some bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.book.cold.before == math.MinInt64 {
		return time.Time{}, false
	}
	return time.Unix(0, x.book.cold.before).UTC(), true
}

// cool drops the oldest statements if there are too many. Requests are answered
// meanwhile.
func (x *Index) cool() {
	x.mu.RLock()
	full := x.book.cold.full()
	x.mu.RUnlock()
	if !full || !x.cooling.CompareAndSwap(false, true) {
		return
	}
	defer x.cooling.Store(false)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.book.age()
	renewed, looked := x.renewed, 0
	for d := range x.book.entries.all() { // which may change meanwhile, between two digests
		x.book.chill(d)
		if looked++; looked%coldBatch == 0 {
			x.mu.Unlock()
			x.mu.Lock() // whoever has waited goes first
			if x.renewed != renewed {
				return
			}
		}
	}
	c := &x.book.cold
	c.next = c.kept + c.limit/coldShare
}

// age sets from when on statements are kept, so that about a part of them goes. Maps are
// iterated in an order that has nothing to do with age, and so the first are a sample.
func (b *book) age() {
	sample := make([]int64, 0, coldSample)
	for _, e := range b.entries.all() {
		have := e.statements
		for i := range have {
			if len(sample) < coldSample && have[i].sparable() {
				sample = append(sample, have[i].created)
			}
		}
		if len(sample) == coldSample {
			break
		}
	}
	if len(sample) == 0 {
		return
	}
	slices.Sort(sample)
	if oldest := sample[len(sample)/coldShare]; oldest < math.MaxInt64 {
		b.cold.before = max(b.cold.before, oldest+1)
	}
}

// chill drops what is not kept any more of a digest.
func (b *book) chill(d image.Digest) {
	have := b.statements(d)
	if !slices.ContainsFunc(have, func(s statement) bool { return b.cold.is(&s) }) {
		return
	}
	warm := make([]statement, 0, len(have))
	for i := range have {
		if !b.cold.is(&have[i]) {
			warm = append(warm, have[i])
		} else if have[i].size() > 0 {
			b.wholes.drop(wholeName{d, have[i].occurrence()})
		}
	}
	b.put(d, slices.Clip(warm))
}
