package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A log is a sequence of segments, in the order of their names, whichever folder each is
// in: that of the log, or its spill. A name is a UUID of version 7, so that it tells when
// the file was begun, and stays when the file is moved: a [Position] in it, too.

const (
	suffix = ".jsonl"
	// partial is at the end of what is a copy that was not finished.
	partial = ".part"
)

// nameAfter returns the name of a new segment, which sorts after one that is there, even
// if the clock was set back.
func nameAfter(last string) string {
	name := NewID() + suffix
	if name > last {
		return name
	}
	id, err := uuid.Parse(strings.TrimSuffix(last, suffix))
	if err != nil {
		return strings.TrimSuffix(last, suffix) + "~" + name // which sorts after the dot
	}
	for i := len(id) - 1; i >= 0; i-- { // as a number, plus one
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id.String() + suffix
}

// begun returns when a segment was begun, the zero Time if its name does not tell.
func begun(name string) time.Time {
	id, err := uuid.Parse(strings.TrimSuffix(name, suffix))
	if err != nil || id.Version() != 7 {
		return time.Time{}
	}
	return time.Unix(id.Time().UnixTime())
}

// segments returns the names in a folder, sorted.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// allSegments returns the names of a log that has a spill, or none ("").
func allSegments(dir, spill string) ([]string, error) {
	// The spill first: what is moved meanwhile is found in the log.
	var spilled []string
	if spill != "" {
		var err error
		if spilled, err = segments(spill); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	names, err := segments(dir)
	if err != nil && (len(spilled) == 0 || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	names = append(names, spilled...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// openForReading opens a segment wherever it is.
func openForReading(dir, spill, name string) (*os.File, error) {
	if spill != "" {
		f, err := os.Open(filepath.Join(spill, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return os.Open(filepath.Join(dir, name))
}

// cutTornLine truncates f after its last newline and returns its size.
func cutTornLine(f file) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const block = 64 << 10
	buf := make([]byte, block)
	for end := st.Size(); end > 0; {
		start := max(0, end-block)
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			size := start + int64(i) + 1
			if size == st.Size() {
				return size, nil
			}
			return size, f.Truncate(size)
		}
		end = start
	}
	if st.Size() > 0 {
		return 0, f.Truncate(0)
	}
	return 0, nil
}

// A file is an *os.File, unless a test says otherwise.
type file interface {
	io.ReaderAt
	io.Writer
	Name() string
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil { // no *os.File that is nil in a file that is not
		return nil, err
	}
	return f, nil
}

// A folder is where segments are written, one at a time.
type folder struct {
	dir  string
	open func(path string, flag int) (file, error)
	file file // nil: none is open
	size int64
	// torn is set while what follows size in the file could not be cut off.
	torn bool
}

// begin begins a segment, or goes on with one that is there.
func (d *folder) begin(name string) error {
	f, err := d.open(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return err
	}
	size, err := cutTornLine(f)
	if err == nil { // whoever follows the log may rest on what a process left that was killed
		err = errors.Join(f.Sync(), syncDir(d.dir))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.end()
	d.file, d.size, d.torn = f, size, false
	return nil
}

// end closes the segment. What was written to it is on disk, or was reported as not.
func (d *folder) end() {
	if d.file != nil {
		_ = d.file.Close()
		d.file = nil
	}
}

func (d *folder) name() string { return filepath.Base(d.file.Name()) }

// write appends lines and fsyncs them. After a failure the file is cut back to where they
// began, so that half a line can never run into the next.
func (d *folder) write(chunks [][]byte) error {
	if err := d.mend(); err != nil {
		return err
	}
	var size int64
	for _, c := range chunks {
		n, err := d.file.Write(c)
		size += int64(n)
		if err != nil {
			return d.failed(size, err)
		}
	}
	if err := d.file.Sync(); err != nil {
		return d.failed(size, err)
	}
	d.size += size
	return nil
}

func (d *folder) failed(written int64, err error) error {
	d.torn = written > 0
	return errors.Join(err, d.mend())
}

// mend cuts off what a write that failed has left.
func (d *folder) mend() error {
	if d.file == nil || !d.torn {
		return nil
	}
	if err := d.file.Truncate(d.size); err != nil {
		return err
	}
	d.torn = false
	return nil
}

// take copies a segment from another folder, and removes it there. It is in this folder
// whole or not at all, under the name that it had, so that a process which is killed
// meanwhile leaves it at one place, or the same file at both.
func (d *folder) take(from, name string) error {
	source, err := os.Open(filepath.Join(from, name))
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // read only
	path := filepath.Join(d.dir, name)
	if err := d.copyTo(path+partial, source); err != nil {
		_ = os.Remove(path + partial) // it takes room that is needed
		return err
	}
	if err := os.Rename(path+partial, path); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(from, name))
}

func (d *folder) copyTo(path string, source io.Reader) error {
	f, err := d.open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, source); err == nil {
		if _, err = cutTornLine(f); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// sweep removes copies that were not finished.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*"+suffix+partial))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
