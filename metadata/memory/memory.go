// Package memory is a metadata store that forgets: for tests, and to try things
// out. It keeps the whole feed. Package sqlite is the store that lasts.
package memory

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/internal/head"
)

// A Store keeps notes and occurrences in memory. Use [New]. It is a
// [metadata.Store].
type Store struct {
	pageKey []byte
	head    *head.Head

	mu          sync.RWMutex
	closed      bool
	notes       map[metadata.NoteName]*note
	parents     map[metadata.Parent]*parent
	occurrences map[metadata.ID]*occurrence
	resources   map[metadata.Key]list
	subjects    map[metadata.Key]list
	statements  map[metadata.Key]bool
	projects    []string          // sorted
	policies    map[string][]byte // by the name of what they are of
	documents   map[string]*document
	feed        []metadata.Change
}

var _ metadata.Store = (*Store)(nil)

type parent struct {
	noteIDs     []string // sorted
	occurrences list
}

type note struct {
	message     *grafeas.Note
	occurrences list
}

type occurrence struct {
	name    metadata.OccurrenceName
	note    metadata.NoteName
	keys    metadata.Keys
	message *grafeas.Occurrence // never modified
}

// New returns an empty Store.
func New() *Store {
	s := &Store{
		pageKey:     make([]byte, 32),
		head:        head.New(0),
		notes:       map[metadata.NoteName]*note{},
		parents:     map[metadata.Parent]*parent{},
		occurrences: map[metadata.ID]*occurrence{},
		resources:   map[metadata.Key]list{},
		subjects:    map[metadata.Key]list{},
		statements:  map[metadata.Key]bool{},
		policies:    map[string][]byte{},
		documents:   map[string]*document{},
	}
	_, _ = rand.Read(s.pageKey) // never fails: see its documentation
	return s
}

// Note returns the note of the name.
func (s *Store) Note(_ context.Context, name metadata.NoteName) (*grafeas.Note, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	n := s.notes[name]
	if n == nil {
		return nil, metadata.NoteMissing(name)
	}
	return proto.CloneOf(n.message), nil
}

// Occurrence returns the occurrence of the name.
func (s *Store) Occurrence(_ context.Context, name metadata.OccurrenceName) (*grafeas.Occurrence, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	o := s.occurrences[name.ID]
	if o == nil || o.name != name {
		return nil, metadata.OccurrenceMissing(name)
	}
	return proto.CloneOf(o.message), nil
}

// Notes returns the notes of a parent.
func (s *Store) Notes(_ context.Context, q metadata.NoteQuery) ([]*grafeas.Note, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	p := s.parents[q.Parent]
	if p == nil {
		return nil, false, nil
	}
	var rows []*grafeas.Note
	bytes := 0
	ids := p.noteIDs
	for _, id := range ids[sort.Search(len(ids), func(i int) bool { return ids[i] > q.After }):] {
		n := s.notes[metadata.NoteName{Parent: q.Parent, ID: id}].message
		if !strings.HasPrefix(id, q.IDPrefix) || !q.Kinds.Has(n.GetKind()) {
			continue
		}
		if bytes += proto.Size(n); len(rows) == q.Limit || len(rows) > 0 && bytes > metadata.MaxPageBytes {
			return rows, true, nil
		}
		rows = append(rows, proto.CloneOf(n))
	}
	return rows, false, nil
}

// Occurrences returns the occurrences that the query selects.
func (s *Store) Occurrences(ctx context.Context, q metadata.OccurrenceQuery) ([]*grafeas.Occurrence, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	var rows []*grafeas.Occurrence
	bytes := 0
	for o := range s.candidates(q).before(q.Before) {
		if !matches(q, o) {
			continue
		}
		if bytes += proto.Size(o.message); len(rows) == q.Limit || len(rows) > 0 && bytes > metadata.MaxPageBytes {
			return rows, true, nil
		}
		rows = append(rows, proto.CloneOf(o.message))
	}
	return rows, false, nil
}

// CountOccurrences returns how many rows the query selects, at most its limit.
func (s *Store) CountOccurrences(ctx context.Context, q metadata.OccurrenceQuery) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, metadata.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n := 0
	for o := range s.candidates(q).before(q.Before) {
		if n == q.Limit {
			break
		}
		if matches(q, o) {
			n++
		}
	}
	return n, nil
}

// Project reports whether the project was created.
func (s *Store) Project(_ context.Context, id string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, metadata.ErrClosed
	}
	_, found := slices.BinarySearch(s.projects, id)
	return found, nil
}

// Projects returns the ids of projects that were created.
func (s *Store) Projects(_ context.Context, after string, limit int) ([]string, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	rest := s.projects[sort.Search(len(s.projects), func(i int) bool { return s.projects[i] > after }):]
	return slices.Clone(rest[:min(limit, len(rest))]), len(rest) > limit, nil
}

// Parents returns the project and its locations that have occurrences.
func (s *Store) Parents(_ context.Context, project string) ([]metadata.Parent, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	var found []metadata.Parent
	for p, content := range s.parents {
		if p.Project == project && len(content.occurrences) > 0 {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b metadata.Parent) int { return strings.Compare(a.Location, b.Location) })
	return found, nil
}

