// Package relay tells the service of a project what a gate elsewhere has let in, so that
// the incidents of all gates are one list there, and people are paged once.
//
// A [Relay] follows the gate's audit log and sends its records, each until the service has
// it on disk. How far it has come is kept, so that nothing is left out after a restart;
// what is sent twice the service knows. When all is sent it asks how the gate's incidents
// stand there, and tells [breakglass.Incidents].
package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

const (
	stateFile = "forwarded.json"
	maxState  = 64 << 10

	// A call has at most so many records, and not more bytes than that but for the last
	// record.
	maxRecords = 500
	maxBytes   = 1 << 20

	callTimeout = 45 * time.Second
	// askEvery is how often it is asked how incidents stand, and askSoon how long after the
	// last time when something was sent.
	askEvery = 5 * time.Second
	askSoon  = time.Second

	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// What says which records are sent.
type What string

// The choices.
const (
	// BreakGlass are those of requests with a marker, and All are all.
	BreakGlass What = "breakGlass"
	All        What = "all"
	// None sends nothing: the gate keeps its incidents to itself, and pages by itself.
	None What = "none"
)

// Options configure a Relay. All but What, Cluster and Registry are required.
type Options struct {
	Conn grpc.ClientConnInterface
	// Dir is where it is kept how far the log was sent.
	Dir       string
	Log       *audit.Log
	Incidents *breakglass.Incidents
	What      What // BreakGlass if empty
	// Project is the one whose policy is enforced; Cluster and Gate are what the service
	// calls this gate.
	Project, Cluster, Gate string
	Now                    func() time.Time
	Logger                 *slog.Logger
	Registry               prometheus.Registerer
}

// A Relay is safe for concurrent use.
type Relay struct {
	Options
	records   gatehousev1.AuditClient
	incidents gatehousev1.IncidentsClient
	sent      prometheus.Counter
	hold      *audit.Hold // of what was not sent

	mu    sync.Mutex
	at    audit.Position // up to where all was sent that is to be
	saved audit.Position // of that, on disk
	// behind is since when records wait to be sent; zero if none do.
	behind time.Time

	// Of Run alone: when it was last asked how incidents stand, and whether something was
	// sent since.
	asked time.Time
	news  bool
}

// state is what is kept.
type state struct {
	At audit.Position `json:"at"`
}

var _ breakglass.WriterSource = (*Relay)(nil)

// Open returns a Relay that goes on from where the last one had come to.
func Open(o Options) (*Relay, error) {
	if o.Conn == nil || o.Dir == "" || o.Log == nil || o.Incidents == nil || o.Project == "" || o.Gate == "" || o.Now == nil || o.Logger == nil {
		return nil, errors.New("telling the service of break-glass: Conn, Dir, Log, Incidents, Project, Gate, Now and Logger are needed")
	}
	r := &Relay{
		Options: o, records: gatehousev1.NewAuditClient(o.Conn), incidents: gatehousev1.NewIncidentsClient(o.Conn),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_audit_forwarded_total", Help: "Audit records that the service has on disk."}),
	}
	if err := r.load(); err != nil {
		return nil, fmt.Errorf("telling the service of break-glass: %w", err)
	}
	r.hold = o.Log.Hold("forwarding to the service", r.at)
	if o.Registry == nil {
		return r, nil
	}
	return r, errors.Join(o.Registry.Register(r.sent), o.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_audit_forward_behind_seconds", Help: "How long audit records have waited for the service; 0 if none do.",
	}, r.waits)))
}

// load reads the state. Without it all that the log has is sent once more; the service
// knows it.
func (r *Relay) load() error {
	path := filepath.Join(r.Dir, stateFile)
	text, err := bounded.ReadFile(path, maxState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(r.Dir, 0o700)
	case err != nil:
		return err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		r.Logger.Error("how far the audit log was sent to the service cannot be read; it is sent from its beginning", "file", path, "error", err)
		s = state{}
	}
	r.at, r.saved = s.At, s.At
	return nil
}

// save keeps a position.
func (r *Relay) save(at audit.Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.Marshal(state{at})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(r.Dir, stateFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keeping how far the audit log was sent: %w", err)
	}
	r.at, r.saved = at, at
	r.hold.Set(at)
	return nil
}

// position is how far the log was sent.
func (r *Relay) position() audit.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// pass notes that there is nothing to be sent up to a position.
func (r *Relay) pass(at audit.Position) error {
	r.mu.Lock()
	r.at, r.behind = at, time.Time{}
	r.hold.Set(at)
	worth := at.Segment != r.saved.Segment // the rest is read once more
	r.mu.Unlock()
	if !worth {
		return nil
	}
	return r.save(at)
}

func (r *Relay) waits() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.behind.IsZero() {
		return 0
	}
	return r.Now().Sub(r.behind).Seconds()
}

// Run sends until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	backoff, said := minBackoff, ""
	for ctx.Err() == nil {
		err := r.Catch(ctx)
		if err == nil {
			backoff, said = minBackoff, ""
			r.rest(ctx)
			continue
		}
		if text := err.Error(); text != said && ctx.Err() == nil {
			said = text
			r.Logger.Warn("the service is not told of break-glass; trying again", "error", err)
		}
		sleep(ctx, backoff/2+rand.N(backoff/2+1))
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// rest waits until there is more to send, or it is time to ask.
func (r *Relay) rest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, max(r.untilAsked(), 0))
	defer cancel()
	_ = r.Log.Wait(ctx, r.position()) // or it is time
}

