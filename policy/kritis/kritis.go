// Package kritis reads the objects of Kritis (group kritis.grafeas.io/v1beta1) from
// files, and compiles them to a [policy.Ruleset].
//
//	objects, diags := kritis.Parse("policies.yaml", text)
//	all, twice := kritis.Merge(objects, more)
//	rules, missing := all.Compile(kritis.Options{})
//
// # What is read
//
// A text is a YAML stream of any number of documents, or one JSON value; each is an
// object, a list of them or a List. Objects that are not Kritis' are left out with a
// warning. Nothing of them is kept, so that a file may hold Secrets.
//
// Kritis was released with one set of fields (v0.1 to v0.2.2) and developed on with
// another, which was never released. Both are read, and so are the names from before
// June 2019; what is former is a warning that says what it means here. Kritis ignored
// unknown fields and checked words when it first needed them; here every field must be
// known and every word valid, since a policy with a misspelt threshold had the default
// one and nobody knew.
//
// Every namespaced object must name its namespace. kubectl takes the current one when
// there is none, which a file does not tell, and a policy in another namespace than its
// writer meant would let everything in where he meant it.
//
// # What it means
//
// A namespace with policies gets one rule. Its GenericAttestationPolicies are one
// check: an image needs one policy whose authorities have all attested it, or one of
// their patterns. Each of its ImageSecurityPolicies is a check: an image must be on
// its allow-list, attested by its authority, or scanned and within its limits.
// Everywhere else all images may run, as in Kritis. [Options] change this.
//
// What differs from Kritis, always to the safe side but for the last three:
//
//   - An image that was never scanned, or has a vulnerability without a severity, is
//     denied unless the Options say otherwise. Kritis let both in.
//   - A digest is sha256, whole and in lower case. Kritis took more for one.
//   - What an OpenPGP key signed after it had expired does not count.
//   - A bare id in allowlistCVEs never matched in Kritis. It still does not, with a
//     warning.
//   - An empty pattern is an error. In Kritis it was the end of the list.
//   - Short names of Docker Hub with a digest can be attested.
//   - PKIX keys count. Kritis read them, and then only used PGP keys.
//   - A policy without an authority, or with one that is not there, denies the images
//     that none of its patterns and allow-lists cover, and where policies are
//     alternatives the others still count. In Kritis it denied every request in the
//     namespace.
//
// Nothing is attested by letting it in: privateKeySecretName is checked and not used.
//
// BuildPolicy, VulnzSigningPolicy and KritisConfig do not take part in admission.
// They are values for whoever builds, signs and configures.
package kritis

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// MaxText is the most bytes that a text may have, 4 MiB: room for 1000
	// authorities with an OpenPGP key of the usual size.
	MaxText = 4 << 20
	// MaxObjects is the most objects, of whatever kind, in a text, and the most of
	// Kritis' that [Merge] takes together.
	MaxObjects = 10000

	maxKeys        = 1000  // of an authority
	maxAuthorities = 100   // that one policy names
	maxPolicies    = 100   // of a kind in a namespace
	maxPatterns    = 1000  // of a policy
	maxEntries     = 10000 // of any other list
	maxExpression  = 4096  // bytes of a regular expression
	maxSkipped     = 20    // objects that warnings name

	// group is the API group; the documentation has another, which was never served.
	group      = "kritis.grafeas.io"
	version    = "v1beta1"
	wrongGroup = "kritis.github.com"
)

// Objects are what Kritis reads from a cluster, here from files.
type Objects struct {
	ImageSecurityPolicies      []ImageSecurityPolicy
	GenericAttestationPolicies []GenericAttestationPolicy
	AttestationAuthorities     []AttestationAuthority
	BuildPolicies              []BuildPolicy
	VulnzSigningPolicies       []VulnzSigningPolicy
	// Config is the KritisConfig, if there is one.
	Config *KritisConfig
}

// empty reports whether there is no object at all.
func (o *Objects) empty() bool {
	return o.Config == nil && len(o.ImageSecurityPolicies)+len(o.GenericAttestationPolicies)+len(o.AttestationAuthorities)+
		len(o.BuildPolicies)+len(o.VulnzSigningPolicies) == 0
}

// Demands reports whether one of the objects is a policy.
func (o *Objects) Demands() bool {
	return o != nil && len(o.ImageSecurityPolicies)+len(o.GenericAttestationPolicies) > 0
}

