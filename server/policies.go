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
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// watchInterval is how often policy files are looked at. They are read whole and
// compared by content: mounted ConfigMaps change behind symbolic links, and some
// file systems notify nobody.
const watchInterval = 500 * time.Millisecond

// maxPolicy bounds a policy or attestors file.
const maxPolicy = 8 << 20

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

	// stored is what was read from the store, with the attestors that files name;
	// nil before, and after a change there, of which wake tells.
	stored   *admin.Policies
	named    []string
	wake     chan struct{}
	followed uint64

	rules atomic.Pointer[policy.Set]
	// sources are what the rules in force were made from.
	sources atomic.Pointer[bundle.Sources]
	// replaced is the trust of the rules in force while that of those before has not
	// been forgotten.
	replaced index.Trust
	// tried is the content that was last looked at, and triedErr what was wrong
	// with it.
	tried    content
	triedErr error
}

// policyFiles are the paths of what policy is made from, and what the texts leave open.
type policyFiles struct {
	policies, attestors, builders []string
	system                        string
	kritis                        []string
	platformDryRun                bool
	// own are the attestors that this server's development attestor signs for, for
	// when no attestors are given. Stored ones of the same name win over them.
	own string
}

// content is what the files have in them.
type content struct {
	bundle.Sources
	sum [sha256.Size]byte
}

// policyFiles returns the files that a configuration names, with those of the
// development attestor.
func (c *Config) policyFiles(own string) policyFiles {
	a := c.Admission
	if len(a.AttestorsFiles) > 0 {
		own = ""
	}
	return policyFiles{
		policies: a.PolicyFiles, attestors: a.AttestorsFiles, builders: a.BuildersFiles, system: a.SystemPolicyFile,
		kritis: a.Kritis, platformDryRun: a.PlatformDryRun, own: own,
	}
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
	}
	return p, errors.Join(registry.Register(p.reloads), registry.Register(p.stale))
}

// current returns the policy in force, or nil.
func (p *policies) current() policy.Set {
	if set := p.rules.Load(); set != nil {
		return *set
	}
	return nil
}

