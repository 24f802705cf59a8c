package metadatatest

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// later returns the epoch moved by n seconds, as the update time of version n.
func later(n int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: epoch.GetSeconds() + n}
}

func testNoteUpdate(t *testing.T, s metadata.Store) {
	created := createNote(attester).CreateNote
	update := func(n int64, text string, was *timestamppb.Timestamp) metadata.Mutation {
		next := proto.CloneOf(created)
		next.ShortDescription, next.UpdateTime = text, later(n)
		return metadata.Mutation{UpdateNote: next, IfUpdateTime: was}
	}
	wantKind(t, s.Apply(t.Context(), update(1, "x", epoch)), metadata.NotFound)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateNote: created}))
	// Occurrences stay with the note.
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, 1)}))

	first, second := update(1, "first", epoch), update(2, "second", later(1))
	must(t, s.Apply(t.Context(), first))
	wantKind(t, s.Apply(t.Context(), update(3, "late", epoch)), metadata.Aborted)
	must(t, s.Apply(t.Context(), second))
	got, err := s.Note(t.Context(), attester)
	must(t, err)
	diff(t, second.UpdateNote, got)
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}), metadata.FailedPrecondition)

	feed := changes(t, s)
	diff(t, []metadata.Change{
		{Seq: 1, Op: metadata.Created, Note: created},
		{Seq: 3, Op: metadata.Updated, Note: first.UpdateNote},
		{Seq: 4, Op: metadata.Updated, Note: second.UpdateNote},
	}, append(feed[:1:1], feed[2:]...))
}

func testOccurrenceUpdate(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	created, other := attestation(ids.next(), attester, 1), attestation(ids.next(), attester, 2)
	created.UpdateTime, other.UpdateTime = epoch, epoch
	update := func(n int64, payload string, was *timestamppb.Timestamp) metadata.Mutation {
		next := proto.CloneOf(created)
		next.GetAttestation().SerializedPayload, next.UpdateTime = []byte(payload), later(n)
		return metadata.Mutation{UpdateOccurrence: next, IfUpdateTime: was}
	}
	wantKind(t, s.Apply(t.Context(), update(1, "x", epoch)), metadata.NotFound)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: created}, metadata.Mutation{CreateOccurrence: other}))

	first := update(1, "first", epoch)
	must(t, s.Apply(t.Context(), first))
	wantKind(t, s.Apply(t.Context(), update(3, "late", epoch)), metadata.Aborted)
	got, err := s.Occurrence(t.Context(), nameOf(t, created))
	must(t, err)
	diff(t, first.UpdateOccurrence, got)
	diff(t, []*grafeas.Occurrence{first.UpdateOccurrence}, list(t, s, metadata.OccurrenceQuery{
		Parent: project, Resources: []metadata.Key{metadata.KeysOf(created).Resource}, Kinds: metadata.AllKinds, Limit: 9,
	}))

	// What it said before may be said anew, and what another says may not.
	again := attestation(ids.next(), attester, 1)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: again}))
	wantKind(t, s.Apply(t.Context(), update(2, "payload 1", later(1))), metadata.AlreadyExists)
	foreign := update(2, "x", later(1))
	foreign.UpdateOccurrence.Name = metadata.OccurrenceName{Parent: metadata.Parent{Project: "p1"}, ID: nameOf(t, created).ID}.String()
	wantKind(t, s.Apply(t.Context(), foreign), metadata.NotFound)

	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, created)}))
	diff(t, []metadata.Change{
		{Seq: 2, Op: metadata.Created, Occurrence: created},
		{Seq: 4, Op: metadata.Updated, Occurrence: first.UpdateOccurrence},
		{Seq: 6, Op: metadata.Deleted, Occurrence: metadata.OccurrenceTombstone(created)},
	}, pick(changes(t, s), 2, 4, 6))
}

// pick returns the changes with the sequence numbers.
func pick(feed []metadata.Change, seqs ...uint64) []metadata.Change {
	var picked []metadata.Change
	for _, seq := range seqs {
		if seq <= uint64(len(feed)) {
			picked = append(picked, feed[seq-1])
		}
	}
	return picked
}

