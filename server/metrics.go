package server

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// ioBuckets are of seconds, for what waits for a disk or a network.
var ioBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// registerProcess registers what every process measures of itself.
func (p *parts) registerProcess() error {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gatehouse_build_info", Help: "1; its labels say what runs here: version, revision of the source, version of Go, and role.",
		ConstLabels: prometheus.Labels{"version": buildVersion(), "revision": revision, "goversion": runtime.Version(), "role": p.cfg.Role.label()},
	})
	build.Set(1)
	clock := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_clock_timestamp_seconds", Help: "What the clock of this machine says, as a Unix time, to be compared with when it was asked.",
	}, func() float64 { return float64(time.Now().UnixNano()) / float64(time.Second) })
	return errors.Join(p.registry.Register(build), p.registry.Register(clock))
}

// buildVersion is the version of the module that this was built from.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// label is the role in metrics and traces.
func (r Role) label() string {
	if r == AllRoles {
		return "all"
	}
	return string(r)
}

// registerDisk registers how much room the data folder has, where that can be told.
func (p *parts) registerDisk() error {
	if _, _, err := diskRoom(p.cfg.Data); err != nil {
		p.logger.Debug("how much room the data folder has is not measured", "error", err)
		return nil
	}
	room := func(name, help string, of func(free, size uint64) uint64) error {
		return p.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			free, size, err := diskRoom(p.cfg.Data)
			if err != nil {
				return -1
			}
			return float64(of(free, size))
		}))
	}
	return errors.Join(
		room("gatehouse_data_free_bytes", "Room that is left where the data folder is; -1 if that cannot be told.", func(free, _ uint64) uint64 { return free }),
		room("gatehouse_data_size_bytes", "Size of the file system of the data folder; -1 if that cannot be told.", func(_, size uint64) uint64 { return size }),
	)
}

// policyInfo tells which policies are in force.
type policyInfo struct {
	current     func() policy.Set
	info, count *prometheus.Desc
}

func newPolicyInfo(current func() policy.Set) *policyInfo {
	return &policyInfo{
		current: current,
		info:    prometheus.NewDesc("gatehouse_policy_info", "1 for each policy in force, by its name, its dialect and its version.", []string{"policy", "dialect", "version"}, nil),
		count:   prometheus.NewDesc("gatehouse_policies_in_force", "Policies in force. With 0 everything is let in.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (p *policyInfo) Describe(out chan<- *prometheus.Desc) { out <- p.info; out <- p.count }

// Collect implements [prometheus.Collector].
func (p *policyInfo) Collect(out chan<- prometheus.Metric) {
	set := p.current()
	out <- prometheus.MustNewConstMetric(p.count, prometheus.GaugeValue, float64(len(set)))
	said := make(map[[3]string]bool)
	for _, rules := range set {
		labels := [3]string{rules.Name, string(rules.Dialect), rules.Version}
		if !said[labels] {
			said[labels] = true
			out <- prometheus.MustNewConstMetric(p.info, prometheus.GaugeValue, 1, labels[:]...)
		}
	}
}

// measuredCalls counts the calls of the metadata API, has them in traces, and hands them on.
type measuredCalls struct {
	metadata.Foreteller // which is told before a policy changes, and by this one too
	tracing             *tracing
	calls               *prometheus.CounterVec
	duration            *prometheus.HistogramVec
}

func newMeasuredCalls(next metadata.Foreteller, t *tracing, registry prometheus.Registerer) (*measuredCalls, error) {
	m := &measuredCalls{
		Foreteller: next, tracing: t,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_metadata_calls_total", Help: "Calls of the metadata API over gRPC and REST, by method and status code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_metadata_call_duration_seconds", Help: "How long calls of the metadata API took, by method.", Buckets: ioBuckets,
		}, []string{"method"}),
	}
	return m, errors.Join(registry.Register(m.calls), registry.Register(m.duration))
}

// Record implements [metadata.Recorder].
func (m *measuredCalls) Record(ctx context.Context, r metadata.CallRecord) {
	code := "OK"
	if r.Err != nil {
		code = metadata.KindOf(r.Err).String()
	}
	m.calls.WithLabelValues(r.Method, code).Inc()
	m.duration.WithLabelValues(r.Method).Observe(r.Took.Seconds())
	m.tracing.record(ctx, r, code)
	m.Foreteller.Record(ctx, r)
}

// measuredStore measures what is asked of a store.
type measuredStore struct {
	metadata.Store
	apply, get, list, changes storeOperation
}

type storeOperation struct {
	duration prometheus.Observer
	failed   prometheus.Counter
}

func newMeasuredStore(s metadata.Store, registry prometheus.Registerer) (*measuredStore, error) {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gatehouse_store_duration_seconds", Buckets: ioBuckets,
		Help: "How long the store took, by operation: apply (a transaction, with the wait for others that are gathered with it), get, list, changes.",
	}, []string{"operation"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_store_errors_total", Help: "Times that the store failed, by operation. That something is not there, or there already, is no failure.",
	}, []string{"operation"})
	of := func(name string) storeOperation {
		return storeOperation{duration.WithLabelValues(name), failed.WithLabelValues(name)}
	}
	return &measuredStore{s, of("apply"), of("get"), of("list"), of("changes")}, errors.Join(registry.Register(duration), registry.Register(failed))
}

