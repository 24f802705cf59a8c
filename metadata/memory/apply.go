package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Apply makes all mutations or none.
func (s *Store) Apply(ctx context.Context, mutations ...metadata.Mutation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return metadata.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fed := len(s.feed)
	var undo []func()
	for i, m := range mutations {
		back, err := s.apply(m)
		if err != nil {
			if len(mutations) > 1 {
				err = fmt.Errorf("item %d of the batch: %w", i, err)
			}
			for _, f := range slices.Backward(undo) {
				f()
			}
			s.feed = slices.Delete(s.feed, fed, len(s.feed))
			return err
		}
		undo = append(undo, back)
	}
	s.head.Advance(uint64(len(s.feed)))
	return nil
}

// apply makes one mutation and returns what undoes it, but for the feed.
func (s *Store) apply(m metadata.Mutation) (undo func(), err error) {
	switch {
	case m.CreateNote != nil:
		return s.createNote(m)
	case m.CreateOccurrence != nil:
		return s.createOccurrence(m)
	case m.UpdateNote != nil:
		return s.updateNote(m)
	case m.UpdateOccurrence != nil:
		return s.updateOccurrence(m)
	case !m.DeleteNote.IsZero():
		return s.deleteNote(m.DeleteNote)
	case !m.DeleteOccurrence.IsZero():
		return s.deleteOccurrence(m.DeleteOccurrence)
	case m.CreateProject != "":
		return s.createProject(m.CreateProject)
	case m.DeleteProject != "":
		return s.deleteProject(m.DeleteProject)
	case m.SetPolicy != nil:
		return s.setPolicy(m.SetPolicy)
	case m.WriteDocument != nil:
		return s.writeDocument(m.WriteDocument)
	}
	return nil, errors.New("applying an empty mutation")
}

func (s *Store) emit(c metadata.Change) {
	c.Seq = uint64(len(s.feed)) + 1
	s.feed = append(s.feed, c)
}

func (s *Store) createNote(m metadata.Mutation) (func(), error) {
	name, err := metadata.ParseNoteName(m.CreateNote.GetName())
	if err != nil {
		return nil, fmt.Errorf("storing a note: %w", err)
	}
	if s.notes[name] != nil {
		return nil, metadata.NoteExists(name)
	}
	n := &note{message: proto.CloneOf(m.CreateNote)}
	s.addNote(name, n)
	s.emit(metadata.Change{Op: metadata.Created, Note: n.message})
	return func() { s.removeNote(name) }, nil
}

func (s *Store) deleteNote(name metadata.NoteName) (func(), error) {
	n := s.notes[name]
	switch {
	case n == nil:
		return nil, metadata.NoteMissing(name)
	case len(n.occurrences) > 0:
		return nil, metadata.NoteInUse(name)
	}
	s.removeNote(name)
	back := s.dropPolicy(name.String())
	s.emit(metadata.Change{Op: metadata.Deleted, Note: metadata.NoteTombstone(n.message)})
	return func() { s.addNote(name, n); back() }, nil
}

func (s *Store) updateNote(m metadata.Mutation) (func(), error) {
	name, err := metadata.ParseNoteName(m.UpdateNote.GetName())
	if err != nil {
		return nil, fmt.Errorf("storing a note: %w", err)
	}
	n := s.notes[name]
	switch {
	case n == nil:
		return nil, metadata.NoteMissing(name)
	case !proto.Equal(n.message.GetUpdateTime(), m.IfUpdateTime):
		return nil, metadata.Changed(name.String())
	}
	old := n.message
	n.message = proto.CloneOf(m.UpdateNote)
	s.emit(metadata.Change{Op: metadata.Updated, Note: n.message})
	return func() { n.message = old }, nil
}

func (s *Store) createOccurrence(m metadata.Mutation) (func(), error) {
	name, err := metadata.ParseOccurrenceName(m.CreateOccurrence.GetName())
	if err != nil {
		return nil, fmt.Errorf("storing an occurrence: %w", err)
	}
	noteName, err := metadata.ParseNoteName(m.CreateOccurrence.GetNoteName())
	if err != nil {
		return nil, fmt.Errorf("storing an occurrence: %w", err)
	}
	o := &occurrence{name: name, note: noteName, keys: metadata.KeysOf(m.CreateOccurrence), message: proto.CloneOf(m.CreateOccurrence)}
	n := s.notes[noteName]
	switch {
	case n == nil:
		return nil, metadata.NoteMissing(noteName)
	case n.message.GetKind() != o.message.GetKind():
		return nil, metadata.KindMismatch(noteName, n.message.GetKind(), o.message.GetKind())
	case s.occurrences[name.ID] != nil, !o.keys.Statement.IsZero() && s.statements[o.keys.Statement]:
		return nil, metadata.OccurrenceExists(o.message)
	}
	s.addOccurrence(o)
	s.emit(metadata.Change{Op: metadata.Created, Occurrence: o.message})
	return func() { s.removeOccurrence(o) }, nil
}

func (s *Store) deleteOccurrence(name metadata.OccurrenceName) (func(), error) {
	o := s.occurrences[name.ID]
	if o == nil || o.name != name {
		return nil, metadata.OccurrenceMissing(name)
	}
	s.removeOccurrence(o)
	back := s.dropPolicy(name.String())
	s.emit(metadata.Change{Op: metadata.Deleted, Occurrence: metadata.OccurrenceTombstone(o.message)})
	return func() { s.addOccurrence(o); back() }, nil
}

