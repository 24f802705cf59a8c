package admission

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// The keys of audit annotations, which the API server prefixes with the name of
// the webhook.
const (
	annotationBreakGlass = "break-glass"
	annotationRefused    = "break-glass-refused"
	annotationDryRun     = "dry-run"
	annotationFailedOpen = "failed-open"
	annotationOverridden = "overridden-verification-result"
)

// maxWarning bounds a warning, and maxWarnings all of one answer: an API server cuts
// at 256 characters, and everything once there are 4,096 in all.
const (
	maxWarning  = 250
	maxWarnings = 4000
)

// answer is what the gate says to a request, before it is put into an envelope.
type answer struct {
	allowed     bool
	code        int
	reason      string
	message     string
	warnings    []string
	annotations map[string]string
}

func refuse(code int, format string, args ...any) answer {
	return answer{code: code, reason: http.StatusText(code), message: fmt.Sprintf(format, args...)}
}

// and returns the answer to an object of two parts.
func (a answer) and(b answer) answer {
	both := a
	both.allowed = a.allowed && b.allowed
	if a.allowed || (!b.allowed && b.code == http.StatusForbidden) { // a violation is the better reason
		both.code, both.reason = b.code, b.reason
	}
	switch {
	case a.allowed:
		both.message = b.message
	case !b.allowed && b.message != a.message:
		both.message = a.message + "\n" + b.message
	}
	both.warnings = append(slices.Clip(a.warnings), b.warnings...)
	both.annotations = maps.Clone(a.annotations)
	for key, value := range b.annotations {
		if old, ok := both.annotations[key]; ok && old != value {
			value = old + value
		}
		if both.annotations == nil {
			both.annotations = map[string]string{}
		}
		both.annotations[key] = value
	}
	return both
}

// annotations go into the API server's audit log, under Google's keys.
func annotations(d decide.Decision, glass *audit.BreakGlass) map[string]string {
	m := map[string]string{}
	if d.BreakGlass != "" {
		m[annotationBreakGlass] = markerValue
	}
	if glass != nil && glass.Refused != "" {
		m[annotationRefused] = glass.Refused
	}
	for _, o := range d.Overrides() {
		switch o {
		case decide.DryRun:
			m[annotationDryRun] = markerValue
		case decide.FailOpen, decide.LastAllowed:
			m[annotationFailedOpen] = markerValue
		}
	}
	if d.Override != decide.NoOverride && d.Override != decide.NoPolicy {
		m[annotationOverridden] = decide.VerificationResult(d)
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// warnings are shown by kubectl, to the person who can act on them.
func warnings(d decide.Decision, s subject, dryRun bool) []string {
	var list []string
	switch d.Override {
	case decide.BreakGlass:
		if dryRun {
			list = warningLines("break-glass would let this in against policy, and be recorded")
		} else {
			list = warningLines("break-glass: let in against policy, and recorded")
		}
	case decide.DryRun:
		list = warningLines("dry run: policy would refuse this: " + decide.Message(d))
	case decide.FailOpen, decide.LastAllowed:
		list = warningLines("let in unchecked: " + decide.Message(d))
	case decide.NoPolicy:
		list = warningLines("gatehouse has no policy and lets everything in; start it with --policy FILE, or write one with gatehouse policy push")
	}
	return append(list, misplaced(s)...)
}

// warningLines cuts text into warnings that the API server passes on whole: it
// cuts at 256 characters each and 4,096 in all.
func warningLines(text string) []string {
	const prefix, lines = "gatehouse: ", 8
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasSuffix(line, ":") { // a title, of which kubectl would make a warning
			continue
		}
		if len(list) == lines {
			break
		}
		line = prefix + line
		if len(line) > maxWarning {
			cut := maxWarning - len("…")
			for !utf8.RuneStart(line[cut]) {
				cut--
			}
			line = line[:cut] + "…"
		}
		list = append(list, line)
	}
	return list
}

// bound keeps as many warnings as an API server passes on, each once.
func bound(list []string) []string {
	var kept []string
	total := 0
	for _, line := range list {
		if slices.Contains(kept, line) {
			continue
		}
		if total += len(line); total > maxWarnings {
			break
		}
		kept = append(kept, line)
	}
	return kept
}
