package signature

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPKIXSignAndVerifyEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range PKIXAlgorithms() {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			s := pkixSignerFor(t, alg)
			payload := testPayload()
			sig := mustSign(t, s, payload)

			k, err := ParsePKIXPublicKey(s.PublicKey().Marshal(), alg, "")
			if err != nil {
				t.Fatal(err)
			}
			if k.ID() != s.KeyID() || k.Algorithm() != alg || k.Fingerprint() != s.PublicKey().Fingerprint() {
				t.Errorf("the parsed key is %q %s, the signer's is %q %s", k.ID(), k.Algorithm(), s.KeyID(), s.PublicKey().Algorithm())
			}
			signed, err := k.Verify(payload, sig)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(payload, signed); diff != "" {
				t.Errorf("signed bytes (-want +got):\n%s", diff)
			}
			for _, at := range []int{0, len(payload) / 2, len(payload) - 1} {
				altered := append([]byte{}, payload...)
				altered[at] ^= 1
				wantNotVerified(t, k, altered, sig)
			}
			for _, at := range []int{0, len(sig) / 2, len(sig) - 1} {
				altered := append([]byte{}, sig...)
				altered[at] ^= 1
				wantNotVerified(t, k, payload, altered)
			}
			wantNotVerified(t, k, payload, sig[:len(sig)-1])
			wantNotVerified(t, k, payload, append(append([]byte{}, sig...), 0))
			wantNotVerified(t, k, payload, nil)
			wantNotVerified(t, k, nil, sig)
		})
	}
}

func wantNotVerified(t *testing.T, k *PublicKey, payload, sig []byte) {
	t.Helper()
	signed, err := k.Verify(payload, sig)
	if !errors.Is(err, ErrNotVerified) || signed != nil {
		t.Errorf("Verify = %q, %v; want nothing and ErrNotVerified", signed, err)
	}
}

func TestPKIXSignatureOfAnotherAlgorithmIsRefused(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	pss := pkixSignerFor(t, RSAPSS2048SHA256)
	pkcs1 := pkixSignerFor(t, RSAPKCS12048SHA256)
	wantNotVerified(t, pkcs1.PublicKey(), payload, mustSign(t, pss, payload))
	wantNotVerified(t, pss.PublicKey(), payload, mustSign(t, pkcs1, payload))
	if pss.PublicKey().Fingerprint() == pkcs1.PublicKey().Fingerprint() {
		t.Error("one key with two algorithms has one fingerprint")
	}
	if pss.KeyID() != pkcs1.KeyID() {
		t.Error("one key has two default ids")
	}
}

func TestPSSVerifiesWithAnySaltLength(t *testing.T) {
	t.Parallel()
	block, _ := pem.Decode(pool.pem(t, RSAPSS2048SHA256))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	d, _ := RSAPSS2048SHA256.details()
	for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 8} {
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, d.digest(testPayload()), &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pkixSignerFor(t, RSAPSS2048SHA256).PublicKey().Verify(testPayload(), sig); err != nil {
			t.Errorf("salt length %d: %v", salt, err)
		}
	}
}

// The signature of RFC 6979 §A.2.5 over "sample", with SHA-256 on P-256.
func TestVerifyRFC6979Vector(t *testing.T) {
	t.Parallel()
	point := unhex(t, "04"+
		"60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"+
		"7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299")
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newPKIXPublicKey(key, ECDSAP256SHA256, "")
	if err != nil {
		t.Fatal(err)
	}
	sig := unhex(t, "3046"+
		"022100EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"+
		"022100F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")
	if _, err := k.Verify([]byte("sample"), sig); err != nil {
		t.Error(err)
	}
	wantNotVerified(t, k, []byte("Sample"), sig)
}

