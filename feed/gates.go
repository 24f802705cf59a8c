package feed

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// gates are those that watch, and those that have gone without taking leave.
type gates struct {
	remember time.Duration
	now      func() time.Time

	mu      sync.Mutex
	known   map[gateKey]*gate
	streams int
	changed chan struct{} // closed and replaced when any has applied something, or goes
}

type gateKey struct{ project, cluster, gate, caller string }

// A gate may have several streams for a while, when it comes back before the server
// knows that it was gone.
type gate struct {
	streams map[*watcher]uint64 // what each has applied
	applied uint64              // of those that are gone
	heard   time.Time
}

func newGates(remember time.Duration, now func() time.Time) *gates {
	return &gates{remember: remember, now: now, known: make(map[gateKey]*gate), changed: make(chan struct{})}
}

func (g *gates) connected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streams
}

// join adds a stream. What it returns ends it; with leave the gate is forgotten.
func (g *gates) join(w *watcher, applied uint64) (end func(leave bool), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget()
	if g.streams >= maxGates || len(g.known) >= 10*maxGates {
		return nil, metadata.Errorf(metadata.ResourceExhausted, "%d gates follow this server already", g.streams)
	}
	g.streams++
	k := g.known[w.key]
	if k == nil {
		k = &gate{streams: make(map[*watcher]uint64)}
		g.known[w.key] = k
	}
	k.streams[w], k.heard = applied, g.now()
	return func(leave bool) { g.part(w, leave) }, nil
}

func (g *gates) part(w *watcher, leave bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams--
	k := g.known[w.key]
	k.applied = k.streams[w]
	delete(k.streams, w)
	if leave && len(k.streams) == 0 {
		delete(g.known, w.key)
	}
	g.wake()
}

// apply tells that a gate has applied changes.
func (g *gates) apply(w *watcher, seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.known[w.key]
	k.streams[w], k.heard = max(seq, k.streams[w]), g.now()
	g.wake()
}

func (g *gates) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// forget drops those that have been gone for long.
func (g *gates) forget() {
	for key, k := range g.known {
		if len(k.streams) == 0 && g.now().Sub(k.heard) > g.remember {
			delete(g.known, key)
		}
	}
}

const (
	// The answer is sent a quarter of the time before the deadline of the call, and not
	// more than that before.
	maxAnswerMargin = 2 * time.Second
	// unasked is how long a call without a deadline waits.
	unasked = 10 * time.Second
)

// await answers when all gates of the project have applied a change, or when it is time.
func (g *gates) await(ctx context.Context, project string, seq uint64, stop <-chan struct{}) *gatehousev1.BarrierResponse {
	wait := unasked
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		wait = left - min(left/4, maxAnswerMargin)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		answer, changed := g.state(project, seq)
		if answer.GetComplete() {
			return answer
		}
		select {
		case <-changed:
		case <-timer.C:
			return answer
		case <-stop:
			return answer
		case <-ctx.Done():
			return answer
		}
	}
}

func (g *gates) state(project string, seq uint64) (*gatehousev1.BarrierResponse, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget()
	answer := &gatehousev1.BarrierResponse{Complete: true}
	for key, k := range g.known {
		if key.project != project {
			continue
		}
		told := &gatehousev1.Gate{
			Cluster: key.cluster, Gate: key.gate, Caller: key.caller,
			Connected: len(k.streams) > 0, Applied: k.applied, Heard: timestamppb.New(k.heard),
		}
		if told.GetConnected() {
			told.Applied = minimum(k.streams)
		}
		answer.Complete = answer.Complete && told.GetConnected() && told.GetApplied() >= seq
		answer.Gates = append(answer.Gates, told)
	}
	slices.SortFunc(answer.Gates, func(a, b *gatehousev1.Gate) int {
		return cmp.Or(cmp.Compare(a.GetCluster(), b.GetCluster()), cmp.Compare(a.GetGate(), b.GetGate()), cmp.Compare(a.GetCaller(), b.GetCaller()))
	})
	return answer, g.changed
}

func minimum(of map[*watcher]uint64) uint64 {
	least, first := uint64(0), true
	for _, seq := range of {
		if first || seq < least {
			least, first = seq, false
		}
	}
	return least
}
