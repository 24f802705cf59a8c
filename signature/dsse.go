package signature

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// PayloadTypeInToto is the type under which in-toto statements are signed.
	PayloadTypeInToto = "application/vnd.in-toto+json"
	// PayloadTypeSimpleSigning is the type under which payloads as [ParsePayload]
	// reads them are signed in an envelope.
	PayloadTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"

	// MaxStatement is the most bytes that an envelope may hold, 16 MiB: real SBOMs
	// exceed 10.
	MaxStatement = 16 << 20
	// MaxEnvelope is the most bytes that an envelope may have: a statement of
	// MaxStatement in base64 (4/3), and its signatures.
	MaxEnvelope = MaxStatement/3*4 + 256<<10

	maxEnvelopeSignatures = 16
	maxPayloadType        = 256
	// maxEnvelopeSignature is more than any PKIX signature: ML-DSA-65's has 3,309
	// bytes.
	maxEnvelopeSignature = 8 << 10
)

// An Envelope is a signed message in the form of DSSE (Dead Simple Signing
// Envelope, version 1), not verified yet: all that it tells is which keys to try.
type Envelope struct {
	payloadType string
	body        []byte
	signatures  []envelopeSignature
}

type envelopeSignature struct {
	keyID string
	sig   []byte
}

// envelopeJSON is the wire form. Members that it does not have are ignored, as
// DSSE asks.
type envelopeJSON struct {
	PayloadType string         `json:"payloadType"`
	Payload     string         `json:"payload"`
	Signatures  jsontext.Value `json:"signatures"`
}

type envelopeSignatureJSON struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// ParseEnvelope reads the JSON form of an envelope, of at most [MaxEnvelope]
// bytes and 16 signatures. Its base64 may be of either alphabet, with padding.
func ParseEnvelope(b []byte) (*Envelope, error) {
	e, err := parseEnvelope(b)
	if err != nil {
		return nil, fmt.Errorf("parsing DSSE envelope: %w", err)
	}
	return e, nil
}

func parseEnvelope(b []byte) (*Envelope, error) {
	if len(b) > MaxEnvelope {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(b), MaxEnvelope)
	}
	var wire envelopeJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return nil, malformedJSON(err)
	}
	if n := len(wire.PayloadType); n == 0 || n > maxPayloadType {
		return nil, fmt.Errorf("%w: payloadType has %d bytes, want 1 to %d", ErrMalformed, n, maxPayloadType)
	}
	e := &Envelope{payloadType: wire.PayloadType}
	var err error
	if e.body, err = decodeBase64(wire.Payload, MaxStatement); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	signatures, err := readArray[envelopeSignatureJSON](wire.Signatures, maxEnvelopeSignatures)
	if err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	for i, s := range signatures {
		sig, err := decodeBase64(s.Sig, maxEnvelopeSignature)
		if err == nil && len(s.KeyID) > maxKeyID {
			err = fmt.Errorf("%w: keyid has %d bytes, more than %d", ErrMalformed, len(s.KeyID), maxKeyID)
		}
		if err != nil {
			return nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		e.signatures = append(e.signatures, envelopeSignature{keyID: s.KeyID, sig: sig})
	}
	return e, nil
}

// A Message is what a key signed in an envelope: bytes and what they are. Only
// [PublicKey.VerifyEnvelope] makes one that is not empty.
type Message struct {
	payloadType string
	body        []byte
}

// PayloadType returns the type under which the message was signed.
func (m Message) PayloadType() string { return m.payloadType }

// Body returns the bytes that were signed. They are not to be changed.
func (m Message) Body() []byte { return m.body }

// Payload reads a message of type [PayloadTypeSimpleSigning], as [ParsePayload]
// does. Any other type is refused with [ErrWrongType].
func (m Message) Payload() (Payload, error) {
	if err := m.checkType(PayloadTypeSimpleSigning); err != nil {
		return Payload{}, fmt.Errorf("parsing signed payload: %w", err)
	}
	return ParsePayload(m.body)
}

