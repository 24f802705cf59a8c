package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

func open(t testing.TB, dir string) metadata.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "metadata.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	metadatatest.Run(t, func(t testing.TB) metadata.Store { return open(t, t.TempDir()) })
	metadatatest.RunDurable(t, open)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql, want string
	}{
		{"a newer schema", "PRAGMA application_id = 0x47415445; PRAGMA user_version = 99", "version 99, and this Gatehouse knows up to 3"},
		{"another program's database", "CREATE TABLE t (x)", "another program's database"},
		{"another program's empty database", "PRAGMA application_id = 7", "another program's database"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "metadata.db")
			execSQL(t, path, test.sql)
			_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got error %v, want %q and the path", err, test.want)
			}
		})
	}
	t.Run("a file that is no database", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "metadata.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("a folder that does not exist", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "missing", "metadata.db")
		if _, err := sqlite.Open(t.Context(), path, sqlite.Options{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("a second opening, until the first is closed", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := open(t, dir)
		_, err := sqlite.Open(t.Context(), filepath.Join(dir, "metadata.db"), sqlite.Options{})
		if err == nil || !strings.Contains(err.Error(), "another process has it open") {
			t.Errorf("got error %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	defer func() { _ = s.Close() }()
	info, err := os.Stat(filepath.Join(dir, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, and it holds the page token key", info.Mode())
	}
}

func TestTheFeedIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metadata.db")
	const keep = 50
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{KeepChanges: keep})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	parent := metadata.Parent{Project: "p"}
	const count = 3000
	for i := range count / 100 {
		var batch []metadata.Mutation
		for j := range 100 {
			name := metadata.NoteName{Parent: parent, ID: fmt.Sprintf("n%06d", 100*i+j)}
			batch = append(batch, metadata.Mutation{CreateNote: &grafeas.Note{Name: name.String(), Kind: grafeas.NoteKind_SECRET}})
		}
		if err := s.Apply(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Changes(t.Context(), 0, 10); !errors.Is(err, metadata.ErrCompacted) {
		t.Errorf("changes long gone: got error %v, want ErrCompacted", err)
	}
	changes, err := s.Changes(t.Context(), count-keep, 1000)
	if err != nil || len(changes) != keep || changes[keep-1].Seq != count {
		t.Errorf("%d changes, %v; want the last %d", len(changes), err, keep)
	}
	// What the dropped changes created can be deleted, and is told.
	if err := s.Apply(t.Context(), metadata.Mutation{DeleteNote: metadata.NoteName{Parent: parent, ID: "n000000"}}); err != nil {
		t.Fatal(err)
	}
	changes, err = s.Changes(t.Context(), count, 10)
	if err != nil || len(changes) != 1 || changes[0].Note.GetName() != "projects/p/notes/n000000" {
		t.Errorf("got %v, %v", changes, err)
	}
}

// A page that lacks what cannot be read looks like one that was complete.
func TestADamagedRowFailsTheListAndDoesNotShortenIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	metadatatest.DamagedRows(t, open(t, dir), func(s metadata.Store) metadata.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		execSQL(t, filepath.Join(dir, "metadata.db"), "UPDATE note SET payload = x'64' WHERE row = 3; UPDATE occurrence SET payload = x'64' WHERE row = 4")
		return open(t, dir)
	})
}

func execSQL(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), text)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
