package signature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// sealers are a signer of each algorithm.
func sealers(t *testing.T) map[Algorithm]Signer {
	t.Helper()
	all := map[Algorithm]Signer{}
	for _, alg := range []Algorithm{ECDSAP256SHA256, ECDSAP384SHA384, ECDSAP521SHA512, Ed25519, MLDSA65, RSAPSS2048SHA256, RSAPKCS12048SHA256} {
		key, err := GeneratePKIX(alg, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if all[alg], err = ParsePKIXSigner(key, alg, ""); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestJWTsAndEnvelopesOfEachAlgorithmVerify(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 5e8)
	digest := image.DigestOf([]byte("web"))
	for alg, s := range sealers(t) {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			token, err := SignJWT(t.Context(), s, JWTClaims{Digest: digest, IssuedAt: now, NotAfter: now.Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			p, err := s.PublicKey().VerifyJWT(token)
			if err != nil || p.Digest != digest || p.NotBefore.Unix() != now.Unix() || p.NotAfter.Unix() != now.Unix()+3600 {
				t.Errorf("got %+v, %v", p, err)
			}
			if id, err := JWTKeyID(token); err != nil || id != s.KeyID() {
				t.Errorf("key id %q, %v", id, err)
			}
			body := NewPayload("registry.example/web", digest, TypeAtomic)
			e, err := SignEnvelope(t.Context(), s, PayloadTypeSimpleSigning, body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			read, err := ParseEnvelope(text)
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.PublicKey().VerifyEnvelope(read)
			if err != nil || !bytes.Equal(m.Body(), body) || m.PayloadType() != PayloadTypeSimpleSigning || read.Signatures()[0].KeyID != s.KeyID() {
				t.Errorf("got %+v, %v", m, err)
			}
			if !bytes.Equal(read.UnverifiedBody(), body) || read.PayloadType() != PayloadTypeSimpleSigning {
				t.Error("it holds something else")
			}
		})
	}
}

// The form that Binary Authorization's documentation has.
func TestAJWTHasTheMembersThatItNeedsAndNoOthers(t *testing.T) {
	t.Parallel()
	s := sealers(t)[ECDSAP256SHA256]
	digest := image.DigestOf([]byte("web"))
	token, err := SignJWT(t.Context(), s, JWTClaims{Digest: digest, IssuedAt: time.Unix(1_800_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	for i, want := range []string{
		`{"typ":"JWT","alg":"ES256","kid":"` + s.KeyID() + `"}`,
		`{"sub":"container:digest:` + digest.String() + `","aud":"//binaryauthorization.googleapis.com","iat":1800000000}`,
	} {
		got, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || string(got) != want {
			t.Errorf("part %d is %s, %v; want %s", i, got, err, want)
		}
	}
}

func TestWhatCannotBeSealed(t *testing.T) {
	t.Parallel()
	pgpKey, err := GeneratePGP("x", time.Now().Add(-time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	pgp, err := ParsePGPSigner(pgpKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, digest, now := sealers(t)[Ed25519], image.DigestOf(nil), time.Unix(1_800_000_000, 0)
	for about, row := range map[string]struct {
		s  Signer
		c  JWTClaims
		is error
	}{
		"an OpenPGP key":              {pgp, JWTClaims{Digest: digest, IssuedAt: now}, ErrUnsupported},
		"no digest":                   {s, JWTClaims{IssuedAt: now}, ErrMalformed},
		"no time":                     {s, JWTClaims{Digest: digest}, ErrMalformed},
		"an end before the beginning": {s, JWTClaims{Digest: digest, IssuedAt: now, NotAfter: now.Add(-time.Second)}, ErrMalformed},
		"an end in the same second":   {s, JWTClaims{Digest: digest, IssuedAt: now.Add(time.Millisecond), NotAfter: now.Add(999 * time.Millisecond)}, ErrMalformed},
	} {
		if token, err := SignJWT(t.Context(), row.s, row.c); !errors.Is(err, row.is) || token != "" {
			t.Errorf("JWT, %s: %q, %v", about, token, err)
		}
	}
	for about, row := range map[string]struct {
		s    Signer
		typ  string
		body []byte
		is   error
	}{
		"an OpenPGP key": {pgp, "t", []byte("x"), ErrUnsupported},
		"no body":        {s, "t", nil, ErrMalformed},
		"no type":        {s, "", []byte("x"), ErrMalformed},
		"too much":       {s, "t", make([]byte, MaxPayload), ErrMalformed},
	} {
		if e, err := SignEnvelope(t.Context(), row.s, row.typ, row.body); !errors.Is(err, row.is) || e != nil {
			t.Errorf("envelope, %s: %v", about, err)
		}
	}
}

func TestARemoteSignerIsHeldToItsKey(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	another, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := NewPayload("r.example/x", image.DigestOf(nil), TypeAtomic)
	with := func(key *ecdsa.PrivateKey) RemoteSign {
		return func(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
			return key.Sign(rand.Reader, message, opts)
		}
	}
	for about, row := range map[string]struct {
		sign RemoteSign
		is   error
	}{
		"its own":      {with(key), nil},
		"another's":    {with(another), ErrNotVerified},
		"nothing":      {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }, ErrNotVerified},
		"what is down": {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errDown }, errDown},
	} {
		s, err := NewRemoteSigner(key.Public(), ECDSAP256SHA256, "id", row.sign)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign(t.Context(), payload)
		if !errors.Is(err, row.is) || (sig == nil) != (err != nil) {
			t.Errorf("%s: %x, %v", about, sig, err)
		}
	}
	if _, err := NewRemoteSigner(key.Public(), RSAPSS2048SHA256, "id", with(key)); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("another algorithm: %v", err)
	}
	if _, err := NewRemoteSigner(key.Public(), ECDSAP256SHA256, "id", nil); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("nothing to sign with: %v", err)
	}
	s, err := NewRemoteSigner(key.Public(), ECDSAP256SHA256, "id", with(key))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sign(ctx, payload); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
}

var errDown = errors.New("down")
