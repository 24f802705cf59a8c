package grafeasapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// busy refuses with a header.
type busy struct{ error }

func (b busy) Unwrap() error         { return b.error }
func (busy) SetHeader(h http.Header) { h.Set("Retry-After", "7") }

const busyText = "100 % busy, größer ging es nicht\n"

func identifyBusy(*http.Request) (metadata.Caller, error) {
	return metadata.Caller{Name: "ci"}, busy{metadata.Errorf(metadata.ResourceExhausted, "%s", busyText)}
}

// recorder keeps what is recorded.
type recorder struct {
	calls   []metadata.CallRecord
	origins []string
}

func (r *recorder) Record(ctx context.Context, call metadata.CallRecord) {
	r.calls, r.origins = append(r.calls, call), append(r.origins, metadata.OriginOf(ctx))
}

// unread fails the test if it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a refused request was read")
	return 0, http.ErrBodyNotAllowed
}

func TestARefusedRequestIsRecordedAndItsBodyNotRead(t *testing.T) {
	t.Parallel()
	var recorded recorder
	svc, err := metadata.NewService(t.Context(), memory.New(), metadata.Options{Authorizer: metadata.InsecureAllowAll(), Recorder: &recorded})
	if err != nil {
		t.Fatal(err)
	}
	handler, stop := grafeasapi.NewHandler(svc, grafeasapi.Options{Identify: identifyBusy})
	t.Cleanup(stop)
	for _, tc := range []struct {
		proto        int
		contentType  string
		path, method string
		status       int
	}{
		{1, "application/json", "/v1/projects/p/occurrences", "POST /v1/projects/p/occurrences", http.StatusTooManyRequests},
		{2, "application/grpc", "/grafeas.v1.Grafeas/CreateNote", "CreateNote", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodPost, tc.path, unread{t})
		r.ProtoMajor, r.RemoteAddr = tc.proto, "192.0.2.1:5"
		r.Header.Set("Content-Type", tc.contentType)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != tc.status || tc.proto == 1 && w.Header().Get("Retry-After") != "7" || tc.proto == 2 && w.Header().Get("Grpc-Status") != "8" {
			t.Errorf("%s: status %d, header %v", tc.path, w.Code, w.Header())
		}
		if len(recorded.calls) == 0 {
			t.Fatalf("%s: not recorded", tc.path)
		}
		last := len(recorded.calls) - 1
		if c := recorded.calls[last]; c.Method != tc.method || c.Caller.Name != "ci" || metadata.KindOf(c.Err) != metadata.ResourceExhausted || recorded.origins[last] != "192.0.2.1:5" {
			t.Errorf("%s: recorded %+v from %s", tc.path, c, recorded.origins[last])
		}
	}
}

func TestARefusalReachesGRPCClientsAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{Identify: identifyBusy})
	_, err := s.rpc.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != busyText {
		t.Errorf("got %v", err)
	}
}
