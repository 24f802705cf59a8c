package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestADiskThatIsFullIsSaidToWhoeverWaits(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.main.end()
	l.main.file = full // the writer has nothing to write yet
	if err := l.AppendSync(t.Context(), Record{ID: "a", Time: time.Now()}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if err := l.Unwritable(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it says that it can be written: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestWhatNobodyWaitedForIsKept: a record that was refused must not turn up later,
// and one that was accepted must, before those that came after it.
func TestWhatNobodyWaitedForIsKept(t *testing.T) {
	t.Parallel()
	group := func(texts ...string) (g lines) {
		for _, text := range texts {
			name, waited := strings.CutSuffix(text, "?")
			var done chan error
			if waited {
				done = make(chan error, 1)
			}
			g.add([]byte(name), done, func(size int) []byte { return make([]byte, 0, 8) })
		}
		return g
	}
	l := &Log{wake: make(chan struct{}, 1), queue: group("c", "w?"), records: 7, bytes: 26}
	l.putBack(group("a", "no?", "b", "never?", "d"))
	if got := string(bytes.Join(l.queue.chunks, nil)); got != "a\nb\nd\nc\nw\n" || l.queue.records != 5 || l.queue.bytes != 10 {
		t.Errorf("%d records of %d bytes: %q", l.queue.records, l.queue.bytes, got)
	}
	if w := l.queue.waits; len(w) != 1 || string(l.queue.chunks[w[0].chunk][w[0].from:w[0].to]) != "w\n" {
		t.Errorf("who waits for w, waits for %+v", w)
	}
	if l.records != 5 || l.bytes != 17 {
		t.Errorf("%d records of %d bytes are said to wait", l.records, l.bytes)
	}
	select {
	case <-l.wake:
	default:
		t.Error("the writer was not told")
	}
}

// TestWhatNobodyWaitsForAnyMoreIsTakenBack: whoever was told that he waited too long was
// refused.
func TestWhatNobodyWaitsForAnyMoreIsTakenBack(t *testing.T) {
	t.Parallel()
	l := &Log{wake: make(chan struct{}, 1), Options: Options{QueueRecords: 10, QueueBytes: 1 << 20}} // without a writer
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	patient := make(chan error, 1)
	for _, add := range []func() error{
		func() error { return l.enqueue([]byte("a"), nil) },
		func() error {
			queued := make(chan struct{})
			waiting.Go(func() {
				err := l.await(ctx, func(done chan error) error { defer close(queued); return l.enqueue([]byte("gone"), done) })
				if !errors.Is(err, context.Canceled) {
					t.Errorf("whoever waited too long was told %v", err)
				}
			})
			<-queued
			return nil
		},
		func() error { return l.enqueue([]byte("b"), nil) },
		func() error { return l.enqueue([]byte("w"), patient) },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	waiting.Wait()
	if got := string(bytes.Join(l.queue.chunks, nil)); got != "a\nb\nw\n" || l.queue.records != 3 || l.records != 3 || l.bytes != 6 {
		t.Errorf("%d records of %d bytes wait: %q", l.records, l.bytes, got)
	}
	if w := l.queue.waits; len(w) != 1 || string(l.queue.chunks[0][w[0].from:w[0].to]) != "w\n" {
		t.Errorf("who waits for w, waits for %+v", w)
	}
}
