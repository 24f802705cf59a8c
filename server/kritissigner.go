package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest/kritisapi"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

// KritisSignerConfig is the signer of Kritis over HTTP, as its gcr-signer: the paths
// /check-only, /check-and-sign and /event. Callers are those of the section identity.
type KritisSignerConfig struct {
	// Address to listen on. Default none: it does not run.
	Address string `yaml:"address"`
	// CertFile and KeyFile are the serving certificate, watched for changes; without
	// them it is plain HTTP.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// Callers are the names of those who may ask; "*" is everybody who has proved who
	// he is. Required when callers are asked who they are.
	Callers []string `yaml:"callers"`
	// PolicyFile has the VulnzSigningPolicy, or Policy is its text.
	PolicyFile string `yaml:"policyFile"`
	Policy     string `yaml:"policy"`
	// NoteName is what attestations are filed under, projects/P/notes/N. Without it
	// and a key only /check-only works.
	NoteName string `yaml:"noteName"`
	// AttestationProject is where attestations are filed. Default: the project of the
	// note.
	AttestationProject string `yaml:"attestationProject"`
	// ScanProjects are those whose scans are believed. Default: Project.
	ScanProjects []string `yaml:"scanProjects"`
	// Overwrite signs anew each time, and deletes the attestations by the key that
	// were there.
	Overwrite bool `yaml:"overwrite"`
	// VulnzTimeout is how long a scan is waited for. Default 5m.
	VulnzTimeout time.Duration `yaml:"vulnzTimeout"`
	// The key, of which the first that is given signs: a version of a key of Cloud KMS
	// and what it signs; an OpenPGP key and its passphrase; a PEM key and how it signs.
	KMSKeyName        string `yaml:"kmsKeyName"`
	KMSDigestAlg      string `yaml:"kmsDigestAlg"`
	KMSEndpoint       string `yaml:"kmsEndpoint"`
	PGPPrivateKeyFile string `yaml:"pgpPrivateKeyFile"`
	PGPPassphraseFile string `yaml:"pgpPassphraseFile"`
	PKIXKeyFile       string `yaml:"pkixPrivateKeyFile"`
	PKIXAlg           string `yaml:"pkixAlg"`
}

// applyEnvironment takes what is not set otherwise from the variables that gcr-signer
// reads. They count only where the signer runs.
func (k *KritisSignerConfig) applyEnvironment(getenv func(string) string, logger *slog.Logger) error {
	if k.Address == "" {
		return nil
	}
	take := func(name string, to *string) {
		if v := getenv(name); v != "" && *to == "" {
			*to = v
			logger.Info("the signer of Kritis takes a setting from the environment", "variable", name)
		}
	}
	if k.Policy == "" {
		take("ATTESTATION_POLICY_PATH", &k.PolicyFile)
	}
	if k.PolicyFile == "" {
		take("ATTESTATION_POLICY", &k.Policy)
	}
	take("ATTESTATION_NOTE_NAME", &k.NoteName)
	take("ATTESTATION_PROJECT", &k.AttestationProject)
	if k.PGPPrivateKeyFile == "" && k.PKIXKeyFile == "" {
		take("ATTESTATION_KMS_KEY", &k.KMSKeyName)
		take("ATTESTATION_DIGEST_ALGORITHM", &k.KMSDigestAlg)
	}
	var overwrite string
	if take("ATTESTATION_OVERWRITE", &overwrite); overwrite != "" && !k.Overwrite {
		var err error
		if k.Overwrite, err = strconv.ParseBool(overwrite); err != nil {
			return fmt.Errorf("environment variable ATTESTATION_OVERWRITE: %q is not true or false", overwrite)
		}
	}
	return nil
}

func (k *KritisSignerConfig) key() kritissigner.KeyConfig {
	return kritissigner.KeyConfig{
		KMSKeyName: k.KMSKeyName, KMSDigestAlg: k.KMSDigestAlg, KMS: signer.GoogleOptions{Endpoint: k.KMSEndpoint},
		PGPPrivateKey: k.PGPPrivateKeyFile, PGPPassphraseFile: k.PGPPassphraseFile,
		PKIXPrivateKey: k.PKIXKeyFile, PKIXAlg: k.PKIXAlg,
	}
}

// validateKritisSigner keeps the signer to those who have proved who they are, unless
// it is on loopback.
func (c *Config) validateKritisSigner() error {
	k := &c.KritisSigner
	if k.Address == "" {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("kritisSigner: "+format, args...))
	}
	if c.Role == AdmissionRole {
		bad("role %s runs the gate alone, which holds no keys: leave address out", c.Role)
	}
	errs = append(errs, c.validateAddress("kritisSigner", k.Address, c.Identity.Secrets()))
	if host, _, err := net.SplitHostPort(k.Address); err == nil && !isLoopback(host) && k.CertFile == "" && c.Identity.Secrets() && !c.InsecureNoAuth {
		bad("address %q is not on loopback, and tokens and passwords would be sent in the clear: give certFile and keyFile, or --insecure-no-auth behind something that speaks TLS", k.Address)
	}
	if (k.CertFile == "") != (k.KeyFile == "") {
		bad("certFile and keyFile: give both or neither")
	}
	switch {
	case c.Identity.Enabled() && len(k.Callers) == 0:
		bad(`callers are asked who they are, and nobody may ask: name those who may in callers, such as ["ci@shop"]`)
	case c.Identity.Enabled() && !c.Identity.Secrets():
		bad("it asks for no client certificates: give identity.bearerTokensFile or basicUsersFile, by which its callers prove who they are")
	case !c.Identity.Enabled() && len(k.Callers) > 0:
		bad("there are callers and no way to tell them: give identity.bearerTokensFile or basicUsersFile")
	}
	if k.PolicyFile != "" && k.Policy != "" {
		bad("policyFile and policy: give one of them")
	}
	if k.VulnzTimeout < 0 || k.VulnzTimeout > time.Hour {
		bad("vulnzTimeout %s: want at most an hour", k.VulnzTimeout)
	}
	return errors.Join(errs...)
}

