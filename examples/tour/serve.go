package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const startBound = 30 * time.Second

// addresses is the line that gatehouse serve prints when it is ready.
type addresses struct {
	Metadata, Attestor, Admission, Ops, CA string

	exited chan struct{}
}

type clients struct {
	plain *http.Client
	gate  *http.Client // trusts the development CA
}

func (t *tour) dataDir() string    { return filepath.Join(t.dir, "data") }
func (t *tour) policyFile() string { return filepath.Join(t.dir, "policy.yaml") }

// policy is enforced everywhere but in the namespace trial, where it is tried out.
const policy = `# What may run: images that passed every check. In namespace trial this is only tried out.
kubernetesNamespaceAdmissionRules:
  trial:
    evaluationMode: REQUIRE_ATTESTATION
    enforcementMode: DRYRUN_AUDIT_LOG_ONLY
    requireAttestationsBy:
%[1]sdefaultAdmissionRule:
  evaluationMode: REQUIRE_ATTESTATION
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  requireAttestationsBy:
%[2]s`

var checks = []string{"diy", "nobody", "provenance", "snakeoil"}

// attestorConfig is Voucher's. No key is named: the attestor makes one.
const attestorConfig = `binauth_project = "default"
scanner = "metadata"
failon = "high"
valid_repos = ["%s/shop"]
trusted_builder_identities = ["ci@shop.example"]
trusted_projects = ["shop"]

[checks]
diy = true        # comes from our repository
nobody = true     # does not run as root
provenance = true # was built by our builder
snakeoil = true   # has no known vulnerability

[gatehouse]
create_notes = true
`

func (t *tour) serve(ctx context.Context) error {
	var specific, general strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&specific, "    - projects/default/attestors/%s\n", c)
		fmt.Fprintf(&general, "  - projects/default/attestors/%s\n", c)
	}
	text := fmt.Sprintf(policy, specific.String(), general.String())
	config := filepath.Join(t.dir, "attestor.toml")
	if err := errors.Join(
		os.WriteFile(t.policyFile(), []byte(text), 0o600),
		os.WriteFile(config, fmt.Appendf(nil, attestorConfig, t.registry), 0o600),
	); err != nil {
		return err
	}
	args := []string{
		"serve", "--data", t.dataDir(), "--policy", t.policyFile(), "--attestor-config", config, "--cluster", "local.tour", "--templates", "warn",
		"--metadata-addr", "127.0.0.1:0", "--attestor-addr", "127.0.0.1:0", "--admission-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0",
	}
	t.command("gatehouse %s", strings.Join(args, " "))
	if err := t.start(ctx, args); err != nil {
		return err
	}
	t.say("  metadata   http://%s   Grafeas v1, gRPC and REST", t.server.Metadata)
	t.say("  attestor   http://%s   Voucher's API", t.server.Attestor)
	t.say("  admission  https://%s/validate", t.server.Admission)
	t.say("  ops        http://%s   /healthz /readyz /metrics", t.server.Ops)
	t.say("  made at this first start: a CA of its own (%s), a certificate, and the attestor's key", t.server.CA)
	ca, err := os.ReadFile(t.server.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("no certificate in %s", t.server.CA)
	}
	t.client.plain = &http.Client{Timeout: time.Minute}
	t.client.gate = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	return nil
}

// start runs the product and waits for its line.
func (t *tour) start(ctx context.Context, args []string) error {
	log, err := os.Create(filepath.Join(t.dir, "gatehouse.log"))
	if err != nil {
		return err
	}
	cmd := exec.Command(t.gatehouse, args...) //nolint:noctx // it is stopped with SIGTERM, so that it drains
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting gatehouse (build it with make build): %w", err)
	}
	t.server.exited = make(chan struct{})
	line := make(chan error, 1)
	go func() {
		scan := bufio.NewScanner(stdout)
		if scan.Scan() {
			line <- json.Unmarshal(scan.Bytes(), &t.server)
		}
		_ = cmd.Wait() // why it ended is in its log
		_ = log.Close()
		close(t.server.exited)
	}()
	t.onStop(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-t.server.exited
		return nil
	})
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	select {
	case err := <-line:
		return err
	case <-t.server.exited:
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("gatehouse did not start:\n%s", text)
	case <-ctx.Done():
		return fmt.Errorf("waiting for gatehouse: %w", ctx.Err())
	}
}
