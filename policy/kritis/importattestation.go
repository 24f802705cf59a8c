package kritis

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A clause is authorities, in order, of which one must attest; a demand is clauses all
// of which must be met.
type (
	clause []string
	demand []clause
)

// attestations returns the rule of a namespace with policies, and the checks that a
// rule cannot express.
func (i *importer) attestations(namespace string, gaps []*GenericAttestationPolicy) (object, []any) {
	var alternatives []demand
	for _, gap := range gaps {
		if d, ok := i.demandOf(gap); ok {
			alternatives = append(alternatives, d)
		} else if i.options.Policies == AllPolicies {
			alternatives = nil
			break
		}
	}
	if len(alternatives) == 0 {
		return i.unsatisfiable(gaps), nil
	}
	all := i.combine(alternatives)
	if all == nil {
		all = tightened(alternatives)
		i.add(gaps[0].Meta, gaps[0].Line, Changed, DeniesMore, CodeAlternatives, "the %d policies of namespace %s cannot be multiplied out, so that an image needs the attestations of all their authorities", len(gaps), namespace)
	}
	required := map[string]bool{}
	var checks []any
	for _, c := range all {
		switch check := i.signingCheck(namespace, gaps, c); {
		case len(c) == 1:
			required[c[0]] = true
		case check != nil:
			checks = append(checks, check)
			i.add(gaps[0].Meta, gaps[0].Line, Changed, Differs, CodeAnyNote, "that one of %s must attest is a check of the platform policy, which takes attestations by their keys under any note, and only those filed in the projects of their notes or in project %s", strings.Join(c, ", "), defaultScanProject)
		default:
			i.add(gaps[0].Meta, gaps[0].Line, Changed, DeniesMore, CodeAlternatives, "one of %s was enough in namespace %s; all of them must attest, since an alternative can only be said of PKIX keys", strings.Join(c, ", "), namespace)
			for _, name := range c {
				required[name] = true
			}
		}
	}
	var attestors []string
	for _, name := range slices.Sorted(maps.Keys(required)) {
		i.attestorsOf[AttestorName(namespace, name)] = true
		attestors = append(attestors, i.attestor(namespace, name))
	}
	i.refs += len(attestors)
	for _, gap := range gaps {
		i.add(gap.Meta, gap.Line, Kept, "", CodePolicy, "GenericAttestationPolicy %s is in the rule for namespace %s", gap.key(), namespace)
	}
	if len(attestors) == 0 {
		return rule("ALWAYS_ALLOW", nil), checks
	}
	return rule("REQUIRE_ATTESTATION", attestors), checks
}

// demandOf is what one policy demands; ok is false if nothing can satisfy it.
func (i *importer) demandOf(gap *GenericAttestationPolicy) (d demand, ok bool) {
	if len(gap.Authorities) == 0 {
		i.add(gap.Meta, gap.Line, Changed, AllowsMore, CodePolicy, "GenericAttestationPolicy %s names no authority: nothing satisfies it, but patterns and, where one policy is enough, the others count; Kritis denied every request", gap.key())
		return nil, false
	}
	var all clause
	for _, e := range gap.Authorities {
		if i.authorities[AttestorName(gap.Namespace, e.Text)] == nil {
			i.add(gap.Meta, e.Line, Changed, AllowsMore, CodePolicy, "AttestationAuthority %s/%s does not exist: nothing satisfies GenericAttestationPolicy %s, but patterns and, where one policy is enough, the others count; Kritis denied every request", gap.Namespace, e.Text, gap.key())
			return nil, false
		}
		all = append(all, e.Text)
	}
	slices.Sort(all)
	if i.options.Authorities == AnyAuthority {
		return demand{all}, true
	}
	for _, name := range all {
		d = append(d, clause{name})
	}
	if len(all) > 1 {
		i.add(gap.Meta, gap.Line, Kept, "", CodeAlternatives, "all %d authorities of GenericAttestationPolicy %s must attest; in Kritis v0.2.x one was enough, and if that is what you ran, import with any authority", len(all), gap.key())
	}
	return d, true
}

// unsatisfiable is the rule of policies that nothing satisfies.
func (i *importer) unsatisfiable(gaps []*GenericAttestationPolicy) object {
	for _, gap := range gaps {
		i.add(gap.Meta, gap.Line, Kept, "", CodePolicy, "GenericAttestationPolicy %s denies what no pattern covers", gap.key())
	}
	return rule("ALWAYS_DENY", nil)
}

