package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A span is a piece of a text.
type span struct{ from, to int }

// Rewrite returns the text of the document with other images in it. change returns what
// is to stand for an image, and "" to leave it. Without any change the text is returned
// as it is. The problem is one of how an image is written, or that the outcome does not
// read as the same document but for the images, and then there is no text.
func (d *Document) Rewrite(change func(Image) string) ([]byte, *Problem) {
	type edit struct {
		image Image
		text  string
	}
	var edits []edit
	for _, i := range d.Images {
		if text := change(i); text != "" && text != i.node.Value {
			edits = append(edits, edit{i, text})
		}
	}
	if len(edits) == 0 {
		return d.Text.Bytes, nil
	}
	slices.SortFunc(edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.image.node.Line, b.image.node.Line), cmp.Compare(a.image.node.Column, b.image.node.Column))
	})
	p := edits[0].image.part
	at := cursor{text: d.Text.Bytes[p.from:], isJSON: p.isJSON, line: 1, column: 1}
	out := make([]byte, 0, len(d.Text.Bytes)+80*len(edits))
	copied := 0
	want := make(map[*yaml.Node]string, len(edits))
	for _, e := range edits {
		s, err := at.find(e.image.node)
		if err != nil {
			return nil, problemAt(e.image.Line, "%.200s: %q: %v", e.image.Place, e.image.node.Value, err)
		}
		out = append(out, d.Text.Bytes[copied:p.from+s.from]...)
		out = append(out, e.text...)
		copied = p.from + s.to
		want[e.image.node] = e.text
	}
	out = append(out, d.Text.Bytes[copied:]...)
	if problem := sameBut(p, Text{Bytes: out, Line: d.Text.Line}, want); problem != nil {
		return nil, problem
	}
	return out, nil
}

// A cursor goes forward through a text by lines and columns as the parser counts them.
type cursor struct {
	text         []byte
	isJSON       bool
	at           int
	line, column int
}

// to returns where a line and column are, which are not before those asked for last.
func (c *cursor) to(line, column int) (at int, ok bool) {
	for c.at < len(c.text) && (c.line < line || (c.line == line && c.column < column)) {
		c.forward()
	}
	return c.at, c.line == line && c.column == column
}

func (c *cursor) forward() {
	size := breakAt(c.text[c.at:], c.isJSON)
	if size > 0 {
		c.at += size
		c.line, c.column = c.line+1, 1
		return
	}
	_, size = utf8.DecodeRune(c.text[c.at:])
	c.at += size
	c.column++
}

// breakAt returns the size of the line break that a text begins with, or 0. In JSON
// only a line feed is one; in YAML so are the breaks of Unicode.
func breakAt(text []byte, isJSON bool) int {
	switch {
	case len(text) == 0:
		return 0
	case text[0] == '\n':
		return 1
	case isJSON || text[0] == 'a':
		return 0
	case bytes.HasPrefix(text, []byte("\r\n")):
		return 2
	case text[0] == '\r':
		return 1
	}
	for _, b := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(text, []byte(b)) {
			return len(b)
		}
	}
	return 0
}

var (
	errNotFound = errors.New("it is not found in the text as it was read")
	errLines    = errors.New("it is written over several lines; write it on one")
)

// find returns the span of what a scalar says, within its quotes.
func (c *cursor) find(n *yaml.Node) (span, error) {
	at, ok := c.to(n.Line, n.Column)
	if !ok {
		return span{}, errNotFound
	}
	at = c.pastProperties(at)
	switch style := n.Style &^ yaml.TaggedStyle; style {
	case yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle:
		return c.quoted(at, map[bool]byte{true: '"', false: '\''}[style == yaml.DoubleQuotedStyle])
	case yaml.LiteralStyle, yaml.FoldedStyle:
		return c.block(at, n.Value)
	case 0:
		if !bytes.HasPrefix(c.text[at:], []byte(n.Value)) {
			return span{}, errNotFound
		}
		return span{at, at + len(n.Value)}, nil
	}
	return span{}, errNotFound
}

// pastProperties returns where the scalar begins that may have an anchor and a tag.
func (c *cursor) pastProperties(at int) int {
	for at < len(c.text) && (c.text[at] == '&' || c.text[at] == '!') {
		for at < len(c.text) && !isBlank(c.text[at]) {
			at++
		}
		for at < len(c.text) && isBlank(c.text[at]) {
			at++
		}
	}
	return at
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

func (c *cursor) quoted(at int, quote byte) (span, error) {
	if at >= len(c.text) || c.text[at] != quote {
		return span{}, errNotFound
	}
	for i := at + 1; i < len(c.text); i++ {
		switch b := c.text[i]; {
		case breakAt(c.text[i:], c.isJSON) > 0:
			return span{}, errLines
		case b == '\\' && quote == '"':
			i++
			if i < len(c.text) && breakAt(c.text[i:], c.isJSON) > 0 {
				return span{}, errLines
			}
		case b == quote && quote == '\'' && i+1 < len(c.text) && c.text[i+1] == quote:
			i++
		case b == quote:
			return span{at + 1, i}, nil
		}
	}
	return span{}, errNotFound
}

// block finds the one line of a block scalar.
func (c *cursor) block(at int, value string) (span, error) {
	if at >= len(c.text) || (c.text[at] != '|' && c.text[at] != '>') {
		return span{}, errNotFound
	}
	for at < len(c.text) && breakAt(c.text[at:], false) == 0 {
		at++
	}
	at += breakAt(c.text[at:], false)
	for at < len(c.text) && c.text[at] == ' ' {
		at++
	}
	end := at + len(value)
	if !bytes.HasPrefix(c.text[at:], []byte(value)) || (end < len(c.text) && breakAt(c.text[end:], false) == 0) {
		return span{}, errLines
	}
	return span{at, end}, nil
}

// sameBut reads a text again, and reports whether it is not what was parsed before with
// other values in some places.
func sameBut(before *part, t Text, want map[*yaml.Node]string) *Problem {
	after, problem := parse(t)
	if problem != nil {
		return problemAt(problem.Line, "with the image pinned this does not read as before, and so nothing is changed: %s", problem.Why)
	}
	if len(after.roots) != len(before.roots) || after.isJSON != before.isJSON || after.from != before.from {
		return problemAt(t.Line, "with the images pinned this does not read as before, and so nothing is changed")
	}
	for i, root := range before.roots {
		if n := difference(root, after.roots[i], want); n != nil {
			return problemAt(before.lineOf(n), "with the images pinned this does not read as before, and so nothing is changed: %s", kindName(n))
		}
	}
	return nil
}

// difference returns the first node of a tree that is not the same in the other, but
// for the values wanted.
func difference(a, b *yaml.Node, want map[*yaml.Node]string) *yaml.Node {
	value := a.Value
	if w, ok := want[a]; ok {
		value = w
	}
	same := a.Kind == b.Kind && a.Style == b.Style && a.Tag == b.Tag && value == b.Value && a.Anchor == b.Anchor && a.Line == b.Line &&
		a.HeadComment == b.HeadComment && a.LineComment == b.LineComment && a.FootComment == b.FootComment && len(a.Content) == len(b.Content)
	if !same {
		return a
	}
	for i := range a.Content {
		if n := difference(a.Content[i], b.Content[i], want); n != nil {
			return n
		}
	}
	return nil
}

// String returns "line LINE: WHY".
func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Why) }
