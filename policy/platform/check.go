package platform

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/policy/platform/constraint"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// checkKinds are the fields of which a check has one, and what reads each.
func (r *reporter) checkKinds() []checkKind {
	return []checkKind{
		{"alwaysDeny", r.alwaysDeny},
		{"imageFreshnessCheck", r.imageFreshness},
		{"sigstoreSignatureCheck", r.sigstore},
		{"simpleSigningAttestationCheck", r.simpleSigning},
		{"slsaCheck", r.slsa},
		{"trustedDirectoryCheck", r.trustedDirectory},
		{"vulnerabilityCheck", r.vulnerability},
	}
}

type checkKind struct {
	field string
	read  func(f document.Fields, field string) Requirement
}

// check reads a check. ok is false for one that has no requirement.
func (r *reporter) check(n *yaml.Node) (check Check, ok bool) {
	check.Line = n.Line
	kinds := r.checkKinds()
	known := []string{"displayName", "imageAllowlist"}
	for _, kind := range kinds {
		known = append(known, kind.field)
	}
	f, ok := r.Fields(n, "checks", known...)
	if !ok && len(f.Values) == 0 {
		return check, false
	}
	check.DisplayName = r.Text(f, "displayName")
	check.Allow = r.allowlist(f)
	given := ""
	for _, kind := range kinds {
		switch {
		case f.Values[kind.field] == nil:
			continue
		case given != "":
			r.Errorf(f.Lines[kind.field], "checks: %s and %s exclude each other; write two checks", given, kind.field)
			return check, false
		}
		given, check.Of = kind.field, kind.read(f, kind.field)
	}
	if given == "" && ok {
		r.Errorf(n.Line, "checks: a check needs one of %s", strings.Join(known[2:], ", "))
	}
	return check, check.Of != nil
}

func (r *reporter) alwaysDeny(f document.Fields, field string) Requirement {
	if value, ok := r.truth(f, field); ok && !value {
		r.Errorf(f.Lines[field], "alwaysDeny may only be true; take the check away to allow")
	}
	return AlwaysDeny{}
}

func (r *reporter) imageFreshness(f document.Fields, field string) Requirement {
	const name = "maxUploadAgeDays"
	n := f.Values[field]
	g, _ := r.Fields(n, field, name)
	days := g.Values[name]
	if days == nil {
		r.Errorf(n.Line, "%s: %s is missing", field, name)
		return ImageFreshness{}
	}
	digits := strings.TrimLeft(days.Value, "+-")
	value, err := strconv.ParseInt(days.Value, 10, 32)
	switch {
	case days.Kind != yaml.ScalarNode || days.ShortTag() == "!!str" || !names.IsNumber(digits):
		r.Errorf(days.Line, "%s must be a whole number of days, and is %s", name, document.KindOf(days))
	case digits != "0" && strings.HasPrefix(digits, "0"):
		// Other readers of YAML take it for octal, also on the way to the API.
		r.Errorf(days.Line, "%s: %.50s begins with 0; write it without", name, days.Value)
	case err != nil || value < 1:
		r.Errorf(days.Line, "%s: %.50s is not a number of days from 1 to %d", name, days.Value, math.MaxInt32)
	default:
		return ImageFreshness{MaxUploadAgeDays: int32(value)}
	}
	return ImageFreshness{}
}

func (r *reporter) trustedDirectory(f document.Fields, field string) Requirement {
	const name = "trustedDirPatterns"
	n := f.Values[field]
	g, _ := r.Fields(n, field, name)
	var check TrustedDirectory
	if isEmpty(g.Values[name]) {
		r.Errorf(n.Line, "%s: %s is missing; without any, no image would be trusted", field, name)
	}
	for _, t := range r.texts(g, name) {
		pattern, err := image.ParseDirectory(t.text)
		if err != nil {
			r.Errorf(t.line, "%s: %v", name, err)
			continue
		}
		r.lintDirectory(pattern, t.line)
		check.Patterns = append(check.Patterns, pattern)
	}
	return check
}

