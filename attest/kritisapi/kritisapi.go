// Package kritisapi serves a [kritissigner.Signer] over HTTP as Kritis' gcr-signer
// does.
//
//	POST /check-only      {"image":"REPOSITORY@sha256:…"}
//	POST /check-and-sign  {"image":"REPOSITORY@sha256:…"}
//	POST /event           a push message of Pub/Sub about an occurrence
//
// An answer is a [Response] in JSON:
//
//	200  ok, or signed; for /event also what was ignored, and not-signed: a push that is
//	     answered otherwise is sent again
//	400  the request is no good: no JSON, no image, an image without digest
//	401  the caller is not known, and 403 is not one of those who may ask
//	405  another method, 413 too long, 408 too slow
//	422  the image is not within the policy; violations say why
//	500  it could not be told, or not be signed; 503 when too much is going on
//
// In gcr-signer nobody was asked who he is, /check-only answered 400 for faults of its
// own, and an image without digest was one.
//
// The message of a push is believed for nothing but the name of an occurrence, which
// is read from the store: whoever sends one can have an image checked, and no more.
package kritisapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/go-json-experiment/json"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// MaxBody is the longest request that is read, in bytes: a push of Pub/Sub about
	// an occurrence has some hundred, and an image some hundred too.
	MaxBody = 64 << 10
	// DefaultMaxRequests is how many requests are worked on at once. Each may wait for
	// minutes, and does little meanwhile.
	DefaultMaxRequests = 64

	bodyTimeout = 30 * time.Second
	// margin is what a request may take beside waiting for a scan.
	margin = time.Minute
)

// A Signer does what a mode says with an image. [kritissigner.Signer] is one.
type Signer interface {
	Run(ctx context.Context, m kritissigner.Mode, ref image.Reference) (kritissigner.Report, error)
}

// Occurrences reads one occurrence by its name. A grafeas.GrafeasClient does.
type Occurrences interface {
	GetOccurrence(ctx context.Context, req *grafeas.GetOccurrenceRequest, opts ...grpc.CallOption) (*grafeas.Occurrence, error)
}

// Options are what a handler is made from. Signer, Occurrences and Identify are
// needed.
type Options struct {
	Signer      Signer
	Occurrences Occurrences
	// Identify returns who sends a request, or why that is not known.
	Identify func(*http.Request) (metadata.Caller, error)
	// May reports whether a caller may ask; nil lets all that are known.
	May func(metadata.Caller) bool
	// Record is told of each request when it has been answered; nil means no one is.
	Record func(context.Context, metadata.CallRecord)
	// Timeout is how long a scan is waited for, so that requests can be given a bound
	// that is longer.
	Timeout time.Duration
	// MaxRequests are worked on at once; 0 means [DefaultMaxRequests].
	MaxRequests int
	// Logger is told of requests that fail; nil means no one is.
	Logger *slog.Logger
}

// A Response is the answer to a request, in gcr-signer's form.
type Response struct {
	Image      string   `json:"image,omitempty"`
	Status     Status   `json:"status,omitempty"`
	Message    string   `json:"message,omitempty"`
	Violations []string `json:"violations,omitempty"`
}

// A Status is what came of a request.
type Status string

// The statuses.
const (
	OK        Status = "ok"
	Signed    Status = "signed"
	NotSigned Status = "not-signed"
	Failed    Status = "failed"
)

const (
	messageSigned    = "image passed vulnerability policy"
	messageViolates  = "image violates policy"
	messageOtherKind = "ignoring non-DISCOVERY occurrence"
	messageUnready   = "ignoring occurrence whose scan has not finished with success"
)

type handler struct {
	Options
	turns chan struct{}
}

// NewHandler returns the handler of the three paths.
func NewHandler(o Options) http.Handler {
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.Timeout <= 0 {
		o.Timeout = kritissigner.DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{Options: o, turns: make(chan struct{}, o.MaxRequests)}
	mux := http.NewServeMux()
	mux.Handle("/check-only", h.serve("CheckOnly", h.checkOnly))
	mux.Handle("/check-and-sign", h.serve("CheckAndSign", h.checkAndSign))
	mux.Handle("/event", h.serve("Event", h.event))
	return mux
}

// serve answers a request by what answer returns for its body.
func (h *handler) serve(method string, answer func(context.Context, []byte) (int, Response, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record := metadata.CallRecord{Time: time.Now(), Method: "kritis.signer." + method}
		code, response, err := h.answer(w, r, &record.Caller, answer)
		record.Took, record.Resource, record.Err = time.Since(record.Time), response.Image, err
		if h.Record != nil {
			h.Record(context.WithoutCancel(r.Context()), record)
		}
		if err != nil {
			h.Logger.WarnContext(r.Context(), "signer request failed", "path", r.URL.Path, "caller", record.Caller.Name, "image", response.Image, "status", code, "error", err)
		} else {
			h.Logger.InfoContext(r.Context(), "signer request answered", "path", r.URL.Path, "caller", record.Caller.Name, "image", response.Image, "status", code, "result", string(response.Status))
		}
		send(w, code, response)
	})
}

