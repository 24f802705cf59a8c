package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

const (
	// openTimeout is how long the first message may take.
	openTimeout = 10 * time.Second
	// headTimeout is how long a position is waited for that this server has not seen:
	// another one, of which the gate has it, may be a moment ahead.
	headTimeout = 2 * time.Second
	// maxMessage is where messages end, in bytes, but for one thing that has more.
	maxMessage = 256 << 10
	// maxItems bounds the changes or occurrences of a message.
	maxItems = 500
	// window is how many parts of a snapshot may be under way, and ahead how many
	// messages of changes: a gate that applies them slowly has so many in its memory.
	window = 4
	ahead  = 64
	// quiet is how often a gate is told, at most, that there was nothing for it.
	quiet = 50 * time.Millisecond
)

type stream = grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]

// A watcher is a stream of a gate.
type watcher struct {
	s      *Service
	stream stream
	key    gateKey
	caller metadata.Caller

	// at is up to where changes have been looked at, by pump alone.
	trail *trail

	sending sync.Mutex
	told    *gatehousev1.Position // through which the gate was told last
	passed  *gatehousev1.Position // through which there is nothing more for it
	last    time.Time             // of the last message of changes

	mu       sync.RWMutex
	interest *interest
	credits  map[uint64]chan struct{}
	lastWant uint64
	left     bool

	wants chan *gatehousev1.Want
	// under has a place for each message of changes that was not taken in yet.
	under chan struct{}
}

// watch is one call: it is recorded when it begins, and when it ends.
func (s *Service) watch(ctx context.Context, caller metadata.Caller, stream stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := receive(ctx, stream)
	open, err := first(ctx, requests)
	if err != nil {
		return err
	}
	resource := projectName(open.GetProject())
	if _, err := metadata.Do(ctx, s.svc, caller, "Watch", resource, func(c *metadata.Call) (struct{}, error) {
		return struct{}{}, checkOpen(ctx, c, open)
	}); err != nil {
		return err
	}
	err = s.follow(ctx, caller, stream, open, requests)
	_, _ = metadata.Do(context.WithoutCancel(ctx), s.svc, caller, "WatchEnd", resource, func(*metadata.Call) (struct{}, error) {
		if ended(err) {
			return struct{}{}, nil
		}
		return struct{}{}, err
	})
	return err
}

// A received message, or the error that ended the stream.
type received struct {
	*gatehousev1.WatchRequest
	err error
}

