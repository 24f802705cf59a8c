package metadata

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// A Store keeps notes, occurrences and the feed of changes to them. Service is
// its only user and does all checking of content; a store does what only a
// transaction can. Package metadatatest holds every store to this contract:
//
//   - Apply is atomic, and durable when it returns nil, if the store is durable
//     at all. A write that returned an error of kind [Unavailable] may or may not
//     have been kept; any other error means that it was not.
//   - All methods may be called at the same time. What a method reads includes
//     every Apply that returned before it was called.
//   - Sequence numbers start at 1 and grow by one with each mutation, in commit
//     order. Head never runs ahead of what reads can see.
//   - Messages given to Apply are not modified, nor kept; messages returned
//     belong to the caller.
//   - After Close every method but Head returns an error of kind Unavailable,
//     and waiting callers are woken with it.
type Store interface {
	// Apply commits all mutations or none, and gives up with ctx's error if it
	// has not begun when ctx is done. See [Mutation] for what each demands.
	Apply(ctx context.Context, mutations ...Mutation) error

	// Note and Occurrence return one message, or an error of kind NotFound.
	Note(ctx context.Context, name NoteName) (*grafeas.Note, error)
	Occurrence(ctx context.Context, name OccurrenceName) (*grafeas.Occurrence, error)

	// Notes and Occurrences return rows in the order of the query. They stop at
	// its limit, or earlier where their messages would pass [MaxPageBytes] (but
	// never before the first); more tells whether there are rows after them.
	Notes(ctx context.Context, q NoteQuery) (rows []*grafeas.Note, more bool, err error)
	Occurrences(ctx context.Context, q OccurrenceQuery) (rows []*grafeas.Occurrence, more bool, err error)

	// Changes, Head and Wait are those of [Service].
	Changes(ctx context.Context, after uint64, limit int) ([]Change, error)
	Head() uint64
	Wait(ctx context.Context, after uint64) error

	// PageKey returns the 32 secret bytes that authenticate page tokens: the
	// same ones for as long as the data lives.
	PageKey(ctx context.Context) ([]byte, error)

	// Close waits for running calls and releases the store.
	Close() error
}

// A Mutation is one thing to write. Exactly one of its fields is set.
type Mutation struct {
	// CreateNote fails with AlreadyExists if there is a note of its name.
	CreateNote *grafeas.Note
	// CreateOccurrence fails with NotFound if its note does not exist, with
	// FailedPrecondition if its note is of another kind, and with AlreadyExists
	// if another occurrence has the same name or the same [Keys] Statement.
	CreateOccurrence *grafeas.Occurrence
	// DeleteNote fails with NotFound if the note does not exist, and with
	// FailedPrecondition as long as there are occurrences of it.
	DeleteNote NoteName
	// DeleteOccurrence fails with NotFound if the occurrence does not exist.
	DeleteOccurrence OccurrenceName
}

// A NoteQuery selects the notes of a parent, in the order of their ids.
type NoteQuery struct {
	Parent Parent
	// After is the note id to begin after; "" begins at the first.
	After string
	// Limit is at least 1.
	Limit int
}

// An OccurrenceQuery selects occurrences that match all of its fields, newest
// (greatest id) first. At least one of Parent and Note is set.
type OccurrenceQuery struct {
	// Parent restricts to one parent, unless it is zero.
	Parent Parent
	// Note restricts to one note, unless it is zero.
	Note NoteName
	// Resources and Subjects restrict to occurrences with one of these keys,
	// unless they are nil. See [Keys].
	Resources []Key
	Subjects  []Key
	// Kinds restricts to the kinds in it.
	Kinds Kinds
	// Before is the id to begin after, going down; the zero ID begins at the newest.
	Before ID
	// Limit is at least 1.
	Limit int
}

// An Op is what a change did.
type Op int

// The operations. No call updates anything yet.
const (
	Created Op = iota + 1
	Updated
	Deleted
)

// String returns "created", "updated" or "deleted".
func (op Op) String() string {
	switch op {
	case Created:
		return "created"
	case Updated:
		return "updated"
	case Deleted:
		return "deleted"
	}
	return fmt.Sprintf("Op(%d)", int(op))
}

// A Change is one entry of the feed. Either Note or Occurrence is set. It is the
// whole message as that change left it; of one that was deleted only the name,
// the kind and, for an occurrence, the note's name and the resource URI.
type Change struct {
	Seq        uint64
	Op         Op
	Note       *grafeas.Note
	Occurrence *grafeas.Occurrence
}

// NoteTombstone returns what a Deleted change tells of a note.
func NoteTombstone(n *grafeas.Note) *grafeas.Note {
	return &grafeas.Note{Name: n.GetName(), Kind: n.GetKind()}
}

// OccurrenceTombstone returns what a Deleted change tells of an occurrence.
func OccurrenceTombstone(o *grafeas.Occurrence) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		Name:        o.GetName(),
		Kind:        o.GetKind(),
		NoteName:    o.GetNoteName(),
		ResourceUri: o.GetResourceUri(),
	}
}

// The errors that every store gives for a broken rule.

// NoteMissing is the NotFound of a note.
func NoteMissing(name NoteName) error {
	return Errorf(NotFound, "note %q does not exist", name)
}

// NoteExists is the AlreadyExists of a note.
func NoteExists(name NoteName) error {
	return Errorf(AlreadyExists, "note %q already exists", name)
}

// NoteInUse is the FailedPrecondition of a note that has occurrences.
func NoteInUse(name NoteName) error {
	return Errorf(FailedPrecondition, "note %q has occurrences; delete those first", name)
}

// KindMismatch is the FailedPrecondition of an occurrence whose note is of
// another kind.
func KindMismatch(note NoteName, have, want grafeas.NoteKind) error {
	return Errorf(FailedPrecondition, "note %q is of kind %s and cannot have occurrences of kind %s", note, have, want)
}

// OccurrenceMissing is the NotFound of an occurrence.
func OccurrenceMissing(name OccurrenceName) error {
	return Errorf(NotFound, "occurrence %q does not exist", name)
}

// OccurrenceExists is the AlreadyExists of an occurrence: its name, or the
// statement it makes, is there already.
func OccurrenceExists(o *grafeas.Occurrence) error {
	return Errorf(AlreadyExists, "the same occurrence of note %q for %q already exists", o.GetNoteName(), clip(o.GetResourceUri()))
}
