package metadatatest

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// idSequence makes occurrence ids in growing order.
type idSequence struct{ last atomic.Uint64 }

var ids idSequence

func (s *idSequence) next() metadata.ID {
	var id metadata.ID
	binary.BigEndian.PutUint64(id[:], s.last.Add(1)<<16)
	id[6], id[8] = 0x70, 0x80 // version 7
	return id
}

func testNoteLife(t *testing.T, s metadata.Store) {
	m := createNote(attester)
	wantKind(t, second(s.Note(t.Context(), attester)), metadata.NotFound)
	must(t, s.Apply(t.Context(), m))
	got, err := s.Note(t.Context(), attester)
	must(t, err)
	diff(t, m.CreateNote, got)
	wantKind(t, s.Apply(t.Context(), m), metadata.AlreadyExists)

	elsewhere := attester
	elsewhere.Parent.Location = "eu"
	wantKind(t, second(s.Note(t.Context(), elsewhere)), metadata.NotFound)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: elsewhere}), metadata.NotFound)

	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}))
	wantKind(t, second(s.Note(t.Context(), attester)), metadata.NotFound)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}), metadata.NotFound)
	must(t, s.Apply(t.Context(), m))
}

func testOccurrenceLife(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	o := attestation(ids.next(), attester, 1)
	name := nameOf(t, o)
	wantKind(t, second(s.Occurrence(t.Context(), name)), metadata.NotFound)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
	got, err := s.Occurrence(t.Context(), name)
	must(t, err)
	diff(t, o, got)

	// The id alone does not open an occurrence of another project.
	foreign := metadata.OccurrenceName{Parent: metadata.Parent{Project: "p1"}, ID: name.ID}
	wantKind(t, second(s.Occurrence(t.Context(), foreign)), metadata.NotFound)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: foreign}), metadata.NotFound)

	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: name}))
	wantKind(t, second(s.Occurrence(t.Context(), name)), metadata.NotFound)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: name}), metadata.NotFound)
	for _, q := range []metadata.OccurrenceQuery{
		{Parent: project}, {Note: attester},
		{Parent: project, Resources: []metadata.Key{metadata.KeysOf(o).Resource}},
		{Parent: project, Subjects: []metadata.Key{metadata.KeysOf(o).Subject}},
	} {
		q.Kinds, q.Limit = metadata.AllKinds, 10
		if rows := list(t, s, q); len(rows) != 0 {
			t.Errorf("a deleted occurrence is still found by %+v", q)
		}
	}
}

func testRules(t *testing.T, s metadata.Store) {
	o := attestation(ids.next(), attester, 1)
	create := metadata.Mutation{CreateOccurrence: o}
	wantKind(t, s.Apply(t.Context(), create), metadata.NotFound)

	must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner)))
	wrong := attestation(ids.next(), scanner, 1)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: wrong}), metadata.FailedPrecondition)
	must(t, s.Apply(t.Context(), create))
	same := vulnerability(nameOf(t, o).ID, 2)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: same}), metadata.AlreadyExists)

	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}), metadata.FailedPrecondition)
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, o)}))
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}))
	if got, want := s.Head(), uint64(5); got != want {
		t.Errorf("head is %d, want %d: refused writes must not count", got, want)
	}
	if err := s.Apply(t.Context(), metadata.Mutation{}); err == nil {
		t.Error("an empty mutation was accepted")
	}
}

func testStatements(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner)))
	first := attestation(ids.next(), attester, 1)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: first}))

	again := attestation(ids.next(), attester, 1)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: again}), metadata.AlreadyExists)
	otherKey := attestation(ids.next(), attester, 1)
	otherKey.GetAttestation().Signatures[0].PublicKeyId = "another"
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: otherKey}))
	// Two scans may well find the same.
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: vulnerability(ids.next(), 1)},
		metadata.Mutation{CreateOccurrence: vulnerability(ids.next(), 1)}))

	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, first)}))
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: again}))
}

func testAtomicity(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	kept := attestation(ids.next(), attester, 0)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: kept}))
	head := s.Head()
	err := s.Apply(t.Context(),
		createNote(scanner),
		metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 1)},
		metadata.Mutation{DeleteOccurrence: nameOf(t, kept)},
		metadata.Mutation{CreateOccurrence: attestation(ids.next(), metadata.NoteName{Parent: project, ID: "missing"}, 2)},
		metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 3)},
	)
	wantKind(t, err, metadata.NotFound)
	if got := s.Head(); got != head {
		t.Errorf("head moved from %d to %d", head, got)
	}
	wantKind(t, second(s.Note(t.Context(), scanner)), metadata.NotFound)
	q := metadata.OccurrenceQuery{Note: attester, Kinds: metadata.AllKinds, Limit: 10}
	diff(t, []*grafeas.Occurrence{kept}, list(t, s, q))
	if got := len(changes(t, s)); got != 2 {
		t.Errorf("the feed has %d changes, want 2", got)
	}
	// What was undone is free again.
	must(t, s.Apply(t.Context(), createNote(scanner), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 1)}))
}

