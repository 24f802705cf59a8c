package document

import (
	"bytes"
	"errors"

	"go.yaml.in/yaml/v3"
)

// maxStreamDepth bounds how deep a JSON stream nests: what is not ours in it, such as
// a custom resource definition, nests deeper than what is.
const maxStreamDepth = 100

// LoadStream parses data into the documents of a YAML stream, or the one value of a
// JSON text, and leaves out those without content. It reports why it cannot and
// returns nil.
//
// The documents have not been checked, since not all that stands in a stream need
// be strict: call [Reporter.Check] with what is to be read. Until then look at single
// fields only, by [Peek].
func (r *Reporter) LoadStream(data []byte, most, documents int) []*yaml.Node {
	if !r.readable(data, most) {
		return nil
	}
	roots, line, err := parseStream(data, documents, maxStreamDepth)
	if err != nil {
		r.Errorf(line, "%v", err)
		return nil
	}
	kept := roots[:0]
	for _, root := range roots {
		if !IsNull(root) {
			kept = append(kept, root)
		}
	}
	if len(kept) == 0 {
		r.Errorf(0, "the document is empty")
	}
	return kept
}

// Check reports whether a value of a stream is safe to walk, as [Reporter.Load]
// makes sure for what it returns, and reports why not.
func (r *Reporter) Check(n *yaml.Node) bool { return r.checkTree(n, 0, maxDepth) }

// CheckDeep is [Reporter.Check] for what nests deeper than policies do, up to 100
// levels, such as evidence.
func (r *Reporter) CheckDeep(n *yaml.Node) bool { return r.checkTree(n, 0, maxStreamDepth) }

// Peek returns the value of a field of an object that has not been checked, or nil
// if there is none, or are several.
func Peek(n *yaml.Node, field string) *yaml.Node {
	var found *yaml.Node
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Kind != yaml.ScalarNode || key.Value != field {
			continue
		}
		if found != nil {
			return nil
		}
		found = n.Content[i+1]
	}
	return found
}

// ParseYAML parses data into the documents of a YAML stream, at most most. A text that
// has no content, or nothing but comments, gives none. Nothing has been checked but the
// syntax: nodes may be nested deep, be aliases, and have keys of any kind.
func ParseYAML(data []byte, most int) (roots []*yaml.Node, line int, err error) {
	return parseYAML(data, most)
}

// ParseJSON parses data into the JSON values that stand one after the other in it, at
// most most. The nodes are those that YAML would give, with lines and columns, and have
// not been checked; line breaks are line feeds.
func ParseJSON(data []byte, most int) (roots []*yaml.Node, line int, err error) {
	for j := newJSONReader(data, maxStreamDepth); ; {
		if len(bytes.TrimSpace(data[j.dec.InputOffset():])) == 0 {
			return roots, 0, nil
		}
		if len(roots) == most {
			return nil, j.at(), errors.New("more values than there may be")
		}
		root, err := j.value(0)
		if err != nil {
			return nil, j.at(), errors.New("not valid JSON: " + err.Error())
		}
		roots = append(roots, root)
	}
}
