package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxDepth bounds nesting: what is deeper is no manifest.
	maxDepth = 100
	// maxProblems bounds what is said of one document.
	maxProblems = 20
	// maxMerged bounds the members that objects of one document have through merges: of
	// merges of merges there could be far more than the text has bytes.
	maxMerged = 100_000
)

// A walker reads one part of a document.
type walker struct {
	kinds    *Kinds
	doc      *Document
	part     *part
	problems []Problem

	aliases bool // there are any
	seen    map[visit]bool
	images  map[*yaml.Node]int // index in the document's
	others  map[*yaml.Node]int // line of a use where no image is
	pairs   map[*yaml.Node][]pair
	merged  int // members in pairs
	current Object
}

// A visit is a node that has been walked to by some places. With aliases it could be
// come to any number of times.
type visit struct {
	node   *yaml.Node
	places string
}

// A pair is a member of an object, by itself or through a merge.
type pair struct{ key, value *yaml.Node }

func (w *walker) fail(n *yaml.Node, format string, args ...any) {
	if len(w.problems) < maxProblems {
		w.problems = append(w.problems, *problemAt(w.part.lineOf(n), format, args...))
	}
}

// check refuses what could mean something else than it seems to. above are the nodes
// that n is in.
func (w *walker) check(n *yaml.Node, above []*yaml.Node) {
	if len(above) > maxDepth {
		w.fail(n, "nested deeper than %d levels", maxDepth)
		return
	}
	switch n.Kind {
	case yaml.AliasNode:
		w.aliases = true
		if slices.Contains(above, n.Alias) {
			w.fail(n, "the anchor &%s contains itself", n.Value)
		}
	case yaml.MappingNode:
		w.checkKeys(n)
	}
	above = append(above, n)
	for _, child := range n.Content {
		w.check(child, above)
	}
}

func (w *walker) checkKeys(n *yaml.Node) {
	const few = 16 // that many are compared one by one
	var lines map[string]int
	if len(n.Content) > 2*few {
		lines = make(map[string]int, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			w.fail(key, "a key that is not text%s", map[bool]string{true: " (is it a template that has to be rendered first?)"}[key.Kind == yaml.MappingNode])
			continue
		}
		first := lines[key.Value]
		for j := 0; lines == nil && j < i; j += 2 {
			if other := n.Content[j]; other.Kind == yaml.ScalarNode && other.Value == key.Value {
				first = w.part.lineOf(other)
			}
		}
		if first > 0 {
			w.fail(key, "%.100q is given twice, first at line %d", key.Value, first)
		}
		if lines != nil {
			lines[key.Value] = w.part.lineOf(key)
		}
	}
}

// isMerge reports whether a key stands for the members of another object.
func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.Value == "<<" && key.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// follow returns what a node stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// members returns the members of an object, those of merges last. A member of its own
// goes before one that is merged, and of those the first.
func (w *walker) members(n *yaml.Node) []pair {
	if list, ok := w.pairs[n]; ok {
		return list
	}
	list := make([]pair, 0, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !w.part.isJSON && isMerge(n.Content[i]) {
			merges = append(merges, n.Content[i+1])
			continue
		}
		list = append(list, pair{n.Content[i], n.Content[i+1]})
	}
	if len(merges) == 0 {
		return list
	}
	if w.pairs == nil {
		w.pairs = map[*yaml.Node][]pair{}
	}
	w.pairs[n] = list
	have := map[string]bool{}
	for _, p := range list {
		have[p.key.Value] = true
	}
	for _, m := range merges {
		from := []*yaml.Node{m}
		if follow(m).Kind == yaml.SequenceNode {
			from = follow(m).Content
		}
		for _, f := range from {
			if f = follow(f); f.Kind != yaml.MappingNode {
				w.fail(f, "<< wants an object, or a list of them")
				continue
			}
			for _, p := range w.members(f) {
				if have[p.key.Value] {
					continue
				}
				if w.merged++; w.merged > maxMerged {
					w.fail(n, "merges give the objects of this document more than %d members", maxMerged)
					return list
				}
				have[p.key.Value] = true
				list = append(list, p)
			}
		}
	}
	w.pairs[n] = list
	return list
}

// get returns a member of an object, or nil.
func (w *walker) get(n *yaml.Node, name string) *yaml.Node {
	for _, p := range w.members(n) {
		if p.key.Value == name {
			return follow(p.value)
		}
	}
	return nil
}

