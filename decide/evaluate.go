package decide

import (
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	// spiffeScheme may stand before an Istio identity; policies leave it out or
	// write it, and mean the same.
	spiffeScheme = "spiffe://"
	// maxDetails bounds how many attestations that do not count are listed for
	// one attestor. Whoever may write occurrences can add as many as he likes.
	maxDetails = 3
)

// Decide says whether the pod of req may run under rules, given what ev knows
// about its images. It is deterministic: now is only recorded. A nil rules means
// that no policy is installed.
func Decide(req Request, rules *policy.Ruleset, ev evidence.Set, now time.Time) Decision {
	d := Decision{
		BreakGlass:    req.BreakGlass,
		Justification: req.Justification,
		Time:          now,
		Images:        make([]ImageDecision, 0, len(req.Images)),
	}
	if rules == nil {
		return observe(d, req.Images)
	}
	g := gate{rules: rules, evidence: ev}
	g.rule, g.hasRule = rules.Select(scopeOf(req))
	d.Policy, d.PolicyVersion, d.Rule = rules.Name, rules.Version, g.rule.ID

	d.Verdict = ALLOW
	for _, use := range req.Images {
		id := g.image(use)
		d.Verdict = worse(d.Verdict, id.Verdict)
		d.Images = append(d.Images, id)
	}
	d.Override, d.Allowed = settle(d.Verdict, g.rule, req.BreakGlass != "")
	d.Summary = summarise(d)
	return d
}

// observe admits, since no one has said what may run, and says so.
func observe(d Decision, images []ImageUse) Decision {
	const message = "No policy is installed, so nothing was checked"
	d.Allowed, d.Verdict, d.Override, d.Summary = true, INDETERMINATE, NoPolicy, "allowed: no policy is installed"
	for _, use := range images {
		id, _, _ := begin(use)
		id.settle(INDETERMINATE, Reason{Code: CodeNoPolicy, Message: message, Next: "install a policy"})
		d.Images = append(d.Images, id)
	}
	return d
}

// settle answers the request: by its verdict, or by what overrides it.
func settle(v Verdict, rule policy.Rule, breakGlass bool) (Override, bool) {
	switch {
	case v == ALLOW:
		return NoOverride, true
	case rule.DryRun:
		return DryRun, true
	case v == INDETERMINATE && rule.OnUnavailable == policy.Warn:
		return FailOpen, true
	case breakGlass:
		return BreakGlass, true
	}
	return NoOverride, false
}

func summarise(d Decision) string {
	switch {
	case d.Override == DryRun:
		return "allowed: the rule is a dry run; policy does not allow the request"
	case d.Override == FailOpen:
		return "allowed: the evidence could not be read, and the rule fails open"
	case d.Override == BreakGlass:
		return "allowed: break-glass overrides policy, which does not allow the request"
	case len(d.Images) == 0:
		return "allowed: the request names no image"
	case d.Verdict == ALLOW:
		return "allowed: policy allows every image"
	case d.Verdict == INDETERMINATE:
		return "denied: the evidence could not be read"
	}
	return "denied: policy does not allow every image"
}