// testUpdateRaces has several writers increase a counter in one note: none may
// be lost.
func testUpdateRaces(t *testing.T, s metadata.Store) {
	n := createNote(attester).CreateNote
	n.UpdateTime = later(0)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateNote: n}))
	const writers, each = 4, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for done := 0; done < each; {
				current, err := s.Note(t.Context(), attester)
				if err != nil {
					t.Error(err)
					return
				}
				next := proto.CloneOf(current)
				next.UpdateTime = &timestamppb.Timestamp{Seconds: current.GetUpdateTime().GetSeconds() + 1}
				err = s.Apply(t.Context(), metadata.Mutation{UpdateNote: next, IfUpdateTime: current.GetUpdateTime()})
				switch {
				case err == nil:
					done++
				case metadata.KindOf(err) != metadata.Aborted:
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	got, err := s.Note(t.Context(), attester)
	must(t, err)
	if sum := got.GetUpdateTime().GetSeconds() - epoch.GetSeconds(); sum != writers*each {
		t.Errorf("the counter is %d after %d updates", sum, writers*each)
	}
}

func testProjects(t *testing.T, s metadata.Store) {
	for _, id := range []string{"b", "a", "B", "ä", "c d"} {
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateProject: id}))
	}
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateProject: "a"}), metadata.AlreadyExists)
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteProject: "b"}))
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{DeleteProject: "b"}), metadata.NotFound)
	var all []string
	for after, more := "", true; more; {
		var ids []string
		var err error
		ids, more, err = s.Projects(t.Context(), after, 2)
		must(t, err)
		if len(ids) == 0 || len(ids) > 2 {
			t.Fatalf("%d projects on a page of 2", len(ids))
		}
		all = append(all, ids...)
		after = ids[len(ids)-1]
	}
	diff(t, []string{"B", "a", "c d", "ä"}, all)
	for id, want := range map[string]bool{"a": true, "b": false, "A": false} {
		found, err := s.Project(t.Context(), id)
		must(t, err)
		if found != want {
			t.Errorf("project %q exists: %t, want %t", id, found, want)
		}
	}
	if s.Head() != 0 {
		t.Error("projects are in the feed")
	}
	// A refused batch leaves nothing.
	wantKind(t, s.Apply(t.Context(), metadata.Mutation{CreateProject: "z"}, metadata.Mutation{CreateProject: "a"}), metadata.AlreadyExists)
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateProject: "z"}))
}

func testParents(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	created := map[metadata.Parent]*grafeas.Occurrence{}
	for i, p := range []metadata.Parent{{Project: "p", Location: "us"}, {Project: "p"}, {Project: "p", Location: "eu"}, {Project: "p2"}, {Project: "q", Location: "us"}} {
		for range 3 {
			o := attestation(ids.next(), attester, 10*i+len(created))
			o.Name = metadata.OccurrenceName{Parent: p, ID: ids.next()}.String()
			o.ResourceUri += o.GetName() // so that no two say the same
			must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
			created[p] = o
		}
	}
	parents := func(project string) []metadata.Parent {
		found, err := s.Parents(t.Context(), project)
		must(t, err)
		return found
	}
	diff(t, []metadata.Parent{{Project: "p"}, {Project: "p", Location: "eu"}, {Project: "p", Location: "us"}}, parents("p"))
	diff(t, []metadata.Parent{{Project: "q", Location: "us"}}, parents("q"))
	if found := parents("provider"); len(found) != 0 {
		t.Errorf("a project that has notes only has occurrences in %v", found)
	}
	for _, o := range list(t, s, metadata.OccurrenceQuery{Parent: metadata.Parent{Project: "p"}, Kinds: metadata.AllKinds, Limit: 9}) {
		must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, o)}))
	}
	diff(t, []metadata.Parent{{Project: "p", Location: "eu"}, {Project: "p", Location: "us"}}, parents("p"))
}

