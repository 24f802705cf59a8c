package policy

import (
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Check is one thing that a rule requires of an image.
type Check struct {
	// Name is what its author calls it, or "".
	Name string
	// Type is what it is, in the words of its dialect: "VulnerabilityCheck",
	// "ImageSecurityPolicy". "" for the attestors of Binary Authorization.
	Type string
	// Exempt images pass this check, and no other.
	Exempt    []Exemption
	Condition Condition
	// Line is where it stands in the text, or 0, and File that text if it is not
	// the rule's.
	Line int
	File string

	exempt *image.PatternSet
}

// Exempts returns the first exemption of the check that covers the image as written,
// if any.
func (c *Check) Exempts(text string) (Exemption, bool) {
	if c.exempt != nil {
		return found(c.Exempt, c.exempt, text)
	}
	return Exempts(c.Exempt, text)
}

// A Condition says what must be true of an image. It is one of the types below;
// decide denies any other, and nil.
type Condition interface{ condition() }

// Attested is met by one attestation of the image that an attestor of the Ruleset
// has made: filed under his note, and signed by a key of his.
type Attested struct {
	Attestor string // a key of Ruleset.Attestors
}

// AllOf is met if each of its conditions is; an empty one never is.
type AllOf struct {
	Name string // what a person calls it, such as "GenericAttestationPolicy shop/gap"; may be ""
	Of   []Condition
}

// AnyOf is met if one of its conditions is.
type AnyOf struct {
	Of []Condition
}

// Never is not met by any image. Why says so in place of a check that cannot be read.
type Never struct{ Why string }

// Digested is met by an image that is named by its digest.
type Digested struct{}

// SignedBy is met by one attestation of the image that is filed in one of the
// projects, under whatever note, and made by any key of any signer.
type SignedBy struct {
	Signers  []Signer
	Projects []string // their ids
	// Cosign demands a payload of cosign's type.
	Cosign bool
}

// A Signer is keys with a name.
type Signer struct {
	Name string
	Keys []Key
}

// Trusts reports whether the key with this fingerprint is one of the signer's.
func (s Signer) Trusts(fingerprint [32]byte) bool { return trusts(s.Keys, fingerprint) }

// Severity is how bad a vulnerability is, or how bad it may be: its values in
// between are those of Grafeas.
type Severity int

// The severities. As a limit, BlockAll, the zero value, allows nothing and
// AllowAll everything. A vulnerability has one of Minimal to Critical, or none, 0,
// which is worse than Critical.
const (
	BlockAll Severity = iota
	Minimal
	Low
	Medium
	High
	Critical
	AllowAll
)

var severityNames = [...]string{"BLOCK_ALL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "ALLOW_ALL"}

// String returns the name of a limit, such as "HIGH" or "BLOCK_ALL", which is also
// that of any value out of range.
func (s Severity) String() string {
	if s < BlockAll || s > AllowAll {
		return severityNames[BlockAll]
	}
	return severityNames[s]
}

// ParseSeverity returns the limit of that name.
func ParseSeverity(name string) (Severity, bool) {
	for i, n := range severityNames {
		if n == name {
			return Severity(i), true
		}
	}
	return BlockAll, false
}

// Allows reports whether a vulnerability of the given severity is within the
// limit s. One without a severity, 0, is only within AllowAll.
func (s Severity) Allows(found Severity) bool {
	switch {
	case s == AllowAll:
		return true
	case s <= BlockAll || s > AllowAll || found < Minimal || found > Critical:
		return false
	}
	return found <= s
}

// Vulnerabilities is met by an image whose scans in the projects are finished and
// found nothing beyond the limits.
type Vulnerabilities struct {
	MaxFixable, MaxUnfixable Severity
	// Allowed are vulnerabilities that are let by whatever their severity, and
	// Blocked those that are not. An entry is the id of a note ("CVE-2021-20305"),
	// in whatever project, or the full name of one.
	Allowed, Blocked []string
	// Projects are the ids of those whose scans are looked at.
	Projects []string
	// UnscannedAllowed lets by an image that no scan has finished for.
	UnscannedAllowed bool
	// UnspecifiedAllowed lets by vulnerabilities without a severity, except where
	// the limit is BlockAll.
	UnspecifiedAllowed bool
}

// Fresh is met by an image that was uploaded no longer than MaxAge ago, as one of
// the recorders has recorded.
type Fresh struct {
	MaxAge    time.Duration
	Recorders []Signer
	Projects  []string // where it is recorded
}

// InDirectory is met by an image whose directory one of the patterns covers.
type InDirectory struct {
	Patterns []image.Directory
}

// BuiltBy is met by an image that has a provenance which satisfies one of the rules.
type BuiltBy struct {
	Rules []ProvenanceRule
}

// A ProvenanceRule demands all that its fields say of one provenance.
type ProvenanceRule struct {
	Builder Builder
	// Projects are the ids of those in which the provenance may be filed.
	Projects []string
	// ConfigBased demands that the build followed a configuration in its source.
	ConfigBased bool
	// Sources, if there are any, must cover the source that was built.
	Sources []SourcePattern
	// Constraint, if it is not nil, must hold of the provenance.
	Constraint Constraint
}

// A Builder is whoever signs provenance of what he builds.
type Builder struct {
	Name string // GOOGLE_CLOUD_BUILD
	// IDs are how a provenance names him; each is a prefix.
	IDs  []string
	Keys []Key
}

// Trusts reports whether the key with this fingerprint is one of the builder's.
func (b Builder) Trusts(fingerprint [32]byte) bool { return trusts(b.Keys, fingerprint) }

// A Constraint is a custom demand on a provenance.
type Constraint interface {
	// Holds reports whether it holds of an in-toto statement, as JSON. It is pure,
	// bounded in its cost, and returns an error if it cannot be evaluated, which
	// counts as no.
	Holds(statement []byte) (bool, error)
	// String returns its text.
	String() string
}

// Hinted is met by an image whose digest is the one that rollout hints under a note say
// is meant to run.
type Hinted struct {
	Note string // projects/P/notes/N
	// UnhintedAllowed lets by an image that no hint was ever about.
	UnhintedAllowed bool
}

func (Attested) condition()        {}
func (AllOf) condition()           {}
func (AnyOf) condition()           {}
func (Never) condition()           {}
func (Digested) condition()        {}
func (SignedBy) condition()        {}
func (Vulnerabilities) condition() {}
func (Fresh) condition()           {}
func (InDirectory) condition()     {}
func (BuiltBy) condition()         {}
func (Hinted) condition()          {}
