package grafeasapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// An Extension is another API that is served on the port of Grafeas, with the same
// identity, limits, errors and record of calls. What it serves must not be
// Grafeas's.
type Extension interface {
	// Register registers its gRPC services. Their methods are answered by [Answer].
	Register(rpc grpc.ServiceRegistrar)
	// Methods returns the HTTP methods that a path takes, none if the path is not
	// the extension's.
	Methods(path string) []string
	// ServeREST answers a request to a path with one of its methods. The answer is
	// JSON; of an error the kind and the text go to the caller.
	ServeREST(ctx context.Context, caller metadata.Caller, r Request) (answer []byte, err error)
}

// A Request is a REST request that is bounded, whole, and from a known caller.
type Request struct {
	Method, Path string
	// Query is as it came.
	Query string
	// Body is empty if there is none.
	Body []byte
}

// Answer answers for a method of an [Extension] over gRPC: it asks who is calling,
// calls, and makes the error a status.
func Answer[T any](ctx context.Context, call func(metadata.Caller) (T, error)) (T, error) {
	return answer(ctx, call)
}

// extensionOf returns the extension that a path is of, and its methods.
func (h *rest) extensionOf(path string) (Extension, []string) {
	for _, e := range h.opts.Extensions {
		if methods := e.Methods(path); len(methods) > 0 {
			return e, methods
		}
	}
	return nil, nil
}

// serveExtension answers a request whose body was taken; query is the one that it
// came with.
func (h *rest) serveExtension(w http.ResponseWriter, r *http.Request, e Extension, methods []string, query string) {
	ctx := r.Context()
	fail := func(err error) { h.writeError(ctx, h.mux, nil, w, r, err) }
	if !slices.Contains(methods, r.Method) {
		allow := strings.Join(methods, ", ")
		w.Header().Set("Allow", allow)
		fail(status.Error(codes.Unimplemented, "Method Not Allowed: this path takes "+allow+" and not "+r.Method))
		return
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			fail(status.Errorf(codes.InvalidArgument, "reading the request's body: %v", err))
			return
		}
	}
	raw, err := answer(ctx, func(caller metadata.Caller) ([]byte, error) {
		return e.ServeREST(ctx, caller, Request{Method: r.Method, Path: r.URL.Path, Query: query, Body: body})
	})
	if err != nil {
		fail(err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(append(raw, '\n')); err != nil {
		h.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "writing an answer failed", slog.Any("error", err))
	}
}
