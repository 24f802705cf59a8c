// Package metadatatest holds metadata stores to the contract of
// [metadata.Store]. A store's own test calls [Run], and [RunDurable] if what it
// keeps outlives it.
package metadatatest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Run tests the stores that open returns. Each must be new and empty; the suite
// closes it. It is meant to be run with the race detector too.
func Run(t *testing.T, open func(t testing.TB) metadata.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s metadata.Store)
	}{
		{"a note is created once, read, and deleted", testNoteLife},
		{"an occurrence is created, read under its own name only, and deleted", testOccurrenceLife},
		{"the rules between notes and occurrences hold", testRules},
		{"the same attestation is stored once", testStatements},
		{"a batch is applied whole or not at all", testAtomicity},
		{"a batch sees its own effects", testBatchOrder},
		{"a note is updated if nobody else has", testNoteUpdate},
		{"an occurrence is updated if nobody else has", testOccurrenceUpdate},
		{"no update is lost among many", testUpdateRaces},
		{"projects are created, listed and deleted", testProjects},
		{"the parents of a project are those that have occurrences", testParents},
		{"access policies are set if nobody else has, and go with what they are of", testPolicies},
		{"a document is written if nobody else has, and keeps all revisions", testDocumentLife},
		{"documents are listed by name, within their prefix", testDocumentList},
		{"revisions are listed newest first, a page at a time", testRevisions},
		{"what documents refer to is there, and stays", testDocumentReferences},
		{"the feed tells every revision, whole and in order", testDocumentFeed},
		{"a batch with documents is applied whole or not at all", testDocumentAtomicity},
		{"documents have access policies, which go with them", testDocumentPolicies},
		{"of writers of one revision exactly one wins", testDocumentRaces},
		{"a large document is kept whole, alone on its page", testLargeDocument},
		{"summaries tell what the occurrences say", testSummaries},
		{"a summary with too many findings says so", testLargeSummary},
		{"queries find exactly what matches", testQueries},
		{"hints exclude no row that they allow", testHints},
		{"queries count what they select", testCount},
		{"notes are found by kind and prefix", testNoteQueries},
		{"notes are listed by id within their parent", testNoteList},
		{"paging neither repeats nor loses a row while others write", testPagingUnderWrites},
		{"a page stops before it is too large", testPageBytes},
		{"the feed tells every change, whole and in order", testFeed},
		{"the feed refuses a position beyond its head", testFeedBeyondHead},
		{"waiting ends when the head grows", testWait},
		{"concurrent writers and readers see consistent data", testConcurrency},
		{"messages returned belong to the caller", testOwnership},
		{"a call whose context is done writes nothing", testCanceled},
		{"a closed store refuses everything", testClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
			})
			test.run(t, s)
		})
	}
}

// RunDurable tests that what a store in dir holds is there when it is opened again.
func RunDurable(t *testing.T, open func(t testing.TB, dir string) metadata.Store) {
	t.Run("everything is there after closing and opening", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := open(t, dir)
		key, err := s.PageKey(t.Context())
		must(t, err)
		must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner)))
		var want []*grafeas.Occurrence
		for i := range 10 {
			o := attestation(ids.next(), attester, i)
			must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
			want = append(want, o)
		}
		must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, want[0])}))
		policy := writeDocument("projects/p/policy", 1, "{}")
		must(t, s.Apply(t.Context(), policy))
		feed, head := changes(t, s), s.Head()
		must(t, s.Close())

		s = open(t, dir)
		defer func() { must(t, s.Close()) }()
		if got := s.Head(); got != head {
			t.Errorf("head is %d after opening again, was %d", got, head)
		}
		diff(t, feed, changes(t, s))
		diff(t, reversed(want[1:]), list(t, s, metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 3}))
		again, err := s.PageKey(t.Context())
		must(t, err)
		diff(t, key, again)
		wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 5)}), metadata.AlreadyExists)
		wantKind(t, s.Apply(t.Context(), createNote(attester)), metadata.AlreadyExists)
		wantKind(t, s.Apply(t.Context(), policy), metadata.Aborted)
		kept, err := s.Document(t.Context(), "projects/p/policy", 0)
		must(t, err)
		diff(t, &policy.WriteDocument.Document, kept)
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 99)}))
		if got := s.Head(); got != head+1 {
			t.Errorf("head is %d after one more write, want %d", got, head+1)
		}
	})
}

