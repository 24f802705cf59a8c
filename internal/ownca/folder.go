package ownca

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

const (
	bundleFile = "ca.crt"
	keysFile   = "ca-keys.json"
	lockFile   = ".lock"

	// maxFile is far above what maxRoots roots take.
	maxFile = 256 << 10

	// Others may not read the keys; a group may, since that is how a mounted Secret is
	// given to who is not root.
	forbiddenMode = 0o027
)

// errBusy says that another process is at the folder.
var errBusy = errors.New("another process is changing the certificate authority")

// A folder is where an authority is kept.
type folder struct {
	dir   string
	write func(path string, data []byte, perm os.FileMode) error
}

func newFolder(dir string) folder { return folder{dir: dir, write: durable.WriteFile} }

// read returns the state, or an error that is [fs.ErrNotExist] when there is none.
func (f folder) read() (state, error) {
	path := f.path(keysFile)
	info, err := os.Stat(path)
	if err != nil {
		return state{}, fmt.Errorf("reading the certificate authority: %w", err)
	}
	if mode := info.Mode().Perm(); mode&forbiddenMode != 0 {
		return state{}, fmt.Errorf("reading the certificate authority: %s has mode %#o, so that others may have read or changed its keys: remove it, and give the API servers the ca.crt that is made then; or chmod 600 if nobody has (defaultMode: 0440 for a mounted Secret)", path, mode)
	}
	text, err := bounded.ReadFile(path, maxFile)
	if err != nil {
		return state{}, fmt.Errorf("reading the certificate authority: %w", err)
	}
	s, err := decode(text)
	if err != nil {
		return state{}, fmt.Errorf("reading the certificate authority from %s: %w", path, err)
	}
	return s, nil
}

// bundle is the content of ca.crt.
func bundle(roots []*root) []byte {
	var text bytes.Buffer
	for _, r := range roots {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw}) // a buffer never fails
	}
	return text.Bytes()
}

func (f folder) bundleIs(roots []*root) bool {
	text, err := bounded.ReadFile(f.path(bundleFile), maxFile)
	return err == nil && bytes.Equal(text, bundle(roots))
}

// change puts another state in place of the one there is, while no other process does.
// It waits for those.
func (f folder) change(wait time.Duration, to func(state) (state, error)) (state, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	unlock, err := durable.Lock(ctx, f.path(lockFile))
	if errors.Is(err, context.DeadlineExceeded) {
		err = errBusy
	}
	if err != nil {
		return state{}, fmt.Errorf("changing the certificate authority in %s: %w", f.dir, err)
	}
	defer func() { _ = unlock() }() // the kernel gives it back in any case
	if err := f.sweep(); err != nil {
		return state{}, err
	}
	old, err := f.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return state{}, err
	}
	s, err := to(old)
	if err != nil {
		return state{}, err
	}
	if err := f.replace(old, s); err != nil {
		return state{}, fmt.Errorf("writing the certificate authority: %w", err)
	}
	return s, nil
}

// replace writes in an order in which no root is ever counted on that ca.crt does not
// have: new ones are in ca.crt before they are in ca-keys.json, and old ones are in it for longer.
func (f folder) replace(old, s state) error {
	union := slices.Clone(old.roots)
	for _, r := range s.roots {
		if !slices.ContainsFunc(union, r.is) {
			union = append(union, r)
		}
	}
	if err := f.writeBundle(union); err != nil {
		return err
	}
	text, err := s.encode()
	if err != nil {
		return err
	}
	before, err := bounded.ReadFile(f.path(keysFile), maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(before, text) {
		if err := f.write(f.path(keysFile), text, 0o600); err != nil {
			return err
		}
	}
	return f.writeBundle(s.roots)
}

func (f folder) writeBundle(roots []*root) error {
	if f.bundleIs(roots) {
		return nil
	}
	return f.write(f.path(bundleFile), bundle(roots), 0o644)
}

// sweep removes what a process left that was killed while it wrote.
func (f folder) sweep() error {
	for _, name := range []string{bundleFile, keysFile} {
		left, err := filepath.Glob(f.path("." + name + "-*"))
		for _, path := range left {
			err = errors.Join(err, os.Remove(path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
