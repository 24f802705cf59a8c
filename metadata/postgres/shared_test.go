package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
)

// These tests are about several stores in one database, as several processes have
// them: stores share nothing but the database.

func openTwo(t *testing.T, opts postgres.Options) (database string, stores [2]*postgres.Store) {
	t.Helper()
	database = kit.Database(t)
	for i := range stores {
		stores[i] = open(t, database, opts)
		t.Cleanup(func() { _ = stores[i].Close() })
	}
	return database, stores
}

func attestationNote(id string) *grafeas.Note {
	return &grafeas.Note{Name: "projects/p/notes/" + id, Kind: grafeas.NoteKind_ATTESTATION}
}

func attestation(id byte, note string, payload string) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		Name:        metadata.OccurrenceName{Parent: metadata.Parent{Project: "p"}, ID: metadata.ID{1, id, 6: 0x70, 8: 0x80}}.String(),
		ResourceUri: "https://r.example/app", NoteName: "projects/p/notes/" + note, Kind: grafeas.NoteKind_ATTESTATION,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{SerializedPayload: []byte(payload)}},
	}
}

func TestStatementsAreUniqueAmongStores(t *testing.T) {
	t.Parallel()
	_, stores := openTwo(t, postgres.Options{})
	if err := stores[0].Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}); err != nil {
		t.Fatal(err)
	}
	const rounds, rivals = 15, 8
	for round := range rounds {
		var won atomic.Int64
		var group sync.WaitGroup
		for i := range rivals {
			o := attestation(byte(round*rivals+i), "a", fmt.Sprint("round ", round))
			group.Go(func() {
				err := stores[i%2].Apply(t.Context(), metadata.Mutation{CreateOccurrence: o})
				switch {
				case err == nil:
					won.Add(1)
				case metadata.KindOf(err) != metadata.AlreadyExists:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: one statement was stored %d times", round, won.Load())
		}
	}
}

func TestNoOccurrenceLosesItsNoteAmongStores(t *testing.T) {
	t.Parallel()
	_, stores := openTwo(t, postgres.Options{})
	for round := range 30 {
		id := fmt.Sprint("n", round)
		if err := stores[0].Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote(id)}); err != nil {
			t.Fatal(err)
		}
		name := metadata.NoteName{Parent: metadata.Parent{Project: "p"}, ID: id}
		var created, deleted error
		var group sync.WaitGroup
		group.Go(func() {
			created = stores[0].Apply(t.Context(), metadata.Mutation{CreateOccurrence: attestation(byte(round), id, "x")})
		})
		group.Go(func() { deleted = stores[1].Apply(t.Context(), metadata.Mutation{DeleteNote: name}) })
		group.Wait()
		switch {
		case created == nil && metadata.KindOf(deleted) == metadata.FailedPrecondition && deleted != nil:
		case deleted == nil && metadata.KindOf(created) == metadata.NotFound && created != nil:
		default:
			t.Fatalf("creating: %v; deleting its note: %v", created, deleted)
		}
	}
}

func TestNoPolicyLosesItsAttestorAmongStores(t *testing.T) {
	t.Parallel()
	_, stores := openTwo(t, postgres.Options{})
	for round := range 30 {
		attestor, policy := fmt.Sprintf("projects/p/attestors/a%d", round), fmt.Sprintf("projects/p%d/policy", round)
		write := func(name string, revision uint64, content string, refers ...string) metadata.Mutation {
			return metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Refers: refers, Document: metadata.Document{
				Name: name, Revision: revision, Content: []byte(content), Time: time.Unix(1_790_000_000, 0).UTC(),
			}}}
		}
		if err := stores[0].Apply(t.Context(), write(attestor, 1, "a"), write(policy, 1, "x")); err != nil {
			t.Fatal(err)
		}
		var written, deleted, lost error
		var group sync.WaitGroup
		group.Go(func() { written = stores[0].Apply(t.Context(), write(policy, 2, "y", attestor)) })
		group.Go(func() { deleted = stores[1].Apply(t.Context(), write(attestor, 2, "")) })
		group.Wait()
		switch {
		case written == nil && deleted != nil && metadata.KindOf(deleted) == metadata.FailedPrecondition:
		case deleted == nil && written != nil && metadata.KindOf(written) == metadata.InvalidArgument:
		default:
			t.Fatalf("writing the policy: %v; deleting the attestor that it names: %v", written, deleted)
		}
		// Of two stores that write one revision, one wins.
		group.Go(func() { written = stores[0].Apply(t.Context(), write("projects/q/policy", uint64(round)+1, "0")) })
		group.Go(func() { lost = stores[1].Apply(t.Context(), write("projects/q/policy", uint64(round)+1, "1")) })
		group.Wait()
		if written != nil {
			written, lost = lost, written
		}
		if written != nil || metadata.KindOf(lost) != metadata.Aborted || lost == nil {
			t.Fatalf("round %d: %v, %v", round, written, lost)
		}
	}
}

