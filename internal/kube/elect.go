package kube

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Defaults of [Election], as those of Kubernetes' own controllers.
const (
	defaultLeaseTime = 15 * time.Second
	defaultGiveUp    = 10 * time.Second
	defaultTry       = 2 * time.Second
	// releaseTimeout is how long giving the lease back may take.
	releaseTimeout = 2 * time.Second

	microTime = "2006-01-02T15:04:05.000000Z07:00"
)

// An Election is how one of several processes comes to do what only one should. Who holds
// a Lease leads, and renews it. When it has not changed for as long as it says that it
// lasts, by the clock of whoever looks, another may take it: what the clocks of others
// show, and the times in the Lease, do not matter.
type Election struct {
	// Namespace and Name are those of the Lease, which is made if it is not there.
	Namespace, Name string
	// Identity tells this process from all others.
	Identity string
	// Lease is how long the Lease lasts that is not renewed. Default 15s.
	Lease time.Duration
	// GiveUp is after how long a leader stops who cannot renew it, shorter than Lease.
	// Default 10s.
	GiveUp time.Duration
	// Try is how often it is renewed, or looked at. Default 2s.
	Try time.Duration
	// Changed is called when this process begins or ceases to lead, and Failed when the
	// Lease cannot be read or written; nil is nobody.
	Changed func(leads bool)
	Failed  func(error)
}

func (e Election) withDefaults() (Election, error) {
	for _, d := range []struct {
		of    *time.Duration
		value time.Duration
	}{{&e.Lease, defaultLeaseTime}, {&e.GiveUp, defaultGiveUp}, {&e.Try, defaultTry}} {
		if *d.of <= 0 {
			*d.of = d.value
		}
	}
	if e.Changed == nil {
		e.Changed = func(bool) {}
	}
	if e.Failed == nil {
		e.Failed = func(error) {}
	}
	switch {
	case e.Namespace == "" || e.Name == "" || e.Identity == "":
		return e, errors.New("electing a leader: Namespace, Name and Identity are all needed")
	case e.GiveUp >= e.Lease || e.Try >= e.GiveUp:
		return e, fmt.Errorf("electing a leader: want Try (%s) shorter than GiveUp (%s), and that than Lease (%s)", e.Try, e.GiveUp, e.Lease)
	}
	return e, nil
}

// Elect calls lead while this process is the leader, with a context that ends when it is
// not any more, and waits for it to return; then it tries to become the leader again,
// until ctx ends. It returns when lead has returned by itself, with its error.
func (c *Client) Elect(ctx context.Context, e Election, lead func(ctx context.Context) error) error {
	e, err := e.withDefaults()
	if err != nil {
		return err
	}
	s := &standing{Election: e, client: c}
	for {
		if !s.wait(ctx) {
			return nil
		}
		e.Changed(true)
		done, err := s.lead(ctx, lead)
		e.Changed(false)
		if done || ctx.Err() != nil {
			s.release(ctx)
			return err
		}
	}
}

// lease is what is read and written of a Lease.
type lease struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   leaseMeta `json:"metadata"`
	Spec       leaseSpec `json:"spec"`
}

