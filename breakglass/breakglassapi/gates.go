package breakglassapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	stdjson "encoding/json"

	"google.golang.org/protobuf/types/known/timestamppb"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

const (
	// maxRecords bounds those of a call, maxLine one of them, in bytes, and maxKeys what a
	// gate may ask about at once.
	maxRecords = 1000
	maxLine    = 1<<20 + 64<<10
	maxKeys    = 10_000
	maxName    = 253
	maxImages  = 1000
	// appendTimeout bounds how long a call waits for the disk, and writerTimeout for another
	// gate to tell who wrote a workload.
	appendTimeout = 30 * time.Second
	writerTimeout = time.Second
)

// A gateAPI takes what gates elsewhere tell, over gRPC.
type gateAPI struct {
	*API
	// turns has one call of a gate at a time.
	mu    sync.Mutex
	turns map[[2]string]*turn // by caller and gate
}

// A turn is of a gate elsewhere.
type turn struct {
	busy  chan struct{}
	users int
	// queued is how far the files of its log have been queued here, but are not known to be
	// on disk.
	queued map[string]audit.Position
}

var (
	_ gatehousev1.AuditServer     = (*gateAPI)(nil)
	_ gatehousev1.IncidentsServer = (*gateAPI)(nil)
)

// do calls for a gate that may tell what it decided.
func do[T any](ctx context.Context, a *gateAPI, method, project string, call func(context.Context, *metadata.Call, metadata.Caller) (T, error)) (T, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (T, error) {
		t := target{project: project}
		return metadata.Do(ctx, a.Service, caller, method, t.parent(), func(c *metadata.Call) (T, error) {
			var none T
			if project == "" || len(project) > maxName || strings.ContainsAny(project, "/ \n") {
				return none, metadata.Errorf(metadata.InvalidArgument, "project %q: want the id of a project", cut(project))
			}
			if err := c.Need(ctx, metadata.AuditAppend, t.parent()); err != nil {
				return none, err
			}
			if project != a.Project || a.Incidents == nil || a.Log == nil {
				return none, metadata.Errorf(metadata.FailedPrecondition, "what gates of project %q let in is not kept here; this is the service of %q", project, a.Project)
			}
			return call(ctx, c, caller)
		})
	})
}

// Append is of [gatehousev1.AuditServer].
func (a *gateAPI) Append(ctx context.Context, req *gatehousev1.AppendRequest) (*gatehousev1.AppendResponse, error) {
	return do(ctx, a, "AppendRecords", req.GetProject(), func(ctx context.Context, _ *metadata.Call, caller metadata.Caller) (*gatehousev1.AppendResponse, error) {
		if g := req.GetGate(); g == "" || len(g) > maxName {
			return nil, metadata.Errorf(metadata.InvalidArgument, "gate %q: want a name of at most %d bytes", cut(g), maxName)
		}
		origin := audit.Origin{Gate: req.GetGate(), Caller: caller.Name}
		records, err := recordsOf(req, origin)
		if err != nil {
			return nil, err
		}
		return a.append(ctx, origin, records)
	})
}

// recordsOf reads what a gate has sent.
func recordsOf(req *gatehousev1.AppendRequest, origin audit.Origin) ([]audit.Record, error) {
	if len(req.GetRecords()) > maxRecords {
		return nil, metadata.Errorf(metadata.InvalidArgument, "%d records: want at most %d", len(req.GetRecords()), maxRecords)
	}
	records := make([]audit.Record, len(req.GetRecords()))
	last := audit.Position{}
	for n, sent := range req.GetRecords() {
		after := positionOf(sent.GetAfter())
		r, err := ReadRecord(sent.GetLine(), after)
		if err == nil && !last.Before(after) {
			err = errors.New("its position is not after the one before")
		}
		if err != nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "record %d: %w", n, err)
		}
		own := origin
		own.After, last = after, after
		r.Origin = &own
		records[n] = r
	}
	return records, nil
}

// ReadRecord reads a record that a gate has sent, at a position of its log.
func ReadRecord(line []byte, after audit.Position) (r audit.Record, err error) {
	if len(line) > maxLine {
		return r, fmt.Errorf("%d bytes: want at most %d", len(line), maxLine)
	}
	if err := stdjson.Unmarshal(line, &r); err != nil {
		return r, err
	}
	switch {
	case r.ID == "" || len(r.ID) > maxName || r.Time.IsZero() || r.Event == "":
		return r, errors.New("want id, time and event")
	case r.Origin != nil:
		return r, errors.New("it is of another gate's log")
	case after.Segment == "" || len(after.Segment) > maxName || after.Offset <= 0:
		return r, errors.New("it is at no position of a log")
	}
	return r, nil
}

func positionOf(p *gatehousev1.LogPosition) audit.Position {
	return audit.Position{Segment: p.GetSegment(), Offset: p.GetOffset()}
}

