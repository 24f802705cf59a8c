package attest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deeply a configuration nests. Voucher's has three levels.
const maxDepth = 32

// A lineError is about a line of a document.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

func atLine(line int, format string, args ...any) error {
	return &lineError{line, fmt.Errorf(format, args...)}
}

// Each format is parsed to the same few types: string, bool, int64, float64, []any
// and map[string]any, and to the line where each key is first written, by its path.

func parseTOML(data []byte) (map[string]any, map[string]int, error) {
	values := map[string]any{}
	if err := toml.Unmarshal(data, &values); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			return nil, nil, atLine(line, "%s", strings.TrimPrefix(at.Error(), "toml: "))
		}
		return nil, nil, err
	}
	return values, lineNumbers(data), nil
}

// lineNumbers returns the line where each key is first written, by its path.
func lineNumbers(data []byte) map[string]int {
	starts := lineFeeds(data)
	lines := map[string]int{}
	note := func(prefix []string, keys unstable.Iterator) []string {
		path := slices.Clone(prefix)
		for keys.Next() {
			path = append(path, strings.ToLower(string(keys.Node().Data)))
			if _, ok := lines[join(path)]; !ok {
				lines[join(path)] = 1 + sort.SearchInts(starts, int(keys.Node().Raw.Offset))
			}
		}
		return path
	}
	var pair func(prefix []string, n *unstable.Node)
	pair = func(prefix []string, n *unstable.Node) {
		path := note(prefix, n.Key())
		if v := n.Value(); v.Kind == unstable.InlineTable {
			for it := v.Children(); it.Next(); {
				pair(path, it.Node())
			}
		}
	}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = note(nil, n.Key())
		case unstable.KeyValue:
			pair(table, n)
		default: // comments
		}
	}
	return lines
}

// lineFeeds returns the offsets of line feeds.
func lineFeeds(data []byte) []int {
	var feeds []int
	for i, c := range data {
		if c == '\n' {
			feeds = append(feeds, i)
		}
	}
	return feeds
}

func parseYAML(data []byte) (map[string]any, map[string]int, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := dec.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("more than one YAML document")
	}
	y := yamlReader{lines: map[string]int{}}
	v, err := y.value(nil, root.Content[0])
	if err != nil {
		return nil, nil, err
	}
	switch v := v.(type) {
	case map[string]any:
		return v, y.lines, nil
	case nil:
		return nil, nil, nil
	}
	return nil, nil, atLine(root.Content[0].Line, "want keys and values, have %s", kindOf(v))
}

type yamlReader struct{ lines map[string]int }

func (y *yamlReader) value(path []string, n *yaml.Node) (any, error) {
	if len(path) > maxDepth {
		return nil, atLine(n.Line, "it nests more than %d deep", maxDepth)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return y.mapping(path, n)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := y.value(append(slices.Clone(path), "[]"), item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return yamlScalar(n)
	default: // an alias can make a short file endless
		return nil, atLine(n.Line, "aliases are not read; write the value out")
	}
}

func (y *yamlReader) mapping(path []string, n *yaml.Node) (any, error) {
	values := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return nil, atLine(key.Line, "want a plain key")
		}
		if _, ok := values[key.Value]; ok {
			return nil, atLine(key.Line, "key %q is set twice", clip(key.Value))
		}
		at := append(slices.Clone(path), strings.ToLower(key.Value))
		if _, ok := y.lines[join(at)]; !ok {
			y.lines[join(at)] = key.Line
		}
		v, err := y.value(at, value)
		if err != nil {
			return nil, err
		}
		values[key.Value] = v
	}
	return values, nil
}

func yamlScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null":
		return nil, nil //nolint:nilnil // that is its value
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, atLine(n.Line, "%q cannot be read", clip(n.Value))
		}
		if i, ok := v.(int); ok {
			return int64(i), nil
		}
		return v, nil
	}
	return nil, atLine(n.Line, "values of type %s are not read", clip(n.Tag))
}

func parseJSON(data []byte) (map[string]any, map[string]int, error) {
	j := jsonReader{dec: jsontext.NewDecoder(bytes.NewReader(data)), feeds: lineFeeds(data), lines: map[string]int{}}
	v, err := j.value(nil)
	if err == nil {
		if _, end := j.dec.ReadToken(); !errors.Is(end, io.EOF) {
			err = j.wrong("there is more after the object")
		}
	}
	if err != nil {
		return nil, nil, err
	}
	values, ok := v.(map[string]any)
	if !ok {
		return nil, nil, atLine(1, "want an object, have %s", kindOf(v))
	}
	return values, j.lines, nil
}

type jsonReader struct {
	dec   *jsontext.Decoder
	feeds []int
	lines map[string]int
}

func (j *jsonReader) line() int { return 1 + sort.SearchInts(j.feeds, int(j.dec.InputOffset())) }

func (j *jsonReader) wrong(format string, args ...any) error {
	return atLine(j.line(), format, args...)
}

// value reads the next value. Its tokens quote no content in their errors: it may be
// a secret.
func (j *jsonReader) value(path []string) (any, error) {
	if len(path) > maxDepth {
		return nil, j.wrong("it nests more than %d deep", maxDepth)
	}
	token, err := j.dec.ReadToken()
	if err != nil {
		return nil, j.wrong("it is not JSON, or has a key twice")
	}
	switch token.Kind() {
	case '{':
		return j.object(path)
	case '[':
		list := []any{}
		for j.dec.PeekKind() != ']' {
			v, err := j.value(append(slices.Clone(path), "[]"))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := j.dec.ReadToken()
		return list, err
	case '"':
		return token.String(), nil
	case 't', 'f':
		return token.Bool(), nil
	case '0':
		if i, err := strconv.ParseInt(token.String(), 10, 64); err == nil {
			return i, nil
		}
		f, err := strconv.ParseFloat(token.String(), 64)
		if err != nil {
			return nil, j.wrong("a number is too large")
		}
		return f, nil
	}
	return nil, nil //nolint:nilnil // null
}

func (j *jsonReader) object(path []string) (any, error) {
	values := map[string]any{}
	for j.dec.PeekKind() != '}' {
		token, err := j.dec.ReadToken()
		if err != nil {
			return nil, j.wrong("it is not JSON, or has a key twice")
		}
		key := token.String()
		at := append(slices.Clone(path), strings.ToLower(key))
		if _, ok := j.lines[join(at)]; !ok {
			j.lines[join(at)] = j.line()
		}
		if values[key], err = j.value(at); err != nil {
			return nil, err
		}
	}
	_, err := j.dec.ReadToken()
	return values, err
}
