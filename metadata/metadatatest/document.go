package metadatatest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// writeDocument writes a revision; without content it is a deletion.
func writeDocument(name string, revision uint64, content string, refers ...string) metadata.Mutation {
	w := &metadata.DocumentWrite{Refers: refers, Document: metadata.Document{
		Name: name, Revision: revision, Author: "ann@example.com", Time: epoch.AsTime().Add(1000 * 1000), Comment: "because",
	}}
	if content != "" {
		w.Content = []byte(content)
	}
	return metadata.Mutation{WriteDocument: w}
}

const (
	docPolicy   = "projects/p/policy"
	docAttestor = "projects/p/attestors/a"
)

func allRevisions(t testing.TB, s metadata.Store, name string) []*metadata.Document {
	t.Helper()
	var all []*metadata.Document
	before := uint64(0)
	for {
		rows, more, err := s.Revisions(t.Context(), name, before, 3)
		must(t, err)
		if len(rows) > 3 || len(rows) == 0 && more {
			t.Fatalf("%d rows on a page of 3, more: %t", len(rows), more)
		}
		all = append(all, rows...)
		if !more {
			return all
		}
		before = rows[len(rows)-1].Revision
	}
}

func testDocumentLife(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	wantKind(t, second(s.Document(ctx, docPolicy, 0)), metadata.NotFound)
	wantKind(t, second(s.Document(ctx, docPolicy, 1)), metadata.NotFound)
	for _, wrong := range []uint64{0, 2} {
		wantKind(t, s.Apply(ctx, writeDocument(docPolicy, wrong, "x")), metadata.Aborted)
	}
	wantKind(t, s.Apply(ctx, writeDocument(docPolicy, 1, "")), metadata.NotFound)

	writes := []metadata.Mutation{
		writeDocument(docPolicy, 1, "one"), writeDocument(docPolicy, 2, "two"), writeDocument(docPolicy, 3, ""),
		writeDocument(docPolicy, 4, "four"),
	}
	for i, m := range writes {
		must(t, s.Apply(ctx, m))
		for _, wrong := range []int{0, i + 1, i + 3} {
			wantKind(t, s.Apply(ctx, writeDocument(docPolicy, uint64(wrong), "late")), metadata.Aborted)
		}
		newest, err := s.Document(ctx, docPolicy, 0)
		must(t, err)
		diff(t, &m.WriteDocument.Document, newest)
		if newest.Deleted() {
			wantKind(t, s.Apply(ctx, writeDocument(docPolicy, 4, "")), metadata.NotFound)
		}
	}
	for i, m := range writes {
		got, err := s.Document(ctx, docPolicy, uint64(i)+1)
		must(t, err)
		diff(t, &m.WriteDocument.Document, got)
	}
	for _, revision := range []uint64{5, 1 << 63, 1<<64 - 1} {
		wantKind(t, second(s.Document(ctx, docPolicy, revision)), metadata.NotFound)
	}
	// What was given, and what is returned, is not the store's own.
	writes[0].WriteDocument.Content[0] = 'X'
	got, err := s.Document(ctx, docPolicy, 1)
	must(t, err)
	diff(t, "one", string(got.Content))
	got.Content[0] = 'X'
	got, err = s.Document(ctx, docPolicy, 1)
	must(t, err)
	diff(t, "one", string(got.Content))
}

func testDocumentList(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	names := []string{
		"locations/global/policy", "projects/p/attestors/A", "projects/p/attestors/a", "projects/p/attestors/a.b", "projects/p/attestors/ä",
		"projects/p/attestors2/a", "projects/p/policy", "projects/q/attestors/a",
	}
	for _, i := range []int{3, 0, 7, 1, 6, 2, 5, 4} {
		must(t, s.Apply(ctx, writeDocument(names[i], 1, "old "+names[i])))
		must(t, s.Apply(ctx, writeDocument(names[i], 2, names[i])))
	}
	must(t, s.Apply(ctx, writeDocument("projects/p/attestors/gone", 1, "x"), writeDocument("projects/p/attestors/gone", 2, "")))
	for _, test := range []struct {
		prefix string
		want   []string
	}{
		{"", names},
		{"projects/p/attestors/", names[1:5]},
		{"projects/p/attestors/a", names[2:4]},
		{"projects/", names[1:]},
		{"projects/x", nil},
	} {
		for _, limit := range []int{1, 3, 100} {
			q := metadata.DocumentQuery{Prefix: test.prefix, Limit: limit}
			var got []string
			for more := true; more; {
				rows, next, err := s.Documents(ctx, q)
				must(t, err)
				if len(rows) > limit || len(rows) == 0 && next {
					t.Fatalf("%+v: %d rows, more: %t", q, len(rows), next)
				}
				for _, d := range rows {
					if string(d.Content) != d.Name || d.Revision != 2 {
						t.Errorf("listed revision %d of %q", d.Revision, d.Name)
					}
					got, q.After = append(got, d.Name), d.Name
				}
				more = next
			}
			diff(t, test.want, got)
		}
	}
}

