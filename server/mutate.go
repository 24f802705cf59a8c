package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"path"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/hints"
)

// MutateConfig is the mutating webhook, which writes digests beside tags.
type MutateConfig struct {
	// Address to listen on, with the certificate of the section admission. Default none:
	// it does not run. In the role mutate 127.0.0.1:8444.
	Address string `yaml:"address"`
	// Pin says what is pinned: pods, templates (and pods), or none. Default pods.
	Pin admission.PinMode `yaml:"pin"`
	// Namespaces are exceptions; the first that fits counts.
	Namespaces []MutateNamespace `yaml:"namespaces"`
	// PullSecrets reads those of a pod and of its service account, and asks registries
	// with them and with nobody else's. Without it they are asked with the credentials of
	// the user that Gatehouse runs as.
	PullSecrets bool `yaml:"pullSecrets"`
	// Kubeconfig says where pull secrets are read. Default: the cluster that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
}

// MutateNamespace says what is pinned in some namespaces.
type MutateNamespace struct {
	// Name is that of a namespace, in which * stands for any text.
	Name string            `yaml:"name"`
	Pin  admission.PinMode `yaml:"pin"`
}

func (m *MutateConfig) validate() error {
	var errs []error
	check := func(what string, mode admission.PinMode) {
		switch mode {
		case admission.PinNothing, admission.PinPods, admission.PinTemplates:
		default:
			errs = append(errs, fmt.Errorf("mutate: %s: pin %q: want %s, %s or %s", what, mode, admission.PinPods, admission.PinTemplates, admission.PinNothing))
		}
	}
	if m.Pin != "" {
		check("all namespaces", m.Pin)
	}
	for _, n := range m.Namespaces {
		check(fmt.Sprintf("namespace %q", n.Name), n.Pin)
		if _, err := path.Match(n.Name, ""); err != nil || n.Name == "" {
			errs = append(errs, fmt.Errorf("mutate: namespace %q: want a name, in which * stands for any text", n.Name))
		}
	}
	return errors.Join(errs...)
}

// mode returns what is pinned in a namespace.
func (m *MutateConfig) mode(namespace string) admission.PinMode {
	for _, n := range m.Namespaces {
		if ok, err := path.Match(n.Name, namespace); err == nil && ok {
			return n.Pin
		}
	}
	if m.Pin == "" {
		return admission.PinPods
	}
	return m.Pin
}

// defaultMutateAddress is where the role mutate listens that was told nothing.
const defaultMutateAddress = "127.0.0.1:8444"

