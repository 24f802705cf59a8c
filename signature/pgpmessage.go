package signature

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// maxMessagePackets bounds the packets of a signed message, and
	// maxMessageSignatures the signatures in it, each of which may cost a
	// verification.
	maxMessagePackets    = 64
	maxMessageSignatures = 16
	// maxDecompressed bounds what a compressed message may hold: a payload, and
	// the signatures around it.
	maxDecompressed = MaxPayload + maxMessageSignatures*(4<<10)
)

// A pgpMessage is a signed message, or detached signatures, taken apart.
type pgpMessage struct {
	detached   bool
	content    []byte
	signatures []*packet.OpaquePacket
}

// verify accepts a message if one of its signatures is good and by this key.
func (k *pgpKey) verify(payload, sig []byte) ([]byte, error) {
	if k.revoked {
		return nil, ErrRevoked
	}
	packets, kind, err := unarmor(sig)
	if err != nil {
		return nil, err
	}
	if kind != "" && kind != armorMessage && kind != armorSignature {
		return nil, fmt.Errorf("%w: armour of type %q, want %q or %q", ErrMalformed, clip(kind), armorSignature, armorMessage)
	}
	msg, err := parsePGPMessage(packets)
	if err != nil {
		return nil, err
	}
	content := msg.content
	if msg.detached {
		if len(payload) == 0 {
			return nil, fmt.Errorf("%w: the signature is detached and there is no payload beside it", ErrMalformed)
		}
		content = payload
	}
	if err := k.verifyAny(msg.signatures, content); err != nil {
		return nil, err
	}
	if len(payload) > 0 && !bytes.Equal(content, payload) {
		return nil, ErrPayloadMismatch
	}
	return content, nil
}

// verifyAny returns nil if one of the signatures is good, and else the error
// that says most: one about a signature by this key, if there is any.
func (k *pgpKey) verifyAny(signatures []*packet.OpaquePacket, content []byte) error {
	var ours, first error
	for _, op := range signatures {
		err := k.verifyOne(op, content)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if ours == nil && !errors.Is(err, ErrWrongKey) {
			ours = err
		}
	}
	if ours != nil {
		return ours
	}
	return first
}

