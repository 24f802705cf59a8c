package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// watchInterval is how often policy files are looked at. They are read whole and
// compared by content: mounted ConfigMaps change behind symbolic links, and some
// file systems notify nobody.
const watchInterval = 500 * time.Millisecond

// policies keeps the policies in force: compiled from files, or from the store what
// no file is given for, and replaced when their content changes and is valid. A
// broken new version keeps the last good one.
type policies struct {
	files   policyFiles
	store   admin.Source // nil: files alone
	project string
	place   admission.Place
	index   *index.Index
	logger  *slog.Logger
	reloads *prometheus.CounterVec
	stale   prometheus.Gauge
	// clusterObjects counts the objects of the cluster.
	clusterObjects *prometheus.GaugeVec

	// objects reads those of the cluster, and compiler keeps what they were compiled to.
	objects  admin.ObjectReader
	compiler bundle.ObjectCompiler

	// stored is what the store has beside the files of sum storedFor; nil before it
	// was read, and after a change there, of which wake tells.
	stored    *bundle.Sources
	storedFor [sha256.Size]byte
	wake      chan struct{}
	followed  uint64
	// storedSeq is the number of the last change that stored reflects at least, and
	// inForce that of the policies in force. Enforced, unless it is nil, is told the keys,
	// the projects whose scans those need, and the notes whose hints they do.
	storedSeq uint64
	inForce   atomic.Uint64
	enforced  func(trust index.Trust, scans, hints []string)
	// record, unless it is nil, has policies on record before they are in force.
	record func(ctx context.Context, before, next policy.Set) error

	rules atomic.Pointer[policy.Set]
	// outcome is what the objects of the cluster amount to that are in force; nil if there
	// are none.
	outcome atomic.Pointer[objects.Outcome]
	// denying says that the rules in force stand in for some that cannot be enforced.
	denying bool
	// sources are what the rules in force were made from, but for the policies.
	sources atomic.Pointer[bundle.Sources]
	// replaced is the trust of the rules in force while that of those before has not
	// been forgotten.
	replaced index.Trust
	// tried is the content that was last looked at, hasPolicy whether there is a
	// policy in it, and triedErr what was wrong with it. verified is that for whose
	// keys evidence was last verified. The texts are not kept: files of Kritis may
	// have Secrets in them.
	tried     [sha256.Size]byte
	hasPolicy bool
	triedErr  error
	verified  [sha256.Size]byte
	// recorded is that which was put on record last.
	recorded [sha256.Size]byte
}

func newPolicies(cfg Config, own string, store admin.Source, idx *index.Index, logger *slog.Logger, registry prometheus.Registerer) (*policies, error) {
	p := &policies{
		files: cfg.policyFiles(own), store: store, project: cfg.Project, place: cfg.place(), index: idx, logger: logger,
		wake: make(chan struct{}, 1), followed: store.Head(),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_policy_reloads_total",
			Help: "Times that changed policy or attestors files were read, by result: ok or error.",
		}, []string{"result"}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_policy_stale",
			Help: "1 while the policy or attestors files on disk are broken and an earlier version is in force.",
		}),
		clusterObjects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_cluster_objects",
			Help: "Objects of the cluster that policy is made from, by state: ok, or problem if one is not in force as it is written.",
		}, []string{"state"}),
	}
	for _, result := range []string{okResult, errorResult} {
		p.reloads.WithLabelValues(result)
	}
	return p, errors.Join(registry.Register(p.reloads), registry.Register(p.stale), registry.Register(p.clusterObjects), registry.Register(newPolicyInfo(p.current)))
}

// current returns the policy in force, or nil.
func (p *policies) current() policy.Set {
	if set := p.rules.Load(); set != nil {
		return *set
	}
	return nil
}

// known returns the texts that the policies in force were made from, without the
// policies; until there are any, none.
func (p *policies) known() bundle.Sources {
	if s := p.sources.Load(); s != nil {
		return *s
	}
	return bundle.Sources{Project: p.project}
}

