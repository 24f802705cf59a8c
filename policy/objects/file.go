package objects

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

const (
	// maxFile bounds a text of objects, and maxInFile how many there may be in it.
	maxFile    = 32 << 20
	maxInFile  = 10_000
	maxSkipped = 20 // objects that warnings name
)

// ParseFile reads the objects of a text: YAML documents or JSON, and Lists, as kubectl
// writes them. Objects of other kinds are left out, with a warning. What is wrong with an
// object is in its Problems, and in the diagnostics too.
func ParseFile(file string, data []byte) ([]*Object, document.Diagnostics) {
	f := &fileReader{Reporter: document.New(file), lines: map[Ref]int{}}
	for _, root := range f.LoadStream(data, maxFile, maxInFile) {
		f.value(root, false)
	}
	if f.skipped > maxSkipped {
		f.Warnf(1, "and %d more objects of other kinds are skipped", f.skipped-maxSkipped)
	}
	if len(f.list) == 0 && !f.Erred() {
		f.Errorf(1, "there is no object of Gatehouse or Kritis in it")
	}
	for _, o := range f.list {
		f.Add(Diagnostics(o.Problems)...)
	}
	return f.list, f.Diagnostics()
}

type fileReader struct {
	*document.Reporter
	list    []*Object
	lines   map[Ref]int
	skipped int
}

func (f *fileReader) value(n *yaml.Node, listed bool) {
	switch {
	case n.Kind == yaml.SequenceNode && !listed:
		f.items(n)
		return
	case n.Kind != yaml.MappingNode:
		f.Errorf(n.Line, "want an object of Kubernetes, and this is %s", document.KindOf(n))
		return
	}
	apiVersion, kind := peek(n, "apiVersion"), peek(n, "kind")
	group, _, _ := strings.Cut(apiVersion, "/")
	ours := group == Group || group == GroupKritis
	switch {
	case apiVersion == "" || kind == "":
		f.Errorf(n.Line, "the object needs both apiVersion and kind")
	case kind == "List" || ours && strings.HasSuffix(kind, "List"):
		if items := document.Peek(n, "items"); items != nil && items.Kind == yaml.SequenceNode && !listed {
			f.items(items)
		} else {
			f.Errorf(n.Line, "a List needs items, once and as a list, and no List within")
		}
	case !ours:
		if f.skipped++; f.skipped <= maxSkipped {
			f.Warnf(n.Line, "%.100q is of %.100q and is skipped", kind, apiVersion)
		}
	default:
		f.object(n)
	}
}

func peek(n *yaml.Node, field string) string {
	if v := document.Peek(n, field); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

func (f *fileReader) items(n *yaml.Node) {
	if len(n.Content) > maxInFile {
		f.Errorf(n.Line, "more than %d objects", maxInFile)
		return
	}
	for _, item := range n.Content {
		f.value(item, true)
	}
}

func (f *fileReader) object(n *yaml.Node) {
	if !f.Check(n) {
		return
	}
	m, err := metaOf(n)
	if err != nil {
		f.Errorf(n.Line, "%v", err)
		return
	}
	if first := f.lines[m.Ref]; first != 0 {
		f.Errorf(n.Line, "%s is given twice, first at line %d", m.Ref, first)
		return
	}
	f.lines[m.Ref] = n.Line
	o := &Object{Meta: m, file: f.File, line: n.Line}
	o.read(document.New(f.File), n)
	f.list = append(f.list, o)
}

// metaOf reads which object a tree is.
func metaOf(n *yaml.Node) (Meta, error) {
	var head struct {
		APIVersion any `yaml:"apiVersion" json:"apiVersion"`
		Kind       any `yaml:"kind" json:"kind"`
		Metadata   any `yaml:"metadata" json:"metadata"`
	}
	if err := n.Decode(&head); err != nil {
		return Meta{}, fmt.Errorf("reading which object it is: %w", err)
	}
	text, err := json.Marshal(head)
	if err != nil {
		return Meta{}, fmt.Errorf("reading which object it is: %w", err)
	}
	m, _, err := Strip(text)
	return m, err
}

// Diagnostics returns problems as those of a text, for objects that were read from one.
func Diagnostics(problems []Problem) document.Diagnostics {
	var found document.Diagnostics
	for _, p := range problems {
		found = append(found, document.Diagnostic{File: p.file, Line: max(p.line, 1), Severity: p.Severity, Message: p.Message})
	}
	return found
}
