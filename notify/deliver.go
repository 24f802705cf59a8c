package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// maxReason bounds the text of a receiver's error, in bytes: it is from outside.
const maxReason = 300

// sendTimeout ends a try of a receiver that has no shorter one of its own.
const sendTimeout = time.Minute

func cmpNames(a, b string) int { return strings.Compare(a, b) }

// serve delivers what waits in a route until ctx ends.
func (o *Outbox) serve(ctx context.Context, r *route) {
	for {
		at, ok := o.due(r)
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
			}
			continue
		}
		if !sleep(ctx, time.Until(at)) {
			return
		}
		if !r.limiter.Allow() {
			continue // due says when
		}
		if !o.deliver(ctx, r) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// due says when the next page may go out, if there is anything to tell.
func (o *Outbox) due(r *route) (at time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(r.queue) == 0 {
		return time.Time{}, false
	}
	now := time.Now()
	at = now
	if i := slices.IndexFunc(r.queue, func(it *item) bool { return it.together == 0 }); i < 0 {
		at = slices.MinFunc(r.queue, func(a, b *item) int { return a.retryAt.Compare(b.retryAt) }).retryAt
	} else if oldest := r.queue[i].since.Add(r.GroupWait); oldest.After(now) && !oldest.After(now.Add(r.GroupWait)) { // the clock may have been set
		at = oldest
	}
	reservation := r.limiter.ReserveN(now, 1)
	if limited := now.Add(reservation.DelayFrom(now)); limited.After(at) {
		at = limited
	}
	reservation.CancelAt(now)
	return at, true
}

// deliver tries until a page is out, or refused by all, and reports whether to go on.
// Each try takes what has come since.
func (o *Outbox) deliver(ctx context.Context, r *route) bool {
	for n := 0; ; n++ {
		page, items := o.cut(r)
		if len(items) == 0 {
			return true // all were lost for want of room, or have to wait
		}
		wait, err := o.tryAll(ctx, r, page, items[0].together > 0)
		if err == nil {
			o.delivered(ctx, r, page, items)
			return true
		}
		o.logger.Warn("no receiver took a page", "route", r.Name, "messages", len(items), "error", Line(err.Error(), maxReason))
		if isRefusal(err) {
			o.split(items)
			if len(items) == 1 {
				return true
			}
			continue
		}
		o.putBack(items)
		if !sleep(ctx, max(wait, backoff(n, retryFirst, retryMost))) {
			return false
		}
	}
}

// cut makes a page of what waits; of what was refused before, when nothing else waits:
// one bad message must not hold up the others.
func (o *Outbox) cut(r *route) (Page, []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	together, most := 0, maxPage
	now := time.Now()
	ready := func(it *item) bool { return it.together == together && !it.retryAt.After(now) }
	if !slices.ContainsFunc(r.queue, ready) {
		for _, it := range r.queue {
			if together == 0 && !it.retryAt.After(now) {
				together, most = it.together, it.together
			}
		}
	}
	var items []*item
	var messages []Message
	for _, it := range r.queue {
		if ready(it) && len(items) < most {
			it.sending = true
			items, messages = append(items, it), append(messages, it.msg)
		}
	}
	return NewPage(r.dropped, messages...), items
}

func (o *Outbox) putBack(items []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		it.sending = false
	}
}

// split has the halves of a page that was refused tried, and a message alone later.
func (o *Outbox) split(items []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		it.sending = false
		it.together = (len(items) + 1) / 2
		if len(items) == 1 {
			it.retryAt = time.Now().Add(backoff(it.refused, refusedFirst, refusedMost))
			it.refused++
		}
	}
}

func isRefusal(err error) bool {
	var final *FinalError
	return errors.As(err, &final) && final.Content
}

// delivered forgets what was delivered. If the disk fails and the process dies it will
// be delivered again.
func (o *Outbox) delivered(ctx context.Context, r *route, page Page, items []*item) {
	o.mu.Lock()
	seqs := make([]uint64, 0, len(items))
	for _, it := range items {
		o.remove(it)
		seqs = append(seqs, it.seq)
	}
	r.dropped -= page.Dropped
	lines := line(entry{Op: opDone, Seqs: seqs})
	if page.Dropped > 0 {
		lines = append(lines, line(entry{Op: opTold, Route: r.Name, N: page.Dropped})...)
	}
	lines = append(lines, o.regroup(r, page)...)
	done := o.write(lines)
	o.mu.Unlock()
	_ = o.await(ctx, done) // logged, counted, and written later
}

