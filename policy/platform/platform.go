// Package platform reads Binary Authorization's platform policies, in the YAML or
// JSON that gcloud and the REST API write, and compiles them to a [policy.Ruleset].
// Where Google's continuous validation only tells of what a pod does wrong, this
// enforces it.
//
//	p, diags := platform.ParsePolicy("policy.yaml", text)
//	builders, more := platform.ParseBuilders("builders.yaml", keys)
//	rules, missing := p.Compile(platform.Options{Project: "p", Builders: builders})
//
// # What a policy says
//
// Images that the imageAllowlist of gkePolicy covers conform. For all others one
// check set speaks, the first whose scope the pod is in: of its service account, of
// its namespace, or the one without a scope, in this order. Images of its
// imageAllowlist conform; what is left must pass every check, and an imageAllowlist
// of a check waives that check only. A policy without check sets allows everything,
// and so does a check set without checks.
//
// # What is read
//
// Reading is as strict as package binauthz's: what is not known, given twice, or of
// another type is an error with its line. Three spellings of Google's own examples
// differ from its API. Text where a list of text belongs, and an imageAllowlist that
// is a list of objects, are taken with a warning that tells the right spelling; an
// attestationSource that is a list is refused.
//
// What the service leaves open is decided here: one id among allowedCves and
// blockedCves is an error; a check that names no projects looks into
// [Options].Project; cosign signatures and records of uploads are looked for there
// too.
package platform

import (
	"crypto/sha256"
	"strconv"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// MaxPolicy is the most bytes that the text of a policy may have, 4 MiB: room
	// for several thousand checks with their keys.
	MaxPolicy = 4 << 20
	// MaxBuilders is the most bytes that a list of builders may have.
	MaxBuilders = 1 << 20

	// maxProjects is the published limit of projects in one check.
	maxProjects = 10
	// maxKeys bounds the keys of one authority, as those of an attestor are bounded.
	maxKeys = 1000
)

// A Policy is a valid platform policy, with the lines where its parts stand.
type Policy struct {
	// File is what the text was called when it was parsed.
	File string
	// Name is projects/P/platforms/gke/policies/ID, or "". The API ignores it in
	// what it is sent; set it before compiling when you know better.
	Name        string
	Description string
	// ETag and UpdateTime are what the server said when the policy was exported.
	ETag       string
	UpdateTime string
	// Allow is the imageAllowlist of the policy.
	Allow     []AllowPattern
	CheckSets []CheckSet

	digest [sha256.Size]byte // of the text
}

// An AllowPattern is one pattern of an imageAllowlist.
type AllowPattern struct {
	Pattern image.Pattern
	Line    int
}

// A CheckSet is the checks for the pods of a scope.
type CheckSet struct {
	DisplayName string
	// Scope has at most one of its Namespace and ServiceAccount.
	Scope  policy.Scope
	Allow  []AllowPattern
	Checks []Check
	Line   int
}

// A Check is one thing that is required of images.
type Check struct {
	DisplayName string
	Allow       []AllowPattern
	// Of is what it requires: one of the types below.
	Of   Requirement
	Line int
}

// A Requirement is the kind of a check, and what that kind has to know.
type Requirement interface {
	// Type is what continuous validation calls it, such as "VulnerabilityCheck".
	Type() string
	compile(c *compiler, line int) policy.Condition
}

// AlwaysDeny fails for every image.
type AlwaysDeny struct{}

// ImageFreshness fails for an image that was uploaded too long ago.
type ImageFreshness struct{ MaxUploadAgeDays int32 }

// TrustedDirectory fails for an image that is in none of the directories.
type TrustedDirectory struct{ Patterns []image.Directory }

// Vulnerability fails for an image in which scans found more than is allowed.
type Vulnerability struct {
	MaxFixable, MaxUnfixable policy.Severity
	Allowed, Blocked         []string // ids of notes
	Projects                 []string // ids
}

// SLSA fails for an image without a provenance that one of the rules is met by.
type SLSA struct{ Rules []VerificationRule }

// A VerificationRule says what a provenance must be like.
type VerificationRule struct {
	TrustedBuilder           string // GOOGLE_CLOUD_BUILD
	Projects                 []string
	ConfigBasedBuildRequired bool
	TrustedSources           []policy.SourcePattern
	Constraint               policy.Constraint // nil if there is none
	Line                     int
}

// SimpleSigning fails for an image without an attestation by an authenticator.
type SimpleSigning struct {
	Authenticators []Authority
	Projects       []string
}

// Sigstore fails for an image without a cosign signature by an authority.
type Sigstore struct{ Authorities []Authority }

// An Authority is whoever signs with one of the keys.
type Authority struct {
	DisplayName string
	Keys        []*signature.PublicKey
}

// The types of checks, in the words of continuous validation's events. It has none
// for a check that always denies.
const (
	typeAlwaysDeny       = "AlwaysDeny"
	typeImageFreshness   = "ImageFreshnessCheck"
	typeTrustedDirectory = "TrustedDirectoryCheck"
	typeVulnerability    = "VulnerabilityCheck"
	typeSLSA             = "SlsaCheck"
	typeSimpleSigning    = "SimpleSigningAttestationCheck"
	typeSigstore         = "SigstoreSignatureCheck"
)

// Type implements Requirement.
func (AlwaysDeny) Type() string { return typeAlwaysDeny }

// Type implements Requirement.
func (ImageFreshness) Type() string { return typeImageFreshness }

// Type implements Requirement.
func (TrustedDirectory) Type() string { return typeTrustedDirectory }

// Type implements Requirement.
func (Vulnerability) Type() string { return typeVulnerability }

// Type implements Requirement.
func (SLSA) Type() string { return typeSLSA }

// Type implements Requirement.
func (SimpleSigning) Type() string { return typeSimpleSigning }

// Type implements Requirement.
func (Sigstore) Type() string { return typeSigstore }

// noCheckSets is the rule of a policy that has no check set.
const noCheckSets = "policy without check sets"

// RuleID is what the rule is called that a check set compiles to, such as
// `check set 0 "production"`. For -1 it is the rule of a policy without check sets.
func (p *Policy) RuleID(index int) string {
	const most = 100 // of a name, in sentences that have to stay short
	if index < 0 {
		return noCheckSets
	}
	id := "check set " + strconv.Itoa(index)
	if name := []rune(p.CheckSets[index].DisplayName); len(name) > most {
		id += " " + strconv.Quote(string(name[:most])+"…")
	} else if len(name) > 0 {
		id += " " + strconv.Quote(string(name))
	}
	return id
}
