package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	attestorDir   = "attestor"
	attestorKey   = "key.pem"
	attestorsJSON = "attestors.json"

	// developmentAlgorithm is among the cheapest to verify, and every Binary
	// Authorization client knows it.
	developmentAlgorithm = signature.Algorithm("ECDSA_P256_SHA256")
)

// buildAttestor makes the attestor and its handler, and returns the file that
// describes its keys as Binary Authorization attestors.
func (p *parts) buildAttestor() (attestorsFile string, err error) {
	conn, err := p.connectInProcess()
	if err != nil {
		return "", err
	}
	attestorsFile = attestorsPath(p.cfg.Data)
	err = p.openAttestor(grafeas.NewGrafeasClient(conn), p.withDevelopmentKey, func(o attest.Options) error {
		return writeAttestors(attestorsFile, o)
	})
	return attestorsFile, err
}

// withDevelopmentKey has the development key sign what no other does.
func (p *parts) withDevelopmentKey(options *attest.Options) error {
	if len(options.Signers) > 0 || options.DryRun {
		return nil
	}
	signer, err := developmentSigner(filepath.Join(p.cfg.Data, attestorDir, attestorKey))
	if err != nil {
		return err
	}
	p.logger.Warn("no signing key is configured: attestations are signed with the development key of this data folder", "key", signer.KeyID())
	options.Signers = make(map[string]signature.Signer, len(options.Checks))
	for _, c := range options.Checks {
		options.Signers[c.Name] = signer
	}
	return nil
}

// attestorsPath is where the attestor's keys are described for policy.
func attestorsPath(data string) string { return filepath.Join(data, attestorDir, attestorsJSON) }

// loadAttestorConfig reads Voucher's configuration, or makes the one of an
// attestor that was given none: it asks what it can know without being told
// which repositories and builders are trusted.
func loadAttestorConfig(cfg Config, logger *slog.Logger) (*attest.Config, error) {
	if cfg.Attestor.ConfigFile == "" {
		return &attest.Config{
			Project:     cfg.Project,
			FailOn:      "high",
			Groups:      map[string][]string{attest.AllGroup: {"nobody", "snakeoil"}},
			Server:      attest.ServerConfig{Port: attest.DefaultPort, Timeout: attest.DefaultTimeout},
			CreateNotes: true,
		}, nil
	}
	config, warnings, err := attest.LoadVoucherConfigOver(cfg.Attestor.ConfigFile, environmentOf(cfg.Role))
	for _, w := range warnings {
		logger.Warn("reading the attestor's configuration", "finding", w.String())
	}
	if err != nil {
		return nil, fmt.Errorf("reading the attestor's configuration: %w", err)
	}
	if cfg.Role == AllRoles && config.Grafeas != (attest.GrafeasConfig{}) {
		logger.Warn("the attestor files with the metadata service that runs beside it, whatever metadata_client says; role attestor files with others")
	}
	if config.Project == "" {
		config.Project = cfg.Project
	}
	if cfg.Attestor.Port != 0 {
		config.Server.Port = cfg.Attestor.Port
	}
	if cfg.Attestor.Timeout != 0 {
		config.Server.Timeout = cfg.Attestor.Timeout
	}
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("reading the attestor's configuration %s: %w", cfg.Attestor.ConfigFile, err)
	}
	if cfg.Attestor.Address == "" {
		return config, nil
	}
	return config, cfg.validateAddress("attestor", cfg.Attestor.Address, asksCallers(config))
}

// environmentOf is what the attestor's configuration takes from the environment: all that
// Voucher does, in its place; else only what Voucher has in no file.
func environmentOf(role Role) attest.Getenv {
	if role == AttestorRole {
		return os.Getenv
	}
	return func(name string) string {
		switch name {
		case "IS_CLOUDRUN", "VOUCHER_TARGET_OS", "VOUCHER_TARGET_ARCH":
			return os.Getenv(name)
		}
		return ""
	}
}

// asksCallers reports whether the callers of an attestor have to say who they are.
func asksCallers(config *attest.Config) bool {
	return config.Server.RequireAuth || config.Server.CloudRun
}

// developmentSigner reads the key at path, or makes it.
func developmentSigner(path string) (signature.Signer, error) {
	pem, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if pem, err = signature.GeneratePKIX(developmentAlgorithm, rand.Reader); err != nil {
			return nil, fmt.Errorf("making the development key: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("making the development key: %w", err)
		}
		if err := durable.WriteFile(path, pem, 0o600); err != nil {
			return nil, fmt.Errorf("making the development key: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("reading the development key: %w", err)
	}
	signer, err := signature.ParsePKIXSigner(pem, developmentAlgorithm, "")
	if err != nil {
		return nil, fmt.Errorf("reading the development key %s: %w", path, err)
	}
	return signer, nil
}

// The REST JSON of Binary Authorization attestors, as far as it is written here.
type (
	attestorList struct {
		Attestors []attestorJSON `json:"attestors"`
	}
	attestorJSON struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Note        noteJSON `json:"userOwnedGrafeasNote"`
	}
	noteJSON struct {
		Reference  string    `json:"noteReference"`
		PublicKeys []keyJSON `json:"publicKeys"`
	}
	keyJSON struct {
		ID   string    `json:"id"`
		PGP  string    `json:"asciiArmoredPgpPublicKey,omitempty"`
		PKIX *pkixJSON `json:"pkixPublicKey,omitempty"`
	}
	pkixJSON struct {
		PEM       string `json:"publicKeyPem"`
		Algorithm string `json:"signatureAlgorithm"`
	}
)

// writeAttestors tells policy what the attestor signs with: for each check an
// attestor of its name, with the note of its name and the key of the check.
func writeAttestors(path string, options attest.Options) error {
	list := attestorList{Attestors: []attestorJSON{}}
	for _, c := range options.Checks {
		signer, ok := options.Signers[c.Name]
		if !ok {
			continue
		}
		k := keyJSON{ID: signer.KeyID()}
		if public := signer.PublicKey(); public.Algorithm() == signature.PGP {
			k.PGP = public.Marshal()
		} else {
			k.PKIX = &pkixJSON{PEM: public.Marshal(), Algorithm: string(public.Algorithm())}
		}
		list.Attestors = append(list.Attestors, attestorJSON{
			Name:        "projects/" + options.Project + "/attestors/" + c.Name,
			Description: c.Doc.Title,
			Note:        noteJSON{Reference: "projects/" + options.Project + "/notes/" + c.Name, PublicKeys: []keyJSON{k}},
		})
	}
	slices.SortFunc(list.Attestors, func(a, b attestorJSON) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the attestor's keys: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the attestor's keys: %w", err)
	}
	if err := durable.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the attestor's keys: %w", err)
	}
	return nil
}
