package metadata

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// A Key is the first half of a SHA-256, by which stores look up texts that are
// long. Collisions are not expected; readers compare the text all the same.
type Key [16]byte

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k == Key{} }

// KeyOf returns the key of a text.
func KeyOf(text string) Key {
	sum := sha256.Sum256([]byte(text))
	return Key(sum[:16])
}

// Keys are what stores index an occurrence by.
type Keys struct {
	// Resource is the key of the canonical resource URI.
	Resource Key
	// Subject is the key of the "sha256:…" digest in the resource URI, whatever
	// the repository; zero if there is none.
	Subject Key
	// Statement is the key of who says what about which resource: two
	// attestations of one statement are the same. Zero for other kinds.
	Statement Key
}

// KeysOf returns the keys of an occurrence.
func KeysOf(o *grafeas.Occurrence) Keys {
	resource := CanonicalURI(o.GetResourceUri())
	k := Keys{Resource: KeyOf(resource), Statement: statementKey(o, resource)}
	if d := digestIn(resource); d != "" {
		k.Subject = KeyOf(d)
	}
	return k
}

const resourceScheme = "https://"

// CanonicalURI returns the form in which resource URIs are compared: some writers put
// "https://" before an image reference, and some do not. What has a scheme even
// without it is no image reference, and stays as it is.
func CanonicalURI(uri string) string {
	if bare, found := strings.CutPrefix(uri, resourceScheme); found && !hasScheme(bare) {
		return bare
	}
	return uri
}

// otherSpelling returns the second form in which a canonical URI may be written,
// or the URI itself if it has but one.
func otherSpelling(canonical string) string {
	if hasScheme(canonical) {
		return canonical
	}
	return resourceScheme + canonical
}

// hasScheme reports whether a URI begins with NAME://, as RFC 3986 spells names.
func hasScheme(uri string) bool {
	name, _, found := strings.Cut(uri, "://")
	if !found || name == "" {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if other := '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'; !letter && (i == 0 || !other) {
			return false
		}
	}
	return true
}

// digestIn returns the last "sha256:" with 64 lower-case hexadecimal digits in
// the text, or "".
func digestIn(text string) string {
	const prefix, digits = "sha256:", 64
	for {
		i := strings.LastIndex(text, prefix)
		if i < 0 {
			return ""
		}
		rest := text[i+len(prefix):]
		if len(rest) >= digits && isLowerHex(rest[:digits]) {
			return text[i : i+len(prefix)+digits]
		}
		text = text[:i]
	}
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// statementKey hashes the parent, the note, the resource and all that is signed
// of an attestation, each with its length before it.
func statementKey(o *grafeas.Occurrence, resource string) Key {
	h := fieldHash{sha256.New()}
	parent, _, _ := strings.Cut(o.GetName(), "/occurrences/")
	h.add(parent)
	h.add(o.GetNoteName())
	h.add(resource)
	switch {
	case o.GetAttestation() != nil:
		a := o.GetAttestation()
		h.add("attestation")
		h.add(string(a.GetSerializedPayload()))
		h.count(len(a.GetSignatures()))
		for _, s := range a.GetSignatures() {
			h.add(s.GetPublicKeyId())
			h.add(string(s.GetSignature()))
		}
		h.count(len(a.GetJwts()))
		for _, j := range a.GetJwts() {
			h.add(j.GetCompactJwt())
		}
	case o.GetDsseAttestation().GetEnvelope() != nil:
		e := o.GetDsseAttestation().GetEnvelope()
		h.add("dsse")
		h.add(e.GetPayloadType())
		h.add(string(e.GetPayload()))
		h.count(len(e.GetSignatures()))
		for _, s := range e.GetSignatures() {
			h.add(s.GetKeyid())
			h.add(string(s.GetSig()))
		}
	default:
		return Key{}
	}
	return Key(h.Sum(nil)[:16])
}

// A fieldHash hashes fields so that no two lists of fields look alike.
type fieldHash struct{ hash.Hash }

func (h fieldHash) count(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = h.Write(b[:]) // a hash never fails
}

func (h fieldHash) add(field string) {
	h.count(len(field))
	_, _ = h.Write([]byte(field))
}
