// Package strictyaml says what is wrong with a configuration that a strict YAML decoder
// refuses, by line, and not in terms of Go.
package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// Explain returns err, of decoding a file into a variable, as lines FILE:LINE: WHY. Into is
// the variable or a pointer to it: of its fields the one is named that was meant.
func Explain(file string, err error, into any) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", file, err)
	}
	known := map[string][]string{}
	fieldsOf(reflect.TypeOf(into), known)
	errs := make([]error, len(wrong.Errors))
	for i, text := range wrong.Errors {
		line, why, _ := strings.Cut(strings.TrimPrefix(text, "line "), ": ")
		errs[i] = fmt.Errorf("%s:%s: %s", file, line, inWords(why, known))
	}
	return errors.Join(errs...)
}

// inWords translates "field F not found in type T" and "cannot unmarshal !!K `V` into T".
func inWords(why string, known map[string][]string) string {
	if field, of, ok := strings.Cut(why, " not found in type "); ok {
		field = strings.TrimPrefix(field, "field ")
		return fmt.Sprintf("unknown field %.100q%s", field, document.Suggest(field, known[of]))
	}
	value, of, ok := strings.Cut(strings.TrimPrefix(why, "cannot unmarshal "), " into ")
	if !ok {
		return why
	}
	kind, text, _ := strings.Cut(value, " ")
	if text = strings.Trim(text, "`"); text == "" {
		text = map[string]string{"!!seq": "a list", "!!map": "a section"}[kind]
	}
	return fmt.Sprintf("another kind of value belongs here, %s: %s", wanted(of, known), text)
}

// wanted says what a Go type is written as.
func wanted(of string, known map[string][]string) string {
	switch of = strings.TrimPrefix(of, "*"); {
	case of == "time.Duration":
		return "a time such as 90s or 24h"
	case of == "bool":
		return "true or false"
	case strings.HasPrefix(of, "int"), strings.HasPrefix(of, "uint"):
		return "a whole number"
	case strings.HasPrefix(of, "float"):
		return "a number"
	case strings.HasPrefix(of, "[]"):
		return "a list"
	case strings.HasPrefix(of, "map["), known[of] != nil:
		return "a section"
	}
	return "a text"
}

// fieldsOf gathers the names of fields of all structures within a type.
func fieldsOf(t reflect.Type, known map[string][]string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
		fieldsOf(t.Elem(), known)
	case reflect.Struct:
		if known[t.String()] != nil {
			return
		}
		known[t.String()] = []string{}
		for f := range t.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "-" || !f.IsExported() && !f.Anonymous {
				continue
			}
			fieldsOf(f.Type, known)
			at := f.Type
			if at.Kind() == reflect.Pointer {
				at = at.Elem()
			}
			if strings.Contains(options, "inline") {
				known[t.String()] = append(known[t.String()], known[at.String()]...)
				continue
			}
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			known[t.String()] = append(known[t.String()], name)
		}
	}
}
