// Package feedclient follows the feed of a metadata service in another place, so that
// a gate needs no access to its store. See package feed for the other end.
//
// A [Client] has two sides: [Client.Evidence] is what package evidence/index follows,
// and [Client.Documents] what package policy/admin does. Both are told only what has
// arrived here: their Head is that, and not the server's, which [Client.Status] tells.
//
// While the server is away nothing is lost: the client comes back with the position it
// has reached and goes on from there. It begins anew, and says so to its followers as
// a store does whose changes were dropped, if the server's history is another one.
package feedclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// MaxMessage bounds what is received at once, in bytes: a document has up to 4 MiB.
	MaxMessage = 8 << 20

	// silence is how long the server may say nothing; it beats every second.
	silence = 15 * time.Second
	// patience is how long a read waits for the server to be there.
	patience = 5 * time.Second

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second

	// maxPositions is how many of the latest positions are remembered with their marks.
	maxPositions = 4096
	// maxScanners bounds those that are remembered.
	maxScanners = 2048
)

// A Position is a place in the feed, with what tells its history from any other.
type Position struct {
	Seq  uint64
	Mark []byte
}

// A State is what a client can go on from.
type State struct {
	Position Position
	// Notes, Projects and Scans are what the evidence there is about: names of notes,
	// ids of projects whose statements were read, and of those whose scans were.
	Notes, Projects, Scans []string
	// Documents are the newest revisions.
	Documents []*metadata.Document
	// Scanners are what the scanners look for, by their notes.
	Scanners map[string]int32
}

// Options configure a Client. Conn, Project and Gate are required.
type Options struct {
	Conn grpc.ClientConnInterface
	// Project is the id of the project whose policy is enforced.
	Project string
	// Cluster and Gate are what the server calls this gate.
	Cluster, Gate string
	// Logger is told when the server goes and comes; nil discards it.
	Logger *slog.Logger
	// Now is time.Now if nil.
	Now func() time.Time
}

// A Client follows a feed. It is safe for concurrent use.
type Client struct {
	opts Options
	feed gatehousev1.FeedClient

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	session *session      // nil while the server is away
	status  Status
	left    bool

	// known is set if there is a position. Through is how far the feed has arrived.
	known     bool
	through   Position
	positions []Position
	interest  map[kind]map[string]bool
	scanners  map[string]int32

	evidence  queue
	documents documents
	applied   uint64
}

// A kind of what is asked for.
type kind int

const (
	aNote kind = iota
	aProject
	aScan
	aDocument
)

// Status tells of the other end.
type Status struct {
	// Connected is set while the stream stands, and Heard is when something was last
	// heard on it; zero if nothing was since the client was made.
	Connected bool
	Heard     time.Time
	// Head is the number of the last change there, as far as is known, and Received
	// that of the last one that has arrived.
	Head, Received uint64
	// Sessions counts the streams there have been, and Resets those on which
	// everything began anew.
	Sessions, Resets uint64
	// Err is why the last stream ended, or could not begin.
	Err error
}

// New returns a Client, which does nothing before [Client.Run].
func New(opts Options) (*Client, error) {
	if opts.Conn == nil || opts.Project == "" || opts.Gate == "" {
		return nil, errors.New("following the feed: a connection, a project and the name of the gate are needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &Client{
		opts: opts, feed: gatehousev1.NewFeedClient(opts.Conn), changed: make(chan struct{}),
		interest: map[kind]map[string]bool{aNote: {}, aProject: {}, aScan: {}, aDocument: {}},
		scanners: make(map[string]int32), documents: newDocuments(),
	}
	return c, nil
}

// Restore has the client go on from a state. It is called before [Client.Run].
func (c *Client) Restore(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reach(s.Position)
	c.evidence.restart(s.Position.Seq)
	for k, names := range map[kind][]string{aNote: s.Notes, aProject: s.Projects, aScan: s.Scans} {
		for _, name := range names {
			c.interest[k][name] = true
		}
	}
	maps.Copy(c.scanners, s.Scanners)
	c.documents.replace(s.Documents, s.Position.Seq)
}

// reach moves the position forward.
func (c *Client) reach(p Position) {
	c.known, c.through, c.status.Received = true, p, p.Seq
	if len(c.positions) == maxPositions {
		c.positions = append(c.positions[:0], c.positions[maxPositions/2:]...)
	}
	c.positions = append(c.positions, p)
}

// PositionAt returns the position after a change, if it is one of the latest at which
// a message ended; a follower that has applied all it was given is at such a one.
func (c *Client) PositionAt(seq uint64) (Position, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := slices.BinarySearchFunc(c.positions, seq, func(p Position, seq uint64) int { return cmpSeq(p.Seq, seq) })
	if !ok {
		return Position{}, false
	}
	return c.positions[i], true
}

func cmpSeq(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Status returns how things stand.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Scanners returns what the scanners that were told of look for.
func (c *Client) Scanners() map[string]int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.scanners)
}

