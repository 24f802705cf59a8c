package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxHinted is how many keys or notes a hint may stand for. What stands for
	// more narrows too little to be worth its own index.
	maxHinted = 1000
	// indexedURI is how many characters of a resource's URI are in its index.
	indexedURI = 500
)

var storedKinds = metadata.StoredKinds()

// A selection is a statement that yields the id i and the payload of occurrences,
// newest first.
type selection struct {
	text    string
	args    []any
	nothing bool // no row can match; there is no text
}

// A statement collects the parameters of a text.
type statement struct{ args []any }

// arg returns the placeholder of a parameter.
func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d", len(s.args))
}

// plan writes the statement so that there is one index to use, since which is best
// follows from the query and not from statistics: whatever names resources, then
// what names a note, and at last the parent's list of each kind. Each list in an
// index is read from its end, no further than the limit, and the lists are merged.
func (s *Store) plan(ctx context.Context, q metadata.OccurrenceQuery, limit int) (selection, error) {
	keys, err := s.hintedResources(ctx, q)
	if err != nil {
		return selection{}, err
	}
	notes, err := s.hintedNotes(ctx, q)
	if err != nil {
		return selection{}, err
	}
	kinds := kindValues(q.Kinds)
	if keys != nil && len(keys) == 0 || notes != nil && len(notes) == 0 || len(kinds) == 0 {
		return selection{nothing: true}, nil
	}
	var st statement
	var lists, terms []string
	switch {
	case keys != nil:
		lists = []string{"unnest(" + st.arg(uuids(keys)) + "::uuid[]) k", "unnest(" + st.arg(kinds) + "::integer[]) l"}
		terms = []string{"resource = k", "kind = l"}
		if q.Subjects != nil {
			terms = append(terms, "subject = ANY("+st.arg(uuids(q.Subjects))+"::uuid[])")
		}
	case q.Subjects != nil:
		lists = []string{"unnest(" + st.arg(uuids(q.Subjects)) + "::uuid[]) k", "unnest(" + st.arg(kinds) + "::integer[]) l"}
		terms = []string{"subject = k", "subject IS NOT NULL", "kind = l"}
	case notes != nil:
		lists = []string{"unnest(" + st.arg(uuids(notes)) + "::uuid[]) k"}
		terms = []string{"note = k", "kind = ANY(" + st.arg(kinds) + "::integer[])"}
	default:
		return ofParent(q, kinds, limit), nil
	}
	if notes != nil && (keys != nil || q.Subjects != nil) {
		terms = append(terms, "note = ANY("+st.arg(uuids(notes))+"::uuid[])")
	}
	if !q.Parent.IsZero() {
		terms = append(terms, "parent = "+st.arg(parentKey(q.Parent)))
	}
	terms = append(terms, "id < "+st.arg(before(q)))
	most := st.arg(limit)
	text := "SELECT i, payload FROM " + strings.Join(lists, " CROSS JOIN ") +
		" CROSS JOIN LATERAL (SELECT id AS i, payload FROM occurrence WHERE " + strings.Join(terms, " AND ") +
		" ORDER BY id DESC LIMIT " + most + ") o ORDER BY i DESC LIMIT " + most
	return selection{text: text, args: st.args}, nil
}

// ofParent merges the parent's lists of the kinds, in step: no more than the limit
// is read in all.
func ofParent(q metadata.OccurrenceQuery, kinds []int32, limit int) selection {
	var st statement
	parent, below, most := st.arg(parentKey(q.Parent)), st.arg(before(q)), st.arg(limit)
	lists := make([]string, len(kinds))
	for i, kind := range kinds {
		lists[i] = "(SELECT id AS i, payload FROM occurrence WHERE parent = " + parent + " AND kind = " + st.arg(kind) +
			" AND id < " + below + " ORDER BY id DESC LIMIT " + most + ")"
	}
	text := "SELECT i, payload FROM (" + strings.Join(lists, " UNION ALL ") + ") u ORDER BY i DESC LIMIT " + most
	return selection{text: text, args: st.args}
}

