package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/audit"
)

// TestSinksHaveAllThatTheLogHasAfterKills: a server that is killed again and again while it
// is called leaves nothing out of its sink, and joins no lines.
func TestSinksHaveAllThatTheLogHasAfterKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, path := filepath.Join(dir, "data"), filepath.Join(dir, "sink.jsonl")
	config := filepath.Join(dir, "gatehouse.yaml")
	text := "data: " + data + "\naudit:\n  sinks:\n  - {name: archive, records: [calls], file: {path: " + path + ", maxSize: 16384, keep: 0}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const rounds, each = 3, 30
	n := 0
	for range rounds {
		p := startServe(t, "--config", config)
		had := sinkLines(t, path)
		enough, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for begun := false; ; { // until it is killed
				if !begun && n%20 == 0 && sinkLines(t, path) >= had+each { // the sink is at work
					begun = true
					close(enough)
				}
				n++
				if _, err := p.create(http.DefaultClient, n); err != nil && begun && !strings.Contains(err.Error(), "notes/scan") {
					return
				}
			}
		}()
		<-enough
		p.kill()
		<-ended
	}
	p := startServe(t, "--config", config)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil { // what is left is handed on before it ends
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("serve: %v\n%s", err, p.stderr)
	}
	has := sinkIDs(t, path)
	calls := 0
	err := audit.QueryCalls(filepath.Join(data, "audit-api"), audit.CallFilter{}, func(c audit.Call) error {
		calls++
		if !has[c.ID] {
			t.Errorf("the sink has no call %s", c.ID)
		}
		return nil
	})
	if err != nil || calls < each { // lines that came again made up the rest
		t.Errorf("%d calls, error %v", calls, err)
	}
}

func sinkLines(t *testing.T, path string) int {
	t.Helper()
	n := 0
	for _, name := range sinkFiles(t, path) {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was put aside
			t.Error(err)
		}
		n += strings.Count(string(text), "\n")
	}
	return n
}

func sinkFiles(t *testing.T, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// sinkIDs are the ids in a sink's files. A line that is no record is one that a kill has
// cut short, and begins like one.
func sinkIDs(t *testing.T, path string) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, name := range sinkFiles(t, path) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var c audit.Call
			if err := json.Unmarshal([]byte(line), &c); err == nil {
				ids[c.ID] = true
			} else if strings.Count(line, `{"log":`) != 1 {
				t.Errorf("lines were joined: %s", line)
			}
		}
	}
	return ids
}
