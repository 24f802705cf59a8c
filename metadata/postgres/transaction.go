package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// doubtBound is how long a store tries to learn whether a commit was kept.
const doubtBound = 10 * time.Second

// A transaction is a group of jobs, and how far it has come.
type transaction struct {
	group   []*job
	overlay *overlay
	// inDoubt is set when the commit was sent and not answered, and deadline
	// then ends the attempts to learn what became of it.
	inDoubt  bool
	deadline time.Time
}

// failure describes the error that ends the attempts.
func (t *transaction) failure(err error) error {
	if t.inDoubt {
		return metadata.Errorf(metadata.Unavailable,
			"the connection to PostgreSQL was lost in a commit, and it is unknown whether that was kept; read before trying again: %w", err)
	}
	return describe(err)
}

// try is one attempt: a round trip to lock and read, the rules, and a round trip to
// write and commit.
func (w *writer) try(ctx context.Context, t *transaction) error {
	if t.inDoubt {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, t.deadline)
		defer cancel()
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	n := &needs{}
	for _, j := range t.group {
		for i := range j.operations {
			n.add(&j.operations[i])
		}
	}
	o, done, err := w.fetch(ctx, n)
	if err != nil {
		return w.abandon(ctx, err)
	}
	if t.inDoubt && done == w.number {
		return w.abandon(ctx, nil) // it was kept
	}
	t.inDoubt, t.overlay = false, o
	t.run()
	if err := o.rebuild(ctx, w.conn); err != nil {
		return w.abandon(ctx, err)
	}
	b := &pgx.Batch{}
	if some, err := o.queueChanges(b); err != nil || !some {
		return w.abandon(ctx, err) // nothing is left to be written
	}
	w.queueEnd(b, o)
	err = w.conn.SendBatch(ctx, b).Close()
	if err == nil {
		return nil
	}
	// What ends the connection may have come after the commit.
	if w.conn.IsClosed() {
		t.inDoubt, t.deadline = true, time.Now().Add(doubtBound)
	}
	return w.abandon(ctx, err)
}

// run applies the rules to the jobs whose callers still wait.
func (t *transaction) run() {
	for _, j := range t.group {
		if !j.mine {
			if j.mine = j.begun.CompareAndSwap(false, true); !j.mine {
				continue // the caller has left
			}
			if j.err = j.ctx.Err(); j.err != nil {
				j.operations = nil
			}
		}
		if j.operations != nil {
			j.err = t.overlay.run(j.operations)
		}
	}
}

// sessionSettings make PostgreSQL itself end what a writer that it has lost sight
// of holds up, and make commits durable.
const sessionSettings = `SELECT set_config('lock_timeout', '10s', false),
	set_config('idle_in_transaction_session_timeout', '10s', false),
	set_config('statement_timeout', '30s', false),
	set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
		ELSE current_setting('synchronous_commit') END, false)`

// connect connects unless the writer is connected.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.conn = nil
	conn, err := pgx.ConnectConfig(ctx, w.s.config)
	if err != nil {
		return err
	}
	if err = setPlanner(ctx, conn); err == nil {
		_, err = conn.Exec(ctx, sessionSettings)
	}
	if err != nil {
		_ = conn.Close(ctx) // the first error is the one that counts
		return err
	}
	w.conn = conn
	return nil
}

// abandon ends a transaction that is not committed, and returns err. A connection
// on which that fails is of no more use.
func (w *writer) abandon(ctx context.Context, err error) error {
	if w.conn.IsClosed() {
		return err
	}
	if _, rollbackErr := w.conn.Exec(ctx, "ROLLBACK"); rollbackErr != nil {
		_ = w.conn.Close(ctx) // PostgreSQL rolls back what was open
	}
	return err
}

// disconnect leaves no trace in the table writer, if it can.
func (w *writer) disconnect() {
	if w.conn == nil || w.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectBound)
	defer cancel()
	_, _ = w.conn.Exec(ctx, "DELETE FROM writer WHERE id = $1", w.id) // Open removes old ones
	_ = w.conn.Close(ctx)                                             // nothing hangs on how it ends
}
