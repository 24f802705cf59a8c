// Package sealed writes streams that nobody can change, cut or put together anew who
// has not the key: blocks, each with a code of authentication over what stands before
// it as well. What a [Reader] returns has been verified; that there is nothing more is
// known when it returns [io.EOF], and not before.
//
// Nothing is encrypted.
package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
)

const (
	// KeySize is the size of a key, in bytes.
	KeySize = 32

	blockSize = 256 << 10
	magic     = "GHSEAL1\n"
	nonceSize = 16
	lastBlock = 1 << 31 // in the length of a block
)

// ErrNotSealed says that a stream was not written with the key, or was changed since.
var ErrNotSealed = errors.New("it was not written with this key, or was changed since")

// A Writer writes a sealed stream. It must be closed.
type Writer struct {
	to    io.Writer
	mac   hash.Hash
	block []byte
	err   error
}

// NewWriter returns a Writer with a key of [KeySize] bytes.
func NewWriter(to io.Writer, key []byte) (*Writer, error) {
	head := append([]byte(magic), make([]byte, nonceSize)...)
	_, _ = rand.Read(head[len(magic):]) // never fails: it crashes the program
	w := &Writer{to: to, mac: newMAC(key, head), block: make([]byte, 0, blockSize)}
	_, err := to.Write(head)
	return w, err
}

// newMAC returns a code that goes on from block to block, so that their order, and what
// stream they are of, is part of it.
func newMAC(key, head []byte) hash.Hash {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(head) // a hash never fails
	return mac
}

// Write adds bytes to the stream.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 && w.err == nil {
		if len(w.block) == blockSize {
			w.seal(false)
		}
		room := min(blockSize-len(w.block), len(p))
		w.block = append(w.block, p[:room]...)
		p, n = p[room:], n+room
	}
	return n, w.err
}

// Close ends the stream. It does not close what it is written to.
func (w *Writer) Close() error {
	if w.err == nil {
		w.seal(true)
	}
	return w.err
}

func (w *Writer) seal(last bool) {
	length := binary.BigEndian.AppendUint32(nil, lengthOf(len(w.block), last))
	_, _ = w.mac.Write(length)
	_, _ = w.mac.Write(w.block)
	for _, part := range [][]byte{length, w.block, w.mac.Sum(nil)} {
		if w.err == nil {
			_, w.err = w.to.Write(part)
		}
	}
	w.block = w.block[:0]
}

func lengthOf(n int, last bool) uint32 {
	if last {
		return uint32(n) | lastBlock
	}
	return uint32(n)
}

// A Reader reads a sealed stream.
type Reader struct {
	from  io.Reader
	mac   hash.Hash
	rest  bytes.Reader
	block []byte
	last  bool
	err   error
}

// NewReader returns a Reader of what a [Writer] with the same key has written.
func NewReader(from io.Reader, key []byte) (*Reader, error) {
	head := make([]byte, len(magic)+nonceSize)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, cut(err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, ErrNotSealed
	}
	return &Reader{from: from, mac: newMAC(key, head), block: make([]byte, blockSize+sha256.Size)}, nil
}

// cut tells that a stream ends early.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read returns verified bytes.
func (r *Reader) Read(p []byte) (int, error) {
	for r.rest.Len() == 0 {
		if r.err == nil {
			r.err = r.next()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	return r.rest.Read(p)
}

// next verifies a block.
func (r *Reader) next() error {
	if r.last {
		if n, _ := r.from.Read(make([]byte, 1)); n > 0 {
			return ErrNotSealed
		}
		return io.EOF
	}
	var length [4]byte
	if _, err := io.ReadFull(r.from, length[:]); err != nil {
		return cut(err)
	}
	said := binary.BigEndian.Uint32(length[:])
	n := int(said &^ lastBlock)
	if n > blockSize {
		return ErrNotSealed
	}
	block := r.block[:n+sha256.Size]
	if _, err := io.ReadFull(r.from, block); err != nil {
		return cut(err)
	}
	_, _ = r.mac.Write(length[:])
	_, _ = r.mac.Write(block[:n])
	if !hmac.Equal(r.mac.Sum(nil), block[n:]) {
		return ErrNotSealed
	}
	r.last = said&lastBlock != 0
	r.rest.Reset(block[:n])
	return nil
}
