package metadata

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Store keeps notes, occurrences, documents and the feed of changes to them. Service is
// its only user and does all checking of content; a store does what only a
// transaction can. Package metadatatest holds every store to this contract:
//
//   - Apply is atomic, and durable when it returns nil, if the store is durable
//     at all. A write that returned an error of kind [Unavailable] may or may not
//     have been kept; any other error means that it was not.
//   - All methods may be called at the same time. What a method reads includes
//     every Apply that returned before it was called.
//   - Sequence numbers start at 1 and grow by one with each mutation of a note, an
//     occurrence or a document, in commit order. Head never runs ahead of what
//     reads can see.
//   - What several processes write to one store, each of them sees in reads at
//     once. Head and Wait tell of another process's writes soon after.
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

	// CountOccurrences returns how many rows the query selects, at most its
	// limit, without reading them. What the hints exclude may be counted too.
	CountOccurrences(ctx context.Context, q OccurrenceQuery) (int, error)

	// Project reports whether the project was created.
	Project(ctx context.Context, id string) (bool, error)

	// Projects returns the ids of projects that were created, in their order,
	// those after the given one and at most limit of them.
	Projects(ctx context.Context, after string, limit int) (ids []string, more bool, err error)

	// Parents returns the project and its locations, those of them that have
	// occurrences, in the order of their names. It may look at every parent in the
	// store, and is not for each request.
	Parents(ctx context.Context, project string) ([]Parent, error)

	// Policy returns the access policy of a note, an occurrence or a document by
	// its name, nil if it has none or does not exist.
	Policy(ctx context.Context, resource string) ([]byte, error)

	// Document returns a revision of a document, of number 0 the newest, even if
	// that is its deletion. NotFound means that there never was one.
	Document(ctx context.Context, name string, revision uint64) (*Document, error)

	// Documents returns the newest revisions of the documents that are there, as
	// [Store.Notes] returns notes.
	Documents(ctx context.Context, q DocumentQuery) (rows []*Document, more bool, err error)

	// Revisions returns the revisions of a document before the given one, newest
	// first; 0 begins at the newest. They stop as those of [Store.Notes] do. A
	// document that never was has none.
	Revisions(ctx context.Context, name string, before uint64, limit int) (rows []*Document, more bool, err error)

	// Summaries returns what the scans of a parent's resources found, in the
	// order of their resource keys.
	Summaries(ctx context.Context, q SummaryQuery) (rows []*Summary, more bool, err error)

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
	// UpdateNote and UpdateOccurrence replace the message of their name, which
	// must be of the same kind and, for an occurrence, of the same note and
	// resource. They fail with NotFound if there is none, with Aborted if the
	// stored one's update time is not IfUpdateTime, and an occurrence with
	// AlreadyExists if another one has its [Keys] Statement.
	UpdateNote       *grafeas.Note
	UpdateOccurrence *grafeas.Occurrence
	IfUpdateTime     *timestamppb.Timestamp
	// DeleteNote fails with NotFound if the note does not exist, and with
	// FailedPrecondition as long as there are occurrences of it. The access
	// policy goes with the note, and so it does with DeleteOccurrence.
	DeleteNote NoteName
	// DeleteOccurrence fails with NotFound if the occurrence does not exist.
	DeleteOccurrence OccurrenceName
	// CreateProject fails with AlreadyExists if the project was created before,
	// DeleteProject with NotFound if it was not. Neither touches what is filed
	// under the project, and neither appears in the feed.
	CreateProject string
	DeleteProject string
	// SetPolicy replaces an access policy. It does not appear in the feed.
	SetPolicy *PolicyChange
	// WriteDocument adds a revision to a document.
	WriteDocument *DocumentWrite
}

// A PolicyChange replaces the access policy of a resource. It fails with NotFound
// if that does not exist, and with Aborted if its policy is not Was.
type PolicyChange struct {
	Resource string // the name of a note, an occurrence or a document
	Was, To  []byte // nil is no policy
	// Implied says that the resource exists even if it was never written, as the
	// policy of a project does.
	Implied bool
}

// A NoteQuery selects the notes of a parent that match all of its fields, in the
// order of their ids.
type NoteQuery struct {
	Parent Parent
	// IDPrefix is how their ids begin.
	IDPrefix string
	// Kinds restricts to the kinds in it.
	Kinds Kinds
	// After is the note id to begin after; "" begins at the first.
	After string
	// Limit is at least 1.
	Limit int
}

// An OccurrenceQuery selects occurrences that match all of its fields, newest
// (greatest id) first. At least one of Parent and Note is set. A store may use
// whatever index it thinks best, and must check the fields that it has not used.
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
	// Hints say more of the rows that are wanted. A store may use an index for
	// them, and may return rows that they exclude: who asks looks at each.
	Hints Hints
}

// Hints narrow an [OccurrenceQuery]. Fields that are empty say nothing.
type Hints struct {
	// Prefixes are of canonical resource URIs: one of them begins each row's.
	// See [CanonicalURI].
	Prefixes []string
	// NoteProject is the project of the rows' notes, whatever its location;
	// NoteID is their id, and NoteIDPrefix how it begins.
	NoteProject, NoteID, NoteIDPrefix string
}

// An Op is what a change did.
type Op int

// The operations.
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

// A Change is one entry of the feed. One of Note, Occurrence and Document is set.
// It is the whole message as that change left it; of one that was deleted only the
// name, the kind and, for an occurrence, the note's name and the resource URI. A
// document is the revision that the change has made.
type Change struct {
	Seq        uint64
	Op         Op
	Note       *grafeas.Note
	Occurrence *grafeas.Occurrence
	Document   *Document
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

// A SummaryQuery selects summaries of one parent.
type SummaryQuery struct {
	Parent Parent
	// Resources restricts to these resource keys, unless it is nil.
	Resources []Key
	// After is the key to begin after; the zero Key begins at the first.
	After Key
	// Limit is at least 1.
	Limit int
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
	return Errorf(FailedPrecondition, "note %q is of kind %s and cannot have occurrences of kind %s", note, KindName(have), KindName(want))
}

// OccurrenceMissing is the NotFound of an occurrence.
func OccurrenceMissing(name OccurrenceName) error { return occurrenceMissing(name.String()) }

func occurrenceMissing(name string) error {
	return Errorf(NotFound, "occurrence %q does not exist", clip(name))
}

// OccurrenceExists is the AlreadyExists of an occurrence: its name, or the
// statement it makes, is there already.
func OccurrenceExists(o *grafeas.Occurrence) error {
	return Errorf(AlreadyExists, "the same occurrence of note %q for %q already exists", o.GetNoteName(), clip(o.GetResourceUri()))
}

// Changed is the Aborted of a message that somebody else changed meanwhile.
func Changed(name string) error {
	return Errorf(Aborted, "%q was changed by somebody else; read it again and repeat the change", name)
}

// ProjectExists is the AlreadyExists of a project.
func ProjectExists(id string) error {
	return Errorf(AlreadyExists, "project %q already exists", "projects/"+id)
}

// ProjectMissing is the NotFound of a project.
func ProjectMissing(id string) error {
	return Errorf(NotFound, "project %q does not exist", "projects/"+id)
}
