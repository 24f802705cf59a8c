package manifest

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// maxValues bounds the JSON values that stand one after the other in one document.
const maxValues = 1 << 20

// parse parses a document. In a YAML document there is one value at most.
func parse(t Text) (*part, *Problem) {
	if at := invalidText(t.Bytes); at >= 0 {
		return nil, problemAt(t.Line+bytes.Count(t.Bytes[:at], []byte("\n")), "not UTF-8 text")
	}
	mark, last := 0, t.Line+bytes.Count(bytes.TrimSuffix(t.Bytes, []byte("\n")), []byte("\n"))
	if bytes.HasPrefix(t.Bytes, byteOrderMark) {
		mark = len(byteOrderMark)
	}
	var asJSON *Problem
	if at, ok := beginOfJSON(t.Bytes, mark); ok {
		p := &part{from: at, line: t.Line + bytes.Count(t.Bytes[:at], []byte("\n")), last: last, isJSON: true}
		roots, line, err := document.ParseJSON(t.Bytes[at:endOfJSON(t.Bytes, at)], maxValues)
		if err == nil {
			p.roots = roots
			return p, nil
		}
		asJSON = problemAt(p.line+max(line, 1)-1, "%v", err)
	}
	p := &part{from: mark, line: t.Line, last: last}
	if isEmpty(t.Bytes[mark:]) {
		return p, nil
	}
	p.breaks = otherBreaks(t.Bytes[mark:])
	roots, line, err := parseYAML(t.Bytes[mark:])
	switch {
	case err == nil && len(roots) > 1:
		return nil, problemAt(p.lineOf(roots[1]), "a second document begins here, at a line break that is none to kubectl (such as a carriage return alone)")
	case err == nil:
		p.roots = roots
		return p, nil
	}
	asYAML := problemAt(p.line+line-1, "%v%s", err, templateHint(t))
	if asJSON != nil && asJSON.Line >= asYAML.Line { // it got further, so that is what the writer meant
		return nil, asJSON
	}
	return nil, asYAML
}

// isEmpty reports whether a document has nothing but comments and, which the parser
// would not take without anything before it, an end marker.
func isEmpty(data []byte) bool {
	for line := range bytes.Lines(data) {
		if !isPrologue(line) && !isMarker(line, "...") {
			return false
		}
	}
	return true
}

// otherBreaks returns at which lines, as the parser counts them, those begin that come
// after another line break than a line feed.
func otherBreaks(data []byte) []int {
	var lines []int
	if !bytes.ContainsAny(data, "\r\u0085\u2028\u2029") {
		return nil
	}
	for c := (cursor{text: data, line: 1, column: 1}); c.at < len(data); {
		before := c.line
		c.forward()
		if c.line > before && data[c.at-1] != '\n' {
			lines = append(lines, c.line)
		}
	}
	return lines
}

// parseYAML parses a document, and finds the line of an error. The parser often names
// where what it was reading began, or the line before.
func parseYAML(data []byte) (roots []*yaml.Node, line int, err error) {
	roots, named, err := safeParse(data)
	if err == nil {
		return roots, 0, nil
	}
	// The parser ends at the first error, so that it finds the same in every beginning
	// of the text that reaches as far.
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines)+1)
	for i, l := range lines {
		ends[i+1] = ends[i] + len(l)
	}
	first, _ := slices.BinarySearchFunc(ends, 0, func(end, _ int) int {
		if _, at, other := safeParse(data[:end]); other != nil && at == named && other.Error() == err.Error() {
			return 0
		}
		return -1
	})
	return nil, min(max(first, 1), len(lines)), err
}

// safeParse is [document.ParseYAML] with a panic of the parser for an error: a text must
// not end the whole run.
func safeParse(data []byte) (roots []*yaml.Node, line int, err error) {
	defer func() {
		if r := recover(); r != nil {
			roots, err = nil, fmt.Errorf("the YAML parser failed on it: %v", r)
		}
	}()
	return document.ParseYAML(data, 2)
}

// invalidText returns where a text stops being UTF-8 as YAML takes it, or -1.
func invalidText(data []byte) int {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i
	}
	if utf8.Valid(data) {
		return -1
	}
	for at := 0; ; {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// beginOfJSON returns where the value of a document begins if that looks like JSON,
// behind the separator, blank lines and comments.
func beginOfJSON(data []byte, at int) (begin int, ok bool) {
	for at < len(data) {
		line := data[at:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		rest := bytes.TrimSpace(line)
		if isMarker(line, "---") {
			rest = bytes.TrimSpace(line[len("---"):])
		}
		switch {
		case len(rest) == 0, rest[0] == '#', rest[0] == '%':
			at += len(line)
		case rest[0] == '{', rest[0] == '[':
			at += bytes.IndexByte(line, rest[0])
			inside := bytes.TrimLeft(data[at+1:], " \t\r\n")
			// An object in flow style has names without quotes, and a template another brace.
			return at, rest[0] == '[' || (len(inside) > 0 && (inside[0] == '"' || inside[0] == '}'))
		default:
			return 0, false
		}
	}
	return 0, false
}

// endOfJSON returns where a value that looks like JSON and begins at a place ends: before
// the comments and the end marker that YAML has behind it.
func endOfJSON(data []byte, at int) int {
	end := len(data)
	for end > at {
		from := at + bytes.LastIndexByte(data[at:end-1], '\n') + 1
		line := bytes.TrimSpace(data[from:end])
		if len(line) > 0 && line[0] != '#' && !isMarker(data[from:end], "...") {
			break
		}
		end = from
	}
	return end
}

// templateHint says what is often wrong.
func templateHint(t Text) string {
	line := t.Line
	for text := range bytes.Lines(t.Bytes) {
		text = bytes.TrimSpace(text)
		if bytes.HasPrefix(text, []byte("{{")) || bytes.Contains(text, []byte(": {{")) {
			return fmt.Sprintf(" (line %d has {{: a template has to be rendered first, as by helm template)", line)
		}
		line++
	}
	return ""
}
