package signature

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const hour = 3600

// lasting makes a configuration for keys and signatures of a number of seconds,
// or for ever with 0, made some time after testTime.
func lasting(seconds uint32, after time.Duration) *packet.Config {
	config := entityConfig()
	config.KeyLifetimeSecs = seconds
	config.Time = func() time.Time { return testTime.Add(after) }
	return config
}

// dated returns a message over the test payload that says when it was made,
// whatever the key's validity.
func dated(t *testing.T, key *packet.PrivateKey, after time.Duration) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeSigned(&b, testPayload(), key, testTime.Add(after), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wantDated checks which dates of a signature by key count under k.
func wantDated(t *testing.T, k *PublicKey, key *packet.PrivateKey, dates map[time.Duration]bool) {
	t.Helper()
	for after, want := range dates {
		_, err := k.Verify(testPayload(), dated(t, key, after))
		if want && err != nil {
			t.Errorf("dated %v after the key: %v", after, err)
		}
		if !want && (!errors.Is(err, ErrUnsuitable) || !errors.Is(err, ErrNotVerified)) {
			t.Errorf("dated %v after the key: %v, want ErrUnsuitable", after, err)
		}
	}
}

func wantExpires(t *testing.T, k *PublicKey, want time.Duration, does bool) {
	t.Helper()
	at, ok := k.Expires()
	if ok != does || (does && !at.Equal(testTime.Add(want))) || (!does && !at.IsZero()) {
		t.Errorf("Expires = %v, %v; want %v, %v", at, ok, testTime.Add(want), does)
	}
}

func TestPGPSignatureCountsWhenMadeInTheKeysTime(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*packet.Config{
		"version 4": lasting(hour, 0),
		"version 6": {Time: testClock, Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true, KeyLifetimeSecs: hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEntity(t, config)
			k := mustPGPKey(t, publicArmor(t, e))
			wantExpires(t, k, time.Hour, true)
			wantDated(t, k, e.PrivateKey, map[time.Duration]bool{
				-24 * time.Hour: false, -time.Second: false,
				0: true, time.Second: true, time.Hour: true,
				time.Hour + time.Second: false, 1000 * time.Hour: false,
			})
		})
	}
}

func TestPGPKeyThatDoesNotExpire(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(0, 0))
	k := mustPGPKey(t, publicArmor(t, e))
	wantExpires(t, k, 0, false)
	wantExpires(t, pkixSignerFor(t, Ed25519).PublicKey(), 0, false)
	wantExpires(t, new(PublicKey), 0, false)
	wantDated(t, k, e.PrivateKey, map[time.Duration]bool{-time.Second: false, 0: true, 100_000 * time.Hour: true})
}

