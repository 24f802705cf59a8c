package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
)

func TestPGPSigningSubkeys(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	before := mustPGPKey(t, publicArmor(t, e))
	later := *config
	later.Time = func() time.Time { return testTime.Add(time.Hour) }
	if err := e.AddSigningSubkey(&later); err != nil {
		t.Fatal(err)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	s, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(later.Time))
	if err != nil {
		t.Fatal(err)
	}
	if k.ID() != before.ID() || s.KeyID() != before.ID() {
		t.Error("a subkey changes the id of the key")
	}
	if k.Fingerprint() == before.Fingerprint() {
		t.Error("a signing subkey does not change the fingerprint")
	}
	sig := mustSign(t, s, testPayload())
	if _, err := k.Verify(nil, sig); err != nil {
		t.Error(err)
	}
	if _, err := before.Verify(nil, sig); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the key without the subkey: %v, want ErrWrongKey (the subkey signs)", err)
	}

	sub := &e.Subkeys[len(e.Subkeys)-1]
	if err := e.RevokeSubkey(sub, 0, "", &later); err != nil {
		t.Fatal(err)
	}
	revoked := mustPGPKey(t, publicArmor(t, e))
	if _, err := revoked.Verify(nil, sig); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked subkey: %v, want ErrRevoked", err)
	}
	if revoked.Revoked() {
		t.Error("a revoked subkey revokes the key")
	}
	s, err = ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(later.Time))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.Verify(nil, mustSign(t, s, testPayload())); err != nil {
		t.Errorf("with its subkey revoked the primary key should sign: %v", err)
	}
}

func TestPGPEncryptionSubkeysDoNotSign(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	with := mustPGPKey(t, publicArmor(t, e))
	e.Subkeys = nil
	without := mustPGPKey(t, publicArmor(t, e))
	if with.Fingerprint() != without.Fingerprint() {
		t.Error("an encryption subkey changes the fingerprint")
	}
}

func TestPGPRevokedKey(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	s, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	sig := mustSign(t, s, testPayload())
	before := mustPGPKey(t, publicArmor(t, e))
	if err := e.RevokeKey(packet.KeySuperseded, "", config); err != nil {
		t.Fatal(err)
	}
	k := mustPGPKey(t, publicArmor(t, e))
	if !k.Revoked() || before.Revoked() {
		t.Errorf("Revoked is %v, and was %v before", k.Revoked(), before.Revoked())
	}
	if k.Fingerprint() == before.Fingerprint() {
		t.Error("revocation does not change the fingerprint: verdicts would be kept")
	}
	if _, err := k.Verify(nil, sig); !errors.Is(err, ErrRevoked) {
		t.Errorf("Verify = %v, want ErrRevoked", err)
	}
	if _, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(testClock)); !errors.Is(err, ErrRevoked) {
		t.Errorf("ParsePGPSigner = %v, want ErrRevoked", err)
	}
}

func TestPGPExpiredKeyVerifiesAndDoesNotSign(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	config.KeyLifetimeSecs = 3600
	e := newEntity(t, config)
	text := privateArmor(t, config, e)
	now := testTime
	s, err := ParsePGPSigner(text, nil, WithClock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	sig := mustSign(t, s, testPayload())
	now = testTime.Add(2 * time.Hour)
	if _, err := s.Sign(t.Context(), testPayload()); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("Sign after expiry = %v, want ErrUnsuitable", err)
	}
	if _, err := ParsePGPSigner(text, nil, WithClock(func() time.Time { return now })); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("ParsePGPSigner after expiry = %v, want ErrUnsuitable", err)
	}
	if _, err := mustPGPKey(t, publicArmor(t, e)).Verify(nil, sig); err != nil {
		t.Errorf("an expired key should still verify: %v", err)
	}
}

