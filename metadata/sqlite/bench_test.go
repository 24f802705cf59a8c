package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

var bench = metadatatest.Bench{
	Open: func(b *testing.B, ungathered bool) metadata.Store {
		s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "metadata.db"), sqlite.Options{UngatheredForBenchmark: ungathered})
		if err != nil {
			b.Fatal(err)
		}
		return s
	},
	Insert: bareInsert,
}

func BenchmarkDurableCreate(b *testing.B) { bench.DurableCreate(b) }
func BenchmarkBatchCreate(b *testing.B)   { bench.BatchCreate(b) }
func BenchmarkLookup(b *testing.B)        { bench.Lookup(b) }

func bareInsert(b *testing.B) func(rows []metadatatest.BareRow) error {
	b.Helper()
	dir := b.TempDir()
	s := open(b, dir)
	note := &grafeas.Note{Name: metadatatest.BareNote.String(), Kind: grafeas.NoteKind_ATTESTATION}
	if err := s.Apply(b.Context(), metadata.Mutation{CreateNote: note}); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "metadata.db")+"?_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { _ = db.Close() })
	seq := 1 // of the note
	return func(rows []metadatatest.BareRow) error {
		tx, err := db.BeginTx(b.Context(), nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after a commit
		insert, err := tx.PrepareContext(b.Context(), `INSERT INTO occurrence (row, id, parent, note, kind, resource, subject, statement, payload)
			VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer func() { _ = insert.Close() }()
		for _, r := range rows {
			seq++
			if _, err := insert.ExecContext(b.Context(), seq, r.ID[:], r.Parent[:], int32(r.Kind),
				r.Keys.Resource[:], r.Keys.Subject[:], r.Keys.Statement[:], r.Payload); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}
