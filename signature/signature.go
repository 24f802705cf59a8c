// Package signature signs statements about container images and verifies them.
// It does no I/O and keeps no clock: whether a signature verifies depends on the
// key, the payload and the signature, and on nothing else, so that the verdict
// may be remembered (see [Memo]). What depends on time or policy — recall, the
// times in a JWT, an attestor that lost a key — is for the caller to ask at each
// decision.
//
// # Keys
//
// [ParsePGPPublicKey] and [ParsePKIXPublicKey] turn the text of a key into a
// [PublicKey]. Parse once, when policy changes, and keep it: parsing costs as
// much as several verifications. A key has an id, which is what its owner calls
// it and what a signature names as a hint, and a [Fingerprint], which is what it
// is. Trust hangs on the fingerprint.
//
// The id of an OpenPGP version 4 key is its fingerprint, 40 upper-case
// hexadecimal digits; that of a version 6 key (RFC 9580) is its fingerprint too,
// 64 digits. The id of a PKIX key is any RFC 3986 URI reference, and by default
// "ni:///sha-256;" with the base64url SHA-256 of its SubjectPublicKeyInfo
// ([PKIXKeyID]).
//
// # Verifying
//
// [PublicKey.Verify] returns the bytes that were signed; read the statement with
// [ParsePayload] from those, and from nowhere else. A PKIX signature is detached
// from its payload. An OpenPGP signature is usually a signed message that holds
// the payload; a detached one is accepted too. Every error of Verify wraps
// [ErrNotVerified], and most wrap one of the other errors to say why.
//
// PKIX keys also verify two forms that bring their payload along.
// [PublicKey.VerifyJWT] takes a JSON Web Token and returns what it states, with
// the times between which it holds; [PublicKey.VerifyEnvelope] takes a DSSE
// envelope, from which [Message.Statement] reads an in-toto statement and
// [Message.Payload] a payload. In every form the key decides how a signature is
// checked. What the signature says of its key and its algorithm is compared with
// that, and never followed.
//
// A key may sign many kinds of things. Each reader takes the kinds that it knows
// by name, as they were signed, and refuses others with [ErrWrongType]: a
// statement of an unknown kind is evidence of nothing.
//
// What is refused by name, because it would mean less than it seems to: SHA-1
// and other weak digests over the payload, RSA below 2048 bits, DSA, text-mode
// and clear-signed OpenPGP signatures (they do not cover the exact bytes),
// OpenPGP signatures with an expiry (nothing here would enforce it), and every
// signature by a revoked key, whenever it was made.
//
// An OpenPGP signature counts when it says that it was made while its key was
// valid: not before the key and its primary key were made, and not after either
// had expired. It then goes on counting, as in Kritis, also after the key has
// expired, until the key is removed from its attestor. Whoever holds the private
// half of an expired key can still date a signature back: expiry tidies up after
// honest signers, and a key that may be in other hands must be revoked or
// removed. [PublicKey.Expires] says when a key expires.
//
// # Signing
//
// A [Signer] is one key that signs payloads: [ParsePKIXSigner],
// [ParsePGPSigner], [NewPKIXSigner] (over any crypto.Signer, such as a hardware
// token) and [NewRemoteSigner] (over a key on another machine; see package signer)
// make them. P-256, Ed25519 and ML-DSA-65 are quick to verify;
// RSA beyond 2048 bits and P-384 take three to nine times as long as P-256, and
// P-521 forty times. Signing the same payload again with a local ECDSA, Ed25519
// or ML-DSA-65 key makes the same signature.
//
//	signer, err := signature.ParsePKIXSigner(pemText, "", "")
//	payload := signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeBinauthz)
//	sig, err := signer.Sign(ctx, payload)
package signature

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// MaxPayload is the most bytes a signed payload may have, 64 KiB; real ones
	// have about 250.
	MaxPayload = 64 << 10
	// MaxSignature is the most bytes a signature may have as it arrives: an
	// armoured OpenPGP message that holds a payload of MaxPayload, base64 twice
	// over (16/9), with room for packets, headers and line ends.
	MaxSignature = 2*MaxPayload + 16<<10
	// MaxKey is the most bytes the text of a key may have. OpenPGP keys grow
	// with the certifications that other people add to them.
	MaxKey = 256 << 10
	// maxKeyID bounds a key id; Cloud KMS resource names, the longest in use,
	// stay below 300.
	maxKeyID = 1024
)

