package signature

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
)

func TestPGPSignAndVerify(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*packet.Config{
		"EdDSA version 4":   entityConfig(),
		"Ed25519 version 6": {Time: testClock, Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true},
		"Ed448 version 6":   {Time: testClock, Algorithm: packet.PubKeyAlgoEd448, V6Keys: true},
		"RSA":               {Time: testClock, Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048},
		"P-256":             {Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256},
		"P-384":             {Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP384},
		"P-521":             {Time: testClock, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP521},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEntity(t, config)
			s, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(testClock))
			if err != nil {
				t.Fatal(err)
			}
			k := mustPGPKey(t, publicArmor(t, e))
			if want := fmt.Sprintf("%X", e.PrimaryKey.Fingerprint); k.ID() != want || s.KeyID() != want {
				t.Errorf("ids are %q and %q, want %q", k.ID(), s.KeyID(), want)
			}
			if k.Fingerprint() != s.PublicKey().Fingerprint() || k.Algorithm() != PGP {
				t.Error("the signer's key is not the public key")
			}
			payload := testPayload()
			sig := mustSign(t, s, payload)
			for _, beside := range [][]byte{payload, nil} {
				signed, err := k.Verify(beside, sig)
				if err != nil || !bytes.Equal(signed, payload) {
					t.Fatalf("Verify = %q, %v", signed, err)
				}
			}
		})
	}
}

func TestPGPSignatureHasTheFormOthersExchange(t *testing.T) {
	t.Parallel()
	sig := mustSign(t, pgpSignerFor(t), testPayload())
	if !bytes.HasPrefix(sig, []byte("-----BEGIN PGP SIGNATURE-----\n\n")) || !bytes.HasSuffix(sig, []byte("\n-----END PGP SIGNATURE-----")) {
		t.Errorf("armour is\n%s", sig)
	}
	packets, _, err := unarmor(sig)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := splitPackets(packets, 10)
	if err != nil {
		t.Fatal(err)
	}
	var tags []uint8
	for _, op := range ops {
		tags = append(tags, op.Tag)
	}
	if diff := cmp.Diff([]uint8{tagOnePass, tagLiteral, tagSignature}, tags); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
	if b := ops[0].Contents; b[0] != 3 || b[1] != 0 || b[2] != 8 || b[12] != 1 {
		t.Errorf("one-pass packet is % x: want version 3, type 0, SHA-256, last", b)
	}
}

func TestPGPMatches(t *testing.T) {
	t.Parallel()
	k := pgpSignerFor(t).PublicKey()
	for id, want := range map[string]bool{
		k.ID():                              true,
		"openpgp4fpr:" + k.ID():             true,
		strings.ToLower(k.ID()):             false,
		k.ID()[24:]:                         false,
		"0x" + k.ID():                       false,
		"":                                  false,
		"openpgp4fpr:":                      false,
		"openpgp4fpr:openpgp4fpr:" + k.ID(): false,
	} {
		if got := k.Matches(id); got != want {
			t.Errorf("Matches(%q) = %v", id, got)
		}
	}
}

func TestPGPMessageTampering(t *testing.T) {
	t.Parallel()
	s := pgpSignerFor(t)
	payload := testPayload()
	packets, _, err := unarmor(mustSign(t, s, payload))
	if err != nil {
		t.Fatal(err)
	}
	for i := range packets {
		altered := append([]byte{}, packets...)
		altered[i] ^= 0x10
		// What is not signed may change (the one-pass packet, the literal's
		// header, hints): the payload must not.
		if signed, err := s.PublicKey().Verify(nil, altered); err == nil && !bytes.Equal(signed, payload) {
			t.Fatalf("with byte %d altered it verifies as %q", i, signed)
		}
	}
	at := bytes.Index(packets, []byte("docker-reference"))
	altered := append([]byte{}, packets...)
	altered[at] ^= 1
	wantNotVerified(t, s.PublicKey(), nil, altered)
	for n := range len(packets) {
		wantNotVerified(t, s.PublicKey(), nil, packets[:n])
	}
}

func TestPGPContentMustEqualThePayload(t *testing.T) {
	t.Parallel()
	s := pgpSignerFor(t)
	sig := mustSign(t, s, testPayload())
	_, err := s.PublicKey().Verify(append(testPayload(), ' '), sig)
	if !errors.Is(err, ErrPayloadMismatch) || !errors.Is(err, ErrNotVerified) {
		t.Errorf("Verify = %v, want ErrPayloadMismatch and ErrNotVerified", err)
	}
}

