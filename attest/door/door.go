// Package door lets the callers of an attestor in: it tells who they are, what they may
// ask for, and bounds how often they come.
//
//	d := door.New(door.Options{RequireAuth: true, Username: "vouch", PasswordHash: hash})
//	caller, err := d.Identify(r)
//	leave, err := d.Enter(caller)
//	defer leave()
//
// An error is a [*RefusalError], which has what to answer.
package door

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/internal/limit"
)

const (
	// DefaultMaxRequests is how many requests are worked on at once. Each may
	// wait for minutes, and does little meanwhile.
	DefaultMaxRequests = 256
	// retryAfter is when to come again for whom there was no place.
	retryAfter = 5 * time.Second
)

// Options are what a Door is made from. The zero Options let everybody in.
type Options struct {
	// RequireAuth has callers log in, as one of Callers, or with Username and the
	// password whose bcrypt hash is PasswordHash. While either of these is empty no one
	// gets in so.
	RequireAuth            bool
	Username, PasswordHash string
	// Callers are further callers, by name. Each may be held to some checks and groups.
	Callers map[string]attest.CallerConfig
	// MaxRequests bounds the requests that are worked on at once; 0 means
	// [DefaultMaxRequests].
	MaxRequests int
	// PerCaller bounds those of one caller; 0 means half of MaxRequests.
	PerCaller int
	// PerMinute is how often each caller may ask on the average, and Burst how often at
	// once; 0 is no limit, and as often as PerMinute.
	PerMinute, Burst int
	// Now is time.Now if nil.
	Now func() time.Time
}

// A Door lets callers in. Make one with [New]. It is safe for concurrent use.
type Door struct {
	login     *login // nil lets everyone in
	callers   map[string]attest.CallerConfig
	rate      *limit.Limiter // nil is no limit
	turns     chan struct{}
	perCaller int

	mu   sync.Mutex
	here map[string]int // requests that are worked on, by caller
}

// New returns a Door.
func New(o Options) *Door {
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.PerCaller <= 0 {
		o.PerCaller = max(1, o.MaxRequests/2)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Door{callers: o.Callers, turns: make(chan struct{}, o.MaxRequests), perCaller: o.PerCaller, here: map[string]int{}}
	if o.RequireAuth {
		hashes := map[string]string{}
		if o.Username != "" && o.PasswordHash != "" {
			hashes[o.Username] = o.PasswordHash
		}
		for name, c := range o.Callers {
			hashes[name] = c.PasswordHash
		}
		d.login = newLogin(hashes)
	}
	if o.PerMinute > 0 {
		if o.Burst <= 0 {
			o.Burst = o.PerMinute
		}
		d.rate = limit.New(float64(o.PerMinute)/60, o.Burst, o.Now)
	}
	return d
}

// A RefusalError says why somebody is not let in.
type RefusalError struct {
	// Status is the HTTP status.
	Status int
	Text   string
	// RetryAfter is when to come again, if that is of use.
	RetryAfter time.Duration
}

func (r *RefusalError) Error() string { return r.Text }

// SetHeader puts what a refusal says into the header of an answer.
func (r *RefusalError) SetHeader(h http.Header) {
	if r.Status == http.StatusUnauthorized {
		// Without it browsers and some clients do not send the password they have.
		h.Set("WWW-Authenticate", `Basic realm="gatehouse", charset="UTF-8"`)
	}
	if r.RetryAfter > 0 {
		h.Set("Retry-After", fmt.Sprintf("%.0f", max(1, r.RetryAfter.Round(time.Second).Seconds())))
	}
}

// Identify tells who sends a request. The error is a [*RefusalError].
func (d *Door) Identify(ctx context.Context, r *http.Request) (attest.Caller, error) {
	caller := attest.Caller{Address: limit.AddressOf(r.RemoteAddr)}
	if d.login == nil {
		return caller, nil
	}
	name, err := d.login.caller(ctx, r)
	switch {
	case err != nil:
		return caller, &RefusalError{http.StatusServiceUnavailable, err.Error(), retryAfter}
	case name == "":
		return caller, &RefusalError{Status: http.StatusUnauthorized, Text: "username or password is incorrect"}
	}
	caller.Name = name
	return caller, nil
}

// May reports whether the caller may ask for a check or group; the error is a [*RefusalError].
func (d *Door) May(caller attest.Caller, name string) error {
	c, ok := d.callers[caller.Name]
	if !ok || len(c.May) == 0 || slices.Contains(c.May, name) {
		return nil
	}
	return &RefusalError{Status: http.StatusForbidden, Text: fmt.Sprintf("%q may not ask for %.100q; whoever runs the attestor can allow it with gatehouse.callers", caller.Name, name)}
}

// Enter takes a place for a request of the caller, and leave gives it back. The error is
// a [*RefusalError].
func (d *Door) Enter(caller attest.Caller) (leave func(), err error) {
	key := caller.Name + "@" + caller.Address // several may share a user name
	if d.rate != nil {
		if wait, ok := d.rate.Take(key); !ok {
			return nil, &RefusalError{http.StatusTooManyRequests, "too many requests of yours in a minute; try again later", wait}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.here[key] >= d.perCaller {
		return nil, &RefusalError{http.StatusTooManyRequests, "too many requests of yours are being worked on; try again later", retryAfter}
	}
	select {
	case d.turns <- struct{}{}:
	default:
		return nil, &RefusalError{http.StatusServiceUnavailable, "too many requests are being worked on; try again later", retryAfter}
	}
	d.here[key]++
	return func() { d.leave(key) }, nil
}

func (d *Door) leave(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.here[key]--; d.here[key] == 0 {
		delete(d.here, key)
	}
	<-d.turns
}