func (r *reporter) vulnerability(f document.Fields, field string) Requirement {
	n := f.Values[field]
	g, ok := r.Fields(n, field, "maximumFixableSeverity", "maximumUnfixableSeverity", "allowedCves", "blockedCves", "containerAnalysisVulnerabilityProjects")
	if !ok && len(g.Values) == 0 {
		return Vulnerability{}
	}
	check := Vulnerability{
		MaxFixable:   r.severity(n, field, g, "maximumFixableSeverity"),
		MaxUnfixable: r.severity(n, field, g, "maximumUnfixableSeverity"),
		Projects:     r.projects(g, "containerAnalysisVulnerabilityProjects"),
	}
	lines := map[string]int{}
	for _, cve := range r.cves(g, "allowedCves") {
		check.Allowed = append(check.Allowed, cve.text)
		lines[cve.text] = cve.line
	}
	for _, cve := range r.cves(g, "blockedCves") {
		check.Blocked = append(check.Blocked, cve.text)
		if at := lines[cve.text]; at != 0 {
			r.Errorf(cve.line, "blockedCves: %.100q is allowed at line %d; take it out of one of the lists", cve.text, at)
		}
	}
	return check
}

// severity reads a limit, which must be given.
func (r *reporter) severity(n *yaml.Node, what string, f document.Fields, name string) policy.Severity {
	words := []string{"MAXIMUM_ALLOWED_SEVERITY_UNSPECIFIED"}
	for s := policy.BlockAll; s <= policy.AllowAll; s++ {
		words = append(words, s.String())
	}
	if f.Values[name] == nil {
		r.Errorf(n.Line, "%s: %s is missing", what, name)
		return policy.BlockAll
	}
	switch value, ok := r.Enum(f, name, words); {
	case ok && value == 0:
		r.Errorf(f.Lines[name], "%s: %s must not be %s", what, name, words[0])
	case ok:
		return policy.BlockAll + policy.Severity(value-1)
	}
	return policy.BlockAll
}

// cves reads ids of notes.
func (r *reporter) cves(f document.Fields, name string) []line {
	var list []line
	for _, t := range r.texts(f, name) {
		if t.text == "" || strings.Contains(t.text, "/") {
			r.Errorf(t.line, "%s: %.200q is not the id of a note, such as CVE-2021-20305", name, t.text)
			continue
		}
		r.lintCVE(name, t)
		list = append(list, t)
	}
	return list
}

func (r *reporter) slsa(f document.Fields, field string) Requirement {
	n := f.Values[field]
	g, _ := r.Fields(n, field, "rules")
	var check SLSA
	for _, n := range r.objects(n, field, g, "rules") {
		check.Rules = append(check.Rules, r.verificationRule(n))
	}
	return check
}

func (r *reporter) verificationRule(n *yaml.Node) VerificationRule {
	rule := VerificationRule{Line: n.Line}
	f, ok := r.Fields(n, "rules", "trustedBuilder", "attestationSource", "configBasedBuildRequired", "trustedSourceRepoPatterns", "customConstraints")
	if !ok && len(f.Values) == 0 {
		return rule
	}
	words := []string{"BUILDER_UNSPECIFIED", googleCloudBuild}
	if f.Values["trustedBuilder"] == nil {
		r.Errorf(n.Line, "rules: trustedBuilder is missing; write %s", googleCloudBuild)
	} else if value, ok := r.Enum(f, "trustedBuilder", words); ok && value == 0 {
		r.Errorf(f.Lines["trustedBuilder"], "rules: trustedBuilder must not be %s", words[0])
	} else if ok {
		rule.TrustedBuilder = words[value]
	}
	if source := f.Values["attestationSource"]; source != nil && source.Kind == yaml.SequenceNode {
		r.Errorf(source.Line, "attestationSource is an object and not a list; write attestationSource: {containerAnalysisAttestationProjects: [projects/PROJECT, …]}")
	} else if source != nil {
		g, _ := r.Fields(source, "attestationSource", "containerAnalysisAttestationProjects")
		rule.Projects = r.projects(g, "containerAnalysisAttestationProjects")
	}
	rule.ConfigBasedBuildRequired, _ = r.truth(f, "configBasedBuildRequired")
	for _, t := range r.texts(f, "trustedSourceRepoPatterns") {
		pattern, err := policy.ParseSourcePattern(t.text)
		if err != nil {
			r.Errorf(t.line, "trustedSourceRepoPatterns: %v", err)
			continue
		}
		r.lintSource(t)
		rule.TrustedSources = append(rule.TrustedSources, pattern)
	}
	if isEmpty(f.Values["trustedSourceRepoPatterns"]) {
		r.Warnf(n.Line, "rules: without trustedSourceRepoPatterns, what %s built from anyone's source is trusted", googleCloudBuild)
	}
	rule.Constraint = r.constraint(f)
	return rule
}

