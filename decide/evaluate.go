package decide

import (
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// spiffeScheme may stand before an Istio identity; policies leave it out or write
// it, and mean the same.
const spiffeScheme = "spiffe://"

// Decide says whether the pod of req may run under the policies in set, given what
// facts tell of its images. It is deterministic. An empty set means that no policy
// is installed.
func Decide(req Request, set policy.Set, facts evidence.Facts, now time.Time) Decision {
	d := Decision{
		BreakGlass:    req.BreakGlass,
		Justification: req.Justification,
		Time:          now,
		Images:        make([]ImageDecision, len(req.Images)),
	}
	uses := make([]use, len(req.Images))
	for i, u := range req.Images {
		uses[i] = parse(u, &facts)
		d.Images[i] = uses[i].begin()
	}
	if len(set) == 0 {
		return observe(d)
	}
	pod := ScopeOf(req)
	said := make([]PolicyDecision, len(set))
	for i, rules := range set {
		g := gate{rules: rules, now: now, named: len(set) > 1}
		said[i] = g.decide(&d, uses, pod, req.BreakGlass != "")
	}
	d.conclude(said)
	return d
}

// conclude takes together what the policies say.
func (d *Decision) conclude(said []PolicyDecision) {
	d.Allowed, d.Verdict = true, ALLOW
	for _, p := range said {
		allowed := p.Verdict == ALLOW || p.Override != NoOverride
		d.Allowed = d.Allowed && allowed
		d.Verdict = worse(d.Verdict, p.Verdict)
		if weight(p.Override) > weight(d.Override) {
			d.Override = p.Override
		}
	}
	if !d.Allowed {
		d.Override = NoOverride
	}
	for _, p := range said {
		if p.Verdict == d.Verdict {
			d.Deciding = p.Deciding
			break
		}
	}
	if len(said) > 1 {
		d.Policies = said
	}
	d.Summary = summarise(d)
}

// weight orders overrides by how much they are to be noticed.
func weight(o Override) int {
	switch o {
	case BreakGlass:
		return 4
	case FailOpen:
		return 3
	case LastAllowed:
		return 2
	case DryRun:
		return 1
	}
	return 0
}

// observe admits, since no one has said what may run, and says so.
func observe(d Decision) Decision {
	const message = "No policy is installed, so nothing was checked"
	d.Allowed, d.Verdict, d.Override, d.Summary = true, INDETERMINATE, NoPolicy, "allowed: no policy is installed"
	for i := range d.Images {
		d.Images[i].Verdict = INDETERMINATE
		d.Images[i].Reasons = []Reason{{Verdict: INDETERMINATE, Code: CodeNoPolicy, Message: message, Next: "install a policy"}}
	}
	return d
}

func summarise(d *Decision) string {
	switch {
	case d.Override == DryRun:
		return "allowed: the rule is a dry run; policy does not allow the request"
	case d.Override == FailOpen:
		return "allowed: the evidence could not be read, and the rule fails open"
	case d.Override == LastAllowed:
		return "allowed: the evidence could not be read, and the rule allowed the same images not long ago"
	case d.Override == BreakGlass:
		return "allowed: break-glass overrides policy, which does not allow the request"
	case len(d.Images) == 0 && d.Allowed:
		return "allowed: the request names no image"
	case d.Verdict == ALLOW:
		return "allowed: policy allows every image"
	case d.Verdict == INDETERMINATE:
		return "denied: the evidence could not be read"
	}
	return "denied: policy does not allow every image"
}

// ScopeOf returns the facts about a request that rules are chosen by.
func ScopeOf(req Request) policy.Scope {
	account := req.ServiceAccount
	if account == "" {
		account = "default"
	}
	return policy.Scope{
		Cluster:        req.Cluster,
		Namespace:      req.Namespace,
		ServiceAccount: req.Namespace + ":" + account,
		IstioIdentity:  strings.TrimPrefix(req.IstioIdentity, spiffeScheme),
	}
}

// worse returns the verdict of what needs both a and b.
func worse(a, b Verdict) Verdict {
	switch {
	case a == ALLOW && b == ALLOW:
		return ALLOW
	case (a == ALLOW || a == INDETERMINATE) && (b == ALLOW || b == INDETERMINATE):
		return INDETERMINATE
	}
	return DENY
}

// better returns the verdict of what needs only one of a and b.
func better(a, b Verdict) Verdict {
	switch {
	case a == ALLOW || b == ALLOW:
		return ALLOW
	case a == INDETERMINATE || b == INDETERMINATE:
		return INDETERMINATE
	}
	return DENY
}

// A use is an image of the request, parsed, with what is known of it.
type use struct {
	ImageUse
	ref   image.Reference
	err   error // why the text is no reference
	known evidence.Image
	built image.Digest // as its tag, if it is known
}

func parse(u ImageUse, facts *evidence.Facts) use {
	p := use{ImageUse: u}
	p.ref, p.err = image.Parse(u.Text)
	if p.err == nil && !p.ref.Digest().IsZero() {
		p.known = facts.Images[p.ref.Digest()]
	} else if len(facts.Built) > 0 {
		p.built = facts.Built[u.Text]
	}
	return p
}

// begin makes the decision on an image that no policy has been asked about.
func (u *use) begin() ImageDecision {
	return ImageDecision{Image: cut(u.Text, maxImageText), Container: u.Container, Type: u.Type, Digest: u.ref.Digest(), Verdict: ALLOW}
}

// hasDigest reports whether the text is a reference with a digest.
func (u *use) hasDigest() bool { return u.err == nil && !u.ref.Digest().IsZero() }

// A gate is one policy, deciding on the images of one pod.
type gate struct {
	rules *policy.Ruleset
	rule  *policy.Rule // nil if none is for the pod
	now   time.Time
	named bool // reasons tell their policy
}

// decide asks the policy about every image, and adds what it says to d.
func (g *gate) decide(d *Decision, uses []use, pod policy.Scope, breakGlass bool) PolicyDecision {
	g.rule, _ = g.rules.Select(pod)
	said := PolicyDecision{Deciding: g.deciding(), Verdict: ALLOW}
	bridged := true // each image that could not be checked was allowed before
	for i := range uses {
		u, id := &uses[i], &d.Images[i]
		v, exemption, reasons := g.image(u)
		said.Verdict = worse(said.Verdict, v)
		id.Verdict = worse(id.Verdict, v)
		if id.Exemption == "" {
			id.Exemption = exemption
		}
		if g.named {
			for j := range reasons {
				reasons[j].Policy = g.rules.Name
			}
		}
		id.Reasons = append(id.Reasons, reasons...)
		switch {
		case v == INDETERMINATE:
			bridged = bridged && g.allowedBefore(u)
		case v == ALLOW && exemption == "" && g.bridges() && u.hasDigest():
			d.Grants = append(d.Grants, Grant{u.ref.Digest(), evidence.Allowed{Rule: g.rule.Hash(), Policy: g.rules.Version, Time: g.now}})
		}
	}
	said.Override = g.override(said.Verdict, bridged, breakGlass)
	return said
}

func (g *gate) deciding() Deciding {
	d := Deciding{Policy: g.rules.Name, Dialect: g.rules.Dialect, PolicyVersion: g.rules.Version, Source: g.rules.Source}
	if d.Dialect == policy.BinaryAuthorization {
		d.Dialect = "" // which is what people have unless they say otherwise
	}
	if g.rule != nil {
		d.Rule = g.rule.ID
		d.Source = g.source(g.rule.File, g.rule.Line)
	}
	return d
}

// source returns FILE:LINE, where no file is that of the rule, or of the policy.
func (g *gate) source(file string, line int) string {
	if file == "" && g.rule != nil {
		file = g.rule.File
	}
	if file == "" {
		file = g.rules.Source
	}
	if line == 0 || file == "" {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// bridges reports whether the rule lets in what it allowed before.
func (g *gate) bridges() bool {
	return g.rule != nil && g.rule.OnUnavailable.LastAllowedWithin > 0 && g.rule.Hash() != ""
}

// allowedBefore reports whether the rule has allowed the image, not too long ago
// and not in the future.
func (g *gate) allowedBefore(u *use) bool {
	if !g.bridges() {
		return false
	}
	for _, a := range u.known.Allowed {
		if age := g.now.Sub(a.Time); a.Rule == g.rule.Hash() && age >= 0 && age <= g.rule.OnUnavailable.LastAllowedWithin {
			return true
		}
	}
	return false
}

// override returns what lets a request in that has the verdict, if anything does.
func (g *gate) override(v Verdict, bridged, breakGlass bool) Override {
	switch {
	case v == ALLOW:
		return NoOverride
	case g.rule != nil && g.rule.DryRun:
		return DryRun
	case v == INDETERMINATE && g.rule != nil && g.rule.OnUnavailable.Warn:
		return FailOpen
	case v == INDETERMINATE && bridged:
		return LastAllowed
	case breakGlass:
		return BreakGlass
	}
	return NoOverride
}

// image decides on one image: exemptions see the text as written, like the rules
// that look at no evidence, and so does Binary Authorization.
func (g *gate) image(u *use) (v Verdict, exemption string, reasons []Reason) {
	if e, ok := g.rules.Exempts(u.Text); ok {
		return ALLOW, e.Pattern.String(), []Reason{g.exempt(e, g.rules.Source)}
	}
	if g.rule == nil {
		return DENY, "", []Reason{{Code: CodeNoRule, Message: "No admission rule is for this pod", Next: "give the policy a default admission rule"}}
	}
	switch g.rule.Evaluation {
	case policy.AlwaysAllow:
		return ALLOW, "", []Reason{{Verdict: ALLOW, Code: CodeAlwaysAllow, Message: "Allowed by always_allow admission rule"}}
	case policy.RequireChecks:
		if e, ok := policy.Exempts(g.rule.Exempt, u.Text); ok {
			return ALLOW, e.Pattern.String(), []Reason{g.exempt(e, g.rule.File)}
		}
		v, reasons := g.checks(u)
		return v, "", reasons
	}
	return DENY, "", []Reason{{
		Code:    CodeAlwaysDeny,
		Message: "Denied by always_deny admission rule",
		Next:    "no image may run here unless the policy exempts it; ask the owners of the policy",
	}}
}

func (g *gate) exempt(e policy.Exemption, file string) Reason {
	r := Reason{Verdict: ALLOW, Code: CodeExempt, Exemption: e.Pattern.String()}
	r.Message = "Exempt: pattern " + r.Exemption + " of the " + e.Origin + " covers the image"
	if e.Line > 0 {
		r.Source = g.source(file, e.Line)
	}
	return r
}

// checks asks every check of the rule. A rule without any is satisfied by nothing.
func (g *gate) checks(u *use) (Verdict, []Reason) {
	if len(g.rule.Checks) == 0 {
		return DENY, []Reason{{
			Code:    CodeAttestorMissing,
			Message: "Denied by require_attestation admission rule: the rule names no attestor",
			Next:    "name an attestor in the rule's requireAttestationsBy",
		}}
	}
	verdict := ALLOW
	reasons := make([]Reason, 0, len(g.rule.Checks))
	told := false // evidence is read for the image, not for each check
	for i := range g.rule.Checks {
		v, more := g.check(i, u)
		verdict = worse(verdict, v)
		for _, r := range more {
			if r.Code == CodeEvidenceUnavailable && told {
				continue
			}
			told = told || r.Code == CodeEvidenceUnavailable
			reasons = append(reasons, r)
		}
	}
	return verdict, reasons
}

func (g *gate) check(index int, u *use) (Verdict, []Reason) {
	c := &g.rule.Checks[index]
	var v Verdict
	var reasons []Reason
	if e, ok := policy.Exempts(c.Exempt, u.Text); ok {
		v, reasons = ALLOW, []Reason{g.exempt(e, c.File)}
	} else {
		v, reasons = g.condition(c.Condition, u)
	}
	source := ""
	if c.Line > 0 {
		source = g.source(c.File, c.Line)
	}
	var ref *CheckRef
	if c.Type != "" {
		ref = &CheckRef{Index: index, Name: c.Name, Type: c.Type}
	}
	for i := range reasons {
		reasons[i].Check = ref
		if reasons[i].Source == "" {
			reasons[i].Source = source
		}
	}
	return v, reasons
}