func TestParsePGPPublicKeyForms(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	armored := publicArmor(t, e)
	want := mustPGPKey(t, armored)
	lines := strings.Split(armored, "\n")
	for name, text := range map[string]string{
		"no first and last line":            strings.Join(lines[1:len(lines)-1], "\n"),
		"no first and last line, Windows":   strings.Join(lines[2:len(lines)-1], "\r\n"),
		"no armour, no checksum":            strings.Join(lines[2:len(lines)-2], "\n"),
		"no armour, with headers":           "Version: x\n\n" + strings.Join(lines[2:len(lines)-1], "\n"),
		"base64 of armour":                  base64.StdEncoding.EncodeToString([]byte(armored)),
		"base64 of armour, in lines":        wrap(base64.StdEncoding.EncodeToString([]byte(armored+"\n")), 64),
		"armour without its empty line":     strings.Replace(armored, "\n\n", "\n", 1),
		"armour in Windows lines, indented": strings.ReplaceAll(armored, "\n", "\r\n  "),
		"its own Marshal":                   want.Marshal(),
	} {
		k, err := ParsePGPPublicKey(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k.ID() != want.ID() || k.Fingerprint() != want.Fingerprint() || k.Marshal() != want.Marshal() {
			t.Errorf("%s: it is another key", name)
		}
	}
}

func TestParsePGPPublicKeyRefuses(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e, f := newEntity(t, config), newEntity(t, config)
	good := publicArmor(t, e)
	weak := newEntity(t, &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024})
	koblitz := newEntity(t, &packet.Config{Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveSecP256k1})
	certifier := newEntity(t, config)
	for _, identity := range certifier.Identities {
		identity.SelfSignature.FlagSign = false
	}
	if err := certifier.SerializePrivate(&bytes.Buffer{}, config); err != nil { // signs anew
		t.Fatal(err)
	}
	nameless := newEntity(t, config)
	nameless.Identities = nil
	packets := mustUnarmor(t, good)
	for name, tt := range map[string]struct {
		text string
		want error
		says string
	}{
		"empty":               {"", ErrMalformed, "empty"},
		"a line end":          {"\n", ErrMalformed, "empty"},
		"a checksum":          {"=abcd", ErrMalformed, "nothing"},
		"text":                {"hello world", ErrMalformed, "base64"},
		"PEM":                 {pkixSignerFor(t, Ed25519).PublicKey().Marshal(), ErrMalformed, ""},
		"private key":         {string(privateArmor(t, config, e)), ErrUnsuitable, "--export"},
		"private, relabelled": {strings.ReplaceAll(string(privateArmor(t, config, e)), "PRIVATE", "PUBLIC"), ErrUnsuitable, "--export"},
		"signature":           {string(mustSign(t, pgpSignerFor(t), testPayload())), ErrMalformed, "PGP SIGNATURE"},
		"message as a key":    {string(mustEnarmor(t, armorPublicKey, mustUnarmor(t, string(mustSign(t, pgpSignerFor(t), testPayload()))))), ErrMalformed, "a message"},
		"two keys":            {publicArmor(t, e, f), ErrMalformed, "exactly one"},
		"two blocks":          {good + "\n" + publicArmor(t, f), ErrMalformed, "one block"},
		"text before":         {"key: " + good, ErrMalformed, ""},
		"cut":                 {string(mustEnarmor(t, armorPublicKey, packets[:len(packets)-40])), ErrMalformed, ""},
		"no user id":          {publicArmor(t, nameless), ErrMalformed, ""},
		"RSA 1024":            {publicArmor(t, weak), ErrWeak, "1024"},
		"secp256k1":           {publicArmor(t, koblitz), ErrUnsupported, "P-256"},
		"not for signing":     {publicArmor(t, certifier), ErrUnsuitable, "not for signing"},
		"too long":            {good + strings.Repeat("\n", MaxKey), ErrMalformed, "more than"},
		"too many packets":    {string(mustEnarmor(t, armorPublicKey, bytes.Repeat([]byte{0xc0 | tagMarker, 0}, maxKeyPackets+1))), ErrMalformed, "packets"},
	} {
		if _, err := ParsePGPPublicKey(tt.text); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %v that says %q", name, err, tt.want, tt.says)
		}
	}
}

func TestPGPKeyWithAForgedUserIDSignatureIsRefused(t *testing.T) {
	t.Parallel()
	e, f := newEntity(t, entityConfig()), newEntity(t, entityConfig())
	// The subkey of another key, with the signature that bound it there.
	if err := f.AddSigningSubkey(entityConfig()); err != nil {
		t.Fatal(err)
	}
	e.Subkeys = f.Subkeys
	if k, err := ParsePGPPublicKey(publicArmor(t, e)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a stolen subkey: %v, %v; want ErrMalformed", k, err)
	}
}

