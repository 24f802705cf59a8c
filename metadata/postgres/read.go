package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// readBound ends a read whose caller sets no bound, when the network loses what
// is sent and tells nobody.
const readBound = 30 * time.Second

// selectChanges yields the head in the same snapshot, in one row at least.
var selectChanges = `SELECT f.head, c.seq, c.op, c.is_note, c.payload, ` + documentColumns + ` FROM feed f LEFT JOIN LATERAL (` +
	page("seq", `SELECT seq, op, is_note, is_document, coalesce(payload, CASE
			WHEN is_note THEN (SELECT payload FROM note WHERE note.key = e.key AND note.seq = e.seq)
			WHEN is_document THEN (SELECT content FROM document WHERE document.seq = e.seq)
			ELSE (SELECT payload FROM occurrence WHERE occurrence.id = e.key AND occurrence.seq = e.seq) END) AS payload
		FROM (SELECT * FROM event WHERE seq > $1 ORDER BY seq LIMIT $2) e OFFSET 0`) + `) c ON true
	LEFT JOIN document d ON c.is_document AND d.seq = c.seq WHERE f.id = 1 ORDER BY c.seq`

// page wraps a selection so that it ends where its payloads pass MaxPageBytes,
// with the row that does: what is not sent need not be thrown away.
func page(order, text string) string {
	return fmt.Sprintf(`SELECT * FROM (SELECT *, sum(octet_length(payload)) OVER
		(ORDER BY %s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (%s) s) p
		WHERE before IS NULL OR before <= %d ORDER BY %[1]s`, order, text, metadata.MaxPageBytes)
}

// Note returns the note of the name.
func (s *Store) Note(ctx context.Context, name metadata.NoteName) (*grafeas.Note, error) {
	n := &grafeas.Note{}
	found, err := s.one(ctx, n, "SELECT payload FROM note WHERE key = $1", [16]byte(noteKey(name)))
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
	found, err := s.one(ctx, o, "SELECT payload FROM occurrence WHERE id = $1 AND parent = $2", [16]byte(name.ID), parentKey(name.Parent))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, metadata.OccurrenceMissing(name)
	}
	return o, nil
}

func (s *Store) one(ctx context.Context, into proto.Message, text string, args ...any) (found bool, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		if found = rows.Next(); !found {
			return nil
		}
		var payload pgtype.DriverBytes
		if err := rows.Scan(&payload); err != nil {
			return err
		}
		return decode(payload, into)
	}, text, args...)
	return found, err
}

// Notes returns the notes that the query selects.
func (s *Store) Notes(ctx context.Context, q metadata.NoteQuery) ([]*grafeas.Note, bool, error) {
	var st statement
	terms := []string{"parent = " + st.arg(q.Parent.String()), "id > " + st.arg(q.After)}
	if q.IDPrefix != "" {
		terms = append(terms, st.begins("id", q.IDPrefix))
	}
	if q.Kinds != metadata.AllKinds {
		terms = append(terms, "kind = ANY("+st.arg(kindValues(q.Kinds))+"::integer[])")
	}
	text := "SELECT id, payload FROM note WHERE " + strings.Join(terms, " AND ") + " ORDER BY id LIMIT " + st.arg(q.Limit+1)
	return many(ctx, s, func() *grafeas.Note { return &grafeas.Note{} }, q.Limit, page("id", text), st.args)
}

// Occurrences returns the occurrences that the query selects.
func (s *Store) Occurrences(ctx context.Context, q metadata.OccurrenceQuery) ([]*grafeas.Occurrence, bool, error) {
	sel, err := s.plan(ctx, q, q.Limit+1)
	if err != nil || sel.nothing {
		return nil, false, s.unlessClosed(err)
	}
	return many(ctx, s, func() *grafeas.Occurrence { return &grafeas.Occurrence{} }, q.Limit, page("i DESC", sel.text), sel.args)
}

// CountOccurrences returns how many rows the query selects, at most its limit.
func (s *Store) CountOccurrences(ctx context.Context, q metadata.OccurrenceQuery) (n int, err error) {
	sel, err := s.plan(ctx, q, q.Limit)
	if err != nil || sel.nothing {
		return 0, s.unlessClosed(err)
	}
	err = s.read(ctx, func(rows pgx.Rows) error {
		rows.Next() // a count has one row
		return rows.Scan(&n)
	}, "SELECT count(*) FROM ("+sel.text+") c", sel.args...)
	return n, err
}

// unlessClosed is for answers that need no look into the database.
func (s *Store) unlessClosed(err error) error {
	if err == nil && s.closed() {
		return metadata.ErrClosed
	}
	return err
}

// Project reports whether the project was created.
func (s *Store) Project(ctx context.Context, id string) (found bool, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		found = rows.Next()
		return nil
	}, "SELECT id FROM project WHERE id = $1", id)
	return found, err
}

// Projects returns the ids of projects that were created.
func (s *Store) Projects(ctx context.Context, after string, limit int) (ids []string, more bool, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		ids = nil
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}, "SELECT id FROM project WHERE id > $1 ORDER BY id LIMIT $2", after, limit+1)
	if len(ids) > limit {
		return ids[:limit], true, err
	}
	return ids, false, err
}