func testPolicies(t *testing.T, s metadata.Store) {
	o := attestation(ids.next(), attester, 1)
	set := func(resource string, was, to string) error {
		c := &metadata.PolicyChange{Resource: resource}
		if was != "" {
			c.Was = []byte(was)
		}
		if to != "" {
			c.To = []byte(to)
		}
		return s.Apply(t.Context(), metadata.Mutation{SetPolicy: c})
	}
	get := func(resource string) string {
		t.Helper()
		policy, err := s.Policy(t.Context(), resource)
		must(t, err)
		if len(policy) == 0 && policy != nil {
			t.Errorf("no policy of %q is %q, want nil", resource, policy)
		}
		return string(policy)
	}
	wantKind(t, set(attester.String(), "", "one"), metadata.NotFound)
	wantKind(t, set(o.GetName(), "", "one"), metadata.NotFound)
	must(t, s.Apply(t.Context(), createNote(attester), metadata.Mutation{CreateOccurrence: o}))
	head := s.Head()
	for _, resource := range []string{attester.String(), o.GetName()} {
		must(t, set(resource, "", "one"))
		wantKind(t, set(resource, "", "late"), metadata.Aborted)
		wantKind(t, set(resource, "two", "late"), metadata.Aborted)
		diff(t, "one", get(resource))
		must(t, set(resource, "one", ""))
		diff(t, "", get(resource))
		must(t, set(resource, "", "two"))
	}
	if s.Head() != head {
		t.Error("policies are in the feed")
	}
	// A policy goes with what it is of.
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, o)}))
	diff(t, "", get(o.GetName()))
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: attester}))
	diff(t, "", get(attester.String()))
	must(t, s.Apply(t.Context(), createNote(attester)))
	diff(t, "", get(attester.String()))
}

func testHints(t *testing.T, s metadata.Store) {
	elsewhere := metadata.NoteName{Parent: metadata.Parent{Project: "provider", Location: "eu"}, ID: attester.ID}
	other := metadata.NoteName{Parent: metadata.Parent{Project: "providers"}, ID: "attest"}
	notes := []metadata.NoteName{attester, elsewhere, other, scanner}
	uris := []string{"https://r.example/a@1", "r.example/a@2", "https://r.example/ab", "deb://r.example/a", "r.example/ä", "s.example/a", "https://r.example/a"}
	var all []*grafeas.Occurrence
	for _, n := range notes {
		must(t, s.Apply(t.Context(), createNote(n)))
		for i, uri := range uris {
			o := attestation(ids.next(), n, i)
			if n == scanner {
				o = vulnerability(ids.next(), i)
			}
			o.ResourceUri = uri
			all = append(all, o)
			must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
		}
	}
	for _, h := range []metadata.Hints{
		{Prefixes: []string{"r.example/a"}},
		{Prefixes: []string{"r.example/a@1"}},
		{Prefixes: []string{"r.example/a", "r.example/ab", "s"}},
		{Prefixes: []string{"missing"}},
		{Prefixes: []string{"deb://"}},
		{NoteProject: "provider"},
		{NoteProject: "provider", NoteID: attester.ID},
		{NoteID: "attest"},
		{NoteProject: "provider", NoteIDPrefix: "CVE-"},
		{NoteProject: "missing"},
		{NoteProject: "providers", Prefixes: []string{"r.example/a@1"}},
	} {
		for _, kinds := range []metadata.Kinds{metadata.AllKinds, metadata.KindSet(grafeas.NoteKind_VULNERABILITY)} {
			q := metadata.OccurrenceQuery{Parent: project, Kinds: kinds, Hints: h, Limit: 3}
			var want, got []*grafeas.Occurrence
			for _, o := range reversed(all) {
				if kinds.Has(o.GetKind()) && hinted(t, h, o) {
					want = append(want, o)
				}
			}
			rows := list(t, s, q)
			for _, o := range rows {
				if hinted(t, h, o) {
					got = append(got, o)
				}
			}
			diffRows(t, want, got)
			if q.Limit = 1000; t.Failed() {
				t.Fatalf("the query was %+v", q)
			}
			n, err := s.CountOccurrences(t.Context(), q)
			must(t, err)
			if n < len(want) || n > len(all) {
				t.Errorf("%+v selects %d rows, counted as %d", q, len(want), n)
			}
		}
	}
}