func testBatchOrder(t *testing.T, s metadata.Store) {
	o := attestation(ids.next(), attester, 1)
	must(t, s.Apply(t.Context(), createNote(attester), metadata.Mutation{CreateOccurrence: o}))
	wantKind(t, s.Apply(t.Context(),
		metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 2)},
		metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 2)}), metadata.AlreadyExists)
	must(t, s.Apply(t.Context(),
		metadata.Mutation{DeleteOccurrence: nameOf(t, o)}, metadata.Mutation{DeleteNote: attester}))
}

func testOwnership(t *testing.T, s metadata.Store) {
	m := createNote(attester)
	o := attestation(ids.next(), attester, 1)
	must(t, s.Apply(t.Context(), m, metadata.Mutation{CreateOccurrence: o}))
	name := nameOf(t, o)
	want := attestation(name.ID, attester, 1)
	// A store must have kept its own copies of what it was given and what it gives.
	spoil := func(o *grafeas.Occurrence) {
		o.ResourceUri = "spoilt"
		o.GetAttestation().SerializedPayload[0] = 'X'
	}
	spoil(o)
	m.CreateNote.ShortDescription = "spoilt"
	for range 2 {
		got, err := s.Occurrence(t.Context(), name)
		must(t, err)
		diff(t, want, got)
		spoil(got)
		rows := list(t, s, metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 1})
		diff(t, []*grafeas.Occurrence{want}, rows)
		spoil(rows[0])
		feed := changes(t, s)
		diff(t, want, feed[1].Occurrence)
		spoil(feed[1].Occurrence)
		n, err := s.Note(t.Context(), attester)
		must(t, err)
		diff(t, createNote(attester).CreateNote, n)
		n.ShortDescription = "spoilt"
		notes, _, err := s.Notes(t.Context(), metadata.NoteQuery{Parent: attester.Parent, Kinds: metadata.AllKinds, Limit: 1})
		must(t, err)
		diff(t, []*grafeas.Note{createNote(attester).CreateNote}, notes)
		notes[0].ShortDescription = "spoilt"
	}
}

func testCanceled(t *testing.T, s metadata.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, s.Apply(ctx, createNote(attester)), metadata.Canceled)
	wantKind(t, second(s.Note(t.Context(), attester)), metadata.NotFound)
}

func testClosed(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 1)}))
	waiting := make(chan error)
	go func() { waiting <- s.Wait(context.Background(), s.Head()) }()
	must(t, s.Close())
	wantKind(t, <-waiting, metadata.Unavailable)
	if got := s.Head(); got != 2 {
		t.Errorf("head is %d after closing, want 2", got)
	}
	name := metadata.OccurrenceName{Parent: project, ID: ids.next()}
	q := metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 1}
	for what, err := range map[string]error{
		"Apply":       s.Apply(t.Context(), createNote(scanner)),
		"Note":        second(s.Note(t.Context(), attester)),
		"Occurrence":  second(s.Occurrence(t.Context(), name)),
		"Notes":       third(s.Notes(t.Context(), metadata.NoteQuery{Parent: attester.Parent, Kinds: metadata.AllKinds, Limit: 1})),
		"Occurrences": third(s.Occurrences(t.Context(), q)),
		"Document":    second(s.Document(t.Context(), "projects/p/policy", 0)),
		"Documents":   third(s.Documents(t.Context(), metadata.DocumentQuery{Limit: 1})),
		"Revisions":   third(s.Revisions(t.Context(), "projects/p/policy", 0, 1)),
		"Parents":     second(s.Parents(t.Context(), "p")),
		"Summaries":   third(s.Summaries(t.Context(), metadata.SummaryQuery{Parent: project, Limit: 1})),
		"Changes":     second(s.Changes(t.Context(), 0, 1)),
		"Wait":        s.Wait(t.Context(), s.Head()),
	} {
		if metadata.KindOf(err) != metadata.Unavailable {
			t.Errorf("%s on a closed store: got error %v, want one of kind UNAVAILABLE", what, err)
		}
	}
	must(t, s.Close())
}

func second[T any](_ T, err error) error { return err }

func third[T, U any](_ T, _ U, err error) error { return err }
