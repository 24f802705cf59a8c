// Package policy is the one model of what may run where. People write policy in
// a dialect (package binauthz reads Binary Authorization's); each dialect
// compiles to a [Ruleset], and package decide knows nothing else.
//
// A Ruleset is read in two steps: an image that an [Exemption] covers is let in,
// whatever the rules say; for every other image of a pod, the first [Rule] whose
// [Scope] the pod is in decides. The zero value of every type here denies or
// matches nothing, except the zero Scope, which is every pod.
//
// A Ruleset is immutable once it is built and safe for concurrent use.
package policy

import "github.com/gatehouse-dev/gatehouse/image"

// A Ruleset is a compiled policy.
type Ruleset struct {
	// Name is the resource it enforces, such as "projects/p/policy".
	Name string
	// Source tells a person where it came from: a file, or the store.
	Source string
	// Version is the hexadecimal SHA-256 of the text it was compiled from.
	Version string
	// Exempt images are allowed before any rule is looked at.
	Exempt []Exemption
	// Rules are tried in order, and the first whose Scope matches decides. A
	// well-formed Ruleset ends with a rule of empty Scope, the default.
	Rules []Rule
	// Attestors holds every attestor that a rule names, by resource name
	// ("projects/p/attestors/a"). One that is missing here denies.
	Attestors map[string]Attestor
}

// An Exemption lets images in by name.
type Exemption struct {
	Pattern image.Pattern
	// Origin tells which list it stands in: "admissionWhitelistPatterns" or
	// "system policy".
	Origin string
}

// A Rule says what is required of every image of a pod in its Scope.
type Rule struct {
	// ID names the rule in messages as Binary Authorization does: "default
	// admission rule", "cluster admission rule for us-east1-b.prod".
	ID         string
	Scope      Scope
	Evaluation Evaluation
	// Attestors are the resource names of the attestors that must all have
	// attested the image; used only by RequireAttestation.
	Attestors []string
	// DryRun records a denial and lets the request in.
	DryRun bool
	// OnUnavailable says what an image gets whose evidence could not be read.
	OnUnavailable OnUnavailable
	// Line is where the rule begins in the text it was compiled from, or 0.
	Line int
}

// A Scope says which pods a rule is for. Every field that is set must be equal;
// the empty Scope matches all pods.
type Scope struct {
	Cluster        string // LOCATION.NAME
	Namespace      string
	ServiceAccount string // NAMESPACE:NAME
	IstioIdentity  string // SPIFFE identity without its scheme
}

// Matches reports whether a pod with the facts in pod is in scope s.
func (s Scope) Matches(pod Scope) bool {
	return (s.Cluster == "" || s.Cluster == pod.Cluster) &&
		(s.Namespace == "" || s.Namespace == pod.Namespace) &&
		(s.ServiceAccount == "" || s.ServiceAccount == pod.ServiceAccount) &&
		(s.IstioIdentity == "" || s.IstioIdentity == pod.IstioIdentity)
}

// Evaluation is what a rule demands. Its zero value denies.
type Evaluation int

// The evaluations of Binary Authorization.
const (
	AlwaysDeny Evaluation = iota
	AlwaysAllow
	RequireAttestation
)

var evaluationNames = [...]string{AlwaysDeny: "ALWAYS_DENY", AlwaysAllow: "ALWAYS_ALLOW", RequireAttestation: "REQUIRE_ATTESTATION"}

// String returns the name that Binary Authorization has for e, such as
// "ALWAYS_DENY", which it also returns for a value that is none of the three.
func (e Evaluation) String() string {
	if e < 0 || int(e) >= len(evaluationNames) {
		return evaluationNames[AlwaysDeny]
	}
	return evaluationNames[e]
}

// OnUnavailable is what happens when a verdict could not be reached because
// evidence could not be read. Its zero value denies.
type OnUnavailable int

// Warn lets the request in with a warning, and records it.
const (
	Deny OnUnavailable = iota
	Warn
)

// An Attestor is a named authority: one note and the keys it signs with.
type Attestor struct {
	Name string // projects/p/attestors/a
	Note string // projects/p/notes/n
	Keys []Key
	// MatchRepository demands that the signed docker-reference be the image's
	// own repository, as Kritis does. Binary Authorization looks at the digest only.
	MatchRepository bool
}

// A Key identifies one public key by what it is, not by what it is called.
type Key struct {
	ID          string
	Fingerprint [32]byte
}

// Trusts reports whether the key with this fingerprint is one of a's. No one
// trusts the zero fingerprint, which is what a key that was never parsed has.
func (a Attestor) Trusts(fingerprint [32]byte) bool {
	if fingerprint == ([32]byte{}) {
		return false
	}
	for i := range a.Keys {
		if a.Keys[i].Fingerprint == fingerprint {
			return true
		}
	}
	return false
}

// Select returns the first rule in scope for the pod. ok is false when no rule
// is, which a well-formed Ruleset rules out and which denies.
func (r *Ruleset) Select(pod Scope) (rule Rule, ok bool) {
	for i := range r.Rules {
		if r.Rules[i].Scope.Matches(pod) {
			return r.Rules[i], true
		}
	}
	return Rule{}, false
}

// Needs reports which facts about a pod's place the rules are chosen by: a gate
// that does not know them must not be given these rules.
func (r *Ruleset) Needs() (cluster, istioIdentity bool) {
	for i := range r.Rules {
		cluster = cluster || r.Rules[i].Scope.Cluster != ""
		istioIdentity = istioIdentity || r.Rules[i].Scope.IstioIdentity != ""
	}
	return cluster, istioIdentity
}

// Exempts returns the exemption that covers the image as written, if any.
func (r *Ruleset) Exempts(text string) (Exemption, bool) {
	for i := range r.Exempt {
		if r.Exempt[i].Pattern.Match(text) {
			return r.Exempt[i], true
		}
	}
	return Exemption{}, false
}
