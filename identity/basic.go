package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/internal/limit"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxPassword is how much of a password bcrypt looks at. A longer one would
	// pass for its beginning.
	maxPassword = 72

	// maxComparisons is how many passwords are compared at once: each takes a
	// processor for 50 ms and more.
	maxComparisons = 2
	// maxWaiting is how many more wait for their turn: some seconds' worth.
	maxWaiting = 64

	// rememberedFor is how long a verified password is not compared again. A user
	// who is removed is out at once all the same.
	rememberedFor  = 5 * time.Minute
	mostRemembered = 1000

	// Passwords that one address may have compared, right or wrong.
	comparisonsPerSecond = 1
	comparisonBurst      = 10
)

// basic judges user names and passwords.
type basic struct {
	now      func() time.Time
	users    atomic.Pointer[passwords]
	attempts *limit.Limiter
	queue    chan struct{} // a place for each that waits or compares
	turns    chan struct{} // a place for each that compares
	key      []byte        // of this process, for what is remembered

	mu       sync.Mutex
	verified map[[sha256.Size]byte]time.Time // until when
}

// passwords are the hashes of all users, and one that is compared for a user who
// does not exist, so that the time taken tells nothing of names.
type passwords struct {
	hashes map[string]string
	nobody []byte
}

func newBasic(now func() time.Time) *basic {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails: it crashes the program
	return &basic{
		now: now, key: key, attempts: limit.New(comparisonsPerSecond, comparisonBurst, now),
		queue: make(chan struct{}, maxComparisons+maxWaiting), turns: make(chan struct{}, maxComparisons),
		verified: make(map[[sha256.Size]byte]time.Time),
	}
}

func (b *basic) load(text []byte) (warnings []string, err error) {
	users, warnings, err := parseUsers(text)
	if err != nil {
		return nil, err
	}
	highest := bcrypt.MinCost
	for _, hash := range users {
		if cost, err := bcryptCost(hash); err == nil {
			highest = max(highest, cost)
		}
	}
	nobody, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), highest)
	if err != nil {
		return nil, fmt.Errorf("preparing for users that do not exist: %w", err)
	}
	b.users.Store(&passwords{hashes: users, nobody: nobody})
	return warnings, nil
}

// Authenticate compares the password with the user's.
func (b *basic) Authenticate(r *http.Request) (metadata.Caller, error) {
	if _, err := credentials(r, "Basic"); err != nil {
		return metadata.Caller{}, err
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return metadata.Caller{}, errors.New("the basic credentials are malformed: want the base64 of USER:PASSWORD (RFC 7617)")
	}
	switch {
	case password == "":
		return metadata.Caller{}, errors.New("the password is empty")
	case len(password) > maxPassword:
		return metadata.Caller{}, fmt.Errorf("the password is longer than %d bytes", maxPassword)
	case len(user) > maxName || strings.ContainsRune(password, 0):
		return metadata.Caller{}, errors.New("the user name or the password is wrong")
	}
	users := b.users.Load()
	hash, known := users.hashes[user]
	if !known {
		hash = string(users.nobody)
	}
	seal := b.seal(user, password, hash)
	if known && b.remembers(seal) {
		return metadata.Caller{Name: user}, nil
	}
	same, err := b.compare(r, hash, password)
	if err != nil {
		return metadata.Caller{}, err
	}
	if !same || !known {
		return metadata.Caller{}, errors.New("the user name or the password is wrong")
	}
	b.remember(seal)
	return metadata.Caller{Name: user}, nil
}

// compare waits for a turn. An error says that nothing is known of the password.
func (b *basic) compare(r *http.Request, hash, password string) (bool, error) {
	if wait, ok := b.attempts.Take(limit.AddressOf(r.RemoteAddr)); !ok {
		return false, exhausted(wait, "too many logins from this address")
	}
	select {
	case b.queue <- struct{}{}:
		defer func() { <-b.queue }()
	default:
		return false, exhausted(time.Second, "too many logins are being worked on")
	}
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-r.Context().Done():
		return false, exhausted(time.Second, "too many logins are being worked on")
	}
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
}

// seal stands for a user, a password and the hash that it was compared with: one
// that changes is compared anew. Passwords are not kept.
func (b *basic) seal(user, password, hash string) (seal [sha256.Size]byte) {
	mac := hmac.New(sha256.New, b.key)
	for _, part := range []string{user, password, hash} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write([]byte(part))
	}
	mac.Sum(seal[:0])
	return seal
}

func (b *basic) remembers(seal [sha256.Size]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.verified[seal]
	return ok && b.now().Before(until)
}

func (b *basic) remember(seal [sha256.Size]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if len(b.verified) >= mostRemembered {
		for old, until := range b.verified {
			if !now.Before(until) {
				delete(b.verified, old)
			}
		}
	}
	if len(b.verified) >= mostRemembered {
		clear(b.verified) // everybody is compared once more
	}
	b.verified[seal] = now.Add(rememberedFor)
}
