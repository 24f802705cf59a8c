package signature

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// maxMemoContent bounds the content of an OpenPGP message that a Memo keeps; a
// larger one is verified each time.
const maxMemoContent = 4 << 10

// A Memo remembers verdicts on signatures, so that one that is seen again, under
// another note or after a restart of the feed, costs a hash. It keeps nothing
// else: whether the key is still trusted is asked anew by whoever holds the
// answer. It is safe for concurrent use; a nil Memo remembers nothing.
type Memo struct {
	half int

	mu         sync.Mutex
	young, old map[[sha256.Size]byte]verdict
}

// A verdict is a pure function of key, payload and signature.
type verdict struct {
	content []byte // what was signed, when it is not the payload given
	cause   error
}

// NewMemo returns a Memo of at most limit verdicts; the least recently used half
// is forgotten when it is full. With a limit below 2 it remembers nothing.
func NewMemo(limit int) *Memo {
	return &Memo{half: limit / 2, young: make(map[[sha256.Size]byte]verdict)}
}

// Verify is [PublicKey.Verify] through the memo. The result belongs to the
// caller, except where it is payload itself.
func (m *Memo) Verify(k *PublicKey, payload, sig []byte) ([]byte, error) {
	if m == nil || m.half < 1 || k == nil || k.key == nil || len(payload) > MaxPayload || len(sig) > MaxSignature {
		return k.Verify(payload, sig)
	}
	v := m.recall(memoName(formRaw, k, payload, sig), func() verdict { return newVerdict(k, payload, sig) })
	switch {
	case v.cause != nil:
		return nil, k.refuse(v.cause)
	case v.content != nil:
		return bytes.Clone(v.content), nil
	}
	return payload, nil
}

// Sign has s sign payload, and verifies what it made, once: a signature of another key or
// payload, whoever made s, is an error. The memo remembers that it verifies, so that
// who meets the signature next need not find out again.
func (m *Memo) Sign(ctx context.Context, s Signer, payload []byte) ([]byte, error) {
	own, ours := s.(uncheckedSigner)
	sign := s.Sign // its errors name the key
	if ours {
		sign = own.signUnchecked
	}
	sig, err := sign(ctx, payload)
	if err == nil {
		if _, err = m.Verify(s.PublicKey(), payload, sig); err != nil {
			err = fmt.Errorf("what the signer returned is not its signature: %w", err)
			ours = true
		}
	}
	switch {
	case err != nil && ours:
		return nil, fmt.Errorf("signing with key %q: %w", s.KeyID(), err)
	case err != nil:
		return nil, err
	}
	return sig, nil
}

// VerifyJWT is [PublicKey.VerifyJWT] through the memo, which remembers whether
// the key signed the token. What the token states is read each time.
func (m *Memo) VerifyJWT(k *PublicKey, token string) (Payload, error) {
	if m == nil || m.half < 1 || k == nil || k.key == nil {
		return k.VerifyJWT(token)
	}
	return k.verifyJWT(token, func(input, sig []byte) error {
		v := m.recall(memoName(formJWS, k, input, sig), func() verdict { return verdict{cause: k.verifyJWS(input, sig)} })
		return v.cause
	})
}

// recall returns the verdict of this name, and makes and keeps it when it is
// not remembered.
func (m *Memo) recall(name [sha256.Size]byte, judge func() verdict) verdict {
	v, ok := m.get(name)
	if !ok {
		v = judge()
		if len(v.content) <= maxMemoContent {
			m.put(name, v)
		}
	}
	return v
}

func newVerdict(k *PublicKey, payload, sig []byte) verdict {
	signed, err := k.verify(payload, sig)
	if err != nil {
		return verdict{cause: err}
	}
	if bytes.Equal(signed, payload) && len(payload) > 0 {
		return verdict{}
	}
	return verdict{content: append([]byte{}, signed...)}
}

// Len returns how many verdicts are remembered.
func (m *Memo) Len() int {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.young) + len(m.old)
}

func (m *Memo) get(name [sha256.Size]byte) (verdict, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.young[name]; ok {
		return v, true
	}
	v, ok := m.old[name]
	if ok {
		delete(m.old, name)
		m.add(name, v)
	}
	return v, ok
}

func (m *Memo) put(name [sha256.Size]byte, v verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(name, v)
}

// add puts v among the young, who become the old when they are too many. Two
// generations approximate least-recently-used at the price of a map.
func (m *Memo) add(name [sha256.Size]byte, v verdict) {
	if len(m.young) >= m.half {
		m.old, m.young = m.young, make(map[[sha256.Size]byte]verdict)
	}
	m.young[name] = v
}

// A form is how a signature is encoded. One that is good in one form need not be
// in another, over the same bytes by the same key.
type form byte

const (
	formRaw  form = iota // as PublicKey.Verify takes it
	formJWS              // as JSON Web Signatures have it
	formDSSE             // in an envelope
)

// memoName hashes what the verdict depends on, unambiguously.
func memoName(f form, k *PublicKey, payload, sig []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{byte(f)})
	h.Write(k.fingerprint[:])
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(payload)))
	h.Write(size[:])
	h.Write(payload)
	h.Write(sig)
	return [sha256.Size]byte(h.Sum(nil))
}
