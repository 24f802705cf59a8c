package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	selectNote       = "SELECT payload FROM note WHERE parent = ? AND id = ?"
	selectOccurrence = "SELECT payload FROM occurrence WHERE id = ? AND parent = ?"
	// The subject of an event is a number, see scanChange: each column costs.
	selectChanges = `SELECT e.seq, e.op, e.is_note + 2 * e.is_document, coalesce(e.payload, n.payload, o.payload, d.content)
		FROM event e
		LEFT JOIN note n ON e.payload IS NULL AND e.is_note AND n.row = e.seq
		LEFT JOIN occurrence o ON e.payload IS NULL AND NOT e.is_note AND NOT e.is_document AND o.row = e.seq
		LEFT JOIN document d ON e.is_document AND d.row = e.seq
		WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?`
)

// queries keeps statements prepared. Only texts from a small set go in.
type queries struct {
	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

func (s *Store) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	s.queries.mu.Lock()
	defer s.queries.mu.Unlock()
	if stmt := s.queries.stmts[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.db.PrepareContext(ctx, text) //nolint:sqlclosecheck // kept until the database is closed
	if err != nil {
		return nil, err
	}
	if s.queries.stmts == nil {
		s.queries.stmts = map[string]*sql.Stmt{}
	}
	s.queries.stmts[text] = stmt
	return stmt, nil
}

// Note returns the note of the name.
func (s *Store) Note(ctx context.Context, name metadata.NoteName) (*grafeas.Note, error) {
	n := &grafeas.Note{}
	found, err := s.one(ctx, n, selectNote, name.Parent.String(), name.ID)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, metadata.NoteMissing(name)
	}
	return n, nil
}

// Occurrence returns the occurrence of the name.
func (s *Store) Occurrence(ctx context.Context, name metadata.OccurrenceName) (*grafeas.Occurrence, error) {
	o := &grafeas.Occurrence{}
	found, err := s.one(ctx, o, selectOccurrence, name.ID[:], parentKey(name.Parent))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, metadata.OccurrenceMissing(name)
	}
	return o, nil
}

func (s *Store) one(ctx context.Context, into proto.Message, text string, args ...any) (found bool, err error) {
	rows, err := s.query(ctx, true, text, args)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	if !rows.Next() {
		return false, s.reading(ctx, rows.Err())
	}
	var payload sql.RawBytes
	if err := rows.Scan(&payload); err != nil {
		return false, s.reading(ctx, err)
	}
	if err := proto.Unmarshal(payload, into); err != nil {
		return false, fmt.Errorf("decoding a stored message: %w", err)
	}
	return true, nil
}

// Notes returns the notes that the query selects.
func (s *Store) Notes(ctx context.Context, q metadata.NoteQuery) ([]*grafeas.Note, bool, error) {
	var c condition
	c.add("parent = ?", q.Parent.String())
	c.add("id > ?", q.After)
	if q.IDPrefix != "" {
		c.add("id >= ? AND id < ?", q.IDPrefix, q.IDPrefix+afterPrefix)
	}
	if q.Kinds != metadata.AllKinds {
		c.add("kind"+oneOf(bits.OnesCount64(uint64(q.Kinds))), kindValues(q.Kinds)...)
	}
	text := "SELECT payload FROM note WHERE " + c.String() + " ORDER BY id LIMIT ?"
	return many(ctx, s, func() *grafeas.Note { return &grafeas.Note{} }, q.Limit, true, text, append(c.args, q.Limit+1)...)
}

// Occurrences returns the occurrences that the query selects.
func (s *Store) Occurrences(ctx context.Context, q metadata.OccurrenceQuery) ([]*grafeas.Occurrence, bool, error) {
	sel, err := s.plan(ctx, q, q.Limit+1)
	if err != nil || sel.nothing {
		return nil, false, err
	}
	// The inner query finds the rows in an index and sorts keys only.
	text := "SELECT o.payload FROM (" + sel.text + ") JOIN occurrence o ON o.row = r ORDER BY i DESC"
	return many(ctx, s, func() *grafeas.Occurrence { return &grafeas.Occurrence{} }, q.Limit, sel.common, text, sel.args...)
}

// CountOccurrences returns how many rows the query selects, at most its limit.
func (s *Store) CountOccurrences(ctx context.Context, q metadata.OccurrenceQuery) (n int, err error) {
	sel, err := s.plan(ctx, q, q.Limit)
	if err != nil || sel.nothing {
		return 0, err
	}
	rows, err := s.query(ctx, sel.common, "SELECT count(*) FROM ("+sel.text+")", sel.args)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	if rows.Next() {
		if err := rows.Scan(&n); err != nil {
			return 0, s.reading(ctx, err)
		}
	}
	return n, s.reading(ctx, rows.Err())
}

// Project reports whether the project was created.
func (s *Store) Project(ctx context.Context, id string) (bool, error) {
	rows, err := s.query(ctx, true, "SELECT id FROM project WHERE id = ?", []any{id})
	if err != nil {
		return false, err
	}
	var ids []string
	err = collect(rows, &ids)
	return len(ids) > 0, s.reading(ctx, err)
}

// Projects returns the ids of projects that were created.
func (s *Store) Projects(ctx context.Context, after string, limit int) (ids []string, more bool, err error) {
	rows, err := s.query(ctx, true, "SELECT id FROM project WHERE id > ? ORDER BY id LIMIT ?", []any{after, limit + 1})
	if err != nil {
		return nil, false, err
	}
	if err := collect(rows, &ids); err != nil {
		return nil, false, s.reading(ctx, err)
	}
	if len(ids) > limit {
		return ids[:limit], true, nil
	}
	return ids, false, nil
}

