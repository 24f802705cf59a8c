package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/admission/imageverifier"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/server"
)

const (
	// verifierName is what the binary is called in containerd's bin_dir, which gives
	// verifiers no arguments of ours.
	verifierName = "gatehouse-image-verifier"
	// verifierConfig is where its configuration is, unless verifierConfigEnv says where.
	verifierConfig    = "/etc/gatehouse/image-verifier.yaml"
	verifierConfigEnv = "GATEHOUSE_IMAGE_VERIFIER_CONFIG"
)

// imageVerifierCommand is the command that containerd runs for each image.
func imageVerifierCommand() *cobra.Command {
	var config, mediaType string
	var pull admission.Pull
	c := &cobra.Command{
		Use:   "image-verifier --name NAME --digest DIGEST",
		Short: "Decide whether this node may pull an image, as a plugin of containerd",
		Long: `Decide whether this node may pull an image, by the policy of the cluster: an image
verifier of containerd 2. It asks a gate, and while none answers it decides by the copy
that a gate has left on the node's disk.

containerd runs each file of its bin_dir. Link this binary there, under the name
` + verifierName + `, which has the same flags:

  ln -s /usr/local/bin/gatehouse /opt/containerd/image-verifier/bin/` + verifierName + `

The reason is on standard output. Exit status: 0 the image may be pulled, 1 it may not
(2 if the call itself makes no sense).`,
		Example: `  gatehouse image-verifier --name registry.example/shop/web:1 --digest sha256:…`,
		Args:    cobra.NoArgs,
		// What a later containerd tells is no reason not to judge.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	f := c.Flags()
	f.StringVar(&config, "config", "", "configuration file (default "+verifierConfig+", or $"+verifierConfigEnv+")")
	f.StringVar(&pull.Name, "name", "", "reference that the node was given (required)")
	f.StringVar(&pull.Digest, "digest", "", "digest that it means (required)")
	f.StringVar(&pull.Operation, "operation", "", "pull or run (default: pull)")
	f.StringVar(&pull.Namespace, "namespace", "", "namespace of the pod, if it is known; containerd says it on standard input")
	f.StringVar(&mediaType, "stdin-media-type", "", "what is on standard input (default: nothing)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if config == "" {
			config = os.Getenv(verifierConfigEnv)
		}
		if config == "" {
			config = verifierConfig
		}
		j, err := verifyImage(c, config, mediaType, pull)
		if err != nil {
			// containerd shows people what is on standard output.
			_, _ = fmt.Fprintf(c.OutOrStdout(), "the image could not be judged: %v\n", err)
			return err
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), j.Reason); err != nil {
			return err
		}
		if !j.OK {
			return errNo
		}
		return nil
	}
	return c
}

func verifyImage(c *cobra.Command, config, mediaType string, pull admission.Pull) (imageverifier.Judgement, error) {
	if pull.Name == "" || pull.Digest == "" {
		return imageverifier.Judgement{}, errors.New("--name and --digest are needed")
	}
	if mediaType != "" {
		if err := imageverifier.ReadInput(c.InOrStdin(), mediaType, &pull); err != nil {
			return imageverifier.Judgement{}, err
		}
	}
	cfg, err := imageverifier.LoadConfig(config)
	if err != nil {
		return imageverifier.Judgement{}, err
	}
	if cfg.Node == "" {
		if cfg.Node, err = os.Hostname(); err != nil {
			return imageverifier.Judgement{}, err
		}
	}
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	v := imageverifier.Verifier{
		Config: cfg, Now: time.Now, OpenCopy: openCopy(logger), Log: func(format string, args ...any) { logger.Warn(fmt.Sprintf(format, args...)) },
		Record: func(p admission.Pull, d *decide.Decision, reason string) error {
			if cfg.AuditDir == "" {
				return nil
			}
			return recordPull(c.Context(), cfg.AuditDir, logger, p, d, reason)
		},
	}
	return v.Verify(c.Context(), pull), nil
}

func openCopy(logger *slog.Logger) func(context.Context, string) (imageverifier.Local, time.Time, error) {
	return func(ctx context.Context, file string) (imageverifier.Local, time.Time, error) {
		cfg := server.DefaultConfig()
		if err := cfg.LoadFile(file); err != nil {
			return nil, time.Time{}, err
		}
		if cfg.Role != server.AdmissionRole {
			return nil, time.Time{}, fmt.Errorf("%s is of a server with role %q: only a gate with role %q keeps a copy", file, cfg.Role, server.AdmissionRole)
		}
		local, err := server.ReadCopy(ctx, cfg, logger)
		if err != nil {
			return nil, time.Time{}, err
		}
		return local, local.Written, nil
	}
}

// recordPull records a decision that no gate has made. containerd may run several
// verifiers at the same time, and a log has one writer.
func recordPull(ctx context.Context, dir string, logger *slog.Logger, p admission.Pull, d *decide.Decision, reason string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := durable.Lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	log, err := audit.Open(dir, logger)
	if err != nil {
		return err
	}
	err = log.AppendSync(ctx, admission.PullRecord(p, d, reason, time.Now()))
	return errors.Join(err, log.Close())
}

// runVerifier runs the command under its own name, with flags of one dash, as containerd
// gives them. Whatever goes wrong has another status than 0.
func runVerifier(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return run(ctx, append([]string{"image-verifier"}, args...), stdin, stdout, stderr)
}