// load reads what there is, and puts it in force if it is valid and new.
func (p *policies) load(ctx context.Context) error {
	now, err := p.read(ctx)
	if err != nil {
		return err
	}
	if now.sum == p.tried {
		if p.triedErr != nil {
			return p.triedErr
		}
		p.forget(ctx)
		err := p.keepStatements(ctx, p.current()) // no longer those of the policy before
		if err == nil {
			p.inForce.Store(p.storedSeq)
		}
		return err
	}
	loaded, err := p.compile(now)
	p.tried, p.hasPolicy, p.triedErr = now.sum, len(now.Policies)+len(now.Objects) > 0, err
	if err != nil {
		return err
	}
	set, trust := loaded.Set, index.Trust(loaded.Keys)
	// On record first: evidence by a key that is new counts as soon as it is gathered.
	if p.recorded != now.sum {
		if err := p.putOnRecord(ctx, set); err != nil {
			p.tried = [sha256.Size]byte{}
			return err
		}
		p.recorded = now.sum
	}
	if err := p.gather(ctx, now, loaded); err != nil {
		p.tried = [sha256.Size]byte{}
		return err
	}
	now.Policies, now.Objects = nil, nil
	p.rules.Store(&set)
	p.outcome.Store(loaded.Objects)
	p.denying = false
	p.sources.Store(&now.Sources)
	p.replaced = trust
	p.inForce.Store(p.storedSeq)
	if p.enforced != nil {
		p.enforced(trust, set.ScanProjects(), p.index.HintNotes())
	}
	if len(set) == 0 {
		p.logger.Warn("no policy is in force")
	}
	p.tellObjects(loaded.Objects)
	for _, rules := range set {
		p.logger.Info("policy in force", "policy", rules.Name, "source", rules.Source, "version", rules.Version, "rules", len(rules.Rules), "attestors", len(rules.Attestors))
	}
	return nil
}

// putOnRecord has policies recorded that are about to take the place of others. Where there
// are none yet, those are put in force all the same: to go without would not be better.
func (p *policies) putOnRecord(ctx context.Context, next policy.Set) error {
	if p.record == nil {
		return nil
	}
	before := p.rules.Load()
	if before != nil {
		if err := p.record(ctx, *before, next); err != nil {
			return fmt.Errorf("recording that the policy changes: %w", err)
		}
		return nil
	}
	if err := p.record(ctx, nil, next); err != nil {
		p.logger.Error("the policy that the gate starts with could not be recorded", "error", err)
	}
	return nil
}

// tellObjects tells how many objects of the cluster there are, and of how many there is
// something wrong; what it is stands in their status.
func (p *policies) tellObjects(out *objects.Outcome) {
	all, wrong := 0, 0
	if out != nil {
		all = len(out.Objects)
		for _, problems := range out.Problems {
			if problems[0].Severity == document.Error {
				wrong++
			}
		}
		p.logger.Info("objects of the cluster are in force", "objects", all, "not as written", wrong)
	}
	p.clusterObjects.WithLabelValues("ok").Set(float64(all - wrong))
	p.clusterObjects.WithLabelValues("problem").Set(float64(wrong))
}

// gather has the evidence for new rules read before they are in force, so that they
// never deny for want of it. The index keeps what the rules of before rest on until it
// is told of other keys: when this has to be tried again, it is not told twice.
func (p *policies) gather(ctx context.Context, c content, loaded *bundle.Bundle) error {
	set := loaded.Set
	if err := p.keepStatements(ctx, set, p.current()); err != nil {
		return err
	}
	if p.verified != c.sum {
		if err := p.index.SetTrust(ctx, loaded.Keys); err != nil {
			return fmt.Errorf("verifying stored attestations with the new keys: %w", err)
		}
		p.verified = c.sum
	}
	if err := p.index.SetScope(ctx, set.ScanProjects()); err != nil {
		return fmt.Errorf("reading what scans have found: %w", err)
	}
	p.index.CarryHints(carriedHints(c.Objects))
	return p.index.SetHints(ctx, p.place.Cluster, loaded.HintKeys)
}