// receive reads what the gate sends. Nothing waits in memory but one message.
func receive(ctx context.Context, stream stream) <-chan received {
	requests := make(chan received)
	go func() {
		for {
			request, err := stream.Recv()
			select {
			case requests <- received{request, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return requests
}

func first(ctx context.Context, requests <-chan received) (*gatehousev1.Open, error) {
	timer := time.NewTimer(openTimeout)
	defer timer.Stop()
	select {
	case r := <-requests:
		if r.err != nil {
			return nil, r.err
		}
		if open := r.GetOpen(); open != nil {
			return open, nil
		}
		return nil, metadata.Errorf(metadata.InvalidArgument, "the first message of a gate is open")
	case <-timer.C:
		return nil, metadata.Errorf(metadata.DeadlineExceeded, "the gate has not said what it wants")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func checkOpen(ctx context.Context, c *metadata.Call, open *gatehousev1.Open) error {
	if err := checkProject(open.GetProject()); err != nil {
		return err
	}
	if err := checkKnown(open); err != nil {
		return err
	}
	for what, name := range map[string]string{"cluster": open.GetCluster(), "gate": open.GetGate()} {
		if len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) || what == "gate" && name == "" {
			return metadata.Errorf(metadata.InvalidArgument, "%s %q: want a name of at most %d bytes without spaces", what, clip(name), maxName)
		}
	}
	return permit(ctx, c, open.GetProject(), open.GetInterest())
}

// checkKnown refuses what a newer gate asks for and this server does not know: it would
// not be told of it, and believe that there is nothing.
func checkKnown(m proto.Message) error {
	if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		return metadata.Errorf(metadata.Unimplemented, "the gate asks for what this server does not know; upgrade the server first")
	}
	switch m := m.(type) {
	case *gatehousev1.Open:
		if m.GetInterest() != nil {
			return checkKnown(m.GetInterest())
		}
	case *gatehousev1.Want:
		if m.GetInterest() != nil {
			return checkKnown(m.GetInterest())
		}
	}
	return nil
}

// follow serves a stream that may be.
func (s *Service) follow(ctx context.Context, caller metadata.Caller, stream stream, open *gatehousev1.Open, requests <-chan received) error {
	at, resumed, err := s.begin(ctx, open.GetPosition())
	if err != nil {
		return err
	}
	w := &watcher{
		s: s, stream: stream, caller: caller, key: gateKey{open.GetProject(), open.GetCluster(), open.GetGate(), caller.Name},
		trail: at, told: at.position(), interest: newInterest(open.GetProject()),
		credits: make(map[uint64]chan struct{}), wants: make(chan *gatehousev1.Want, maxInterest),
		under: make(chan struct{}, ahead),
	}
	w.passed = w.told
	w.interest.add(open.GetInterest())
	end, err := s.gates.join(w, 0)
	if err != nil {
		return err
	}
	defer func() { end(w.hasLeft()) }()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.answer(ctx, requests) })
	group.Go(func() error {
		welcome := &gatehousev1.Welcome{Position: w.told, Resumed: resumed, Head: s.svc.Head()}
		if err := w.send(&gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Welcome{Welcome: welcome}}); err != nil {
			return err
		}
		group.Go(func() error { return w.beat(ctx) })
		group.Go(func() error { return w.pump(ctx) })
		return w.snapshots(ctx)
	})
	return group.Wait()
}

// begin returns where a gate goes on, or the head if it has to begin anew.
func (s *Service) begin(ctx context.Context, position *gatehousev1.Position) (at *trail, resumed bool, err error) {
	if position != nil && position.GetSeq() > s.svc.Head() {
		waiting, cancel := context.WithTimeout(ctx, headTimeout)
		_ = s.svc.Wait(waiting, position.GetSeq()-1) // or it is not there
		cancel()
	}
	if position != nil && position.GetSeq() <= s.svc.Head() {
		at, err := s.trailTo(ctx, position.GetSeq())
		switch {
		case err == nil && proto.Equal(at.position(), position):
			return at, true, nil
		case err != nil && !errors.Is(err, metadata.ErrCompacted):
			return nil, false, err
		}
		s.opts.Logger.Warn("a gate has a history that this store has not, and begins anew", "position", position.GetSeq())
	}
	at, err = s.trailTo(ctx, s.svc.Head())
	return at, false, err
}

func (w *watcher) hasLeft() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.left
}

