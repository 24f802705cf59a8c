package audit

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	l.file = full // the writer has nothing to write yet
	if err := l.AppendSync(t.Context(), Record{ID: "a", Time: time.Now()}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestWhatNobodyWaitedForIsKept: a record that was refused must not turn up later,
// and one that was accepted must, before those that came after it.
func TestWhatNobodyWaitedForIsKept(t *testing.T) {
	t.Parallel()
	l := &Log{wake: make(chan struct{}, 1), closing: make(chan struct{}), queue: []item{{line: []byte("c")}}}
	close(l.closing) // no delay
	l.retry([]item{{line: []byte("a")}, {line: []byte("refused"), done: make(chan error, 1)}, {line: []byte("b")}})
	var got []string
	for _, it := range l.queue {
		got = append(got, string(it.line))
	}
	if diff := cmp.Diff(got, []string{"a", "b", "c"}); diff != "" {
		t.Error(diff)
	}
	select {
	case <-l.wake:
	default:
		t.Error("the writer was not told")
	}
}
