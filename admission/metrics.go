package admission

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// reviewBuckets are of seconds: a review is judged from memory in some 30 µs, and an API
// server waits for 30 s at most.
var reviewBuckets = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// reviewMetrics are what a door measures of each review that it answers.
type reviewMetrics struct {
	duration prometheus.Histogram
	size     prometheus.Histogram
	inFlight prometheus.Gauge
}

// newReviewMetrics registers metrics whose names begin with gatehouse_ and a name.
func newReviewMetrics(name string, registry prometheus.Registerer) (reviewMetrics, error) {
	native := func(o prometheus.HistogramOpts) prometheus.Histogram {
		o.NativeHistogramBucketFactor, o.NativeHistogramMaxBucketNumber, o.NativeHistogramMinResetDuration = 1.1, 100, time.Hour
		return prometheus.NewHistogram(o)
	}
	m := reviewMetrics{
		duration: native(prometheus.HistogramOpts{
			Name: "gatehouse_" + name + "_review_duration_seconds", Buckets: reviewBuckets,
			Help: "How long reviews took that were answered, from when the request was there to when the answer was handed over.",
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_" + name + "_review_size_bytes", Buckets: prometheus.ExponentialBuckets(1024, 4, 8),
			Help: "Sizes of the reviews that were answered.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_" + name + "_reviews_in_flight", Help: "Reviews that are being read or judged.",
		}),
	}
	return m, errors.Join(registry.Register(m.duration), registry.Register(m.size), registry.Register(m.inFlight))
}

// answered measures a review that was answered, with the trace that it is in as the example
// of its bucket.
func (m *reviewMetrics) answered(ctx context.Context, took time.Duration, size int) {
	m.size.Observe(float64(size))
	if s := trace.SpanContextFromContext(ctx); s.IsSampled() {
		if o, ok := m.duration.(prometheus.ExemplarObserver); ok {
			o.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": s.TraceID().String()})
			return
		}
	}
	m.duration.Observe(took.Seconds())
}

// A tally is a counter by labels that have few values. Each series is looked up when it is
// first counted, and costs an addition from then on.
type tally struct {
	vec    *prometheus.CounterVec
	values [][]string // of each label
	series []atomic.Pointer[prometheus.Counter]
}

// newTally returns a tally with the values of each label.
func newTally(o prometheus.CounterOpts, labels []string, values ...[]string) *tally {
	size := 1
	for _, v := range values {
		size *= len(v)
	}
	return &tally{vec: prometheus.NewCounterVec(o, labels), values: values, series: make([]atomic.Pointer[prometheus.Counter], size)}
}

// inc counts one with the values at the places that are given, one for each label.
func (t *tally) inc(at ...int) { t.counter(at).Inc() }

func (t *tally) counter(at []int) prometheus.Counter {
	i := 0
	for label, value := range at {
		i = i*len(t.values[label]) + value
	}
	if c := t.series[i].Load(); c != nil {
		return *c
	}
	texts := make([]string, len(at))
	for label, value := range at {
		texts[label] = t.values[label][value]
	}
	c := t.vec.WithLabelValues(texts...)
	t.series[i].Store(&c)
	return c
}

// nothingJudged is the verdict on a request that brings no image in.
const nothingJudged = decide.INDETERMINATE + 1

var (
	verdictNames  = []string{decide.DENY: decide.DENY.String(), decide.ALLOW: decide.ALLOW.String(), decide.INDETERMINATE: decide.INDETERMINATE.String(), nothingJudged: "NONE"}
	overrideNames = []string{string(decide.NoOverride), string(decide.BreakGlass), string(decide.DryRun), string(decide.NoPolicy), string(decide.FailOpen), string(decide.LastAllowed)}
	dryRunNames   = []string{"false", "true"}
)

// Classes of what is answered without a decision.
var (
	classMalformed = decide.Class(len(decide.Classes()))
	classNames     = append(namesOf(decide.Classes()), "malformed", "nothing_new")
	classNothing   = classMalformed + 1
)

func namesOf(classes []decide.Class) []string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.String()
	}
	return names
}

// Resources that are in no list of names.
const (
	noResource    = iota // the review does not say which
	otherResource        // one that nothing here is about
	ownResources
)

// decisionMetrics count what the gate answers.
type decisionMetrics struct {
	resources map[groupResource]int
	decisions *tally
	reasons   *tally
	overrides *tally
}

func newDecisionMetrics(custom Resources, registry prometheus.Registerer) (decisionMetrics, error) {
	known := append([]groupResource{pods, imageReviews, imagePulls}, slices.Collect(maps.Keys(workloads))...)
	known = append(known, slices.Collect(maps.Keys(custom.byName))...)
	m := decisionMetrics{resources: make(map[groupResource]int, len(known))}
	names := []string{noResource: "", otherResource: "other"}
	for i, r := range known {
		m.resources[r] = ownResources + i
		names = append(names, r.String())
	}
	m.decisions = newTally(prometheus.CounterOpts{
		Name: "gatehouse_admission_decisions_total",
		Help: "Admission requests answered, by resource, verdict of policy (ALLOW, DENY, INDETERMINATE, or NONE when nothing was judged), what overrode it, and whether the API server only tried it out.",
	}, []string{"resource", "verdict", "override", "dry_run"}, names, verdictNames, overrideNames, dryRunNames)
	m.reasons = newTally(prometheus.CounterOpts{
		Name: "gatehouse_admission_reasons_total",
		Help: "Admission requests answered, by verdict of policy, the class of what that rests on, and what overrode it.",
	}, []string{"verdict", "class", "override"}, verdictNames, classNames, overrideNames)
	m.overrides = newTally(prometheus.CounterOpts{
		Name: "gatehouse_admission_overrides_total",
		Help: "Requests let in that policy did not allow, by what overrode it. Those that the API server only tried out are not among them.",
	}, []string{"override"}, overrideNames[1:])
	for i := range overrideNames[1:] { // the first of them is to be seen as an increase
		m.overrides.counter([]int{i})
	}
	return m, errors.Join(registry.Register(m.decisions.vec), registry.Register(m.reasons.vec), registry.Register(m.overrides.vec))
}

// count counts a request. Its resource is a name that is known, or else "other", since
// whoever asks could make up any number of them.
func (m *decisionMetrics) count(req *request, v decide.Verdict, c decide.Class, o decide.Override) {
	res := req.resource()
	resource, known := m.resources[res]
	switch {
	case known:
	case res.Resource == "":
		resource = noResource
	default:
		resource = otherResource
	}
	override, dryRun := max(slices.Index(overrideNames, string(o)), 0), 0
	if req.DryRun {
		dryRun = 1
	}
	m.decisions.inc(resource, int(v), override, dryRun)
	m.reasons.inc(int(v), int(c), override)
	if override > 0 && !req.DryRun {
		m.overrides.inc(override - 1)
	}
}
