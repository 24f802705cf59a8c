package sink

import (
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/notify"
)

// Reasons of Events.
const (
	reasonDenied     = "ImageDenied"
	reasonUnpinned   = "ImageNotPinned" // no digest was found for a tag
	reasonBreakGlass = "BreakGlass"
	reasonDryRun     = "DryRunDenied"
	reasonFailedOpen = "ImageNotChecked" // and let in
	reasonTest       = "GatehouseTest"
)

const (
	namespaceKind = "Namespace"
	podKind       = "Pod"
	coreVersion   = "v1"
	// maxImage bounds an image in a message, in bytes.
	maxImage = 300
)

// workloads are the kinds of what the gate reviews, by the resources of its records.
var workloads = map[string]object{
	"pods":                   {APIVersion: coreVersion, Kind: podKind},
	"replicationcontrollers": {APIVersion: coreVersion, Kind: "ReplicationController"},
	"deployments.apps":       {APIVersion: "apps/v1", Kind: "Deployment"},
	"replicasets.apps":       {APIVersion: "apps/v1", Kind: "ReplicaSet"},
	"statefulsets.apps":      {APIVersion: "apps/v1", Kind: "StatefulSet"},
	"daemonsets.apps":        {APIVersion: "apps/v1", Kind: "DaemonSet"},
	"jobs.batch":             {APIVersion: "batch/v1", Kind: "Job"},
	"cronjobs.batch":         {APIVersion: "batch/v1", Kind: "CronJob"},
}

// plurals are their resources, by kind.
var plurals = func() map[string]string {
	m := map[string]string{}
	for resource, o := range workloads {
		m[o.Kind], _, _ = strings.Cut(resource, ".")
	}
	return m
}()

// objectOf is what people look at: the workload, as far as it is known, and else the
// namespace.
func objectOf(r *audit.Record) object {
	if g := r.BreakGlass; g != nil && g.Name != "" {
		for _, o := range workloads {
			if o.Kind == g.Kind {
				o.Namespace, o.Name = r.Namespace, g.Name
				return o
			}
		}
	}
	resource, _, _ := strings.Cut(r.Resource, "/")
	if o, known := workloads[resource]; known && r.Name != "" {
		o.Namespace, o.Name = r.Namespace, r.Name
		return o
	}
	return object{APIVersion: coreVersion, Kind: namespaceKind, Namespace: r.Namespace, Name: r.Namespace}
}

// happenings are what an Event is to tell of a record: one for each image that policy does
// not allow.
func happenings(e deliver.Entry) []happening {
	r := e.Decision
	if r == nil || r.Namespace == "" || r.DryRun {
		return nil
	}
	one := happening{object: objectOf(r), record: e.ID, records: []string{e.ID}, count: 1, first: e.Time, last: e.Time}
	if r.Event == deliver.EventTest {
		one.reason, one.text = reasonTest, r.Error
		return []happening{one}
	}
	if len(r.Pinned) > 0 {
		return unpinned(r, one)
	}
	reason := reasonOf(r.Decision)
	if reason == "" {
		return nil
	}
	if len(r.Decision.Images) == 0 { // the record was shortened
		one.reason, one.text = reason, notify.Line(e.Text(), maxEventText)
		return []happening{one}
	}
	var all []happening
	for i := range r.Decision.Images {
		d := &r.Decision.Images[i]
		if d.Verdict == decide.ALLOW || slices.ContainsFunc(all, func(h happening) bool { return h.image == d.Image }) {
			continue
		}
		h := one
		h.image, h.reason = d.Image, reason
		h.text = eventText(r, d)
		all = append(all, h)
	}
	return all
}

// unpinned are the tags that no digest could be written beside.
func unpinned(r *audit.Record, one happening) []happening {
	var all []happening
	for _, p := range r.Pinned {
		if p.Error == "" {
			continue
		}
		h := one
		h.image, h.reason = p.Image, reasonUnpinned
		h.text = notify.Line("No digest was found for image "+notify.Line(p.Image, maxImage)+": "+p.Error, maxEventText)
		all = append(all, h)
	}
	return all
}

// reasonOf is why there is an Event of a decision; "" if there is none.
func reasonOf(d *decide.Decision) string {
	if d == nil {
		return ""
	}
	if !d.Allowed {
		return reasonDenied
	}
	overrides := d.Overrides()
	for _, o := range []struct {
		override decide.Override
		reason   string
	}{
		{decide.BreakGlass, reasonBreakGlass}, {decide.FailOpen, reasonFailedOpen}, {decide.LastAllowed, reasonFailedOpen}, {decide.DryRun, reasonDryRun},
	} {
		if slices.Contains(overrides, o.override) {
			return o.reason
		}
	}
	return ""
}

// eventText is a sentence for people, without control characters.
func eventText(r *audit.Record, d *decide.ImageDecision) string {
	var b strings.Builder
	b.WriteString("Image " + notify.Line(d.Image, maxImage))
	switch {
	case !r.Decision.Allowed:
		b.WriteString(" was refused")
	default:
		b.WriteString(" was let in by " + string(r.Decision.Override) + " against policy")
	}
	if r.User != "" {
		b.WriteString(", for " + notify.Line(r.User, maxImage))
	}
	for i := range d.Reasons {
		if d.Reasons[i].Verdict != decide.ALLOW {
			b.WriteString(": " + d.Reasons[i].Message)
		}
	}
	return notify.Line(b.String(), maxEventText)
}
