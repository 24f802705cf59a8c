package door

import (
	"context"
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

// login tells callers by their password.
type login struct {
	hashes map[string]string
	// decoy is compared with for names that there are not, so that the time taken tells
	// nothing of names.
	decoy string
	queue chan struct{} // a place for each that waits or compares
	turns chan struct{} // a place for each that compares
}

func newLogin(hashes map[string]string) *login {
	l := &login{
		hashes: hashes,
		queue:  make(chan struct{}, maxComparisons+maxWaiting),
		turns:  make(chan struct{}, maxComparisons),
	}
	for _, h := range hashes {
		l.decoy = h
	}
	return l
}

// caller returns the name of who sends the request, and "" when he is nobody. The error
// is errBusy.
func (l *login) caller(ctx context.Context, r *http.Request) (string, error) {
	name, password, ok := r.BasicAuth()
	if !ok || name == "" || l.decoy == "" {
		return "", nil
	}
	select {
	case l.queue <- struct{}{}:
		defer func() { <-l.queue }()
	default:
		return "", errBusy
	}
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-ctx.Done():
		return "", errBusy
	}
	hash, known := l.hashes[name]
	if !known {
		hash = l.decoy
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return "", nil
	}
	return name, nil
}