// open reads the policy and the key. A key that is left out is nil.
func (k *KritisSignerConfig) open(ctx context.Context, logger *slog.Logger) (policy *kritis.VulnzSigningPolicy, key signature.Signer, done func() error, err error) {
	found := func(file string, text []byte) error {
		p, warnings, err := kritissigner.ParsePolicy(file, text)
		for _, d := range warnings {
			logger.Warn("reading the signer's policy", "finding", d.String())
		}
		policy = p
		return err
	}
	switch {
	case k.PolicyFile != "":
		var text []byte
		if text, err = bounded.ReadFile(k.PolicyFile, kritis.MaxText); err == nil {
			err = found(k.PolicyFile, text)
		}
	case k.Policy != "":
		err = found("kritisSigner.policy", []byte(k.Policy))
	default:
		err = errors.New("there is no policy: give policyFile, with a VulnzSigningPolicy")
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the signer of Kritis: %w", err)
	}
	key, done, err = k.key().Open(ctx)
	switch {
	case errors.Is(err, kritissigner.ErrNoKey) && k.NoteName == "":
		return policy, nil, func() error { return nil }, nil
	case err != nil:
		return nil, nil, nil, fmt.Errorf("the signer of Kritis: the key: %w", err)
	case k.NoteName == "":
		return nil, nil, nil, errors.Join(errors.New("the signer of Kritis has a key and no noteName to file attestations under: give projects/P/notes/N"), done())
	}
	return policy, key, done, nil
}

// check reports whether the signer could be put together.
func (k *KritisSignerConfig) check(logger *slog.Logger) error {
	if err := k.applyEnvironment(os.Getenv, logger); err != nil || k.Address == "" {
		return err
	}
	_, _, done, err := k.open(context.Background(), logger)
	if err != nil {
		return err
	}
	return done()
}

// kritisRules are what the signer may do beside reading, as the server's own attestor.
func kritisRules(k KritisSignerConfig) []identity.Rule {
	if k.Address == "" || k.NoteName == "" {
		return nil
	}
	filed := []metadata.Permission{metadata.OccurrencesCreate}
	if k.Overwrite {
		filed = append(filed, metadata.OccurrencesDelete)
	}
	return []identity.Rule{
		{Caller: identity.ReservedCaller, Project: projectOfNote(k.NoteName), Permissions: []metadata.Permission{metadata.NotesCreate, metadata.NotesAttachOccurrence}},
		{Caller: identity.ReservedCaller, Project: k.attestationProject(), Permissions: filed},
	}
}

func (k *KritisSignerConfig) attestationProject() string {
	if k.AttestationProject != "" {
		return k.AttestationProject
	}
	return projectOfNote(k.NoteName)
}

// projectOfNote returns P of projects/P/notes/N.
func projectOfNote(name string) string {
	project, _, _ := strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
	return project
}

// buildKritisSigner gives the signer's listener its handler. It is a client of the
// metadata API, like the attestor.
func (p *parts) buildKritisSigner(ctx context.Context) error {
	k := p.cfg.KritisSigner
	if k.Address == "" {
		return nil
	}
	policy, key, done, err := k.open(ctx, p.logger)
	if err != nil {
		return err
	}
	p.onClose(done)
	conn, err := p.connectInProcess()
	if err != nil {
		return err
	}
	client := grafeas.NewGrafeasClient(conn)
	options := kritissigner.Options{
		Store: client, Policy: policy, ScanProjects: k.ScanProjects, Timeout: k.VulnzTimeout, Watch: p.watchStore,
		Key: key, Note: k.NoteName, Project: k.attestationProject(), Overwrite: k.Overwrite, Logger: p.logger,
	}
	if len(options.ScanProjects) == 0 {
		options.ScanProjects = []string{p.cfg.Project}
	}
	s, err := kritissigner.New(options)
	if err != nil {
		return fmt.Errorf("configuring the signer of Kritis: %w", err)
	}
	api := kritisapi.NewHandler(kritisapi.Options{
		Signer: s, Occurrences: client, Identify: p.identity.Identify, Timeout: s.Timeout, Logger: p.logger,
		May: func(c metadata.Caller) bool {
			return !p.identity.Enabled() || c.Name != "" && (slices.Contains(k.Callers, c.Name) || slices.Contains(k.Callers, "*"))
		},
		Record: p.calls.Record,
	})
	p.kritisSigner.server.Handler = p.guard(p.kritisSigner, api, p.identity.Enabled())
	if k.CertFile == "" {
		return nil
	}
	cert, err := openCertificate(kritisCertificate, k.CertFile, k.KeyFile, p.logger)
	if err != nil {
		return err
	}
	p.certificates = append(p.certificates, cert)
	p.kritisSigner.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	p.kritisSigner.server.Protocols = tlsProtocols()
	return nil
}

// leastWait is how long a scan is left alone, however much else is written.
const leastWait = 250 * time.Millisecond

// watchStore returns what waits for a time, or until something has been written since.
func (p *parts) watchStore() func(ctx context.Context, d time.Duration) error {
	head := p.service.Head()
	return func(ctx context.Context, d time.Duration) error {
		least := time.NewTimer(min(d, leastWait))
		defer least.Stop()
		select {
		case <-least.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		waiting, cancel := context.WithTimeout(ctx, max(d-leastWait, 0))
		defer cancel()
		// How it ended does not matter: the scan is looked at again, if there is time.
		_ = p.service.Wait(waiting, head)
		return ctx.Err()
	}
}
