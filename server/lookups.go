package server

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxRound is how many digests are asked for at once, and maxRunning how many
	// questions are under way.
	maxRound   = 64
	maxRunning = 4
	// maxQueued bounds the questions that wait.
	maxQueued = 256
	// maxRoundTime bounds one question.
	maxRoundTime = 10 * time.Second
)

// lookups ask for digests, each once for all who wait for it: for containers of a pod
// and for requests at the same time. Who comes while a question is under way is part of
// the next, since what was committed before he came may be missing in the answer to
// this one.
type lookups struct {
	ask func(context.Context, []image.Digest) (map[image.Digest]evidence.Image, error)

	mu      sync.Mutex
	queue   []*round
	running int
}

// A round is one question.
type round struct {
	digests  map[image.Digest]bool
	deadline time.Time
	done     chan struct{}
	images   map[image.Digest]evidence.Image
	err      error
}

// of returns what there is about digests. It gives up when ctx ends; others may still
// wait for the same answer.
func (l *lookups) of(ctx context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
	rounds, err := l.join(ctx, digests)
	if err != nil {
		return nil, err
	}
	images := make(map[image.Digest]evidence.Image, len(digests))
	for _, r := range rounds {
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, metadata.Errorf(metadata.Unavailable, "the metadata service has not answered in time")
		}
		if r.err != nil {
			return nil, r.err
		}
		for _, d := range digests {
			if r.digests[d] {
				images[d] = r.images[d]
			}
		}
	}
	return images, nil
}

// join puts the digests into rounds that have not begun.
func (l *lookups) join(ctx context.Context, digests []image.Digest) ([]*round, error) {
	deadline, ok := ctx.Deadline()
	if longest := time.Now().Add(maxRoundTime); !ok || deadline.After(longest) {
		deadline = longest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var joined []*round
	for _, d := range digests {
		r := l.roundFor(d)
		if r == nil {
			return nil, metadata.Errorf(metadata.Unavailable, "too many questions wait for the metadata service")
		}
		if r.digests[d] = true; deadline.After(r.deadline) {
			r.deadline = deadline
		}
		if n := len(joined); n == 0 || joined[n-1] != r {
			joined = append(joined, r)
		}
	}
	l.start()
	return joined, nil
}

// roundFor returns a round that has the digest, or has room for it.
func (l *lookups) roundFor(d image.Digest) *round {
	for _, r := range l.queue {
		if r.digests[d] {
			return r
		}
	}
	if n := len(l.queue); n > 0 && len(l.queue[n-1].digests) < maxRound {
		return l.queue[n-1]
	}
	if len(l.queue) == maxQueued {
		return nil
	}
	r := &round{digests: make(map[image.Digest]bool), done: make(chan struct{})}
	l.queue = append(l.queue, r)
	return r
}

// start begins rounds as far as may be under way.
func (l *lookups) start() {
	for l.running < maxRunning && len(l.queue) > 0 {
		r := l.queue[0]
		l.queue = l.queue[1:]
		l.running++
		go l.run(r)
	}
}

func (l *lookups) run(r *round) {
	digests := make([]image.Digest, 0, len(r.digests))
	for d := range r.digests {
		digests = append(digests, d)
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.deadline)
	r.images, r.err = l.ask(ctx, digests)
	cancel()
	close(r.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.start()
}
