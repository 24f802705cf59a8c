package metadata

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A pathNode is a condition on whatever a path through the message leads to. Of
// what is repeated on the way any one will do. No index helps with it.
type pathNode struct {
	term
	steps []step
	// test is of the value at the end; nil asks only whether there is one.
	test func(protoreflect.Value) bool
}

// A step leads from a message to one of its fields, or to the entry of a map.
type step struct {
	field protoreflect.FieldDescriptor
	key   protoreflect.MapKey // valid if the field is a map of which one entry is meant
}

func (n pathNode) bounds(bool) bounds { return unbounded() }
func (n pathNode) unindexed() *term   { return &n.term }

func (n pathNode) match(r *row) bool {
	m := r.view()
	return m != nil && n.walk(m, n.steps)
}

// walk reports whether the rest of the path leads from m to a value that passes.
func (n pathNode) walk(m protoreflect.Message, steps []step) bool {
	s, rest := steps[0], steps[1:]
	switch f := s.field; {
	case f.IsMap() && !s.key.IsValid():
		return m.Get(f).Map().Len() > 0
	case f.IsMap():
		entries := m.Get(f).Map()
		return entries.Has(s.key) && n.reach(entries.Get(s.key), rest)
	case f.IsList():
		list := m.Get(f).List()
		for i := range list.Len() {
			if n.reach(list.Get(i), rest) {
				return true
			}
		}
		return false
	case (f.HasPresence() || n.test == nil) && !m.Has(f):
		return false
	}
	return n.reach(m.Get(s.field), rest)
}

// reach goes on from a value that a step led to.
func (n pathNode) reach(v protoreflect.Value, rest []step) bool {
	if len(rest) > 0 {
		return n.walk(v.Message(), rest)
	}
	return n.test == nil || n.test(v)
}

// dependencyPackage is where a package's name stands, in v1 and v1beta1, by which
// gcloud asks for those of a dependency.
var dependencyPackage = [][]string{{"package", "name"}, {"installation", "installation", "name"}}

// expand returns the path that an alias stands for, or the path itself.
func (s *schema) expand(path []string) []string {
	if s.notes || len(path) != 1 || path[0] != "dependencyPackageName" && path[0] != "dependency_package_name" {
		return path
	}
	for _, p := range dependencyPackage {
		if s.message.Fields().ByName(protoreflect.Name(p[0])) != nil {
			return p
		}
	}
	return path
}

// pathTerm compiles a condition on a path.
func (c *compiler) pathTerm(k condition, path []string) (node, error) {
	name := strings.Join(path, ".")
	steps, err := c.resolve(k, name, c.schema.expand(path))
	if err != nil {
		return nil, err
	}
	n := pathNode{term: term{k.at, name}, steps: steps}
	last := &steps[len(steps)-1]
	if k.op == opPresent {
		return n, nil
	}
	value, err := c.literal(k, name)
	if err != nil {
		return nil, err
	}
	leaf := last.field
	if leaf.IsMap() && !last.key.IsValid() {
		if !k.has {
			return nil, c.refuse(k.field, "%q is a map; write %s.KEY, or %s:KEY to ask for a key", clip(name), clip(name), clip(name))
		}
		if last.key, err = c.mapKey(k, name, leaf, value); err != nil {
			return nil, err
		}
		return n, nil
	}
	if leaf.IsMap() {
		leaf = leaf.MapValue()
	}
	if n.test, err = testOf(k.op, leaf, name, value); err != nil {
		return nil, c.refuse(k.value, "%w", err)
	}
	return n, nil
}

// resolve finds the fields of a path.
func (c *compiler) resolve(k condition, name string, path []string) ([]step, error) {
	if len(path) > maxFilterPath {
		return nil, c.refuse(k.field, "cannot filter by %q: it has %d parts, at most %d are allowed", clip(name), len(path), maxFilterPath)
	}
	var steps []step
	message := c.schema.message
	for i := 0; i < len(path); i++ {
		if message == nil {
			return nil, c.refuse(k.field, "cannot filter by %q: %s is a value and has no field %q", clip(name), clip(path[i-1]), clip(path[i]))
		}
		f := fieldOf(message, path[i])
		if f == nil {
			return nil, c.refuse(k.field, "cannot filter by %q: %s has no field %q%s", clip(name), message.FullName(), clip(path[i]), c.suggest(message, path[i]))
		}
		s, value := step{field: f}, f
		if f.IsMap() {
			value = f.MapValue()
			if i+1 < len(path) {
				var err error
				if s.key, err = c.mapKey(k, name, f, path[i+1]); err != nil {
					return nil, err
				}
				i++
			}
		}
		steps = append(steps, s)
		message = value.Message()
	}
	return steps, nil
}

// fieldOf finds a field by its name in snake case or in camel case.
func fieldOf(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByName(protoreflect.Name(name)); f != nil {
		return f
	}
	return m.Fields().ByJSONName(name)
}

// mapKey parses the key of a map's entry.
func (c *compiler) mapKey(k condition, name string, f protoreflect.FieldDescriptor, text string) (protoreflect.MapKey, error) {
	var v protoreflect.Value
	ok := true
	switch f.MapKey().Kind() {
	case protoreflect.StringKind:
		v = protoreflect.ValueOfString(text)
	case protoreflect.BoolKind:
		v, ok = protoreflect.ValueOfBool(text == "true"), text == "true" || text == "false"
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		var i int64
		i, ok = parseInteger(text, 32)
		v = protoreflect.ValueOfInt32(int32(i))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		var i int64
		i, ok = parseInteger(text, 64)
		v = protoreflect.ValueOfInt64(i)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		u, err := strconv.ParseUint(text, 10, 32)
		v, ok = protoreflect.ValueOfUint32(uint32(u)), err == nil
	default: // the 64-bit unsigned ones; maps have no other keys
		u, err := strconv.ParseUint(text, 10, 64)
		v, ok = protoreflect.ValueOfUint64(u), err == nil
	}
	if !ok {
		return protoreflect.MapKey{}, c.refuse(k.field, "cannot filter by %q: %q is no key of %s", clip(name), clip(text), f.Name())
	}
	return v.MapKey(), nil
}

// suggest names the field that was perhaps meant.
func (c *compiler) suggest(m protoreflect.MessageDescriptor, name string) string {
	var names []string
	fields := m.Fields()
	for i := range fields.Len() {
		names = append(names, fields.Get(i).JSONName(), string(fields.Get(i).Name()))
	}
	if m == c.schema.message {
		for spelling := range fieldSpellings {
			if _, ok := c.schema.known(spelling); ok {
				names = append(names, spelling)
			}
		}
	}
	return didYouMean(name, names)
}

// didYouMean offers the name that is one or two letters away, if there is one.
func didYouMean(name string, names []string) string {
	const most = 64 // of the letters in a name
	best, distance := "", min(3, len(name)/2+1)
	if len(name) > most {
		return ""
	}
	for _, n := range names {
		d := editDistance(strings.ToLower(name), strings.ToLower(n))
		if d < distance || d == distance && best != "" && n < best {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return `; did you mean "` + best + `"?`
}

// editDistance returns how many bytes to add, drop or replace make b of a.
func editDistance(a, b string) int {
	line := make([]int, len(b)+1)
	for j := range line {
		line[j] = j
	}
	for i := range len(a) {
		diagonal := line[0]
		line[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = line[j+1]
			line[j+1] = min(cost, line[j]+1, diagonal+1)
		}
	}
	return line[len(b)]
}