// The reasons why something is refused; test for them with errors.Is.
var (
	// ErrNotVerified is wrapped by every error of [PublicKey.Verify] and
	// [PublicKey.VerifyEnvelope], and by those of [PublicKey.VerifyJWT] that are
	// about the signature.
	ErrNotVerified = errors.New("signature does not verify")
	// ErrPayloadMismatch means that the signature is good and the content
	// inside it is not the payload that was given beside it.
	ErrPayloadMismatch = errors.New("signed content differs from the payload beside it")
	// ErrMalformed means that the input is not what it should be at all.
	ErrMalformed = errors.New("malformed")
	// ErrWrongType means a well-formed statement of another kind than asked for.
	ErrWrongType = errors.New("another kind of statement")
	// ErrWeak means an algorithm or a key size that is no longer safe.
	ErrWeak = errors.New("too weak")
	// ErrUnsupported means a form that is known and refused on purpose.
	ErrUnsupported = errors.New("not supported")
	// ErrRevoked means that the owner of the key has revoked it.
	ErrRevoked = errors.New("key is revoked")
	// ErrWrongKey means that the signature says another key made it.
	ErrWrongKey = errors.New("made by another key")
	// ErrUnsuitable means a key that cannot do what is asked of it: it is
	// expired, or was when it signed, is not for signing, or does not match its
	// algorithm.
	ErrUnsuitable = errors.New("key is unsuitable")
)

// Fingerprint is the SHA-256 over a key's kind, algorithm and key material: what
// a key is, whatever it is called. The same key with another algorithm has
// another fingerprint. That of an OpenPGP key covers the primary key, every
// subkey that may sign, until when each of them is valid, and whether the key is
// revoked, which is all that its verdicts depend on; user ids do not change it.
type Fingerprint = [sha256.Size]byte

// A PublicKey verifies signatures. It is immutable and safe for concurrent use.
// The zero PublicKey verifies nothing.
type PublicKey struct {
	id          string
	algorithm   Algorithm
	fingerprint Fingerprint
	text        string
	key         verifier
}

// A verifier checks one kind of signature. It returns the bytes that were
// signed, or why they cannot be believed.
type verifier interface {
	verify(payload, sig []byte) ([]byte, error)
	matches(publicKeyID string) bool
}

// ID returns what the key is called.
func (k *PublicKey) ID() string { return k.id }

// Algorithm returns the only algorithm that the key verifies, or [PGP].
func (k *PublicKey) Algorithm() Algorithm { return k.algorithm }

// Fingerprint returns what the key is.
func (k *PublicKey) Fingerprint() Fingerprint { return k.fingerprint }

// Marshal returns the key as text that the parser of its kind reads: PEM for
// PKIX, ASCII armour for OpenPGP.
func (k *PublicKey) Marshal() string { return k.text }

// Matches reports whether publicKeyID, as written in a signature, names the key.
// It must equal the id exactly, or for an OpenPGP key be "openpgp4fpr:" and the
// id. A match is a reason to try the key, never one to trust it.
func (k *PublicKey) Matches(publicKeyID string) bool {
	return k.key != nil && (publicKeyID == k.id || k.key.matches(publicKeyID))
}

// Revoked reports whether the key's owner has revoked it; such a key verifies
// nothing. PKIX keys know no revocation.
func (k *PublicKey) Revoked() bool {
	p, ok := k.key.(*pgpKey)
	return ok && p.revoked
}

