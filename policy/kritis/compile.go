package kritis

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
)

// AuthorityMode says how many of its authorities must attest an image for a
// GenericAttestationPolicy. The text is the same in all versions of Kritis.
type AuthorityMode int

// The modes: all, as in Kritis since its last release, and any, as in v0.2.x.
const (
	AllAuthorities AuthorityMode = iota
	AnyAuthority
)

// PolicyMode says how many GenericAttestationPolicies of a namespace an image must
// satisfy.
type PolicyMode int

// The modes: any one, as in Kritis, and all.
const (
	AnyPolicy PolicyMode = iota
	AllPolicies
)

// Options say what objects mean. The zero Options are Kritis' meaning, without what
// let in images of which nothing was known.
type Options struct {
	Authorities AuthorityMode
	Policies    PolicyMode
	// PoolPatterns lets a pattern of one policy cover images for all policies of the
	// namespace where they must satisfy AllPolicies. With AnyPolicy it always does,
	// since a policy that is satisfied is enough.
	PoolPatterns bool
	// DefaultDeny denies all images in namespaces that have no policy. Kritis let
	// them in.
	DefaultDeny bool
	// AllowUnscanned lets in an image that no scan has finished for, and
	// AllowUnspecified one with vulnerabilities without a severity, unless the limit
	// is BLOCK_ALL. Kritis let in both.
	AllowUnscanned, AllowUnspecified bool
	// ScanProjects are the ids of the projects whose scans count; nil is "kritis",
	// where Kritis looked in a store of Grafeas. On Container Analysis it looked in
	// the project that the image's name has for its second component. That is not
	// done here: who names the image would choose who is believed.
	ScanProjects []string
	// KritisImages lets in Kritis' own images and Grafeas' server everywhere, as
	// Kritis did.
	KritisImages bool
}

const (
	rulesetName        = "kritis"
	defaultScanProject = "kritis"

	// What reasons call the checks.
	typeISP = "ImageSecurityPolicy"
	typeGAP = "GenericAttestationPolicy"

	// What decisions call the list that an exemption stands in.
	originPatterns  = "admissionAllowlistPatterns"
	originAllowlist = "imageAllowlist"
	originKritis    = "images of Kritis itself"

	// The default rule has a name for each of its two answers.
	defaultAllows = "no Kritis policy in the namespace"
	defaultDenies = "default rule for namespaces without Kritis policies"

	maxNamed = 3 // policies that the name of a check has
)

// kritisImages are what Kritis let in by repository, whatever the tag or digest.
func kritisImages() []string {
	return []string{
		"gcr.io/kritis-project/kritis-server", "gcr.io/kritis-project/preinstall", "gcr.io/kritis-project/postinstall",
		"gcr.io/kritis-project/predelete", "us.gcr.io/grafeas/grafeas-server",
	}
}

// AttestorName is what an authority is called in a Ruleset and in decisions. It has
// its namespace, since another one may have an authority of that name, and cannot be
// taken for an attestor of Binary Authorization, projects/P/attestors/A, which may be
// in force beside it.
func AttestorName(namespace, name string) string { return "kritis/" + namespace + "/" + name }

// Compile makes the Ruleset that enforces the policies. It is never nil. An authority
// that a policy names and that is not there is a warning, and denies.
func (o *Objects) Compile(options Options) (*policy.Ruleset, document.Diagnostics) {
	if o == nil {
		return &policy.Ruleset{}, document.Diagnostics{{File: "kritis", Message: "there are no objects to compile, and everything is denied"}}
	}
	c := compiler{objects: o, options: options, authorities: o.authorities()}
	c.rules = &policy.Ruleset{Name: rulesetName, Dialect: policy.Kritis, Source: o.source(), Attestors: map[string]policy.Attestor{}}
	if options.KritisImages {
		c.rules.Exempt = c.kritisImages()
	}
	namespaces := o.namespaces()
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		c.rules.Rules = append(c.rules.Rules, c.rule(namespace, namespaces[namespace]))
	}
	if len(namespaces) == 0 && !options.DefaultDeny {
		c.found = append(c.found, document.Diagnostic{
			File: o.anyFile(), Line: 1, Severity: document.Warning,
			Message: "there is no ImageSecurityPolicy and no GenericAttestationPolicy, and a namespace without them admits everything: so does this, everywhere",
		})
	}
	last := policy.Rule{ID: defaultAllows, Evaluation: policy.AlwaysAllow}
	if options.DefaultDeny {
		last = policy.Rule{ID: defaultDenies, Evaluation: policy.AlwaysDeny}
	}
	c.rules.Rules = append(c.rules.Rules, last)
	c.warnBackend()
	return build(c.rules), c.found
}

// anyFile names a file of objects that are no policies.
func (o *Objects) anyFile() string {
	for i := range o.AttestationAuthorities {
		return o.AttestationAuthorities[i].File
	}
	return "kritis"
}

