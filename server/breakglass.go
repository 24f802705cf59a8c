package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// BreakGlassConfig says who may break glass, and what becomes of it.
type BreakGlassConfig struct {
	// Modes permit, each by itself: "open" everybody who may create pods (default), "rbac"
	// whom the API server lets do the verb breakglass on workloads of gatehouse.dev,
	// "grant" what a grant covers.
	Modes []breakglass.Mode `yaml:"modes"`
	// RequireReason refuses who gives no justification.
	RequireReason bool `yaml:"requireReason"`
	// Kritis says what Kritis' annotation is worth: "ignore" (default) nothing, "true" what
	// the others are, "any" what it was in Kritis, where any value counted.
	Kritis admission.KritisMode `yaml:"kritis"`
	// OnAccessUnavailable is what mode rbac does when the API server cannot be asked:
	// "refuse" (default), or "allow", which is recorded as not asked.
	OnAccessUnavailable string `yaml:"onAccessUnavailable"`
	// Controllers are more users who make pods for others, beside Kubernetes' own.
	Controllers []string `yaml:"controllers"`
	// Kubernetes is the API server to be asked. It is needed by mode rbac and closeWhenGone.
	Kubeconfig string `yaml:"kubeconfig"`
	// CloseWhenGone closes incidents whose image no pod of the namespace has any more.
	CloseWhenGone bool `yaml:"closeWhenGone"`
	// GrantorsFiles say who may grant; they are watched. Signatures is of how many people a
	// grant needs (default 1), and MaxGrant for how long one may be at most (default 24h).
	GrantorsFiles []string      `yaml:"grantorsFiles"`
	Signatures    int           `yaml:"signatures"`
	MaxGrant      time.Duration `yaml:"maxGrant"`
	// GrantFiles are grants beside those that are filed with the service; they are watched.
	GrantFiles []string `yaml:"grantFiles"`
	// GoneAfter is how long after its last use an image that no pod has counts as gone
	// (default 10m): pods that were let in a moment ago are not there yet.
	GoneAfter time.Duration `yaml:"goneAfter"`
	// PageAloneAfter is how long a gate that runs alone leaves it to its service to page,
	// before it pages by its own section notify (default 2m).
	PageAloneAfter time.Duration `yaml:"pageAloneAfter"`
	// ReceiverFailedAfter is how long a receiver of section notify may fail before that is an
	// incident (default 5m).
	ReceiverFailedAfter time.Duration `yaml:"receiverFailedAfter"`
	// EscalateAfter is how long an incident waits for somebody to look (default 15m), and
	// ForgottenAfter how long one that was acknowledged may stay unresolved (default 24h).
	EscalateAfter  time.Duration `yaml:"escalateAfter"`
	ForgottenAfter time.Duration `yaml:"forgottenAfter"`
}

const (
	refuseUnasked = "refuse"
	allowUnasked  = "allow"

	defaultMaxGrant            = 24 * time.Hour
	defaultGoneAfter           = 10 * time.Minute
	defaultPageAloneAfter      = 2 * time.Minute
	defaultReceiverFailedAfter = 5 * time.Minute
	// podsKept is how long the pods of a namespace are not listed again.
	podsKept = 20 * time.Second
	// goneTimeout bounds the question which images run.
	goneTimeout = 20 * time.Second
	// maxGrantorsFile bounds a file of grantors, in bytes.
	maxGrantorsFile = 1 << 20
)

func defaultBreakGlass() BreakGlassConfig {
	return BreakGlassConfig{
		Modes: []breakglass.Mode{breakglass.Open}, Kritis: admission.KritisIgnored, OnAccessUnavailable: refuseUnasked, Signatures: 1, MaxGrant: defaultMaxGrant,
		GoneAfter: defaultGoneAfter, PageAloneAfter: defaultPageAloneAfter, ReceiverFailedAfter: defaultReceiverFailedAfter,
		EscalateAfter: breakglass.DefaultEscalateAfter, ForgottenAfter: breakglass.DefaultForgottenAfter,
	}
}

