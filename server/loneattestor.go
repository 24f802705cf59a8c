package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/grafeasclient"
)

// validateAttestorAlone refuses settings of parts that an attestor alone does not run.
// Its data folder is for the audit record; without one its log has that.
func (c *Config) validateAttestorAlone() error {
	var errs []error
	if c.Attestor.ConfigFile == "" {
		errs = append(errs, errors.New("role attestor needs attestor.configFile: give --attestor-config FILE"))
	}
	for what, given := range map[string]bool{
		"store": c.Store != (StoreConfig{}), "identity": c.Identity.Enabled() || len(c.Identity.Rules) > 0, "metadata.tls": c.Metadata.TLS != (TLSConfig{}),
		"a policy": len(c.Admission.PolicyFiles) > 0 || len(c.Admission.AttestorsFiles) > 0, "admission.feed": c.Admission.Feed.Server != "",
	} {
		if given {
			errs = append(errs, fmt.Errorf("role attestor does not run what %s is for: leave it out", what))
		}
	}
	errs = append(errs, c.validateAddress("ops", c.Ops.Address, false), c.Audit.validate(c.Data))
	if c.Attestor.Address != "" {
		// Whether it authenticates is known when its own configuration is read.
		errs = append(errs, c.validateAddress("attestor", c.Attestor.Address, true))
	}
	return errors.Join(errs...)
}

// runLoneAttestor runs an attestor until ctx ends.
func runLoneAttestor(ctx context.Context, cfg Config, logger *slog.Logger, started func(Addresses) error) (err error) {
	p := newParts(cfg, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.buildLoneAttestor(ctx); err != nil {
		return err
	}
	// The parts outlive ctx while requests drain.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(background)
	stop := p.serve(group)
	group.Go(func() error { return p.live.Run(running) })
	p.ready.Store(true)
	if err = started(Addresses{Attestor: p.attestor.addr(), Ops: p.ops.addr()}); err == nil {
		select {
		case <-ctx.Done():
			logger.Info("stopping")
		case <-running.Done(): // a part failed; Wait tells which
		}
	}
	p.drain(running, stop)
	cancel()
	return errors.Join(err, group.Wait())
}

func (p *parts) buildLoneAttestor(ctx context.Context) error {
	config, err := loadAttestorConfig(p.cfg, p.logger)
	if err != nil {
		return err
	}
	p.attestorConfig = config
	if err := p.openData(); err != nil {
		return err
	}
	client, err := grafeasclient.Open(ctx, config.Grafeas)
	if err != nil {
		return err
	}
	p.onClose(client.Close)
	if err := p.bind(ctx, bound{"attestor", p.loneAddress(), &p.attestor}, bound{"ops", p.cfg.Ops.Address, &p.ops}); err != nil {
		return err
	}
	if err := p.openAttestor(client, func(o *attest.Options) error {
		if len(o.Signers) == 0 && !o.DryRun {
			p.logger.Warn("no signing key is configured: what passes is not attested; set gatehouse.keys, or openpgpkeys in the secrets")
		}
		return nil
	}, func(attest.Options) error { return nil }); err != nil {
		return err
	}
	p.serveOps(func() (string, error) {
		if !p.ready.Load() {
			return "", errors.New("starting or stopping")
		}
		return "", nil
	})
	return nil
}

// loneAddress is where an attestor alone listens: as Voucher does at all addresses, if
// its callers have to say who they are.
func (p *parts) loneAddress() string {
	if p.cfg.Attestor.Address != "" {
		return p.cfg.Attestor.Address
	}
	host := ""
	if !asksCallers(p.attestorConfig) && !p.cfg.InsecureNoAuth {
		host = "127.0.0.1"
		p.logger.Warn("callers are not asked who they are, and so only this machine can ask: set server.require_auth, or give --insecure-no-auth behind something that authenticates")
	}
	return net.JoinHostPort(host, strconv.Itoa(p.attestorConfig.Server.Port))
}

// checkLoneAttestor reports whether an attestor could be put together.
func checkLoneAttestor(cfg Config, logger *slog.Logger) error {
	config, err := loadAttestorConfig(cfg, logger)
	if err != nil {
		return err
	}
	if _, err := config.Options(); err != nil { // reads the keys and the secrets
		return err
	}
	if config.Project == "" {
		return fmt.Errorf("%s: binauth_project is not set", filepath.Base(cfg.Attestor.ConfigFile))
	}
	if config.Grafeas.Server == "" && config.Grafeas.Client == attest.ClientGrafeasOS {
		_, err = grafeasclient.NewREST(config.Grafeas.Hostname, config.Grafeas.Version)
	}
	return err
}
