package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// What may wait, by default: a thousand incidents a minute for ten minutes, of 1 to 2 kB
// each.
const (
	DefaultMaxMessages = 10_000
	DefaultMaxBytes    = 16 << 20
)

const (
	// maxSeen is how many ids are remembered to tell a message that comes again.
	maxSeen = 4096
	// maxPage bounds the messages of a page.
	maxPage = 256
	// garbage is how long the file may be beside twice what waits before it is written
	// anew.
	garbage = 1 << 20
	// repairEvery is how often a disk that failed is tried.
	repairEvery = 5 * time.Second

	// refusedFirst and refusedMost bound how long a message that all refuse is left.
	refusedFirst = time.Minute
	refusedMost  = time.Hour

	retryFirst = 2 * time.Second
	retryMost  = time.Minute
	// probeFirst and probeMost bound how long a receiver that failed is left alone.
	probeFirst = 10 * time.Second
	probeMost  = 5 * time.Minute
)

// Options are what an Outbox is made of.
type Options struct {
	// Dir is the outbox's folder, which is made if need be. One process may use it.
	Dir string
	// Routes say who is told; CheckRoutes has found nothing wrong with them.
	Routes    []Route
	Receivers map[string]Receiver
	// MaxMessages and MaxBytes bound what waits, in memory and (twice, while the file
	// is written anew) on disk. Beyond them the oldest of the least severe messages is
	// lost, counted, logged, and told of in the route's next page. Default
	// DefaultMaxMessages, DefaultMaxBytes.
	MaxMessages int
	MaxBytes    int64
	// OnPager is called when a receiver has failed, and when it works again.
	OnPager func(Pager)
	Logger  *slog.Logger // nil: nobody is told
	// Registry gets the metrics, unless it is nil.
	Registry prometheus.Registerer
}

// A Pager is the state of a receiver.
type Pager struct {
	Name string
	// FailingSince is zero while the receiver works, as far as is known.
	FailingSince time.Time
	// LastError is why the last try failed; nil if it did not.
	LastError error
	// LastDelivery is zero if there was none since the start.
	LastDelivery time.Time
}

// An Outbox keeps messages until they are delivered. It is safe for concurrent use.
type Outbox struct {
	opts    Options
	logger  *slog.Logger
	metrics *metrics
	routes  []*route
	journal *journal

	mu      sync.Mutex
	pagers  map[string]*pager
	bytes   int64
	count   int
	nextSeq uint64
	seen    seen
	// dirty says that the file lacks something that memory has.
	dirty bool
}

// An item is a message that waits in a route.
type item struct {
	seq     uint64
	route   *route
	msg     Message
	size    int64 // of its line
	since   time.Time
	sending bool
	// together is how many messages a page with this one may have: all, if it is 0. Of a
	// page that all receivers refuse the halves are tried, until what they refuse is
	// alone. Then refused counts, and retryAt says when it is tried again.
	together int
	refused  int
	retryAt  time.Time
}

// A route is a Route with what waits for it. All but the limiter is under the outbox's
// lock.
type route struct {
	Route
	limiter *rate.Limiter
	queue   []*item // the oldest first
	dropped int64   // and not told of
	groups  groups
	wake    chan struct{}
}

// A pager is what is known of a receiver.
type pager struct {
	Pager
	receiver Receiver
	failures int       // in a row
	first    time.Time // the first of them
	probes   int
	probeAt  time.Time
}

// Open opens the outbox. What waited when it was closed, or killed, waits again.
func Open(opts Options) (*Outbox, error) {
	if opts.MaxMessages == 0 {
		opts.MaxMessages = DefaultMaxMessages
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	o := &Outbox{opts: opts, logger: opts.Logger, pagers: map[string]*pager{}, metrics: newMetrics()}
	var names []string
	for name, r := range opts.Receivers {
		names = append(names, name)
		o.pagers[name] = &pager{Pager: Pager{Name: name}, receiver: r}
		o.metrics.failing.WithLabelValues(name).Set(0)
	}
	if len(opts.Routes) == 0 {
		return nil, errors.New("opening the outbox: there are no routes")
	}
	if err := CheckRoutes(opts.Routes, names); err != nil {
		return nil, fmt.Errorf("opening the outbox: %w", err)
	}
	for _, r := range opts.Routes {
		r = r.withDefaults()
		o.routes = append(o.routes, &route{
			Route: r, wake: make(chan struct{}, 1),
			limiter: rate.NewLimiter(rate.Every(time.Hour/time.Duration(r.PagesPerHour)), r.Burst),
		})
	}
	if err := o.load(); err != nil {
		return nil, fmt.Errorf("opening the outbox: %w", err)
	}
	if opts.Registry != nil {
		if err := o.metrics.register(opts.Registry, o); err != nil {
			return nil, errors.Join(fmt.Errorf("opening the outbox: %w", err), o.journal.close())
		}
	}
	return o, nil
}

// Enqueue puts a message into the routes that take it, and returns once it is on disk.
// A message whose id was seen before is on disk already, and not taken again. After
// any error but [ErrNoRoom], and that the message is malformed, it is delivered all
// the same if the process lives, and Enqueue may be called again.
func (o *Outbox) Enqueue(ctx context.Context, m Message) error {
	m, err := m.cleaned(time.Now())
	if err != nil {
		return fmt.Errorf("queueing a message: %w", err)
	}
	o.mu.Lock()
	done, err := o.enqueue(m, o.routesFor(m))
	o.mu.Unlock()
	if err != nil {
		return fmt.Errorf("queueing message %q: %w", m.ID, err)
	}
	if err := o.await(ctx, done); err != nil {
		return fmt.Errorf("queueing message %q: %w", m.ID, err)
	}
	return nil
}

// await waits for the disk, and notes that it failed.
func (o *Outbox) await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		if err != nil {
			o.mu.Lock()
			o.soil(err)
			o.mu.Unlock()
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk: %w", ctx.Err())
	}
}

