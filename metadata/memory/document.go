package memory

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A document is all revisions of a name, oldest first; the number of one is its
// place from 1. They are never modified.
type document struct {
	revisions []*metadata.Document
	refers    []string // of the newest
}

// newest returns the newest revision; of none it is a deletion of number 0.
func (d *document) newest() *metadata.Document {
	if d == nil || len(d.revisions) == 0 {
		return &metadata.Document{}
	}
	return d.revisions[len(d.revisions)-1]
}

// live reports whether the document is there.
func (d *document) live() bool { return !d.newest().Deleted() }

func (s *Store) writeDocument(w *metadata.DocumentWrite) (func(), error) {
	d := s.documents[w.Name]
	newest := d.newest()
	switch {
	case newest.Revision+1 != w.Revision:
		return nil, metadata.Changed(w.Name)
	case w.Deleted() && newest.Deleted():
		return nil, metadata.DocumentMissing(w.Name)
	}
	if missing := s.missing(w); !w.Deleted() && len(missing) > 0 {
		return nil, metadata.ReferredMissing(w.Name, missing)
	}
	if users := s.referrers(w.Name); w.Deleted() && !w.EvenIfReferred && len(users) > 0 {
		return nil, metadata.DocumentInUse(w.Name, users)
	}
	if d == nil {
		d = &document{}
		s.documents[w.Name] = d
	}
	revision, refers := w.Clone(), d.refers
	d.revisions, d.refers = append(d.revisions, revision), slices.Clone(w.Refers)
	back := func() {}
	op := metadata.Updated
	switch {
	case w.Deleted():
		d.refers = nil
		op, back = metadata.Deleted, s.dropPolicy(w.Name)
	case newest.Deleted():
		op = metadata.Created
	}
	s.emit(metadata.Change{Op: op, Document: revision})
	return func() {
		d.revisions, d.refers = d.revisions[:len(d.revisions)-1], refers
		back()
	}, nil
}

// missing returns the documents that a write refers to and that are not there.
func (s *Store) missing(w *metadata.DocumentWrite) []string {
	var missing []string
	for _, name := range w.Refers {
		if !s.documents[name].live() {
			missing = append(missing, name)
		}
	}
	return missing
}

// referrers returns the documents that refer to one, but for itself.
func (s *Store) referrers(name string) []string {
	var users []string
	for _, user := range slices.Sorted(maps.Keys(s.documents)) {
		if user != name && slices.Contains(s.documents[user].refers, name) {
			users = append(users, user)
		}
	}
	return users
}

// Document returns a revision of a document.
func (s *Store) Document(_ context.Context, name string, revision uint64) (*metadata.Document, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	newest := s.documents[name].newest()
	switch {
	case newest.Revision == 0:
		return nil, metadata.DocumentMissing(name)
	case revision > newest.Revision:
		return nil, metadata.RevisionMissing(name, revision)
	case revision == 0:
		return newest.Clone(), nil
	}
	return s.documents[name].revisions[revision-1].Clone(), nil
}

// Documents returns the documents that the query selects.
func (s *Store) Documents(_ context.Context, q metadata.DocumentQuery) ([]*metadata.Document, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	p := pager{limit: q.Limit}
	for _, name := range slices.Sorted(maps.Keys(s.documents)) {
		d := s.documents[name]
		if name > q.After && strings.HasPrefix(name, q.Prefix) && d.live() && !p.add(d.newest()) {
			break
		}
	}
	return p.rows, p.more, nil
}

// Revisions returns revisions of a document, newest first.
func (s *Store) Revisions(_ context.Context, name string, before uint64, limit int) ([]*metadata.Document, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	d := s.documents[name]
	if d == nil {
		return nil, false, nil
	}
	p := pager{limit: limit}
	for _, r := range slices.Backward(d.revisions) {
		if (before == 0 || r.Revision < before) && !p.add(r) {
			break
		}
	}
	return p.rows, p.more, nil
}

// A pager gathers rows up to a limit, and to MaxPageBytes.
type pager struct {
	limit, bytes int
	rows         []*metadata.Document
	more         bool
}

// add reports whether there was room.
func (p *pager) add(d *metadata.Document) bool {
	p.bytes += len(d.Content)
	if p.more = len(p.rows) == p.limit || len(p.rows) > 0 && p.bytes > metadata.MaxPageBytes; p.more {
		return false
	}
	p.rows = append(p.rows, d.Clone())
	return true
}
