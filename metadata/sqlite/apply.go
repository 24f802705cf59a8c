package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A refusedError is an error of the rules, which leaves the transaction usable.
type refusedError struct{ err error }

func (r refusedError) Error() string { return r.err.Error() }

func refuse(err error) error { return refusedError{err} }

// refusalIn returns the error of the rules that err is, or nil.
func refusalIn(err error) error {
	var r refusedError
	if !errors.As(err, &r) {
		return nil
	}
	return r.err
}

// apply checks one mutation, then writes it and its event. It refuses before its
// first write has had any effect.
func (w *writer) apply(m metadata.Mutation) error {
	ctx := context.Background()
	switch {
	case m.CreateNote != nil:
		return w.createNote(ctx, m.CreateNote)
	case m.CreateOccurrence != nil:
		return w.createOccurrence(ctx, m.CreateOccurrence)
	case m.UpdateNote != nil:
		return w.updateNote(ctx, m.UpdateNote, m.IfUpdateTime)
	case m.UpdateOccurrence != nil:
		return w.updateOccurrence(ctx, m.UpdateOccurrence, m.IfUpdateTime)
	case !m.DeleteNote.IsZero():
		return w.removeNote(ctx, m.DeleteNote)
	case !m.DeleteOccurrence.IsZero():
		return w.removeOccurrence(ctx, m.DeleteOccurrence)
	case m.CreateProject != "":
		return w.createProject(ctx, m.CreateProject)
	case m.DeleteProject != "":
		return w.deleteProject(ctx, m.DeleteProject)
	case m.SetPolicy != nil:
		return w.setPolicy(ctx, m.SetPolicy)
	case m.WriteDocument != nil:
		return w.writeDocument(ctx, m.WriteDocument)
	}
	return refuse(errors.New("applying an empty mutation"))
}

func (w *writer) createNote(ctx context.Context, n *grafeas.Note) error {
	name, err := metadata.ParseNoteName(n.GetName())
	if err != nil {
		return refuse(fmt.Errorf("storing a note: %w", err))
	}
	payload, err := proto.Marshal(n)
	if err != nil {
		return refuse(fmt.Errorf("encoding note %q: %w", name, err))
	}
	_, err = w.insertNote.ExecContext(ctx, w.seq+1, name.Parent.String(), name.ID, int32(n.GetKind()), payload)
	if isConstraint(err) {
		return refuse(metadata.NoteExists(name))
	}
	if err != nil {
		return err
	}
	return w.emit(ctx, metadata.Created, aNote, nil)
}

func (w *writer) createOccurrence(ctx context.Context, o *grafeas.Occurrence) error {
	name, err := metadata.ParseOccurrenceName(o.GetName())
	if err != nil {
		return refuse(fmt.Errorf("storing an occurrence: %w", err))
	}
	noteName, err := metadata.ParseNoteName(o.GetNoteName())
	if err != nil {
		return refuse(fmt.Errorf("storing an occurrence: %w", err))
	}
	payload, err := proto.Marshal(o)
	if err != nil {
		return refuse(fmt.Errorf("encoding an occurrence of %q: %w", noteName, err))
	}
	note, err := w.note(ctx, noteName)
	if err != nil {
		return err
	}
	if note.kind != o.GetKind() {
		return refuse(metadata.KindMismatch(noteName, note.kind, o.GetKind()))
	}
	keys := metadata.KeysOf(o)
	_, err = w.insertOccurrence.ExecContext(ctx, w.seq+1, name.ID[:], parentKey(name.Parent), note.row, int32(o.GetKind()),
		keys.Resource[:], nullable(keys.Subject), nullable(keys.Statement), payload)
	if isConstraint(err) {
		return refuse(metadata.OccurrenceExists(o))
	}
	if err != nil {
		return err
	}
	if _, err := w.insertResource.ExecContext(ctx, metadata.CanonicalURI(o.GetResourceUri()), keys.Resource[:]); err != nil {
		return err
	}
	if err := w.summarize(ctx, name.Parent, keys.Resource, nil, o); err != nil {
		return err
	}
	return w.emit(ctx, metadata.Created, anOccurrence, nil)
}

