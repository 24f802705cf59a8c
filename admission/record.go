package admission

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// events, as they are recorded.
const (
	eventJudged    = "admission"
	eventRefused   = "refused"
	eventUnchanged = "unchanged"
	eventDeleting  = "deleting"
	eventPinned    = "pinned"
)

// record writes the decision down and counts it. A break-glass that cannot be
// recorded does not happen, unless the operator has chosen that it may.
func (g *Gate) record(ctx context.Context, req *request, d *decide.Decision, glass *audit.BreakGlass, a answer) answer {
	override := d.Override
	defer func() { g.count(req, d.Verdict.String(), override) }()
	r := g.newRecord(req, eventJudged)
	r.Decision, r.BreakGlass = d, glass
	if req.DryRun {
		_ = g.append(&r)
		return a
	}
	if override != decide.BreakGlass {
		if err := g.recordUnbroken(ctx, &r, a.allowed); err != nil && a.allowed && g.RefuseUnrecorded {
			return refuse(http.StatusServiceUnavailable, "%s", unrecorded(err))
		}
		return a
	}
	if err := g.Recorder.AppendSync(ctx, r); err != nil {
		if !g.AllowUnrecorded {
			override = decide.NoOverride
			return g.unbroken(req, err)
		}
		g.unrecorded.Inc()
		g.Logger.Error("break-glass used, and it is not on disk", "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "record", r.ID, "error", err)
		a.warnings = append(a.warnings, warningLines("break-glass could not be put on record, and was let in all the same: whoever is responsible has to be told")...)
		_ = g.append(&r) // for when it can
	}
	g.Logger.Warn("break-glass used", "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username,
		"by", glass.By, "workload", glass.Kind+"/"+glass.Name, "permit", glass.Permit, "marker", d.BreakGlass, "record", r.ID)
	g.wrote(glass)
	return a
}

func unrecorded(err error) string {
	return "decisions must be recorded here, and that failed: " + err.Error()
}

// unbroken refuses who would have broken glass.
func (g *Gate) unbroken(req *request, err error) answer {
	g.Logger.Error("break-glass refused because it could not be recorded", "namespace", req.Namespace, "name", req.Name, "error", err)
	a := refuse(http.StatusInternalServerError, "break-glass must be recorded before it counts, and that failed: %v", err)
	r := g.newRecord(req, eventRefused)
	r.Error = a.message
	_ = g.append(&r) // for when it can
	return a
}

// recordUnbroken records a decision that breaks no glass. Who wrote a marker is on disk
// before the object is let in, if it is asked for later. Its error says that the decision
// may never be on disk.
func (g *Gate) recordUnbroken(ctx context.Context, r *audit.Record, allowed bool) error {
	err := g.doubt(r, allowed)
	if r.BreakGlass == nil || !allowed || err != nil {
		return errors.Join(err, g.append(r))
	}
	if g.Warden == nil || !g.Warden.KeepsWriters() {
		err = g.append(r)
	} else if err = g.Recorder.AppendSync(ctx, *r); err != nil {
		g.Logger.Error("who wrote a break-glass marker could not be recorded, and is forgotten when the gate ends", "record", r.ID, "error", err)
		if g.RefuseUnrecorded {
			notLetIn(r, err)
		}
		_ = g.append(r) // for when it can
		if r.BreakGlass == nil {
			return err
		}
	}
	g.wrote(r.BreakGlass)
	return err
}

// doubt returns why what is let in may never be on record, where that matters, and makes
// the record one of a refusal.
func (g *Gate) doubt(r *audit.Record, allowed bool) error {
	log, tells := g.Recorder.(interface{ Unwritable() error })
	if !allowed || !g.RefuseUnrecorded || !tells {
		return nil
	}
	err := log.Unwritable()
	if err != nil {
		notLetIn(r, err)
	}
	return err
}

// notLetIn makes a record one of a refusal for want of a record.
func notLetIn(r *audit.Record, err error) {
	r.Event, r.Decision, r.BreakGlass = eventRefused, nil, nil
	r.Error = "not let in, because it might never have been recorded: " + err.Error()
}

// misunderstood refuses a request that cannot be read as what it says it is.
func (g *Gate) misunderstood(req *request, err error) answer {
	g.count(&request{DryRun: req.DryRun}, decide.DENY.String(), decide.NoOverride)
	r := g.newRecord(req, eventRefused)
	r.Error = err.Error()
	_ = g.append(&r)
	return refuse(http.StatusBadRequest, "%v", err)
}

// pass lets in a request that brings no image in. event is "" when there is
// nothing worth a record.
func (g *Gate) pass(req *request, event string) answer {
	g.count(req, "NONE", decide.NoOverride)
	if event != "" {
		r := g.newRecord(req, event)
		_ = g.append(&r)
	}
	return answer{allowed: true}
}

func (g *Gate) newRecord(req *request, event string) audit.Record {
	return newRecord(req, event, g.Now())
}

func newRecord(req *request, event string, now time.Time) audit.Record {
	r := audit.Record{
		ID: audit.NewID(), Time: now.UTC(), Event: event, Cluster: req.place.Cluster,
		UID: req.UID, Operation: req.Operation, Resource: resourceName(req),
		Namespace: req.Namespace, Name: req.Name, User: req.UserInfo.Username, DryRun: req.DryRun,
	}
	if !req.begun.IsZero() {
		r.Took = max(0, now.Sub(req.begun)).Round(time.Microsecond).Seconds()
	}
	return r
}

// append hands a record over. What is lost is counted, and told of, by who keeps it.
func (g *Gate) append(r *audit.Record) error {
	err := g.Recorder.Append(*r)
	if err != nil {
		g.Logger.Debug("recording a decision", "record", r.ID, "error", err)
	}
	return err
}

// count counts a request. Its resource is a name that is known, or else "other", since
// whoever asks could make up any number of them.
func (g *Gate) count(req *request, verdict string, override decide.Override) {
	resource := ""
	if res := req.resource(); res == imageReviews || res == imagePulls || g.Resources.has(res) {
		resource = res.String()
	} else if res.Resource != "" {
		resource = "other"
	}
	dryRun := "false"
	if req.DryRun {
		dryRun = "true"
	}
	g.decisions.WithLabelValues(resource, verdict, string(override), dryRun).Inc()
}

func resourceName(req *request) string {
	name := req.resource().String()
	if req.SubResource != "" {
		name += "/" + req.SubResource
	}
	return clip(name)
}