// known returns the texts that the policies in force were made from; until there are
// any, none.
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
	if now.sum == p.tried.sum {
		if p.triedErr == nil {
			p.forget(ctx)
		}
		return p.triedErr
	}
	set, trust, err := p.compile(now)
	p.tried, p.triedErr = now, err
	if err != nil {
		return err
	}
	// Evidence for new keys first, so that the new policy never denies for want of it.
	if err := p.index.SetTrust(ctx, trust); err != nil {
		p.tried = content{}
		return fmt.Errorf("verifying stored attestations with the new keys: %w", err)
	}
	if err := p.index.SetScope(ctx, set.ScanProjects()); err != nil {
		p.tried = content{}
		return fmt.Errorf("reading what scans have found: %w", err)
	}
	p.rules.Store(&set)
	p.sources.Store(&now.Sources)
	p.replaced = trust
	for _, rules := range set {
		p.logger.Info("policy in force", "policy", rules.Name, "source", rules.Source, "version", rules.Version, "rules", len(rules.Rules), "attestors", len(rules.Attestors))
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
// enforced are an error. A stored policy is not: its owner can only mend it through
// this server, which denies everything until he does.
func (p *policies) start(ctx context.Context) error {
	err := p.load(ctx)
	if err == nil || len(p.files.policies) > 0 || len(p.tried.Policies) == 0 {
		return err
	}
	files, fault := p.readFiles()
	if fault == nil {
		_, _, fault = p.compile(files)
	}
	if fault != nil {
		return fault
	}
	p.deny()
	p.logger.Error("the stored policy cannot be enforced, and everything is denied until it is mended", "error", err)
	return nil
}

// deny puts rules in force that deny everything.
func (p *policies) deny() {
	p.stale.Set(1)
	nothing := &policy.Ruleset{
		Name: admin.PolicyName(p.project), Source: "the store",
		Rules: []policy.Rule{{ID: "the stored policy, which cannot be enforced: the server's log says why", Evaluation: policy.AlwaysDeny}},
	}
	p.rules.Store(&policy.Set{nothing.Build()})
}

// read reads the files, and from the store what no file is given for.
func (p *policies) read(ctx context.Context) (content, error) {
	c, err := p.readFiles()
	if err == nil && p.store != nil {
		err = p.readStore(ctx, &c.Sources)
	}
	if err != nil {
		return content{}, err
	}
	c.sum = sumOf(c.Sources)
	return c, nil
}

func (p *policies) readStore(ctx context.Context, s *bundle.Sources) error {
	var named []string
	for _, f := range s.Policies {
		named = append(named, admin.Named(f.Data)...)
	}
	if p.stored == nil || !slices.Equal(named, p.named) {
		stored, err := admin.Read(ctx, p.store, p.project, named...)
		if err != nil {
			return fmt.Errorf("reading the stored policy: %w", err)
		}
		p.stored, p.named = &stored, named
	}
	stored := p.stored.Sources
	if len(p.files.policies) == 0 {
		s.Policies = stored.Policies
	}
	if p.files.system == "" {
		s.System = stored.System
	}
	if len(p.files.attestors) == 0 {
		s.Attestors = append(withoutNamesakes(s.Attestors, stored.Attestors), stored.Attestors...)
	}
	return nil
}

// withoutNamesakes returns the attestors of files that have not the name of a
// stored one.
func withoutNamesakes(files, stored []bundle.File) []bundle.File {
	taken := map[string]bool{}
	for _, f := range stored {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		for _, a := range list {
			taken[a.Name] = true
		}
	}
	var kept []bundle.File
	for _, f := range files {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		if !slices.ContainsFunc(list, func(a binauthz.Attestor) bool { return taken[a.Name] }) {
			kept = append(kept, f) // one that is broken too, to be complained of
			continue
		}
		for _, a := range list {
			if text, err := a.EncodeJSON(); err == nil && !taken[a.Name] {
				kept = append(kept, bundle.File{Name: f.Name, Data: text})
			}
		}
	}
	return kept
}

func (p *policies) readFiles() (content, error) {
	c := content{Sources: bundle.Sources{Project: p.project, PlatformDryRun: p.files.platformDryRun}}
	attestors := p.files.attestors
	if p.files.own != "" {
		attestors = []string{p.files.own}
	}
	var err error
	if c.Kritis, err = bundle.KritisOptions(p.files.kritis); err != nil {
		return content{}, err
	}
	if c.Policies, err = readAll("policy", p.files.policies); err != nil {
		return content{}, err
	}
	if c.Attestors, err = readAll("attestors", attestors); err != nil {
		return content{}, err
	}
	if c.Builders, err = readAll("builders", p.files.builders); err != nil {
		return content{}, err
	}
	if p.files.system != "" {
		system, err := readAll("system policy", []string{p.files.system})
		if err != nil {
			return content{}, err
		}
		c.System = &system[0]
	}
	return c, nil
}

func readAll(what string, paths []string) ([]bundle.File, error) {
	var files []bundle.File
	for _, path := range paths {
		data, err := bounded.ReadFile(path, maxPolicy)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", what, err)
		}
		files = append(files, bundle.File{Name: path, Data: data})
	}
	return files, nil
}

// sumOf tells texts apart.
func sumOf(s bundle.Sources) [sha256.Size]byte {
	h := sha256.New()
	for _, list := range [][]bundle.File{s.Policies, s.Attestors, s.Builders, {systemOf(s)}} {
		_, _ = fmt.Fprintf(h, "%d\n", len(list)) // a hash never fails
		for _, f := range list {
			sum := sha256.Sum256(f.Data)
			_, _ = h.Write(sum[:])
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func systemOf(s bundle.Sources) bundle.File {
	if s.System == nil {
		return bundle.File{}
	}
	return *s.System
}

func (p *policies) compile(c content) (policy.Set, index.Trust, error) {
	loaded, found := bundle.Load(c.Sources)
	if err := p.report(found); err != nil {
		return nil, nil, err
	}
	return loaded.Set, loaded.Keys, p.place.Check(loaded.Set)
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
		case err == nil && (last != "" || before.sum != p.tried.sum):
			last = ""
			p.reloads.WithLabelValues("ok").Inc()
			p.stale.Set(0)
			p.logger.Info("the changed policy is in force")
		}
	}
}

// failed tells of a policy that is not used. Where none was in force before, it
// does not leave everything allowed.
func (p *policies) failed(err error) {
	p.reloads.WithLabelValues("error").Inc()
	p.stale.Set(1)
	if len(p.current()) == 0 && p.triedErr != nil && len(p.tried.Policies) > 0 {
		p.deny()
		p.logger.Error("the first policy cannot be enforced, and everything is denied until it is mended", "error", err)
		return
	}
	p.logger.Error("the changed policy is not used, the last good one stays in force", "error", err)
}
