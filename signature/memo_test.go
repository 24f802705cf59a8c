package signature

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// countingKey counts the verifications that reach it.
type countingKey struct {
	verifier
	mu    sync.Mutex
	calls int
}

func (k *countingKey) verify(payload, sig []byte) ([]byte, error) {
	k.mu.Lock()
	k.calls++
	k.mu.Unlock()
	return k.verifier.verify(payload, sig)
}

func counted(k *PublicKey) (*PublicKey, *countingKey) {
	c := &countingKey{verifier: k.key}
	clone := *k
	clone.key = c
	return &clone, c
}

func TestMemoVerifiesOnce(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	for name, s := range map[string]Signer{"PKIX": pkixSignerFor(t, Ed25519), "PGP": pgpSignerFor(t)} {
		sig := mustSign(t, s, payload)
		bad := append(append([]byte{}, sig...), 'x')
		k, c := counted(s.PublicKey())
		m := NewMemo(100)
		for range 3 {
			signed, err := m.Verify(k, payload, sig)
			if err != nil || !bytes.Equal(signed, payload) {
				t.Fatalf("%s: %q, %v", name, signed, err)
			}
			if signed, err := m.Verify(k, payload, bad); !errors.Is(err, ErrNotVerified) || signed != nil {
				t.Fatalf("%s: bad signature: %q, %v", name, signed, err)
			}
		}
		if c.calls != 2 || m.Len() != 2 {
			t.Errorf("%s: %d verifications and %d verdicts, want 2 and 2", name, c.calls, m.Len())
		}
	}
}

func TestMemoKeepsContentOfAttachedSignaturesFromItsCallers(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	s := pgpSignerFor(t)
	sig := mustSign(t, s, payload)
	m := NewMemo(10)
	for range 3 {
		signed, err := m.Verify(s.PublicKey(), nil, sig)
		if err != nil || !bytes.Equal(signed, payload) {
			t.Fatalf("Verify = %q, %v; want the payload", signed, err)
		}
		clear(signed)
	}
}

func TestMemoTellsKeysPayloadsAndSignaturesApart(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	s := pkixSignerFor(t, Ed25519)
	other := pkixSignerFor(t, ECDSAP256SHA256)
	sig := mustSign(t, s, payload)
	m := NewMemo(100)
	if _, err := m.Verify(s.PublicKey(), payload, sig); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(other.PublicKey(), payload, sig); !errors.Is(err, ErrNotVerified) {
		t.Errorf("another key: %v", err)
	}
	// The same bytes, cut elsewhere.
	if _, err := m.Verify(s.PublicKey(), append(payload[:len(payload):len(payload)], sig[0]), sig[1:]); !errors.Is(err, ErrNotVerified) {
		t.Errorf("other border: %v", err)
	}
	renamed, err := ParsePKIXPublicKey(s.PublicKey().Marshal(), Ed25519, "another-name")
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, sig...)
	bad[0] ^= 1
	for _, k := range []*PublicKey{s.PublicKey(), renamed} {
		if _, err := m.Verify(k, payload, bad); err == nil || !bytes.Contains([]byte(err.Error()), []byte(k.ID())) {
			t.Errorf("error %v does not name key %q", err, k.ID())
		}
	}
}

func TestMemoForgetsRevokedKeysVerdicts(t *testing.T) {
	t.Parallel()
	config := entityConfig()
	e := newEntity(t, config)
	s, err := ParsePGPSigner(privateArmor(t, config, e), nil, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	sig := mustSign(t, s, testPayload())
	m := NewMemo(10)
	if _, err := m.Verify(mustPGPKey(t, publicArmor(t, e)), nil, sig); err != nil {
		t.Fatal(err)
	}
	if err := e.RevokeKey(0, "", config); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(mustPGPKey(t, publicArmor(t, e)), nil, sig); !errors.Is(err, ErrRevoked) {
		t.Errorf("Verify with the revoked key = %v, want ErrRevoked", err)
	}
}

func TestMemoIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 10
	k, c := counted(pkixSignerFor(t, Ed25519).PublicKey())
	m := NewMemo(limit)
	often := []byte("often")
	for i := range 1000 {
		_, _ = m.Verify(k, testPayload(), []byte(fmt.Sprint(i)))
		_, _ = m.Verify(k, testPayload(), often)
		if m.Len() > limit {
			t.Fatalf("after %d verdicts it remembers %d, more than %d", i+1, m.Len(), limit)
		}
	}
	if c.calls != 1001 {
		t.Errorf("%d verifications, want 1001: what is used often stays", c.calls)
	}
}

