package admission

import (
	"context"
	"net/http"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// events, as they are recorded.
const (
	eventJudged    = "admission"
	eventRefused   = "refused"
	eventUnchanged = "unchanged"
	eventDeleting  = "deleting"
)

// record writes the decision down and counts it. A break-glass that cannot be
// recorded does not happen.
func (g *Gate) record(ctx context.Context, req *request, d *decide.Decision, glass *audit.BreakGlass, a answer) answer {
	override := d.Override
	defer func() { g.count(req, d.Verdict.String(), override) }()
	if req.DryRun {
		return a
	}
	r := g.newRecord(req, eventJudged)
	r.Decision, r.BreakGlass = d, glass
	if override != decide.BreakGlass {
		g.recordUnbroken(ctx, r, a.allowed)
		return a
	}
	if err := g.Recorder.AppendSync(ctx, r); err != nil {
		override = decide.NoOverride
		g.Logger.Error("break-glass refused because it could not be recorded", "namespace", req.Namespace, "name", req.Name, "error", err)
		return refuse(http.StatusInternalServerError, "break-glass must be recorded before it counts, and that failed: %v", err)
	}
	g.Logger.Warn("break-glass used", "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username,
		"by", glass.By, "workload", glass.Kind+"/"+glass.Name, "permit", glass.Permit, "marker", d.BreakGlass, "record", r.ID)
	g.wrote(glass)
	return a
}

// recordUnbroken records a decision that breaks no glass. Who wrote a marker is on disk
// before the object is let in, if it is asked for later.
func (g *Gate) recordUnbroken(ctx context.Context, r audit.Record, allowed bool) {
	if r.BreakGlass == nil || !allowed {
		g.append(r)
		return
	}
	if g.Warden == nil || !g.Warden.KeepsWriters() {
		g.append(r)
	} else if err := g.Recorder.AppendSync(ctx, r); err != nil {
		g.unlogged.Inc()
		g.Logger.Error("who wrote a break-glass marker could not be recorded, and is forgotten when the gate ends", "record", r.ID, "error", err)
	}
	g.wrote(r.BreakGlass)
}

// misunderstood refuses a request that cannot be read as what it says it is.
func (g *Gate) misunderstood(req *request, err error) answer {
	g.count(&request{DryRun: req.DryRun}, decide.DENY.String(), decide.NoOverride)
	if !req.DryRun {
		r := g.newRecord(req, eventRefused)
		r.Error = err.Error()
		g.append(r)
	}
	return refuse(http.StatusBadRequest, "%v", err)
}

// pass lets in a request that brings no image in. event is "" when there is
// nothing worth a record.
func (g *Gate) pass(req *request, event string) answer {
	g.count(req, "NONE", decide.NoOverride)
	if event != "" && !req.DryRun {
		g.append(g.newRecord(req, event))
	}
	return answer{allowed: true}
}

func (g *Gate) newRecord(req *request, event string) audit.Record {
	return audit.Record{
		ID: audit.NewID(), Time: g.Now(), Event: event, Cluster: req.place.Cluster,
		UID: req.UID, Operation: req.Operation, Resource: resourceName(req),
		Namespace: req.Namespace, Name: req.Name, User: req.UserInfo.Username,
	}
}

func (g *Gate) append(r audit.Record) {
	if err := g.Recorder.Append(r); err != nil {
		g.unlogged.Inc()
		g.Logger.Error("recording a decision", "record", r.ID, "error", err)
	}
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
