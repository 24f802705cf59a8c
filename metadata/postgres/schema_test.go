package postgres_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql, want string
	}{
		{"a newer schema", "CREATE TABLE gatehouse (version integer); INSERT INTO gatehouse VALUES (99)", "version 99, and this Gatehouse knows up to 2"},
		{"tables of another program", "CREATE TABLE note (x integer)", "tables of another program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			database := kit.Database(t)
			execSQL(t, database, test.sql)
			_, err := postgres.Open(t.Context(), database, postgres.Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
	t.Run("a database that does not exist", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), kit.Database(t)+" dbname=missing", postgres.Options{})
		if metadata.KindOf(err) != metadata.Unavailable || !strings.Contains(err.Error(), `"missing"`) || !strings.Contains(err.Error(), "create it") {
			t.Errorf("got error %v", err)
		}
	})
}

func TestSeveralProcessesMayStartAtOnce(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	stores := make([]*postgres.Store, 8)
	var group errgroup.Group
	for i := range stores {
		group.Go(func() (err error) {
			stores[i], err = postgres.Open(t.Context(), database, postgres.Options{MaxConnections: 1})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var first string
	for _, s := range stores {
		key, err := s.PageKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(key)
		}
		if len(key) != 32 || string(key) != first {
			t.Error("the page token keys differ")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A role that may not create tables can use those that another has made.
func TestARoleThatMayOnlyReadAndWriteRows(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	if err := open(t, database, postgres.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, database, `DO $$ BEGIN CREATE ROLE rows LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
		REVOKE CREATE ON SCHEMA public FROM PUBLIC;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO rows`)
	s := open(t, database+" user=rows", postgres.Options{})
	defer func() { _ = s.Close() }()
	if err := s.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")},
		metadata.Mutation{CreateOccurrence: attestation(1, "a", "x")}); err != nil {
		t.Error(err)
	}
}

// testdata/version1.sql was made by pg_dump of a database with schema version 1: 4
// notes of which one was deleted, and in each of two parents 9 occurrences of 3
// images, those of the third image deleted.
func TestUpgradeOfTheFirstSchema(t *testing.T) {
	t.Parallel()
	dump, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		t.Fatal(err)
	}
	database := kit.Database(t)
	execSQL(t, database, string(dump))
	for round := range 2 { // upgraded, and opened again
		s := open(t, database, postgres.Options{})
		for _, p := range []metadata.Parent{{Project: "p"}, {Project: "p", Location: "eu"}} {
			rows, more, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{Parent: p, Kinds: metadata.AllKinds, Limit: 100})
			if err != nil || more || len(rows) != 6 {
				t.Errorf("round %d: %s has %d occurrences, more: %t, error %v; want 6", round, p, len(rows), more, err)
			}
			hinted, _, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{
				Parent: p, Kinds: metadata.AllKinds, Limit: 100, Hints: metadata.Hints{Prefixes: []string{"r.example/app@sha256:"}},
			})
			if err != nil || len(hinted) != 6 {
				t.Errorf("round %d: %d occurrences by prefix, error %v; want 6", round, len(hinted), err)
			}
			summaries, _, err := s.Summaries(t.Context(), metadata.SummaryQuery{Parent: p, Limit: 100})
			if err != nil || len(summaries) != 2 {
				t.Fatalf("round %d: %d summaries, error %v; want 2", round, len(summaries), err)
			}
			for _, sum := range summaries {
				if len(sum.Findings) != 1 || !sum.Findings[0].Fixable || sum.Findings[0].Severity != grafeas.Severity_HIGH ||
					len(sum.Scans) != 1 || sum.Scans[0].Status != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS {
					t.Errorf("round %d: summary %+v", round, sum)
				}
			}
		}
		// The schema of documents is there too, and what is written is in the feed.
		d := metadata.Document{Name: "projects/p/policy", Revision: uint64(round) + 1, Content: []byte("{}")}
		if err := s.Apply(t.Context(), metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: d}}); err != nil {
			t.Error(err)
		}
		feed, err := s.Changes(t.Context(), 0, 100)
		if err != nil || len(feed) != 4+1+18+6+1+round || s.Head() != uint64(len(feed)) {
			t.Errorf("round %d: %d changes up to %d, error %v", round, len(feed), s.Head(), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
