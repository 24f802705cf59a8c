package decide

import (
	"slices"
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
	now = now.UTC() // whatever the clock of a door is set to
	d := Decision{
		BreakGlass:    req.BreakGlass,
		Justification: req.Justification,
		Time:          now,
		Images:        make([]ImageDecision, len(req.Images)),
	}
	uses := make([]use, len(req.Images))
	for i, u := range req.Images {
		uses[i] = parse(u, &facts)
		uses[i].unpinned = unpinned(req.Unpinned, u.Text)
		d.Images[i] = uses[i].begin()
	}
	if len(set) == 0 {
		return observe(d)
	}
	set = set.In(req.Namespace)
	pod := ScopeOf(req)
	said := make([]PolicyDecision, len(set))
	waiver := ""
	for i, rules := range set {
		if rules == nil {
			rules = &policy.Ruleset{} // which denies
		}
		g := gate{rules: rules, namespace: req.Namespace, now: now, named: len(set) > 1}
		said[i] = g.decide(&d, uses, pod, req.BreakGlass != "")
		if waiver == "" {
			waiver = g.waiver
		}
	}
	d.conclude(said)
	if d.Override == DryRun && waiver != "" {
		d.Summary = "allowed: " + waiver + " has denials only recorded; policy does not allow the request"
	}
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
	d.Deciding = deciding(said, d.Allowed)
	if len(said) > 1 {
		d.Policies = said
	}
	d.Summary = summarise(d)
}

// deciding returns the policy with the worst verdict, the first of those; of a request
// that is not let in, among the policies that do not let it in.
func deciding(said []PolicyDecision, allowed bool) Deciding {
	worst := -1
	for i, p := range said {
		if !allowed && (p.Verdict == ALLOW || p.Override != NoOverride) {
			continue
		}
		if worst < 0 || (p.Verdict != said[worst].Verdict && worse(p.Verdict, said[worst].Verdict) == p.Verdict) {
			worst = i
		}
	}
	return said[worst].Deciding
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
	hints []evidence.Hint
	// unpinned is why its tag has no digest, if somebody said so.
	unpinned string
}

// unpinned finds what is said of an image.
func unpinned(said, image string) string {
	for line := range strings.Lines(said) {
		if why, ok := strings.CutPrefix(line, image+": "); ok {
			return cut(plain(strings.TrimSpace(why)), maxDetail)
		}
	}
	return ""
}

func parse(u ImageUse, facts *evidence.Facts) use {
	p := use{ImageUse: u}
	p.ref, p.err = image.Parse(u.Text)
	if len(facts.Hints) > 0 {
		p.hints = facts.Hints[u.Text]
	}
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
	rules     *policy.Ruleset
	rule      *policy.Rule // nil if none is for the pod
	namespace string
	now       time.Time
	named     bool // reasons tell their policy
	// waiver is what lets in what the policy denies, and was needed.
	waiver string
}

