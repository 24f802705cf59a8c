package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"

	// logsPath is where a collector takes logs over HTTP.
	logsPath = "/v1/logs"
	// maxAnswer bounds what is read of an answer, and maxExcerpt what is shown of it.
	maxAnswer  = 64 << 10
	maxExcerpt = 200
)

// OTLP is a collector of OpenTelemetry logs.
type OTLP struct {
	// Endpoint is https://HOST:PORT, or http:// without TLS, which needs InsecureHTTP off
	// loopback. Over HTTP the path is /v1/logs, unless Endpoint has one.
	Endpoint string `yaml:"endpoint"`
	// Protocol is "grpc" (default) or "http/protobuf".
	Protocol string `yaml:"protocol"`
	TLS      `yaml:",inline"`
	// HeadersFile has lines NAME: VALUE that go along, such as one with a token. It is read
	// for each request.
	HeadersFile  string `yaml:"headersFile"`
	InsecureHTTP bool   `yaml:"insecureHTTP"`
	// Format of the body of a log record.
	Format Format `yaml:"format"`
}

func (c *OTLP) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		bad("endpoint: want https://HOST:PORT") // the text may have a secret
	case u.User != nil:
		bad("endpoint: a password does not belong there; give headersFile")
	case u.Scheme == "http" && !c.InsecureHTTP && !onLoopback(u.Hostname()):
		bad("endpoint: http:// off loopback needs insecureHTTP: true, and whoever is on the way reads along")
	case u.Scheme == "http" && c.TLS != (TLS{}):
		bad("endpoint: http:// has no TLS: leave caFile, certFile and keyFile out")
	case c.Protocol == protocolHTTP:
	case c.Protocol != "" && c.Protocol != protocolGRPC:
		bad("protocol %q: want %q or %q", c.Protocol, protocolGRPC, protocolHTTP)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		bad("endpoint: gRPC has no path; want https://HOST:PORT")
	}
	return errors.Join(append(errs, c.TLS.validate())...)
}

func (c *OTLP) format() Format { return c.Format }

func (c *OTLP) open(o Options) (deliver.Sink, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	if _, err := readHeaders(c.HeadersFile); err != nil {
		return nil, err
	}
	s := &otlpSink{format: c.Format, place: o.Place, now: o.Now, headersFile: c.HeadersFile}
	if c.Protocol == protocolHTTP {
		if u.Path == "" || u.Path == "/" {
			u.Path = logsPath
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = config
		s.export = &httpExport{url: u.String(), client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the records are for nobody else
		}}
		return s, nil
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	secured := insecure.NewCredentials()
	if u.Scheme == "https" {
		secured = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("dns:///"+strings.TrimSuffix(u.Host, ":"+u.Port())+":"+port, grpc.WithTransportCredentials(secured), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	s.export = &grpcExport{conn, collectorpb.NewLogsServiceClient(conn)}
	return s, nil
}

// readHeaders reads lines NAME: VALUE.
func readHeaders(path string) (http.Header, error) {
	headers := http.Header{}
	if path == "" {
		return headers, nil
	}
	text, err := bounded.ReadFile(path, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("reading headersFile: %w", err)
	}
	for n, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || !isToken(name) {
			return nil, fmt.Errorf("reading headersFile: line %d: want NAME: VALUE", n+1)
		}
		headers.Add(name, strings.TrimSpace(value))
	}
	return headers, nil
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// An exporter makes one call to a collector. Its errors are those of a sink.
type exporter interface {
	export(ctx context.Context, headers http.Header, request *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error)
	close() error
}

// An otlpSink sends records to a collector, and knows what came of them before it returns:
// a batching exporter of OpenTelemetry's SDK would not tell, and drop what it has no room
// for.
type otlpSink struct {
	export      exporter
	format      Format
	place       Place
	now         func() time.Time
	headersFile string
}

// Send is of [deliver.Sink].
func (s *otlpSink) Send(ctx context.Context, entries []deliver.Entry) error {
	headers, err := readHeaders(s.headersFile)
	if err != nil {
		return err
	}
	request, err := logsRequest(entries, s.format, s.place, s.now())
	if err != nil {
		return &deliver.RefusedError{Err: err}
	}
	response, err := s.export.export(ctx, headers, request)
	if err != nil {
		return err
	}
	if partly := response.GetPartialSuccess(); partly.GetRejectedLogRecords() > 0 { // and they must not be sent again
		return &deliver.LostError{Records: partly.GetRejectedLogRecords(), Err: fmt.Errorf("the collector rejects records: %s", excerpt([]byte(partly.GetErrorMessage())))}
	}
	return nil
}

// Close closes the connection.
func (s *otlpSink) Close() error { return s.export.close() }

type grpcExport struct {
	conn   *grpc.ClientConn
	client collectorpb.LogsServiceClient
}

func (g *grpcExport) export(ctx context.Context, headers http.Header, request *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error) {
	md := metadata.MD{}
	for name, values := range headers {
		md.Append(name, values...)
	}
	response, err := g.client.Export(metadata.NewOutgoingContext(ctx, md), request)
	if err == nil {
		return response, nil
	}
	s := status.Convert(err)
	var after time.Duration
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			after = info.GetRetryDelay().AsDuration()
		}
	}
	switch code := s.Code(); {
	case after > 0:
		return nil, &deliver.BusyError{Err: err, After: after}
	case code == codes.InvalidArgument || code == codes.ResourceExhausted: // without RetryInfo the latter will not pass, as when it is too large
		return nil, &deliver.RefusedError{Err: err}
	}
	return nil, err
}

func (g *grpcExport) close() error { return g.conn.Close() }

type httpExport struct {
	url    string
	client *http.Client
}

func (h *httpExport) export(ctx context.Context, headers http.Header, request *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error) {
	body, err := proto.Marshal(request)
	if err != nil {
		return nil, &deliver.RefusedError{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = headers
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "gatehouse")
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the collector's answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		response := new(collectorpb.ExportLogsServiceResponse)
		if err := proto.Unmarshal(text, response); err != nil {
			return nil, fmt.Errorf("reading the collector's answer: %w", err)
		}
		return response, nil
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return nil, &deliver.RefusedError{Err: answered(resp.StatusCode, text)}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			return nil, &deliver.BusyError{Err: answered(resp.StatusCode, text), After: time.Duration(min(seconds, 3600)) * time.Second}
		}
	}
	return nil, answered(resp.StatusCode, text)
}

func (h *httpExport) close() error {
	h.client.CloseIdleConnections()
	return nil
}

func answered(code int, text []byte) error {
	return fmt.Errorf("the collector answers %d %s: %s", code, http.StatusText(code), excerpt(text))
}

func excerpt(text []byte) string {
	return strconv.QuoteToASCII(string(text[:min(len(text), maxExcerpt)]))
}
