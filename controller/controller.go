// Package controller keeps a Kubernetes cluster and the metadata service together, and is
// the one part of Gatehouse that writes in a cluster.
//
// It follows the objects of Kritis and of Gatehouse's own kinds, and files them with the
// metadata service, from where every gate has them by the feed: gates never ask the API
// server for policy. It writes on each object what became of it: whether it can be
// understood, which of its keys cannot be used and why, whether gates decide by it, and how
// many of the images that run satisfy it.
//
// It also follows pods, and writes on those of namespaces with ImageSecurityPolicies the
// labels and annotations that Kritis' background pass wrote: whether they violate the
// policies of their namespace, and whether their images are attested. It looks again
// whenever objects, pods or evidence have changed, and at an interval; what is so already
// is not written again.
//
// # What is not known is not changed
//
// A kind whose objects cannot be listed, since its definition is missing or the API server
// refuses, has nothing filed and nothing taken away. A pod whose evidence cannot be read
// keeps its labels. Otherwise an outage would be a change of policy.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

const (
	// settle is how long changes are gathered before they are looked at, and share how
	// many times as long as that took last, but not longer than longest.
	settle  = 200 * time.Millisecond
	share   = 10
	longest = 30 * time.Second
	// again is how long a failure waits.
	again = 5 * time.Second
	// writers is how many objects are written at a time.
	writers = 8
)

// A Change files an object, or takes away the one that is filed under its name.
type Change struct {
	objects.Ref
	// Object is JSON, as [objects.Strip] returns it; empty takes away.
	Object []byte
}

// ErrRefused is what a [Store] refuses for good: to try it again makes no sense.
var ErrRefused = errors.New("refused")

// A Store is where objects are filed, and what tells of the gates that decide by them.
type Store interface {
	// Filed returns the objects of the cluster that are filed, as [objects.Strip] returns
	// them.
	Filed(ctx context.Context) ([][]byte, error)
	// Apply makes changes. They may be repeated.
	Apply(ctx context.Context, changes []Change) error
	// Behind waits for a while until all gates decide by what was applied before, and
	// returns how many there are, and those that do not.
	Behind(ctx context.Context) (gates int, behind []string, err error)
}

// Evidence is what is known about images, as a gate knows it.
type Evidence interface {
	// Ready returns when there is something to decide by.
	Ready(ctx context.Context) error
	// Collect returns what is known about the images.
	Collect(ctx context.Context, refs []image.Reference) evidence.Facts
	// Changed is told when that may have changed.
	Changed() <-chan struct{}
}

// Options configure a Controller. All fields but Place, Groups, Label, Kritis and Attestor are needed.
type Options struct {
	Kube     *kube.Client
	Store    Store
	Evidence Evidence
	// Outcome returns what the objects amount to that are in force here, as at every gate; nil
	// if there are none.
	Outcome func() *objects.Outcome
	// Place is the cluster.
	Place admission.Place
	// Groups are the API groups whose objects are followed.
	Groups []string
	// Kritis says what objects of Kritis mean, as it does to gates.
	Kritis kritis.Options
	// Attestor has images attested that ImageSecurityPolicies let in; nil has none.
	Attestor Attestor
	// Label writes on pods.
	Label bool
	// Interval is how often everything is looked at, though nothing has changed.
	Interval time.Duration
	Now      func() time.Time
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Controller keeps a cluster and the metadata service together.
type Controller struct {
	Options
	// readings are what the last pass has read, and compiled what came of it, by namespace.
	readings readings
	compiled map[string]compiled
	// took is how long the last pass took, without what it wrote.
	took time.Duration
	// asked are the attestations that were asked for, until they may be asked for again.
	asked map[string]time.Time

	writes *prometheus.CounterVec
	passes prometheus.Counter
	stuck  *prometheus.GaugeVec
}

// New returns a Controller, which does nothing yet.
func New(o Options) (*Controller, error) {
	if o.Kube == nil || o.Store == nil || o.Evidence == nil || o.Outcome == nil || o.Interval <= 0 || o.Now == nil || o.Logger == nil || o.Registry == nil {
		return nil, errors.New("building the controller: Kube, Store, Evidence, Outcome, Interval, Now, Logger and Registry are all needed")
	}
	c := &Controller{
		Options: o, readings: make(readings), asked: make(map[string]time.Time),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_controller_writes_total",
			Help: "Objects that the controller has written, by what (status, pod, store, attestation) and result: ok or error.",
		}, []string{"what", "result"}),
		passes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_controller_passes_total",
			Help: "Times that the controller has looked at all objects and pods.",
		}),
		stuck: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_controller_not_followed",
			Help: "1 while a resource of the cluster cannot be followed, such as one whose definition is missing.",
		}, []string{"resource"}),
	}
	for _, what := range []string{"status", "pod", "store", "attestation"} {
		for _, result := range []string{"ok", "error"} {
			c.writes.WithLabelValues(what, result)
		}
	}
	for _, m := range []prometheus.Collector{c.writes, c.passes, c.stuck} {
		if err := o.Registry.Register(m); err != nil {
			return nil, fmt.Errorf("building the controller: %w", err)
		}
	}
	return c, nil
}

