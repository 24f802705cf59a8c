// Package document reads what people write, JSON or YAML, strictly: a field that is
// not known, given twice or of the wrong type is reported, with its line, and never
// ignored. Reading never stops at the first problem. Every problem is a
// [Diagnostic], an error or a warning.
//
// Whether a text is JSON or YAML is told from the text and not from its name. null
// stands for an absent field. Anchors, aliases, tags and keys that are not text are
// refused, and so is what nests deeper than 16 levels. A text is one document; a
// stream of several is read by [Reporter.LoadStream].
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds nesting; the deepest thing that a policy holds is 9 levels down.
	maxDepth = 16
	// maxDiagnostics bounds what is reported on one text.
	maxDiagnostics = 100
)

// Tags of the YAML core schema, which the nodes of JSON texts get too.
const (
	tagNull  = "!!null"
	tagBool  = "!!bool"
	tagInt   = "!!int"
	tagFloat = "!!float"
	tagStr   = "!!str"
	tagTime  = "!!timestamp"
)

// Load parses data, JSON or YAML, into a tree that is safe to walk: bounded in
// depth, without aliases, with string keys that are unique. It reports why it
// cannot and returns nil.
func (r *Reporter) Load(data []byte, most int) *yaml.Node {
	if !r.readable(data, most) {
		return nil
	}
	root, line, err := parseDocument(data)
	if err != nil {
		r.Errorf(line, "%v", err)
		return nil
	}
	if !r.checkTree(root, 0, maxDepth) {
		return nil
	}
	return root
}

// readable reports why data is not worth parsing.
func (r *Reporter) readable(data []byte, most int) bool {
	switch {
	case len(data) > most:
		r.Errorf(0, "%d bytes, more than the %d allowed", len(data), most)
	case !utf8.Valid(data):
		r.Errorf(0, "not UTF-8 text")
	case len(bytes.TrimSpace(data)) == 0:
		r.Errorf(0, "the document is empty")
	default:
		return true
	}
	return false
}

// parseDocument returns the only value of data, or an error and its line.
func parseDocument(data []byte) (root *yaml.Node, line int, err error) {
	roots, line, err := parseStream(data, 1, maxDepth)
	switch {
	case err != nil:
		return nil, line, err
	case len(roots) == 0:
		return nil, 0, errEmpty
	}
	return roots[0], 0, nil
}

// parseStream returns the values of data, at most most, or an error and its line. A
// text that begins like JSON is JSON, unless it is only YAML in flow style.
func parseStream(data []byte, most, depth int) (roots []*yaml.Node, line int, err error) {
	if !likeJSON(data) {
		return parseYAML(data, most)
	}
	root, line, err := parseJSON(data, depth)
	if err == nil {
		return []*yaml.Node{root}, 0, nil
	}
	roots, yamlLine, yamlErr := parseYAML(data, most)
	if yamlErr == nil {
		return roots, 0, nil
	}
	if yamlLine > line { // it got further, so that is what the writer meant
		return nil, yamlLine, yamlErr
	}
	return nil, line, err
}

// likeJSON reports whether a text begins as JSON does.
func likeJSON(data []byte) bool {
	first := bytes.TrimLeft(data, " \t\r\n")
	return len(first) > 0 && (first[0] == '{' || first[0] == '[')
}

var errEmpty = errors.New("the document is empty")

// parseYAML returns the documents of data. One without content is null.
func parseYAML(data []byte, most int) (roots []*yaml.Node, line int, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return roots, 0, nil
		case err == nil && len(doc.Content) == 0:
			return nil, 0, errEmpty
		case err != nil:
			line, err := yamlError(err, data)
			return nil, line, err
		case len(roots) == most && most == 1:
			return nil, doc.Line, errors.New("more than one YAML document; write each into a file of its own")
		case len(roots) == most:
			return nil, doc.Line, fmt.Errorf("more than %d YAML documents", most)
		}
		roots = append(roots, doc.Content[0])
	}
}

// yamlError takes the line out of the parser's message, "yaml: line N: WHY", and
// adds what people most often did.
func yamlError(err error, data []byte) (int, error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, why, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, why
		}
	}
	switch text {
	case "control characters are not allowed":
		line, text = controlCharacter(data, text)
	case "found character that cannot start any token":
		if strings.HasPrefix(strings.TrimLeft(lineOf(data, line), " "), "\t") {
			text = "a tab; YAML is indented by spaces"
		}
	case "did not find expected key":
		if odd := oddIndent(data); odd > 0 {
			line, text = odd, "an indent with a space that is none to YAML, such as a no-break space"
		}
	case "did not find expected alphabetic or numeric character":
		text += `; a value that begins with "*" or "&" must be in quotes`
	}
	return line, errors.New("not valid YAML: " + text)
}

// controlCharacter finds the character that the parser says is there somewhere.
func controlCharacter(data []byte, text string) (line int, why string) {
	line = 1
	for _, r := range string(data) {
		switch {
		case r == '\n':
			line++
		case r < ' ' && r != '\t' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85:
			return line, fmt.Sprintf("%s, and there is U+%04X", text, r)
		}
	}
	return 0, text
}

