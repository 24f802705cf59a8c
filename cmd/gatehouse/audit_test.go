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

func TestAuditRefusesWordsThatNoRecordHas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kind := range []string{"audit", "audit-api"} {
		if err := os.Mkdir(filepath.Join(dir, kind), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]struct {
		code int
		said string
	}{
		"--verdict DENIED":                  {exitUnknown, "want ALLOW, DENY or INDETERMINATE"},
		"--verdict deny":                    {exitNo, "no record is selected"},
		"--override BREAKGLASS":             {exitUnknown, "BREAK_GLASS"},
		"--override dry_run":                {exitNo, "no record is selected"},
		"--event pulled":                    {exitUnknown, "pull"},
		"--event pull":                      {exitNo, "no record is selected"},
		"--api --code DENIED":               {exitUnknown, "PERMISSION_DENIED"},
		"--api --code permission_denied":    {exitNo, "no record is selected"},
		"--since 1m --until 5m":             {exitUnknown, "is not before"},
		"--since 5m --until 1m":             {exitNo, "no record is selected"},
		"--spill " + dir + "/nowhere":       {exitUnknown, "audit.spillDir"},
		"--spill " + dir + " --namespace x": {exitNo, "no record is selected"},
	} {
		var out, said strings.Builder
		code := run(t.Context(), append([]string{"audit", "--data", dir}, strings.Fields(args)...), nil, &out, &said)
		if code != want.code || !strings.Contains(said.String(), want.said) || out.Len() > 0 {
			t.Errorf("%s: %d %s%s", args, code, out.String(), said.String())
		}
	}
}

func TestAPullThatNobodyCouldJudgeIsRecordedWithItsImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "verifier.yaml")
	text := "node: n1\ngates: [{url: 'https://127.0.0.1:1'}]\nauditDir: " + filepath.Join(dir, "audit") + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said strings.Builder
	args := []string{"image-verifier", "--config", config, "--name", "reg.test/shop/web:1", "--digest", "sha256:" + strings.Repeat("a", 64)}
	if code := run(t.Context(), args, nil, &out, &said); code != exitNo {
		t.Fatalf("%d %s%s", code, out.String(), said.String())
	}
	out.Reset()
	if code := run(t.Context(), []string{"audit", "--data", dir, "--event", "pull", "--image", "shop/web"}, nil, &out, &said); code != exitYes {
		t.Fatalf("%d %s", code, said.String())
	}
	for _, want := range []string{"INDETERMINATE  pull imagepulls.gatehouse.dev n1\n", "reg.test/shop/web:1\n", "nobody could judge the image: https://127.0.0.1:1: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
