package metadata

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"go.einride.tech/aip/filtering"
	"google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// Bounds on a filter. Clients join a few dozen URLs of 200 bytes at most.
const (
	maxFilterBytes  = 16 << 10
	maxFilterParens = 256
	maxFilterTerms  = 128
)

// A field is something that a filter can ask about.
type field int

const (
	fieldResource field = iota
	fieldKind
	fieldNoteName
	fieldNoteProject
	fieldNoteID
	fieldCount
)

// fieldSpellings are the names by which clients call the fields.
var fieldSpellings = map[string]field{
	"resourceUrl": fieldResource, "resource_url": fieldResource,
	"resourceUri": fieldResource, "resource_uri": fieldResource, "resource.uri": fieldResource,
	"kind":     fieldKind,
	"noteName": fieldNoteName, "note_name": fieldNoteName,
	"noteProjectId": fieldNoteProject, "note_project_id": fieldNoteProject,
	"noteId": fieldNoteID, "note_id": fieldNoteID,
}

// facts are the values of one row's fields; a resource is canonical.
type facts [fieldCount]string

func noteFacts(n *grafeas.Note) facts {
	f := facts{fieldKind: n.GetKind().String(), fieldNoteName: n.GetName()}
	f.splitNote()
	return f
}

func occurrenceFacts(o *grafeas.Occurrence) facts {
	f := facts{
		fieldResource: CanonicalURI(o.GetResourceUri()),
		fieldKind:     o.GetKind().String(),
		fieldNoteName: o.GetNoteName(),
	}
	f.splitNote()
	return f
}

func (f *facts) splitNote() {
	if n, err := ParseNoteName(f[fieldNoteName]); err == nil {
		f[fieldNoteProject], f[fieldNoteID] = n.Parent.Project, n.ID
	}
}

// A filter is a parsed one. The nil filter matches everything.
type filter struct{ root node }

// match reports whether a row with these facts passes.
func (f *filter) match(row facts) bool { return f == nil || f.root.match(&row) }

func (f *filter) matchNote(n *grafeas.Note) bool { return f == nil || f.match(noteFacts(n)) }

func (f *filter) matchOccurrence(o *grafeas.Occurrence) bool {
	return f == nil || f.match(occurrenceFacts(o))
}

// noteFilter parses a filter on notes as the service's dialect shows them.
func (s *Service) noteFilter(text string) (*filter, error) { return parseNoteFilter(text) }

// occurrenceFilter parses a filter on occurrences as the service's dialect shows them.
func (s *Service) occurrenceFilter(text string) (*filter, error) { return parseOccurrenceFilter(text) }

// bounds returns what every matching row is known to satisfy.
func (f *filter) bounds() bounds {
	if f == nil {
		return unbounded()
	}
	return f.root.bounds()
}

// A node is one operator or term of a filter.
type node interface {
	match(*facts) bool
	bounds() bounds
}

type (
	andNode  struct{ left, right node }
	orNode   struct{ left, right node }
	notNode  struct{ sub node }
	termNode struct {
		field field
		op    termOp
		value string
	}
)

type termOp int

const (
	opEqual termOp = iota
	opPrefix
	opSuffix
)

func (n andNode) match(row *facts) bool { return n.left.match(row) && n.right.match(row) }
func (n orNode) match(row *facts) bool  { return n.left.match(row) || n.right.match(row) }
func (n notNode) match(row *facts) bool { return !n.sub.match(row) }

func (n termNode) match(row *facts) bool {
	have := row[n.field]
	other := have
	if n.field == fieldResource && n.op != opEqual {
		other = otherSpelling(have) // equality compares canonical forms
	}
	switch n.op {
	case opPrefix:
		return strings.HasPrefix(have, n.value) || strings.HasPrefix(other, n.value)
	case opSuffix:
		return strings.HasSuffix(have, n.value) || strings.HasSuffix(other, n.value)
	}
	return have == n.value
}

func (n andNode) bounds() bounds { return n.left.bounds().and(n.right.bounds()) }
func (n orNode) bounds() bounds  { return n.left.bounds().or(n.right.bounds()) }
func (n notNode) bounds() bounds { return unbounded() }

