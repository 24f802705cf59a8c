package signature

import (
	stdjson "encoding/json"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/image"
)

// The words for the type of a payload. They are all that is read; what is signed
// under another word is a statement about something else.
const (
	// TypeBinauthz is what gcloud and Voucher write.
	TypeBinauthz = "Google cloud binauthz container signature"
	// TypeAtomic is what Kritis and containers/image write.
	TypeAtomic = "atomic container signature"
	// TypeCosign is what cosign writes.
	TypeCosign = "cosign container image signature"
	// TypeJWT is the type of what [PublicKey.VerifyJWT] returns; it is not a
	// word of the payload's JSON.
	TypeJWT = "JWT"
)

// A Payload is what a signature states: that this key's owner knows this image.
type Payload struct {
	// Repository is the docker-reference as it was signed, registry and path
	// without tag and digest; it may be empty, and is not normalised.
	Repository string
	// Digest is the image's, never zero in a parsed Payload.
	Digest image.Digest
	// Type is the kind of statement: [TypeBinauthz], [TypeAtomic], [TypeCosign]
	// or [TypeJWT], in exactly that spelling, however the signed word was
	// capitalised.
	Type string
	// NotBefore and NotAfter bound when the statement may be relied upon; the
	// zero time is no bound. NotBefore is the first instant at which it holds and
	// NotAfter the first at which it does not any more. Only a JWT has them. This
	// package has no clock: whoever decides compares them, at each decision.
	NotBefore, NotAfter time.Time
}

// simpleSigning is the wire form, in the order in which it is written.
type simpleSigning struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			DockerManifestDigest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
}

// NewPayload returns the bytes to sign for an image, byte for byte those of
// Kritis and Voucher: compact JSON with the keys in a fixed order, HTML
// characters escaped, and no line end. repository is registry and path; typ is
// [TypeBinauthz], [TypeAtomic] or [TypeCosign]. A zero digest or another type
// gives a payload that [ParsePayload] refuses.
func NewPayload(repository string, d image.Digest, typ string) []byte {
	var p simpleSigning
	p.Critical.Identity.DockerReference = repository
	p.Critical.Image.DockerManifestDigest = d.String()
	p.Critical.Type = typ
	// A struct of strings always encodes.
	b, _ := stdjson.Marshal(p)
	return b
}

// ParsePayload reads bytes that were signed; give it only what
// [PublicKey.Verify] returned. It is strict where a second reading would be
// possible: one JSON object of at most [MaxPayload] bytes in UTF-8, keys are
// case-sensitive and never repeated, the digest is sha256 in lower case. The type
// must be one of [TypeBinauthz], [TypeAtomic] and [TypeCosign], in any
// capitalisation of its ASCII letters, or the error wraps [ErrWrongType]: a key
// may sign other things than images, and those must not admit one. Keys it does
// not know, and "optional" and its content, are harmless.
func ParsePayload(b []byte) (Payload, error) {
	if len(b) > MaxPayload {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: %d bytes, more than %d", ErrMalformed, len(b), MaxPayload)
	}
	var p simpleSigning
	if err := json.Unmarshal(b, &p); err != nil {
		return Payload{}, fmt.Errorf("parsing signed payload: %w", malformedJSON(err))
	}
	d, err := image.ParseDigest(p.Critical.Image.DockerManifestDigest)
	if err != nil {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: critical.image.docker-manifest-digest: %w", ErrMalformed, err)
	}
	typ, ok := canonicalType(p.Critical.Type)
	if !ok {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: critical.type is %q, want %q, %q or %q",
			ErrWrongType, clip(p.Critical.Type), TypeBinauthz, TypeAtomic, TypeCosign)
	}
	return Payload{Repository: p.Critical.Identity.DockerReference, Digest: d, Type: typ}, nil
}

// canonicalType returns the known word that typ spells, in any capitalisation:
// Google's own pages write "Google Cloud BinAuthz container signature".
func canonicalType(typ string) (string, bool) {
	for _, known := range []string{TypeBinauthz, TypeAtomic, TypeCosign} {
		if equalFoldASCII(typ, known) {
			return known, true
		}
	}
	return "", false
}

// equalFoldASCII compares without regard to the case of ASCII letters alone:
// strings.EqualFold would take the Kelvin sign for a K.
func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
