package grafeasapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// calls keeps what was recorded.
type calls struct {
	mu   sync.Mutex
	list []metadata.CallRecord
}

func (c *calls) Record(_ context.Context, r metadata.CallRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, r)
}

// take returns what was recorded since it was called before.
func (c *calls) take() []metadata.CallRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

// Every request leaves one record, also one that never became a call.
func TestEveryRequestIsRecordedOnce(t *testing.T) {
	t.Parallel()
	var recorded calls
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll(), Recorder: &recorded})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, store, svc, grafeasapi.Options{
		MaxRequestBytes: 10_000,
		Identify:        func(*http.Request) (metadata.Caller, error) { return metadata.Caller{Name: "alice"}, nil },
	})
	rest := func(method, path, body string, status int) func() {
		return func() { s.expect(method, path, body, status) }
	}
	invoke := func(method string, in any, code codes.Code) func() {
		return func() {
			t.Helper()
			check(t, s.conn.Invoke(t.Context(), method, in, &emptypb.Empty{}), code)
		}
	}
	large := strings.Repeat("x", 20_000)
	for _, test := range []struct {
		name   string
		call   func()
		method string
		err    bool
		kind   metadata.Kind
	}{
		{"a call", rest("POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`, 200), "CreateNote", false, 0},
		{"a call that is refused", rest("GET", "/v1/projects/p/notes/missing", "", 404), "GetNote", true, metadata.NotFound},
		{"a body that is no JSON", rest("POST", "/v1/projects/p/notes?noteId=n", `{`, 400), "POST /v1/projects/p/notes", true, metadata.InvalidArgument},
		{"an unknown field", rest("PATCH", "/v1beta1/projects/p/notes/n", `{"no":1}`, 400), "PATCH /v1beta1/projects/p/notes/n", true, metadata.InvalidArgument},
		{"a parameter that is no number", rest("GET", "/v1/projects/p/notes?pageSize=x", "", 400), "GET /v1/projects/p/notes", true, metadata.InvalidArgument},
		{"a body that is too large", rest("POST", "/v1/projects/p/notes?noteId=n", large, 413), "POST /v1/projects/p/notes", true, metadata.ResourceExhausted},
		{"an unknown path", rest("GET", "/nowhere", "", 404), "GET /nowhere", true, metadata.NotFound},
		{"a wrong method", rest("PUT", "/v1/projects/p/notes", "", 501), "PUT /v1/projects/p/notes", true, metadata.Unimplemented},
		{"an unknown gRPC method", invoke("/grafeas.v1.Grafeas/Nothing", &emptypb.Empty{}, codes.Unimplemented), "Nothing", true, metadata.Unimplemented},
		{"an unknown gRPC service", invoke("/no.Service/Nothing", &emptypb.Empty{}, codes.Unimplemented), "Nothing", true, metadata.Unimplemented},
		{"a gRPC message that is too large", invoke("/grafeas.v1.Grafeas/GetNote", &grafeas.GetNoteRequest{Name: large}, codes.ResourceExhausted), "GetNote", true, metadata.ResourceExhausted},
		// Field 1 is a name, and these are two bytes that are not UTF-8.
		{"a gRPC message that is none", invoke("/grafeas.v1.Grafeas/GetNote", wrapperspb.Bytes([]byte{0xff, 0xfe}), codes.Internal), "GetNote", true, metadata.Internal},
		{"a gRPC call", invoke("/grafeas.v1.Grafeas/DeleteNote", &grafeas.DeleteNoteRequest{Name: "projects/p/notes/n"}, codes.OK), "DeleteNote", false, 0},
	} {
		if late := recorded.take(); len(late) > 0 {
			t.Errorf("before %s: one record too many: %+v", test.name, late)
		}
		test.call()
		got := awaitRecord(t, &recorded)
		if len(got) != 1 {
			t.Errorf("%s: %d records, want 1: %+v", test.name, len(got), got)
			continue
		}
		if r := got[0]; r.Method != test.method || r.Caller.Name != "alice" || (r.Err != nil) != test.err || metadata.KindOf(r.Err) != test.kind {
			t.Errorf("%s: recorded %s by %q, %v", test.name, r.Method, r.Caller.Name, r.Err)
		}
	}
	s.expect("GET", "/v1/projects/p/notes", "", 200)
}

// awaitRecord waits for the record of a request that has been answered: gRPC may
// answer a little before it tells.
func awaitRecord(t *testing.T, c *calls) []metadata.CallRecord {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if got := c.take(); len(got) > 0 {
			return got
		}
	}
	return nil
}