func TestWhatOneStoreWritesTheOtherReads(t *testing.T) {
	t.Parallel()
	_, stores := openTwo(t, postgres.Options{PollInterval: time.Hour})
	for round := range uint64(20) {
		from, to := stores[round%2], stores[(round+1)%2]
		id := fmt.Sprint("n", round)
		if err := from.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote(id)}); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Note(t.Context(), metadata.NoteName{Parent: metadata.Parent{Project: "p"}, ID: id}); err != nil {
			t.Errorf("read at once: %v", err)
		}
		// No polling tells: it is the notification.
		if err := to.Wait(t.Context(), round); err != nil || to.Head() != round+1 {
			t.Fatalf("head %d, error %v; want %d", to.Head(), err, round+1)
		}
		if changes, err := to.Changes(t.Context(), round, 10); err != nil || len(changes) != 1 {
			t.Errorf("%d changes after %d, error %v", len(changes), round, err)
		}
	}
}

func TestChangesAreReadBeforeTheHeadIsKnown(t *testing.T) {
	t.Parallel()
	_, stores := openTwo(t, postgres.Options{PollInterval: time.Hour})
	if err := stores[0].Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}, metadata.Mutation{CreateNote: attestationNote("b")}); err != nil {
		t.Fatal(err)
	}
	// A follower that comes over from the first store is ahead of the second's head.
	if changes, err := stores[1].Changes(t.Context(), 2, 10); err != nil || len(changes) != 0 {
		t.Errorf("got %v, %v", changes, err)
	}
	if got := stores[1].Head(); got != 2 {
		t.Errorf("head is %d after reading up to 2", got)
	}
}

func TestTheHeadIsPolledWhereNothingIsNotified(t *testing.T) {
	t.Parallel()
	database, stores := openTwo(t, postgres.Options{PollInterval: time.Millisecond})
	execSQL(t, database, "UPDATE feed SET head = 7")
	if err := stores[0].Wait(t.Context(), 6); err != nil || stores[0].Head() != 7 {
		t.Errorf("head %d, error %v", stores[0].Head(), err)
	}
}

func TestNotificationsOfAnotherSchemaAreNotTrusted(t *testing.T) {
	t.Parallel()
	database, stores := openTwo(t, postgres.Options{PollInterval: time.Hour})
	execSQL(t, database, "SELECT pg_notify('gatehouse_feed', '1000')")
	if err := stores[0].Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}); err != nil {
		t.Fatal(err)
	}
	// Notifications come in order: when this one has come, so has the first.
	if err := stores[1].Wait(t.Context(), 0); err != nil || stores[1].Head() != 1 {
		t.Errorf("head %d, error %v; want 1", stores[1].Head(), err)
	}
}

