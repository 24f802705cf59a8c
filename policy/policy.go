// Package policy is the one model of what may run where. People write policy in
// a dialect: package binauthz reads Binary Authorization's policies, platform its
// platform policies, kritis the objects of Kritis. Each compiles to a [Ruleset],
// and package decide knows nothing else.
//
// A Ruleset is read in three steps. An image that an [Exemption] of the Ruleset
// covers is let in, whatever the rules say. For every other image of a pod, the
// first [Rule] whose [Scope] the pod is in speaks; an Exemption of the rule lets
// an image in too. What is left must pass every [Check] of the rule: a
// [Condition], which exemptions of the check alone may waive.
//
// Several Rulesets may be in force at once: a [Set], all of which must allow. Those of
// many namespaces are found by a [Local].
//
// The zero value of every type here denies or matches nothing, except the zero
// Scope, which is every pod, and the empty Set, which says that there is no policy.
//
// A Ruleset is immutable once it is built and safe for concurrent use.
package policy

import (
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Set is every policy in force. A pod must be allowed by each of them.
type Set []*Ruleset

// A Ruleset is a compiled policy. Literals work; [Ruleset.Build] makes large ones
// fast, and is needed for [OnUnavailable].LastAllowedWithin.
type Ruleset struct {
	// Name is the resource it enforces, such as "projects/p/policy".
	Name string
	// Dialect is the language it was written in.
	Dialect Dialect
	// Source tells a person where it came from: a file, or the store.
	Source string
	// Version is the hexadecimal SHA-256 of the text it was compiled from, and of
	// what that depends on.
	Version string
	// Exempt images are allowed before any rule is looked at.
	Exempt []Exemption
	// Rules are tried in order, and the first whose Scope matches decides. A
	// well-formed Ruleset ends with a rule of empty Scope, the default.
	Rules []Rule
	// Attestors holds every attestor that a rule names, by resource name
	// ("projects/p/attestors/a"). One that is missing here denies.
	Attestors map[string]Attestor
	// Namespaces are where it is in force, if a [Local] finds it.
	Namespaces Namespaces
	// Waived lets in, and records, what it denies.
	Waived []Waiver
	// Local, unless it is nil, is where the policies are found that it stands for.
	Local *Local

	built  *built
	origin *Ruleset // that it was made from by With
}

// Dialect is a language of policies.
type Dialect string

// The dialects.
const (
	BinaryAuthorization Dialect = "binauthz"
	PlatformPolicy      Dialect = "platform"
	Kritis              Dialect = "kritis"
	RolloutHints        Dialect = "rollout-hints"
)

// An Exemption lets images in by name.
type Exemption struct {
	Pattern image.Pattern
	// Origin tells which list it stands in: "admissionWhitelistPatterns" or
	// "system policy".
	Origin string
	// Line is where it stands in the text, or 0, and File that text if it is not
	// that of the check, rule or Ruleset it belongs to.
	Line int
	File string
	// Namespaces are where it counts, and Until is when it ends; the zero time is never.
	// Only those of a Ruleset have either.
	Namespaces Namespaces
	Until      time.Time
}

// A Rule says what is required of every image of a pod in its Scope.
type Rule struct {
	// ID names the rule in messages as its dialect does: "default admission
	// rule", "cluster admission rule for us-east1-b.prod".
	ID         string
	Scope      Scope
	Evaluation Evaluation
	// Exempt images pass without any check.
	Exempt []Exemption
	// Checks must all pass; used only by RequireChecks. A rule that requires
	// checks and has none denies.
	Checks []Check
	// DryRun records a denial and lets the request in.
	DryRun bool
	// OnUnavailable says what an image gets whose evidence could not be read.
	OnUnavailable OnUnavailable
	// Line is where the rule begins in the text it was compiled from, or 0, and
	// File that text if it is not the Ruleset's Source.
	Line int
	File string

	hash   string
	exempt *image.PatternSet
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

// The evaluations.
const (
	AlwaysDeny Evaluation = iota
	AlwaysAllow
	RequireChecks
)

var evaluationNames = [...]string{AlwaysDeny: "ALWAYS_DENY", AlwaysAllow: "ALWAYS_ALLOW", RequireChecks: "REQUIRE_ATTESTATION"}

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
type OnUnavailable struct {
	// Warn lets the request in with a warning, and records it.
	Warn bool
	// LastAllowedWithin, if it is positive, lets in an image that the same rule
	// has allowed, by evidence, no longer ago than this.
	LastAllowedWithin time.Duration
}

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
func (a Attestor) Trusts(fingerprint [32]byte) bool { return trusts(a.Keys, fingerprint) }

func trusts(keys []Key, fingerprint [32]byte) bool {
	if fingerprint == ([32]byte{}) {
		return false
	}
	for i := range keys {
		if keys[i].Fingerprint == fingerprint {
			return true
		}
	}
	return false
}

// Select returns the first rule in scope for the pod, which belongs to the
// Ruleset. ok is false when no rule is, which a well-formed Ruleset rules out and
// which denies.
func (r *Ruleset) Select(pod Scope) (rule *Rule, ok bool) {
	if r.built != nil {
		return r.built.selectRule(r, pod)
	}
	for i := range r.Rules {
		if r.Rules[i].Scope.Matches(pod) {
			return &r.Rules[i], true
		}
	}
	return nil, false
}

// Needs reports which facts about a pod's place the rules are chosen by: a gate
// that does not know them must not be given these rules.
func (s Set) Needs() (cluster, istioIdentity bool) {
	for r := range s.Rulesets() {
		for i := range r.Rules {
			cluster = cluster || r.Rules[i].Scope.Cluster != ""
			istioIdentity = istioIdentity || r.Rules[i].Scope.IstioIdentity != ""
		}
	}
	return cluster, istioIdentity
}

// Exempts returns the first exemption of the Ruleset that covers the image as
// written, for a pod of the namespace at the time now, if any.
func (r *Ruleset) Exempts(text, namespace string, now time.Time) (Exemption, bool) {
	first := 0
	if r.built != nil {
		if r.built.exempt == nil {
			return Exemption{}, false
		}
		if first = r.built.exempt.Match(text); first < 0 {
			return Exemption{}, false
		}
	}
	for i := first; i < len(r.Exempt); i++ {
		if e := &r.Exempt[i]; counts(e.Until, now) && e.Namespaces.Cover(namespace) && e.Pattern.Match(text) {
			return *e, true
		}
	}
	return Exemption{}, false
}

// Exempts returns the first exemption of the rule that covers the image as written,
// if any.
func (r *Rule) Exempts(text string) (Exemption, bool) {
	if r.exempt != nil {
		return found(r.Exempt, r.exempt, text)
	}
	return Exempts(r.Exempt, text)
}

// Exempts returns the first of the exemptions that covers the image as written.
func Exempts(list []Exemption, text string) (Exemption, bool) {
	for i := range list {
		if list[i].Pattern.Match(text) {
			return list[i], true
		}
	}
	return Exemption{}, false
}
