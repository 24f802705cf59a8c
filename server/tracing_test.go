package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
)

// receiver is an OTLP receiver, over gRPC and over HTTP.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	http, grpc string // endpoints

	mu      sync.Mutex
	spans   []*tracepb.Span
	headers []string // what came as x-token
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(r.post))
	t.Cleanup(server.Close)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	collector.RegisterTraceServiceServer(rpc, r)
	go func() { _ = rpc.Serve(l) }()
	t.Cleanup(rpc.Stop)
	r.http, r.grpc = server.URL, "http://"+l.Addr().String()
	return r
}

func (r *receiver) post(w http.ResponseWriter, req *http.Request) {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	var in collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(text, &in)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(req.URL.Path, err), http.StatusBadRequest)
		return
	}
	r.take(&in, req.Header.Get("X-Token"))
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Export is of the OTLP service.
func (r *receiver) Export(ctx context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.take(in, strings.Join(md.Get("x-token"), ","))
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) take(in *collector.ExportTraceServiceRequest, token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, token)
	for _, resource := range in.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
}

// trace returns the spans of a trace, each as its path from the first, with the attributes
// of each.
func (r *receiver) trace(id string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	byID := make(map[string]*tracepb.Span)
	for _, s := range r.spans {
		if fmt.Sprintf("%x", s.GetTraceId()) == id {
			byID[string(s.GetSpanId())] = s
		}
	}
	paths := make(map[string]string)
	for _, s := range byID {
		path := s.GetName()
		for up := byID[string(s.GetParentSpanId())]; up != nil; up = byID[string(up.GetParentSpanId())] {
			path = up.GetName() + " > " + path
		}
		attributes := make([]string, 0, len(s.GetAttributes()))
		for _, a := range s.GetAttributes() {
			attributes = append(attributes, a.GetKey()+"="+strings.Trim(strings.TrimPrefix(a.GetValue().String(), "string_value:"), `"`))
		}
		paths[path] += strings.Join(attributes, " ")
	}
	return paths
}

// others counts the spans of other traces.
func (r *receiver) others() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.spans {
		if fmt.Sprintf("%x", s.GetTraceId()) != traceID {
			n++
		}
	}
	return n
}

const traceID = "0af7651916cd43dd8448eb211c80319c"

// traced posts as a caller that is traced itself.
func traced(t *testing.T, client *http.Client, to, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s %v", resp.Status, text, err)
	}
}

func expectSpans(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	for _, w := range want {
		path, attribute, _ := strings.Cut(w, " | ")
		if said, ok := got[path]; !ok || !strings.Contains(said, attribute) {
			t.Errorf("no span %s with %q; there are:", path, attribute)
			for p, a := range got {
				t.Logf("%s | %s", p, a)
			}
			return
		}
	}
}

