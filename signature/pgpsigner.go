package signature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxRing bounds the keys in one private key ring.
const maxRing = 64

// pgpSigner makes signed messages.
type pgpSigner struct {
	entity *openpgp.Entity
	key    *pgpKey
	public *PublicKey
	now    func() time.Time
	random io.Reader
}

// A PGPOption changes how OpenPGP keys sign.
type PGPOption func(*pgpSigner)

// WithClock sets the clock that dates signatures and expires keys; without it,
// that is time.Now. It must be safe for concurrent use.
func WithClock(now func() time.Time) PGPOption {
	return func(s *pgpSigner) { s.now = now }
}

// ParsePGPSigner reads the private key with which to sign. Of a ring with
// several keys it takes the last, as Voucher does; use [ParsePGPSigners] to see
// them all. passphrase may be empty for a key that is not protected.
//
// A key without a part that may sign now — expired, revoked, not for signing, or
// with its private half missing — is an error. The newest signing subkey is
// preferred to the primary key; the id is that of the primary key either way.
//
// Sign returns a signed message in armour of type "PGP SIGNATURE", the form that
// Kritis, Voucher and Binary Authorization exchange: uncompressed, the payload
// inside, no line end after the last line.
func ParsePGPSigner(armoredPrivate []byte, passphrase []byte, opts ...PGPOption) (Signer, error) {
	entities, err := readPrivateRing(armoredPrivate)
	if err != nil {
		return nil, fmt.Errorf("parsing OpenPGP private key: %w", err)
	}
	s, err := newPGPSigner(entities[len(entities)-1], passphrase, opts)
	if err != nil {
		return nil, fmt.Errorf("parsing OpenPGP private key: %w", err)
	}
	return s, nil
}

// ParsePGPSigners is [ParsePGPSigner] for every key of a ring, in its order. All
// must be able to sign, and share the passphrase.
func ParsePGPSigners(armoredPrivate []byte, passphrase []byte, opts ...PGPOption) ([]Signer, error) {
	entities, err := readPrivateRing(armoredPrivate)
	if err != nil {
		return nil, fmt.Errorf("parsing OpenPGP private keys: %w", err)
	}
	var signers []Signer
	for _, e := range entities {
		s, err := newPGPSigner(e, passphrase, opts)
		if err != nil {
			return nil, fmt.Errorf("parsing OpenPGP private keys: %w", err)
		}
		signers = append(signers, s)
	}
	return signers, nil
}

// readPrivateRing returns at least one entity with a private primary key.
func readPrivateRing(armored []byte) ([]*openpgp.Entity, error) {
	if len(armored) > MaxKey {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(armored), MaxKey)
	}
	packets, kind, err := unarmor(armored)
	if err != nil {
		return nil, err
	}
	if kind == armorPublicKey {
		return nil, fmt.Errorf("%w: this is a public key; give the private one (gpg --armor --export-secret-keys)", ErrUnsuitable)
	}
	if kind != "" && kind != armorPrivateKey {
		return nil, fmt.Errorf("%w: armour of type %q, want %q", ErrMalformed, clip(kind), armorPrivateKey)
	}
	if _, err := splitPackets(packets, maxKeyPackets); err != nil {
		return nil, err
	}
	var entities []*openpgp.Entity
	r := packet.NewReader(bytes.NewReader(packets))
	for {
		e, err := openpgp.ReadEntity(r)
		switch {
		case errors.Is(err, io.EOF) && len(entities) > 0:
			return entities, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it holds no key", ErrMalformed)
		case err != nil:
			return nil, fmt.Errorf("key %d: %w", len(entities)+1, malformed(err))
		case len(entities) == maxRing:
			return nil, fmt.Errorf("%w: more than %d keys", ErrMalformed, maxRing)
		case e.PrivateKey == nil:
			return nil, fmt.Errorf("%w: key %X is a public key", ErrUnsuitable, e.PrimaryKey.Fingerprint)
		}
		entities = append(entities, e)
	}
}

