// Package decide is the gate: a pure function from a request, policies and facts to
// a [Decision] with its reasons. It does no I/O, keeps no state and reads no clock.
// An error is never an allow: the zero [Verdict] is DENY, and what could not be
// checked is INDETERMINATE.
//
// [Decide] asks each policy of a [policy.Set] about each image of a pod, in this order:
//
//  1. An image that an exemption of the policy covers is allowed, by the system
//     policy first; tags are fine here.
//  2. For every other image the first rule for the pod speaks. ALWAYS_ALLOW and
//     ALWAYS_DENY say so themselves; else exemptions of the rule let images in, and
//     what is left must pass every check of the rule.
//  3. The request has the worst verdict of its images and of the policies: DENY,
//     then INDETERMINATE, then ALLOW. No images is ALLOW, since there is nothing
//     to run.
//  4. What a policy does not allow may still be let in, and [Decision].Override
//     says by what: the rule is a dry run; the verdict is INDETERMINATE and the
//     rule fails open, or has allowed the same images not long ago; or the pod
//     carries the break-glass marker. They are asked in this order, for each
//     policy, so that BREAK_GLASS means that nothing else would have let the pod
//     in, and is worth waking someone for.
//
// Without a policy (an empty Set) everything is let in, with verdict INDETERMINATE
// and override NO_POLICY. A zero Ruleset denies everything.
//
// A Decision is stored and sent as JSON; its field names and codes are stable,
// and testdata/decision.json shows one of each kind. The same request, policies,
// facts and time give the same bytes at every door. [Message] puts a denial into
// words for the person who is blocked.
package decide

import (
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// A Verdict is what policy says of an image or of a request.
type Verdict int

// The verdicts. The zero value denies.
const (
	DENY Verdict = iota
	ALLOW
	INDETERMINATE
)

var verdictNames = [...]string{DENY: "DENY", ALLOW: "ALLOW", INDETERMINATE: "INDETERMINATE"}

// String returns "DENY", "ALLOW" or "INDETERMINATE".
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdictNames) {
		return verdictNames[DENY]
	}
	return verdictNames[v]
}

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("unknown verdict %q", text)
}

// ContainerType says where in a pod an image stands.
type ContainerType string

// The places, in the words of Binary Authorization's continuous validation
// events, and image volumes, which it does not know.
const (
	Container          ContainerType = "CONTAINER"
	InitContainer      ContainerType = "INIT_CONTAINER"
	EphemeralContainer ContainerType = "EPHEMERAL_CONTAINER"
	ImageVolume        ContainerType = "IMAGE_VOLUME"
)

// A Request asks whether a pod may run.
type Request struct {
	Cluster        string // LOCATION.NAME
	Namespace      string
	ServiceAccount string // name within Namespace; "" means "default"
	IstioIdentity  string
	Images         []ImageUse
	// BreakGlass is the marker on the pod that asks to override a denial, such
	// as "label image-policy.k8s.io/break-glass"; "" when there is none.
	BreakGlass string
	// Justification is the reason given for breaking glass.
	Justification string
	// Unpinned says why tags have no digest, a line "IMAGE: REASON" for each. It is the
	// requester's word, explains a denial, and supports nothing.
	Unpinned string
}

// An ImageUse is one image of the pod, as the manifest spells it.
type ImageUse struct {
	Container string // name of the container or volume
	Type      ContainerType
	Text      string
}

// Override names what let a request in that policy did not allow.
type Override string

// The overrides. They are in [Decision].Override only when they were needed.
const (
	NoOverride Override = ""
	BreakGlass Override = "BREAK_GLASS"
	DryRun     Override = "DRY_RUN"
	NoPolicy   Override = "NO_POLICY"
	FailOpen   Override = "FAIL_OPEN"
	// LastAllowed is an outage bridged by what the same rule allowed before it.
	LastAllowed Override = "LAST_ALLOWED"
)

// A Decision is the answer to a Request, and why.
type Decision struct {
	// Allowed is what the door answers.
	Allowed bool `json:"allowed"`
	// Verdict is what policy says, whatever overrides it.
	Verdict  Verdict  `json:"verdict"`
	Override Override `json:"override,omitempty"`
	// BreakGlass is set whenever the marker was present, needed or not.
	BreakGlass    string `json:"breakGlass,omitempty"`
	Justification string `json:"justification,omitempty"`
	// Deciding is the policy with the worst verdict, the first of those; of a request
	// that is not let in, among those that keep it out.
	Deciding
	// Policies are all that were asked, if they are several.
	Policies []PolicyDecision `json:"policies,omitempty"`
	// Summary says in one sentence why Allowed is what it is.
	Summary string          `json:"summary"`
	Time    time.Time       `json:"time"`
	Images  []ImageDecision `json:"images"`
	// Grants are the images that rules with [policy.OnUnavailable].LastAllowedWithin
	// have allowed by evidence. The door keeps them and gives them back as facts.
	Grants []Grant `json:"-"`
}

// Deciding names a policy, and the rule of it that speaks.
type Deciding struct {
	Policy        string         `json:"policy,omitempty"`
	Dialect       policy.Dialect `json:"dialect,omitempty"`
	PolicyVersion string         `json:"policyVersion,omitempty"`
	Rule          string         `json:"rule,omitempty"`
	// Source is FILE:LINE of the rule, or FILE of the policy.
	Source string `json:"source,omitempty"`
}

