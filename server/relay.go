package server

import (
	"context"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/relay"
)

const (
	// lookAtReceivers is how often it is looked at how the receivers do.
	lookAtReceivers = time.Second
	// startPatience is how long a gate that starts leaves the service to say what it tells
	// of, however long ago that was.
	startPatience = 20 * time.Second
)

// forwards reports whether this is a gate that leaves incidents to its service.
func (p *parts) forwards() bool {
	return p.cfg.Role == AdmissionRole && p.cfg.Audit.Forward != relay.None
}

// pager is who is told of incidents.
func (p *parts) pager() breakglass.Pager {
	own := incidentPager{p.logger, p.outbox}
	if !p.forwards() {
		return own
	}
	return lonePager{incidentPager: own, after: p.cfg.BreakGlass.PageAloneAfter, started: time.Now()}
}

// A lonePager is that of a gate whose service is told of its incidents. The service pages,
// for all gates of the cluster. A gate does when the service has not said in time that it
// has the incident and queued its page: it is away, or has nobody to tell.
type lonePager struct {
	incidentPager
	after   time.Duration
	started time.Time
}

// Page is of [breakglass.Pager].
func (p lonePager) Page(ctx context.Context, i breakglass.Incident, e breakglass.Event) error {
	switch {
	case i.Kind == breakglass.Receiver:
		return p.incidentPager.Page(ctx, i, e)
	case !e.Kind.Calls() && i.Called, e.Kind.Calls() && p.outbox == nil:
		return p.incidentPager.Page(ctx, i, e)
	case !e.Kind.Calls():
		return breakglass.ErrElsewhere // nobody was called from here
	case toldBy(i.Standing, e):
		p.logger.InfoContext(ctx, "the service tells of an incident", "event", string(e.Kind), "incident", i.ID, "workload", i.Workload.String())
		return breakglass.ErrElsewhere
	}
	due := e.Time.Add(p.after)
	if soon := p.started.Add(min(p.after, startPatience)); due.Before(soon) {
		due = soon // the service has not been asked yet
	}
	if wait := time.Until(due); wait > 0 && wait <= p.after { // or the clock was set
		return breakglass.ErrNotYet
	}
	return p.incidentPager.Page(ctx, i, e)
}

// toldBy reports whether the service has said, after an event and with all that led to it,
// that it has told of the incident.
func toldBy(s *breakglass.Standing, e breakglass.Event) bool {
	return s != nil && s.State != "" && s.Told && !s.At.Before(e.At) && s.Heard.After(e.Time)
}

// openRelay has the service told what this gate lets in, and asked who wrote workloads.
func (p *parts) openRelay(conn grpc.ClientConnInterface) error {
	if !p.forwards() {
		return nil
	}
	var err error
	p.relay, err = relay.Open(relay.Options{
		Conn: conn, Dir: filepath.Join(p.cfg.Data, "breakglass"), Log: p.glass.log, Incidents: p.glass.incidents, What: p.cfg.Audit.Forward,
		Project: p.cfg.Project, Cluster: p.cfg.Cluster, Gate: p.cfg.Admission.Feed.gateName(), Now: time.Now, Logger: p.logger, Registry: p.registry,
	})
	if err != nil {
		return err
	}
	p.glass.warden.Elsewhere = p.relay
	return nil
}

// watchReceivers makes an incident of each receiver that fails for long.
func (p *parts) watchReceivers(ctx context.Context) error {
	tick := time.NewTicker(lookAtReceivers)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var states []breakglass.ReceiverState
		for _, r := range p.outbox.Pagers() {
			s := breakglass.ReceiverState{Name: r.Name, FailingSince: r.FailingSince, Worked: r.LastDelivery}
			if r.LastError != nil {
				s.Why = r.LastError.Error()
			}
			states = append(states, s)
		}
		text := ""
		if err := p.glass.incidents.Receivers(states, p.cfg.BreakGlass.ReceiverFailedAfter); err != nil {
			text = err.Error()
		}
		if text != "" && text != said {
			p.logger.Error("incidents of receivers cannot be written; trying again", "error", text)
		}
		said = text
	}
}
