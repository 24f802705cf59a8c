package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/controller"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// ControllerConfig is what keeps a cluster and the metadata service together: the one
// part that writes in the cluster.
type ControllerConfig struct {
	// Kubeconfig says where the API server is. Default: the cluster that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// Lease is that by which several controllers agree on which of them works.
	Lease LeaseConfig `yaml:"lease"`
	// Certificates are those of this installation.
	Certificates CertificatesConfig `yaml:"certificates"`
	// Groups are the API groups whose objects are filed as policy. With none, objects
	// mean nothing.
	Groups []string `yaml:"groups"`
	// Pods is the pass over running pods.
	Pods PodsConfig `yaml:"pods"`
	// Attest has images attested that ImageSecurityPolicies let in because of their scan,
	// where those name an authority and a privateKeySecretName. By default none are.
	Attest AttestConfig `yaml:"attest"`
}

// LeaseConfig names a Lease.
type LeaseConfig struct {
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
}

// PodsConfig is the pass over running pods.
type PodsConfig struct {
	// Label writes Kritis' labels and annotations on pods. Default true.
	Label bool `yaml:"label"`
	// Interval is how often all pods are looked at, though nothing has changed. Default 1h.
	Interval time.Duration `yaml:"interval"`
}

const (
	kritisGroup = "kritis.grafeas.io"
	ownGroup    = "gatehouse.dev"

	// defaultPodsInterval is Kritis' cronInterval.
	defaultPodsInterval = time.Hour
	minPodsInterval     = time.Second

	// controllerSuffix tells a controller from a gate on the same machine.
	controllerSuffix = "-controller"
	controllerAgent  = "gatehouse-controller"
)

func defaultController() ControllerConfig {
	return ControllerConfig{
		Lease:        LeaseConfig{Namespace: "gatehouse", Name: "gatehouse-controller"},
		Certificates: defaultCertificates(),
		Groups:       []string{kritisGroup, ownGroup},
		Pods:         PodsConfig{Label: true, Interval: defaultPodsInterval},
	}
}

func (c *ControllerConfig) validate(insecureToo bool) error {
	errs := []error{c.Attest.validate(insecureToo)}
	if c.Lease.Namespace == "" || c.Lease.Name == "" {
		errs = append(errs, errors.New("controller.lease needs both namespace and name"))
	}
	errs = append(errs, c.Certificates.validate())
	for _, g := range c.Groups {
		if g != kritisGroup && g != ownGroup {
			errs = append(errs, fmt.Errorf("controller.groups: %q: want %s or %s", g, kritisGroup, ownGroup))
		}
	}
	if c.Pods.Interval < minPodsInterval {
		errs = append(errs, fmt.Errorf("controller.pods.interval is a time of at least %s, such as 1h", minPodsInterval))
	}
	return errors.Join(errs...)
}

// A task is a part of the controller that runs for as long as it has the lease.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// controllerTasks are what the controller does while it has the lease.
func (p *parts) controllerTasks(client *kube.Client, g *loneGate) ([]task, error) {
	c, err := p.newController(client, g)
	if err != nil {
		return nil, err
	}
	tasks, err := p.certificatesTask(client)
	return append(tasks, task{"objects and pods", c.Run}), err
}

// newController puts together what follows the cluster, over what follows the metadata
// service.
func (p *parts) newController(client *kube.Client, g *loneGate) (*controller.Controller, error) {
	store, err := p.newClusterStore(g.client)
	if err != nil {
		return nil, err
	}
	meaning, err := bundle.KritisOptions(p.cfg.Admission.Kritis)
	if err != nil {
		return nil, err
	}
	var attestor controller.Attestor
	if s := p.newAskingSigners(); s != nil {
		attestor = s
	}
	return controller.New(controller.Options{
		Kube: client, Store: store, Evidence: followedEvidence{g}, Outcome: g.outcome, Place: p.cfg.place(), Groups: p.cfg.Controller.Groups, Kritis: meaning, Attestor: attestor,
		Label: p.cfg.Controller.Pods.Label, Interval: p.cfg.Controller.Pods.Interval, Now: time.Now, Logger: p.logger, Registry: p.registry,
	})
}

// outcome is what the objects amount to that are in force.
func (g *loneGate) outcome() *objects.Outcome {
	if ps := g.inForce.Load(); ps != nil {
		return ps.outcome.Load()
	}
	return nil
}

// followedEvidence is the evidence of a controller.
type followedEvidence struct{ *loneGate }

