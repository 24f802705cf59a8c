package resolve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Session asks for many images at a time: it logs in once for a repository, and does
// not ask a registry how before each. A tag costs one request. A failed login is tried
// again with the next image. A Session is safe for concurrent use and meant to be short:
// it does not follow changes of credentials.
type Session struct {
	puller *remote.Puller
}

// Session begins a session.
func (r *Resolver) Session() (*Session, error) {
	puller, err := remote.NewPuller(
		remote.WithAuthFromKeychain(r.keychain),
		remote.WithTransport(&greeter{next: r.transport, hosts: map[string]*greeting{}}),
		remote.WithUserAgent(r.userAgent),
		remote.WithRetryBackoff(r.backoff),
		remote.WithRetryPredicate(retryable),
	)
	if err != nil {
		return nil, fmt.Errorf("beginning to resolve: %w", err)
	}
	return &Session{puller: puller}, nil
}

// Digest is [Resolver.Digest].
func (s *Session) Digest(ctx context.Context, ref image.Reference) (image.Digest, error) {
	if d := ref.Digest(); !d.IsZero() {
		return d, nil
	}
	tag := string(ref.Tag())
	if tag == "" {
		tag = "latest"
	}
	named, err := name.NewTag(ref.Repository()+":"+tag, name.StrictValidation)
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: %w", ref, err)
	}
	first := &firstRequest{path: "/v2/" + named.RepositoryStr() + "/manifests/" + tag}
	ctx = context.WithValue(withBudget(ctx), firstKey{}, first)
	if desc, err := s.puller.Head(ctx, named); err == nil {
		return parseDigest(ref, desc.Digest.String())
	} else if ctx.Err() != nil || refused(err) {
		return image.Digest{}, explain("resolving", ref, err)
	}
	desc, err := s.puller.Get(ctx, named) // as in [Resolver.Digest]
	if err != nil {
		return image.Digest{}, explain("resolving", ref, err)
	}
	return image.DigestOf(desc.Manifest), nil
}

// PlatformDigest returns the digest of the image for one platform that ref means: of
// the index that the tag is, the entry that a machine of that platform runs. When there
// are several, by variant, p has to say which. An image that is for another platform is
// an error, too.
func (s *Session) PlatformDigest(ctx context.Context, ref image.Reference, p Platform) (image.Digest, error) {
	d, err := s.Digest(ctx, ref)
	if err != nil {
		return image.Digest{}, err
	}
	repo, err := name.NewRepository(ref.Repository(), name.StrictValidation)
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: %w", ref, err)
	}
	w := &walk{ref: ref.WithDigest(d), repo: repo, puller: s.puller, wanted: []Platform{p}, found: make([]bool, 1)}
	if err := w.visit(withBudget(ctx), d, entry{}, 0); err != nil {
		return image.Digest{}, err
	}
	var chosen []Config
	var has []Platform
	for _, c := range w.configs {
		has = append(has, c.Platform)
		if p.covers(c.Platform) {
			chosen = append(chosen, c)
		}
	}
	switch {
	case len(chosen) == 0:
		if len(has) == 0 {
			has = w.seen
		}
		return image.Digest{}, fmt.Errorf("resolving %q: %w %s; it has %s", ref, ErrNoPlatform, p, list(has))
	case len(chosen) > 1:
		return image.Digest{}, fmt.Errorf("resolving %q: there are several images for %s: %s; say which", ref, p, list(has))
	}
	return chosen[0].Manifest, nil
}

// A firstRequest is what the request of one call that matters will be, so that it can
// be made in place of asking the registry how to log in.
type firstRequest struct {
	path string

	mu     sync.Mutex
	answer *http.Response // to that request; taken once
}

type firstKey struct{}

// A greeter answers the question with which the client library begins everything, how to
// log in (GET /v2/), by what it knows: a registry is asked once. The first time in a
// repository it makes the request for the tag instead. When that is answered no login was
// needed, and the answer is kept for when the library asks.
type greeter struct {
	next http.RoundTripper

	mu    sync.Mutex
	hosts map[string]*greeting // by scheme and host
}

// A greeting is what a registry is known to answer.
type greeting struct {
	// asking is held by who asks first, so that the others need not.
	asking sync.Mutex

	mu     sync.Mutex
	open   bool // it let somebody in unasked
	status int  // its answer, 0 when there is none yet
	header http.Header
	failed int   // how often it was not to be had
	err    error // why, once that has been often enough
}

