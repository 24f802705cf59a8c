package signature

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// mldsaVectors are known answers of others; the file says whose.
type mldsaVectors struct {
	Seed      string `json:"seed"`
	PublicKey []byte `json:"publicKey"`
	Tests     []struct {
		Comment                     string
		Message, Context, Signature []byte
		Valid                       bool
	} `json:"tests"`
	KeyGen []struct {
		Seed      string `json:"seed"`
		PublicKey []byte `json:"publicKey"`
	} `json:"keyGen"`
}

func readMLDSAVectors(t *testing.T) mldsaVectors {
	t.Helper()
	b, err := os.ReadFile("testdata/mldsa65.json")
	if err != nil {
		t.Fatal(err)
	}
	var v mldsaVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// seedPEM is a private key that holds a seed alone, as OpenSSL writes it with
// ml-dsa.output_formats=seed-only.
func seedPEM(t *testing.T, seed []byte) []byte {
	t.Helper()
	der := append(unhex(t, "3034020100300b0609608648016503040312"+"04228020"), seed...)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestMLDSA65KnownAnswers(t *testing.T) {
	t.Parallel()
	v := readMLDSAVectors(t)
	s, err := ParsePKIXSigner(seedPEM(t, unhex(t, v.Seed)), "", "")
	if err != nil {
		t.Fatal(err)
	}
	k := s.PublicKey()
	if k.Algorithm() != MLDSA65 {
		t.Errorf("algorithm %s", k.Algorithm())
	}
	if got := k.key.(*pkixKey).key.(*mldsa65.PublicKey).Bytes(); !bytes.Equal(got, v.PublicKey) {
		t.Errorf("the public key is\n%x, want\n%x", got, v.PublicKey)
	}
	if len(v.Tests) != 9 {
		t.Fatalf("%d tests", len(v.Tests))
	}
	for _, tt := range v.Tests {
		// Only the empty context is ours: a signature for another use is refused.
		want := tt.Valid && len(tt.Context) == 0
		if _, err := k.Verify(tt.Message, tt.Signature); (err == nil) != want {
			t.Errorf("%s: %v", tt.Comment, err)
		}
		if tt.Comment == "baseline" {
			if got := mustSign(t, s, tt.Message); !bytes.Equal(got, tt.Signature) {
				t.Errorf("Sign makes another signature than the known one")
			}
		}
	}
	for _, tt := range v.KeyGen {
		s, err := ParsePKIXSigner(seedPEM(t, unhex(t, tt.Seed)), MLDSA65, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.PublicKey().key.(*pkixKey).key.(*mldsa65.PublicKey).Bytes(); !bytes.Equal(got, tt.PublicKey) {
			t.Errorf("seed %s gives another key", tt.Seed)
		}
	}
}

func TestMLDSA65KeyForms(t *testing.T) {
	t.Parallel()
	seed := unhex(t, readMLDSAVectors(t).Seed)
	key, err := keyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(inner any) []byte {
		t.Helper()
		raw, ok := inner.([]byte)
		if !ok {
			if raw, err = asn1.Marshal(inner); err != nil {
				t.Fatal(err)
			}
		}
		der, err := asn1.Marshal(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidMLDSA65}, PrivateKey: raw})
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	otherSeed := bytes.Repeat([]byte{7}, mldsa65.SeedSize)
	for name, tt := range map[string]struct {
		text []byte
		says string // in an error wrapping ErrMalformed; empty when it is good
	}{
		"seed":                       {seedPEM(t, seed), ""},
		"seed and expanded":          {encode(seedAndExpanded{seed, key.Bytes()}), ""},
		"expanded":                   {encode(asn1.RawValue{Tag: asn1.TagOctetString, Bytes: key.Bytes()}), "seed-only"},
		"another seed's expanded":    {encode(seedAndExpanded{otherSeed, key.Bytes()}), "does not give"},
		"short seed":                 {encode(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: seedTag, Bytes: seed[1:]}), "31"},
		"text after the seed":        {encode(append([]byte{0x80, 0x20}, append(seed[:32:32], 0)...)), "private key"},
		"another tag":                {encode(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: seed}), "private key"},
		"short seed beside expanded": {encode(seedAndExpanded{seed[1:], key.Bytes()}), "31"},
		"sequence of something":      {encode([]int{1, 2, 3}), "private key"},
	} {
		s, err := ParsePKIXSigner(tt.text, "", "")
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if s.PublicKey().Algorithm() != MLDSA65 {
				t.Errorf("%s: algorithm %s", name, s.PublicKey().Algorithm())
			}
			continue
		}
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want ErrMalformed that says %q", name, err, tt.says)
		}
	}
	generated, err := GeneratePKIX(MLDSA65, nil)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(generated); len(block.Bytes) != 54 {
		t.Errorf("a generated key has %d bytes, want the 54 of a seed alone", len(block.Bytes))
	}
}

func TestMLDSA65PublicKeyHasOneForm(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, MLDSA65).PublicKey()
	block, _ := pem.Decode([]byte(k.Marshal()))
	der := block.Bytes
	// SEQUENCE { SEQUENCE { OID }, BIT STRING } (RFC 9881 §4).
	if want := unhex(t, "308207b2300b0609608648016503040312038207a100"); !bytes.HasPrefix(der, want) || len(der) != len(want)+mldsa65.PublicKeySize {
		t.Errorf("%d bytes, beginning with %x", len(der), der[:22])
	}
	sum := PKIXKeyID(der)
	if k.ID() != sum || !strings.HasPrefix(sum, "ni:///sha-256;") {
		t.Errorf("id %q, want %q", k.ID(), sum)
	}
	raw := k.key.(*pkixKey).key.(*mldsa65.PublicKey).Bytes()
	null := asn1.RawValue{FullBytes: []byte{5, 0}}
	encode := func(params asn1.RawValue, key []byte) string {
		t.Helper()
		der, err := asn1.Marshal(subjectPublicKeyInfo{
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidMLDSA65, Parameters: params},
			Key:       asn1.BitString{Bytes: key, BitLength: 8 * len(key)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	if encode(asn1.RawValue{}, raw) != k.Marshal() {
		t.Fatal("the test encodes keys in another way")
	}
	for name, text := range map[string]string{
		"parameters":  encode(null, raw),
		"short":       encode(asn1.RawValue{}, raw[1:]),
		"long":        encode(asn1.RawValue{}, append(raw[:len(raw):len(raw)], 0)),
		"empty":       encode(asn1.RawValue{}, nil),
		"bytes after": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: append(der[:len(der):len(der)], 0)})),
	} {
		if _, err := ParsePKIXPublicKey(text, MLDSA65, ""); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	for _, alg := range []Algorithm{Ed25519, ECDSAP256SHA256, RSAPSS2048SHA256} {
		if _, err := ParsePKIXPublicKey(k.Marshal(), alg, ""); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("as %s: %v, want ErrUnsuitable", alg, err)
		}
		if _, err := ParsePKIXPublicKey(pkixSignerFor(t, alg).PublicKey().Marshal(), MLDSA65, ""); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("%s as ML-DSA-65: %v, want ErrUnsuitable", alg, err)
		}
	}
}