func TestPGPSignatureByAnotherKey(t *testing.T) {
	t.Parallel()
	a, b := pgpSignerFor(t), pgpSignerFor(t)
	sig := mustSign(t, b, testPayload())
	_, err := a.PublicKey().Verify(nil, sig)
	if !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), b.KeyID()) {
		t.Errorf("Verify = %v, want ErrWrongKey that names %s", err, b.KeyID())
	}
	// A signature that claims to be by a: the hint is not believed.
	packets, _, err := unarmor(sig)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.ReplaceAll(packets, unhex(t, b.KeyID()), unhex(t, a.KeyID()))
	forged = bytes.ReplaceAll(forged, unhex(t, b.KeyID()[24:]), unhex(t, a.KeyID()[24:]))
	_, err = a.PublicKey().Verify(nil, forged)
	if !errors.Is(err, ErrNotVerified) || errors.Is(err, ErrWrongKey) {
		t.Errorf("forged issuer: %v, want a failed verification", err)
	}
}

// inner returns the one-pass, literal and signature packets of a message.
func inner(t *testing.T, armored []byte) (packets []byte, parts [][]byte) {
	t.Helper()
	packets, _, err := unarmor(armored)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := splitPackets(packets, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		var b bytes.Buffer
		if err := op.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, b.Bytes())
	}
	return packets, parts
}

// oldPacket frames contents in the old packet format with a length of n bytes,
// or for 0 of indeterminate length.
func oldPacket(tag byte, n int, contents []byte) []byte {
	var head []byte
	switch n {
	case 0:
		head = []byte{0x80 | tag<<2 | 3}
	case 1:
		head = []byte{0x80 | tag<<2, byte(len(contents))}
	case 2:
		head = []byte{0x80 | tag<<2 | 1, byte(len(contents) >> 8), byte(len(contents))}
	default:
		head = []byte{0x80 | tag<<2 | 2, 0, 0, byte(len(contents) >> 8), byte(len(contents))}
	}
	return append(head, contents...)
}

