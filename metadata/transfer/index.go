package transfer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// An entry is where an item is in a file. A file of a hundred thousand takes some
// 10 MB of them.
type entry struct {
	created time.Time
	content key // of an occurrence
	offset  int64
	length  int32
	line    int32
	sort    sort
}

// An index is what a file has, in the order in which it is to be imported:
// projects, notes, and occurrences by their age.
type index struct {
	header    header
	sum       string // of the whole file
	entries   []entry
	truncated bool
}

// readIndex reads and checks a whole file.
func readIndex(ctx context.Context, f io.Reader, allowTruncated bool) (*index, error) {
	hash := sha256.New()
	lines := newLineReader(io.TeeReader(f, hash))
	text, err := lines.next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	x := &index{}
	if x.header, err = decodeHeader(text); err != nil {
		return nil, lines.at(err)
	}
	err = x.read(ctx, lines)
	if errors.Is(err, errCutOff) && allowTruncated {
		x.truncated, err = true, nil
	}
	if errors.Is(err, errCutOff) {
		err = fmt.Errorf("%w: it has no line that says how much there should be; export it again, or take what there is with --allow-truncated", err)
	}
	if err != nil {
		return nil, err
	}
	x.sum = hex.EncodeToString(hash.Sum(nil))
	slices.SortStableFunc(x.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.sort, b.sort), a.created.Compare(b.created))
	})
	return x, nil
}

// read reads the lines after the header.
func (x *index) read(ctx context.Context, lines *lineReader) error {
	names := map[key]struct{}{}
	var have Totals
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := lines.next()
		if errors.Is(err, io.EOF) {
			return errCutOff
		}
		if err != nil {
			return err
		}
		it, end, err := decodeLine(text)
		if err != nil {
			return lines.at(err)
		}
		if end != nil {
			return lines.last(*end, have)
		}
		k := keyOf(it.name)
		if _, twice := names[k]; twice {
			return lines.at(fmt.Errorf("%s %q is in the file twice", it.sort.one(), clean(it.name)))
		}
		names[k] = struct{}{}
		have.add(it.sort)
		e := entry{offset: lines.offset, length: int32(len(text)), line: int32(lines.number), sort: it.sort}
		if it.sort == occurrences {
			e.created, e.content = createdAt(it.msg), contentOf(it.msg)
		}
		x.entries = append(x.entries, e)
	}
}

// last checks the end of a file.
func (l *lineReader) last(said, have Totals) error {
	if said != have {
		return l.at(fmt.Errorf("the end says %d projects, %d notes and %d occurrences, and there were %d, %d and %d; a part of the file is missing",
			said.Projects, said.Notes, said.Occurrences, have.Projects, have.Notes, have.Occurrences))
	}
	if _, err := l.next(); !errors.Is(err, io.EOF) {
		return l.at(errors.New("there is more after the end"))
	}
	return nil
}

// item reads an entry again.
func (e entry) item(f *os.File) (item, error) {
	text := make([]byte, e.length)
	_, err := f.ReadAt(text, e.offset)
	var it item
	if err == nil {
		it, _, err = decodeLine(text)
	}
	if err != nil || it.sort != e.sort {
		return item{}, fmt.Errorf("line %d has changed while it was imported: %w", e.line, err)
	}
	return it, nil
}
