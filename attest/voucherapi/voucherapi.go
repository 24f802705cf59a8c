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
// password, 403 for a name that this caller may not ask for, 404 for one that is not active, 408 for a request that was too slow
// in coming, 413 and 422 for one that is no good, 429 when this caller asks too often, 500 for a fault of ours, and 503 when
// too much is going on.
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
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/door"
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
	DefaultMaxRequests = door.DefaultMaxRequests
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
	// Door is used in place of one made from the fields above, so that several handlers
	// can share it.
	Door *door.Door
	// Logger is told of every request; nil means no one is.
	Logger *slog.Logger
}

// handler serves the routes.
type handler struct {
	authority   *attest.Authority
	door        *door.Door
	timeout     time.Duration
	bodyTimeout time.Duration
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
	if opts.Door == nil {
		opts.Door = door.New(door.Options{
			RequireAuth: opts.RequireAuth, Username: opts.Username, PasswordHash: opts.PasswordHash, MaxRequests: opts.MaxRequests,
		})
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{
		authority:   authority,
		door:        opts.Door,
		timeout:     opts.Timeout,
		bodyTimeout: min(opts.BodyTimeout, opts.Timeout),
		logger:      opts.Logger,
	}
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
		return http.MethodPost, h.asked(name, attest.MethodCheck), true
	case rest == "verify":
		return http.MethodPost, h.asked(name, attest.MethodVerify), true
	}
	return "", nil, false
}

// asked serves a question about an image.
func (h *handler) asked(name, method string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
		defer cancel()
		start := time.Now()
		req, leave, err := h.understand(ctx, w, r, name)
		if err != nil {
			h.authority.Refused(ctx, method, req, err)
			h.refuse(w, r, err)
			return
		}
		defer leave()
		response, err := h.answer(ctx, req, method)
		if err != nil {
			h.logger.ErrorContext(ctx, "request failed", "path", r.URL.Path, "image", req.Image.String(), "error", err)
			h.refuse(w, r, &door.RefusalError{Status: http.StatusInternalServerError, Text: misconfigured})
			return
		}
		h.logger.InfoContext(ctx, "request answered", "path", r.URL.Path, "caller", req.Caller.Name, "address", req.Caller.Address,
			"image", req.Image.String(), "success", response.Success, "elapsed", time.Since(start))
		h.send(w, r, response)
	}
}

// misconfigured is what Voucher answers when it is its own fault.
const misconfigured = "server has been misconfigured"

func (h *handler) answer(ctx context.Context, req attest.Request, method string) (attest.Response, error) {
	if method == attest.MethodVerify {
		return h.authority.VerifyFor(ctx, req)
	}
	report, err := h.authority.Run(ctx, req)
	if err != nil {
		return attest.Response{}, err
	}
	return report.Response(), nil
}

// understand reads a request, and takes a place for it. The request is what is known of
// it when there is an error, too. The order is Voucher's: who may not ask learns nothing
// of names.
func (h *handler) understand(ctx context.Context, w http.ResponseWriter, r *http.Request, name string) (req attest.Request, leave func(), err error) {
	req = attest.Request{Name: name, API: "voucher"}
	if req.Caller, err = h.door.Identify(ctx, r); err != nil {
		return req, nil, err
	}
	if _, err := h.authority.Active(name); err != nil {
		return req, nil, &door.RefusalError{Status: http.StatusNotFound, Text: err.Error()}
	}
	if err := h.door.May(req.Caller, name); err != nil {
		return req, nil, err
	}
	// A body that stalls must not hold a place, and so it is read first.
	body, status, err := h.readBody(w, r)
	if err != nil {
		return req, nil, &door.RefusalError{Status: status, Text: err.Error()}
	}
	if req.Image, err = parseImage(body); err != nil {
		return req, nil, &door.RefusalError{Status: http.StatusUnprocessableEntity, Text: err.Error()}
	}
	leave, err = h.door.Enter(req.Caller)
	return req, leave, err
}

func (h *handler) send(w http.ResponseWriter, r *http.Request, response attest.Response) {
	body, err := json.Marshal(response)
	if err != nil {
		h.logger.ErrorContext(r.Context(), "encoding an answer", "error", err)
		h.refuse(w, r, &door.RefusalError{Status: http.StatusInternalServerError, Text: misconfigured})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone.
	_, _ = w.Write(append(body, '\n'))
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal := &door.RefusalError{Status: http.StatusInternalServerError, Text: misconfigured}
	errors.As(err, &refusal)
	h.logger.WarnContext(r.Context(), "request refused", "path", r.URL.Path, "status", refusal.Status, "reason", refusal.Text)
	refusal.SetHeader(w.Header())
	http.Error(w, refusal.Text, refusal.Status)
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