func (c *BreakGlassConfig) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("breakGlass "+format, args...)) }
	for _, m := range c.Modes {
		if m != breakglass.Open && m != breakglass.RBAC && m != breakglass.ByGrant {
			bad("modes: %q: want %q, %q or %q", m, breakglass.Open, breakglass.RBAC, breakglass.ByGrant)
		}
	}
	if len(c.Modes) > 1 && slices.Contains(c.Modes, breakglass.Open) {
		bad("modes: %q permits everybody; leave it or the others out", breakglass.Open)
	}
	if slices.Contains(c.Modes, breakglass.ByGrant) && len(c.GrantorsFiles) == 0 {
		bad("modes: %q: who may grant? give grantorsFiles", breakglass.ByGrant)
	}
	if k := c.Kritis; k != "" && k != admission.KritisIgnored && k != admission.KritisTrue && k != admission.KritisAny {
		bad("kritis %q: want %q, %q or %q", k, admission.KritisIgnored, admission.KritisTrue, admission.KritisAny)
	}
	if c.OnAccessUnavailable != refuseUnasked && c.OnAccessUnavailable != allowUnasked {
		bad("onAccessUnavailable %q: want %q or %q", c.OnAccessUnavailable, refuseUnasked, allowUnasked)
	}
	if c.Signatures < 1 {
		bad("signatures %d: want at least 1", c.Signatures)
	}
	if c.MaxGrant <= 0 || c.MaxGrant > breakglass.MaxGrantLife {
		bad("maxGrant %s: want a time of at most %s", c.MaxGrant, breakglass.MaxGrantLife)
	}
	for name, d := range map[string]time.Duration{
		"escalateAfter": c.EscalateAfter, "forgottenAfter": c.ForgottenAfter, "goneAfter": c.GoneAfter, "pageAloneAfter": c.PageAloneAfter, "receiverFailedAfter": c.ReceiverFailedAfter,
	} {
		if d <= 0 {
			bad("%s is a time, such as 15m", name)
		}
	}
	return errors.Join(errs...)
}

// glass is what a gate has for break-glass.
type glass struct {
	cfg       BreakGlassConfig
	project   string
	logger    *slog.Logger
	log       *audit.Log
	grants    *breakglass.Grants
	warden    *breakglass.Warden
	incidents *breakglass.Incidents
	review    *incidentReview
	// putOnRecord, unless it is nil, has what changes recorded before it counts.
	putOnRecord func(ctx context.Context, before, next []audit.PolicyVersion) error
	// read are the texts of the files that were read last.
	read map[string][]byte
}

// openGlass opens the log of decisions, and what is made from it.
func (p *parts) openGlass() error {
	log, err := p.openAudit(auditDecisions)
	if err != nil {
		return err
	}
	cfg := p.cfg.BreakGlass
	g := &glass{cfg: cfg, project: p.cfg.Project, logger: p.logger, log: log, grants: breakglass.NewGrants(), review: &incidentReview{place: p.cfg.place(), grace: cfg.GoneAfter}}
	g.putOnRecord = g.recorder(&p.cfg.Audit, p.cfg.Cluster)
	if err := g.readFiles(); err != nil {
		return err
	}
	writers := breakglass.NewWriters(append(breakglass.Controllers(), cfg.Controllers...))
	options := breakglass.Options{
		Modes: cfg.Modes, Writers: writers, AllowUnasked: cfg.OnAccessUnavailable == allowUnasked, Grants: g.grants, RequireReason: cfg.RequireReason,
		Now: time.Now, Logger: p.logger,
	}
	if slices.Contains(cfg.Modes, breakglass.RBAC) || cfg.CloseWhenGone {
		client, err := kube.Open(kube.Options{Kubeconfig: cfg.Kubeconfig})
		if err != nil {
			return fmt.Errorf("breakGlass: %w", err)
		}
		options.Access = kubeAccess{client}
		if cfg.CloseWhenGone {
			g.review.kube = client
		}
	}
	if g.warden, err = breakglass.NewWarden(options); err != nil {
		return err
	}
	g.incidents, err = breakglass.OpenIncidents(breakglass.IncidentOptions{
		Dir: filepath.Join(p.cfg.Data, "breakglass"), Log: log, Writers: writers, Reviewer: g.review, Pager: p.pager(),
		EscalateAfter: cfg.EscalateAfter, ForgottenAfter: cfg.ForgottenAfter, Now: time.Now, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	p.onClose(g.incidents.Close)
	p.glass = g
	for _, state := range []breakglass.State{breakglass.StateOpen, breakglass.StateAcknowledged} {
		if err := p.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_breakglass_incidents", Help: "Incidents of break-glass that are not resolved, by state.", ConstLabels: prometheus.Labels{"state": string(state)},
		}, func() float64 { return float64(g.incidents.Counts()[state]) })); err != nil {
			return err
		}
	}
	return nil
}

// decides has incidents closed by what the gate decides by.
func (g *glass) decides(facts admission.Evidence, rules func() policy.Set) {
	g.review.gate.Store(&decider{facts, rules})
}

// follow follows the grants of a source until ctx ends.
func (g *glass) follow(ctx context.Context, group *errgroup.Group, source breakglass.Source) {
	group.Go(func() error {
		g.grants.Follow(ctx, source, g.project, time.Now, g.logger)
		return nil
	})
}