// hintedResources returns the keys of the resources that the query names, or that
// begin as its hints say; nil if it names none, or too many to be worth it.
func (s *Store) hintedResources(ctx context.Context, q metadata.OccurrenceQuery) ([]metadata.Key, error) {
	if q.Resources != nil || q.Subjects != nil || len(q.Hints.Prefixes) == 0 {
		return q.Resources, nil
	}
	keys := []metadata.Key{}
	for _, prefix := range q.Hints.Prefixes {
		var st statement
		text := "SELECT key FROM resource WHERE " + st.begins("left(uri, 500)", firstRunes(prefix, indexedURI)) + " LIMIT " + st.arg(maxHinted+1)
		found, err := s.keys(ctx, text, st.args)
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		if len(keys) > maxHinted {
			return nil, nil
		}
	}
	return keys, nil
}

// hintedNotes returns the keys of the note that the query names, or of those that
// its hints allow; nil if they do not narrow, or not enough.
func (s *Store) hintedNotes(ctx context.Context, q metadata.OccurrenceQuery) ([]metadata.Key, error) {
	h := q.Hints
	if !q.Note.IsZero() {
		return []metadata.Key{noteKey(q.Note)}, nil
	}
	if q.Resources != nil || q.Subjects != nil || h.NoteProject == "" && h.NoteID == "" {
		return nil, nil
	}
	var st statement
	var terms []string
	if h.NoteProject != "" {
		project := metadata.Parent{Project: h.NoteProject}.String()
		terms = append(terms, "(parent = "+st.arg(project)+" OR "+st.begins("parent", project+"/locations/")+")")
	}
	if h.NoteID != "" {
		terms = append(terms, "id = "+st.arg(h.NoteID))
	}
	if h.NoteIDPrefix != "" {
		terms = append(terms, st.begins("id", h.NoteIDPrefix))
	}
	found, err := s.keys(ctx, "SELECT key FROM note WHERE "+strings.Join(terms, " AND ")+" LIMIT "+st.arg(maxHinted+1), st.args)
	if err != nil || len(found) > maxHinted {
		return nil, err
	}
	return found, nil
}

// keys returns the one column of a statement, not nil.
func (s *Store) keys(ctx context.Context, text string, args []any) (found []metadata.Key, err error) {
	err = s.read(ctx, func(rows pgx.Rows) error {
		found = []metadata.Key{}
		for rows.Next() {
			var k [16]byte
			if err := rows.Scan(&k); err != nil {
				return err
			}
			found = append(found, k)
		}
		return nil
	}, text, args...)
	return found, err
}

// begins returns the condition that a text, in the order of its bytes, begins with
// the prefix.
func (s *statement) begins(column, prefix string) string {
	from := column + " >= " + s.arg(prefix)
	if end := afterPrefix(prefix); end != "" {
		return "(" + from + " AND " + column + " < " + s.arg(end) + ")"
	}
	return "(" + from + ")"
}

// afterPrefix returns the least text that sorts after all that begin with the
// prefix, "" if there is none. It must be valid UTF-8, as all text in PostgreSQL.
func afterPrefix(prefix string) string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue
		case last+1 == 0xd800: // surrogates are no characters
			return prefix + "\ue000"
		}
		return prefix + string(last+1)
	}
	return ""
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func before(q metadata.OccurrenceQuery) [16]byte {
	if q.Before.IsZero() {
		return [16]byte(bytes.Repeat([]byte{0xff}, len(q.Before)))
	}
	return q.Before
}

// uuids makes a parameter of keys or ids; the zero one is NULL.
func uuids[K ~[16]byte](keys []K) pgtype.FlatArray[pgtype.UUID] {
	values := make(pgtype.FlatArray[pgtype.UUID], len(keys))
	for i, k := range keys {
		values[i] = pgtype.UUID{Bytes: k, Valid: k != K{}}
	}
	return values
}

func kindValues(kinds metadata.Kinds) []int32 {
	var values []int32
	for _, k := range storedKinds {
		if kinds.Has(k) {
			values = append(values, int32(k))
		}
	}
	return values
}

func parentKey(p metadata.Parent) [16]byte { return metadata.KeyOf(p.String()) }

func noteKey(n metadata.NoteName) metadata.Key { return metadata.KeyOf(n.String()) }