var (
	project  = metadata.Parent{Project: "p"}
	attester = metadata.NoteName{Parent: metadata.Parent{Project: "provider"}, ID: "attester"}
	scanner  = metadata.NoteName{Parent: metadata.Parent{Project: "provider"}, ID: "CVE-2026-1"}
	epoch    = timestamppb.New(time.Unix(1_790_000_000, 0))
)

func createNote(name metadata.NoteName) metadata.Mutation {
	n := &grafeas.Note{Name: name.String(), CreateTime: epoch, UpdateTime: epoch}
	if name.ID == scanner.ID {
		n.Kind, n.Type = grafeas.NoteKind_VULNERABILITY, &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{}}
	} else {
		n.Kind, n.Type = grafeas.NoteKind_ATTESTATION, &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}
	}
	return metadata.Mutation{CreateNote: n}
}

func resource(i int) string { return fmt.Sprintf("https://r.example/app@sha256:%064x", i) }

// attestation returns one of the resource i that differs from all of other resources.
func attestation(id metadata.ID, note metadata.NoteName, i int) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		Name:        metadata.OccurrenceName{Parent: project, ID: id}.String(),
		ResourceUri: resource(i),
		NoteName:    note.String(),
		Kind:        grafeas.NoteKind_ATTESTATION,
		CreateTime:  epoch,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: fmt.Appendf(nil, "payload %d", i),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte("made for tests")}},
		}},
	}
}

func vulnerability(id metadata.ID, i int) *grafeas.Occurrence {
	o := attestation(id, scanner, i)
	o.Kind = grafeas.NoteKind_VULNERABILITY
	o.Details = &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{}}
	return o
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind metadata.Kind) {
	t.Helper()
	if err == nil || metadata.KindOf(err) != kind {
		t.Errorf("got error %v, want one of kind %v", err, kind)
	}
}

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("unexpected (-want +got):\n%s", d)
	}
}

// diffRows is a diff that costs nothing when there is none.
func diffRows(t testing.TB, want, got []*grafeas.Occurrence) {
	t.Helper()
	same := slices.EqualFunc(want, got, func(a, b *grafeas.Occurrence) bool { return proto.Equal(a, b) })
	if !same {
		diff(t, want, got)
	}
}

func nameOf(t testing.TB, o *grafeas.Occurrence) metadata.OccurrenceName {
	t.Helper()
	name, err := metadata.ParseOccurrenceName(o.GetName())
	must(t, err)
	return name
}

// list reads all pages of a query.
func list(t testing.TB, s metadata.Store, q metadata.OccurrenceQuery) []*grafeas.Occurrence {
	t.Helper()
	var all []*grafeas.Occurrence
	for {
		rows, more, err := s.Occurrences(t.Context(), q)
		must(t, err)
		if len(rows) > q.Limit {
			t.Fatalf("%d rows, the limit was %d", len(rows), q.Limit)
		}
		all = append(all, rows...)
		if !more {
			return all
		}
		if len(rows) == 0 {
			t.Fatal("no rows, and more to come")
		}
		q.Before = nameOf(t, rows[len(rows)-1]).ID
	}
}

// changes reads the whole feed, a few at a time.
func changes(t testing.TB, s metadata.Store) []metadata.Change {
	t.Helper()
	var all []metadata.Change
	for {
		some, err := s.Changes(t.Context(), uint64(len(all)), 7)
		must(t, err)
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

func reversed(from []*grafeas.Occurrence) []*grafeas.Occurrence {
	to := make([]*grafeas.Occurrence, 0, len(from))
	for i := len(from) - 1; i >= 0; i-- {
		to = append(to, from[i])
	}
	return to
}
