package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxDocument is the most that one document of a stream may have, in bytes. A stream
// may have any number of them. The largest object that etcd takes has 1.5 MiB; a List
// of a whole cluster, in one document, has more.
const MaxDocument = 16 << 20

// A Text is one document of a stream as it stands there, with the separator before it.
// The texts of a stream, one after the other, are the stream.
type Text struct {
	Bytes []byte
	Line  int // of the stream, in which the text begins, from 1
}

// A Reader splits a stream into documents: by the lines with which YAML separates them,
// and nothing else. "---" followed by anything but a blank, such as the first line of a
// PEM block, is no separator, and within a block scalar it is indented.
type Reader struct {
	in   *bufio.Reader
	line int    // of what comes next
	held []byte // a separator that has been read, and belongs to the next text
	done bool
}

// NewReader returns a Reader of a stream.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, 64<<10), line: 1}
}

// Next returns the next document, or io.EOF. Its bytes are not used again.
func (r *Reader) Next() (Text, error) {
	text := Text{Line: r.line}
	var content bool // what is there is more than comments, directives and blank lines
	add := func(line []byte) error {
		if len(text.Bytes)+len(line) > MaxDocument {
			return fmt.Errorf("line %d: the document has more than %d MiB; write fewer objects into one", text.Line, MaxDocument>>20)
		}
		text.Bytes = append(text.Bytes, line...)
		r.line += bytes.Count(line, []byte("\n"))
		return nil
	}
	if r.held != nil {
		content = true
		if err := add(r.held); err != nil {
			return Text{}, err
		}
		r.held = nil
	}
	for !r.done {
		line, err := r.readLine(MaxDocument - len(text.Bytes))
		if errors.Is(err, io.EOF) {
			r.done = true
		} else if err != nil {
			return Text{}, fmt.Errorf("line %d: %w", r.line, err)
		}
		if isMarker(line, "---") {
			if content {
				r.held = line
				return text, nil
			}
			content = true
		}
		if err := add(line); err != nil {
			return Text{}, err
		}
		if isMarker(line, "...") {
			return text, nil
		}
		content = content || !isPrologue(line)
	}
	if len(text.Bytes) == 0 {
		return Text{}, io.EOF
	}
	return text, nil
}

// readLine reads a line with its line break, or what is left of it. One that has more
// than most bytes ends early; it is told by its length.
func (r *Reader) readLine(most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > most {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return line, err
		}
	}
}

// isMarker reports whether a line is one that begins or ends a document.
func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n' || rest[0] == '\r')
}

// isPrologue reports whether a line may stand before the separator that a document
// begins with.
func isPrologue(line []byte) bool {
	line = bytes.TrimSpace(bytes.TrimPrefix(line, byteOrderMark))
	return len(line) == 0 || line[0] == '#' || line[0] == '%'
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Separated reports whether the text has a separator before its content, so that it can
// stand behind another.
func (t Text) Separated() bool {
	for line := range bytes.Lines(bytes.TrimPrefix(t.Bytes, byteOrderMark)) {
		if isMarker(line, "---") {
			return true
		}
		if !isPrologue(line) {
			return false
		}
	}
	return false
}

// BeginsLikeJSON reports whether the first thing in the text is the beginning of a JSON
// object or list.
func (t Text) BeginsLikeJSON() bool {
	rest := bytes.TrimLeft(bytes.TrimPrefix(t.Bytes, byteOrderMark), " \t\r\n")
	return len(rest) > 0 && (rest[0] == '{' || rest[0] == '[')
}
