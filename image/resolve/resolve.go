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
// runs as and its credential helpers, unless [WithKeychain] says otherwise. They are
// bound to the exact host, scheme and port that they are for: they go along with no
// redirect, and to another host for a token only if it is of the same domain, or named
// by [WithTokenServices]. A helper that hangs ends with the call.
//
// Registries are spoken to over HTTPS, with the certificates of the system and those of
// [Settings]; plain HTTP is used with a registry on a loopback address only. Layers
// are never fetched, so answers are small, and one that is longer than
// [MaxResponse] is refused. Mirrors of Settings are asked first, for content by digest.
//
// A Resolver is safe for concurrent use, and one is meant to serve the process:
// it keeps connections open between requests.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	transport http.RoundTripper // beneath guards
	greetings *greetings
	userAgent string
	backoff   remote.Backoff
	mirrors   []mirror
	services  map[string]string
}

// An Option changes how a [Resolver] reads.
type Option func(*Resolver)

// WithKeychain sets where credentials come from. The default is the Docker
// configuration ($DOCKER_CONFIG/config.json) and its credential helpers.
func WithKeychain(k authn.Keychain) Option { return func(r *Resolver) { r.keychain = k } }

// WithTransport sets what carries the requests, for a proxy or a private
// certificate authority. Sizes are bounded, and plain HTTP refused, above it.
func WithTransport(t http.RoundTripper) Option { return func(r *Resolver) { r.transport = t } }

// WrapTransport puts something between the guards and what carries the requests, as that
// was set by the options before.
func WrapTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return func(r *Resolver) { r.transport = wrap(r.transport) }
}

// WithTokenServices sets the hosts, HOST or HOST:PORT, that may be sent the credentials
// of a registry, by the registry's HOST or HOST:PORT. Those in the domain of the
// registry always may: index.docker.io has auth.docker.io.
func WithTokenServices(hosts map[string]string) Option {
	return func(r *Resolver) { r.services = hosts }
}

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
		greetings: &greetings{now: time.Now, hosts: map[string]greeted{}},
		userAgent: UserAgent,
		backoff:   remote.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 3},
	}
	for _, o := range options {
		o(r)
	}
	r.keychain = newBoundedKeychain(r.keychain)
	return r
}

// guarded returns what carries requests, with the most that is read of an answer.
func (r *Resolver) guarded(most int64) http.RoundTripper {
	return &guard{next: r.transport, max: most, services: r.services}
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
	return ask(ctx, r.copies(ref.Repository(), true), func(ctx context.Context, repository string) (image.Digest, error) {
		return inquire(withBudget(ctx), r.greetings, func(ctx context.Context) (image.Digest, error) {
			return r.tagged(ctx, ref, repository+":"+tag)
		})
	})
}

// tagged asks one registry what a tag means.
func (r *Resolver) tagged(ctx context.Context, ref image.Reference, tag string) (image.Digest, error) {
	named, err := name.NewTag(tag, name.StrictValidation)
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

// ask asks one after the other until one answers. The last is the registry itself, and
// the others are mirrors: each has half of the time that is left, so that one that hangs
// costs no answer.
func ask[T any](ctx context.Context, repositories []string, question func(ctx context.Context, repository string) (T, error)) (answer T, err error) {
	var mirrors []string // why they did not answer
	for i, repository := range repositories {
		asking, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(repositories)-1 {
			asking, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		}
		answer, err = question(asking, repository)
		cancel()
		if err == nil || ctx.Err() != nil || i == len(repositories)-1 {
			break
		}
		mirrors = append(mirrors, "the mirror "+repository+" did not help: "+brief(err))
	}
	if err != nil && len(mirrors) > 0 {
		err = fmt.Errorf("%w; %s", err, strings.Join(mirrors, "; "))
	}
	return answer, err
}

func parseDigest(ref image.Reference, s string) (image.Digest, error) {
	d, err := image.ParseDigest(s)
	if err != nil {
		return image.Digest{}, fmt.Errorf("resolving %q: registry %s: %w", ref, ref.Registry(), err)
	}
	return d, nil
}

// puller returns what makes the requests of one call. It is not kept longer: it
// remembers a failed login for as long as it lives. How a registry wants one to log in is
// remembered beneath it.
func (r *Resolver) puller() (*remote.Puller, error) {
	return remote.NewPuller(r.options(MaxResponse)...)
}

func (r *Resolver) options(most int64) []remote.Option {
	return []remote.Option{
		remote.WithAuthFromKeychain(r.keychain),
		remote.WithTransport(r.greetings.over(r.guarded(most))),
		remote.WithUserAgent(r.userAgent),
		remote.WithRetryBackoff(r.backoff),
		remote.WithRetryPredicate(retryable),
	}
}

// retryable limits retries to what may pass: an answer that was refused for its
// content, or a caller that has gone, is final.
func retryable(err error) bool {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInsecure) || errors.Is(err, ErrEndless) || errors.Is(err, ErrForeignRealm) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}
