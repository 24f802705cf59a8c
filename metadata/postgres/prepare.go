package postgres

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// An operation is a mutation with all that can be worked out before the database
// is asked. Callers do so at the same time, each for itself.
type operation struct {
	metadata.Mutation
	// err is what is wrong with the mutation by itself.
	err error

	note    metadata.NoteName // what is written, or what it is of
	noteKey metadata.Key
	name    metadata.OccurrenceName
	kind    grafeas.NoteKind
	keys    metadata.Keys
	uri     string // canonical
	payload []byte // encoded
}

func prepareAll(mutations []metadata.Mutation) []operation {
	operations := make([]operation, len(mutations))
	for i, m := range mutations {
		operations[i].Mutation = m
		operations[i].err = operations[i].prepare()
	}
	return operations
}

func (o *operation) prepare() error {
	switch {
	case o.CreateNote != nil:
		return o.prepareNote(o.CreateNote.GetName(), o.CreateNote)
	case o.CreateOccurrence != nil:
		err := o.prepareOccurrence()
		if err == nil {
			o.note, err = metadata.ParseNoteName(o.CreateOccurrence.GetNoteName())
			o.noteKey = noteKey(o.note)
		}
		if err != nil {
			return fmt.Errorf("storing an occurrence: %w", err)
		}
	case o.UpdateNote != nil:
		return o.prepareNote(o.UpdateNote.GetName(), o.UpdateNote)
	case o.UpdateOccurrence != nil:
		if err := o.prepareOccurrence(); err != nil {
			return fmt.Errorf("storing an occurrence: %w", err)
		}
	case !o.DeleteNote.IsZero():
		o.note, o.noteKey = o.DeleteNote, noteKey(o.DeleteNote)
	case !o.DeleteOccurrence.IsZero():
		o.name = o.DeleteOccurrence
	case o.CreateProject != "", o.DeleteProject != "":
	case o.SetPolicy != nil:
		o.preparePolicy()
	case o.WriteDocument != nil:
		w := *o.WriteDocument
		w.Content, w.Refers = slices.Clone(w.Content), slices.Clone(w.Refers)
		if w.Deleted() {
			w.Content, w.Refers = nil, nil
		}
		o.WriteDocument = &w
	default:
		return errors.New("applying an empty mutation")
	}
	return nil
}

func (o *operation) prepareNote(name string, message proto.Message) (err error) {
	if o.note, err = metadata.ParseNoteName(name); err == nil {
		o.noteKey = noteKey(o.note)
		o.payload, err = proto.Marshal(message)
	}
	if err != nil {
		return fmt.Errorf("storing a note: %w", err)
	}
	return nil
}

func (o *operation) prepareOccurrence() (err error) {
	message := o.occurrence()
	if o.name, err = metadata.ParseOccurrenceName(message.GetName()); err != nil {
		return err
	}
	o.kind, o.keys = message.GetKind(), metadata.KeysOf(message)
	o.uri = metadata.CanonicalURI(message.GetResourceUri())
	o.payload, err = proto.Marshal(message)
	return err
}

// occurrence is the message that is written, nil if there is none.
func (o *operation) occurrence() *grafeas.Occurrence {
	if o.CreateOccurrence != nil {
		return o.CreateOccurrence
	}
	return o.UpdateOccurrence
}

// preparePolicy finds out what the policy is of: a note, an occurrence, or else a
// document.
func (o *operation) preparePolicy() {
	c := *o.SetPolicy
	c.Was, c.To = slices.Clone(c.Was), slices.Clone(c.To)
	o.SetPolicy = &c
	if note, err := metadata.ParseNoteName(c.Resource); err == nil {
		o.note, o.noteKey = note, noteKey(note)
	} else if name, err := metadata.ParseOccurrenceName(c.Resource); err == nil {
		o.name = name
	}
}

// weight is how many bytes the operation brings into memory, roughly.
func (o *operation) weight() int {
	const stored = 256 << 10 // of what is changed or deleted, and may be larger
	switch {
	case o.CreateNote != nil, o.CreateOccurrence != nil:
		return len(o.payload)
	case o.WriteDocument != nil:
		return len(o.WriteDocument.Content)
	}
	return len(o.payload) + stored
}
