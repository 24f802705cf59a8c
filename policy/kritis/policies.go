package kritis

import (
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// What a former name is, in warnings.
const (
	before2019 = "its name before June 2019"
	released   = "its name in v0.2.x"
)

func (r *reporter) imageSecurityPolicy(m Meta, f document.Fields) {
	const what = "ImageSecurityPolicy"
	if f.Values["packageVulnerabilityPolicy"] != nil {
		r.Errorf(f.Lines["packageVulnerabilityPolicy"], "%s: packageVulnerabilityPolicy is a mistake of Kritis' documentation, and Kritis ignores it: write packageVulnerabilityRequirements", what)
	}
	r.renamed(f, what, "imageWhitelist", "imageAllowlist", before2019)
	p := ImageSecurityPolicy{Meta: m, Allowlist: r.entries(f, "imageAllowlist", maxEntries), PrivateKey: r.Text(f, "privateKeySecretName") != ""}
	p.Authorities = r.authorityNames(f)
	one := r.Text(f, "attestationAuthorityName")
	switch line := f.Lines["attestationAuthorityName"]; {
	case one != "" && f.Values["attestationAuthorityNames"] != nil:
		r.Errorf(line, "%s: attestationAuthorityNames is what v0.2.x has in place of attestationAuthorityName; give one of them", what)
	case one != "":
		p.Authorities = []Entry{{Text: one, Line: line}}
		r.checkAuthorityName(p.Authorities[0])
	case f.Values["attestationAuthorityNames"] != nil:
		r.Warnf(f.Lines["attestationAuthorityNames"], "%s: attestationAuthorityNames is of v0.2.x; an attestation by any one of them is enough", what)
	}
	p.Requirements = r.requirements(f, "packageVulnerabilityRequirements", "maximumSeverity", "maximumFixUnavailableSeverity")
	r.objects.ImageSecurityPolicies = append(r.objects.ImageSecurityPolicies, p)
}

func (r *reporter) genericAttestationPolicy(m Meta, f document.Fields) {
	p := GenericAttestationPolicy{Meta: m, Authorities: r.authorityNames(f)}
	if list := f.Values["attestationAuthorityNames"]; list == nil || len(list.Content) == 0 {
		r.Warnf(m.Line, "GenericAttestationPolicy %s names no attestation authority, so that it lets in only what its patterns cover", m.key())
	}
	const list = "admissionAllowlistPatterns"
	patterns := r.List(f, list)
	if len(patterns) > maxPatterns {
		r.Errorf(f.Lines[list], "%s: %d entries, more than the %d allowed", list, len(patterns), maxPatterns)
		patterns = nil
	}
	for _, n := range patterns {
		entry, ok := r.Fields(n, list, "namePattern")
		if !ok {
			continue
		}
		if entry.Values["namePattern"] == nil {
			r.Errorf(n.Line, "%s: namePattern is missing", list)
			continue
		}
		text, ok := r.Scalar(entry.Values["namePattern"], "namePattern")
		if !ok {
			continue
		}
		pattern, err := image.ParseKritisPattern(text)
		if err != nil {
			r.Errorf(entry.Lines["namePattern"], "namePattern: %v", err)
			continue
		}
		if prefix := strings.TrimSuffix(text, "*"); strings.Contains(prefix, "*") {
			r.Warnf(entry.Lines["namePattern"], "namePattern: %.200q covers no image: in Kritis' patterns only one \"*\" at the end is a wildcard, and any other is a character", text)
		}
		p.Patterns = append(p.Patterns, Pattern{Pattern: pattern, Line: entry.Lines["namePattern"]})
	}
	r.objects.GenericAttestationPolicies = append(r.objects.GenericAttestationPolicies, p)
}

// authorityNames reads attestationAuthorityNames. One that is given twice counts once.
func (r *reporter) authorityNames(f document.Fields) []Entry {
	const field = "attestationAuthorityNames"
	var list []Entry
	for _, e := range r.entries(f, field, maxAuthorities) {
		if i := slices.IndexFunc(list, func(o Entry) bool { return o.Text == e.Text }); i >= 0 {
			r.Warnf(e.Line, "%s: %q is given twice, first at line %d", field, e.Text, list[i].Line)
			continue
		}
		r.checkAuthorityName(e)
		list = append(list, e)
	}
	return list
}

func (r *reporter) checkAuthorityName(e Entry) {
	if !names.IsSubdomain(e.Text) {
		r.Errorf(e.Line, "%.100q is not the name of an attestation authority in the namespace of the policy", e.Text)
	}
}

// requirements reads thresholds. The defaults are those of Kritis' code.
func (r *reporter) requirements(spec document.Fields, block, fixable, unfixable string) Requirements {
	q := Requirements{MaxFixable: Threshold{Severity: policy.Critical}, MaxUnfixable: Threshold{Severity: policy.AllowAll}}
	n := spec.Values[block]
	if n == nil {
		return q
	}
	known := []string{fixable, unfixable, "allowlistCVEs"}
	isPolicy := block == "packageVulnerabilityRequirements"
	if isPolicy {
		known = append(known, "maximumFixNotAvailableSeverity", "whitelistCVEs")
	}
	f, ok := r.Fields(n, block, known...)
	if !ok && len(f.Values) == 0 {
		return q
	}
	if isPolicy {
		r.renamed(f, block, "maximumFixNotAvailableSeverity", unfixable, released)
		r.renamed(f, block, "whitelistCVEs", "allowlistCVEs", before2019)
	}
	r.threshold(f, fixable, &q.MaxFixable)
	r.threshold(f, unfixable, &q.MaxUnfixable)
	for _, e := range r.entries(f, "allowlistCVEs", maxEntries) {
		if rest, former := strings.CutPrefix(e.Text, "providers/"); former {
			r.Warnf(e.Line, "allowlistCVEs: %.200q is a former spelling of %.200q", e.Text, "projects/"+rest)
			e.Text = "projects/" + rest
		}
		if !strings.Contains(e.Text, "/") {
			r.Warnf(e.Line, "allowlistCVEs: %.100q allows nothing, in Kritis as here; write the full name of its note, such as projects/PROJECT/notes/%.100s", e.Text, e.Text)
		}
		q.AllowedCVEs = append(q.AllowedCVEs, e)
	}
	return q
}

// unspecified is the one word of severities that is not a limit of package policy.
const unspecified = "SEVERITY_UNSPECIFIED"

func (r *reporter) threshold(f document.Fields, field string, to *Threshold) {
	word := r.Text(f, field)
	if word == "" {
		return
	}
	to.Line = f.Lines[field]
	if word == unspecified {
		*to = Threshold{Severity: policy.BlockAll, UnspecifiedOnly: true, Line: to.Line}
		r.Warnf(to.Line, "%s: %s let by what has no severity and nothing else; here it is BLOCK_ALL", field, unspecified)
		return
	}
	severity, ok := policy.ParseSeverity(word)
	if !ok {
		hint := ""
		if _, ok := policy.ParseSeverity(strings.ToUpper(word)); ok {
			hint = "; did you mean \"" + strings.ToUpper(word) + "\"?"
		}
		r.Errorf(to.Line, "%s: %.100q is not one of BLOCK_ALL, MINIMAL, LOW, MEDIUM, HIGH, CRITICAL, ALLOW_ALL%s", field, word, hint)
		return
	}
	to.Severity = severity
}
