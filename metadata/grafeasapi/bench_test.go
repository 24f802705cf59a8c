package grafeasapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

// The benchmarks run the server in a process of its own, so that what it uses can
// be told from what the client uses. The test binary is that process when this
// variable names a folder for its store.
const benchVariable = "GATEHOUSE_BENCHMARK_METADATA"

func TestMain(m *testing.M) {
	if dir := os.Getenv(benchVariable); dir != "" {
		if err := benchServer(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(postgres.Main(m))
}

// usage is what a process has used so far.
type usage struct {
	CPU  time.Duration
	Peak int64 // most memory at once, bytes
}

func usageNow() usage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return usage{}
	}
	return usage{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Peak: u.Maxrss << 10}
}

func benchServer(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, err := sqlite.Open(ctx, filepath.Join(dir, "metadata.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	svc, err := metadata.NewService(ctx, store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		return err
	}
	handler, end := grafeasapi.NewHandler(svc, grafeasapi.Options{})
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/usage", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(usageNow()) })
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	<-ctx.Done()
	err = srv.Close()
	end()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return errors.Join(err, store.Close())
}

// A benchSystem is a server process and clients of it.
type benchSystem struct {
	*testing.B
	addr string
	rpc  grafeas.GrafeasClient
}

func startBench(b *testing.B) *benchSystem {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second // then it is killed
	cmd.Env = append(os.Environ(), benchVariable+"="+b.TempDir())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Wait() }) // b.Context has ended
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr = strings.TrimSpace(addr)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	s := &benchSystem{B: b, addr: addr, rpc: grafeas.NewGrafeasClient(conn)}
	s.must(s.rpc.CreateNote(b.Context(), &grafeas.CreateNoteRequest{Parent: "projects/provider", NoteId: "attester", Note: &grafeas.Note{
		Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}},
	}}))
	return s
}

func (s *benchSystem) must(_ any, err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *benchSystem) usage() (u usage) {
	s.Helper()
	if err := json.Unmarshal(s.http("GET", "/usage", nil), &u); err != nil {
		s.Fatal(err)
	}
	return u
}

// http makes a request and returns the body of its answer, which must be 200.
func (s *benchSystem) http(method, path string, body []byte) []byte {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.addr+path, bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, raw)
	}
	return raw
}

func benchURI(i int) string { return fmt.Sprintf("https://gcr.io/project/app@sha256:%064x", i) }

// benchAttestation is about as large as a real one, 600 bytes.
func benchAttestation(image, n int) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: benchURI(image), NoteName: "projects/provider/notes/attester",
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: fmt.Appendf(nil, "%s %d %d", strings.Repeat("payload", 30), image, n),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte(strings.Repeat("s", 96))}},
		}},
	}
}

// fill stores ten attestations of each image, and returns their names.
func (s *benchSystem) fill(images int) (names []string) {
	s.Helper()
	const imagesAtOnce = 100
	for first := 0; first < images; first += imagesAtOnce {
		req := &grafeas.BatchCreateOccurrencesRequest{Parent: "projects/p"}
		for image := first; image < min(first+imagesAtOnce, images); image++ {
			for n := range 10 {
				req.Occurrences = append(req.Occurrences, benchAttestation(image, n))
			}
		}
		created, err := s.rpc.BatchCreateOccurrences(s.Context(), req)
		s.must(created, err)
		for _, o := range created.GetOccurrences() {
			names = append(names, o.GetName())
		}
	}
	return names
}

