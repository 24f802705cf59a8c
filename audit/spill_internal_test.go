package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// childVariable makes the test binary a process that appends, to be killed.
const childVariable = "GATEHOUSE_TEST_AUDIT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		appendUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// disks are folders of which each can be made unwritable.
type disks struct{ main, spill atomic.Bool }

// open is openFile for the disks, which are told apart by the name of the folder.
func (d *disks) open(path string, flag int) (file, error) {
	broken := &d.main
	if filepath.Base(filepath.Dir(path)) == "spill" {
		broken = &d.spill
	}
	if broken.Load() {
		return nil, fmt.Errorf("opening %s: %w", path, syscall.EROFS)
	}
	f, err := openFile(path, flag)
	if err != nil {
		return nil, err
	}
	return &brittle{f, broken}, nil
}

// A brittle file writes half of what it is given when its disk is full.
type brittle struct {
	file
	broken *atomic.Bool
}

func (b *brittle) Write(p []byte) (int, error) {
	if !b.broken.Load() {
		return b.file.Write(p)
	}
	n, err := b.file.Write(p[:len(p)/2])
	return n, errors.Join(err, syscall.ENOSPC)
}

// A journal is what a logger has said.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

func openOn(t *testing.T, d *disks, dir string, change func(*Options)) (*Log, *journal) {
	t.Helper()
	said := &journal{}
	o := Options{Spill: filepath.Join(dir, "spill"), Logger: slog.New(slog.NewTextHandler(said, nil))}
	if change != nil {
		change(&o)
	}
	l, err := open(filepath.Join(dir, "log"), o, d.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, said
}

func sync1(t *testing.T, l *Log, id string) {
	t.Helper()
	if err := l.AppendSync(t.Context(), Record{ID: id}); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
}

func ids(t *testing.T, s Source) []string {
	t.Helper()
	var all []string
	if err := s.Records(Filter{}, func(r Record) error { all = append(all, r.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// until waits for what the writer does by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func empty(t *testing.T, dir string) bool {
	t.Helper()
	names, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names) == 0
}

func TestRecordsGoToTheSpillAndComeBackInOrder(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), &disks{}
	l, said := openOn(t, d, dir, nil)
	here, whole := Source{Dir: l.dir}, Source{Dir: l.dir, Spill: l.Spill}
	sync1(t, l, "1")
	d.main.Store(true)
	sync1(t, l, "2")
	sync1(t, l, "3")
	if diff := cmp.Diff(ids(t, here), []string{"1"}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(ids(t, whole), []string{"1", "2", "3"}); diff != "" {
		t.Error(diff)
	}
	if err := l.Unwritable(); err != nil {
		t.Errorf("nothing is lost, and yet: %v", err)
	}
	// Whoever follows goes on meanwhile, and where he is stays a place.
	var followed []string
	var at Position
	follow := func() {
		t.Helper()
		var err error
		at, err = l.Lines(at, func(line []byte, _ Position) error {
			var r Record
			followed = append(followed, "")
			defer func() { followed[len(followed)-1] = r.ID }()
			return json.Unmarshal(line, &r)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	follow()
	d.main.Store(false)
	until(t, "the spill is empty", func() bool { return empty(t, l.Spill) })
	sync1(t, l, "4")
	follow()
	for what, got := range map[string][]string{"the log": ids(t, here), "with the spill": ids(t, whole), "followed": followed} {
		if diff := cmp.Diff(got, []string{"1", "2", "3", "4"}); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if n := said.count("records go to the spill"); n != 1 {
		t.Errorf("it was said %d times that the log cannot be written", n)
	}
	if n := said.count("is written again"); n != 1 {
		t.Errorf("it was said %d times that it can again", n)
	}
}

func TestALogThatCannotBeOpenedBeginsInItsSpill(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), &disks{}
	d.main.Store(true)
	l, _ := openOn(t, d, dir, nil)
	sync1(t, l, "1")
	d.main.Store(false)
	until(t, "the spill is empty", func() bool { return empty(t, l.Spill) })
	sync1(t, l, "2")
	if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), []string{"1", "2"}); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsLostIsCountedAndToldOf(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), &disks{}
	l, said := openOn(t, d, dir, func(o *Options) { o.QueueRecords = 4 })
	d.main.Store(true)
	d.spill.Store(true)
	for _, id := range []string{"1", "2"} {
		if err := l.AppendSync(t.Context(), Record{ID: id}); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EROFS) {
			t.Errorf("%v", err)
		}
	}
	if l.Unwritable() == nil || !l.Stats().Unwritable {
		t.Error("it says that it can be written")
	}
	full := 0
	for n := range 10 {
		if err := l.Append(Record{ID: fmt.Sprint("q", n)}); errors.Is(err, ErrFull) {
			full++
		}
	}
	if lost := l.Stats().Lost; full != 6 || lost != 6 {
		t.Errorf("%d were refused, %d are counted", full, lost)
	}
	d.main.Store(false)
	until(t, "it can be written", func() bool { return l.Unwritable() == nil && said.count("6 records were lost") > 0 })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, read := range []func(){
		func() {
			_ = Source{Dir: l.dir, Spill: l.Spill}.Records(Filter{}, func(r Record) error {
				if r.Lost != nil {
					r.ID = fmt.Sprint(r.Event, r.Lost.Records)
				}
				got = append(got, r.ID)
				return nil
			})
		},
		func() {
			_ = Source{Dir: l.dir}.Calls(CallFilter{Code: "DATA_LOSS"}, func(c Call) error {
				got = append(got, fmt.Sprint(c.Method, c.Lost.Records))
				return nil
			})
		},
		func() {
			_ = Source{Dir: l.dir}.Runs(RunFilter{Method: "lost"}, func(r Run) error {
				got = append(got, fmt.Sprint(r.Method, r.Lost.Records))
				return nil
			})
		},
	} {
		read()
	}
	if diff := cmp.Diff(got, []string{"q0", "q1", "q2", "q3", "lost6", "lost6", "lost6"}); diff != "" {
		t.Error(diff)
	}
	if n := said.count("records are lost"); n != 1 {
		t.Errorf("it was said %d times that records are lost", n)
	}
}

func TestALogThatIsClosedWhileNothingCanBeWrittenCountsWhatItHad(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), &disks{}
	l, said := openOn(t, d, dir, func(o *Options) { o.Spill = "" })
	d.main.Store(true)
	if err := l.Append(Record{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Stats().Lost != 1 || said.count("records are lost") != 1 {
		t.Errorf("%+v", l.Stats())
	}
}

// appendUntilKilled appends records and says which are on disk, while its disks break and
// heal.
func appendUntilKilled(dir string) {
	d := &disks{}
	l, err := open(filepath.Join(dir, "log"), Options{Spill: filepath.Join(dir, "spill"), Logger: slog.New(slog.DiscardHandler), retry: time.Millisecond}, d.open)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for n := 0; ; n++ {
		if rand.IntN(5) == 0 {
			d.main.Store(!d.main.Load())
		}
		id := fmt.Sprintf("%d-%d", os.Getpid(), n)
		if err := l.AppendSync(context.Background(), Record{ID: id}); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(id)
	}
}

// TestAProcessThatIsKilledLosesAndDoublesNothing: every record that was said to be on disk is
// there once, in its order, whenever the process is killed, and whichever folder was in use.
func TestAProcessThatIsKilledLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acknowledged []string
	spilled := 0
	for range 15 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n, most := 0, 20+rand.IntN(150); n < most && lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
		}
		_ = c.Process.Kill() // it may be anywhere
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
		}
		_ = c.Wait() // it was killed
		if names, err := segments(filepath.Join(dir, "spill")); err == nil && len(names) > 0 {
			spilled++
		}
	}
	l, err := OpenWith(filepath.Join(dir, "log"), Options{Spill: filepath.Join(dir, "spill"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the spill is empty", func() bool { return empty(t, l.Spill) })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := ids(t, Source{Dir: l.dir})
	next := 0
	seen := map[string]bool{}
	for _, id := range got {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if next < len(acknowledged) && id == acknowledged[next] {
			next++
		}
	}
	if next != len(acknowledged) {
		t.Errorf("of %d that were acknowledged, %q is missing or out of its order", len(acknowledged), acknowledged[next])
	}
	if spilled == 0 {
		t.Error("no process was killed with records in its spill: this tried too little")
	}
	t.Logf("%d records, killed %d times with records in the spill", len(got), spilled)
}

// TestADiskThatIsReallyFull fills a file system, and empties it again.
func TestADiskThatIsReallyFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	small := filepath.Join(dir, "log")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a file system of its own cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, 0) })
	l, said := openOn(t, &disks{}, dir, nil)
	t.Cleanup(func() { _ = l.Close() })
	sync1(t, l, "before")
	filler := filepath.Join(small, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling it: %v", err)
	}
	want := []string{"before"}
	for n := range 20 {
		id := fmt.Sprintf("%d-%s", n, strings.Repeat("x", 4000))
		sync1(t, l, id)
		want = append(want, id)
	}
	if empty(t, l.Spill) || said.count("no space left on device") == 0 {
		t.Fatal("the file system is not full")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	until(t, "the spill is empty", func() bool { return empty(t, l.Spill) })
	sync1(t, l, "after")
	if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), append(want, "after")); diff != "" {
		t.Error(diff)
	}
}