// selectParents goes from each parent to the next in the index, and yields one
// occurrence of each: the column holds but a hash of the name.
const selectParents = `WITH RECURSIVE p (parent) AS (
		SELECT min(parent) FROM occurrence
		UNION ALL
		SELECT (SELECT min(o.parent) FROM occurrence o WHERE o.parent > p.parent) FROM p WHERE p.parent IS NOT NULL)
	SELECT (SELECT o.payload FROM occurrence o INDEXED BY occurrence_kind WHERE o.parent = p.parent LIMIT 1)
	FROM p WHERE p.parent IS NOT NULL`

// Parents returns the project and its locations that have occurrences.
func (s *Store) Parents(ctx context.Context, project string) (found []metadata.Parent, err error) {
	rows, err := s.query(ctx, true, selectParents, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	for rows.Next() {
		var payload sql.RawBytes
		if err := rows.Scan(&payload); err != nil {
			return nil, s.reading(ctx, err)
		}
		o := &grafeas.Occurrence{}
		if err := proto.Unmarshal(payload, o); err != nil {
			return nil, fmt.Errorf("decoding a stored message: %w", err)
		}
		name, err := metadata.ParseOccurrenceName(o.GetName())
		if err != nil {
			return nil, fmt.Errorf("reading a stored occurrence: %w", err)
		}
		if name.Parent.Project == project {
			found = append(found, name.Parent)
		}
	}
	slices.SortFunc(found, func(a, b metadata.Parent) int { return strings.Compare(a.Location, b.Location) })
	return found, s.reading(ctx, rows.Err())
}

// Policy returns the access policy of a resource.
func (s *Store) Policy(ctx context.Context, resource string) (policy []byte, err error) {
	rows, err := s.query(ctx, true, "SELECT policy FROM policy WHERE resource = ?", []any{resource})
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	if rows.Next() {
		if err := rows.Scan(&policy); err != nil {
			return nil, s.reading(ctx, err)
		}
	}
	return policy, s.reading(ctx, rows.Err())
}

// many reads messages until the limit, or MaxPageBytes. The statement asks for
// one row more than the limit, to learn whether there is one.
func many[T proto.Message](ctx context.Context, s *Store, empty func() T, limit int, common bool, text string, args ...any) (all []T, more bool, err error) {
	rows, err := s.query(ctx, common, text, args)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	size := 0
	for rows.Next() {
		var payload sql.RawBytes
		if err := rows.Scan(&payload); err != nil {
			return nil, false, s.reading(ctx, err)
		}
		if size += len(payload); len(all) == limit || len(all) > 0 && size > metadata.MaxPageBytes {
			return all, true, nil
		}
		m := empty()
		if err := proto.Unmarshal(payload, m); err != nil {
			return nil, false, fmt.Errorf("decoding a stored message: %w", err)
		}
		all = append(all, m)
	}
	return all, false, s.reading(ctx, rows.Err())
}

func (s *Store) query(ctx context.Context, common bool, text string, args []any) (*sql.Rows, error) {
	if s.closed() {
		return nil, metadata.ErrClosed
	}
	if !common {
		rows, err := s.db.QueryContext(ctx, text, args...)
		return rows, s.reading(ctx, err)
	}
	stmt, err := s.prepared(ctx, text) //nolint:sqlclosecheck // kept until the database is closed
	if err != nil {
		return nil, s.reading(ctx, err)
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return rows, s.reading(ctx, err)
}

// Changes returns changes after the sequence number, none beyond Head.
func (s *Store) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	if s.closed() {
		return nil, metadata.ErrClosed
	}
	last := s.head.Load()
	if after > last {
		return nil, metadata.ErrCompacted
	}
	if after == last || limit <= 0 {
		return nil, nil
	}
	rows, err := s.query(ctx, true, selectChanges, []any{after, last, limit})
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	changes, documents, err := scanChanges(rows, after)
	_ = rows.Close() // what follows may have to wait for a connection
	if err != nil {
		return nil, s.reading(ctx, err)
	}
	if len(changes) == 0 {
		return nil, metadata.ErrCompacted // there were some when it began
	}
	return changes, s.readDocuments(ctx, changes, documents)
}

// scanChanges returns the changes of a page, and which of them are of documents,
// which it has not read.
func scanChanges(rows *sql.Rows, after uint64) (changes []metadata.Change, documents []int, err error) {
	size := 0
	for rows.Next() {
		c, what, n, err := scanChange(rows)
		if err != nil {
			return nil, nil, err
		}
		if c.Seq != after+uint64(len(changes))+1 {
			return nil, nil, metadata.ErrCompacted
		}
		if size += n; len(changes) > 0 && size > metadata.MaxPageBytes {
			return changes, documents, nil
		}
		if what == aDocument {
			documents = append(documents, len(changes))
		}
		changes = append(changes, c)
	}
	return changes, documents, rows.Err()
}

func scanChange(rows *sql.Rows) (c metadata.Change, what subject, size int, err error) {
	var payload sql.RawBytes
	if err := rows.Scan(&c.Seq, &c.Op, &what, &payload); err != nil || what == aDocument {
		return c, what, len(payload), err
	}
	if payload == nil {
		return c, what, 0, errors.New("decoding a change: its message is missing")
	}
	var message proto.Message
	if what == aNote {
		c.Note = &grafeas.Note{}
		message = c.Note
	} else {
		c.Occurrence = &grafeas.Occurrence{}
		message = c.Occurrence
	}
	if err := proto.Unmarshal(payload, message); err != nil {
		return c, what, 0, fmt.Errorf("decoding change %d: %w", c.Seq, err)
	}
	return c, what, len(payload), nil
}

// collect appends the one column of all rows to list, and closes them.
func collect[T any](rows *sql.Rows, list *[]T) error {
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return err
		}
		*list = append(*list, v)
	}
	return rows.Err()
}