// Meta says which object it is and where it stands.
type Meta struct {
	Namespace, Name string
	File            string
	Line            int
}

// key is how the object is called: NAMESPACE/NAME.
func (m Meta) key() string {
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}

func (m Meta) place() string { return fmt.Sprintf("%s:%d", m.File, m.Line) }

// warning reports on the object, at a line of its file.
func (m Meta) warning(line int, format string, args ...any) document.Diagnostic {
	return document.Diagnostic{File: m.File, Line: max(line, 1), Severity: document.Warning, Message: fmt.Sprintf(format, args...)}
}

// crowded reports namespaces with more policies than are looked at for each pod.
func (o *Objects) crowded() document.Diagnostics {
	var found document.Diagnostics
	count := func(kind string, counts map[string]int, m Meta) {
		if counts[m.Namespace]++; counts[m.Namespace] == maxPolicies+1 {
			found = append(found, document.Diagnostic{
				File: m.File, Line: m.Line, Message: fmt.Sprintf("%s %s: more than the %d allowed in a namespace", kind, m.key(), maxPolicies),
			})
		}
	}
	gaps, isps := map[string]int{}, map[string]int{}
	for i := range o.GenericAttestationPolicies {
		count(typeGAP, gaps, o.GenericAttestationPolicies[i].Meta)
	}
	for i := range o.ImageSecurityPolicies {
		count(typeISP, isps, o.ImageSecurityPolicies[i].Meta)
	}
	return found
}

// An Entry is one text of a list.
type Entry struct {
	Text string
	Line int
}

// An ImageSecurityPolicy demands of the images of a namespace that scans have found
// nothing too bad.
type ImageSecurityPolicy struct {
	Meta
	// Allowlist are images as pods write them.
	Allowlist []Entry
	// Authorities are those of the namespace any one of which vouches for an image
	// in place of a scan: at most one, except in v0.2.x.
	Authorities  []Entry
	Requirements Requirements
	// PrivateKey is set if the policy named a Secret to sign with.
	PrivateKey bool
	// Unreadable says why the policy cannot be read, if it cannot: it denies.
	Unreadable string
}

// Requirements are thresholds for vulnerabilities.
type Requirements struct {
	// MaxFixable and MaxUnfixable are the worst that is let by, of what a fix
	// exists for and what none does.
	MaxFixable, MaxUnfixable Threshold
	// AllowedCVEs are full names of notes, "projects/P/notes/CVE-…". Kritis compared
	// bare ids too, which nothing was equal to.
	AllowedCVEs []Entry
}

// A Threshold is a limit with its line, or with line 0 if it is the default.
type Threshold struct {
	Severity policy.Severity
	// UnspecifiedOnly is SEVERITY_UNSPECIFIED: Kritis let by what has no severity.
	UnspecifiedOnly bool
	Line            int
}

// A GenericAttestationPolicy demands attestations of the images of a namespace.
type GenericAttestationPolicy struct {
	Meta
	Authorities []Entry // their names, in the namespace
	Patterns    []Pattern
	// Unreadable says why the policy cannot be read, if it cannot: nothing satisfies it.
	Unreadable string
}

// A Pattern is an image pattern with its line.
type Pattern struct {
	Pattern image.Pattern
	Line    int
}

// An AttestationAuthority is whoever attests: a note and keys.
type AttestationAuthority struct {
	Meta
	Note     string // projects/P/notes/N
	NoteLine int
	Keys     []*signature.PublicKey
	// Unusable are the keys that were left out, if it was read by [Read].
	Unusable []UnusableKey
	// Released is set if it is written as v0.2.x has it.
	Released bool
}

// An UnusableKey is a public key that counts for nothing.
type UnusableKey struct {
	Index int    // among publicKeys
	ID    string // "" if it has none
	Why   string
}

// Keys returns those that may sign under each note, for authorities that share one
// together.
func (o *Objects) Keys() map[string][]*signature.PublicKey {
	keys := map[string][]*signature.PublicKey{}
	if o == nil {
		return keys
	}
	type signed struct {
		note string
		key  signature.Fingerprint
	}
	seen := map[signed]bool{}
	for i := range o.AttestationAuthorities {
		a := &o.AttestationAuthorities[i]
		for _, k := range a.Keys {
			if s := (signed{a.Note, k.Fingerprint()}); !seen[s] {
				seen[s] = true
				keys[a.Note] = append(keys[a.Note], k)
			}
		}
	}
	return keys
}
