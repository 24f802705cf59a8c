package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
)

func open(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l, err := audit.Open(dir, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func record(name string) audit.Record {
	return audit.Record{ID: audit.NewID(), Time: time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), Event: "admission", Name: name}
}

func names(t *testing.T, dir string, f audit.Filter) []string {
	t.Helper()
	var got []string
	err := audit.Query(dir, f, func(r audit.Record) error {
		got = append(got, r.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAppendSyncIsReadableBeforeClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.AppendSync(t.Context(), record("a")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(t, dir, audit.Filter{}), []string{"a"}); diff != "" {
		t.Error(diff)
	}
}

func TestAppendSyncCommitsEarlierAppends(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	for i := range 100 {
		if err := l.Append(record(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AppendSync(t.Context(), record("last")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir, audit.Filter{}); len(got) != 101 || got[0] != "0" || got[100] != "last" {
		t.Errorf("got %d records %v", len(got), got)
	}
}

func TestCloseCommitsWhatWasAppended(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.Append(record("a")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(t, dir, audit.Filter{}), []string{"a"}); diff != "" {
		t.Error(diff)
	}
}

func TestAppendIsCommittedWithoutAnotherCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	for _, n := range []string{"a", "b"} { // b after the first group, maybe
		if err := l.Append(record(n)); err != nil {
			t.Fatal(err)
		}
	}
	deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for len(names(t, dir, audit.Filter{})) < 2 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not on disk after 10 s")
		}
	}
}

func TestConcurrentAppendsAllArriveOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := l.AppendSync(t.Context(), record(fmt.Sprintf("%d/%d", g, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, n := range names(t, dir, audit.Filter{}) {
		seen[n]++
	}
	if len(seen) != 400 {
		t.Errorf("%d distinct records, want 400", len(seen))
	}
	for n, k := range seen {
		if k != 1 {
			t.Errorf("record %s written %d times", n, k)
		}
	}
}

func TestTornLastLineIsCutAndTheRestKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	for _, n := range []string{"a", "b"} {
		if err := l.AppendSync(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v", files, err)
	}
	st, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[0], st.Size()-5); err != nil { // as kill -9 in the middle of a write leaves it
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(t, dir, audit.Filter{}), []string{"a"}); diff != "" {
		t.Errorf("while torn: %s", diff)
	}
	l = open(t, dir)
	if err := l.AppendSync(t.Context(), record("c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(t, dir, audit.Filter{}), []string{"a", "c"}); diff != "" {
		t.Error(diff)
	}
}

func TestAppendAfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendSync(context.Background(), record("a")); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestQuerySelects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	denied := record("denied")
	denied.Namespace = "shop"
	denied.Decision = &decide.Decision{Verdict: decide.DENY, Images: []decide.ImageDecision{{Image: "reg.test/web@sha256:1"}}}
	broken := record("broken")
	broken.Time = broken.Time.Add(time.Hour)
	broken.Decision = &decide.Decision{Allowed: true, Verdict: decide.DENY, Override: decide.BreakGlass, BreakGlass: "label x"}
	for _, r := range []audit.Record{denied, broken, record("unchanged")} {
		if err := l.AppendSync(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		filter audit.Filter
		want   []string
	}{
		"everything":           {audit.Filter{}, []string{"denied", "broken", "unchanged"}},
		"by namespace":         {audit.Filter{Namespace: "shop"}, []string{"denied"}},
		"by image":             {audit.Filter{Image: "reg.test/web"}, []string{"denied"}},
		"by verdict":           {audit.Filter{Verdict: "DENY"}, []string{"denied", "broken"}},
		"by override":          {audit.Filter{Override: "BREAK_GLASS"}, []string{"broken"}},
		"with a marker":        {audit.Filter{BreakGlass: true}, []string{"broken"}},
		"since":                {audit.Filter{Since: broken.Time}, []string{"broken"}},
		"until":                {audit.Filter{Until: broken.Time}, []string{"denied", "unchanged"}},
		"nothing of that kind": {audit.Filter{Namespace: "other"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(names(t, dir, tc.filter), tc.want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALargeRecordIsShortenedAndHidesNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	large := record("large")
	large.Decision = &decide.Decision{Verdict: decide.DENY}
	for range 100_000 {
		large.Decision.Images = append(large.Decision.Images, decide.ImageDecision{Image: "reg.test/some/image", Verdict: decide.DENY})
	}
	huge := record("huge")
	huge.Name = strings.Repeat("x", 3<<20)
	for _, r := range []audit.Record{large, huge, record("after")} {
		if err := l.AppendSync(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var got []audit.Record
	if err := audit.Query(dir, audit.Filter{}, func(r audit.Record) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !got[0].Truncated || len(got[0].Decision.Images) == 0 || got[0].Decision.Verdict != decide.DENY ||
		!got[1].Truncated || len(got[1].Name) > 1<<20 || got[2].Name != "after" {
		t.Errorf("%d records, the first truncated %v", len(got), got[0].Truncated)
	}
	if len(large.Decision.Images) != 100_000 {
		t.Error("the caller's record was changed")
	}
}

func TestADamagedLineHidesNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.AppendSync(t.Context(), record("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0-damaged.jsonl"), []byte("{\n"+strings.Repeat("x", 5<<20)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := audit.Query(dir, audit.Filter{}, func(r audit.Record) error { got = append(got, r.Name); return nil })
	if err == nil || !strings.Contains(err.Error(), "0-damaged.jsonl line 1") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(got, []string{"a"}); diff != "" {
		t.Error(diff)
	}
}

func TestQueryOfAMissingFolderSaysWhereToLook(t *testing.T) {
	t.Parallel()
	err := audit.Query(filepath.Join(t.TempDir(), "none"), audit.Filter{}, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
