package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// summaryKey is the primary key of a summary.
type summaryKey struct{ parent, resource metadata.Key }

// A summaryRow is a row of summary. A stale one is made anew from the occurrences
// before it is written.
type summaryRow struct {
	summary metadata.Summary
	stale   bool
}

// summarize brings the summary up to date with the row of an occurrence; removed or
// added is nil if there is none.
func (o *overlay) summarize(row *occurrenceRow, removed, added *grafeas.Occurrence) error {
	if !metadata.Summarized(removed.GetKind()) && !metadata.Summarized(added.GetKind()) {
		return nil
	}
	s := o.summary(summaryKey{row.parent, row.resource})
	if s.stale {
		return nil
	}
	if removed != nil && !s.summary.Remove(removed) {
		s.stale = true
		return nil
	}
	if added != nil {
		s.summary.Add(added)
	}
	return nil
}

// summary returns a summary that the running job may modify.
func (o *overlay) summary(key summaryKey) *summaryRow {
	row := o.summaries.get(key)
	if row != nil && o.copied[key] {
		return row
	}
	next := &summaryRow{}
	if row != nil {
		*next = *row
		next.summary.Counts = slices.Clone(row.summary.Counts)
		next.summary.Findings = slices.Clone(row.summary.Findings)
		next.summary.Scans = slices.Clone(row.summary.Scans)
	}
	o.summaries.put(o, key, next)
	if o.copied == nil {
		o.copied = map[summaryKey]bool{}
	}
	o.copied[key] = true
	return next
}

// stale returns the keys of summaries that have to be made anew.
func (o *overlay) stale() []summaryKey {
	var keys []summaryKey
	for key, c := range o.summaries {
		if c.is != nil && c.is.stale {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareSummaryKeys)
	return keys
}

const selectSummarized = `SELECT k.parent, k.resource, o.id, o.payload
	FROM unnest($1::uuid[], $2::uuid[]) k (parent, resource) CROSS JOIN LATERAL (
		SELECT id, payload FROM occurrence
		WHERE resource = k.resource AND kind = ANY($3::integer[]) AND parent = k.parent OFFSET 0) o`

// rebuild makes stale summaries from the rows in the database, and from those
// that the transaction is about to write.
func (o *overlay) rebuild(ctx context.Context, conn *pgx.Conn) error {
	keys := o.stale()
	if len(keys) == 0 {
		return nil
	}
	kinds := []int32{int32(grafeas.NoteKind_VULNERABILITY), int32(grafeas.NoteKind_DISCOVERY)}
	rows, err := conn.Query(ctx, selectSummarized, parentsOf(keys), resourcesOf(keys), kinds)
	if err != nil {
		return err
	}
	type found struct {
		id      metadata.ID
		message *grafeas.Occurrence
	}
	all := map[summaryKey][]found{}
	add := func(key summaryKey, id metadata.ID, payload []byte) error {
		message := &grafeas.Occurrence{}
		all[key] = append(all[key], found{id, message})
		return decode(payload, message)
	}
	var parent, resource, id [16]byte
	var payload pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&parent, &resource, &id, &payload}, func() error {
		if _, touched := o.occurrences[id]; touched {
			return nil
		}
		return add(summaryKey{parent, resource}, id, payload)
	})
	if err != nil {
		return err
	}
	wanted := map[summaryKey]bool{}
	for _, key := range keys {
		wanted[key] = true
	}
	for id, c := range o.occurrences {
		if c.is == nil || !metadata.Summarized(c.is.kind) || !wanted[summaryKey{c.is.parent, c.is.resource}] {
			continue
		}
		if err := add(summaryKey{c.is.parent, c.is.resource}, id, c.is.payload); err != nil {
			return err
		}
	}
	for _, key := range keys {
		slices.SortFunc(all[key], func(a, b found) int { return compareBytes(a.id, b.id) })
		row := &summaryRow{}
		for _, f := range all[key] {
			row.summary.Add(f.message)
		}
		o.summaries[key].is = row
	}
	return nil
}

func parentsOf(keys []summaryKey) pgtype.FlatArray[pgtype.UUID] {
	list := make([]metadata.Key, len(keys))
	for i, k := range keys {
		list[i] = k.parent
	}
	return uuids(list)
}

func resourcesOf(keys []summaryKey) pgtype.FlatArray[pgtype.UUID] {
	list := make([]metadata.Key, len(keys))
	for i, k := range keys {
		list[i] = k.resource
	}
	return uuids(list)
}

// Summaries returns what the scans of a parent's resources found.
func (s *Store) Summaries(ctx context.Context, q metadata.SummaryQuery) (all []*metadata.Summary, more bool, err error) {
	var st statement
	text := "SELECT resource, payload FROM summary WHERE parent = " + st.arg(parentKey(q.Parent)) + " AND resource > " + st.arg([16]byte(q.After))
	if q.Resources != nil {
		text += " AND resource = ANY(" + st.arg(uuids(q.Resources)) + "::uuid[])"
	}
	text += " ORDER BY resource LIMIT " + st.arg(q.Limit+1)
	err = s.read(ctx, func(rows pgx.Rows) error {
		all, more = nil, false
		for rows.Next() {
			var key [16]byte
			var payload pgtype.DriverBytes
			if err := rows.Scan(&key, &payload); err != nil {
				return err
			}
			if more = len(all) == q.Limit; more {
				return nil
			}
			summary := &metadata.Summary{Parent: q.Parent, Resource: key}
			if err := json.Unmarshal(payload, summary); err != nil {
				return damagedError{fmt.Errorf("a summary: %w", err)}
			}
			all = append(all, summary)
		}
		return nil
	}, text, st.args...)
	return all, more, err
}
