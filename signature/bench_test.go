package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// batch is how many calls are timed at once: enough that what they leave to
// collect is counted with them.
const batch = 16

// benchmarkAgainst reports what ours costs, and how many times that is of bare.
// The two take turns, so that a machine with other things to do slows both, and
// the middle of all batches is taken.
func benchmarkAgainst(b *testing.B, bare, ours func() bool) {
	b.Helper()
	timed := func(f func() bool) time.Duration {
		start := time.Now()
		for range batch {
			if !f() {
				b.Fatal("it does not verify")
			}
		}
		return time.Since(start) / batch
	}
	var bares, all []time.Duration
	for b.Loop() {
		bares = append(bares, timed(bare))
		all = append(all, timed(ours))
	}
	slices.Sort(bares)
	slices.Sort(all)
	mid := len(all) / 2
	b.ReportMetric(float64(all[mid]), "ns/op")
	b.ReportMetric(float64(all[mid])/float64(bares[mid]), "×bare")
}

// bareCheck is the check of one signature over payload by the pool's key with
// nothing around it: hash and primitive.
func bareCheck(b *testing.B, alg Algorithm, payload []byte) func() bool {
	b.Helper()
	sig := mustSign(b, pkixSignerFor(b, alg), payload)
	d, _ := alg.details()
	digest := func() []byte {
		h := d.hash.New()
		h.Write(payload)
		return h.Sum(nil)
	}
	switch key := poolKey(b, alg).Public().(type) {
	case *rsa.PublicKey:
		if d.scheme == schemePSS {
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}
			return func() bool { return rsa.VerifyPSS(key, d.hash, digest(), sig, opts) == nil }
		}
		return func() bool { return rsa.VerifyPKCS1v15(key, d.hash, digest(), sig) == nil }
	case *ecdsa.PublicKey:
		return func() bool { return ecdsa.VerifyASN1(key, digest(), sig) }
	case ed25519.PublicKey:
		return func() bool { return ed25519.Verify(key, payload, sig) }
	case *mldsa65.PublicKey:
		return func() bool { return mldsa65.Verify(key, payload, nil, sig) }
	}
	b.Fatalf("no bare check for %s", alg)
	return nil
}

// bareP256 is the yardstick of what has no primitive of its own.
func bareP256(b *testing.B) func() bool { return bareCheck(b, ECDSAP256SHA256, testPayload()) }

func BenchmarkVerify(b *testing.B) {
	payload := testPayload()
	for _, alg := range PKIXAlgorithms() {
		b.Run(string(alg), func(b *testing.B) {
			s := pkixSignerFor(b, alg)
			k, sig := s.PublicKey(), mustSign(b, s, payload)
			benchmarkAgainst(b, bareCheck(b, alg, payload), func() bool { _, err := k.Verify(payload, sig); return err == nil })
		})
	}
}

// pgpBenchKeys are the OpenPGP keys in use, and the primitive below each.
func pgpBenchKeys() map[string]struct {
	config *packet.Config
	bare   Algorithm
} {
	return map[string]struct {
		config *packet.Config
		bare   Algorithm
	}{
		"Ed25519":  {entityConfig(), Ed25519},
		"P-256":    {&packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256}, ECDSAP256SHA256},
		"RSA-2048": {&packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048}, RSAPKCS12048SHA256},
		"RSA-3072": {&packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 3072}, RSAPKCS13072SHA256},
		"RSA-4096": {&packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 4096}, RSAPKCS14096SHA256},
	}
}

func BenchmarkVerifyPGP(b *testing.B) {
	payload := testPayload()
	for name, tt := range pgpBenchKeys() {
		e := newEntity(b, tt.config)
		k := mustPGPKey(b, publicArmor(b, e))
		var msg bytes.Buffer
		if err := writeSigned(&msg, payload, e.PrivateKey, testTime, tt.config.Random()); err != nil {
			b.Fatal(err)
		}
		ops, err := splitPackets(msg.Bytes(), 10)
		if err != nil {
			b.Fatal(err)
		}
		detached := oldPacket(tagSignature, 2, ops[2].Contents)
		inArmour, err := enarmor(armorSignature, msg.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		for form, sig := range map[string][]byte{"detached": detached, "inline": msg.Bytes(), "inline in armour": inArmour} {
			b.Run(name+"/"+form, func(b *testing.B) {
				benchmarkAgainst(b, bareCheck(b, tt.bare, payload), func() bool { _, err := k.Verify(payload, sig); return err == nil })
			})
		}
	}
}

func BenchmarkVerifyJWT(b *testing.B) {
	for _, alg := range []Algorithm{ECDSAP256SHA256, Ed25519, RSAPSS2048SHA256} {
		b.Run(string(alg), func(b *testing.B) {
			k, token := pkixSignerFor(b, alg).PublicKey(), goodJWT(b, alg)
			benchmarkAgainst(b, bareCheck(b, alg, []byte(token)), func() bool { _, err := k.VerifyJWT(token); return err == nil })
		})
	}
}

func BenchmarkVerifyEnvelope(b *testing.B) {
	s := pkixSignerFor(b, ECDSAP256SHA256)
	for name, body := range map[string][]byte{
		"1 KiB":   bytes.Repeat([]byte("a"), 1<<10),
		"100 KiB": bytes.Repeat([]byte("a"), 100<<10),
	} {
		b.Run(name, func(b *testing.B) {
			pae := PAE("t", body)
			key, sig := s.PublicKey().key.(*pkixKey), signDER(b, pae)
			text := envelopeOf("t", body, `{"sig":"`+encodeStd(sig)+`"}`)
			benchmarkAgainst(b, func() bool { return key.valid(pae, sig) }, func() bool {
				e, err := ParseEnvelope(text)
				if err != nil {
					return false
				}
				_, err = s.PublicKey().VerifyEnvelope(e)
				return err == nil
			})
		})
	}
}

// signDER signs more bytes than a Signer takes, with the pool's P-256 key in DER.
func signDER(b *testing.B, message []byte) []byte {
	b.Helper()
	d, _ := ECDSAP256SHA256.details()
	sig, err := poolKey(b, ECDSAP256SHA256).Sign(nil, d.digest(message), crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	return sig
}

func BenchmarkMemo(b *testing.B) {
	s, m := pgpSignerFor(b), NewMemo(1000)
	k, sig, payload := s.PublicKey(), mustSign(b, s, testPayload()), testPayload()
	benchmarkAgainst(b, bareP256(b), func() bool { _, err := m.Verify(k, payload, sig); return err == nil })
}

func BenchmarkParseKey(b *testing.B) {
	b.Run("PGP", func(b *testing.B) {
		text := pgpSignerFor(b).PublicKey().Marshal()
		benchmarkAgainst(b, bareP256(b), func() bool { _, err := ParsePGPPublicKey(text); return err == nil })
	})
	for _, alg := range []Algorithm{ECDSAP256SHA256, MLDSA65} {
		b.Run(string(alg), func(b *testing.B) {
			text := pkixSignerFor(b, alg).PublicKey().Marshal()
			benchmarkAgainst(b, bareP256(b), func() bool { _, err := ParsePKIXPublicKey(text, alg, ""); return err == nil })
		})
	}
}

func BenchmarkParsePayload(b *testing.B) {
	payload := testPayload()
	benchmarkAgainst(b, bareP256(b), func() bool { _, err := ParsePayload(payload); return err == nil })
}