// answer returns what to answer, and the error that it tells of.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, caller *metadata.Caller, answer func(context.Context, []byte) (int, Response, error)) (code int, response Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.Logger.ErrorContext(r.Context(), "signer request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			code, response, err = failure(http.StatusInternalServerError, "", errors.New("internal error; the log of the server says more"))
		}
	}()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return failure(http.StatusMethodNotAllowed, "", errors.New("want POST"))
	}
	if *caller, err = h.Identify(r); err != nil {
		var header interface{ SetHeader(h http.Header) }
		if errors.As(err, &header) {
			header.SetHeader(w.Header())
		}
		return failure(codeOf(err), "", err)
	}
	if h.May != nil && !h.May(*caller) {
		return failure(http.StatusForbidden, "", metadata.Errorf(metadata.PermissionDenied, "caller %q may not ask the signer: list him under kritisSigner.callers", caller.Name))
	}
	body, status, err := readBody(w, r)
	if err != nil {
		return failure(status, "", err)
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	default:
		w.Header().Set("Retry-After", "5")
		return failure(http.StatusServiceUnavailable, "", errors.New("too many requests are being worked on; try again later"))
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.Timeout+margin)
	defer cancel()
	return answer(ctx, body)
}

// codeOf returns how a caller is refused.
func codeOf(err error) int {
	switch metadata.KindOf(err) {
	case metadata.Unauthenticated:
		return http.StatusUnauthorized
	case metadata.ResourceExhausted:
		return http.StatusTooManyRequests
	}
	return http.StatusForbidden
}

func failure(code int, img string, err error) (int, Response, error) {
	return code, Response{Image: img, Status: Failed, Message: err.Error()}, err
}

// readBody reads the whole body in the time there is for it.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, status int, err error) {
	body, err = bounded.ReadBody(w, r, MaxBody, time.Now().Add(bodyTimeout))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, http.StatusRequestEntityTooLarge, errors.New("request is too long")
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline stays, or the server would wait for the rest.
		w.Header().Set("Connection", "close")
		return nil, http.StatusRequestTimeout, errors.New("the request did not arrive in time")
	case err != nil:
		return nil, http.StatusBadRequest, errors.New("the request could not be read to its end")
	}
	return body, http.StatusOK, nil
}

func send(w http.ResponseWriter, code int, response Response) {
	body, err := json.Marshal(response)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"status":"failed","message":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error here means that the client has gone.
	_, _ = w.Write(append(body, '\n'))
}

func (h *handler) checkOnly(ctx context.Context, body []byte) (int, Response, error) {
	ref, err := parseRequest(body)
	if err != nil {
		return failure(http.StatusBadRequest, "", err)
	}
	report, err := h.Signer.Run(ctx, kritissigner.CheckOnly, ref)
	switch {
	case err != nil:
		return failure(http.StatusInternalServerError, ref.String(), err)
	case report.Passed:
		return http.StatusOK, Response{Image: ref.String(), Status: OK}, nil
	}
	return http.StatusUnprocessableEntity, Response{Image: ref.String(), Status: Failed, Violations: report.Violations}, nil
}

func (h *handler) checkAndSign(ctx context.Context, body []byte) (int, Response, error) {
	ref, err := parseRequest(body)
	if err != nil {
		return failure(http.StatusBadRequest, "", err)
	}
	return h.sign(ctx, ref)
}

func (h *handler) sign(ctx context.Context, ref image.Reference) (int, Response, error) {
	report, err := h.Signer.Run(ctx, kritissigner.CheckAndSign, ref)
	switch {
	case err != nil:
		return failure(http.StatusInternalServerError, ref.String(), err)
	case report.Passed && report.Signed:
		return http.StatusOK, Response{Image: ref.String(), Status: Signed, Message: messageSigned}, nil
	}
	return http.StatusUnprocessableEntity, Response{Image: ref.String(), Status: NotSigned, Message: messageViolates, Violations: report.Violations}, nil
}

func (h *handler) event(ctx context.Context, body []byte) (int, Response, error) {
	e, err := parseEvent(body)
	switch {
	case err != nil:
		return failure(http.StatusBadRequest, "", err)
	case e.Kind != "DISCOVERY":
		return http.StatusOK, Response{Message: messageOtherKind}, nil
	}
	o, err := h.Occurrences.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: e.Name})
	if err != nil {
		return failure(http.StatusInternalServerError, "", err)
	}
	switch {
	case o.GetDiscovery() == nil:
		return http.StatusOK, Response{Message: messageOtherKind}, nil
	case o.GetDiscovery().GetAnalysisStatus() != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS:
		return http.StatusOK, Response{Message: messageUnready}, nil
	}
	ref, ok := imageOf(o)
	if !ok {
		// It will be about no image the next time either.
		return http.StatusOK, Response{Message: "ignoring occurrence that is about no image with a digest"}, nil
	}
	code, response, err := h.sign(ctx, ref)
	if code == http.StatusUnprocessableEntity {
		code = http.StatusOK
	}
	return code, response, err
}

// imageOf returns the image that an occurrence is about, if it is about one with a
// digest.
func imageOf(o *grafeas.Occurrence) (image.Reference, bool) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	return ref, err == nil && !ref.Digest().IsZero()
}
