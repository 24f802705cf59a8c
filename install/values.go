package install

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Values are those of the chart, as JSON has them: maps by string, []any, string, bool,
// [json.Number] and nil. What is not said is the chart's default.
type Values map[string]any

// ParseValues reads YAML or JSON.
func ParseValues(text []byte) (Values, error) {
	var v Values
	if err := unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("reading values: %w", err)
	}
	return v, nil
}

// Set puts one value in its place: a.b.c=TEXT, in which TEXT is YAML; a dot that belongs to
// a name is written \. there.
func (v Values) Set(assignment string) error {
	where, text, ok := strings.Cut(assignment, "=")
	if !ok || where == "" {
		return fmt.Errorf("%q: want NAME.NAME=VALUE", assignment)
	}
	var value any
	if err := unmarshal([]byte(text), &value); err != nil {
		return fmt.Errorf("%q: %w", assignment, err)
	}
	names := splitPath(where)
	m := map[string]any(v)
	for _, name := range names[:len(names)-1] {
		next, isMap := m[name].(map[string]any)
		if m[name] != nil && !isMap {
			return fmt.Errorf("%q: %q has a value and no members", assignment, name)
		}
		if next == nil {
			next = map[string]any{}
			m[name] = next
		}
		m = next
	}
	m[names[len(names)-1]] = value
	return nil
}

func splitPath(s string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			name.WriteByte(s[i])
		case s[i] == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(s[i])
		}
	}
	return append(names, name.String())
}

// Merge lays other values over v, as Helm does: maps are merged, null takes a value away,
// and everything else replaces.
func (v Values) Merge(over Values) Values { return overlay(v, over, false) }

func overlay(under, over map[string]any, drop bool) map[string]any {
	merged := make(map[string]any, len(under)+len(over))
	for name, value := range under {
		merged[name] = value
	}
	for name, value := range over {
		old, oldIsMap := merged[name].(map[string]any)
		now, nowIsMap := value.(map[string]any)
		switch {
		case value == nil && drop:
			delete(merged, name)
		case oldIsMap && nowIsMap:
			merged[name] = overlay(old, now, drop)
		default:
			merged[name] = value
		}
	}
	return merged
}

// clone returns values that share nothing with v, in the types that JSON has.
func (v Values) clone() (Values, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("reading values: %w", err)
	}
	return ParseValues(text)
}