// Statement reads a message of type [PayloadTypeInToto]. Any other type is
// refused with [ErrWrongType].
func (m Message) Statement() (Statement, error) {
	if err := m.checkType(PayloadTypeInToto); err != nil {
		return Statement{}, fmt.Errorf("parsing in-toto statement: %w", err)
	}
	return parseStatement(m.body)
}

// checkType returns an error unless the message was signed under the type want.
// The type is signed so that nothing is read as what its signer did not mean.
func (m Message) checkType(want string) error {
	if m.payloadType != want {
		return fmt.Errorf("%w: it was signed as %q, not as %q", ErrWrongType, clip(m.payloadType), want)
	}
	return nil
}

// VerifyEnvelope returns what the key signed, if one of the envelope's
// signatures is good, and is either said to be by this key or does not say by
// which. Every error wraps [ErrNotVerified]. OpenPGP keys verify no envelopes.
func (k *PublicKey) VerifyEnvelope(e *Envelope) (Message, error) {
	if err := k.verifyEnvelope(e); err != nil {
		return Message{}, k.refuse(err)
	}
	return Message{payloadType: e.payloadType, body: e.body}, nil
}

func (k *PublicKey) verifyEnvelope(e *Envelope) error {
	if k == nil || k.key == nil {
		return errNoKey
	}
	key, ok := k.key.(*pkixKey)
	if !ok {
		return fmt.Errorf("%w: OpenPGP keys sign no DSSE envelopes", ErrUnsupported)
	}
	if e == nil || len(e.signatures) == 0 {
		return fmt.Errorf("%w: the envelope is not signed", ErrMalformed)
	}
	pae := PAE(e.payloadType, e.body)
	reason := fmt.Errorf("%w, %q", ErrWrongKey, clip(e.signatures[0].keyID))
	for _, s := range e.signatures {
		if s.keyID != "" && !k.Matches(s.keyID) {
			continue
		}
		if key.valid(pae, s.sig) {
			return nil
		}
		reason = errAltered
	}
	return reason
}

// PAE returns the bytes that DSSE signs for a body of a type: its
// pre-authentication encoding. gcloud signs attestations so when told to
// (--pae-encode-payload): verify such a signature over PAE of the type and the
// payload with [PublicKey.Verify].
func PAE(payloadType string, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len("DSSEv1") + len(payloadType) + len(body) + 2*20 + 4)
	b.WriteString("DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(body)) + " ")
	b.Write(body)
	return b.Bytes()
}

// decodeBase64 decodes base64 of either alphabet, with padding and in its one
// form, to between 1 and most bytes.
func decodeBase64(s string, most int) ([]byte, error) {
	encoding := base64.StdEncoding
	// IndexByte, since IndexAny takes as long as the decoding.
	if strings.IndexByte(s, '-') >= 0 || strings.IndexByte(s, '_') >= 0 {
		encoding = base64.URLEncoding
	}
	switch {
	case s == "":
		return nil, fmt.Errorf("%w: it is missing or empty", ErrMalformed)
	case encoding.DecodedLen(len(s)) > most+2: // up to two bytes are padding
		return nil, fmt.Errorf("%w: more than %d bytes", ErrMalformed, most)
	case hasLineEnd(s):
		return nil, fmt.Errorf("%w: base64 with line ends", ErrMalformed)
	}
	b, err := encoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: no base64: %w", ErrMalformed, err)
	}
	if len(b) > most {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(b), most)
	}
	return b, nil
}

// readArray decodes a JSON array of 1 to most entries, and stops there: decoding
// costs more memory than the text has bytes.
func readArray[T any](raw jsontext.Value, most int) ([]T, error) {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if d.PeekKind() != '[' {
		return nil, fmt.Errorf("%w: there is no list", ErrMalformed)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, malformedJSON(err)
	}
	var list []T
	for d.PeekKind() != ']' {
		if len(list) == most {
			return nil, fmt.Errorf("%w: more than %d in the list", ErrMalformed, most)
		}
		var item T
		if err := json.UnmarshalDecode(d, &item); err != nil {
			return nil, malformedJSON(err)
		}
		list = append(list, item)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the list is empty", ErrMalformed)
	}
	return list, nil
}