func TestParsePGPSignerPassphrase(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	pass := []byte("made for tests")
	if err := e.EncryptPrivateKeys(pass, config); err != nil {
		t.Fatal(err)
	}
	text := privateArmor(t, config, e)
	s, err := ParsePGPSigner(text, pass, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublicKey().Verify(nil, mustSign(t, s, testPayload())); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string][]byte{"none": nil, "wrong": []byte("guess-1234")} {
		_, err := ParsePGPSigner(text, wrong, WithClock(testClock))
		if !errors.Is(err, ErrUnsuitable) {
			t.Errorf("%s: %v, want ErrUnsuitable", name, err)
		}
		if err != nil && len(wrong) > 0 && strings.Contains(err.Error(), string(wrong)) {
			t.Errorf("%s: the error tells the passphrase: %v", name, err)
		}
	}
	if _, err := ParsePGPSigner(pgpPrivateFor(t), pass, WithClock(testClock)); err != nil {
		t.Errorf("a passphrase for a key that has none: %v", err)
	}
}

func TestParsePGPSignersOfARing(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	a, b := newEntity(t, config), newEntity(t, config)
	ring := privateArmor(t, config, a, b)
	last, err := ParsePGPSigner(ring, nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%X", b.PrimaryKey.Fingerprint); last.KeyID() != want {
		t.Errorf("ParsePGPSigner takes %s, want the last, %s", last.KeyID(), want)
	}
	all, err := ParsePGPSigners(ring, nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range all {
		ids = append(ids, s.KeyID())
		if _, err := s.PublicKey().Verify(nil, mustSign(t, s, testPayload())); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("%X", a.PrimaryKey.Fingerprint), last.KeyID()}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

func TestParsePGPSignerRefuses(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"empty":              {"", ErrMalformed},
		"public key":         {publicArmor(t, e), ErrUnsuitable},
		"public, relabelled": {strings.ReplaceAll(publicArmor(t, e), "PUBLIC", "PRIVATE"), ErrUnsuitable},
		"signature":          {string(mustSign(t, pgpSignerFor(t), testPayload())), ErrMalformed},
		"PEM":                {string(pool.pem(t, Ed25519)), ErrMalformed},
		"no key":             {string(mustEnarmor(t, armorPrivateKey, []byte{0xc0 | tagMarker, 3, 'P', 'G', 'P'})), ErrMalformed},
		"too long":           {strings.Repeat("A", MaxKey+1), ErrMalformed},
	} {
		if _, err := ParsePGPSigner([]byte(tt.text), nil, WithClock(testClock)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if _, err := ParsePGPSigners([]byte(tt.text), nil, WithClock(testClock)); !errors.Is(err, tt.want) {
			t.Errorf("%s: ParsePGPSigners: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(func() time.Time { return testTime.Add(-time.Hour) })); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("before the key was made: %v, want ErrUnsuitable", err)
	}
}

func TestGeneratePGP(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ci", "CI Attestor <ci@example.com>", "<ci@example.com>"} {
		text, err := GeneratePGP(name, testTime, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		s, err := ParsePGPSigner(text, nil, WithClock(testClock))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if len(s.KeyID()) != 40 {
			t.Errorf("%q: id %q is no version 4 fingerprint", name, s.KeyID())
		}
	}
	for _, name := range []string{"", "a (b", "a <b", "a <b> c", "<>"} {
		if _, err := GeneratePGP(name, testTime, nil); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestPublicKeyIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Signer{"PGP": pgpSignerFor(t), "PKIX": pkixSignerFor(t, RSAPSS2048SHA256)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := make(chan error)
			for range 8 {
				go func() {
					for range 5 {
						sig, err := s.Sign(t.Context(), testPayload())
						if err == nil {
							_, err = s.PublicKey().Verify(testPayload(), sig)
						}
						done <- err
					}
				}()
			}
			for range 8 * 5 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
