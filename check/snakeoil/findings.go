package snakeoil

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check/scans"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxListed bounds the vulnerabilities that a failure names.
	maxListed = 100
	// maxUpdates bounds the updates that it tells of.
	maxUpdates = 10
	// maxName bounds the name of each.
	maxName = 200
)

// A judgement is what the findings of scans amount to.
type judgement struct {
	bad     []finding
	allowed []string // each once, and why
	expired []string // as much for those that are bad because of it
}

// finding is a vulnerability that fails an image.
type finding struct {
	name     string
	severity Severity
	update   string // of what, to what, if that is known
}

// judge sorts out the vulnerabilities that fail an image: each once and with its worst
// severity, the worst first.
func (s Settings) judge(found []*grafeas.Occurrence) judgement {
	worst := map[string]finding{}
	var j judgement
	for _, o := range found {
		v := o.GetVulnerability()
		f := finding{name: clip(nameOf(o)), severity: severityOf(v), update: updateOf(v)}
		if !s.fails(f.severity, metadata.Fixable(v)) {
			continue
		}
		if a, ok := s.Allowed[nameOf(o)]; ok {
			if a.Until.IsZero() || s.Now().Before(a.Until) {
				j.allowed = append(j.allowed, a.describe("is allowed", f))
				continue
			}
			j.expired = append(j.expired, a.describe("was allowed", f))
		}
		if have, ok := worst[f.name]; !ok || f.severity > have.severity {
			f.update = cmp.Or(f.update, have.update)
			worst[f.name] = f
		}
	}
	j.bad = slices.SortedFunc(maps.Values(worst), func(a, b finding) int {
		return cmp.Or(cmp.Compare(b.severity, a.severity), cmp.Compare(a.name, b.name))
	})
	j.allowed = slices.Compact(slices.Sorted(slices.Values(j.allowed)))
	j.expired = slices.Compact(slices.Sorted(slices.Values(j.expired)))
	return j
}

func (a Allowed) describe(how string, f finding) string {
	text := fmt.Sprintf("%s (%s) %s", f.name, f.severity, how)
	if !a.Until.IsZero() {
		text += " until " + a.Until.UTC().Format(time.DateOnly)
	}
	return text + ": " + clip(a.Reason)
}

func (s Settings) fails(severity Severity, fixable bool) bool {
	threshold := s.Unfixable
	if fixable {
		threshold = s.Fixable
	}
	switch {
	case threshold == Never:
		return false
	case severity == Unknown && s.Unscored == 0:
		return true
	case severity == Unknown:
		severity = s.Unscored
	}
	return severity >= threshold
}

// nameOf returns what a vulnerability is called: the id of its note.
func nameOf(o *grafeas.Occurrence) string {
	note := o.GetNoteName()
	return note[strings.LastIndexByte(note, '/')+1:]
}

// updateOf returns the update of a package that fixes a vulnerability, or "".
func updateOf(v *grafeas.VulnerabilityOccurrence) string {
	for _, i := range v.GetPackageIssue() {
		if i.GetFixedVersion().GetKind() != grafeas.Version_NORMAL {
			continue
		}
		to := i.GetFixedVersion().GetFullName()
		if to == "" {
			to = strings.TrimSuffix(i.GetFixedVersion().GetName()+"-"+i.GetFixedVersion().GetRevision(), "-")
		}
		return clip(cmp.Or(i.GetFixedPackage(), i.GetAffectedPackage(), "its package") + " to " + to)
	}
	return ""
}

// describe names what was found. The spelling of its first word is Voucher's, and
// programs look for it, and for the list behind it.
func (j judgement) describe() string {
	listed := make([]string, 0, min(len(j.bad), maxListed+1))
	var updates []string
	for i, f := range j.bad {
		if i == maxListed {
			listed = append(listed, fmt.Sprintf("and %d more", len(j.bad)-maxListed))
			break
		}
		listed = append(listed, fmt.Sprintf("%s (%s)", f.name, f.severity))
		if f.update != "" && len(updates) < maxUpdates {
			updates = append(updates, fmt.Sprintf("%s for %s", f.update, f.name))
		}
	}
	text := fmt.Sprintf("vulnernable to %d vulnerabilities: %s", len(j.bad), strings.Join(listed, ", "))
	if len(updates) > 0 {
		text += "; update " + strings.Join(updates, ", ")
	}
	if len(j.expired) > 0 {
		text += "; " + strings.Join(j.expired[:min(len(j.expired), maxUpdates)], "; ")
	}
	return text
}

// evidence says what a pass rests on.
func (j judgement) evidence(state scans.State, found int) []string {
	var facts []string
	for _, s := range state.Scans {
		facts = append(facts, s.String())
	}
	facts = append(facts, fmt.Sprintf("%d vulnerabilities were filed, and none that is not allowed is of a severity that fails an image", found))
	return append(facts, j.allowed[:min(len(j.allowed), maxListed)]...)
}

func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	return strings.ToValidUTF8(s[:maxName], "") + "…"
}
