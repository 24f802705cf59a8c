// Package postgres is the metadata store that several machines share, in a
// PostgreSQL database. docs/postgresql.md tells how to set one up.
//
// Any number of processes may have one database open and write to it. A
// transaction that writes first locks the one row of the table feed, which holds
// the last sequence number: so changes are numbered without a gap in the order of
// their commits, and no rule is broken between its check and the commit. To make
// up for the waiting, one goroutine of each process gathers all waiting calls into
// one transaction, reads everything that they touch in one round trip, applies
// the rules in memory, and writes in a second round trip. An idle store adds no
// delay.
//
// What a call was told is stored is as safe as PostgreSQL's own commits are:
// synchronous_commit is switched on if it is off, and its stricter values stay.
// When the connection is lost in a commit, the store connects again and reads
// whether the commit was kept. Only if that takes too long the caller is told
// Unavailable, and that nobody knows. All other errors are told in bounded time
// as well, and a store works again as soon as its server does.
//
// Head and Wait learn of other processes' writes by NOTIFY, and where that does
// not pass (a pooler, a replica's proxy) by asking every [Options.PollInterval].
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/internal/head"
)

const (
	// DefaultKeepChanges is how many changes the feed keeps: a few hundred MB at
	// most, and hours for a follower to come back at full load.
	DefaultKeepChanges = 1 << 20
	// DefaultPollInterval is how late the head can be where NOTIFY does not pass.
	DefaultPollInterval = time.Second

	// connectBound is what one attempt to connect may take, unless the connection
	// string says connect_timeout.
	connectBound = 5 * time.Second
)

// Options configure a Store. The zero Options are good.
type Options struct {
	// MaxConnections is how many connections serve reads, two more serve writes
	// and the head; 0 leaves it to pool_max_conns in the connection string, or
	// else to the number of processors, at least 4.
	MaxConnections int32
	// KeepChanges is how many of the last changes are kept, or a few more; 0
	// means DefaultKeepChanges. The greatest of several processes' counts only
	// if all of them have it.
	KeepChanges uint64
	// PollInterval is how often the head is read where no notification comes; 0
	// means DefaultPollInterval.
	PollInterval time.Duration
	// UngatheredForBenchmark commits every call by itself, to measure what
	// gathering is good for.
	UngatheredForBenchmark bool
}

// A Store is an open database. It is a [metadata.Store].
type Store struct {
	config  *pgx.ConnConfig // without what belongs to the pool
	pool    *pgxpool.Pool   // for readers
	keep    uint64
	poll    time.Duration
	maxJobs int
	head    *head.Head
	pageKey []byte

	jobs    chan *job
	closing chan struct{}
	life    context.Context // of the listener
	end     context.CancelFunc
	tasks   sync.WaitGroup // the writer and the listener
	close   func() error
}

var _ metadata.Store = (*Store)(nil)

// errConnString tells nothing of what it cannot read: any part of it may be the
// password.
var errConnString = errors.New("the connection string cannot be read (it is not shown here, since it may hold a password); " +
	"write postgres://USER:PASSWORD@HOST:PORT/DATABASE with special characters percent-encoded, or KEY=VALUE pairs")

// Open opens the database that the connection string names, in one of the forms
// that libpq knows, and creates or upgrades its tables. It fails if a newer
// Gatehouse has written it. Errors do not contain the connection string.
func Open(ctx context.Context, connString string, opts Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata store in PostgreSQL: %w", errConnString)
	}
	s, err := open(ctx, config, opts)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata store in PostgreSQL database %q on %q: %w", config.ConnConfig.Database, config.ConnConfig.Host, err)
	}
	return s, nil
}

func open(ctx context.Context, config *pgxpool.Config, opts Options) (*Store, error) {
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectBound
	}
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "gatehouse"
	}
	if opts.MaxConnections > 0 {
		config.MaxConns = opts.MaxConnections
	}
	config.AfterConnect = setPlanner
	s := &Store{
		config:  config.ConnConfig.Copy(),
		keep:    opts.KeepChanges,
		poll:    opts.PollInterval,
		maxJobs: maxJobs,
		jobs:    make(chan *job),
		closing: make(chan struct{}),
	}
	if s.keep == 0 {
		s.keep = DefaultKeepChanges
	}
	if s.poll == 0 {
		s.poll = DefaultPollInterval
	}
	if opts.UngatheredForBenchmark {
		s.maxJobs = 1
	}
	s.close = sync.OnceValue(s.shutdown)
	seq, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	s.head = head.New(seq)
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, describe(err)
	}
	s.start()
	return s, nil
}

// start begins what runs until Close.
func (s *Store) start() {
	s.life, s.end = context.WithCancel(context.Background())
	w := &writer{s: s}
	_, _ = rand.Read(w.id[:]) // never fails: see its documentation
	s.tasks.Go(w.run)
	s.tasks.Go(s.listen)
}

// prepare brings the schema up to date and reads what the store holds in memory.
func (s *Store) prepare(ctx context.Context) (seq uint64, err error) {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return 0, describe(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing hangs on how it ends
	if err := migrate(ctx, conn); err != nil {
		return 0, err
	}
	s.pageKey, seq, err = load(ctx, conn)
	return seq, describe(err)
}

// plannerSettings make the planner use, for every value, the index that a statement
// was written for, on tables that are empty or have grown since statistics were
// made as well. Planning each statement anew would take longer than running it.
const plannerSettings = `SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
	set_config('plan_cache_mode', 'force_generic_plan', false), set_config('max_parallel_workers_per_gather', '0', false)`

func setPlanner(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, plannerSettings)
	return err
}

// Head returns the last committed sequence number that is known here.
func (s *Store) Head() uint64 { return s.head.Load() }

// Wait blocks until Head is greater than after.
func (s *Store) Wait(ctx context.Context, after uint64) error { return s.head.Wait(ctx, after) }

// PageKey returns the key of page tokens, which the database holds.
func (s *Store) PageKey(context.Context) ([]byte, error) { return slices.Clone(s.pageKey), nil }

// Close commits what the writer has begun, and closes all connections. Calls that
// come later fail with [metadata.ErrClosed].
func (s *Store) Close() error { return s.close() }

func (s *Store) shutdown() error {
	close(s.closing)
	s.end()
	s.tasks.Wait()
	s.head.Close(metadata.ErrClosed)
	s.pool.Close()
	return nil
}
