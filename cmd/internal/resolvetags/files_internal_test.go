package resolvetags

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFileThatSomeoneElseChangesIsNotReplaced(t *testing.T) {
	t.Parallel()
	for about, change := range map[string]func(path string) error{
		"":           func(string) error { return nil },
		"written":    func(path string) error { return os.WriteFile(path, []byte("theirs, and longer"), 0o600) },
		"touched":    func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"taken away": os.Remove,
		"replaced by another": func(path string) error {
			before, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", []byte("before"), 0o600); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", time.Time{}, before.ModTime()); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		dir := t.TempDir()
		path, tmp := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "tmp")
		for name, text := range map[string]string{path: "before", tmp: "pinned"} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		m := replacement{name: "a.yaml", path: path, tmp: tmp, before: before}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		err = m.commit()
		got, _ := os.ReadFile(path)
		if replaced := string(got) == "pinned"; replaced != (about == "") || (err == nil) != replaced {
			t.Errorf("%q: %v, and the file is %q", about, err, got)
		}
		if (m.tmp == "") != (about == "") {
			t.Errorf("%q: what was written beside it is forgotten, or not: %q", about, m.tmp)
		}
		if err != nil && about != "taken away" && !strings.Contains(err.Error(), "changed by someone else") {
			t.Errorf("%q: %v", about, err)
		}
	}
}
