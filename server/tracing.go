package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	meternoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/gatehouse-dev/gatehouse/feed"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// TracingConfig says where OpenTelemetry traces go. Without an endpoint there are none.
type TracingConfig struct {
	// Endpoint is the OTLP receiver: https://HOST:PORT, or http:// in the clear.
	Endpoint string `yaml:"endpoint"`
	// Protocol is grpc (default), or http: OTLP/HTTP with protobuf, under /v1/traces of
	// Endpoint unless that has a path.
	Protocol string `yaml:"protocol"`
	// Ratio is the share of the requests that is traced, from 0 to 1; of callers that say
	// whether they are traced, all those that are. Default 0.05.
	Ratio float64 `yaml:"ratio"`
	// CAFile has the certificates that the receiver's is issued by; those of the system if
	// it is empty. CertFile and KeyFile are the client certificate. They are read at start.
	CAFile   string `yaml:"caFile"`
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// HeadersFile has headers that are sent along, NAME: VALUE on each line. It is read
	// each time.
	HeadersFile string `yaml:"headersFile"`
}

// The protocols of traces.
const (
	grpcProtocol = "grpc"
	httpProtocol = "http"
)

const (
	defaultTracingRatio = 0.05

	// exportWithin bounds one attempt to hand spans over, and lastExportWithin how long the
	// end of a process waits for that.
	exportWithin     = 10 * time.Second
	lastExportWithin = 2 * time.Second

	// maxSpans bounds the spans that wait to be handed over; what is more is lost.
	maxSpans = 4096

	maxHeadersFile = 64 << 10

	// tracerName is the instrumentation scope of our spans.
	tracerName = "github.com/gatehouse-dev/gatehouse"
)

func (c *TracingConfig) validate() error {
	if c.Endpoint == "" {
		if *c != (TracingConfig{Protocol: c.Protocol, Ratio: c.Ratio}) {
			return errors.New("tracing has settings and no endpoint: give https://HOST:PORT of an OTLP receiver, or leave the section out")
		}
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fmt.Errorf("tracing endpoint %q: want https://HOST:PORT, or http://HOST:PORT", c.Endpoint)
	case c.Protocol != grpcProtocol && c.Protocol != httpProtocol:
		return fmt.Errorf("tracing protocol %q: want %s or %s", c.Protocol, grpcProtocol, httpProtocol)
	case c.Protocol == grpcProtocol && strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("tracing endpoint %q: gRPC has no path", c.Endpoint)
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("tracing ratio %v: want a number from 0 to 1", c.Ratio)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("tracing certFile and keyFile: give both or neither")
	case u.Scheme == "http" && c.HeadersFile != "" && !isLoopback(u.Hostname()):
		return fmt.Errorf("tracing endpoint %q: the headers would be sent in the clear: use https", c.Endpoint)
	case u.Scheme == "http" && (c.CAFile != "" || c.CertFile != ""):
		return fmt.Errorf("tracing endpoint %q: certificates are for https", c.Endpoint)
	}
	return nil
}

// tracing keeps traces. A nil *tracing keeps none, and costs nothing.
type tracing struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// openTracing opens what keeps traces, if any are to be kept. It does not wait for the
// receiver.
func (p *parts) openTracing() error {
	c := p.cfg.Tracing
	if c.Endpoint == "" {
		return nil
	}
	exporter, err := c.exporter()
	if err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_tracing_spans_lost_total", Help: "Spans that the OTLP receiver did not take.",
	})
	if err := p.registry.Register(lost); err != nil {
		return err
	}
	host, _ := os.Hostname() // "" is as good as none
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&forgivingExporter{next: exporter, lost: lost, logger: p.logger}, sdktrace.WithMaxQueueSize(maxSpans), sdktrace.WithExportTimeout(exportWithin)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "gatehouse"), attribute.String("service.version", buildVersion()),
			attribute.String("host.name", host), attribute.String("gatehouse.role", p.cfg.Role.label()),
		)),
	)
	p.tracing = &tracing{provider: provider, tracer: provider.Tracer(tracerName), propagator: propagation.TraceContext{}}
	p.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), lastExportWithin)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			p.logger.Debug("the last spans were not handed over", "error", err)
		}
		return nil
	})
	p.logger.Info("traces are handed over", "endpoint", c.Endpoint, "protocol", c.Protocol, "ratio", c.Ratio)
	return nil
}

