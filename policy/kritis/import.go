package kritis

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// ImportOptions say what Kritis' objects meant, and where they go.
type ImportOptions struct {
	Options
	// Project is the id of the project that gets the policies and attestors; ""
	// is "default".
	Project string
}

// An Imported is what Kritis' objects amount to in the languages of Binary
// Authorization. A pod must be allowed by both policies.
type Imported struct {
	// Policy and Attestors are YAML for package binauthz.
	Policy, Attestors []byte
	// Platform is a platform policy, as YAML, for what a policy cannot say, or nil.
	Platform []byte
	// Report tells what became of everything, in the order of files and lines.
	Report []Change
}

// Changed reports whether anything means something else than it did.
func (i *Imported) Changed() bool {
	return slices.ContainsFunc(i.Report, func(c Change) bool { return c.Action != Kept })
}

// A Change says what became of something that stands at a line.
type Change struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Action Action `json:"action"`
	// Effect says which way a change goes; "" if images are let in as before.
	Effect Effect `json:"effect,omitempty"`
	Code   Code   `json:"code"`
	What   string `json:"what"`
}

// String returns "FILE:LINE: ACTION: WHAT", with the effect before WHAT.
func (c Change) String() string {
	text := fmt.Sprintf("%s:%d: %s: ", c.File, c.Line, c.Action)
	if c.Effect != "" {
		text += string(c.Effect) + ": "
	}
	return text + c.What
}

// Action is what became of something.
type Action string

// The actions.
const (
	Kept    Action = "kept"
	Changed Action = "changed"
	Dropped Action = "dropped"
)

// Effect is which images a change lets in.
type Effect string

// The effects.
const (
	AllowsMore Effect = "allows more"
	DeniesMore Effect = "denies more"
	Differs    Effect = "allows more and denies more"
)

// Code names a kind of change for programs.
type Code string

// The codes.
const (
	CodePolicy       Code = "POLICY"        // the policy as a whole
	CodeDefault      Code = "DEFAULT"       // namespaces without policies
	CodeRepository   Code = "REPOSITORY"    // an attestation counts in every repository
	CodeKeys         Code = "KEYS"          // keys that Kritis did not use
	CodePattern      Code = "PATTERN"       // a pattern that is the same, or cannot be said
	CodeGlobal       Code = "GLOBAL"        // a pattern covers in every namespace
	CodeAlternatives Code = "ALTERNATIVES"  // one of several policies was enough
	CodeAnyNote      Code = "ANY_NOTE"      // an attestation counts by its project, not by its note
	CodeAllowlist    Code = "ALLOWLIST"     // of an ImageSecurityPolicy
	CodeAuthority    Code = "AUTHORITY"     // an attestation in place of a scan
	CodeCVE          Code = "CVE"           // a vulnerability that is let by
	CodeUnscanned    Code = "UNSCANNED"     // what nothing is known of
	CodeNotAdmission Code = "NOT_ADMISSION" // takes no part in admission
)

const (
	defaultProject = "default"
	// maxClauses bounds how alternatives are multiplied out.
	maxClauses = 64
	// maxRefs is the quota of a policy for references to attestors, and maxProjects
	// that of a check for projects.
	maxRefs     = 200
	maxProjects = 10
)