// Test 2 of RFC 8032 §7.1.
func TestVerifyRFC8032Vector(t *testing.T) {
	t.Parallel()
	key := ed25519.PublicKey(unhex(t, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"))
	k, err := newPKIXPublicKey(key, Ed25519, "")
	if err != nil {
		t.Fatal(err)
	}
	sig := unhex(t, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"+
		"085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
	if _, err := k.Verify([]byte{0x72}, sig); err != nil {
		t.Error(err)
	}
	wantNotVerified(t, k, []byte{0x73}, sig)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAlgorithmMustFitTheKey(t *testing.T) {
	t.Parallel()
	p256 := pkixSignerFor(t, ECDSAP256SHA256).PublicKey().Marshal()
	rsa2048 := pkixSignerFor(t, RSAPSS2048SHA256).PublicKey().Marshal()
	for _, tt := range []struct {
		text string
		alg  Algorithm
	}{
		{p256, ECDSAP384SHA384}, {p256, RSAPSS2048SHA256}, {p256, Ed25519},
		{rsa2048, RSAPSS3072SHA256}, {rsa2048, RSAPKCS14096SHA512}, {rsa2048, ECDSAP256SHA256},
		{p256, PGP}, {p256, ""}, {p256, "NONSENSE"},
	} {
		if _, err := ParsePKIXPublicKey(tt.text, tt.alg, ""); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("algorithm %q: %v, want ErrUnsuitable", tt.alg, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPKIXSigner(weak, "", ""); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("RSA of 1024 bits: %v, want ErrUnsuitable", err)
	}
	if _, err := NewPKIXSigner(nil, "", ""); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("no key: %v, want ErrUnsuitable", err)
	}
}

func TestParsePKIXPublicKeyRefusesOtherText(t *testing.T) {
	t.Parallel()
	good := pkixSignerFor(t, ECDSAP256SHA256).PublicKey().Marshal()
	private := string(pool.pem(t, ECDSAP256SHA256))
	block, _ := pem.Decode([]byte(good))
	retype := func(typ string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: block.Bytes}))
	}
	for name, tt := range map[string]struct {
		text string
		want error
		says string
	}{
		"empty":           {"", ErrMalformed, "-----BEGIN"},
		"no PEM":          {"hello", ErrMalformed, "-----BEGIN"},
		"text before":     {"key:\n" + good, ErrMalformed, "-----BEGIN"},
		"text after":      {good + "x", ErrMalformed, "after"},
		"two keys":        {good + good, ErrMalformed, "one key"},
		"damaged first":   {strings.Replace(good, "END", "EMD", 1) + good, ErrMalformed, "damaged"},
		"cut":             {good[:len(good)/2], ErrMalformed, "damaged"},
		"private key":     {private, ErrUnsuitable, "-pubout"},
		"certificate":     {retype("CERTIFICATE"), ErrUnsupported, "x509"},
		"PKCS #1":         {retype("RSA PUBLIC KEY"), ErrUnsupported, "-pubout"},
		"other type":      {retype("NONSENSE"), ErrMalformed, "NONSENSE"},
		"damaged DER":     {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes[:20]})), ErrMalformed, ""},
		"DER with a tail": {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: append(block.Bytes[:len(block.Bytes):len(block.Bytes)], 0)})), ErrMalformed, ""},
		"headers":         {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: map[string]string{"A": "b"}, Bytes: block.Bytes})), ErrMalformed, "headers"},
		"too long":        {good + strings.Repeat("\n", MaxKey), ErrMalformed, "more than"},
	} {
		_, err := ParsePKIXPublicKey(tt.text, ECDSAP256SHA256, "k")
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %v that says %q", name, err, tt.want, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), strings.Split(private, "\n")[1]) {
			t.Errorf("%s: the error repeats key material", name)
		}
	}
	for name, text := range map[string]string{
		"CRLF":        strings.ReplaceAll(good, "\n", "\r\n"),
		"blank lines": "\n\n" + good + "\n \n",
	} {
		if _, err := ParsePKIXPublicKey(text, ECDSAP256SHA256, "k"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyIDs(t *testing.T) {
	t.Parallel()
	good := pkixSignerFor(t, ECDSAP256SHA256).PublicKey().Marshal()
	for _, id := range []string{
		"my-key", "a/b", "?x=1", "#frag", "urn:key:1", "https://example.com/keys/1?v=2#f", "a%20b",
		"//cloudkms.googleapis.com/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
		"ni:///sha-256;cD9o9Cq6LG3jD0iKXqEi_vdjJGecm_iXkbqVoScViaU", "http://[::1]/k",
	} {
		k, err := ParsePKIXPublicKey(good, ECDSAP256SHA256, id)
		if err != nil {
			t.Errorf("id %q: %v", id, err)
			continue
		}
		if k.ID() != id || !k.Matches(id) || k.Matches(id+"x") || k.Matches("") || k.Matches("openpgp4fpr:"+id) {
			t.Errorf("id %q: key is called %q and matches wrongly", id, k.ID())
		}
	}
	for _, id := range []string{"a b", "a\n", "ключ", "a%2", "a%zz", "1a:b", "<x>", `a"b`, "a\\b", "a[b]", "x^y", "http://[::1", "a##b", strings.Repeat("a", maxKeyID+1)} {
		if _, err := ParsePKIXPublicKey(good, ECDSAP256SHA256, id); !errors.Is(err, ErrMalformed) {
			t.Errorf("id %q: %v, want ErrMalformed", clip(id), err)
		}
	}
	if err := CheckKeyID(""); err == nil {
		t.Error("the empty id is accepted")
	}
}

func TestPKIXKeyIDIsRFC6920(t *testing.T) {
	t.Parallel()
	// SHA-256 of "Hello World!", the example of RFC 6920 §8.1.
	if got, want := PKIXKeyID([]byte("Hello World!")), "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"; got != want {
		t.Errorf("PKIXKeyID = %q, want %q", got, want)
	}
}

func TestParsePKIXSignerForms(t *testing.T) {
	t.Parallel()
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pool.pem(t, RSAPSS2048SHA256))
	rsaKey, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	params := encode("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7})
	for name, tt := range map[string]struct {
		text []byte
		want Algorithm
	}{
		"SEC 1":                     {encode("EC PRIVATE KEY", sec1), ECDSAP256SHA256},
		"SEC 1 after its parameter": {append(params, encode("EC PRIVATE KEY", sec1)...), ECDSAP256SHA256},
		"PKCS #1":                   {encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey.(*rsa.PrivateKey))), RSAPKCS12048SHA256},
		"PKCS #8 RSA":               {pool.pem(t, RSAPSS2048SHA256), RSAPKCS12048SHA256},
		"PKCS #8 RSA 3072":          {pool.pem(t, RSAPSS3072SHA256), RSAPKCS13072SHA256},
		"PKCS #8 RSA 4096":          {pool.pem(t, RSAPSS4096SHA256), RSAPKCS14096SHA256},
		"PKCS #8 P-384":             {pool.pem(t, ECDSAP384SHA384), ECDSAP384SHA384},
		"PKCS #8 P-521":             {pool.pem(t, ECDSAP521SHA512), ECDSAP521SHA512},
		"PKCS #8 Ed25519":           {pool.pem(t, Ed25519), Ed25519},
	} {
		s, err := ParsePKIXSigner(tt.text, "", "the-key")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.PublicKey().Algorithm(); got != tt.want || s.KeyID() != "the-key" {
			t.Errorf("%s: algorithm %s, id %q; want %s, %q", name, got, s.KeyID(), tt.want, "the-key")
		}
	}
}

