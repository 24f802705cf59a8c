// Package objects reads the objects of a Kubernetes cluster that policy is made from,
// Gatehouse's own kinds and those of Kritis, and compiles them to one [policy.Ruleset].
//
//	o, err := objects.Parse(text)                       // one object; err if it has no name
//	outcome := new(objects.Compiler).Compile(list, &objects.Options{Project: "p"}, now)
//
// # One broken object
//
// Objects come from many people, so each is read alone and what is wrong with it is told
// of it alone: a [Problem] in [Outcome].Problems. It never lets anything in:
//
//   - A ClusterPolicy or Policy that cannot be read denies, where it would be in force,
//     what no exemption covers; if where is what cannot be read, everywhere. One that says
//     dryRun: true, readably, only records.
//   - An ImageSecurityPolicy that cannot be read denies all images of its namespace. A
//     GenericAttestationPolicy that cannot be read is satisfied by no image; where it is
//     one of several alternatives, the others still count, and so do their patterns.
//   - A key that cannot be used is left out, and the others of its Attestor,
//     ClusterAttestor or AttestationAuthority count. One of these that cannot be read at
//     all is not there; what names it denies.
//   - An Exemption, ClusterExemption, Delegation or RolloutHint that cannot be read does
//     nothing.
//
// Nothing is taken down by more than that: what another namespace demands, and what other
// objects of this one do, stays.
//
// # Who may loosen
//
// All policies that are in force where a pod runs must allow. So a Policy, which is of a
// namespace, can only ask for more than ClusterPolicies do. What lets images in is a
// ClusterExemption, or an Exemption of the namespace as far as one Delegation covers all
// of it: its namespace, each of its patterns, and the time from its making to its end.
// Exemptions are from ClusterPolicies and Policies only; objects of Kritis have lists of
// their own.
//
// An Attestor is for the Policies of its namespace. It must not have the name of a
// ClusterAttestor: nobody's attestations come to count for another's.
package objects

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

const (
	maxNamespaces = 100 // in a list
	maxPatterns   = 100 // of an exemption or a delegation
	maxKeys       = 100 // of an attestor
	maxReason     = 500 // bytes
	maxSignatures = 10  // of a hint
	// maxPolicies bounds the policies of a kind in a namespace: they are asked about each
	// of its pods.
	maxPolicies = 100
)

// A Reason classifies a Problem, for programs.
type Reason string

// The reasons.
const (
	// Invalid is an object that cannot be read, and Doubtful one that can be and may not
	// mean what its writer wants.
	Invalid  Reason = "Invalid"
	Doubtful Reason = "Doubtful"
	// KeyUnusable is a key that is left out.
	KeyUnusable Reason = "KeyUnusable"
	// NotFound is something that the object names and that is not there.
	NotFound Reason = "NotFound"
	// Shadowed is an Attestor that has the name of a ClusterAttestor.
	Shadowed Reason = "Shadowed"
	// KeyForHints is an attestor who has the note or a key of rollout hints.
	KeyForHints Reason = "KeyForHints"
	// NotDelegated is an Exemption that no Delegation covers, and Expired one that has ended.
	NotDelegated Reason = "NotDelegated"
	Expired      Reason = "Expired"
	// MeshUnknown is a policy by Istio identities for a gate that knows no mesh.
	MeshUnknown Reason = "MeshUnknown"
	// TooMany is one object more than a namespace may have, or a cluster.
	TooMany Reason = "TooMany"
	// Unverified is a RolloutHint that no signer has signed.
	Unverified Reason = "Unverified"
)

// A Problem is one thing to say about an object.
type Problem struct {
	// Severity is Error if the object is not in force as it is written.
	Severity document.Severity `json:"severity"`
	Reason   Reason            `json:"reason"`
	Message  string            `json:"message"`
	// Field is where, such as "spec.publicKeys[1].pkixPublicKey", or "".
	Field string `json:"field,omitempty"`

	file string
	line int
}

// An Object is one object that has been read. It is immutable.
type Object struct {
	Meta
	// Problems are what reading has found.
	Problems []Problem
	// Keys tell of the keys of an Attestor, a ClusterAttestor or an AttestationAuthority.
	Keys KeyState

	file   string // that it was read from, "" for one of a cluster
	line   int
	digest [sha256.Size]byte // of its name and its spec
	sum    [sha256.Size]byte // of all that it was read from

	policy     *demand
	attestor   *binauthz.Attestor
	exemption  *exemption
	delegation *delegation
	hint       *Hint
	kritis     *kritis.Objects
}

// A KeyState says which keys count.
type KeyState struct {
	Usable   int
	Unusable []kritis.UnusableKey
}

// Broken reports whether the object cannot be read.
func (o *Object) Broken() bool {
	return slices.ContainsFunc(o.Problems, func(p Problem) bool { return p.Severity == document.Error && p.Reason == Invalid })
}

// Diagnostic returns an error about the object, at its place in the file.
func (o *Object) Diagnostic(format string, args ...any) document.Diagnostic {
	return document.Diagnostic{File: o.file, Line: max(o.line, 1), Message: fmt.Sprintf(format, args...)}
}

// Sum tells contents of objects apart.
func (o *Object) Sum() [sha256.Size]byte { return o.sum }

// Demand reports whether one of the objects demands something of images.
func Demand(list []*Object) bool {
	return slices.ContainsFunc(list, func(o *Object) bool { return o.policy != nil || o.kritis.Demands() })
}

// A demand is a ClusterPolicy or a Policy.
type demand struct {
	namespaces policy.Namespaces
	dryRun     bool
	// One of these is set, or why none can be.
	binauthz *binauthz.Policy
	platform *platform.Policy
	broken   string
	// attestors are the names of those that it requires.
	attestors []string
}

// An exemption lets images in, or what is denied.
type exemption struct {
	namespaces policy.Namespaces
	images     []policy.Exemption
	dryRun     bool
	reason     string
	expires    time.Time // zero: never
	// origin names the object, why, and until when, for decisions that rest on it.
	origin string
}

// A delegation says what Exemptions of some namespaces may do.
type delegation struct {
	namespaces policy.Namespaces
	images     []string
	most       time.Duration // 0: no images
	dryRun     time.Duration // 0: no dry run
}

// A Hint is a rollout hint that an object carries.
type Hint struct {
	Ref         Ref
	Note        string
	ResourceURI string
	Payload     []byte
	Signatures  []HintSignature
	// Filed is when the object was made.
	Filed time.Time
	// Says is what the payload says; whether it counts is for who knows the signers.
	Says hint.Hint
}

// A HintSignature is one of the signatures of a hint.
type HintSignature struct {
	KeyID     string
	Signature []byte
}

// Hints returns the rollout hints that objects carry, whoever signed them.
func Hints(list []*Object) []*Hint {
	var all []*Hint
	for _, o := range list {
		if o.hint != nil {
			all = append(all, o.hint)
		}
	}
	return all
}

// Refers returns what objects need of the policy API: the attestors that they name in
// full, and whether they ask for records of uploads, which every attestor of the project
// may make.
func Refers(list []*Object) (attestors []string, uploads bool) {
	seen := map[string]bool{}
	for _, o := range list {
		if o.policy == nil {
			continue
		}
		uploads = uploads || o.policy.platform != nil
		for _, name := range o.policy.attestors {
			if isFull(name) && !seen[name] {
				seen[name] = true
				attestors = append(attestors, name)
			}
		}
	}
	slices.Sort(attestors)
	return attestors, uploads
}
