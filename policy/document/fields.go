package document

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fields are those of one object of the text, by name. Fields that are null are
// left out, so that they read as absent.
type Fields struct {
	Values map[string]*yaml.Node
	Lines  map[string]int
}

// Fields reads n as an object that may have the known fields and no others. what
// names the object in messages.
func (r *Reporter) Fields(n *yaml.Node, what string, known ...string) (Fields, bool) {
	f := Fields{Values: map[string]*yaml.Node{}, Lines: map[string]int{}}
	if r.OnFields != nil {
		r.OnFields(n, known)
	}
	if n.Kind != yaml.MappingNode {
		r.Errorf(n.Line, "%s must be an object, and is %s", what, KindOf(n))
		return f, false
	}
	ok := true
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !slices.Contains(known, key.Value) {
			r.Errorf(key.Line, "%s: unknown field %.100q%s", what, key.Value, Suggest(key.Value, known))
			ok = false
			continue
		}
		if !IsNull(value) {
			f.Values[key.Value], f.Lines[key.Value] = value, key.Line
		}
	}
	return f, ok
}

// Suggest returns "; did you mean WORD?", or "". It finds the word that a writer meant who got the case wrong, used the
// protobuf spelling, wrote an s too many or too few, or mistyped up to two letters.
func Suggest(name string, known []string) string {
	plain := func(s string) string {
		return strings.TrimSuffix(strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(s, "_", ""), "-", "")), "s")
	}
	best, near := 3, ""
	for _, k := range known {
		if d := editDistance(plain(k), plain(name)); d < best && d*3 <= len(k) {
			best, near = d, k
		}
	}
	if near == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(near) + "?"
}

// editDistance returns how many letters have to be put in, taken out or changed to make b
// of a; for words that are longer than names are, only whether any.
func editDistance(a, b string) int {
	const longest = 64
	if a == b {
		return 0
	}
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Text reads a field that holds text, or returns "" for an absent one.
func (r *Reporter) Text(f Fields, name string) string {
	n := f.Values[name]
	if n == nil {
		return ""
	}
	text, _ := r.Scalar(n, name)
	return text
}

// Scalar reads a node that holds text, and reports one that does not.
func (r *Reporter) Scalar(n *yaml.Node, what string) (string, bool) {
	tag := n.ShortTag()
	if n.Kind == yaml.ScalarNode && (tag == tagStr || tag == tagTime) {
		return n.Value, true
	}
	hint := ""
	if n.Kind == yaml.ScalarNode && tag != tagNull {
		hint = "; put it in quotes"
	}
	r.Errorf(n.Line, "%s must be text, and is %s%s", what, KindOf(n), hint)
	return "", false
}

// List reads a field that holds a list, or returns nothing for an absent one.
func (r *Reporter) List(f Fields, name string) []*yaml.Node {
	n := f.Values[name]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.Errorf(n.Line, "%s must be a list, and is %s", name, KindOf(n))
		return nil
	}
	return n.Content
}

// Enum reads a field that holds one of the named values, by name or by number;
// the number of a name is its index. ok is false when it is absent or wrong, and
// wrong ones are reported.
func (r *Reporter) Enum(f Fields, name string, names []string) (value int, ok bool) {
	n := f.Values[name]
	if n == nil {
		return 0, false
	}
	if !IsWord(n) {
		r.Errorf(n.Line, "%s must be one of %s, and is %s", name, strings.Join(names[1:], ", "), KindOf(n))
		return 0, false
	}
	if n.ShortTag() == tagInt {
		value, err := strconv.Atoi(n.Value)
		if err != nil || value < 0 || value >= len(names) {
			r.Errorf(n.Line, "%s: %.50s is not the number of one of %s", name, n.Value, strings.Join(names[1:], ", "))
			return 0, false
		}
		return value, true
	}
	if i := slices.Index(names, n.Value); i >= 0 {
		return i, true
	}
	r.Errorf(n.Line, "%s: %.100q is not one of %s%s", name, n.Value, strings.Join(names[1:], ", "), Suggest(n.Value, names))
	return 0, false
}

// IsNull reports whether n is null.
func IsNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == tagNull
}

// IsWord reports whether n is text or a whole number, as the values of enums are.
func IsWord(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == tagStr || n.ShortTag() == tagInt)
}

// KindOf names what n is in words.
func KindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case tagNull:
		return "null"
	case tagBool:
		return "a truth value"
	case tagInt, tagFloat:
		return "a number"
	case tagStr:
		return "text"
	case tagTime:
		return "a time"
	}
	return "something else"
}
