package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"strings"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// An Algorithm is a signature algorithm by its canonical word, the name that
// Binary Authorization's API gives it.
type Algorithm string

// The algorithms. An RSA algorithm is for keys of exactly that size, and an
// ECDSA one for keys on that curve. ED25519 is not one of Binary Authorization's,
// and ML_DSA_65 (FIPS 204, pure, with an empty context) only one of its REST API.
const (
	RSAPSS2048SHA256   Algorithm = "RSA_PSS_2048_SHA256"
	RSAPSS3072SHA256   Algorithm = "RSA_PSS_3072_SHA256"
	RSAPSS4096SHA256   Algorithm = "RSA_PSS_4096_SHA256"
	RSAPSS4096SHA512   Algorithm = "RSA_PSS_4096_SHA512"
	RSAPKCS12048SHA256 Algorithm = "RSA_SIGN_PKCS1_2048_SHA256"
	RSAPKCS13072SHA256 Algorithm = "RSA_SIGN_PKCS1_3072_SHA256"
	RSAPKCS14096SHA256 Algorithm = "RSA_SIGN_PKCS1_4096_SHA256"
	RSAPKCS14096SHA512 Algorithm = "RSA_SIGN_PKCS1_4096_SHA512"
	ECDSAP256SHA256    Algorithm = "ECDSA_P256_SHA256"
	ECDSAP384SHA384    Algorithm = "ECDSA_P384_SHA384"
	ECDSAP521SHA512    Algorithm = "ECDSA_P521_SHA512"
	Ed25519            Algorithm = "ED25519"
	MLDSA65            Algorithm = "ML_DSA_65"

	// PGP is the algorithm of OpenPGP keys, whose signatures say themselves how
	// they are made.
	PGP Algorithm = "PGP"
)

// scheme is the way an algorithm signs.
type scheme int

const (
	schemeNone scheme = iota
	schemePSS
	schemePKCS1
	schemeECDSA
	schemeEd25519
	schemeMLDSA65
)

// details are what an algorithm prescribes.
type details struct {
	number int32 // in Binary Authorization's enum; 0 when it has none
	scheme scheme
	bits   int         // RSA modulus
	curve  string      // ECDSA curve, as crypto/elliptic calls it
	hash   crypto.Hash // 0 when the algorithm signs the message itself
	jws    string      // the algorithm's name in JSON Web Signatures (RFC 7518, 8037)
}

// details returns what a prescribes, and false for PGP and unknown words.
func (a Algorithm) details() (details, bool) {
	switch a {
	case RSAPSS2048SHA256:
		return details{1, schemePSS, 2048, "", crypto.SHA256, "PS256"}, true
	case RSAPSS3072SHA256:
		return details{2, schemePSS, 3072, "", crypto.SHA256, "PS256"}, true
	case RSAPSS4096SHA256:
		return details{3, schemePSS, 4096, "", crypto.SHA256, "PS256"}, true
	case RSAPSS4096SHA512:
		return details{4, schemePSS, 4096, "", crypto.SHA512, "PS512"}, true
	case RSAPKCS12048SHA256:
		return details{5, schemePKCS1, 2048, "", crypto.SHA256, "RS256"}, true
	case RSAPKCS13072SHA256:
		return details{6, schemePKCS1, 3072, "", crypto.SHA256, "RS256"}, true
	case RSAPKCS14096SHA256:
		return details{7, schemePKCS1, 4096, "", crypto.SHA256, "RS256"}, true
	case RSAPKCS14096SHA512:
		return details{8, schemePKCS1, 4096, "", crypto.SHA512, "RS512"}, true
	case ECDSAP256SHA256:
		return details{9, schemeECDSA, 0, "P-256", crypto.SHA256, "ES256"}, true
	case ECDSAP384SHA384:
		return details{10, schemeECDSA, 0, "P-384", crypto.SHA384, "ES384"}, true
	case ECDSAP521SHA512:
		return details{11, schemeECDSA, 0, "P-521", crypto.SHA512, "ES512"}, true
	case Ed25519:
		return details{0, schemeEd25519, 0, "", 0, "EdDSA"}, true
	case MLDSA65:
		return details{0, schemeMLDSA65, 0, "", 0, "ML-DSA-65"}, true
	}
	return details{}, false
}

// Hash returns the digest that is signed in the payload's place, or 0 when the
// algorithm signs the payload itself, or is no algorithm of PKIX keys.
func (a Algorithm) Hash() crypto.Hash {
	d, _ := a.details()
	return d.hash
}

// Number returns the algorithm's number in Binary Authorization's
// SignatureAlgorithm enum, 1 to 11, or 0 (unspecified) when it has none.
func (a Algorithm) Number() int32 {
	d, _ := a.details()
	return d.number
}