// maxFailures is how often a registry is asked how to log in that cannot be reached.
// Those who wait for the answer would otherwise each wait for that, one after the other.
const maxFailures = 3

func (g *greeter) RoundTrip(req *http.Request) (*http.Response, error) {
	first, _ := req.Context().Value(firstKey{}).(*firstRequest)
	switch {
	case first == nil || req.Response != nil:
		return g.next.RoundTrip(req)
	case req.Method == http.MethodGet && req.URL.Path == "/v2/":
		return g.greet(req, first)
	case req.Method == http.MethodHead && req.URL.Path == first.path:
		if answer := first.take(); answer != nil {
			answer.Request = req
			return answer, nil
		}
	}
	return g.next.RoundTrip(req)
}

func (f *firstRequest) take() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := f.answer
	f.answer = nil
	return answer
}

func (g *greeter) greet(req *http.Request, first *firstRequest) (*http.Response, error) {
	h := g.host(req)
	if answer, err := h.known(req); answer != nil || err != nil {
		return answer, err
	}
	if !h.isOpen() {
		h.asking.Lock()
		defer h.asking.Unlock()
		if answer, err := h.known(req); answer != nil || err != nil {
			return answer, err
		}
	}
	if answer := g.askForTag(req, first); answer != nil {
		if answer.StatusCode == http.StatusUnauthorized {
			return h.remember(req, answer), nil
		}
		h.letIn()
		first.mu.Lock()
		first.answer = answer
		first.mu.Unlock()
		return emptyAnswer(req, http.StatusOK, nil), nil
	}
	answer, err := g.next.RoundTrip(req)
	if err != nil {
		h.fail(req, err)
		return nil, err
	}
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusUnauthorized {
		return answer, nil
	}
	drain(answer)
	return h.remember(req, answer), nil
}

// askForTag makes the request for the tag, and returns an answer that tells how to log
// in, or that it was not needed. nil leaves it to the registry's own words: some hide
// what they would tell after a login.
func (g *greeter) askForTag(req *http.Request, first *firstRequest) *http.Response {
	ask := req.Clone(req.Context())
	ask.Method = http.MethodHead
	ask.URL.Path, ask.URL.RawPath = first.path, ""
	ask.Header.Set("Accept", manifestTypes)
	answer, err := g.next.RoundTrip(ask)
	if err != nil {
		return nil
	}
	drain(answer)
	challenged := answer.StatusCode == http.StatusUnauthorized && answer.Header.Get("WWW-Authenticate") != ""
	if challenged || (answer.StatusCode == http.StatusOK && answer.Header.Get("Docker-Content-Digest") != "") {
		return answer
	}
	return nil
}

var manifestTypes = strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1), string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ",")

// drain ends an answer without a body of interest, so that its connection is used again.
func drain(answer *http.Response) {
	_, _ = io.Copy(io.Discard, answer.Body) // it is bounded
	_ = answer.Body.Close()
	answer.Body = http.NoBody
}

func (g *greeter) host(req *http.Request) *greeting {
	key := req.URL.Scheme + "://" + req.URL.Host
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.hosts[key]
	if h == nil {
		h = &greeting{}
		g.hosts[key] = h
	}
	return h
}

// fail counts that a registry could not be reached. On loopback it is expected that one
// does not speak TLS.
func (h *greeting) fail(req *http.Request, err error) {
	if req.Context().Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed++; h.failed >= maxFailures || (req.URL.Scheme == "https" && loopback(req.URL.Hostname())) {
		h.err = err
	}
}

func (h *greeting) known(req *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status == 0 {
		return nil, h.err
	}
	return emptyAnswer(req, h.status, h.header), nil
}

func (h *greeting) isOpen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// letIn notes that a repository is open. Others may not be, so that each is tried.
func (h *greeting) letIn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
}

// remember keeps an answer, and returns one like it.
func (h *greeting) remember(req *http.Request, answer *http.Response) *http.Response {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.header = answer.StatusCode, http.Header{}
	for _, v := range answer.Header.Values("WWW-Authenticate") {
		h.header.Add("WWW-Authenticate", v)
	}
	return emptyAnswer(req, h.status, h.header)
}

func emptyAnswer(req *http.Request, status int, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header.Clone(), Body: http.NoBody, Request: req,
	}
}
