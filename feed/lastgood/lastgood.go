// Package lastgood keeps a copy of what a gate knows on its local disk, so that it can
// start while the metadata service is away: verified facts, each with the fingerprint
// of its key, and the documents that policies are made from.
//
// The copy is sealed with a key that is made at first start and stays in the folder,
// readable to its owner alone: facts in it are believed without their signatures. A copy
// that is damaged, cut, of another gate, of another version, or not sealed with the key
// is refused; so is one that is older than the last one that was written, of which a
// file beside it tells. Who can write into the folder as the gate's own user can forge
// all of it, as he could replace the gate.
package lastgood

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/sealed"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// The files in the folder.
const (
	copyFile       = "evidence.copy"
	keyFile        = "evidence.key"
	generationFile = "evidence.generation"
)

const (
	schema = 1
	// MaxBytes bounds a copy: some ten million facts.
	MaxBytes = 2 << 30
	maxHead  = 256 << 20
)

// A Folder is where the copy of a gate is.
type Folder struct {
	dir, project, cluster string
	key                   []byte
}

// A Copy tells what was read.
type Copy struct {
	// Written is when the copy was finished.
	Written time.Time
	State   feedclient.State
	// Digests is how many there are facts about.
	Digests int
}

// head stands before the facts.
type head struct {
	Schema     int              `json:"schema"`
	Project    string           `json:"project"`
	Cluster    string           `json:"cluster"`
	Generation uint64           `json:"generation"`
	Written    time.Time        `json:"written"`
	Mark       []byte           `json:"mark"`
	Scanners   map[string]int32 `json:"scanners"`
	Documents  []document       `json:"documents"`
}

type document struct {
	Name     string    `json:"name"`
	Content  []byte    `json:"content"`
	Revision uint64    `json:"revision"`
	Author   string    `json:"author"`
	Time     time.Time `json:"time"`
}

// Open opens the folder of a gate of a project and a cluster, and makes the key if
// there is none.
func Open(dir, project, cluster string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the folder of the last good copy: %w", err)
	}
	f := &Folder{dir: dir, project: project, cluster: cluster}
	if err := f.openKey(); err != nil {
		return nil, fmt.Errorf("opening the key of the last good copy: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "."+copyFile+"-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path)) // of a write that did not end
	}
	return f, err
}

// OpenForReading opens the folder of a gate that may be running, for somebody else. The
// error is [fs.ErrNotExist] if no gate has used it.
func OpenForReading(dir, project, cluster string) (*Folder, error) {
	f := &Folder{dir: dir, project: project, cluster: cluster}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err != nil {
		return nil, err
	}
	if err := f.openKey(); err != nil {
		return nil, fmt.Errorf("opening the key of the last good copy: %w", err)
	}
	return f, nil
}

func (f *Folder) openKey() error {
	path := filepath.Join(f.dir, keyFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.key = make([]byte, sealed.KeySize)
		_, _ = rand.Read(f.key) // never fails: it crashes the program
		return replace(path, func(w io.Writer) error { _, err := w.Write(f.key); return err })
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o, so that others may have read it: remove it, and the copy with it, or chmod 600 if nobody has", path, mode)
	}
	if f.key, err = bounded.ReadFile(path, sealed.KeySize); err != nil {
		return err
	}
	if len(f.key) != sealed.KeySize {
		return fmt.Errorf("%s has %d bytes, want %d: remove it, and the copy with it", path, len(f.key), sealed.KeySize)
	}
	return nil
}

// Path returns where the copy is.
func (f *Folder) Path() string { return filepath.Join(f.dir, copyFile) }

// Read fills a new index with the copy. The error is [fs.ErrNotExist] if there is none;
// after any other one the index is not to be used.
func (f *Folder) Read(x *index.Index) (*Copy, error) {
	// Before the copy is opened: the gate may replace both meanwhile, and that is no setting back.
	latest, unknown := f.generation()
	file, err := os.Open(f.Path())
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	if unknown != nil {
		return nil, fmt.Errorf("the last good copy %s is not used: which copy was the last one cannot be told: %v", f.Path(), unknown) //nolint:errorlint // that this file is missing does not mean that there is no copy
	}
	c, err := f.read(file, x, latest)
	if err != nil {
		return nil, fmt.Errorf("the last good copy %s is not used: %w", f.Path(), err)
	}
	return c, nil
}

