package metadata

import (
	"errors"
	"fmt"
	"strings"

	"go.einride.tech/aip/filtering"
	"google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// An operator compares what a row has with what the filter says.
type operator int

const (
	opEqual operator = iota
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opPrefix
	opSuffix
	opPresent // field:*
)

// comparisons are the operators by the parser's names for them. "!=" and ":" are
// made of these.
var comparisons = map[string]operator{
	filtering.FunctionEquals:        opEqual,
	filtering.FunctionLessThan:      opLess,
	filtering.FunctionLessEquals:    opLessEqual,
	filtering.FunctionGreaterThan:   opGreater,
	filtering.FunctionGreaterEquals: opGreaterEqual,
	"has_prefix":                    opPrefix, "hasPrefix": opPrefix,
	"has_suffix": opSuffix, "hasSuffix": opSuffix,
}

// ordering reports whether op asks what is greater.
func (op operator) ordering() bool { return op >= opLess && op <= opGreaterEqual }

// holds reports whether op holds of two values whose comparison gave c.
func (op operator) holds(c int) bool {
	switch op {
	case opLess:
		return c < 0
	case opLessEqual:
		return c <= 0
	case opGreater:
		return c > 0
	case opGreaterEqual:
		return c >= 0
	}
	return c == 0
}

// matchText compares texts, byte by byte where order matters.
func matchText(op operator, have, want string) bool {
	switch op {
	case opPrefix:
		return strings.HasPrefix(have, want)
	case opSuffix:
		return strings.HasSuffix(have, want)
	case opPresent:
		return have != ""
	}
	return op.holds(strings.Compare(have, want))
}

// A compiler turns the parser's expressions into nodes, and refuses those that
// this service cannot evaluate.
type compiler struct {
	*source
	schema    *schema
	positions map[int64]int32
	terms     int
}

// compile parses a filter that is not empty.
func (s *schema) compile(text string) (node, error) {
	src, err := prepare(text)
	if err != nil {
		return nil, err
	}
	var parser filtering.Parser
	parser.Init(src.parsed)
	parsed, err := parser.Parse()
	if err != nil {
		return nil, src.syntaxError(err)
	}
	c := compiler{source: src, schema: s, positions: parsed.GetSourceInfo().GetPositions()}
	return c.compile(parsed.GetExpr())
}

// place returns where in the filter an expression begins.
func (c *compiler) place(e *expr.Expr) int { return c.origin(int(c.positions[e.GetId()])) }

func (c *compiler) refuse(e *expr.Expr, format string, args ...any) error {
	return c.errorAt(c.place(e), format, args...)
}

func (c *compiler) compile(e *expr.Expr) (node, error) {
	call := e.GetCallExpr()
	if call == nil {
		return nil, c.refuse(e, "%s is not a term; write FIELD=\"VALUE\"", describe(e))
	}
	args := call.GetArgs()
	switch name := call.GetFunction(); name {
	case filtering.FunctionAnd, filtering.FunctionOr:
		if len(args) != 2 {
			return nil, c.refuse(e, "%s stands between two terms", name)
		}
		return c.binary(name, args)
	case filtering.FunctionNot:
		if len(args) != 1 {
			return nil, c.refuse(e, "NOT stands before one term")
		}
		sub, err := c.compile(args[0])
		return notNode{sub}, err
	case filtering.FunctionFuzzyAnd:
		for len(args) == 2 { // the first two of several are the innermost
			e, args = args[1], sequenceOf(args[0])
		}
		return nil, c.refuse(e, "terms stand side by side; join them with AND or OR, in capitals")
	default:
		return c.term(e, name, args)
	}
}

// sequenceOf returns the terms of e if they stand side by side.
func sequenceOf(e *expr.Expr) []*expr.Expr {
	if call := e.GetCallExpr(); call.GetFunction() == filtering.FunctionFuzzyAnd {
		return call.GetArgs()
	}
	return nil
}

func (c *compiler) binary(name string, args []*expr.Expr) (node, error) {
	left, err := c.compile(args[0])
	if err != nil {
		return nil, err
	}
	right, err := c.compile(args[1])
	if err != nil {
		return nil, err
	}
	if name == filtering.FunctionAnd {
		return andNode{left, right}, nil
	}
	return orNode{left, right}, nil
}

// term compiles one condition.
func (c *compiler) term(e *expr.Expr, name string, args []*expr.Expr) (node, error) {
	if c.terms++; c.terms > maxFilterTerms {
		return nil, c.refuse(e, "more than %d terms", maxFilterTerms)
	}
	op, ok := comparisons[name]
	unequal, has := name == filtering.FunctionNotEquals, name == filtering.FunctionHas
	if !ok && !unequal && !has {
		return nil, c.refuse(e, "operator or function %q is not supported; use = != < <= > >= : AND OR NOT has_prefix() has_suffix()", clip(name))
	}
	if len(args) != 2 {
		return nil, c.refuse(e, "%q wants a field and a value", clip(name))
	}
	k := condition{at: c.place(e), field: args[0], value: args[1], op: op, has: has}
	if has && c.isStar(args[1]) {
		k.op = opPresent
	}
	n, err := c.condition(k)
	if err != nil || !unequal {
		return n, err
	}
	return notNode{n}, nil
}

// A condition is a term that is being compiled.
type condition struct {
	at           int
	field, value *expr.Expr
	op           operator
	has          bool // written with ":"
}

func (c *compiler) condition(k condition) (node, error) {
	path := fieldPath(k.field)
	name := strings.Join(path, ".")
	if len(path) == 0 {
		return nil, c.refuse(k.field, "cannot filter by %s; a field stands left of the operator, without quotes", describe(k.field))
	}
	f, known := c.schema.known(name)
	if !known {
		return c.pathTerm(k, path)
	}
	value, err := c.literal(k, name)
	if err != nil {
		return nil, err
	}
	n, err := c.schema.fact(term{k.at, name}, f, k.op, value)
	if err != nil {
		return nil, c.refuse(k.value, "%w", err)
	}
	return n, nil
}

// literal returns the value that a term compares with.
func (c *compiler) literal(k condition, name string) (string, error) {
	value, ok := textOf(k.value)
	if !ok {
		return "", c.refuse(k.value, "the value of %s is not text; put it in double quotes", clip(name))
	}
	return value, nil
}

// isStar reports whether e is a bare "*", which asks for presence. The parser
// makes it a string, so the text has to tell.
func (c *compiler) isStar(e *expr.Expr) bool {
	text, _ := textOf(e)
	at := int(c.positions[e.GetId()])
	return text == "*" && strings.HasPrefix(c.parsed[min(at, len(c.parsed)):], "*")
}

// fact makes a condition on a field that all rows have. Errors are about the value.
func (s *schema) fact(t term, f field, op operator, value string) (factNode, error) {
	n := factNode{term: t, field: f, op: op, value: value}
	switch {
	case op == opPresent:
		n.value = ""
	case op.ordering() && f == fieldResource:
		return n, fmt.Errorf("%s has no order, because each has two spellings; use has_prefix(%s, \"…\")", t.name, t.name)
	case op.ordering() && f == fieldKind:
		return n, errors.New("kinds have no order; join kind=\"…\" terms by OR")
	case op != opEqual:
	case strings.Contains(value, "*"):
		return n, wildcardError(t.name)
	case f == fieldResource:
		n.value = CanonicalURI(value)
	case f == fieldKind:
		kind, ok := s.kind(value)
		if !ok {
			return n, fmt.Errorf("there is no kind %q", clip(value))
		}
		n.kind, n.value = kind, KindName(kind)
	}
	return n, nil
}

// wildcardError refuses what other servers take for a pattern and others for text.
func wildcardError(name string) error {
	return fmt.Errorf("wildcards are not supported; use has_prefix(%s, \"…\") or has_suffix(%s, \"…\")", clip(name), clip(name))
}

// fieldPath returns the parts of the dotted path that e spells, or nil.
func fieldPath(e *expr.Expr) []string {
	if s := e.GetSelectExpr(); s != nil {
		operand := fieldPath(s.GetOperand())
		if operand == nil {
			return nil
		}
		return append(operand, s.GetField())
	}
	if name := e.GetIdentExpr().GetName(); name != "" {
		return []string{name}
	}
	return nil
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
	if path := fieldPath(e); path != nil {
		return `"` + clip(strings.Join(path, ".")) + `"`
	}
	if s, ok := textOf(e); ok {
		return `"` + clip(s) + `"`
	}
	return "this expression"
}
