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