func (r *reporter) constraint(f document.Fields) policy.Constraint {
	n := f.Values["customConstraints"]
	if n == nil {
		return nil
	}
	text, ok := r.Scalar(n, "customConstraints")
	if !ok {
		return nil
	}
	if r.cel == nil {
		var err error
		if r.cel, err = constraint.NewCompiler(); err != nil {
			r.Errorf(n.Line, "customConstraints: %v", err)
			return nil
		}
	}
	expression, err := r.cel.Compile(text)
	if err != nil {
		r.Errorf(n.Line, "customConstraints: %v", err)
		return nil
	}
	return expression
}

func (r *reporter) simpleSigning(f document.Fields, field string) Requirement {
	n := f.Values[field]
	g, ok := r.Fields(n, field, "attestationAuthenticators", "containerAnalysisAttestationProjects")
	if !ok && len(g.Values) == 0 {
		return SimpleSigning{}
	}
	check := SimpleSigning{Projects: r.projects(g, "containerAnalysisAttestationProjects")}
	for _, n := range r.objects(n, field, g, "attestationAuthenticators") {
		if r.refusesPGP(n) {
			continue
		}
		check.Authenticators = append(check.Authenticators, r.authority(n, "attestationAuthenticators", "pkixPublicKeySet", "pkixPublicKeys", r.pkixKey))
	}
	return check
}

func (r *reporter) sigstore(f document.Fields, field string) Requirement {
	n := f.Values[field]
	g, ok := r.Fields(n, field, "sigstoreAuthorities")
	if !ok && len(g.Values) == 0 {
		return Sigstore{}
	}
	var check Sigstore
	for _, n := range r.objects(n, field, g, "sigstoreAuthorities") {
		check.Authorities = append(check.Authorities, r.authority(n, "sigstoreAuthorities", "publicKeySet", "publicKeys", r.sigstoreKey))
	}
	return check
}

// authority reads who signs: a name, and a set of keys in two nested fields.
func (r *reporter) authority(n *yaml.Node, what, set, list string, key func(*yaml.Node) *signature.PublicKey) Authority {
	var a Authority
	f, ok := r.Fields(n, what, "displayName", set)
	if !ok && len(f.Values) == 0 {
		return a
	}
	a.DisplayName = r.Text(f, "displayName")
	inner := f.Values[set]
	if inner == nil {
		r.Errorf(n.Line, "%s: %s is missing", what, set)
		return a
	}
	g, ok := r.Fields(inner, set, list)
	if !ok {
		return a
	}
	nodes := r.objects(inner, set, g, list)
	if len(nodes) > maxKeys {
		r.Errorf(g.Lines[list], "%s: %d keys, more than the %d allowed", list, len(nodes), maxKeys)
		return a
	}
	lines := map[string]int{}
	for _, n := range nodes {
		if r.refusesPGP(n) {
			continue
		}
		k := key(n)
		if k == nil {
			continue
		}
		if first := lines[k.ID()]; first != 0 {
			r.Errorf(n.Line, "%s: key %.200q is given twice, first at line %d", list, k.ID(), first)
			continue
		}
		lines[k.ID()] = n.Line
		a.Keys = append(a.Keys, k)
	}
	return a
}

// refusesPGP reports an error if n has a key of OpenPGP, in whatever spelling.
func (r *reporter) refusesPGP(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if name := n.Content[i].Value; strings.Contains(strings.ToLower(name), "pgp") {
			r.Errorf(n.Content[i].Line, "%.100s: platform policies have no OpenPGP keys; use a PKIX key, or an attestor of a Binary Authorization policy", name)
			return true
		}
	}
	return false
}

func (r *reporter) pkixKey(n *yaml.Node) *signature.PublicKey { return keys.PKIX(r.Reporter, n) }

func (r *reporter) sigstoreKey(n *yaml.Node) *signature.PublicKey {
	return keys.PEM(r.Reporter, n, "publicKeys", "publicKeyPem")
}
