package platform

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// maxCompared bounds the patterns of a list that are compared with one another.
const maxCompared = 5000

// lint warns of what is valid and probably not meant, beside what reading warned of.
func (r *reporter) lint(p *Policy) {
	if len(p.CheckSets) == 0 {
		r.Warnf(0, "the policy has no check sets, and so allows every image")
	}
	r.lintAllowlist(p.Allow, nil, "")
	for i := range p.CheckSets {
		s := &p.CheckSets[i]
		r.lintAllowlist(s.Allow, p.Allow, "policy")
		outer := append(p.Allow[:len(p.Allow):len(p.Allow)], s.Allow...)
		for j := range s.Checks {
			r.lintAllowlist(s.Checks[j].Allow, outer, "policy or the check set")
			if _, never := s.Checks[j].Of.(AlwaysDeny); never && len(s.Checks[j].Allow) == 0 && len(s.Checks) > 1 {
				r.Warnf(s.Checks[j].Line, "alwaysDeny denies every image, so that the other checks of the set decide nothing")
			}
		}
	}
}

// lintAllowlist warns of patterns that change nothing, since another of their list
// or of what is looked at before covers the same, and of those that cover too much.
func (r *reporter) lintAllowlist(list, outer []AllowPattern, where string) {
	for _, p := range list {
		r.lintReach(p)
	}
	if len(list)+len(outer) > maxCompared {
		return
	}
	before, own := patternsOf(outer), patternsOf(list)
	wider, among := image.NewPatternSet(before), image.NewPatternSet(own)
	first, outside := map[string]int{}, map[string]int{}
	for _, p := range outer {
		outside[p.Pattern.String()] = p.Line
	}
	for i, p := range list {
		text := p.Pattern.String()
		at, twice := first[text]
		if !twice {
			first[text] = i
		}
		switch j, k := wider.Including(p.Pattern), among.Including(p.Pattern); {
		case outside[text] != 0:
			r.Warnf(p.Line, "pattern %q is in the imageAllowlist of the %s already, at line %d", text, where, outside[text])
		case twice:
			r.Warnf(p.Line, "pattern %q is given twice, first at line %d", text, list[at].Line)
		case j >= 0:
			r.Warnf(p.Line, "pattern %q is included in %q of the %s, at line %d", text, before[j], where, outer[j].Line)
		case k >= 0:
			r.Warnf(p.Line, "pattern %q is included in %q at line %d", text, own[k], list[k].Line)
		}
	}
}

func patternsOf(list []AllowPattern) []image.Pattern {
	patterns := make([]image.Pattern, len(list))
	for i, p := range list {
		patterns[i] = p.Pattern
	}
	return patterns
}

// lintReach warns of a pattern that exempts a whole registry which others share.
func (r *reporter) lintReach(p AllowPattern) {
	if host, ok := strings.CutSuffix(p.Pattern.String(), "/**"); ok && names.IsSharedRegistry(host) {
		r.Warnf(p.Line, "pattern %q exempts everyone's images: anyone may push to %s", p.Pattern, host)
	}
}

// lintDirectory warns of a directory that is not one owner's.
func (r *reporter) lintDirectory(d image.Directory, at int) {
	host, path, _ := strings.Cut(d.String(), "/")
	owner, _, deeper := strings.Cut(path, "/")
	name := strings.TrimRight(owner, "*")
	shared := names.IsSharedRegistry(strings.ToLower(host)) || strings.HasSuffix(host, ".gcr.io")
	switch {
	case !shared || deeper:
	case name == "":
		r.Warnf(at, "directory %q is everyone's: anyone may push to %s", d, host)
	case name != owner:
		r.Warnf(at, "directory %q also covers neighbours, such as %s/%s-other; write %s/%s/**", d, host, name, host, name)
	}
}

// lintSource warns of a pattern that covers repositories of everyone.
func (r *reporter) lintSource(t line) {
	host, path, _ := strings.Cut(t.text, "/")
	if strings.Trim(path, "*") == "" && names.IsSharedForge(strings.ToLower(host)) {
		r.Warnf(t.line, "trustedSourceRepoPatterns: %q is everyone's source: anyone may have a repository at %s", t.text, host)
	}
}

// lintCVE warns of an id that no scanner will ever report.
func (r *reporter) lintCVE(name string, t line) {
	meant := strings.ToUpper(strings.TrimSpace(t.text))
	if !strings.HasPrefix(meant, "CVE") && strings.Trim(meant, "0123456789-") != "" {
		return // an id of some other list of vulnerabilities
	}
	year, number, ok := strings.Cut(strings.TrimPrefix(t.text, "CVE-"), "-")
	if !ok || !strings.HasPrefix(t.text, "CVE-") || len(year) != 4 || !names.IsNumber(year) || len(number) < 4 || !names.IsNumber(number) {
		r.Warnf(t.line, "%s: %.100q does not have the form CVE-YEAR-NUMBER, and so is the id of no note", name, t.text)
	}
}
