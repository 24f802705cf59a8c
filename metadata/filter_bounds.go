package metadata

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// bounds are what every matching row is known to satisfy: alternatives for each
// index; nil means any.
type bounds struct {
	resources, subjects, notes []string
	kinds                      Kinds
	// prefixes are of canonical resource URIs; an exact one is its own prefix.
	prefixes []string
	// projects and ids are of notes, as idPrefixes are.
	projects, ids, idPrefixes []string
}

func unbounded() bounds { return bounds{kinds: AllKinds} }

// bounds returns what every matching row is known to satisfy.
func (f *filter) bounds() bounds {
	if f == nil {
		return unbounded()
	}
	return f.root.bounds(false)
}

func (n andNode) bounds(negated bool) bounds {
	left, right := n.left.bounds(negated), n.right.bounds(negated)
	if negated {
		return left.or(right)
	}
	return left.and(right)
}

func (n orNode) bounds(negated bool) bounds {
	left, right := n.left.bounds(negated), n.right.bounds(negated)
	if negated {
		return left.and(right)
	}
	return left.or(right)
}

func (n notNode) bounds(negated bool) bounds { return n.sub.bounds(!negated) }

func (n factNode) bounds(negated bool) bounds {
	b := unbounded()
	switch {
	case negated:
		// What is excluded narrows nothing, but for the few kinds.
		if n.field == fieldKind && n.op == opEqual {
			b.kinds = AllKinds &^ KindSet(n.kind)
		}
	case n.op == opEqual:
		n.equalBounds(&b)
	case n.op == opPrefix && n.field == fieldResource:
		b.prefixes = canonicalPrefixes(n.value)
	case n.op == opPrefix && n.field == fieldNoteName:
		b.projects, b.idPrefixes = noteNamePrefix(n.value)
	case n.op == opPrefix && n.field == fieldNoteID && n.value != "":
		b.idPrefixes = []string{n.value}
	case n.op == opSuffix && n.field == fieldResource:
		// The digest of a matching URI is the one at its end, because
		// digestIn takes the last.
		if d := digestIn(n.value); d != "" && strings.HasSuffix(n.value, d) {
			b.subjects = []string{d}
		}
	}
	return b
}

func (n factNode) equalBounds(b *bounds) {
	only := []string{n.value}
	switch n.field {
	case fieldResource:
		b.resources, b.prefixes = only, only
	case fieldKind:
		b.kinds = KindSet(n.kind)
	case fieldNoteName:
		b.notes = only
		if name, err := ParseNoteName(n.value); err == nil {
			id := []string{name.ID}
			b.projects, b.ids, b.idPrefixes = []string{name.Parent.Project}, id, id
		}
	case fieldNoteProject:
		b.projects = only
	case fieldNoteID:
		b.ids, b.idPrefixes = only, only
	}
}

// canonicalPrefixes returns how the canonical URIs begin that begin with value in
// either spelling; nil if that is anyhow.
func canonicalPrefixes(value string) []string {
	if strings.HasPrefix(resourceScheme, value) {
		return nil // every URI without a scheme begins so in its other spelling
	}
	bare, found := strings.CutPrefix(value, resourceScheme)
	if !found {
		return []string{value}
	}
	if !mayHaveScheme(bare) {
		return []string{bare}
	}
	return []string{bare, value} // such as "https://deb://x", which is canonical
}

// mayHaveScheme reports whether a URI that begins so may have a scheme.
func mayHaveScheme(prefix string) bool {
	end := strings.IndexFunc(prefix, func(r rune) bool {
		letter := 'a' <= r|0x20 && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && r != '+' && r != '-' && r != '.'
	})
	if end < 0 {
		return true
	}
	return strings.HasPrefix("://", prefix[end:]) || strings.HasPrefix(prefix[end:], "://")
}

// noteNamePrefix returns the project and the beginning of the id that a note has
// whose name begins with value; nil if that leaves them open.
func noteNamePrefix(value string) (projects, idPrefixes []string) {
	parts := strings.Split(value, "/")
	if parts[0] != "projects" || len(parts) < 3 {
		return nil, nil
	}
	projects = []string{parts[1]}
	switch {
	case len(parts) == 4 && parts[2] == "notes" && parts[3] != "":
		idPrefixes = parts[3:]
	case len(parts) == 6 && parts[2] == "locations" && parts[4] == "notes" && parts[5] != "":
		idPrefixes = parts[5:]
	}
	return projects, idPrefixes
}

func (b bounds) and(c bounds) bounds {
	return bounds{
		resources:  intersect(b.resources, c.resources),
		subjects:   intersect(b.subjects, c.subjects),
		notes:      intersect(b.notes, c.notes),
		kinds:      b.kinds & c.kinds,
		prefixes:   intersectPrefixes(b.prefixes, c.prefixes),
		projects:   intersect(b.projects, c.projects),
		ids:        intersect(b.ids, c.ids),
		idPrefixes: intersectPrefixes(b.idPrefixes, c.idPrefixes),
	}
}

func (b bounds) or(c bounds) bounds {
	return bounds{
		resources:  union(b.resources, c.resources),
		subjects:   union(b.subjects, c.subjects),
		notes:      union(b.notes, c.notes),
		kinds:      b.kinds | c.kinds,
		prefixes:   union(b.prefixes, c.prefixes),
		projects:   union(b.projects, c.projects),
		ids:        union(b.ids, c.ids),
		idPrefixes: union(b.idPrefixes, c.idPrefixes),
	}
}

// lists are the alternatives of each index but that of the kinds.
func (b bounds) lists() [7][]string {
	return [...][]string{b.resources, b.subjects, b.notes, b.prefixes, b.projects, b.ids, b.idPrefixes}
}

