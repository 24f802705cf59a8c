package server

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/image"
)

// remoteEvidence is the evidence of a gate whose metadata service is elsewhere: what has
// arrived, from memory; and what a decision lacks, asked of the service.
type remoteEvidence struct {
	source *feedclient.Evidence
	index  atomic.Pointer[index.Index] // nil until there is one
	// answered and failed count how often it was asked.
	answered, failed prometheus.Counter
	// stale says why what has arrived may not be relied on any more; "" if it may. It is
	// nil if it always may.
	stale func() string
	lookups
}

func newRemoteEvidence(source *feedclient.Evidence, registry prometheus.Registerer) (*remoteEvidence, error) {
	asked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_feed_lookups_total",
		Help: "Times that the metadata service was asked for what a decision lacked, by result: ok or error.",
	}, []string{"result"})
	r := &remoteEvidence{source: source, answered: asked.WithLabelValues(okResult), failed: asked.WithLabelValues(errorResult)}
	r.lookups.ask = r.ask
	return r, registry.Register(asked)
}

// Collect returns what has arrived about the images.
func (r *remoteEvidence) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	var why string
	switch x := r.index.Load(); {
	case x == nil:
		why = "the gate has started, and has not heard from the metadata service yet"
	case r.stale == nil:
		return x.Collect(ctx, refs)
	default:
		if why = r.stale(); why == "" {
			return x.Collect(ctx, refs)
		}
	}
	facts := evidence.Facts{Images: make(map[image.Digest]evidence.Image)}
	for _, ref := range refs {
		if d := ref.Digest(); !d.IsZero() {
			facts.Images[d] = evidence.Image{Err: why}
		}
	}
	return facts
}

// ask asks the service for digests, and verifies what it says.
func (r *remoteEvidence) ask(ctx context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
	texts := make([]string, len(digests))
	for i, d := range digests {
		texts[i] = d.String()
	}
	found, err := r.source.Lookup(ctx, texts)
	if err != nil {
		r.failed.Inc()
		return nil, err
	}
	r.answered.Inc()
	return r.index.Load().About(digests, found.Occurrences, found.Summaries, found.Scanners), nil
}
