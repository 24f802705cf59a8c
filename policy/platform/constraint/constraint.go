// Package constraint evaluates the customConstraints of platform policies:
// expressions in CEL about the provenance of an image, and with other variables
// ([NewCompilerOf]) those of others. It is the only package that knows CEL.
//
// A constraint sees these variables, which hold JSON as CEL has it (numbers are
// doubles, and compare with whole numbers):
//
//	statement      the in-toto statement, all of it
//	subject        its subjects, a list of {name, digest}
//	predicateType  its predicateType, text
//	predicate      its predicate
//
// It must be true or false: predicate.buildDefinition.externalParameters.debug ==
// false. What is not there is an error, which counts as false; has(predicate.x)
// asks. The functions and macros are those of the CEL standard: none reads a clock
// or anything else outside, and the pattern of matches(), in RE2, must be written
// out.
package constraint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/policy"
)

// MaxText is the most characters that an expression may have.
const MaxText = 4096

const (
	// maxNodes bounds what macros expand an expression to, and maxDepth its nesting.
	maxNodes = 2000
	maxDepth = 50
	// maxRegex bounds the program of a pattern of matches.
	maxRegex = 2000
	// maxCost bounds one evaluation in CEL's units, which also stand for what it
	// allocates. The dearest kinds of it then take tenths of a second, and one
	// that a person would write needs some tens of units.
	maxCost = 100_000
	// interruptEvery is how many steps of a comprehension are made before it is asked
	// whether there still is time.
	interruptEvery = 100
	// maxStatement bounds the statement. Real provenance has some tens of kB.
	maxStatement = 1 << 20
)

// A Compiler compiles expressions. It is safe for concurrent use.
type Compiler struct{ env *cel.Env }

// A Type is that of a variable.
type Type int

// The types that variables have: text, a JSON object, a list of JSON objects, and a
// moment.
const (
	Text Type = iota
	Object
	Objects
	Moment
)

func (t Type) cel() *cel.Type {
	object := cel.MapType(cel.StringType, cel.DynType)
	switch t {
	case Object:
		return object
	case Objects:
		return cel.ListType(object)
	case Moment:
		return cel.TimestampType
	}
	return cel.StringType
}

// NewCompiler returns a Compiler of constraints, which takes a millisecond.
func NewCompiler() (*Compiler, error) {
	return NewCompilerOf(map[string]Type{"statement": Object, "subject": Objects, "predicateType": Text, "predicate": Object})
}

// NewCompilerOf returns a Compiler of expressions that see these variables.
func NewCompilerOf(variables map[string]Type) (*Compiler, error) {
	var options []cel.EnvOption
	for name, t := range variables {
		options = append(options, cel.Variable(name, t.cel()))
	}
	env, err := cel.NewEnv(append(options,
		cel.ParserExpressionSizeLimit(MaxText),
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserErrorRecoveryLimit(4),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), writtenPatterns{}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	return &Compiler{env: env}, nil
}

// Compile compiles an expression. The error says what is wrong and, for an
// expression of several lines, in which of them.
func (c *Compiler) Compile(text string) (*Expression, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("it is empty")
	}
	if n := len([]rune(text)); n > MaxText {
		return nil, fmt.Errorf("%d characters, more than the %d allowed", n, MaxText)
	}
	checked, issues := c.env.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, first(issues, text)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it must be true or false, and is %s; compare it, as in x == true", checked.OutputType())
	}
	program, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		return nil, plain(err)
	}
	return &Expression{text: text, program: program, names: namesIn(checked)}, nil
}

// namesIn returns the identifiers in an expression, among which are its variables.
func namesIn(checked *cel.Ast) map[string]bool {
	names := map[string]bool{}
	for _, e := range ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.KindMatcher(ast.IdentKind)) {
		names[e.AsIdent()] = true
	}
	return names
}

// first returns the first of several issues, in one line.
func first(issues *cel.Issues, text string) error {
	list := issues.Errors()
	if len(list) == 0 {
		return plain(issues.Err())
	}
	e := list[0]
	why := plain(errors.New(e.Message))
	switch {
	case e.Location == nil || e.Location.Line() < 1:
		return why
	case strings.Contains(strings.TrimSpace(text), "\n"):
		return fmt.Errorf("in its line %d, character %d: %w", e.Location.Line(), e.Location.Column()+1, why)
	}
	return fmt.Errorf("at character %d: %w", e.Location.Column()+1, why)
}

// plain makes one short line of what CEL says.
func plain(err error) error {
	const most = 300
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, strings.Join(strings.Fields(err.Error()), " "))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return errors.New(text)
}

// An Expression is a compiled policy.Constraint, safe for concurrent use. The zero
// Expression cannot be evaluated.
type Expression struct {
	text    string
	program cel.Program
	names   map[string]bool
}

var _ policy.Constraint = (*Expression)(nil)

// String returns the expression as it was written.
func (e *Expression) String() string { return e.text }

// Uses reports whether the expression names a variable, so that one that it does not
// need not be made.
func (e *Expression) Uses(variable string) bool { return e.names[variable] }

// Holds implements policy.Constraint.
func (e *Expression) Holds(statement []byte) (bool, error) {
	if e.program == nil {
		return false, errors.New("the constraint was not compiled")
	}
	variables, err := variablesOf(statement)
	if err != nil {
		return false, err
	}
	holds, err := e.HoldsFor(context.Background(), variables)
	if err != nil {
		return false, fmt.Errorf("evaluating the constraint: %w", err)
	}
	return holds, nil
}

// HoldsFor evaluates an expression on variables, which are of their types: string,
// map[string]any, []any or []map[string]any, and time.Time. It ends when ctx is done.
func (e *Expression) HoldsFor(ctx context.Context, variables map[string]any) (bool, error) {
	if e.program == nil {
		return false, errors.New("it was not compiled")
	}
	out, _, err := e.program.ContextEval(ctx, variables)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return false, plain(err)
	}
	holds, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("it is neither true nor false")
	}
	return bool(holds), nil
}

func variablesOf(statement []byte) (map[string]any, error) {
	if len(statement) > maxStatement {
		return nil, fmt.Errorf("the statement has %d bytes, more than the %d that a constraint may look at", len(statement), maxStatement)
	}
	var all map[string]any
	if err := json.Unmarshal(statement, &all); err != nil {
		return nil, fmt.Errorf("decoding the statement: %w", plain(err))
	}
	predicate, ok := all["predicate"].(map[string]any)
	if !ok {
		return nil, errors.New("the statement has no predicate")
	}
	predicateType, ok := all["predicateType"].(string)
	if !ok {
		return nil, errors.New("the statement has no predicateType")
	}
	subject, ok := all["subject"].([]any)
	if !ok {
		return nil, errors.New("the statement has no subject")
	}
	return map[string]any{"statement": all, "subject": subject, "predicateType": predicateType, "predicate": predicate}, nil
}

// writtenPatterns refuses patterns of matches that are computed: compiling one that
// comes from the statement would cost what the statement wants it to.
type writtenPatterns struct{}

// Name implements cel.ASTValidator.
func (writtenPatterns) Name() string { return "gatehouse.validator.written_patterns" }

// Validate implements cel.ASTValidator.
func (writtenPatterns) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher("matches")) {
		args := call.AsCall().Args()
		if pattern := args[len(args)-1]; pattern.Kind() != ast.LiteralKind {
			issues.ReportErrorAtID(pattern.ID(), "the pattern of matches must be written out")
		}
	}
}