func (o *Outbox) soil(err error) {
	o.dirty = true
	o.metrics.disk.Inc()
	o.logger.Error("writing the outbox", "error", err)
}

// enqueue is called with the lock held. The channel says when it is on disk.
func (o *Outbox) enqueue(m Message, routes []*route) (<-chan error, error) {
	if o.seen.has(m.ID) {
		return o.write(nil), nil
	}
	o.seen.add(m.ID)
	var lines []byte
	added := map[*item]bool{}
	for _, r := range routes {
		it := o.put(r, m)
		added[it] = true
		lines = append(lines, it.line(r.Name, m.ID)...)
	}
	var err error
	for _, lost := range o.shed() {
		lines = append(lines, line(entry{Op: opDropped, Seq: lost.seq, Route: lost.route.Name, N: 1})...)
		if added[lost] {
			err = ErrNoRoom
		}
	}
	return o.write(lines), err
}

// write writes lines, or, after the disk has failed, everything anew.
func (o *Outbox) write(lines []byte) <-chan error {
	if !o.dirty && o.journal.size.Load() < 2*o.bytes+garbage {
		return o.journal.append(lines)
	}
	done := make(chan error, 1)
	done <- o.compact()
	return done
}

// put adds a message to a route, or to one that waits there.
func (o *Outbox) put(r *route, m Message) *item {
	for _, it := range slices.Backward(r.queue) {
		if it.msg.Key == m.Key && it.msg.Kind == m.Kind && !it.sending {
			it.msg = joined(it.msg, m)
			o.resize(it)
			return it
		}
	}
	return o.add(r, m, time.Now())
}

// joined is two messages of one kind and key as one: the first one's identity, and what
// the second says.
func joined(first, second Message) Message {
	second.ID, second.Time, second.Count = first.ID, first.Time, first.Count+second.Count
	if first.Severity.rank() > second.Severity.rank() {
		second.Severity = first.Severity
	}
	return second
}

func (o *Outbox) add(r *route, m Message, since time.Time) *item {
	o.nextSeq++
	it := &item{seq: o.nextSeq, route: r, msg: m, since: since}
	r.queue = append(r.queue, it)
	o.count++
	o.resize(it)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return it
}

func (o *Outbox) resize(it *item) {
	o.bytes -= it.size
	it.size = int64(len(it.line(it.route.Name, it.msg.ID)))
	o.bytes += it.size
}

// shed makes room, and returns what was lost: the oldest of the least severe.
func (o *Outbox) shed() []*item {
	var lost []*item
	for o.count > o.opts.MaxMessages || o.bytes > o.opts.MaxBytes {
		it := o.victim()
		if it == nil {
			break
		}
		o.remove(it)
		o.lose(it)
		lost = append(lost, it)
	}
	return lost
}

// victim is the oldest of the least severe messages that wait.
func (o *Outbox) victim() (least *item) {
	for _, r := range o.routes {
		for _, it := range r.queue {
			if !it.sending && (least == nil || it.msg.Severity.rank() < least.msg.Severity.rank() ||
				it.msg.Severity == least.msg.Severity && it.seq < least.seq) {
				least = it
			}
		}
	}
	return least
}

// lose counts a message that was lost.
func (o *Outbox) lose(it *item) {
	it.route.dropped++
	m := it.msg
	o.metrics.dropped.WithLabelValues(string(m.Severity)).Inc()
	o.logger.Error("the outbox is full: a message is lost", "route", it.route.Name, "message", m.ID, "kind", m.Kind, "key", m.Key, "severity", m.Severity, "title", m.Title)
}

func (o *Outbox) remove(it *item) {
	r := it.route
	r.queue = slices.DeleteFunc(r.queue, func(other *item) bool { return other == it })
	o.count--
	o.bytes -= it.size
}

// routesFor are the routes that take a message. There is at least one: the last route
// takes everything.
func (o *Outbox) routesFor(m Message) []*route {
	var all []*route
	for _, r := range o.routes {
		if r.takes(m) {
			all = append(all, r)
			if !r.Continue {
				break
			}
		}
	}
	return all
}

// Pagers tells how the receivers do, by name.
func (o *Outbox) Pagers() []Pager {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]Pager, 0, len(o.pagers))
	for _, p := range o.pagers {
		all = append(all, p.Pager)
	}
	slices.SortFunc(all, func(a, b Pager) int { return cmpNames(a.Name, b.Name) })
	return all
}

// waiting tells how many messages wait, and since when the oldest does.
func (o *Outbox) waiting() (count int, oldest time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.routes {
		for _, it := range r.queue {
			if oldest.IsZero() || it.since.Before(oldest) {
				oldest = it.since
			}
		}
	}
	return o.count, oldest
}

// Run delivers until ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range o.routes {
		group.Go(func() error { o.serve(ctx, r); return nil })
	}
	group.Go(func() error { o.repair(ctx); return nil })
	return group.Wait()
}

// repair writes what the disk could not take, as soon as it can.
func (o *Outbox) repair(ctx context.Context) {
	ticker := time.NewTicker(repairEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		o.mu.Lock()
		if o.dirty && o.compact() == nil {
			o.logger.Info("the outbox is on disk again")
		}
		o.mu.Unlock()
	}
}

// Close closes the outbox. What waits stays on disk.
func (o *Outbox) Close() error { return o.journal.close() }

// backoff is how long to wait after the nth failure, counted from 0.
func backoff(n int, first, most time.Duration) time.Duration {
	d := most
	if n < 16 {
		d = min(first<<n, most)
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // no secret: it spreads tries
}
