package resolvetags

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestDiffsArePatches: whatever lines change, patch makes the one text of the other.
func TestDiffsArePatches(t *testing.T) {
	t.Parallel()
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Fatalf("the tests need the program patch (Debian: patch): %v", err)
	}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		var before, after strings.Builder
		for n := range 1 + r.IntN(60) {
			text := "line " + strconv.Itoa(n) + "\n"
			before.WriteString(text)
			if r.IntN(8) == 0 {
				text = "pinned " + text
			}
			after.WriteString(text)
		}
		a, b := before.String(), after.String()
		if seed%3 == 0 {
			a, b = strings.TrimSuffix(a, "\n"), strings.TrimSuffix(b, "\n")
		}
		var diff strings.Builder
		different, err := diffLines(&diff, "x", strings.NewReader(a), strings.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if different != (a != b) || (diff.Len() > 0) != different {
			t.Errorf("seed %d: different %v: %s", seed, different, &diff)
		}
		if !different {
			continue
		}
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, []byte(a), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), patch, "-s", file)
		cmd.Stdin = strings.NewReader(diff.String())
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("seed %d: %v %s\n%s", seed, err, out, &diff)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != b {
			t.Errorf("seed %d: %v\n%s\ngives\n%s", seed, err, &diff, got)
		}
	}
	if _, err := diffLines(&strings.Builder{}, "x", strings.NewReader("a\n"), strings.NewReader("a\nb\n")); err == nil {
		t.Error("texts of different lengths were compared")
	}
}
