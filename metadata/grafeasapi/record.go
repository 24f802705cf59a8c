package grafeasapi

import (
	"context"
	"path"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// recordRefused records a request that is answered with an error before it became
// a call: its path, its parameters or its body are wrong.
func recordRefused(ctx context.Context, svc *metadata.Service, method string, st *status.Status) {
	if metadata.Recorded(ctx) {
		return
	}
	caller, _ := callerOf(ctx)
	svc.Refused(ctx, caller, clipMethod(method), metadata.Errorf(metadata.KindOfCode(st.Code()), "%s", st.Message()))
}

// refusals record what gRPC itself refuses: unknown methods, messages that are too
// large or cannot be decoded.
type refusals struct{ svc *metadata.Service }

type methodKey struct{}

// TagRPC is of [stats.Handler].
func (refusals) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

// HandleRPC is of [stats.Handler].
func (h refusals) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok || end.Error == nil {
		return
	}
	// Health and reflection are no calls of this service.
	if method, _ := ctx.Value(methodKey{}).(string); !strings.HasPrefix(method, "/grpc.") {
		recordRefused(ctx, h.svc, path.Base(method), status.Convert(end.Error))
	}
}

// TagConn is of [stats.Handler].
func (refusals) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is of [stats.Handler].
func (refusals) HandleConn(context.Context, stats.ConnStats) {}

// unknownMethod answers for what is not served. As a handler it ends like one, which
// refusals are told of.
func unknownMethod(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return status.Errorf(codes.Unimplemented, "there is no method %q here", clipped(method))
}