func TestPGPSubkeysHaveATimeOfTheirOwn(t *testing.T) {
	t.Parallel()
	// The primary key from 0 to 10 h, its subkey from 1 h to 3 h.
	e := newEntity(t, lasting(10*hour, 0))
	if err := e.AddSigningSubkey(lasting(2*hour, time.Hour)); err != nil {
		t.Fatal(err)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	wantExpires(t, k, 10*time.Hour, true)
	wantDated(t, k, e.Subkeys[len(e.Subkeys)-1].PrivateKey, map[time.Duration]bool{
		0: false, time.Hour - time.Second: false, time.Hour: true, 3 * time.Hour: true, 3*time.Hour + time.Second: false,
	})
	wantDated(t, k, e.PrivateKey, map[time.Duration]bool{0: true, 10 * time.Hour: true, 10*time.Hour + time.Second: false})
}

func TestPGPSubkeyEndsWithItsPrimary(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(2*hour, 0))
	if err := e.AddSigningSubkey(lasting(0, 0)); err != nil {
		t.Fatal(err)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	wantExpires(t, k, 2*time.Hour, true)
	wantDated(t, k, e.Subkeys[len(e.Subkeys)-1].PrivateKey, map[time.Duration]bool{2 * time.Hour: true, 2*time.Hour + time.Second: false})
}

// A subkey may be older than the key that took it in.
func TestPGPSubkeyBeginsWithItsPrimary(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(0, 0))
	if err := e.AddSigningSubkey(lasting(0, -24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	wantDated(t, k, e.Subkeys[len(e.Subkeys)-1].PrivateKey, map[time.Duration]bool{-time.Hour: false, 0: true})
}

// bySubkeysOnly makes a key whose primary part only certifies.
func bySubkeysOnly(t *testing.T, seconds ...uint32) *openpgp.Entity {
	t.Helper()
	e := newEntity(t, lasting(0, 0))
	for _, s := range seconds {
		if err := e.AddSigningSubkey(lasting(s, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, identity := range e.Identities {
		identity.SelfSignature.FlagSign = false
	}
	resign(t, e)
	return e
}

func TestPGPKeyExpiresWithTheLastOfItsParts(t *testing.T) {
	t.Parallel()
	wantExpires(t, mustPGPKey(t, publicArmor(t, bySubkeysOnly(t, 5*hour, 2*hour, 3*hour))), 5*time.Hour, true)
	wantExpires(t, mustPGPKey(t, publicArmor(t, bySubkeysOnly(t, 5*hour, 0))), 0, false)
}

// certified returns the key with a newer signature on its user id, by which it
// lasts another number of seconds.
func certified(t *testing.T, e *openpgp.Entity, keySeconds, sigSeconds uint32) *PublicKey {
	t.Helper()
	for id, identity := range e.Identities {
		old := identity.SelfSignature
		sig := &packet.Signature{
			Version: 4, SigType: packet.SigTypePositiveCert, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: old.Hash,
			CreationTime: old.CreationTime.Add(time.Minute), IssuerKeyId: &e.PrimaryKey.KeyId,
			FlagsValid: true, FlagSign: true, FlagCertify: true, KeyLifetimeSecs: &keySeconds, SigLifetimeSecs: &sigSeconds,
		}
		if err := sig.SignUserId(id, e.PrimaryKey, e.PrivateKey, entityConfig()); err != nil {
			t.Fatal(err)
		}
		identity.Signatures = append(identity.Signatures, sig)
		identity.SelfSignature = sig
	}
	return mustPGPKey(t, publicArmor(t, e))
}

func TestPGPNewestSelfSignatureSaysWhenAKeyExpires(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(2*hour, 0))
	short := mustPGPKey(t, publicArmor(t, e))
	long := certified(t, e, 5*hour, 0)
	wantExpires(t, long, 5*time.Hour, true)
	wantDated(t, long, e.PrivateKey, map[time.Duration]bool{3 * time.Hour: true, 6 * time.Hour: false})
	if long.ID() != short.ID() || long.Fingerprint() == short.Fingerprint() {
		t.Error("the id must stay and the fingerprint change with the expiry: verdicts depend on it")
	}

	// Verdicts by one are not the other's.
	memo := NewMemo(10)
	sig := dated(t, e.PrivateKey, 3*time.Hour)
	if _, err := memo.Verify(long, testPayload(), sig); err != nil {
		t.Error(err)
	}
	if _, err := memo.Verify(short, testPayload(), sig); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("through the memo, by the key that had expired: %v", err)
	}

	shortened := certified(t, e, hour, 0)
	wantDated(t, shortened, e.PrivateKey, map[time.Duration]bool{time.Hour: true, 3 * time.Hour: false})
}

// A self-signature that ends takes with it what it says: that the key is its
// owner's and may sign.
func TestPGPKeyEndsWithItsSelfSignature(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(0, 0))
	k := certified(t, e, 10*hour, 2*hour)
	end := 2*time.Hour + time.Minute // its own creation counts
	wantExpires(t, k, end, true)
	wantDated(t, k, e.PrivateKey, map[time.Duration]bool{end: true, end + time.Second: false})
}

// Only what is signed says when a signature was made.
func TestPGPDateOutsideWhatIsSignedIsIgnored(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(hour, 0))
	k := mustPGPKey(t, publicArmor(t, e))
	ops, err := splitPackets(dated(t, e.PrivateKey, 2*time.Hour), 10)
	if err != nil {
		t.Fatal(err)
	}
	b := ops[2].Contents
	hashed := int(b[4])<<8 | int(b[5])
	at := 6 + hashed // where the length of the unhashed part stands
	made := uint32(testTime.Unix())
	subpacket := []byte{5, 2, byte(made >> 24), byte(made >> 16), byte(made >> 8), byte(made)}
	unhashed := int(b[at])<<8 | int(b[at+1]) + len(subpacket)
	forged := join(b[:at], []byte{byte(unhashed >> 8), byte(unhashed)}, subpacket, b[at+2:])
	for name, contents := range map[string][]byte{"honest": b, "with another date": forged} {
		if _, err := k.Verify(testPayload(), oldPacket(tagSignature, 2, contents)); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("%s: %v, want ErrUnsuitable", name, err)
		}
	}
}

// In a message with several signatures, one that does not count is no
// obstacle, and helps none that does not either.
func TestPGPOneSignatureInTimeIsEnough(t *testing.T) {
	t.Parallel()
	e := newEntity(t, lasting(hour, 0))
	k := mustPGPKey(t, publicArmor(t, e))
	detached := func(after time.Duration) []byte {
		ops, err := splitPackets(dated(t, e.PrivateKey, after), 10)
		if err != nil {
			t.Fatal(err)
		}
		return oldPacket(tagSignature, 2, ops[2].Contents)
	}
	late, early, good := detached(2*time.Hour), detached(-time.Hour), detached(0)
	if _, err := k.Verify(testPayload(), join(late, early, good)); err != nil {
		t.Error(err)
	}
	if _, err := k.Verify(testPayload(), join(late, early)); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("%v, want ErrUnsuitable", err)
	}
}

func TestGnuPGExpiryThatWasShortened(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	g.run(nil, "--faked-system-time", "20200101T000000", "--quick-gen-key", "short", "ed25519", "sign", "never")
	fpr := g.fingerprint("short")
	in := g.run(testPayload(), "--faked-system-time", "20200110T000000", "-u", fpr, "--sign")
	after := g.run(testPayload(), "--faked-system-time", "20210101T000000", "-u", fpr, "--sign")
	before := mustPGPKey(t, g.export(fpr))
	g.run(nil, "--faked-system-time", "20200201T000000", "--quick-set-expire", fpr, "20d")
	k := mustPGPKey(t, g.export(fpr))

	for name, sig := range map[string][]byte{"in time": in, "after": after} {
		if _, err := before.Verify(testPayload(), sig); err != nil {
			t.Errorf("%s, with the key that did not expire: %v", name, err)
		}
	}
	if at, ok := k.Expires(); !ok || at.Format(time.DateOnly) != "2020-02-21" {
		t.Errorf("Expires = %v, %v", at, ok)
	}
	if _, err := k.Verify(testPayload(), in); err != nil {
		t.Errorf("in time: %v", err)
	}
	if _, err := k.Verify(testPayload(), after); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("after: %v, want ErrUnsuitable", err)
	}
}