// TestPostgreSQLGoesAndComesBack checks that calls fail in time meanwhile, and
// work at once afterwards.
func TestPostgreSQLGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := kit.Start(t, kit.Options{})
	s := open(t, server.Database(t), postgres.Options{})
	defer func() { _ = s.Close() }()
	parent := metadata.Parent{Project: "p"}
	name := metadata.NoteName{Parent: parent, ID: "a"}
	if err := s.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		server.Kill(t)
		for what, call := range map[string]func(ctx context.Context) error{
			"Apply": func(ctx context.Context) error { return s.Apply(ctx, metadata.Mutation{CreateProject: "x"}) },
			"Note":  func(ctx context.Context) error { _, err := s.Note(ctx, name); return err },
			"Notes": func(ctx context.Context) error {
				_, _, err := s.Notes(ctx, metadata.NoteQuery{Parent: parent, Kinds: metadata.AllKinds, Limit: 1})
				return err
			},
			"Changes": func(ctx context.Context) error { _, err := s.Changes(ctx, 0, 1); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := call(ctx); metadata.KindOf(err) != metadata.Unavailable || ctx.Err() != nil {
				t.Errorf("%s without PostgreSQL: got error %v, want Unavailable in time", what, err)
			}
			cancel()
		}
		if s.Head() != 1 {
			t.Errorf("head is %d without PostgreSQL", s.Head())
		}
		server.Restart(t)
		if _, err := s.Note(t.Context(), name); err != nil {
			t.Errorf("reading after it came back: %v", err)
		}
		if err := s.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}); metadata.KindOf(err) != metadata.AlreadyExists {
			t.Errorf("writing after it came back: %v", err)
		}
	}
}

func TestWhatPostgreSQLRefusesIsToldByKind(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	s := open(t, database, postgres.Options{})
	defer func() { _ = s.Close() }()
	for state, want := range map[string]metadata.Kind{
		"53100": metadata.Unavailable, // disk full
		"53300": metadata.Unavailable, // too many connections
		"25006": metadata.Unavailable, // read-only, as on a standby
		"57014": metadata.Unavailable, // timeout
		"58030": metadata.Unavailable, // I/O error
		"40001": metadata.Unavailable, // serialization failure, each time
		"42501": metadata.Internal,    // privileges
		"XX001": metadata.Internal,    // damaged
		"22012": metadata.Internal,    // anything else
	} {
		execSQL(t, database, `CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'made for tests' USING ERRCODE = '`+state+`'; END $$;
			CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON project EXECUTE FUNCTION fail()`)
		err := s.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}, metadata.Mutation{CreateProject: "x"})
		if err == nil || metadata.KindOf(err) != want || !strings.Contains(err.Error(), "made for tests") {
			t.Errorf("SQLSTATE %s: got error %v, want kind %v", state, err, want)
		}
	}
	execSQL(t, database, "DROP TRIGGER fail ON project")
	if err := s.Apply(t.Context(), metadata.Mutation{CreateNote: attestationNote("a")}, metadata.Mutation{CreateProject: "x"}); err != nil || s.Head() != 1 {
		t.Errorf("afterwards: error %v, head %d", err, s.Head())
	}
}

func TestErrorsKeepThePassword(t *testing.T) {
	t.Parallel()
	const secret = "hush4711"
	for _, connString := range []string{
		"postgres://u:" + secret + "@127.0.0.1:1/db",
		"postgres://u:" + secret + "@127.0.0.1:port/db",
		"postgres://u:" + secret + "%zz@127.0.0.1/db",
		"postgres://u:#" + secret + "@127.0.0.1/db",
		"host=127.0.0.1 port=1 password=" + secret,
		"host=127.0.0.1 port=1 password='" + secret,
		"postgres://u:p@127.0.0.1:1/db?sslmode=" + secret,
		secret,
	} {
		_, err := postgres.Open(t.Context(), connString, postgres.Options{})
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(fmt.Sprintf("%+v", err), secret) {
			t.Errorf("%q: got error %v", connString, err)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), secret) {
				t.Errorf("%q: wraps error %v", connString, e)
			}
		}
	}
}

// A page that lacks what cannot be read looks like one that was complete.
func TestADamagedRowFailsTheListAndDoesNotShortenIt(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	metadatatest.DamagedRows(t, open(t, database, postgres.Options{}), func(s metadata.Store) metadata.Store {
		execSQL(t, database, `UPDATE note SET payload = '\x64' WHERE seq = 3; UPDATE occurrence SET payload = '\x64' WHERE seq = 4`)
		return s
	})
}

func execSQL(t *testing.T, database, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}
