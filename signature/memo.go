package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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
	name := memoName(k, payload, sig)
	v, ok := m.get(name)
	if !ok {
		v = newVerdict(k, payload, sig)
		if len(v.content) <= maxMemoContent {
			m.put(name, v)
		}
	}
	switch {
	case v.cause != nil:
		return nil, k.refuse(v.cause)
	case v.content != nil:
		return bytes.Clone(v.content), nil
	}
	return payload, nil
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

// memoName hashes what the verdict depends on, unambiguously.
func memoName(k *PublicKey, payload, sig []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(k.fingerprint[:])
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(payload)))
	h.Write(size[:])
	h.Write(payload)
	h.Write(sig)
	return [sha256.Size]byte(h.Sum(nil))
}