// Policy returns the access policy of a resource.
func (s *Store) Policy(_ context.Context, resource string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	return slices.Clone(s.policies[resource]), nil
}

// Summaries makes summaries from the occurrences, which a store of a few rows can.
func (s *Store) Summaries(_ context.Context, q metadata.SummaryQuery) ([]*metadata.Summary, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, metadata.ErrClosed
	}
	p := s.parents[q.Parent]
	if p == nil {
		return nil, false, nil
	}
	byKey := map[metadata.Key]*metadata.Summary{}
	candidates := p.occurrences
	if q.Resources != nil {
		candidates = merge(s.resources, q.Resources)
	}
	for _, o := range candidates {
		k := o.keys.Resource
		wanted := q.Resources == nil || slices.Contains(q.Resources, k)
		if !wanted || o.name.Parent != q.Parent || compareKey(k, q.After) <= 0 || !metadata.Summarized(o.message.GetKind()) {
			continue
		}
		if byKey[k] == nil {
			byKey[k] = &metadata.Summary{Parent: q.Parent, Resource: k}
		}
		byKey[k].Add(o.message)
	}
	keys := slices.SortedFunc(maps.Keys(byKey), compareKey)
	var rows []*metadata.Summary
	for _, k := range keys[:min(q.Limit, len(keys))] {
		rows = append(rows, byKey[k])
	}
	return rows, len(keys) > q.Limit, nil
}

func compareKey(a, b metadata.Key) int { return slices.Compare(a[:], b[:]) }

// candidates returns the shortest list that holds all rows of the query.
func (s *Store) candidates(q metadata.OccurrenceQuery) list {
	switch {
	case q.Resources != nil:
		return merge(s.resources, q.Resources)
	case q.Subjects != nil:
		return merge(s.subjects, q.Subjects)
	case !q.Note.IsZero():
		if n := s.notes[q.Note]; n != nil {
			return n.occurrences
		}
	default:
		if p := s.parents[q.Parent]; p != nil {
			return p.occurrences
		}
	}
	return nil
}

func matches(q metadata.OccurrenceQuery, o *occurrence) bool {
	return (q.Parent.IsZero() || q.Parent == o.name.Parent) &&
		(q.Note.IsZero() || q.Note == o.note) &&
		(q.Resources == nil || slices.Contains(q.Resources, o.keys.Resource)) &&
		(q.Subjects == nil || slices.Contains(q.Subjects, o.keys.Subject)) &&
		q.Kinds.Has(o.message.GetKind())
}

// Changes returns changes after the sequence number.
func (s *Store) Changes(_ context.Context, after uint64, limit int) ([]metadata.Change, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, metadata.ErrClosed
	}
	if after > uint64(len(s.feed)) {
		return nil, metadata.ErrCompacted
	}
	if limit <= 0 {
		return nil, nil
	}
	tail := s.feed[after:]
	changes := slices.Clone(tail[:min(limit, len(tail))])
	for i, c := range changes {
		changes[i].Note = proto.CloneOf(c.Note)
		changes[i].Occurrence = proto.CloneOf(c.Occurrence)
		changes[i].Document = c.Document.Clone()
	}
	return changes, nil
}

// Head returns the last sequence number.
func (s *Store) Head() uint64 { return s.head.Load() }

// Wait blocks until Head is greater than after.
func (s *Store) Wait(ctx context.Context, after uint64) error { return s.head.Wait(ctx, after) }

// PageKey returns the key of page tokens, which is new in each Store.
func (s *Store) PageKey(context.Context) ([]byte, error) { return slices.Clone(s.pageKey), nil }

// Close makes all further calls fail.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.head.Close(metadata.ErrClosed)
	return nil
}

// A list holds occurrences in the order of their ids.
type list []*occurrence

func compareID(o *occurrence, id metadata.ID) int {
	return strings.Compare(string(o.name.ID[:]), string(id[:]))
}

func (l list) insert(o *occurrence) list {
	i, _ := slices.BinarySearchFunc(l, o.name.ID, compareID)
	return slices.Insert(l, i, o)
}

func (l list) remove(o *occurrence) list {
	i, found := slices.BinarySearchFunc(l, o.name.ID, compareID)
	if !found {
		return l
	}
	return slices.Delete(l, i, i+1)
}

// before yields what is older than id, newest first; all of it for the zero ID.
func (l list) before(id metadata.ID) func(yield func(*occurrence) bool) {
	end := len(l)
	if !id.IsZero() {
		end, _ = slices.BinarySearchFunc(l, id, compareID)
	}
	return func(yield func(*occurrence) bool) {
		for i := end - 1; i >= 0; i-- {
			if !yield(l[i]) {
				return
			}
		}
	}
}

// merge joins the lists of several keys, which have no row in common.
func merge(index map[metadata.Key]list, keys []metadata.Key) list {
	if len(keys) == 1 {
		return index[keys[0]]
	}
	var all list
	for _, k := range keys {
		all = append(all, index[k]...)
	}
	slices.SortFunc(all, func(a, b *occurrence) int { return compareID(a, b.name.ID) })
	return all
}