// tryAll tries the receivers of a route in their order. again says that they have
// refused the page's content before, which says nothing about them. The error is a
// refusal if one refuses and none takes it; after another, wait is how long to leave
// them alone.
func (o *Outbox) tryAll(ctx context.Context, r *route, page Page, again bool) (wait time.Duration, err error) {
	refused := false
	var last error
	soonest := time.Duration(-1)
	for _, name := range r.Receivers {
		p := o.pagers[name]
		if rest := o.rests(p); rest > 0 {
			soonest = sooner(soonest, rest)
			last = cmp.Or(last, fmt.Errorf("receiver %q is left alone after it failed", name))
			continue
		}
		err := send(ctx, p.receiver, page)
		if err == nil {
			o.works(ctx, r, p, len(page.Messages))
			return 0, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		last = fmt.Errorf("receiver %q: %w", name, err)
		if isRefusal(err) {
			refused = true
		}
		after, next := o.fails(ctx, r, p, err, again)
		if !next {
			return after, last
		}
		soonest = sooner(soonest, after)
	}
	if refused && !isRefusal(last) {
		last = &FinalError{Err: last, Content: true} // and it must not hold up the others
	}
	return soonest, last
}

func send(ctx context.Context, r Receiver, page Page) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sendTimeout, fmt.Errorf("no answer within %v", sendTimeout))
	defer cancel()
	return r.Send(ctx, page)
}

func sooner(a, b time.Duration) time.Duration {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// rests tells for how long a receiver that failed is still left alone.
func (o *Outbox) rests(p *pager) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.FailingSince.IsZero() {
		return 0
	}
	return time.Until(p.probeAt)
}

// fails notes that a receiver failed, and reports whether to go to the next one, or how
// long to wait. One that refuses a page may take others: it has failed when it refuses
// one after the other.
func (o *Outbox) fails(ctx context.Context, r *route, p *pager, err error, again bool) (wait time.Duration, next bool) {
	now := time.Now()
	var final *FinalError
	var busy *BusyError
	result := "failed"
	if errors.As(err, &final) {
		result = "refused"
	}
	content := final != nil && final.Content
	o.metrics.deliveries.WithLabelValues(p.Name, result).Inc()
	o.mu.Lock()
	p.LastError = err
	if content && again {
		o.mu.Unlock()
		return 0, true
	}
	if p.failures == 0 {
		p.first = now
	}
	p.failures++
	if p.FailingSince.IsZero() && (final == nil || content) && p.failures < r.FailAfter && now.Sub(p.first) < r.FailWithin {
		o.mu.Unlock()
		if errors.As(err, &busy) {
			wait = min(busy.After, r.FailWithin)
		}
		return wait, content
	}
	rest := backoff(p.probes, probeFirst, probeMost)
	if errors.As(err, &busy) {
		rest = max(rest, min(busy.After, probeMost))
	}
	p.probes++
	p.probeAt = now.Add(rest)
	is := p.FailingSince.IsZero()
	if is {
		p.FailingSince = p.first
		o.tell(ctx, r, p.Name, PagerFailed, Error, fmt.Sprintf("pager %q fails: %s", p.Name, Line(err.Error(), maxReason)))
	}
	state := p.Pager
	o.mu.Unlock()
	if is {
		o.changed(state)
	}
	return rest, true
}

// works notes that a receiver has taken a page.
func (o *Outbox) works(ctx context.Context, r *route, p *pager, messages int) {
	o.metrics.deliveries.WithLabelValues(p.Name, "ok").Inc()
	o.metrics.messages.WithLabelValues(p.Name).Add(float64(messages))
	o.mu.Lock()
	since := p.FailingSince
	p.failures, p.probes, p.LastError, p.FailingSince, p.LastDelivery = 0, 0, nil, time.Time{}, time.Now()
	if !since.IsZero() {
		o.tell(ctx, r, p.Name, PagerRecovered, Info, fmt.Sprintf("pager %q works again; it failed since %s", p.Name, since.UTC().Format(time.RFC3339)))
	}
	state := p.Pager
	o.mu.Unlock()
	if !since.IsZero() {
		o.changed(state)
	}
}

// changed tells others that a receiver has begun to fail, or works again.
func (o *Outbox) changed(p Pager) {
	failing := 0.0
	if !p.FailingSince.IsZero() {
		failing = 1
	}
	o.metrics.failing.WithLabelValues(p.Name).Set(failing)
	if o.opts.OnPager != nil {
		o.opts.OnPager(p)
	}
}

// tell puts a message about a receiver into the route where that was found out: by the
// rules it might go to where only the broken one is.
func (o *Outbox) tell(ctx context.Context, r *route, receiver string, kind Kind, severity Severity, title string) {
	o.logger.Log(ctx, map[bool]slog.Level{true: slog.LevelInfo, false: slog.LevelError}[kind == PagerRecovered], title)
	o.enqueueOwn(ctx, r, Message{Kind: kind, Key: "pager/" + receiver, Severity: severity, Title: title, Labels: []Field{{"receiver", receiver}}})
}

// enqueueOwn puts a message of the outbox into one of its routes. It is called with the
// lock held, and does not wait for the disk.
func (o *Outbox) enqueueOwn(ctx context.Context, r *route, m Message) {
	m, err := m.cleaned(time.Now())
	if err == nil {
		var done <-chan error
		if done, err = o.enqueue(m, []*route{r}); err == nil {
			go func() { _ = o.await(ctx, done) }() // logged and counted
		}
	}
	if err != nil {
		o.logger.Error("queueing a message of the outbox", "title", m.Title, "error", err)
	}
}
