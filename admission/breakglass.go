package admission

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// Markers of break-glass. They count on the pod, or on the template that pods
// are made from, and with exactly the value "true".
const (
	BreakGlassLabel      = "image-policy.k8s.io/break-glass"
	BreakGlassAnnotation = "alpha.image-policy.k8s.io/break-glass"
	// KritisAnnotation is Kritis', where any value counted. See [KritisMode].
	KritisAnnotation = "kritis.grafeas.io/breakglass"

	markerValue = "true"
)

// Annotations that say why, beside a marker.
const (
	JustificationAnnotation = "gatehouse.dev/break-glass-justification"
	TicketAnnotation        = "gatehouse.dev/break-glass-ticket"
	// The ImagePolicyWebhook plugin passes on none that does not have
	// ".image-policy.k8s.io/" in its name.
	ImageReviewJustification = "justification.image-policy.k8s.io/break-glass"
	ImageReviewTicket        = "ticket.image-policy.k8s.io/break-glass"
)

const (
	// maxJustification and maxTicket bound the free text that is recorded.
	maxJustification = 1024
	maxTicket        = 128
)

// A KritisMode says what Kritis' annotation is worth.
type KritisMode string

// The modes.
const (
	// KritisIgnored, or no mode, is nothing.
	KritisIgnored KritisMode = "ignore"
	// KritisTrue takes the annotation for a marker as the others are.
	KritisTrue KritisMode = "true"
	// KritisAny takes it for what it was in Kritis: with any value, "false" too, and on the
	// workload itself.
	KritisAny KritisMode = "any"
)

// A Warden says who may break glass.
type Warden interface {
	// Identify returns the person behind a request, and the workload that it is about;
	// known is false if nobody is.
	Identify(r *breakglass.Request) (who breakglass.User, what breakglass.Workload, known bool)
	// Rule says whether glass may be broken for a request that policy does not allow. It
	// returns well before ctx ends: the record has to be written yet.
	Rule(ctx context.Context, r *breakglass.Request) breakglass.Ruling
	// KeepsWriters reports whether it matters later who wrote an object, and Wrote is told
	// of each that has a marker, was let in, and is recorded.
	KeepsWriters() bool
	Wrote(o breakglass.Object)
}

// A marker asks to break glass.
type marker struct {
	text           string // "" for none
	reason, ticket string
}

// breakGlass returns the marker of the pods of s.
func (s *subject) breakGlass() marker {
	m := markerOf(s.template.Metadata, s.kritis)
	if m.text == "" && s.kritis == KritisAny {
		if _, found := s.meta.Annotations[KritisAnnotation]; found { // where Kritis looked
			m = markerOf(objectMeta{Annotations: s.meta.Annotations}, KritisAny)
		}
	}
	return m
}

func markerOf(meta objectMeta, kritis KritisMode) marker {
	m := marker{}
	value, found := meta.Annotations[KritisAnnotation]
	switch {
	case meta.Labels[BreakGlassLabel] == markerValue:
		m.text = "label " + BreakGlassLabel
	case meta.Annotations[BreakGlassAnnotation] == markerValue:
		m.text = "annotation " + BreakGlassAnnotation
	case value == markerValue && kritis == KritisTrue, found && kritis == KritisAny:
		m.text = "annotation " + KritisAnnotation
	default:
		return m
	}
	m.reason = firstText(meta.Annotations, maxJustification, JustificationAnnotation, ImageReviewJustification)
	m.ticket = firstText(meta.Annotations, maxTicket, TicketAnnotation, ImageReviewTicket)
	return m
}

func firstText(annotations map[string]string, most int, keys ...string) string {
	for _, key := range keys {
		if text := annotations[key]; text != "" {
			return strings.ToValidUTF8(text[:min(len(text), most)], "")
		}
	}
	return ""
}

// misplaced warns of markers that do not count where they are, or as they are written.
func misplaced(s subject) []string {
	if s.breakGlass().text != "" {
		return nil
	}
	if s.isTemplate {
		if m := markerOf(s.meta, s.kritis); m.text != "" && !s.custom {
			return warningLines("the break-glass " + m.text + " counts only on the pod template (spec.template.metadata)")
		}
	}
	said := func(kind, key string) []string {
		return warningLines(fmt.Sprintf("the break-glass %s %s counts only with the value %q", kind, key, markerValue))
	}
	meta := s.template.Metadata
	if _, found := meta.Labels[BreakGlassLabel]; found {
		return said("label", BreakGlassLabel)
	}
	keys := []string{BreakGlassAnnotation}
	if s.kritis == KritisTrue {
		keys = append(keys, KritisAnnotation)
	} else if _, found := meta.Annotations[KritisAnnotation]; found {
		return warningLines("the annotation " + KritisAnnotation + " counts for nothing here; break-glass is the label " + BreakGlassLabel)
	}
	for _, key := range keys {
		if _, found := meta.Annotations[key]; found {
			return said("annotation", key)
		}
		if meta.Labels[key] == markerValue {
			return warningLines("break-glass " + key + " is an annotation, and counts for nothing as a label")
		}
	}
	if meta.Annotations[BreakGlassLabel] == markerValue {
		return warningLines("break-glass " + BreakGlassLabel + " is a label, and counts for nothing as an annotation; the annotation is " + BreakGlassAnnotation)
	}
	return nil
}

