package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// named returns the name of a segment that was begun at a time.
func named(at time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	id[6], id[8] = 0x70, 0x80
	return id.String() + suffix
}

var morning = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)

// hourly makes a log of segments of an hour and size bytes each, and of one that is written,
// and opens it with a clock at noon.
func hourly(t *testing.T, hours int, size int, o Options) (*Log, *journal) {
	t.Helper()
	dir := t.TempDir()
	for n := range hours {
		at := morning.Add(time.Duration(n) * time.Hour)
		line := fmt.Sprintf(`{"id":"%d","time":%q,"event":"admission","namespace":"n%d"`, n, at.Add(time.Minute).Format(time.RFC3339), n%2)
		line += fmt.Sprintf(`,"error":%q}`, bytes.Repeat([]byte("x"), max(0, size-len(line)-12)))
		if err := os.WriteFile(filepath.Join(dir, named(at)), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said := &journal{}
	o.Now = func() time.Time { return morning.Add(6 * time.Hour) }
	o.Logger = slog.New(slog.NewTextHandler(said, nil))
	l, err := OpenWith(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, said
}

func TestWhatIsTooOldIsRemovedInWholeFiles(t *testing.T) {
	t.Parallel()
	l, _ := hourly(t, 6, 200, Options{}) // 06:00 to 11:00, and it is 12:00
	if err := l.tidy(l.Now()); err != nil || len(ids(t, Source{Dir: l.dir})) != 6 {
		t.Fatalf("removed without being told to: %v", err)
	}
	l.Retention = 150 * time.Minute // of 09:00 some records are younger
	if err := l.tidy(l.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), []string{"3", "4", "5"}); diff != "" {
		t.Error(diff)
	}
	l.Retention = time.Nanosecond
	if err := l.tidy(l.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), []string{"5"}); diff != "" {
		t.Errorf("the file that is written: %s", diff)
	}
	if l.Stats().Removed != 5 {
		t.Errorf("%+v", l.Stats())
	}
}

func TestWhatAFollowerHasNotReadStays(t *testing.T) {
	t.Parallel()
	l, said := hourly(t, 6, 200, Options{HoldFor: time.Hour})
	now := l.Now()
	l.Now = func() time.Time { return now }
	slow := l.Hold("slow", Position{named(morning.Add(2 * time.Hour)), 10})
	done := l.Hold("quick", Position{named(morning.Add(5 * time.Hour)), 0})
	tidy := func(want ...string) {
		t.Helper()
		if err := l.tidy(now); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), want); diff != "" {
			t.Error(diff)
		}
	}
	l.Retention = time.Minute
	tidy("2", "3", "4", "5")
	now = now.Add(48 * time.Hour)
	tidy("2", "3", "4", "5") // however long he stands still
	slow.Set(Position{named(morning.Add(2 * time.Hour)), 1 << 20})
	tidy("3", "4", "5") // he has read all of it
	slow.Set(Position{named(morning.Add(2 * time.Hour)), 1 << 21})
	l.MaxBytes = 450
	now = now.Add(time.Minute)
	tidy("3", "4", "5") // there is too much, and he moves
	now = now.Add(2 * time.Hour)
	tidy("4", "5") // he does not any more
	if s := l.Stats(); s.Overruled != 1 || said.count("follower=slow") != 1 {
		t.Errorf("%+v, said %d times", s, said.count("follower=slow"))
	}
	slow.Release()
	tidy("5")
	done.Release()
}

func TestMaxBytesRemovesTheOldest(t *testing.T) {
	t.Parallel()
	l, _ := hourly(t, 6, 200, Options{})
	l.MaxBytes = 700
	if err := l.tidy(l.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids(t, Source{Dir: l.dir}), []string{"3", "4", "5"}); diff != "" {
		t.Error(diff)
	}
}

func TestFilesThatAreTooOldOrTooNewAreNotRead(t *testing.T) {
	t.Parallel()
	l, _ := hourly(t, 60, 200, Options{})
	for about, tc := range map[string]struct {
		query query
		want  []string
		read  int
	}{
		"all":   {query{}, nil, 60},
		"since": {query{since: morning.Add(57 * time.Hour)}, []string{"57", "58", "59"}, 4},
		"until": {query{until: morning.Add(2 * time.Hour)}, []string{"0", "1"}, 27}, // a day later some could have waited
		"both":  {query{since: morning.Add(30 * time.Hour), until: morning.Add(31 * time.Hour)}, []string{"30"}, 27},
		"value": {query{needles: needles("n1"), since: morning.Add(56 * time.Hour)}, []string{"57", "59"}, 5},
	} {
		var got []string
		skipped := 0
		r := reader[Record]{Source: Source{Dir: l.dir}, query: tc.query, match: func(r Record) bool { return within(r.Time, tc.query.since, tc.query.until) }, fn: func(r Record) error { got = append(got, r.ID); return nil }}
		r.skipped = func(string) { skipped++ }
		if err := r.readOn(); err != nil {
			t.Fatal(err)
		}
		if tc.want != nil && !cmp.Equal(got, tc.want) || tc.want == nil && len(got) != 60 {
			t.Errorf("%s: %v", about, got)
		}
		if read := 60 - skipped; read != tc.read {
			t.Errorf("%s: %d files were read, want %d", about, read, tc.read)
		}
	}
}

func TestFollowingGoesOnWithWhatComes(t *testing.T) {
	t.Parallel()
	l, _ := hourly(t, 2, 200, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- Source{Dir: l.dir}.FollowRecords(ctx, Filter{Event: "admission"}, func(r Record) error { got <- r.ID; return nil })
	}()
	next := func(want string) {
		t.Helper()
		select {
		case id := <-got:
			if id != want {
				t.Errorf("got %s, want %s", id, want)
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing came, want %s", want)
		}
	}
	next("0")
	next("1")
	for _, r := range []Record{{ID: "2", Event: "other"}, {ID: "3", Event: "admission"}} {
		if err := l.AppendSync(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	next("3")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProgressTellsOfAllBytesAndEndsTheReading(t *testing.T) {
	t.Parallel()
	l, _ := hourly(t, 5, 200, Options{})
	var read, total int64
	s := Source{Dir: l.dir, Progress: func(r, t int64) error { read, total = r, t; return nil }}
	if err := s.Records(Filter{Since: morning.Add(3 * time.Hour)}, func(Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	_, size, err := l.closedSegments()
	if err != nil || read != total || total != size*3/5 {
		t.Errorf("%d of %d, and the log has %d bytes: %v", read, total, size, err)
	}
	enough := errors.New("enough")
	s.Progress = func(int64, int64) error { return enough }
	if err := s.Records(Filter{}, func(Record) error { return nil }); !errors.Is(err, enough) {
		t.Errorf("it went on: %v", err)
	}
}

func TestNamesOfSegmentsAlwaysGrow(t *testing.T) {
	t.Parallel()
	future := named(time.Now().Add(time.Hour))
	for _, last := range []string{"", named(morning), future, "ffffffff-ffff-7fff-bfff-fffffffffffe.jsonl", "zz.jsonl"} {
		if next := nameAfter(last); next <= last {
			t.Errorf("%s comes after %s", next, last)
		}
	}
	next := nameAfter(future)
	if begun(next).Sub(begun(future)).Abs() > time.Second {
		t.Errorf("%s is to follow %s", next, future)
	}
	if !begun(named(morning)).Equal(morning) || !begun("a.jsonl").IsZero() {
		t.Error("when a segment was begun")
	}
}
