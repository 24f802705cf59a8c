package signature

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A JWTClaims is what a JWT attestation states of an image.
type JWTClaims struct {
	Digest image.Digest
	// IssuedAt is when it is made. NotAfter is the first second at which it does not
	// hold any more; the zero time is no bound. Fractions of seconds are cut off.
	IssuedAt, NotAfter time.Time
}

// SignJWT returns a JWT attestation in compact form, as [PublicKey.VerifyJWT] takes it.
// OpenPGP keys sign none.
func SignJWT(ctx context.Context, s Signer, c JWTClaims) (string, error) {
	token, err := signJWTClaims(ctx, s, c)
	if err != nil {
		return "", fmt.Errorf("signing a JWT with key %q: %w", s.KeyID(), err)
	}
	return token, nil
}

func signJWTClaims(ctx context.Context, s Signer, c JWTClaims) (string, error) {
	key := s.PublicKey()
	d, ok := key.Algorithm().details()
	switch {
	case !ok:
		return "", fmt.Errorf("%w: keys of algorithm %s sign no JWTs", ErrUnsupported, key.Algorithm())
	case c.Digest.IsZero():
		return "", fmt.Errorf("%w: there is no digest to state anything of", ErrMalformed)
	case c.IssuedAt.IsZero() || !c.NotAfter.IsZero() && !c.NotAfter.Truncate(time.Second).After(c.IssuedAt):
		return "", fmt.Errorf("%w: it would end (exp) before it begins (iat)", ErrMalformed)
	}
	header, err := json.Marshal(jwtHeader{Type: "JWT", Algorithm: d.jws, KeyID: s.KeyID()}, json.Deterministic(true))
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(struct {
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp,omitzero"`
	}{jwtSubject + c.Digest.String(), jwtAudience, c.IssuedAt.Unix(), unixOrZero(c.NotAfter)})
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sig, err := s.Sign(ctx, []byte(input))
	if err != nil {
		return "", err
	}
	if d.scheme == schemeECDSA {
		if sig, err = fixedSize(sig, d); err != nil {
			return "", err
		}
	}
	token := input + "." + base64.RawURLEncoding.EncodeToString(sig)
	if _, err := key.VerifyJWT(token); err != nil {
		return "", fmt.Errorf("checking the token just made: %w", err)
	}
	return token, nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// fixedSize turns the DER of an ECDSA signature into the two numbers of fixed size that
// JWS has (RFC 7518 §3.4).
func fixedSize(der []byte, d details) ([]byte, error) {
	input := cryptobyte.String(der)
	var inner cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	size := (d.ellipticCurve().Params().BitSize + 7) / 8
	if !input.ReadASN1(&inner, casn1.SEQUENCE) || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 8*size || s.BitLen() > 8*size {
		return nil, fmt.Errorf("%w: it is no ECDSA signature", ErrMalformed)
	}
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
}

// SignEnvelope returns a DSSE envelope of a body, with one signature, as
// [PublicKey.VerifyEnvelope] takes it. With its type the body has at most [MaxPayload]
// bytes. OpenPGP keys sign none.
func SignEnvelope(ctx context.Context, s Signer, payloadType string, body []byte) (*Envelope, error) {
	e, err := signEnvelope(ctx, s, payloadType, body)
	if err != nil {
		return nil, fmt.Errorf("signing a DSSE envelope with key %q: %w", s.KeyID(), err)
	}
	return e, nil
}

func signEnvelope(ctx context.Context, s Signer, payloadType string, body []byte) (*Envelope, error) {
	key := s.PublicKey()
	if key.Algorithm() == PGP {
		return nil, fmt.Errorf("%w: OpenPGP keys sign no DSSE envelopes", ErrUnsupported)
	}
	if len(body) == 0 {
		return nil, fmt.Errorf("%w: the body is empty", ErrMalformed)
	}
	sig, err := s.Sign(ctx, PAE(payloadType, body))
	if err != nil {
		return nil, err
	}
	e, err := NewEnvelope(payloadType, body, []EnvelopeSignature{{KeyID: s.KeyID(), Sig: sig}})
	if err != nil {
		return nil, err
	}
	if _, err := key.VerifyEnvelope(e); err != nil {
		return nil, fmt.Errorf("checking the envelope just made: %w", err)
	}
	return e, nil
}

// PayloadType returns the type under which the body is signed, if it is.
func (e *Envelope) PayloadType() string { return e.payloadType }

// UnverifiedBody returns what the envelope holds, whoever wrote it. It is not to be
// changed.
func (e *Envelope) UnverifiedBody() []byte { return e.body }

// Signatures returns the envelope's signatures, whoever made them. They are not to be
// changed.
func (e *Envelope) Signatures() []EnvelopeSignature {
	list := make([]EnvelopeSignature, len(e.signatures))
	for i, s := range e.signatures {
		list[i] = EnvelopeSignature{KeyID: s.keyID, Sig: s.sig}
	}
	return list
}

// MarshalJSON returns the JSON form of the envelope, as [ParseEnvelope] reads it.
func (e *Envelope) MarshalJSON() ([]byte, error) {
	wire := struct {
		PayloadType string                  `json:"payloadType"`
		Payload     string                  `json:"payload"`
		Signatures  []envelopeSignatureJSON `json:"signatures"`
	}{PayloadType: e.payloadType, Payload: base64.StdEncoding.EncodeToString(e.body)}
	for _, s := range e.signatures {
		wire.Signatures = append(wire.Signatures, envelopeSignatureJSON{KeyID: s.keyID, Sig: base64.StdEncoding.EncodeToString(s.sig)})
	}
	return json.Marshal(wire)
}
