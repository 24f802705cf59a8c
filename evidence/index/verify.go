package index

import (
	"fmt"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// maxSignatures bounds the work that one occurrence can cause: 32 signatures
	// of the dearest kind (P-384, 0.5 ms) are 16 ms.
	maxSignatures = 32

	// maxRejections bounds what is kept about a digest to explain a denial.
	maxRejections = 4
)

// verify checks the signatures of an attestation occurrence filed for digest d
// against the keys trusted under its note. A key id only says which key to try.
func verify(o *grafeas.Occurrence, d image.Digest, keys []*signature.PublicKey, memo *signature.Memo) ([]evidence.Attestation, []evidence.Rejection) {
	var accepted []evidence.Attestation
	var rejected []evidence.Rejection
	reject := func(format string, args ...any) {
		if len(rejected) < maxRejections {
			rejected = append(rejected, evidence.Rejection{Note: o.GetNoteName(), Occurrence: o.GetName(), Reason: fmt.Sprintf(format, args...)})
		}
	}
	att := o.GetAttestation()
	signatures := att.GetSignatures()
	if len(signatures) > maxSignatures {
		reject("has %d signatures; only the first %d are looked at", len(signatures), maxSignatures)
		signatures = signatures[:maxSignatures]
	}
	if len(signatures) == 0 {
		reject("has no signature that can be checked")
	}
	for _, s := range signatures {
		known := false
		for _, key := range keys {
			if !key.Matches(s.GetPublicKeyId()) {
				continue
			}
			known = true
			signed, err := memo.Verify(key, att.GetSerializedPayload(), s.GetSignature())
			if err != nil {
				reject("does not verify: %v", err)
				continue
			}
			payload, err := signature.ParsePayload(signed)
			if err != nil {
				reject("is signed, but an unexpected message was signed: %v", err)
				continue
			}
			if payload.Digest != d {
				reject("is filed under %s, but what was signed is %s", d, payload.Digest)
				continue
			}
			accepted = append(accepted, evidence.Attestation{
				Origin: evidence.Origin{
					Note:        o.GetNoteName(),
					Occurrence:  o.GetName(),
					KeyID:       key.ID(),
					Fingerprint: key.Fingerprint(),
					Created:     o.GetCreateTime().AsTime(),
				},
				Repository: payload.Repository,
			})
		}
		if !known {
			reject("is signed by key %.120q, which is not one of the attestor's", s.GetPublicKeyId())
		}
	}
	return accepted, rejected
}

// saysAttestation allows for occurrences written by hand, without the kind that a
// server fills in.
func saysAttestation(kind grafeas.NoteKind) bool {
	return kind == grafeas.NoteKind_ATTESTATION || kind == grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
}

// FromOccurrences returns what follows about the images from a list of occurrences
// alone, for decisions without a server. Digests of which the list says nothing are
// Known to have none.
func FromOccurrences(occurrences []*grafeas.Occurrence, trust Trust, refs []image.Reference) evidence.Facts {
	memo := signature.NewMemo(len(occurrences) + 1)
	set := make(map[image.Digest]evidence.Image, len(refs))
	for _, d := range digestsOf(refs) {
		set[d] = evidence.Image{State: evidence.Known}
	}
	var tags tagHints
	for _, o := range occurrences {
		if o.GetBuild() != nil {
			tags.learn(o)
		}
		ref, err := image.ParseResourceURI(o.GetResourceUri())
		if err != nil || trust[o.GetNoteName()] == nil || o.GetAttestation() == nil || !saysAttestation(o.GetKind()) {
			continue
		}
		img, asked := set[ref.Digest()]
		if !asked {
			continue
		}
		accepted, rejected := verify(o, ref.Digest(), trust[o.GetNoteName()], memo)
		img.Attestations = append(img.Attestations, accepted...)
		img.Rejected = append(img.Rejected, rejected...)
		set[ref.Digest()] = img
	}
	return evidence.Facts{Images: set, Built: tags.builtAs(refs)}
}
