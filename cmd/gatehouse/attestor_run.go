package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/server"
)

// loneFlags are those of an attestor that runs alone.
type loneFlags struct {
	cfg         server.Config
	config      string
	timeout     int
	logFormat   string
	checkConfig bool
}

func (l *loneFlags) bind(c *cobra.Command) {
	l.cfg = server.DefaultConfig()
	l.cfg.Role = server.AttestorRole
	f := c.Flags()
	f.StringVarP(&l.config, "config", "c", "", "configuration file of Voucher's (default: config.toml, .yaml or .json in /etc/voucher, ~/.voucher, ./config or here)")
	f.IntVarP(&l.cfg.Attestor.Port, "port", "p", 0, "port, in place of server.port")
	f.IntVar(&l.timeout, "timeout", 0, "seconds that a request may take, in place of server.timeout")
	f.BoolVar(&l.checkConfig, "check-config", false, "say whether the configuration is valid, and leave")
	f.StringVar(&l.logFormat, "log-format", "text", "logs as text or json")
	f.StringVar(&l.cfg.Data, "data", envOr("DATA", ""), "folder for the audit record (default: the log has it)")
	f.StringVar(&l.cfg.Attestor.Address, "attestor-addr", envOr("ATTESTOR_ADDR", ""), "address to listen on (default: all, or 127.0.0.1 while callers do not have to log in)")
	f.StringVar(&l.cfg.Ops.Address, "ops-addr", envOr("OPS_ADDR", l.cfg.Ops.Address), "address of health and metrics")
	f.BoolVar(&l.cfg.InsecureNoAuth, "insecure-no-auth", envOr("INSECURE_NO_AUTH", "") == "true", "allow listeners off loopback that do not authenticate their callers")
}

// envOr returns a variable of ours, or what stands for it.
func envOr(name, instead string) string {
	if value, ok := os.LookupEnv(envPrefix + name); ok {
		return value
	}
	return instead
}

func (l *loneFlags) run(c *cobra.Command) error {
	cfg := l.cfg
	cfg.Attestor.ConfigFile = l.config
	if l.config == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		if cfg.Attestor.ConfigFile, err = attest.FindVoucherConfig(home); err != nil {
			return err
		}
	}
	var err error
	if cfg.Attestor.Timeout, err = seconds(l.timeout); err != nil {
		return fmt.Errorf("--timeout: %w", err)
	}
	if cfg.Attestor.Port < 0 || cfg.Attestor.Port > 65535 {
		return fmt.Errorf("--port: %d is not a port", cfg.Attestor.Port)
	}
	logger, err := newLogger(c, l.logFormat)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	if l.checkConfig {
		if err := server.Check(cfg, logger); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "the configuration is valid")
		return err
	}
	return server.Run(c.Context(), cfg, logger, func(a server.Addresses) error {
		return json.NewEncoder(c.OutOrStdout()).Encode(a)
	})
}
