package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// Markers of break-glass. They count on the pod, or on the template that pods
// are made from, and with exactly the value "true".
const (
	BreakGlassLabel         = "image-policy.k8s.io/break-glass"
	BreakGlassAnnotation    = "alpha.image-policy.k8s.io/break-glass"
	JustificationAnnotation = "gatehouse.dev/break-glass-justification"

	markerValue = "true"

	// maxJustification bounds the free text that is recorded.
	maxJustification = 1024
)

// Evidence answers what is known about digests, from memory.
type Evidence interface {
	// Collect returns what is known about the images: an entry for each digest,
	// which is Unavailable if it could not be brought up to date before ctx ended.
	Collect(ctx context.Context, refs []image.Reference) evidence.Facts
}

// A Refresher is Evidence that may not have heard yet of what was committed
// somewhere else.
type Refresher interface {
	Evidence
	// Refresh looks at a decision, and asks for what its images lack and may be there by
	// now. It returns the facts to decide by again, in which what could not be asked is
	// Unavailable; and false if there is nothing to be asked.
	Refresh(ctx context.Context, d *decide.Decision, facts evidence.Facts) (evidence.Facts, bool)
}

// Recorder keeps the record of decisions.
type Recorder interface {
	// Append takes a record without waiting for a disk.
	Append(audit.Record) error
	// AppendSync returns when the record is durable.
	AppendSync(context.Context, audit.Record) error
}

// TemplateMode is what happens to a workload whose template would be denied as a
// pod. The pods themselves are judged in any case.
type TemplateMode string

// The modes: refuse the workload at once, or let it in with a warning and leave
// the refusal to its pods, as managed Binary Authorization does.
const (
	DenyTemplates TemplateMode = "deny"
	WarnTemplates TemplateMode = "warn"
)

// Options configure a [Gate]. All fields but Templates and Cluster are required.
type Options struct {
	// Rules returns the policies in force, which may be none.
	Rules    func() policy.Set
	Evidence Evidence
	Recorder Recorder
	// Place is the cluster whose reviews are answered.
	Place
	Templates TemplateMode
	Now       func() time.Time
	Logger    *slog.Logger
	Registry  prometheus.Registerer
}

// A Gate judges admission requests. It is safe for concurrent use.
type Gate struct {
	Options
	grants    *grants
	decisions *prometheus.CounterVec
	unlogged  prometheus.Counter
}

// NewGate returns a Gate.
func NewGate(o Options) (*Gate, error) {
	switch {
	case o.Rules == nil, o.Evidence == nil, o.Recorder == nil, o.Now == nil, o.Logger == nil, o.Registry == nil:
		return nil, errors.New("building the gate: Rules, Evidence, Recorder, Now, Logger and Registry are all needed")
	}
	switch o.Templates {
	case "":
		o.Templates = DenyTemplates
	case DenyTemplates, WarnTemplates:
	default:
		return nil, fmt.Errorf("building the gate: templates mode %q: want %q or %q", o.Templates, DenyTemplates, WarnTemplates)
	}
	g := &Gate{
		Options: o,
		grants:  newGrants(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_admission_decisions_total",
			Help: "Admission requests answered, by resource, verdict of policy (ALLOW, DENY, INDETERMINATE, or NONE when nothing was judged), what overrode it, and whether the API server only tried it out.",
		}, []string{"resource", "verdict", "override", "dry_run"}),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_audit_lost_total",
			Help: "Decisions that could not be recorded because the audit log did not keep up.",
		}),
	}
	for _, c := range []prometheus.Collector{g.decisions, g.unlogged} {
		if err := o.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("building the gate: %w", err)
		}
	}
	return g, nil
}

// events, as they are recorded.
const (
	eventJudged    = "admission"
	eventRefused   = "refused"
	eventUnchanged = "unchanged"
	eventDeleting  = "deleting"
)

// answer is what the gate says to a request, before it is put into an envelope.
type answer struct {
	allowed     bool
	code        int
	reason      string
	message     string
	warnings    []string
	annotations map[string]string
}

func refuse(code int, format string, args ...any) answer {
	return answer{code: code, reason: http.StatusText(code), message: fmt.Sprintf(format, args...)}
}

// review judges one request.
func (g *Gate) review(ctx context.Context, req *request) answer {
	q, err := req.question()
	switch {
	case err != nil:
		return g.misunderstood(req, err)
	case q.pass:
		return g.pass(req, q.event)
	}
	return g.judge(ctx, req, req.resource(), q.subject, q.images)
}

func (g *Gate) judge(ctx context.Context, req *request, res groupResource, s subject, images []decide.ImageUse) answer {
	in := s.request(g.Place, req.Namespace, images)
	facts := g.Evidence.Collect(ctx, References(images))
	g.grants.remind(&facts)
	d := decide.Decide(in, g.Rules(), facts, g.Now())
	if r, ok := g.Evidence.(Refresher); ok {
		if fresh, asked := r.Refresh(ctx, &d, facts); asked {
			g.grants.remind(&fresh)
			d = decide.Decide(in, g.Rules(), fresh, g.Now())
		}
	}
	g.grants.keep(d.Grants)

	a := answer{allowed: d.Allowed, annotations: annotations(d), warnings: warnings(d, s, req.DryRun)}
	if !d.Allowed {
		a.code, a.reason, a.message = http.StatusForbidden, reasonViolatesPolicy, decide.Message(d)
		if d.Verdict == decide.INDETERMINATE && slices.Contains(d.Codes(), decide.CodeEvidenceUnavailable) { // an outage is no violation, and whoever counts those must not take it for one
			a.code, a.reason = http.StatusServiceUnavailable, reasonUnavailable
		}
		if s.isTemplate && g.Templates == WarnTemplates {
			a.allowed = true
			a.warnings = append(a.warnings, warningLines("its pods will be refused: "+a.message)...)
		}
	}
	return g.record(ctx, req, res, &d, a)
}

