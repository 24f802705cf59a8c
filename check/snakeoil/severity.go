package snakeoil

import (
	"fmt"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
)

// A Severity says how bad a vulnerability is. The zero Severity is none of
// them.
type Severity int

// The severities, in Voucher's order: what no one has scored stands between
// medium and high.
const (
	Negligible Severity = iota + 1
	Low
	Medium
	Unknown
	High
	Critical
	// Never is above all of them: as a threshold, it fails no image.
	Never
)

var words = [...]string{Negligible: "negligible", Low: "low", Medium: "medium", Unknown: "unknown", High: "high", Critical: "critical", Never: "never"}

// String returns the word for s, or "".
func (s Severity) String() string {
	if s < 0 || int(s) >= len(words) {
		return ""
	}
	return words[s]
}

// ParseSeverity parses the word for a severity.
func ParseSeverity(word string) (Severity, error) {
	for s := Negligible; s <= Critical; s++ {
		if s.String() == word {
			return s, nil
		}
	}
	return 0, fmt.Errorf("severity %q doesn't exist; it is one of %s", word, strings.Join(words[Negligible:Never], ", "))
}

// ParseThreshold parses the word for the lowest severity that fails an image, or
// "never".
func ParseThreshold(word string) (Severity, error) {
	if word == Never.String() {
		return Never, nil
	}
	s, err := ParseSeverity(word)
	if err != nil {
		return 0, fmt.Errorf("%w, or never", err)
	}
	return s, nil
}

// severityOf returns what a finding is judged by: the severity that the
// distribution gives it for its package, or else that of the vulnerability.
func severityOf(v *grafeas.VulnerabilityOccurrence) Severity {
	if s := fromGrafeas(v.GetEffectiveSeverity()); s != Unknown {
		return s
	}
	return fromGrafeas(v.GetSeverity())
}

func fromGrafeas(s grafeas.Severity) Severity {
	switch s {
	case grafeas.Severity_MINIMAL:
		return Negligible
	case grafeas.Severity_LOW:
		return Low
	case grafeas.Severity_MEDIUM:
		return Medium
	case grafeas.Severity_HIGH:
		return High
	case grafeas.Severity_CRITICAL:
		return Critical
	default:
		return Unknown
	}
}