// hinted reports whether the hints allow the row.
func hinted(t *testing.T, h metadata.Hints, o *grafeas.Occurrence) bool {
	note, err := metadata.ParseNoteName(o.GetNoteName())
	must(t, err)
	uri := metadata.CanonicalURI(o.GetResourceUri())
	begins := len(h.Prefixes) == 0
	for _, p := range h.Prefixes {
		begins = begins || len(uri) >= len(p) && uri[:len(p)] == p
	}
	return begins && (h.NoteProject == "" || h.NoteProject == note.Parent.Project) && (h.NoteID == "" || h.NoteID == note.ID) &&
		len(note.ID) >= len(h.NoteIDPrefix) && note.ID[:len(h.NoteIDPrefix)] == h.NoteIDPrefix
}

func testCount(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner)))
	for i := range 10 {
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(ids.next(), attester, i)},
			metadata.Mutation{CreateOccurrence: vulnerability(ids.next(), i%2)}))
	}
	for _, test := range []struct {
		q    metadata.OccurrenceQuery
		want int
	}{
		{metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 1000}, 20},
		{metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 7}, 7},
		{metadata.OccurrenceQuery{Parent: project, Kinds: metadata.KindSet(grafeas.NoteKind_VULNERABILITY), Limit: 1000}, 10},
		{metadata.OccurrenceQuery{Parent: project, Kinds: metadata.KindSet(grafeas.NoteKind_BUILD), Limit: 1000}, 0},
		{metadata.OccurrenceQuery{Note: attester, Kinds: metadata.AllKinds, Limit: 1000}, 10},
		{metadata.OccurrenceQuery{Parent: project, Resources: []metadata.Key{metadata.KeyOf(metadata.CanonicalURI(resource(1)))}, Kinds: metadata.AllKinds, Limit: 1000}, 6},
		{metadata.OccurrenceQuery{Parent: metadata.Parent{Project: "p1"}, Kinds: metadata.AllKinds, Limit: 1000}, 0},
	} {
		got, err := s.CountOccurrences(t.Context(), test.q)
		must(t, err)
		if got != test.want {
			t.Errorf("%+v: counted %d, want %d", test.q, got, test.want)
		}
	}
}

func testNoteQueries(t *testing.T, s metadata.Store) {
	for _, id := range []string{"CVE-2026-1", "CVE-2026-2", "CVE-2025-1", "GHSA-1", "attester"} {
		must(t, s.Apply(t.Context(), createNote(metadata.NoteName{Parent: project, ID: id})))
	}
	for _, test := range []struct {
		q    metadata.NoteQuery
		want []string
	}{
		{metadata.NoteQuery{IDPrefix: "CVE-2026-", Kinds: metadata.AllKinds}, []string{"CVE-2026-1", "CVE-2026-2"}},
		{metadata.NoteQuery{IDPrefix: "CVE-2026-", After: "CVE-2026-1", Kinds: metadata.AllKinds}, []string{"CVE-2026-2"}},
		{metadata.NoteQuery{Kinds: metadata.KindSet(grafeas.NoteKind_VULNERABILITY)}, []string{"CVE-2026-1"}},
		{metadata.NoteQuery{Kinds: metadata.KindSet(grafeas.NoteKind_ATTESTATION)}, []string{"CVE-2025-1", "CVE-2026-2", "GHSA-1", "attester"}},
		{metadata.NoteQuery{IDPrefix: "x", Kinds: metadata.AllKinds}, nil},
	} {
		for _, limit := range []int{1, 10} {
			q := test.q
			q.Parent, q.Limit = project, limit
			var got []string
			for more := true; more; {
				var rows []*grafeas.Note
				var err error
				rows, more, err = s.Notes(t.Context(), q)
				must(t, err)
				if len(rows) == 0 && more {
					t.Fatalf("%+v: no rows, and more to come", q)
				}
				for _, n := range rows {
					name, err := metadata.ParseNoteName(n.GetName())
					must(t, err)
					got, q.After = append(got, name.ID), name.ID
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%+v: got %q, want %q", q, got, test.want)
			}
		}
	}
}
