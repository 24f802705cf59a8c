package server

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/image"
)

// remoteEvidence is the evidence of a gate whose metadata service is elsewhere: what has
// arrived, from memory; and what a decision lacks, asked of the service.
type remoteEvidence struct {
	source  *feedclient.Evidence
	index   atomic.Pointer[index.Index] // nil until there is one
	lookups lookups
	asked   *prometheus.CounterVec
}

func newRemoteEvidence(source *feedclient.Evidence, registry prometheus.Registerer) (*remoteEvidence, error) {
	r := &remoteEvidence{source: source, asked: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_feed_lookups_total",
		Help: "Times that the metadata service was asked for what a decision lacked, by result: ok or error.",
	}, []string{"result"})}
	r.lookups.ask = r.ask
	return r, registry.Register(r.asked)
}

// Collect returns what has arrived about the images.
func (r *remoteEvidence) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	if x := r.index.Load(); x != nil {
		return x.Collect(ctx, refs)
	}
	facts := evidence.Facts{Images: make(map[image.Digest]evidence.Image)}
	for _, ref := range refs {
		if d := ref.Digest(); !d.IsZero() {
			facts.Images[d] = evidence.Image{Err: "the gate has started, and has not heard from the metadata service yet"}
		}
	}
	return facts
}

// lacking are the reasons for a denial that go away when something arrives.
var lacking = []decide.Code{decide.CodeNotAttested, decide.CodeNotScanned, decide.CodeUploadUnknown, decide.CodeNotBuilt}

// knownBad are those that rest on what has arrived, and so stand while nobody can be
// asked for more.
var knownBad = []decide.Code{decide.CodeVulnerable, decide.CodeStale, decide.CodeScanTruncated}

// Refresh asks for the images that are denied because something is missing.
func (r *remoteEvidence) Refresh(ctx context.Context, d *decide.Decision, facts evidence.Facts) (evidence.Facts, bool) {
	digests, unknown := missing(d, facts)
	if len(digests) == 0 {
		return facts, false
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	images, err := r.lookups.of(ctx, digests)
	fresh := evidence.Facts{Images: maps.Clone(facts.Images), Built: facts.Built}
	for _, digest := range digests {
		switch {
		case err == nil:
			fresh.Images[digest] = images[digest]
		case unknown[digest]:
			// Whether it is there nobody knows. What is known to be wrong stays so.
			fresh.Images[digest] = evidence.Image{State: evidence.Unavailable, Err: err.Error()}
		}
	}
	return fresh, true
}

// budget leaves a part of the time that a request has to decide and answer.
func budget(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, maxRoundTime)
	}
	return context.WithTimeout(ctx, time.Until(deadline)*3/4)
}

// missing returns the digests that are denied for something that may be there by now,
// and which of them are not denied for something that is known, too.
func missing(d *decide.Decision, facts evidence.Facts) (digests []image.Digest, unknown map[image.Digest]bool) {
	lacks, told := make(map[image.Digest]bool), make(map[image.Digest]bool)
	for i := range d.Images {
		img := &d.Images[i]
		if img.Verdict == decide.ALLOW || facts.Images[img.Digest].State != evidence.Known {
			continue
		}
		for j := range img.Reasons {
			switch r := &img.Reasons[j]; {
			case r.Verdict == decide.ALLOW:
			case slices.Contains(lacking, r.Code):
				if !lacks[img.Digest] {
					digests = append(digests, img.Digest)
				}
				lacks[img.Digest] = true
			case slices.Contains(knownBad, r.Code):
				told[img.Digest] = true
			}
		}
	}
	for digest := range told {
		delete(lacks, digest)
	}
	return digests, lacks
}

// ask asks the service for digests, and verifies what it says.
func (r *remoteEvidence) ask(ctx context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
	texts := make([]string, len(digests))
	for i, d := range digests {
		texts[i] = d.String()
	}
	found, err := r.source.Lookup(ctx, texts)
	if err != nil {
		r.asked.WithLabelValues("error").Inc()
		return nil, err
	}
	r.asked.WithLabelValues("ok").Inc()
	return r.index.Load().About(digests, found.Occurrences, found.Summaries, found.Scanners), nil
}
