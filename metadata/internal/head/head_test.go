package head

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestHead(t *testing.T) {
	t.Parallel()
	h := New(3)
	if err := h.Wait(t.Context(), 2); err != nil || h.Load() != 3 {
		t.Fatalf("head %d, %v", h.Load(), err)
	}
	h.Advance(2)
	if h.Load() != 3 {
		t.Errorf("head went back to %d", h.Load())
	}
	var waiters sync.WaitGroup
	for after := range uint64(10) {
		waiters.Go(func() {
			if err := h.Wait(t.Context(), after); err != nil || h.Load() <= after {
				t.Errorf("waiting for more than %d: head %d, %v", after, h.Load(), err)
			}
		})
	}
	h.Advance(7)
	h.Advance(10)
	waiters.Wait()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Wait(ctx, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
	gone := errors.New("gone")
	ended := make(chan error)
	go func() { ended <- h.Wait(t.Context(), 10) }()
	h.Close(gone)
	h.Close(errors.New("again"))
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("got error %v", err)
	}
	if h.Advance(11); h.Load() != 10 {
		t.Errorf("a closed head went on to %d", h.Load())
	}
	if err := h.Wait(t.Context(), 9); err != nil {
		t.Errorf("what was reached before closing: %v", err)
	}
}