func (n termNode) bounds() bounds {
	b := unbounded()
	switch {
	case n.op == opEqual && n.field == fieldResource:
		b.resources = []string{n.value}
	case n.op == opEqual && n.field == fieldNoteName:
		b.notes = []string{n.value}
	case n.op == opEqual && n.field == fieldKind:
		kind, _ := parseKind(n.value) // checked when the term was made
		b.kinds = KindSet(kind)
	case n.op == opSuffix && n.field == fieldResource:
		// The digest of a matching URI is the one at its end, because
		// digestIn takes the last.
		if d := digestIn(n.value); d != "" && strings.HasSuffix(n.value, d) {
			b.subjects = []string{d}
		}
	}
	return b
}

// bounds are alternatives per index; nil means any.
type bounds struct {
	resources, subjects, notes []string
	kinds                      Kinds
}

func unbounded() bounds { return bounds{kinds: AllKinds} }

func (b bounds) and(c bounds) bounds {
	return bounds{
		resources: intersect(b.resources, c.resources),
		subjects:  intersect(b.subjects, c.subjects),
		notes:     intersect(b.notes, c.notes),
		kinds:     b.kinds & c.kinds,
	}
}

func (b bounds) or(c bounds) bounds {
	return bounds{
		resources: union(b.resources, c.resources),
		subjects:  union(b.subjects, c.subjects),
		notes:     union(b.notes, c.notes),
		kinds:     b.kinds | c.kinds,
	}
}

// empty reports whether no row can match.
func (b bounds) empty() bool {
	none := func(s []string) bool { return s != nil && len(s) == 0 }
	return none(b.resources) || none(b.subjects) || none(b.notes) || b.kinds == 0
}

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

// parseNoteFilter parses a filter on notes.
func parseNoteFilter(text string) (*filter, error) { return parseFilter(text, false) }

// parseOccurrenceFilter parses a filter on occurrences.
func parseOccurrenceFilter(text string) (*filter, error) { return parseFilter(text, true) }

func parseFilter(text string, resources bool) (*filter, error) {
	if err := checkFilterSize(text); err != nil {
		return nil, err
	}
	trimmed := strings.TrimLeft(text, " \t\r\n")
	c := compiler{text: text, skipped: len(text) - len(trimmed), resources: resources}
	if strings.TrimSpace(trimmed) == "" {
		return nil, nil
	}
	var parser filtering.Parser
	parser.Init(trimmed)
	parsed, err := parser.Parse()
	if err != nil {
		return nil, c.syntaxError(err)
	}
	c.positions = parsed.GetSourceInfo().GetPositions()
	root, err := c.compile(parsed.GetExpr())
	if err != nil {
		return nil, err
	}
	return &filter{root: root}, nil
}

func checkFilterSize(text string) error {
	if len(text) > maxFilterBytes {
		return Errorf(InvalidArgument, "filter has %d bytes, at most %d are allowed; split it into several calls", len(text), maxFilterBytes)
	}
	if !utf8.ValidString(text) {
		return Errorf(InvalidArgument, "filter is not valid UTF-8")
	}
	if n := strings.Count(text, "("); n > maxFilterParens {
		return Errorf(InvalidArgument, "filter has %d parentheses, at most %d are allowed", n, maxFilterParens)
	}
	return nil
}

// A compiler turns the parser's expressions into nodes, and refuses those that
// this service cannot evaluate.
type compiler struct {
	text      string
	skipped   int // bytes before what was parsed
	positions map[int64]int32
	resources bool
	terms     int
}

// syntaxError reports the innermost error, which is where parsing got stuck.
func (c *compiler) syntaxError(err error) error {
	position, message := 0, "is not an expression"
	var at interface {
		error
		Position() filtering.Position
		Message() string
	}
	for errors.As(err, &at) {
		position, message = int(at.Position().Offset), at.Message()
		err = errors.Unwrap(at)
	}
	return c.errorAt(position, "%s; write terms such as resourceUrl=\"…\" AND kind=\"…\", strings in double quotes", message)
}

func (c *compiler) errorAt(offset int, format string, args ...any) error {
	args = append([]any{clip(c.text), c.skipped + offset + 1}, args...)
	return Errorf(InvalidArgument, "filter %q, position %d: "+format, args...)
}

func (c *compiler) refuse(e *expr.Expr, format string, args ...any) error {
	return c.errorAt(int(c.positions[e.GetId()]), format, args...)
}

