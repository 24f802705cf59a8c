package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// describe gives a driver's error its kind. Errors that have one pass.
func describe(err error) error {
	var own *metadata.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	if errors.Is(err, sql.ErrConnDone) {
		return metadata.ErrClosed
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_FULL:
		return metadata.Errorf(metadata.Unavailable, "the disk of the metadata store is full; free some space: %w", err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
		return metadata.Errorf(metadata.Unavailable, "the disk of the metadata store fails: %w", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return metadata.Errorf(metadata.Unavailable, "the metadata store is locked by another program: %w", err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return metadata.Errorf(metadata.Internal, "the file of the metadata store is damaged; restore a backup: %w", err)
	}
	return metadata.Errorf(metadata.Internal, "the metadata store failed: %w", err)
}

// reading is describe for a read: what ctx ended is ctx's error, and what Close
// ended is ErrClosed.
func (s *Store) reading(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.closed() {
		return metadata.ErrClosed
	}
	return describe(err)
}

func (s *Store) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// primaryCode returns SQLite's primary result code, 0 if err is not SQLite's.
func primaryCode(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

func isConstraint(err error) bool { return primaryCode(err) == sqlite3.SQLITE_CONSTRAINT }