func TestParsePKIXSignerRefuses(t *testing.T) {
	t.Parallel()
	good := pool.pem(t, ECDSAP256SHA256)
	block, _ := pem.Decode(good)
	for name, tt := range map[string]struct {
		text []byte
		want error
	}{
		"empty":          {nil, ErrMalformed},
		"text after":     {append(append([]byte{}, good...), "# comment"...), ErrMalformed},
		"public key":     {[]byte(pkixSignerFor(t, ECDSAP256SHA256).PublicKey().Marshal()), ErrMalformed},
		"encrypted":      {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: block.Bytes}), ErrUnsupported},
		"old encryption": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: block.Bytes}), ErrUnsupported},
		"damaged":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:30]}), ErrMalformed},
		"wrong label":    {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: block.Bytes}), ErrMalformed},
	} {
		if _, err := ParsePKIXSigner(tt.text, "", "k"); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := ParsePKIXSigner(good, ECDSAP384SHA384, "k"); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("wrong algorithm: %v, want ErrUnsuitable", err)
	}
	if _, err := ParsePKIXSigner(good, "", "a b"); !errors.Is(err, ErrMalformed) {
		t.Errorf("bad id: %v, want ErrMalformed", err)
	}
	if _, err := GeneratePKIX(PGP, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("GeneratePKIX(PGP): %v, want ErrUnsupported", err)
	}
}

