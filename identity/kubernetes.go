package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/gatehouse-dev/gatehouse/internal/limit"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// DefaultAudience is whom tokens of Kubernetes are to be for.
	DefaultAudience = "gatehouse"
	// serviceAccountPrefix begins the name of every service account.
	serviceAccountPrefix = "system:serviceaccount:"

	// defaultReviewed is how long a token that was reviewed is not reviewed again, and so
	// how long a service account that is deleted may still call.
	defaultReviewed  = 10 * time.Second
	shortestReviewed = time.Second
	longestReviewed  = 5 * time.Minute
	// refusedFor is how long a token that was refused is not reviewed again. One that was
	// made a moment ago may not be known to every API server yet.
	refusedFor = 5 * time.Second
	// mostReviews bounds what is remembered of good tokens, and of refused ones.
	mostReviews = 1000

	// reviewTimeout bounds one question to the API server, maxReviewing how many are asked
	// at once, and the others how many new tokens one address may have reviewed.
	reviewTimeout    = 5 * time.Second
	maxReviewing     = 16
	reviewsPerSecond = 10
	reviewBurst      = 100
)

// KubernetesConfig is the section "identity.kubernetes". The zero KubernetesConfig takes
// no tokens of Kubernetes.
type KubernetesConfig struct {
	// Enabled takes bearer tokens that a Kubernetes API server vouches for.
	Enabled bool `yaml:"enabled"`
	// Audience is whom tokens are to be for: one for the API server itself, as older pods
	// have in them, is refused. Default "gatehouse".
	Audience string `yaml:"audience"`
	// Kubeconfig says which API server. Default: that of the cluster that this runs in.
	// It needs the ClusterRole system:auth-delegator.
	Kubeconfig string `yaml:"kubeconfig"`
	// Users takes tokens of whoever the API server knows, under the name that it gives
	// them, and not of service accounts only.
	Users bool `yaml:"users"`
	// CacheFor is how long a good token is not reviewed again, and so how long a service
	// account that is deleted may still call. Default 10s.
	CacheFor time.Duration `yaml:"cacheFor"`
}

// DefaultKubernetes returns the section as it is when nothing is said.
func DefaultKubernetes() KubernetesConfig {
	return KubernetesConfig{Audience: DefaultAudience, CacheFor: defaultReviewed}
}

func (c KubernetesConfig) validate() error {
	if !c.Enabled {
		if d := DefaultKubernetes(); c.Kubeconfig != "" || c.Users || c.Audience != "" && c.Audience != d.Audience || c.CacheFor != 0 && c.CacheFor != d.CacheFor {
			return errors.New("identity.kubernetes is not enabled, and has settings: set enabled: true, or leave them out")
		}
		return nil
	}
	switch {
	case c.Audience == "" || strings.ContainsAny(c.Audience, " \t\r\n"):
		return fmt.Errorf("identity.kubernetes: audience %q: want a name, such as %q", c.Audience, DefaultAudience)
	case c.CacheFor < shortestReviewed || c.CacheFor > longestReviewed:
		return fmt.Errorf("identity.kubernetes: cacheFor %v: want %v to %v", c.CacheFor, shortestReviewed, longestReviewed)
	}
	return nil
}

// A TokenReviewer asks a Kubernetes API server about a token.
type TokenReviewer interface {
	// ReviewToken returns the name of whom a token proves, "" if it proves nobody to this
	// audience, and then why. An error says that the API server could not be asked.
	ReviewToken(ctx context.Context, token, audience string) (user, why string, err error)
}

// kubernetes judges bearer tokens that an API server vouches for.
type kubernetes struct {
	cfg      KubernetesConfig
	reviewer TokenReviewer
	now      func() time.Time
	asking   singleflight.Group
	turns    chan struct{}  // a place for each review under way
	asked    *limit.Limiter // by address
	key      []byte         // of this process, for what is remembered

	mu            sync.Mutex
	good, refused map[[sha256.Size]byte]review
}

// A review is what came of one, and until when it counts.
type review struct {
	user, why string
	until     time.Time
}

func newKubernetes(cfg KubernetesConfig, reviewer TokenReviewer, now func() time.Time) *kubernetes {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails: it crashes the program
	return &kubernetes{
		cfg: cfg, reviewer: reviewer, now: now, key: key,
		turns: make(chan struct{}, maxReviewing), asked: limit.New(reviewsPerSecond, reviewBurst, now),
		good: make(map[[sha256.Size]byte]review), refused: make(map[[sha256.Size]byte]review),
	}
}

// Authenticate has the API server judge the token, unless it has done so a moment ago.
// What is no JSON web token is ErrNotMine.
func (k *kubernetes) Authenticate(r *http.Request) (metadata.Caller, error) {
	token, err := credentials(r, "Bearer")
	if err != nil {
		return metadata.Caller{}, err
	}
	if err := checkToken(token); err != nil {
		return metadata.Caller{}, err
	}
	claims, ok := claimsOf(token)
	if !ok {
		return metadata.Caller{}, ErrNotMine
	}
	if err := k.plausible(claims); err != nil {
		return metadata.Caller{}, err
	}
	found, err := k.review(r, token, claims)
	if err != nil {
		return metadata.Caller{}, err
	}
	if found.user == "" {
		return metadata.Caller{}, fmt.Errorf("the Kubernetes API server does not vouch for the bearer token: %s", found.why)
	}
	return metadata.Caller{Name: found.user}, nil
}

