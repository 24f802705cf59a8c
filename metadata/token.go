package metadata

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	tokenVersion = 1
	tokenMAC     = 16
	// maxToken bounds what is decoded: a position is a note id at most.
	maxToken = 512
)

// tokenEncoding accepts each token in one spelling only.
var tokenEncoding = base64.RawURLEncoding.Strict()

// A tokenCodec makes page tokens: the version, a position in the list, and a
// MAC over both and the list they are for, so that a token works for the parent
// and filter it was made for and cannot be made up.
type tokenCodec struct{ key []byte }

func newTokenCodec(key []byte) (*tokenCodec, error) {
	if len(key) != sha256.Size {
		return nil, errors.New("the page token key must have 32 bytes")
	}
	return &tokenCodec{key: key}, nil
}

// A listing is what a token is bound to.
type listing struct{ method, parent, filter string }

// listing returns what the tokens of a list are bound to. Dialects do not share
// tokens: what a filter means is theirs to say.
func (s *Service) listing(method string, req ListRequest) listing {
	return listing{s.dialect.Name + method, req.Parent, req.Filter}
}

func (c *tokenCodec) encode(l listing, position string) string {
	raw := append([]byte{tokenVersion}, position...)
	return tokenEncoding.EncodeToString(append(raw, c.mac(l, position)...))
}

func (c *tokenCodec) decode(l listing, token string) (position string, err error) {
	bad := Errorf(InvalidArgument, "page token is not one that this list gave out for the same parent and filter; begin again without it")
	// Go's base64 skips line ends, which would give a token many spellings.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return "", bad
	}
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil || len(raw) < 1+tokenMAC || raw[0] != tokenVersion {
		return "", bad
	}
	end := len(raw) - tokenMAC
	position = string(raw[1:end])
	if !hmac.Equal(raw[end:], c.mac(l, position)) {
		return "", bad
	}
	return position, nil
}

func (c *tokenCodec) mac(l listing, position string) []byte {
	h := fieldHash{hmac.New(sha256.New, c.key)}
	h.count(tokenVersion)
	for _, s := range []string{l.method, l.parent, l.filter, position} {
		h.add(s)
	}
	return h.Sum(nil)[:tokenMAC]
}