// keepStatements has the index keep those of provenances if a policy looks into them.
func (p *policies) keepStatements(ctx context.Context, sets ...policy.Set) error {
	bytes := 0
	if slices.ContainsFunc(sets, policy.Set.NeedsStatements) {
		bytes = index.DefaultStatements
	}
	if err := p.index.KeepStatements(ctx, bytes); err != nil {
		return fmt.Errorf("reading the statements of stored provenances: %w", err)
	}
	return nil
}

// forget drops the evidence that only the policy before this one gave keys for. It is
// called a look later than that was replaced, when no decision by it is under way;
// until then the index keeps both, and what it knew would depend on what was once in
// force.
func (p *policies) forget(ctx context.Context) {
	if p.replaced == nil {
		return
	}
	if err := p.index.SetTrust(ctx, p.replaced); err != nil {
		if ctx.Err() == nil {
			p.logger.Warn("evidence by the keys of the policy before is still kept; trying again", "error", err)
		}
		return
	}
	p.replaced = nil
}

// start puts in force what there is when the server starts. Files that cannot be
// enforced are an error. What is stored is not: its owner can only mend it through
// this server, which denies everything until he does.
func (p *policies) start(ctx context.Context) error {
	err := p.load(ctx)
	if err == nil || p.triedErr == nil {
		return err
	}
	files, fault := p.readFiles()
	if fault == nil {
		_, fault = p.compile(files)
	}
	if fault != nil {
		return fault
	}
	p.deny()
	p.logger.Error("the policy cannot be enforced with what is stored, and everything is denied until that is mended", "error", err)
	return nil
}

// deny puts rules in force that deny everything.
func (p *policies) deny() {
	p.stale.Set(1)
	nothing := &policy.Ruleset{
		Name:  admin.PolicyName(p.project),
		Rules: []policy.Rule{{ID: "in place of a policy that cannot be enforced: the server's log says why", Evaluation: policy.AlwaysDeny}},
	}
	p.rules.Store(&policy.Set{nothing.Build()})
	p.denying = true
}

func (p *policies) compile(c content) (*bundle.Bundle, error) {
	c.Compiler, c.Now = &p.compiler, time.Now()
	loaded, found := bundle.Load(c.Sources)
	if err := p.report(found); err != nil {
		return nil, err
	}
	return loaded, p.place.Check(loaded.Set)
}

// report logs warnings and returns errors.
func (p *policies) report(found document.Diagnostics) error {
	var errs []error
	for _, d := range found {
		if d.Severity == document.Error {
			errs = append(errs, errors.New(d.String()))
		} else {
			p.logger.Warn("reading policy", "finding", d.String())
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("reading policy: %w", errors.Join(errs...))
	}
	return nil
}

// Run watches files and store until ctx ends.
func (p *policies) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		admin.Follow(ctx, p.store, p.project, p.followed, p.logger, func() {
			select {
			case p.wake <- struct{}{}:
			default: // told already, and not looked at yet
			}
		})
		return nil
	})
	group.Go(func() error { return p.watch(ctx) })
	return group.Wait()
}

func (p *policies) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last string // error, said once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.wake:
			p.stored = nil
		}
		before := p.tried
		err := p.load(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != last:
			last = err.Error()
			p.failed(err)
		case err == nil && (last != "" || before != p.tried):
			last = ""
			p.reloads.WithLabelValues(okResult).Inc()
			p.stale.Set(0)
			p.logger.Info("the changed policy is in force")
		}
	}
}

// failed tells of a policy that is not used, or for which the evidence cannot be read.
// Where none was in force before, it does not leave everything allowed.
func (p *policies) failed(err error) {
	p.reloads.WithLabelValues(errorResult).Inc()
	p.stale.Set(1)
	if len(p.current()) == 0 && p.hasPolicy {
		p.deny()
	}
	if p.denying {
		p.logger.Error("the policy cannot be enforced, and everything is denied until it can", "error", err)
		return
	}
	p.logger.Error("the changed policy is not used, the last good one stays in force", "error", err)
}
