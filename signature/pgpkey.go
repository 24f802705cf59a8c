package signature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// maxKeyPackets bounds the packets of one OpenPGP key: each may cost a
	// verification when the key is parsed.
	maxKeyPackets = 1024
	// maxSubkeys bounds the subkeys of one OpenPGP key.
	maxSubkeys = 64
	// The RSA moduli accepted in OpenPGP keys, in bits.
	minRSABits, maxRSABits = 2048, 8192

	fingerprintURI = "openpgp4fpr:" // Grafeas' suggestion for key ids
)

// Packet types (RFC 9580 §5).
const (
	tagKeyEncrypted       = 1
	tagSignature          = 2
	tagPassEncrypted      = 3
	tagOnePass            = 4
	tagSecretKey          = 5
	tagPublicKey          = 6
	tagSecretSubkey       = 7
	tagCompressed         = 8
	tagEncrypted          = 9
	tagMarker             = 10
	tagLiteral            = 11
	tagPublicSubkey       = 14
	tagIntegrityEncrypted = 18
	tagAEADEncrypted      = 20
	tagPadding            = 21
)

// A pgpKey verifies OpenPGP signatures by a primary key or its signing subkeys.
type pgpKey struct {
	name    string // fingerprint of the primary key, upper-case
	revoked bool
	signers []signingKey
	// barred are keys of the same owner whose signatures do not count.
	barred []barredKey
}

// A signingKey is a primary key or subkey whose signatures count when they were
// made in its time.
type signingKey struct {
	*packet.PublicKey
	from time.Time // the second in which it, and its primary key, existed
	last time.Time // the last second of its validity; zero when it does not expire
}

// made returns an error unless the key was valid at the time that a signature
// says it was made.
func (k signingKey) made(at time.Time) error {
	switch {
	case at.Before(k.from):
		return fmt.Errorf("%w: the signature is dated %s, before the key was made (%s)", ErrUnsuitable, day(at), day(k.from))
	case !k.last.IsZero() && at.After(k.last):
		return fmt.Errorf("%w: the signature is dated %s, when the key had expired (%s)", ErrUnsuitable, day(at), day(k.last))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// A barredKey explains a refusal.
type barredKey struct {
	key *packet.PublicKey
	why error
}

// ParsePGPPublicKey reads one OpenPGP public key: ASCII armour, armour without
// its first and last lines, base64 of armour, or binary packets. The key must be
// of version 4 or 6 and have a part that may sign: RSA of 2048 to 8192 bits,
// ECDSA, EdDSA, Ed25519 or Ed448. Expired and revoked keys are read; see the
// package comment, [PublicKey.Expires] and [PublicKey.Revoked] for what becomes
// of their signatures.
//
// Signatures of the key upon itself may be over SHA-1, as old keys have them:
// whoever hands over the key vouches for it, and a signature over a payload may
// not.
func ParsePGPPublicKey(armored string) (*PublicKey, error) {
	k, err := parsePGPPublicKey(armored)
	if err != nil {
		return nil, fmt.Errorf("parsing OpenPGP public key: %w", err)
	}
	return k, nil
}

func parsePGPPublicKey(armored string) (*PublicKey, error) {
	if len(armored) > MaxKey {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(armored), MaxKey)
	}
	packets, kind, err := unarmor([]byte(armored))
	if err != nil {
		return nil, err
	}
	if kind == armorPrivateKey {
		return nil, errPrivateGiven
	}
	if kind != "" && kind != armorPublicKey {
		return nil, fmt.Errorf("%w: armour of type %q, want %q", ErrMalformed, clip(kind), armorPublicKey)
	}
	return newPGPPublicKey(packets)
}

var errPrivateGiven = fmt.Errorf("%w: this is a private key; give the public one (gpg --armor --export), and treat the private one as disclosed", ErrUnsuitable)

func newPGPPublicKey(packets []byte) (*PublicKey, error) {
	if err := checkKeyPackets(packets); err != nil {
		return nil, err
	}
	entity, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(packets)))
	if err != nil {
		return nil, malformed(err)
	}
	key, err := newPGPKey(entity)
	if err != nil {
		return nil, err
	}
	fingerprint, err := key.fingerprint(entity.PrimaryKey)
	if err != nil {
		return nil, err
	}
	text, err := enarmor(armorPublicKey, packets)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	return &PublicKey{
		id:          key.name,
		algorithm:   PGP,
		fingerprint: fingerprint,
		text:        string(text),
		key:         key,
	}, nil
}

