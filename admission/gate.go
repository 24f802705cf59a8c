package admission

import (
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

// Recorder keeps the record of decisions. It may have a method Unwritable() error, too,
// which returns nil unless what is taken now may never be durable.
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

// Options configure a [Gate]. The fields from Place to
// Limits may be left out.
type Options struct {
	// Rules returns the policies in force, which may be none.
	Rules    func() policy.Set
	Evidence Evidence
	Recorder Recorder
	// Place is the cluster whose reviews are answered.
	Place
	Templates TemplateMode
	// AllowUnrecorded lets in who breaks glass while that cannot be recorded, which is
	// counted, logged, and said in the answer. Otherwise he is refused.
	AllowUnrecorded bool
	// RefuseUnrecorded refuses all else while it cannot be recorded.
	RefuseUnrecorded bool
	// Warden says who may break glass; nil is everybody.
	Warden Warden
	// KritisBreakGlass says what Kritis' annotation is worth; by default nothing.
	KritisBreakGlass KritisMode
	// Broken tells by which incident an image that a node is about to pull was let in
	// against policy, given its digest and how it may be spelt; nil is by none.
	Broken func(digest image.Digest, texts []string) (incident string, used bool)
	// Resources are custom resources that are reviewed besides pods and workloads.
	Resources Resources
	// Limits bound what is taken at the same time.
	Limits
	Now      func() time.Time
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Gate judges admission requests. It is safe for concurrent use.
type Gate struct {
	Options
	door
	grants    *grants
	decisions *prometheus.CounterVec
	// unrecorded counts broken glass that is not on record.
	unrecorded prometheus.Counter
}

// NewGate returns a Gate.
func NewGate(o Options) (*Gate, error) {
	switch {
	case o.Rules == nil, o.Evidence == nil, o.Recorder == nil, o.Now == nil, o.Logger == nil, o.Registry == nil:
		return nil, errors.New("building the gate: Rules, Evidence, Recorder, Now, Logger and Registry are all needed")
	}
	switch o.KritisBreakGlass {
	case "", KritisIgnored, KritisTrue, KritisAny:
	default:
		return nil, fmt.Errorf("building the gate: Kritis' break-glass %q: want %q, %q or %q", o.KritisBreakGlass, KritisIgnored, KritisTrue, KritisAny)
	}
	switch o.Templates {
	case "":
		o.Templates = DenyTemplates
	case DenyTemplates, WarnTemplates:
	default:
		return nil, fmt.Errorf("building the gate: templates mode %q: want %q or %q", o.Templates, DenyTemplates, WarnTemplates)
	}
	d, err := newDoor("admission", "Reviews that were denied because judging them panicked.", o.Limits, o.Logger, o.Registry)
	if err != nil {
		return nil, fmt.Errorf("building the gate: %w", err)
	}
	g := &Gate{
		Options: o,
		door:    d,
		grants:  newGrants(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_admission_decisions_total",
			Help: "Admission requests answered, by resource, verdict of policy (ALLOW, DENY, INDETERMINATE, or NONE when nothing was judged), what overrode it, and whether the API server only tried it out.",
		}, []string{"resource", "verdict", "override", "dry_run"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_breakglass_unrecorded_total",
			Help: "Requests that were let in by break-glass although that was not on disk.",
		}),
	}
	for _, c := range []prometheus.Collector{g.decisions, g.unrecorded} {
		if err := o.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("building the gate: %w", err)
		}
	}
	return g, nil
}

// review judges one request.
func (g *Gate) review(ctx context.Context, req *request) answer {
	q, err := req.question(g.Resources, g.KritisBreakGlass)
	switch {
	case err != nil:
		return g.misunderstood(req, err)
	case q.pass:
		return g.pass(req, q.event)
	}
	rules := g.Rules()
	a := g.judge(ctx, req, q.parts[0], rules)
	for _, p := range q.parts[1:] {
		a = a.and(g.judge(ctx, req, p, rules))
	}
	return a
}

func (g *Gate) judge(ctx context.Context, req *request, p part, rules policy.Set) answer {
	s := p.subject
	in := s.request(req.place, req.Namespace, p.images)
	facts := g.Evidence.Collect(ctx, References(p.images))
	g.grants.remind(&facts)
	d := decide.Decide(in, rules, facts, g.Now())
	if r, ok := g.Evidence.(Refresher); ok {
		if fresh, asked := r.Refresh(ctx, &d, facts); asked {
			g.grants.remind(&fresh)
			facts = fresh
			d = decide.Decide(in, rules, facts, g.Now())
		}
	}
	var glass *audit.BreakGlass
	if d.BreakGlass != "" {
		if glass = g.rule(ctx, req, s, &d); glass.Refused != "" {
			without := in
			without.BreakGlass = ""
			d = decide.Decide(without, rules, facts, d.Time)
			d.BreakGlass, d.Justification = in.BreakGlass, in.Justification
		}
	}
	g.grants.keep(d.Grants)

	a := answer{allowed: d.Allowed, annotations: annotations(d, glass), warnings: warnings(d, s, req.DryRun)}
	if !d.Allowed {
		a.code, a.reason, a.message = http.StatusForbidden, reasonViolatesPolicy, decide.Message(d)
		if d.Verdict == decide.INDETERMINATE && slices.Contains(d.Codes(), decide.CodeEvidenceUnavailable) { // an outage is no violation, and whoever counts those must not take it for one
			a.code, a.reason = http.StatusServiceUnavailable, reasonUnavailable
		}
		if glass != nil {
			a.message = strings.TrimSuffix(a.message, "\n") + "\n" + refusedMessage(d.BreakGlass, glass.Refused)
		}
		if s.isTemplate && g.Templates == WarnTemplates {
			a.allowed = true
			a.warnings = append(a.warnings, warningLines("its pods will be refused: "+a.message)...)
		}
	}
	return g.record(ctx, req, &d, glass, a)
}