// took measures an operation that has ended.
func (o storeOperation) took(begun time.Time, err *error) {
	o.duration.Observe(time.Since(begun).Seconds())
	if *err == nil {
		return
	}
	switch metadata.KindOf(*err) {
	case metadata.Internal, metadata.Unavailable, metadata.DeadlineExceeded:
		o.failed.Inc()
	}
}

// Apply implements [metadata.Store].
func (s *measuredStore) Apply(ctx context.Context, mutations ...metadata.Mutation) (err error) {
	defer s.apply.took(time.Now(), &err)
	return s.Store.Apply(ctx, mutations...)
}

// Note implements [metadata.Store].
func (s *measuredStore) Note(ctx context.Context, name metadata.NoteName) (n *grafeas.Note, err error) {
	defer s.get.took(time.Now(), &err)
	return s.Store.Note(ctx, name)
}

// Occurrence implements [metadata.Store].
func (s *measuredStore) Occurrence(ctx context.Context, name metadata.OccurrenceName) (o *grafeas.Occurrence, err error) {
	defer s.get.took(time.Now(), &err)
	return s.Store.Occurrence(ctx, name)
}

// Notes implements [metadata.Store].
func (s *measuredStore) Notes(ctx context.Context, q metadata.NoteQuery) (rows []*grafeas.Note, more bool, err error) {
	defer s.list.took(time.Now(), &err)
	return s.Store.Notes(ctx, q)
}

// Occurrences implements [metadata.Store].
func (s *measuredStore) Occurrences(ctx context.Context, q metadata.OccurrenceQuery) (rows []*grafeas.Occurrence, more bool, err error) {
	defer s.list.took(time.Now(), &err)
	return s.Store.Occurrences(ctx, q)
}

// Changes implements [metadata.Store].
func (s *measuredStore) Changes(ctx context.Context, after uint64, limit int) (list []metadata.Change, err error) {
	defer s.changes.took(time.Now(), &err)
	return s.Store.Changes(ctx, after, limit)
}

// measuredRegistries measures what is asked of registries.
type measuredRegistries struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
}

// registryOptions are those of the configuration, with what measures requests and, if
// traces are kept, has each in them.
func (p *parts) registryOptions() ([]resolve.Option, error) {
	options, err := p.cfg.Registry.Options()
	if err != nil {
		return nil, err
	}
	if p.registries == nil {
		m := &measuredRegistries{
			requests: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "gatehouse_registry_requests_total", Help: "Requests to image registries and to their token services, by status of the answer, or error if there was none.",
			}, []string{"code"}),
			duration: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "gatehouse_registry_request_duration_seconds", Help: "How long image registries took to begin an answer.", Buckets: ioBuckets,
			}),
		}
		if err := errors.Join(p.registry.Register(m.requests), p.registry.Register(m.duration)); err != nil {
			return nil, err
		}
		p.registries = m
	}
	return append(options, resolve.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return &measuredTransport{p.registries, p.tracing.transport(next)}
	})), nil
}

type measuredTransport struct {
	*measuredRegistries
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *measuredTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	begun := time.Now()
	answer, err := t.next.RoundTrip(r)
	code := "error"
	if err == nil {
		code = strconv.Itoa(answer.StatusCode)
	}
	t.requests.WithLabelValues(code).Inc()
	t.duration.Observe(time.Since(begun).Seconds())
	return answer, err
}
