// Package sqlite is the metadata store that lasts, in one file on one machine.
// It is pure Go and needs no server.
//
// What a call was told is stored survives kill -9 and power loss: the database is
// in WAL mode and each commit is flushed to disk. One goroutine writes; it
// gathers all waiting calls into one transaction, so that many share one flush,
// and an idle store adds no delay. Reads run at the same time, from snapshots.
//
// One process owns the file, by a lock on FILE.lock. Others may read it, for
// instance the sqlite3 command (".backup" makes a consistent copy).
//
// Errors of kind Unavailable mean that the store cannot do its work now: the disk
// is full, or the store is closed. After an I/O error at a commit nobody knows
// what the disk holds; the store then refuses all writes until it is opened again.
//
// The feed of changes keeps the last [Options.KeepChanges] of them.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/internal/head"
)

// DefaultKeepChanges is how many changes the feed keeps: a few hundred MB at
// most, and hours for a follower to come back at full load.
const DefaultKeepChanges = 1 << 20

// Options configure a Store. The zero Options are good.
type Options struct {
	// KeepChanges is how many of the last changes are kept, or a few more; 0
	// means DefaultKeepChanges.
	KeepChanges uint64
	// UngatheredForBenchmark commits every call by itself, to measure what
	// gathering is good for.
	UngatheredForBenchmark bool
}

// A Store is an open database. It is a [metadata.Store].
type Store struct {
	path    string
	keep    uint64
	maxJobs int
	lock    *os.File
	db      *sql.DB   // for readers
	conn    *sql.Conn // of the writer
	writeDB *sql.DB
	head    *head.Head
	pageKey []byte
	queries queries

	jobs    chan *job
	closing chan struct{}
	written chan struct{} // closed when the writer has ended
	close   func() error
}

var _ metadata.Store = (*Store)(nil)

// Open opens the database in the file at path, and creates it if there is none.
// It fails if another process has it open, and if a newer Gatehouse has written it.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	s, err := open(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata store %q: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, opts Options) (_ *Store, err error) {
	s := &Store{
		path:    path,
		keep:    opts.KeepChanges,
		maxJobs: maxJobs,
		jobs:    make(chan *job),
		closing: make(chan struct{}),
		written: make(chan struct{}),
	}
	if s.keep == 0 {
		s.keep = DefaultKeepChanges
	}
	if opts.UngatheredForBenchmark {
		s.maxJobs = 1
	}
	s.close = sync.OnceValue(s.shutdown)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	if err := touch(path); err != nil {
		return nil, err
	}
	if err := s.connect(ctx); err != nil {
		return nil, describe(err)
	}
	if err := migrate(ctx, s.conn); err != nil {
		return nil, err
	}
	seq, err := s.load(ctx)
	if err != nil {
		return nil, describe(err)
	}
	s.head = head.New(seq)
	w, err := newWriter(ctx, s, seq)
	if err != nil {
		return nil, describe(err)
	}
	go w.run()
	return s, nil
}

// touch creates the file if it is missing, readable by its owner alone because it
// holds the page token key, and makes its name durable.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// connect opens the writer's connection and the readers' pool.
func (s *Store) connect(ctx context.Context) error {
	abs, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	dsn := func(pragmas ...string) string {
		u := url.URL{Scheme: "file", Path: abs}
		u.RawQuery = url.Values{"_pragma": pragmas}.Encode()
		return u.String()
	}
	// 64 MiB of WAL is kept for reuse; SQLite checkpoints every 4 MiB.
	s.writeDB, err = sql.Open("sqlite", dsn("busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)", "journal_size_limit(67108864)"))
	if err != nil {
		return err
	}
	s.writeDB.SetMaxOpenConns(1)
	if s.conn, err = s.writeDB.Conn(ctx); err != nil {
		return err
	}
	var mode string
	if err := s.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system does not allow WAL mode (got %q); use a local disk", mode)
	}
	// 16 MiB of cache a reader hold what is above the leaves of all indexes at a
	// million rows. Mapping the file would be faster, but an I/O error would then
	// end the process.
	s.db, err = sql.Open("sqlite", dsn("busy_timeout(10000)", "query_only(1)", "cache_size(-16384)"))
	if err != nil {
		return err
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	s.db.SetMaxOpenConns(readers)
	s.db.SetMaxIdleConns(readers)
	return nil
}

// load reads the page token key, which it makes if there is none, and the last
// sequence number.
func (s *Store) load(ctx context.Context) (seq uint64, err error) {
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails: see its documentation
	if _, err := s.conn.ExecContext(ctx, "INSERT OR IGNORE INTO meta (key, value) VALUES ('page_key', ?)", fresh); err != nil {
		return 0, err
	}
	if err := s.conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'page_key'").Scan(&s.pageKey); err != nil {
		return 0, err
	}
	err = s.conn.QueryRowContext(ctx, lastSeq).Scan(&seq)
	return seq, err
}

// Head returns the last committed sequence number.
func (s *Store) Head() uint64 { return s.head.Load() }

// Wait blocks until Head is greater than after.
func (s *Store) Wait(ctx context.Context, after uint64) error { return s.head.Wait(ctx, after) }

// PageKey returns the key of page tokens, which the file holds.
func (s *Store) PageKey(context.Context) ([]byte, error) { return slices.Clone(s.pageKey), nil }

// Close commits what the writer has begun, moves the WAL into the database, and
// releases the file. Calls that come later fail with [metadata.ErrClosed].
func (s *Store) Close() error { return s.close() }

func (s *Store) shutdown() error {
	close(s.closing)
	<-s.written
	s.head.Close(metadata.ErrClosed)
	_, err := s.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err = errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("closing the metadata store %q: %w", s.path, err)
	}
	return nil
}

// release closes whatever is open; the lock goes last.
func (s *Store) release() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	for _, db := range []*sql.DB{s.db, s.writeDB} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
