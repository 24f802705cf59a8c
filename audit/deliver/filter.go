package deliver

import (
	"path"
	"slices"
)

// A Filter selects records; a field that is empty selects all. All but Logs are about
// decisions: with one of them, records of other logs are not selected.
type Filter struct {
	Logs []Log
	// Verdicts are DENY, ALLOW and INDETERMINATE.
	Verdicts []string
	// OnlyBreakGlass selects records of requests with a break-glass marker, needed or not.
	OnlyBreakGlass bool
	// Namespaces are names, in which * stands for any text.
	Namespaces []string
}

// AboutDecisions reports whether only decisions can be selected.
func (f Filter) AboutDecisions() bool {
	return f.OnlyBreakGlass || len(f.Verdicts) > 0 || len(f.Namespaces) > 0
}

// Takes reports whether records of a log may be selected.
func (f Filter) Takes(log Log) bool {
	if f.AboutDecisions() && log != Decisions {
		return false
	}
	return len(f.Logs) == 0 || slices.Contains(f.Logs, log)
}

// Selects reports whether a record is selected.
func (f Filter) Selects(e Entry) bool {
	if !f.Takes(e.Log) {
		return false
	}
	if !f.AboutDecisions() {
		return true
	}
	r := e.Decision
	if len(f.Namespaces) > 0 && !slices.ContainsFunc(f.Namespaces, func(pattern string) bool {
		ok, err := path.Match(pattern, r.Namespace)
		return ok && err == nil
	}) {
		return false
	}
	if len(f.Verdicts) == 0 && !f.OnlyBreakGlass {
		return true
	}
	d := r.Decision
	return d != nil && (!f.OnlyBreakGlass || d.BreakGlass != "") &&
		(len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, d.Verdict.String()))
}