// Synced returns when the server has been reached, all documents are here, and what it
// had then has arrived; or with ctx's error.
func (c *Client) Synced(ctx context.Context) error {
	return c.await(ctx, func() bool {
		return c.session != nil && c.session.documented && c.through.Seq >= c.session.head
	})
}

// await returns when the condition, which is asked while c is locked, holds.
func (c *Client) await(ctx context.Context, done func() bool) error {
	for {
		c.mu.Lock()
		ok, changed := done(), c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake tells those who wait that something has changed. c is locked.
func (c *Client) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Run follows the feed until ctx ends, and comes back whenever a stream has ended.
func (c *Client) Run(ctx context.Context) error {
	backoff, said := minBackoff, ""
	for {
		begun := c.opts.Now()
		err := c.follow(ctx)
		if ctx.Err() != nil || c.hasLeft() {
			return nil //nolint:nilerr // it was told to stop
		}
		if c.opts.Now().Sub(begun) > maxBackoff {
			backoff = minBackoff
		}
		if text := err.Error(); text != said {
			said = text
			c.opts.Logger.Warn("the metadata service is away; deciding by what is in memory, and trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff/2 + rand.N(backoff/2+1)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// follow opens a stream, and follows it until it ends.
func (c *Client) follow(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
		c.mu.Lock()
		c.status.Err = err
		c.mu.Unlock()
	}()
	quiet := time.AfterFunc(silence, func() {
		cancel(metadata.Errorf(metadata.Unavailable, "the metadata service has said nothing for %s", silence))
	})
	defer quiet.Stop()
	stream, err := c.feed.Watch(ctx)
	if err != nil {
		return told(err)
	}
	if err := stream.Send(c.open()); err != nil && !errors.Is(err, io.EOF) {
		return told(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return told(err)
	}
	s := newSession(c, stream)
	if err := c.welcome(s, first); err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		c.session, c.status.Connected = nil, false
		c.wake()
		c.mu.Unlock()
		s.end(err)
	}()
	stop := context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	defer stop()
	for {
		quiet.Reset(silence)
		m, err := stream.Recv()
		if err != nil {
			return told(err)
		}
		if err := c.take(s, m); err != nil {
			return err
		}
	}
}

// told makes an error of gRPC one of ours.
func told(err error) error {
	st := status.Convert(err)
	if st.Code() == codes.Unimplemented {
		return metadata.Errorf(metadata.Unimplemented, "the metadata service has no such feed; it may be older than this gate: %s", st.Message())
	}
	return metadata.Errorf(metadata.KindOfCode(st.Code()), "%s", st.Message())
}

func (c *Client) open() *gatehousev1.WatchRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := &gatehousev1.Open{Project: c.opts.Project, Cluster: c.opts.Cluster, Gate: c.opts.Gate, Interest: c.asked()}
	open.Interest.Documents = slices.Sorted(maps.Keys(c.interest[aDocument]))
	open.Interest.Scanners = slices.Sorted(maps.Keys(c.scanners))
	if c.known {
		open.Position = &gatehousev1.Position{Seq: c.through.Seq, Mark: c.through.Mark}
	}
	return &gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Open{Open: open}}
}

// asked returns the evidence that is of interest. c is locked.
func (c *Client) asked() *gatehousev1.Interest {
	return &gatehousev1.Interest{
		Notes:    slices.Sorted(maps.Keys(c.interest[aNote])),
		Projects: slices.Sorted(maps.Keys(c.interest[aProject])),
		Scans:    slices.Sorted(maps.Keys(c.interest[aScan])),
	}
}

// Keep drops what is not needed any more from what is asked for.
func (c *Client) Keep(notes, projects, scans []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, names := range map[kind][]string{aNote: notes, aProject: projects, aScan: scans} {
		maps.DeleteFunc(c.interest[k], func(name string, _ bool) bool { return !slices.Contains(names, name) })
	}
}

// welcome begins a session.
func (c *Client) welcome(s *session, m *gatehousev1.WatchResponse) error {
	w := m.GetWelcome()
	if w.GetPosition() == nil {
		return metadata.Errorf(metadata.Internal, "the metadata service does not begin with a position")
	}
	at := Position{w.GetPosition().GetSeq(), w.GetPosition().GetMark()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.GetResumed() && (!c.known || at.Seq != c.through.Seq) {
		return metadata.Errorf(metadata.Internal, "the metadata service goes on from another position than was asked for")
	}
	if !w.GetResumed() {
		if c.known {
			c.status.Resets++
			c.evidence.anew = true
			c.opts.Logger.Warn("the metadata service has another history than this gate, which begins anew", "position", c.through.Seq, "head", at.Seq)
		}
		c.positions = nil
		c.reach(at)
		c.evidence.restart(at.Seq)
	}
	s.at, s.head = at.Seq, max(w.GetHead(), at.Seq)
	c.session, c.applied = s, 0
	c.status.Connected, c.status.Heard, c.status.Head, c.status.Err = true, c.opts.Now(), s.head, nil
	c.status.Sessions++
	c.wake()
	c.opts.Logger.Info("following the metadata service", "position", at.Seq, "head", s.head, "resumed", w.GetResumed())
	return nil
}

// take takes in one message.
func (c *Client) take(s *session, m *gatehousev1.WatchResponse) error {
	if err := checkKnown(m); err != nil {
		return err
	}
	switch kind := m.GetKind().(type) {
	case *gatehousev1.WatchResponse_Part:
		return c.takePart(s, kind.Part)
	case *gatehousev1.WatchResponse_Changes:
		return c.takeChanges(s, kind.Changes)
	case *gatehousev1.WatchResponse_Beat:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hear(kind.Beat.GetHead())
		return nil
	}
	return metadata.Errorf(metadata.Internal, "the metadata service sends what has no place here")
}

// hear tells that the server is there. c is locked.
func (c *Client) hear(head uint64) {
	c.status.Heard, c.status.Head = c.opts.Now(), max(head, c.through.Seq)
}

func (c *Client) takePart(s *session, p *gatehousev1.Part) error {
	if p.GetId() != 0 {
		return s.part(p)
	}
	if s.documented {
		return metadata.Errorf(metadata.Internal, "the metadata service sends the documents twice")
	}
	for _, d := range p.GetDocuments() {
		s.documents = append(s.documents, documentFrom(d))
	}
	if len(s.documents) > maxDocuments {
		return metadata.Errorf(metadata.ResourceExhausted, "the metadata service sends more than %d documents", maxDocuments)
	}
	if !p.GetLast() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hear(c.status.Head)
	c.documents.replace(s.documents, s.at)
	s.documented, s.documents = true, nil
	c.wake()
	return nil
}

// takeChanges takes in a message of changes.
func (c *Client) takeChanges(s *session, m *gatehousev1.Changes) error {
	c.mu.Lock()
	through, err := c.file(m)
	if err == nil {
		c.hear(m.GetHead())
		c.wake()
	}
	c.mu.Unlock()
	if through {
		s.took(0)
	}
	return err
}

// file files changes, which have to follow on what has arrived before, and reports
// whether they are through: no follower of evidence has to take them in. c is locked.
func (c *Client) file(m *gatehousev1.Changes) (done bool, err error) {
	through := Position{m.GetThrough().GetSeq(), m.GetThrough().GetMark()}
	if m.GetAfter() != c.through.Seq || through.Seq < m.GetAfter() {
		return false, metadata.Errorf(metadata.Aborted, "changes are missing: after number %d come those after %d, through %d", c.through.Seq, m.GetAfter(), through.Seq)
	}
	b := batch{through: through.Seq, summaries: make(map[resource]*metadata.Summary)}
	var texts []textChange
	at := m.GetAfter()
	for _, change := range m.GetChanges() {
		if change.GetSeq() <= at || change.GetSeq() > through.Seq {
			return false, metadata.Errorf(metadata.Aborted, "change %d is out of order, after %d and through %d", change.GetSeq(), at, through.Seq)
		}
		at = change.GetSeq()
		if d := change.GetDocument(); d != nil {
			texts = append(texts, textChange{seq: at, document: documentFrom(d)})
			continue
		}
		converted, err := b.convert(change)
		if err != nil {
			return false, err
		}
		b.changes = append(b.changes, converted)
	}
	for _, t := range texts {
		c.documents.put(t)
	}
	for name, analysis := range b.scanners {
		c.learnScanner(name, analysis)
	}
	c.reach(through)
	return c.evidence.push(b) && len(m.GetChanges()) > 0, nil
}

func (c *Client) learnScanner(name string, analysis int32) {
	if _, known := c.scanners[name]; !known && len(c.scanners) >= maxScanners {
		for forgotten := range c.scanners {
			delete(c.scanners, forgotten)
			break
		}
	}
	c.scanners[name] = analysis
}

// Applied tells how far decisions rest on what has arrived: all evidence through a
// number, and the documents of a version that [Documents.Head] has told.
func (c *Client) Applied(evidence, documents uint64) {
	c.mu.Lock()
	c.documents.apply(documents)
	seq := min(evidence, c.through.Seq)
	if before, pending := c.documents.pending(); pending {
		seq = min(seq, before)
	}
	s := c.session
	if s == nil || seq <= c.applied {
		c.mu.Unlock()
		return
	}
	c.applied = seq
	c.mu.Unlock()
	s.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Applied{Applied: &gatehousev1.Applied{Seq: seq}}})
}

// A Gate is one that follows the feed, or has gone without taking leave.
type Gate struct {
	Cluster, Gate string
	// Applied is set if it decides by the change that was asked about.
	Applied bool
}

// Barrier waits until all gates of the project decide by a change, that of number seq, or
// until shortly before ctx's deadline, and returns which do.
func (c *Client) Barrier(ctx context.Context, seq uint64) ([]Gate, error) {
	answer, err := c.feed.Barrier(ctx, &gatehousev1.BarrierRequest{Project: c.opts.Project, Seq: seq})
	if err != nil {
		return nil, fmt.Errorf("asking which gates have applied change %d: %w", seq, err)
	}
	var gates []Gate
	for _, g := range answer.GetGates() {
		gates = append(gates, Gate{Cluster: g.GetCluster(), Gate: g.GetGate(), Applied: g.GetConnected() && g.GetApplied() >= seq})
	}
	return gates, nil
}

// Leave tells the server that this gate ends, and returns when it knows, or with ctx's
// error. After it [Client.Run] follows no more.
func (c *Client) Leave(ctx context.Context) error {
	c.mu.Lock()
	s := c.session
	c.left = true
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	s.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Leave{Leave: &gatehousev1.Leave{}}})
	s.close()
	return c.await(ctx, func() bool { return c.session == nil })
}

func (c *Client) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// away is the error of what needs the server while it is not there.
func (c *Client) away() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Err != nil {
		return metadata.Errorf(metadata.Unavailable, "the metadata service is away: %w", c.status.Err)
	}
	return metadata.Errorf(metadata.Unavailable, "the metadata service is away")
}

// read asks for one thing, and calls take with its parts. It is told of in changes from
// now on.
func (c *Client) read(ctx context.Context, k kind, name string, take func(*gatehousev1.Part) error) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var s *session
	err := c.await(waiting, func() bool {
		if s = c.session; s != nil {
			c.interest[k][name] = true
		}
		return s != nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.away()
	}
	return s.read(ctx, k, name, take)
}
