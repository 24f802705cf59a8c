package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/checksapi"
	"github.com/gatehouse-dev/gatehouse/attest/door"
	"github.com/gatehouse-dev/gatehouse/attest/voucherapi"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

const (
	// attestorInterval is how often the attestor's files are looked at. They are compared
	// by content: mounted secrets change behind symbolic links.
	attestorInterval = time.Second
	// maxAttestorFile bounds what is compared of one file, in bytes.
	maxAttestorFile = 4 << 20
)

// A metadataClient is what an attestor files with and its checks read from.
type metadataClient interface {
	attest.Store
	check.Lister
}

// liveAttestor is an attestor whose configuration is read again when it changes. What
// is asked while it changes is answered by the old one.
type liveAttestor struct {
	cfg      Config
	logger   *slog.Logger
	client   metadataClient
	feed     check.Feed // nil when the metadata service is elsewhere
	recorder attest.Recorder
	index    *index.Index // of the gate beside it, or nil
	// complete adds to the options, and made is told of those that are in force.
	complete func(*attest.Options) error
	made     func(attest.Options) error

	resolver *resolve.Resolver
	config   *attest.Config // of the first start
	now      atomic.Pointer[attestorState]
	checks   *checksapi.Handler

	seen     [sha256.Size]byte
	reloads  *prometheus.CounterVec
	inForce  prometheus.Gauge
	interval time.Duration
}

// attestorState is one configuration in force.
type attestorState struct {
	checksapi.State
	voucher  http.Handler
	files    []string
	closeKMS func()
}

// openAttestor makes the attestor of p.attestorConfig, and gives its listener a handler.
func (p *parts) openAttestor(client metadataClient, complete func(*attest.Options) error, made func(attest.Options) error) error {
	reach, err := p.registryOptions()
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	a := &liveAttestor{
		cfg: p.cfg, logger: p.logger, client: client, config: p.attestorConfig, complete: complete, made: made, index: p.index, resolver: resolve.New(reach...), interval: attestorInterval,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_attestor_config_reloads_total",
			Help: "Times that the attestor's configuration changed, by result: ok or error. After an error the last good one stays in force.",
		}, []string{"result"}),
		inForce: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_attestor_config_current",
			Help: "1 while the attestor's configuration is the one in its files, 0 while that is broken and an older one is in force.",
		}),
	}
	for _, result := range []string{okResult, errorResult} {
		a.reloads.WithLabelValues(result)
	}
	if p.service != nil {
		a.feed = p.service
	}
	recorder, err := p.openRuns()
	if err != nil {
		return err
	}
	a.recorder = recorder
	p.onClose(func() error {
		if state := a.now.Load(); state != nil {
			state.closeKMS()
		}
		return nil
	})
	for _, c := range []prometheus.Collector{a.reloads, a.inForce} {
		if err := p.registry.Register(c); err != nil {
			return err
		}
	}
	a.seen = a.content(a.filesOf(p.attestorConfig)) // before they are read: what changes meanwhile is read again
	if err := a.use(p.attestorConfig); err != nil {
		return err
	}
	a.checks = checksapi.New(checksapi.Options{Current: func() checksapi.State { return a.now.Load().State }, Logger: p.logger})
	p.onClose(func() error { a.checks.Close(); return nil })
	p.live = a
	p.attestor.server.Handler = p.guard(p.attestor, recovered(p.tracing.handler("attestor", a), p.logger), asksCallers(p.attestorConfig))
	return nil
}

// use puts a configuration in force.
func (a *liveAttestor) use(config *attest.Config) error {
	options, err := config.Options()
	if err != nil {
		return fmt.Errorf("configuring the attestor: %w", err)
	}
	closeKMS, err := a.openKMS(config, &options)
	if err != nil {
		return fmt.Errorf("configuring the attestor: %w", err)
	}
	state, err := a.stateOf(config, &options)
	if err != nil {
		closeKMS()
		return err
	}
	state.closeKMS = closeKMS
	if old := a.now.Swap(state); old != nil {
		// What it was asked may still be signed.
		time.AfterFunc(old.Timeout, old.closeKMS)
	}
	a.inForce.Set(1)
	return nil
}

// openKMS opens the keys of Cloud KMS, and returns what closes them.
func (a *liveAttestor) openKMS(config *attest.Config, options *attest.Options) (func(), error) {
	if config.Signer != attest.SignerKMS || len(config.KMSKeys) == 0 || config.DryRun {
		return func() {}, nil
	}
	conn, err := options.OpenKMS(context.Background(), signer.GoogleOptions{Endpoint: config.KMSEndpoint}, config.KMSKeys...)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			if err := conn.Close(); err != nil {
				a.logger.Warn("closing the connection to Cloud KMS", "error", err)
			}
		})
	}, nil
}

