// Package server puts the parts together and runs them: listeners, TLS, the
// store, the attestor, the gate, and their order of starting and stopping.
//
// Starting: everything is bound, opened and read before anything is served, so
// that a server that cannot work says so and exits. The addresses are told once
// every part is ready. Stopping: readiness turns false, listeners drain, the
// audit log commits, the store closes.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/breakglassapi"
	"github.com/gatehouse-dev/gatehouse/breakglass/relay"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/admin/binauthzapi"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
)

// kritisProject is where Kritis files what it attests, whatever it is told; its
// clients expect it to exist.
const kritisProject = "kritis"

// Addresses tell where everything listens.
type Addresses struct {
	Metadata  string `json:"metadata,omitempty"`
	Attestor  string `json:"attestor,omitempty"`
	Admission string `json:"admission,omitempty"`
	// Mutate is the webhook that pins tags, "" unless it runs.
	Mutate string `json:"mutate,omitempty"`
	Ops    string `json:"ops"`
	// Kritis is the signer of Kritis, "" unless it runs.
	Kritis string `json:"kritis,omitempty"`
	// CA is the path of the PEM that signed the admission certificate.
	CA string `json:"ca,omitempty"`
}

// parts is a server that has been put together and does not serve yet.
type parts struct {
	cfg      Config
	logger   *slog.Logger
	registry *prometheus.Registry
	closers  []func() error

	attestorConfig *attest.Config
	identity       *identity.Identity
	// certificates from files, to be watched, and the authority that issues the webhook's
	// if there is none for it.
	certificates []*certificate
	ownCA        *ownca.Authority

	store    metadata.Store
	service  *metadata.Service
	index    *index.Index
	policies *policies
	live     *liveAttestor
	outbox   *notify.Outbox // nil: there is nobody to tell
	ca       string

	metadata, attestor, admission, ops *listener
	kritisSigner, mutate               *listener // nil unless they run
	// admissionTLSConfig is that of the webhooks, once it was made.
	admissionTLSConfig *tls.Config
	calls              metadata.Recorder
	// glass is what a gate has for break-glass, nil without one.
	glass *glass
	// relay tells the service of it, nil unless that is elsewhere.
	relay *relay.Relay

	ready atomic.Bool
	// draining is set while the gate goes on to answer after it was told to stop.
	draining atomic.Bool
}

func newParts(cfg Config, logger *slog.Logger) *parts {
	return &parts{cfg: cfg, logger: logger, registry: prometheus.NewRegistry()}
}

// Check reports whether a server could be put together from cfg. It looks at
// files and starts nothing.
func Check(cfg Config, logger *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Role == AttestorRole {
		return checkLoneAttestor(cfg, logger)
	}
	if cfg.Store.Postgres.ConnectionFile != "" {
		if _, err := cfg.Store.Postgres.connString(); err != nil {
			return err
		}
	}
	own := attestorsPath(cfg.Data)
	if _, err := os.Stat(own); err != nil { // an earlier start made it
		own = ""
	}
	p := &policies{files: cfg.policyFiles(own), project: cfg.Project, place: cfg.place(), logger: logger}
	content, err := p.readFiles()
	if err != nil {
		return err
	}
	if _, err := p.compile(content); err != nil {
		return err
	}
	if err := (&glass{cfg: cfg.BreakGlass, logger: logger, grants: breakglass.NewGrants()}).readFiles(); err != nil {
		return err
	}
	if cfg.Admission.CertFile != "" {
		if _, err := openCertificate(admissionCertificate, cfg.Admission.CertFile, cfg.Admission.KeyFile, logger); err != nil {
			return err
		}
	}
	if cfg.Role == MutateRole {
		_, err := cfg.Registry.Options()
		return err
	}
	if cfg.Role == AdmissionRole {
		conn, err := newParts(cfg, logger).dialFeed() // which connects when it is used
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if _, _, err := metadataTLS(cfg, logger); err != nil {
		return err
	}
	if _, err := identity.Open(cfg.Identity, identity.Options{Logger: logger}); err != nil {
		return err
	}
	if _, err := cfg.Notify.Open(); err != nil {
		return err
	}
	config, err := loadAttestorConfig(cfg, logger)
	if err != nil {
		return err
	}
	if _, err := config.Options(); err != nil { // reads the keys
		return err
	}
	if _, err := cfg.Registry.Options(); err != nil { // reads the certificates
		return fmt.Errorf("registry: %w", err)
	}
	return cfg.KritisSigner.check(logger)
}

// Run runs a server until ctx ends. It calls started once every part is ready.
func Run(ctx context.Context, cfg Config, logger *slog.Logger, started func(Addresses) error) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Role == AttestorRole {
		return runLoneAttestor(ctx, cfg, logger, started)
	}
	// Whoever reads the addresses may work in another folder.
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return fmt.Errorf("finding the data folder: %w", err)
	}
	if err := cfg.KritisSigner.applyEnvironment(os.Getenv, logger); err != nil {
		return err
	}
	p := newParts(cfg, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	switch cfg.Role {
	case AdmissionRole:
		return p.runGate(ctx, started)
	case MutateRole:
		return p.runMutate(ctx, started)
	}

	if err := p.build(ctx); err != nil {
		return err
	}
	return p.run(ctx, started)
}

