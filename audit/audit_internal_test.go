package audit

import (
	"errors"
	"log/slog"
	"os"
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
	l := &Log{wake: make(chan struct{}, 1), queue: lines{lines: []byte("c\nw\n"), records: 2, waits: []wait{{from: 2, to: 4}}}, records: 5, bytes: 16}
	l.putBack(lines{lines: []byte("a\nrefused\nb\n"), records: 3, waits: []wait{{from: 2, to: 10}}})
	if got := string(l.queue.lines); got != "a\nb\nc\nw\n" || l.queue.records != 4 {
		t.Errorf("%d records: %q", l.queue.records, got)
	}
	if w := l.queue.waits; len(w) != 1 || w[0].from != 6 || w[0].to != 8 {
		t.Errorf("who waits for c, waits for %+v", w)
	}
	if l.records != 4 || l.bytes != 8 {
		t.Errorf("%d records of %d bytes are said to wait", l.records, l.bytes)
	}
	select {
	case <-l.wake:
	default:
		t.Error("the writer was not told")
	}
}