// exporter returns what hands spans to the receiver.
func (c TracingConfig) exporter() (sdktrace.SpanExporter, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	headers := headersFile{path: c.HeadersFile, secure: u.Scheme == "https"}
	if _, err := headers.read(); err != nil {
		return nil, err
	}
	ctx := context.Background() // it connects when there is something to hand over
	if c.Protocol == httpProtocol {
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment}
		return otlptrace.New(ctx, otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(exportWithin),
			otlptracehttp.WithHTTPClient(&http.Client{Transport: headerTransport{headers, transport}, Timeout: exportWithin})))
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithTimeout(exportWithin)}
	if u.Scheme == "http" {
		options = append(options, otlptracegrpc.WithInsecure())
	} else {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(config)))
	}
	if c.HeadersFile != "" {
		options = append(options, otlptracegrpc.WithDialOption(grpc.WithPerRPCCredentials(headers)))
	}
	return otlptrace.New(ctx, otlptracegrpc.NewClient(options...))
}

func (c TracingConfig) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		var err error
		if config.RootCAs, err = readRoots(c.CAFile); err != nil {
			return nil, err
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// A headersFile has headers to be sent along, which may be replaced at any time.
type headersFile struct {
	path   string
	secure bool
}

func (f headersFile) read() (map[string]string, error) {
	if f.path == "" {
		return nil, nil
	}
	text, err := bounded.ReadFile(f.path, maxHeadersFile)
	if err != nil {
		return nil, fmt.Errorf("reading the headers of traces: %w", err)
	}
	headers := make(map[string]string)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !found || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("reading the headers of traces: %s:%d: want NAME: VALUE", f.path, n) // which is not shown: it may be a secret
		}
		headers[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return headers, nil
}

// GetRequestMetadata is of [credentials.PerRPCCredentials].
func (f headersFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return f.read()
}

// RequireTransportSecurity is of [credentials.PerRPCCredentials].
func (f headersFile) RequireTransportSecurity() bool { return f.secure }

type headerTransport struct {
	headers headersFile
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t headerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	headers, err := t.headers.read()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	for name, value := range headers {
		r.Header.Set(textproto.CanonicalMIMEHeaderKey(name), value)
	}
	return t.next.RoundTrip(r)
}

// A forgivingExporter loses spans that nobody takes, counts them, and says so once.
type forgivingExporter struct {
	next   sdktrace.SpanExporter
	lost   prometheus.Counter
	logger *slog.Logger
	said   atomic.Bool
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *forgivingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.next.ExportSpans(ctx, spans)
	if err != nil {
		e.lost.Add(float64(len(spans)))
		if !e.said.Swap(true) {
			e.logger.WarnContext(ctx, "spans are lost until the OTLP receiver takes them again", "error", err)
		}
		return nil
	}
	e.said.Store(false)
	return nil
}

// Shutdown implements [sdktrace.SpanExporter].
func (e *forgivingExporter) Shutdown(ctx context.Context) error { return e.next.Shutdown(ctx) }

// handler has what a listener is asked in traces, but for streams, which last for hours.
func (t *tracing) handler(name string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return otelhttp.NewHandler(next, name,
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.propagator), otelhttp.WithMeterProvider(meternoop.NewMeterProvider()),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.URL.Path != feed.WatchMethod }),
		otelhttp.WithSpanNameFormatter(func(name string, r *http.Request) string {
			if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				return strings.TrimPrefix(r.URL.Path, "/")
			}
			return r.Method + " " + name
		}))
}

// dialOptions has calls of a gRPC connection in traces.
func (t *tracing) dialOptions() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.propagator), otelgrpc.WithMeterProvider(meternoop.NewMeterProvider()),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return info.FullMethodName != feed.WatchMethod }),
	))}
}