// run runs what was built until ctx ends.
func (p *parts) run(ctx context.Context, started func(Addresses) error) error {
	// The parts outlive ctx while requests drain.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	group.Go(func() error { return p.index.Run(running) })
	stop := p.serve(group)
	group.Go(func() error { return p.policies.Run(running) })
	group.Go(func() error { return p.live.Run(running) })
	group.Go(func() error { return p.identity.Run(running) })
	p.attend(running, group)
	p.glass.follow(running, group, p.service)
	p.watchCertificates(running, group)

	err := p.announce(ctx, started)
	if err == nil {
		select {
		case <-ctx.Done():
			p.logger.Info("stopping")
		case <-running.Done(): // a part failed; Wait tells which
		}
	}
	p.drain(running, stop)
	cancel()
	return errors.Join(err, group.Wait())
}

// stops end the listeners: ops after all others, since it tells what becomes of those.
type stops struct{ others, ops chan struct{} }

// serve has the listeners serve, until the stops are closed.
func (p *parts) serve(group *errgroup.Group) stops {
	s := stops{make(chan struct{}), make(chan struct{})}
	for _, l := range p.others() {
		group.Go(func() error { return l.serve(s.others) })
	}
	group.Go(func() error { return p.ops.serve(s.ops) })
	return s
}

// drain says that the server is not ready, goes on to answer for as long as others may
// need to notice, and returns when the listeners have ended. Followers end after those:
// a request may still wait for evidence.
func (p *parts) drain(running context.Context, s stops) {
	delay := p.cfg.Admission.DrainDelay
	if wasReady := p.ready.Swap(false); wasReady && delay > 0 {
		p.draining.Store(true)
		select {
		case <-time.After(delay):
		case <-running.Done():
		}
	}
	close(s.others)
	for _, l := range p.others() {
		<-l.ended
	}
	close(s.ops)
	<-p.ops.ended
}

