package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func TestSignedContentIsBounded(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	k := mustPGPKey(t, publicArmor(t, e))
	for size, want := range map[int]error{MaxPayload: nil, MaxPayload + 1: ErrMalformed} {
		var b bytes.Buffer
		if err := writeSigned(&b, make([]byte, size), e.PrivateKey, testTime, rand.Reader); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(nil, b.Bytes()); !errors.Is(err, want) {
			t.Errorf("content of %d bytes: %v, want %v", size, err, want)
		}
	}
}

func TestDetachedSignatureOverNothingIsRefused(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	var b bytes.Buffer
	if err := writeSigned(&b, nil, e.PrivateKey, testTime, rand.Reader); err != nil {
		t.Fatal(err)
	}
	ops, err := splitPackets(b.Bytes(), 10)
	if err != nil {
		t.Fatal(err)
	}
	detached := oldPacket(tagSignature, 2, ops[2].Contents)
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, detached); !errors.Is(err, ErrMalformed) {
		t.Errorf("OpenPGP: %v, want ErrMalformed", err)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	k, err := newPKIXPublicKey(&key.PublicKey, ECDSAP256SHA256, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(nil, sig); !errors.Is(err, ErrMalformed) {
		t.Errorf("PKIX: %v, want ErrMalformed", err)
	}
}

func TestVerifyBoundsItsInput(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, Ed25519).PublicKey()
	for name, tt := range map[string]struct{ payload, sig []byte }{
		"payload":   {make([]byte, MaxPayload+1), []byte("sig")},
		"signature": {testPayload(), make([]byte, MaxSignature+1)},
		"nothing":   {testPayload(), nil},
	} {
		if _, err := k.Verify(tt.payload, tt.sig); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// messageBy returns a message over the test payload by a private key, without
// the checks that a Signer makes.
func messageBy(t *testing.T, key *packet.PrivateKey) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeSigned(&b, testPayload(), key, testTime, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// resign signs the user ids and subkeys of e anew after a change.
func resign(t *testing.T, e *openpgp.Entity) {
	t.Helper()
	if err := e.SerializePrivate(&bytes.Buffer{}, entityConfig()); err != nil {
		t.Fatal(err)
	}
}

func TestSubkeyThatIsNotForSigning(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	if err := e.AddSigningSubkey(entityConfig()); err != nil {
		t.Fatal(err)
	}
	sub := e.Subkeys[len(e.Subkeys)-1]
	msg := messageBy(t, sub.PrivateKey)
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, msg); err != nil {
		t.Fatal(err)
	}
	sub.Sig.FlagSign, sub.Sig.FlagAuthenticate = false, true
	resign(t, e)
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, msg); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("Verify = %v, want ErrUnsuitable", err)
	}
}

func TestKeyWithoutFlagsSigns(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	for _, identity := range e.Identities {
		identity.SelfSignature.FlagsValid = false
		identity.SelfSignature.FlagSign, identity.SelfSignature.FlagCertify = false, false
	}
	resign(t, e)
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, messageBy(t, e.PrivateKey)); err != nil {
		t.Errorf("a key of old that names no uses: %v", err)
	}
}

func TestPrimaryKeyThatIsNotForSigning(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	if err := e.AddSigningSubkey(entityConfig()); err != nil {
		t.Fatal(err)
	}
	for _, identity := range e.Identities {
		identity.SelfSignature.FlagSign = false
	}
	resign(t, e)
	k := mustPGPKey(t, publicArmor(t, e))
	if _, err := k.Verify(nil, messageBy(t, e.PrivateKey)); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("by the primary key: %v, want ErrUnsuitable", err)
	}
	if _, err := k.Verify(nil, messageBy(t, e.Subkeys[len(e.Subkeys)-1].PrivateKey)); err != nil {
		t.Errorf("by the subkey: %v", err)
	}
}

