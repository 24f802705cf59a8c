package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// documents are the statements that write documents.
type documents struct {
	newest, insert, putHead, dropHead *sql.Stmt
	users, refer, unrefer             *sql.Stmt
}

// newestRow is what the rules ask of the newest revision of a name. Of none it is
// a deletion of number 0.
type newestRow struct {
	revision uint64
	deleted  bool
}

func (w *writer) newest(ctx context.Context, name string) (newestRow, error) {
	var n newestRow
	err := w.documents.newest.QueryRowContext(ctx, name).Scan(&n.revision, &n.deleted)
	if errors.Is(err, sql.ErrNoRows) {
		return newestRow{deleted: true}, nil
	}
	return n, err
}

func (w *writer) writeDocument(ctx context.Context, d *metadata.DocumentWrite) error {
	newest, err := w.newest(ctx, d.Name)
	switch {
	case err != nil:
		return err
	case newest.revision+1 != d.Revision:
		return refuse(metadata.Changed(d.Name))
	case !d.Deleted():
		err = w.checkReferred(ctx, d)
	case newest.deleted:
		err = refuse(metadata.DocumentMissing(d.Name))
	case !d.EvenIfReferred:
		err = w.checkUnreferred(ctx, d.Name)
	}
	if err != nil {
		return err
	}
	op := metadata.Updated
	switch {
	case d.Deleted():
		op = metadata.Deleted
	case newest.deleted:
		op = metadata.Created
	}
	if err := w.putDocument(ctx, d); err != nil {
		return err
	}
	return w.emit(ctx, op, aDocument, nil)
}

func (w *writer) checkReferred(ctx context.Context, d *metadata.DocumentWrite) error {
	var missing []string
	for _, name := range d.Refers {
		n, err := w.newest(ctx, name)
		if err != nil {
			return err
		}
		if n.deleted {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return refuse(metadata.ReferredMissing(d.Name, missing))
	}
	return nil
}

func (w *writer) checkUnreferred(ctx context.Context, name string) error {
	const enough = 100 // to name some of them
	rows, err := w.documents.users.QueryContext(ctx, name, enough)
	if err != nil {
		return err
	}
	var users []string
	if err := collect(rows, &users); err != nil {
		return err
	}
	if len(users) > 0 {
		return refuse(metadata.DocumentInUse(name, users))
	}
	return nil
}

// putDocument writes the rows of a revision.
func (w *writer) putDocument(ctx context.Context, d *metadata.DocumentWrite) error {
	row := w.seq + 1
	content := d.Content
	if d.Deleted() {
		content = nil
	}
	if _, err := w.documents.insert.ExecContext(ctx, row, d.Name, d.Revision, content, d.Author, d.Time.UnixMicro(), d.Comment); err != nil {
		return err
	}
	if _, err := w.documents.unrefer.ExecContext(ctx, d.Name); err != nil {
		return err
	}
	if d.Deleted() {
		if _, err := w.documents.dropHead.ExecContext(ctx, d.Name); err != nil {
			return err
		}
		_, err := w.deletePolicy.ExecContext(ctx, d.Name)
		return err
	}
	for _, target := range d.Refers {
		if _, err := w.documents.refer.ExecContext(ctx, target, d.Name); err != nil {
			return err
		}
	}
	_, err := w.documents.putHead.ExecContext(ctx, d.Name, row)
	return err
}

const documentColumns = "d.name, d.revision, d.content, d.author, d.time, d.comment"

// A documentRow is a row of document that may be missing in a join.
type documentRow struct {
	name, author, comment sql.NullString
	revision, time        sql.NullInt64
	content               []byte
}

// columns are where documentColumns go.
func (r *documentRow) columns() []any {
	return []any{&r.name, &r.revision, &r.content, &r.author, &r.time, &r.comment}
}

// document returns nil if there is no row.
func (r *documentRow) document() *metadata.Document {
	if !r.name.Valid {
		return nil
	}
	return &metadata.Document{
		Name: r.name.String, Content: r.content, Revision: uint64(r.revision.Int64), Author: r.author.String,
		Time: time.UnixMicro(r.time.Int64).UTC(), Comment: r.comment.String,
	}
}

// readDocuments fills in the documents of the changes at some places. Their rows
// never change, so that it may read them later than the changes.
func (s *Store) readDocuments(ctx context.Context, changes []metadata.Change, at []int) error {
	for _, i := range at {
		rows, _, err := s.documents(ctx, 1, "SELECT "+documentColumns+" FROM document d WHERE d.row = ?", changes[i].Seq)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return fmt.Errorf("decoding change %d: its document is missing", changes[i].Seq)
		}
		changes[i].Document = rows[0]
	}
	return nil
}

// Document returns a revision of a document.
func (s *Store) Document(ctx context.Context, name string, revision uint64) (*metadata.Document, error) {
	const text = "SELECT " + documentColumns + " FROM document d WHERE d.name = ?"
	revision = min(revision, math.MaxInt64) // which nobody reaches
	missing := metadata.DocumentMissing(name)
	query, args := text+" ORDER BY d.revision DESC LIMIT 1", []any{name}
	if revision != 0 {
		query, args = text+" AND d.revision = ?", []any{name, revision}
		missing = metadata.RevisionMissing(name, revision)
	}
	rows, _, err := s.documents(ctx, 1, query, args...)
	switch {
	case err != nil:
		return nil, err
	case len(rows) > 0:
		return rows[0], nil
	case revision == 0:
		return nil, missing
	}
	if _, err := s.Document(ctx, name, 0); err != nil {
		return nil, err
	}
	return nil, missing
}

// Documents returns the documents that the query selects.
func (s *Store) Documents(ctx context.Context, q metadata.DocumentQuery) ([]*metadata.Document, bool, error) {
	var c condition
	c.add("h.name > ?", q.After)
	if q.Prefix != "" {
		c.add("h.name >= ? AND h.name < ?", q.Prefix, q.Prefix+afterPrefix)
	}
	text := "SELECT " + documentColumns + " FROM document_head h JOIN document d ON d.row = h.row WHERE " + c.String() + " ORDER BY h.name LIMIT ?"
	return s.documents(ctx, q.Limit, text, append(c.args, q.Limit+1)...)
}

// Revisions returns revisions of a document, newest first.
func (s *Store) Revisions(ctx context.Context, name string, before uint64, limit int) ([]*metadata.Document, bool, error) {
	var c condition
	c.add("d.name = ?", name)
	if before != 0 {
		c.add("d.revision < ?", min(before, math.MaxInt64))
	}
	text := "SELECT " + documentColumns + " FROM document d WHERE " + c.String() + " ORDER BY d.revision DESC LIMIT ?"
	return s.documents(ctx, limit, text, append(c.args, limit+1)...)
}

// documents reads rows until the limit, or MaxPageBytes.
func (s *Store) documents(ctx context.Context, limit int, text string, args ...any) (all []*metadata.Document, more bool, err error) {
	rows, err := s.query(ctx, true, text, args)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	size := 0
	for rows.Next() {
		var row documentRow
		if err := rows.Scan(row.columns()...); err != nil {
			return nil, false, s.reading(ctx, err)
		}
		if size += len(row.content); len(all) == limit || len(all) > 0 && size > metadata.MaxPageBytes {
			return all, true, nil
		}
		all = append(all, row.document())
	}
	return all, false, s.reading(ctx, rows.Err())
}
