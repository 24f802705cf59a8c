package kritis

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// exempt makes the exempt patterns of the policy of the patterns of all namespaces.
func (i *importer) exempt() {
	seen := map[string]bool{}
	write := func(text string) {
		if !seen[text] {
			seen[text] = true
			i.patterns = append(i.patterns, object{"namePattern": text})
		}
	}
	if i.options.KritisImages {
		for _, name := range kritisImages() {
			write(name)
			write(name + ":*")
			write(name + "@*")
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(i.namespaces)) {
		for _, gap := range i.namespaces[namespace].gaps {
			for _, p := range gap.Patterns {
				if i.exemptPattern(gap, p) {
					write(p.Pattern.String())
				}
			}
		}
	}
}

// exemptPattern reports on a pattern, and whether it can be one of Binary
// Authorization's.
func (i *importer) exemptPattern(gap *GenericAttestationPolicy, p Pattern) bool {
	text := p.Pattern.String()
	_, err := image.ParseBinauthzPattern(text)
	switch {
	case strings.Contains(strings.TrimSuffix(text, "*"), "*"):
		i.add(gap.Meta, p.Line, Dropped, "", CodePattern, "pattern %.200q covers no image, since Kritis knows one \"*\" at the end only; for Binary Authorization it would cover some", text)
		return false
	case err != nil:
		i.add(gap.Meta, p.Line, Dropped, DeniesMore, CodePattern, "pattern %.200q is none for Binary Authorization: %v", text, err)
		return false
	}
	if more := i.beyond(gap, text); len(more) > 0 {
		i.add(gap.Meta, p.Line, Changed, AllowsMore, CodeGlobal, "pattern %q covers in every namespace, also for %s", text, strings.Join(more, ", "))
	} else {
		i.add(gap.Meta, p.Line, Kept, "", CodePattern, "pattern %q", text)
	}
	return true
}

// beyond tells for what else a pattern of the policy will count: the first few.
func (i *importer) beyond(gap *GenericAttestationPolicy, text string) []string {
	var more []string
	for n := range i.objects.GenericAttestationPolicies {
		other := &i.objects.GenericAttestationPolicies[n]
		together := other.Namespace == gap.Namespace && (i.options.Policies == AnyPolicy || i.options.PoolPatterns)
		if together || i.patternOf[patternOf{other, text}] {
			continue
		}
		if len(more) == maxNamed {
			more = append(more, "others")
			break
		}
		more = append(more, "GenericAttestationPolicy "+other.key())
	}
	if i.options.DefaultDeny {
		more = append(more, "namespaces without policies")
	}
	return more
}

// security is the check of a platform policy for an ImageSecurityPolicy.
func (i *importer) security(isp *ImageSecurityPolicy) object {
	check := object{"displayName": "ImageSecurityPolicy " + isp.key()}
	var patterns []string
	for _, e := range isp.Allowlist {
		patterns = append(patterns, i.allowedImage(isp, e)...)
	}
	allowlist(check, patterns)
	for _, e := range isp.Authorities {
		if i.authorities[AttestorName(isp.Namespace, e.Text)] == nil {
			i.add(isp.Meta, e.Line, Kept, "", CodePolicy, "AttestationAuthority %s/%s does not exist, so that ImageSecurityPolicy %s denies every image that is not on its allow-list", isp.Namespace, e.Text, isp.key())
			check["alwaysDeny"] = true
			return check
		}
	}
	for _, e := range isp.Authorities {
		i.add(isp.Meta, e.Line, Dropped, DeniesMore, CodeAuthority, "an attestation by %s no longer spares an image its scan in ImageSecurityPolicy %s", e.Text, isp.key())
	}
	if isp.PrivateKey && len(isp.Authorities) > 0 {
		i.add(isp.Meta, isp.Line, Dropped, DeniesMore, CodeAuthority, "ImageSecurityPolicy %s no longer attests what it lets in", isp.key())
	}
	check["vulnerabilityCheck"] = i.vulnerabilities(isp)
	i.add(isp.Meta, isp.Line, Changed, DeniesMore, CodeUnscanned, "ImageSecurityPolicy %s denies an image that no scan in %s has finished for, and vulnerabilities without a severity unless the limit is ALLOW_ALL; Kritis let both in", isp.key(), strings.Join(i.options.scanProjects(), ", "))
	return check
}

func (i *importer) vulnerabilities(isp *ImageSecurityPolicy) object {
	q := isp.Requirements
	var projects []string
	for _, p := range i.options.scanProjects() {
		projects = append(projects, "projects/"+p)
	}
	check := object{
		"maximumFixableSeverity": q.MaxFixable.Severity.String(), "maximumUnfixableSeverity": q.MaxUnfixable.Severity.String(),
		"containerAnalysisVulnerabilityProjects": projects,
	}
	for _, t := range []Threshold{q.MaxFixable, q.MaxUnfixable} {
		if t.UnspecifiedOnly {
			i.add(isp.Meta, t.Line, Changed, DeniesMore, CodeUnscanned, "SEVERITY_UNSPECIFIED is BLOCK_ALL, which lets by nothing")
		}
	}
	var ids []string
	for _, e := range q.AllowedCVEs {
		parts := strings.Split(e.Text, "/")
		switch {
		case len(parts) == 1:
			i.add(isp.Meta, e.Line, Dropped, "", CodeCVE, "%.100q allowed nothing, since Kritis compares full names of notes", e.Text)
		case names.CheckResource(e.Text, "projects", "notes") != nil:
			i.add(isp.Meta, e.Line, Dropped, DeniesMore, CodeCVE, "%.200q is not the name of a note", e.Text)
		default:
			ids = append(ids, parts[3])
			i.add(isp.Meta, e.Line, Changed, AllowsMore, CodeCVE, "%s is let by as a note of any project, not only of %s", parts[3], parts[1])
		}
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) > 0 {
		check["allowedCves"] = ids
	}
	return check
}

// allowedImage is an image of an allow-list as a pattern of a platform policy.
func (i *importer) allowedImage(isp *ImageSecurityPolicy, e Entry) []string {
	ref, err := image.Parse(e.Text)
	if err == nil {
		_, err = image.ParsePlatformPattern(e.Text)
	}
	switch {
	case err != nil:
		i.add(isp.Meta, e.Line, Dropped, DeniesMore, CodeAllowlist, "%.200q is no image reference", e.Text)
		return nil
	case ref.Tag() == "" && ref.Digest().IsZero():
		i.add(isp.Meta, e.Line, Dropped, DeniesMore, CodeAllowlist, "%q without tag and digest would cover all of its tags and digests in a platform policy; add it if that is what you want", e.Text)
		return nil
	case ref.Digest().IsZero():
		i.add(isp.Meta, e.Line, Changed, AllowsMore, CodeAllowlist, "%q also covers that tag with any digest", e.Text)
	case ref.Tag() == "":
		i.add(isp.Meta, e.Line, Changed, AllowsMore, CodeAllowlist, "%q also covers that digest with any tag", e.Text)
	default:
		i.add(isp.Meta, e.Line, Kept, "", CodeAllowlist, "%q", e.Text)
	}
	return []string{e.Text}
}
