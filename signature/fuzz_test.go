package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func FuzzVerifyPGP(f *testing.F) {
	s := pgpSignerFor(f)
	other := pgpSignerFor(f)
	payload := testPayload()
	sig := mustSign(f, s, payload)
	packets, _, err := unarmor(sig)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add(packets)
	f.Add([]byte(base64.StdEncoding.EncodeToString(sig)))
	f.Add(mustSign(f, other, payload))
	f.Add(append([]byte{0xa3, 0}, packets...))
	f.Add([]byte{0xa3, 1, 0x4b, 4, 0})
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\n=abcd\n-----END PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		signed, err := s.PublicKey().Verify(nil, sig)
		if err != nil {
			if !errors.Is(err, ErrNotVerified) || signed != nil {
				t.Fatalf("Verify = %q, %v", signed, err)
			}
			return
		}
		// Only one payload was ever signed with this key.
		if !bytes.Equal(signed, payload) {
			t.Fatalf("verified as %q", signed)
		}
	})
}

func FuzzParsePGPPublicKey(f *testing.F) {
	e := newEntity(f, entityConfig())
	text := publicArmor(f, e)
	lines := strings.Split(text, "\n")
	f.Add(text)
	f.Add(strings.Join(lines[2:len(lines)-1], "\n"))
	f.Add(base64.StdEncoding.EncodeToString([]byte(text)))
	f.Add(string(pgpPrivateFor(f)))
	f.Add(string(mustUnarmor(f, text)))
	v6 := newEntity(f, &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true})
	f.Add(string(mustUnarmor(f, publicArmor(f, v6))))
	rsaKey := newEntity(f, &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048})
	f.Add(string(mustUnarmor(f, publicArmor(f, rsaKey))))
	ecKey := newEntity(f, &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256})
	f.Add(string(mustUnarmor(f, publicArmor(f, ecKey))))
	if err := e.AddSigningSubkey(entityConfig()); err != nil {
		f.Fatal(err)
	}
	f.Add(publicArmor(f, e))
	f.Add(string(mustUnarmor(f, publicArmor(f, e))))
	if err := e.RevokeKey(packet.KeyCompromised, "", entityConfig()); err != nil {
		f.Fatal(err)
	}
	f.Add(string(mustUnarmor(f, publicArmor(f, e))))
	f.Add("=abcd")
	payload := testPayload()
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePGPPublicKey(text)
		if err != nil {
			if k != nil {
				t.Fatal("a key beside an error")
			}
			return
		}
		if n := len(k.ID()); n != 40 && n != 64 {
			t.Fatalf("id %q", k.ID())
		}
		again, err := ParsePGPPublicKey(k.Marshal())
		if err != nil || again.ID() != k.ID() || again.Fingerprint() != k.Fingerprint() || again.Marshal() != k.Marshal() {
			t.Fatalf("Marshal does not read back: %v", err)
		}
		if _, err := k.Verify(payload, []byte{0xc2, 4, 4, 0, 1, 8}); err == nil {
			t.Fatal("a signature of nothing verifies")
		}
	})
}

func FuzzParsePKIXPublicKey(f *testing.F) {
	for _, alg := range []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256, MLDSA65} {
		f.Add(pkixSignerFor(f, alg).PublicKey().Marshal(), string(alg), "")
		f.Add(pkixSignerFor(f, alg).PublicKey().Marshal(), string(alg), "//cloudkms.googleapis.com/v1/x")
		f.Add(string(pool.pem(f, alg)), string(alg), "a b")
	}
	f.Fuzz(func(t *testing.T, text, alg, id string) {
		k, err := ParsePKIXPublicKey(text, Algorithm(alg), id)
		if err != nil {
			return
		}
		if id != "" && k.ID() != id {
			t.Fatalf("id %q became %q", id, k.ID())
		}
		again, err := ParsePKIXPublicKey(k.Marshal(), k.Algorithm(), k.ID())
		if err != nil || again.Fingerprint() != k.Fingerprint() || again.Marshal() != k.Marshal() {
			t.Fatalf("Marshal does not read back: %v", err)
		}
		if _, err := k.Verify([]byte("payload"), []byte("signature")); err == nil {
			t.Fatal("nonsense verifies")
		}
	})
}

func FuzzParsePayload(f *testing.F) {
	f.Add(testPayload())
	f.Add([]byte(`{"optional":{"a":1.5e3},"critical":{"type":"ATOMIC container signature","image":{"docker-manifest-digest":"` + zeroDigest + `"}}}`))
	f.Add([]byte(`{"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `","docker-manifest-digest":""}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePayload(b)
		if err != nil {
			if p != (Payload{}) {
				t.Fatalf("%+v beside an error", p)
			}
			return
		}
		if p.Digest.IsZero() || !bytes.Contains(b, []byte(p.Digest.String()[7:])) && !bytes.Contains(b, []byte(`\u`)) {
			t.Fatalf("digest %s is not in %q", p.Digest, b)
		}
		again, err := ParsePayload(NewPayload(p.Repository, p.Digest, p.Type))
		if err != nil || again != p {
			t.Fatalf("%+v reads back as %+v, %v", p, again, err)
		}
	})
}

func FuzzParsePKIXSigner(f *testing.F) {
	for _, alg := range []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256, MLDSA65} {
		f.Add(pool.pem(f, alg), string(alg))
		f.Add([]byte(pkixSignerFor(f, alg).PublicKey().Marshal()), "")
	}
	f.Fuzz(func(t *testing.T, text []byte, alg string) {
		s, err := ParsePKIXSigner(text, Algorithm(alg), "")
		if err != nil {
			if s != nil {
				t.Fatal("a signer beside an error")
			}
			return
		}
		// A private key whose halves differ signs nothing; any other is of use.
		sig, err := s.Sign(t.Context(), testPayload())
		if err != nil {
			return
		}
		if _, err := s.PublicKey().Verify(testPayload(), sig); err != nil {
			t.Fatalf("it signs what does not verify: %v", err)
		}
	})
}

