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
	mark := 0
	if bytes.HasPrefix(t.Bytes, byteOrderMark) {
		mark = len(byteOrderMark)
	}
	var asJSON *Problem
	if at, ok := beginOfJSON(t.Bytes, mark); ok {
		p := &part{from: at, line: t.Line + bytes.Count(t.Bytes[:at], []byte("\n")), isJSON: true}
		roots, line, err := document.ParseJSON(t.Bytes[at:], maxValues)
		if err == nil {
			p.roots = roots
			return p, nil
		}
		asJSON = problemAt(p.line+max(line, 1)-1, "%v", err)
	}
	p := &part{from: mark, line: t.Line}
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
		case len(rest) == 0, rest[0] == '#':
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

// templateHint says what is often wrong.
func templateHint(t Text) string {
	at := bytes.Index(t.Bytes, []byte("{{"))
	if at < 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d has {{: a template has to be rendered first, as by helm template)", t.Line+bytes.Count(t.Bytes[:at], []byte("\n")))
}