// selectParents goes from each parent to the next in the index, and yields one
// occurrence of each: the column holds but a hash of the name.
const selectParents = `WITH RECURSIVE p (parent) AS (
		(SELECT parent FROM occurrence ORDER BY parent LIMIT 1)
		UNION ALL
		SELECT (SELECT o.parent FROM occurrence o WHERE o.parent > p.parent ORDER BY o.parent LIMIT 1) FROM p WHERE p.parent IS NOT NULL)
	SELECT o.payload FROM p CROSS JOIN LATERAL (SELECT payload FROM occurrence WHERE parent = p.parent LIMIT 1) o`

// Parents returns the project and its locations that have occurrences.
func (s *Store) Parents(ctx context.Context, project string) (found []metadata.Parent, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		found = nil
		for rows.Next() {
			var payload pgtype.DriverBytes
			if err := rows.Scan(&payload); err != nil {
				return err
			}
			o := &grafeas.Occurrence{}
			if err := decode(payload, o); err != nil {
				return err
			}
			name, err := metadata.ParseOccurrenceName(o.GetName())
			if err != nil {
				return damagedError{err}
			}
			if name.Parent.Project == project {
				found = append(found, name.Parent)
			}
		}
		return nil
	}, selectParents)
	slices.SortFunc(found, func(a, b metadata.Parent) int { return strings.Compare(a.Location, b.Location) })
	return found, err
}

// Policy returns the access policy of a resource.
func (s *Store) Policy(ctx context.Context, resource string) (policy []byte, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		policy = nil
		if !rows.Next() {
			return nil
		}
		return rows.Scan(&policy)
	}, "SELECT policy FROM policy WHERE resource = $1", resource)
	return policy, err
}

// many reads messages until the limit, or MaxPageBytes. The statement yields an id
// and a payload, and asks for one row more than the limit, to learn whether there
// is one.
func many[T proto.Message](ctx context.Context, s *Store, empty func() T, limit int, text string, args []any) (all []T, more bool, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		all, more = nil, false
		size := 0
		for rows.Next() {
			var payload pgtype.DriverBytes // not copied
			if err := rows.Scan(nil, &payload, nil); err != nil {
				return err
			}
			if size += len(payload); len(all) == limit || len(all) > 0 && size > metadata.MaxPageBytes {
				more = true
				return nil
			}
			m := empty()
			if err := decode(payload, m); err != nil {
				return err
			}
			all = append(all, m)
		}
		return nil
	}, text, args...)
	return all, more, err
}

// Changes returns changes after the sequence number.
func (s *Store) Changes(ctx context.Context, after uint64, limit int) (changes []metadata.Change, err error) {
	if after > math.MaxInt64 {
		return nil, s.unlessClosed(metadata.ErrCompacted)
	}
	var head uint64
	err = s.read(ctx, func(rows pgx.Rows) error {
		changes = nil
		size := 0
		for rows.Next() {
			c, n, err := scanChange(rows, &head)
			if err != nil {
				return err
			}
			if c.Seq == 0 || len(changes) > 0 && size+n > metadata.MaxPageBytes {
				return nil
			}
			if c.Seq != after+uint64(len(changes))+1 {
				return metadata.ErrCompacted
			}
			size += n
			changes = append(changes, c)
		}
		return nil
	}, selectChanges, int64(after), max(limit, 0))
	if err != nil {
		return nil, err
	}
	s.head.Advance(head)
	if after > head || len(changes) == 0 && after < head && limit > 0 {
		return nil, metadata.ErrCompacted
	}
	return changes, nil
}

// scanChange returns the zero Change for the row that tells the head alone.
func scanChange(rows pgx.Rows, head *uint64) (c metadata.Change, size int, err error) {
	var seq *uint64
	var op *int
	var isNote *bool
	var payload pgtype.DriverBytes
	var d documentFields
	if err := rows.Scan(append([]any{head, &seq, &op, &isNote, &payload}, d.columns()...)...); err != nil || seq == nil {
		return c, 0, err
	}
	c.Seq, c.Op = *seq, metadata.Op(*op)
	if c.Document = d.document(); c.Document != nil {
		return c, len(c.Document.Content), nil
	}
	if payload == nil {
		return c, 0, damagedError{fmt.Errorf("that of change %d is missing", c.Seq)}
	}
	if *isNote {
		c.Note = &grafeas.Note{}
		return c, len(payload), decode(payload, c.Note)
	}
	c.Occurrence = &grafeas.Occurrence{}
	return c, len(payload), decode(payload, c.Occurrence)
}

func decode(payload []byte, into proto.Message) error {
	if err := proto.Unmarshal(payload, into); err != nil {
		return damagedError{err}
	}
	return nil
}

// read runs a statement and scans its rows. A connection that turns out to be
// dead, as all are after PostgreSQL was restarted, costs a second attempt on a new
// one; scan must then begin anew.
func (s *Store) read(ctx context.Context, scan func(pgx.Rows) error, text string, args ...any) error {
	if s.closed() {
		return metadata.ErrClosed
	}
	bounded, cancel := context.WithTimeout(ctx, readBound)
	defer cancel()
	lost, err := s.readOnce(bounded, scan, text, args)
	if lost && bounded.Err() == nil {
		s.pool.Reset()
		_, err = s.readOnce(bounded, scan, text, args)
	}
	return s.reading(ctx, err)
}

func (s *Store) readOnce(ctx context.Context, scan func(pgx.Rows) error, text string, args []any) (lost bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, text, args...)
	if err != nil {
		return conn.Conn().IsClosed(), err
	}
	err = scan(rows)
	rows.Close()
	if rowsErr := rows.Err(); rowsErr != nil {
		err = rowsErr
	}
	return err != nil && conn.Conn().IsClosed(), err
}