func (f *Folder) read(file io.Reader, x *index.Index, latest uint64) (*Copy, error) {
	r, err := sealed.NewReader(io.LimitReader(file, MaxBytes), f.key)
	if err != nil {
		return nil, err
	}
	h, err := readHead(r)
	switch {
	case err != nil:
		return nil, err
	case h.Schema != schema:
		return nil, fmt.Errorf("it has version %d, and this is version %d", h.Schema, schema)
	case h.Project != f.project || h.Cluster != f.cluster:
		return nil, fmt.Errorf("it is of a gate of project %q and cluster %q, and this is one of %q and %q", h.Project, h.Cluster, f.project, f.cluster)
	case h.Generation < latest:
		return nil, fmt.Errorf("it was set back: it is number %d, and number %d was written", h.Generation, latest)
	}
	info, err := x.ReadCopy(r)
	if err != nil {
		return nil, err
	}
	c := &Copy{Written: h.Written, Digests: info.Digests, State: feedclient.State{
		Position: feedclient.Position{Seq: info.Position, Mark: h.Mark},
		Notes:    info.Notes, Projects: info.Projects, Scans: info.Scans, Scanners: h.Scanners,
	}}
	for _, d := range h.Documents {
		c.State.Documents = append(c.State.Documents, &metadata.Document{Name: d.Name, Content: d.Content, Revision: d.Revision, Author: d.Author, Time: d.Time})
	}
	return c, nil
}

func readHead(r io.Reader) (h head, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return h, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHead {
		return h, fmt.Errorf("its head has %d bytes, more than %d", n, maxHead)
	}
	var text bytes.Buffer
	if _, err := io.CopyN(&text, r, int64(n)); err != nil {
		return h, err
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text.Bytes(), &version); err != nil || version.Schema != schema {
		return head{Schema: version.Schema}, err
	}
	return h, json.Unmarshal(text.Bytes(), &h, json.RejectUnknownMembers(true))
}

// Write replaces the copy by one of what the index has now. The state function returns
// what else there is: the position and the documents that go with the facts. It returns
// the size of the copy.
func (f *Folder) Write(x *index.Index, now time.Time, state func(index.CopyInfo) (feedclient.State, error)) (size int64, err error) {
	latest, err := f.generation()
	if err != nil {
		latest = 0 // there is no copy that counts
	}
	h := head{Schema: schema, Project: f.project, Cluster: f.cluster, Generation: latest + 1, Written: now.UTC()}
	err = replace(f.Path(), func(to io.Writer) error {
		limited := &limited{to: to, left: MaxBytes}
		w, err := sealed.NewWriter(limited, f.key)
		if err != nil {
			return err
		}
		if err := x.WriteCopy(func(info index.CopyInfo) (io.Writer, error) {
			s, err := state(info)
			if err != nil {
				return nil, err
			}
			return w, h.write(w, s)
		}); err != nil {
			return err
		}
		err = w.Close()
		size = MaxBytes - limited.left
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("writing the last good copy: %w", err)
	}
	// A crash before this leaves a copy that is newer than was noted, which counts.
	return size, f.note(h.Generation)
}

func (h *head) write(w io.Writer, s feedclient.State) error {
	h.Mark, h.Scanners = s.Position.Mark, s.Scanners
	for _, d := range s.Documents {
		h.Documents = append(h.Documents, document{d.Name, d.Content, d.Revision, d.Author, d.Time})
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(text) > maxHead {
		return fmt.Errorf("the documents have %d bytes, more than %d", len(text), maxHead)
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text)))); err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// generation returns the number of the last copy that was written.
func (f *Folder) generation() (uint64, error) {
	const most = 1 << 10
	raw, err := bounded.ReadFile(filepath.Join(f.dir, generationFile), most)
	if err != nil {
		return 0, err
	}
	r, err := sealed.NewReader(bytes.NewReader(raw), f.key)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(r)
	if err != nil || len(text) != 8 {
		return 0, errors.Join(err, sealed.ErrNotSealed)
	}
	return binary.BigEndian.Uint64(text), nil
}

func (f *Folder) note(generation uint64) error {
	return replace(filepath.Join(f.dir, generationFile), func(to io.Writer) error {
		w, err := sealed.NewWriter(to, f.key)
		if err != nil {
			return err
		}
		if _, err := w.Write(binary.BigEndian.AppendUint64(nil, generation)); err != nil {
			return err
		}
		return w.Close()
	})
}

// limited fails rather than fill the disk.
type limited struct {
	to   io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("it would have more than %d bytes", int64(MaxBytes))
	}
	return l.to.Write(p)
}

// replace writes a file whole or not at all, readable to its owner alone.
func replace(path string, write func(io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	err = write(tmp)
	err = errors.Join(err, tmp.Chmod(0o600))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
