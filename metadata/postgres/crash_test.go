package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
)

// crashEnv makes the test binary a process that is killed: it names the database
// to write to.
const crashEnv = "GATEHOUSE_TEST_CRASH_DB"

func TestMain(m *testing.M) {
	if connString := os.Getenv(crashEnv); connString != "" {
		fmt.Fprintln(os.Stderr, writeForEver(context.Background(), connString))
		os.Exit(1)
	}
	os.Exit(kit.Main(m))
}

func writeForEver(ctx context.Context, connString string) error {
	store, err := postgres.Open(ctx, connString, postgres.Options{})
	if err != nil {
		return err
	}
	return metadatatest.WriteUntil(ctx, store, os.Stdout, false)
}

// TestNothingAcknowledgedIsLostWhenProcessesAreKilled has several processes write to one database, and
// kills each at a moment of its own, while a follower in this process reads the
// feed.
func TestNothingAcknowledgedIsLostWhenProcessesAreKilled(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	s := open(t, database, postgres.Options{})
	defer func() { _ = s.Close() }()
	follower := follow(t, s)
	told := metadatatest.NewPromises()
	for round := range 3 {
		var processes errgroup.Group
		for range 3 {
			processes.Go(func() error {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), crashEnv+"="+database)
				return told.Kill(cmd, 1+rand.IntN(300))
			})
		}
		if err := processes.Wait(); err != nil {
			t.Fatal(err)
		}
		// A transaction of the killed may still be on its way. Who has written
		// after it has seen it through.
		if err := s.Apply(t.Context(), metadata.Mutation{CreateProject: fmt.Sprint("round", round)}); err != nil {
			t.Fatal(err)
		}
		told.Verify(t, s)
		if t.Failed() {
			return
		}
	}
	finish(t, s, follower)
}

// TestNothingAcknowledgedIsLostWhenPostgreSQLIsKilled kills the whole server under
// load, several times. The store is not opened again.
func TestNothingAcknowledgedIsLostWhenPostgreSQLIsKilled(t *testing.T) {
	t.Parallel()
	server := kit.Start(t, kit.Options{Fsync: true})
	s := open(t, server.Database(t), postgres.Options{})
	defer func() { _ = s.Close() }()
	follower := follow(t, s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := metadatatest.NewPromises()
	var writers errgroup.Group
	writers.Go(func() error { return metadatatest.WriteUntil(ctx, s, told, true) })
	for range 4 {
		if err := told.Await(ctx, 20+rand.IntN(100)); err != nil {
			t.Fatal(err)
		}
		server.Kill(t)
		server.Restart(t)
	}
	if err := told.Await(ctx, 20); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := writers.Wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("the writers ended with %v", err)
	}
	if err := s.Apply(t.Context(), metadata.Mutation{CreateProject: "end"}); err != nil {
		t.Fatal(err)
	}
	told.Verify(t, s)
	finish(t, s, follower)
}

// lastNote ends the followers of a feed.
const lastNote = "projects/p/notes/last"

// finish writes the last note, and waits for the follower to come to it.
func finish(t *testing.T, s metadata.Store, follower *errgroup.Group) {
	t.Helper()
	if err := s.Apply(t.Context(), metadata.Mutation{CreateNote: &grafeas.Note{Name: lastNote, Kind: grafeas.NoteKind_SECRET}}); err != nil {
		t.Fatal(err)
	}
	if err := follower.Wait(); err != nil {
		t.Error(err)
	}
}

// follow reads the feed, which must have neither gap nor repetition, until the last
// note. It goes on when the database is away.
func follow(t *testing.T, s metadata.Store) *errgroup.Group {
	t.Helper()
	var group errgroup.Group
	group.Go(func() error {
		for seq := uint64(0); ; {
			if err := s.Wait(t.Context(), seq); err != nil {
				return err
			}
			changes, err := s.Changes(t.Context(), seq, 100)
			if err != nil && metadata.KindOf(err) != metadata.Unavailable {
				return err
			}
			for _, c := range changes {
				if seq++; c.Seq != seq {
					return fmt.Errorf("change %d follows %d", c.Seq, seq-1)
				}
				if c.Note.GetName() == lastNote {
					return nil
				}
			}
		}
	})
	return &group
}
