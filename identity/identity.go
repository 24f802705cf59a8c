package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/limit"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// ReservedCaller is the name of the server's own attestor. No credential from
// outside may carry it.
const ReservedCaller = "gatehouse-attestor"

// maxName bounds the name of a caller, in bytes. A SPIFFE id may have 2048; none
// that is met in practice comes near this.
const maxName = 512

// Wrong credentials that one address may send: enough for a person who
// mistypes and for a pipeline whose token was replaced, and no more than one
// refusal a second in the audit log.
const (
	failuresPerSecond = 1
	failureBurst      = 20
)

// ErrNotMine says that a request has no credentials that an [Authenticator] can
// judge: none at all, or of another kind, or a token that somebody else may know.
var ErrNotMine = errors.New("no credentials of this kind")

// An Authenticator tells who sends a request, by one kind of credential in its
// header. It is called at the same time from many goroutines.
type Authenticator interface {
	// Authenticate returns the caller; an error that is [ErrNotMine] if the
	// credentials are not for it to judge; and any other error if they are wrong,
	// which refuses the request. What nobody judges is refused too.
	Authenticate(r *http.Request) (metadata.Caller, error)
}

// Options are what an Identity needs beside its configuration.
type Options struct {
	// Logger is told of files that are read again, and of what is unsafe; nil
	// means no one is.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Authenticators are asked before those that the configuration names.
	Authenticators []Authenticator
	// TokenReviewer is asked about tokens of Kubernetes, which the configuration may
	// enable. It is required then.
	TokenReviewer TokenReviewer
	// Internal are rules beside the configured ones, for callers of the server
	// itself. Only they may name [ReservedCaller].
	Internal []Rule
}

// An Identity tells who calls and what they may do. It is a [metadata.Authorizer].
// It is safe for concurrent use.
type Identity struct {
	enabled bool
	header  []Authenticator // judge what the header says
	mtls    bool
	rules   *rules
	logger  *slog.Logger
	files   []*watchedFile

	callers   *limit.Limiter // nil: no limit
	anonymous *limit.Limiter
	failures  *limit.Limiter
	challenge []string
	foreign   bool // there are authenticators that the configuration does not name
}

// Open reads the files that the configuration names. The configuration is
// validated; what is wrong is all in the error.
func Open(cfg Config, opts Options) (*Identity, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	given, err := compileRules(cfg.Rules, opts.Internal)
	if err != nil {
		return nil, err
	}
	i := &Identity{
		enabled: cfg.Enabled() || len(opts.Authenticators) > 0,
		header:  opts.Authenticators, mtls: cfg.MTLS, rules: given, logger: opts.Logger,
		failures: limit.New(failuresPerSecond, failureBurst, opts.Clock),
	}
	i.foreign = len(opts.Authenticators) > 0
	if cfg.RequestsPerSecond > 0 {
		i.callers = limit.New(cfg.RequestsPerSecond, cfg.burst(), opts.Clock)
		i.anonymous = limit.New(cfg.RequestsPerSecond, cfg.burst(), opts.Clock)
	}
	if cfg.BearerTokensFile != "" {
		tokens := new(bearer)
		i.use(tokens, "Bearer", &watchedFile{what: "bearer tokens", path: cfg.BearerTokensFile, use: tokens.load})
	}
	if cfg.BasicUsersFile != "" {
		users := newBasic(opts.Clock)
		i.use(users, `Basic realm="gatehouse", charset="UTF-8"`, &watchedFile{what: "users", path: cfg.BasicUsersFile, use: users.load})
	}
	if cfg.Kubernetes.Enabled {
		if opts.TokenReviewer == nil {
			return nil, errors.New("identity.kubernetes is enabled and there is no API server to review tokens")
		}
		i.header = append(i.header, newKubernetes(cfg.Kubernetes, opts.TokenReviewer, opts.Clock)) // after the file's: what that does not know
		if !i.accepts("Bearer") {
			i.challenge = append(i.challenge, "Bearer")
		}
	}
	return i, i.readFiles()
}

func (i *Identity) use(a Authenticator, challenge string, f *watchedFile) {
	i.header = append(i.header, a)
	i.challenge = append(i.challenge, challenge)
	f.logger = i.logger
	i.files = append(i.files, f)
}