func (w *writer) updateNote(ctx context.Context, n *grafeas.Note, ifTime *timestamppb.Timestamp) error {
	name, err := metadata.ParseNoteName(n.GetName())
	if err != nil {
		return refuse(fmt.Errorf("storing a note: %w", err))
	}
	payload, err := proto.Marshal(n)
	if err != nil {
		return refuse(fmt.Errorf("encoding note %q: %w", name, err))
	}
	note, err := w.note(ctx, name)
	if err != nil {
		return err
	}
	var old grafeas.Note
	if err := proto.Unmarshal(note.payload, &old); err != nil {
		return fmt.Errorf("decoding note %q: %w", name, err)
	}
	if !proto.Equal(old.GetUpdateTime(), ifTime) {
		return refuse(metadata.Changed(name.String()))
	}
	if _, err := w.replaceNote.ExecContext(ctx, payload, note.row); err != nil {
		return err
	}
	if _, err := w.keep.ExecContext(ctx, note.payload, note.row); err != nil {
		return err
	}
	return w.emit(ctx, metadata.Updated, aNote, payload)
}

func (w *writer) updateOccurrence(ctx context.Context, o *grafeas.Occurrence, ifTime *timestamppb.Timestamp) error {
	name, err := metadata.ParseOccurrenceName(o.GetName())
	if err != nil {
		return refuse(fmt.Errorf("storing an occurrence: %w", err))
	}
	payload, err := proto.Marshal(o)
	if err != nil {
		return refuse(fmt.Errorf("encoding occurrence %q: %w", name, err))
	}
	row, was, old, err := w.occurrence(ctx, name)
	if err != nil {
		return err
	}
	if !proto.Equal(old.GetUpdateTime(), ifTime) {
		return refuse(metadata.Changed(name.String()))
	}
	keys := metadata.KeysOf(o)
	_, err = w.replaceOccurrence.ExecContext(ctx, nullable(keys.Statement), payload, row)
	if isConstraint(err) {
		return refuse(metadata.OccurrenceExists(o))
	}
	if err != nil {
		return err
	}
	if _, err := w.keep.ExecContext(ctx, was, row); err != nil {
		return err
	}
	if err := w.summarize(ctx, name.Parent, keys.Resource, old, o); err != nil {
		return err
	}
	return w.emit(ctx, metadata.Updated, anOccurrence, payload)
}

func (w *writer) removeNote(ctx context.Context, name metadata.NoteName) error {
	note, err := w.note(ctx, name)
	if err != nil {
		return err
	}
	var used bool
	if err := w.noteInUse.QueryRowContext(ctx, note.row).Scan(&used); err != nil {
		return err
	}
	if used {
		return refuse(metadata.NoteInUse(name))
	}
	var old grafeas.Note
	if err := proto.Unmarshal(note.payload, &old); err != nil {
		return fmt.Errorf("decoding note %q: %w", name, err)
	}
	if _, err := w.deleteNote.ExecContext(ctx, note.row); err != nil {
		return err
	}
	if _, err := w.deletePolicy.ExecContext(ctx, name.String()); err != nil {
		return err
	}
	return w.bury(ctx, note.row, note.payload, aNote, metadata.NoteTombstone(&old))
}

func (w *writer) removeOccurrence(ctx context.Context, name metadata.OccurrenceName) error {
	row, payload, old, err := w.occurrence(ctx, name)
	if err != nil {
		return err
	}
	if _, err := w.deleteOccurrence.ExecContext(ctx, row); err != nil {
		return err
	}
	key := metadata.KeysOf(old).Resource
	if _, err := w.deleteResource.ExecContext(ctx, metadata.CanonicalURI(old.GetResourceUri()), key[:]); err != nil {
		return err
	}
	if _, err := w.deletePolicy.ExecContext(ctx, name.String()); err != nil {
		return err
	}
	if err := w.summarize(ctx, name.Parent, key, old, nil); err != nil {
		return err
	}
	return w.bury(ctx, row, payload, anOccurrence, metadata.OccurrenceTombstone(old))
}

func (w *writer) createProject(ctx context.Context, id string) error {
	_, err := w.insertProject.ExecContext(ctx, id)
	if isConstraint(err) {
		return refuse(metadata.ProjectExists(id))
	}
	w.writes++
	return err
}

