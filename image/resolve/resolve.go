// Package resolve reads what Gatehouse needs from container registries: the
// digest that a tag means now, and the configuration of an image.
//
//	r := resolve.New()
//	digest, err := r.Digest(ctx, ref)
//	configs, err := r.Configs(ctx, ref.WithDigest(digest))
//
// Everything that is read by digest is hashed and compared with it, manifests
// and configurations alike, so a registry cannot lie about content. What a tag
// means is the registry's word, and nothing else.
//
// Credentials come from the Docker configuration of the user that Gatehouse
// runs as, unless [WithKeychain] says otherwise. Registries are spoken to over
// HTTPS; plain HTTP is used with a registry on a loopback address only. Layers
// are never fetched, so answers are small, and one that is longer than
// [MaxResponse] is refused.
//
// A Resolver is safe for concurrent use, and one is meant to serve the process:
// it keeps connections open between requests.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/image"
)

// UserAgent is what registries see in their logs.
const UserAgent = "gatehouse"

// A Resolver reads from registries. Make one with [New].
type Resolver struct {
	keychain  authn.Keychain
	transport http.RoundTripper // a guard above what is beneath
	beneath   http.RoundTripper
	userAgent string
	backoff   remote.Backoff
}

// An Option changes how a [Resolver] reads.
type Option func(*Resolver)

// WithKeychain sets where credentials come from. The default is the Docker
// configuration ($DOCKER_CONFIG/config.json) and its credential helpers.
func WithKeychain(k authn.Keychain) Option { return func(r *Resolver) { r.keychain = k } }

// WithTransport sets what carries the requests, for a proxy or a private
// certificate authority. Sizes are bounded, and plain HTTP refused, above it.
func WithTransport(t http.RoundTripper) Option { return func(r *Resolver) { r.transport = t } }

// WithUserAgent replaces [UserAgent].
func WithUserAgent(s string) Option { return func(r *Resolver) { r.userAgent = s } }

// WithRetry sets how often a request is tried that the registry could not
// answer for the moment, and how long to wait after the first try; each later
// wait is three times as long. The default is 3 tries and one second.
func WithRetry(tries int, wait time.Duration) Option {
	return func(r *Resolver) { r.backoff = remote.Backoff{Duration: wait, Factor: 3, Jitter: 0.1, Steps: tries} }
}

// New returns a Resolver.
func New(options ...Option) *Resolver {
	r := &Resolver{
		keychain:  authn.DefaultKeychain,
		transport: remote.DefaultTransport,
		userAgent: UserAgent,
		backoff:   remote.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 3},
	}
	for _, o := range options {
		o(r)
	}
	r.beneath = r.transport
	r.transport = &guard{next: r.beneath, max: MaxResponse}
	return r
}

// Digest returns the digest that ref means. A reference that has a digest means
// that, and no registry is asked. Otherwise the registry is asked for the tag,
// or for "latest" when ref has none, as every container runtime does.
func (r *Resolver) Digest(ctx context.Context, ref image.Reference) (image.Digest, error) {
	if d := ref.Digest(); !d.IsZero() {
		return d, nil
	}
	tag := string(ref.Tag())
	if tag == "" {
		tag = "latest"
	}
	ctx = withBudget(ctx)
	named, err := name.NewTag(ref.Repository()+":"+tag, name.StrictValidation)
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: %w", ref, err)
	}
	puller, err := r.puller()
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: %w", ref, err)
	}
	if desc, err := puller.Head(ctx, named); err == nil {
		return parseDigest(ref, desc.Digest.String())
	} else if ctx.Err() != nil || refused(err) {
		return image.Digest{}, explain("resolving", ref, err)
	}
	// Some registries answer HEAD without a digest, or not at all. What GET
	// answers can be hashed.
	desc, err := puller.Get(ctx, named)
	if err != nil {
		return image.Digest{}, explain("resolving", ref, err)
	}
	return image.DigestOf(desc.Manifest), nil
}

func parseDigest(ref image.Reference, s string) (image.Digest, error) {
	d, err := image.ParseDigest(s)
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: registry %s: %w", ref, ref.Registry(), err)
	}
	return d, nil
}

// puller returns what makes the requests of one call. It is not kept longer: it
// remembers a failed login for as long as it lives.
func (r *Resolver) puller() (*remote.Puller, error) {
	return remote.NewPuller(r.options()...)
}

func (r *Resolver) options() []remote.Option {
	return []remote.Option{
		remote.WithAuthFromKeychain(r.keychain),
		remote.WithTransport(r.transport),
		remote.WithUserAgent(r.userAgent),
		remote.WithRetryBackoff(r.backoff),
		remote.WithRetryPredicate(retryable),
	}
}

// retryable limits retries to what may pass: an answer that was refused for its
// content, or a caller that has gone, is final.
func retryable(err error) bool {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInsecure) || errors.Is(err, ErrEndless) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}
