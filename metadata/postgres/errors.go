package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// SQLSTATEs, see PostgreSQL's appendix "Error Codes"; two characters are a class.
const (
	connectionClass     = "08"
	authorizationClass  = "28"
	rollbackClass       = "40" // serialization failures and deadlocks among them
	resourcesClass      = "53" // disk full, out of memory, too many connections
	interventionClass   = "57" // shutdown, crash, cancelled by an administrator
	systemClass         = "58" // I/O errors
	corruptClass        = "XX"
	diskFull            = "53100"
	tooManyConnections  = "53300"
	readOnlyTransaction = "25006"
	lockNotAvailable    = "55P03"
	noPrivilege         = "42501"
	noDatabase          = "3D000"
	duplicateTable      = "42P07"
)

// sqlState returns the five characters by which PostgreSQL tells errors apart, ""
// if err is not PostgreSQL's.
func sqlState(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// describe gives an error its kind. Errors that have one pass.
func describe(err error) error {
	var own *metadata.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	if errors.As(err, &damagedError{}) {
		return metadata.Errorf(metadata.Internal, "the metadata store is damaged: %w", err)
	}
	state := sqlState(err)
	if state == "" {
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL cannot be reached: %w", err)
	}
	switch state {
	case diskFull:
		return metadata.Errorf(metadata.Unavailable, "the disk of PostgreSQL is full; free some space: %w", err)
	case tooManyConnections:
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL has too many connections; raise max_connections, or give each Gatehouse fewer: %w", err)
	case readOnlyTransaction:
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL takes no writes, as a standby does; add target_session_attrs=read-write to the connection string, with all hosts: %w", err)
	case lockNotAvailable:
		return metadata.Errorf(metadata.Unavailable, "another client of PostgreSQL holds up all writes: %w", err)
	case noDatabase:
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL has no such database; create it: %w", err)
	case noPrivilege:
		return metadata.Errorf(metadata.Internal, "PostgreSQL forbids it; let the role of Gatehouse own its tables: %w", err)
	}
	switch state[:2] {
	case authorizationClass:
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL does not let Gatehouse in; check user and password: %w", err)
	case connectionClass, rollbackClass, resourcesClass, interventionClass:
		return metadata.Errorf(metadata.Unavailable, "PostgreSQL cannot do its work now: %w", err)
	case systemClass:
		return metadata.Errorf(metadata.Unavailable, "the disk of PostgreSQL fails: %w", err)
	case corruptClass:
		return metadata.Errorf(metadata.Internal, "PostgreSQL's data is damaged; restore a backup: %w", err)
	}
	return metadata.Errorf(metadata.Internal, "PostgreSQL failed: %w", err)
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

// A damagedError is a stored message that does not decode.
type damagedError struct{ err error }

func (d damagedError) Error() string { return "decoding a stored message: " + d.err.Error() }

func (d damagedError) Unwrap() error { return d.err }
