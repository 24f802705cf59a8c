package sink

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
)

const (
	defaultFileSize = 100 << 20 // bytes
	defaultFileKeep = 10
	minFileSize     = 4 << 10

	// stdoutPath is the path of standard output.
	stdoutPath = "-"
	// rotatedTime is in the names of files that are full; they sort by it.
	rotatedTime = "20060102T150405.000000000Z"
	gzipSuffix  = ".gz"
	partSuffix  = ".part"
)

// File is a file of lines of JSON. When it is full it is put aside under a name with the
// time, and a new one begun.
type File struct {
	// Path of the file, or "-" for standard output.
	Path string `yaml:"path"`
	// MaxSize of a file, in bytes. Default 100 MiB.
	MaxSize int64 `yaml:"maxSize"`
	// MaxAge of a file. Default: it may get as old as it likes.
	MaxAge time.Duration `yaml:"maxAge"`
	// Keep is how many full files are kept; 0 is all. Default 10.
	Keep *int `yaml:"keep"`
	// Compress writes full files with gzip.
	Compress bool   `yaml:"compress"`
	Format   Format `yaml:"format"`
}

func (c *File) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Path == "" {
		bad("where to? give path, or %q for standard output", stdoutPath)
	}
	if c.MaxSize != 0 && c.MaxSize < minFileSize {
		bad("maxSize %d: want 0 or at least %d", c.MaxSize, minFileSize)
	}
	if c.MaxAge < 0 || c.Keep != nil && *c.Keep < 0 {
		bad("maxAge and keep: want 0 or more")
	}
	if c.Path == stdoutPath && (c.MaxSize != 0 || c.MaxAge != 0 || c.Keep != nil || c.Compress) {
		bad("standard output is no file: leave maxSize, maxAge, keep and compress out")
	}
	return errors.Join(errs...)
}

func (c *File) format() Format { return c.Format }

func (c *File) open(o Options) (deliver.Sink, error) {
	if c.Path == stdoutPath {
		return &stream{out: o.Stdout, format: c.Format, place: o.Place}, nil
	}
	f := &fileSink{
		path: c.Path, maxSize: cmp.Or(c.MaxSize, defaultFileSize), maxAge: c.MaxAge, keep: defaultFileKeep, compress: c.Compress,
		format: c.Format, place: o.Place, now: o.Now, logger: o.Logger,
	}
	if c.Keep != nil {
		f.keep = *c.Keep
	}
	return f, nil
}

