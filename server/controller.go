package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// ControllerConfig is what keeps a cluster and the metadata service together: the one
// part that writes in the cluster.
type ControllerConfig struct {
	// Kubeconfig says where the API server is. Default: the cluster that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// Lease is that by which several controllers agree on which of them works.
	Lease LeaseConfig `yaml:"lease"`
	// Groups are the API groups whose objects are filed as policy. With none, objects
	// mean nothing.
	Groups []string `yaml:"groups"`
	// Pods is the pass over running pods.
	Pods PodsConfig `yaml:"pods"`
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
)

func defaultController() ControllerConfig {
	return ControllerConfig{
		Lease:  LeaseConfig{Namespace: "gatehouse", Name: "gatehouse-controller"},
		Groups: []string{kritisGroup, ownGroup},
		Pods:   PodsConfig{Label: true, Interval: defaultPodsInterval},
	}
}

func (c *ControllerConfig) validate() error {
	var errs []error
	if c.Lease.Namespace == "" || c.Lease.Name == "" {
		errs = append(errs, errors.New("controller.lease needs both namespace and name"))
	}
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
func (p *parts) controllerTasks(client *kube.Client) ([]task, error) {
	return nil, nil
}

// runController runs the controller role until ctx ends.
func (p *parts) runController(ctx context.Context, started func(Addresses) error) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	if err := p.openData(); err != nil {
		return err
	}
	client, err := kube.Open(kube.Options{Kubeconfig: p.cfg.Controller.Kubeconfig, UserAgent: "gatehouse-controller"})
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	if err := p.bind(ctx, bound{"ops", p.cfg.Ops.Address, &p.ops}); err != nil {
		return err
	}
	p.serveOps(func() (string, error) {
		if !p.ready.Load() {
			return "", errors.New("starting or stopping")
		}
		return "", nil
	})
	tasks, err := p.controllerTasks(client)
	if err != nil {
		return err
	}
	if err := p.registerCertificates(); err != nil {
		return err
	}
	p.watchCertificates(running, group)
	stop := p.serve(group)
	group.Go(func() error { return runTasks(running, tasks) })
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
	cancel()
	return errors.Join(err, group.Wait())
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