// combine takes the demands of policies together, or returns nil if that is too much.
func (i *importer) combine(alternatives []demand) demand {
	all := alternatives[0]
	for _, d := range alternatives[1:] {
		if i.options.Policies == AllPolicies {
			all = append(slices.Clone(all), d...)
			continue
		}
		if len(all)*len(d) > maxClauses {
			return nil
		}
		var product demand
		for _, a := range all {
			for _, b := range d {
				c := append(slices.Clone(a), b...)
				slices.Sort(c)
				product = append(product, slices.Compact(c))
			}
		}
		all = absorb(product)
	}
	return absorb(all)
}

// absorb leaves out clauses that others imply.
func absorb(d demand) demand {
	var kept demand
	for i, c := range d {
		implied := slices.ContainsFunc(d[:i], func(o clause) bool { return within(o, c) }) ||
			slices.ContainsFunc(d[i+1:], func(o clause) bool { return len(o) < len(c) && within(o, c) })
		if !implied {
			kept = append(kept, c)
		}
	}
	return kept
}

func within(small, large clause) bool {
	for _, name := range large {
		if len(small) > 0 && small[0] == name {
			small = small[1:]
		}
	}
	return len(small) == 0
}

// tightened demands all that any of the alternatives names.
func tightened(alternatives []demand) demand {
	authorities := map[string]bool{}
	for _, d := range alternatives {
		for _, c := range d {
			for _, name := range c {
				authorities[name] = true
			}
		}
	}
	var all demand
	for _, name := range slices.Sorted(maps.Keys(authorities)) {
		all = append(all, clause{name})
	}
	return all
}

// signingCheck is the check that one of several authorities has attested, or nil if a
// platform policy cannot say it.
func (i *importer) signingCheck(namespace string, gaps []*GenericAttestationPolicy, c clause) object {
	ownPatterns := i.options.Policies == AllPolicies && !i.options.PoolPatterns && len(gaps) > 1
	if len(c) == 1 || ownPatterns {
		return nil
	}
	projects := map[string]bool{"projects/" + defaultScanProject: true}
	var authenticators []any
	for _, name := range c {
		a := i.authorities[AttestorName(namespace, name)]
		if len(a.Keys) == 0 || slices.ContainsFunc(a.Keys, func(k *signature.PublicKey) bool { return k.Algorithm().Number() == 0 }) {
			return nil // a key that no platform policy knows: OpenPGP, Ed25519
		}
		project, _, _ := strings.Cut(a.Note, "/notes/")
		projects[project] = true
		authenticators = append(authenticators, authenticator(a))
	}
	if len(projects) > maxProjects {
		return nil
	}
	var patterns []string
	for _, gap := range gaps {
		for _, p := range gap.Patterns {
			patterns = append(patterns, i.platformPattern(gap, p)...)
		}
	}
	for _, name := range c {
		i.checked[AttestorName(namespace, name)] = true
	}
	check := object{
		"displayName": cut("one of " + strings.Join(c, ", ")),
		"simpleSigningAttestationCheck": object{
			"attestationAuthenticators":            authenticators,
			"containerAnalysisAttestationProjects": slices.Sorted(maps.Keys(projects)),
		},
	}
	allowlist(check, patterns)
	return check
}

func authenticator(a *AttestationAuthority) object {
	var list []any
	for _, k := range a.Keys {
		list = append(list, object{"keyId": k.ID(), "publicKeyPem": k.Marshal(), "signatureAlgorithm": string(k.Algorithm())})
	}
	return object{"displayName": a.key(), "pkixPublicKeySet": object{"pkixPublicKeys": list}}
}

// allowlist gives a check its image allow-list, if it has any.
func allowlist(check object, patterns []string) {
	slices.Sort(patterns)
	if patterns = slices.Compact(patterns); len(patterns) > 0 {
		check["imageAllowlist"] = object{"allowPattern": patterns}
	}
}

// platformPattern is a pattern of Kritis for a check of a platform policy. One without
// a wildcard would cover more there.
func (i *importer) platformPattern(gap *GenericAttestationPolicy, p Pattern) []string {
	text := p.Pattern.String()
	prefix, wild := strings.CutSuffix(text, "*")
	if _, err := image.ParsePlatformPattern(text); err != nil || !wild || strings.Contains(prefix, "*") {
		i.add(gap.Meta, p.Line, Dropped, DeniesMore, CodePattern, "pattern %.200q means nothing or more in a platform policy, whose check of attestations it no longer waives", text)
		return nil
	}
	return []string{text}
}