// faultySigner is hardware that computes a wrong signature.
type faultySigner struct{ *ecdsa.PrivateKey }

func (s faultySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	wrong := append([]byte{}, digest...)
	wrong[0] ^= 1
	return s.PrivateKey.Sign(random, wrong, opts)
}

func TestSignHandsOutNoSignatureThatFails(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewPKIXSigner(faultySigner{key}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Sign(t.Context(), testPayload()); !errors.Is(err, ErrNotVerified) || sig != nil {
		t.Errorf("Sign = %x, %v; want no signature and ErrNotVerified", sig, err)
	}
}

func TestSignRefusesUnusablePayloads(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Signer{"PKIX": pkixSignerFor(t, Ed25519), "PGP": pgpSignerFor(t)} {
		if _, err := s.Sign(t.Context(), nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: empty payload: %v", name, err)
		}
		if _, err := s.Sign(t.Context(), make([]byte, MaxPayload+1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: payload too long: %v", name, err)
		}
		if sig, err := s.Sign(t.Context(), make([]byte, MaxPayload)); err != nil {
			t.Errorf("%s: longest payload: %v", name, err)
		} else if len(sig) > MaxSignature {
			t.Errorf("%s: signature over the longest payload has %d bytes, more than MaxSignature", name, len(sig))
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Sign(cancelled, testPayload()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", name, err)
		}
	}
}

func TestZeroPublicKeyVerifiesNothing(t *testing.T) {
	t.Parallel()
	wantNotVerified(t, new(PublicKey), testPayload(), []byte("sig"))
	wantNotVerified(t, nil, testPayload(), []byte("sig"))
	if new(PublicKey).Matches("") || new(PublicKey).Revoked() {
		t.Error("the zero key matches an id or claims to be revoked")
	}
}

func TestVerifyErrorNamesTheKey(t *testing.T) {
	t.Parallel()
	s := pkixSignerFor(t, Ed25519)
	_, err := s.PublicKey().Verify(testPayload(), []byte("nonsense"))
	if err == nil || !strings.Contains(err.Error(), `signature by key "`+s.KeyID()+`" does not verify: `) {
		t.Errorf("error %v does not name key %q", err, s.KeyID())
	}
}

func TestECDSAZeroSignatureIsRefused(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, ECDSAP256SHA256).PublicKey()
	wantNotVerified(t, k, testPayload(), []byte{0x30, 6, 2, 1, 0, 2, 1, 0})
	n := elliptic.P256().Params().N
	wantNotVerified(t, k, testPayload(), derPair(n, big.NewInt(1)))
}

// derPair encodes two integers of up to 32 bytes as an ECDSA signature.
func derPair(r, s *big.Int) []byte {
	var body []byte
	for _, i := range []*big.Int{r, s} {
		b := append([]byte{0}, i.Bytes()...)
		body = append(body, append([]byte{2, byte(len(b))}, b...)...)
	}
	return append([]byte{0x30, byte(len(body))}, body...)
}
