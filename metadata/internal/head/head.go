// Package head holds the last sequence number of a feed, for readers that must
// not do I/O to learn it and for those that wait until it grows.
package head

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Head is a number that only grows. Use [New].
type Head struct {
	seq atomic.Uint64

	mu    sync.Mutex
	grown chan struct{} // closed, and replaced, when seq grows
	err   error         // set once, by Close
}

// New returns a Head at seq.
func New(seq uint64) *Head {
	h := &Head{grown: make(chan struct{})}
	h.seq.Store(seq)
	return h
}

// Load returns the number.
func (h *Head) Load() uint64 { return h.seq.Load() }

// Advance sets the number and wakes those that wait for it. A lesser number is
// ignored.
func (h *Head) Advance(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq <= h.seq.Load() || h.err != nil {
		return
	}
	h.seq.Store(seq)
	close(h.grown)
	h.grown = make(chan struct{})
}

// Close makes every Wait return err, unless the number is great enough already.
func (h *Head) Close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
		close(h.grown)
	}
}

// Wait blocks until the number is greater than after, or ctx is done, or Close.
func (h *Head) Wait(ctx context.Context, after uint64) error {
	for {
		h.mu.Lock()
		grown, err := h.grown, h.err
		h.mu.Unlock()
		switch {
		case h.Load() > after:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
