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
	"encoding/pem"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// pkixSigner makes detached signatures.
type pkixSigner struct {
	private crypto.Signer
	public  *PublicKey
	details details
}

// NewPKIXSigner returns a Signer over any private key, in memory or in hardware.
// alg must fit the key; empty, it stands for [DefaultAlgorithm]. id is as in
// [ParsePKIXPublicKey]. RSA-PSS salts are as long as the digest, as Cloud KMS
// makes them. The key must be safe for concurrent use.
func NewPKIXSigner(key crypto.Signer, alg Algorithm, id string) (Signer, error) {
	if key == nil {
		return nil, fmt.Errorf("making a signer %q: %w: there is no key", clip(id), ErrUnsuitable)
	}
	if alg == "" {
		var err error
		if alg, err = DefaultAlgorithm(key.Public()); err != nil {
			return nil, fmt.Errorf("making a signer %q: %w", clip(id), err)
		}
	}
	public, err := newPKIXPublicKey(key.Public(), alg, id)
	if err != nil {
		return nil, fmt.Errorf("making a signer %q: %w", clip(id), err)
	}
	d, _ := alg.details()
	return &pkixSigner{private: key, public: public, details: d}, nil
}

// ParsePKIXSigner reads an unencrypted private key in PEM: PKCS #8 ("PRIVATE
// KEY"), PKCS #1 ("RSA PRIVATE KEY") or SEC 1 ("EC PRIVATE KEY"). An ML-DSA-65
// key must hold its seed. alg and id are as in [NewPKIXSigner].
func ParsePKIXSigner(pemText []byte, alg Algorithm, id string) (Signer, error) {
	block, err := onePEM(pemText)
	if err != nil {
		return nil, fmt.Errorf("parsing private key%s: %w", called(id), err)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = parsePKCS8(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("PEM type %q, want %q", clip(block.Type), "PRIVATE KEY")
	}
	if err != nil {
		return nil, fmt.Errorf("parsing private key%s: %w: %w", called(id), ErrMalformed, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("parsing private key%s: %w: a key of type %T cannot sign", called(id), ErrUnsuitable, key)
	}
	return NewPKIXSigner(signer, alg, id)
}

// GeneratePKIX makes a private key for alg and returns it as PKCS #8 PEM. With
// the current standard library the key's randomness comes from the operating
// system, whatever random is, except that of ML-DSA-65; nil is allowed.
func GeneratePKIX(alg Algorithm, random io.Reader) (privatePEM []byte, err error) {
	d, ok := alg.details()
	if !ok {
		return nil, fmt.Errorf("generating a key: %w: %q is no algorithm of PKIX keys", ErrUnsupported, clip(string(alg)))
	}
	if random == nil {
		random = rand.Reader
	}
	var key any
	switch d.scheme {
	case schemePSS, schemePKCS1:
		key, err = rsa.GenerateKey(random, d.bits)
	case schemeECDSA:
		key, err = ecdsa.GenerateKey(d.ellipticCurve(), random)
	case schemeEd25519:
		_, key, err = ed25519.GenerateKey(random)
	case schemeMLDSA65:
		_, key, err = mldsa65.GenerateKey(random)
	}
	if err != nil {
		return nil, fmt.Errorf("generating a key for %s: %w", alg, err)
	}
	der, err := marshalPKCS8(key)
	if err != nil {
		return nil, fmt.Errorf("generating a key for %s: %w", alg, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (d details) ellipticCurve() elliptic.Curve {
	switch d.curve {
	case "P-384":
		return elliptic.P384()
	case "P-521":
		return elliptic.P521()
	}
	return elliptic.P256()
}

func (s *pkixSigner) KeyID() string         { return s.public.id }
func (s *pkixSigner) PublicKey() *PublicKey { return s.public }

func (s *pkixSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	return signChecked(ctx, s, payload)
}

func (s *pkixSigner) signUnchecked(ctx context.Context, payload []byte) ([]byte, error) {
	if err := checkSignable(ctx, payload); err != nil {
		return nil, err
	}
	random := rand.Reader
	if _, local := s.private.(*ecdsa.PrivateKey); local {
		// RFC 6979: signing the same again is the same signature, so that a store
		// can tell a repeated attestation.
		random = nil
	}
	return s.private.Sign(random, s.details.message(payload), s.details.options())
}
