package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/relay"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// A service takes records, but for those of a workload that it refuses.
type service struct {
	grpc.ClientConnInterface
	down    error
	refuses string
	names   []string // of the objects that records are about
	calls   int
	state   gatehousev1.IncidentState
}

func (s *service) Invoke(_ context.Context, method string, in, out any, _ ...grpc.CallOption) error {
	s.calls++
	if s.down != nil {
		return s.down
	}
	switch req := in.(type) {
	case *gatehousev1.AppendRequest:
		var names []string
		for _, r := range req.GetRecords() {
			var record audit.Record
			if err := json.Unmarshal(r.GetLine(), &record); err != nil {
				return err
			}
			if record.Name == s.refuses {
				return status.Error(codes.InvalidArgument, "no such record")
			}
			names = append(names, record.Name)
		}
		s.names = append(s.names, names...)
		proto.Merge(out.(proto.Message), &gatehousev1.AppendResponse{Through: req.GetRecords()[len(req.GetRecords())-1].GetAfter()})
	case *gatehousev1.ReportRequest:
		answer := &gatehousev1.ReportResponse{}
		for range req.GetKeys() {
			answer.Incidents = append(answer.Incidents, proto.CloneOf(&s.state))
		}
		proto.Merge(out.(proto.Message), answer)
	default:
		return status.Errorf(codes.Unimplemented, "%s", method)
	}
	return nil
}

// A gate has a log, incidents, and a relay to a service.
type gate struct {
	*testing.T
	dir       string
	log       *audit.Log
	incidents *breakglass.Incidents
	service   *service
	relay     *relay.Relay
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{T: t, dir: t.TempDir(), service: &service{}}
	logger := slog.New(slog.DiscardHandler)
	var err error
	if g.log, err = audit.Open(filepath.Join(g.dir, "audit"), logger); err != nil {
		t.Fatal(err)
	}
	g.incidents, err = breakglass.OpenIncidents(breakglass.IncidentOptions{Dir: g.dir, Log: g.log, Writers: breakglass.NewWriters(nil), Now: time.Now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, end := range []func() error{g.incidents.Close, g.log.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	g.open(relay.BreakGlass)
	return g
}

func (g *gate) open(what relay.What) {
	g.Helper()
	var err error
	g.relay, err = relay.Open(relay.Options{
		Conn: g.service, Dir: g.dir, Log: g.log, Incidents: g.incidents, What: what, Project: "p", Gate: "g", Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		g.Fatal(err)
	}
}

// happens records objects of these names; of those that begin with "glass", by break-glass.
func (g *gate) happens(names ...string) {
	g.Helper()
	for _, name := range names {
		r := audit.Record{ID: audit.NewID(), Time: time.Now(), Event: "admission", Resource: "pods", Namespace: "shop", Name: name, Decision: &decide.Decision{}}
		if strings.HasPrefix(name, "glass") {
			r.Decision = &decide.Decision{Override: decide.BreakGlass, BreakGlass: "label", Images: []decide.ImageDecision{{Image: "reg.test/app:1"}}}
			r.BreakGlass = &audit.BreakGlass{Needed: true, Kind: "Deployment", Name: "web"}
		}
		if err := g.log.AppendSync(g.Context(), r); err != nil {
			g.Fatal(err)
		}
	}
	if err := g.incidents.CatchUp(); err != nil {
		g.Fatal(err)
	}
}

func (g *gate) catch() {
	g.Helper()
	if err := g.relay.Catch(g.Context()); err != nil {
		g.Fatal(err)
	}
}

func (g *gate) want(names string) {
	g.Helper()
	if got := strings.Join(g.service.names, " "); got != names {
		g.Errorf("the service has %q, want %q", got, names)
	}
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	t.Run("is what has a marker, in its order, and once", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		g.happens("glass-1", "plain-1", "glass-2", "plain-2")
		g.catch()
		g.catch()
		g.want("glass-1 glass-2")
		g.open(relay.BreakGlass)
		g.happens("glass-3")
		g.catch()
		g.want("glass-1 glass-2 glass-3")
	})
	t.Run("is all", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		g.open(relay.All)
		g.happens("glass-1", "plain-1")
		g.catch()
		g.want("glass-1 plain-1")
	})
	t.Run("waits while the service is away", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		g.happens("glass-1")
		g.service.down = status.Error(codes.Unavailable, "no network")
		if err := g.relay.Catch(t.Context()); err == nil || !strings.Contains(err.Error(), "no network") {
			t.Errorf("error %v", err)
		}
		g.happens("glass-2")
		g.service.down = nil
		g.open(relay.BreakGlass) // after a restart
		g.catch()
		g.want("glass-1 glass-2")
	})
	t.Run("is not held up by what the service refuses", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		g.service.refuses = "glass-3"
		g.happens("glass-1", "glass-2", "glass-3", "glass-4", "glass-5")
		g.catch()
		g.want("glass-1 glass-2 glass-4 glass-5")
	})
	t.Run("is sent again when it is not known how far it was", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		g.happens("glass-1")
		g.catch()
		if err := os.WriteFile(filepath.Join(g.dir, "forwarded.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.open(relay.BreakGlass)
		g.catch()
		g.want("glass-1 glass-1")
	})
	t.Run("goes in calls of a bounded size", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		var all []string
		for n := range 1100 {
			all = append(all, fmt.Sprint("plain-", n))
		}
		for _, name := range all { // without waiting for the disk
			if err := g.log.Append(audit.Record{ID: audit.NewID(), Time: time.Now(), Event: "admission", Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		g.happens("glass-last")
		g.open(relay.All)
		g.catch()
		g.want(strings.Join(append(all, "glass-last"), " "))
		if g.service.calls != 4 { // three for the records, and one for the incident
			t.Errorf("%d calls", g.service.calls)
		}
	})
}

func TestHowIncidentsStandIsAskedWhenAllIsSent(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.happens("glass-1")
	g.service.state.State, g.service.state.Who = gatehousev1.IncidentState_ACKNOWLEDGED, "eve"
	g.catch()
	list, _ := g.incidents.List(breakglass.Filter{}, "", 10)
	if len(list) != 1 || list[0].State != breakglass.StateAcknowledged || list[0].History[len(list[0].History)-1].Who != "eve" {
		t.Errorf("got %+v", list)
	}
}

func TestAServiceThatIsOlderSaysSo(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.service.down = status.Error(codes.Unimplemented, "unknown service gatehouse.v1.Audit")
	g.happens("glass-1")
	if err := g.relay.Catch(t.Context()); err == nil || !strings.Contains(err.Error(), "older than this gate") {
		t.Errorf("error %v", err)
	}
	if _, err := g.relay.Writer(t.Context(), "uid", nil); err == nil {
		t.Error("it answers")
	}
}
