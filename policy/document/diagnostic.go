package document

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Severity says how bad a Diagnostic is. Its zero value is Error.
type Severity int

// The severities. With an Error there is no result.
const (
	Error Severity = iota
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Diagnostic is one thing to say about a text.
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"` // from 1, which is also what the whole text has
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// String returns "FILE:LINE: SEVERITY: MESSAGE".
func (d Diagnostic) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", d.File, d.Line, d.Severity, d.Message)
}

// Diagnostics is what there is to say about a text, in the order of its lines.
type Diagnostics []Diagnostic

// HasErrors reports whether any of them is an Error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Err returns the errors as one error, one a line, or nil without any. Warnings
// are left out.
func (ds Diagnostics) Err() error {
	var errs []error
	for _, d := range ds {
		if d.Severity == Error {
			errs = append(errs, errors.New(d.String()))
		}
	}
	return errors.Join(errs...)
}

// String returns all of them, one a line.
func (ds Diagnostics) String() string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// New returns a Reporter for a text that is called file.
func New(file string) *Reporter { return &Reporter{File: file} }

// A Reporter collects what there is to say about one file.
type Reporter struct {
	// File is what the text is called.
	File string
	// OnFields, unless it is nil, is told of each object that is read as one that may have
	// the known fields: for who compares with a schema.
	OnFields func(object *yaml.Node, known []string)

	diags Diagnostics
	left  int // not collected, beyond maxDiagnostics
	erred bool
}

// Erred reports whether there is an error among what was collected.
func (r *Reporter) Erred() bool { return r.erred }

// Add adds what was reported elsewhere.
func (r *Reporter) Add(diags ...Diagnostic) {
	for _, d := range diags {
		r.erred = r.erred || d.Severity == Error
		r.diags = append(r.diags, d)
	}
}

// Errorf reports an error at a line.
func (r *Reporter) Errorf(line int, format string, args ...any) {
	r.erred = true
	r.add(line, Error, format, args)
}

// Warnf reports a warning at a line.
func (r *Reporter) Warnf(line int, format string, args ...any) {
	r.add(line, Warning, format, args)
}

func (r *Reporter) add(line int, s Severity, format string, args []any) {
	if len(r.diags) == maxDiagnostics {
		r.left++
		return
	}
	r.diags = append(r.diags, Diagnostic{File: r.File, Line: max(line, 1), Severity: s, Message: fmt.Sprintf(format, args...)})
}

// Diagnostics returns what was collected, in the order of lines.
func (r *Reporter) Diagnostics() Diagnostics {
	slices.SortStableFunc(r.diags, func(a, b Diagnostic) int { return a.Line - b.Line })
	if r.left > 0 {
		last := Diagnostic{File: r.File, Line: r.diags[len(r.diags)-1].Line, Severity: Warning, Message: fmt.Sprintf("%d more problems are not shown", r.left)}
		if r.erred {
			last.Severity = Error
		}
		r.diags, r.left = append(r.diags, last), 0
	}
	return r.diags
}
