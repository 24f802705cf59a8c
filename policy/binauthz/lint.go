package binauthz

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// lint warns of what is valid and probably not meant. It keeps quiet about what
// good policies have: a warning that everyone gets is one that no one reads.
func (r *reporter) lint(p *Policy) {
	r.lintDefault(p)
	for i := range p.Specific {
		r.lintAttestorRefs(p.Specific[i].Attestors)
	}
	superfluous := r.lintRepetition(p.Exempt)
	for i, e := range p.Exempt {
		if !superfluous[i] {
			r.lintReach(e)
		}
	}
	r.lintSystemImages(p)
}

func (r *reporter) lintDefault(p *Policy) {
	switch d := p.Default; {
	case d.Evaluation == policy.AlwaysAllow && len(p.Specific) == 0:
		r.Warnf(d.Line, "the default rule is ALWAYS_ALLOW and there is no other: every image may run")
	case d.Evaluation == policy.AlwaysAllow:
		r.Warnf(d.Line, "the default rule is ALWAYS_ALLOW: every image may run wherever no specific rule is")
	case d.DryRun:
		r.Warnf(d.Line, "the default rule is a dry run: what it denies is recorded, and runs")
	}
	r.lintAttestorRefs(p.Default.Attestors)
}

func (r *reporter) lintAttestorRefs(refs []AttestorRef) {
	first := map[string]int{}
	for _, ref := range refs {
		if first[ref.Name] != 0 {
			r.Warnf(ref.Line, "attestor %q is named twice in one rule, first at line %d", ref.Name, first[ref.Name])
			continue
		}
		first[ref.Name] = ref.Line
	}
}

// lintRepetition warns of patterns that another one makes superfluous, and
// reports which ones those are.
func (r *reporter) lintRepetition(patterns []ExemptPattern) map[int]bool {
	first := map[string]int{}            // by text
	single := map[string]ExemptPattern{} // by what stands before "*"
	double := map[string]ExemptPattern{} // … and before "**"
	for i, e := range patterns {
		text := e.Pattern.String()
		if _, ok := first[text]; ok {
			continue
		}
		first[text] = i
		if prefix, ok := strings.CutSuffix(text, "**"); ok {
			double[prefix] = e
		} else if prefix, ok := strings.CutSuffix(text, "*"); ok {
			single[prefix] = e
		}
	}
	superfluous := map[int]bool{}
	for i, e := range patterns {
		text := e.Pattern.String()
		if earlier := first[text]; earlier != i {
			r.Warnf(e.Line, "pattern %q is given twice, first at line %d", text, patterns[earlier].Line)
			superfluous[i] = true
		} else if wider, ok := includedIn(text, single, double); ok {
			r.Warnf(e.Line, "pattern %q is included in %q at line %d", text, wider.Pattern, wider.Line)
			superfluous[i] = true
		}
	}
	return superfluous
}

// includedIn finds a wildcard pattern other than text that matches all that text
// does. It tries the prefixes of text, and so does not grow with the patterns.
func includedIn(text string, single, double map[string]ExemptPattern) (ExemptPattern, bool) {
	prefix := strings.TrimRight(text, "*")
	stars := len(text) - len(prefix)
	for n := range len(prefix) + 1 {
		if e, ok := double[prefix[:n]]; ok && e.Pattern.String() != text {
			return e, true
		}
		if e, ok := single[prefix[:n]]; ok && stars < 2 && e.Pattern.String() != text && !strings.Contains(prefix[n:], "/") {
			return e, true
		}
	}
	return ExemptPattern{}, false
}

// lintReach warns of a pattern that matches more, or less, than it seems to.
func (r *reporter) lintReach(e ExemptPattern) {
	text := e.Pattern.String()
	prefix := strings.TrimRight(text, "*")
	stars := len(text) - len(prefix)
	last := prefix[strings.LastIndexByte(prefix, '/')+1:]
	inName := !strings.ContainsAny(last, ":@")
	// A wildcard is looked at through its shortest completion.
	completed := prefix
	if stars > 0 && !strings.Contains(last, "@") {
		completed += "0"
	}
	_, parseErr := image.Parse(completed)
	switch {
	case parseErr != nil && (stars == 0 || !strings.Contains(last, "@")):
		r.Warnf(e.Line, "pattern %q matches no image that a node can pull: %v", text, parseErr)
	case stars == 2 && !strings.Contains(prefix, "/"):
		r.Warnf(e.Line, "pattern %q also covers everyone on Docker Hub whose name begins with %q; put a \"/\" before the wildcard", text, prefix)
	case stars == 2 && names.IsSharedRegistry(strings.TrimSuffix(prefix, "/")):
		r.Warnf(e.Line, "pattern %q exempts everyone's images: anyone may push to %s", text, strings.TrimSuffix(prefix, "/"))
	case stars == 2 && last != "" && inName && ownerDepth(prefix):
		r.Warnf(e.Line, "pattern %q also covers neighbours, such as %s-other/x; write %s/**", text, prefix, prefix)
	case stars == 1 && strings.HasSuffix(prefix, "@"):
		r.Warnf(e.Line, "pattern %q covers digests only; %s:* is needed for tags", text, strings.TrimSuffix(prefix, "@"))
	case stars == 0 && inName:
		r.Warnf(e.Line, "pattern %q covers neither tags nor digests of the image; write %s:* for its tags, %s@* for its digests", text, prefix, prefix)
	}
}

// ownerDepth reports whether the last component of prefix is the one that says
// whose images they are: the first after the registry, or without a registry the
// first of all. What comes deeper belongs to one owner.
func ownerDepth(prefix string) bool {
	host, path, _ := strings.Cut(prefix, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return path == "" // one component: of Docker Hub
	}
	return !strings.Contains(path, "/")
}

// lintSystemImages warns when a rule that denies will meet the images that a
// cluster runs for itself, and no one seems to have thought of it.
func (r *reporter) lintSystemImages(p *Policy) {
	const legacy, current = "gcr.io/google_containers/", "gcr.io/google-containers/"
	denies := p.Default.Evaluation != policy.AlwaysAllow && !p.Default.DryRun
	for _, s := range p.Specific {
		denies = denies || (s.Evaluation != policy.AlwaysAllow && !s.DryRun)
	}
	coversCurrent, legacyLine := p.Global == GlobalEnable, 0
	for _, e := range p.Exempt {
		text := e.Pattern.String()
		coversCurrent = coversCurrent || strings.HasPrefix(text, current)
		if legacyLine == 0 && strings.HasPrefix(text, legacy) {
			legacyLine = e.Line
		}
	}
	if denies && legacyLine != 0 && !coversCurrent {
		r.Warnf(legacyLine, "%s* is the former name of %s*, which no pattern covers", legacy, current)
	}
}
