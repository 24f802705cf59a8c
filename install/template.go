package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// chartFiles are the files of a chart that are no templates, as templates see them.
type chartFiles map[string][]byte

// Get returns a file; "" if there is none.
func (f chartFiles) Get(name string) string { return string(f[name]) }

// Glob returns the files whose paths fit.
func (f chartFiles) Glob(pattern string) (chartFiles, error) {
	fit := chartFiles{}
	for name, content := range f {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if ok {
			fit[name] = content
		}
	}
	return fit, nil
}

// scope is what a template sees: the part of Helm's that the chart uses.
type scope struct {
	Values  map[string]any
	Release release
	Chart   about
	Files   chartFiles
}

type release struct{ Name, Namespace string }

// about is Chart.yaml.
type about struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	AppVersion string `json:"appVersion"`
}

// parseTemplates reads the templates of a chart. They may use what functions has: a small
// part of Helm's, meaning the same.
func parseTemplates(chart fs.FS) (*template.Template, []string, error) {
	all := template.New("").Option("missingkey=zero")
	all.Funcs(functions(all))
	names, err := fs.Glob(chart, "templates/*")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(chart, name)
		if err != nil {
			return nil, nil, err
		}
		if _, err := all.New(name).Parse(string(text)); err != nil {
			return nil, nil, err
		}
	}
	return all, names, nil
}

// execute renders one template. A value that is not there is no text.
func execute(all *template.Template, name string, data any) (string, error) {
	var out strings.Builder
	if err := all.ExecuteTemplate(&out, name, data); err != nil {
		return "", err
	}
	return strings.ReplaceAll(out.String(), "<no value>", ""), nil
}

func functions(all *template.Template) template.FuncMap {
	return template.FuncMap{
		"include":   func(name string, data any) (string, error) { return execute(all, name, data) },
		"toYaml":    toYAML,
		"fromYaml":  fromYAML,
		"indent":    indent,
		"nindent":   func(n int, s string) string { return "\n" + indent(n, s) },
		"quote":     func(v any) string { return fmt.Sprintf("%q", toString(v)) },
		"toString":  toString,
		"default":   defaulted,
		"ternary":   ternary,
		"list":      func(all ...any) []any { return all },
		"append":    func(list []any, v any) []any { return append(slices.Clone(list), v) },
		"concat":    func(lists ...[]any) []any { return slices.Concat(lists...) },
		"has":       has,
		"join":      join,
		"dict":      dict,
		"sha256sum": sha256sum,
		"fail":      func(why string) (string, error) { return "", errors.New(why) },
	}
}

func toYAML(v any) (string, error) {
	text, err := yaml.Marshal(v)
	return strings.TrimSuffix(string(text), "\n"), err
}

func fromYAML(text string) (map[string]any, error) {
	var m map[string]any
	return m, unmarshal([]byte(text), &m)
}

// unmarshal reads YAML as Helm does, in which numbers stay as they are written.
func unmarshal(text []byte, into any) error {
	return yaml.UnmarshalStrict(text, into, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d })
}

func indent(n int, s string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
}

func toString(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func defaulted(otherwise, v any) any {
	if is, ok := template.IsTrue(v); ok && is {
		return v
	}
	return otherwise
}

func ternary(yes, no any, which bool) any {
	if which {
		return yes
	}
	return no
}

func has(v any, list any) bool {
	items, _ := list.([]any)
	return slices.ContainsFunc(items, func(item any) bool { return reflect.DeepEqual(item, v) })
}

func join(sep string, items []any) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = toString(item)
	}
	return strings.Join(texts, sep)
}

func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a key without a value")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[toString(pairs[i])] = pairs[i+1]
	}
	return m, nil
}

func sha256sum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
