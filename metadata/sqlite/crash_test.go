package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

// crashEnv makes the test binary the process that is killed: it names the
// database to write to.
const crashEnv = "GATEHOUSE_TEST_CRASH_DB"

const (
	crashRounds = 6
	crashBatch  = 5
	crashNote   = "projects/provider/notes/scan"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		err := writeForEver(context.Background(), path, os.Stdout)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver creates occurrences in batches and one by one, deletes some, and
// tells on out what was acknowledged ("+ name…"), what it is about to delete
// ("? name") and what it has deleted ("- name"), each in one write.
func writeForEver(ctx context.Context, path string, out io.Writer) error {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	svc, err := metadata.NewService(ctx, store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		return err
	}
	note := &grafeas.Note{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}
	_, err = svc.CreateNote(ctx, metadata.Caller{}, "projects/provider", "scan", note)
	if err != nil && metadata.KindOf(err) != metadata.AlreadyExists {
		return err
	}
	var group errgroup.Group
	for writer := range 4 {
		group.Go(func() error {
			for n := 0; ; n++ {
				if err := writeOnce(ctx, svc, out, fmt.Sprint(os.Getpid(), ".", writer, ".", n)); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func writeOnce(ctx context.Context, svc *metadata.Service, out io.Writer, id string) error {
	batch := make([]*grafeas.Occurrence, crashBatch)
	for i := range batch {
		batch[i] = &grafeas.Occurrence{
			ResourceUri: fmt.Sprintf("https://r/%s@sha256:%064x", id, i),
			NoteName:    crashNote,
			Remediation: id, // names the batch
			Details:     &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}},
		}
	}
	single := batch[0]
	created, err := svc.BatchCreateOccurrences(ctx, metadata.Caller{}, "projects/p", batch)
	if err != nil {
		return err
	}
	line := "+"
	for _, o := range created {
		line += " " + o.GetName()
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	single.Remediation = "single"
	o, err := svc.CreateOccurrence(ctx, metadata.Caller{}, "projects/p", single)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "+ %s\n? %s\n", o.GetName(), o.GetName()); err != nil {
		return err
	}
	if err := svc.DeleteOccurrence(ctx, metadata.Caller{}, o.GetName()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "-", o.GetName())
	return err
}

// promises are what the killed process has told about each name: '+', '?' or '-'.
type promises map[string]byte

func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metadata.db")
	told := promises{}
	for range crashRounds {
		killWriter(t, path, told, 1+rand.IntN(400))
		verifyAfterCrash(t, path, told)
		if t.Failed() {
			return
		}
	}
}

// killWriter starts the writing process and kills it once it has told so many
// lines; it goes on writing up to that very moment.
func killWriter(t *testing.T, path string, told promises, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := 0
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); read++ {
		if read == lines {
			if err := cmd.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
		}
		words := strings.Fields(scanner.Text())
		for _, name := range words[1:] {
			told[name] = words[0][0]
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || read < lines {
		t.Fatalf("the writer ended by itself after %d lines: %v\n%s", read, err, stderr.String())
	}
}

func verifyAfterCrash(t *testing.T, path string, told promises) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	byParent := listAll(t, s, metadata.OccurrenceQuery{Parent: metadata.Parent{Project: "p"}})
	for name, mark := range told {
		switch _, found := byParent[name]; {
		case mark == '+' && !found:
			t.Errorf("%s was acknowledged, and is lost", name)
		case mark == '-' && found:
			t.Errorf("%s was deleted, and is back", name)
		}
	}
	batches := map[string]int{}
	for name, o := range byParent {
		if o.GetRemediation() != "single" {
			batches[o.GetRemediation()]++
		}
		keys := metadata.KeysOf(o)
		for _, q := range []metadata.OccurrenceQuery{{Resources: []metadata.Key{keys.Resource}}, {Resources: []metadata.Key{keys.Resource}, Subjects: []metadata.Key{keys.Subject}}} {
			q.Parent = metadata.Parent{Project: "p"}
			if _, found := listAll(t, s, q)[name]; !found {
				t.Errorf("%s is missing in an index", name)
			}
		}
	}
	for id, n := range batches {
		if n != crashBatch {
			t.Errorf("of batch %s there are %d occurrences, want %d", id, n, crashBatch)
		}
	}
	note, err := metadata.ParseNoteName(crashNote)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(listAll(t, s, metadata.OccurrenceQuery{Note: note})); n != len(byParent) {
		t.Errorf("%d occurrences by note, %d by parent", n, len(byParent))
	}
	verifyFeed(t, s, byParent)
	checkIntegrity(t, path)
}

// verifyFeed replays the whole feed, which must give what is stored.
func verifyFeed(t *testing.T, s *sqlite.Store, stored map[string]*grafeas.Occurrence) {
	t.Helper()
	live := map[string]bool{}
	var seq uint64
	for {
		changes, err := s.Changes(t.Context(), seq, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if seq++; c.Seq != seq {
				t.Fatalf("change %d follows %d", c.Seq, seq-1)
			}
			if c.Op == metadata.Created && c.Occurrence != nil {
				live[c.Occurrence.GetName()] = true
			}
			if c.Op == metadata.Deleted {
				delete(live, c.Occurrence.GetName())
			}
		}
	}
	if seq != s.Head() {
		t.Errorf("the feed ends at %d, the head is %d", seq, s.Head())
	}
	for name := range stored {
		if !live[name] {
			t.Errorf("%s is stored, and not in the feed", name)
		}
	}
	if len(live) != len(stored) {
		t.Errorf("the feed leaves %d occurrences, stored are %d", len(live), len(stored))
	}
}

func listAll(t *testing.T, s *sqlite.Store, q metadata.OccurrenceQuery) map[string]*grafeas.Occurrence {
	t.Helper()
	q.Kinds, q.Limit = metadata.AllKinds, 1000
	all := map[string]*grafeas.Occurrence{}
	for {
		rows, more, err := s.Occurrences(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range rows {
			all[o.GetName()] = o
			name, err := metadata.ParseOccurrenceName(o.GetName())
			if err != nil {
				t.Fatal(err)
			}
			q.Before = name.ID
		}
		if !more {
			return all
		}
	}
}

// checkIntegrity asks SQLite itself.
func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity check: %q, %v", verdict, err)
	}
}
