package resolvetags

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// diffContext is how many lines are shown around a change.
const diffContext = 3

// A line of two texts that have the same number of lines.
type line struct{ before, after []byte }

func (l line) differs() bool { return !bytes.Equal(l.before, l.after) }

// diffLines writes a unified diff of two texts in which a line was changed to a line, as
// pinning does. It holds one hunk in memory.
func diffLines(w io.Writer, name string, before, after io.Reader) (different bool, err error) {
	a, b := bufio.NewReader(before), bufio.NewReader(after)
	h := hunk{w: w, name: name}
	for n := 1; ; n++ {
		x, errX := a.ReadBytes('\n')
		y, errY := b.ReadBytes('\n')
		if err := errors.Join(notEnd(errX), notEnd(errY)); err != nil {
			return h.any, err
		}
		if len(x) == 0 && len(y) == 0 {
			return h.any, h.flush()
		}
		if len(x) == 0 || len(y) == 0 {
			return h.any, fmt.Errorf("comparing %s: it was changed while it was read", name)
		}
		if err := h.add(n, line{x, y}); err != nil {
			return h.any, err
		}
	}
}

func notEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// A hunk collects lines until there is enough between it and the next change.
type hunk struct {
	w     io.Writer
	name  string
	any   bool // something has been written
	from  int  // line of the first
	lines []line
	end   int // behind the last that differs; 0 while none does
}

func (h *hunk) add(n int, l line) error {
	if len(h.lines) == 0 {
		h.from = n
	}
	h.lines = append(h.lines, l)
	switch {
	case l.differs():
		h.end = len(h.lines)
	case h.end == 0 && len(h.lines) > diffContext:
		h.lines, h.from = h.lines[1:], h.from+1
	case h.end > 0 && len(h.lines)-h.end > 2*diffContext:
		rest := slices.Clone(h.lines[len(h.lines)-diffContext:])
		if err := h.flush(); err != nil {
			return err
		}
		h.lines, h.from, h.end = rest, n-diffContext+1, 0
	}
	return nil
}

// flush writes what there is to be seen, if anything differs.
func (h *hunk) flush() error {
	if h.end == 0 {
		return nil
	}
	h.lines = h.lines[:min(len(h.lines), h.end+diffContext)]
	var b bytes.Buffer
	if !h.any {
		fmt.Fprintf(&b, "--- %s\n+++ %s\n", h.name, h.name)
		h.any = true
	}
	fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n", h.from, len(h.lines), h.from, len(h.lines))
	for i := 0; i < len(h.lines); {
		if !h.lines[i].differs() {
			put(&b, ' ', h.lines[i].before)
			i++
			continue
		}
		end := i
		for end < len(h.lines) && h.lines[end].differs() {
			put(&b, '-', h.lines[end].before)
			end++
		}
		for ; i < end; i++ {
			put(&b, '+', h.lines[i].after)
		}
	}
	_, err := h.w.Write(b.Bytes())
	return err
}

func put(b *bytes.Buffer, mark byte, text []byte) {
	b.WriteByte(mark)
	b.Write(text)
	if !bytes.HasSuffix(text, []byte("\n")) {
		b.WriteString("\n\\ No newline at end of file\n")
	}
}
