package controller

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// pass holds the images of pods against the policies of their namespaces, and writes what
// came of it, where that is not there yet. Without a filing, which knows how far objects
// have come, no status is written.
func (c *Controller) pass(ctx context.Context, m *mirror, f *filing) Report {
	begun := time.Now()
	c.passes.Inc()
	there := m.snapshot()
	c.readings.update(there)
	policies := c.namespaces()
	pods := m.byNamespace()
	w := &writing{Controller: c}
	c.forgetAsked()
	counted := make(map[objects.Ref]*imageCount)
	for namespace, list := range policies {
		found, decided := c.hold(ctx, namespace, list, pods[namespace])
		for i, h := range list {
			counted[h.Ref] = decided[i].count()
		}
		w.attest(ctx, c.wanted(namespace, list, decided, pods[namespace]))
		w.report.Policies += len(list)
		for _, p := range pods[namespace] {
			w.pod(ctx, m, p, found)
		}
	}
	for namespace, list := range pods {
		if policies[namespace] == nil {
			for _, p := range list {
				w.bare(ctx, m, p)
			}
		}
	}
	if f != nil {
		made := c.Outcome()
		for ref, o := range there {
			j := c.readings.judge(o, made)
			j.images = counted[ref]
			w.status(ctx, m, o, o.next(j, f.standing(o), c.Now()))
		}
	}
	c.took = time.Since(begun)
	return w.finish()
}

// decisions are what one policy says of images, by their texts; scanned and attested are of
// an ImageSecurityPolicy only.
type decisions struct {
	whole, scanned, attested map[string]*decide.ImageDecision
}

func (d decisions) count() *imageCount {
	n := &imageCount{Total: len(d.whole)}
	for _, image := range d.whole {
		if image.Verdict == decide.ALLOW {
			n.Satisfied++
		}
	}
	return n
}

// allows reports whether all policies allow an image.
func allows(all []decisions, text string) bool {
	return !slices.ContainsFunc(all, func(d decisions) bool { return d.whole[text] == nil || d.whole[text].Verdict != decide.ALLOW })
}

// hold holds the images of a namespace against its policies. It returns what is found of
// each image, if the namespace has an ImageSecurityPolicy, and what each policy says.
func (c *Controller) hold(ctx context.Context, namespace string, list []held, pods []*pod) (map[string]imageFinding, []decisions) {
	texts := map[string]bool{}
	for _, p := range pods {
		for _, text := range p.images {
			texts[text] = true
		}
	}
	request := decide.Request{Cluster: c.Place.Cluster, Namespace: namespace}
	var refs []image.Reference
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		request.Images = append(request.Images, decide.ImageUse{Text: text, Type: decide.Container})
		if ref, err := image.Parse(text); err == nil {
			refs = append(refs, ref)
		}
	}
	facts := c.Evidence.Collect(ctx, refs)
	all := make([]decisions, len(list))
	var found map[string]imageFinding
	for i, h := range list {
		all[i].whole = c.decide(request, h.whole, facts)
		if h.scanned == nil {
			continue
		}
		if found == nil {
			found = make(map[string]imageFinding, len(request.Images))
		}
		all[i].scanned, all[i].attested = c.decide(request, h.scanned, facts), c.decide(request, h.attested, facts)
		for text := range texts {
			found[text] = found[text].and(findingOf(h, all[i].scanned[text], all[i].attested[text], facts))
		}
	}
	return found, all
}

func (c *Controller) decide(request decide.Request, rules *policy.Ruleset, facts evidence.Facts) map[string]*decide.ImageDecision {
	d := decide.Decide(request, policy.Set{rules}, facts, c.Now())
	byText := make(map[string]*decide.ImageDecision, len(d.Images))
	for i, use := range request.Images {
		byText[use.Text] = &d.Images[i]
	}
	return byText
}

// An imageFinding is what is found of one image by the ImageSecurityPolicies of a namespace.
type imageFinding struct {
	looked, unknown        bool
	violations             map[string]bool // by the names of notes
	unqualified, unscanned bool
	attested               bool
}

// findingOf is what one policy says of an image.
func findingOf(h held, scanned, attested *decide.ImageDecision, facts evidence.Facts) imageFinding {
	f := imageFinding{looked: true, attested: attested.Verdict == decide.ALLOW, unknown: attested.Verdict == decide.INDETERMINATE}
	if scanned.Verdict == decide.ALLOW {
		return f
	}
	for _, r := range scanned.Reasons {
		switch r.Code {
		case decide.CodeNoDigest, decide.CodeInvalidReference:
			f.unqualified = true
		case decide.CodeNotScanned:
			f.unscanned = true
		case decide.CodeVulnerable:
			f.violations = violations(h.limits, scanned.Digest, facts)
		default:
			f.unknown = f.unknown || r.Verdict != decide.ALLOW
		}
	}
	return f
}

