package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// digestPrefix is the only algorithm accepted: every system Gatehouse is
// compatible with signs SHA-256 manifest digests.
const digestPrefix = "sha256:"

// A Digest is the SHA-256 of an image manifest or index. It is comparable and
// free of pointers, so that it can key large maps. The zero Digest is not a
// digest: [Digest.IsZero] reports it and [Digest.String] returns "".
type Digest struct {
	sum [sha256.Size]byte
	ok  bool
}

// ParseDigest parses "sha256:" followed by 64 lower-case hexadecimal digits,
// and nothing else.
func ParseDigest(s string) (Digest, error) {
	enc, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		return Digest{}, fmt.Errorf("parsing digest %q: must begin with %q", clip(s), digestPrefix)
	}
	var d Digest
	if len(enc) != 2*len(d.sum) {
		return Digest{}, fmt.Errorf("parsing digest %q: %d characters after %q, want %d", clip(s), len(enc), digestPrefix, 2*len(d.sum))
	}
	for i := range len(enc) {
		if c := enc[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("parsing digest %q: %q at position %d is not a lower-case hexadecimal digit", clip(s), c, len(digestPrefix)+i)
		}
	}
	if _, err := hex.Decode(d.sum[:], []byte(enc)); err != nil {
		return Digest{}, fmt.Errorf("parsing digest %q: %w", clip(s), err)
	}
	d.ok = true
	return d, nil
}

// DigestOf returns the digest of content, such as a raw manifest.
func DigestOf(content []byte) Digest {
	return Digest{sum: sha256.Sum256(content), ok: true}
}

// DigestFromSum returns the digest whose hash is sum.
func DigestFromSum(sum [sha256.Size]byte) Digest { return Digest{sum: sum, ok: true} }

// Sum returns the 32 bytes of the hash, and zeros for the zero Digest.
func (d Digest) Sum() [sha256.Size]byte { return d.sum }

// IsZero reports whether d is absent.
func (d Digest) IsZero() bool { return !d.ok }

// String returns "sha256:" and 64 hexadecimal digits, or "" for the zero Digest.
func (d Digest) String() string {
	if !d.ok {
		return ""
	}
	return digestPrefix + hex.EncodeToString(d.sum[:])
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero Digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