func (a *liveAttestor) stateOf(config *attest.Config, options *attest.Options) (*attestorState, error) {
	if err := a.complete(options); err != nil {
		return nil, fmt.Errorf("configuring the attestor: %w", err)
	}
	if a.index != nil {
		options.Memo = a.index.Memo()
	}
	options.Registry, options.Store, options.Recorder, options.Logger = a.resolver, a.client, a.recorder, a.logger
	known, err := config.Metadata(a.client)
	if err != nil {
		return nil, fmt.Errorf("configuring the attestor: %w", err)
	}
	if a.feed != nil {
		known = known.WithFeed(a.feed)
	}
	options.Metadata = known
	authority, err := attest.New(*options)
	if err != nil {
		return nil, fmt.Errorf("configuring the attestor: %w", err)
	}
	if err := a.made(*options); err != nil {
		return nil, err
	}
	s := config.Server
	d := door.New(door.Options{
		RequireAuth: s.RequireAuth, Username: s.Username, PasswordHash: s.PasswordHash, Callers: s.Callers,
		PerMinute: s.RequestsPerMinute, Burst: s.Burst, PerCaller: s.ConcurrentPerCaller,
	})
	return &attestorState{
		State:   checksapi.State{Authority: authority, Door: d, Timeout: s.Timeout},
		voucher: voucherapi.NewHandler(authority, voucherapi.Options{Door: d, Timeout: s.Timeout, Logger: a.logger}),
		files:   a.filesOf(config),
	}, nil
}

// ServeHTTP serves our API under its paths, and Voucher's under all others.
func (a *liveAttestor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ours := strings.CutPrefix(r.URL.Path, checksapi.Prefix); ours && rest != "verify" { // a group may be called v1
		a.checks.ServeHTTP(w, r)
		return
	}
	a.now.Load().voucher.ServeHTTP(w, r)
}

// Run reads the configuration again when it changes, until ctx ends.
func (a *liveAttestor) Run(ctx context.Context) error {
	if a.cfg.Attestor.ConfigFile == "" {
		return nil
	}
	tick := time.NewTicker(a.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.reload()
		}
	}
}

// reload puts the configuration in force if it has changed. A broken one is looked at
// once, and said.
func (a *liveAttestor) reload() {
	seen := a.content(a.now.Load().files)
	if seen == a.seen {
		return
	}
	a.seen = seen
	if err := a.replace(); err != nil {
		a.inForce.Set(0)
		a.reloads.WithLabelValues(errorResult).Inc()
		a.logger.Error("the changed configuration of the attestor is not used, the last good one stays in force", "file", a.cfg.Attestor.ConfigFile, "error", err)
		return
	}
	// It may name other files.
	a.seen = a.content(a.now.Load().files)
	a.reloads.WithLabelValues(okResult).Inc()
	a.logger.Info("the changed configuration of the attestor is in force", "file", a.cfg.Attestor.ConfigFile)
}

func (a *liveAttestor) replace() error {
	config, err := loadAttestorConfig(a.cfg, a.logger)
	if err != nil {
		return err
	}
	was := a.config
	switch {
	case config.Project != was.Project:
		return fmt.Errorf("binauth_project was %q and is %q: this takes a restart", was.Project, config.Project)
	case config.Grafeas != was.Grafeas:
		return errors.New("another metadata server takes a restart")
	case asksCallers(config) != asksCallers(was):
		return errors.New("server.require_auth takes a restart")
	case config.Server.Port != was.Server.Port:
		return fmt.Errorf("server.port was %d and is %d: this takes a restart", was.Server.Port, config.Server.Port)
	}
	return a.use(config)
}

// filesOf are the files that a configuration is in.
func (a *liveAttestor) filesOf(config *attest.Config) []string {
	return append([]string{a.cfg.Attestor.ConfigFile}, config.Files()...)
}

// content is a digest of what is in files, or of why they cannot be read.
func (a *liveAttestor) content(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, file := range files {
		if file == "" {
			continue
		}
		text, err := bounded.ReadFile(file, maxAttestorFile)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			text = []byte(err.Error())
		}
		fmt.Fprintf(h, "%q %d\n", file, len(text))
		_, _ = h.Write(text) // a hash takes all
	}
	return [sha256.Size]byte(h.Sum(nil))
}
