package postgres

import (
	"bytes"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// run applies a job's operations to the overlay, all or none, and returns why
// they were refused.
func (o *overlay) run(operations []operation) error {
	for i := range operations {
		if err := o.apply(&operations[i]); err != nil {
			o.undoJob()
			if len(operations) > 1 {
				err = fmt.Errorf("item %d of the batch: %w", i, err)
			}
			return err
		}
	}
	o.commitJob()
	return nil
}

func (o *overlay) apply(op *operation) error {
	switch {
	case op.err != nil:
		return op.err
	case op.CreateNote != nil:
		return o.createNote(op)
	case op.CreateOccurrence != nil:
		return o.createOccurrence(op)
	case op.UpdateNote != nil:
		return o.updateNote(op)
	case op.UpdateOccurrence != nil:
		return o.updateOccurrence(op)
	case !op.DeleteNote.IsZero():
		return o.deleteNote(op)
	case !op.DeleteOccurrence.IsZero():
		return o.deleteOccurrence(op)
	case op.CreateProject != "":
		return o.createProject(op.CreateProject)
	case op.DeleteProject != "":
		return o.deleteProject(op.DeleteProject)
	case op.WriteDocument != nil:
		return o.writeDocument(op.WriteDocument)
	}
	return o.setPolicy(op)
}

func (o *overlay) createNote(op *operation) error {
	if o.notes.get(op.noteKey) != nil {
		return metadata.NoteExists(op.note)
	}
	o.emit(event{op: metadata.Created, about: aNote, key: op.noteKey})
	o.notes.put(o, op.noteKey, &noteRow{seq: o.seq(), kind: op.CreateNote.GetKind(), name: op.note, payload: op.payload})
	return nil
}

func (o *overlay) createOccurrence(op *operation) error {
	note := o.notes.get(op.noteKey)
	switch {
	case note == nil:
		return metadata.NoteMissing(op.note)
	case note.kind != op.kind:
		return metadata.KindMismatch(op.note, note.kind, op.kind)
	case o.occurrences.get(op.name.ID) != nil, !op.keys.Statement.IsZero() && o.statements.get(op.keys.Statement) != nil:
		return metadata.OccurrenceExists(op.CreateOccurrence)
	}
	o.emit(event{op: metadata.Created, key: op.name.ID})
	row := &occurrenceRow{
		seq: o.seq(), kind: op.kind, parent: parentKey(op.name.Parent), note: op.noteKey, uri: op.uri, payload: op.payload,
		resource: op.keys.Resource, subject: op.keys.Subject, statement: op.keys.Statement,
	}
	o.occurrences.put(o, op.name.ID, row)
	o.state(row.statement, &op.name.ID)
	return o.summarize(row, nil, op.CreateOccurrence)
}

// state says which occurrence makes a statement; nil is none.
func (o *overlay) state(statement metadata.Key, id *metadata.ID) {
	if !statement.IsZero() {
		o.statements.put(o, statement, id)
	}
}

func (o *overlay) updateNote(op *operation) error {
	row := o.notes.get(op.noteKey)
	if row == nil {
		return metadata.NoteMissing(op.note)
	}
	var old grafeas.Note
	if err := decode(row.payload, &old); err != nil {
		return err
	}
	if !proto.Equal(old.GetUpdateTime(), op.IfUpdateTime) {
		return metadata.Changed(op.note.String())
	}
	o.keep(row.seq, row.payload)
	next := *row
	next.payload = op.payload
	o.notes.put(o, op.noteKey, &next)
	o.emit(event{op: metadata.Updated, about: aNote, payload: op.payload})
	return nil
}

func (o *overlay) updateOccurrence(op *operation) error {
	row, old, err := o.occurrence(op.name)
	if err != nil {
		return err
	}
	if !proto.Equal(old.GetUpdateTime(), op.IfUpdateTime) {
		return metadata.Changed(op.name.String())
	}
	next := *row
	next.payload, next.statement = op.payload, op.keys.Statement
	if next.statement != row.statement {
		if o.statements.get(next.statement) != nil {
			return metadata.OccurrenceExists(op.UpdateOccurrence)
		}
		o.state(row.statement, nil)
		o.state(next.statement, &op.name.ID)
	}
	o.keep(row.seq, row.payload)
	o.occurrences.put(o, op.name.ID, &next)
	o.emit(event{op: metadata.Updated, payload: op.payload})
	return o.summarize(row, old, op.UpdateOccurrence)
}

func (o *overlay) deleteNote(op *operation) error {
	row := o.notes.get(op.noteKey)
	switch {
	case row == nil:
		return metadata.NoteMissing(op.note)
	case o.inUse(op.noteKey):
		return metadata.NoteInUse(op.note)
	}
	var old grafeas.Note
	if err := decode(row.payload, &old); err != nil {
		return err
	}
	o.notes.put(o, op.noteKey, nil)
	o.policies.put(o, op.note.String(), nil)
	return o.bury(row.seq, row.payload, aNote, metadata.NoteTombstone(&old))
}

func (o *overlay) deleteOccurrence(op *operation) error {
	row, old, err := o.occurrence(op.name)
	if err != nil {
		return err
	}
	o.occurrences.put(o, op.name.ID, nil)
	o.state(row.statement, nil)
	o.policies.put(o, op.name.String(), nil)
	if err := o.bury(row.seq, row.payload, anOccurrence, metadata.OccurrenceTombstone(old)); err != nil {
		return err
	}
	return o.summarize(row, old, nil)
}

// bury keeps a deleted message for the event of its creation, and appends the
// event of its deletion.
func (o *overlay) bury(seq uint64, payload []byte, about subject, tombstone proto.Message) error {
	left, err := proto.Marshal(tombstone)
	if err != nil {
		return fmt.Errorf("encoding a deletion: %w", err)
	}
	o.keep(seq, payload)
	o.emit(event{op: metadata.Deleted, about: about, payload: left})
	return nil
}

func (o *overlay) createProject(id string) error {
	if o.projects.get(id) != nil {
		return metadata.ProjectExists(id)
	}
	o.projects.put(o, id, &struct{}{})
	return nil
}

func (o *overlay) deleteProject(id string) error {
	if o.projects.get(id) == nil {
		return metadata.ProjectMissing(id)
	}
	o.projects.put(o, id, nil)
	return nil
}

func (o *overlay) setPolicy(op *operation) error {
	c := op.SetPolicy
	if err := o.mustExist(op); err != nil && !c.Implied {
		return err
	}
	var old []byte
	if row := o.policies.get(c.Resource); row != nil {
		old = *row
	}
	switch {
	case !bytes.Equal(old, c.Was):
		return metadata.Changed(c.Resource)
	case c.To == nil:
		o.policies.put(o, c.Resource, nil)
	default:
		o.policies.put(o, c.Resource, &c.To)
	}
	return nil
}

// mustExist refuses unless there is what the policy is of.
func (o *overlay) mustExist(op *operation) error {
	switch {
	case !op.note.IsZero():
		if o.notes.get(op.noteKey) == nil {
			return metadata.NoteMissing(op.note)
		}
	case !op.name.IsZero():
		_, _, err := o.occurrence(op.name)
		return err
	case !o.documents.get(op.SetPolicy.Resource).live():
		return metadata.DocumentMissing(op.SetPolicy.Resource)
	}
	return nil
}

// occurrence returns the row of a name, and its message.
func (o *overlay) occurrence(name metadata.OccurrenceName) (*occurrenceRow, *grafeas.Occurrence, error) {
	row := o.occurrences.get(name.ID)
	if row == nil || row.parent != parentKey(name.Parent) {
		return nil, nil, metadata.OccurrenceMissing(name)
	}
	message := &grafeas.Occurrence{}
	return row, message, decode(row.payload, message)
}
