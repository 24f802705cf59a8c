package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Statements of the first round trip. READ COMMITTED gives each statement a
// snapshot of its own: those after lockFeed see all that earlier holders of the
// lock have committed.
const (
	begin       = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
	lockFeed    = "SELECT head, floor FROM feed WHERE id = 1 FOR UPDATE"
	selectDone  = "SELECT done FROM writer WHERE id = $1"
	selectNotes = `SELECT key, seq, kind, CASE WHEN key = ANY($2::uuid[]) THEN payload END
		FROM note WHERE key = ANY($1::uuid[])`
	selectOccurrences = `SELECT id, seq, kind, parent, note, resource, coalesce(statement, $2), payload
		FROM occurrence WHERE id = ANY($1::uuid[])`
	selectStatements = "SELECT statement, id FROM occurrence WHERE statement = ANY($1::uuid[]) AND statement IS NOT NULL"
	selectProjects   = "SELECT id FROM project WHERE id = ANY($1::text[])"
	selectPolicies   = "SELECT resource, policy FROM policy WHERE resource = ANY($1::text[])"
	selectUsers      = `SELECT k, o.id FROM unnest($1::uuid[]) k CROSS JOIN LATERAL (
		SELECT id FROM occurrence WHERE note = k ORDER BY id DESC LIMIT $2) o`
	// Those of known keys, and those of occurrences that are deleted.
	selectSummaries = `SELECT k.parent, k.resource, s.payload
		FROM unnest($1::uuid[], $2::uuid[]) k (parent, resource) CROSS JOIN LATERAL (
			SELECT payload FROM summary WHERE parent = k.parent AND resource = k.resource OFFSET 0) s
		UNION ALL SELECT o.parent, o.resource, s.payload
		FROM unnest($3::uuid[]) k CROSS JOIN LATERAL (
			SELECT parent, resource FROM occurrence WHERE id = k OFFSET 0) o CROSS JOIN LATERAL (
			SELECT payload FROM summary WHERE parent = o.parent AND resource = o.resource OFFSET 0) s`
)

// needs are the keys of all rows that jobs may touch.
type needs struct {
	notes, notePayloads, unused set[metadata.Key]
	occurrences, deleted        set[metadata.ID]
	statements                  set[metadata.Key]
	projects, policies          set[string]
	documents, unreferred       set[string]
	summaries                   set[summaryKey]
}

type set[K comparable] map[K]struct{}

func (s *set[K]) add(k K) {
	if *s == nil {
		*s = set[K]{}
	}
	(*s)[k] = struct{}{}
}

func (s set[K]) list() []K { return slices.Collect(maps.Keys(s)) }

// add reads nothing of the operation's messages: their caller may have gone.
func (n *needs) add(op *operation) {
	switch {
	case op.err != nil:
	case op.CreateNote != nil:
		n.notes.add(op.noteKey)
	case op.UpdateNote != nil:
		n.notes.add(op.noteKey)
		n.notePayloads.add(op.noteKey)
	case !op.DeleteNote.IsZero():
		n.notes.add(op.noteKey)
		n.notePayloads.add(op.noteKey)
		n.unused.add(op.noteKey)
		n.policies.add(op.note.String())
	case op.CreateOccurrence != nil, op.UpdateOccurrence != nil:
		if !op.note.IsZero() {
			n.notes.add(op.noteKey)
		}
		n.occurrences.add(op.name.ID)
		if !op.keys.Statement.IsZero() {
			n.statements.add(op.keys.Statement)
		}
		if metadata.Summarized(op.kind) {
			n.summaries.add(summaryKey{parentKey(op.name.Parent), op.keys.Resource})
		}
	case !op.DeleteOccurrence.IsZero():
		n.occurrences.add(op.name.ID)
		n.deleted.add(op.name.ID)
		n.policies.add(op.name.String())
	case op.CreateProject != "":
		n.projects.add(op.CreateProject)
	case op.DeleteProject != "":
		n.projects.add(op.DeleteProject)
	case op.SetPolicy != nil:
		n.policies.add(op.SetPolicy.Resource)
		switch {
		case !op.note.IsZero():
			n.notes.add(op.noteKey)
		case !op.name.IsZero():
			n.occurrences.add(op.name.ID)
		default:
			n.documents.add(op.SetPolicy.Resource)
		}
	case op.WriteDocument != nil:
		n.addDocument(op.WriteDocument)
	}
}

