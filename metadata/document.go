package metadata

import (
	"context"
	"slices"
	"strings"
	"time"
)

// MaxDocumentBytes bounds the content of a document: what a list of attestors may
// have, which is the largest there is.
const MaxDocumentBytes = 4 << 20

// A Document is one revision of a text that is kept with its whole history, such
// as a policy. The store does not look into it.
type Document struct {
	// Name is a resource name, such as "projects/p/policy" or
	// "projects/p/attestors/a".
	Name string
	// Content is empty in a revision that deletes the document.
	Content []byte
	// Revision counts the revisions of the name from 1, deletions included: a
	// document that is created again goes on from where it was.
	Revision uint64
	// Author is the name of the caller who wrote it, "" for an anonymous one.
	Author string
	// Time has microseconds, and is in UTC.
	Time time.Time
	// Comment is what the author said about it.
	Comment string
}

// Deleted reports whether the revision deletes the document.
func (d *Document) Deleted() bool { return len(d.Content) == 0 }

// Clone returns a copy, nil of nil.
func (d *Document) Clone() *Document {
	if d == nil {
		return nil
	}
	c := *d
	c.Content = slices.Clone(d.Content)
	return &c
}

// A DocumentWrite adds a revision to a document, in one of three ways: it creates
// one, replaces it, or, without content, deletes it. It fails
//
//   - with Aborted if Revision is not one more than that of the newest revision,
//   - with NotFound if it deletes what is not there,
//   - with InvalidArgument if one of the documents that it refers to is not there,
//   - with FailedPrecondition if it deletes what others refer to, unless it is
//     to leave them without.
//
// The access policy goes with the document. Revisions are kept for ever.
type DocumentWrite struct {
	Document
	// Refers are the names of the documents that the content names.
	Refers []string
	// EvenIfReferred deletes what others refer to.
	EvenIfReferred bool
}

// A DocumentQuery selects documents that are there, in the order of their names.
type DocumentQuery struct {
	// Prefix is how their names begin, "projects/p/attestors/" for those of a
	// collection.
	Prefix string
	// After is the name to begin after; "" begins at the first.
	After string
	// Limit is at least 1.
	Limit int
}

// DocumentMissing is the NotFound of a document.
func DocumentMissing(name string) error {
	return Errorf(NotFound, "%q does not exist", clip(name))
}

// RevisionMissing is the NotFound of a revision.
func RevisionMissing(name string, revision uint64) error {
	return Errorf(NotFound, "%q has no revision %d", clip(name), revision)
}

// ReferredMissing is the InvalidArgument of a document that refers to others which
// do not exist.
func ReferredMissing(name string, missing []string) error {
	return Errorf(InvalidArgument, "%q names what does not exist: %s", clip(name), quoteSome(missing))
}

// DocumentInUse is the FailedPrecondition of a document that others refer to;
// some of them are enough.
func DocumentInUse(name string, by []string) error {
	return Errorf(FailedPrecondition, "%q is in use by %s", clip(name), quoteSome(by))
}

// quoteSome lists names for an error, not more than somebody would read.
func quoteSome(names []string) string {
	const most = 10
	quoted := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		quoted = append(quoted, `"`+clip(n)+`"`)
	}
	list := strings.Join(quoted, ", ")
	if len(names) > most {
		list += " and others"
	}
	return list
}

// Documents calls fn for every document whose name begins with the prefix, in the
// order of names, and returns the sequence number asOf which the snapshot is
// complete. Like [Service.Changes] it is for the server's own parts, and asks
// nobody's permission. An error of fn ends the reading and is returned.
func (s *Service) Documents(ctx context.Context, prefix string, fn func(*Document) error) (asOf uint64, err error) {
	asOf = s.store.Head()
	q := DocumentQuery{Prefix: prefix, Limit: MaxPageSize}
	for {
		rows, more, err := s.store.Documents(ctx, q)
		if err != nil {
			return 0, err
		}
		for _, d := range rows {
			if err := fn(d); err != nil {
				return 0, err
			}
			q.After = d.Name
		}
		if !more || len(rows) == 0 {
			return asOf, nil
		}
	}
}

// Document returns the newest revision of a document, which may be its deletion,
// for the server's own parts.
func (s *Service) Document(ctx context.Context, name string) (*Document, error) {
	return s.store.Document(ctx, name, 0)
}