// checkKeyPackets looks at the packets of a public key without reading them: one
// primary key, nothing secret, and not too many.
func checkKeyPackets(packets []byte) error {
	ops, err := splitPackets(packets, maxKeyPackets)
	if err != nil {
		return err
	}
	primaries, subkeys := 0, 0
	for _, op := range ops {
		switch op.Tag {
		case tagPublicKey:
			primaries++
		case tagPublicSubkey:
			subkeys++
		case tagSecretKey, tagSecretSubkey:
			return errPrivateGiven
		case tagCompressed, tagLiteral, tagOnePass:
			return fmt.Errorf("%w: a message where a public key belongs", ErrMalformed)
		}
	}
	if primaries != 1 {
		return fmt.Errorf("%w: %d keys, want exactly one; give each key an entry of its own", ErrMalformed, primaries)
	}
	if subkeys > maxSubkeys {
		return fmt.Errorf("%w: %d subkeys, more than %d", ErrMalformed, subkeys, maxSubkeys)
	}
	return nil
}

// splitPackets cuts data into packets, in either header format and with any kind
// of length, without interpreting them.
func splitPackets(data []byte, limit int) ([]*packet.OpaquePacket, error) {
	var ops []*packet.OpaquePacket
	r := packet.NewOpaqueReader(bytes.NewReader(data))
	for {
		op, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("packet %d: %w", len(ops)+1, malformed(err))
		case len(ops) == limit:
			return nil, fmt.Errorf("%w: more than %d packets", ErrMalformed, limit)
		}
		ops = append(ops, op)
	}
}

// newPGPKey sorts the keys of an entity into those whose signatures count and
// those whose do not. The entity's reader has verified that the primary key
// signed them, and that signing subkeys signed it in turn.
func newPGPKey(e *openpgp.Entity) (*pgpKey, error) {
	k := &pgpKey{name: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)}
	self, identityRevoked := selfSignature(e)
	if self == nil && !identityRevoked {
		return nil, fmt.Errorf("%w: key %s has no valid signature of its own on a user id", ErrUnsuitable, k.name)
	}
	// Any revocation counts, of any date and reason: what was signed before it
	// cannot be told from what a thief dated back.
	k.revoked = len(e.Revocations) > 0 || identityRevoked
	if err := checkPGPAlgorithm(e.PrimaryKey); err != nil {
		return nil, fmt.Errorf("key %s: %w", k.name, err)
	}
	primary := primaryValidity(e.PrimaryKey, self)
	if self == nil || (self.FlagsValid && !self.FlagSign) {
		k.bar(e.PrimaryKey, fmt.Errorf("%w: it is not for signing data", ErrUnsuitable))
	} else {
		k.signers = append(k.signers, primary)
	}
	for _, sub := range e.Subkeys {
		err := checkPGPAlgorithm(sub.PublicKey)
		switch {
		case len(sub.Revocations) > 0:
			k.bar(sub.PublicKey, ErrRevoked)
		case !sub.Sig.FlagsValid || !sub.Sig.FlagSign:
			k.bar(sub.PublicKey, fmt.Errorf("%w: it is not for signing data", ErrUnsuitable))
		case err != nil:
			k.bar(sub.PublicKey, err)
		default:
			k.signers = append(k.signers, primary.subkeyValidity(sub.PublicKey, sub.Sig))
		}
	}
	if len(k.signers) == 0 && !k.revoked {
		return nil, fmt.Errorf("%w: key %s and its subkeys are not for signing data", ErrUnsuitable, k.name)
	}
	return k, nil
}

// primaryValidity returns the primary key with the time in which its signatures
// count, as self says it; self may be nil when no signature counts.
func primaryValidity(key *packet.PublicKey, self *packet.Signature) signingKey {
	k := signingKey{PublicKey: key, from: key.CreationTime}
	k.bound(self)
	return k
}

// subkeyValidity returns a subkey of the primary key k, bound to it by binding,
// with the time in which its signatures count: it lies within that of k.
func (k signingKey) subkeyValidity(sub *packet.PublicKey, binding *packet.Signature) signingKey {
	if k.PublicKey = sub; sub.CreationTime.After(k.from) {
		k.from = sub.CreationTime
	}
	k.bound(binding)
	return k
}

// bound ends the validity of k where sig, by which its owner describes it, ends
// it: by the key's lifetime, or by its own.
func (k *signingKey) bound(sig *packet.Signature) {
	if sig == nil {
		return
	}
	k.endAfter(k.CreationTime, sig.KeyLifetimeSecs)
	k.endAfter(sig.CreationTime, sig.SigLifetimeSecs)
}

