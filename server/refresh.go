package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
)

// lacking are the reasons for a denial that go away when something arrives.
var lacking = []decide.Code{decide.CodeNotAttested, decide.CodeNotScanned, decide.CodeUploadUnknown, decide.CodeNotBuilt}

// knownBad are those that rest on what has arrived, and so stand while nobody can be
// asked for more.
var knownBad = []decide.Code{decide.CodeVulnerable, decide.CodeStale, decide.CodeScanTruncated}

// Refresh asks for the images that are denied because something is missing.
func (l *lookups) Refresh(ctx context.Context, d *decide.Decision, facts evidence.Facts) (evidence.Facts, bool) {
	digests, unknown := missing(d, facts)
	if len(digests) == 0 {
		return facts, false
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	images, err := l.of(ctx, digests)
	fresh := evidence.Facts{Images: maps.Clone(facts.Images), Built: facts.Built, Hints: facts.Hints}
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

// indexMetrics tell how much evidence is in memory.
func indexMetrics(of func() *index.Index, lag func() float64) []prometheus.Collector {
	gauge := func(name, help string, value func(*index.Index) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if x := of(); x != nil {
				return value(x)
			}
			return 0
		})
	}
	all := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_evidence_lag_changes", Help: "Changes of the store that decisions do not rest on yet, as far as is known.",
		}, lag),
		gauge("gatehouse_evidence_digests", "Digests that there is evidence about in memory.", func(x *index.Index) float64 { return float64(x.Len()) }),
		gauge("gatehouse_evidence_statements", "Statements in memory, refused ones too.", func(x *index.Index) float64 { return float64(x.Statements()) }),
		gauge("gatehouse_evidence_cold_before_timestamp_seconds", "Statements created before are not in memory, because there are too many; 0 if all are.", func(x *index.Index) float64 {
			if before, some := x.Cold(); some {
				return float64(before.UnixNano()) / float64(time.Second)
			}
			return 0
		}),
	}
	for _, o := range index.Outcomes() {
		for source, feed := range map[string]bool{"feed": true, "stored": false} {
			all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name:        "gatehouse_evidence_verifications_total",
				Help:        "Statements examined with the keys that are trusted, by outcome (verified; unreadable; unknown_key; bad_signature; wrong_content, which is signed and says something else), and by whether they had just arrived by the feed or had been stored.",
				ConstLabels: prometheus.Labels{"outcome": o.String(), "source": source},
			}, func() float64 {
				if x := of(); x != nil {
					return float64(x.Examined(o, feed))
				}
				return 0
			}))
		}
	}
	return all
}

// The results of what is tried.
const (
	okResult    = "ok"
	errorResult = "error"
)