type compiler struct {
	objects     *Objects
	options     Options
	authorities map[string]*AttestationAuthority
	rules       *policy.Ruleset
	found       document.Diagnostics
}

// policies are those of one namespace, in their order.
type policies struct {
	gaps []*GenericAttestationPolicy
	isps []*ImageSecurityPolicy
}

func (o *Objects) namespaces() map[string]*policies {
	all := map[string]*policies{}
	of := func(namespace string) *policies {
		if all[namespace] == nil {
			all[namespace] = &policies{}
		}
		return all[namespace]
	}
	for i := range o.GenericAttestationPolicies {
		p := &o.GenericAttestationPolicies[i]
		n := of(p.Namespace)
		n.gaps = append(n.gaps, p)
	}
	for i := range o.ImageSecurityPolicies {
		p := &o.ImageSecurityPolicies[i]
		n := of(p.Namespace)
		n.isps = append(n.isps, p)
	}
	return all
}

// first is where the rule of the namespace begins.
func (p *policies) first() Meta {
	var all []Meta
	for _, gap := range p.gaps {
		all = append(all, gap.Meta)
	}
	for _, isp := range p.isps {
		all = append(all, isp.Meta)
	}
	first := all[0]
	for _, m := range all {
		if m.File == first.File && m.Line < first.Line {
			first = m
		}
	}
	return first
}

func (o *Objects) authorities() map[string]*AttestationAuthority {
	byName := make(map[string]*AttestationAuthority, len(o.AttestationAuthorities))
	for i := range o.AttestationAuthorities {
		a := &o.AttestationAuthorities[i]
		byName[AttestorName(a.Namespace, a.Name)] = a
	}
	return byName
}

// source names the file of the policies, or the first of several.
func (o *Objects) source() string {
	files := map[string]bool{}
	for i := range o.GenericAttestationPolicies {
		files[o.GenericAttestationPolicies[i].File] = true
	}
	for i := range o.ImageSecurityPolicies {
		files[o.ImageSecurityPolicies[i].File] = true
	}
	names := slices.Sorted(maps.Keys(files))
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}

func (c *compiler) rule(namespace string, p *policies) policy.Rule {
	at := p.first()
	rule := policy.Rule{
		ID: "Kritis policies of namespace " + namespace, Scope: policy.Scope{Namespace: namespace},
		Evaluation: policy.RequireChecks, Line: at.Line, File: at.File,
	}
	switch {
	case len(p.gaps) == 0:
	case c.options.Policies == AllPolicies && !c.options.PoolPatterns:
		for _, gap := range p.gaps {
			rule.Checks = append(rule.Checks, c.attestations([]*GenericAttestationPolicy{gap}))
		}
	default:
		rule.Checks = append(rule.Checks, c.attestations(p.gaps))
	}
	for _, isp := range p.isps {
		rule.Checks = append(rule.Checks, c.security(isp))
	}
	return rule
}

// attestations is the check that an image satisfies one of the policies, or all, or that
// a pattern of any of them covers it.
func (c *compiler) attestations(gaps []*GenericAttestationPolicy) policy.Check {
	check := policy.Check{Type: typeGAP, Line: gaps[0].Line, File: gaps[0].File}
	var demands []policy.Condition
	var named []string
	for _, gap := range gaps {
		demands = append(demands, c.authoritiesOf(gap))
		named = append(named, gap.key())
		for _, p := range gap.Patterns {
			check.Exempt = append(check.Exempt, policy.Exemption{Pattern: p.Pattern, Origin: originPatterns, Line: p.Line, File: gap.File})
		}
	}
	if len(named) > maxNamed {
		named = append(named[:maxNamed], fmt.Sprintf("%d more", len(named)-maxNamed))
	}
	if c.options.Policies == AllPolicies {
		check.Name, check.Condition = strings.Join(named, " and "), policy.AllOf{Of: demands}
		return check
	}
	check.Name, check.Condition = strings.Join(named, " or "), policy.AnyOf{Of: demands}
	return check
}

// authoritiesOf is what one policy demands: nothing can satisfy it without
// authorities, or while one of them is not there.
func (c *compiler) authoritiesOf(gap *GenericAttestationPolicy) policy.Condition {
	name := typeGAP + " " + gap.key()
	if gap.Unreadable != "" {
		return policy.AllOf{Name: name, Of: []policy.Condition{policy.Never{Why: gap.Unreadable}}}
	}
	attested, missing := c.attested(gap.Meta, gap.Authorities)
	switch {
	case len(missing) > 0:
		return policy.AllOf{Name: name, Of: missing}
	case c.options.Authorities == AnyAuthority && len(attested) > 0:
		return policy.AllOf{Name: name, Of: []policy.Condition{policy.AnyOf{Of: attested}}}
	}
	if len(attested) > 1 && c.options.Authorities == AllAuthorities && slices.ContainsFunc(gap.Authorities, func(e Entry) bool {
		return c.authorities[AttestorName(gap.Namespace, e.Text)].Released
	}) {
		c.found = append(c.found, gap.warning(gap.Line, "%s: its authorities are of v0.2.x, where one of them was enough; here all %d must attest an image", name, len(attested)))
	}
	return policy.AllOf{Name: name, Of: attested}
}

