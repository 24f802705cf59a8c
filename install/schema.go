package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A schema is the part of JSON Schema that the values of the chart, and Kubernetes'
// published schemas, are written in. Another keyword is an error when it is read.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 oneOrMany          `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *orBool            `json:"additionalProperties"`
	Required             []string           `json:"required"`
	Items                *schema            `json:"items"`
	MinItems             int                `json:"minItems"`
	Enum                 []any              `json:"enum"`
	Pattern              string             `json:"pattern"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
	Format               string             `json:"format"`

	Title       string             `json:"title"`
	Version     string             `json:"$schema"`
	Definitions map[string]*schema `json:"definitions"`
}

type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(o))
}

// orBool is a schema, or false for none.
type orBool struct{ *schema }

func (o *orBool) UnmarshalJSON(text []byte) error {
	if string(text) == "false" {
		return nil
	}
	return unmarshal(text, &o.schema)
}

func parseSchema(text []byte) (*schema, error) {
	var s schema
	if err := unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("reading the schema of values: %w", err)
	}
	return &s, nil
}

// A judge holds values to a schema.
type judge struct {
	definitions map[string]*schema
	// closed refuses members that a schema with properties does not name, even if it does
	// not say so: Kubernetes' do not.
	closed bool
	errs   []error
}

// check returns everything that is wrong with a value, by its place.
func (s *schema) check(v any, closed bool) error {
	j := judge{definitions: s.Definitions, closed: closed}
	j.value(s, "", v)
	return errors.Join(j.errs...)
}

func (j *judge) bad(place, format string, args ...any) {
	if place == "" {
		place = "values"
	}
	j.errs = append(j.errs, fmt.Errorf("%s: %s", strings.TrimPrefix(place, "."), fmt.Sprintf(format, args...)))
}

func (j *judge) value(s *schema, place string, v any) {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		if s = j.definitions[name]; s == nil {
			j.bad(place, "its schema %q is missing", name)
			return
		}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		j.bad(place, "%v is none of %v", v, s.Enum)
		return
	}
	kind := kindOf(v)
	if len(s.Type) > 0 && !slices.ContainsFunc(s.Type, func(t string) bool { return fits(t, s.Format, kind) }) {
		j.bad(place, "want %s, and this is %s", strings.Join(s.Type, " or "), kind)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		j.object(s, place, v)
	case []any:
		if len(v) < s.MinItems {
			j.bad(place, "want at least %d", s.MinItems)
		}
		for i, item := range v {
			if s.Items != nil {
				j.value(s.Items, fmt.Sprintf("%s[%d]", place, i), item)
			}
		}
	case string:
		if s.Pattern != "" {
			if pattern, err := regexp.Compile(s.Pattern); err != nil || !pattern.MatchString(v) {
				j.bad(place, "%q does not fit %s", v, s.Pattern)
			}
		}
	case json.Number:
		j.number(s, place, v)
	}
}

func (j *judge) object(s *schema, place string, v map[string]any) {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			j.bad(place+"."+name, "it is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		at := place + "." + name
		member, known := s.Properties[name]
		switch {
		case known:
			j.value(member, at, v[name])
		case s.AdditionalProperties != nil && s.AdditionalProperties.schema != nil:
			j.value(s.AdditionalProperties.schema, at, v[name])
		case s.AdditionalProperties != nil, j.closed && s.Properties != nil:
			j.bad(at, "there is no such setting")
		}
	}
}

func (j *judge) number(s *schema, place string, v json.Number) {
	n, err := v.Float64()
	if err != nil || s.Minimum != nil && n < *s.Minimum || s.Maximum != nil && n > *s.Maximum {
		j.bad(place, "%s is out of bounds", v)
	}
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	}
	return fmt.Sprintf("%T", v)
}

func fits(want, format, kind string) bool {
	return want == kind || want == "number" && kind == "integer" || want == "string" && format == "int-or-string" && kind == "integer"
}