func FuzzVerifyPKIX(f *testing.F) {
	payload := testPayload()
	algorithms := []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256, RSAPKCS12048SHA256, MLDSA65}
	for i, alg := range algorithms {
		f.Add(byte(i), payload, mustSign(f, pkixSignerFor(f, alg), payload))
	}
	f.Fuzz(func(t *testing.T, which byte, data, sig []byte) {
		alg := algorithms[int(which)%len(algorithms)]
		signed, err := pkixSignerFor(t, alg).PublicKey().Verify(data, sig)
		switch {
		case err != nil && (!errors.Is(err, ErrNotVerified) || signed != nil):
			t.Fatalf("Verify = %q, %v", signed, err)
		case err == nil && !bytes.Equal(data, payload): // the only thing ever signed
			t.Fatalf("%q verifies", data)
		}
	})
}

func FuzzVerifyJWT(f *testing.F) {
	algorithms := []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256}
	signed := map[string]bool{}
	for i, alg := range algorithms {
		token := goodJWT(f, alg)
		// An ECDSA signature has a twin; what is signed has not.
		signed[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add(byte(i), token)
		f.Add(byte(i+1), token)
	}
	f.Add(byte(0), "..")
	f.Add(byte(1), encodeURL([]byte(`{"typ":"JWT","alg":"none","kid":"k"}`))+"."+encodeURL([]byte(goodClaims))+".")
	f.Fuzz(func(t *testing.T, which byte, token string) {
		k := pkixSignerFor(t, algorithms[int(which)%len(algorithms)]).PublicKey()
		p, err := k.VerifyJWT(token)
		if err != nil {
			if p != (Payload{}) {
				t.Fatalf("%+v beside an error", p)
			}
			return
		}
		if !signed[token[:strings.LastIndexByte(token, '.')]] || p.Digest.String() != oneDigest {
			t.Fatalf("%q verifies as %+v", token, p)
		}
		if id, err := JWTKeyID(token); err != nil || !k.Matches(id) {
			t.Fatalf("JWTKeyID = %q, %v", id, err)
		}
	})
}

// Signed claims can be anything that an attestor's owner let be signed.
func FuzzParseClaims(f *testing.F) {
	f.Add([]byte(goodClaims))
	f.Add([]byte(`{"sub":"container:digest:` + oneDigest + `","aud":["x","//binaryauthorization.googleapis.com"],"exp":2e9,"nbf":1.5,"iat":1}`))
	f.Add([]byte(`{"sub":null,"aud":[null],"exp":"1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseClaims(b)
		if err != nil {
			if p != (Payload{}) {
				t.Fatalf("%+v beside an error", p)
			}
			return
		}
		if p.Digest.IsZero() || p.Type != TypeJWT || p.Repository != "" {
			t.Fatalf("%q reads as %+v", b, p)
		}
		if !p.NotAfter.IsZero() && !p.NotBefore.Before(p.NotAfter) {
			t.Fatalf("%q holds never: %+v", b, p)
		}
	})
}

func FuzzParseJWTHeader(f *testing.F) {
	f.Add([]byte(jwtHeaderFor(f, ECDSAP256SHA256)))
	f.Add([]byte(`{"typ":"jwt","alg":"HS256","kid":"k"}`))
	f.Add([]byte(`{"typ":"JWT","alg":"ES256","kid":"k","crit":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseJWTHeader(b)
		if err != nil {
			return
		}
		if !strings.EqualFold(h.Type, "JWT") || h.KeyID == "" || strings.HasPrefix(h.Algorithm, "HS") || strings.EqualFold(h.Algorithm, "none") || h.Algorithm == "" {
			t.Fatalf("%q reads as %+v", b, h)
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	s := pkixSignerFor(f, Ed25519)
	f.Add(envelopeBy(f, PayloadTypeInToto, []byte(goodStatement), s))
	f.Add(envelopeBy(f, PayloadTypeSimpleSigning, testPayload(), s, pkixSignerFor(f, ECDSAP256SHA256)))
	f.Add([]byte(`{"payloadType":"t","payload":"-_-_","signatures":[{"sig":"AA=="},{"sig":"AAA=","keyid":"k"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			if e != nil {
				t.Fatal("an envelope beside an error")
			}
			return
		}
		if len(e.signatures) == 0 || len(e.body) == 0 || e.payloadType == "" {
			t.Fatalf("%q reads as %+v", b, e)
		}
		m, err := s.PublicKey().VerifyEnvelope(e)
		if err != nil {
			return
		}
		// Only two messages were ever signed.
		if got := string(m.Body()); (got != goodStatement || m.PayloadType() != PayloadTypeInToto) &&
			(got != string(testPayload()) || m.PayloadType() != PayloadTypeSimpleSigning) {
			t.Fatalf("%q of type %q verifies", got, m.PayloadType())
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	f.Add([]byte(goodStatement))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"a","digest":{"sha1":"x"}}],"predicateType":"p","predicate":{"a":[{}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readStatement(b)
		if err != nil {
			return
		}
		if len(s.Subjects) == 0 || s.PredicateType == "" || (s.Type != StatementV1 && s.Type != StatementV01) {
			t.Fatalf("%q reads as %+v", b, s)
		}
		for _, subject := range s.Subjects {
			if s.About(subject.Digest) == subject.Digest.IsZero() {
				t.Fatalf("%q: about %s?", b, subject.Digest)
			}
		}
	})
}
