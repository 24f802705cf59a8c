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
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// watchInterval is how often policy files are looked at. They are read whole and
// compared by content: mounted ConfigMaps change behind symbolic links, and some
// file systems notify nobody.
const watchInterval = 500 * time.Millisecond

// maxPolicy bounds a policy or attestors file.
const maxPolicy = 8 << 20

// policies keeps the policy in force: compiled from files, and replaced when
// their content changes and is valid. A broken new version keeps the last good one.
type policies struct {
	project       string
	place         admission.Place
	policyFile    string
	attestorsFile string
	index         *index.Index
	logger        *slog.Logger
	reloads       *prometheus.CounterVec
	stale         prometheus.Gauge

	rules atomic.Pointer[policy.Set]
	// tried is the content that was last looked at, and triedErr what was wrong
	// with it.
	tried    content
	triedErr error
}

type content struct {
	policy, attestors       []byte
	policySum, attestorsSum [sha256.Size]byte
}

func (c content) same(other content) bool {
	return c.policySum == other.policySum && c.attestorsSum == other.attestorsSum
}

func newPolicies(cfg Config, attestorsFile string, idx *index.Index, logger *slog.Logger, registry prometheus.Registerer) (*policies, error) {
	p := &policies{
		project: cfg.Project, place: cfg.place(), policyFile: cfg.Admission.PolicyFile, attestorsFile: attestorsFile, index: idx, logger: logger,
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
	if now.same(p.tried) {
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
	p.rules.Store(&set)
	for _, rules := range set {
		p.logger.Info("policy in force", "policy", rules.Name, "source", rules.Source, "version", rules.Version, "rules", len(rules.Rules), "attestors", len(rules.Attestors))
	}
	return nil
}

func (p *policies) read() (content, error) {
	var c content
	var err error
	if p.policyFile != "" {
		if c.policy, err = bounded.ReadFile(p.policyFile, maxPolicy); err != nil {
			return content{}, fmt.Errorf("reading policy: %w", err)
		}
	}
	if p.attestorsFile != "" {
		if c.attestors, err = bounded.ReadFile(p.attestorsFile, maxPolicy); err != nil {
			return content{}, fmt.Errorf("reading attestors: %w", err)
		}
	}
	c.policySum, c.attestorsSum = sha256.Sum256(c.policy), sha256.Sum256(c.attestors)
	return c, nil
}

func (p *policies) compile(c content) (policy.Set, index.Trust, error) {
	var attestors []binauthz.Attestor
	if p.attestorsFile != "" {
		var found binauthz.Diagnostics
		attestors, found = binauthz.ParseAttestors(p.attestorsFile, c.attestors)
		if err := p.report("attestors", found); err != nil {
			return nil, nil, err
		}
	}
	trust := index.Trust(binauthz.KeysByNote(attestors))
	if p.policyFile == "" {
		return nil, trust, nil
	}
	parsed, found := binauthz.ParsePolicy(p.policyFile, c.policy)
	if err := p.report("policy", found); err != nil {
		return nil, nil, err
	}
	parsed.Name = "projects/" + p.project + "/policy" // as a server does, whatever the text says
	rules, found := parsed.Compile(attestors)
	if err := p.report("policy", found); err != nil {
		return nil, nil, err
	}
	set := policy.Set{rules}
	return set, trust, p.place.Check(set)
}

// report logs warnings and returns errors.
func (p *policies) report(what string, found binauthz.Diagnostics) error {
	var errs []error
	for _, d := range found {
		if d.Severity == binauthz.Error {
			errs = append(errs, errors.New(d.String()))
		} else {
			p.logger.Warn("reading "+what, "finding", d.String())
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("reading %s: %w", what, errors.Join(errs...))
	}
	return nil
}

// Run watches the files until ctx ends.
func (p *policies) Run(ctx context.Context) error {
	if p.policyFile == "" && p.attestorsFile == "" {
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
		case err == nil && (last != "" || !before.same(p.tried)):
			last = ""
			p.reloads.WithLabelValues("ok").Inc()
			p.stale.Set(0)
			p.logger.Info("the policy on disk is in force")
		}
	}
}
