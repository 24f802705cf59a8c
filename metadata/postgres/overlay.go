package postgres

import (
	"cmp"
	"slices"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// An overlay is the part of the database that a transaction touches, as it was
// read, with the changes that its jobs have made so far. What it has no cell for
// is not in the database.
type overlay struct {
	base  uint64 // the head before
	floor uint64

	notes       table[metadata.Key, noteRow]
	occurrences table[metadata.ID, occurrenceRow]
	statements  table[metadata.Key, metadata.ID]
	projects    table[string, struct{}]
	policies    table[string, []byte]
	summaries   table[summaryKey, summaryRow]
	documents   table[string, documentRow]
	// revisions are those of documents that the jobs have written, and referrers
	// what refers to documents that are deleted, in the database.
	revisions []revision
	referrers map[string][]string
	// users are the first occurrences of each note that is deleted, enough of
	// them that one is left if the transaction deletes others.
	users map[metadata.Key][]metadata.ID

	events []event
	kept   map[uint64][]byte // payloads for events in the database that have none

	// undo takes back what the running job has done, last first.
	undo []func()
	// copied are the summaries that the running job may modify.
	copied map[summaryKey]bool
}

func newOverlay() *overlay {
	return &overlay{
		notes:       table[metadata.Key, noteRow]{},
		occurrences: table[metadata.ID, occurrenceRow]{},
		statements:  table[metadata.Key, metadata.ID]{},
		projects:    table[string, struct{}]{},
		policies:    table[string, []byte]{},
		summaries:   table[summaryKey, summaryRow]{},
		documents:   table[string, documentRow]{},
		referrers:   map[string][]string{},
		users:       map[metadata.Key][]metadata.ID{},
		kept:        map[uint64][]byte{},
	}
}

// A noteRow is a row of note. Rows are replaced and not modified.
type noteRow struct {
	seq     uint64
	kind    grafeas.NoteKind
	name    metadata.NoteName
	payload []byte // nil if it was not read, because nobody changes it
}

// An occurrenceRow is a row of occurrence.
type occurrenceRow struct {
	seq       uint64
	kind      grafeas.NoteKind
	parent    metadata.Key
	note      metadata.Key
	resource  metadata.Key
	subject   metadata.Key
	statement metadata.Key
	uri       string // canonical; "" if it was read and not written
	payload   []byte
}

// A subject is what an event is about.
type subject int

const (
	anOccurrence subject = iota
	aNote
	aDocument
)

// An event is a row of event; its number follows from its place. Without a
// payload it is that of the row of its key, or, for a document, of its number.
type event struct {
	op      metadata.Op
	about   subject
	key     [16]byte
	payload []byte
}

// seq is the number of the last change.
func (o *overlay) seq() uint64 { return o.base + uint64(len(o.events)) }

// commitJob makes the running job's changes part of the transaction.
func (o *overlay) commitJob() { o.undo, o.copied = o.undo[:0], nil }

// undoJob takes the running job's changes back.
func (o *overlay) undoJob() {
	for _, back := range slices.Backward(o.undo) {
		back()
	}
	o.commitJob()
}

// emit appends an event.
func (o *overlay) emit(e event) {
	o.events = append(o.events, e)
	o.undo = append(o.undo, func() { o.events = o.events[:len(o.events)-1] })
}

// keep moves a message that its row will no longer have into the event of its
// creation, unless an earlier change did so.
func (o *overlay) keep(seq uint64, payload []byte) {
	if seq > o.base {
		e := &o.events[seq-o.base-1]
		if e.payload == nil {
			e.payload = payload
			o.undo = append(o.undo, func() { o.events[seq-o.base-1].payload = nil })
		}
		return
	}
	if _, found := o.kept[seq]; !found {
		o.kept[seq] = payload
		o.undo = append(o.undo, func() { delete(o.kept, seq) })
	}
}

// inUse reports whether there are occurrences of the note.
func (o *overlay) inUse(note metadata.Key) bool {
	for _, id := range o.users[note] {
		if _, touched := o.occurrences[id]; !touched {
			return true
		}
	}
	for _, c := range o.occurrences {
		if c.is != nil && c.is.note == note {
			return true
		}
	}
	return false
}

// A cell is one row, or what takes its place: as it was read, and as it is now.
// Both are nil if there is none.
type cell[V any] struct{ was, is *V }

// A table holds the cells of the rows that are touched.
type table[K comparable, V any] map[K]*cell[V]

// load adds what was read.
func (t table[K, V]) load(key K, row *V) { t[key] = &cell[V]{was: row, is: row} }

// get returns the row as it is now, or nil.
func (t table[K, V]) get(key K) *V {
	if c := t[key]; c != nil {
		return c.is
	}
	return nil
}

// put replaces the row; nil deletes it.
func (t table[K, V]) put(o *overlay, key K, row *V) {
	c := t[key]
	if c == nil {
		c = &cell[V]{}
		t[key] = c
	}
	before := c.is
	c.is = row
	o.undo = append(o.undo, func() { c.is = before })
}

// changed returns the keys of the cells that are not as they were, in order.
func changed[K comparable, V any](t table[K, V], compare func(a, b K) int) []K {
	var keys []K
	for k, c := range t {
		if c.was != c.is {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compare)
	return keys
}

func compareBytes[K ~[16]byte](a, b K) int { return slices.Compare(a[:], b[:]) }

func compareSummaryKeys(a, b summaryKey) int {
	return cmp.Or(compareBytes(a.parent, b.parent), compareBytes(a.resource, b.resource))
}
