package admin_test

import (
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"

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

// jwt makes a JWT attestation of the digest, with more claims.
func jwt(t *testing.T, s signature.Signer, d image.Digest, more string) string {
	t.Helper()
	if more != "" {
		more = ", " + more
	}
	part := base64.RawURLEncoding.EncodeToString
	input := part(fmt.Appendf(nil, `{"typ": "JWT", "alg": "ES256", "kid": %q}`, s.KeyID())) + "." +
		part(fmt.Appendf(nil, `{"sub": "container:digest:%s", "aud": "//binaryauthorization.googleapis.com"%s}`, d, more))
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(ok[[]byte](t)(s.Sign(t.Context(), []byte(input))), &sig); err != nil {
		t.Fatal(err)
	}
	return input + "." + part(append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...))
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
	token := func(claims string) *grafeas.AttestationOccurrence {
		return &grafeas.AttestationOccurrence{Jwts: []*grafeas.Jwt{{CompactJwt: jwt(t, signer, digest, claims)}}}
	}
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
		{"a token", name, token(""), "projects/p/notes/n", uri, ""},
		{"a token of this hour", name, token(fmt.Sprintf(`"nbf": %d, "exp": %d`, noon.Unix(), noon.Unix()+3600)), "projects/p/notes/n", uri, ""},
		{"a token that has expired", name, token(fmt.Sprintf(`"exp": %d`, noon.Unix())), "projects/p/notes/n", uri, "expired"},
		{"a token for later", name, token(fmt.Sprintf(`"nbf": %d`, noon.Unix()+60)), "projects/p/notes/n", uri, "does not count before"},
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