func (k *pgpKey) verifyOne(op *packet.OpaquePacket, content []byte) error {
	if err := checkSignaturePacket(op.Contents); err != nil {
		return err
	}
	parsed, err := op.Parse()
	if err != nil {
		return malformed(err)
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok {
		return fmt.Errorf("%w: packet is no signature", ErrMalformed)
	}
	signer, err := k.signer(sig)
	if err != nil {
		return err
	}
	if err := signer.made(sig.CreationTime); err != nil {
		return k.by(signer.PublicKey, err)
	}
	// Nothing here knows the time, and what must not be believed for ever would be.
	if sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs != 0 {
		return fmt.Errorf("%w: the signature expires; attestations hold until they are deleted, so sign without an expiry", ErrUnsupported)
	}
	for _, notation := range sig.Notations {
		if notation.IsCritical {
			return fmt.Errorf("%w: critical notation %q", ErrUnsupported, clip(notation.Name))
		}
	}
	h, err := sig.PrepareVerify()
	if err != nil {
		return malformed(err)
	}
	h.Write(content)
	if err := signer.VerifySignature(h, sig); err != nil {
		return fmt.Errorf("the content or the signature was altered: %w", err)
	}
	return nil
}

// checkSignaturePacket looks at the fixed beginning of a signature packet:
// version, type, key algorithm and digest algorithm (RFC 9580 §5.2.3).
func checkSignaturePacket(b []byte) error {
	if len(b) < 4 {
		return fmt.Errorf("%w: signature packet of %d bytes", ErrMalformed, len(b))
	}
	if b[0] != 4 && b[0] != 6 {
		return fmt.Errorf("%w: version %d signatures; version 4 and 6 are", ErrUnsupported, b[0])
	}
	switch packet.SignatureType(b[1]) {
	case packet.SigTypeBinary:
	case packet.SigTypeText:
		return fmt.Errorf("%w: text-mode signatures do not cover the exact bytes; sign without --textmode", ErrUnsupported)
	default:
		return fmt.Errorf("%w: signature of type 0x%02x is not over data", ErrUnsupported, b[1])
	}
	return checkDigestID(b[3])
}

// checkDigestID allows the digests that collide for nobody (ids of RFC 9580
// §9.5).
func checkDigestID(id byte) error {
	switch id {
	case 8, 9, 10, 12, 14: // SHA-256, SHA-384, SHA-512, SHA3-256, SHA3-512
		return nil
	case 1:
		return fmt.Errorf("%w: MD5 digest; sign with SHA-256", ErrWeak)
	case 2:
		return fmt.Errorf("%w: SHA-1 digest; sign with SHA-256 (gpg --digest-algo SHA256)", ErrWeak)
	case 3:
		return fmt.Errorf("%w: RIPEMD-160 digest; sign with SHA-256", ErrWeak)
	case 11:
		return fmt.Errorf("%w: SHA-224 digest; sign with SHA-256", ErrWeak)
	}
	return fmt.Errorf("%w: digest algorithm %d; sign with SHA-256", ErrUnsupported, id)
}

// by says which subkey err is about. The primary key is what all of it is called by.
func (k *pgpKey) by(key *packet.PublicKey, err error) error {
	if fingerprint := fmt.Sprintf("%X", key.Fingerprint); fingerprint != k.name {
		return fmt.Errorf("made by subkey %s: %w", fingerprint, err)
	}
	return err
}

// signer returns the key that sig says made it. That is a hint, which the
// verification proves.
func (k *pgpKey) signer(sig *packet.Signature) (signingKey, error) {
	for _, key := range k.signers {
		if key.Version == sig.Version && sig.CheckKeyIdOrFingerprint(key.PublicKey) {
			return key, nil
		}
	}
	for _, barred := range k.barred {
		if sig.CheckKeyIdOrFingerprint(barred.key) {
			return signingKey{}, k.by(barred.key, barred.why)
		}
	}
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return signingKey{}, fmt.Errorf("%w, %X", ErrWrongKey, sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return signingKey{}, fmt.Errorf("%w, with key id %016X", ErrWrongKey, *sig.IssuerKeyId)
	}
	return signingKey{}, fmt.Errorf("%w: the signature does not say which key made it", ErrMalformed)
}

// parsePGPMessage takes a message apart, and insists on the grammar of RFC 9580
// §10.3 as far as it is in use: one literal between as many one-pass packets as
// signatures, or after signatures; all of that perhaps compressed, once; or
// signatures alone. Anything else after or between is refused.
func parsePGPMessage(data []byte) (*pgpMessage, error) {
	packets, err := messagePackets(data)
	if err != nil {
		return nil, err
	}
	if len(packets) == 1 && packets[0].Tag == tagCompressed {
		if data, err = decompress(packets[0].Contents); err != nil {
			return nil, err
		}
		if packets, err = messagePackets(data); err != nil {
			return nil, fmt.Errorf("in the compressed message: %w", err)
		}
	}
	return assembleMessage(packets)
}

// messagePackets returns the packets of a message that carry meaning.
func messagePackets(data []byte) ([]*packet.OpaquePacket, error) {
	all, err := splitPackets(data, maxMessagePackets)
	if err != nil {
		return nil, err
	}
	var packets []*packet.OpaquePacket
	for _, op := range all {
		if op.Tag != tagMarker && op.Tag != tagPadding {
			packets = append(packets, op)
		}
	}
	return packets, nil
}

func assembleMessage(packets []*packet.OpaquePacket) (*pgpMessage, error) {
	msg := &pgpMessage{detached: true}
	onePass, before := 0, 0
	for _, op := range packets {
		switch op.Tag {
		case tagOnePass:
			if !msg.detached || len(msg.signatures) > 0 {
				return nil, fmt.Errorf("%w: one-pass packet after the content or a signature", ErrMalformed)
			}
			if err := checkOnePass(op.Contents, onePass); err != nil {
				return nil, err
			}
			onePass++
		case tagLiteral:
			if !msg.detached {
				return nil, fmt.Errorf("%w: two contents in one message", ErrMalformed)
			}
			content, err := literalContent(op.Contents)
			if err != nil {
				return nil, err
			}
			msg.detached, msg.content, before = false, content, len(msg.signatures)
		case tagSignature:
			msg.signatures = append(msg.signatures, op)
		default:
			return nil, unexpectedPacket(op.Tag)
		}
	}
	switch after := len(msg.signatures) - before; {
	case len(msg.signatures) == 0:
		return nil, fmt.Errorf("%w: the message is not signed", ErrMalformed)
	case len(msg.signatures) > maxMessageSignatures:
		return nil, fmt.Errorf("%w: %d signatures, more than %d", ErrMalformed, len(msg.signatures), maxMessageSignatures)
	case msg.detached && onePass > 0:
		return nil, fmt.Errorf("%w: the message has no content", ErrMalformed)
	case !msg.detached && after != onePass:
		return nil, fmt.Errorf("%w: %d one-pass packets before the content and %d signatures after it", ErrMalformed, onePass, after)
	}
	return msg, nil
}

// checkOnePass looks at a one-pass packet, which only announces what its
// signature repeats (RFC 9580 §5.4).
func checkOnePass(b []byte, index int) error {
	if len(b) < 13 {
		return fmt.Errorf("%w: one-pass packet of %d bytes", ErrMalformed, len(b))
	}
	if index >= maxMessageSignatures {
		return fmt.Errorf("%w: more than %d signatures", ErrMalformed, maxMessageSignatures)
	}
	return nil
}

func unexpectedPacket(tag uint8) error {
	switch tag {
	case tagCompressed:
		return fmt.Errorf("%w: compression inside a signed message; the whole message may be compressed, once", ErrUnsupported)
	case tagPublicKey, tagSecretKey:
		return fmt.Errorf("%w: a key where a signature belongs", ErrMalformed)
	case tagKeyEncrypted, tagPassEncrypted, tagEncrypted, tagIntegrityEncrypted, tagAEADEncrypted:
		return fmt.Errorf("%w: the message is encrypted", ErrUnsupported)
	}
	return fmt.Errorf("%w: packet of type %d in a signed message", ErrMalformed, tag)
}

// literalContent returns the data of a literal packet: format, length of a file
// name, the name, a date of four bytes, and the data.
func literalContent(b []byte) ([]byte, error) {
	if len(b) < 2 || len(b) < 2+int(b[1])+4 {
		return nil, fmt.Errorf("%w: the literal packet is cut short", ErrMalformed)
	}
	content := b[2+int(b[1])+4:]
	if len(content) > MaxPayload {
		return nil, fmt.Errorf("%w: the signed content has %d bytes, more than %d", ErrMalformed, len(content), MaxPayload)
	}
	return content, nil
}

// decompress returns the packets inside a compressed packet, up to a bound.
func decompress(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: the compressed packet is empty", ErrMalformed)
	}
	body := bytes.NewReader(b[1:])
	var r io.Reader
	switch b[0] {
	case 0:
		r = body
	case 1:
		r = flate.NewReader(body)
	case 2:
		z, err := zlib.NewReader(body)
		if err != nil {
			return nil, malformed(err)
		}
		r = z
	case 3:
		r = bzip2.NewReader(body)
	default:
		return nil, fmt.Errorf("%w: compression algorithm %d", ErrUnsupported, b[0])
	}
	data, err := io.ReadAll(io.LimitReader(r, maxDecompressed+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing the message: %w", malformed(err))
	}
	if len(data) > maxDecompressed {
		return nil, fmt.Errorf("%w: the message decompresses to more than %d bytes", ErrMalformed, maxDecompressed)
	}
	return data, nil
}
