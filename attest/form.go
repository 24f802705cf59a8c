package attest

import (
	"context"
	"fmt"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A Form is how an attestation is signed and filed. The zero Form is that of
// Voucher and Kritis.
type Form string

// The forms. All count for policies of Binary Authorization; a JWT names no repository,
// and so counts for no policy that asks for one, as Kritis' do. OpenPGP keys sign simple
// ones only.
const (
	// SimpleSigning is a payload with its signature.
	SimpleSigning Form = ""
	// JWT is a token of Binary Authorization.
	JWT Form = "jwt"
	// DSSE is an envelope that holds the payload. Its note must be one of DSSE
	// attestations.
	DSSE Form = "dsse"
)

// simpleSigning is the word for the zero Form.
const simpleSigning = "simple-signing"

// ParseForm reads the word for a form; "" is SimpleSigning.
func ParseForm(s string) (Form, error) {
	switch s {
	case "", simpleSigning:
		return SimpleSigning, nil
	case string(JWT), string(DSSE):
		return Form(s), nil
	}
	return SimpleSigning, fmt.Errorf("%.50q is not one of %s, %s, %s", s, simpleSigning, JWT, DSSE)
}

// String returns the word for the form.
func (f Form) String() string {
	if f == SimpleSigning {
		return simpleSigning
	}
	return string(f)
}

// Kind is that of occurrences of the form, and of their notes.
func (f Form) Kind() grafeas.NoteKind {
	if f == DSSE {
		return grafeas.NoteKind_DSSE_ATTESTATION
	}
	return grafeas.NoteKind_ATTESTATION
}

// namesRepository reports whether an attestation says of which repository it is.
func (f Form) namesRepository() bool { return f != JWT }

// Sealed is a statement about an image that has been signed.
type Sealed struct {
	// Occurrence is it as it is filed, without its note.
	Occurrence *grafeas.Occurrence
	// Body is what it says, and Signature what was made over it: the whole token, for a
	// JWT.
	Body, Signature []byte
}

// Seal signs the statement about an image. typ is the type of its payload, such as
// [signature.TypeBinauthz]. The error names the key.
func (f Form) Seal(ctx context.Context, s signature.Signer, ref image.Reference, payload []byte, now time.Time) (Sealed, error) {
	o := &grafeas.Occurrence{ResourceUri: ref.ResourceURI(), Kind: f.Kind()}
	switch f {
	case JWT:
		token, err := signature.SignJWT(ctx, s, signature.JWTClaims{Digest: ref.Digest(), IssuedAt: now})
		if err != nil {
			return Sealed{}, err
		}
		o.Details = &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{Jwts: []*grafeas.Jwt{{CompactJwt: token}}}}
		return Sealed{Occurrence: o, Signature: []byte(token)}, nil
	case DSSE:
		e, err := signature.SignEnvelope(ctx, s, signature.PayloadTypeSimpleSigning, payload)
		if err != nil {
			return Sealed{}, err
		}
		sig := e.Signatures()[0]
		o.Details = &grafeas.Occurrence_DsseAttestation{DsseAttestation: &grafeas.DSSEAttestationOccurrence{Envelope: &grafeas.Envelope{
			Payload: payload, PayloadType: e.PayloadType(), Signatures: []*grafeas.EnvelopeSignature{{Keyid: sig.KeyID, Sig: sig.Sig}},
		}}}
		return Sealed{Occurrence: o, Body: payload, Signature: sig.Sig}, nil
	}
	sig, err := sign(ctx, s, payload)
	if err != nil {
		return Sealed{}, err
	}
	o.Details = &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
		SerializedPayload: payload,
		Signatures:        []*grafeas.Signature{{Signature: sig, PublicKeyId: s.KeyID()}},
	}}
	return Sealed{Occurrence: o, Body: payload, Signature: sig}, nil
}

// NewNote returns the note of this name, projects/P/notes/N, that attestations of the
// form can be filed under.
func (f Form) NewNote(name, description string) *grafeas.Note {
	n := &grafeas.Note{Name: name, ShortDescription: description, Kind: f.Kind()}
	id := noteID(name)
	if f == DSSE {
		n.Type = &grafeas.Note_DsseAttestation{DsseAttestation: &grafeas.DSSEAttestationNote{Hint: &grafeas.DSSEAttestationNote_DSSEHint{HumanReadableName: id}}}
		return n
	}
	n.Type = &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: id}}}
	return n
}
