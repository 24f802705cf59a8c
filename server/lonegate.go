package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/feed/lastgood"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

const (
	// copyGrace is how long a gate that starts waits for the service before it uses the
	// copy of another day.
	copyGrace = 3 * time.Second
	// defaultCopyInterval is how often the copy is replaced.
	defaultCopyInterval = 30 * time.Second
	// acknowledgeEvery is how often the service is told how far the gate is, if nothing
	// has told the gate to tell before.
	acknowledgeEvery = time.Second
	// leaveTimeout is how long the service may take to hear that the gate ends.
	leaveTimeout = time.Second
	// retryStart is how long a start that failed for want of the service waits.
	retryStart = 500 * time.Millisecond
)

// A loneGate is a gate whose metadata service is elsewhere.
type loneGate struct {
	*parts
	conn     *grpc.ClientConn // to the service
	client   *feedclient.Client
	evidence *remoteEvidence
	folder   *lastgood.Folder
	// inForce are the policies, nil until the gate has begun.
	inForce atomic.Pointer[policies]
	// poke wakes who tells the service how far the gate is.
	poke chan struct{}
	// heard is told when there may be other evidence or policy to decide by.
	heard chan struct{}
	// begun is closed when a controller can decide.
	begun chan struct{}

	// fromCopy is the copy by which the gate decides while the service has not been
	// there since it started; nil otherwise.
	fromCopy atomic.Pointer[lastgood.Copy]
	// written is when the copy on disk was made.
	written     atomic.Pointer[time.Time]
	copyRefused prometheus.Gauge

	copying sync.Mutex
	copied  copyOf // what was written last
}

// runGate runs the admission role until ctx ends.
func (p *parts) runGate(ctx context.Context, started func(Addresses) error) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	g, err := p.newLoneGate(ctx)
	if err != nil {
		return err
	}
	p.watchCertificates(running, group)
	p.attend(running, group)
	if p.relay != nil {
		group.Go(func() error { return p.relay.Run(running) })
	}
	p.runSinks(running, group)
	stop := p.serve(group)
	err = g.begin(ctx, running, group)
	if err == nil {
		p.ready.Store(true)
		err = started(Addresses{Admission: p.admission.addr(), Ops: p.ops.addr(), CA: p.ca})
	}
	if ctx.Err() != nil {
		err = nil // it was told to stop before it was ready
	}
	if err == nil {
		select {
		case <-ctx.Done():
			p.logger.Info("stopping")
		case <-running.Done(): // a part failed; Wait tells which
		}
	}
	p.drain(running, stop)
	g.writeCopy()
	g.leave()
	cancel()
	return errors.Join(err, group.Wait())
}

// leave has the service not wait for this gate any more.
func (g *loneGate) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := g.client.Leave(ctx); err != nil {
		g.logger.Debug("the metadata service was not told that the gate ends", "error", err)
	}
}

// newLoneGate opens and binds everything. Before the gate has begun it answers that
// nothing could be found out.
func (p *parts) newLoneGate(ctx context.Context) (*loneGate, error) {
	g, err := p.newFollower(p.cfg.Admission.Feed.gateName())
	if err != nil {
		return nil, err
	}
	if err := p.openOutbox(); err != nil {
		return nil, err
	}
	if err := p.openGlass(); err != nil {
		return nil, err
	}
	if err := p.openRelay(g.conn); err != nil {
		return nil, err
	}
	if err := p.bind(ctx, bound{"admission", p.cfg.Admission.Address, &p.admission}, bound{"ops", p.cfg.Ops.Address, &p.ops}); err != nil {
		return nil, err
	}
	if err := p.buildGate(g.evidence, g.rules); err != nil {
		return nil, err
	}
	if err := p.openSinks(); err != nil {
		return nil, err
	}
	p.serveOps(g.state)
	return g, p.registerCertificates()
}

