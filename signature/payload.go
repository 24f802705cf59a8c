package signature

import (
	stdjson "encoding/json"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/image"
)

// The words for the type of a payload that Gatehouse writes. Every word is read.
const (
	// TypeBinauthz is what gcloud and Voucher write.
	TypeBinauthz = "Google cloud binauthz container signature"
	// TypeAtomic is what Kritis and containers/image write.
	TypeAtomic = "atomic container signature"
)

// A Payload is what a signature states: that this key's owner knows this image.
type Payload struct {
	// Repository is the docker-reference as it was signed, registry and path
	// without tag and digest; it may be empty, and is not normalised.
	Repository string
	// Digest is the image's, never zero in a parsed Payload.
	Digest image.Digest
	// Type is the word for the kind of statement, as signed; it proves nothing.
	Type string
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
// [TypeBinauthz] or [TypeAtomic]. A zero digest gives a payload that
// [ParsePayload] refuses.
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
// case-sensitive and never repeated, the digest is sha256 in lower case. Keys it
// does not know, "optional" and its content, and any word for the type are
// harmless.
func ParsePayload(b []byte) (Payload, error) {
	if len(b) > MaxPayload {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: %d bytes, more than %d", ErrMalformed, len(b), MaxPayload)
	}
	var p simpleSigning
	if err := json.Unmarshal(b, &p); err != nil {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: %w", ErrMalformed, err)
	}
	d, err := image.ParseDigest(p.Critical.Image.DockerManifestDigest)
	if err != nil {
		return Payload{}, fmt.Errorf("parsing signed payload: %w: critical.image.docker-manifest-digest: %w", ErrMalformed, err)
	}
	return Payload{
		Repository: p.Critical.Identity.DockerReference,
		Digest:     d,
		Type:       p.Critical.Type,
	}, nil
}