// plausible refuses what the API server would refuse as well, by what the token says
// itself: it is not sent on.
func (k *kubernetes) plausible(c claims) error {
	if end := c.end(); !end.IsZero() && !k.now().Before(end) {
		return fmt.Errorf("the token of Kubernetes has ended at %s; is the file that it comes from read again?", end.UTC().Format(time.RFC3339))
	}
	// Who is no service account may have a token whose audience the API server maps.
	if !k.cfg.Users && !slices.Contains(c.Audience, k.cfg.Audience) {
		return fmt.Errorf("the token of Kubernetes is for %q, want one for %q: a projected service account token with that audience", clip(strings.Join(c.Audience, ", ")), k.cfg.Audience)
	}
	return nil
}

// review returns what is remembered of a token, or asks.
func (k *kubernetes) review(r *http.Request, token string, c claims) (review, error) {
	seal := k.seal(token)
	if found, ok := k.remembered(seal); ok {
		return found, nil
	}
	if wait, ok := k.asked.Take(limit.AddressOf(r.RemoteAddr)); !ok {
		return review{}, exhausted(wait, "too many new tokens of Kubernetes from this address")
	}
	// Whoever comes meanwhile with the same token waits for the one answer, and who
	// asked first may hang up.
	answer := k.asking.DoChan(string(seal[:]), func() (any, error) {
		if found, ok := k.remembered(seal); ok {
			return found, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), reviewTimeout)
		defer cancel()
		return k.ask(ctx, token, seal, c)
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return review{}, a.Err
		}
		return a.Val.(review), nil
	case <-r.Context().Done():
		return review{}, metadata.Errorf(metadata.Unavailable, "cannot tell who is calling: %w", context.Cause(r.Context()))
	}
}

func (k *kubernetes) ask(ctx context.Context, token string, seal [sha256.Size]byte, c claims) (review, error) {
	select {
	case k.turns <- struct{}{}:
		defer func() { <-k.turns }()
	case <-ctx.Done():
		return review{}, metadata.Errorf(metadata.Unavailable, "cannot tell who is calling: the Kubernetes API server answers too slowly")
	}
	begun := k.now()
	user, why, err := k.reviewer.ReviewToken(ctx, token, k.cfg.Audience)
	if err != nil {
		return review{}, metadata.Errorf(metadata.Unavailable, "cannot tell who is calling: the token of Kubernetes could not be reviewed: %w", err)
	}
	if user != "" && !k.cfg.Users {
		if err := checkServiceAccount(user); err != nil {
			user, why = "", err.Error()
		}
	}
	found := review{user: user, why: clip(why), until: begun.Add(refusedFor)}
	if user != "" {
		found.until = begun.Add(k.cfg.CacheFor)
		if end := c.end(); !end.IsZero() && end.Before(found.until) {
			found.until = end
		}
	}
	k.remember(seal, found)
	return found, nil
}

// checkServiceAccount wants the form system:serviceaccount:NAMESPACE:NAME.
func checkServiceAccount(user string) error {
	namespace, name, ok := strings.Cut(strings.TrimPrefix(user, serviceAccountPrefix), ":")
	if !strings.HasPrefix(user, serviceAccountPrefix) || !ok || namespace == "" || name == "" || strings.Contains(name, ":") {
		return fmt.Errorf("%q is no service account, and identity.kubernetes.users is not set", clip(user))
	}
	return nil
}

// seal stands for a token. Tokens are not kept.
func (k *kubernetes) seal(token string) (seal [sha256.Size]byte) {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(token))
	mac.Sum(seal[:0])
	return seal
}

func (k *kubernetes) remembered(seal [sha256.Size]byte) (review, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, of := range []map[[sha256.Size]byte]review{k.good, k.refused} {
		if found, ok := of[seal]; ok && k.now().Before(found.until) {
			return found, true
		}
	}
	return review{}, false
}

func (k *kubernetes) remember(seal [sha256.Size]byte, found review) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := k.good // which those that are refused do not push out
	if found.user == "" {
		of = k.refused
		delete(k.good, seal)
	}
	if len(of) >= mostReviews {
		for old, r := range of {
			if !k.now().Before(r.until) {
				delete(of, old)
			}
		}
	}
	if len(of) >= mostReviews {
		clear(of) // everybody is reviewed once more
	}
	of[seal] = found
}

// claims are what is read of a token before anybody has verified it. They can only make
// it worth less.
type claims struct {
	Audience audiences `json:"aud"`
	Expires  *float64  `json:"exp"`
}

// end is when the token ends, zero if it does not say.
func (c claims) end() time.Time {
	const last = 1 << 40 // seconds; no token is for longer
	if c.Expires == nil || *c.Expires > last {
		return time.Time{}
	}
	return time.Unix(int64(max(*c.Expires, 0)), 0)
}

// audiences are one or several.
type audiences []string

// UnmarshalJSON is of [json.Unmarshaler].
func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// claimsOf reads what a token says, and whether it is a JSON web token at all.
func claimsOf(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	var head struct {
		Algorithm string `json:"alg"`
	}
	var c claims
	for n, into := range []any{&head, &c} {
		text, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil || json.Unmarshal(text, into) != nil {
			return claims{}, false
		}
	}
	return c, head.Algorithm != "" && parts[2] != ""
}