// newFollower opens what follows the metadata service under a name, and decides as a gate
// does.
func (p *parts) newFollower(name string) (*loneGate, error) {
	if err := p.openData(); err != nil {
		return nil, err
	}
	conn, err := p.dialFeed()
	if err != nil {
		return nil, err
	}
	p.onClose(conn.Close)
	g := &loneGate{parts: p, conn: conn, poke: make(chan struct{}, 1), heard: make(chan struct{}, 1), begun: make(chan struct{})}
	g.client, err = feedclient.New(feedclient.Options{
		Conn: conn, Project: p.cfg.Project, Cluster: p.cfg.Cluster, Gate: name, Logger: p.logger,
	})
	if err != nil {
		return nil, err
	}
	if g.evidence, err = newRemoteEvidence(g.client.Evidence(), p.registry); err != nil {
		return nil, err
	}
	if most := p.cfg.Admission.Feed.MaxSilence; most > 0 {
		g.evidence.stale = func() string { return g.stale(most) }
	}
	if g.folder, err = lastgood.Open(filepath.Join(p.cfg.Data, "gate"), p.cfg.Project, p.cfg.Cluster); err != nil {
		return nil, err
	}
	return g, g.register()
}

func (g *loneGate) newIndex() *index.Index {
	x := index.New(g.client.Evidence(), g.logger)
	x.Bound(g.cfg.Admission.MaxStatements)
	return x
}

// rules are the policies in force, once the gate has begun.
func (g *loneGate) rules() policy.Set {
	if ps := g.inForce.Load(); ps != nil {
		return ps.current()
	}
	return unheard(g.cfg.Project)
}

// unheard are the rules of a gate that knows neither policy nor evidence: whatever is
// asked, it could not find out.
func unheard(project string) policy.Set {
	rules := &policy.Ruleset{
		Name: admin.PolicyName(project), Source: "the metadata service, which has not been heard from",
		Rules: []policy.Rule{{
			ID: "what holds until the gate knows the policy", Evaluation: policy.RequireChecks,
			Checks: []policy.Check{{Condition: policy.Vulnerabilities{Projects: []string{project}}}},
		}},
	}
	return policy.Set{rules.Build()}
}

// begin returns when the gate can decide: by what the service tells, or, while that is
// away, by the copy.
func (g *loneGate) begin(ctx, running context.Context, group *errgroup.Group) error {
	x, c := g.readCopy()
	if c != nil {
		g.client.Restore(c.State)
	}
	group.Go(func() error { return g.client.Run(running) })
	x, err := g.synced(ctx, x, c)
	if err != nil {
		return err
	}
	ps, err := newPolicies(g.cfg, "", g.client.Documents(), x, g.logger, g.registry)
	if err != nil {
		return err
	}
	ps.enforced = g.keep
	if g.glass != nil { // a controller enforces nothing, and has no record of it
		ps.record = g.glass.recordPolicies
	}
	g.evidence.index.Store(x)
	if err := g.startPolicies(ctx, ps); err != nil {
		return err
	}
	group.Go(func() error { return x.Run(running) })
	if err := x.Ready(ctx); err != nil {
		return err
	}
	g.index = x
	g.inForce.Store(ps)
	group.Go(func() error { return ps.Run(running) })
	group.Go(func() error { return g.acknowledge(running) })
	group.Go(func() error {
		for at := x.Position(); x.Passed(running, at) == nil; at = x.Position() {
			g.wake()
		}
		return nil
	})
	group.Go(func() error { return g.keepCopy(running) })
	if g.glass != nil {
		g.glass.follow(running, group, g.client.Documents())
	}
	if len(ps.current()) == 0 {
		g.logger.Warn(noPolicy)
	}
	return nil
}

// readCopy returns an index that has read the copy, or one that has read nothing.
func (g *loneGate) readCopy() (*index.Index, *lastgood.Copy) {
	x, begun := g.newIndex(), time.Now()
	c, err := g.folder.Read(x)
	switch {
	case err == nil:
		g.written.Store(&c.Written)
		g.logger.Info("read the copy of the evidence", "written", c.Written, "digests", c.Digests, "took", time.Since(begun).Round(time.Millisecond))
		return x, c
	case !errors.Is(err, fs.ErrNotExist):
		g.copyRefused.Set(1)
		g.logger.Error("the copy of the evidence is not used, and everything is read from the metadata service", "error", err)
	}
	return nil, nil
}