// answer takes what the gate sends, until the stream ends.
func (w *watcher) answer(ctx context.Context, requests <-chan received) error {
	life := time.NewTimer(w.s.opts.Life - time.Duration(rand.Int64N(int64(w.s.opts.Life/10)+1)))
	defer life.Stop()
	for {
		select {
		case r := <-requests:
			if errors.Is(r.err, io.EOF) {
				return context.Canceled // the gate has ended the stream
			}
			if r.err != nil {
				return r.err
			}
			if err := w.take(ctx, r.WatchRequest); err != nil {
				return err
			}
		case <-life.C:
			return errRenew
		case <-w.s.stop:
			return errStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watcher) take(ctx context.Context, r *gatehousev1.WatchRequest) error {
	switch kind := r.GetKind().(type) {
	case *gatehousev1.WatchRequest_Want:
		return w.want(ctx, kind.Want)
	case *gatehousev1.WatchRequest_Took:
		if kind.Took.GetId() == 0 {
			select {
			case <-w.under:
			default: // more than there were
			}
			return nil
		}
		w.mu.RLock()
		credit := w.credits[kind.Took.GetId()]
		w.mu.RUnlock()
		select {
		case credit <- struct{}{}:
		default: // more than there were parts, or of one that is through
		}
	case *gatehousev1.WatchRequest_Applied:
		w.s.gates.apply(w, kind.Applied.GetSeq())
	case *gatehousev1.WatchRequest_Leave:
		w.mu.Lock()
		w.left = true
		w.mu.Unlock()
	default:
		return metadata.Errorf(metadata.Unimplemented, "the gate sends what this server does not know; upgrade the server first")
	}
	return nil
}

// want adds to the interest before it is read, so that no change is missed. What is
// refused ends that want and not the stream.
func (w *watcher) want(ctx context.Context, want *gatehousev1.Want) error {
	asked := want.GetInterest()
	if size(asked) != 1 || len(asked.GetScanners()) > 0 || want.GetId() <= w.lastWant {
		return metadata.Errorf(metadata.InvalidArgument, "a want is for one thing, and has an id greater than those before")
	}
	w.lastWant = want.GetId()
	_, err := metadata.Do(ctx, w.s.svc, w.caller, "WatchWant", projectName(w.key.project), func(c *metadata.Call) (struct{}, error) {
		if err := checkKnown(want); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, permit(ctx, c, w.key.project, asked)
	})
	if err != nil {
		return w.refuse(want.GetId(), err)
	}
	w.mu.Lock()
	w.interest.add(asked)
	full := w.interest.size() > 2*maxInterest
	w.credits[want.GetId()] = make(chan struct{}, window)
	w.mu.Unlock()
	if full {
		return metadata.Errorf(metadata.ResourceExhausted, "the gate has asked for too much on one stream")
	}
	select {
	case w.wants <- want:
		return nil
	default:
		return metadata.Errorf(metadata.ResourceExhausted, "the gate asks for more than it takes")
	}
}

func (w *watcher) refuse(id uint64, err error) error {
	kind, text := metadata.KindOf(err), err.Error()
	if kind == metadata.Internal {
		w.s.opts.Logger.Error("reading for a gate", "gate", w.key.gate, "error", err)
		text = "internal error; the server's log has its cause"
	}
	return w.sendPart(&gatehousev1.Part{Id: id, Last: true, Code: int32(kind.Code()), Error: text})
}

func (w *watcher) sendPart(p *gatehousev1.Part) error {
	return w.send(&gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Part{Part: p}})
}

// send sends one message. A gate that does not take it in time is hung up on, which
// frees whatever waits here.
func (w *watcher) send(m *gatehousev1.WatchResponse) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	return w.sendLocked(m)
}

func (w *watcher) sendLocked(m *gatehousev1.WatchResponse) error {
	if err := grafeasapi.SetWriteDeadline(w.stream.Context(), time.Now().Add(w.s.opts.Stall)); err != nil {
		return fmt.Errorf("bounding the time of a gate: %w", err)
	}
	return w.stream.Send(m)
}

// beat tells the gate that the server is there, and how far it is.
func (w *watcher) beat(ctx context.Context) error {
	tick := time.NewTicker(w.s.opts.Beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.sending.Lock()
		err := w.pass(0)
		if err == nil {
			err = w.sendLocked(&gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Beat{Beat: &gatehousev1.Beat{Head: w.s.svc.Head()}}})
		}
		w.sending.Unlock()
		if err != nil {
			return err
		}
	}
}

// pass tells through which number there was nothing for the gate, unless it was told
// something a moment ago. It is called while sending.
func (w *watcher) pass(moment time.Duration) error {
	if w.passed.GetSeq() <= w.told.GetSeq() || time.Since(w.last) < moment {
		return nil
	}
	return w.tellLocked(nil, w.passed)
}

func (w *watcher) tellLocked(changes []*gatehousev1.Change, through *gatehousev1.Position) error {
	m := &gatehousev1.Changes{After: w.told.GetSeq(), Changes: changes, Through: through, Head: max(w.s.svc.Head(), through.GetSeq())}
	w.told, w.last = through, time.Now()
	return w.sendLocked(&gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Changes{Changes: m}})
}

// pump sends changes as they commit.
func (w *watcher) pump(ctx context.Context) error {
	for {
		changes, err := w.s.tail.after(ctx, w.trail.seq)
		if errors.Is(err, metadata.ErrCompacted) {
			return metadata.Errorf(metadata.Aborted, "the history of the store is another one now: begin anew")
		}
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			if err := w.s.svc.Wait(ctx, w.trail.seq); err != nil {
				return err
			}
			continue
		}
		if err := w.tell(ctx, changes); err != nil {
			return err
		}
	}
}

