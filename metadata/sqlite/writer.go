package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// One transaction holds at most this many calls and, a little more, mutations.
const (
	maxJobs      = 256
	maxMutations = 4096
	// dropSlack is how many changes too many pile up before the oldest go, so
	// that not every transaction has to.
	dropSlack = 1024
)

// A job is one waiting call of Apply.
type job struct {
	ctx       context.Context
	mutations []metadata.Mutation
	err       error
	done      chan struct{}
}

// Apply commits all mutations or none, together with those of other callers.
func (s *Store) Apply(ctx context.Context, mutations ...metadata.Mutation) error {
	j := &job{ctx: ctx, mutations: mutations, done: make(chan struct{})}
	select {
	case <-s.closing:
		return metadata.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	select {
	case s.jobs <- j:
	case <-s.closing:
		return metadata.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// The writer has it now. Its answer takes no longer than a commit, and
	// leaving before would leave the caller in doubt.
	<-j.done
	return j.err
}

// A writer owns the writing connection. Nothing in it is shared but the Store.
type writer struct {
	s      *Store
	seq    uint64 // of the last change, uncommitted ones included
	floor  uint64 // every change up to it was dropped
	writes int    // mutations made since the start, those that the feed does not tell included
	// broken is set when it is not known what the disk holds.
	broken error

	findNote, findID, noteInUse                 *sql.Stmt
	insertNote, insertOccurrence, insertEvent   *sql.Stmt
	deleteNote, deleteOccurrence, keep, dropOld *sql.Stmt
	replaceNote, replaceOccurrence              *sql.Stmt
	insertResource, deleteResource              *sql.Stmt
	insertProject, deleteProjectRow             *sql.Stmt
	findPolicy, putPolicy, deletePolicy         *sql.Stmt

	summaries summaries
	documents documents
}

func newWriter(ctx context.Context, s *Store, seq uint64) (*writer, error) {
	w := &writer{s: s, seq: seq}
	if err := s.conn.QueryRowContext(ctx, "SELECT coalesce(min(seq), 1) - 1 FROM event").Scan(&w.floor); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.findNote, "SELECT row, kind, payload FROM note WHERE parent = ? AND id = ?"},
		{&w.findID, "SELECT row, payload FROM occurrence WHERE id = ? AND parent = ?"},
		{&w.noteInUse, "SELECT EXISTS (SELECT 1 FROM occurrence WHERE note = ?)"},
		{&w.insertNote, "INSERT INTO note (row, parent, id, kind, payload) VALUES (?, ?, ?, ?, ?)"},
		{&w.insertOccurrence, `INSERT INTO occurrence (row, id, parent, note, kind, resource, subject, statement, payload)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.insertEvent, "INSERT INTO event (seq, op, is_note, is_document, payload) VALUES (?, ?, ?, ?, ?)"},
		{&w.deleteNote, "DELETE FROM note WHERE row = ?"},
		{&w.deleteOccurrence, "DELETE FROM occurrence WHERE row = ?"},
		{&w.keep, "UPDATE event SET payload = ? WHERE seq = ? AND payload IS NULL"},
		{&w.dropOld, "DELETE FROM event WHERE seq <= ?"},
		{&w.replaceNote, "UPDATE note SET payload = ? WHERE row = ?"},
		{&w.replaceOccurrence, "UPDATE occurrence SET statement = ?, payload = ? WHERE row = ?"},
		{&w.insertResource, "INSERT OR IGNORE INTO resource (uri, key) VALUES (?, ?)"},
		{&w.deleteResource, "DELETE FROM resource WHERE uri = ? AND NOT EXISTS (SELECT 1 FROM occurrence WHERE resource = ?)"},
		{&w.insertProject, "INSERT INTO project (id) VALUES (?)"},
		{&w.deleteProjectRow, "DELETE FROM project WHERE id = ?"},
		{&w.findPolicy, "SELECT policy FROM policy WHERE resource = ?"},
		{&w.putPolicy, "INSERT OR REPLACE INTO policy (resource, policy) VALUES (?, ?)"},
		{&w.deletePolicy, "DELETE FROM policy WHERE resource = ?"},
		{&w.documents.newest, "SELECT revision, content IS NULL FROM document WHERE name = ? ORDER BY revision DESC LIMIT 1"},
		{&w.documents.insert, "INSERT INTO document (row, name, revision, content, author, time, comment) VALUES (?, ?, ?, ?, ?, ?, ?)"},
		{&w.documents.putHead, "INSERT OR REPLACE INTO document_head (name, row) VALUES (?, ?)"},
		{&w.documents.dropHead, "DELETE FROM document_head WHERE name = ?"},
		{&w.documents.users, "SELECT name FROM document_reference WHERE target = ?1 AND name <> ?1 ORDER BY name LIMIT ?2"},
		{&w.documents.refer, "INSERT OR IGNORE INTO document_reference (target, name) VALUES (?, ?)"},
		{&w.documents.unrefer, "DELETE FROM document_reference WHERE name = ?"},
		{&w.summaries.find, "SELECT payload FROM summary WHERE parent = ? AND resource = ?"},
		{&w.summaries.put, insertSummary},
		{&w.summaries.drop, "DELETE FROM summary WHERE parent = ? AND resource = ?"},
		{&w.summaries.rows, "SELECT payload FROM occurrence WHERE resource = ? AND kind IN (1, 6) AND parent = ? ORDER BY id"},
	} {
		var err error
		//nolint:sqlclosecheck // kept until the connection is closed
		if *p.stmt, err = s.conn.PrepareContext(ctx, p.text); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// run takes jobs until the store closes.
func (w *writer) run() {
	defer close(w.s.written)
	for {
		select {
		case <-w.s.closing:
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
	group, mutations := []*job{first}, len(first.mutations)
	for len(group) < w.s.maxJobs && mutations < maxMutations {
		select {
		case j := <-w.s.jobs:
			group = append(group, j)
			mutations += len(j.mutations)
		default:
			return group
		}
	}
	return group
}

// write commits the group in one transaction, and tells each job how it went.
func (w *writer) write(group []*job) {
	before := w.seq
	err := w.broken
	if err == nil {
		err = w.transact(group)
	}
	if err != nil {
		w.seq = before
		w.recover(err)
		err = describe(err)
		for _, j := range group {
			j.err = err
		}
	} else {
		w.s.head.Advance(w.seq)
	}
	for _, j := range group {
		close(j.done)
	}
}

// transact returns an error only if the whole transaction failed.
func (w *writer) transact(group []*job) error {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	before := w.writes
	w.summaries.forget()
	for _, j := range group {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if err := w.runJob(j); err != nil {
			return err
		}
	}
	if w.writes == before {
		return w.exec("ROLLBACK") // every job was refused
	}
	floor, err := w.compact()
	if err != nil {
		return err
	}
	if err := w.exec("COMMIT"); err != nil {
		return err
	}
	w.floor = floor
	return nil
}

// runJob applies a job's mutations. A refusal by the rules goes to the job and
// leaves the transaction as it was; any other error is returned.
func (w *writer) runJob(j *job) error {
	// A single mutation is refused before it has written anything.
	several := len(j.mutations) > 1
	if several {
		if err := w.exec("SAVEPOINT job"); err != nil {
			return err
		}
	}
	before, writes := w.seq, w.writes
	for i, m := range j.mutations {
		err := w.apply(m)
		if err == nil {
			continue
		}
		refused := refusalIn(err)
		if refused == nil {
			return err
		}
		if j.err = refused; several {
			j.err = fmt.Errorf("item %d of the batch: %w", i, refused)
			if err := w.exec("ROLLBACK TO job"); err != nil {
				return err
			}
		}
		w.seq, w.writes = before, writes
		w.summaries.forget()
		break
	}
	if err := w.summaries.flush(context.Background()); err != nil {
		return err
	}
	if several {
		return w.exec("RELEASE job")
	}
	return nil
}

// compact drops the oldest changes if there are too many, and returns the new floor.
func (w *writer) compact() (uint64, error) {
	if w.seq < w.floor+w.s.keep+dropSlack {
		return w.floor, nil
	}
	floor := w.seq - w.s.keep
	_, err := w.dropOld.ExecContext(context.Background(), floor)
	return floor, err
}

// recover ends a failed transaction. After an I/O error the operating system may
// have thrown away pages that it failed to write, so only opening the file anew
// tells what it holds.
func (w *writer) recover(err error) {
	if w.broken != nil {
		return
	}
	_ = w.exec("ROLLBACK") // fails if SQLite has rolled back already
	if primaryCode(err) == sqlite3.SQLITE_IOERR {
		w.broken = metadata.Errorf(metadata.Unavailable, "the metadata store takes no writes after a disk error; mend the disk and restart: %w", err)
		return
	}
	if seqErr := w.s.conn.QueryRowContext(context.Background(), lastSeq).Scan(&w.seq); seqErr != nil {
		w.broken = metadata.Errorf(metadata.Unavailable, "the metadata store takes no writes after an error; restart it: %w", seqErr)
	}
}

// exec runs a statement to its end: a transaction is shared, so that no caller's
// context may cut it short.
func (w *writer) exec(text string) error {
	_, err := w.s.conn.ExecContext(context.Background(), text)
	return err
}