func TestATraceLeadsFromTheReviewToTheDecision(t *testing.T) {
	t.Parallel()
	rx := newReceiver(t)
	token := write(t, filepath.Join(t.TempDir(), "headers"), "X-Token: let-me-in\n")
	r := start(t, testConfig(t, func(c *Config) {
		c.Tracing = TracingConfig{Endpoint: rx.grpc, Protocol: grpcProtocol, HeadersFile: token}
	}))
	r.api().expect("", "PUT", policyAt, requiring(r.storeAttestor("nobody")), 200)
	pod := string(review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review())
	within(t, "the policy is in force", func() bool { ok, _ := r.ask([]byte(pod)); return !ok }) // no share of which is traced
	traced(t, r.gate, "https://"+r.Admission+"/validate?timeout=5s", pod)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Ops+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Contains(text, []byte(`# {trace_id="`+traceID+`"}`)) {
		t.Errorf("the histogram does not lead to the trace: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	got := rx.trace(traceID)
	expectSpans(t, got,
		"POST admission | gatehouse.verdict=DENY", "POST admission | gatehouse.reason_class=not_attested", "POST admission | k8s.namespace.name=shop", "POST admission | http.response.status_code=int_value:200",
		"POST admission > gatehouse.evidence.collect", "POST admission > gatehouse.decide", "POST admission > gatehouse.audit")
	if n := rx.others(); n != 0 {
		t.Errorf("%d spans of callers who are not traced", n)
	}
	if !slices.Contains(rx.headers, "let-me-in") {
		t.Errorf("headers %q", rx.headers)
	}
}

// listening returns a proxy to a registry, and what headers name callers came with.
func listening(t *testing.T, ref image.Reference) (through image.Reference, traceparents func() []string) {
	t.Helper()
	to, err := url.Parse("http://" + ref.Registry())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Get("Traceparent"))
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return mustRef(t, strings.Replace(ref.String(), ref.Registry(), strings.TrimPrefix(server.URL, "http://"), 1)), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func TestATraceLeadsFromTheCheckToTheRegistry(t *testing.T) {
	t.Parallel()
	rx := newReceiver(t)
	r := start(t, testConfig(t, func(c *Config) { c.Tracing = TracingConfig{Endpoint: rx.http, Protocol: httpProtocol, Ratio: 0} }))
	good, seen := listening(t, push(t, "65532"))
	traced(t, http.DefaultClient, "http://"+r.Attestor+"/nobody", fmt.Sprintf(`{"image_url":%q}`, good))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	got := rx.trace(traceID)
	expectSpans(t, got,
		"POST attestor > gatehouse.check | gatehouse.check.verdict=PASS", "POST attestor > gatehouse.check | oci.manifest.digest="+good.Digest().String(),
		"POST attestor > gatehouse.attest > gatehouse.metadata/CreateOccurrence | gatehouse.metadata.code=OK")
	asked := got["POST attestor > gatehouse.targets > GET"]
	if !strings.Contains(asked, "url.path=/v2/shop/web/") || !strings.Contains(asked, "http.response.status_code=int_value:200") || !slices.ContainsFunc(seen(), func(s string) bool { return strings.HasPrefix(s, "00-"+traceID+"-") }) {
		t.Errorf("no span of a request to the registry, or it was not told: %v", seen())
	}
}

func TestATraceGoesOnInTheMetadataServer(t *testing.T) {
	t.Parallel()
	rx := newReceiver(t)
	tracing := TracingConfig{Endpoint: rx.grpc, Protocol: grpcProtocol}
	server := start(t, testConfig(t, func(c *Config) { c.Project, c.Tracing = "binauth", tracing }))
	good := push(t, "65532")
	cfg := testConfig(t, func(c *Config) {
		c.Role, c.Tracing = AttestorRole, tracing
		c.Attestor.ConfigFile = write(t, filepath.Join(t.TempDir(), "voucher.toml"), fmt.Sprintf(
			"binauth_project = \"binauth\"\nscanner = \"metadata\"\nfailon = \"high\"\n[checks]\nsnakeoil = true\n[server]\nport = 8000\ntimeout = 2\n[gatehouse.metadata]\nserver = \"http://%s\"\n", server.Metadata))
	})
	started, ended := make(chan Addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- Run(ctx, cfg, discard(), func(a Addresses) error { started <- a; return nil }) }()
	select {
	case a := <-started:
		traced(t, http.DefaultClient, "http://"+a.Attestor+"/snakeoil", fmt.Sprintf(`{"image_url":%q}`, good))
	case err := <-ended:
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := server.stop(); err != nil {
		t.Fatal(err)
	}
	expectSpans(t, rx.trace(traceID),
		"POST attestor > gatehouse.check > grafeas.v1.Grafeas/ListOccurrences > grafeas.v1.Grafeas/ListOccurrences > gatehouse.metadata/ListOccurrences | gatehouse.metadata.code=OK")
}

func TestWithoutTracingNothingIsTraced(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	good, seen := listening(t, push(t, "65532"))
	traced(t, http.DefaultClient, "http://"+r.Attestor+"/nobody", fmt.Sprintf(`{"image_url":%q}`, good))
	if list := seen(); len(list) == 0 || slices.ContainsFunc(list, func(s string) bool { return s != "" }) {
		t.Errorf("the registry was told of a trace: %q", list)
	}
	if h := http.NotFoundHandler(); fmt.Sprint((*tracing)(nil).handler("x", h)) != fmt.Sprint(h) || (*tracing)(nil).transport(nil) != nil || len((*tracing)(nil).dialOptions()) != 0 {
		t.Error("something stands in the way of requests")
	}
}

// A receiver that is away costs the traces, and nothing else.
func TestAReceiverThatIsAwayCostsOnlyTraces(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{grpcProtocol, httpProtocol} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := start(t, testConfig(t, func(c *Config) {
				c.Tracing = TracingConfig{Endpoint: "http://127.0.0.1:1", Protocol: protocol, Ratio: 1}
			}))
			begun := time.Now()
			for range 50 {
				r.ask(review.Pod("shop", "web").Image("main", "reg.test/app:1").Review())
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("50 reviews took %v", took)
			}
			begun = time.Now()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > lastExportWithin+5*time.Second {
				t.Errorf("stopping took %v", took)
			}
		})
	}
}

