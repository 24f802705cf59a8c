// Package evidence holds what is known and verified about image digests: which
// attestation was signed by which key under which note, what scans found, what was
// built from what. Signatures are verified when a statement arrives, not when a pod
// does, so that a decision is a look-up.
package evidence

import (
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// Facts is all that a decision rests on beside the policy.
type Facts struct {
	// Images is the evidence about the digests of one request.
	Images map[image.Digest]Image
	// Built is the digest that a build last recorded under a tag, by the reference
	// as it is written in the request. It helps a person, and is never evidence.
	Built map[string]image.Digest
	// Hints are what rollout hints say of the images, by the reference as it is written
	// in the request: an entry for each note of hints.
	Hints map[string][]Hint
}

// State says how much is known about an image. The zero State is Unavailable,
// which never allows.
type State int

// An image is Unavailable when its evidence could not be read, and Known when
// everything there is has been read, which may be nothing.
const (
	Unavailable State = iota
	Known
)

// Image is the evidence about one digest, a value that a decision rests on.
type Image struct {
	State State
	// Err says why the state is Unavailable.
	Err          string
	Attestations []Attestation
	// Rejected are attestations that exist and do not count; they explain a
	// denial and never support anything else.
	Rejected []Rejection
	// Scans are what scanners found, an entry for each project and repository.
	Scans []Scan
	// Uploads are records of when the image was uploaded.
	Uploads []Upload
	// Provenances tell how the image was built.
	Provenances []Provenance
	// Allowed are the latest times at which rules allowed the image by evidence,
	// one entry for each rule and spelling of the image. They count only where
	// evidence is Unavailable.
	Allowed []Allowed
}

// Origin is where a statement is filed and who signed it.
type Origin struct {
	Note       string // projects/P/notes/N
	Occurrence string // projects/P/occurrences/ID
	// Project is the id of the occurrence's.
	Project string
	// KeyID is the id of the key as its owner calls it, Fingerprint what it is.
	KeyID       string
	Fingerprint [32]byte
	Created     time.Time
}

// An Attestation is one verified statement about a digest: this key signed, and
// the statement is filed under this note.
type Attestation struct {
	Origin
	// Repository is the docker-reference that was signed, normalised; "" if none was.
	Repository string
	// Cosign is set if the payload is of cosign's type.
	Cosign bool
	// NotBefore and NotAfter bound when it counts; the zero time is no bound.
	NotBefore, NotAfter time.Time
}

// ValidAt reports whether the attestation's own bounds in time contain now.
func (a *Attestation) ValidAt(now time.Time) bool {
	return (a.NotBefore.IsZero() || !now.Before(a.NotBefore)) && (a.NotAfter.IsZero() || now.Before(a.NotAfter))
}

// A Rejection is an attestation, or another signed statement, that was not accepted.
type Rejection struct {
	Note       string
	Occurrence string
	Project    string
	// Reason reads after "the attestation": `is signed by unknown key "x"`.
	Reason string
}

// A Scan is what the scanners of a project say of one resource. It is not signed:
// whoever may write occurrences there is trusted with it.
type Scan struct {
	Project string
	// Finished is set if there is a scan, and the latest of each scanner has finished
	// successfully.
	Finished bool
	// Status tells of the latest scan that has not, in Grafeas' words: "PENDING",
	// "FINISHED_FAILED".
	Status string
	// Findings are sorted by their severities, the greatest first, and Truncated is set
	// if there are more, or more scans.
	Findings  []Finding
	Truncated bool
}

// A Finding is a vulnerability, by the name of its note.
type Finding struct {
	Note string // projects/P/notes/CVE-…
	// Severity is Grafeas' number: 1 (MINIMAL) to 5 (CRITICAL), and 0 for none.
	Severity int
	Fixable  bool
}

// An Upload is a verified record of when an image was uploaded.
type Upload struct {
	Origin
	Time time.Time
}

// A Provenance is a verified statement of how an image was built.
type Provenance struct {
	Origin
	// Builder is the id that the statement gives its builder.
	Builder string
	// Source is the URL of the repository that was built, "" if it is not told.
	Source string
	// ConfigBased is set if the build followed a configuration in its source.
	ConfigBased bool
	// Statement is the in-toto statement as it was signed; nil if it was not kept.
	Statement []byte
}

// Allowed tells that a rule has allowed an image.
type Allowed struct {
	// Image is the reference as it was written then. A rule may let one repository
	// or tag by and not another, so that it says nothing of the digest elsewhere.
	Image string
	// Rule is the hash of the rule, and Policy the version of its policy then.
	Rule   string
	Policy string
	Time   time.Time
}
