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
	if oldest := r.queue[0].since.Add(r.GroupWait); oldest.After(now) && !oldest.After(now.Add(r.GroupWait)) { // the clock may have been set
		at = oldest
	}
	reservation := r.limiter.ReserveN(now, 1)
	if limited := now.Add(reservation.DelayFrom(now)); limited.After(at) {
		at = limited
	}
	reservation.CancelAt(now)
	return at, true
}

// deliver tries until a page is out, and reports whether it is. Each try takes what has
// come since.
func (o *Outbox) deliver(ctx context.Context, r *route) bool {
	for n := 0; ; n++ {
		page, items := o.cut(r)
		if len(items) == 0 {
			return true // all were lost for want of room
		}
		wait, err := o.tryAll(ctx, r, page)
		if err == nil {
			o.delivered(ctx, r, page, items)
			return true
		}
		o.putBack(items, err)
		o.logger.Warn("no receiver took a page", "route", r.Name, "messages", len(items), "error", Line(err.Error(), maxReason))
		if !sleep(ctx, max(wait, backoff(n, retryFirst, retryMost))) {
			return false
		}
	}
}

// cut makes a page of what waits. What all receivers have refused goes alone, when
// nothing else waits: one bad message must not hold up the others.
func (o *Outbox) cut(r *route) (Page, []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var items []*item
	for _, it := range r.queue {
		if it.refused == 0 && len(items) < maxPage {
			items = append(items, it)
		}
	}
	if len(items) == 0 && len(r.queue) > 0 {
		items = []*item{slices.MinFunc(r.queue, func(a, b *item) int { return cmp.Compare(a.refused, b.refused) })}
	}
	messages := make([]Message, 0, len(items))
	for _, it := range items {
		it.sending = true
		messages = append(messages, it.msg)
	}
	return NewPage(r.dropped, messages...), items
}

func (o *Outbox) putBack(items []*item, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var final *Final
	refused := errors.As(err, &final) && final.Content
	for _, it := range items {
		it.sending = false
		if refused {
			it.refused++
		}
	}
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

// tryAll tries the receivers of a route in their order. After an error, wait is how
// long to leave them alone.
func (o *Outbox) tryAll(ctx context.Context, r *route, page Page) (wait time.Duration, err error) {
	contentOnly := true
	var last error
	soonest := time.Duration(-1)
	for _, name := range r.Receivers {
		p := o.pagers[name]
		if rest := o.rests(p); rest > 0 {
			contentOnly = false
			soonest = sooner(soonest, rest)
			last = cmp.Or(last, fmt.Errorf("receiver %q is left alone after it failed", name))
			continue
		}
		err := send(ctx, p.receiver, page)
		if ctx.Err() != nil && err != nil {
			return 0, ctx.Err()
		}
		if err == nil {
			o.works(ctx, r, p, len(page.Messages))
			return 0, nil
		}
		last = fmt.Errorf("receiver %q: %w", name, err)
		var final *Final
		contentOnly = contentOnly && errors.As(err, &final) && final.Content
		after, failed := o.fails(ctx, r, p, err)
		if !failed {
			return after, dropContent(last)
		}
		soonest = sooner(soonest, after)
	}
	if contentOnly {
		return 0, last
	}
	return soonest, dropContent(last)
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

// dropContent makes an error one that says nothing about the page.
func dropContent(err error) error {
	var final *Final
	if errors.As(err, &final) && final.Content {
		return errors.New(err.Error())
	}
	return err
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
// long to wait.
func (o *Outbox) fails(ctx context.Context, r *route, p *pager, err error) (wait time.Duration, failed bool) {
	now := time.Now()
	var final *Final
	var busy *Busy
	result := "failed"
	if errors.As(err, &final) {
		result = "refused"
	}
	o.metrics.deliveries.WithLabelValues(p.Name, result).Inc()
	o.mu.Lock()
	if p.failures == 0 {
		p.first = now
	}
	p.failures++
	p.LastError = err
	if p.FailingSince.IsZero() && final == nil && p.failures < r.FailAfter && now.Sub(p.first) < r.FailWithin {
		o.mu.Unlock()
		if errors.As(err, &busy) {
			wait = min(busy.After, r.FailWithin)
		}
		return wait, false
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