// A PolicyDecision is what one policy says of the request.
type PolicyDecision struct {
	Deciding
	Verdict  Verdict  `json:"verdict"`
	Override Override `json:"override,omitempty"`
}

// A Grant is an image that a rule has allowed by evidence.
type Grant struct {
	Digest  image.Digest
	Allowed evidence.Allowed
}

// An ImageDecision is the verdict on one image.
type ImageDecision struct {
	// Image is the reference as the manifest spells it, cut after 1 KiB, which
	// no reference that a registry can serve reaches.
	Image     string        `json:"image"`
	Container string        `json:"container,omitempty"`
	Type      ContainerType `json:"containerType,omitempty"`
	Digest    image.Digest  `json:"digest,omitzero"`
	Verdict   Verdict       `json:"verdict"`
	// Exemption is the pattern that exempted the image from a policy or a rule.
	Exemption string   `json:"exemption,omitempty"`
	Reasons   []Reason `json:"reasons"`
}

// A Reason explains a verdict to the person who has to act on it: what one check
// says, or the state of one attestor.
type Reason struct {
	Verdict Verdict `json:"verdict"`
	Code    Code    `json:"code"`
	// Message is a sentence in the words of Binary Authorization where it has one.
	Message string `json:"message"`
	// Policy is the name of the policy, if several were asked.
	Policy string `json:"policy,omitempty"`
	// Check is the check that says so, where a policy names its checks.
	Check *CheckRef `json:"check,omitempty"`
	// Alternative names one of several ways to pass the check.
	Alternative string `json:"alternative,omitempty"`
	// Source is FILE:LINE of what demands this.
	Source   string `json:"source,omitempty"`
	Attestor string `json:"attestor,omitempty"`
	// KeyID and Occurrence name the statement that satisfied the attestor.
	KeyID      string `json:"keyId,omitempty"`
	Occurrence string `json:"occurrence,omitempty"`
	// Exemption is the pattern that waived the check.
	Exemption string `json:"exemption,omitempty"`
	// Details tell what was found and does not count, such as an attestation by
	// a key that the attestor does not trust.
	Details []string `json:"details,omitempty"`
	// Required says what would have to be true.
	Required string `json:"required,omitempty"`
	// Next says what to do about it, when something can be done.
	Next string `json:"next,omitempty"`
}

// A CheckRef names a check of a rule.
type CheckRef struct {
	Index int    `json:"index"`
	Name  string `json:"name,omitempty"`
	Type  string `json:"type"`
}

// Code classifies a Reason for programs.
type Code string

// The codes.
const (
	CodeExempt              Code = "EXEMPT"
	CodeAlwaysAllow         Code = "ALWAYS_ALLOW"
	CodeAlwaysDeny          Code = "ALWAYS_DENY"
	CodeAttested            Code = "ATTESTED"
	CodeNotAttested         Code = "NOT_ATTESTED"
	CodeDigest              Code = "DIGEST"
	CodeNoDigest            Code = "NO_DIGEST"
	CodeInvalidReference    Code = "INVALID_REFERENCE"
	CodeAttestorMissing     Code = "ATTESTOR_MISSING" // the rule names none, or one that is not there
	CodeEvidenceUnavailable Code = "EVIDENCE_UNAVAILABLE"
	CodeNoPolicy            Code = "NO_POLICY"
	CodeNoRule              Code = "NO_RULE"
	CodeUnreadable          Code = "POLICY_UNREADABLE"
	CodeNoCheck             Code = "NO_CHECK" // the rule requires checks, and has none that is known

	CodeScanned       Code = "SCANNED" // and nothing was found beyond the limits
	CodeVulnerable    Code = "VULNERABLE"
	CodeNotScanned    Code = "NOT_SCANNED"
	CodeScanTruncated Code = "SCAN_TRUNCATED" // more was found than is known of
	CodeFresh         Code = "FRESH"
	CodeStale         Code = "STALE"
	CodeUploadUnknown Code = "UPLOAD_UNKNOWN"
	CodeTrusted       Code = "TRUSTED_DIRECTORY"
	CodeNotTrusted    Code = "NOT_IN_TRUSTED_DIRECTORY"
	CodeBuilt         Code = "BUILT"
	CodeNotBuilt      Code = "NOT_BUILT" // as required

	CodeHinted    Code = "HINTED"     // a rollout hint says that it is meant to run
	CodeNotHinted Code = "NOT_HINTED" // and says that another is, or none
	CodeUnhinted  Code = "UNHINTED"   // none is about it
)

// Overrides returns all that let the request in against policies, each once. A
// request that is not let in has none.
func (d *Decision) Overrides() []Override {
	if !d.Allowed {
		return nil
	}
	var list []Override
	add := func(o Override) {
		if o != NoOverride && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	add(d.Override)
	for _, p := range d.Policies {
		add(p.Override)
	}
	return list
}

// Codes returns the codes of all reasons, each once, in their order.
func (d *Decision) Codes() []Code {
	var list []Code
	for i := range d.Images {
		for j := range d.Images[i].Reasons {
			if c := d.Images[i].Reasons[j].Code; !slices.Contains(list, c) {
				list = append(list, c)
			}
		}
	}
	return list
}