func (c *compiler) compile(e *expr.Expr) (node, error) {
	call := e.GetCallExpr()
	if call == nil {
		return nil, c.refuse(e, "%s is not a term; write FIELD=\"VALUE\"", describe(e))
	}
	switch name := call.GetFunction(); name {
	case filtering.FunctionAnd, filtering.FunctionOr:
		return c.binary(call)
	case filtering.FunctionNot:
		sub, err := c.compile(call.GetArgs()[0])
		return notNode{sub}, err
	case filtering.FunctionEquals:
		return c.term(e, opEqual)
	case filtering.FunctionNotEquals:
		t, err := c.term(e, opEqual)
		return notNode{t}, err
	case "has_prefix", "hasPrefix":
		return c.term(e, opPrefix)
	case "has_suffix", "hasSuffix":
		return c.term(e, opSuffix)
	case filtering.FunctionFuzzyAnd:
		return nil, c.refuse(e, "terms stand side by side; join them with AND or OR, in capitals")
	default:
		return nil, c.refuse(e, "operator or function %q is not supported; use = != AND OR NOT has_prefix() has_suffix()", clip(name))
	}
}

func (c *compiler) binary(call *expr.Expr_Call) (node, error) {
	left, err := c.compile(call.GetArgs()[0])
	if err != nil {
		return nil, err
	}
	right, err := c.compile(call.GetArgs()[1])
	if err != nil {
		return nil, err
	}
	if call.GetFunction() == filtering.FunctionAnd {
		return andNode{left, right}, nil
	}
	return orNode{left, right}, nil
}

func (c *compiler) term(e *expr.Expr, op termOp) (node, error) {
	if c.terms++; c.terms > maxFilterTerms {
		return nil, c.refuse(e, "more than %d terms", maxFilterTerms)
	}
	args := e.GetCallExpr().GetArgs()
	if len(args) != 2 {
		return nil, c.refuse(e, "%q wants a field and a value", clip(e.GetCallExpr().GetFunction()))
	}
	path := fieldPath(args[0])
	f, ok := fieldSpellings[path]
	if !ok || f == fieldResource && !c.resources {
		return nil, c.refuse(args[0], "cannot filter by %s; the fields are %s", describe(args[0]), c.fields())
	}
	value, ok := textOf(args[1])
	if !ok {
		return nil, c.refuse(args[1], "the value of %s is not text; put it in double quotes", path)
	}
	switch {
	case f == fieldResource && op == opEqual:
		value = CanonicalURI(value)
	case f == fieldKind && op == opEqual:
		kind, ok := parseKind(value)
		if !ok {
			return nil, c.refuse(args[1], "there is no kind %q", clip(value))
		}
		value = kind.String()
	}
	if op == opEqual && strings.Contains(value, "*") {
		return nil, c.refuse(args[1], "wildcards are not supported; use has_prefix(%s, \"…\") or has_suffix(%s, \"…\")", path, path)
	}
	return termNode{field: f, op: op, value: value}, nil
}

func (c *compiler) fields() string {
	const ofNotes = "kind, noteName, noteProjectId and noteId"
	if c.resources {
		return "resourceUrl, " + ofNotes
	}
	return ofNotes
}

// fieldPath returns the dotted path that e spells, or "".
func fieldPath(e *expr.Expr) string {
	if s := e.GetSelectExpr(); s != nil {
		if operand := fieldPath(s.GetOperand()); operand != "" {
			return operand + "." + s.GetField()
		}
		return ""
	}
	return e.GetIdentExpr().GetName()
}

// textOf returns a quoted string or a bare word.
func textOf(e *expr.Expr) (string, bool) {
	switch k := e.GetExprKind().(type) {
	case *expr.Expr_ConstExpr:
		if s, ok := k.ConstExpr.GetConstantKind().(*expr.Constant_StringValue); ok {
			return s.StringValue, true
		}
	case *expr.Expr_IdentExpr:
		return k.IdentExpr.GetName(), true
	}
	return "", false
}

// describe names an expression in an error.
func describe(e *expr.Expr) string {
	if path := fieldPath(e); path != "" {
		return `"` + clip(path) + `"`
	}
	if s, ok := textOf(e); ok {
		return `"` + clip(s) + `"`
	}
	return "this expression"
}
