package voucherapi

import (
	"context"
	"crypto/subtle"
	"net/http"

	"golang.org/x/crypto/bcrypt"
)

// maxComparisons is how many passwords are compared at once. bcrypt is slow on
// purpose, and callers choose how often they try.
const maxComparisons = 4

// login lets callers in. A nil login lets everyone in.
type login struct {
	username string
	hash     []byte
	turns    chan struct{}
}

func newLogin(username, hash string) *login {
	return &login{username: username, hash: []byte(hash), turns: make(chan struct{}, maxComparisons)}
}

// allows reports whether the request carries the user name and the password.
// Both are compared in any case, so that the time taken tells nothing of names.
func (l *login) allows(ctx context.Context, r *http.Request) bool {
	if l == nil {
		return true
	}
	username, password, ok := r.BasicAuth()
	if !ok || l.username == "" || len(l.hash) == 0 {
		return false
	}
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-ctx.Done():
		return false
	}
	same := subtle.ConstantTimeCompare([]byte(username), []byte(l.username)) == 1
	return bcrypt.CompareHashAndPassword(l.hash, []byte(password)) == nil && same
}