// empty reports whether no row can match.
func (b bounds) empty() bool {
	none := func(s []string) bool { return s != nil && len(s) == 0 }
	lists := b.lists()
	return b.kinds == 0 || slices.ContainsFunc(lists[:], none)
}

// open reports whether the bounds exclude nothing.
func (b bounds) open() bool {
	some := func(s []string) bool { return s != nil }
	lists := b.lists()
	return b.kinds == AllKinds && !slices.ContainsFunc(lists[:], some)
}

// hints returns what the fields of a query do not say. A row that they exclude
// cannot match.
func (b bounds) hints() Hints {
	var h Hints
	if b.resources == nil {
		h.Prefixes = slices.Clone(b.prefixes)
	}
	if len(b.notes) == 1 {
		return h // the query names the note
	}
	if len(b.projects) == 1 {
		h.NoteProject = b.projects[0]
	}
	if len(b.ids) == 1 {
		h.NoteID = b.ids[0]
	} else {
		h.NoteIDPrefix = commonPrefix(b.idPrefixes)
	}
	return h
}

// noteQuery restricts q, whose parent is set, to what the bounds allow; it
// reports false if that is nothing.
func (b bounds) noteQuery(q *NoteQuery) (possible bool) {
	if b.empty() || b.projects != nil && !slices.Contains(b.projects, q.Parent.Project) {
		return false
	}
	q.Kinds = b.kinds
	q.IDPrefix = commonPrefix(b.idPrefixes)
	if b.notes == nil {
		return true
	}
	var ids []string
	for _, text := range b.notes {
		if name, err := ParseNoteName(text); err == nil && name.Parent == q.Parent {
			ids = append(ids, name.ID)
		}
	}
	q.IDPrefix = commonPrefix(ids)
	return len(ids) > 0
}

// resourcesOnly returns the canonical URIs of the resources that the filter is
// about, nil for all of them. It reports false if the filter says anything else,
// but that the kind is, or may be, that of vulnerabilities.
func (f *filter) resourcesOnly() (resources []string, ok bool) {
	if f == nil {
		return nil, true
	}
	if !plainOnly(f.root) {
		return nil, false
	}
	b := f.root.bounds(false)
	return b.resources, b.kinds.Has(grafeas.NoteKind_VULNERABILITY)
}

// plainOnly reports whether n joins, by AND, alternatives that are equalities of
// resources or of kinds, whose bounds are then all that n says.
func plainOnly(n node) bool {
	if and, ok := n.(andNode); ok {
		return plainOnly(and.left) && plainOnly(and.right)
	}
	return equalitiesOf(n, fieldResource) || equalitiesOf(n, fieldKind)
}

// equalitiesOf reports whether n is one equality of the field or several joined
// by OR.
func equalitiesOf(n node, f field) bool {
	switch n := n.(type) {
	case orNode:
		return equalitiesOf(n.left, f) && equalitiesOf(n.right, f)
	case factNode:
		return n.op == opEqual && n.field == f
	}
	return false
}

func (n andNode) unindexed() *term { return firstOf(n.left, n.right) }
func (n orNode) unindexed() *term  { return firstOf(n.left, n.right) }
func (n notNode) unindexed() *term { return n.sub.unindexed() }

func (n factNode) unindexed() *term {
	if n.bounds(false).open() {
		return &n.term
	}
	return nil
}

func firstOf(left, right node) *term {
	if t := left.unindexed(); t != nil {
		return t
	}
	return right.unindexed()
}

// unindexed returns the first term that no index ever answers, and its position
// counted from 1; ok is false if there is none.
func (f *filter) unindexed() (position int, name string, ok bool) {
	if f == nil {
		return 0, "", false
	}
	t := f.root.unindexed()
	if t == nil {
		return 0, "", false
	}
	return t.at + 1, t.name, true
}

// refuseTooBroad is the refusal of a filter that would look at more than limit
// rows one by one.
func (f *filter) refuseTooBroad(limit int) error {
	position, name, ok := f.unindexed()
	if !ok {
		return Errorf(InvalidArgument, "the filter leaves more than %d rows to look at one by one; narrow it with resourceUrl, noteName or kind", limit)
	}
	by := "resourceUrl, noteName or kind"
	if f.schema.notes {
		by = "noteId or kind"
	}
	return Errorf(InvalidArgument, "filter %q, position %d: no index answers the term on %q, and the rest of the filter leaves more than %d rows; narrow it with %s",
		clip(f.text), position, clip(name), limit, by)
}

// intersect returns what is in both lists of alternatives; nil is all.
func intersect(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := []string{}
	for _, s := range a {
		if slices.Contains(b, s) {
			both = append(both, s)
		}
	}
	return both
}

// intersectPrefixes is intersect for prefixes: what begins with one of either list
// begins with the longer of a pair.
func intersectPrefixes(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := []string{}
	for _, s := range a {
		for _, t := range b {
			longer := s
			switch {
			case strings.HasPrefix(t, s):
				longer = t
			case !strings.HasPrefix(s, t):
				continue
			}
			if !slices.Contains(both, longer) {
				both = append(both, longer)
			}
		}
	}
	return both
}

func union(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// commonPrefix returns how all texts begin, in whole characters.
func commonPrefix(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	prefix := texts[0]
	for _, t := range texts[1:] {
		for !strings.HasPrefix(t, prefix) {
			_, size := utf8.DecodeLastRuneInString(prefix)
			prefix = prefix[:len(prefix)-size]
		}
	}
	return prefix
}
