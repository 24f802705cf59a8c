package grafeasapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// A system is a server on a real socket, and clients of it.
type system struct {
	t    testing.TB
	svc  *metadata.Service
	addr string
	rest *http.Client
	rpc  grafeas.GrafeasClient
	conn *grpc.ClientConn
}

func start(t testing.TB, auth metadata.Authorizer, opts grafeasapi.Options) *system {
	t.Helper()
	return startOn(t, memory.New(), auth, opts)
}

func startOn(t testing.TB, store metadata.Store, auth metadata.Authorizer, opts grafeasapi.Options) *system {
	t.Helper()
	if auth == nil {
		auth = metadata.InsecureAllowAll()
	}
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: auth})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, store, svc, opts)
}

func serve(t testing.TB, store metadata.Store, svc *metadata.Service, opts grafeasapi.Options) *system {
	t.Helper()
	handler, stop := grafeasapi.NewHandler(svc, opts)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: &protocols}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	addr := listener.Addr().String()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	rest := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		rest.CloseIdleConnections()
		if err := errors.Join(conn.Close(), srv.Close()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &system{t: t, svc: svc, addr: addr, rest: rest, conn: conn, rpc: grafeas.NewGrafeasClient(conn)}
}

// do sends a REST request and returns status, body and headers.
func (s *system) do(method, path, body string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.rest.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(raw), resp.Header
}

// expect sends a request and checks its status and parts of its body.
func (s *system) expect(method, path, body string, code int, contains ...string) string {
	s.t.Helper()
	got, text, _ := s.do(method, path, body)
	if got != code {
		s.t.Errorf("%s %s: status %d, want %d; body %s", method, path, got, code, text)
	}
	for _, want := range contains {
		if !strings.Contains(text, want) {
			s.t.Errorf("%s %s: the body lacks %s: %s", method, path, want, text)
		}
	}
	return text
}

func field(t testing.TB, body, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	text, _ := m[name].(string)
	return text
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{MaxRequestBytes: 8 << 20})
	ctx := t.Context()
	note, err := s.rpc.CreateNote(ctx, &grafeas.CreateNoteRequest{Parent: "projects/provider", NoteId: "n",
		Note: &grafeas.Note{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}})
	check(t, err, codes.OK)
	occurrence := func(size int) *grafeas.Occurrence {
		return &grafeas.Occurrence{ResourceUri: "r", NoteName: note.GetName(), Remediation: strings.Repeat("x", size),
			Details: &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}}}
	}
	o, err := s.rpc.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: occurrence(0)})
	check(t, err, codes.OK)
	got, err := s.rpc.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: o.GetName()})
	check(t, err, codes.OK)
	if got.GetKind() != grafeas.NoteKind_SECRET {
		t.Errorf("kind is %v", got.GetKind())
	}
	_, err = s.rpc.GetOccurrenceNote(ctx, &grafeas.GetOccurrenceNoteRequest{Name: o.GetName()})
	check(t, err, codes.OK)
	_, err = s.rpc.GetNote(ctx, &grafeas.GetNoteRequest{Name: "projects/provider/notes/missing"})
	check(t, err, codes.NotFound)
	_, err = s.rpc.CreateNote(ctx, &grafeas.CreateNoteRequest{Parent: "projects/provider", NoteId: "n", Note: note})
	check(t, err, codes.AlreadyExists)
	_, err = s.rpc.UpdateNote(ctx, &grafeas.UpdateNoteRequest{Name: note.GetName(), Note: note})
	check(t, err, codes.OK)
	_, err = s.rpc.UpdateOccurrence(ctx, &grafeas.UpdateOccurrenceRequest{Name: o.GetName(), Occurrence: o})
	check(t, err, codes.OK)
	_, err = s.rpc.BatchCreateNotes(ctx, &grafeas.BatchCreateNotesRequest{Parent: "projects/provider", Notes: map[string]*grafeas.Note{"m": note}})
	check(t, err, codes.OK)
	notes, err := s.rpc.ListNotes(ctx, &grafeas.ListNotesRequest{Parent: "projects/provider"})
	check(t, err, codes.OK)
	if len(notes.GetNotes()) != 2 {
		t.Errorf("%d notes, want 2", len(notes.GetNotes()))
	}
	_, err = s.rpc.ListOccurrences(ctx, &grafeas.ListOccurrencesRequest{Parent: "projects/p", Filter: `kind="SECRET" AND foo="x"`})
	check(t, err, codes.InvalidArgument)

	// Larger than gRPC's default, then too large.
	batch := &grafeas.BatchCreateOccurrencesRequest{Parent: "projects/p"}
	for range 3 {
		_, err = s.rpc.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: occurrence(2 << 20)})
		check(t, err, codes.OK)
		batch.Occurrences = append(batch.Occurrences, occurrence(2<<20))
	}
	_, err = s.rpc.BatchCreateOccurrences(ctx, batch)
	check(t, err, codes.InvalidArgument) // the answer could not be received
	batch.Occurrences = append(batch.Occurrences, occurrence(2<<20))
	_, err = s.rpc.BatchCreateOccurrences(ctx, batch)
	check(t, err, codes.ResourceExhausted)

	// A client with default limits can read all pages, however large.
	seen := 0
	req := &grafeas.ListNoteOccurrencesRequest{Name: note.GetName(), PageSize: 1000}
	for {
		page, err := s.rpc.ListNoteOccurrences(ctx, req)
		check(t, err, codes.OK)
		seen += len(page.GetOccurrences())
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if seen != 4 {
		t.Errorf("%d occurrences on all pages, want 4", seen)
	}
	_, err = s.rpc.DeleteNote(ctx, &grafeas.DeleteNoteRequest{Name: note.GetName()})
	check(t, err, codes.FailedPrecondition)
	_, err = s.rpc.DeleteOccurrence(ctx, &grafeas.DeleteOccurrenceRequest{Name: o.GetName()})
	check(t, err, codes.OK)
	_, err = s.rpc.DeleteNote(ctx, &grafeas.DeleteNoteRequest{Name: "projects/provider/notes/m"})
	check(t, err, codes.OK)
}