func (i *Identity) readFiles() error {
	var errs []error
	for _, f := range i.files {
		_, err := f.read()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Enabled reports whether callers have to prove who they are.
func (i *Identity) Enabled() bool { return i.enabled }

// Identify tells who sends a request, and counts it. The error has the kind
// Unauthenticated or ResourceExhausted. If it has a method
// SetHeader(http.Header), that adds what an HTTP answer should say.
func (i *Identity) Identify(r *http.Request) (metadata.Caller, error) {
	if !i.enabled {
		return metadata.Caller{}, i.admit(i.anonymous, limit.AddressOf(r.RemoteAddr))
	}
	caller, err := i.authenticate(r)
	if err == nil {
		return caller, i.admit(i.callers, caller.Name)
	}
	var own *metadata.Error
	if errors.As(err, &own) && metadata.KindOf(err) == metadata.Unavailable {
		return metadata.Caller{}, err // which says nothing against the credentials
	}
	if wait, ok := i.failures.Take(limit.AddressOf(r.RemoteAddr)); !ok {
		return metadata.Caller{}, exhausted(wait, "too many requests with wrong credentials, or without any, come from this address")
	}
	if own != nil {
		return metadata.Caller{}, err
	}
	return metadata.Caller{}, i.unauthenticated(err)
}

func (i *Identity) admit(l *limit.Limiter, key string) error {
	if l == nil {
		return nil
	}
	if wait, ok := l.Take(key); !ok {
		return exhausted(wait, "caller asks more often than %g times a second", l.PerSecond())
	}
	return nil
}

// authenticate returns the caller that the credentials prove.
func (i *Identity) authenticate(r *http.Request) (metadata.Caller, error) {
	presented := r.Header["Authorization"]
	switch {
	case len(presented) > 1:
		// Proxies and servers disagree on which of several counts.
		return metadata.Caller{}, fmt.Errorf("the request has %d authorization headers; send one", len(presented))
	case len(presented) == 1:
		return i.authenticateHeader(r)
	case i.mtls:
		return authenticateCertificate(r.TLS)
	}
	return metadata.Caller{}, errors.New("the request has no credentials; send " + i.accepted())
}

func (i *Identity) authenticateHeader(r *http.Request) (metadata.Caller, error) {
	for _, a := range i.header {
		caller, err := a.Authenticate(r)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		if err == nil {
			err = checkName(caller.Name)
		}
		if err != nil {
			return metadata.Caller{}, err
		}
		return caller, nil
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "bearer") && i.accepts("Bearer"):
		return metadata.Caller{}, errors.New("the bearer token is not known here; it may have been replaced")
	case strings.EqualFold(scheme, "basic") && i.accepts("Basic"):
		return metadata.Caller{}, errors.New("the user name or the password is wrong")
	}
	return metadata.Caller{}, errors.New("the authorization header is of a kind that is not accepted here; send " + i.accepted())
}

func (i *Identity) accepts(scheme string) bool {
	for _, c := range i.challenge {
		if strings.HasPrefix(c, scheme) {
			return true
		}
	}
	return false
}

// accepted says what credentials a caller may send.
func (i *Identity) accepted() string {
	var ways []string
	if i.accepts("Bearer") || i.foreign {
		ways = append(ways, `"authorization: Bearer TOKEN"`)
	}
	if i.accepts("Basic") {
		ways = append(ways, "a user name and a password (HTTP basic)")
	}
	if i.mtls {
		ways = append(ways, "a client certificate and no authorization header")
	}
	return strings.Join(ways, ", or ")
}

// Authorize asks the rules. An Identity that is not enabled lets everybody do
// everything: its listener must be for this machine alone.
func (i *Identity) Authorize(ctx context.Context, caller metadata.Caller, permission metadata.Permission, resource string) error {
	if !i.enabled {
		return nil
	}
	return i.rules.Authorize(ctx, caller, permission, resource)
}

// checkName refuses what cannot be the name of a caller.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the caller has no name")
	case len(name) > maxName:
		return fmt.Errorf("the caller's name is longer than %d bytes", maxName)
	case name == "*":
		return errors.New(`"*" is not the name of a caller: in rules it stands for all of them`)
	case name == ReservedCaller:
		return fmt.Errorf("the name %q is the server's own: choose another", name)
	case !utf8.ValidString(name):
		return errors.New("the caller's name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }):
		return fmt.Errorf("the caller's name %q has white space or what cannot be seen in it", name)
	}
	return nil
}