// attend makes incidents, has them paged, and watches the files, until ctx ends. It needs
// nobody else.
func (p *parts) attend(ctx context.Context, group *errgroup.Group) {
	g := p.glass
	group.Go(func() error { return g.incidents.Run(ctx) })
	if p.outbox != nil {
		group.Go(func() error { return p.outbox.Run(ctx) })
		group.Go(func() error { return p.watchReceivers(ctx) })
	}
	group.Go(func() error {
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		said := ""
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			text := ""
			if err := g.readFiles(); err != nil {
				text = err.Error()
			}
			if text != "" && text != said {
				g.logger.Error("changed files of break-glass are not used", "error", text)
			}
			said = text
		}
	})
}

// readFiles reads who may grant, and grants, if they have changed.
func (g *glass) readFiles() error {
	texts := map[string][]byte{}
	changed := g.read == nil
	for _, path := range slices.Concat(g.cfg.GrantorsFiles, g.cfg.GrantFiles) {
		text, err := bounded.ReadFile(path, maxGrantorsFile)
		if err != nil {
			return fmt.Errorf("reading files of break-glass: %w", err)
		}
		texts[path] = text
		changed = changed || !bytes.Equal(text, g.read[path])
	}
	if !changed {
		return nil
	}
	if err := g.recordFiles(texts); err != nil {
		return err
	}
	var grantors []breakglass.Grantor
	for _, path := range g.cfg.GrantorsFiles {
		some, found := breakglass.ParseGrantors(path, texts[path])
		if err := found.Err(); err != nil {
			return err
		}
		grantors = append(grantors, some...)
	}
	g.grants.Trust(grantors, g.cfg.Signatures, g.cfg.MaxGrant)
	for _, path := range g.cfg.GrantFiles {
		if err := g.grants.Put(path, texts[path], time.Now()); err != nil {
			g.logger.Warn("a break-glass grant does not count", "grant", path, "error", err)
		}
	}
	g.read = texts
	return nil
}

// kubeAccess asks an API server who may.
type kubeAccess struct{ client *kube.Client }

// MayBreakGlass is of [breakglass.Access].
func (k kubeAccess) MayBreakGlass(ctx context.Context, who breakglass.User, namespace, workload string) (bool, string, error) {
	return k.client.May(ctx, kube.Access{
		User: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra,
		Verb: breakglass.Verb, Group: breakglass.APIGroup, Resource: breakglass.Resource, Namespace: namespace, Name: workload,
	})
}

// An incidentPager tells the log what happens to incidents, and people, if there is an outbox.
type incidentPager struct {
	logger *slog.Logger
	outbox *notify.Outbox // nil: nobody is told
}

// kinds are those of events as messages.
var kinds = map[breakglass.EventKind]notify.Kind{
	breakglass.EventOpened: notify.Opened, breakglass.EventReopened: notify.Opened, breakglass.EventEscalated: notify.Escalated,
	breakglass.EventAcknowledged: notify.Acknowledged, breakglass.EventResolved: notify.Resolved, breakglass.EventClosed: notify.Closed,
}

// Page is of [breakglass.Pager].
func (p incidentPager) Page(ctx context.Context, i breakglass.Incident, e breakglass.Event) error {
	if i.Kind == breakglass.Receiver && !i.Called && e.Kind != breakglass.EventEscalated {
		p.log(ctx, &i, e)
		return breakglass.ErrElsewhere // the outbox has told of it itself, over the other receivers
	}
	if p.outbox != nil {
		if err := p.outbox.Enqueue(ctx, messageOf(&i, e)); err != nil {
			return err
		}
	}
	p.log(ctx, &i, e)
	return nil
}

func (p incidentPager) log(ctx context.Context, i *breakglass.Incident, e breakglass.Event) {
	level := slog.LevelInfo
	if e.Kind.Calls() {
		level = slog.LevelWarn
	}
	p.logger.Log(ctx, level, "incident "+string(e.Kind), "kind", string(i.Kind), "incident", i.ID, "namespace", i.Namespace, "workload", i.Workload.String(),
		"image", i.Image, "uses", i.Uses, "who", e.Who, "text", e.Text)
}