// oddIndent returns the first line that begins with spaces of which not all are the
// ones that YAML knows, 0 if there is none.
func oddIndent(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		for _, r := range string(line) {
			if r > unicode.MaxASCII && unicode.IsSpace(r) {
				return n
			}
			if !unicode.IsSpace(r) {
				break
			}
		}
	}
	return 0
}

// lineOf returns a line of data, counted from 1.
func lineOf(data []byte, line int) string {
	for ; line > 1; line-- {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return string(first)
}

func parseJSON(data []byte, depth int) (*yaml.Node, int, error) {
	j := newJSONReader(data, depth)
	root, err := j.value(0)
	if err != nil {
		return nil, j.at(), fmt.Errorf("not valid JSON: %w", err)
	}
	if _, err := j.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, j.at(), errors.New("not valid JSON: text after the value")
	}
	return root, 0, nil
}

// A jsonReader turns JSON tokens into the nodes that YAML would give.
type jsonReader struct {
	data         []byte
	dec          *jsontext.Decoder
	line, column int // of offset; both begin at 1, columns are of characters
	offset       int64
	depth        int // the most levels
}

func newJSONReader(data []byte, depth int) *jsonReader {
	// Duplicate names pass here, and are reported with both lines by checkTree.
	return &jsonReader{data: data, line: 1, column: 1, depth: depth, dec: jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))}
}

// at returns the line that the decoder has reached.
func (j *jsonReader) at() int {
	j.moveTo(min(j.dec.InputOffset(), int64(len(j.data))))
	return j.line
}

func (j *jsonReader) moveTo(offset int64) {
	if offset <= j.offset {
		return
	}
	passed := j.data[j.offset:offset]
	if i := bytes.LastIndexByte(passed, '\n'); i >= 0 {
		j.line += bytes.Count(passed, []byte("\n"))
		j.column, passed = 1, passed[i+1:]
	}
	j.column += utf8.RuneCount(passed)
	j.offset = offset
}

// next returns the place where the next token begins.
func (j *jsonReader) next() (line, column int) {
	from := min(j.dec.InputOffset(), int64(len(j.data)))
	rest := bytes.TrimLeft(j.data[from:], " \t\r\n,:")
	if len(rest) > 0 { // an end that comes too early is where the text ends
		j.moveTo(int64(len(j.data) - len(rest)))
	}
	return j.line, j.column
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > j.depth {
		return nil, fmt.Errorf("nested deeper than %d levels", j.depth)
	}
	line, column := j.next()
	tok, err := j.dec.ReadToken()
	if err != nil {
		return nil, syntaxError(err)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: line, Column: column}
	switch tok.Kind() {
	case jsontext.KindNull:
		n.Tag = tagNull
	case jsontext.KindTrue, jsontext.KindFalse:
		n.Tag, n.Value = tagBool, tok.String()
	case jsontext.KindString:
		n.Tag, n.Value, n.Style = tagStr, tok.String(), yaml.DoubleQuotedStyle
	case jsontext.KindNumber:
		n.Tag, n.Value = tagInt, tok.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = tagFloat
		}
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		n.Kind = yaml.MappingNode
		if tok.Kind() == jsontext.KindBeginArray {
			n.Kind = yaml.SequenceNode
		}
		return j.children(n, depth)
	default:
		return nil, errors.New("unexpected end of an object or array")
	}
	return n, nil
}

func (j *jsonReader) children(n *yaml.Node, depth int) (*yaml.Node, error) {
	for {
		if k := j.dec.PeekKind(); k == jsontext.KindEndObject || k == jsontext.KindEndArray {
			_, err := j.dec.ReadToken()
			return n, syntaxError(err)
		}
		child, err := j.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
}

// syntaxError says what the decoder said, without its package name.
func syntaxError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early")
	}
	if syntax := new(jsontext.SyntacticError); errors.As(err, &syntax) && syntax.Err != nil {
		return syntax.Err
	}
	return err
}

// checkTree refuses what could mean something else than it seems to, and what
// could be larger than it is.
func (r *Reporter) checkTree(n *yaml.Node, depth, most int) bool {
	switch {
	case depth > most:
		r.Errorf(n.Line, "nested deeper than %d levels", most)
		return false
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.Errorf(n.Line, "anchors and aliases are not accepted; write the value out")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		r.Errorf(n.Line, "tag %.50q is not accepted", n.Tag)
		return false
	case n.Kind == yaml.MappingNode && !r.checkKeys(n):
		return false
	}
	ok := true
	for _, child := range n.Content {
		ok = r.checkTree(child, depth+1, most) && ok
	}
	return ok
}

func (r *Reporter) checkKeys(n *yaml.Node) bool {
	ok := true
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != tagStr:
			r.Errorf(key.Line, "key %.100q is not text; put it in quotes", key.Value)
			ok = false
		case lines[key.Value] != 0:
			r.Errorf(key.Line, "%.100q is given twice, first at line %d", key.Value, lines[key.Value])
			ok = false
		default:
			lines[key.Value] = key.Line
		}
	}
	return ok
}
