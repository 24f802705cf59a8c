package signature

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/gatehouse-dev/gatehouse/image"
)

// testTime is when test keys are made and test signatures dated.
var testTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func testClock() time.Time { return testTime }

// keyPool makes one private key for each algorithm and run: RSA keys are slow.
type keyPool struct {
	mu   sync.Mutex
	keys map[Algorithm]func() ([]byte, error)
}

var pool = keyPool{keys: map[Algorithm]func() ([]byte, error){}}

func (p *keyPool) pem(t testing.TB, alg Algorithm) []byte {
	t.Helper()
	// RSA algorithms of one size share a key.
	source := alg
	switch alg {
	case RSAPKCS12048SHA256:
		source = RSAPSS2048SHA256
	case RSAPKCS13072SHA256:
		source = RSAPSS3072SHA256
	case RSAPKCS14096SHA256, RSAPKCS14096SHA512, RSAPSS4096SHA512:
		source = RSAPSS4096SHA256
	}
	p.mu.Lock()
	generate, ok := p.keys[source]
	if !ok {
		generate = sync.OnceValues(func() ([]byte, error) { return GeneratePKIX(source, nil) })
		p.keys[source] = generate
	}
	p.mu.Unlock()
	text, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pkixSignerFor(t testing.TB, alg Algorithm) Signer {
	t.Helper()
	s, err := ParsePKIXSigner(pool.pem(t, alg), alg, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testPayload() []byte {
	return NewPayload("registry.example.com/shop/cart", image.DigestOf([]byte("manifest")), TypeBinauthz)
}

func pgpPrivateFor(t testing.TB) []byte {
	t.Helper()
	text, err := GeneratePGP("Made For Tests <tests@example.com>", testTime, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pgpSignerFor(t testing.TB) Signer {
	t.Helper()
	s, err := ParsePGPSigner(pgpPrivateFor(t), nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entityConfig makes small keys.
func entityConfig() *packet.Config {
	return &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519}
}

func newEntity(t testing.TB, config *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Made For Tests", "", "tests@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func privateArmor(t testing.TB, config *packet.Config, entities ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entities {
		if err := e.SerializePrivateWithoutSigning(&b, config); err != nil {
			t.Fatal(err)
		}
	}
	text, err := enarmor(armorPrivateKey, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func publicArmor(t testing.TB, entities ...*openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entities {
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	text, err := enarmor(armorPublicKey, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mustSign(t testing.TB, s Signer, payload []byte) []byte {
	t.Helper()
	sig, err := s.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func mustPGPKey(t testing.TB, text string) *PublicKey {
	t.Helper()
	k, err := ParsePGPPublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