// BenchmarkRESTOverGRPC measures the CPU of the server's process for the same call
// by REST and by gRPC, in turns in the same run. It reports for each call
//
//	get-rest/grpc, list10-rest/grpc, create-rest/grpc   the ratio; 1 would be a free REST
func BenchmarkRESTOverGRPC(b *testing.B) {
	s := startBench(b)
	const images = 100
	names := s.fill(images)
	ctx := b.Context()
	made := images
	body := func() []byte {
		made++
		o := benchAttestation(made, 0)
		raw, err := json.Marshal(map[string]any{
			"resourceUri": o.GetResourceUri(), "noteName": o.GetNoteName(),
			"attestation": map[string]any{
				"serializedPayload": o.GetAttestation().GetSerializedPayload(),
				"signatures":        []any{map[string]any{"publicKeyId": "key", "signature": o.GetAttestation().GetSignatures()[0].GetSignature()}},
			},
		})
		s.must(nil, err)
		return raw
	}
	filter := func(i int) string { return fmt.Sprintf(`resourceUrl=%q AND kind="ATTESTATION"`, benchURI(i%images)) }
	calls := []struct {
		name      string
		each      int
		rpc, rest func(i int)
	}{
		{name: "get", each: 500,
			rpc: func(i int) {
				s.must(s.rpc.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: names[i%len(names)]}))
			},
			rest: func(i int) { s.http("GET", "/v1/"+names[i%len(names)], nil) }},
		{name: "list10", each: 200,
			rpc: func(i int) {
				s.must(s.rpc.ListOccurrences(ctx, &grafeas.ListOccurrencesRequest{Parent: "projects/p", Filter: filter(i)}))
			},
			rest: func(i int) { s.http("GET", "/v1/projects/p/occurrences?filter="+url.QueryEscape(filter(i)), nil) }},
		{name: "create", each: 200,
			rpc: func(int) {
				made++
				s.must(s.rpc.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: benchAttestation(made, 0)}))
			},
			rest: func(int) { s.http("POST", "/v1/projects/p/occurrences", body()) }},
	}
	for b.Loop() {
		for _, call := range calls {
			var rpc, rest time.Duration
			for round := range 6 {
				for way, spent := range map[bool]*time.Duration{true: &rpc, false: &rest} {
					before := s.usage().CPU
					for i := range call.each {
						if way {
							call.rpc(i)
						} else {
							call.rest(i)
						}
					}
					if round > 0 { // the first warms up
						*spent += s.usage().CPU - before
					}
				}
			}
			b.ReportMetric(float64(rest)/float64(rpc), call.name+"-rest/grpc")
			b.ReportMetric(float64(rpc.Microseconds())/float64(5*call.each), call.name+"-grpc-cpu-µs")
		}
	}
	b.ReportMetric(0, "ns/op") // the figures above are what counts
}

// BenchmarkWalk lets a client read 100,000 occurrences, a page of 1,000 at a time,
// over gRPC and over REST, and reports the most memory that the server's process
// has had, in MB, with what it had before.
func BenchmarkWalk(b *testing.B) {
	s := startBench(b)
	const images = 10_000
	s.fill(images)
	before := s.usage().Peak
	for b.Loop() {
		req := &grafeas.ListOccurrencesRequest{Parent: "projects/p", PageSize: 1000}
		seen := 0
		for {
			page, err := s.rpc.ListOccurrences(b.Context(), req)
			s.must(page, err)
			seen += len(page.GetOccurrences())
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		rpcPeak := s.usage().Peak
		for token := ""; ; {
			var page struct {
				Occurrences   []json.RawMessage
				NextPageToken string
			}
			if err := json.Unmarshal(s.http("GET", "/v1/projects/p/occurrences?pageSize=1000&pageToken="+token, nil), &page); err != nil {
				b.Fatal(err)
			}
			seen += len(page.Occurrences)
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if seen != 2*10*images {
			b.Fatalf("%d occurrences seen, want %d", seen, 2*10*images)
		}
		b.ReportMetric(float64(before)/1e6, "loaded-MB")
		b.ReportMetric(float64(rpcPeak)/1e6, "grpc-walk-MB")
		b.ReportMetric(float64(s.usage().Peak)/1e6, "rest-walk-MB")
	}
	b.ReportMetric(0, "ns/op") // the figures above are what counts
}
