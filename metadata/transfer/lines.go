package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// A lineReader reads lines of bounded length, and counts them.
type lineReader struct {
	r      *bufio.Reader
	number int
	offset int64 // of the line last read
	read   int64
	text   []byte
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: bufio.NewReaderSize(r, 1<<16)} }

// next returns a line without its end, until the next call, or io.EOF after the
// last. A line without an end is an error: it may be cut off.
func (l *lineReader) next() ([]byte, error) {
	l.text, l.offset = l.text[:0], l.read
	for {
		part, err := l.r.ReadSlice('\n')
		l.read += int64(len(part))
		l.text = append(l.text, part...)
		switch {
		case err == nil:
			l.number++
			return l.text[:len(l.text)-1], nil
		case errors.Is(err, io.EOF) && len(l.text) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			l.number++
			return nil, l.at(errCutOff)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(l.text) > maxLine:
			l.number++
			return nil, l.at(fmt.Errorf("it is longer than %d bytes", maxLine))
		}
	}
}

// errCutOff is a file that has no end.
var errCutOff = errors.New("the file is cut off here")

// at says in which line.
func (l *lineReader) at(err error) error { return fmt.Errorf("line %d: %w", l.number, err) }
