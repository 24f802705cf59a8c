// Package checksapi serves an [attest.Authority] over HTTP, beside Voucher's API, with
// what that cannot tell: verdicts by platform, with their evidence; progress while checks
// run; problems as JSON.
//
//	POST /v1/checks             run a check or group on an image, and attest what passes
//	GET  /v1/checks/ID          the run, while it is known
//	GET  /v1/checks/ID/events   what happens in it, as server-sent events
//	POST /v1/verifications      say what an image is attested
//	GET  /v1/catalog            the checks and groups that there are
//	GET  /v1/openapi.json       this API, as an OpenAPI document; needs no login
//
// POST /v1/checks answers when the run has ended, with the header "Prefer: respond-async"
// at once, and with "Accept: text/event-stream" with its events. With the header
// Idempotency-Key a request that is sent again, by the same caller, is one run; it goes on
// when its client goes away. Runs are known for [KeepFor], the last [MaxRuns] of them, and
// to the caller who asked for them only.
//
// An error is a problem of RFC 9457, whose type tells what is wrong in one word.
package checksapi

import (
	"context"
	_ "embed" // the OpenAPI document
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/door"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// Prefix begins the paths of the API.
	Prefix = "/v1/"
	// MaxBody is the longest request that is read, in bytes.
	MaxBody = 64 << 10
	// bodyTimeout is how long the body of a request may take to arrive.
	bodyTimeout = 30 * time.Second
	// maxKey bounds an idempotency key, in bytes.
	maxKey = 255
)

// A State is what the handler serves at a time; it changes when a configuration is read
// again.
type State struct {
	Authority *attest.Authority
	Door      *door.Door
	// Timeout bounds a run; 0 means [attest.DefaultTimeout].
	Timeout time.Duration
}

// Options are what a Handler is made from. Current is needed.
type Options struct {
	Current func() State
	// Now is time.Now if nil.
	Now func() time.Time
	// Logger is told of every request; nil means no one is.
	Logger *slog.Logger
}

// A Handler serves the API. Make one with [New], and close it at the end.
type Handler struct {
	Options
	mux  *http.ServeMux
	runs *runs
}

// New returns a Handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{Options: o, mux: http.NewServeMux(), runs: newRuns(o.Now)}
	for pattern, serve := range h.routes() {
		h.mux.HandleFunc(pattern, serve)
	}
	return h
}

func (h *Handler) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/checks":            h.postCheck,
		"GET /v1/checks/{id}":        h.getCheck,
		"GET /v1/checks/{id}/events": h.getEvents,
		"POST /v1/verifications":     h.postVerification,
		"GET /v1/catalog":            h.getCatalog,
		"GET /v1/openapi.json":       h.getOpenAPI,
	}
}

// Close ends the runs that nobody waits for.
func (h *Handler) Close() { h.runs.close() }

