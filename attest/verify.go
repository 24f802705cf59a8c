package attest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// pageSize is how many attestations are listed at a time.
	pageSize = 100
	// maxSignatures bounds the signatures of one attestation that are looked
	// at; verifying costs time, and whoever files attestations chooses how many.
	maxSignatures = 16
	// maxReasons bounds the rejections that a result explains.
	maxReasons = 3
)

// Verify says which checks of the group of this name, or the check, the image
// has a valid attestation for. One is valid that is filed under the note of the
// check, about this repository and digest, and carries a signature over both
// that verifies with a key of the check.
func (a *Authority) Verify(ctx context.Context, ref image.Reference, name string) (Response, error) {
	checks, err := a.prepare(ref, name)
	if err != nil {
		return Response{}, err
	}
	response := Response{Image: ref.String(), Results: make([]Result, 0, len(checks))}
	for _, c := range checks {
		r := Result{Name: c.Name}
		v, err := a.find(ctx, ref, c.Name, a.trust[c.Name])
		switch {
		case err != nil:
			r.Error = err.Error()
		case v.keyID == "":
			r.Error = v.why()
		default:
			r.Success, r.Attested = true, true
			r.Details = &Details{CheckName: c.Name, Body: string(v.signed), VerifiedKeyID: v.keyID}
		}
		a.log(ctx, "verify result", ref, r)
		response.Results = append(response.Results, r)
	}
	response.Success = a.success(response.Results, true)
	return response, nil
}

// verdict is what the attestations of an image amount to: the first that is
// valid, or why those that exist are not.
type verdict struct {
	keyID   string // empty when none is valid
	signed  []byte
	reasons []string
}

// why joins the reasons. It is empty when there was nothing to reject.
func (v verdict) why() string {
	reasons := v.reasons
	if n := len(reasons); n > maxReasons {
		reasons = append(reasons[:maxReasons:maxReasons], fmt.Sprintf("and %d more", n-maxReasons))
	}
	return strings.Join(reasons, "; ")
}

// find lists the attestations of the image under the note of a check, in
// whatever project they are, and verifies them with the keys.
func (a *Authority) find(ctx context.Context, ref image.Reference, name string, keys []*signature.PublicKey) (verdict, error) {
	page := func(ctx context.Context, token string) ([]*grafeas.Occurrence, string, error) {
		resp, err := a.Store.ListNoteOccurrences(ctx, &grafeas.ListNoteOccurrencesRequest{
			Name: a.note(name), Filter: check.Filter(ref, grafeas.NoteKind_ATTESTATION), PageSize: pageSize, PageToken: token,
		})
		return resp.GetOccurrences(), resp.GetNextPageToken(), err
	}
	found, err := check.List(ctx, page)
	if err != nil {
		return verdict{}, fmt.Errorf("listing the attestations of %q under the note %q: %w", ref, a.note(name), err)
	}
	var v verdict
	for _, o := range found {
		if o.GetNoteName() != a.note(name) || !check.About(o, ref, grafeas.NoteKind_ATTESTATION) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return verdict{}, fmt.Errorf("verifying the attestations of %q: %w", ref, err)
		}
		key, signed, err := verify(o.GetAttestation(), ref, keys)
		if err == nil {
			return verdict{keyID: key.ID(), signed: signed}, nil
		}
		v.reasons = append(v.reasons, fmt.Sprintf("attestation %q %s", clip(o.GetName()), clip(err.Error())))
	}
	return v, nil
}

// verify returns the key that signed the attestation and what it signed. The
// error reads after "the attestation".
func verify(att *grafeas.AttestationOccurrence, ref image.Reference, keys []*signature.PublicKey) (*signature.PublicKey, []byte, error) {
	if n := len(att.GetSignatures()); n > maxSignatures {
		return nil, nil, fmt.Errorf("has %d signatures, more than %d", n, maxSignatures)
	}
	reject := errors.New("has no signatures")
	for _, sig := range att.GetSignatures() {
		known := false
		for _, key := range keys {
			if !key.Matches(sig.GetPublicKeyId()) {
				continue
			}
			known = true
			signed, err := key.Verify(att.GetSerializedPayload(), sig.GetSignature())
			if err != nil {
				reject = fmt.Errorf("does not verify with key %q: %w", key.ID(), err)
				continue
			}
			if err := about(signed, ref); err != nil {
				reject = err
				continue
			}
			return key, signed, nil
		}
		if !known {
			reject = fmt.Errorf("is signed by unknown key %q", clip(sig.GetPublicKeyId()))
		}
	}
	return nil, nil, reject
}

// about reports whether the bytes that were signed are a statement about the
// image. What the occurrence around them says, anyone may have written.
func about(signed []byte, ref image.Reference) error {
	p, err := signature.ParsePayload(signed)
	if err != nil {
		return fmt.Errorf("is signed, and not a statement about an image: %w", err)
	}
	if p.Digest.IsZero() || p.Digest != ref.Digest() {
		return fmt.Errorf("is signed for another image, %s", p.Digest)
	}
	repo, err := image.Parse(p.Repository)
	if err != nil || repo.Name() != p.Repository || repo.Repository() != ref.Repository() {
		return fmt.Errorf("is signed for another repository, %q", clip(p.Repository))
	}
	return nil
}