func TestKeyWhoseUserIDsAreAllRevoked(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	for id, identity := range e.Identities {
		revocation := &packet.Signature{
			Version: 4, SigType: packet.SigTypeCertificationRevocation, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo,
			Hash: digestFor(e.PrimaryKey), CreationTime: testTime, IssuerKeyId: &e.PrimaryKey.KeyId,
		}
		if err := revocation.SignUserId(id, e.PrimaryKey, e.PrivateKey, entityConfig()); err != nil {
			t.Fatal(err)
		}
		identity.Signatures = append(identity.Signatures, revocation)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	if _, err := k.Verify(nil, messageBy(t, e.PrivateKey)); !errors.Is(err, ErrRevoked) || !k.Revoked() {
		t.Errorf("Verify = %v, Revoked is %v; want ErrRevoked and true", err, k.Revoked())
	}
	if err := e.AddUserId("Another", "", "tests2@example.com", entityConfig()); err != nil {
		t.Fatal(err)
	}
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, messageBy(t, e.PrivateKey)); err != nil {
		t.Errorf("with another user id: %v", err)
	}
}

func TestPGPKeySizesAreBounded(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint]error{2047: ErrWeak, 2048: nil, 8192: nil, 8193: ErrUnsupported} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		key := packet.NewRSAPublicKey(testTime, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
		if err := checkPGPAlgorithm(key); !errors.Is(err, want) {
			t.Errorf("RSA of %d bits: %v, want %v", bits, err, want)
		}
	}
	e := newEntity(t, entityConfig())
	packets := mustUnarmor(t, publicArmor(t, e))
	subkey := []byte{0xc0 | tagPublicSubkey, 1, 4}
	if err := checkKeyPackets(append(packets, bytes.Repeat(subkey, maxSubkeys)...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d subkeys: %v, want ErrMalformed", maxSubkeys+1, err)
	}
}

func TestExpiredSubkeyLeavesSigningToThePrimary(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	short := entityConfig()
	short.KeyLifetimeSecs = 3600
	if err := e.AddSigningSubkey(short); err != nil {
		t.Fatal(err)
	}
	sub := e.Subkeys[len(e.Subkeys)-1].PublicKey
	now := testTime
	s, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	picked := func() uint64 {
		t.Helper()
		key, err := s.(*pgpSigner).pick(now)
		if err != nil {
			t.Fatal(err)
		}
		return key.KeyId
	}
	if got := picked(); got != sub.KeyId {
		t.Errorf("before expiry %X signs, want the subkey %X", got, sub.KeyId)
	}
	now = testTime.Add(2 * time.Hour)
	if got := picked(); got != e.PrimaryKey.KeyId {
		t.Errorf("after expiry %X signs, want the primary key %X", got, e.PrimaryKey.KeyId)
	}
}

func TestPGPSignHandsOutNoSignatureThatFails(t *testing.T) {
	t.Parallel()
	s := pgpSignerFor(t).(*pgpSigner)
	s.public = pgpSignerFor(t).PublicKey()
	if sig, err := s.Sign(t.Context(), testPayload()); !errors.Is(err, ErrNotVerified) || sig != nil {
		t.Errorf("Sign = %q, %v; want no signature and ErrNotVerified", sig, err)
	}
}

func TestSignatureOfAnotherVersionIsByAnotherKey(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	k := mustPGPKey(t, publicArmor(t, e)).key.(*pgpKey)
	for version, want := range map[int]error{4: nil, 6: ErrWrongKey} {
		sig := &packet.Signature{Version: version, IssuerKeyId: &e.PrimaryKey.KeyId}
		if _, err := k.signer(sig); !errors.Is(err, want) {
			t.Errorf("version %d: %v, want %v", version, err, want)
		}
	}
	if _, err := k.signer(&packet.Signature{Version: 4}); !errors.Is(err, ErrMalformed) {
		t.Errorf("without an issuer: %v, want ErrMalformed", err)
	}
}

// Parts of a key may be kept elsewhere, or still be locked: they are not picked.
func TestOnlyPartsWithTheirPrivateHalfSign(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	if err := e.AddSigningSubkey(config); err != nil {
		t.Fatal(err)
	}
	parsed, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	s := parsed.(*pgpSigner)
	sub := &s.entity.Subkeys[len(s.entity.Subkeys)-1]
	sub.PrivateKey.Encrypted = true
	key, err := s.pick(testTime)
	if err != nil || key == nil || key.KeyId != e.PrimaryKey.KeyId {
		t.Errorf("with the subkey locked: error %v; want the primary key", err)
	}
	s.entity.PrivateKey.Encrypted = true
	if _, err := s.pick(testTime); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("with both locked: %v, want ErrUnsuitable", err)
	}
	sub.PrivateKey, s.entity.PrivateKey = nil, nil
	if _, err := s.pick(testTime); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("with neither there: %v, want ErrUnsuitable", err)
	}
}