// Ready returns when policy and evidence were read.
func (e followedEvidence) Ready(ctx context.Context) error {
	select {
	case <-e.begun:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Collect implements [controller.Evidence].
func (e followedEvidence) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	return e.evidence.Collect(ctx, refs)
}

// Changed implements [controller.Evidence].
func (e followedEvidence) Changed() <-chan struct{} { return e.heard }

// runController runs the controller role until ctx ends.
func (p *parts) runController(ctx context.Context, started func(Addresses) error) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	// Of several controllers each follows: whoever comes to have the lease can begin at once.
	g, err := p.newFollower(p.cfg.Admission.Feed.gateName() + controllerSuffix)
	if err != nil {
		return err
	}
	client, err := kube.Open(kube.Options{Kubeconfig: p.cfg.Controller.Kubeconfig, UserAgent: controllerAgent})
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	if err := p.bind(ctx, bound{"ops", p.cfg.Ops.Address, &p.ops}); err != nil {
		return err
	}
	tasks, err := p.controllerTasks(client, g)
	if err != nil {
		return err
	}
	p.serveOps(func() (string, error) {
		if !p.ready.Load() {
			return "", errors.New("starting or stopping")
		}
		return "", nil
	})
	if err := p.registerCertificates(); err != nil {
		return err
	}
	leads := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gatehouse_controller_leads", Help: "1 while this controller has the lease, and works.",
	})
	if err := p.registry.Register(leads); err != nil {
		return err
	}
	p.watchCertificates(running, group)
	stop := p.serve(group)
	group.Go(func() error { return g.follow(ctx, running, group) })
	group.Go(func() error {
		return client.Elect(running, p.election(leads), func(ctx context.Context) error { return runTasks(ctx, tasks) })
	})
	p.ready.Store(true)
	err = started(Addresses{Ops: p.ops.addr()})
	if err == nil {
		select {
		case <-ctx.Done():
			p.logger.Info("stopping")
		case <-running.Done():
		}
	}
	p.drain(running, stop)
	g.writeCopy()
	g.leave()
	cancel()
	return errors.Join(err, group.Wait())
}

// RunOnce makes one pass over the pods of a cluster, as the controller does whenever
// something has changed, and returns what it has found: what Kritis did with --run-cron. It
// needs no lease: what is so already is not written again.
func RunOnce(ctx context.Context, cfg Config, logger *slog.Logger) (r controller.Report, err error) {
	cfg.Role = ControllerRole
	if err := cfg.Validate(); err != nil {
		return r, err
	}
	p := newParts(cfg, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	g, err := p.newFollower(cfg.Admission.Feed.gateName() + "-once" + controllerSuffix)
	if err != nil {
		return r, err
	}
	client, err := kube.Open(kube.Options{Kubeconfig: cfg.Controller.Kubeconfig, UserAgent: controllerAgent})
	if err != nil {
		return r, fmt.Errorf("controller: %w", err)
	}
	c, err := p.newController(client, g)
	if err != nil {
		return r, err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	group, running := errgroup.WithContext(running)
	p.watchCertificates(running, group)
	group.Go(func() error { return g.follow(running, running, group) })
	group.Go(func() error {
		defer cancel()
		var err error
		r, err = c.Once(running)
		g.leave()
		return err
	})
	return r, group.Wait()
}

// follow begins to follow the metadata service, however long it may not be there.
func (g *loneGate) follow(ctx, running context.Context, group *errgroup.Group) error {
	err := g.begin(ctx, running, group)
	switch {
	case ctx.Err() != nil || running.Err() != nil:
		err = nil // it was told to stop before
	case err == nil:
		close(g.begun)
		g.wake()
	}
	return err
}

// election is how one of several controllers comes to work.
func (p *parts) election(leading prometheus.Gauge) kube.Election {
	said := ""
	return kube.Election{
		Namespace: p.cfg.Controller.Lease.Namespace, Name: p.cfg.Controller.Lease.Name,
		Identity: p.cfg.Admission.Feed.gateName() + "_" + rand.Text(),
		Changed: func(leads bool) {
			leading.Set(0)
			if said = ""; leads {
				leading.Set(1)
				p.logger.Info("this controller has the lease, and works")
				return
			}
			p.logger.Info("this controller has not the lease any more, and waits for it")
		},
		Failed: func(err error) {
			if err.Error() != said {
				said = err.Error()
				p.logger.Error("the lease cannot be had; trying again", "error", err)
			}
		},
	}
}

// runTasks runs tasks until ctx ends or one of them fails.
func runTasks(ctx context.Context, tasks []task) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error {
			if err := t.run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