// synced waits for the service, with a copy only for a while, and returns the index to
// go on with: a copy of another history is not used.
func (g *loneGate) synced(ctx context.Context, x *index.Index, c *lastgood.Copy) (*index.Index, error) {
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if c != nil {
		waiting, cancel = context.WithTimeout(ctx, copyGrace)
	}
	defer cancel()
	err := g.client.Synced(waiting)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("waiting for the metadata service: %w", ctx.Err())
	case err != nil:
		g.fromCopy.Store(c)
		g.logger.Warn("the metadata service is away: deciding by the copy on the local disk", "written", c.Written, "age", time.Since(c.Written).Round(time.Second), "error", g.client.Status().Err)
		return x, nil
	case c == nil || g.client.Status().Resets > 0:
		return g.newIndex(), nil
	}
	return x, nil
}

// startPolicies puts in force what there is. What fails because the service does not
// tell is tried until it does.
func (g *loneGate) startPolicies(ctx context.Context, ps *policies) error {
	said := ""
	for {
		err := ps.start(ctx)
		var told *metadata.Error
		if err == nil || !errors.As(err, &told) && ctx.Err() == nil {
			return err
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			g.logger.Error("the gate cannot begin; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryStart):
		}
	}
}

// keep asks the service for nothing that the policies in force do not need.
func (g *loneGate) keep(trust index.Trust, scans, hints []string) {
	notes := slices.Clone(hints)
	var projects []string
	for name := range trust {
		if _, err := metadata.ParseNoteName(name); err == nil {
			notes = append(notes, name)
		} else if p, err := metadata.ParseParent(name); err == nil {
			projects = append(projects, p.Project)
		}
	}
	g.client.Keep(notes, projects, scans)
	g.wake()
}

func (g *loneGate) wake() {
	for _, c := range []chan struct{}{g.poke, g.heard} {
		select {
		case c <- struct{}{}:
		default: // woken already
		}
	}
}

// acknowledge tells the service how far decisions rest on what it has told.
func (g *loneGate) acknowledge(ctx context.Context) error {
	tick := time.NewTicker(acknowledgeEvery)
	defer tick.Stop()
	for {
		if g.client.Applied(g.index.Position(), g.inForce.Load().inForce.Load()); g.client.Status().Connected {
			g.fromCopy.Store(nil)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.poke:
		}
	}
}

// keepCopy replaces the copy on disk when there is something new.
func (g *loneGate) keepCopy(ctx context.Context) error {
	for {
		begun := time.Now()
		g.writeCopy()
		// A large one is not written all the time.
		const share = 20
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(g.cfg.Admission.Feed.CopyInterval, share*time.Since(begun))):
		}
	}
}

// errNotSettled says that what is in force is not what has arrived.
var errNotSettled = errors.New("a policy that has arrived is not in force yet")

// writeCopy replaces the copy, if something has changed since it was written.
func (g *loneGate) writeCopy() {
	g.copying.Lock()
	defer g.copying.Unlock()
	ps := g.inForce.Load()
	if ps == nil {
		return
	}
	documents := g.client.Documents()
	now := copyOf{position: g.index.Position(), documents: documents.Head(), session: g.client.Status().Resets}
	if now == g.copied {
		return
	}
	begun := time.Now()
	size, err := g.folder.Write(g.index, begun, func(info index.CopyInfo) (feedclient.State, error) {
		position, ok := g.client.PositionAt(info.Position)
		if !ok || ps.inForce.Load() != documents.Head() {
			return feedclient.State{}, errNotSettled
		}
		return feedclient.State{Position: position, Documents: documents.Saved(), Scanners: g.client.Scanners()}, nil
	})
	switch {
	case err == nil:
		g.copied = now
		g.written.Store(&begun)
		g.logger.Debug("wrote the copy of the evidence", "bytes", size, "took", time.Since(begun))
	case errors.Is(err, errNotSettled) || errors.Is(err, index.ErrCopyChanged):
		g.logger.Debug("the copy of the evidence is not written now", "reason", err)
	default:
		g.logger.Error("the copy of the evidence cannot be written; the last one stays", "error", err)
	}
}