func check(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("got %v (%v), want %v", got, err, want)
	}
}

func TestHealthAndReflection(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	resp, err := grpc_health_v1.NewHealthClient(s.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: grafeasapi.ServiceName})
	check(t, err, codes.OK)
	if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %v", resp.GetStatus())
	}
	stream, err := grpc_reflection_v1.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	check(t, err, codes.OK)
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	check(t, err, codes.OK)
	answer, err := stream.Recv()
	check(t, err, codes.OK)
	if !strings.Contains(answer.String(), grafeasapi.ServiceName) {
		t.Errorf("reflection answers %v", answer)
	}
}

func TestOnePortSpeaksEverything(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`, 200)

	t.Run("REST over HTTP/2 in the clear", func(t *testing.T) {
		t.Parallel()
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+"/v1/projects/p/notes/n", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			t.Errorf("status %d over %s", resp.StatusCode, resp.Proto)
		}
	})
	t.Run("gRPC and REST over TLS", func(t *testing.T) {
		t.Parallel()
		handler, stop := grafeasapi.NewHandler(s.svc, grafeasapi.Options{})
		srv := httptest.NewUnstartedServer(handler)
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer stop()
		defer srv.Close()
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v1/projects/p/notes/n", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			t.Errorf("status %d over %s", resp.StatusCode, resp.Proto)
		}
		config := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName = "example.com" // the name in httptest's certificate
		conn, err := grpc.NewClient(srv.Listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, err = grafeas.NewGrafeasClient(conn).GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
		check(t, err, codes.OK)
	})
}

func TestCallersAreIdentified(t *testing.T) {
	t.Parallel()
	auth := metadata.AuthorizerFunc(func(_ context.Context, c metadata.Caller, _ metadata.Permission, _ string) error {
		if c.Name == "alice" {
			return nil
		}
		return errors.New("only alice may")
	})
	s := start(t, auth, grafeasapi.Options{Identify: func(r *http.Request) (metadata.Caller, error) {
		switch token := r.Header.Get("Authorization"); token {
		case "Bearer a":
			return metadata.Caller{Name: "alice"}, nil
		case "Bearer b":
			return metadata.Caller{Name: "bob"}, nil
		default:
			return metadata.Caller{}, errors.New("no token")
		}
	}})
	for token, want := range map[string]struct {
		http int
		code codes.Code
	}{
		"a": {404, codes.NotFound}, // let in, and there is no such note
		"b": {403, codes.PermissionDenied},
		"c": {401, codes.Unauthenticated},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+"/v1/projects/p/notes/n", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := s.rest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want.http {
			t.Errorf("token %s: status %d, want %d", token, resp.StatusCode, want.http)
		}
		_, err = s.rpc.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"},
			grpc.PerRPCCredentials(bearer(token)))
		check(t, err, want.code)
	}
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

func TestPanicsAreAnswered(t *testing.T) {
	t.Parallel()
	auth := metadata.AuthorizerFunc(func(context.Context, metadata.Caller, metadata.Permission, string) error { panic("made for tests") })
	s := start(t, auth, grafeasapi.Options{})
	for range 2 {
		body := s.expect("GET", "/v1/projects/p/notes/n", "", 500, `"code":13`)
		if strings.Contains(body, "made for tests") {
			t.Errorf("the panic's text is told: %s", body)
		}
		_, err := s.rpc.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
		check(t, err, codes.Internal)
	}
}

func TestInternalCausesStayInside(t *testing.T) {
	t.Parallel()
	auth := metadata.AuthorizerFunc(func(context.Context, metadata.Caller, metadata.Permission, string) error {
		return metadata.Errorf(metadata.Internal, "reading /etc/grants: broken")
	})
	s := start(t, auth, grafeasapi.Options{})
	if body := s.expect("GET", "/v1/projects/p/notes/n", "", 500, "internal error"); strings.Contains(body, "/etc") {
		t.Errorf("the cause is told: %s", body)
	}
}

func TestCallsAreBoundedInTime(t *testing.T) {
	t.Parallel()
	auth := metadata.AuthorizerFunc(func(ctx context.Context, _ metadata.Caller, _ metadata.Permission, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	s := start(t, auth, grafeasapi.Options{Timeout: 1})
	s.expect("GET", "/v1/projects/p/notes/n", "", 504, `"DEADLINE_EXCEEDED"`)
	_, err := s.rpc.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	check(t, err, codes.DeadlineExceeded)
}
