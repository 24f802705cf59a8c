package signature

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// The standard library does not read ML-DSA keys: their forms (RFC 9881) are
// read and written here.

// oidMLDSA65 is id-ml-dsa-65, in keys of either half.
var oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}

// subjectPublicKeyInfo is the outer form of a public key (RFC 5280 §4.1).
type subjectPublicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// pkcs8 is the outer form of a private key (RFC 5208 §5).
type pkcs8 struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	// Attributes that may follow are left out; asn1 skips them.
}

// seedAndExpanded is the form that OpenSSL writes unless told otherwise.
type seedAndExpanded struct {
	Seed     []byte
	Expanded []byte
}

// seedTag is the context-specific tag of a seed alone, in the choice of forms of
// an ML-DSA private key (RFC 9881 §6).
const seedTag = 0

// parsePKIX is x509.ParsePKIXPublicKey, and knows ML-DSA-65.
func parsePKIX(der []byte) (crypto.PublicKey, error) {
	var info subjectPublicKeyInfo
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidMLDSA65) {
		return x509.ParsePKIXPublicKey(der) // it says what is wrong
	}
	key := new(mldsa65.PublicKey)
	if err := key.UnmarshalBinary(info.Key.Bytes); err != nil {
		return nil, err
	}
	if again, err := marshalPKIX(key); err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("an ML-DSA-65 key has one form, without parameters, and this is another")
	}
	return key, nil
}

// marshalPKIX is x509.MarshalPKIXPublicKey, and knows ML-DSA-65.
func marshalPKIX(key crypto.PublicKey) ([]byte, error) {
	pk, ok := key.(*mldsa65.PublicKey)
	if !ok {
		return x509.MarshalPKIXPublicKey(key)
	}
	return asn1.Marshal(subjectPublicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidMLDSA65},
		Key:       asn1.BitString{Bytes: pk.Bytes(), BitLength: 8 * mldsa65.PublicKeySize},
	})
}

// parsePKCS8 is x509.ParsePKCS8PrivateKey, and knows ML-DSA-65.
func parsePKCS8(der []byte) (any, error) {
	var info pkcs8
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidMLDSA65) {
		return x509.ParsePKCS8PrivateKey(der)
	}
	return parseMLDSA65(info.PrivateKey)
}

// parseMLDSA65 reads a private key that holds its seed. One that is only
// expanded is refused: nothing shows that its parts belong together.
func parseMLDSA65(der []byte) (*mldsa65.PrivateKey, error) {
	var form asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &form); err != nil || len(rest) > 0 {
		return nil, errors.New("it is no ML-DSA-65 private key")
	}
	switch {
	case form.Class == asn1.ClassContextSpecific && form.Tag == seedTag && !form.IsCompound:
		return keyFromSeed(form.Bytes)
	case form.Class == asn1.ClassUniversal && form.Tag == asn1.TagOctetString:
		return nil, errors.New("the ML-DSA-65 key is without its seed; export it with the seed (openssl pkey -provparam ml-dsa.output_formats=seed-only)")
	}
	var both seedAndExpanded
	if rest, err := asn1.Unmarshal(der, &both); err != nil || len(rest) > 0 {
		return nil, errors.New("it is no ML-DSA-65 private key")
	}
	key, err := keyFromSeed(both.Seed)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Bytes(), both.Expanded) {
		return nil, errors.New("the seed of the ML-DSA-65 key does not give its expanded form")
	}
	return key, nil
}

func keyFromSeed(seed []byte) (*mldsa65.PrivateKey, error) {
	if len(seed) != mldsa65.SeedSize {
		return nil, fmt.Errorf("the seed of an ML-DSA-65 key has %d bytes, and this one %d", mldsa65.SeedSize, len(seed))
	}
	_, key := mldsa65.NewKeyFromSeed((*[mldsa65.SeedSize]byte)(seed))
	return key, nil
}

// marshalPKCS8 is x509.MarshalPKCS8PrivateKey, and knows ML-DSA-65, of which it
// writes the seed alone.
func marshalPKCS8(key any) ([]byte, error) {
	sk, ok := key.(*mldsa65.PrivateKey)
	if !ok {
		return x509.MarshalPKCS8PrivateKey(key)
	}
	seed := sk.Seed()
	if len(seed) != mldsa65.SeedSize {
		return nil, errors.New("the ML-DSA-65 key is without its seed")
	}
	inner, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: seedTag, Bytes: seed})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidMLDSA65}, PrivateKey: inner})
}