// transport has requests in traces: what is asked of whom, and not the query, in which
// storage services are handed signatures.
func (t *tracing) transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return &tracedTransport{t, next}
}

type tracedTransport struct {
	*tracing
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.tracer.Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname()),
			attribute.String("url.scheme", r.URL.Scheme), attribute.String("url.path", r.URL.Path))
		if port, err := strconv.Atoi(r.URL.Port()); err == nil {
			span.SetAttributes(attribute.Int("server.port", port))
		}
	}
	r = r.Clone(ctx)
	t.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	answer, err := t.next.RoundTrip(r)
	switch {
	case err != nil:
		span.SetStatus(codes.Error, "no answer")
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", answer.StatusCode))
		if answer.StatusCode >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	}
	return answer, err
}

// record adds a call of the metadata API to the trace that it is part of.
func (t *tracing) record(ctx context.Context, r metadata.CallRecord, code string) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	_, span := t.tracer.Start(ctx, "gatehouse.metadata/"+r.Method, trace.WithTimestamp(r.Time), trace.WithAttributes(
		attribute.String("gatehouse.metadata.resource", r.Resource), attribute.String("gatehouse.metadata.code", code),
	))
	if r.Err != nil {
		span.SetStatus(codes.Error, code)
	}
	span.End(trace.WithTimestamp(r.Time.Add(r.Took)))
}

// metadata has what is asked of a metadata server in traces.
func (t *tracing) metadata(next metadataClient) metadataClient {
	if t == nil {
		return next
	}
	return &tracedMetadata{t, next}
}

type tracedMetadata struct {
	*tracing
	next metadataClient
}

// call begins a call, and returns what ends it.
func (t *tracedMetadata) call(ctx context.Context, method string) (context.Context, func(*error)) {
	ctx, span := t.tracer.Start(ctx, "grafeas.v1.Grafeas/"+method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", "grafeas.v1.Grafeas"), attribute.String("rpc.method", method),
	))
	carrier := propagation.MapCarrier{}
	t.propagator.Inject(ctx, carrier)
	for name, value := range carrier {
		ctx = grpcmetadata.AppendToOutgoingContext(ctx, name, value)
	}
	return ctx, func(err *error) {
		if *err != nil {
			span.SetStatus(codes.Error, metadata.KindOf(*err).String())
		}
		span.End()
	}
}

// GetNote and the others are of a client of Grafeas.
func (t *tracedMetadata) GetNote(ctx context.Context, req *grafeas.GetNoteRequest, opts ...grpc.CallOption) (n *grafeas.Note, err error) {
	ctx, end := t.call(ctx, "GetNote")
	defer end(&err)
	return t.next.GetNote(ctx, req, opts...)
}

// CreateNote is of a client of Grafeas.
func (t *tracedMetadata) CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, opts ...grpc.CallOption) (n *grafeas.Note, err error) {
	ctx, end := t.call(ctx, "CreateNote")
	defer end(&err)
	return t.next.CreateNote(ctx, req, opts...)
}

// CreateOccurrence is of a client of Grafeas.
func (t *tracedMetadata) CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, opts ...grpc.CallOption) (o *grafeas.Occurrence, err error) {
	ctx, end := t.call(ctx, "CreateOccurrence")
	defer end(&err)
	return t.next.CreateOccurrence(ctx, req, opts...)
}

// ListOccurrences is of a client of Grafeas.
func (t *tracedMetadata) ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, opts ...grpc.CallOption) (l *grafeas.ListOccurrencesResponse, err error) {
	ctx, end := t.call(ctx, "ListOccurrences")
	defer end(&err)
	return t.next.ListOccurrences(ctx, req, opts...)
}

// ListNoteOccurrences is of a client of Grafeas.
func (t *tracedMetadata) ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, opts ...grpc.CallOption) (l *grafeas.ListNoteOccurrencesResponse, err error) {
	ctx, end := t.call(ctx, "ListNoteOccurrences")
	defer end(&err)
	return t.next.ListNoteOccurrences(ctx, req, opts...)
}
