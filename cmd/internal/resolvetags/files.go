package resolvetags

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
)

// A replacement is a file that has been written beside another, to take its place.
type replacement struct {
	name    string // as it was given
	path    string // of the file itself, not of a link to it
	tmp     string
	before  fs.FileInfo
	changed int
}

// writeFiles writes all files that change: all of them beside what they replace, and only
// then each in its place. What is wrong with one is found before any is replaced, and a
// crash leaves each of them whole.
func (r *run) writeFiles(ctx context.Context) (err error) {
	var made []replacement
	defer func() {
		for _, m := range made {
			if m.tmp != "" {
				err = errors.Join(err, os.Remove(m.tmp))
			}
		}
	}()
	seen := map[string]bool{}
	for _, in := range r.inputs {
		path, err := filepath.EvalSymlinks(in.path)
		if err != nil {
			return err
		}
		if seen[path] {
			continue
		}
		seen[path] = true
		m, err := r.writeBeside(ctx, in, path)
		if m.tmp != "" {
			made = append(made, m)
		}
		if err != nil {
			return err
		}
	}
	for i := range made {
		m := &made[i]
		if m.changed == 0 {
			continue
		}
		if err := m.commit(); err != nil {
			return err
		}
		if r.output == textOutput {
			if _, err := fmt.Fprintf(r.stdout, "%s: %s pinned\n", terminal.Printable(m.name), counted(m.changed, "image")); err != nil {
				return err
			}
		}
	}
	if r.output == jsonOutput {
		return r.printReport()
	}
	return nil
}

func (r *run) writeBeside(ctx context.Context, in input, path string) (m replacement, err error) {
	m = replacement{name: in.name, path: path}
	if m.before, err = os.Stat(path); err != nil {
		return m, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".resolve-tags-*")
	if err != nil {
		return m, err
	}
	m.tmp = tmp.Name()
	defer func() { err = errors.Join(err, tmp.Close()) }()
	w := bufio.NewWriterSize(tmp, 64<<10)
	if m.changed, err = r.rewrite(ctx, []input{in}, w, nil); err != nil {
		return m, err
	}
	if err := w.Flush(); err != nil {
		return m, err
	}
	if m.changed == 0 {
		return m, nil
	}
	if err := tmp.Chmod(m.before.Mode().Perm()); err != nil {
		return m, err
	}
	return m, tmp.Sync()
}

// commit puts the file in its place, unless that has been changed since.
func (m *replacement) commit() error {
	now, err := os.Stat(m.path)
	if err != nil {
		return err
	}
	if !os.SameFile(now, m.before) || now.Size() != m.before.Size() || !now.ModTime().Equal(m.before.ModTime()) {
		return fmt.Errorf("writing %s: it was changed by someone else meanwhile; run this again", m.name)
	}
	if err := os.Rename(m.tmp, m.path); err != nil {
		return err
	}
	m.tmp = ""
	return nil
}

// printDiff prints what would change.
func (r *run) printDiff(ctx context.Context) error {
	w := bufio.NewWriterSize(r.stdout, 64<<10)
	different := false
	for _, in := range r.inputs {
		differs, err := r.diffOf(ctx, in, w)
		if err != nil {
			return err
		}
		different = different || differs
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.check && different {
		return ErrUnpinned
	}
	return nil
}

func (r *run) diffOf(ctx context.Context, in input, w io.Writer) (bool, error) {
	after, err := r.from.scratch()
	if err != nil {
		return false, err
	}
	defer func() { _ = after.Close() }()
	buffered := bufio.NewWriterSize(after, 64<<10)
	if _, err := r.rewrite(ctx, []input{in}, buffered, nil); err != nil {
		return false, err
	}
	if err := buffered.Flush(); err != nil {
		return false, err
	}
	if _, err := after.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	before, err := in.open()
	if err != nil {
		return false, err
	}
	defer func() { _ = before.Close() }()
	differs, err := diffLines(w, terminal.Printable(in.name), before, after)
	return differs, errors.Join(err, os.Remove(after.Name()))
}