// append queues what has not come before, and returns when it is on disk and counted.
func (a *gateAPI) append(ctx context.Context, origin audit.Origin, records []audit.Record) (*gatehousev1.AppendResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	t, end, err := a.take(ctx, origin)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := a.Incidents.CatchUp(); err != nil { // what an earlier process was sent
		return nil, metadata.Errorf(metadata.Unavailable, "reading the audit log: %w", err)
	}
	var through audit.Position
	for n := range records {
		o := records[n].Origin
		known, ok := t.queued[o.After.Segment]
		if !ok {
			known = a.Incidents.Through(o)
		}
		if known.Before(o.After) {
			if err := a.Log.Append(records[n]); err != nil {
				return nil, metadata.Errorf(metadata.ResourceExhausted, "the records cannot be taken now: %w", err)
			}
			t.queued[o.After.Segment] = o.After
		}
		through = o.After
	}
	if through == (audit.Position{}) {
		return &gatehousev1.AppendResponse{}, nil
	}
	// They are written in their order.
	if err := a.Incidents.AwaitOrigin(ctx, records[len(records)-1].Origin); err != nil {
		return nil, metadata.Errorf(metadata.Unavailable, "the records are not on disk yet: %w", err)
	}
	return &gatehousev1.AppendResponse{Through: &gatehousev1.LogPosition{Segment: through.Segment, Offset: through.Offset}}, nil
}

// take waits for the turn of a gate, which may still have a call under way.
func (a *gateAPI) take(ctx context.Context, origin audit.Origin) (t *turn, end func(), err error) {
	name := [2]string{origin.Caller, origin.Gate}
	a.mu.Lock()
	t = a.turns[name]
	if t == nil {
		t = &turn{busy: make(chan struct{}, 1), queued: map[string]audit.Position{}}
		a.turns[name] = t
	}
	t.users++
	a.mu.Unlock()
	leave := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if t.users--; t.users > 0 {
			return
		}
		for segment, at := range t.queued { // what is queued must not be queued again
			if !a.Incidents.Through(&audit.Origin{Caller: origin.Caller, After: at}).Before(at) {
				delete(t.queued, segment)
			}
		}
		if len(t.queued) == 0 {
			delete(a.turns, name)
		}
	}
	select {
	case t.busy <- struct{}{}:
		return t, func() { <-t.busy; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, nil, metadata.Errorf(metadata.Unavailable, "an earlier call of the same gate is under way")
	}
}

// Report is of [gatehousev1.IncidentsServer].
func (a *gateAPI) Report(ctx context.Context, req *gatehousev1.ReportRequest) (*gatehousev1.ReportResponse, error) {
	return do(ctx, a, "ReportIncidents", req.GetProject(), func(_ context.Context, c *metadata.Call, _ metadata.Caller) (*gatehousev1.ReportResponse, error) {
		c.Reads() // each gate asks every 5 s
		if len(req.GetKeys()) > maxKeys {
			return nil, metadata.Errorf(metadata.InvalidArgument, "%d keys: want at most %d", len(req.GetKeys()), maxKeys)
		}
		answer := &gatehousev1.ReportResponse{}
		for _, raw := range req.GetKeys() {
			var k breakglass.Key
			if len(raw) != len(k) {
				return nil, metadata.Errorf(metadata.InvalidArgument, "a key of %d bytes: want %d", len(raw), len(k))
			}
			copy(k[:], raw)
			answer.Incidents = append(answer.Incidents, a.state(a.Incidents.Stands(k)))
		}
		return answer, nil
	})
}

func (a *gateAPI) state(s breakglass.Standing) *gatehousev1.IncidentState {
	states := map[breakglass.State]gatehousev1.IncidentState_State{
		breakglass.StateOpen: gatehousev1.IncidentState_OPEN, breakglass.StateAcknowledged: gatehousev1.IncidentState_ACKNOWLEDGED, breakglass.StateResolved: gatehousev1.IncidentState_RESOLVED,
	}
	m := &gatehousev1.IncidentState{State: states[s.State], Told: s.Told && a.Tells, Who: s.Who, Text: s.Text}
	if !s.Time.IsZero() {
		m.Time = timestamppb.New(s.Time)
	}
	return m
}

// Writer is of [gatehousev1.IncidentsServer].
func (a *gateAPI) Writer(ctx context.Context, req *gatehousev1.WriterRequest) (*gatehousev1.WriterResponse, error) {
	return do(ctx, a, "WhoWrote", req.GetProject(), func(ctx context.Context, _ *metadata.Call, _ metadata.Caller) (*gatehousev1.WriterResponse, error) {
		if u := req.GetUid(); u == "" || len(u) > maxName || len(req.GetImages()) > maxImages {
			return nil, metadata.Errorf(metadata.InvalidArgument, "uid %q, %d images: want a uid and at most %d images", cut(u), len(req.GetImages()), maxImages)
		}
		ctx, cancel := context.WithTimeout(ctx, writerTimeout)
		defer cancel()
		o := a.Incidents.Writers.Await(ctx, req.GetCluster(), req.GetUid(), req.GetImages())
		if o.UID == "" {
			return &gatehousev1.WriterResponse{}, nil
		}
		text, err := stdjson.Marshal(o)
		return &gatehousev1.WriterResponse{Object: text}, err
	})
}