func (w *writer) deleteProject(ctx context.Context, id string) error {
	result, err := w.deleteProjectRow.ExecContext(ctx, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return refuse(metadata.ProjectMissing(id))
	}
	w.writes++
	return nil
}

func (w *writer) setPolicy(ctx context.Context, c *metadata.PolicyChange) error {
	if err := w.mustExist(ctx, c.Resource); err != nil && (!c.Implied || refusalIn(err) == nil) {
		return err
	}
	var old []byte
	err := w.findPolicy.QueryRowContext(ctx, c.Resource).Scan(&old)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if !bytes.Equal(old, c.Was) {
		return refuse(metadata.Changed(c.Resource))
	}
	if c.To == nil {
		_, err = w.deletePolicy.ExecContext(ctx, c.Resource)
	} else {
		_, err = w.putPolicy.ExecContext(ctx, c.Resource, c.To)
	}
	w.writes++
	return err
}

// mustExist refuses unless there is a note, an occurrence or a document of the name.
func (w *writer) mustExist(ctx context.Context, resource string) error {
	if name, err := metadata.ParseNoteName(resource); err == nil {
		_, err = w.note(ctx, name)
		return err
	}
	if name, err := metadata.ParseOccurrenceName(resource); err == nil {
		_, _, _, err = w.occurrence(ctx, name)
		return err
	}
	newest, err := w.newest(ctx, resource)
	if err == nil && newest.deleted {
		err = refuse(metadata.DocumentMissing(resource))
	}
	return err
}

// occurrence reads the row of a name.
func (w *writer) occurrence(ctx context.Context, name metadata.OccurrenceName) (row uint64, payload []byte, o *grafeas.Occurrence, err error) {
	err = w.findID.QueryRowContext(ctx, name.ID[:], parentKey(name.Parent)).Scan(&row, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil, refuse(metadata.OccurrenceMissing(name))
	}
	if err != nil {
		return 0, nil, nil, err
	}
	o = &grafeas.Occurrence{}
	if err := proto.Unmarshal(payload, o); err != nil {
		return 0, nil, nil, fmt.Errorf("decoding occurrence %q: %w", name, err)
	}
	return row, payload, o, nil
}

// bury moves a deleted message into the event of its creation, which can no
// longer find it in its row (unless an update moved it there before), and appends the event of its deletion.
func (w *writer) bury(ctx context.Context, row uint64, payload []byte, what subject, tombstone proto.Message) error {
	if _, err := w.keep.ExecContext(ctx, payload, row); err != nil {
		return err
	}
	left, err := proto.Marshal(tombstone)
	if err != nil {
		return fmt.Errorf("encoding a deletion: %w", err)
	}
	return w.emit(ctx, metadata.Deleted, what, left)
}

// A subject is what an event is about; selectChanges makes the same numbers.
type subject int

const (
	anOccurrence subject = iota
	aNote
	aDocument
)

// emit appends an event; without a payload it is that of the row just written.
func (w *writer) emit(ctx context.Context, op metadata.Op, what subject, payload []byte) error {
	if _, err := w.insertEvent.ExecContext(ctx, w.seq+1, int(op), what == aNote, what == aDocument, payload); err != nil {
		return err
	}
	w.seq++
	w.writes++
	return nil
}

type noteRow struct {
	row     uint64
	kind    grafeas.NoteKind
	payload []byte
}

func (w *writer) note(ctx context.Context, name metadata.NoteName) (noteRow, error) {
	var n noteRow
	err := w.findNote.QueryRowContext(ctx, name.Parent.String(), name.ID).Scan(&n.row, &n.kind, &n.payload)
	if errors.Is(err, sql.ErrNoRows) {
		return noteRow{}, refuse(metadata.NoteMissing(name))
	}
	return n, err
}

func parentKey(p metadata.Parent) []byte {
	key := metadata.KeyOf(p.String())
	return key[:]
}

// nullable returns the key's bytes, or NULL for no key, which takes no room in
// the index.
func nullable(k metadata.Key) any {
	if k.IsZero() {
		return nil
	}
	return k[:]
}
