package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxPath bounds the text of a path, and maxSteps what it walks.
	maxPath  = 512
	maxSteps = 32

	// maxMember bounds a member name that a "*" stands for.
	maxMember = 253
)

// A Path leads from an object to values in it:
//
//	path = step { "." step | index }
//	step = name | "*"                 a member; "*" is every member
//	index = "[*]" | "[" string "]"    every item of a list; a member by a JSON string
//	name = letters, digits, "_", "-" and "$"
//
// as in spec.template.spec.containers[*].image or spec.replicas.*.template or
// spec["a.b"].image. There is no root "$", no filter, no descent and no index by
// number: each step says what has to be there. The zero Path leads nowhere.
type Path struct {
	steps []Step
}

// A StepKind says where a step of a Path leads.
type StepKind int

// The kinds of steps.
const (
	Member    StepKind = iota + 1 // to the member of an object that has the step's name
	AnyMember                     // to every member of an object
	AnyItem                       // to every item of a list
)

// A Step of a Path. The zero Step leads nowhere.
type Step struct {
	Kind StepKind
	Name string // of a Member
}

// Steps returns the steps of the path.
func (p Path) Steps() []Step { return slices.Clone(p.steps) }

// ParsePath reads a path. Errors name the column, which begins at 1.
func ParsePath(text string) (Path, error) {
	if len(text) > maxPath {
		return Path{}, fmt.Errorf("a path of %d characters: at most %d are taken", len(text), maxPath)
	}
	var p Path
	for at := 0; at < len(text) || at == 0; {
		s, next, err := parseStep(text, at)
		if err != nil {
			return Path{}, fmt.Errorf("column %d: %w", next+1, err)
		}
		if len(p.steps) == maxSteps {
			return Path{}, fmt.Errorf("column %d: more than %d steps", at+1, maxSteps)
		}
		at = next
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// parseStep reads the step at a place, and returns where the next one begins, or
// where the error is.
func parseStep(text string, at int) (Step, int, error) {
	switch rest := text[at:]; {
	case strings.HasPrefix(rest, "[*]") && at > 0:
		return Step{Kind: AnyItem}, at + len("[*]"), nil
	case strings.HasPrefix(rest, `["`):
		return parseQuoted(text, at+1)
	case strings.HasPrefix(rest, "["):
		return Step{}, at, errors.New(`want [*] for every item of a list, or ["name"]`)
	case at > 0 && !strings.HasPrefix(rest, "."):
		return Step{}, at, fmt.Errorf("unexpected %q: steps are separated by a dot", rest[:1])
	case at > 0:
		at++
	}
	if strings.HasPrefix(text[at:], "*") {
		return Step{Kind: AnyMember}, at + 1, nil
	}
	end := at
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	if end == at {
		return Step{}, at, errors.New(`want the name of a member (letters, digits, "_", "-", "$"), or "*" for each; write others as ["name"]`)
	}
	return Step{Kind: Member, Name: text[at:end]}, end, nil
}

// parseQuoted reads "name"] at a place.
func parseQuoted(text string, at int) (Step, int, error) {
	dec := json.NewDecoder(strings.NewReader(text[at:]))
	var name string
	if err := dec.Decode(&name); err != nil {
		return Step{}, at, errors.New("want a JSON string")
	}
	end := at + int(dec.InputOffset())
	if !strings.HasPrefix(text[end:], "]") {
		return Step{}, end, errors.New(`want "]"`)
	}
	return Step{Kind: Member, Name: name}, end + 1, nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '$'
}

// Each calls visit for every value that the path leads to in raw, with the place of
// the value. What is absent or null on the way leads nowhere; what is of another
// type than the path says is an error.
func (p Path) Each(raw jsontext.Value, visit func(place string, v jsontext.Value) error) error {
	if len(p.steps) == 0 {
		return errors.New("an empty path leads nowhere")
	}
	w := jsonWalk{path: p, dec: jsontext.NewDecoder(bytes.NewBuffer(raw)), visit: visit}
	return w.from(0, "")
}

// A jsonWalk is a path on its way through a value.
type jsonWalk struct {
	path  Path
	dec   *jsontext.Decoder
	visit func(place string, v jsontext.Value) error
}

// from takes the steps from the i-th on. place is where the value stands.
func (w jsonWalk) from(i int, place string) error {
	kind := w.dec.PeekKind()
	if kind == 'n' {
		return w.dec.SkipValue()
	}
	if i == len(w.path.steps) {
		v, err := w.dec.ReadValue()
		if err != nil {
			return err
		}
		return w.visit(place, v)
	}
	want := jsontext.Kind('{')
	if w.path.steps[i].Kind == AnyItem {
		want = '['
	}
	if kind != want {
		return fmt.Errorf("%s: want %s, found %s", w.at(place), NameOfKind(want), NameOfKind(kind))
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return err
	}
	if want == '[' {
		return w.items(i, place)
	}
	return w.members(i, place)
}

func (w jsonWalk) items(i int, place string) error {
	for n := 0; w.dec.PeekKind() != ']'; n++ {
		if err := w.from(i+1, place+"["+strconv.Itoa(n)+"]"); err != nil {
			return err
		}
	}
	_, err := w.dec.ReadToken()
	return err
}

func (w jsonWalk) members(i int, place string) error {
	s := w.path.steps[i]
	for w.dec.PeekKind() != '}' {
		token, err := w.dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if s.Kind == Member && name != s.Name {
			if err := w.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if s.Kind == AnyMember && len(name) > maxMember {
			return fmt.Errorf("%s: a member has a name of %d characters", w.at(place), len(name))
		}
		if err := w.from(i+1, PlaceOf(place, name)); err != nil {
			return err
		}
	}
	_, err := w.dec.ReadToken()
	return err
}

// PlaceOf returns where a member of what stands at parent stands, "" being the whole
// object. No two have the same place.
func PlaceOf(parent, name string) string {
	switch odd := func(c rune) bool { return c > 0x7f || !isNameByte(byte(c)) }; {
	case name == "" || strings.ContainsFunc(name, odd):
		return parent + "[" + strconv.Quote(name) + "]"
	case parent == "":
		return name
	}
	return parent + "." + name
}

// at names a place in a message.
func (w jsonWalk) at(place string) string {
	if place == "" {
		return "the object"
	}
	return clip(place)
}

// NameOfKind says what a JSON value is, in words.
func NameOfKind(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "something else"
}

func clip(s string) string { return s[:min(len(s), 100)] }
