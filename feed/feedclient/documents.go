package feedclient

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// maxDocuments bounds those of a project.
const maxDocuments = 20_000

// documents are the newest revisions of those that this gate is told of.
type documents struct {
	newest map[string]*metadata.Document
	// complete is set once all have arrived.
	complete bool
	// Followers are told of changes by a number of our own, since many may arrive at
	// once when the server comes back.
	version uint64
	changes map[string]textChange
	applied uint64
}

// A textChange is the latest change of a document.
type textChange struct {
	seq, version uint64
	document     *metadata.Document
}

func newDocuments() documents {
	return documents{newest: make(map[string]*metadata.Document), changes: make(map[string]textChange)}
}

// put takes in a revision that was told of, unless it is an older one: the documents
// were read after the place in the feed where changes begin.
func (d *documents) put(t textChange) {
	name := t.document.Name
	if have := d.newest[name]; have != nil && have.Revision >= t.document.Revision && same(have, t.document) {
		return
	}
	d.set(t)
}

func same(a, b *metadata.Document) bool {
	return a.Revision == b.Revision && bytes.Equal(a.Content, b.Content)
}

func (d *documents) set(t textChange) {
	d.version++
	t.version = d.version
	d.newest[t.document.Name], d.changes[t.document.Name] = t.document, t
}

// replace takes in all documents, as of a number.
func (d *documents) replace(all []*metadata.Document, seq uint64) {
	there := make(map[string]bool)
	for _, doc := range all {
		there[doc.Name] = true
		if have := d.newest[doc.Name]; have == nil || !same(have, doc) {
			d.set(textChange{seq: seq, document: doc})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.newest)) {
		if have := d.newest[name]; !there[name] && !have.Deleted() {
			d.set(textChange{seq: seq, document: &metadata.Document{Name: name, Revision: have.Revision + 1}})
		}
	}
	d.complete = true
}

func (d *documents) apply(version uint64) { d.applied = max(d.applied, version) }

// pending returns the number before the first change that was not applied yet.
func (d *documents) pending() (before uint64, some bool) {
	for _, t := range d.changes {
		if t.version <= d.applied {
			continue
		}
		if seq := max(t.seq, 1) - 1; !some || seq < before {
			before, some = seq, true
		}
	}
	return before, some
}

func documentFrom(d *gatehousev1.Document) *metadata.Document {
	doc := &metadata.Document{Name: d.GetName(), Content: d.GetContent(), Revision: d.GetRevision(), Author: d.GetAuthor()}
	if d.GetTime() != nil {
		doc.Time = d.GetTime().AsTime()
	}
	return doc
}

// Documents is the side of a client that policies are read from. Its numbers are not
// those of the feed.
type Documents struct{ c *Client }

// Documents returns that side.
func (c *Client) Documents() *Documents { return &Documents{c} }

// Document returns the newest revision of a document, which may be its deletion. One of
// another project is asked for, and told of from then on.
func (d *Documents) Document(ctx context.Context, name string) (*metadata.Document, error) {
	c := d.c
	var found *metadata.Document
	told := false
	err := c.await(ctx, func() bool {
		found = c.documents.newest[name].Clone()
		told = strings.HasPrefix(name, "projects/"+c.opts.Project+"/") || !strings.HasPrefix(name, "projects/") || c.interest[aDocument][name]
		return c.documents.complete
	})
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		return found, nil
	case told:
		return nil, metadata.DocumentMissing(name)
	}
	err = c.read(ctx, aDocument, name, func(p *gatehousev1.Part) error {
		for _, m := range p.GetDocuments() {
			if m.GetName() == name {
				found = documentFrom(m)
			}
		}
		return nil
	})
	if err != nil {
		c.mu.Lock()
		delete(c.interest[aDocument], name) // to be asked for again
		c.mu.Unlock()
		return nil, err
	}
	if found == nil {
		return nil, metadata.DocumentMissing(name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.documents.newest[name]; have == nil || have.Revision < found.Revision {
		c.documents.newest[name] = found
	}
	return found.Clone(), nil
}

// Documents calls fn with those that are there and whose names begin so, in order.
func (d *Documents) Documents(ctx context.Context, prefix string, fn func(*metadata.Document) error) (asOf uint64, err error) {
	c := d.c
	var all []*metadata.Document
	err = c.await(ctx, func() bool {
		all = nil
		for _, name := range slices.Sorted(maps.Keys(c.documents.newest)) {
			if doc := c.documents.newest[name]; strings.HasPrefix(name, prefix) && !doc.Deleted() {
				all = append(all, doc.Clone())
			}
		}
		asOf = c.documents.version
		return c.documents.complete
	})
	if err != nil {
		return 0, err
	}
	for _, doc := range all {
		if err := fn(doc); err != nil {
			return 0, err
		}
	}
	return asOf, nil
}

// Saved returns the newest revisions of all that are here.
func (d *Documents) Saved() []*metadata.Document {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	var all []*metadata.Document
	for _, name := range slices.Sorted(maps.Keys(d.c.documents.newest)) {
		if doc := d.c.documents.newest[name]; !doc.Deleted() {
			all = append(all, doc.Clone())
		}
	}
	return all
}

// Head returns the version of the documents that are here.
func (d *Documents) Head() uint64 {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.c.documents.version
}

// Wait returns when Head is greater than after, or when ctx ends.
func (d *Documents) Wait(ctx context.Context, after uint64) error {
	return d.c.await(ctx, func() bool { return d.c.documents.version > after })
}

// Changes returns the latest change of each document after a version.
func (d *Documents) Changes(_ context.Context, after uint64, limit int) ([]metadata.Change, error) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	var changes []metadata.Change
	for _, t := range d.c.documents.changes {
		if t.version > after {
			changes = append(changes, metadata.Change{Seq: t.version, Op: metadata.Updated, Document: t.document.Clone()})
		}
	}
	slices.SortFunc(changes, func(a, b metadata.Change) int { return cmpSeq(a.Seq, b.Seq) })
	return changes[:min(len(changes), limit)], nil
}