// PKIXAlgorithms returns every algorithm of PKIX keys, in the order of their
// numbers, with those that have none at the end.
func PKIXAlgorithms() []Algorithm {
	return []Algorithm{
		RSAPSS2048SHA256, RSAPSS3072SHA256, RSAPSS4096SHA256, RSAPSS4096SHA512,
		RSAPKCS12048SHA256, RSAPKCS13072SHA256, RSAPKCS14096SHA256, RSAPKCS14096SHA512,
		ECDSAP256SHA256, ECDSAP384SHA384, ECDSAP521SHA512, Ed25519, MLDSA65,
	}
}

// maxAlgorithm is longer than every spelling of an algorithm.
const maxAlgorithm = 64

// ParseAlgorithm reads an algorithm in any spelling in use: the canonical word,
// its aliases EC_SIGN_… and RSA_SIGN_PSS_…, the number of the enum, gcloud's and
// Kritis' lower-case words with dashes, and the word that Kritis misspells.
func ParseAlgorithm(s string) (Algorithm, error) {
	word := strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(s), "-", "_"))
	if len(s) > maxAlgorithm {
		return "", fmt.Errorf("parsing signature algorithm %q: %w", clip(s), ErrMalformed)
	}
	switch word {
	case "", "0", "SIGNATURE_ALGORITHM_UNSPECIFIED":
		return "", fmt.Errorf("parsing signature algorithm %q: it is not specified; give one such as %q", s, ECDSAP256SHA256)
	case string(PGP):
		return PGP, nil
	case "RSA_PSS_4096S_HA256": // Kritis' signer knows the algorithm by this word only
		return RSAPSS4096SHA256, nil
	}
	if rest, ok := strings.CutPrefix(word, "RSA_SIGN_PSS_"); ok {
		word = "RSA_PSS_" + rest
	} else if word == "EC_SIGN_ED25519" { // Cloud KMS' word
		word = string(Ed25519)
	} else if rest, ok := strings.CutPrefix(word, "EC_SIGN_"); ok {
		word = "ECDSA_" + rest
	}
	for _, a := range PKIXAlgorithms() {
		if word == string(a) || (a.Number() != 0 && word == fmt.Sprint(a.Number())) {
			return a, nil
		}
	}
	return "", fmt.Errorf("parsing signature algorithm %q: %w: not a known one; known are %v", s, ErrUnsupported, PKIXAlgorithms())
}

// check reports why key cannot be used with a, or nil.
func (a Algorithm) check(key crypto.PublicKey) error {
	d, ok := a.details()
	if !ok {
		return fmt.Errorf("%w: %q is no algorithm of PKIX keys", ErrUnsuitable, clip(string(a)))
	}
	is := describe(key)
	fits := false
	switch key := key.(type) {
	case *rsa.PublicKey:
		fits = (d.scheme == schemePSS || d.scheme == schemePKCS1) && key.N.BitLen() == d.bits
	case *ecdsa.PublicKey:
		fits = d.scheme == schemeECDSA && key.Curve.Params().Name == d.curve
	case ed25519.PublicKey:
		fits = d.scheme == schemeEd25519 && len(key) == ed25519.PublicKeySize
	case *mldsa65.PublicKey:
		fits = d.scheme == schemeMLDSA65
	}
	if fits {
		return nil
	}
	if want, err := DefaultAlgorithm(key); err == nil {
		return fmt.Errorf("%w: algorithm %s does not fit %s; it can use %s", ErrUnsuitable, a, is, want)
	}
	return fmt.Errorf("%w: algorithm %s does not fit %s", ErrUnsuitable, a, is)
}

// DefaultAlgorithm returns the algorithm to use with a key when its owner names
// none: ECDSA with the digest of the curve's strength, Ed25519, ML-DSA-65, or RSA
// PKCS #1 v1.5 with SHA-256.
func DefaultAlgorithm(key crypto.PublicKey) (Algorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 2048:
			return RSAPKCS12048SHA256, nil
		case 3072:
			return RSAPKCS13072SHA256, nil
		case 4096:
			return RSAPKCS14096SHA256, nil
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().Name {
		case "P-256":
			return ECDSAP256SHA256, nil
		case "P-384":
			return ECDSAP384SHA384, nil
		case "P-521":
			return ECDSAP521SHA512, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	case *mldsa65.PublicKey:
		return MLDSA65, nil
	}
	return "", fmt.Errorf("%w: no algorithm for %s; use P-256, Ed25519, or RSA of 2048, 3072 or 4096 bits", ErrUnsuitable, describe(key))
}

// describe names a key's type and size for an error.
func describe(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("an ECDSA key on curve %s", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return "an Ed25519 key"
	case *mldsa65.PublicKey:
		return "an ML-DSA-65 key"
	}
	return fmt.Sprintf("a key of type %T", key)
}
