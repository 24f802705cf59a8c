package signature

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseAlgorithmSpellings(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Algorithm{
		"ECDSA_P256_SHA256":          ECDSAP256SHA256,
		"EC_SIGN_P256_SHA256":        ECDSAP256SHA256,
		"ecdsa-p256-sha256":          ECDSAP256SHA256,
		"ec-sign-p256-sha256":        ECDSAP256SHA256,
		"ec-sign-p384-sha384":        ECDSAP384SHA384,
		"EC_SIGN_P521_SHA512":        ECDSAP521SHA512,
		"rsa-sign-pkcs1-4096-sha512": RSAPKCS14096SHA512,
		"rsa-pss-2048-sha256":        RSAPSS2048SHA256,
		"RSA_SIGN_PSS_3072_SHA256":   RSAPSS3072SHA256,
		"rsa-pss-4096s-ha256":        RSAPSS4096SHA256,
		"rsa-pss-4096-sha256":        RSAPSS4096SHA256,
		"1":                          RSAPSS2048SHA256,
		"4":                          RSAPSS4096SHA512,
		"8":                          RSAPKCS14096SHA512,
		"9":                          ECDSAP256SHA256,
		"11":                         ECDSAP521SHA512,
		"ed25519":                    Ed25519,
		"EC_SIGN_ED25519":            Ed25519,
		"ML_DSA_65":                  MLDSA65,
		"ml-dsa-65":                  MLDSA65,
		"ML-DSA-65":                  MLDSA65,
		"PGP":                        PGP,
	} {
		if got, err := ParseAlgorithm(in); err != nil || got != want {
			t.Errorf("ParseAlgorithm(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseAlgorithmReadsEveryCanonicalWordAndNumber(t *testing.T) {
	t.Parallel()
	for i, a := range PKIXAlgorithms() {
		if got, err := ParseAlgorithm(string(a)); err != nil || got != a {
			t.Errorf("ParseAlgorithm(%q) = %q, %v", a, got, err)
		}
		if a == Ed25519 || a == MLDSA65 {
			if a.Number() != 0 {
				t.Errorf("%s has number %d; it is not one of Binary Authorization's enum", a, a.Number())
			}
			continue
		}
		if a.Number() != int32(i+1) {
			t.Errorf("%s has number %d, want %d", a, a.Number(), i+1)
		}
		if got, err := ParseAlgorithm(fmt.Sprint(i + 1)); err != nil || got != a {
			t.Errorf("ParseAlgorithm(%d) = %q, %v; want %q", i+1, got, err, a)
		}
	}
}

func TestParseAlgorithmRefuses(t *testing.T) {
	t.Parallel()
	for in, says := range map[string]string{
		"":                                "not specified",
		"0":                               "not specified",
		"SIGNATURE_ALGORITHM_UNSPECIFIED": "not specified",
		"ML_DSA_44":                       "known are",
		"ML_DSA_87":                       "known are",
		"12":                              "known are",
		"01":                              "known are",
		"ECDSA_SECP256K1_SHA256":          "known are",
		"RSA_PSS_1024_SHA256":             "known are",
		"EC_SIGN_":                        "known are",
		strings.Repeat("A", 5000):         "malformed",
	} {
		got, err := ParseAlgorithm(in)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseAlgorithm(%q) = %q, %v; want an error that says %q", clip(in), got, err, says)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("ParseAlgorithm: error of %d bytes repeats its input", len(err.Error()))
		}
	}
	if _, err := ParseAlgorithm("ML_DSA_87"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("ML_DSA_87: %v, want ErrUnsupported", err)
	}
}
