package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// The names beside a file that is being exported.
const (
	partSuffix  = ".part"
	stateSuffix = ".part-state"
	maxState    = 1 << 20
)

// fits says what an export is of: another cannot go on with its file.
type fits struct {
	Source   string    `json:"source"`
	APIs     []Version `json:"apis"`
	Projects []string  `json:"projects"`
}

// A position is how far an export has come. It is true of the first Bytes of the
// file; what follows them is dropped.
type position struct {
	fits
	Section sort     `json:"section"`
	Parent  int      `json:"parent"`
	Tokens  []cursor `json:"tokens,omitempty"`
	Bytes   int64    `json:"bytes"`
	Totals  Totals   `json:"totals"`
}

// A cursor is how far the walk through one version has come.
type cursor struct {
	Token string `json:"token"`
	Done  bool   `json:"done"`
}

// An output is where an export goes: a file in the making with its state beside
// it, or a stream.
type output struct {
	buffered *bufio.Writer
	file     *os.File // nil for a stream
	final    string
	bytes    int64
}

func newStream(w io.Writer) *output { return &output{buffered: bufio.NewWriterSize(w, 1<<16)} }

func (o *output) write(text []byte) error {
	n, err := o.buffered.Write(text)
	o.bytes += int64(n)
	return err
}

func (o *output) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// sync makes what was written last.
func (o *output) sync() error {
	if err := o.buffered.Flush(); err != nil || o.file == nil {
		return err
	}
	return o.file.Sync()
}

// finish gives the file its name.
func (o *output) finish() error {
	if err := o.sync(); err != nil || o.file == nil {
		return err
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(o.final+partSuffix, o.final); err != nil {
		return err
	}
	if err := os.Remove(o.final + stateSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(o.final)
}

// open opens the file in the making, where an earlier run has left it if there was
// one.
func (x *exporter) open(file string) (resumed bool, err error) {
	if _, err := os.Stat(file); err == nil && !x.opts.Overwrite {
		return false, fmt.Errorf("file %q exists; --overwrite replaces it when the export is complete", file)
	}
	if x.opts.Restart {
		if err := errors.Join(removeIfThere(file+partSuffix), removeIfThere(file+stateSuffix)); err != nil {
			return false, err
		}
	}
	was, resumed, err := readPosition(file)
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(file+partSuffix, os.O_RDWR|os.O_CREATE, 0o600) // what is known of images is not for everybody
	if err != nil {
		return false, err
	}
	x.out = &output{file: f, final: file}
	if resumed {
		if err = sameExport(file, was.fits, x.at.fits); err == nil {
			x.at = was
			err = x.reread(f)
		}
	} else {
		err = f.Truncate(0) // nothing is known of what is there
	}
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	x.out.buffered, x.out.bytes = bufio.NewWriterSize(f, 1<<16), x.at.Bytes
	return resumed, nil
}

func sameExport(file string, was, now fits) error {
	if was.Source == now.Source && slices.Equal(was.APIs, now.APIs) && slices.Equal(was.Projects, now.Projects) {
		return nil
	}
	return metadata.Errorf(metadata.FailedPrecondition,
		"%q is of another export (server %q, versions %v, projects %q); --restart drops it", file+partSuffix, was.Source, was.APIs, was.Projects)
}

// reread learns from what is written which projects are exported, and which names
// of the list at hand are there already.
func (x *exporter) reread(f *os.File) error {
	broken := func(err error) error {
		return fmt.Errorf("%q is not what its state says: %w; --restart drops it", f.Name(), err)
	}
	if info, err := f.Stat(); err != nil || info.Size() < x.at.Bytes {
		return broken(errors.Join(err, errors.New("it is shorter")))
	}
	if err := f.Truncate(x.at.Bytes); err != nil {
		return err
	}
	lines := newLineReader(io.NewSectionReader(f, 0, x.at.Bytes))
	if text, err := lines.next(); err != nil {
		return broken(err)
	} else if _, err := decodeHeader(text); err != nil {
		return broken(err)
	}
	for {
		text, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		it, _, err := decodeLine(text)
		if err != nil {
			return broken(lines.at(err))
		}
		parent, _, _ := split(it.sort, it.name)
		switch {
		case it.sort == theProjects:
			x.parents = append(x.parents, it.name)
		case it.sort == x.at.Section && x.at.Parent < len(x.parents) && parent == x.parents[x.at.Parent]:
			x.written[keyOf(it.name)] = struct{}{}
		}
	}
	_, err := f.Seek(x.at.Bytes, io.SeekStart)
	return err
}

// checkpoint makes the export one that can go on from here.
func (x *exporter) checkpoint(walks []*walk) error {
	if err := x.out.sync(); err != nil {
		return err
	}
	x.at.Bytes, x.at.Tokens = x.out.bytes, nil
	for _, w := range walks {
		x.at.Tokens = append(x.at.Tokens, cursor{w.query.token, w.done})
	}
	if x.opts.Progress != nil {
		x.opts.Progress(x.at.Totals)
	}
	if x.out.file == nil {
		return nil
	}
	return writeState(x.out.final+stateSuffix, x.at)
}

func readPosition(file string) (position, bool, error) {
	var p position
	found, err := readState(file+stateSuffix, &p)
	if err == nil && found && (p.Section < notes || p.Section > occurrences || p.Parent < 0 || p.Bytes < 0) {
		err = fmt.Errorf("state %q makes no sense; --restart drops it", file+stateSuffix)
	}
	return p, found, err
}

func readState(path string, into any) (found bool, err error) {
	text, err := bounded.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = strict(text, into)
	}
	if err != nil {
		return false, fmt.Errorf("reading the state %q: %w", path, err)
	}
	return true, nil
}

// writeState replaces a state in one step, for good.
func writeState(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxState {
		return fmt.Errorf("state %q would be larger than %d bytes; export fewer projects at a time", path, maxState)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(path)
}

// syncDir makes the names in a file's folder last.
func syncDir(file string) error {
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