func testRevisions(t *testing.T, s metadata.Store) {
	var want []*metadata.Document
	for i := range uint64(10) {
		m := writeDocument(docPolicy, i+1, fmt.Sprint("v", i))
		if i == 5 {
			m = writeDocument(docPolicy, i+1, "")
		}
		must(t, s.Apply(t.Context(), m, writeDocument("projects/p/policy2", i+1, "x")))
		want = append([]*metadata.Document{&m.WriteDocument.Document}, want...)
	}
	diff(t, want, allRevisions(t, s, docPolicy))
	diff(t, []*metadata.Document(nil), allRevisions(t, s, "projects/p/polic"))
	rows, more, err := s.Revisions(t.Context(), docPolicy, 1<<64-1, 100)
	must(t, err)
	diff(t, want, rows)
	if more {
		t.Error("more revisions than there are")
	}
}

func testDocumentReferences(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	other := "projects/q/attestors/b"
	err := s.Apply(ctx, writeDocument(docPolicy, 1, "x", docAttestor, other))
	wantKind(t, err, metadata.InvalidArgument)
	if !strings.Contains(fmt.Sprint(err), docAttestor) || !strings.Contains(fmt.Sprint(err), other) {
		t.Errorf("the error %q does not name both", err)
	}
	must(t, s.Apply(ctx, writeDocument(docAttestor, 1, "a"), writeDocument(other, 1, "b")))
	must(t, s.Apply(ctx, writeDocument(docPolicy, 1, "x", docAttestor, other, other)))
	err = s.Apply(ctx, writeDocument(other, 2, ""))
	wantKind(t, err, metadata.FailedPrecondition)
	if !strings.Contains(fmt.Sprint(err), docPolicy) {
		t.Errorf("the error %q does not name who refers to it", err)
	}
	// Replacing is no deleting, and a reference ends with the revision that has it.
	must(t, s.Apply(ctx, writeDocument(other, 2, "b2")))
	must(t, s.Apply(ctx, writeDocument(docPolicy, 2, "y", docAttestor)))
	must(t, s.Apply(ctx, writeDocument(other, 3, "")))
	wantKind(t, s.Apply(ctx, writeDocument(docPolicy, 3, "z", other)), metadata.InvalidArgument)

	forced := writeDocument(docAttestor, 2, "")
	forced.WriteDocument.EvenIfReferred = true
	must(t, s.Apply(ctx, forced))
	must(t, s.Apply(ctx, writeDocument(docAttestor, 3, "again")))
	wantKind(t, s.Apply(ctx, writeDocument(docAttestor, 4, "")), metadata.FailedPrecondition)
	must(t, s.Apply(ctx, writeDocument(docPolicy, 3, "")))
	must(t, s.Apply(ctx, writeDocument(docAttestor, 4, "")))

	// A batch sees its own effects, in both directions.
	must(t, s.Apply(ctx, writeDocument(docAttestor, 5, "a"), writeDocument(docPolicy, 4, "x", docAttestor)))
	wantKind(t, s.Apply(ctx, writeDocument(docPolicy, 5, "y", docAttestor), writeDocument(docAttestor, 6, "")), metadata.FailedPrecondition)
	wantKind(t, s.Apply(ctx, writeDocument(other, 4, "b"), writeDocument(docPolicy, 5, "y", other), writeDocument(other, 5, "")), metadata.FailedPrecondition)
	must(t, s.Apply(ctx, writeDocument(docPolicy, 5, "y"), writeDocument(docAttestor, 6, "")))
}

func testDocumentFeed(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	writes := []metadata.Mutation{
		writeDocument(docPolicy, 1, "one"), writeDocument(docPolicy, 2, "two"), writeDocument(docAttestor, 1, "a"),
		writeDocument(docPolicy, 3, ""), writeDocument(docPolicy, 4, "four"),
	}
	must(t, s.Apply(ctx, createNote(attester)))
	must(t, s.Apply(ctx, writes[0]))
	must(t, s.Apply(ctx, writes[1:4]...))
	must(t, s.Apply(ctx, writes[4], metadata.Mutation{DeleteNote: attester}))
	feed := changes(t, s)
	if len(feed) != 7 || s.Head() != 7 {
		t.Fatalf("%d changes, the head is %d", len(feed), s.Head())
	}
	ops := []metadata.Op{metadata.Created, metadata.Updated, metadata.Created, metadata.Deleted, metadata.Created}
	for i, m := range writes {
		diff(t, metadata.Change{Seq: uint64(i) + 2, Op: ops[i], Document: &m.WriteDocument.Document}, feed[i+1])
	}
	if feed[0].Document != nil || feed[6].Document != nil {
		t.Error("a note is told as a document")
	}
}