func TestMemoWithoutRoomOrKeyStillVerifies(t *testing.T) {
	t.Parallel()
	s := pkixSignerFor(t, Ed25519)
	sig := mustSign(t, s, testPayload())
	for _, m := range []*Memo{nil, NewMemo(0), NewMemo(-5)} {
		if _, err := m.Verify(s.PublicKey(), testPayload(), sig); err != nil {
			t.Error(err)
		}
		if m.Len() != 0 {
			t.Errorf("it remembers %d", m.Len())
		}
	}
	if _, err := NewMemo(10).Verify(nil, testPayload(), sig); !errors.Is(err, ErrNotVerified) {
		t.Errorf("no key: %v", err)
	}
}

func TestMemoKeepsNoLargeContent(t *testing.T) {
	t.Parallel()
	s := pgpSignerFor(t)
	m := NewMemo(10)
	if _, err := m.Verify(s.PublicKey(), nil, mustSign(t, s, make([]byte, maxMemoContent+1))); err != nil {
		t.Fatal(err)
	}
	if m.Len() != 0 {
		t.Error("a large content is remembered")
	}
}

func TestMemoIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	s, p := pkixSignerFor(t, Ed25519), pgpSignerFor(t)
	sig, msg := mustSign(t, s, payload), mustSign(t, p, payload)
	m := NewMemo(4)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := m.Verify(s.PublicKey(), payload, sig); err != nil {
					t.Error(err)
				}
				if _, err := m.Verify(p.PublicKey(), nil, msg); err != nil {
					t.Error(err)
				}
				_, _ = m.Verify(s.PublicKey(), payload, []byte(fmt.Sprint(i)))
			}
		})
	}
	wg.Wait()
}

// TestMemoTellsEnvelopesOfTwoIDsApart: an envelope says whom its signatures are by, so
// that one which is good by a key under one id is not by the same key under another.
func TestMemoTellsEnvelopesOfTwoIDsApart(t *testing.T) {
	t.Parallel()
	s := pkixSignerFor(t, Ed25519)
	one := s.PublicKey()
	two, err := ParsePKIXPublicKey(one.Marshal(), one.Algorithm(), "https://key.test/two")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("{}")
	e, err := NewEnvelope(PayloadTypeInToto, body, []EnvelopeSignature{{KeyID: one.ID(), Sig: mustSign(t, s, PAE(PayloadTypeInToto, body))}})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMemo(10)
	for range 2 {
		if _, err := m.VerifyEnvelope(one, e); err != nil {
			t.Error(err)
		}
		if _, err := m.VerifyEnvelope(two, e); !errors.Is(err, ErrWrongKey) {
			t.Errorf("by another id: %v", err)
		}
	}
}

func TestMemoSignVerifiesOnceWhatItsSignerMade(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	for name, s := range map[string]Signer{"PKIX": pkixSignerFor(t, Ed25519), "PGP": pgpSignerFor(t)} {
		k, c := counted(s.PublicKey())
		switch s := s.(type) {
		case *pkixSigner:
			s.public = k
		case *pgpSigner:
			s.public = k
		}
		m := NewMemo(100)
		sig, err := m.Sign(t.Context(), s, payload)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if signed, err := m.Verify(k, payload, sig); err != nil || !bytes.Equal(signed, payload) {
			t.Errorf("%s: the signature is of %q, %v", name, signed, err)
		}
		if c.calls != 1 {
			t.Errorf("%s: %d verifications, want 1", name, c.calls)
		}
		if _, err := (*Memo)(nil).Sign(t.Context(), s, payload); err != nil || c.calls != 2 {
			t.Errorf("%s: without a memo: %v after %d verifications, want 2", name, err, c.calls)
		}
		if _, err := m.Sign(t.Context(), s, nil); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), s.KeyID()) {
			t.Errorf("%s: an empty payload: %v, want an error that names the key", name, err)
		}
	}
}

// mistaken is a Signer from elsewhere.
type mistaken struct {
	Signer
	sig []byte
}

func (m mistaken) Sign(context.Context, []byte) ([]byte, error) { return m.sig, nil }

func TestMemoSignRefusesWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	payload := testPayload()
	good := pkixSignerFor(t, Ed25519)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	faulty, err := NewPKIXSigner(faultySigner{private}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for about, s := range map[string]Signer{
		"faulty hardware":                      faulty,
		"a signer of a signature of something": mistaken{good, mustSign(t, good, []byte("another payload"))},
		"a signer of a signature by another":   mistaken{good, mustSign(t, pkixSignerFor(t, ECDSAP256SHA256), payload)},
		"a signer of nothing":                  mistaken{good, nil},
	} {
		for _, m := range []*Memo{nil, NewMemo(10)} {
			sig, err := m.Sign(t.Context(), s, payload)
			if !errors.Is(err, ErrNotVerified) || sig != nil || !strings.Contains(err.Error(), s.KeyID()) {
				t.Errorf("%s: %q, %v; want no signature, and an error that names the key", about, sig, err)
			}
		}
	}
}