func compressedPacket(t *testing.T, algorithm byte, data []byte) []byte {
	t.Helper()
	b := bytes.NewBuffer([]byte{algorithm})
	switch algorithm {
	case 0:
		b.Write(data)
	case 1:
		w, err := flate.NewWriter(b, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	case 2:
		w := zlib.NewWriter(b)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return oldPacket(tagCompressed, 0, b.Bytes())
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestPGPMessageForms(t *testing.T) {
	t.Parallel()
	s, other := pgpSignerFor(t), pgpSignerFor(t)
	payload := testPayload()
	armored := mustSign(t, s, payload)
	packets, p := inner(t, armored)
	_, q := inner(t, mustSign(t, other, payload))
	ops, err := splitPackets(packets, 10)
	if err != nil {
		t.Fatal(err)
	}
	literal := ops[1].Contents
	encoded := base64.StdEncoding.EncodeToString
	marker := []byte{0xc0 | tagMarker, 3, 'P', 'G', 'P'}

	for name, sig := range map[string][]byte{
		"armour":                      armored,
		"armour of type MESSAGE":      bytes.ReplaceAll(armored, []byte("SIGNATURE"), []byte("MESSAGE")),
		"armour with headers, CRLF":   bytes.ReplaceAll(bytes.Replace(armored, []byte("\n\n"), []byte("\nVersion: x\nComment: y: z\n\n"), 1), []byte("\n"), []byte("\r\n")),
		"armour, indented":            bytes.ReplaceAll(append([]byte("\n  "), armored...), []byte("\n"), []byte("\n    ")),
		"armour without a checksum":   withoutChecksum(armored),
		"base64 of armour":            []byte(encoded(armored)),
		"base64 of armour, in lines":  []byte(wrap(encoded(append(armored, '\n')), 76)),
		"base64 of packets":           []byte(encoded(packets)),
		"packets":                     packets,
		"old headers":                 join(oldPacket(tagOnePass, 1, ops[0].Contents), oldPacket(tagLiteral, 2, literal), oldPacket(tagSignature, 4, ops[2].Contents)),
		"marker and padding packets":  join(marker, p[0], marker, p[1], []byte{0xc0 | tagPadding, 2, 9, 9}, p[2], marker),
		"signature before content":    join(p[2], p[1]),
		"uncompressed compression":    compressedPacket(t, 0, packets),
		"zip":                         compressedPacket(t, 1, packets),
		"zlib":                        compressedPacket(t, 2, packets),
		"signed by two, ours first":   join(q[0], p[0], p[1], p[2], q[2]),
		"signed by two, ours last":    join(p[0], q[0], p[1], q[2], p[2]),
		"a second, unknown signature": join(p[0], p[0], p[1], []byte{0xc0 | tagSignature, 5, 3, 1, 2, 3, 4}, p[2]),
	} {
		for _, beside := range [][]byte{payload, nil} {
			signed, err := s.PublicKey().Verify(beside, sig)
			if err != nil || !bytes.Equal(signed, payload) {
				t.Errorf("%s: %q, %v", name, signed, err)
			}
		}
	}
	for name, sig := range map[string][]byte{
		"detached, packets":         p[2],
		"detached, base64":          []byte(encoded(p[2])),
		"detached, two signatures":  join(q[2], p[2]),
		"detached, old header":      oldPacket(tagSignature, 2, ops[2].Contents),
		"detached, in armour":       mustEnarmor(t, armorSignature, p[2]),
		"detached, base64 of armor": []byte(encoded(mustEnarmor(t, armorSignature, p[2]))),
	} {
		if signed, err := s.PublicKey().Verify(payload, sig); err != nil || !bytes.Equal(signed, payload) {
			t.Errorf("%s: %q, %v", name, signed, err)
		}
		wantNotVerified(t, s.PublicKey(), nil, sig)
		wantNotVerified(t, s.PublicKey(), append(testPayload(), ' '), sig)
	}
}

func mustEnarmor(t *testing.T, kind string, packets []byte) []byte {
	t.Helper()
	text, err := enarmor(kind, packets)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func withoutChecksum(armored []byte) []byte {
	var out []string
	for _, line := range splitLines(armored) {
		if !strings.HasPrefix(line, "=") {
			out = append(out, line)
		}
	}
	return []byte(strings.Join(out, "\n"))
}

func wrap(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\n")
		s = s[width:]
	}
	return b.String() + s + "\n"
}

func TestPGPMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := pgpSignerFor(t)
	payload := testPayload()
	armored := mustSign(t, s, payload)
	packets, p := inner(t, armored)
	ops, err := splitPackets(packets, 10)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(at int, to byte) []byte {
		contents := append([]byte{}, ops[2].Contents...)
		contents[at] = to
		return join(p[0], p[1], oldPacket(tagSignature, 2, contents))
	}
	bomb := compressedPacket(t, 1, bytes.Repeat([]byte{0}, 64<<20))
	huge := join(p[0], oldPacket(tagLiteral, 4, append([]byte{'b', 0, 0, 0, 0, 0}, make([]byte, 60000)...)))
	for name, tt := range map[string]struct {
		sig  []byte
		want error
		says string
	}{
		"text":                    {[]byte("hello"), ErrMalformed, "base64"},
		"white space":             {[]byte(" \n "), ErrMalformed, "empty"},
		"clear-signed":            {bytes.Replace(armored, []byte("BEGIN PGP SIGNATURE"), []byte("BEGIN PGP SIGNED MESSAGE"), 1), ErrUnsupported, "--armor --sign"},
		"key in armour":           {[]byte(s.PublicKey().Marshal()), ErrMalformed, "PUBLIC KEY"},
		"key without armour":      {mustUnarmor(t, s.PublicKey().Marshal()), ErrMalformed, "a key where"},
		"two blocks":              {join(armored, []byte("\n"), armored), ErrMalformed, "one block"},
		"no end line":             {armored[:len(armored)-30], ErrMalformed, "no line"},
		"end line of other type":  {bytes.Replace(armored, []byte("END PGP SIGNATURE"), []byte("END PGP MESSAGE"), 1), ErrMalformed, "no line"},
		"empty armour":            {[]byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"), ErrMalformed, "nothing"},
		"unsigned":                {p[1], ErrMalformed, "not signed"},
		"unsigned, one-pass":      {join(p[0], p[1]), ErrMalformed, "not signed"},
		"no content":              {join(p[0], p[2]), ErrMalformed, "no content"},
		"two contents":            {join(p[0], p[1], p[1], p[2]), ErrMalformed, "two contents"},
		"two messages":            {join(packets, packets), ErrMalformed, "one-pass"},
		"signature too many":      {join(p[0], p[1], p[2], p[2]), ErrMalformed, "1 one-pass packets"},
		"trailing packet":         {join(packets, []byte{0xc0 | 63, 1, 1}), ErrMalformed, "type 63"},
		"trailing bytes":          {append(packets[:len(packets):len(packets)], 1), ErrMalformed, ""},
		"compressed twice":        {compressedPacket(t, 1, compressedPacket(t, 1, packets)), ErrUnsupported, "compression"},
		"compressed inside":       {join(p[0], oldPacket(tagCompressed, 2, append([]byte{0}, p[1]...)), p[2]), ErrUnsupported, "compression"},
		"compression unknown":     {oldPacket(tagCompressed, 2, append([]byte{9}, packets...)), ErrUnsupported, "algorithm 9"},
		"compression damaged":     {oldPacket(tagCompressed, 2, append([]byte{2}, packets...)), ErrMalformed, ""},
		"compression empty":       {oldPacket(tagCompressed, 1, nil), ErrMalformed, "empty"},
		"bomb":                    {bomb, ErrMalformed, "decompresses to more"},
		"encrypted":               {[]byte{0xc0 | 18, 3, 1, 2, 3}, ErrUnsupported, "encrypted"},
		"MD5":                     {altered(3, 1), ErrWeak, "MD5"},
		"SHA-1":                   {altered(3, 2), ErrWeak, "SHA-1"},
		"RIPEMD-160":              {altered(3, 3), ErrWeak, "RIPEMD"},
		"SHA-224":                 {altered(3, 11), ErrWeak, "SHA-224"},
		"unknown digest":          {altered(3, 77), ErrUnsupported, "77"},
		"text mode":               {altered(1, 1), ErrUnsupported, "--textmode"},
		"certification":           {altered(1, 0x13), ErrUnsupported, "not over data"},
		"version 3":               {altered(0, 3), ErrUnsupported, "version 3"},
		"version 5":               {altered(0, 5), ErrUnsupported, "version 5"},
		"other key algorithm":     {altered(2, 1), nil, ""},
		"short signature packet":  {join(p[0], p[1], oldPacket(tagSignature, 1, []byte{4, 0})), ErrMalformed, "2 bytes"},
		"short one-pass packet":   {join(oldPacket(tagOnePass, 1, []byte{3}), p[1], p[2]), ErrMalformed, "one-pass"},
		"short literal":           {join(p[0], oldPacket(tagLiteral, 1, []byte{'b', 9, 1}), p[2]), ErrMalformed, "cut short"},
		"too many packets":        {bytes.Repeat([]byte{0xc0 | tagMarker, 0}, maxMessagePackets+1), ErrMalformed, "packets"},
		"too many signatures":     {join(bytes.Repeat(p[2], maxMessageSignatures+1), p[1]), ErrMalformed, "signatures"},
		"too many one-pass":       {join(bytes.Repeat(p[0], maxMessageSignatures+1), p[1], p[2]), ErrMalformed, "signatures"},
		"longer than a signature": {bytes.Repeat([]byte{0x90}, MaxSignature+1), ErrMalformed, "more than"},
		"content not signed":      {huge, ErrMalformed, "not signed"},
	} {
		signed, err := s.PublicKey().Verify(nil, tt.sig)
		if signed != nil || !errors.Is(err, ErrNotVerified) || (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %q, %v; want %v that says %q", name, signed, err, tt.want, tt.says)
		}
	}
}

func mustUnarmor(t testing.TB, text string) []byte {
	t.Helper()
	packets, _, err := unarmor([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return packets
}

// signedBy returns a message over the test payload whose signature is changed
// before it is made.
func signedBy(t *testing.T, e *openpgp.Entity, change func(*packet.Signature)) []byte {
	t.Helper()
	sig := &packet.Signature{
		Version: e.PrivateKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: e.PrivateKey.PubKeyAlgo,
		Hash: digestFor(e.PrimaryKey), CreationTime: testTime, IssuerKeyId: &e.PrivateKey.KeyId,
	}
	change(sig)
	h, err := sig.PrepareSign(entityConfig())
	if err != nil {
		t.Fatal(err)
	}
	h.Write(testPayload())
	if err := sig.Sign(h, e.PrivateKey, entityConfig()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPGPSignaturesWithConditionsAreRefused(t *testing.T) {
	t.Parallel()
	e := newEntity(t, entityConfig())
	k := mustPGPKey(t, publicArmor(t, e))
	hour := uint32(3600)
	if _, err := k.Verify(testPayload(), signedBy(t, e, func(*packet.Signature) {})); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(testPayload(), signedBy(t, e, func(sig *packet.Signature) {
		sig.Notations = append(sig.Notations, &packet.Notation{Name: "note@example.com", Value: []byte("x")})
	})); err != nil {
		t.Errorf("notation that is not critical: %v", err)
	}
	for name, change := range map[string]func(*packet.Signature){
		"expiry": func(sig *packet.Signature) { sig.SigLifetimeSecs = &hour },
		"critical notation": func(sig *packet.Signature) {
			sig.Notations = append(sig.Notations, &packet.Notation{Name: "only@example.com", Value: []byte("x"), IsCritical: true})
		},
	} {
		if _, err := k.Verify(testPayload(), signedBy(t, e, change)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}

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
