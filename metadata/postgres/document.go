package postgres

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	selectNewest = `SELECT DISTINCT ON (name) name, revision, content IS NULL FROM document
		WHERE name = ANY($1::text[]) ORDER BY name, revision DESC`
	selectReferrers = "SELECT target, name FROM document_reference WHERE target = ANY($1::text[]) AND target <> name ORDER BY target, name"

	insertDocuments = `INSERT INTO document (seq, name, revision, content, author, time, comment)
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::timestamptz[], $7::text[])`
	dropHeads = "DELETE FROM document_head WHERE name = ANY($1::text[])"
	putHeads  = `INSERT INTO document_head (name, seq) SELECT * FROM unnest($1::text[], $2::bigint[])
		ON CONFLICT (name) DO UPDATE SET seq = excluded.seq`
	dropReferences = "DELETE FROM document_reference WHERE name = ANY($1::text[])"
	putReferences  = "INSERT INTO document_reference (target, name) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING"
)

// A documentRow is what the rules ask of the newest revision of a document.
type documentRow struct {
	revision uint64
	deleted  bool
	// Of one that the jobs have written: its number, and what it refers to.
	seq    uint64
	refers []string
}

// live reports whether the document is there; d may be nil.
func (d *documentRow) live() bool { return d != nil && !d.deleted }

// A revision is a row of document to insert.
type revision struct {
	seq uint64
	*metadata.DocumentWrite
}

func (n *needs) addDocument(w *metadata.DocumentWrite) {
	n.documents.add(w.Name)
	for _, name := range w.Refers {
		n.documents.add(name)
	}
	if w.Deleted() {
		n.policies.add(w.Name)
		n.unreferred.add(w.Name)
	}
}

func (o *overlay) queueDocuments(b *pgx.Batch, n *needs) {
	if len(n.documents) > 0 {
		var name string
		var row documentRow
		each(b, func() error {
			loaded := row
			o.documents.load(name, &loaded)
			return nil
		}, selectNewest, []any{n.documents.list()}, &name, &row.revision, &row.deleted)
	}
	if len(n.unreferred) > 0 {
		var target, name string
		each(b, func() error {
			o.referrers[target] = append(o.referrers[target], name)
			return nil
		}, selectReferrers, []any{n.unreferred.list()}, &target, &name)
	}
}

