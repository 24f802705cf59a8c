// Package evidence holds what is known and verified about image digests: which
// attestation was signed by which key under which note. Signatures are verified
// when an attestation arrives, not when a pod does, so that a decision is a
// look-up.
package evidence

import (
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

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
}

// An Attestation is one verified statement about a digest: this key signed, and
// the statement is filed under this note.
type Attestation struct {
	Note       string // projects/P/notes/N
	Occurrence string // projects/P/occurrences/ID
	// KeyID is the id of the key as its owner calls it, Fingerprint what it is.
	KeyID       string
	Fingerprint [32]byte
	// Repository is the docker-reference that was signed, normalised.
	Repository string
	Created    time.Time
}

// A Rejection is an attestation that was not accepted.
type Rejection struct {
	Note       string
	Occurrence string
	// Reason reads after "the attestation": `is signed by unknown key "x"`.
	Reason string
}

// Set is the evidence about the digests of one request.
type Set map[image.Digest]Image