// Expires returns the last second in which a signature by the key, or by any of
// its subkeys, can be made so that it counts, and false when there is no such
// limit. PKIX keys never expire.
func (k *PublicKey) Expires() (time.Time, bool) {
	if p, ok := k.key.(*pgpKey); ok {
		return p.expires()
	}
	return time.Time{}, false
}

// Verify checks sig and returns the bytes that it covers.
//
// With a PKIX key, sig is the raw signature over payload, and payload is
// returned. With an OpenPGP key, sig is a signed message or a detached
// signature: ASCII armour of either type, base64 of armour, or binary packets.
// The content of a message is returned, and if payload is not empty the content
// must equal it; a detached signature covers payload. The result may alias
// payload.
func (k *PublicKey) Verify(payload, sig []byte) (signed []byte, err error) {
	signed, err = k.verify(payload, sig)
	if err != nil {
		return nil, k.refuse(err)
	}
	return signed, nil
}

// verify is Verify without the key's id in the error.
func (k *PublicKey) verify(payload, sig []byte) ([]byte, error) {
	switch {
	case k == nil || k.key == nil:
		return nil, errNoKey
	case len(payload) > MaxPayload:
		return nil, fmt.Errorf("%w: the payload has %d bytes, more than %d", ErrMalformed, len(payload), MaxPayload)
	case len(sig) > MaxSignature:
		return nil, fmt.Errorf("%w: the signature has %d bytes, more than %d", ErrMalformed, len(sig), MaxSignature)
	case len(sig) == 0:
		return nil, fmt.Errorf("%w: the signature is empty", ErrMalformed)
	}
	return k.key.verify(payload, sig)
}

func (k *PublicKey) refuse(cause error) error {
	id := ""
	if k != nil {
		id = k.id
	}
	return &verifyError{keyID: id, cause: cause}
}

// A verifyError is why a signature is refused, on behalf of one key.
type verifyError struct {
	keyID string
	cause error
}

func (e *verifyError) Error() string {
	return fmt.Sprintf("signature by key %q does not verify: %v", e.keyID, e.cause)
}

func (e *verifyError) Unwrap() []error { return []error{ErrNotVerified, e.cause} }

// A Signer signs payloads with one key.
type Signer interface {
	// KeyID returns the id to store beside the signatures, that of PublicKey.
	KeyID() string
	// PublicKey returns the key that verifies what Sign makes.
	PublicKey() *PublicKey
	// Sign returns a signature over payload, in the form that PublicKey's
	// Verify takes, or an error and no signature. It is safe for concurrent use.
	Sign(ctx context.Context, payload []byte) ([]byte, error)
}

// checked returns sig if key verifies it over payload. A signature that went
// wrong, in faulty hardware or for want of a matching key, must not be stored.
func checked(key *PublicKey, payload, sig []byte) ([]byte, error) {
	if _, err := key.Verify(payload, sig); err != nil {
		return nil, fmt.Errorf("checking the signature just made: %w", err)
	}
	return sig, nil
}

// checkSignable refuses what no verifier would accept.
func checkSignable(ctx context.Context, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(payload) == 0 {
		return fmt.Errorf("%w: the payload is empty", ErrMalformed)
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: the payload has %d bytes, more than %d", ErrMalformed, len(payload), MaxPayload)
	}
	return nil
}

// fingerprintOf hashes fields so that no two lists of fields collide.
func fingerprintOf(fields ...[]byte) Fingerprint {
	h := sha256.New()
	var size [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(size[:], uint64(len(f)))
		h.Write(size[:])
		h.Write(f)
	}
	return Fingerprint(h.Sum(nil))
}

// clip shortens text from outside for an error message.
func clip(s string) string { return clipTo(120, s) }

func clipTo(most int, s string) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// malformedJSON is an error of the JSON decoder, which quotes its input at
// whatever length.
func malformedJSON(err error) error {
	return fmt.Errorf("%w: %s", ErrMalformed, clipTo(240, err.Error()))
}