func scopeOf(req Request) policy.Scope {
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

// worse returns the verdict that a request has when its images have a and b.
func worse(a, b Verdict) Verdict {
	switch {
	case a == ALLOW && b == ALLOW:
		return ALLOW
	case (a == ALLOW || a == INDETERMINATE) && (b == ALLOW || b == INDETERMINATE):
		return INDETERMINATE
	}
	return DENY
}

// A gate decides on the images of one pod.
type gate struct {
	rules    *policy.Ruleset
	rule     policy.Rule
	hasRule  bool
	evidence evidence.Set
}

// begin makes the decision on an image that is not settled yet, and so denies.
func begin(use ImageUse) (ImageDecision, image.Reference, error) {
	ref, err := image.Parse(use.Text)
	return ImageDecision{Image: cut(use.Text, maxImageText), Container: use.Container, Type: use.Type, Digest: ref.Digest()}, ref, err
}

func (id *ImageDecision) settle(v Verdict, reasons ...Reason) {
	id.Verdict, id.Reasons = v, reasons
}

// image decides on one image: exemptions see the text as written, like the rules
// that look at no evidence, and so does Binary Authorization.
func (g *gate) image(use ImageUse) ImageDecision {
	id, ref, parseErr := begin(use)
	if e, ok := g.rules.Exempts(use.Text); ok {
		id.Exemption = e.Pattern.String()
		id.settle(ALLOW, Reason{Code: CodeExempt, Message: "Exempt: pattern " + id.Exemption + " of the " + e.Origin + " covers the image"})
		return id
	}
	if !g.hasRule {
		id.settle(DENY, Reason{Code: CodeNoRule, Message: "No admission rule is for this pod", Next: "give the policy a default admission rule"})
		return id
	}
	switch g.rule.Evaluation {
	case policy.AlwaysAllow:
		id.settle(ALLOW, Reason{Code: CodeAlwaysAllow, Message: "Allowed by always_allow admission rule"})
	case policy.RequireAttestation:
		g.requireAttestation(&id, ref, parseErr)
	default:
		id.settle(DENY, Reason{
			Code:    CodeAlwaysDeny,
			Message: "Denied by always_deny admission rule",
			Next:    "no image may run here unless the policy exempts it; ask the owners of the policy",
		})
	}
	return id
}

// requireAttestation settles id by REQUIRE_ATTESTATION. Every attestor of the
// rule must be satisfied, and a rule that names none is satisfied by nothing.
func (g *gate) requireAttestation(id *ImageDecision, ref image.Reference, parseErr error) {
	if len(g.rule.Attestors) == 0 {
		id.settle(DENY, Reason{
			Code:    CodeAttestorMissing,
			Message: "Denied by require_attestation admission rule: the rule names no attestor",
			Next:    "name an attestor in the rule's requireAttestationsBy",
		})
		return
	}
	if parseErr != nil || ref.Digest().IsZero() {
		id.settle(DENY, g.notDigested(id.Image, ref, parseErr))
		return
	}
	known := g.evidence[ref.Digest()]
	verdict := ALLOW
	reasons := make([]Reason, 0, len(g.rule.Attestors))
	told := false
	for _, name := range g.rule.Attestors {
		v, reason := g.attestor(name, ref, &known)
		verdict = worse(verdict, v)
		if v == INDETERMINATE && told {
			continue // evidence is read for the image, not for each attestor
		}
		told = told || v == INDETERMINATE
		reasons = append(reasons, reason)
	}
	id.settle(verdict, reasons...)
}

// attestor asks whether one attestor that the rule names is satisfied.
func (g *gate) attestor(name string, ref image.Reference, known *evidence.Image) (Verdict, Reason) {
	a, ok := g.rules.Attestors[name]
	switch {
	case !ok:
		return DENY, Reason{
			Code:     CodeAttestorMissing,
			Attestor: name,
			Message:  deniedBy(ref.String(), name, "The attestor does not exist"),
			Next:     "create attestor " + name + ", or take it out of the rule",
		}
	case len(a.Keys) == 0 || a.Note == "":
		return DENY, notAttested(name, a, ref, []string{"the attestor has no public keys or no note, so that no attestation can satisfy it"})
	case known.State != evidence.Known:
		return INDETERMINATE, unavailable(ref, known.Err)
	}
	best := -1
	for i := range known.Attestations {
		att := &known.Attestations[i]
		if counts(a, ref, att) && (best < 0 || newer(att, &known.Attestations[best])) {
			best = i
		}
	}
	if best < 0 {
		return DENY, notAttested(name, a, ref, foundInstead(a, ref, known))
	}
	att := &known.Attestations[best]
	return ALLOW, Reason{
		Code:       CodeAttested,
		Attestor:   name,
		KeyID:      att.KeyID,
		Occurrence: att.Occurrence,
		Message:    "Attested by " + name,
	}
}

// counts reports whether att satisfies a for the image ref.
func counts(a policy.Attestor, ref image.Reference, att *evidence.Attestation) bool {
	return att.Note == a.Note && a.Trusts(att.Fingerprint) &&
		(!a.MatchRepository || att.Repository == ref.Repository())
}

// newer orders attestations that all count, so that whichever order they come
// in, the same one is named.
func newer(a, b *evidence.Attestation) bool {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c > 0
	}
	return a.Occurrence < b.Occurrence
}

func (g *gate) notDigested(text string, ref image.Reference, parseErr error) Reason {
	const expected = "Expected digest with sha256 scheme, but got tag or malformed digest"
	r := Reason{Code: CodeNoDigest, Attestor: g.rule.Attestors[0], Message: deniedBy(text, g.rule.Attestors[0], expected)}
	if parseErr != nil {
		r.Code = CodeInvalidReference
		r.Details = []string{parseErr.Error()}
		r.Next = "correct the image reference; REGISTRY/REPOSITORY@sha256:… is the form to use"
		return r
	}
	r.Next = "write " + ref.Name() + "@sha256:…; the digest that the tag has now is what your registry or 'crane digest " + ref.String() + "' prints"
	return r
}

func notAttested(name string, a policy.Attestor, ref image.Reference, details []string) Reason {
	r := Reason{
		Code:     CodeNotAttested,
		Attestor: name,
		Message:  deniedBy(ref.String(), name, "No attestations found that were valid and signed by a key trusted by the attestor"),
		Details:  details,
	}
	if _, note, ok := strings.Cut(a.Note, "/notes/"); ok {
		r.Next = "gatehouse check --check " + note + " " + ref.String()
	}
	return r
}

func unavailable(ref image.Reference, cause string) Reason {
	if cause == "" {
		cause = "it was not loaded"
	}
	return Reason{
		Code:    CodeEvidenceUnavailable,
		Message: "The evidence about image " + plain(ref.String()) + " could not be read: " + plain(cause),
		Next:    "try again in a moment; if it stays, tell the operators of the gate",
	}
}

// foundInstead tells what is filed under the attestor's note and does not count.
func foundInstead(a policy.Attestor, ref image.Reference, known *evidence.Image) []string {
	var details []string
	left := 0
	add := func(parts ...string) {
		if len(details) < maxDetails {
			details = append(details, plain(strings.Join(parts, "")))
			return
		}
		left++
	}
	for i := range known.Attestations {
		att := &known.Attestations[i]
		switch {
		case att.Note != a.Note:
		case !a.Trusts(att.Fingerprint):
			add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, "), and the attestor does not trust that key")
		default:
			add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, ") for repository ", att.Repository, ", and the image is of ", ref.Repository())
		}
	}
	for i := range known.Rejected {
		if r := &known.Rejected[i]; r.Note == a.Note {
			add("the attestation ", r.Occurrence, " ", r.Reason)
		}
	}
	if left > 0 {
		details = append(details, "and "+strconv.Itoa(left)+" more that do not count")
	}
	return details
}

func deniedBy(text, attestor, why string) string {
	return "Image " + plain(text) + " denied by attestor " + attestor + ": " + why
}
