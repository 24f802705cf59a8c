package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// greetingLife is how long a registry's answer to the question how to log in holds.
	greetingLife = time.Minute
	// maxGreetings bounds the registries whose answer is remembered; who asks for an
	// image names one.
	maxGreetings = 1024
	// maxChallenge bounds what one has to say, in bytes. A longer answer is not remembered.
	maxChallenge = 4 << 10
)

// errPlain says that a registry on this machine did not speak TLS when last asked.
var errPlain = errors.New("the registry speaks plain HTTP")

// A challenge is what a registry answers to the question how to log in (GET /v2/). It
// has nothing of who asks: the question has no credentials.
type challenge struct {
	status int // 0 when there is none
	header http.Header
}

// challengeOf returns what of an answer matters. ok is false for one that says nothing
// of logging in, or too much.
func challengeOf(answer *http.Response) (c challenge, ok bool) {
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusUnauthorized {
		return challenge{}, false
	}
	size := 0
	c = challenge{status: answer.StatusCode, header: http.Header{}}
	for _, v := range answer.Header.Values("WWW-Authenticate") {
		c.header.Add("WWW-Authenticate", v)
		size += len(v)
	}
	return c, size <= maxChallenge
}

// answer is the challenge as if the registry had just made it.
func (c challenge) answer(req *http.Request) *http.Response {
	return emptyAnswer(req, c.status, c.header)
}

// greetings remember, for a while, how registries want one to log in: the client
// library asks before everything else, and on this machine tries TLS first. They hold no
// credentials, and not whether somebody was let in. A call that fails has its registry
// asked again.
type greetings struct {
	now func() time.Time

	mu    sync.Mutex
	hosts map[string]greeted // by host and port
}

// greeted is what one registry has answered, and by which scheme.
type greeted struct {
	challenge
	scheme string
	until  time.Time
}

// over returns what answers from memory, and leaves the rest to next.
func (g *greetings) over(next http.RoundTripper) http.RoundTripper {
	return &remembering{greetings: g, next: next}
}

func (g *greetings) get(host string) (greeted, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.hosts[host]
	if ok && !g.now().Before(known.until) {
		delete(g.hosts, host)
		return greeted{}, false
	}
	return known, ok
}

func (g *greetings) put(host, scheme string, c challenge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if _, ok := g.hosts[host]; !ok && len(g.hosts) >= maxGreetings {
		g.makeRoom(now)
	}
	g.hosts[host] = greeted{challenge: c, scheme: scheme, until: now.Add(greetingLife)}
}

// makeRoom drops what holds no more, or one of the others.
func (g *greetings) makeRoom(now time.Time) {
	var other string
	for host, known := range g.hosts {
		other = host
		if !now.Before(known.until) {
			delete(g.hosts, host)
		}
	}
	if len(g.hosts) >= maxGreetings {
		delete(g.hosts, other)
	}
}

func (g *greetings) forget(host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.hosts, host)
}

// An inquiry is what one call has learnt of its registry's greeting.
type inquiry struct {
	anew bool // memory is not asked

	mu       sync.Mutex
	host     string
	recalled bool // it was answered from memory
	noTLS    bool // asked over TLS, the registry did not answer
}

type inquiryKey struct{}

// inquire makes a call to a registry. When it fails the registry's greeting is forgotten;
// when that was one from memory, and the answer is one of somebody who has not logged in
// as he should, the call is made again.
func inquire[T any](ctx context.Context, g *greetings, call func(ctx context.Context) (T, error)) (T, error) {
	q := &inquiry{}
	answer, err := call(context.WithValue(ctx, inquiryKey{}, q))
	if err == nil {
		return answer, nil
	}
	host, recalled := q.told()
	g.forget(host)
	if !recalled || ctx.Err() != nil || !refusedSomehow(err) {
		return answer, err
	}
	// Others may have put it back meanwhile.
	answer, err = call(context.WithValue(ctx, inquiryKey{}, &inquiry{anew: true}))
	if err != nil {
		g.forget(host)
	}
	return answer, err
}

// refusedSomehow reports whether an error may come of a way to log in that holds no more.
// That something is not there is what registries say of what they hide, and what is
// answered where there was a token service once.
func refusedSomehow(err error) bool {
	if errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrForeignRealm) || errors.Is(err, ErrNotFound) {
		return true
	}
	var te *transport.Error
	return errors.As(err, &te) && te.StatusCode/100 == 4 && te.StatusCode != http.StatusTooManyRequests
}

func (q *inquiry) told() (host string, recalled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.host, q.recalled
}

// remembering answers the question how to log in from memory, where it can.
type remembering struct {
	greetings *greetings
	next      http.RoundTripper
}

func (r *remembering) RoundTrip(req *http.Request) (*http.Response, error) {
	q, _ := req.Context().Value(inquiryKey{}).(*inquiry)
	if q == nil || !isGreeting(req) {
		return r.next.RoundTrip(req)
	}
	q.mu.Lock()
	q.host = req.URL.Host
	q.mu.Unlock()
	if known, ok := r.greetings.get(req.URL.Host); ok && !q.anew {
		if answer, err := r.recall(req, known); answer != nil || err != nil {
			q.mu.Lock()
			q.recalled = true
			q.mu.Unlock()
			return answer, err
		}
	}
	return r.ask(req, q)
}

// recall answers from memory. It returns nothing when the memory is of another scheme.
func (r *remembering) recall(req *http.Request, known greeted) (*http.Response, error) {
	leads(req)
	switch {
	case known.scheme == req.URL.Scheme:
		return known.answer(req), nil
	case known.scheme == "http" && loopback(req.URL.Hostname()):
		return nil, fmt.Errorf("asking %s over TLS: %w", req.URL.Host, errPlain)
	}
	return nil, nil //nolint:nilnil // it has to be asked
}

// ask asks the registry, and remembers what it says. That it speaks plain HTTP is
// remembered when TLS has failed: it may only have been slow.
func (r *remembering) ask(req *http.Request, q *inquiry) (*http.Response, error) {
	answer, err := r.next.RoundTrip(req)
	secure := req.URL.Scheme == "https"
	if err != nil {
		q.mu.Lock()
		q.noTLS = q.noTLS || secure && req.Context().Err() == nil
		q.mu.Unlock()
		return nil, err
	}
	q.mu.Lock()
	noTLS := q.noTLS
	q.mu.Unlock()
	if c, ok := challengeOf(answer); ok && (secure || noTLS) {
		r.greetings.put(req.URL.Host, req.URL.Scheme, c)
	}
	return answer, nil
}

// isGreeting reports whether a request asks a registry how to log in, and is not the
// follow-up of a redirect.
func isGreeting(req *http.Request) bool {
	return req.Method == http.MethodGet && req.URL.Path == "/v2/" && req.Response == nil
}