// untilAsked is how long it is until it is asked again how incidents stand.
func (r *Relay) untilAsked() time.Duration {
	every := askEvery
	if r.news {
		every = askSoon
	}
	if d := every - r.Now().Sub(r.asked); d < every { // or the clock was set
		return d
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Catch sends what the log has, and asks how the incidents stand, if it is time. It is
// called by one at a time.
func (r *Relay) Catch(ctx context.Context) error {
	var batch []*gatehousev1.LoggedRecord
	bytes := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := r.send(ctx, batch)
		batch, bytes = nil, 0
		return err
	}
	end, err := r.Log.Lines(r.position(), func(line []byte, next audit.Position) error {
		if r.What != All && !breakglass.Counts(line) {
			return nil
		}
		batch = append(batch, &gatehousev1.LoggedRecord{Line: append([]byte(nil), line...), After: &gatehousev1.LogPosition{Segment: next.Segment, Offset: next.Offset}})
		if bytes += len(line); len(batch) >= maxRecords || bytes >= maxBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = r.pass(end)
	}
	if err != nil {
		return err
	}
	if r.untilAsked() > 0 {
		return nil
	}
	if err := r.ask(ctx, end); err != nil {
		return err
	}
	r.asked, r.news = r.Now(), false
	return nil
}

// send sends records, and returns when the service has them on disk.
func (r *Relay) send(ctx context.Context, batch []*gatehousev1.LoggedRecord) error {
	r.mu.Lock()
	if r.behind.IsZero() {
		r.behind = r.Now()
	}
	r.mu.Unlock()
	last := positionOf(batch[len(batch)-1].GetAfter())
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.records.Append(ctx, &gatehousev1.AppendRequest{Project: r.Project, Cluster: r.Cluster, Gate: r.Gate, Records: batch})
	if err != nil {
		if len(batch) > 1 && status.Code(err) == codes.InvalidArgument {
			return r.halve(ctx, batch)
		}
		if status.Code(err) == codes.InvalidArgument {
			r.Logger.Error("the service refuses a record, which stays in the log of this gate alone", "position", last, "error", err)
			return r.save(last)
		}
		return told(err)
	}
	if through := positionOf(answer.GetThrough()); through != last {
		return fmt.Errorf("the service has the records up to %v only, of %v", through, last)
	}
	r.sent.Add(float64(len(batch)))
	r.news = true
	return r.save(last)
}

// halve sends a batch in halves, until what is refused is alone: it must not hold up the
// others.
func (r *Relay) halve(ctx context.Context, batch []*gatehousev1.LoggedRecord) error {
	middle := len(batch) / 2
	if err := r.send(ctx, batch[:middle]); err != nil {
		return err
	}
	return r.send(ctx, batch[middle:])
}

func positionOf(p *gatehousev1.LogPosition) audit.Position {
	return audit.Position{Segment: p.GetSegment(), Offset: p.GetOffset()}
}

// told makes an error of gRPC one for people.
func told(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return errors.New("the service does not take records of gates; it may be older than this gate")
	}
	return fmt.Errorf("the service says: %s", status.Convert(err).Message())
}

// ask asks how the incidents stand, now that the service has all records up to a position.
func (r *Relay) ask(ctx context.Context, at audit.Position) error {
	keys := r.Incidents.Unresolved()
	if len(keys) == 0 {
		return nil
	}
	req := &gatehousev1.ReportRequest{Project: r.Project, Cluster: r.Cluster, Gate: r.Gate}
	for _, k := range keys {
		req.Keys = append(req.Keys, k[:])
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.incidents.Report(ctx, req)
	if err != nil {
		return told(err)
	}
	if len(answer.GetIncidents()) != len(keys) {
		return fmt.Errorf("the service tells of %d incidents, and was asked about %d", len(answer.GetIncidents()), len(keys))
	}
	for n, m := range answer.GetIncidents() {
		if err := r.Incidents.Hear(keys[n], r.standing(m, at)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) standing(m *gatehousev1.IncidentState, at audit.Position) breakglass.Standing {
	states := map[gatehousev1.IncidentState_State]breakglass.State{
		gatehousev1.IncidentState_OPEN: breakglass.StateOpen, gatehousev1.IncidentState_ACKNOWLEDGED: breakglass.StateAcknowledged, gatehousev1.IncidentState_RESOLVED: breakglass.StateResolved,
	}
	return breakglass.Standing{
		State: states[m.GetState()], Told: m.GetTold(), Who: m.GetWho(), Text: m.GetText(), Time: m.GetTime().AsTime(), At: at, Heard: r.Now(),
	}
}

// Writer asks the service who wrote a workload. It is of [breakglass.WriterSource].
func (r *Relay) Writer(ctx context.Context, uid string, images []string) (breakglass.Object, error) {
	answer, err := r.incidents.Writer(ctx, &gatehousev1.WriterRequest{Project: r.Project, Cluster: r.Cluster, Uid: uid, Images: images})
	if err != nil {
		return breakglass.Object{}, told(err)
	}
	if len(answer.GetObject()) == 0 {
		return breakglass.Object{}, nil
	}
	var o breakglass.Object
	if err := json.Unmarshal(answer.GetObject(), &o); err != nil {
		return breakglass.Object{}, fmt.Errorf("reading the service's answer: %w", err)
	}
	if o.Cluster != r.Cluster {
		return breakglass.Object{}, fmt.Errorf("the service tells of a workload of cluster %q", o.Cluster)
	}
	return o, nil
}
