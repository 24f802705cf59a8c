package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

func TestAFileIsReplacedWithItsMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []struct {
		text string
		mode os.FileMode
	}{{"the first, which is longer", 0o644}, {"second", 0o600}} {
		if err := durable.WriteFile(path, []byte(want.text), want.mode); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want.text {
			t.Errorf("got %q, error %v", text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want.mode {
			t.Errorf("mode %v, error %v; want %v", info.Mode(), err, want.mode)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, error %v", left, err)
	}
}

func TestWhatCannotBeWrittenStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, nil, 0o600); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, error %v", left, err)
	}
}