// lines writes entries as lines.
func lines(format Format, place Place, entries []deliver.Entry) ([]byte, error) {
	var b bytes.Buffer
	for _, e := range entries {
		line, err := format.line(e, place)
		if err != nil {
			return nil, &deliver.RefusedError{Err: err}
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// A fileSink writes to a file. What cannot be finished, it leaves alone on its line.
type fileSink struct {
	path     string
	maxSize  int64
	maxAge   time.Duration
	keep     int
	compress bool
	format   Format
	place    Place
	now      func() time.Time
	logger   *slog.Logger

	f     *os.File // nil: to be opened
	size  int64
	begun time.Time
	torn  bool // the last line has no end
}

// Send appends entries and has them on disk.
func (s *fileSink) Send(_ context.Context, entries []deliver.Entry) error {
	text, err := lines(s.format, s.place, entries)
	if err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return fmt.Errorf("opening %s: %w", s.path, err)
	}
	if s.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := s.f.Write(text)
	s.size += int64(n)
	if n > 0 {
		s.torn = text[n-1] != '\n'
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.path, errors.Join(err, s.Close()))
	}
	return nil
}

// ready has a file open that is at the path, and has room.
func (s *fileSink) ready() error {
	if s.f != nil && s.moved() {
		if err := s.Close(); err != nil {
			return err
		}
	}
	if s.f == nil {
		if err := s.reopen(); err != nil {
			return err
		}
	}
	full := s.size >= s.maxSize || s.maxAge > 0 && s.now().Sub(s.begun) >= s.maxAge
	if s.size == 0 || !full {
		return nil
	}
	return s.rotate()
}

// moved reports whether somebody has renamed or removed the file.
func (s *fileSink) moved() bool {
	at, err := os.Stat(s.path)
	if err != nil {
		return true
	}
	ours, err := s.f.Stat()
	return err != nil || !os.SameFile(at, ours)
}

func (s *fileSink) reopen() error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		last := make([]byte, 1)
		_, err = f.ReadAt(last, info.Size()-1)
		s.torn = last[0] != '\n'
	} else {
		s.torn = false
	}
	if err == nil {
		err = syncFolder(s.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.f, s.size, s.begun = f, info.Size(), s.now()
	if s.size > 0 {
		s.begun = s.begin(f, info)
	}
	return nil
}

// begin is when a file that is there was begun: the time of its first record, or else when
// it was last written.
func (s *fileSink) begin(f *os.File, info fs.FileInfo) time.Time {
	head := make([]byte, 64<<10)
	n, _ := f.ReadAt(head, 0)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	if t, ok := timeOf(line); ok {
		return t
	}
	return info.ModTime()
}

// rotate puts the file aside and begins a new one. That older ones cannot be compressed
// or removed keeps nobody from writing.
func (s *fileSink) rotate() error {
	if err := os.Rename(s.path, s.path+"-"+s.now().UTC().Format(rotatedTime)); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := s.reopen(); err != nil {
		return err
	}
	if err := s.tidy(); err != nil {
		s.logger.Error("full audit files could not be compressed or removed", "path", s.path, "error", err)
	}
	return nil
}

// tidy compresses full files, and removes the oldest.
func (s *fileSink) tidy() error {
	full, err := s.full()
	if err != nil {
		return err
	}
	var errs []error
	if s.keep > 0 {
		for len(full) > s.keep {
			errs = append(errs, os.Remove(full[0]))
			full = full[1:]
		}
	}
	if s.compress {
		for _, path := range full {
			if !strings.HasSuffix(path, gzipSuffix) {
				errs = append(errs, compress(path))
			}
		}
	}
	return errors.Join(errs...)
}

// full are the files that were put aside, the oldest first. Those with other names are not
// ours.
func (s *fileSink) full() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		at, ok := strings.CutPrefix(e.Name(), filepath.Base(s.path)+"-")
		if _, err := time.Parse(rotatedTime, strings.TrimSuffix(at, gzipSuffix)); ok && err == nil {
			paths = append(paths, filepath.Join(filepath.Dir(s.path), e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// compress replaces a file with one that gzip has written.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // read only
	part := path + gzipSuffix + partSuffix
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(out)
	_, err = io.Copy(zip, in)
	if err = errors.Join(err, zip.Close(), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return errors.Join(os.Rename(part, path+gzipSuffix), os.Remove(path), syncFolder(path))
}

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the file, if it is open.
func (s *fileSink) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}

// A stream writes to what somebody else reads, such as standard output.
type stream struct {
	out    io.Writer
	format Format
	place  Place
	busy   chan error // of a write that has not ended
}

// Send writes entries. Whoever reads may let it wait: the write goes on behind, and what
// it writes comes again.
func (s *stream) Send(ctx context.Context, entries []deliver.Entry) error {
	text, err := lines(s.format, s.place, entries)
	if err != nil {
		return err
	}
	if s.busy != nil {
		if err := s.await(ctx); err != nil {
			return err
		}
	}
	s.busy = make(chan error, 1)
	go func(done chan<- error) {
		_, err := s.out.Write(text)
		done <- err
	}(s.busy)
	return s.await(ctx)
}

func (s *stream) await(ctx context.Context) error {
	select {
	case err := <-s.busy:
		s.busy = nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("nobody reads standard output: %w", ctx.Err())
	}
}

// Close does nothing.
func (s *stream) Close() error { return nil }