// buildMutate gives the mutating listener its handler, and the TLS of the gate's. resolved
// says what hints mean by a reference; nil if nobody's hints count.
func (p *parts) buildMutate(resolved func(image.Reference) (hint.Resolution, error)) error {
	if p.mutate == nil {
		return nil
	}
	config := p.admissionTLSConfig
	if config == nil {
		var err error
		if config, err = p.admissionTLS(); err != nil {
			return err
		}
	}
	options, err := p.cfg.Registry.Options()
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	r := &pinResolver{hints: resolved, options: options, own: resolve.New(options...)}
	if p.cfg.Mutate.PullSecrets {
		if r.kube, err = kube.Open(kube.Options{Kubeconfig: p.cfg.Mutate.Kubeconfig}); err != nil {
			return fmt.Errorf("mutate: %w", err)
		}
	}
	log, err := p.pinLog()
	if err != nil {
		return err
	}
	pinner, err := admission.NewPinner(admission.PinOptions{
		Recorder: log, Place: p.cfg.place(), Now: time.Now,
		Mode: p.cfg.Mutate.mode, Resolve: r.resolve, Limits: admission.Limits{MaxRequests: p.cfg.Admission.MaxRequests},
		Logger: p.logger, Registry: p.registry,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mutate", pinner)
	p.mutate.server.Handler = recovered(lastAnswers(mux, &p.draining), p.logger)
	harden(p.mutate.server, config.Clone())
	p.mutate.drainWithin = reviewTimeout
	if p.cfg.Admission.DrainDelay > 0 {
		p.mutate.linger = p.cfg.Admission.DrainTimeout
	}
	return nil
}

// pinLog is the log of decisions, which the role mutate has for itself.
func (p *parts) pinLog() (*audit.Log, error) {
	if p.glass != nil {
		return p.glass.log, nil
	}
	return p.openAudit(auditDecisions)
}

// A pinResolver finds out what a tag means: what a rollout hint says, and if none is about
// it, what its registry does.
type pinResolver struct {
	hints   func(image.Reference) (hint.Resolution, error)
	options []resolve.Option
	own     *resolve.Resolver
	kube    *kube.Client // nil: with own credentials
}

func (r *pinResolver) resolve(ctx context.Context, q admission.PinQuestion) (image.Digest, error) {
	if r.hints != nil {
		found, err := r.hints(q.Ref)
		switch {
		case err != nil:
			return image.Digest{}, err
		case !found.Digest.IsZero():
			return found.Digest, nil
		case found.Standing != hint.Unhinted: // a registry's word does not take its place
			return image.Digest{}, errors.New(found.Why)
		}
	}
	if r.kube == nil {
		return r.own.Digest(ctx, q.Ref)
	}
	secrets, err := r.kube.PullSecretsOf(ctx, q.Namespace, q.ServiceAccount, q.PullSecrets)
	if err != nil {
		return image.Digest{}, fmt.Errorf("reading the pull secrets of the pod: %w", err)
	}
	// As the kubelet does: one login after the other, and none if there is none.
	logins := secrets.For(q.Ref.Registry(), q.Ref.Path())
	if len(logins) == 0 {
		logins = []kube.Login{{}}
	}
	var last error
	for _, l := range logins {
		with := resolve.New(append(r.options[:len(r.options):len(r.options)], resolve.WithLogin(q.Ref.Registry(), resolve.Login(l)))...)
		d, err := with.Digest(ctx, q.Ref)
		if err == nil || ctx.Err() != nil {
			return d, err
		}
		last = err
	}
	return image.Digest{}, last
}

// hintsOf resolves by an index, as long as it follows anybody's hints.
func hintsOf(x *index.Index, configured bool) func(image.Reference) (hint.Resolution, error) {
	if !configured {
		return nil
	}
	return func(ref image.Reference) (hint.Resolution, error) { return x.ResolveHint(ref, time.Now()), nil }
}

// runMutate runs the mutate role until ctx ends.
func (p *parts) runMutate(ctx context.Context, started func(Addresses) error) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	if err := p.openData(); err != nil {
		return err
	}
	resolved, follow, err := p.remoteHints()
	if err != nil {
		return err
	}
	if err := p.bind(ctx, bound{"mutate", p.cfg.Mutate.Address, &p.mutate}, bound{"ops", p.cfg.Ops.Address, &p.ops}); err != nil {
		return err
	}
	if err := p.buildMutate(resolved); err != nil {
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
	stop := p.serve(group)
	p.watchCertificates(running, group)
	if follow != nil {
		group.Go(func() error { return follow(running) })
	}
	p.ready.Store(true)
	err = started(Addresses{Mutate: p.mutate.addr(), Ops: p.ops.addr(), CA: p.ca})
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

// remoteHints follows the rollout hints of a metadata service elsewhere, if any count.
func (p *parts) remoteHints() (resolved func(image.Reference) (hint.Resolution, error), follow func(context.Context) error, err error) {
	if len(p.cfg.Admission.HintSignersFiles) == 0 {
		return nil, nil, nil
	}
	conn, err := p.dialFeed()
	if err != nil {
		return nil, nil, err
	}
	p.onClose(conn.Close)
	client, err := feedclient.New(feedclient.Options{
		Conn: conn, Project: p.cfg.Project, Cluster: p.cfg.Cluster, Gate: p.cfg.Admission.Feed.gateName() + "-mutate", Logger: p.logger,
	})
	if err != nil {
		return nil, nil, err
	}
	h := &followedHints{parts: p, client: client, index: index.New(client.Evidence(), p.logger)}
	if _, _, err := h.signers(); err != nil {
		return nil, nil, err
	}
	return h.resolve, h.run, nil
}

// followedHints are rollout hints that are told by a service elsewhere.
type followedHints struct {
	*parts
	client *feedclient.Client
	index  *index.Index
	read   atomic.Bool
}

func (h *followedHints) resolve(ref image.Reference) (hint.Resolution, error) {
	if !h.read.Load() {
		return hint.Resolution{}, errors.New("rollout hints were not read yet: the metadata service has not been heard from")
	}
	return h.index.ResolveHint(ref, time.Now()), nil
}

// signers reads who signs, and what tells whether that has changed.
func (h *followedHints) signers() (trust index.Trust, sum [sha256.Size]byte, err error) {
	files, err := readAll("signers of rollout hints", h.cfg.Admission.HintSignersFiles)
	if err != nil {
		return nil, sum, err
	}
	var all []hints.Signer
	hash := sha256.New()
	for _, f := range files {
		list, found := hints.Parse(f.Name, f.Data)
		if err := found.Err(); err != nil {
			return nil, sum, err
		}
		all = append(all, list...)
		_, _ = fmt.Fprintf(hash, "%x\n", sha256.Sum256(f.Data)) // a hash never fails
	}
	return hints.KeysByNote(all), [sha256.Size]byte(hash.Sum(nil)), nil
}

func (h *followedHints) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.client.Run(ctx) })
	group.Go(func() error { return h.index.Run(ctx) })
	group.Go(func() error { return h.watch(ctx) })
	return group.Wait()
}

// watch has the hints read whose signers the files name, whenever those change.
func (h *followedHints) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var followed [sha256.Size]byte
	last := ""
	for {
		trust, sum, err := h.signers()
		if err == nil && sum != followed {
			if err = h.index.SetHints(ctx, h.cfg.Cluster, trust); err == nil {
				followed = sum
				h.client.Keep(h.index.HintNotes(), nil, nil)
				h.read.Store(true)
				h.logger.Info("following rollout hints", "notes", h.index.HintNotes())
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != last:
			last = err.Error()
			h.logger.Error("rollout hints cannot be followed as the files say; trying again", "error", err)
		case err == nil:
			last = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
