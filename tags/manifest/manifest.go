// Package manifest finds the images in Kubernetes manifests and changes them in the
// text, leaving every other byte as it is: comments, order, quotes, anchors, indents,
// line breaks and separators.
//
//	kinds, err := manifest.NewKinds(nil)
//	for r := manifest.NewReader(file); ; {
//		text, err := r.Next() // io.EOF
//		doc, problems := kinds.Read(text)
//		changed, err := doc.Rewrite(func(i manifest.Image) string { … })
//	}
//
// Where images are is known by kind: in pods, in the templates of workloads, in Lists of
// those, and in custom resources by configuration ([resource.Resource]). A key that is
// called image anywhere else, as in a ConfigMap, is none.
//
// What is not YAML or JSON is refused with its line, and so is what means different
// things to different readers, such as a key that is given twice. A value that is shared
// by an anchor is changed once, at the anchor. A changed text is read again before it is
// returned, and compared: it differs in the images and in nothing else.
package manifest

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Problem is why a document is refused.
type Problem struct {
	Line int // of the stream
	Why  string
}

// A Note is what whoever reads a document should know of it.
type Note struct {
	Line int // of the stream
	Text string
}

// An Object is who has an image.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
}

// String returns "Deployment shop/web".
func (o Object) String() string {
	switch {
	case o.Name == "":
		return o.Kind
	case o.Namespace == "":
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// An Image is a reference in a document. One that is shared by an anchor is one Image.
type Image struct {
	Line      int // of the stream
	Object    Object
	Place     string // such as spec.containers[0].image
	Reference image.Reference

	node *yaml.Node
	part *part
}

// A Document is one that has been read. It has no images when it is of a kind that has
// none, or no Kubernetes object at all.
type Document struct {
	Text   Text
	Images []Image
	Notes  []Note

	parts []*part
}

// A part is what is parsed at once: a YAML document, or the JSON values of one.
type part struct {
	from   int // in the text of the document
	line   int // of the stream, in which it begins
	last   int // line of the stream
	isJSON bool
	roots  []*yaml.Node
	breaks []int // lines of the parser that begin a line for no one else
}

// lineOf returns the line of the stream in which a node is.
func (p *part) lineOf(n *yaml.Node) int {
	line := max(n.Line, 1)
	more, _ := slices.BinarySearch(p.breaks, line+1)
	// The parser begins a line of its own behind the last.
	return min(p.line+line-1-more, p.last)
}

// Read finds the images of a document. With a problem there is no document.
func (k *Kinds) Read(t Text) (*Document, []Problem) {
	p, problem := parse(t)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	d := &Document{Text: t, parts: []*part{p}}
	w := &walker{kinds: k, doc: d, part: p}
	for _, root := range p.roots {
		w.check(root, nil)
	}
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	for _, root := range p.roots {
		w.object(root, "", "")
	}
	w.shared()
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	return d, nil
}

// problemAt makes a Problem of a line.
func problemAt(line int, format string, args ...any) *Problem {
	return &Problem{Line: line, Why: fmt.Sprintf(format, args...)}
}
