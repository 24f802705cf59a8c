package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const insertSummary = "INSERT OR REPLACE INTO summary (parent, resource, payload) VALUES (?, ?, ?)"

// summaryKey is the primary key of a summary.
type summaryKey struct {
	parent   metadata.Parent
	resource metadata.Key
}

// summaries are those that the running transaction has read. They are written at
// the end of each job, so that a batch writes each once.
type summaries struct {
	find, put, drop, rows *sql.Stmt

	read  map[summaryKey]*metadata.Summary
	dirty map[summaryKey]bool
}

// forget drops what was read: the transaction, or the job, is over or was undone.
func (s *summaries) forget() {
	s.read, s.dirty = map[summaryKey]*metadata.Summary{}, map[summaryKey]bool{}
}

// summarize brings the summary up to date after the row of an occurrence was
// written; removed or added is nil if there is none.
func (w *writer) summarize(ctx context.Context, parent metadata.Parent, resource metadata.Key, removed, added *grafeas.Occurrence) error {
	if !metadata.Summarized(removed.GetKind()) && !metadata.Summarized(added.GetKind()) {
		return nil
	}
	s, key := &w.summaries, summaryKey{parent, resource}
	summary, err := s.load(ctx, key)
	if err != nil {
		return err
	}
	s.dirty[key] = true
	if removed != nil && !summary.Remove(removed) {
		s.read[key], err = s.rebuild(ctx, key)
		return err
	}
	if added != nil {
		summary.Add(added)
	}
	return nil
}

func (s *summaries) load(ctx context.Context, key summaryKey) (*metadata.Summary, error) {
	if have := s.read[key]; have != nil {
		return have, nil
	}
	summary := &metadata.Summary{}
	var payload []byte
	err := s.find.QueryRowContext(ctx, parentKey(key.parent), key.resource[:]).Scan(&payload)
	if err == nil {
		err = json.Unmarshal(payload, summary)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading a summary: %w", err)
	}
	s.read[key] = summary
	return summary, nil
}

// rebuild makes a summary from the rows.
func (s *summaries) rebuild(ctx context.Context, key summaryKey) (*metadata.Summary, error) {
	rows, err := s.rows.QueryContext(ctx, key.resource[:], parentKey(key.parent))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	summary := &metadata.Summary{}
	for rows.Next() {
		var payload sql.RawBytes
		if err := rows.Scan(&payload); err != nil {
			return nil, err
		}
		o := &grafeas.Occurrence{}
		if err := proto.Unmarshal(payload, o); err != nil {
			return nil, fmt.Errorf("decoding a stored occurrence: %w", err)
		}
		summary.Add(o)
	}
	return summary, rows.Err()
}

// flush writes what has changed.
func (s *summaries) flush(ctx context.Context) error {
	for key := range s.dirty {
		summary := s.read[key]
		if summary.Empty() {
			if _, err := s.drop.ExecContext(ctx, parentKey(key.parent), key.resource[:]); err != nil {
				return err
			}
			continue
		}
		payload, err := json.Marshal(summary)
		if err != nil {
			return fmt.Errorf("encoding a summary: %w", err)
		}
		if _, err := s.put.ExecContext(ctx, parentKey(key.parent), key.resource[:], payload); err != nil {
			return err
		}
	}
	clear(s.dirty)
	return nil
}

// Summaries returns what the scans of a parent's resources found.
func (s *Store) Summaries(ctx context.Context, q metadata.SummaryQuery) (all []*metadata.Summary, more bool, err error) {
	text := "SELECT resource, payload FROM summary WHERE parent = ? AND resource > ?"
	args := []any{parentKey(q.Parent), q.After[:]}
	if q.Resources != nil {
		text += " AND resource" + oneOf(len(q.Resources))
		for _, k := range q.Resources {
			args = append(args, k[:])
		}
	}
	rows, err := s.query(ctx, len(q.Resources) <= 1, text+" ORDER BY resource LIMIT ?", append(args, q.Limit+1))
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	for rows.Next() {
		var key, payload sql.RawBytes
		if err := rows.Scan(&key, &payload); err != nil {
			return nil, false, s.reading(ctx, err)
		}
		if len(all) == q.Limit {
			return all, true, nil
		}
		summary := &metadata.Summary{Parent: q.Parent}
		copy(summary.Resource[:], key)
		if err := json.Unmarshal(payload, summary); err != nil {
			return nil, false, fmt.Errorf("decoding a summary: %w", err)
		}
		all = append(all, summary)
	}
	return all, false, s.reading(ctx, rows.Err())
}
