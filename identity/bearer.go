package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// maxToken bounds a token that is hashed. JSON web tokens have some hundred
// bytes, seldom a few thousand.
const maxToken = 8 << 10

// bearer judges static bearer tokens.
type bearer struct {
	tokens atomic.Pointer[[]token]
}

// A token is a caller and the hash of what proves it.
type token struct {
	name string
	hash [sha256.Size]byte
}

func (b *bearer) load(text []byte) (warnings []string, err error) {
	tokens, err := parseTokens(text)
	if err != nil {
		return nil, err
	}
	b.tokens.Store(&tokens)
	return nil, nil
}

// Authenticate compares the token with all that are known, in the same time
// whether or not one is right. One that is not known is ErrNotMine: another
// authenticator may know it.
func (b *bearer) Authenticate(r *http.Request) (metadata.Caller, error) {
	text, err := credentials(r, "Bearer")
	if err != nil {
		return metadata.Caller{}, err
	}
	if err := checkToken(text); err != nil {
		return metadata.Caller{}, err
	}
	hash := sha256.Sum256([]byte(text))
	tokens := *b.tokens.Load()
	found := -1
	for n, t := range tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], t.hash[:]), n, found)
	}
	if found < 0 {
		return metadata.Caller{}, ErrNotMine
	}
	return metadata.Caller{Name: tokens[found].name}, nil
}

// credentials returns what follows the scheme in the authorization header.
func credentials(r *http.Request, scheme string) (string, error) {
	given, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(given, scheme) {
		return "", ErrNotMine
	}
	return strings.Trim(rest, " "), nil
}

// checkToken holds a token to the grammar of RFC 6750, section 2.1. The error
// does not show it.
func checkToken(text string) error {
	switch {
	case text == "":
		return errors.New("the bearer token is empty")
	case len(text) > maxToken:
		return fmt.Errorf("the bearer token is longer than %d bytes", maxToken)
	}
	body := strings.TrimRight(text, "=")
	if body == "" || strings.ContainsFunc(body, func(r rune) bool { return !isTokenRune(r) }) {
		return errors.New("the bearer token has characters that no token has; it is letters, digits and -._~+/ (RFC 6750)")
	}
	return nil
}

func isTokenRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r)
}
