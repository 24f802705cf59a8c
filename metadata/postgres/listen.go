package postgres

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// channel is where each transaction tells the number of its last change.
	channel    = "gatehouse_feed"
	selectHead = "SELECT head FROM feed WHERE id = 1"

	// Attempts to connect again are this far apart, growing, and spread so that
	// not all processes come at once.
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// listen keeps the head up to date with what other processes write, until the
// store closes.
func (s *Store) listen() {
	for attempt := 0; s.life.Err() == nil; attempt++ {
		if s.follow(s.life) {
			attempt = 0
		}
		pause(s.life, attempt)
	}
}

// follow reads the head with each notification, and at every poll interval in
// between, until the connection fails. It reports whether that had worked.
func (s *Store) follow(ctx context.Context) (connected bool) {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing hangs on how it ends
	// Where there is no LISTEN there is polling.
	_, _ = conn.Exec(ctx, "LISTEN "+channel)
	for ctx.Err() == nil {
		var seq uint64
		if err := s.bounded(ctx, func(ctx context.Context) error { return conn.QueryRow(ctx, selectHead).Scan(&seq) }); err != nil {
			return connected
		}
		connected = true
		s.head.Advance(seq)
		s.await(ctx, conn)
		if conn.IsClosed() {
			return connected
		}
	}
	return connected
}

// await returns when a notification tells news, or the poll interval is over. Its
// number is not trusted: it may be that of another schema's feed.
func (s *Store) await(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, s.poll)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return
		}
		if seq, err := strconv.ParseUint(n.Payload, 10, 64); err != nil || seq > s.head.Load() {
			return
		}
	}
}

// bounded runs f with a context that ends in time whatever the network does.
func (s *Store) bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readBound)
	defer cancel()
	return f(ctx)
}

// pause waits before the next attempt, or until ctx is done.
func pause(ctx context.Context, attempt int) {
	most := min(maxBackoff, minBackoff<<min(attempt, 16))
	timer := time.NewTimer(most/2 + rand.N(most/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
