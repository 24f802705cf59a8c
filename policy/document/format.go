package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"go.yaml.in/yaml/v3"
)

// Format returns a text in one form: the keys of objects in alphabetical order, two
// spaces to a level. YAML keeps its comments and documents, JSON stays JSON. It
// expects a text that a Reporter has no errors for.
func Format(data []byte) ([]byte, error) {
	if trimmed := bytes.TrimSpace(data); json.Valid(trimmed) {
		return formatJSON(trimmed)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	for n := 0; ; n++ {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				break
			}
			return nil, fmt.Errorf("decoding YAML: %w", err)
		}
		order(&doc)
		if err := enc.Encode(&doc); err != nil {
			return nil, err
		}
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func formatJSON(data []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v) // writes the keys of objects in order
	return out.Bytes(), err
}

// order sorts the keys of every object in a tree, and writes it in block style.
func order(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	for _, child := range n.Content {
		order(child)
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			keepComment(n.Content[i], n.Content[i+1])
		}
		sort.Stable(byKey(n.Content))
	}
}

// keepComment moves what stands behind an object or a list above its key: in block
// style there is no place behind it, and the writer would take that of the next key.
func keepComment(key, value *yaml.Node) {
	if value.Kind == yaml.ScalarNode || value.LineComment == "" {
		return
	}
	if key.HeadComment != "" {
		key.HeadComment += "\n"
	}
	key.HeadComment += value.LineComment
	value.LineComment = ""
}

// byKey sorts the keys of a mapping with their values.
type byKey []*yaml.Node

func (p byKey) Len() int           { return len(p) / 2 }
func (p byKey) Less(i, j int) bool { return p[2*i].Value < p[2*j].Value }
func (p byKey) Swap(i, j int) {
	p[2*i], p[2*j] = p[2*j], p[2*i]
	p[2*i+1], p[2*j+1] = p[2*j+1], p[2*i+1]
}
