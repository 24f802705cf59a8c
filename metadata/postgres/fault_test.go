package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func note(id string) metadata.Mutation {
	return metadata.Mutation{CreateNote: &grafeas.Note{Name: "projects/p/notes/" + id, Kind: grafeas.NoteKind_SECRET}}
}

// openDialed opens a store whose connections dial makes.
func openDialed(t *testing.T, connString string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Store {
	t.Helper()
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	if dial != nil {
		config.ConnConfig.DialFunc = dial
	}
	s, err := open(t.Context(), config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A cut breaks one connection: where the text in it is first written.
type cut struct {
	text []byte
	// late lets PostgreSQL have it, and loses the answer.
	late bool
	done atomic.Bool
}

func (c *cut) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	return &cutConn{Conn: conn, cut: c}, err
}

type cutConn struct {
	net.Conn
	cut    *cut
	broken atomic.Bool
}

func (c *cutConn) Write(p []byte) (int, error) {
	if !bytes.Contains(p, c.cut.text) || !c.cut.done.CompareAndSwap(false, true) {
		return c.Conn.Write(p)
	}
	c.broken.Store(true)
	if c.cut.late {
		return c.Conn.Write(p)
	}
	return len(p), c.Close()
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() && err == nil {
		_ = c.Close() // the answer has come, and gets lost
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func TestALostAnswerToACommitIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"before PostgreSQL has it": false, "after it has committed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cut{text: []byte("cut here"), late: late}
			s := openDialed(t, kit.Database(t), c.dial)
			m := note("n")
			m.CreateNote.ShortDescription = "cut here"
			if err := s.Apply(t.Context(), m, metadata.Mutation{CreateProject: "made"}); err != nil {
				t.Fatal(err)
			}
			if !c.done.Load() {
				t.Fatal("no connection was cut; the test tests nothing")
			}
			// Neither lost nor written twice, and the next is numbered after it.
			if err := s.Apply(t.Context(), note("next")); err != nil {
				t.Fatal(err)
			}
			changes, err := s.Changes(t.Context(), 0, 10)
			if err != nil || len(changes) != 2 || changes[0].Note.GetName() != "projects/p/notes/n" || s.Head() != 2 {
				t.Errorf("the feed is %v up to %d, error %v", changes, s.Head(), err)
			}
		})
	}
}

func TestACommitOfUnknownOutcomeIsTold(t *testing.T) {
	t.Parallel()
	c := &cut{text: []byte("cut here"), late: true}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := openDialed(t, kit.Database(t), func(dialing context.Context, network, address string) (net.Conn, error) {
		if c.done.Load() {
			cancel() // the time to find out is over
			return nil, errors.New("no way back")
		}
		return c.dial(dialing, network, address)
	})
	m := note("n")
	m.CreateNote.ShortDescription = "cut here"
	j := &job{ctx: t.Context(), operations: prepareAll([]metadata.Mutation{m}), done: make(chan struct{})}
	err := (&writer{s: s, id: [16]byte{1}}).commit(ctx, []*job{j})
	if metadata.KindOf(err) != metadata.Unavailable || !strings.Contains(err.Error(), "unknown whether that was kept") {
		t.Errorf("got error %v, want Unavailable", err)
	}
}

// TestARefusedCallLeavesItsGroupAlone commits several calls in one transaction,
// some of which are refused halfway.
func TestARefusedCallLeavesItsGroupAlone(t *testing.T) {
	t.Parallel()
	s := openDialed(t, kit.Database(t), nil)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	newJob := func(ctx context.Context, mutations ...metadata.Mutation) *job {
		return &job{ctx: ctx, operations: prepareAll(mutations), done: make(chan struct{})}
	}
	group := []*job{
		newJob(t.Context(), note("a")),
		newJob(t.Context(), note("half"), note("a")),
		newJob(t.Context(), note("a")),
		newJob(canceled, note("late")),
		newJob(t.Context(), note("b"), note("c")),
	}
	left := newJob(t.Context(), note("left"))
	left.begun.Store(true) // its caller has gone
	group = append(group, left)
	w := &writer{s: s, id: [16]byte{1}}
	defer w.disconnect()
	w.write(group)
	for i, want := range []metadata.Kind{-1, metadata.AlreadyExists, metadata.AlreadyExists, metadata.Canceled, -1} {
		if err := group[i].err; (err == nil) != (want < 0) || err != nil && metadata.KindOf(err) != want {
			t.Errorf("call %d: got error %v, want kind %v", i, err, want)
		}
	}
	changes, err := s.Changes(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, c := range changes {
		told = append(told, fmt.Sprint(c.Seq, " ", strings.TrimPrefix(c.Note.GetName(), "projects/p/notes/")))
	}
	if got := strings.Join(told, ", "); got != "1 a, 2 b, 3 c" || s.Head() != 3 {
		t.Errorf("the feed tells %q up to %d", got, s.Head())
	}
}

func TestACallerMayLeaveWhileAnotherClientHoldsTheLock(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	s := openDialed(t, database, nil)
	other, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.Background()) }()
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), lockFeed); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- s.Apply(ctx, note("left")) }()
	// Not in the transaction, which sees the activity of one moment.
	watch, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(context.Background()) }()
	const waiting = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
	for found := false; !found; {
		if err := watch.QueryRow(t.Context(), waiting).Scan(&found); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want Canceled", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), note("next")); err != nil {
		t.Fatal(err)
	}
	_, err = s.Note(t.Context(), metadata.NoteName{Parent: metadata.Parent{Project: "p"}, ID: "left"})
	if metadata.KindOf(err) != metadata.NotFound || s.Head() != 1 {
		t.Errorf("what its caller has left: error %v, head %d", err, s.Head())
	}
}

// TestClosingWhileWriting checks that each write is either stored and
// acknowledged, or refused.
func TestClosingWhileWriting(t *testing.T) {
	t.Parallel()
	database := kit.Database(t)
	s := openDialed(t, database, nil)
	var acknowledged atomic.Int64
	enough := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := 0; ; n++ {
				err := s.Apply(context.Background(), note(fmt.Sprintf("n%d-%d", w, n)))
				if errors.Is(err, metadata.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if acknowledged.Add(1) == 50 {
					close(enough)
				}
			}
		})
	}
	<-enough
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	if got := openDialed(t, database, nil).Head(); got != uint64(acknowledged.Load()) {
		t.Errorf("%d notes are stored, %d were acknowledged", got, acknowledged.Load())
	}
}

// TestCommitsAreFlushed checks the settings that no killed process can: only a
// power failure would show that they are wrong.
func TestCommitsAreFlushed(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply"} {
		database := kit.Database(t)
		s := openDialed(t, database+" options='-c synchronous_commit="+set+"'", nil)
		w := &writer{s: s}
		if err := w.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := w.conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got); err != nil || got != want {
			t.Errorf("synchronous_commit %s: writers have %q, error %v; want %q", set, got, err, want)
		}
		w.disconnect()
	}
}

func TestTextsThatBeginAlikeAreBetweenTwo(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"": "", "a": "b", "a\x7f": "a\u0080", "ä": "å", "a\ud7ff": "a\ue000", "a\U0010ffff": "b", "\U0010ffff": "",
	} {
		if got := afterPrefix(prefix); got != want {
			t.Errorf("after all that begin with %q comes %q, want %q", prefix, got, want)
		}
	}
}
