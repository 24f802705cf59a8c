package sink_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// A trouble is how a collector answers, in place of taking what it gets.
type trouble int

const (
	none trouble = iota
	rejecting
	refusing
	tooLarge
	busy
	away
	forbidding
)

// collector takes OTLP logs over both transports, with TLS.
type collector struct {
	collectorpb.UnimplementedLogsServiceServer
	mu      sync.Mutex
	got     []*collectorpb.ExportLogsServiceRequest
	token   string
	trouble trouble

	caFile string
	urls   map[string]string // by protocol
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{urls: map[string]string{}}
	web := httptest.NewTLSServer(c)
	t.Cleanup(web.Close)
	c.urls["http/protobuf"] = web.URL
	c.caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})))
	collectorpb.RegisterLogsServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	c.urls["grpc"] = "https://" + listener.Addr().String()
	return c
}

func (c *collector) set(to trouble) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = to
}

func (c *collector) take(request *collectorpb.ExportLogsServiceRequest, token string) (trouble, *collectorpb.ExportLogsServiceResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	response := &collectorpb.ExportLogsServiceResponse{}
	if c.trouble == none || c.trouble == rejecting {
		c.got, c.token = append(c.got, request), token
	}
	if c.trouble == rejecting {
		response.PartialSuccess = &collectorpb.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "one is bad"}
	}
	return c.trouble, response
}

// Export is of gRPC.
func (c *collector) Export(ctx context.Context, request *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	t, response := c.take(request, strings.Join(md.Get("x-token"), ","))
	switch t {
	case refusing:
		return nil, status.Error(codes.InvalidArgument, "bad")
	case tooLarge:
		return nil, status.Error(codes.ResourceExhausted, "too large")
	case busy:
		s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
		if err != nil {
			return nil, err
		}
		return nil, s.Err()
	case away:
		return nil, status.Error(codes.Unavailable, "away")
	case forbidding:
		return nil, status.Error(codes.PermissionDenied, "no")
	}
	return response, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := new(collectorpb.ExportLogsServiceRequest)
	if err != nil || r.URL.Path != "/v1/logs" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, request) != nil {
		http.Error(w, "this is no OTLP", http.StatusNotFound)
		return
	}
	t, response := c.take(request, r.Header.Get("X-Token"))
	switch t {
	case refusing:
		w.WriteHeader(http.StatusBadRequest)
		return
	case tooLarge:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	case busy:
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case away:
		w.WriteHeader(http.StatusBadGateway)
		return
	case forbidding:
		w.WriteHeader(http.StatusForbidden)
		return
	}
	text, err := proto.Marshal(response)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(text)
}

func (c *collector) records() []*logspb.LogRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*logspb.LogRecord
	for _, request := range c.got {
		for _, r := range request.GetResourceLogs() {
			for _, s := range r.GetScopeLogs() {
				all = append(all, s.GetLogRecords()...)
			}
		}
	}
	return all
}

func attributesOf(r *logspb.LogRecord) map[string]string {
	m := map[string]string{}
	for _, a := range r.GetAttributes() {
		switch v := a.GetValue(); {
		case v.GetArrayValue() != nil:
			for _, one := range v.GetArrayValue().GetValues() {
				m[a.GetKey()] += one.GetStringValue() + ";"
			}
		case a.GetKey() == "gatehouse.allowed" || a.GetKey() == "gatehouse.break_glass" || a.GetKey() == "gatehouse.success":
			m[a.GetKey()] = map[bool]string{true: "true", false: "false"}[v.GetBoolValue()]
		default:
			m[a.GetKey()] = v.GetStringValue()
		}
	}
	return m
}

// eachTransport runs a test over gRPC and over HTTP.
func eachTransport(t *testing.T, test func(t *testing.T, c *collector, config *sink.OTLP)) {
	t.Helper()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(strings.ReplaceAll(protocol, "/", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			test(t, c, &sink.OTLP{Endpoint: c.urls[protocol], Protocol: protocol, TLS: sink.TLS{CAFile: c.caFile}})
		})
	}
}