type leaseMeta struct {
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Whoever has installed the Lease knows it again by these.
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	OwnerReferences []any             `json:"ownerReferences,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
}

type leaseSpec struct {
	HolderIdentity       string `json:"holderIdentity,omitempty"`
	LeaseDurationSeconds int    `json:"leaseDurationSeconds,omitempty"`
	AcquireTime          string `json:"acquireTime,omitempty"`
	RenewTime            string `json:"renewTime,omitempty"`
	LeaseTransitions     int    `json:"leaseTransitions,omitempty"`
}

// standing is a candidate.
type standing struct {
	Election
	client *Client
	// seen is the Lease as it was last read or written, and since when it has been that.
	seen  lease
	since time.Time
	// renewed is when the last renewal that succeeded was begun.
	renewed time.Time
}

func (s *standing) path(more ...string) []string {
	return append([]string{"apis", "coordination.k8s.io", "v1", "namespaces", s.Namespace, "leases"}, more...)
}

// wait returns true when the Lease is held, and false when ctx has ended.
func (s *standing) wait(ctx context.Context) bool {
	for {
		held, err := s.try(ctx)
		if ctx.Err() != nil {
			return false
		}
		if held {
			return true
		}
		if err != nil {
			s.Failed(fmt.Errorf("taking the lease %s/%s: %w", s.Namespace, s.Name, err))
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(s.Try):
		}
	}
}

// try takes the Lease, if it may, or renews it.
func (s *standing) try(ctx context.Context) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.GiveUp)
	defer cancel()
	begun := time.Now()
	var now lease
	err = s.client.Get(ctx, &now, nil, s.path(s.Name)...)
	if NotFound(err) {
		return s.write(begun, s.client.Create(ctx, s.next(lease{}), &now, s.path()...), &now)
	}
	if err != nil {
		return false, err
	}
	if now.Metadata.ResourceVersion != s.seen.Metadata.ResourceVersion {
		s.seen, s.since = now, time.Now()
	}
	lasts := time.Duration(now.Spec.LeaseDurationSeconds) * time.Second
	if holder := now.Spec.HolderIdentity; holder != "" && holder != s.Identity && time.Since(s.since) < lasts {
		return false, nil
	}
	return s.write(begun, s.client.Update(ctx, s.next(now), &now, s.path(s.Name)...), &now)
}

// write takes in what came of writing the Lease. That another was quicker is no failure.
func (s *standing) write(begun time.Time, err error, now *lease) (bool, error) {
	if Conflict(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.seen, s.since, s.renewed = *now, time.Now(), begun
	return true, nil
}

// next is the Lease as this process holds it, after another version of it.
func (s *standing) next(was lease) lease {
	now := time.Now().UTC().Format(microTime)
	next := lease{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Metadata: was.Metadata, Spec: was.Spec}
	next.Metadata.Namespace, next.Metadata.Name = s.Namespace, s.Name
	if was.Spec.HolderIdentity != s.Identity {
		next.Spec.AcquireTime = now
		if was.Metadata.ResourceVersion != "" {
			next.Spec.LeaseTransitions++
		}
	}
	next.Spec.HolderIdentity, next.Spec.RenewTime = s.Identity, now
	next.Spec.LeaseDurationSeconds = int((s.Lease + time.Second - 1) / time.Second)
	return next
}

// lead calls fn for as long as the Lease can be renewed. It is done when fn has returned
// before that.
func (s *standing) lead(ctx context.Context, fn func(context.Context) error) (done bool, err error) {
	leading, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- fn(leading) }()
	kept := make(chan struct{})
	go func() { defer close(kept); s.keep(leading) }()
	select {
	case err := <-ended:
		cancel()
		<-kept
		return true, err
	case <-kept:
		cancel()
		err := <-ended
		if ctx.Err() != nil {
			return true, err
		}
		return false, nil // what it says of its end is that it was told to
	}
}

// keep renews the Lease, until that has not been possible for too long, or another has it.
func (s *standing) keep(ctx context.Context) {
	for {
		left := time.Until(s.renewed.Add(s.GiveUp))
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(s.Try, left)):
		}
		if time.Since(s.renewed) >= s.GiveUp {
			return
		}
		renewing, cancel := context.WithDeadline(ctx, s.renewed.Add(s.GiveUp))
		held, err := s.try(renewing)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Failed(fmt.Errorf("renewing the lease %s/%s: %w", s.Namespace, s.Name, err))
		case !held && s.seen.Spec.HolderIdentity != s.Identity:
			return
		}
	}
}

// release gives the Lease back, if it is still held, so that others need not wait.
func (s *standing) release(ctx context.Context) {
	if s.seen.Spec.HolderIdentity != s.Identity {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	next := s.next(s.seen)
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds = "", 1
	if err := s.client.Update(ctx, next, nil, s.path(s.Name)...); err != nil && !Conflict(err) {
		s.Failed(fmt.Errorf("giving back the lease %s/%s: %w", s.Namespace, s.Name, err))
	}
}