// violations are the vulnerabilities of an image that are beyond limits.
func violations(limits policy.Vulnerabilities, d image.Digest, facts evidence.Facts) map[string]bool {
	found := map[string]bool{}
	for _, scan := range facts.Images[d].Scans {
		if !slices.Contains(limits.Projects, scan.Project) {
			continue
		}
		for _, finding := range scan.Findings {
			if _, bad := decide.Violates(limits, finding); bad {
				found[finding.Note] = true
			}
		}
	}
	return found
}

// and takes together what two policies say of an image: it is attested if both say so.
func (f imageFinding) and(g imageFinding) imageFinding {
	if !f.looked {
		return g
	}
	g.unknown = g.unknown || f.unknown
	g.unqualified = g.unqualified || f.unqualified
	g.unscanned = g.unscanned || f.unscanned
	g.attested = g.attested && f.attested
	if len(f.violations) > 0 {
		all := maps.Clone(f.violations)
		maps.Copy(all, g.violations)
		g.violations = all
	}
	return g
}

// of is what is found of a pod: it is attested if all of its images are.
func of(p *pod, found map[string]imageFinding) finding {
	all := finding{attested: len(p.images) > 0}
	count, unqualified, unscanned := 0, "", ""
	for _, text := range p.images {
		f := found[text]
		all.unknown = all.unknown || f.unknown || !f.looked
		all.attested = all.attested && f.attested
		all.violating = all.violating || f.unqualified || f.unscanned || len(f.violations) > 0
		if count += len(f.violations); f.unqualified && unqualified == "" {
			unqualified = text
		}
		if f.unscanned && unscanned == "" {
			unscanned = text
		}
	}
	all.violation = violationText(count, unqualified, unscanned)
	return all
}

// writing writes what a pass has found.
type writing struct {
	*Controller
	jobs []func()
	// attestations is how many were asked for.
	attestations int

	mu     sync.Mutex
	report Report
}

// pod writes on a pod what was found of it.
func (w *writing) pod(ctx context.Context, m *mirror, p *pod, found map[string]imageFinding) {
	if found == nil { // its namespace has no ImageSecurityPolicy
		w.bare(ctx, m, p)
		return
	}
	all := of(p, found)
	w.mu.Lock()
	w.report.Pods++
	switch {
	case all.unknown:
		w.report.Unknown++
	case all.violating:
		w.report.Violating++
	}
	w.mu.Unlock()
	if !all.unknown { // what is there stays
		w.mark(ctx, m, p, all.marks())
	}
}

// bare takes from a pod what was written on it while its namespace had policies.
func (w *writing) bare(ctx context.Context, m *mirror, p *pod) { w.mark(ctx, m, p, marks{}) }

func (w *writing) mark(ctx context.Context, m *mirror, p *pod, want marks) {
	patch := p.patch(want)
	if patch == nil || !w.Label {
		return
	}
	w.write("pod", p.Namespace, p.Name, func() error { return w.Controller.mark(ctx, m, p, patch, want) })
}

func (w *writing) status(ctx context.Context, m *mirror, o *object, s status) {
	if s.due(o.status, w.Interval) {
		w.write("status", o.Namespace, o.Name, func() error { return w.writeStatus(ctx, m, o, s) })
	}
}

// write writes an object, beside others. One that has gone, or has been made anew, need not
// be written; what is there then is looked at in its turn.
func (w *writing) write(what, namespace, name string, write func() error) {
	w.jobs = append(w.jobs, func() {
		err := write()
		if gone(err) {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			w.writes.WithLabelValues(what, "error").Inc()
			w.report.Failed++
			w.Logger.Error("an object of the cluster cannot be written; trying again", "what", what, "namespace", namespace, "name", name, "error", err)
			return
		}
		w.writes.WithLabelValues(what, "ok").Inc()
		w.report.Written++
	})
}

// finish writes what is to be written, some at a time.
func (w *writing) finish() Report {
	var group errgroup.Group
	group.SetLimit(writers)
	for _, job := range w.jobs {
		group.Go(func() error { job(); return nil })
	}
	_ = group.Wait() // what fails is counted
	return w.report
}
