package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// A rejects is the file of what was refused, in the form of any export. The zero
// one keeps nothing.
type rejects struct {
	f      *os.File
	bytes  int64
	totals Totals
}

// openRejects opens a file as it was when it had some bytes, or begins one.
func openRejects(path string, bytes int64, h header) (*rejects, error) {
	if path == "" {
		return &rejects{}, nil
	}
	flags := os.O_RDWR | os.O_CREATE
	if bytes == 0 {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("file %q exists; give another --rejects", path)
	}
	if err != nil {
		return nil, err
	}
	r := &rejects{f: f}
	if bytes > 0 {
		err = r.reread(bytes)
	} else {
		var text []byte
		if text, err = encodeHeader(h); err == nil {
			err = r.write(text)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the file of rejects: %w", err), f.Close())
	}
	return r, nil
}

// reread counts what is there. An end from an earlier run is dropped: it counts
// itself in no size that was saved.
func (r *rejects) reread(bytes int64) error {
	if info, err := r.f.Stat(); err != nil || info.Size() < bytes {
		return errors.Join(err, errors.New("it is shorter than it was; restore it, or delete it and the state, and give --skip-existing"))
	}
	lines := newLineReader(io.NewSectionReader(r.f, 0, bytes))
	if _, err := lines.next(); err != nil {
		return err
	}
	for {
		text, err := lines.next()
		if errors.Is(err, io.EOF) {
			return r.truncate(bytes)
		}
		if err != nil {
			return err
		}
		it, _, err := decodeLine(text)
		if err != nil {
			return lines.at(err)
		}
		r.totals.add(it.sort)
	}
}

func (r *rejects) add(it item) error {
	if r.f == nil {
		return nil
	}
	text, err := it.encode()
	if err != nil {
		return err
	}
	r.totals.add(it.sort)
	return r.write(text)
}

func (r *rejects) write(text []byte) error {
	n, err := r.f.WriteAt(text, r.bytes)
	r.bytes += int64(n)
	return err
}

func (r *rejects) size() int64 { return r.bytes }

// truncate drops what was added since the file had some bytes. The totals are
// counted again by whoever goes on.
func (r *rejects) truncate(bytes int64) error {
	r.bytes = bytes
	if r.f == nil {
		return nil
	}
	return r.f.Truncate(bytes)
}

func (r *rejects) sync() error {
	if r.f == nil {
		return nil
	}
	return r.f.Sync()
}

// close writes the end, if all was imported, after which the file is one to import.
func (r *rejects) close(complete bool) error {
	if r.f == nil {
		return nil
	}
	var err error
	if complete {
		var text []byte
		if text, err = encodeEnd(r.totals); err == nil {
			err = errors.Join(r.write(text), r.f.Sync())
		}
	}
	return errors.Join(err, r.f.Close())
}
