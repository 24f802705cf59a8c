// Package voucherapi serves an [attest.Authority] over HTTP as Voucher does, for
// the clients and pipelines that were written for it.
//
//	POST /NAME          run the check or group NAME and attest what passes
//	POST /NAME/verify   say what NAME's checks are attested
//	GET  /services/ping 200 and nothing, for health checks; needs no login
//
// A request is {"image_url":"REPOSITORY@sha256:…"}, at most [MaxBody] bytes, of
// whatever content type. The answer to one that was understood is 200 and an
// [attest.Response] in JSON, whether or not the image passed; its field success
// tells. A group without checks passes nothing: its answer has success false and
// no results. All else is answered in plain text: 401 for a wrong user name or
// password, 404 for a name that is not active, 408 for a request that was too slow
// in coming, 413 and 422 for one that is no good, 500 for a fault of ours, and 503 when too much is going on.
//
// Beside the fields of Voucher's details there is SignatureBase64, since a
// signature that is not text does not survive as a JSON string, and in the answer
// of verify VerifiedKeyID, the key that the attestation was found signed by.
//
// A request ends when its client goes away, and when Timeout is over: a check
// that has not finished by then has failed.
package voucherapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// MaxBody is the longest request that is read, in bytes.
	MaxBody = 1 << 20
	// DefaultTimeout is Voucher's.
	DefaultTimeout = attest.DefaultTimeout
	// DefaultBodyTimeout is how long the body of a request may take to arrive.
	DefaultBodyTimeout = 30 * time.Second
	// DefaultMaxRequests is how many requests are worked on at once. Each may
	// wait for minutes, and does little meanwhile.
	DefaultMaxRequests = 256
)

// Options are what a handler is made from.
type Options struct {
	// RequireAuth has callers log in with Username and the password whose
	// bcrypt hash is PasswordHash. While either is empty no one gets in.
	RequireAuth            bool
	Username, PasswordHash string
	// Timeout bounds a request; 0 means [DefaultTimeout].
	Timeout time.Duration
	// BodyTimeout bounds the time in which the body of a request must arrive; 0
	// means [DefaultBodyTimeout]. It is never longer than Timeout.
	BodyTimeout time.Duration
	// MaxRequests bounds the requests that are worked on at once; 0 means
	// [DefaultMaxRequests].
	MaxRequests int
	// Logger is told of every request; nil means no one is.
	Logger *slog.Logger
}

// handler serves the routes.
type handler struct {
	authority   *attest.Authority
	login       *login
	timeout     time.Duration
	bodyTimeout time.Duration
	turns       chan struct{}
	logger      *slog.Logger
}

// NewHandler returns the HTTP face of an authority.
func NewHandler(authority *attest.Authority, opts Options) http.Handler {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.BodyTimeout <= 0 {
		opts.BodyTimeout = DefaultBodyTimeout
	}
	if opts.MaxRequests <= 0 {
		opts.MaxRequests = DefaultMaxRequests
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{
		authority:   authority,
		timeout:     opts.Timeout,
		bodyTimeout: min(opts.BodyTimeout, opts.Timeout),
		turns:       make(chan struct{}, opts.MaxRequests),
		logger:      opts.Logger,
	}
	if opts.RequireAuth {
		h.login = newLogin(opts.Username, opts.PasswordHash)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recover(w, r)
	if to, ok := canonical(r.URL); !ok {
		if method, _, found := h.route(to.Path); found && method == r.Method {
			http.Redirect(w, r, to.RequestURI(), http.StatusMovedPermanently)
			return
		}
		r.URL = to
	}
	method, serve, ok := h.route(r.URL.Path)
	switch {
	case !ok:
		http.NotFound(w, r)
	case method != r.Method:
		w.Header().Set("Allow", method)
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		serve(w, r)
	}
}

// canonical returns the URL without trailing slash and other untidiness, and
// whether it was so already.
func canonical(u *url.URL) (*url.URL, bool) {
	clean := path.Clean("/" + u.Path)
	if clean == u.Path {
		return u, true
	}
	return &url.URL{Path: clean, RawQuery: u.RawQuery}, false
}

// route returns the method and the handler of a path.
func (h *handler) route(path string) (method string, serve http.HandlerFunc, ok bool) {
	name, rest, more := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == "/services/ping":
		return http.MethodGet, func(http.ResponseWriter, *http.Request) {}, true
	case name == "":
	case !more:
		return http.MethodPost, h.asked(name, h.authority.Check), true
	case rest == "verify":
		return http.MethodPost, h.asked(name, h.authority.Verify), true
	}
	return "", nil, false
}

// asked serves a question about an image.
func (h *handler) asked(name string, answer func(context.Context, image.Reference, string) (attest.Response, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
		defer cancel()
		start := time.Now()
		if !h.admit(ctx, w, r) {
			return
		}
		if _, err := h.authority.Active(name); err != nil {
			h.refuse(w, r, http.StatusNotFound, err.Error())
			return
		}
		// A body that stalls must not hold a turn, and so it is read first.
		body, status, err := h.readBody(w, r)
		if err != nil {
			h.refuse(w, r, status, err.Error())
			return
		}
		ref, err := parseImage(body)
		if err != nil {
			h.refuse(w, r, http.StatusUnprocessableEntity, err.Error())
			return
		}
		select {
		case h.turns <- struct{}{}:
			defer func() { <-h.turns }()
		default:
			h.busy(w, r, "too many requests are being worked on; try again later")
			return
		}
		response, err := answer(ctx, ref, name)
		if err != nil {
			h.logger.ErrorContext(ctx, "request failed", "path", r.URL.Path, "image", ref.String(), "error", err)
			h.refuse(w, r, http.StatusInternalServerError, "server has been misconfigured")
			return
		}
		h.logger.InfoContext(ctx, "request answered", "path", r.URL.Path, "image", ref.String(), "success", response.Success, "elapsed", time.Since(start))
		h.send(w, r, response)
	}
}

// admit has the caller log in, and answers those that cannot.
func (h *handler) admit(ctx context.Context, w http.ResponseWriter, r *http.Request) bool {
	allowed, err := h.login.allows(ctx, r)
	switch {
	case err != nil:
		h.busy(w, r, err.Error())
	case !allowed:
		// The header is Voucher's omission: without it browsers and some
		// clients do not send the password they have.
		w.Header().Set("WWW-Authenticate", `Basic realm="gatehouse", charset="UTF-8"`)
		h.refuse(w, r, http.StatusUnauthorized, "username or password is incorrect")
	}
	return err == nil && allowed
}

func (h *handler) busy(w http.ResponseWriter, r *http.Request, text string) {
	w.Header().Set("Retry-After", "5")
	h.refuse(w, r, http.StatusServiceUnavailable, text)
}

func (h *handler) send(w http.ResponseWriter, r *http.Request, response attest.Response) {
	body, err := json.Marshal(response)
	if err != nil {
		h.logger.ErrorContext(r.Context(), "encoding an answer", "error", err)
		h.refuse(w, r, http.StatusInternalServerError, "server has been misconfigured")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone.
	_, _ = w.Write(append(body, '\n'))
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	h.logger.WarnContext(r.Context(), "request refused", "path", r.URL.Path, "status", status, "reason", text)
	http.Error(w, text, status)
}

func (h *handler) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(p)
	}
	h.logger.ErrorContext(r.Context(), "request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	http.Error(w, "internal error; the log of the server says more", http.StatusInternalServerError)
}
