package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/server"
)

// envPrefix begins the environment variable of each flag of serve: --data is
// GATEHOUSE_DATA, --metadata-addr is GATEHOUSE_METADATA_ADDR.
const envPrefix = "GATEHOUSE_"

func serveCommand() *cobra.Command {
	var configFile, logFormat string
	var checkConfig bool
	c := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Run the metadata API, the attestor and the admission gate",
		Long: `Run everything on one machine: the metadata API (Grafeas v1), the attestor (Voucher's
API), the admission webhook, and health and metrics, over an embedded store in the
data folder.

A flag wins over its environment variable (GATEHOUSE_ and the flag's name in capitals,
with _ for -), which wins over the file given with --config. When every part is
ready, one line of JSON with the addresses is printed on standard output; logs go
to standard error. SIGINT or SIGTERM stops it after running requests have ended.

Without a policy the gate lets everything in, and says so in each answer.`,
		Example: `  gatehouse serve --data ./data --policy policy.yaml --attestors attestors.json
  gatehouse serve --config gatehouse.yaml --check-config`,
		Args: cobra.NoArgs,
	}
	cfg := server.DefaultConfig()
	f := c.Flags()
	f.StringVar(&configFile, "config", "", "configuration file (YAML)")
	f.BoolVar(&checkConfig, "check-config", false, "say whether the configuration is valid, and leave")
	f.StringVar(&logFormat, "log-format", "text", "logs as text or json")
	serveFlags(f, &cfg)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := resolveConfig(f, configFile)
		if err != nil {
			return err
		}
		logger, err := newLogger(c, logFormat)
		if err != nil {
			return err
		}
		if checkConfig {
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
	return c
}

