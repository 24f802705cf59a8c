package sealed_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/sealed"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, sealed.KeySize) }

func seal(t testing.TB, key, text []byte) []byte {
	t.Helper()
	var to bytes.Buffer
	w, err := sealed.NewWriter(&to, key)
	if err != nil {
		t.Fatal(err)
	}
	for rest := text; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(100_000))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Bytes()
}

func open(key, stream []byte) ([]byte, error) {
	r, err := sealed.NewReader(bytes.NewReader(stream), key)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func TestWhatWasSealedIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 256 << 10, 256<<10 + 1, 1 << 20, 3_000_000} {
		if got, err := open(key(1), seal(t, key(1), text(n))); err != nil || !bytes.Equal(got, text(n)) {
			t.Errorf("%d bytes: got %d, error %v", n, len(got), err)
		}
	}
}

func TestWhatWasChangedIsNotRead(t *testing.T) {
	t.Parallel()
	stream := seal(t, key(1), text(600_000))
	other := seal(t, key(1), text(600_000))
	const head, block = 24, 4 + 256<<10 + 32
	second := append(append(bytes.Clone(stream[:head+block]), other[head+block:head+2*block]...), stream[head+2*block:]...)
	swapped := append(append(bytes.Clone(stream[:head]), stream[head+block:head+2*block]...), stream[head:head+block]...)
	for name, bad := range map[string][]byte{
		"a block of another stream": second,
		"blocks in another order":   append(swapped, stream[head+2*block:]...),
		"a block left out":          append(bytes.Clone(stream[:head]), stream[head+block:]...),
		"more after the end":        append(bytes.Clone(stream), 0),
		"another beginning":         append([]byte("GHSEAL2\n"), stream[8:]...),
		"something else":            text(1000),
	} {
		if _, err := open(key(1), bad); !errors.Is(err, sealed.ErrNotSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(key(2), stream); !errors.Is(err, sealed.ErrNotSealed) {
		t.Errorf("with another key: %v", err)
	}
	for range 200 {
		at := rand.IntN(len(stream))
		bad := bytes.Clone(stream)
		bad[at] ^= 1 << rand.IntN(8)
		if _, err := open(key(1), bad); err == nil {
			t.Errorf("byte %d was changed, and nobody noticed", at)
		}
		if _, err := open(key(1), stream[:at]); err == nil {
			t.Errorf("cut at %d, and nobody noticed", at)
		}
	}
	for _, at := range []int{0, head, head + block, head + 2*block, len(stream) - 1} {
		if _, err := open(key(1), stream[:at]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
}

// TestNothingUnverifiedIsGivenOut: what comes before a block that was changed may be
// used, and nothing of that block.
func TestNothingUnverifiedIsGivenOut(t *testing.T) {
	t.Parallel()
	stream := seal(t, key(1), text(600_000))
	stream[24+4+256<<10+32+100] ^= 1
	if got, err := open(key(1), stream); err == nil || len(got) != 256<<10 {
		t.Errorf("got %d bytes, error %v", len(got), err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(seal(f, key(1), []byte("hello")))
	f.Add([]byte{})
	good := seal(f, key(1), []byte("hello"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if got, err := open(key(1), stream); err == nil && !bytes.Equal(stream, good) && len(got) > 0 && string(got) != "hello" {
			t.Errorf("accepted %q", got)
		}
	})
}
