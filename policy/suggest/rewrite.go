package suggest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

const (
	patternsField = "admissionWhitelistPatterns"
	patternField  = "namePattern"
)

// includes reports whether a pattern covers all that another one does.
func includes(wide, other string) bool {
	prefix, rest := strings.TrimRight(wide, "*"), strings.TrimRight(other, "*")
	stars, otherStars := len(wide)-len(prefix), len(other)-len(rest)
	after, begins := strings.CutPrefix(rest, prefix)
	switch {
	case wide == other:
		return true
	case !begins || stars == 0:
		return false
	case !strings.Contains(prefix, "/") && hostLength(rest) > 0:
		return false // a wildcard never stands in a host
	case stars == 1:
		return otherStars < 2 && !strings.Contains(after, "/")
	}
	return true
}

// rewrite returns the text of a valid policy with other patterns: of what stands i-th
// becomes what replace says, and add comes at the end. The text is in the form of
// [document.Format], and keeps its comments.
func rewrite(data []byte, replace func(i int) []string, add []string) ([]byte, error) {
	if trimmed := bytes.TrimSpace(data); json.Valid(trimmed) {
		return rewriteJSON(trimmed, replace, add)
	}
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decoding YAML: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the policy is no object")
	}
	root := doc.Content[0]
	at := -1
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == patternsField {
			at = i
		}
	}
	if at < 0 {
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: patternsField}, &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"})
		at = len(root.Content) - 2
	}
	key, list := root.Content[at], root.Content[at+1]
	if list.Kind != yaml.SequenceNode { // null stands for an empty list
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", HeadComment: list.HeadComment, LineComment: list.LineComment, FootComment: list.FootComment}
		root.Content[at+1] = list
	}
	rewriteItems(list, replace, add)
	if len(list.Content) == 0 {
		// The comments of the list stay with what follows it, or else the policy.
		doc.HeadComment = joinComments(doc.HeadComment, key.HeadComment, list.HeadComment)
		root.Content = slices.Delete(root.Content, at, at+2)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("encoding YAML: %w", err)
	}
	return document.Format(out.Bytes())
}

// rewriteItems changes the items of a list. A comment above items that go is kept if
// it may be a heading: if the next item has none of its own and stays.
func rewriteItems(list *yaml.Node, replace func(i int) []string, add []string) {
	var kept []*yaml.Node
	heading := ""
	for i, item := range list.Content {
		texts := replace(i)
		if len(texts) == 0 {
			heading = cmpComment(item.HeadComment, heading)
			if item.FootComment != "" && len(kept) > 0 {
				kept[len(kept)-1].FootComment = joinComments(kept[len(kept)-1].FootComment, item.FootComment)
			}
			continue
		}
		if item.HeadComment == "" && headOf(item) == "" {
			item.HeadComment = heading
		}
		heading = ""
		for j, text := range texts {
			if j > 0 {
				kept = append(kept, itemOf(text))
				continue
			}
			setPattern(item, text)
			kept = append(kept, item)
		}
	}
	for _, text := range add {
		kept = append(kept, itemOf(text))
	}
	list.Content = kept
}

// cmpComment returns the later of two headings that is there.
func cmpComment(later, earlier string) string {
	if later != "" {
		return later
	}
	return earlier
}

// headOf returns the comment above an item that the parser gives to its first key.
func headOf(item *yaml.Node) string {
	if item.Kind == yaml.MappingNode && len(item.Content) > 0 {
		return item.Content[0].HeadComment
	}
	return ""
}

func joinComments(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "\n")
}

func setPattern(item *yaml.Node, text string) {
	for i := 0; i+1 < len(item.Content); i += 2 {
		if item.Content[i].Value == patternField && item.Content[i+1].Value != text {
			item.Content[i+1].Value, item.Content[i+1].Style = text, 0
		}
	}
}

func itemOf(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: patternField}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: text},
	}}
}

func rewriteJSON(data []byte, replace func(i int) []string, add []string) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var policy map[string]any
	if err := dec.Decode(&policy); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	old, _ := policy[patternsField].([]any) // null stands for an empty list
	list := []any{}
	for i := range old {
		for _, text := range replace(i) {
			list = append(list, map[string]any{patternField: text})
		}
	}
	for _, text := range add {
		list = append(list, map[string]any{patternField: text})
	}
	policy[patternsField] = list
	if len(list) == 0 {
		delete(policy, patternsField)
	}
	out, err := json.Marshal(policy)
	if err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}
	return document.Format(out)
}