func (s *Store) updateOccurrence(m metadata.Mutation) (func(), error) {
	name, err := metadata.ParseOccurrenceName(m.UpdateOccurrence.GetName())
	if err != nil {
		return nil, fmt.Errorf("storing an occurrence: %w", err)
	}
	old := s.occurrences[name.ID]
	if old == nil || old.name != name {
		return nil, metadata.OccurrenceMissing(name)
	}
	next := &occurrence{name: name, note: old.note, keys: metadata.KeysOf(m.UpdateOccurrence), message: proto.CloneOf(m.UpdateOccurrence)}
	switch {
	case !proto.Equal(old.message.GetUpdateTime(), m.IfUpdateTime):
		return nil, metadata.Changed(name.String())
	case next.keys.Statement != old.keys.Statement && s.statements[next.keys.Statement]:
		return nil, metadata.OccurrenceExists(next.message)
	}
	s.removeOccurrence(old)
	s.addOccurrence(next)
	s.emit(metadata.Change{Op: metadata.Updated, Occurrence: next.message})
	return func() { s.removeOccurrence(next); s.addOccurrence(old) }, nil
}

func (s *Store) createProject(id string) (func(), error) {
	i, found := slices.BinarySearch(s.projects, id)
	if found {
		return nil, metadata.ProjectExists(id)
	}
	s.projects = slices.Insert(s.projects, i, id)
	return func() { s.projects = slices.Delete(s.projects, i, i+1) }, nil
}

func (s *Store) deleteProject(id string) (func(), error) {
	i, found := slices.BinarySearch(s.projects, id)
	if !found {
		return nil, metadata.ProjectMissing(id)
	}
	s.projects = slices.Delete(s.projects, i, i+1)
	return func() { s.projects = slices.Insert(s.projects, i, id) }, nil
}

func (s *Store) setPolicy(c *metadata.PolicyChange) (func(), error) {
	if err := s.mustExist(c.Resource); err != nil && !c.Implied {
		return nil, err
	}
	old := s.policies[c.Resource]
	if !bytes.Equal(old, c.Was) {
		return nil, metadata.Changed(c.Resource)
	}
	s.putPolicy(c.Resource, slices.Clone(c.To))
	return func() { s.putPolicy(c.Resource, old) }, nil
}

func (s *Store) putPolicy(resource string, policy []byte) {
	if policy == nil {
		delete(s.policies, resource)
		return
	}
	s.policies[resource] = policy
}

// dropPolicy removes the policy of what is deleted, and returns what undoes it.
func (s *Store) dropPolicy(resource string) (undo func()) {
	old := s.policies[resource]
	delete(s.policies, resource)
	return func() { s.putPolicy(resource, old) }
}

// mustExist returns nil if there is a note, an occurrence or a document of the name.
func (s *Store) mustExist(resource string) error {
	if s.documents[resource].live() {
		return nil
	}
	if name, err := metadata.ParseNoteName(resource); err == nil {
		if s.notes[name] == nil {
			return metadata.NoteMissing(name)
		}
		return nil
	}
	name, err := metadata.ParseOccurrenceName(resource)
	if err != nil {
		return metadata.DocumentMissing(resource)
	}
	if o := s.occurrences[name.ID]; o == nil || o.name != name {
		return metadata.OccurrenceMissing(name)
	}
	return nil
}

func (s *Store) parent(p metadata.Parent) *parent {
	if s.parents[p] == nil {
		s.parents[p] = &parent{}
	}
	return s.parents[p]
}

func (s *Store) addNote(name metadata.NoteName, n *note) {
	s.notes[name] = n
	p := s.parent(name.Parent)
	i, _ := slices.BinarySearch(p.noteIDs, name.ID)
	p.noteIDs = slices.Insert(p.noteIDs, i, name.ID)
}

func (s *Store) removeNote(name metadata.NoteName) {
	delete(s.notes, name)
	p := s.parent(name.Parent)
	if i, found := slices.BinarySearch(p.noteIDs, name.ID); found {
		p.noteIDs = slices.Delete(p.noteIDs, i, i+1)
	}
}

func (s *Store) addOccurrence(o *occurrence) {
	s.occurrences[o.name.ID] = o
	p, n := s.parent(o.name.Parent), s.notes[o.note]
	p.occurrences = p.occurrences.insert(o)
	n.occurrences = n.occurrences.insert(o)
	s.resources[o.keys.Resource] = s.resources[o.keys.Resource].insert(o)
	if !o.keys.Subject.IsZero() {
		s.subjects[o.keys.Subject] = s.subjects[o.keys.Subject].insert(o)
	}
	if !o.keys.Statement.IsZero() {
		s.statements[o.keys.Statement] = true
	}
}

func (s *Store) removeOccurrence(o *occurrence) {
	delete(s.occurrences, o.name.ID)
	p, n := s.parent(o.name.Parent), s.notes[o.note]
	p.occurrences = p.occurrences.remove(o)
	n.occurrences = n.occurrences.remove(o)
	drop(s.resources, o.keys.Resource, o)
	drop(s.subjects, o.keys.Subject, o)
	delete(s.statements, o.keys.Statement)
}

func drop(index map[metadata.Key]list, key metadata.Key, o *occurrence) {
	if rest := index[key].remove(o); len(rest) > 0 {
		index[key] = rest
	} else {
		delete(index, key)
	}
}