func newPGPSigner(e *openpgp.Entity, passphrase []byte, opts []PGPOption) (*pgpSigner, error) {
	name := fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)
	if err := unlock(e, passphrase); err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		return nil, fmt.Errorf("key %s: %w", name, malformed(err))
	}
	public, err := newPGPPublicKey(b.Bytes())
	if err != nil {
		return nil, err
	}
	key, ok := public.key.(*pgpKey)
	if !ok {
		return nil, fmt.Errorf("key %s: %w", name, ErrUnsuitable)
	}
	s := &pgpSigner{entity: e, key: key, public: public, now: time.Now, random: rand.Reader}
	for _, opt := range opts {
		opt(s)
	}
	if _, err := s.pick(s.now()); err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return s, nil
}

// unlock decrypts the private parts of e that are protected.
func unlock(e *openpgp.Entity, passphrase []byte) error {
	locked := e.PrivateKey.Encrypted && !e.PrivateKey.Dummy()
	for _, sub := range e.Subkeys {
		locked = locked || (sub.PrivateKey != nil && sub.PrivateKey.Encrypted && !sub.PrivateKey.Dummy())
	}
	if !locked {
		return nil
	}
	if len(passphrase) == 0 {
		return fmt.Errorf("%w: it is protected and there is no passphrase", ErrUnsuitable)
	}
	if err := e.DecryptPrivateKeys(passphrase); err != nil {
		return fmt.Errorf("%w: the passphrase does not unlock it: %w", ErrUnsuitable, err)
	}
	return nil
}

// pick returns the private key to sign with at a time.
func (s *pgpSigner) pick(now time.Time) (*packet.PrivateKey, error) {
	key, e := s.key, s.entity
	if key.revoked {
		return nil, ErrRevoked
	}
	self, _ := selfSignature(e)
	if self == nil || e.PrimaryKey.KeyExpired(self, now) || self.SigExpired(now) {
		return nil, fmt.Errorf("%w: it is expired or not valid yet", ErrUnsuitable)
	}
	var best *packet.PrivateKey
	var newest time.Time
	for _, sub := range e.Subkeys {
		usable := key.signsWith(sub.PublicKey) && hasPrivate(sub.PrivateKey) &&
			!sub.PublicKey.KeyExpired(sub.Sig, now) && !sub.Sig.SigExpired(now)
		if usable && (best == nil || sub.Sig.CreationTime.After(newest)) {
			best, newest = sub.PrivateKey, sub.Sig.CreationTime
		}
	}
	if best == nil && key.signsWith(e.PrimaryKey) && hasPrivate(e.PrivateKey) {
		best = e.PrivateKey
	}
	if best == nil {
		return nil, fmt.Errorf("%w: no part of it may sign: expired, revoked, not for signing, or the private half is missing", ErrUnsuitable)
	}
	return best, nil
}

func hasPrivate(key *packet.PrivateKey) bool {
	return key != nil && !key.Dummy() && !key.Encrypted
}

// signsWith reports whether signatures by pk count.
func (k *pgpKey) signsWith(pk *packet.PublicKey) bool {
	for _, signer := range k.signers {
		if bytes.Equal(signer.Fingerprint, pk.Fingerprint) {
			return true
		}
	}
	return false
}

func (s *pgpSigner) KeyID() string         { return s.public.id }
func (s *pgpSigner) PublicKey() *PublicKey { return s.public }

func (s *pgpSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	return signChecked(ctx, s, payload)
}

func (s *pgpSigner) signUnchecked(ctx context.Context, payload []byte) ([]byte, error) {
	if err := checkSignable(ctx, payload); err != nil {
		return nil, err
	}
	now := s.now()
	key, err := s.pick(now)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := writeSigned(&b, payload, key, now, s.random); err != nil {
		return nil, err
	}
	return enarmor(armorSignature, b.Bytes())
}

