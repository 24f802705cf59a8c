package postgres_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
)

// A benchBed is a server that flushes to disk, and what runs against it.
func benchBed(b *testing.B) metadatatest.Bench {
	b.Helper()
	server := sync.OnceValue(func() *kit.Server { return kit.Start(b, kit.Options{Fsync: true}) })
	return metadatatest.Bench{
		Open: func(b *testing.B, ungathered bool) metadata.Store {
			return open(b, server().Database(b), postgres.Options{UngatheredForBenchmark: ungathered})
		},
		Insert: func(b *testing.B) func(rows []metadatatest.BareRow) error {
			return bareInsert(b, server().Database(b))
		},
	}
}

func BenchmarkDurableCreate(b *testing.B) { benchBed(b).DurableCreate(b) }
func BenchmarkBatchCreate(b *testing.B)   { benchBed(b).BatchCreate(b) }
func BenchmarkLookup(b *testing.B)        { benchBed(b).Lookup(b) }

func bareInsert(b *testing.B, connString string) func(rows []metadatatest.BareRow) error {
	b.Helper()
	if err := open(b, connString, postgres.Options{}).Close(); err != nil { // makes the tables
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), connString)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	seq := 0
	note := metadata.KeyOf(metadatatest.BareNote.String())
	return func(rows []metadatatest.BareRow) error {
		return pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
			for _, r := range rows {
				seq++
				if _, err := tx.Exec(b.Context(), `INSERT INTO occurrence (seq, kind, id, parent, note, resource, subject, statement, payload)
					VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, seq, int32(r.Kind), [16]byte(r.ID), [16]byte(r.Parent), [16]byte(note),
					[16]byte(r.Keys.Resource), [16]byte(r.Keys.Subject), [16]byte(r.Keys.Statement), r.Payload); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