// endAfter ends the validity of k a number of seconds after start, unless it
// ends earlier. Nil and 0 stand for ever (RFC 9580 §5.2.3.13, §5.2.3.18).
func (k *signingKey) endAfter(start time.Time, seconds *uint32) {
	if seconds == nil || *seconds == 0 {
		return
	}
	end := start.Add(time.Duration(*seconds) * time.Second)
	if k.last.IsZero() || end.Before(k.last) {
		k.last = end
	}
}

// expires returns the last second in which the key may sign by one of its parts.
func (k *pgpKey) expires() (time.Time, bool) {
	var last time.Time
	for _, signer := range k.signers {
		if signer.last.IsZero() {
			return time.Time{}, false
		}
		if signer.last.After(last) {
			last = signer.last
		}
	}
	return last.UTC(), !last.IsZero()
}

func (k *pgpKey) bar(key *packet.PublicKey, why error) {
	k.barred = append(k.barred, barredKey{key: key, why: why})
}

// selfSignature returns the newest signature by which the primary key describes
// itself: the direct-key signature in version 6, else one on a user id that is
// not revoked. It reports whether there are user ids and all are revoked.
func selfSignature(e *openpgp.Entity) (self *packet.Signature, allRevoked bool) {
	if e.PrimaryKey.Version == 6 {
		return e.SelfSignature, false
	}
	name := ""
	allRevoked = len(e.Identities) > 0
	for id, identity := range e.Identities {
		if len(identity.Revocations) > 0 {
			continue
		}
		allRevoked = false
		sig := identity.SelfSignature
		if sig == nil {
			continue
		}
		// Of equal age, the first by name, so that every reading of a key agrees.
		if self == nil || sig.CreationTime.After(self.CreationTime) ||
			(sig.CreationTime.Equal(self.CreationTime) && id < name) {
			self, name = sig, id
		}
	}
	return self, allRevoked
}

// checkPGPAlgorithm refuses keys whose signatures prove too little, or whose
// verification costs too much.
func checkPGPAlgorithm(pk *packet.PublicKey) error {
	if pk.Version != 4 && pk.Version != 6 {
		return fmt.Errorf("%w: version %d keys; use version 4 or 6", ErrUnsupported, pk.Version)
	}
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		bits, err := pk.BitLength()
		if err != nil {
			return malformed(err)
		}
		if bits < minRSABits {
			return fmt.Errorf("%w: RSA of %d bits, fewer than %d", ErrWeak, bits, minRSABits)
		}
		if bits > maxRSABits {
			return fmt.Errorf("%w: RSA of %d bits, more than %d", ErrUnsupported, bits, maxRSABits)
		}
		return nil
	case packet.PubKeyAlgoECDSA:
		if curve, err := pk.Curve(); err != nil || curve == packet.CurveSecP256k1 {
			return fmt.Errorf("%w: ECDSA on this curve; use P-256", ErrUnsupported)
		}
		return nil
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448:
		return nil
	case packet.PubKeyAlgoDSA:
		return fmt.Errorf("%w: DSA; use Ed25519, P-256 or RSA", ErrWeak)
	}
	return fmt.Errorf("%w: OpenPGP algorithm %d; use Ed25519, P-256 or RSA", ErrUnsupported, pk.PubKeyAlgo)
}

// fingerprint covers everything that a verdict of the key depends on.
func (k *pgpKey) fingerprint(primary *packet.PublicKey) (Fingerprint, error) {
	var parts [][]byte
	for _, signer := range k.signers {
		var b bytes.Buffer
		if err := signer.SerializeForHash(&b); err != nil {
			return Fingerprint{}, fmt.Errorf("encoding the key: %w", err)
		}
		last := int64(0)
		if !signer.last.IsZero() {
			last = signer.last.Unix()
		}
		parts = append(parts, binary.BigEndian.AppendUint64(b.Bytes(), uint64(last)))
	}
	slices.SortFunc(parts, bytes.Compare)
	var b bytes.Buffer
	if err := primary.SerializeForHash(&b); err != nil {
		return Fingerprint{}, fmt.Errorf("encoding the key: %w", err)
	}
	state := "valid"
	if k.revoked {
		state = "revoked"
	}
	fields := [][]byte{[]byte("OpenPGP"), []byte(PGP), []byte(state), b.Bytes()}
	return fingerprintOf(append(fields, parts...)...), nil
}

func (k *pgpKey) matches(publicKeyID string) bool {
	return strings.TrimPrefix(publicKeyID, fingerprintURI) == k.name
}

// malformed marks an error of the OpenPGP library.
func malformed(err error) error { return fmt.Errorf("%w: %w", ErrMalformed, err) }
