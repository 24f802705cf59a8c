package grafeasapi

import (
	"context"
	"sync"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// inProcess is the origin that the record has of calls from within.
const inProcess = "in process"

// InProcess is a client of the Grafeas v1 API for whoever is in the same process,
// and asks everything in the name of one caller. Rules, limits, records and errors are
// those of [NewHandler]. Messages are copied, so that neither end sees what the other does
// to them later. Options of calls have no effect. Make one with [NewInProcess]; it is safe
// for concurrent use.
type InProcess struct {
	api    *server
	caller metadata.Caller
	opts   Options
	limit  grpc.UnaryServerInterceptor
	rescue grpc.UnaryServerInterceptor

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	over    context.Context //nolint:containedctx // ends what is running
	end     context.CancelFunc
}

// NewInProcess returns a client. Of the options, Identify and Extensions are not used.
func NewInProcess(svc *metadata.Service, caller metadata.Caller, opts Options) *InProcess {
	opts = opts.withDefaults()
	c := &InProcess{api: newServices(svc).v1, caller: caller, opts: opts, limit: limitTime(opts.Timeout), rescue: recoverUnary(opts.Logger)}
	c.over, c.end = context.WithCancel(context.Background())
	return c
}

// GetNote is of grafeas.GrafeasClient, as are the others.
func (c *InProcess) GetNote(ctx context.Context, req *grafeas.GetNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	return call(ctx, c, "GetNote", req, c.api.GetNote)
}

// CreateNote is of grafeas.GrafeasClient.
func (c *InProcess) CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	return call(ctx, c, "CreateNote", req, c.api.CreateNote)
}

// CreateOccurrence is of grafeas.GrafeasClient.
func (c *InProcess) CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, _ ...grpc.CallOption) (*grafeas.Occurrence, error) {
	return call(ctx, c, "CreateOccurrence", req, c.api.CreateOccurrence)
}

// GetOccurrence is of grafeas.GrafeasClient.
func (c *InProcess) GetOccurrence(ctx context.Context, req *grafeas.GetOccurrenceRequest, _ ...grpc.CallOption) (*grafeas.Occurrence, error) {
	return call(ctx, c, "GetOccurrence", req, c.api.GetOccurrence)
}

// DeleteOccurrence is of grafeas.GrafeasClient.
func (c *InProcess) DeleteOccurrence(ctx context.Context, req *grafeas.DeleteOccurrenceRequest, _ ...grpc.CallOption) (*emptypb.Empty, error) {
	return call(ctx, c, "DeleteOccurrence", req, c.api.DeleteOccurrence)
}

// ListOccurrences is of grafeas.GrafeasClient.
func (c *InProcess) ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error) {
	return call(ctx, c, "ListOccurrences", req, c.api.ListOccurrences)
}

// ListNoteOccurrences is of grafeas.GrafeasClient.
func (c *InProcess) ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListNoteOccurrencesResponse, error) {
	return call(ctx, c, "ListNoteOccurrences", req, c.api.ListNoteOccurrences)
}

// Close ends the calls that are running, waits for them, and has later ones refused.
func (c *InProcess) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.running.Wait()
	return nil
}

// enter takes part in what Close waits for.
func (c *InProcess) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return status.Error(codes.Canceled, "the metadata API in this process is closed")
	}
	c.running.Add(1)
	return nil
}

// call makes a call. It returns when ctx is over, whatever becomes of the call.
func call[Req, Resp proto.Message](ctx context.Context, c *InProcess, method string, req Req, serve func(context.Context, Req) (Resp, error)) (Resp, error) {
	var none Resp
	// What could not go over a wire cannot be said here either.
	wire, err := proto.Marshal(req)
	if err != nil {
		return none, status.Errorf(codes.Internal, "calling %s: encoding the request: %v", method, err)
	}
	if err := c.enter(); err != nil {
		return none, err
	}
	type answered struct {
		resp Resp
		err  error
	}
	answer := make(chan answered, 1)
	go func() {
		defer c.running.Done()
		resp, err := answerWire(ctx, c, method, wire, serve)
		answer <- answered{resp, err}
	}()
	select {
	case a := <-answer:
		return a.resp, a.err
	case <-ctx.Done():
		return none, status.FromContextError(ctx.Err()).Err()
	}
}

// answerWire answers a call as the server does, and records what it refuses.
func answerWire[Req, Resp proto.Message](ctx context.Context, c *InProcess, method string, wire []byte, serve func(context.Context, Req) (Resp, error)) (Resp, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.over, cancel)()
	ctx = withIdentity(metadata.WithOrigin(ctx, inProcess), identity{caller: c.caller, known: true})
	resp, err := within(ctx, c, method, wire, serve)
	if err != nil {
		st := status.FromContextError(err) // UNKNOWN for what is neither
		if own, ok := status.FromError(err); ok {
			st = own
		}
		recordRefused(ctx, c.api.svc, method, st)
		var none Resp
		return none, st.Err()
	}
	return proto.CloneOf(resp), nil
}

// within calls a method within the limits of the server.
func within[Req, Resp proto.Message](ctx context.Context, c *InProcess, method string, wire []byte, serve func(context.Context, Req) (Resp, error)) (Resp, error) {
	var none Resp
	if len(wire) > c.opts.MaxRequestBytes {
		return none, status.Errorf(codes.ResourceExhausted, "the request has %d bytes, more than %d", len(wire), c.opts.MaxRequestBytes)
	}
	var kind Req
	req, ok := kind.ProtoReflect().New().Interface().(Req)
	if !ok {
		return none, status.Errorf(codes.Internal, "calling %s: %T is not made as it should be", method, kind)
	}
	if err := proto.Unmarshal(wire, req); err != nil {
		return none, status.Errorf(codes.Internal, "calling %s: decoding the request: %v", method, err)
	}
	info := &grpc.UnaryServerInfo{Server: c.api, FullMethod: "/" + ServiceName + "/" + method}
	var resp Resp
	_, err := c.limit(ctx, req, info, func(ctx context.Context, _ any) (any, error) {
		return c.rescue(ctx, req, info, func(ctx context.Context, _ any) (_ any, err error) {
			resp, err = serve(ctx, req)
			return nil, err
		})
	})
	return resp, err
}
