package attest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A document is a configuration file that is being read: its values, the line
// of each key, and what was found wrong. Keys are lower-cased, as Voucher's are.
type document struct {
	file     string
	lines    map[string]int
	problems []error
	warnings []Warning
}

// A section is a table of a document. It remembers the keys that were asked
// for, so that those no one knows can be told.
type section struct {
	doc    *document
	path   []string
	values map[string]any
	known  map[string]bool
}

// parseDocument parses TOML. Its error has the line in it.
func parseDocument(file string, data []byte) (*document, *section, error) {
	values := map[string]any{}
	if err := toml.Unmarshal(data, &values); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			return nil, nil, fmt.Errorf("%s:%d: %s", file, line, strings.TrimPrefix(at.Error(), "toml: "))
		}
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	doc := &document{file: file, lines: lineNumbers(data)}
	return doc, doc.section(nil, values), nil
}

func (d *document) section(path []string, values map[string]any) *section {
	lower := make(map[string]any, len(values))
	for _, k := range slices.Sorted(maps.Keys(values)) {
		l := strings.ToLower(k)
		if _, ok := lower[l]; ok {
			d.problem(append(slices.Clone(path), l), "is set twice, in different case")
		}
		lower[l] = values[k]
	}
	return &section{doc: d, path: path, values: lower, known: map[string]bool{}}
}

// lineNumbers returns the line where each key is first written, by its path.
func lineNumbers(data []byte) map[string]int {
	var starts []int // offsets of line feeds
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i)
		}
	}
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

func join(path []string) string { return strings.Join(path, ".") }

// place is the file and, where it is known, the line of a key.
func (d *document) place(key string) string {
	if line := d.lines[key]; line > 0 {
		return fmt.Sprintf("%s:%d", d.file, line)
	}
	return d.file
}

func (d *document) problem(path []string, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s: %s: %s", d.place(join(path)), join(path), fmt.Sprintf(format, args...)))
}

func (d *document) warn(path []string, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(path) > 0 {
		text = join(path) + ": " + text
	}
	d.warnings = append(d.warnings, Warning{File: d.file, Line: d.lines[join(path)], Text: text})
}

func (s *section) at(key string) []string { return append(slices.Clone(s.path), key) }

func (s *section) problem(key, format string, args ...any) {
	s.doc.problem(s.at(key), format, args...)
}
func (s *section) warn(key, format string, args ...any) { s.doc.warn(s.at(key), format, args...) }

func (s *section) get(key string) (any, bool) {
	s.known[key] = true
	v, ok := s.values[key]
	return v, ok
}

func (s *section) has(key string) bool { _, ok := s.get(key); return ok }

// keys returns the keys of a section in the order of the file, and knows them.
func (s *section) keys() []string {
	keys := slices.Sorted(maps.Keys(s.values))
	slices.SortStableFunc(keys, func(a, b string) int {
		return s.doc.lines[join(s.at(a))] - s.doc.lines[join(s.at(b))]
	})
	for _, k := range keys {
		s.known[k] = true
	}
	return keys
}

// typed returns the value of a key when it has the type wanted, which want
// names, and otherwise what stands in for it.
func typed[T any](s *section, key, want string, instead T) T {
	v, ok := s.get(key)
	if !ok {
		return instead
	}
	t, ok := v.(T)
	if !ok {
		s.problem(key, "want %s, have %s", want, kindOf(v))
		return instead
	}
	return t
}

func (s *section) text(key string) string { return typed(s, key, "a string", "") }

func (s *section) flag(key string, instead bool) bool {
	return typed(s, key, "true or false, without quotes", instead)
}

func (s *section) number(key string, instead, least, most int) int {
	n := typed(s, key, "a whole number", int64(instead))
	if n < int64(least) || n > int64(most) {
		s.problem(key, "%d is not between %d and %d", n, least, most)
		return instead
	}
	return int(n)
}

func (s *section) texts(key string) []string {
	var texts []string
	for i, v := range typed[[]any](s, key, "a list of strings", nil) {
		t, ok := v.(string)
		if !ok {
			s.problem(key, "want a list of strings, have %s in place %d", kindOf(v), i+1)
			continue
		}
		texts = append(texts, t)
	}
	return texts
}

func (s *section) table(key string) *section {
	return s.doc.section(s.at(key), typed[map[string]any](s, key, "a table", nil))
}

// tables returns the tables of a list.
func (s *section) tables(key string) []*section {
	var tables []*section
	for i, v := range typed[[]any](s, key, "a list of tables", nil) {
		t, ok := v.(map[string]any)
		if !ok {
			s.problem(key, "want a list of tables, have %s in place %d", kindOf(v), i+1)
			continue
		}
		tables = append(tables, s.doc.section(s.at(key), t))
	}
	return tables
}

// finish warns of the keys that no one asked for.
func (s *section) finish() {
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		if !s.known[k] {
			s.warn(k, "is not a key that Gatehouse or Voucher knows, and has no effect")
		}
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}