// rule has the warden look at a request with a marker, and returns what is to be recorded
// of it.
func (g *Gate) rule(ctx context.Context, req *request, s subject, d *decide.Decision) *audit.BreakGlass {
	m := s.breakGlass()
	r := &breakglass.Request{
		Cluster: req.place.Cluster, Namespace: req.Namespace, Object: s.workload(req), UID: s.meta.UID, Owner: s.owner(),
		TemplateHash: s.meta.Labels["pod-template-hash"], User: req.UserInfo.user(), Marker: m.text, Reason: m.reason, Ticket: m.ticket,
	}
	for i := range d.Images {
		img := &d.Images[i]
		r.Images = append(r.Images, img.Image)
		if img.Verdict != decide.ALLOW {
			r.Denied = append(r.Denied, img.Image)
		}
	}
	b := &audit.BreakGlass{Ticket: m.ticket, Needed: d.Override == decide.BreakGlass, ServiceAccount: short(s.account()), Kind: r.Object.Kind, Name: r.Object.Name, By: r.User.Name}
	if g.Warden != nil {
		who, what, _ := g.Warden.Identify(r)
		b.By, b.Kind, b.Name = who.Name, what.Kind, what.Name
		if raw, err := json.Marshal(breakglass.ObjectOf(r)); err == nil && r.UID != "" && s.isTemplate { // pods come of it
			b.Object = raw
		}
	}
	switch {
	case !b.Needed:
	case g.Warden == nil:
		b.Permit = string(breakglass.Open)
	default:
		ruling := g.Warden.Rule(ctx, r)
		b.Permit, b.Refused = ruling.Permit, ruling.Refused
		if b.By == "" { // the warden may have found out
			who, what, _ := g.Warden.Identify(r)
			b.By, b.Kind, b.Name = who.Name, what.Kind, what.Name
		}
		if !ruling.Allowed && b.Refused == "" {
			b.Refused = "it is not permitted"
		}
	}
	return b
}

// wrote tells the warden of an object that was let in with a marker.
func (g *Gate) wrote(b *audit.BreakGlass) {
	if g.Warden == nil || b == nil || len(b.Object) == 0 {
		return
	}
	var o breakglass.Object
	if err := json.Unmarshal(b.Object, &o); err == nil { // rule has made it
		g.Warden.Wrote(o)
	}
}

// workload names an object as it is.
func (s *subject) workload(req *request) breakglass.Workload {
	w := breakglass.Workload{Kind: short(req.Kind.Kind), Name: s.meta.Name}
	if w.Kind == "" {
		w.Kind = short(req.resource().String())
	}
	if w.Name == "" {
		w.Name = req.Name
	}
	if w.Kind == "Pod" && s.meta.GenerateName != "" { // pods of one making are one thing
		w.Name = s.meta.GenerateName + "*"
	}
	w.Name = short(w.Name)
	return w
}

// owner returns the controller that an object says it is of.
func (s *subject) owner() breakglass.Owner {
	var list []struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		UID        string `json:"uid"`
		Controller bool   `json:"controller"`
	}
	if len(s.meta.OwnerReferences) == 0 || json.Unmarshal(s.meta.OwnerReferences, &list) != nil {
		return breakglass.Owner{}
	}
	for _, o := range list {
		if o.Controller {
			return breakglass.Owner{Workload: breakglass.Workload{Kind: short(o.Kind), Name: short(o.Name)}, UID: short(o.UID)}
		}
	}
	return breakglass.Owner{}
}

// short bounds a name from outside.
func short(s string) string {
	const most = 253 // bytes, as names in Kubernetes may have
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// user returns who asks. Groups that are none are left out: the user may less then.
func (u userInfo) user() breakglass.User {
	who := breakglass.User{Name: u.Username, UID: u.UID}
	if len(u.Groups) > 0 && json.Unmarshal(u.Groups, &who.Groups) != nil {
		who.Groups = nil
	}
	if len(u.Extra) > 0 && json.Unmarshal(u.Extra, &who.Extra) != nil {
		who.Extra = nil
	}
	return who.Bounded()
}

// refusedMessage tells the person who is blocked why the marker does not help, in one line.
func refusedMessage(marker, why string) string {
	line := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, why)
	return "Break-glass (" + marker + ") is not permitted: " + line
}
