package breakglassapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/breakglassapi"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// A desk is a service that takes what gates tell. Callers are who their header says.
type desk struct {
	*testing.T
	dir       string
	log       *audit.Log
	incidents *breakglass.Incidents
	audit     gatehousev1.AuditClient
	states    gatehousev1.IncidentsClient
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{T: t, dir: t.TempDir()}
	logger := slog.New(slog.DiscardHandler)
	var err error
	if d.log, err = audit.Open(filepath.Join(d.dir, "audit"), logger); err != nil {
		t.Fatal(err)
	}
	d.incidents, err = breakglass.OpenIncidents(breakglass.IncidentOptions{
		Dir: d.dir, Log: d.log, Writers: breakglass.NewWriters(breakglass.Controllers()), Now: time.Now, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: roles{}, Projects: []string{"p", "q"}})
	if err != nil {
		t.Fatal(err)
	}
	api := breakglassapi.New(breakglassapi.Options{Service: svc, Project: "p", Incidents: d.incidents, Grants: breakglass.NewGrants(), Log: d.log, Tells: true})
	handler, closeHandler := grafeasapi.NewHandler(svc, grafeasapi.Options{Logger: logger, Extensions: []grafeasapi.Extension{api}, Identify: func(r *http.Request) (metadata.Caller, error) {
		return metadata.Caller{Name: r.Header.Get("Caller")}, nil
	}})
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	conn, err := grpc.NewClient(server.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.audit, d.states = gatehousev1.NewAuditClient(conn), gatehousev1.NewIncidentsClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Close()
		closeHandler()
		for _, end := range []func() error{d.incidents.Close, d.log.Close, store.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func as(ctx context.Context, role string) context.Context {
	return grpcmetadata.AppendToOutgoingContext(ctx, "caller", role)
}

// used is the record of a pod that was let in by break-glass.
func used() audit.Record {
	return audit.Record{
		ID: audit.NewID(), Time: time.Now(), Event: "admission", Cluster: "c.x", Resource: "pods", Namespace: "shop", Name: "web-1",
		Decision:   &decide.Decision{Override: decide.BreakGlass, BreakGlass: "label", Images: []decide.ImageDecision{{Image: "reg.test/app:1"}}},
		BreakGlass: &audit.BreakGlass{Needed: true, Kind: "Deployment", Name: "web", By: "ann", Permit: "open"},
	}
}

// sent is a record as the nth of a file.
func sent(t *testing.T, r audit.Record, segment string, n int64) *gatehousev1.LoggedRecord {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return &gatehousev1.LoggedRecord{Line: line, After: &gatehousev1.LogPosition{Segment: segment, Offset: n}}
}

// append appends records as a gate, and returns up to where they are on disk.
func (d *desk) append(records ...*gatehousev1.LoggedRecord) (*gatehousev1.LogPosition, error) {
	answer, err := d.audit.Append(as(d.Context(), "gate"), &gatehousev1.AppendRequest{Project: "p", Cluster: "c.x", Gate: "g", Records: records})
	return answer.GetThrough(), err
}

// logged is how many records the log has.
func (d *desk) logged() (n int) {
	d.Helper()
	if err := audit.Query(filepath.Join(d.dir, "audit"), audit.Filter{}, func(r audit.Record) error {
		if n++; r.Origin == nil || r.Origin.Caller != "gate" || r.Origin.Gate != "g" {
			d.Errorf("a record of %+v", r.Origin)
		}
		return nil
	}); err != nil {
		d.Fatal(err)
	}
	return n
}

func TestARecordIsAppendedOnceHoweverOftenItIsSent(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	var all []*gatehousev1.LoggedRecord
	for n := range int64(20) {
		all = append(all, sent(t, used(), fmt.Sprintf("file-%d", n/15), n+1)) // two files
	}
	for _, part := range [][]*gatehousev1.LoggedRecord{all[:10], all[:10], all[5:], all, all[19:]} {
		through, err := d.append(part...)
		if last := part[len(part)-1].GetAfter(); err != nil || through.GetSegment() != last.GetSegment() || through.GetOffset() != last.GetOffset() {
			t.Fatalf("through %v, error %v, want %v", through, err, last)
		}
	}
	if n := d.logged(); n != len(all) {
		t.Errorf("%d records in the log, want %d", n, len(all))
	}
	list, _ := d.incidents.List(breakglass.Filter{}, "", 10)
	if len(list) != 1 || list[0].Uses != int64(len(all)) {
		t.Errorf("incidents: %+v", list)
	}
	t.Run("by several calls at once", func(t *testing.T) {
		more := make([]*gatehousev1.LoggedRecord, 50)
		for n := range more {
			more[n] = sent(t, used(), "file-9", int64(n+1))
		}
		done := make(chan error, 4)
		for range cap(done) {
			go func() { _, err := d.append(more...); done <- err }()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := d.logged(); n != len(all)+len(more) {
			t.Errorf("%d records in the log, want %d", n, len(all)+len(more))
		}
	})
}

func TestWhatGatesMustNotSend(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	forwarded := used()
	forwarded.Origin = &audit.Origin{Gate: "other"}
	nameless := used()
	nameless.ID = ""
	for name, records := range map[string][]*gatehousev1.LoggedRecord{
		"what is no JSON":         {{Line: []byte("{"), After: &gatehousev1.LogPosition{Segment: "s", Offset: 1}}},
		"a record without an id":  {sent(t, nameless, "s", 1)},
		"one of another log":      {sent(t, forwarded, "s", 1)},
		"one at no position":      {sent(t, used(), "s", 0)},
		"positions that go back":  {sent(t, used(), "s", 2), sent(t, used(), "s", 1)},
		"one that is too large":   {{Line: make([]byte, 2<<20), After: &gatehousev1.LogPosition{Segment: "s", Offset: 1}}},
		"a segment without end":   {sent(t, used(), strings.Repeat("s", 1000), 1)},
		"more than are taken":     make([]*gatehousev1.LoggedRecord, 1001),
		"a good one and bad ones": {sent(t, used(), "s", 1), sent(t, nameless, "s", 2)},
	} {
		if _, err := d.append(records...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := d.logged(); n != 0 {
		t.Errorf("%d records in the log", n)
	}
}

func TestWhoIsAGate(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for _, role := range []string{"viewer", "editor", "breakGlassViewer", "breakGlassResponder", "", "gate"} {
		for project, want := range map[string]codes.Code{"p": codes.OK, "q": codes.PermissionDenied, "": codes.InvalidArgument, "a/b": codes.InvalidArgument} {
			if role != "gate" && want == codes.OK {
				want = codes.PermissionDenied
			}
			ctx := as(t.Context(), role)
			_, appended := d.audit.Append(ctx, &gatehousev1.AppendRequest{Project: project, Gate: "g"})
			_, reported := d.states.Report(ctx, &gatehousev1.ReportRequest{Project: project})
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, asked := d.states.Writer(short, &gatehousev1.WriterRequest{Project: project, Uid: "u"})
			cancel()
			for method, err := range map[string]error{"Append": appended, "Report": reported, "Writer": asked} {
				if status.Code(err) != want {
					t.Errorf("%s by %q in %q: %v, want %v", method, role, project, err, want)
				}
			}
			if want != codes.OK && role != "gate" {
				break
			}
		}
	}
}

func TestHowAnIncidentStands(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if _, err := d.append(sent(t, used(), "s", 1)); err != nil {
		t.Fatal(err)
	}
	k := d.incidents.Unresolved()[0]
	report := func() *gatehousev1.IncidentState {
		t.Helper()
		answer, err := d.states.Report(as(t.Context(), "gate"), &gatehousev1.ReportRequest{Project: "p", Keys: [][]byte{make([]byte, len(k)), k[:]}})
		if err != nil {
			t.Fatal(err)
		}
		if s := answer.GetIncidents()[0]; s.GetState() != gatehousev1.IncidentState_STATE_UNSPECIFIED || s.GetTold() && s.GetState() != 0 {
			t.Errorf("of what is not known: %v", s)
		}
		return answer.GetIncidents()[1]
	}
	if s := report(); s.GetState() != gatehousev1.IncidentState_OPEN || s.GetTold() { // nobody has run the pager yet
		t.Errorf("got %v", s)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.incidents.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); !report().GetTold(); {
		if time.Now().After(deadline) {
			t.Fatal("it is never told")
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	list, _ := d.incidents.List(breakglass.Filter{}, "", 1)
	if _, err := d.incidents.Acknowledge(list[0].ID, "eve", "I look"); err != nil {
		t.Fatal(err)
	}
	if s := report(); s.GetState() != gatehousev1.IncidentState_ACKNOWLEDGED || s.GetWho() != "eve" || s.GetText() != "I look" {
		t.Errorf("got %v", s)
	}
	if _, err := d.incidents.Resolve(list[0].ID, "eve", ""); err != nil {
		t.Fatal(err)
	}
	if s := report(); s.GetState() != gatehousev1.IncidentState_RESOLVED {
		t.Errorf("got %v", s)
	}
	if _, err := d.states.Report(as(t.Context(), "gate"), &gatehousev1.ReportRequest{Project: "p", Keys: [][]byte{{1}}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("half a key: %v", err)
	}
}

func TestWhoWroteAWorkloadIsWaitedFor(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ask := func(cluster string) *gatehousev1.WriterResponse {
		answer, err := d.states.Writer(as(t.Context(), "gate"), &gatehousev1.WriterRequest{Project: "p", Cluster: cluster, Uid: "rs", Images: []string{"reg.test/app:1"}})
		if err != nil {
			t.Error(err)
		}
		return answer
	}
	answered := make(chan *gatehousev1.WriterResponse, 1)
	go func() { answered <- ask("c.x") }()
	r := used()
	r.Resource = "replicasets"
	object, err := json.Marshal(breakglass.Object{UID: "rs", Cluster: "c.x", Namespace: "shop", Writer: breakglass.User{Name: "ann"}, Images: []string{breakglass.ImageKey("reg.test/app:1")}})
	if err != nil {
		t.Fatal(err)
	}
	r.BreakGlass.Object = object
	if _, err := d.append(sent(t, r, "s", 1)); err != nil {
		t.Fatal(err)
	}
	if answer := <-answered; !strings.Contains(string(answer.GetObject()), `"ann"`) {
		t.Errorf("got %s", answer.GetObject())
	}
	if answer := ask("c.y"); len(answer.GetObject()) > 0 {
		t.Errorf("another cluster is told: %s", answer.GetObject())
	}
}

// FuzzAppend: whatever a gate sends is refused, or is a record of that gate's.
func FuzzAppend(f *testing.F) {
	line, err := json.Marshal(used())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line, "s", int64(1))
	f.Add([]byte(`{"id":"x","time":"2026-11-30T00:00:00Z","event":"admission","origin":{"gate":"other"}}`), "s", int64(5))
	f.Fuzz(func(t *testing.T, line []byte, segment string, offset int64) {
		r, err := breakglassapi.ReadRecord(line, audit.Position{Segment: segment, Offset: offset})
		if err != nil {
			return
		}
		if r.ID == "" || r.Origin != nil || r.Event == "" || r.Time.IsZero() || offset <= 0 {
			t.Errorf("taken: %+v", r)
		}
	})
}
