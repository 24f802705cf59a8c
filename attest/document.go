package attest

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
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

// parseDocument parses TOML, YAML or JSON, as the name of the file says; other names
// are for TOML. Its error has the line in it.
func parseDocument(file string, data []byte, env Getenv) (*document, *section, error) {
	var values map[string]any
	var lines map[string]int
	var err error
	switch strings.ToLower(filepath.Ext(file)) {
	case ".yaml", ".yml":
		values, lines, err = parseYAML(data)
	case ".json":
		values, lines, err = parseJSON(data)
	default:
		values, lines, err = parseTOML(data)
	}
	var at *lineError
	if errors.As(err, &at) {
		return nil, nil, fmt.Errorf("%s:%d: %w", file, at.line, at.err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	doc := &document{file: file, lines: lines}
	root := doc.section(nil, values)
	doc.overlay(root, env)
	return doc, root, nil
}

func (d *document) section(path []string, values map[string]any) *section {
	lower := make(map[string]any, len(values))
	for _, k := range slices.Sorted(maps.Keys(values)) {
		l := strings.ToLower(k)
		if _, ok := lower[l]; ok {
			d.problem(append(slices.Clone(path), l), "is set twice, in different case")
		}
		if values[k] == nil {
			continue // a key of YAML or JSON without a value is not set
		}
		lower[l] = values[k]
	}
	return &section{doc: d, path: path, values: lower, known: map[string]bool{}}
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
	case nil:
		return "nothing"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}
