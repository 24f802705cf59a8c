package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// watchInterval is how often policy files are looked at. They are read whole and
// compared by content: mounted ConfigMaps change behind symbolic links, and some
// file systems notify nobody.
const watchInterval = 500 * time.Millisecond

// maxPolicy bounds a policy or attestors file.
const maxPolicy = 8 << 20

// policies keeps the policies in force: compiled from files, and replaced when
// their content changes and is valid. A broken new version keeps the last good one.
type policies struct {
	files   policyFiles
	project string
	place   admission.Place
	index   *index.Index
	logger  *slog.Logger
	reloads *prometheus.CounterVec
	stale   prometheus.Gauge

	rules atomic.Pointer[policy.Set]
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
}

func filesOf(cfg AdmissionConfig, attestors []string) policyFiles {
	return policyFiles{
		policies: cfg.PolicyFiles, attestors: attestors, builders: cfg.BuildersFiles, system: cfg.SystemPolicyFile,
		kritis: cfg.Kritis, platformDryRun: cfg.PlatformDryRun,
	}
}

func (f policyFiles) none() bool {
	return len(f.policies) == 0 && len(f.attestors) == 0 && len(f.builders) == 0 && f.system == ""
}

// content is what the files have in them.
type content struct {
	bundle.Sources
	sum [sha256.Size]byte
}

func newPolicies(cfg Config, attestors []string, idx *index.Index, logger *slog.Logger, registry prometheus.Registerer) (*policies, error) {
	p := &policies{
		files:   filesOf(cfg.Admission, attestors),
		project: cfg.Project, place: cfg.place(), index: idx, logger: logger,
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

// load reads the files, and puts them in force if they are valid and new.
func (p *policies) load(ctx context.Context) error {
	now, err := p.read()
	if err != nil {
		return err
	}
	if now.sum == p.tried.sum {
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
	for _, rules := range set {
		p.logger.Info("policy in force", "policy", rules.Name, "source", rules.Source, "version", rules.Version, "rules", len(rules.Rules), "attestors", len(rules.Attestors))
	}
	return nil
}

func (p *policies) read() (content, error) {
	c := content{Sources: bundle.Sources{Project: p.project, PlatformDryRun: p.files.platformDryRun}}
	var err error
	if c.Kritis, err = bundle.KritisOptions(p.files.kritis); err != nil {
		return content{}, err
	}
	if c.Policies, err = readAll("policy", p.files.policies); err != nil {
		return content{}, err
	}
	if c.Attestors, err = readAll("attestors", p.files.attestors); err != nil {
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
	c.sum = sumOf(c.Sources)
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

// Run watches the files until ctx ends.
func (p *policies) Run(ctx context.Context) error {
	if p.files.none() {
		return nil
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last string // error, said once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := p.tried
		err := p.load(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != last:
			last = err.Error()
			p.reloads.WithLabelValues("error").Inc()
			p.stale.Set(1)
			p.logger.Error("the changed policy is not used, the last good one stays in force", "error", err)
		case err == nil && (last != "" || before.sum != p.tried.sum):
			last = ""
			p.reloads.WithLabelValues("ok").Inc()
			p.stale.Set(0)
			p.logger.Info("the policy on disk is in force")
		}
	}
}
