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
	for _, alg := range []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256} {
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
