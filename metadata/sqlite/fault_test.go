package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

func note(id string) metadata.Mutation {
	return metadata.Mutation{CreateNote: &grafeas.Note{
		Name: "projects/p/notes/" + id, Kind: grafeas.NoteKind_SECRET, LongDescription: strings.Repeat("x", 2000)}}
}

func TestAFullDiskIsToldAndLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metadata.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	// As many pages as it has and a few more: SQLite answers as for a full disk.
	setMaxPages := func(n int) {
		t.Helper()
		if _, err := s.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	setMaxPages(60)
	var stored int
	for ; stored < 1000; stored++ {
		if err = s.Apply(t.Context(), note(fmt.Sprintf("n%04d", stored))); err != nil {
			break
		}
	}
	if metadata.KindOf(err) != metadata.Unavailable || !strings.Contains(err.Error(), "is full") {
		t.Fatalf("got error %v after %d notes, want Unavailable", err, stored)
	}
	if got := s.Head(); got != uint64(stored) {
		t.Errorf("head is %d, want %d", got, stored)
	}
	rows, _, err := s.Notes(t.Context(), metadata.NoteQuery{Parent: metadata.Parent{Project: "p"}, Kinds: metadata.AllKinds, Limit: 1000})
	if err != nil || len(rows) != stored {
		t.Errorf("%d notes, %v; want %d", len(rows), err, stored)
	}
	// With room again it goes on where it was.
	setMaxPages(10_000)
	if err := s.Apply(t.Context(), note("later")); err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(t.Context(), uint64(stored), 10)
	if err != nil || len(changes) != 1 || changes[0].Note.GetName() != "projects/p/notes/later" {
		t.Errorf("got %v, %v", changes, err)
	}
}

func TestABrokenWriterRefusesWrites(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "metadata.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	w, err := newWriter(t.Context(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.broken = metadata.Errorf(metadata.Unavailable, "broken")
	j := &job{ctx: t.Context(), mutations: []metadata.Mutation{note("n")}, done: make(chan struct{})}
	w.write([]*job{j})
	if <-j.done; metadata.KindOf(j.err) != metadata.Unavailable || s.Head() != 0 {
		t.Errorf("got error %v, head %d", j.err, s.Head())
	}
}

// TestClosingWhileWriting checks that each write is either stored and
// acknowledged, or refused.
func TestClosingWhileWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metadata.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	enough := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("n%d-%d", w, n)
				err := s.Apply(context.Background(), note(id))
				if errors.Is(err, metadata.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if acknowledged[id] = true; len(acknowledged) == 50 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	writers.Wait()

	s, err = Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if got := s.Head(); got != uint64(len(acknowledged)) {
		t.Errorf("%d notes are stored, %d were acknowledged", got, len(acknowledged))
	}
	for id := range acknowledged {
		if _, err := s.Note(t.Context(), metadata.NoteName{Parent: metadata.Parent{Project: "p"}, ID: id}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestCommitsAreFlushed checks the settings that no killed process can: only a
// power failure would show that they are wrong.
func TestCommitsAreFlushed(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "metadata.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const full = "2"
	for pragma, want := range map[string]string{"synchronous": full, "journal_mode": "wal", "foreign_keys": "1"} {
		var got string
		if err := s.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", pragma, got, err, want)
		}
	}
}

// TestARefusedCallLeavesItsGroupAlone commits several calls in one transaction,
// some of which are refused halfway.
func TestARefusedCallLeavesItsGroupAlone(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "metadata.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	w, err := newWriter(t.Context(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	newJob := func(ctx context.Context, mutations ...metadata.Mutation) *job {
		return &job{ctx: ctx, mutations: mutations, done: make(chan struct{})}
	}
	group := []*job{
		newJob(t.Context(), note("a")),
		newJob(t.Context(), note("half"), note("a")),
		newJob(t.Context(), note("a")),
		newJob(canceled, note("late")),
		newJob(t.Context(), note("b"), note("c")),
	}
	w.write(group)
	for i, want := range []metadata.Kind{-1, metadata.AlreadyExists, metadata.AlreadyExists, metadata.Canceled, -1} {
		if err := group[i].err; (err == nil) != (want < 0) || err != nil && metadata.KindOf(err) != want {
			t.Errorf("call %d: got error %v, want kind %v", i, err, want)
		}
	}
	changes, err := s.Changes(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, c := range changes {
		told = append(told, fmt.Sprint(c.Seq, " ", strings.TrimPrefix(c.Note.GetName(), "projects/p/notes/")))
	}
	if got := strings.Join(told, ", "); got != "1 a, 2 b, 3 c" || s.Head() != 3 {
		t.Errorf("the feed tells %q up to %d", got, s.Head())
	}
	rows, _, err := s.Notes(t.Context(), metadata.NoteQuery{Parent: metadata.Parent{Project: "p"}, Kinds: metadata.AllKinds, Limit: 10})
	if err != nil || len(rows) != 3 {
		t.Errorf("%d notes, %v; want 3", len(rows), err)
	}
}