// ServeHTTP serves the API.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recover(w, r)
	_, pattern := h.mux.Handler(r)
	if pattern != "" {
		h.mux.ServeHTTP(w, r)
		return
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != "" && method != r.Method {
			w.Header().Set("Allow", method)
			h.refuse(w, r, &problem{Type: problemMethod, Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%.100s is for %s", r.URL.Path, method)})
			return
		}
	}
	h.refuse(w, r, &problem{Type: problemNotFound, Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no %.100s; GET /v1/openapi.json tells what there is", r.URL.Path)})
}

func (h *Handler) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(p)
	}
	h.Logger.ErrorContext(r.Context(), "request panicked", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	h.refuse(w, r, &problem{Type: problemInternal, Status: http.StatusInternalServerError, Detail: "the log of the server says more"})
}

// checkRequest is the body of POST /v1/checks.
type checkRequest struct {
	Image  string `json:"image"`
	Check  string `json:"check,omitempty"`
	DryRun bool   `json:"dryRun,omitempty"`
}

// verificationRequest is the body of POST /v1/verifications.
type verificationRequest struct {
	Image string `json:"image"`
	Check string `json:"check,omitempty"`
}

// verification answers POST /v1/verifications.
type verification struct {
	Image   string     `json:"image"`
	Check   string     `json:"check"`
	Success bool       `json:"success"`
	Results []verified `json:"results"`
}

// verified says whether an image is attested a check.
type verified struct {
	Check    string `json:"check"`
	Attested bool   `json:"attested"`
	Reason   string `json:"reason,omitempty"`
	KeyID    string `json:"keyId,omitempty"`
	Payload  []byte `json:"payload,omitempty"`
}

// asked is a request that was understood.
type asked struct {
	State
	request attest.Request
	body    []byte
}

// read reads a request about an image into body, which is its JSON, and what that says
// of image and check.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, into any, said func() (image, check string)) (a asked, err error) {
	a.State = h.Current()
	if a.Timeout <= 0 {
		a.Timeout = attest.DefaultTimeout
	}
	a.request.API = "v1"
	if a.request.Caller, err = a.Door.Identify(r.Context(), r); err != nil {
		return a, err
	}
	if a.body, err = bounded.ReadBody(w, r, MaxBody, h.Now().Add(bodyTimeout)); err != nil {
		return a, unread(w, err)
	}
	dec := json.NewDecoder(strings.NewReader(string(a.body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil || dec.More() {
		return a, &problem{Type: problemRequest, Status: http.StatusBadRequest, Detail: `want one JSON object like {"image": "REPOSITORY@sha256:…", "check": "all"}, and no other fields`}
	}
	text, name := said()
	if name == "" {
		name = attest.AllGroup
	}
	a.request.Name = name
	if a.request.Image, err = image.Parse(text); err != nil {
		return a, &problem{Type: problemRequest, Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	if err := a.request.Image.RequireDigest(); err != nil {
		return a, &problem{Type: problemRequest, Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	if _, err := a.Authority.Active(name); err != nil {
		return a, &problem{Type: problemUnknown, Status: http.StatusNotFound, Detail: err.Error()}
	}
	return a, a.Door.May(a.request.Caller, name)
}

func unread(w http.ResponseWriter, err error) error {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return &problem{Type: problemRequest, Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the request is longer than %d bytes", MaxBody)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return &problem{Type: problemRequest, Status: http.StatusRequestTimeout, Detail: fmt.Sprintf("the request did not arrive within %v", bodyTimeout)}
	}
	return &problem{Type: problemRequest, Status: http.StatusBadRequest, Detail: "the request could not be read to its end"}
}

// postCheck runs checks.
func (h *Handler) postCheck(w http.ResponseWriter, r *http.Request) {
	var body checkRequest
	a, err := h.read(w, r, &body, func() (string, string) { return body.Image, body.Check })
	if err != nil {
		h.refused(w, r, a, attest.MethodCheck, err)
		return
	}
	a.request.DryRun = body.DryRun
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKey {
		h.refused(w, r, a, attest.MethodCheck, &problem{Type: problemRequest, Status: http.StatusBadRequest, Detail: fmt.Sprintf("the Idempotency-Key is longer than %d bytes", maxKey)})
		return
	}
	async := strings.Contains(r.Header.Get("Prefer"), "respond-async")
	// Somebody comes back to a run that has a name.
	detached := async || key != ""
	one, existed, err := h.runs.start(a.request.Caller, key, body, func(one *run) error { return h.start(r.Context(), a, one, detached) })
	if err != nil {
		h.refused(w, r, a, attest.MethodCheck, err)
		return
	}
	w.Header().Set("Location", Prefix+"checks/"+one.id)
	if existed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	switch {
	case strings.Contains(r.Header.Get("Accept"), "text/event-stream"):
		h.stream(w, r, one, 0)
	case async:
		h.send(w, r, http.StatusAccepted, one.view())
	default:
		if one.wait(r.Context()) == nil {
			h.send(w, r, http.StatusOK, one.view())
		}
	}
}

// start begins a run, which holds a place until it has ended.
func (h *Handler) start(ctx context.Context, a asked, one *run, detached bool) error {
	leave, err := a.Door.Enter(a.request.Caller)
	if err != nil {
		return err
	}
	if detached {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	stop := context.AfterFunc(h.runs.closing, cancel)
	a.request.Progress = one.tell
	go func() {
		defer leave()
		defer cancel()
		defer stop()
		report, err := h.run(ctx, a)
		one.finish(report, err)
	}()
	return nil
}

func (h *Handler) run(ctx context.Context, a asked) (report *attest.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.Logger.ErrorContext(ctx, "a run panicked", "image", a.request.Image.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			report, err = nil, errors.New("the run failed inside; this is a bug in Gatehouse, and its log says more")
		}
	}()
	report, err = a.Authority.Run(ctx, a.request)
	if err == nil {
		h.Logger.InfoContext(ctx, "request answered", "path", Prefix+"checks", "caller", a.request.Caller.Name, "address", a.request.Caller.Address,
			"image", a.request.Image.String(), "success", report.Success)
	}
	return report, err
}

// known returns the run that a path names, if it is the caller's.
func (h *Handler) known(w http.ResponseWriter, r *http.Request) *run {
	state := h.Current()
	caller, err := state.Door.Identify(r.Context(), r)
	if err != nil {
		h.refuse(w, r, err)
		return nil
	}
	one := h.runs.find(r.PathValue("id"), caller)
	if one == nil {
		h.refuse(w, r, &problem{Type: problemNotFound, Status: http.StatusNotFound, Detail: "there is no such run of yours, or it is forgotten: runs are known for " + KeepFor.String()})
	}
	return one
}

func (h *Handler) getCheck(w http.ResponseWriter, r *http.Request) {
	if one := h.known(w, r); one != nil {
		h.send(w, r, http.StatusOK, one.view())
	}
}

func (h *Handler) getEvents(w http.ResponseWriter, r *http.Request) {
	if one := h.known(w, r); one != nil {
		after := 0
		_, _ = fmt.Sscanf(r.Header.Get("Last-Event-ID"), "%d", &after) // without one, all
		h.stream(w, r, one, max(0, after))
	}
}

func (h *Handler) postVerification(w http.ResponseWriter, r *http.Request) {
	var body verificationRequest
	a, err := h.read(w, r, &body, func() (string, string) { return body.Image, body.Check })
	if err != nil {
		h.refused(w, r, a, attest.MethodVerify, err)
		return
	}
	leave, err := a.Door.Enter(a.request.Caller)
	if err != nil {
		h.refused(w, r, a, attest.MethodVerify, err)
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	response, err := a.Authority.VerifyFor(ctx, a.request)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	answer := verification{Image: response.Image, Check: a.request.Name, Success: response.Success, Results: make([]verified, 0, len(response.Results))}
	for _, result := range response.Results {
		v := verified{Check: result.Name, Attested: result.Attested, Reason: result.Error}
		if d := result.Details; d != nil {
			v.KeyID, v.Payload = d.VerifiedKeyID, []byte(d.Body)
		} else if !v.Attested && v.Reason == "" {
			v.Reason = "there is no attestation"
		}
		answer.Results = append(answer.Results, v)
	}
	h.send(w, r, http.StatusOK, answer)
}

// catalog answers GET /v1/catalog.
type catalog struct {
	Checks []catalogCheck `json:"checks"`
	Groups []catalogGroup `json:"groups"`
}

type catalogCheck struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// Signed is true when a key signs for the check.
	Signed bool   `json:"signed"`
	KeyID  string `json:"keyId,omitempty"`
	Note   string `json:"note"`
}

type catalogGroup struct {
	Name   string   `json:"name"`
	Checks []string `json:"checks"`
	// Active is false when one of its checks is not there: then it cannot be asked for.
	Active bool `json:"active"`
}

func (h *Handler) getCatalog(w http.ResponseWriter, r *http.Request) {
	state := h.Current()
	if _, err := state.Door.Identify(r.Context(), r); err != nil {
		h.refuse(w, r, err)
		return
	}
	h.send(w, r, http.StatusOK, catalogOf(state.Authority))
}

func catalogOf(a *attest.Authority) catalog {
	c := catalog{Checks: []catalogCheck{}, Groups: []catalogGroup{}}
	for _, name := range a.Names() {
		active, err := a.Active(name)
		if names, ok := a.Groups[name]; ok {
			c.Groups = append(c.Groups, catalogGroup{Name: name, Checks: append([]string{}, names...), Active: err == nil})
		}
		if one, ok := checkOf(a, name, active); ok {
			c.Checks = append(c.Checks, one)
		}
	}
	return c
}

func checkOf(a *attest.Authority, name string, active []check.Check) (catalogCheck, bool) {
	if len(active) != 1 || active[0].Name != name {
		for _, c := range a.Checks {
			if c.Name == name {
				active = []check.Check{c}
			}
		}
		if len(active) != 1 || active[0].Name != name {
			return catalogCheck{}, false
		}
	}
	one := catalogCheck{Name: name, Title: active[0].Doc.Title, Note: "projects/" + a.Project + "/notes/" + name}
	if s, ok := a.Signers[name]; ok {
		one.Signed, one.KeyID = true, s.KeyID()
	}
	return one, true
}

//go:embed openapi.json
var openAPI []byte

func (h *Handler) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // an error means that the client has gone
}

func (h *Handler) send(w http.ResponseWriter, r *http.Request, status int, content any) {
	body, err := json.Marshal(content)
	if err != nil {
		h.refuse(w, r, fmt.Errorf("encoding an answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client has gone
}
