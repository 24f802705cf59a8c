package metadatatest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// testQueries compares random queries over random data with a plain search.
func testQueries(t *testing.T, s metadata.Store) {
	rng := rand.New(rand.NewPCG(1, 2))
	parents := []metadata.Parent{{Project: "p"}, {Project: "p1"}, {Project: "p", Location: "eu"}}
	notes := []metadata.NoteName{attester, scanner, {Parent: project, ID: "attester"}}
	for _, n := range notes {
		must(t, s.Apply(t.Context(), createNote(n)))
	}
	var all []*grafeas.Occurrence
	var batch []metadata.Mutation
	for i := range 300 {
		var o *grafeas.Occurrence
		if note := notes[rng.IntN(len(notes))]; note == scanner {
			o = vulnerability(ids.next(), rng.IntN(12))
		} else {
			o = attestation(ids.next(), note, rng.IntN(12))
			o.GetAttestation().SerializedPayload = fmt.Appendf(nil, "unique %d", i)
		}
		if rng.IntN(5) == 0 {
			o.ResourceUri = fmt.Sprintf("deb://debian:package:%d", rng.IntN(3)) // without a digest
		} else if rng.IntN(3) == 0 {
			o.ResourceUri = strings.TrimPrefix(o.ResourceUri, "https://")
		}
		o.Name = metadata.OccurrenceName{Parent: parents[rng.IntN(len(parents))], ID: nameOf(t, o).ID}.String()
		all = append(all, o)
		batch = append(batch, metadata.Mutation{CreateOccurrence: o})
	}
	must(t, s.Apply(t.Context(), batch...))
	slices.Reverse(all)

	found := 0
	for range 400 {
		q := randomQuery(rng, parents, notes, all)
		var want []*grafeas.Occurrence
		for _, o := range all {
			if matches(t, q, o) {
				want = append(want, o)
			}
		}
		found += len(want)
		diffRows(t, want, list(t, s, q))
		if t.Failed() {
			t.Fatalf("the query was %+v", q)
		}
	}
	if found == 0 {
		t.Fatal("no query matched anything; the test tests nothing")
	}
}

func randomQuery(rng *rand.Rand, parents []metadata.Parent, notes []metadata.NoteName, all []*grafeas.Occurrence) metadata.OccurrenceQuery {
	q := metadata.OccurrenceQuery{Kinds: metadata.AllKinds, Limit: 1 + rng.IntN(40)}
	if rng.IntN(2) == 0 {
		q.Note = notes[rng.IntN(len(notes))]
	}
	if q.Note.IsZero() || rng.IntN(2) == 0 {
		q.Parent = parents[rng.IntN(len(parents))]
	}
	if rng.IntN(2) == 0 {
		q.Kinds = metadata.KindSet(grafeas.NoteKind_ATTESTATION)
		if rng.IntN(2) == 0 {
			q.Kinds |= metadata.KindSet(grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_BUILD)
		}
	}
	for range rng.IntN(3) {
		q.Resources = append(q.Resources, metadata.KeysOf(all[rng.IntN(len(all))]).Resource)
	}
	for range rng.IntN(3) {
		if k := metadata.KeysOf(all[rng.IntN(len(all))]).Subject; !k.IsZero() {
			q.Subjects = append(q.Subjects, k)
		}
	}
	q.Resources = dedupe(q.Resources)
	q.Subjects = dedupe(q.Subjects)
	return q
}

func dedupe(keys []metadata.Key) []metadata.Key {
	slices.SortFunc(keys, func(a, b metadata.Key) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(keys)
}

func matches(t *testing.T, q metadata.OccurrenceQuery, o *grafeas.Occurrence) bool {
	keys, name := metadata.KeysOf(o), nameOf(t, o)
	return (q.Parent.IsZero() || q.Parent == name.Parent) &&
		(q.Note.IsZero() || q.Note.String() == o.GetNoteName()) &&
		(q.Resources == nil || slices.Contains(q.Resources, keys.Resource)) &&
		(q.Subjects == nil || slices.Contains(q.Subjects, keys.Subject)) &&
		q.Kinds.Has(o.GetKind())
}

func testNoteList(t *testing.T, s metadata.Store) {
	noteIDs := []string{"B", "a b", "a", "ä", "CVE-2026-1", "z?#"}
	for _, id := range noteIDs {
		for _, p := range []metadata.Parent{{Project: "p"}, {Project: "p1"}, {Project: "p", Location: "eu"}} {
			must(t, s.Apply(t.Context(), createNote(metadata.NoteName{Parent: p, ID: id})))
		}
	}
	slices.Sort(noteIDs)
	for _, limit := range []int{1, 2, 6, 100} {
		q := metadata.NoteQuery{Parent: project, Kinds: metadata.AllKinds, Limit: limit}
		var got []string
		for more := true; more; {
			var rows []*grafeas.Note
			var err error
			rows, more, err = s.Notes(t.Context(), q)
			must(t, err)
			for _, n := range rows {
				name, err := metadata.ParseNoteName(n.GetName())
				must(t, err)
				got = append(got, name.ID)
				q.After = name.ID
			}
		}
		diff(t, noteIDs, got)
	}
}

func testPagingUnderWrites(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	var old []*grafeas.Occurrence
	for i := range 60 {
		o := attestation(ids.next(), attester, i)
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
		old = append(old, o)
	}
	for _, q := range []metadata.OccurrenceQuery{{Parent: project}, {Note: attester}} {
		q.Kinds, q.Limit = metadata.AllKinds, 7
		seen := map[string]int{}
		for more, round := true, 0; more; round++ {
			var rows []*grafeas.Occurrence
			var err error
			rows, more, err = s.Occurrences(t.Context(), q)
			must(t, err)
			for _, o := range rows {
				seen[o.GetName()]++
				q.Before = nameOf(t, o).ID
			}
			// One arrives, and one that was not reached yet goes.
			must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 1000*len(old)+round)}))
			must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, old[0])}))
			old = old[1:]
		}
		for _, o := range old {
			if seen[o.GetName()] != 1 {
				t.Errorf("%s was listed %d times, want once", o.GetName(), seen[o.GetName()])
			}
		}
		for name, n := range seen {
			if n > 1 {
				t.Errorf("%s was listed %d times", name, n)
			}
		}
	}
}

func testPageBytes(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	large := bytes.Repeat([]byte{'x'}, metadata.MaxPageBytes/3)
	for i := range 7 {
		o := attestation(ids.next(), attester, i)
		o.GetAttestation().SerializedPayload = append([]byte{byte(i)}, large...)
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
		n := createNote(metadata.NoteName{Parent: project, ID: fmt.Sprint("n", i)})
		n.CreateNote.LongDescription = string(large)
		must(t, s.Apply(t.Context(), n))
	}
	q := metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 100}
	rows, more, err := s.Occurrences(t.Context(), q)
	must(t, err)
	if n := total(rows); !more || n > metadata.MaxPageBytes || len(rows) != 2 {
		t.Errorf("%d rows of %d bytes in all, more: %t; want 2 and more", len(rows), n, more)
	}
	if all := list(t, s, q); len(all) != 7 {
		t.Errorf("%d rows on all pages, want 7", len(all))
	}
	notes, more, err := s.Notes(t.Context(), metadata.NoteQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 100})
	must(t, err)
	if n := total(notes); !more || n > metadata.MaxPageBytes || len(notes) != 2 {
		t.Errorf("%d notes of %d bytes in all, more: %t; want 2 and more", len(notes), n, more)
	}
}

func total[T proto.Message](messages []T) int {
	n := 0
	for _, m := range messages {
		n += proto.Size(m)
	}
	return n
}