type brokenExporter struct{ sdktrace.SpanExporter }

func (brokenExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return fmt.Errorf("away")
}

func TestLostSpansAreCounted(t *testing.T) {
	t.Parallel()
	e := &forgivingExporter{next: brokenExporter{}, lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "lost"}), logger: discard()}
	if err := e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 3)); err != nil || testutil.ToFloat64(e.lost) != 3 {
		t.Errorf("%v, %v lost", err, testutil.ToFloat64(e.lost))
	}
}

func TestTheTracingConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		config TracingConfig
		want   string // "": it is fine
	}{
		"off":                     {TracingConfig{Protocol: grpcProtocol, Ratio: 0.05}, ""},
		"on":                      {TracingConfig{Endpoint: "https://otel:4317", Protocol: grpcProtocol, Ratio: 1}, ""},
		"a path over HTTP":        {TracingConfig{Endpoint: "https://otel/x/v1/traces", Protocol: httpProtocol}, ""},
		"settings for nothing":    {TracingConfig{CAFile: "ca.pem"}, "no endpoint"},
		"no scheme":               {TracingConfig{Endpoint: "otel:4317", Protocol: grpcProtocol}, "want https://HOST:PORT"},
		"a password":              {TracingConfig{Endpoint: "https://a:b@otel:4317", Protocol: grpcProtocol}, "want https://HOST:PORT"},
		"another protocol":        {TracingConfig{Endpoint: "https://otel:4317", Protocol: "json"}, "want grpc or http"},
		"a path over gRPC":        {TracingConfig{Endpoint: "https://otel:4317/v1", Protocol: grpcProtocol}, "has no path"},
		"more than all":           {TracingConfig{Endpoint: "https://otel:4317", Protocol: grpcProtocol, Ratio: 2}, "from 0 to 1"},
		"half a certificate":      {TracingConfig{Endpoint: "https://otel:4317", Protocol: grpcProtocol, CertFile: "c"}, "both or neither"},
		"headers in the clear":    {TracingConfig{Endpoint: "http://otel:4317", Protocol: grpcProtocol, HeadersFile: "h"}, "in the clear"},
		"certificates in no TLS":  {TracingConfig{Endpoint: "http://otel:4317", Protocol: grpcProtocol, CAFile: "c"}, "for https"},
		"headers on this machine": {TracingConfig{Endpoint: "http://127.0.0.1:4317", Protocol: grpcProtocol, HeadersFile: "h"}, ""},
	} {
		err := row.config.validate()
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
}

func TestHeadersAreReadAndNotShown(t *testing.T) {
	t.Parallel()
	f := headersFile{path: write(t, filepath.Join(t.TempDir(), "h"), "Authorization: Bearer s3cret\n\nX-Scope-OrgID:1\n")}
	if got, err := f.read(); err != nil || got["authorization"] != "Bearer s3cret" || got["x-scope-orgid"] != "1" || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	write(t, f.path, "Bearer s3cret\n")
	if _, err := f.read(); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "h:1:") {
		t.Errorf("%v", err)
	}
}