// text returns a member of an object that is text, or "".
func (w *walker) text(n *yaml.Node, name string) string {
	if v := w.get(n, name); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

// object walks a value of the stream, or an item of a List, which has the kind and
// version given when it does not say its own.
func (w *walker) object(n *yaml.Node, apiVersion, name string) {
	line := n
	n = follow(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.note(line, "no Kubernetes object, and left as it is: it is %s", kindName(n))
		w.walk(n, nil, "")
		return
	}
	o := Object{APIVersion: w.text(n, "apiVersion"), Kind: w.text(n, "kind")}
	if o.Kind == "" && name != "" {
		o.APIVersion, o.Kind = apiVersion, name
	}
	if o.Kind == "" || o.APIVersion == "" {
		w.note(line, "no Kubernetes object, and left as it is: it has no kind or no apiVersion")
		w.walk(n, nil, "")
		return
	}
	if meta := w.get(n, "metadata"); meta != nil && meta.Kind == yaml.MappingNode {
		o.Namespace, o.Name = w.text(meta, "namespace"), w.text(meta, "name")
	}
	if items := w.get(n, "items"); items != nil && items.Kind == yaml.SequenceNode && strings.HasSuffix(o.Kind, "List") {
		w.list(n, o)
		return
	}
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		group = ""
	}
	w.current = o
	k, known := w.kinds.of(group, o.Kind)
	if !known {
		w.unknown(line, n, group, o)
	}
	w.fields(n, k)
}

// list walks a List and its items.
func (w *walker) list(n *yaml.Node, o Object) {
	for _, p := range w.members(n) {
		if p.key.Value != "items" {
			w.walk(p.value, nil, "")
			continue
		}
		for _, item := range follow(p.value).Content {
			w.object(item, o.APIVersion, strings.TrimSuffix(o.Kind, "List"))
		}
	}
}

// fields walks the fields of an object.
func (w *walker) fields(n *yaml.Node, k kind) {
	var at []*place
	if k.places != nil {
		at = []*place{k.places}
	}
	for _, p := range w.members(n) {
		if k.fields == nil || k.fields[p.key.Value] {
			w.walk(p.value, w.step(at, p.key.Value), p.key.Value)
		}
	}
}

// unknown notes an object that would be known if it were spelled otherwise, and one of a
// custom resource that seems to have an image.
func (w *walker) unknown(line, n *yaml.Node, group string, o Object) {
	if !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io") {
		if near, ok := w.kinds.near(o.Kind); ok {
			w.note(line, "there is no %q in %q, and it is left as it is; is it to be %s?", o.Kind, o.APIVersion, near)
		}
		return
	}
	if found := lookalike(n, 0); found != nil {
		w.note(found, "%s has what looks like an image, and is left as it is: --resources can say where %s has images", o, o.Kind)
	}
}

// lookalike returns a value that is called image and may be one, or nil.
func lookalike(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
		return nil
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "image" && child.Kind == yaml.ScalarNode {
			if _, err := image.Parse(child.Value); err == nil {
				return child
			}
		}
		if found := lookalike(child, depth+1); found != nil {
			return found
		}
	}
	return nil
}

// step returns where a member leads from some places.
func (w *walker) step(at []*place, name string) []*place {
	var to []*place
	for _, p := range at {
		if next := p.members[name]; next != nil {
			to = append(to, next)
		}
		if p.each != nil {
			to = append(to, p.each)
		}
	}
	return to
}

// walk walks a value that some places have led to. Where none has, there is no image,
// and what stands there is of interest only if it is shared by an anchor.
func (w *walker) walk(n *yaml.Node, at []*place, where string) {
	if len(at) == 0 && !w.aliases {
		return
	}
	use := n
	if n = follow(n); w.before(n, at) || isNull(n) {
		return
	}
	if len(at) == 0 {
		w.other(n, use)
		return
	}
	var items []*place
	object, hasImage := false, false
	for _, p := range at {
		hasImage = hasImage || p.hasImage
		object = object || p.members != nil || p.each != nil
		if p.items != nil {
			items = append(items, p.items)
		}
	}
	switch {
	case n.Kind == yaml.ScalarNode && hasImage:
		w.image(n, where)
	case n.Kind == yaml.MappingNode && object:
		w.mapping(n, at, where)
	case n.Kind == yaml.SequenceNode && items != nil:
		for i, item := range n.Content {
			w.walk(item, items, where+"["+strconv.Itoa(i)+"]")
		}
	default:
		w.fail(use, "%.200s: want %s, found %s", where, wanted(hasImage, object, items != nil), kindName(n))
	}
}