func testDocumentAtomicity(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	must(t, s.Apply(ctx, writeDocument(docAttestor, 1, "a"), writeDocument(docPolicy, 1, "x", docAttestor)))
	must(t, s.Apply(ctx, metadata.Mutation{SetPolicy: &metadata.PolicyChange{Resource: docAttestor, To: []byte("p")}}))
	feed := changes(t, s)
	refused := [][]metadata.Mutation{
		{writeDocument(docPolicy, 2, ""), writeDocument(docAttestor, 2, ""), writeDocument(docPolicy, 9, "x")},
		{writeDocument(docPolicy, 2, "y"), createNote(attester), createNote(attester)},
		{createNote(attester), writeDocument(docPolicy, 2, "y"), writeDocument(docPolicy, 2, "y")},
		{writeDocument("projects/q/policy", 1, "x", docAttestor), writeDocument("projects/q/policy", 2, "x", "projects/p/attestors/missing")},
	}
	for _, batch := range refused {
		if err := s.Apply(ctx, batch...); err == nil {
			t.Fatal("a batch that breaks a rule was applied")
		}
	}
	diff(t, feed, changes(t, s))
	rows, _, err := s.Documents(ctx, metadata.DocumentQuery{Limit: 10})
	must(t, err)
	if len(rows) != 2 || rows[0].Revision != 1 || rows[1].Revision != 1 {
		t.Errorf("documents after refused batches: %v", rows)
	}
	policy, err := s.Policy(ctx, docAttestor)
	must(t, err)
	diff(t, "p", string(policy))
	wantKind(t, s.Apply(ctx, writeDocument(docAttestor, 2, "")), metadata.FailedPrecondition)
	must(t, s.Apply(ctx, writeDocument(docPolicy, 2, "y"), writeDocument(docAttestor, 2, "")))
}

func testDocumentPolicies(t *testing.T, s metadata.Store) {
	ctx := t.Context()
	set := func(to string, implied bool) error {
		return s.Apply(ctx, metadata.Mutation{SetPolicy: &metadata.PolicyChange{Resource: docAttestor, To: []byte(to), Implied: implied}})
	}
	get := func() string {
		policy, err := s.Policy(ctx, docAttestor)
		must(t, err)
		return string(policy)
	}
	wantKind(t, set("one", false), metadata.NotFound)
	must(t, s.Apply(ctx, writeDocument(docAttestor, 1, "a")))
	must(t, set("one", false))
	wantKind(t, set("two", false), metadata.Aborted)
	must(t, s.Apply(ctx, writeDocument(docAttestor, 2, "b")))
	diff(t, "one", get())
	must(t, s.Apply(ctx, writeDocument(docAttestor, 3, "")))
	diff(t, "", get())
	wantKind(t, set("one", false), metadata.NotFound)
	must(t, set("implied", true))
	diff(t, "implied", get())
}

func testDocumentRaces(t *testing.T, s metadata.Store) {
	const writers, rounds = 4, 10
	var won [rounds + 1]atomic.Int64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for r := uint64(1); r <= rounds; r++ {
				err := s.Apply(t.Context(), writeDocument(docPolicy, r, fmt.Sprintf("%d by %d", r, w)))
				switch {
				case err == nil:
					won[r].Add(1)
				case metadata.KindOf(err) != metadata.Aborted:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for r := 1; r <= rounds; r++ {
		if n := won[r].Load(); n != 1 {
			t.Errorf("revision %d was written by %d", r, n)
		}
	}
	told := allRevisions(t, s, docPolicy)
	var fed []*metadata.Document
	for _, c := range changes(t, s) {
		fed = append(fed, c.Document)
	}
	slices.Reverse(fed)
	diff(t, told, fed)
}

func testLargeDocument(t *testing.T, s metadata.Store) {
	large := string(bytes.Repeat([]byte("x"), metadata.MaxDocumentBytes))
	must(t, s.Apply(t.Context(), writeDocument(docPolicy, 1, "small")))
	must(t, s.Apply(t.Context(), writeDocument(docPolicy, 2, large)))
	must(t, s.Apply(t.Context(), writeDocument("projects/q/policy", 1, large)))
	rows, more, err := s.Documents(t.Context(), metadata.DocumentQuery{Limit: 10})
	must(t, err)
	if len(rows) != 1 || !more || string(rows[0].Content) != large {
		t.Errorf("%d rows, more: %t", len(rows), more)
	}
	if all := allRevisions(t, s, docPolicy); len(all) != 2 || string(all[0].Content) != large || string(all[1].Content) != "small" {
		t.Errorf("%d revisions", len(all))
	}
	var sizes []int
	for _, c := range changes(t, s) {
		sizes = append(sizes, len(c.Document.Content))
	}
	diff(t, []int{5, len(large), len(large)}, sizes)
}