// others are the listeners that are bound, without ops.
func (p *parts) others() []*listener {
	var all []*listener
	for _, l := range []*listener{p.metadata, p.attestor, p.kritisSigner, p.mutate, p.admission} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// noPolicy is said when there is none.
const noPolicy = "there is no policy: the gate lets everything in, records what it sees, and says so in each answer; give --policy FILE, or write one with gatehouse policy push"

// announce waits until everything works and tells where it listens.
func (p *parts) announce(ctx context.Context, started func(Addresses) error) error {
	if err := p.index.Ready(ctx); err != nil {
		return fmt.Errorf("reading attestations: %w", err)
	}
	p.ready.Store(true)
	if len(p.policies.current()) == 0 {
		p.logger.Warn(noPolicy)
	}
	addresses := Addresses{
		Metadata: p.metadata.addr(), Attestor: p.attestor.addr(), Admission: p.admission.addr(), Ops: p.ops.addr(), CA: p.ca,
	}
	if p.kritisSigner != nil {
		addresses.Kritis = p.kritisSigner.addr()
	}
	if p.mutate != nil {
		addresses.Mutate = p.mutate.addr()
	}
	return started(addresses)
}

func (p *parts) onClose(f func() error) { p.closers = append(p.closers, f) }

func (p *parts) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// build opens and binds everything.
func (p *parts) build(ctx context.Context) error {
	config, err := loadAttestorConfig(p.cfg, p.logger)
	if err != nil {
		return err
	}
	p.attestorConfig = config
	if p.cfg.Attestor.Address == "" {
		p.cfg.Attestor.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Server.Port))
	}
	if err := p.openData(); err != nil {
		return err
	}
	if err := p.openIdentity(); err != nil {
		return err
	}
	if err := p.openOutbox(); err != nil {
		return err
	}
	if err := p.openService(ctx); err != nil {
		return err
	}
	if err := p.openGlass(); err != nil {
		return err
	}
	if err := p.listen(ctx); err != nil {
		return err
	}
	p.index = index.New(p.service, p.logger)
	p.index.Bound(p.cfg.Admission.MaxStatements)
	own, err := p.buildAttestor()
	if err != nil {
		return err
	}
	if err := p.buildKritisSigner(ctx); err != nil {
		return err
	}
	p.registry.MustRegister(indexMetrics(func() *index.Index { return p.index })...)
	if p.policies, err = newPolicies(p.cfg, own, p.service, p.index, p.logger, p.registry); err != nil {
		return err
	}
	p.policies.record = p.glass.recordPolicies
	if err := p.policies.start(ctx); err != nil {
		return err
	}
	if err := p.buildGate(newStoreEvidence(p.index, p.service), p.policies.current); err != nil {
		return err
	}
	if err := p.buildMutate(hintsOf(p.index, len(p.cfg.Admission.HintSignersFiles) > 0)); err != nil {
		return err
	}
	p.serveOps(func() (string, error) { return "", p.readiness() })
	return p.registerCertificates()
}