// Import turns the policies into a policy of Binary Authorization with its attestors
// and, for what that cannot say, a platform policy. Where the meaning cannot be kept,
// more is denied rather than allowed, except for what the report says. It returns nil
// if there is an error among the diagnostics.
func (o *Objects) Import(options ImportOptions) (*Imported, document.Diagnostics) {
	if o == nil {
		return nil, document.Diagnostics{{File: "kritis", Message: "there are no objects to import"}}
	}
	if options.Project == "" {
		options.Project = defaultProject
	}
	if !names.IsSegment(options.Project) {
		return nil, document.Diagnostics{{File: "kritis", Message: fmt.Sprintf("%.100q is not the id of a project", options.Project)}}
	}
	i := importer{objects: o, options: options, authorities: o.authorities(), namespaces: o.namespaces(), attestorsOf: map[string]bool{}, checked: map[string]bool{}, rules: object{}}
	for _, namespace := range slices.Sorted(maps.Keys(i.namespaces)) {
		i.namespace(namespace, i.namespaces[namespace])
	}
	i.patternOf = map[patternOf]bool{}
	for n := range o.GenericAttestationPolicies {
		gap := &o.GenericAttestationPolicies[n]
		for _, p := range gap.Patterns {
			i.patternOf[patternOf{gap, p.Pattern.String()}] = true
		}
	}
	i.exempt()
	i.reportDefault()
	i.reportAuthorities()
	i.reportOthers()
	if i.refs > maxRefs {
		return nil, document.Diagnostics{{File: "kritis", Message: fmt.Sprintf("%d references to attestors, more than the %d that a policy may have", i.refs, maxRefs)}}
	}
	return i.result()
}

// object is an object of the texts that are written. Its fields come out sorted, as
// gcloud sorts them.
type object map[string]any

type importer struct {
	objects     *Objects
	options     ImportOptions
	authorities map[string]*AttestationAuthority
	namespaces  map[string]*policies
	attestorsOf map[string]bool // authorities that become attestors
	checked     map[string]bool // authorities whose keys are in the platform policy
	refs        int
	rules       object // of namespaces
	patterns    []any
	patternOf   map[patternOf]bool
	checkSets   []any
	report      []Change
}

// patternOf is a policy and the text of one of its patterns.
type patternOf struct {
	gap  *GenericAttestationPolicy
	text string
}

func (i *importer) add(at Meta, line int, action Action, effect Effect, code Code, format string, args ...any) {
	i.report = append(i.report, Change{File: at.File, Line: max(line, 1), Action: action, Effect: effect, Code: code, What: fmt.Sprintf(format, args...)})
}

// attestor is what an authority is called: its namespace has no dot, so that two are
// never called the same.
func (i *importer) attestor(namespace, name string) string {
	return "projects/" + i.options.Project + "/attestors/" + namespace + "." + name
}

func (i *importer) namespace(namespace string, p *policies) {
	var checks []any
	if len(p.gaps) > 0 {
		i.rules[namespace], checks = i.attestations(namespace, p.gaps)
	} else if i.options.DefaultDeny {
		i.rules[namespace] = rule("ALWAYS_ALLOW", nil)
	}
	for _, isp := range p.isps {
		checks = append(checks, i.security(isp))
	}
	if len(checks) > 0 {
		i.checkSets = append(i.checkSets, object{
			"displayName": "namespace " + namespace,
			"scope":       object{"kubernetesNamespace": namespace},
			"checks":      checks,
		})
	}
}

func rule(mode string, attestors []string) object {
	r := object{"enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG", "evaluationMode": mode}
	if len(attestors) > 0 {
		r["requireAttestationsBy"] = attestors
	}
	return r
}

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

func (i *importer) reportDefault() {
	at := Meta{File: i.objects.source(), Line: 1}
	if all := i.namespaces; len(all) > 0 {
		at = all[slices.Sorted(maps.Keys(all))[0]].first()
	}
	if at.File == "" {
		at.File = "kritis"
	}
	if i.options.DefaultDeny {
		i.add(at, at.Line, Changed, DeniesMore, CodeDefault, "a namespace without policies admits nothing; Kritis admitted everything there")
		return
	}
	i.add(at, at.Line, Kept, "", CodeDefault, "a namespace without policies admits everything, as in Kritis")
}

func (i *importer) reportAuthorities() {
	for n := range i.objects.AttestationAuthorities {
		a := &i.objects.AttestationAuthorities[n]
		name := AttestorName(a.Namespace, a.Name)
		if i.attestorsOf[name] {
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeRepository, "AttestationAuthority %s is attestor %s: an attestation counts for its digest in every repository, not only in the one that was signed", a.key(), i.attestor(a.Namespace, a.Name))
		}
		if i.checked[name] {
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeRepository, "AttestationAuthority %s is in a check of the platform policy: an attestation counts for its digest in every repository, not only in the one that was signed", a.key())
		}
		switch {
		case !i.attestorsOf[name] && !i.checked[name]:
			i.add(a.Meta, a.Line, Dropped, "", CodeNotAdmission, "AttestationAuthority %s is no attestor, since no rule names it", a.key())
		case slices.ContainsFunc(a.Keys, func(k *signature.PublicKey) bool { return k.Algorithm() != signature.PGP }):
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeKeys, "the PKIX keys of AttestationAuthority %s count; Kritis used PGP keys only", a.key())
		}
	}
}