// before reports whether a node has been walked to by the same places, which can only
// be by aliases.
func (w *walker) before(n *yaml.Node, at []*place) bool {
	if !w.aliases {
		return false
	}
	v := visit{node: n, places: fmt.Sprint(at)}
	if w.seen[v] {
		return true
	}
	if w.seen == nil {
		w.seen = map[visit]bool{}
	}
	w.seen[v] = true
	return false
}

func (w *walker) mapping(n *yaml.Node, at []*place, where string) {
	for _, p := range w.members(n) {
		to := w.step(at, p.key.Value)
		if len(to) == 0 && !w.aliases {
			continue
		}
		w.walk(p.value, to, resource.PlaceOf(where, p.key.Value))
	}
	w.mergedAfter(n, at)
}

// mergedAfter refuses a merge that stands after a member that it has, too, and that
// leads to an image: kubectl takes the one that stands last, and YAML the member.
func (w *walker) mergedAfter(n *yaml.Node, at []*place) {
	if w.pairs[n] == nil { // it has no merge
		return
	}
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if w.part.isJSON || !isMerge(n.Content[i]) {
			own[n.Content[i].Value] = true
			continue
		}
		merged := &yaml.Node{Kind: yaml.MappingNode, Content: n.Content[i : i+2]}
		for _, p := range w.members(merged) {
			if own[p.key.Value] && len(w.step(at, p.key.Value)) > 0 {
				w.fail(n.Content[i], "the merge has %.100q, which stands before it, too: readers of YAML disagree on which counts; write << first", p.key.Value)
			}
		}
	}
}

// other notes that a value is used where no image is.
func (w *walker) other(n, use *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		if w.others == nil {
			w.others = map[*yaml.Node]int{}
		}
		if w.others[n] == 0 {
			w.others[n] = w.part.lineOf(use)
		}
		return
	}
	if n.Kind == yaml.MappingNode {
		for _, p := range w.members(n) {
			w.walk(p.value, nil, "")
		}
		return
	}
	for _, child := range n.Content {
		w.walk(child, nil, "")
	}
}

// sexagesimal is what YAML 1.1 takes for a number in base 60.
var sexagesimal = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+$`)

// image takes down an image.
func (w *walker) image(n *yaml.Node, where string) {
	if _, ok := w.images[n]; ok || n.Value == "" {
		return
	}
	if kind := n.ShortTag(); kind != "!!str" || (n.Style&^yaml.TaggedStyle == 0 && otherIn11(n.Value)) {
		w.fail(n, "%.200s: %.100q is not text to every reader of YAML; put it in quotes", where, n.Value)
		return
	}
	ref, err := image.Parse(n.Value)
	if err != nil {
		w.fail(n, "%.200s: %v%s", where, err, hintOn(n))
		return
	}
	if w.images == nil {
		w.images = map[*yaml.Node]int{}
	}
	w.images[n] = len(w.doc.Images)
	w.doc.Images = append(w.doc.Images, Image{Line: w.part.lineOf(n), Object: w.current, Place: where, Reference: ref, node: n, part: w.part})
}

// otherIn11 reports whether plain text is something else in YAML 1.1, which kubectl
// reads.
func otherIn11(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return sexagesimal.MatchString(s)
}

// hintOn says what is often wrong with a reference.
func hintOn(n *yaml.Node) string {
	switch {
	case strings.Contains(n.Value, "{{"), strings.Contains(n.Value, "${"), strings.Contains(n.Value, "$("):
		return " (a template has to be rendered first)"
	case strings.HasSuffix(n.Value, "\n"):
		return " (it ends in a line break; write it on the line of its key, or with |- or >-)"
	}
	return ""
}

// shared refuses images whose text is used elsewhere for something else.
func (w *walker) shared() {
	for n, line := range w.others {
		if _, ok := w.images[n]; ok {
			w.fail(n, "this image is shared by an anchor with line %d, where it is no image; write it out at one of them", line)
		}
	}
	slices.SortFunc(w.problems, func(a, b Problem) int { return a.Line - b.Line })
}

func (w *walker) note(n *yaml.Node, format string, args ...any) {
	if len(w.doc.Notes) < maxProblems {
		w.doc.Notes = append(w.doc.Notes, Note{Line: w.part.lineOf(n), Text: fmt.Sprintf(format, args...)})
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func wanted(text, object, list bool) string {
	var words []string
	for _, w := range []struct {
		is   bool
		what string
	}{{text, "text"}, {object, "an object"}, {list, "a list"}} {
		if w.is {
			words = append(words, w.what)
		}
	}
	return strings.Join(words, " or ")
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%.50q", n.Value)
}