// messageOf puts an event into a message.
func messageOf(i *breakglass.Incident, e breakglass.Event) notify.Message {
	kind := kinds[e.Kind]
	m := notify.Message{
		ID: e.ID, Kind: kind, Key: i.Key(), Severity: notify.Info, Time: e.Time,
		Title: fmt.Sprintf("break-glass %s: %s in %s", e.Kind, i.Workload, i.Namespace),
		Labels: []notify.Field{
			{Name: "cluster", Value: i.Cluster}, {Name: "namespace", Value: i.Namespace}, {Name: "workload", Value: i.Workload.String()}, {Name: "incident", Value: i.ID},
		},
	}
	if i.Kind == breakglass.Receiver {
		m.Title, m.Labels = fmt.Sprintf("pager %s: %s", e.Kind, i.Workload.Name), []notify.Field{{Name: "receiver", Value: i.Workload.Name}}
	}
	if kind.Calls() {
		m.Severity = notify.Error
		if kind == notify.Escalated {
			m.Severity = notify.Critical
		}
	}
	add := func(name, value string) {
		if value != "" {
			m.Fields = append(m.Fields, notify.Field{Name: name, Value: value})
		}
	}
	if i.Kind == breakglass.Receiver {
		add(notify.What, i.Said)
		add("since", i.First.Format(time.RFC3339))
		add("by", e.Who)
		add("comment", e.Text)
		return m
	}
	var who, why []string
	for _, p := range i.People {
		who = append(who, cmp.Or(p.Name, "somebody who is not known"))
	}
	for _, r := range i.Reasons {
		why = append(why, strings.TrimSpace(r.Ticket+" "+r.Text))
	}
	add(notify.Who, strings.Join(who, ", "))
	add(notify.What, i.Image)
	add(notify.Why, cmp.Or(strings.Join(why, "; "), "nobody said"))
	add(notify.Where, fmt.Sprintf("%s %s %s", i.Cluster, i.Namespace, i.Workload))
	add(notify.Policy, i.Said)
	add("uses", strconv.FormatInt(i.Uses, 10))
	add("gates", strings.Join(i.Gates, ", "))
	add("permit", strings.Join(i.Permits, ", "))
	add("by", e.Who)
	add("comment", e.Text)
	add("record", i.Record)
	return m
}

// A decider is what a gate decides by.
type decider struct {
	facts admission.Evidence
	rules func() policy.Set
}

// incidentReview tells whether the matter of an incident is over.
type incidentReview struct {
	place admission.Place
	gate  atomic.Pointer[decider]
	kube  *kube.Client // nil: what runs is not known
	grace time.Duration

	mu   sync.Mutex
	pods map[string]podsSeen
}

type podsSeen struct {
	at     time.Time
	images kube.Images
}

// Over is of [breakglass.Reviewer].
func (r *incidentReview) Over(ctx context.Context, i breakglass.Incident) (string, error) {
	if r.allowed(ctx, i) {
		return "policy allows the image now", nil
	}
	if r.kube == nil || i.Cluster != r.place.Cluster || time.Since(i.Last) <= r.grace {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	images, err := r.running(ctx, i.Namespace, i.Last.Add(r.grace))
	if err != nil || images.Has(i.Image, i.Digest) {
		return "", err
	}
	return "no pod in the namespace has the image any more", nil
}

// allowed reports whether policy allows the image now, without any override.
func (r *incidentReview) allowed(ctx context.Context, i breakglass.Incident) bool {
	gate := r.gate.Load()
	if gate == nil {
		return false
	}
	account := i.ServiceAccount
	if account == "" {
		account = "default"
	}
	in := decide.Request{Cluster: i.Cluster, Namespace: i.Namespace, ServiceAccount: account, Images: []decide.ImageUse{{Type: decide.Container, Text: i.Image}}}
	if r.place.TrustDomain != "" {
		in.IstioIdentity = r.place.TrustDomain + "/ns/" + i.Namespace + "/sa/" + account
	}
	rules := gate.rules()
	facts := gate.facts.Collect(ctx, admission.References(in.Images))
	d := decide.Decide(in, rules, facts, time.Now())
	return d.Verdict == decide.ALLOW
}

// running lists the images of a namespace, as they are after some time, and not too often.
func (r *incidentReview) running(ctx context.Context, namespace string, after time.Time) (kube.Images, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if seen, ok := r.pods[namespace]; ok && now.Sub(seen.at) < podsKept && seen.at.After(after) {
		return seen.images, nil
	}
	images, err := r.kube.RunningImages(ctx, namespace)
	if err != nil {
		return nil, err
	}
	if len(r.pods) > 1000 || r.pods == nil {
		r.pods = map[string]podsSeen{}
	}
	r.pods[namespace] = podsSeen{now, images}
	return images, nil
}

// broken tells by which incident an image was let in that a node is about to pull.
func (g *glass) broken(digest image.Digest, texts []string) (incident string, used bool) {
	return g.incidents.LetIn(digest.String(), texts)
}