func TestACollectorGetsRecordsWithTheirAttributes(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, c *collector, config *sink.OTLP) {
		config.HeadersFile = filepath.Join(t.TempDir(), "headers")
		if err := os.WriteFile(config.HeadersFile, []byte("X-Token: secret\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		e := decision(t, "1", "web", decide.BreakGlass)
		send(t, open(t, sink.Config{OTLP: config}, options(nil)), e)
		records := c.records()
		if len(records) != 1 || c.token != "secret" {
			t.Fatalf("%d records, token %q", len(records), c.token)
		}
		r := records[0]
		if r.GetEventName() != "gatehouse.audit.decision" || r.GetSeverityNumber() != logspb.SeverityNumber_SEVERITY_NUMBER_ERROR3 || r.GetSeverityText() != "ALERT" ||
			r.GetTimeUnixNano() != uint64(when.UnixNano()) || r.GetBody().GetStringValue() != `{"log":"decisions",`+string(e.Line[1:]) {
			t.Errorf("record %v", r)
		}
		if diff := cmp.Diff(map[string]string{
			"log.record.uid": "1", "k8s.cluster.name": "us-east1-b.prod", "k8s.namespace.name": "shop", "k8s.pod.name": "web", "user.name": "alice",
			"gatehouse.event": "admission", "gatehouse.resource": "pods", "gatehouse.name": "web", "gatehouse.operation": "CREATE",
			"gatehouse.allowed": "true", "gatehouse.verdict": "DENY", "gatehouse.override": "BREAK_GLASS", "gatehouse.break_glass": "true",
			"gatehouse.policy": "shop", "gatehouse.policy_version": "abc", "gatehouse.rule": "default", "gatehouse.images": "registry.example/web:1;",
			"gatehouse.text": "DENY overridden by BREAK_GLASS: CREATE pods shop/web by alice: not attested",
		}, attributesOf(r)); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
		resource := attributesOf(&logspb.LogRecord{Attributes: c.got[0].GetResourceLogs()[0].GetResource().GetAttributes()})
		if resource["service.name"] != "gatehouse" || resource["host.name"] != "gate-1.example" {
			t.Errorf("resource %v", resource)
		}
	})
}

func TestAnswersOfACollectorAreUnderstood(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, c *collector, config *sink.OTLP) {
		s := open(t, sink.Config{OTLP: config}, options(nil))
		refused, lost, wait := new(deliver.RefusedError), new(deliver.LostError), new(deliver.BusyError)
		for what, want := range map[trouble]func(err error) bool{
			rejecting:  func(err error) bool { return errors.As(err, &lost) && lost.Records == 1 },
			refusing:   func(err error) bool { return errors.As(err, &refused) },
			tooLarge:   func(err error) bool { return errors.As(err, &refused) },
			busy:       func(err error) bool { return errors.As(err, &wait) && wait.After == 7*time.Second },
			away:       func(err error) bool { return err != nil && !errors.As(err, &refused) && !errors.As(err, &lost) },
			forbidding: func(err error) bool { return err != nil && !errors.As(err, &refused) && !errors.As(err, &lost) }, // its configuration is wrong, not the record
		} {
			c.set(what)
			if err := s.Send(t.Context(), nastyEntries(t)); !want(err) {
				t.Errorf("trouble %d: error %T %v", what, err, err)
			}
		}
		c.set(none)
		send(t, s, decision(t, "1", "web", ""))
	})
}

func TestAStrangerIsNotBelieved(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, c *collector, config *sink.OTLP) {
		config.CAFile = "" // the system's
		if err := open(t, sink.Config{OTLP: config}, options(nil)).Send(t.Context(), nastyEntries(t)); err == nil || len(c.records()) != 0 {
			t.Errorf("error %v, %d records", err, len(c.records()))
		}
	})
}

func TestNastyNamesAreOneRecordEach(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, c *collector, config *sink.OTLP) {
		send(t, open(t, sink.Config{OTLP: config}, options(nil)), nastyEntries(t)...)
		records := c.records()
		if len(records) != 3 {
			t.Fatalf("%d records", len(records))
		}
		for _, r := range records {
			if body := r.GetBody().GetStringValue(); strings.ContainsAny(body, "\n\r\x1b\u202e") {
				t.Errorf("body %q", body)
			}
		}
	})
}

func TestHeadersThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&sink.Config{Name: "it", OTLP: &sink.OTLP{Endpoint: "https://127.0.0.1:1", HeadersFile: path}}).Open(options(nil))
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("error %v", err)
	}
}
