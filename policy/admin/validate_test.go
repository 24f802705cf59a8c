package admin_test

import (
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func newSigner(t *testing.T, id string) signature.Signer {
	t.Helper()
	private := ok[[]byte](t)(signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader))
	return ok[signature.Signer](t)(signature.ParsePKIXSigner(private, signature.ECDSAP256SHA256, id))
}

func attestorWith(keys ...signature.Signer) string {
	list := []any{}
	for _, k := range keys {
		list = append(list, map[string]any{"id": k.KeyID(), "pkixPublicKey": map[string]any{
			"publicKeyPem": k.PublicKey().Marshal(), "signatureAlgorithm": "EC_SIGN_P256_SHA256", "keyId": k.KeyID(),
		}})
	}
	text, err := json.Marshal(map[string]any{"userOwnedGrafeasNote": map[string]any{"noteReference": "projects/p/notes/n", "publicKeys": list}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestAttestationsAreValidated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	signer, stranger := newSigner(t, "one"), newSigner(t, "two")
	digest, other := image.DigestOf([]byte("a")), image.DigestOf([]byte("b"))
	const name = "projects/p/attestors/a"
	sign := func(s signature.Signer, d image.Digest) *grafeas.AttestationOccurrence {
		payload := signature.NewPayload("r.example/app", d, "Google cloud binauthz container signature")
		return &grafeas.AttestationOccurrence{SerializedPayload: payload, Signatures: []*grafeas.Signature{
			{PublicKeyId: s.KeyID(), Signature: ok[[]byte](t)(s.Sign(ctx, payload))},
		}}
	}
	uri := "https://r.example/app@" + digest.String()
	_, err := f.ValidateAttestation(ctx, ann, name, sign(signer, digest), "projects/p/notes/n", uri)
	wantKind(t, err, metadata.NotFound, name)
	ok[admin.Version](t)(f.CreateAttestor(ctx, ann, "projects/p", "a", change(attestorWith(signer))))
	ok[admin.Version](t)(f.CreateAttestor(ctx, ann, "projects/p", "keyless", change(someAttestor)))
	for _, test := range []struct {
		what, attestor string
		attestation    *grafeas.AttestationOccurrence
		note, uri      string
		reason         string // "" is verified
	}{
		{"what it is for", name, sign(signer, digest), "projects/p/notes/n", uri, ""},
		{"without a scheme", name, sign(signer, digest), "projects/p/notes/n", strings.TrimPrefix(uri, "https://"), ""},
		{"in another repository", name, sign(signer, digest), "projects/p/notes/n", "elsewhere.example/x@" + digest.String(), ""},
		{"one of two", name, &grafeas.AttestationOccurrence{SerializedPayload: sign(signer, digest).SerializedPayload,
			Signatures: append([]*grafeas.Signature{{PublicKeyId: "no", Signature: []byte("x")}}, sign(signer, digest).Signatures...)}, "projects/p/notes/n", uri, ""},
		{"another note", name, sign(signer, digest), "projects/p/notes/m", uri, "occurrenceNote"},
		{"another digest", name, sign(signer, other), "projects/p/notes/n", uri, "what was signed"},
		{"a tag", name, sign(signer, digest), "projects/p/notes/n", "r.example/app:1", "digest"},
		{"another's key", name, sign(stranger, digest), "projects/p/notes/n", uri, "not one of the attestor's"},
		{"no signature", name, &grafeas.AttestationOccurrence{SerializedPayload: []byte("x")}, "projects/p/notes/n", uri, "no signature"},
		{"no keys", "projects/p/attestors/keyless", sign(signer, digest), "projects/p/notes/n", uri, "no public keys"},
	} {
		v, err := f.ValidateAttestation(ctx, ann, test.attestor, test.attestation, test.note, test.uri)
		if err != nil || v.Verified != (test.reason == "") || !strings.Contains(v.DenialReason, test.reason) {
			t.Errorf("%s: %+v, %v", test.what, v, err)
		}
	}
	_, err = f.ValidateAttestation(ctx, ann, name, nil, "", "")
	wantKind(t, err, metadata.InvalidArgument, "attestation is required", "occurrenceNote is required", "occurrenceResourceUri is required")
}

func TestKeysOfAttestors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	one := newSigner(t, "one")
	v := ok[admin.Version](t)(f.CreateAttestor(t.Context(), ann, "projects/p", "a", change(strings.ReplaceAll(attestorWith(one), `"one"`, `""`))))
	if want := `"id":"ni:///sha-256;`; !strings.Contains(string(v.Content), want) || !strings.Contains(string(v.Content), `"ECDSA_P256_SHA256"`) || strings.Contains(string(v.Content), "keyId") {
		t.Errorf("%s lacks %s", v.Content, want)
	}
	many := make([]signature.Signer, 1001)
	for i := range many {
		many[i] = one
	}
	for what, test := range map[string]struct{ body, text string }{
		"two of one id":            {attestorWith(one, newSigner(t, "one")), "given twice"},
		"an id that is no URI":     {strings.ReplaceAll(attestorWith(one), `"one"`, `"o ne"`), "URI"},
		"a key id of another":      {strings.Replace(attestorWith(one), `"keyId":"one"`, `"keyId":"two"`, 1), "keyId"},
		"an algorithm of another":  {strings.ReplaceAll(attestorWith(one), "EC_SIGN_P256_SHA256", "RSA_PSS_2048_SHA256"), "RSA"},
		"one for keys of lattices": {strings.ReplaceAll(attestorWith(one), "EC_SIGN_P256_SHA256", "ML_DSA_65"), "ML_DSA_65"},
		"too many keys":            {attestorWith(many...), "1001 public keys"},
	} {
		_, err := f.CreateAttestor(t.Context(), ann, "projects/p", "b", change(test.body))
		wantKind(t, err, metadata.InvalidArgument, test.text)
		if t.Failed() {
			t.Fatal(what)
		}
	}
}

// TestATokenIsValidatedByTheClock: one that has expired, or does not count yet, is no
// attestation, here as at the gate.
func TestATokenIsValidatedByTheClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := newFixture(t, nil, admin.Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	signer := newSigner(t, "one")
	d := image.DigestOf([]byte("a"))
	ok[admin.Version](t)(f.CreateAttestor(ctx, ann, "projects/p", "a", change(attestorWith(signer))))
	for what, test := range map[string]struct {
		notBefore, expires time.Duration
		reason             string
	}{
		"in its time": {-time.Hour, time.Hour, ""},
		"expired":     {-time.Hour, -time.Minute, "expired at 2026-11-30T11:59:00Z"},
		"not yet":     {time.Minute, time.Hour, "does not count before 2026-11-30T12:01:00Z"},
	} {
		attestation := &grafeas.AttestationOccurrence{Jwts: []*grafeas.Jwt{{CompactJwt: token(t, signer, d, now.Add(test.notBefore), now.Add(test.expires))}}}
		v, err := f.ValidateAttestation(ctx, ann, "projects/p/attestors/a", attestation, "projects/p/notes/n", "https://r.example/app@"+d.String())
		if err != nil || v.Verified != (test.reason == "") || !strings.Contains(v.DenialReason, test.reason) {
			t.Errorf("%s: %+v, %v", what, v, err)
		}
	}
}

// token makes a JWT attestation of the digest, by a P-256 key.
func token(t *testing.T, s signature.Signer, d image.Digest, notBefore, expires time.Time) string {
	t.Helper()
	part := func(v any) string {
		return base64.RawURLEncoding.EncodeToString(ok[[]byte](t)(json.Marshal(v)))
	}
	input := part(map[string]string{"typ": "JWT", "alg": "ES256", "kid": s.KeyID()}) + "." + part(map[string]any{
		"sub": "container:digest:" + d.String(), "aud": "//binaryauthorization.googleapis.com", "nbf": notBefore.Unix(), "exp": expires.Unix(),
	})
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(ok[[]byte](t)(s.Sign(t.Context(), []byte(input))), &sig); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(raw)
}
