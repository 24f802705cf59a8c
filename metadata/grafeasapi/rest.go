package grafeasapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// enumNumbersType is a content type of our own, by which the gateway finds the
// marshaler that prints enums as numbers. It never goes over the wire.
const enumNumbersType = "application/x-gatehouse-enum-numbers"

// A rest is the REST face: the generated gateway, and around it what a server
// that faces the world needs.
type rest struct {
	svc  *metadata.Service
	mux  *runtime.ServeMux
	opts Options
}

func newREST(api *services, opts Options) *rest {
	h := &rest{svc: api.v1.svc, opts: opts}
	h.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler(false)),
		runtime.WithMarshalerOption(enumNumbersType, newMarshaler(true)),
		runtime.WithErrorHandler(h.writeError),
		runtime.WithRoutingErrorHandler(h.writeRoutingError),
		// No header becomes metadata: who calls is in the context already.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	api.route(h.mux)
	return h
}

// ServeHTTP bounds the request in size and time, reads the parameters that are
// about the answer's form, and survives a panic.
func (h *rest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.opts.Timeout)
	defer cancel()
	r = r.Clone(ctx)
	r.Header.Del("Accept")
	asked := r.URL.RawQuery
	extension, methods := h.extensionOf(r.URL.Path)
	query, enumNumbers := takeSystemParameters(asked)
	if r.URL.RawQuery = query; enumNumbers {
		r.Header.Set("Accept", enumNumbersType)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // not a fault: it is net/http's way to hang up
		}
		h.writeError(ctx, h.mux, nil, w, r, panicked(ctx, h.opts.Logger, r.Method+" "+r.URL.Path, p))
	}()
	if err := h.takeBody(w, r); err != nil {
		h.writeError(ctx, h.mux, nil, w, r, err)
		return
	}
	if extension != nil {
		h.serveExtension(w, r, extension, methods, asked)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// takeSystemParameters removes the parameters that begin with "$", which say how
// to answer and not what, and reports whether enums are to be numbers. Clients
// send their ";" raw too, which a query's parser would refuse.
func takeSystemParameters(query string) (rest string, enumNumbers bool) {
	if !strings.Contains(query, "$") && !strings.Contains(query, "%24") {
		return query, false
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil || !strings.HasPrefix(name, "$") {
			kept = append(kept, pair)
			continue
		}
		if value, err = url.QueryUnescape(value); err != nil || name != "$alt" {
			continue
		}
		for option := range strings.SplitSeq(value, ";") {
			enumNumbers = enumNumbers || option == "enum-encoding=int"
		}
	}
	return strings.Join(kept, "&"), enumNumbers
}

// errorBody has the shape of Grafeas's own server (code and message), and within
// it the one of Google's.
type errorBody struct {
	Code    codes.Code  `json:"code"`
	Message string      `json:"message"`
	Error   googleError `json:"error"`
}

type googleError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  string `json:"status"`
}

func (h *rest) writeError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	st := status.Convert(err)
	kind := metadata.KindOfCode(st.Code())
	httpStatus := kind.HTTPStatus()
	var routing *runtime.HTTPStatusError
	if errors.As(err, &routing) {
		st, httpStatus = status.Convert(routing.Err), routing.HTTPStatus
		kind = metadata.KindOfCode(st.Code())
	}
	message := st.Message()
	recordRefused(ctx, h.svc, r.Method+" "+r.URL.Path, st)
	raw, err := json.Marshal(errorBody{
		Code:    kind.Code(),
		Message: message,
		Error:   googleError{Code: httpStatus, Message: message, Status: kind.String()},
	})
	if err != nil {
		h.opts.Logger.LogAttrs(ctx, slog.LevelError, "encoding an error failed", slog.Any("error", err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	if _, err := w.Write(append(raw, '\n')); err != nil {
		h.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "writing an error failed", slog.Any("error", err))
	}
}

func (h *rest) writeRoutingError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	code, text := codes.NotFound, "there is nothing at this path; the API begins at /v1/projects and /v1beta1/projects"
	switch httpStatus {
	case http.StatusMethodNotAllowed:
		allow := strings.Join(methodsOf(r.URL.Path), ", ")
		w.Header().Set("Allow", allow)
		httpStatus = http.StatusNotImplemented // not 405: so does Grafeas's own server
		code, text = codes.Unimplemented, "Method Not Allowed: this path takes "+allow+" and not "+r.Method
	case http.StatusBadRequest:
		code, text = codes.InvalidArgument, "the request's path is malformed"
	}
	h.writeError(ctx, mux, m, w, r, &runtime.HTTPStatusError{HTTPStatus: httpStatus, Err: status.Error(code, text)})
}
