package sqlite

import (
	"bytes"
	"context"
	"math/bits"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// maxHinted is how many keys or notes a hint may stand for. What stands for more
// narrows too little to be worth its own index.
const maxHinted = 1000

// afterPrefix, put after a prefix, sorts after all text that begins with it: no
// byte of UTF-8 is 0xff.
const afterPrefix = "\xff"

var storedKinds = metadata.StoredKinds()

// A selection is a statement that yields the row r and the id i of occurrences,
// newest first.
type selection struct {
	text    string
	args    []any
	common  bool // the text is one of a few dozen, worth keeping prepared
	nothing bool // no row can match; there is no text
}

// A condition is what follows WHERE.
type condition struct {
	terms []string
	args  []any
}

func (c *condition) add(term string, args ...any) {
	c.terms = append(c.terms, term)
	c.args = append(c.args, args...)
}

func (c *condition) String() string { return strings.Join(c.terms, " AND ") }

// plan names the index to use, since which is best follows from the query and not
// from statistics: whatever names resources, then what names a note, and at last
// the parent's list of each kind.
func (s *Store) plan(ctx context.Context, q metadata.OccurrenceQuery, limit int) (selection, error) {
	keys, err := s.hintedResources(ctx, q)
	if err != nil {
		return selection{}, err
	}
	notes, err := s.hintedNotes(ctx, q)
	if err != nil {
		return selection{}, err
	}
	if keys != nil && len(keys) == 0 || notes != nil && len(notes) == 0 || q.Kinds == 0 {
		return selection{nothing: true}, nil
	}
	var c condition
	index, common := "", true
	if !q.Note.IsZero() {
		index = "occurrence_note"
		c.add("note = (SELECT row FROM note WHERE parent = ? AND id = ?)", q.Note.Parent.String(), q.Note.ID)
	} else if notes != nil {
		index, common = "occurrence_note", len(notes) == 1
		c.add("note"+oneOf(len(notes)), notes...)
	}
	if q.Subjects != nil {
		index, common = "occurrence_subject", len(q.Subjects) == 1
		c.add("subject"+oneOf(len(q.Subjects)), keyValues(q.Subjects)...)
	}
	if keys != nil {
		index, common = "occurrence_resource", len(keys) == 1 && q.Subjects == nil
		c.add("resource"+oneOf(len(keys)), keyValues(keys)...)
	}
	if index == "" {
		return ofParent(q, limit), nil
	}
	if !q.Parent.IsZero() {
		c.add("parent = ?", parentKey(q.Parent))
	}
	if q.Kinds != metadata.AllKinds {
		c.add("kind"+oneOf(bits.OnesCount64(uint64(q.Kinds))), kindValues(q.Kinds)...)
	}
	c.add("id < ?", before(q))
	text := "SELECT row AS r, id AS i FROM occurrence INDEXED BY " + index + " WHERE " + c.String() + " ORDER BY id DESC LIMIT ?"
	return selection{text: text, args: append(c.args, limit), common: common}, nil
}

// ofParent merges the parent's lists of the kinds.
func ofParent(q metadata.OccurrenceQuery, limit int) selection {
	var s selection
	var lists []string
	for _, kind := range storedKinds {
		if !q.Kinds.Has(kind) {
			continue
		}
		lists = append(lists, `SELECT r, i FROM (SELECT row AS r, id AS i FROM occurrence INDEXED BY occurrence_kind
			WHERE parent = ? AND kind = ? AND id < ? ORDER BY id DESC LIMIT ?)`)
		s.args = append(s.args, parentKey(q.Parent), int32(kind), before(q), limit)
	}
	if len(lists) == 0 {
		return selection{nothing: true}
	}
	s.text = strings.Join(lists, " UNION ALL ") + " ORDER BY i DESC LIMIT ?"
	s.args = append(s.args, limit)
	s.common = true // one text for each number of kinds
	return s
}

// hintedResources returns the keys of the resources that the query names, or that
// begin as its hints say; nil if it names none, or too many to be worth it.
func (s *Store) hintedResources(ctx context.Context, q metadata.OccurrenceQuery) ([]metadata.Key, error) {
	if q.Resources != nil || q.Subjects != nil || len(q.Hints.Prefixes) == 0 {
		return q.Resources, nil
	}
	keys := []metadata.Key{}
	for _, prefix := range q.Hints.Prefixes {
		rows, err := s.query(ctx, true, "SELECT key FROM resource WHERE uri >= ? AND uri < ? LIMIT ?",
			[]any{prefix, prefix + afterPrefix, maxHinted + 1})
		if err != nil {
			return nil, err
		}
		var found [][]byte
		if err := collect(rows, &found); err != nil {
			return nil, s.reading(ctx, err)
		}
		for _, raw := range found {
			if k := metadata.Key(raw); !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		if len(keys) > maxHinted {
			return nil, nil
		}
	}
	return keys, nil
}

// hintedNotes returns the rows of the notes that the hints allow; nil if they do
// not narrow, or not enough.
func (s *Store) hintedNotes(ctx context.Context, q metadata.OccurrenceQuery) ([]any, error) {
	h := q.Hints
	if !q.Note.IsZero() || q.Resources != nil || q.Subjects != nil || h.NoteProject == "" && h.NoteID == "" {
		return nil, nil
	}
	var c condition
	if h.NoteProject != "" {
		project := metadata.Parent{Project: h.NoteProject}.String()
		inside := project + "/locations/"
		c.add("(parent = ? OR parent >= ? AND parent < ?)", project, inside, inside+afterPrefix)
	}
	if h.NoteID != "" {
		c.add("id = ?", h.NoteID)
	}
	if h.NoteIDPrefix != "" {
		c.add("id >= ? AND id < ?", h.NoteIDPrefix, h.NoteIDPrefix+afterPrefix)
	}
	rows, err := s.query(ctx, true, "SELECT row FROM note WHERE "+c.String()+" LIMIT ?", append(c.args, maxHinted+1))
	if err != nil {
		return nil, err
	}
	found := []any{}
	if err := collect(rows, &found); err != nil {
		return nil, s.reading(ctx, err)
	}
	if len(found) > maxHinted {
		return nil, nil
	}
	return found, nil
}

func before(q metadata.OccurrenceQuery) []byte {
	if q.Before.IsZero() {
		return bytes.Repeat([]byte{0xff}, len(q.Before))
	}
	return q.Before[:]
}

func keyValues(keys []metadata.Key) []any {
	values := make([]any, len(keys))
	for i := range keys {
		values[i] = keys[i][:]
	}
	return values
}

func kindValues(kinds metadata.Kinds) []any {
	var values []any
	for rest := uint64(kinds); rest != 0; rest &= rest - 1 {
		values = append(values, bits.TrailingZeros64(rest))
	}
	return values
}

func oneOf(n int) string {
	if n == 1 {
		return " = ?"
	}
	return " IN (?" + strings.Repeat(", ?", max(n, 1)-1) + ")"
}
