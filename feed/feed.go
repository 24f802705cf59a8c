// Package feed tells gates in other places what the metadata service has: evidence,
// and the policies of a project, as they are and as they change. It is service Feed of
// package gatehouse.v1, an extension of package grafeasapi, on whose port it is served:
// who calls is decided and recorded there. Package feedclient is the other end.
//
// # What a gate is told
//
// The documents of its project (policy, platform policies, attestors) and the system
// policy, always; and what it asks for: signed statements under a note or in a project,
// what scans in a project have found, documents of other projects. For its own project
// a gate needs gatehouse.feed.watch (role gate). For what is of another it needs that
// there, or what anyone would need to read it: notes.listOccurrences on a note,
// occurrences.list on a project, binaryauthorization.attestors.get on an attestor.
//
// # Order, and gaps
//
// A message of changes tells after which number, and through which, it has all that is
// of interest, so that one that is missing shows. The position a gate has reached
// carries a mark of the changes before it: where the server has another history, as
// after a backup was restored, the gate begins anew. A gate that comes to need more
// asks for it while the stream lasts; what it asks for is read after it is told of in
// changes too, so that nothing is lost between.
//
// # Slow gates
//
// Nothing is queued for a gate: each is read for at its own pace, the latest changes
// from a memory that all share, and older ones from the store. One that takes nothing
// for a while is hung up on, and goes on from where it was when it comes back.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

// Defaults of Options.
const (
	// DefaultBeat is how often a gate hears something, so that it knows how far it is
	// behind and that the server is there.
	DefaultBeat = time.Second
	// DefaultStall is how long a gate may take nothing.
	DefaultStall = 30 * time.Second
	// DefaultLife is how long a stream lasts. Then the gate proves anew who it is.
	DefaultLife = time.Hour
	// DefaultRemember is how long a gate that has gone without taking leave is told of
	// by the barrier: it may still decide by what it had.
	DefaultRemember = time.Hour
)

// WatchMethod is the gRPC method that gates follow the feed by: a stream that may last for
// hours.
const WatchMethod = gatehousev1.Feed_Watch_FullMethodName

// maxGates bounds the gates of one server.
const maxGates = 1000

// Options configure a Service. The zero Options are good for a server.
type Options struct {
	Beat, Stall, Life, Remember time.Duration
	// Logger takes what goes wrong with streams; nil discards it.
	Logger *slog.Logger
	// Registry takes the metrics, unless it is nil.
	Registry prometheus.Registerer
	// Now is time.Now if nil.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		of    *time.Duration
		value time.Duration
	}{{&o.Beat, DefaultBeat}, {&o.Stall, DefaultStall}, {&o.Life, DefaultLife}, {&o.Remember, DefaultRemember}} {
		if *d.of <= 0 {
			*d.of = d.value
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// A Service serves the feed of a metadata service. It is a [grafeasapi.Extension], and
// safe for concurrent use.
type Service struct {
	svc   *metadata.Service
	opts  Options
	tail  *tail
	gates *gates
	stop  chan struct{}
	once  sync.Once
}

var _ grafeasapi.Extension = (*Service)(nil)

// New returns the feed of a metadata service.
func New(svc *metadata.Service, opts Options) (*Service, error) {
	opts = opts.withDefaults()
	s := &Service{svc: svc, opts: opts, tail: newTail(svc), gates: newGates(opts.Remember, opts.Now), stop: make(chan struct{})}
	if opts.Registry != nil {
		err := opts.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_feed_gates",
			Help: "Gates in other places that follow the feed.",
		}, func() float64 { return float64(s.gates.connected()) }))
		if err != nil {
			return nil, fmt.Errorf("serving the feed: %w", err)
		}
	}
	return s, nil
}

// Stop ends all streams, which would otherwise last longer than a server that drains.
func (s *Service) Stop() { s.once.Do(func() { close(s.stop) }) }

// Register registers the gRPC service.
func (s *Service) Register(rpc grpc.ServiceRegistrar) { gatehousev1.RegisterFeedServer(rpc, s) }

// Methods returns none: the feed has no REST face.
func (s *Service) Methods(string) []string { return nil }

// ServeREST is never called.
func (s *Service) ServeREST(context.Context, metadata.Caller, grafeasapi.Request) ([]byte, error) {
	return nil, metadata.Errorf(metadata.Unimplemented, "the feed is gRPC only")
}

// Watch follows the feed until one of the two ends it.
func (s *Service) Watch(stream grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]) error {
	_, err := grafeasapi.Answer(stream.Context(), func(caller metadata.Caller) (struct{}, error) {
		return struct{}{}, s.watch(stream.Context(), caller, stream)
	})
	return err
}

// Barrier waits until all gates of a project have applied a change, or until shortly
// before the deadline, and tells which have.
func (s *Service) Barrier(ctx context.Context, req *gatehousev1.BarrierRequest) (*gatehousev1.BarrierResponse, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (*gatehousev1.BarrierResponse, error) {
		name := projectName(req.GetProject())
		return metadata.Do(ctx, s.svc, caller, "Barrier", name, func(c *metadata.Call) (*gatehousev1.BarrierResponse, error) {
			if err := checkProject(req.GetProject()); err != nil {
				return nil, err
			}
			if err := c.Need(ctx, metadata.FeedWatch, name); err != nil {
				return nil, err
			}
			if head := s.svc.Head(); req.GetSeq() > head {
				return nil, metadata.Errorf(metadata.OutOfRange, "there is no change %d yet: the last is %d", req.GetSeq(), head)
			}
			return s.gates.await(ctx, req.GetProject(), req.GetSeq(), s.stop), nil
		})
	})
}

// errStopping ends the streams of a server that stops.
var errStopping = metadata.Errorf(metadata.Unavailable, "the server is stopping")

// errRenew ends a stream that has lasted its life.
var errRenew = metadata.Errorf(metadata.Unavailable, "the stream has lasted its life: open another")

// ended reports whether an error is the way streams end.
func ended(err error) bool {
	return err == nil || errors.Is(err, errRenew) || errors.Is(err, errStopping) || errors.Is(err, context.Canceled)
}