// kinds are those that are followed.
func (c *Controller) kinds() []objects.Kind {
	return slices.DeleteFunc(objects.Kinds(), func(k objects.Kind) bool { return !slices.Contains(c.Groups, k.Group) })
}

// Run keeps the two together until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	m := newMirror(len(c.kinds()))
	group, ctx := errgroup.WithContext(ctx)
	c.follow(ctx, group, m, func(error) {})
	f := newFiling(c, m)
	group.Go(func() error { f.watchGates(ctx); return nil })
	group.Go(func() error { c.work(ctx, m, f); return nil })
	return group.Wait()
}

// follow has a mirror told of all that is followed, and failed of what cannot be.
func (c *Controller) follow(ctx context.Context, group *errgroup.Group, m *mirror, failed func(error)) {
	for _, k := range c.kinds() {
		group.Go(func() error {
			resource := kube.Resource{Group: k.Group, Version: objects.Version, Name: k.Plural}
			c.Kube.Follow(ctx, kube.Follower{
				Resource: resource,
				Set: func(o kube.Object) {
					if err := m.setObject(k, o); err != nil {
						c.Logger.Error("an object of the cluster cannot be read, and is left as it was", "resource", resource, "namespace", o.Namespace, "name", o.Name, "error", err)
					}
				},
				Gone:   func(key kube.Key) { m.goneObject(k, key) },
				Listed: func() { c.stuck.WithLabelValues(resource.String()).Set(0); m.listed(k) },
				Failed: c.notFollowed(resource, func(err error) {
					if kube.NotFound(err) {
						m.lacks(k)
						return
					}
					failed(err)
				}),
			})
			return nil
		})
	}
	pods := kube.Resource{Version: "v1", Name: "pods"}
	group.Go(func() error {
		c.Kube.Follow(ctx, kube.Follower{
			Resource: pods,
			Set: func(o kube.Object) {
				if err := m.setPod(o, c.Place); err != nil {
					c.Logger.Warn("the images of a pod cannot be read, and it is not looked at", "namespace", o.Namespace, "name", o.Name, "error", err)
				}
			},
			Gone:   m.gonePod,
			Listed: func() { c.stuck.WithLabelValues(pods.String()).Set(0); m.listedPods() },
			Failed: c.notFollowed(pods, failed),
		})
		return nil
	})
}

// notFollowed says once that a resource cannot be followed, and why.
func (c *Controller) notFollowed(r kube.Resource, failed func(error)) func(error) {
	said := ""
	return func(err error) {
		c.stuck.WithLabelValues(r.String()).Set(1)
		if err.Error() != said {
			said = err.Error()
			c.Logger.Error("a resource of the cluster cannot be followed, and what is known of it stays; trying again", "resource", r.String(), "error", err)
		}
		failed(err)
	}
}

// work files, evaluates and writes whenever something has changed.
func (c *Controller) work(ctx context.Context, m *mirror, f *filing) {
	for ctx.Err() == nil {
		failed := f.file(ctx) != nil
		if m.complete() && c.Evidence.Ready(ctx) == nil {
			r := c.pass(ctx, m, f)
			failed = failed || r.Failed > 0
		}
		wait := c.Interval
		if failed {
			wait = min(again, wait)
		}
		if !sleep(ctx, min(longest, max(settle, share*c.took)), nil) || !sleep(ctx, wait, m.wake, c.Evidence.Changed()) {
			return
		}
	}
}

// sleep returns after a while, or when one of two channels is told, and whether ctx has not
// ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}, more ...<-chan struct{}) bool {
	var other <-chan struct{}
	if len(more) > 0 {
		other = more[0]
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	case <-other:
	}
	return ctx.Err() == nil
}

// A Report is what a pass has found and done.
type Report struct {
	// Policies are the objects that pods were held against, and Pods the pods of their
	// namespaces.
	Policies int `json:"policies"`
	Pods     int `json:"pods"`
	// Violating pods do not satisfy the ImageSecurityPolicies of their namespace, and of
	// Unknown ones that could not be found out.
	Violating int `json:"violating"`
	Unknown   int `json:"unknown"`
	// Written are pods and statuses that were written, and Failed those that could not be.
	Written int `json:"written"`
	Failed  int `json:"failed"`
}

// Once makes one pass over the pods and policies that there are, and returns. It files
// nothing: it needs the rights to read objects and pods, and to write their status and
// labels. It is what Kritis did when it was told to --run-cron.
func (c *Controller) Once(ctx context.Context) (Report, error) {
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := newMirror(len(c.kinds()))
	group := &errgroup.Group{}
	c.follow(reading, group, m, func(err error) { cancel(err) })
	defer func() { cancel(nil); _ = group.Wait() }()
	if err := c.Evidence.Ready(reading); err != nil {
		return Report{}, fmt.Errorf("reading the evidence: %w", err)
	}
	for !m.complete() {
		if !sleep(reading, again, m.wake) {
			return Report{}, context.Cause(reading)
		}
	}
	return c.pass(ctx, m, nil), ctx.Err()
}