// record writes the decision down and counts it. A break-glass that cannot be
// recorded does not happen.
func (g *Gate) record(ctx context.Context, req *request, res groupResource, d *decide.Decision, a answer) answer {
	override := d.Override
	defer func() {
		g.decisions.WithLabelValues(res.String(), d.Verdict.String(), string(override), dryRunLabel(req)).Inc()
	}()
	if req.DryRun {
		return a
	}
	r := g.newRecord(req, eventJudged)
	r.Decision = d
	if override != decide.BreakGlass {
		g.append(r)
		return a
	}
	if err := g.Recorder.AppendSync(ctx, r); err != nil {
		override = decide.NoOverride
		g.Logger.Error("break-glass refused because it could not be recorded", "namespace", req.Namespace, "name", req.Name, "error", err)
		return refuse(http.StatusInternalServerError, "break-glass must be recorded before it counts, and that failed: %v", err)
	}
	g.Logger.Warn("break-glass used", "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "marker", d.BreakGlass, "record", r.ID)
	return a
}

// misunderstood refuses a request that cannot be read as what it says it is.
func (g *Gate) misunderstood(req *request, err error) answer {
	g.decisions.WithLabelValues("", decide.DENY.String(), "", dryRunLabel(req)).Inc()
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
	g.decisions.WithLabelValues(req.resource().String(), "NONE", "", dryRunLabel(req)).Inc()
	if event != "" && !req.DryRun {
		g.append(g.newRecord(req, event))
	}
	return answer{allowed: true}
}

func (g *Gate) newRecord(req *request, event string) audit.Record {
	return audit.Record{
		ID: audit.NewID(), Time: g.Now(), Event: event, Cluster: g.Cluster,
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

// A Place is where pods would run, as far as a request does not say.
type Place struct {
	Cluster     string // LOCATION.NAME
	TrustDomain string // of the mesh, which Istio identities begin with
}

// Check returns an error if rules are chosen by something that is not known of
// the place: they would silently never match.
func (p Place) Check(rules policy.Set) error {
	if cluster, _ := rules.Needs(); cluster && p.Cluster == "" {
		return errors.New("the policy has clusterAdmissionRules, and which cluster this is was not said: give --cluster LOCATION.NAME")
	}
	return p.CheckMesh(rules)
}

// CheckMesh is Check for all but the cluster.
func (p Place) CheckMesh(rules policy.Set) error {
	if _, istio := rules.Needs(); istio && p.TrustDomain == "" {
		return errors.New("the policy has istioServiceIdentityAdmissionRules, and the trust domain of the mesh was not said: give --istio-trust-domain DOMAIN")
	}
	return nil
}

// request asks for a decision on some images of s.
func (s subject) request(place Place, namespace string, images []decide.ImageUse) decide.Request {
	account := s.template.Spec.ServiceAccountName
	if account == "" {
		account = s.template.Spec.ServiceAccount
	}
	r := decide.Request{Cluster: place.Cluster, Namespace: namespace, ServiceAccount: account, Images: images}
	if place.TrustDomain != "" {
		if account == "" {
			account = "default"
		}
		r.IstioIdentity = place.TrustDomain + "/ns/" + namespace + "/sa/" + account
	}
	r.BreakGlass, r.Justification = breakGlass(s.template.Metadata)
	return r
}

// images lists every image that the kubelet would pull, in the order of the spec.
func (s subject) images() []decide.ImageUse {
	spec := s.template.Spec
	uses := make([]decide.ImageUse, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	add := func(list []container, as decide.ContainerType) {
		for _, c := range list {
			uses = append(uses, decide.ImageUse{Container: c.Name, Type: as, Text: c.Image})
		}
	}
	add(spec.InitContainers, decide.InitContainer)
	add(spec.Containers, decide.Container)
	add(spec.EphemeralContainers, decide.EphemeralContainer)
	for _, v := range spec.Volumes {
		if v.Image != nil {
			uses = append(uses, decide.ImageUse{Container: v.Name, Type: decide.ImageVolume, Text: v.Image.Reference})
		}
	}
	return uses
}

func sameImages(a, b []decide.ImageUse) bool {
	if len(a) != len(b) {
		return false
	}
	byPlace := func(x, y decide.ImageUse) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Container, y.Container), cmp.Compare(x.Text, y.Text))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), byPlace), slices.SortedFunc(slices.Values(b), byPlace))
}

// References returns what the images refer to, without those that refer to nothing.
func References(images []decide.ImageUse) []image.Reference {
	list := make([]image.Reference, 0, len(images))
	for _, u := range images {
		if ref, err := image.Parse(u.Text); err == nil {
			list = append(list, ref)
		}
	}
	return list
}

// breakGlass returns the marker on a pod or pod template, and the reason given.
func breakGlass(meta objectMeta) (marker, justification string) {
	switch {
	case meta.Labels[BreakGlassLabel] == markerValue:
		marker = "label " + BreakGlassLabel
	case meta.Annotations[BreakGlassAnnotation] == markerValue:
		marker = "annotation " + BreakGlassAnnotation
	default:
		return "", ""
	}
	justification = meta.Annotations[JustificationAnnotation]
	return marker, strings.ToValidUTF8(justification[:min(len(justification), maxJustification)], "")
}

func resourceName(req *request) string {
	name := req.resource().String()
	if req.SubResource != "" {
		name += "/" + req.SubResource
	}
	return name
}

func dryRunLabel(req *request) string {
	if req.DryRun {
		return "true"
	}
	return "false"
}