func (i *importer) reportOthers() {
	for n := range i.objects.BuildPolicies {
		p := &i.objects.BuildPolicies[n]
		i.add(p.Meta, p.Line, Dropped, "", CodeNotAdmission, "BuildPolicy %s says what a signer signs, not what may run", p.key())
	}
	for n := range i.objects.VulnzSigningPolicies {
		p := &i.objects.VulnzSigningPolicies[n]
		i.add(p.Meta, p.Line, Dropped, "", CodeNotAdmission, "VulnzSigningPolicy %s says what a signer signs, not what may run", p.key())
	}
	if c := i.objects.Config; c != nil {
		i.add(c.Meta, c.Line, Dropped, "", CodeNotAdmission, "KritisConfig %s configures Kritis' server", c.key())
	}
}

func (i *importer) result() (*Imported, document.Diagnostics) {
	mode := "ALWAYS_ALLOW"
	if i.options.DefaultDeny {
		mode = "ALWAYS_DENY"
	}
	text := object{
		"name":                       "projects/" + i.options.Project + "/policy",
		"description":                "Imported from the policies of Kritis",
		"globalPolicyEvaluationMode": "DISABLE",
		"defaultAdmissionRule":       rule(mode, nil),
	}
	if len(i.patterns) > 0 {
		text["admissionWhitelistPatterns"] = i.patterns
	}
	if len(i.rules) > 0 {
		text["kubernetesNamespaceAdmissionRules"] = i.rules
	}
	result := &Imported{Report: i.report}
	slices.SortStableFunc(result.Report, func(a, b Change) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	var err error
	if result.Policy, err = marshal(text); err == nil {
		result.Attestors, err = marshal(i.attestors())
	}
	if err == nil && len(i.checkSets) > 0 {
		result.Platform, err = marshal(i.platform())
	}
	if err != nil {
		return nil, document.Diagnostics{{File: "kritis", Message: "writing what was imported: " + err.Error()}}
	}
	return result, nil
}

func (i *importer) attestors() []any {
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(i.attestorsOf)) {
		a := i.authorities[name]
		var keys []any
		for _, k := range a.Keys {
			key := object{"id": k.ID()}
			if k.Algorithm() == signature.PGP {
				key["asciiArmoredPgpPublicKey"] = k.Marshal()
			} else {
				key["pkixPublicKey"] = object{"publicKeyPem": k.Marshal(), "signatureAlgorithm": string(k.Algorithm())}
			}
			keys = append(keys, key)
		}
		note := object{"noteReference": a.Note}
		if len(keys) > 0 {
			note["publicKeys"] = keys
		}
		list = append(list, object{
			"name":                 i.attestor(a.Namespace, a.Name),
			"description":          "AttestationAuthority " + a.key() + " of Kritis",
			"userOwnedGrafeasNote": note,
		})
	}
	return list
}

// platform is the platform policy. Its last check set is that of all other namespaces,
// where there is nothing to check.
func (i *importer) platform() object {
	gke := object{"checkSets": append(i.checkSets, object{"displayName": "namespaces without checks"})}
	if i.options.KritisImages {
		gke["imageAllowlist"] = object{"allowPattern": kritisImages()}
	}
	return object{
		"name":        "projects/" + i.options.Project + "/platforms/gke/policies/kritis",
		"description": "Imported from the policies of Kritis",
		"gkePolicy":   gke,
	}
}

// marshal writes a text in the form that all texts are brought into.
func marshal(v any) ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	return document.Format(text)
}

// cut bounds a display name.
func cut(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}