// writeSigned writes a signed message: one-pass packet, literal, signature.
func writeSigned(w *bytes.Buffer, payload []byte, key *packet.PrivateKey, now time.Time, random io.Reader) error {
	config := &packet.Config{Rand: random, Time: func() time.Time { return now }}
	sig := &packet.Signature{
		Version:      key.Version,
		SigType:      packet.SigTypeBinary,
		PubKeyAlgo:   key.PubKeyAlgo,
		Hash:         digestFor(&key.PublicKey),
		CreationTime: now,
		IssuerKeyId:  &key.KeyId,
	}
	h, err := sig.PrepareSign(config)
	if err != nil {
		return err
	}
	onePass := &packet.OnePassSignature{
		Version:    3,
		SigType:    sig.SigType,
		Hash:       sig.Hash,
		PubKeyAlgo: sig.PubKeyAlgo,
		KeyId:      key.KeyId,
		IsLast:     true,
	}
	if key.Version == 6 {
		onePass.Version, onePass.Salt, onePass.KeyFingerprint = 6, sig.Salt(), key.Fingerprint
	}
	if err := onePass.Serialize(w); err != nil {
		return err
	}
	literal, err := packet.SerializeLiteral(nopCloser{w}, true, "", 0)
	if err != nil {
		return err
	}
	if _, err := literal.Write(payload); err != nil {
		return err
	}
	if err := literal.Close(); err != nil {
		return err
	}
	h.Write(payload)
	if err := sig.Sign(h, key, config); err != nil {
		return err
	}
	return sig.Serialize(w)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// digestFor returns the digest to sign with: of the strength of the key.
func digestFor(pk *packet.PublicKey) crypto.Hash {
	if pk.PubKeyAlgo == packet.PubKeyAlgoEd448 {
		return crypto.SHA512
	}
	switch curve, _ := pk.Curve(); curve {
	case packet.CurveNistP384, packet.CurveBrainpoolP384:
		return crypto.SHA384
	case packet.CurveNistP521, packet.CurveBrainpoolP512, packet.Curve448:
		return crypto.SHA512
	}
	return crypto.SHA256
}

// GeneratePGP makes an Ed25519 key of version 4 (EdDSA, which GnuPG since 2.1
// reads) that only signs and does not expire, and returns its private half in
// unprotected armour. name is "Name" or "Name <address>". With the current
// standard library the key's randomness comes from the operating system,
// whatever random is; nil is allowed.
func GeneratePGP(name string, now time.Time, random io.Reader) (armoredPrivate []byte, err error) {
	if random == nil {
		random = rand.Reader
	}
	full, address := name, ""
	if before, after, ok := strings.Cut(name, "<"); ok {
		if after, ok = strings.CutSuffix(after, ">"); !ok {
			return nil, fmt.Errorf("generating an OpenPGP key for %q: %w: write Name <address>", clip(name), ErrMalformed)
		}
		full, address = strings.TrimSpace(before), after
	}
	if full == "" && address == "" {
		return nil, fmt.Errorf("generating an OpenPGP key: %w: the name is empty", ErrMalformed)
	}
	config := &packet.Config{
		Rand:      random,
		Time:      func() time.Time { return now },
		Algorithm: packet.PubKeyAlgoEdDSA,
		Curve:     packet.Curve25519,
	}
	e, err := openpgp.NewEntity(full, "", address, config)
	if err != nil {
		return nil, fmt.Errorf("generating an OpenPGP key for %q: %w", clip(name), err)
	}
	e.Subkeys = nil // the library adds one for encryption
	var b bytes.Buffer
	if err := e.SerializePrivate(&b, config); err != nil {
		return nil, fmt.Errorf("generating an OpenPGP key for %q: %w", clip(name), err)
	}
	text, err := enarmor(armorPrivateKey, b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("generating an OpenPGP key for %q: %w", clip(name), err)
	}
	return append(text, '\n'), nil
}