// openData makes the data folder, and registers what every role measures.
func (p *parts) openData() error {
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if p.cfg.Data == "" { // an attestor alone may do without
		return nil
	}
	if err := os.MkdirAll(p.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	return nil
}

// serveOps gives the ops listener its handler.
func (p *parts) serveOps(ready func() (note string, err error)) {
	p.ops.server.Handler = p.guard(p.ops, opsHandler(ready, p.registry, isLoopbackAddr(p.ops.addr())), false)
}

// guard keeps web pages of others from a listener.
func (p *parts) guard(l *listener, h http.Handler, authenticated bool) http.Handler {
	return sameSite(h, isLoopbackAddr(l.addr()) && !authenticated && !p.cfg.InsecureNoAuth)
}

// openService opens the store and the service over it.
func (p *parts) openService(ctx context.Context) error {
	store, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	p.store = store
	p.onClose(store.Close)
	if p.calls, err = p.openCalls(); err != nil {
		return err
	}
	p.service, err = metadata.NewService(ctx, store, metadata.Options{
		Authorizer: p.identity, // lets all do all if nobody is asked who he is; Validate keeps such a listener on loopback
		Recorder:   p.calls,
		Projects:   []string{kritisProject, p.cfg.Project},
		Logger:     p.logger,
	})
	return err
}

// listen binds all ports, and gives the metadata API its handler.
func (p *parts) listen(ctx context.Context) error {
	all := []bound{
		{"metadata", p.cfg.Metadata.Address, &p.metadata},
		{"attestor", p.cfg.Attestor.Address, &p.attestor},
		{"admission", p.cfg.Admission.Address, &p.admission},
		{"ops", p.cfg.Ops.Address, &p.ops},
	}
	if p.cfg.KritisSigner.Address != "" {
		all = append(all, bound{"kritisSigner", p.cfg.KritisSigner.Address, &p.kritisSigner})
	}
	if p.cfg.Mutate.Address != "" {
		all = append(all, bound{"mutate", p.cfg.Mutate.Address, &p.mutate})
	}
	if err := p.bind(ctx, all...); err != nil {
		return err
	}
	return p.buildMetadata()
}

// A bound is a listener to be.
type bound struct {
	name, addr string
	to         **listener
}

// bind binds ports.
func (p *parts) bind(ctx context.Context, all ...bound) error {
	for _, b := range all {
		l, err := listen(ctx, b.name, b.addr, p.logger)
		if err != nil {
			return err
		}
		p.onClose(func() error { _ = l.net.Close(); return nil }) // closed already if it was served
		*b.to = l
	}
	return nil
}

// buildMetadata gives the metadata listener its handler and its TLS.
func (p *parts) buildMetadata() error {
	// The policies are there before anything is served.
	e := newEvaluator(p.service, p.cfg.place(), func() bundle.Sources { return p.policies.known() })
	policies, err := admin.New(p.service, admin.Options{
		Files: admin.Files{
			Project: p.cfg.Project, Policies: p.cfg.Admission.PolicyFiles, Attestors: p.cfg.Admission.AttestorsFiles, System: p.cfg.Admission.SystemPolicyFile,
		},
		Evaluate: e.evaluate,
	})
	if err != nil {
		return err
	}
	following, err := feed.New(p.service, feed.Options{Logger: p.logger, Registry: p.registry})
	if err != nil {
		return err
	}
	handler, closeHandler := grafeasapi.NewHandler(p.service, grafeasapi.Options{
		Identify: p.identity.Identify, Logger: p.logger, Extensions: []grafeasapi.Extension{
			binauthzapi.New(policies), following,
			breakglassapi.New(breakglassapi.Options{
				Service: p.service, Project: p.cfg.Project, Incidents: p.glass.incidents, Grants: p.glass.grants, Log: p.glass.log, Tells: p.outbox != nil,
			}),
		},
	})
	p.onClose(func() error { closeHandler(); return nil })
	server := p.metadata.server
	server.RegisterOnShutdown(following.Stop)
	server.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin}
	server.Handler = p.guard(p.metadata, handler, p.identity.Enabled())
	config, cert, err := metadataTLS(p.cfg, p.logger)
	if err != nil {
		return err
	}
	if config == nil {
		server.Protocols = clearProtocols()
		return nil
	}
	p.certificates = append(p.certificates, cert)
	server.TLSConfig, server.Protocols = config, tlsProtocols()
	return nil
}

// admissionTLS finds the serving certificate, and the CA that callers need.
func (p *parts) admissionTLS() (*tls.Config, error) {
	a := p.cfg.Admission
	if a.CertFile != "" {
		cert, err := openCertificate(admissionCertificate, a.CertFile, a.KeyFile, p.logger)
		if err != nil {
			return nil, err
		}
		if p.ca, err = filepath.Abs(a.CertFile); err != nil {
			return nil, err
		}
		p.certificates = append(p.certificates, cert)
		return admissionTLS(cert.get), nil
	}
	hosts := append([]string{"localhost", "127.0.0.1", "::1"}, a.Hosts...)
	if host, _, err := net.SplitHostPort(a.Address); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	ca, err := ownca.Open(ownca.Options{Dir: p.cfg.caDir(), Hosts: hosts, Now: time.Now, Logger: p.logger})
	if err != nil {
		return nil, err
	}
	if p.ca, err = filepath.Abs(ca.BundlePath()); err != nil {
		return nil, err
	}
	p.ownCA = ca
	return admissionTLS(ca.Certificate), nil
}

// maxLag is how many changes the index may be behind and still be called ready.
const maxLag = 10_000

func (p *parts) readiness() error {
	switch {
	case !p.ready.Load():
		return errors.New("starting or stopping")
	case p.index.Lag() > maxLag:
		return fmt.Errorf("the index of attestations is %d changes behind", p.index.Lag())
	}
	return nil
}

func isLoopbackAddr(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopback(host)
}