// tell sends what of some changes is of interest.
func (w *watcher) tell(ctx context.Context, changes []metadata.Change) error {
	var m message
	flush := func() error {
		through := w.trail.position()
		if len(m.changes) > 0 {
			select {
			case w.under <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.sending.Lock()
		defer w.sending.Unlock()
		w.passed = through
		if len(m.changes) == 0 {
			return w.pass(quiet)
		}
		err := w.tellLocked(m.changes, through)
		m = message{}
		return err
	}
	for _, c := range changes {
		w.trail.add(c)
		if err := w.convert(ctx, c, &m); err != nil {
			return err
		}
		if m.bytes > maxMessage || len(m.changes) >= maxItems {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// A message is being put together.
type message struct {
	changes []*gatehousev1.Change
	bytes   int
	scans   map[string]bool // resources whose summaries are in it
}

func (m *message) add(c *gatehousev1.Change) {
	m.changes, m.bytes = append(m.changes, c), m.bytes+proto.Size(c)
}

// convert adds a change if it is of interest.
func (w *watcher) convert(ctx context.Context, c metadata.Change, m *message) error {
	change := &gatehousev1.Change{Seq: c.Seq, Op: opOf(c.Op)}
	switch {
	case c.Document != nil:
		if w.wantsDocument(c.Document.Name) {
			change.Kind = &gatehousev1.Change_Document{Document: documentOf(c.Document)}
			m.add(change)
		}
	case c.Note.GetKind() == grafeas.NoteKind_DISCOVERY:
		if w.wantsScanner(c.Note.GetName()) {
			change.Kind = &gatehousev1.Change_Scanner{Scanner: &gatehousev1.Scanner{Note: c.Note.GetName(), Analysis: int32(c.Note.GetDiscovery().GetAnalysisKind())}}
			m.add(change)
		}
	case metadata.Summarized(c.Occurrence.GetKind()):
		return w.convertScan(ctx, c, change, m)
	case c.Occurrence != nil:
		if !w.wantsStatement(c.Occurrence) {
			return nil
		}
		raw, err := proto.Marshal(c.Occurrence)
		if err != nil {
			return fmt.Errorf("encoding occurrence %q: %w", c.Occurrence.GetName(), err)
		}
		change.Kind = &gatehousev1.Change_Occurrence{Occurrence: raw}
		m.add(change)
	}
	return nil
}

// convertScan adds what the scans of the resource have found by now. It is read after
// all changes of the message, and so is there once.
func (w *watcher) convertScan(ctx context.Context, c metadata.Change, change *gatehousev1.Change, m *message) error {
	if !w.wantsScans(projectOf(c.Occurrence.GetName())) {
		return nil
	}
	parent, resource, err := resourceOf(c.Occurrence)
	if err != nil {
		return err
	}
	of := parent.String() + " " + string(resource[:])
	if m.scans[of] {
		return nil
	}
	s, err := w.s.svc.ResourceSummary(ctx, parent, resource)
	if err != nil {
		return err
	}
	summary, err := w.s.summaryOf(ctx, s, c.Occurrence.GetResourceUri())
	if err != nil {
		return err
	}
	w.knowScanners(summary)
	if m.scans == nil {
		m.scans = make(map[string]bool)
	}
	m.scans[of] = true
	change.Kind = &gatehousev1.Change_Summary{Summary: summary}
	m.add(change)
	return nil
}

func (w *watcher) wantsDocument(name string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.interest.ofDocument(name)
}

func (w *watcher) wantsStatement(o *grafeas.Occurrence) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.interest.ofStatement(o)
}

func (w *watcher) wantsScans(project string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.interest.scans[project]
}

func (w *watcher) wantsScanner(note string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.interest.scanners[note]
}

// knowScanners has the gate told when what those scanners look for changes.
func (w *watcher) knowScanners(s *gatehousev1.Summary) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, scan := range s.GetScans() {
		w.interest.scanners[scan.GetNote()] = true
	}
}
