package postgres

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// One transaction holds at most this many calls and, a little more, mutations and
// bytes.
const (
	maxJobs      = 256
	maxMutations = 4096
	maxBytes     = 32 << 20
	// dropSlack is how many changes too many pile up before the oldest go, so
	// that not every transaction has to. No transaction drops more than
	// maxDropped, so that none takes long when less are to be kept than before.
	dropSlack  = 1024
	maxDropped = 8 * dropSlack
)

// The bounds on one group of calls.
const (
	// groupBound ends whatever a group waits for.
	groupBound = 30 * time.Second
	// maxRollbacks is how often a transaction that PostgreSQL has rolled back
	// for the sake of another is tried.
	maxRollbacks = 10
)

// A job is one waiting call of Apply.
type job struct {
	ctx        context.Context
	operations []operation
	weight     int
	// begun is set by whoever comes first: the writer when it begins, or the
	// caller when it leaves.
	begun atomic.Bool
	mine  bool // begun by the writer
	err   error
	done  chan struct{}
}

// Apply commits all mutations or none, together with those of other callers.
func (s *Store) Apply(ctx context.Context, mutations ...metadata.Mutation) error {
	select {
	case <-s.closing:
		return metadata.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	j := &job{ctx: ctx, operations: prepareAll(mutations), done: make(chan struct{})}
	for i := range j.operations {
		j.weight += j.operations[i].weight()
	}
	select {
	case s.jobs <- j:
	case <-s.closing:
		return metadata.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// Until the writer has the lock the caller may leave. From then on it takes
	// no longer than a commit, and leaving would leave the caller in doubt.
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.begun.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-j.done
	}
	return j.err
}

// A writer writes for all callers, on a connection of its own.
type writer struct {
	s      *Store
	id     [16]byte
	number int64 // of the transaction, counted by this writer
	conn   *pgx.Conn
}

// run takes jobs until the store closes.
func (w *writer) run() {
	for {
		select {
		case <-w.s.closing:
			w.disconnect()
			return
		case j := <-w.s.jobs:
			w.write(w.gather(j))
		}
	}
}

// gather adds to the first job all that wait already, and does not wait itself.
// Yielding once lets those enqueue that the last commit has just woken.
func (w *writer) gather(first *job) []*job {
	runtime.Gosched()
	group, mutations, bytes := []*job{first}, len(first.operations), first.weight
	for len(group) < w.s.maxJobs && mutations < maxMutations && bytes < maxBytes {
		select {
		case j := <-w.s.jobs:
			group = append(group, j)
			mutations += len(j.operations)
			bytes += j.weight
		default:
			return group
		}
	}
	return group
}

// write commits the group in one transaction, and tells each job how it went.
func (w *writer) write(group []*job) {
	ctx, cancel := context.WithTimeout(context.Background(), groupBound)
	defer cancel()
	err := w.commit(ctx, group)
	for _, j := range group {
		if err != nil {
			j.err = err
		}
		close(j.done)
	}
}

// commit tries until the group is committed, or it is no use. A connection that
// was lost before the commit costs one more attempt, since PostgreSQL may have
// been restarted long ago.
func (w *writer) commit(ctx context.Context, group []*job) error {
	w.number++
	t := &transaction{group: group}
	lost, rollbacks := 0, 0
	for attempt := 0; ; attempt++ {
		err := w.try(ctx, t)
		if err == nil {
			w.s.head.Advance(t.overlay.seq())
			return nil
		}
		gone := w.conn == nil || w.conn.IsClosed()
		switch state := sqlState(err); {
		case ctx.Err() != nil, t.inDoubt && time.Now().After(t.deadline):
			return t.failure(err)
		case t.inDoubt:
			// PostgreSQL may be on its way back, and nobody else knows the answer.
		case gone:
			if lost++; lost > 1 || w.conn == nil {
				return t.failure(err)
			}
			continue
		case len(state) == 5 && state[:2] == rollbackClass:
			if rollbacks++; rollbacks >= maxRollbacks {
				return t.failure(err)
			}
		default:
			return t.failure(err)
		}
		pause(ctx, attempt)
	}
}
