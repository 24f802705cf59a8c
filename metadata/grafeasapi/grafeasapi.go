// Package grafeasapi is the network face of package metadata: the Grafeas v1 API
// as gRPC and as REST, on one port.
//
// [NewHandler] returns an [http.Handler] for a server of the caller's own, which
// brings listeners, TLS and connection time-outs. For gRPC without TLS it must
// speak HTTP/2 in the clear:
//
//	var protocols http.Protocols
//	protocols.SetHTTP1(true)
//	protocols.SetHTTP2(true)            // with TLS
//	protocols.SetUnencryptedHTTP2(true) // without
//	srv := &http.Server{Handler: handler, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
//
// HTTP/2 requests of content type application/grpc go to the gRPC server, which
// also answers health checks and reflection; all others go to REST. Both call
// the same [metadata.Service] in process, so that limits, rules and errors are
// the same.
//
// REST is what Grafeas's own server speaks, and what Google's clients expect of
// theirs: fields in lowerCamelCase or snake_case, enums by name or number, times
// in RFC 3339. Unknown query parameters are ignored, but one that differs from a
// known one in case alone, such as "Filter", is refused; so are unknown fields of
// a body. Bodies are not compressed (415), and have to arrive within
// Options.Timeout (408) and in Options.MaxRequestBytes (413, since 429 would have
// clients try again). A method that a path does not take is answered with 501, as
// Grafeas's own server does. A batch is refused if its answer would pass
// [metadata.MaxBatchBytes], the 4 MiB that a gRPC client receives: send smaller
// ones. "$alt=json;enum-encoding=int" in the query makes enums numbers in the
// answer. An error has both shapes that clients look for:
//
//	{"code": 5, "message": "…", "error": {"code": 404, "message": "…", "status": "NOT_FOUND"}}
//
// Updates are answered with UNIMPLEMENTED for now.
package grafeasapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress; the size limit holds for what comes out
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Defaults of Options.
const (
	// DefaultMaxRequestBytes holds a batch of 1000 occurrences of 16 kB.
	DefaultMaxRequestBytes = 16 << 20
	DefaultTimeout         = 30 * time.Second
)

// ServiceName is the name of the gRPC service, for health checks.
const ServiceName = "grafeas.v1.Grafeas"

// Options configure the handler. The zero Options are good for a server that
// trusts everybody, if the service's authorizer lets anonymous callers in.
type Options struct {
	// Identify tells who sends a request, from its TLS state or its headers. An
	// error refuses it before its body is read, as UNAUTHENTICATED unless it
	// carries a kind of its own; one with a method SetHeader(http.Header) adds to
	// the header of a REST answer. The caller beside it is recorded. Health checks
	// by gRPC are answered to everybody. If nil, every caller is anonymous.
	Identify func(*http.Request) (metadata.Caller, error)
	// MaxRequestBytes bounds one request's body or message.
	MaxRequestBytes int
	// Timeout bounds the time that one call may take. For REST that includes
	// the arrival of the body, for which it replaces the server's ReadTimeout.
	Timeout time.Duration
	// Logger takes panics and what goes wrong in writing answers; nil discards them.
	Logger *slog.Logger
	// Extensions are other APIs on the same port.
	Extensions []Extension
}

func (o Options) withDefaults() Options {
	if o.Identify == nil {
		o.Identify = func(*http.Request) (metadata.Caller, error) { return metadata.Caller{}, nil }
	}
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// NewHandler returns the handler, and a function that ends the running gRPC
// calls and reports the service as not serving; call it after the HTTP server
// has stopped taking requests.
func NewHandler(svc *metadata.Service, opts Options) (handler http.Handler, stop func()) {
	opts = opts.withDefaults()
	api := newServices(svc)
	rpc := grpc.NewServer(
		grpc.MaxRecvMsgSize(opts.MaxRequestBytes),
		grpc.ChainUnaryInterceptor(limitTime(opts.Timeout), recoverUnary(opts.Logger)),
		grpc.ChainStreamInterceptor(recoverStream(opts.Logger)),
		grpc.StatsHandler(refusals{svc}),
		grpc.UnknownServiceHandler(unknownMethod),
	)
	for _, e := range opts.Extensions {
		e.Register(rpc)
	}
	state := api.register(rpc)
	rest := newREST(api, opts)
	handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := opts.Identify(r)
		r = r.WithContext(metadata.WithOrigin(r.Context(), r.RemoteAddr))
		if err != nil && !isHealthCheck(r) {
			refuse(w, r, svc, rest, identity{caller, err, true})
			return
		}
		r = r.WithContext(withIdentity(r.Context(), identity{caller, err, true}))
		if r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) {
			ctx, done := withAnswer(r.Context(), w)
			defer done()
			rpc.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		rest.ServeHTTP(w, r)
	})
	return handler, func() {
		state.Shutdown()
		rpc.Stop()
	}
}

// isGRPC reports whether a content type is application/grpc, with or without an
// encoding or parameters, and not application/grpc-web.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// An identity is what Options.Identify said of a request.
type identity struct {
	caller metadata.Caller
	err    error
	known  bool // Identify was asked
}

type identityKey struct{}

func withIdentity(ctx context.Context, id identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// callerOf returns the caller of a request. Without an identity there is none,
// which is a refusal and not an anonymous caller.
func callerOf(ctx context.Context) (metadata.Caller, error) {
	id, _ := ctx.Value(identityKey{}).(identity)
	var own *metadata.Error
	switch {
	case !id.known:
		return metadata.Caller{}, metadata.Errorf(metadata.Unauthenticated, "the request has no identity")
	case id.err == nil:
		return id.caller, nil
	case errors.As(id.err, &own):
		return metadata.Caller{}, id.err
	}
	return metadata.Caller{}, metadata.Errorf(metadata.Unauthenticated, "cannot tell who is calling: %w", id.err)
}

// toStatus makes err a gRPC status. What is internal stays in the server's log.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	kind := metadata.KindOf(err)
	if kind == metadata.Internal {
		return status.Error(codes.Internal, "internal error; the server's log has its cause")
	}
	return status.Error(kind.Code(), err.Error())
}

func limitTime(limit time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return next(ctx, req)
	}
}

func recoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if p := recover(); p != nil {
				resp, err = nil, panicked(ctx, log, info.FullMethod, p)
			}
		}()
		return next(ctx, req)
	}
}

func recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicked(stream.Context(), log, info.FullMethod, p)
			}
		}()
		return next(srv, stream)
	}
}

// panicked logs a panic and returns what the caller is told of it.
func panicked(ctx context.Context, log *slog.Logger, method string, p any) error {
	log.LogAttrs(ctx, slog.LevelError, "panic in a metadata call",
		slog.String("method", method), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	return toStatus(metadata.Errorf(metadata.Internal, "panic"))
}
