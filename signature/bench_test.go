package signature

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"
)

// bareCheck times a bare ECDSA P-256 check over the same payload, the yardstick
// of this package's benchmarks.
func bareCheck(b *testing.B) time.Duration {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	payload := testPayload()
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	const rounds = 250
	start := time.Now()
	for range rounds {
		sum := sha256.Sum256(payload)
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("bare check failed")
		}
	}
	return time.Since(start) / rounds
}

func benchmarkVerify(b *testing.B, verify func() error) {
	b.Helper()
	before := bareCheck(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := verify(); err != nil {
			b.Fatal(err)
		}
	}
	elapsed := b.Elapsed()
	bare := (before + bareCheck(b)) / 2 // the machine may be busier by now
	b.ReportMetric(float64(elapsed)/float64(b.N)/float64(bare), "×bare-P256")
}

func BenchmarkVerify(b *testing.B) {
	payload := testPayload()
	for _, alg := range PKIXAlgorithms() {
		b.Run(string(alg), func(b *testing.B) {
			s := pkixSignerFor(b, alg)
			k, sig := s.PublicKey(), mustSign(b, s, payload)
			benchmarkVerify(b, func() error { _, err := k.Verify(payload, sig); return err })
		})
	}
	b.Run("PGP", func(b *testing.B) {
		s := pgpSignerFor(b)
		k, sig := s.PublicKey(), mustSign(b, s, payload)
		benchmarkVerify(b, func() error { _, err := k.Verify(nil, sig); return err })
	})
	b.Run("memo", func(b *testing.B) {
		s := pgpSignerFor(b)
		k, sig, m := s.PublicKey(), mustSign(b, s, payload), NewMemo(1000)
		benchmarkVerify(b, func() error { _, err := m.Verify(k, payload, sig); return err })
	})
}

func BenchmarkParseKey(b *testing.B) {
	b.Run("PGP", func(b *testing.B) {
		text := pgpSignerFor(b).PublicKey().Marshal()
		benchmarkVerify(b, func() error { _, err := ParsePGPPublicKey(text); return err })
	})
	b.Run("PKIX", func(b *testing.B) {
		text := pkixSignerFor(b, ECDSAP256SHA256).PublicKey().Marshal()
		benchmarkVerify(b, func() error { _, err := ParsePKIXPublicKey(text, ECDSAP256SHA256, ""); return err })
	})
}

func BenchmarkParsePayload(b *testing.B) {
	payload := testPayload()
	benchmarkVerify(b, func() error { _, err := ParsePayload(payload); return err })
}
