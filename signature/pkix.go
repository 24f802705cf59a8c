package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// A pkixKey verifies detached signatures by a key of X.509's kind.
type pkixKey struct {
	key     crypto.PublicKey
	details details
}

// ParsePKIXPublicKey reads a PEM block of type "PUBLIC KEY", alone in its text,
// for use with algorithm alg, which must fit the key's type and size. An empty
// id stands for [PKIXKeyID]; any other must be an RFC 3986 URI reference.
func ParsePKIXPublicKey(pemText string, alg Algorithm, id string) (*PublicKey, error) {
	der, err := publicPEM(pemText)
	if err != nil {
		return nil, fmt.Errorf("parsing PKIX public key%s: %w", called(id), err)
	}
	key, err := parsePKIX(der)
	if err != nil {
		return nil, fmt.Errorf("parsing PKIX public key%s: %w: %w", called(id), ErrMalformed, err)
	}
	k, err := newPKIXPublicKey(key, alg, id)
	if err != nil {
		return nil, fmt.Errorf("parsing PKIX public key%s: %w", called(id), err)
	}
	return k, nil
}

// called is how a message goes on that is about a key: by its id, if it was given one.
func called(id string) string {
	if id == "" {
		return ""
	}
	return fmt.Sprintf(" %q", clip(id))
}

// publicPEM returns the content of the one PEM block in text.
func publicPEM(text string) ([]byte, error) {
	block, err := onePEM([]byte(text))
	if err != nil {
		return nil, err
	}
	switch {
	case block.Type == "PUBLIC KEY":
		return block.Bytes, nil
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("%w: this is a private key; give the public one (openssl pkey -pubout), and treat the private one as disclosed", ErrUnsuitable)
	case block.Type == "RSA PUBLIC KEY":
		return nil, fmt.Errorf("%w: PEM type %q; convert it with openssl rsa -RSAPublicKey_in -pubout", ErrUnsupported, block.Type)
	case block.Type == "CERTIFICATE":
		return nil, fmt.Errorf("%w: PEM type %q; take the key out with openssl x509 -pubkey -noout", ErrUnsupported, block.Type)
	}
	return nil, fmt.Errorf("%w: PEM type %q, want %q", ErrMalformed, clip(block.Type), "PUBLIC KEY")
}

// onePEM decodes a PEM block that has no headers and stands alone. openssl
// writes the parameters of a curve before the key; they are skipped.
func onePEM(text []byte) (*pem.Block, error) {
	if len(text) > MaxKey {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(text), MaxKey)
	}
	rest := bytes.TrimSpace(text)
	for {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, fmt.Errorf("%w: no PEM block; it begins with -----BEGIN", ErrMalformed)
		}
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("%w: the PEM block is damaged", ErrMalformed)
		}
		// Decode skips a block that it cannot read: see that it skipped none.
		if bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN ")) != 1 {
			return nil, fmt.Errorf("%w: the first PEM block is damaged", ErrMalformed)
		}
		rest = bytes.TrimSpace(after)
		if block.Type == "EC PARAMETERS" && len(rest) > 0 {
			continue
		}
		if block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
			return nil, fmt.Errorf("%w: the key is encrypted; decrypt it with openssl pkey, and protect the file", ErrUnsupported)
		}
		if len(block.Headers) > 0 {
			return nil, fmt.Errorf("%w: the PEM block has headers", ErrMalformed)
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("%w: text after the PEM block; give one key", ErrMalformed)
		}
		return block, nil
	}
}

func newPKIXPublicKey(key crypto.PublicKey, alg Algorithm, id string) (*PublicKey, error) {
	if err := alg.check(key); err != nil {
		return nil, err
	}
	der, err := marshalPKIX(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	if id == "" {
		id = PKIXKeyID(der)
	}
	if err := CheckKeyID(id); err != nil {
		return nil, err
	}
	d, _ := alg.details()
	return &PublicKey{
		id:          id,
		algorithm:   alg,
		fingerprint: fingerprintOf([]byte("PKIX"), []byte(alg), der),
		text:        string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		key:         &pkixKey{key: key, details: d},
	}, nil
}

// PKIXKeyID returns the id that a PKIX key has by default (RFC 6920):
// "ni:///sha-256;" and the unpadded base64url SHA-256 of spki, the DER
// SubjectPublicKeyInfo.
func PKIXKeyID(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// CheckKeyID returns an error unless id is an RFC 3986 URI reference of a
// sensible length, such as a Cloud KMS name, an "ni:" URI or a plain word.
func CheckKeyID(id string) error {
	fail := func(why string) error {
		return fmt.Errorf("%w: key id %q is no URI reference (RFC 3986): %s", ErrMalformed, clip(id), why)
	}
	if id == "" {
		return fail("it is empty")
	}
	if len(id) > maxKeyID {
		return fail(fmt.Sprintf("%d characters, more than %d", len(id), maxKeyID))
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("-._~:/?#[]@!$&'()*+,;=%", c) < 0 {
			return fail(fmt.Sprintf("%q at position %d must be percent-encoded", c, i))
		}
		if c == '%' && (i+2 >= len(id) || !isHex(id[i+1]) || !isHex(id[i+2])) {
			return fail(fmt.Sprintf("%%XX is cut short at position %d", i))
		}
	}
	u, err := url.Parse(id)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return fail(err.Error())
	}
	if strings.Count(id, "[") != strings.Count(u.Host, "[") || strings.Count(id, "]") != strings.Count(u.Host, "]") {
		return fail("brackets are for IPv6 addresses")
	}
	if strings.Count(id, "#") > 1 {
		return fail("it has two fragments")
	}
	return nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (k *pkixKey) matches(string) bool { return false }

func (k *pkixKey) verify(payload, sig []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, fmt.Errorf("%w: there is no payload; a PKIX signature is detached and needs the bytes that it covers", ErrMalformed)
	}
	if !k.valid(payload, sig) {
		return nil, errAltered
	}
	return payload, nil
}

var (
	errNoKey   = errors.New("there is no key")
	errAltered = errors.New("the payload or the signature was altered, or another key or algorithm made it")
)

// valid reports whether sig is the key's signature over payload.
func (k *pkixKey) valid(payload, sig []byte) bool {
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		digest := k.details.digest(payload)
		if k.details.scheme == schemePSS {
			// Signers choose the salt's length: Cloud KMS takes the digest's, others the longest.
			return rsa.VerifyPSS(key, k.details.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		}
		return rsa.VerifyPKCS1v15(key, k.details.hash, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, k.details.digest(payload), sig)
	case ed25519.PublicKey:
		return ed25519.Verify(key, payload, sig)
	case *mldsa65.PublicKey:
		return mldsa65.Verify(key, payload, nil, sig)
	}
	return false
}

// digest returns the hash that is signed in payload's place.
func (d details) digest(payload []byte) []byte {
	h := d.hash.New()
	h.Write(payload)
	return h.Sum(nil)
}
