package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

type taking struct{ pages []Page }

func (r *taking) Send(_ context.Context, p Page) error { r.pages = append(r.pages, p); return nil }

func options(dir string, r Receiver) Options {
	return Options{Dir: dir, Routes: []Route{{Name: "all", Receivers: []string{"a"}}}, Receivers: map[string]Receiver{"a": r}}
}

func opened(t *testing.T, dir string) *Outbox {
	t.Helper()
	o, err := Open(options(dir, new(taking)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() }) // more than once is allowed
	return o
}

func TestADiskThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), new(taking)
		o, err := Open(options(dir, r))
		if err != nil {
			t.Fatal(err)
		}
		sick := &sickFile{file: o.journal.f, left: 100}
		o.journal.f = sick
		o.journal.create = func(string) (file, error) { return nil, errFull }
		m := Message{ID: "1", Kind: Opened, Key: "k", Severity: Critical, Title: "t"}
		for range 3 {
			if err := o.Enqueue(t.Context(), m); !errors.Is(err, errFull) {
				t.Fatalf("on a full disk: %v", err)
			}
		}
		if n, _ := o.waiting(); n != 1 {
			t.Errorf("%d messages wait", n)
		}
		if info, err := os.Stat(o.journal.path); err != nil || info.Size() != 0 {
			t.Errorf("half a line stays: %v, %v", info.Size(), err)
		}

		{ // the page goes out all the same
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- o.Run(ctx) }()
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(r.pages) != 1 {
				t.Errorf("%d pages", len(r.pages))
			}
			second := m
			second.ID, second.Key = "2", "k2"
			if err := o.Enqueue(t.Context(), second); !errors.Is(err, errFull) {
				t.Errorf("on a full disk: %v", err)
			}
			// There is room again before the page may go out.
			o.mu.Lock()
			o.journal.create = createFile
			o.mu.Unlock()
			time.Sleep(repairEvery + time.Millisecond)
			synctest.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := o.Enqueue(t.Context(), m); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		again := opened(t, dir)
		if n, _ := again.waiting(); n != 1 || again.routes[0].queue[0].msg.ID != "2" {
			t.Errorf("after a restart %d messages wait", n)
		}
		_ = again.Close() // within the bubble
	})
}

var errFull = errors.New("no space left on device")

// A sickFile takes so many bytes more, and then fails in the middle of a write.
type sickFile struct {
	file
	left int
}

func (f *sickFile) Write(b []byte) (int, error) {
	if len(b) <= f.left {
		f.left -= len(b)
		return f.file.Write(b)
	}
	n, err := f.file.Write(b[:f.left])
	f.left = 0
	return n, errors.Join(errFull, err)
}

// TestARealDiskThatIsFull needs a file system of its own, which only root can make.
func TestARealDiskThatIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	o := opened(t, dir)
	kept := 0
	var err error
	for ; kept < 100 && err == nil; kept++ {
		err = o.Enqueue(t.Context(), Message{Kind: Opened, Key: "k" + string(rune('a'+kept%26)) + string(rune('a'+kept/26)), Severity: Error, Fields: []Field{{Why, strings.Repeat("x", 1400)}}})
	}
	if kept--; !errors.Is(err, unix.ENOSPC) || kept < 10 {
		t.Fatalf("%d messages were kept, then: %v", kept, err)
	}
	if err := o.Close(); err != nil {
		t.Logf("closing: %v", err)
	}
	again := opened(t, dir) // which the full disk does not prevent
	if n, _ := again.waiting(); n != kept {
		t.Errorf("%d messages are there, want %d", n, kept)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsDamaged(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage func(lines []string) string
		want   string // keys
		aside  bool
	}{
		"nothing":                {func(l []string) string { return strings.Join(l, "") }, "abc", false},
		"half a line at the end": {func(l []string) string { return strings.Join(l, "") + l[0][:20] }, "abc", false},
		"a line in the middle":   {func(l []string) string { return l[0] + strings.Replace(l[1], "{", "[", 1) + l[2] }, "ac", true},
		"a bit":                  {func(l []string) string { return l[0] + strings.Replace(l[1], `"b"`, `"d"`, 1) + l[2] }, "ac", true},
		"zeros":                  {func(l []string) string { return l[0] + strings.Repeat("\x00", 5000) + "\n" + l[2] }, "ac", true},
		"a line without end":     {func(l []string) string { return l[0] + strings.Repeat("x", maxLine+10) + "\n" + l[2] }, "ac", true},
		"everything":             {func([]string) string { return "no outbox\nat all\n" }, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var lines []string
			for i, key := range []string{"a", "b", "c"} {
				m := Message{ID: key, Kind: Opened, Key: key, Severity: Error, Count: 1}
				lines = append(lines, string(line(entry{Op: opPut, Seq: uint64(i + 1), Route: "all", ID: key, Msg: &m})))
			}
			path := filepath.Join(dir, journalName)
			text := tc.damage(lines)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			o := opened(t, dir)
			var got string
			for _, it := range o.routes[0].queue {
				got += it.msg.Key
			}
			if got != tc.want {
				t.Errorf("%s are there, want %s", got, tc.want)
			}
			aside, err := os.ReadFile(path + damagedSuffix)
			if tc.aside != (err == nil) || tc.aside && string(aside) != text {
				t.Errorf("the copy: %d bytes, %v", len(aside), err)
			}
			// And it goes on.
			if err := o.Enqueue(t.Context(), Message{Kind: Opened, Key: "z", Severity: Error}); err != nil {
				t.Fatal(err)
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			if n, _ := opened(t, dir).waiting(); n != len(tc.want)+1 {
				t.Errorf("after a restart there are %d", n)
			}
		})
	}
}

func FuzzJournal(f *testing.F) {
	m := Message{ID: "i", Kind: Opened, Key: "k", Severity: Error, Count: 1}
	sound := line(entry{Op: opPut, Seq: 1, Route: "all", ID: "i", Msg: &m})
	f.Add([]byte(nil))
	f.Add(sound)
	f.Add(append(line(entry{Op: opDone, Seqs: []uint64{1}}), sound[:30]...))
	f.Add([]byte("00000000 {}\n\x00\x00\n"))
	f.Fuzz(func(t *testing.T, before []byte) {
		dir := t.TempDir()
		content := append(append(append([]byte{}, before...), '\n'), sound...)
		if err := os.WriteFile(filepath.Join(dir, journalName), content, 0o600); err != nil {
			t.Fatal(err)
		}
		o := opened(t, dir)
		if n, _ := o.waiting(); n == 0 {
			t.Errorf("a sound line after %q is lost", before)
		}
	})
}