// attested is the conditions that name authorities, and apart those of authorities
// that are not there. What is there is put into the Ruleset.
func (c *compiler) attested(by Meta, names []Entry) (found, missing []policy.Condition) {
	for _, e := range names {
		name := AttestorName(by.Namespace, e.Text)
		condition := policy.Attested{Attestor: name}
		a := c.authorities[name]
		if a == nil {
			c.found = append(c.found, by.warning(e.Line, "there is no AttestationAuthority %s/%s; until there is, %s denies every image that it does not let in by name", by.Namespace, e.Text, by.key()))
			missing = append(missing, condition)
			continue
		}
		found = append(found, condition)
		c.rules.Attestors[name] = a.compile()
	}
	return found, missing
}

func (a *AttestationAuthority) compile() policy.Attestor {
	return policy.Attestor{Name: AttestorName(a.Namespace, a.Name), Note: a.Note, Keys: keys.Compile(a.Keys), MatchRepository: true}
}

// security is the check of an ImageSecurityPolicy. That the image is named by its
// digest is part of the question what scans of it found.
func (c *compiler) security(isp *ImageSecurityPolicy) policy.Check {
	check := policy.Check{Type: typeISP, Name: isp.key(), Line: isp.Line, File: isp.File}
	if isp.Unreadable != "" {
		check.Condition = policy.Never{Why: isp.Unreadable}
		return check
	}
	for _, e := range isp.Allowlist {
		check.Exempt = append(check.Exempt, policy.Exemption{Pattern: image.ExactPattern(e.Text), Origin: originAllowlist, Line: e.Line, File: isp.File})
	}
	attested, missing := c.attested(isp.Meta, isp.Authorities)
	if len(missing) > 0 {
		check.Condition = policy.AllOf{Of: missing}
		return check
	}
	check.Condition = policy.AnyOf{Of: append(attested, c.options.vulnerabilities(isp.Requirements))}
	return check
}

func (o Options) scanProjects() []string {
	if o.ScanProjects == nil {
		return []string{defaultScanProject}
	}
	return o.ScanProjects
}

func (o Options) vulnerabilities(q Requirements) policy.Vulnerabilities {
	v := policy.Vulnerabilities{
		MaxFixable: q.MaxFixable.Severity, MaxUnfixable: q.MaxUnfixable.Severity,
		Projects: o.scanProjects(), UnscannedAllowed: o.AllowUnscanned, UnspecifiedAllowed: o.AllowUnspecified,
	}
	for _, e := range q.AllowedCVEs {
		if strings.Contains(e.Text, "/") { // a bare id would match in a Ruleset
			v.Allowed = append(v.Allowed, e.Text)
		}
	}
	return v
}

// kritisImages are the exemptions for Kritis' own images, whose patterns are known to
// parse.
func (c *compiler) kritisImages() []policy.Exemption {
	var list []policy.Exemption
	for _, text := range kritisImages() {
		pattern, err := image.ParsePlatformPattern(text)
		if err != nil {
			c.found = append(c.found, document.Diagnostic{File: originKritis, Line: 1, Message: err.Error()})
			continue
		}
		list = append(list, policy.Exemption{Pattern: pattern, Origin: originKritis})
	}
	return list
}

// warnBackend tells of scans in other projects than those that are looked at.
func (c *compiler) warnBackend() {
	if cfg := c.objects.Config; cfg != nil && !cfg.GrafeasBackend && c.options.ScanProjects == nil && len(c.objects.ImageSecurityPolicies) > 0 {
		c.found = append(c.found, cfg.warning(cfg.Line, "with metadataBackend %s, Kritis read scans in the project that the name of the image has; here scans count in project %s only, unless other projects are given", backendContainerAnalysis, defaultScanProject))
	}
}

// build finishes a Ruleset. Its version is of what it demands, and not of the texts:
// they may hold Secrets, of which not even a hash is kept.
func build(rules *policy.Ruleset) *policy.Ruleset {
	rules.Build()
	h := sha256.New()
	add := func(s string) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		_, _ = h.Write(size[:]) // a hash never fails
		_, _ = h.Write([]byte(s))
	}
	for _, e := range rules.Exempt {
		add(e.Pattern.String())
	}
	for i := range rules.Rules {
		add(rules.Rules[i].ID)
		add(rules.Rules[i].Scope.Namespace)
		add(rules.Rules[i].Hash())
	}
	rules.Version = hex.EncodeToString(h.Sum(nil))
	return rules
}
