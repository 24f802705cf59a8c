package sqlite_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// testdata/version1.db.gz was written by the first Gatehouse, with schema
// version 1: 4 notes of which one was deleted, and in each of two parents 9
// occurrences of 3 images, those of the third image deleted.
func TestUpgradeOfTheFirstSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unzip(t, "testdata/version1.db.gz", filepath.Join(dir, "metadata.db"))
	for _, round := range []string{"upgraded", "opened again"} {
		s := open(t, dir)
		parents := []metadata.Parent{{Project: "p"}, {Project: "p", Location: "eu"}}
		for _, p := range parents {
			rows, more, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{Parent: p, Kinds: metadata.AllKinds, Limit: 100})
			if err != nil || more || len(rows) != 6 {
				t.Errorf("%s: %s has %d occurrences, more: %t, error %v; want 6", round, p, len(rows), more, err)
			}
			hinted, _, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{
				Parent: p, Kinds: metadata.AllKinds, Limit: 100, Hints: metadata.Hints{Prefixes: []string{"r.example/app@sha256:"}},
			})
			if err != nil || len(hinted) != 6 {
				t.Errorf("%s: %d occurrences by prefix, error %v; want 6", round, len(hinted), err)
			}
			summaries, _, err := s.Summaries(t.Context(), metadata.SummaryQuery{Parent: p, Limit: 100})
			if err != nil || len(summaries) != 2 {
				t.Fatalf("%s: %d summaries, error %v; want 2", round, len(summaries), err)
			}
			for _, sum := range summaries {
				if len(sum.Findings) != 1 || !sum.Findings[0].Fixable || sum.Findings[0].Severity != grafeas.Severity_HIGH ||
					len(sum.Scans) != 1 || sum.Scans[0].Status != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS {
					t.Errorf("%s: summary %+v", round, sum)
				}
			}
		}
		feed, err := s.Changes(t.Context(), 0, 100)
		if err != nil || len(feed) != 4+1+18+6 || s.Head() != uint64(len(feed)) {
			t.Errorf("%s: %d changes up to %d, error %v", round, len(feed), s.Head(), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// testdata/version2.db.gz was written with schema version 2: a project, a note with
// an access policy and another that was deleted, and 3 attestations of which one
// was deleted.
func TestUpgradeOfTheSecondSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unzip(t, "testdata/version2.db.gz", filepath.Join(dir, "metadata.db"))
	note := metadata.NoteName{Parent: metadata.Parent{Project: "p"}, ID: "a"}
	for round := range uint64(2) { // upgraded, and opened again
		s := open(t, dir)
		rows, _, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{Note: note, Kinds: metadata.AllKinds, Limit: 9})
		if err != nil || len(rows) != 2 {
			t.Errorf("%d attestations, error %v; want 2", len(rows), err)
		}
		if policy, err := s.Policy(t.Context(), note.String()); err != nil || len(policy) == 0 {
			t.Errorf("the access policy is %q, error %v", policy, err)
		}
		d := metadata.Document{Name: "projects/p/policy", Revision: round + 1, Content: []byte("{}")}
		if err := s.Apply(t.Context(), metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: d}}); err != nil {
			t.Error(err)
		}
		feed, err := s.Changes(t.Context(), 0, 100)
		if want := 3 + 4 + int(round) + 1; err != nil || len(feed) != want || s.Head() != uint64(want) {
			t.Fatalf("%d changes up to %d, error %v; want %d", len(feed), s.Head(), err, want)
		}
		for i, c := range feed {
			if isDocument := i >= 7; isDocument != (c.Document != nil) || !isDocument && c.Note == nil && c.Occurrence == nil {
				t.Errorf("change %d is %+v", c.Seq, c)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func unzip(t *testing.T, from, to string) {
	t.Helper()
	packed, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }() // read only
	plain, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
