package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnExportThatIsInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "audit", "a.jsonl"), []byte(`{"id":"1","event":"admission"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	export := func(ctx context.Context) error {
		c := auditCommand()
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs([]string{"--data", dir, "--export", filepath.Join(out, "all.jsonl")})
		return c.ExecuteContext(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := export(ctx); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 0 {
		t.Errorf("%v is left: %v", left, err)
	}
	if err := export(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 1 || left[0].Name() != "all.jsonl" {
		t.Errorf("%v was written: %v", left, err)
	}
}
