package signature

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// An EnvelopeSignature is a signature of a DSSE envelope that is kept otherwise
// than as JSON. An empty KeyID stands for any key.
type EnvelopeSignature struct {
	KeyID string
	Sig   []byte
}

// NewEnvelope returns the envelope with this content, within the bounds of
// [ParseEnvelope]. It keeps body and the signatures, which must not change.
func NewEnvelope(payloadType string, body []byte, signatures []EnvelopeSignature) (*Envelope, error) {
	e := &Envelope{payloadType: payloadType, body: body}
	switch {
	case payloadType == "" || len(payloadType) > maxPayloadType:
		return nil, fmt.Errorf("reading DSSE envelope: %w: payloadType has %d bytes, want 1 to %d", ErrMalformed, len(payloadType), maxPayloadType)
	case len(body) == 0 || len(body) > MaxStatement:
		return nil, fmt.Errorf("reading DSSE envelope: %w: payload has %d bytes, want 1 to %d", ErrMalformed, len(body), MaxStatement)
	case len(signatures) == 0 || len(signatures) > maxEnvelopeSignatures:
		return nil, fmt.Errorf("reading DSSE envelope: %w: %d signatures, want 1 to %d", ErrMalformed, len(signatures), maxEnvelopeSignatures)
	}
	for i, s := range signatures {
		if len(s.KeyID) > maxKeyID || len(s.Sig) == 0 || len(s.Sig) > maxEnvelopeSignature {
			return nil, fmt.Errorf("reading DSSE envelope: %w: signature %d has %d bytes, and its keyid %d; want 1 to %d, and up to %d",
				ErrMalformed, i+1, len(s.Sig), len(s.KeyID), maxEnvelopeSignature, maxKeyID)
		}
		e.signatures = append(e.signatures, envelopeSignature{keyID: s.KeyID, sig: s.Sig})
	}
	return e, nil
}

// Candidates returns how many of the envelope's signatures [PublicKey.VerifyEnvelope]
// would try with the key, which is what it may cost.
func (e *Envelope) Candidates(k *PublicKey) int {
	n := 0
	for _, s := range e.signatures {
		if s.keyID == "" || k.Matches(s.keyID) {
			n++
		}
	}
	return n
}

// VerifyEnvelope is [PublicKey.VerifyEnvelope] through the memo.
func (m *Memo) VerifyEnvelope(k *PublicKey, e *Envelope) (Message, error) {
	if m == nil || m.half < 1 || k == nil || k.key == nil || e == nil {
		return k.VerifyEnvelope(e)
	}
	v := m.recall(envelopeName(k, e), func() verdict { return verdict{cause: k.verifyEnvelope(e)} })
	if v.cause != nil {
		return Message{}, k.refuse(v.cause)
	}
	return Message{payloadType: e.payloadType, body: e.body}, nil
}

// envelopeName hashes what the verdict on an envelope depends on. That is the key's
// id too, since an envelope says whom each of its signatures is by.
func envelopeName(k *PublicKey, e *Envelope) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{byte(formDSSE)})
	h.Write(k.fingerprint[:])
	var size [8]byte
	add := func(field []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		h.Write(size[:])
		h.Write(field)
	}
	add([]byte(k.id))
	add([]byte(e.payloadType))
	add(e.body)
	for _, s := range e.signatures {
		add([]byte(s.keyID))
		add(s.sig)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