// A copyOf tells whether another copy would be of something else.
type copyOf struct{ position, documents, session uint64 }

// state says whether the gate is ready, and what there is to be said of it.
func (g *loneGate) state() (note string, err error) {
	s := g.client.Status()
	if !g.ready.Load() {
		if s.Err != nil {
			return "", fmt.Errorf("starting or stopping: the metadata service: %w", s.Err)
		}
		return "", errors.New("starting or stopping")
	}
	if lag := g.lag(); s.Connected && lag > maxLag {
		return "", fmt.Errorf("the index of attestations is %d changes behind", lag)
	}
	if c := g.fromCopy.Load(); c != nil {
		return fmt.Sprintf("the metadata service is away; deciding by the copy of %s", c.Written.Format(time.RFC3339)), nil
	}
	if !s.Connected {
		return fmt.Sprintf("the metadata service is away since %s; deciding by what is in memory", s.Heard.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// stale says that the service has been silent for longer than decisions may rest on what
// it has told; "" if it has not.
func (g *loneGate) stale(most time.Duration) string {
	heard := g.client.Status().Heard
	if c := g.fromCopy.Load(); c != nil && heard.IsZero() {
		heard = c.Written
	}
	if since := time.Since(heard); since > most || since < -most { // or the clock was set
		return fmt.Sprintf("the metadata service was last heard at %s, and the gate may decide by that for %s", heard.UTC().Format(time.RFC3339), most)
	}
	return ""
}

// lag is how many changes the gate is behind, as far as it knows.
func (g *loneGate) lag() uint64 {
	x := g.evidence.index.Load()
	if x == nil {
		return 0
	}
	head, at := g.client.Status().Head, x.Position()
	return head - min(at, head)
}

// register registers the metrics.
func (g *loneGate) register() error {
	g.copyRefused = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gatehouse_evidence_copy_refused",
		Help: "1 if the copy of the evidence on the local disk was refused when the gate started.",
	})
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	count := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
	}
	since := func(t time.Time) float64 {
		if t.IsZero() {
			return -1
		}
		return time.Since(t).Seconds()
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		g.copyRefused,
		gauge("gatehouse_feed_connected", "1 while the metadata service is followed.", func() float64 { return truth(g.client.Status().Connected) }),
		gauge("gatehouse_feed_silence_seconds", "Time since something was heard of the metadata service; -1 if nothing ever was.", func() float64 { return since(g.client.Status().Heard) }),
		count("gatehouse_feed_sessions_total", "Streams of changes that were begun: the first, and one each time that the connection was lost.", func() float64 { return float64(g.client.Status().Sessions) }),
		count("gatehouse_feed_resets_total", "Times that the metadata service had another history, and everything was read anew.", func() float64 { return float64(g.client.Status().Resets) }),
		gauge("gatehouse_evidence_from_copy", "1 while decisions rest on the copy that the gate started from, because the metadata service has not been there since.", func() float64 { return truth(g.fromCopy.Load() != nil) }),
		gauge("gatehouse_evidence_copy_age_seconds", "Age of the copy of the evidence on the local disk; -1 if there is none.", func() float64 {
			if t := g.written.Load(); t != nil {
				return since(*t)
			}
			return -1
		}),
	} {
		errs = append(errs, g.registry.Register(c))
	}
	for _, c := range indexMetrics(g.evidence.index.Load, func() float64 { return float64(g.lag()) }) {
		errs = append(errs, g.registry.Register(c))
	}
	return errors.Join(errs...)
}
