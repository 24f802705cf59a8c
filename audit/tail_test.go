package audit_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit"
)

func TestLinesFollowTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// An earlier file, and a line that a crash has torn.
	for name, text := range map[string]string{"0a.jsonl": "{\"id\":\"1\"}\n{\"id\":\"2\"}\n", "0b.jsonl": "{\"id\":\"3\"}\n{\"id\":\"to"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := audit.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var after []audit.Position
	follow := func(at audit.Position) (ids []string, end audit.Position) {
		t.Helper()
		end, err := log.Lines(at, func(line []byte, next audit.Position) error {
			ids = append(ids, strings.Split(string(line), `"`)[3])
			after = append(after, next)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids, end
	}
	ids, end := follow(audit.Position{})
	if diff := cmp.Diff([]string{"1", "2", "3"}, ids); diff != "" {
		t.Error(diff)
	}
	if ids, _ := follow(after[0]); !cmp.Equal(ids, []string{"2", "3"}) {
		t.Errorf("after the first line: %v", ids)
	}
	if ids, _ := follow(end); ids != nil {
		t.Errorf("after all lines: %v", ids)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() { waited <- log.Wait(ctx, end) }()
	if err := log.AppendSync(ctx, audit.Record{ID: "4"}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if ids, end = follow(end); !cmp.Equal(ids, []string{"4"}) {
		t.Errorf("after another: %v", ids)
	}
	cancel()
	if err := log.Wait(ctx, end); err == nil {
		t.Error("waiting for more ended though there is none")
	}
	if ids, back := follow(audit.Position{Segment: "0b.jsonl", Offset: 1 << 30}); ids != nil || back != end {
		t.Errorf("beyond the end: %v, %v", ids, back)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