// decide asks the policy about every image, and adds what it says to d.
func (g *gate) decide(d *Decision, uses []use, pod policy.Scope, breakGlass bool) PolicyDecision {
	g.rule, _ = g.rules.Select(pod)
	said := PolicyDecision{Deciding: g.deciding(), Verdict: ALLOW}
	// Whether no image is in doubt but for evidence that could not be read, and
	// whether each that is was allowed before.
	unread, bridged := true, true
	for i := range uses {
		u, id := &uses[i], &d.Images[i]
		before := len(id.Reasons)
		v, exemption := g.image(u, (*reasons)(&id.Reasons))
		said.Verdict = worse(said.Verdict, v)
		id.Verdict = worse(id.Verdict, v)
		if id.Exemption == "" {
			id.Exemption = exemption
		}
		if g.named {
			for j := range id.Reasons[before:] {
				id.Reasons[before+j].Policy = g.rules.Name
			}
		}
		switch {
		case v == INDETERMINATE:
			unread = unread && u.known.State != evidence.Known
			bridged = bridged && g.allowedBefore(u)
		case v == ALLOW && exemption == "" && g.bridges() && u.hasDigest():
			d.Grants = append(d.Grants, Grant{u.ref.Digest(), evidence.Allowed{Image: u.Text, Rule: g.rule.Hash(), Policy: g.rules.Version, Time: g.now}})
		}
	}
	said.Override = g.override(said.Verdict, unread, unread && bridged, breakGlass)
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

// allowedBefore reports whether the rule has allowed the image, spelt the same, not
// too long ago and not in the future.
func (g *gate) allowedBefore(u *use) bool {
	if !g.bridges() {
		return false
	}
	for _, a := range u.known.Allowed {
		if age := g.now.Sub(a.Time); a.Rule == g.rule.Hash() && a.Image == u.Text && age >= 0 && age <= g.rule.OnUnavailable.LastAllowedWithin {
			return true
		}
	}
	return false
}

// override returns what lets a request in that has the verdict, if anything does.
func (g *gate) override(v Verdict, unread, bridged, breakGlass bool) Override {
	switch {
	case v == ALLOW:
		return NoOverride
	case g.rule != nil && g.rule.DryRun:
		return DryRun
	case g.waived():
		return DryRun
	case v == INDETERMINATE && unread && g.rule != nil && g.rule.OnUnavailable.Warn:
		return FailOpen
	case v == INDETERMINATE && bridged:
		return LastAllowed
	case breakGlass:
		return BreakGlass
	}
	return NoOverride
}

// waived reports whether what the policy denies is let in here, and recorded, and notes
// by what.
func (g *gate) waived() bool {
	w, ok := g.rules.Waives(g.namespace, g.now)
	g.waiver = w.Name
	return ok
}

// reasons are collected in place: they are large, and there is one for each check.
type reasons []Reason

// add adds a reason, and returns what it says.
func (out *reasons) add(r Reason) Verdict {
	*out = append(*out, r)
	return r.Verdict
}

// image decides on one image: exemptions see the text as written, like the rules
// that look at no evidence, and so does Binary Authorization.
func (g *gate) image(u *use, out *reasons) (v Verdict, exemption string) {
	if e, ok := g.rules.Exempts(u.Text, g.namespace, g.now); ok {
		return out.add(g.exempt(e, g.rules.Source)), e.Pattern.String()
	}
	if g.rule == nil {
		return out.add(Reason{Code: CodeNoRule, Message: "No admission rule is for this pod", Next: "give the policy a default admission rule"}), ""
	}
	switch g.rule.Evaluation {
	case policy.AlwaysAllow:
		return out.add(Reason{Verdict: ALLOW, Code: CodeAlwaysAllow, Message: "Allowed by always_allow admission rule"}), ""
	case policy.RequireChecks:
		if e, ok := g.rule.Exempts(u.Text); ok {
			return out.add(g.exempt(e, g.rule.File)), e.Pattern.String()
		}
		return g.checks(u, out), ""
	}
	return out.add(Reason{
		Code:    CodeAlwaysDeny,
		Message: "Denied by always_deny admission rule",
		Next:    "no image may run here unless the policy exempts it; ask the owners of the policy",
	}), ""
}

func (g *gate) exempt(e policy.Exemption, file string) Reason {
	r := Reason{Verdict: ALLOW, Code: CodeExempt, Exemption: e.Pattern.String()}
	r.Message = "Exempt: pattern " + r.Exemption + " of the " + e.Origin + " covers the image"
	if e.File != "" {
		file = e.File
	}
	if e.Line > 0 {
		r.Source = g.source(file, e.Line)
	}
	return r
}

// checks asks every check of the rule. A rule without any is satisfied by nothing.
func (g *gate) checks(u *use, out *reasons) Verdict {
	if len(g.rule.Checks) == 0 {
		return out.add(Reason{
			Code:    CodeAttestorMissing,
			Message: "Denied by require_attestation admission rule: the rule names no attestor",
			Next:    "name an attestor in the rule's requireAttestationsBy",
		})
	}
	verdict := ALLOW
	*out = slices.Grow(*out, len(g.rule.Checks))
	told := false // evidence is read for the image, not for each check
	for i := range g.rule.Checks {
		before := len(*out)
		verdict = worse(verdict, g.check(i, u, out))
		kept := (*out)[:before]
		for _, r := range (*out)[before:] {
			if r.Code != CodeEvidenceUnavailable || !told {
				kept = append(kept, r)
			}
			told = told || r.Code == CodeEvidenceUnavailable
		}
		*out = kept
	}
	return verdict
}

func (g *gate) check(index int, u *use, out *reasons) (v Verdict) {
	c := &g.rule.Checks[index]
	before := len(*out)
	if e, ok := c.Exempts(u.Text); ok {
		v = out.add(g.exempt(e, c.File))
	} else {
		v = g.condition(c.Condition, u, out)
	}
	source := ""
	if c.Line > 0 {
		source = g.source(c.File, c.Line)
	}
	var ref *CheckRef
	if c.Type != "" {
		ref = &CheckRef{Index: index, Name: c.Name, Type: c.Type}
	}
	for i := range (*out)[before:] {
		r := &(*out)[before+i]
		r.Check = ref
		if r.Source == "" {
			r.Source = source
		}
	}
	return v
}
