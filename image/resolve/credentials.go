package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/net/publicsuffix"
)

// ErrForeignRealm means that a registry wants its credentials sent to somebody else.
var ErrForeignRealm = errors.New("the registry asks for its credentials to be sent to another party")

// A destination is the exact place that a request goes to: scheme, host and port.
type destination struct{ scheme, host, port string }

func destinationOf(u *url.URL) destination {
	d := destination{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}
	if d.port == "" {
		d.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return d
}

func (d destination) String() string { return net.JoinHostPort(d.host, d.port) }

// sameParty reports whether whoever runs a registry also runs the place. Tokens are
// given out at another host of the domain, such as auth.docker.io for index.docker.io,
// and at another port of the host. What has only an address, or is this machine, says
// nothing of who runs another port.
func (d destination) sameParty(registry destination) bool {
	switch {
	case d == registry:
		return true
	case loopback(d.host) && d.host == registry.host && (d.port == registry.port || d.port == "80" && registry.port == "443"):
		return true // this machine may speak plain HTTP, which is tried after HTTPS
	case d.scheme != registry.scheme || local(d.host) || local(registry.host):
		return false
	case d.host == registry.host:
		return true
	}
	ours, err := publicsuffix.EffectiveTLDPlusOne(registry.host)
	if err != nil {
		return false
	}
	theirs, err := publicsuffix.EffectiveTLDPlusOne(d.host)
	return err == nil && ours == theirs
}

func local(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// lead keeps credentials where they belong, and returns the request to send. A
// credential goes to the place that it went to first and to no other, whatever the
// client library does with it: Go's own client takes a header along when it is
// redirected to another port, or to a host below the one asked. That first place is the
// registry, or one of the same party, where its credentials are turned into a token.
func (b *budget) lead(req *http.Request, services map[string]string) (*http.Request, error) {
	to := destinationOf(req.URL)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.registry == (destination{}) {
		b.registry = to // the first request of a call asks the registry how to log in
	}
	if req.Method == http.MethodPost { // a refresh token in a form
		return req, b.party(to, services)
	}
	credential := req.Header.Get("Authorization")
	if credential == "" {
		return req, nil
	}
	if first, sent := b.sent[credential]; sent {
		if first == to {
			return req, nil
		}
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
		return req, nil
	}
	// A token that is sent elsewhere first was given out there, to nobody in particular.
	if isToken := strings.HasPrefix(credential, "Bearer "); !isToken {
		if err := b.party(to, services); err != nil {
			return nil, err
		}
	}
	if b.sent == nil {
		b.sent = map[string]destination{}
	}
	b.sent[credential] = to
	return req, nil
}

func (b *budget) party(to destination, services map[string]string) error {
	if to.sameParty(b.registry) {
		return nil
	}
	for _, registry := range []string{b.registry.host, b.registry.String()} {
		if service := strings.ToLower(services[registry]); service != "" && to.scheme == b.registry.scheme && (service == to.host || service == to.String()) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s to %s; if that is how it is meant to be, name the host as its token service", ErrForeignRealm, b.registry, to)
}

// maxLookups bounds credential helpers that run at once: one that hangs is left
// behind.
const maxLookups = 16

// boundedKeychain asks a keychain, which runs programs, within the time of the call.
type boundedKeychain struct {
	inner authn.Keychain
	turns chan struct{}
}

func newBoundedKeychain(k authn.Keychain) *boundedKeychain {
	return &boundedKeychain{inner: k, turns: make(chan struct{}, maxLookups)}
}

// Resolve implements authn.Keychain.
func (k *boundedKeychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements authn.ContextKeychain.
func (k *boundedKeychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	type found struct {
		auth authn.Authenticator
		err  error
	}
	late := func() (authn.Authenticator, error) {
		return nil, &lookupError{registry: r.RegistryStr(), cause: ctx.Err(), text: "the credential helper did not answer in time"}
	}
	select {
	case k.turns <- struct{}{}:
	case <-ctx.Done():
		return late()
	}
	answered := make(chan found, 1)
	go func() {
		defer func() { <-k.turns }()
		auth, err := authn.Resolve(ctx, k.inner, r)
		answered <- found{auth, err}
	}()
	select {
	case f := <-answered:
		if f.err != nil {
			// A helper's output is part of it, and may be anything.
			return nil, &lookupError{registry: r.RegistryStr(), cause: f.err, text: "the Docker configuration or its credential helper cannot be used; try docker-credential-… get by hand"}
		}
		return f.auth, nil
	case <-ctx.Done():
		return late()
	}
}

// A lookupError is about finding credentials. It does not show its cause, which may
// have some in it.
type lookupError struct {
	registry, text string
	cause          error
}

func (e *lookupError) Error() string {
	return fmt.Sprintf("finding the credentials for %s: %s", e.registry, e.text)
}

func (e *lookupError) Unwrap() error { return e.cause }