// serveFlags binds the flags that Config has fields for.
func serveFlags(f *pflag.FlagSet, cfg *server.Config) {
	f.StringVar(&cfg.Data, "data", cfg.Data, "folder for everything that is kept (required)")
	f.StringVar((*string)(&cfg.Role), "role", string(cfg.Role), "part to run: "+string(server.AdmissionRole)+" for the gate alone, without a store and without keys; "+
		string(server.AttestorRole)+" for the attestor alone, as gatehouse attestor does; "+string(server.MutateRole)+" for the webhook that pins tags; "+string(server.ControllerRole)+" for what follows a cluster's objects and pods (default: all)")
	f.StringVar(&cfg.Project, "project", cfg.Project, "project whose policy is enforced and whose notes the attestor writes")
	f.StringVar(&cfg.Cluster, "cluster", cfg.Cluster, "cluster whose reviews are answered, LOCATION.NAME")
	f.StringVar(&cfg.IstioTrustDomain, "istio-trust-domain", cfg.IstioTrustDomain, "trust domain of the cluster's mesh, for rules that name Istio identities")
	f.StringSliceVar(&cfg.Admission.PolicyFiles, "policy", cfg.Admission.PolicyFiles, "policy files of any dialect, watched for changes; all must allow")
	f.StringSliceVar(&cfg.Admission.AttestorsFiles, "attestors", cfg.Admission.AttestorsFiles, "attestors files, watched for changes (default: those of the development attestor)")
	f.StringSliceVar(&cfg.Admission.BuildersFiles, "builders", cfg.Admission.BuildersFiles, "builders files, whose provenance platform policies may trust, watched for changes")
	f.StringSliceVar(&cfg.Admission.HintSignersFiles, "hint-signers", cfg.Admission.HintSignersFiles, "files that say whose rollout hints count, watched for changes")
	f.StringVar(&cfg.Mutate.Address, "mutate-addr", cfg.Mutate.Address, "address of the webhook that writes digests beside tags; empty does not serve it")
	f.BoolVar(&cfg.Admission.MatchRepository, "match-repository", cfg.Admission.MatchRepository, "demand of attestations that they name the repository of the image, as Kritis does")
	f.BoolVar(&cfg.Admission.PlatformDryRun, "platform-dry-run", cfg.Admission.PlatformDryRun, "record what platform policies deny, and let it in")
	f.StringSliceVar(&cfg.Admission.Kritis, "kritis", cfg.Admission.Kritis, "what objects of Kritis mean: "+strings.Join(bundle.KritisWords(), ", "))
	f.StringVar(&cfg.Admission.SystemPolicyFile, "system-policy", cfg.Admission.SystemPolicyFile, "system policy file in place of the built-in one, watched for changes")
	f.StringVar((*string)(&cfg.Admission.Templates), "templates", string(cfg.Admission.Templates), "what a workload gets whose pods would be refused: "+string(admission.DenyTemplates)+" or "+string(admission.WarnTemplates))
	f.StringVar(&cfg.Attestor.ConfigFile, "attestor-config", cfg.Attestor.ConfigFile, "the attestor's configuration, in Voucher's TOML, YAML or JSON, watched for changes (default: the checks nobody and snakeoil, a development key)")
	f.StringVar(&cfg.Store.Postgres.ConnectionFile, "postgres-connection-file", cfg.Store.Postgres.ConnectionFile, "file with the connection string of a PostgreSQL database to keep notes and occurrences in (default: SQLite in the data folder)")
	f.StringVar(&cfg.Metadata.Address, "metadata-addr", cfg.Metadata.Address, "address of the metadata API; port 0 picks a free one")
	f.StringVar(&cfg.Attestor.Address, "attestor-addr", cfg.Attestor.Address, "address of the attestor")
	f.StringVar(&cfg.Admission.Address, "admission-addr", cfg.Admission.Address, "address of the admission webhook (TLS)")
	f.StringVar(&cfg.KritisSigner.Address, "kritis-addr", cfg.KritisSigner.Address, "address of the signer of Kritis over HTTP (default: it does not run)")
	f.StringVar(&cfg.Ops.Address, "ops-addr", cfg.Ops.Address, "address of health and metrics")
	f.StringVar(&cfg.Admission.CertFile, "tls-cert-file", cfg.Admission.CertFile, "the webhook's certificate, watched for changes (default: issued by a CA of the gate's own)")
	f.StringVar(&cfg.Admission.KeyFile, "tls-key-file", cfg.Admission.KeyFile, "key of --tls-cert-file")
	f.StringSliceVar(&cfg.Admission.Hosts, "tls-hosts", cfg.Admission.Hosts, "more names and addresses for the certificate that the gate's own CA issues")
	f.StringVar(&cfg.Admission.CADir, "ca-dir", cfg.Admission.CADir, "folder of the gate's own CA, which several gates may share (default: tls in the data folder)")
	f.DurationVar(&cfg.Admission.DrainDelay, "drain-delay", cfg.Admission.DrainDelay, "how long the webhook goes on to answer, not ready any more, after it was told to stop")
	f.DurationVar(&cfg.Admission.DrainTimeout, "drain-timeout", cfg.Admission.DrainTimeout, "how long after --drain-delay connections may stay open on which nobody asks")
	f.StringVar(&cfg.Admission.Feed.Server, "feed-server", cfg.Admission.Feed.Server, "metadata service that a gate alone follows: https://HOST:PORT, unix:///path, or http://HOST:PORT on loopback")
	f.StringVar(&cfg.Admission.Feed.CAFile, "feed-ca-file", cfg.Admission.Feed.CAFile, "certificates that the metadata service's is issued by (default: those of the system)")
	f.StringVar(&cfg.Admission.Feed.CertFile, "feed-cert-file", cfg.Admission.Feed.CertFile, "client certificate for the metadata service")
	f.StringVar(&cfg.Admission.Feed.KeyFile, "feed-key-file", cfg.Admission.Feed.KeyFile, "key of --feed-cert-file")
	f.StringVar(&cfg.Admission.Feed.TokenFile, "feed-token-file", cfg.Admission.Feed.TokenFile, "file with a bearer token for the metadata service")
	f.StringVar(&cfg.Admission.Feed.Gate, "gate", cfg.Admission.Feed.Gate, "what the metadata service calls this gate (default: the name of the machine)")
	f.BoolVar(&cfg.InsecureNoAuth, "insecure-no-auth", cfg.InsecureNoAuth, "allow listeners off loopback that do not authenticate their callers")
}

// resolveConfig puts file, environment and flags together, each over the one before.
func resolveConfig(flags *pflag.FlagSet, file string) (server.Config, error) {
	cfg := server.DefaultConfig()
	if file == "" {
		file = os.Getenv(envPrefix + "CONFIG")
	}
	if file != "" {
		if err := cfg.LoadFile(file); err != nil {
			return server.Config{}, err
		}
	}
	over := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	serveFlags(over, &cfg)
	var err error
	over.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if given := flags.Lookup(f.Name); given.Changed {
			// Values of lists print with brackets that Set does not take.
			err = firstError(err, f.Value.Set(strings.Trim(given.Value.String(), "[]")))
		} else if value, ok := os.LookupEnv(name); ok {
			if bad := f.Value.Set(value); bad != nil {
				err = firstError(err, fmt.Errorf("environment variable %s: %w", name, bad))
			}
		}
	})
	if err != nil {
		return server.Config{}, err
	}
	return cfg, cfg.Validate()
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func newLogger(c *cobra.Command, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.ErrOrStderr(), nil)), nil
	default:
		return nil, fmt.Errorf("--log-format %q: want text or json", format)
	}
}