func (o *overlay) writeDocument(w *metadata.DocumentWrite) error {
	newest := o.documents.get(w.Name)
	var last uint64
	if newest != nil {
		last = newest.revision
	}
	switch {
	case last+1 != w.Revision:
		return metadata.Changed(w.Name)
	case w.Deleted() && !newest.live():
		return metadata.DocumentMissing(w.Name)
	}
	var missing []string
	for _, name := range w.Refers {
		if !o.documents.get(name).live() {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return metadata.ReferredMissing(w.Name, missing)
	}
	if users := o.usersOf(w.Name); w.Deleted() && !w.EvenIfReferred && len(users) > 0 {
		return metadata.DocumentInUse(w.Name, users)
	}
	op := metadata.Updated
	switch {
	case w.Deleted():
		op = metadata.Deleted
		o.policies.put(o, w.Name, nil)
	case !newest.live():
		op = metadata.Created
	}
	o.emit(event{op: op, about: aDocument})
	o.documents.put(o, w.Name, &documentRow{revision: w.Revision, deleted: w.Deleted(), seq: o.seq(), refers: w.Refers})
	o.revisions = append(o.revisions, revision{o.seq(), w})
	o.undo = append(o.undo, func() { o.revisions = o.revisions[:len(o.revisions)-1] })
	return nil
}

// usersOf returns the documents that refer to one, as the jobs have left them.
func (o *overlay) usersOf(name string) []string {
	var users []string
	for _, user := range o.referrers[name] {
		if c := o.documents[user]; c == nil || c.was == c.is {
			users = append(users, user)
		}
	}
	for user, c := range o.documents {
		if user != name && c.is != c.was && c.is.live() && slices.Contains(c.is.refers, name) {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}

func (o *overlay) flushDocuments(b *pgx.Batch) {
	if len(o.revisions) == 0 {
		return
	}
	o.flushRevisions(b)
	var live, targets, names []string
	var seqs []uint64
	written := changed(o.documents, strings.Compare)
	for _, name := range written {
		row := o.documents[name].is
		if row.deleted {
			continue
		}
		live, seqs = append(live, name), append(seqs, row.seq)
		for _, target := range row.refers {
			targets, names = append(targets, target), append(names, name)
		}
	}
	b.Queue(dropHeads, written)
	b.Queue(dropReferences, written)
	if len(live) > 0 {
		b.Queue(putHeads, live, seqs)
	}
	if len(targets) > 0 {
		b.Queue(putReferences, targets, names)
	}
}

func (o *overlay) flushRevisions(b *pgx.Batch) {
	n := len(o.revisions)
	seqs, numbers := make([]uint64, n), make([]uint64, n)
	names, authors, comments := make([]string, n), make([]string, n), make([]string, n)
	contents, times := make([][]byte, n), make([]time.Time, n)
	for i, r := range o.revisions {
		seqs[i], numbers[i], contents[i], times[i] = r.seq, r.Revision, r.Content, r.Time
		names[i], authors[i], comments[i] = r.Name, r.Author, r.Comment
	}
	b.Queue(insertDocuments, seqs, names, numbers, contents, authors, times, comments)
}

const documentColumns = "d.name, d.revision, d.content, d.author, d.time, d.comment"

// documentFields are a row of document that may be missing in a join.
type documentFields struct {
	name, author, comment *string
	revision              *uint64
	time                  *time.Time
	content               []byte
}

// columns are where documentColumns go.
func (f *documentFields) columns() []any {
	return []any{&f.name, &f.revision, &f.content, &f.author, &f.time, &f.comment}
}

// document returns nil if there is no row.
func (f *documentFields) document() *metadata.Document {
	if f.name == nil {
		return nil
	}
	return &metadata.Document{
		Name: *f.name, Content: f.content, Revision: *f.revision, Author: *f.author, Time: f.time.UTC(), Comment: *f.comment,
	}
}

// Document returns a revision of a document.
func (s *Store) Document(ctx context.Context, name string, number uint64) (*metadata.Document, error) {
	if number > math.MaxInt64 {
		return nil, s.unlessClosed(metadata.RevisionMissing(name, number))
	}
	var st statement
	text := "SELECT " + documentColumns + " FROM document d WHERE d.name = " + st.arg(name)
	if number != 0 {
		text += " AND d.revision = " + st.arg(int64(number))
	}
	rows, _, err := s.documents(ctx, 1, text+" ORDER BY d.revision DESC LIMIT 1", st.args)
	switch {
	case err != nil:
		return nil, err
	case len(rows) > 0:
		return rows[0], nil
	case number == 0:
		return nil, metadata.DocumentMissing(name)
	}
	if _, err := s.Document(ctx, name, 0); err != nil {
		return nil, err
	}
	return nil, metadata.RevisionMissing(name, number)
}

// Documents returns the documents that the query selects.
func (s *Store) Documents(ctx context.Context, q metadata.DocumentQuery) ([]*metadata.Document, bool, error) {
	var st statement
	terms := []string{"h.name > " + st.arg(q.After)}
	if q.Prefix != "" {
		terms = append(terms, st.begins("h.name", q.Prefix))
	}
	return s.documents(ctx, q.Limit, `SELECT `+documentColumns+` FROM document_head h JOIN document d ON d.seq = h.seq
		WHERE `+strings.Join(terms, " AND ")+` ORDER BY h.name LIMIT `+st.arg(q.Limit+1), st.args)
}

// Revisions returns revisions of a document, newest first.
func (s *Store) Revisions(ctx context.Context, name string, before uint64, limit int) ([]*metadata.Document, bool, error) {
	var st statement
	text := "SELECT " + documentColumns + " FROM document d WHERE d.name = " + st.arg(name)
	if before != 0 {
		text += " AND d.revision < " + st.arg(int64(min(before, math.MaxInt64)))
	}
	return s.documents(ctx, limit, text+" ORDER BY d.revision DESC LIMIT "+st.arg(limit+1), st.args)
}

// documents reads rows until the limit, or MaxPageBytes.
func (s *Store) documents(ctx context.Context, limit int, text string, args []any) (all []*metadata.Document, more bool, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		all, more = nil, false
		size := 0
		for rows.Next() {
			var f documentFields
			if err := rows.Scan(f.columns()...); err != nil {
				return err
			}
			if size += len(f.content); len(all) == limit || len(all) > 0 && size > metadata.MaxPageBytes {
				more = true
				return nil
			}
			all = append(all, f.document())
		}
		return nil
	}, text, args...)
	return all, more, err
}
