package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
)

// Whoever files an attestation chooses the key id in it, and may call a key of
// his own by the id of a trusted one.
func TestForgedKeyIDsDoNotVerify(t *testing.T) {
	t.Parallel()
	trusted := pkixSignerFor(t, ECDSAP256SHA256).PublicKey()
	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forger, err := NewPKIXSigner(thief, ECDSAP256SHA256, trusted.ID())
	if err != nil {
		t.Fatal(err)
	}
	if !trusted.Matches(forger.KeyID()) || trusted.Fingerprint() == forger.PublicKey().Fingerprint() {
		t.Fatal("the forger's key should have the id, and not the fingerprint")
	}
	wantNotVerified(t, trusted, testPayload(), mustSign(t, forger, testPayload()))
	wantEnvelopeRefused(t, trusted, envelopeBy(t, PayloadTypeInToto, []byte(goodStatement), forger), ErrNotVerified)
	// JWTs: TestVerifyJWTForgedKeyID. OpenPGP: TestPGPSignatureByAnotherKey.
}

// A signature about one image, moved to the payload of another.
func TestAnotherImagesPayloadDoesNotVerify(t *testing.T) {
	t.Parallel()
	mine := testPayload()
	other := NewPayload("registry.example.com/shop/cart", image.DigestOf([]byte("another manifest")), TypeBinauthz)
	for _, alg := range PKIXAlgorithms() {
		s := pkixSignerFor(t, alg)
		wantNotVerified(t, s.PublicKey(), other, mustSign(t, s, mine))
	}
	pgp := pgpSignerFor(t)
	_, parts := inner(t, mustSign(t, pgp, mine))
	_, theirs := inner(t, mustSign(t, pgp, other))
	for name, sig := range map[string][]byte{
		"message":                join(parts...),
		"detached":               parts[2],
		"content exchanged":      join(parts[0], theirs[1], parts[2]),
		"content put in between": join(parts[0], theirs[1], parts[1], parts[2]),
	} {
		if signed, err := pgp.PublicKey().Verify(other, sig); !errors.Is(err, ErrNotVerified) || signed != nil {
			t.Errorf("OpenPGP, %s: %q, %v", name, signed, err)
		}
	}
	// Without a payload beside it a message says itself what it is about.
	if signed, err := pgp.PublicKey().Verify(nil, join(parts...)); err != nil || bytes.Equal(signed, other) {
		t.Errorf("%q, %v", signed, err)
	}
	a, b := goodJWT(t, Ed25519), signJWT(t, Ed25519, jwtHeaderFor(t, Ed25519), strings.Replace(goodClaims, "1111", "2222", 1))
	p, q := strings.Split(a, "."), strings.Split(b, ".")
	wantJWTRefused(t, pkixSignerFor(t, Ed25519).PublicKey(), p[0]+"."+q[1]+"."+p[2], ErrNotVerified)
}

// What is refused may be of any size; what is said about it is not. Reasons are
// kept, logged and shown.
func TestErrorsDoNotRepeatTheirInput(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, Ed25519).PublicKey()
	long := strings.Repeat("\u2028x", 3000)
	token := func(header string) string {
		return encodeURL([]byte(header)) + "." + encodeURL([]byte(goodClaims)) + ".AAAA"
	}
	for name, refuse := range map[string]func() error{
		"payload, name": func() error {
			_, err := ParsePayload(fmt.Appendf(nil, `{%q:1,%q:1}`, long, long))
			return err
		},
		"payload, type": func() error { _, err := ParsePayload(NewPayload("r", mustDigest(t, zeroDigest), long)); return err },
		"payload, digest": func() error {
			_, err := ParsePayload(fmt.Appendf(nil, `{"critical":{"image":{"docker-manifest-digest":%q}}}`, long))
			return err
		},
		"header, name":     func() error { _, err := k.VerifyJWT(token(fmt.Sprintf(`{%q:1}`, long))); return err },
		"header, repeated": func() error { _, err := k.VerifyJWT(token(`{"kid":"k","kid":"` + long + `"}`)); return err },
		"header, typ":      func() error { _, err := k.VerifyJWT(token(`{"typ":"` + long + `"}`)); return err },
		"header, alg":      func() error { _, err := k.VerifyJWT(token(`{"typ":"JWT","kid":"k","alg":"` + long + `"}`)); return err },
		"header, kid": func() error {
			_, err := k.VerifyJWT(token(`{"typ":"JWT","alg":"EdDSA","kid":"` + long[:1000] + `"}`))
			return err
		},
		"claims, sub": func() error { _, err := parseClaims([]byte(`{"sub":"` + long + `"}`)); return err },
		"claims, exp": func() error {
			_, err := parseClaims([]byte(goodClaims[:len(goodClaims)-1] + `,"exp":"` + long + `"}`))
			return err
		},
		"claims, name":   func() error { _, err := parseClaims(fmt.Appendf(nil, `{%q:1,%q:1}`, long, long)); return err },
		"envelope, name": func() error { _, err := ParseEnvelope(fmt.Appendf(nil, `{%q:1,%q:1}`, long, long)); return err },
		"envelope, payload": func() error {
			_, err := ParseEnvelope([]byte(`{"payloadType":"t","payload":"` + long + `"}`))
			return err
		},
		"statement, _type": func() error { _, err := readStatement([]byte(`{"_type":"` + long + `"}`)); return err },
		"statement, name": func() error {
			_, err := readStatement(fmt.Appendf(nil, `{"predicate":{%q:1,%q:1}}`, long, long))
			return err
		},
	} {
		err := refuse()
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(fmt.Sprint(err)))
		}
	}
}
