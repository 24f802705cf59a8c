package voucherapi

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxComparisons is how many passwords are compared at once. bcrypt is slow
	// on purpose, and callers choose how often they try.
	maxComparisons = 4
	// maxWaiting is how many more wait for their turn: some seconds' worth.
	maxWaiting = 64
)

// errBusy says that a password was not compared: nothing is known of it.
var errBusy = errors.New("too many logins are being worked on; try again later")

// login lets callers in. A nil login lets everyone in.
type login struct {
	username string
	hash     []byte
	queue    chan struct{} // a place for each that waits or compares
	turns    chan struct{} // a place for each that compares
}

func newLogin(username, hash string) *login {
	return &login{
		username: username, hash: []byte(hash),
		queue: make(chan struct{}, maxComparisons+maxWaiting),
		turns: make(chan struct{}, maxComparisons),
	}
}

// allows reports whether the request carries the user name and the password.
// Both are compared in any case, so that the time taken tells nothing of names.
// The error is errBusy.
func (l *login) allows(ctx context.Context, r *http.Request) (bool, error) {
	if l == nil {
		return true, nil
	}
	username, password, ok := r.BasicAuth()
	if !ok || l.username == "" || len(l.hash) == 0 {
		return false, nil
	}
	select {
	case l.queue <- struct{}{}:
		defer func() { <-l.queue }()
	default:
		return false, errBusy
	}
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-ctx.Done():
		return false, errBusy
	}
	same := subtle.ConstantTimeCompare([]byte(username), []byte(l.username)) == 1
	return bcrypt.CompareHashAndPassword(l.hash, []byte(password)) == nil && same, nil
}