// fetch begins a transaction, takes the lock, and reads all that is needed, in one
// round trip. done is the number of this store's last transaction that was kept.
func (w *writer) fetch(ctx context.Context, n *needs) (o *overlay, done int64, err error) {
	o = newOverlay()
	b := &pgx.Batch{}
	b.Queue(begin)
	b.Queue(lockFeed).QueryRow(func(row pgx.Row) error { return row.Scan(&o.base, &o.floor) })
	each(b, func() error { return nil }, selectDone, []any{w.id}, &done)
	o.queueNotes(b, n)
	o.queueOccurrences(b, n)
	o.queueNames(b, n)
	o.queueSummaries(b, n)
	o.queueDocuments(b, n)
	return o, done, w.conn.SendBatch(ctx, b).Close()
}

// each queues a statement; add is called with each row in into.
func each(b *pgx.Batch, add func() error, text string, args []any, into ...any) {
	b.Queue(text, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, add)
		return err
	})
}

func (o *overlay) queueNotes(b *pgx.Batch, n *needs) {
	if len(n.notes) > 0 {
		var key [16]byte
		var row noteRow
		each(b, func() error {
			loaded := row
			o.notes.load(key, &loaded)
			return nil
		}, selectNotes, []any{uuids(n.notes.list()), uuids(n.notePayloads.list())}, &key, &row.seq, &row.kind, &row.payload)
	}
	if len(n.unused) > 0 {
		var note, id [16]byte
		each(b, func() error {
			o.users[note] = append(o.users[note], id)
			return nil
		}, selectUsers, []any{uuids(n.unused.list()), len(n.deleted) + 1}, &note, &id)
	}
}

func (o *overlay) queueOccurrences(b *pgx.Batch, n *needs) {
	if len(n.occurrences) > 0 {
		var id [16]byte
		var row occurrenceRow
		each(b, func() error {
			loaded := row
			o.occurrences.load(id, &loaded)
			return nil
		}, selectOccurrences, []any{uuids(n.occurrences.list()), [16]byte{}},
			&id, &row.seq, &row.kind, (*[16]byte)(&row.parent), (*[16]byte)(&row.note), (*[16]byte)(&row.resource),
			(*[16]byte)(&row.statement), &row.payload)
	}
	if len(n.statements) > 0 {
		var statement, id [16]byte
		each(b, func() error {
			owner := metadata.ID(id)
			o.statements.load(statement, &owner)
			return nil
		}, selectStatements, []any{uuids(n.statements.list())}, &statement, &id)
	}
}

func (o *overlay) queueNames(b *pgx.Batch, n *needs) {
	if len(n.projects) > 0 {
		var id string
		each(b, func() error {
			o.projects.load(id, &struct{}{})
			return nil
		}, selectProjects, []any{n.projects.list()}, &id)
	}
	if len(n.policies) > 0 {
		var resource string
		var policy []byte
		each(b, func() error {
			loaded := slices.Clone(policy)
			o.policies.load(resource, &loaded)
			return nil
		}, selectPolicies, []any{n.policies.list()}, &resource, &policy)
	}
}

func (o *overlay) queueSummaries(b *pgx.Batch, n *needs) {
	if len(n.summaries) == 0 && len(n.deleted) == 0 {
		return
	}
	var parent, resource [16]byte
	var payload []byte
	keys := n.summaries.list()
	each(b, func() error {
		row := &summaryRow{}
		if err := json.Unmarshal(payload, &row.summary); err != nil {
			return damagedError{fmt.Errorf("a summary: %w", err)}
		}
		o.summaries.load(summaryKey{parent, resource}, row)
		return nil
	}, selectSummaries, []any{parentsOf(keys), resourcesOf(keys), uuids(n.deleted.list())}, &parent, &resource, &payload)
}
