package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/attest/secretfile"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// SecretFiles are where Voucher's secrets are: an ejson file with the folder of its
// keys, or a sops file. The zero SecretFiles are none.
type SecretFiles struct {
	EJSONFile, EJSONKeyDir string
	SOPSFile               string
}

// Secrets are what is in Voucher's file of secrets.
type Secrets struct {
	// OpenPGPKeys are armoured private keys, by the name of the check that they sign for.
	OpenPGPKeys map[string]Secret `json:"openpgpkeys"`
	// Repositories are how to log in to source code hosts, by the alias of the
	// organisation.
	Repositories map[string]RepositorySecret `json:"repositories"`
}

// RepositorySecret is a login at a source code host: a token, a name and a password, or
// a GitHub App.
type RepositorySecret struct {
	Token          Secret `json:"token"`
	Username       string `json:"username"`
	Password       Secret `json:"password"`
	AppID          string `json:"_app_id"`
	InstallationID string `json:"_installation_id"`
	PrivateKey     Secret `json:"private_key"`
}

// A Secret is a text that prints as a placeholder, whatever prints it.
type Secret string

const secretPlaceholder = "[secret]"

// String returns a placeholder.
func (Secret) String() string { return secretPlaceholder }

// GoString returns a placeholder.
func (Secret) GoString() string { return secretPlaceholder }

// MarshalText returns a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(secretPlaceholder), nil }

// UnmarshalText takes the text itself.
func (s *Secret) UnmarshalText(text []byte) error { *s = Secret(text); return nil }

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// Load decrypts the secrets. Without files there are none.
func (f SecretFiles) Load(ctx context.Context, env Getenv) (Secrets, error) {
	var text []byte
	var err error
	switch {
	case f.EJSONFile != "":
		text, err = secretfile.DecryptEJSON(f.EJSONFile, f.EJSONKeyDir)
	case f.SOPSFile != "":
		text, err = secretfile.DecryptSOPS(ctx, f.SOPSFile, env)
	default:
		return Secrets{}, nil
	}
	if err != nil {
		return Secrets{}, err
	}
	s, err := parseSecrets(text)
	if err != nil {
		return Secrets{}, fmt.Errorf("reading the secrets in %q: %w", f.EJSONFile+f.SOPSFile, err)
	}
	return s, nil
}

// parseSecrets reads decrypted secrets. Its errors name places and never quote values.
func parseSecrets(text []byte) (Secrets, error) {
	var s Secrets
	err := json.UnmarshalRead(bytes.NewReader(text), &s)
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &semantic):
		return Secrets{}, fmt.Errorf("%s: another kind of value belongs here", clip(string(semantic.JSONPointer)))
	case err != nil:
		return Secrets{}, errors.New("it is not JSON, or has a key twice")
	}
	for _, alias := range slices.Sorted(maps.Keys(s.Repositories)) {
		if r := s.Repositories[alias]; r == (RepositorySecret{}) {
			return Secrets{}, fmt.Errorf("repositories.%s: want token, or username and password, or _app_id, _installation_id and private_key", clip(alias))
		}
	}
	return s, nil
}

// signers parses the OpenPGP keys.
func (s Secrets) signers() (map[string]signature.Signer, error) {
	signers := map[string]signature.Signer{}
	for _, name := range slices.Sorted(maps.Keys(s.OpenPGPKeys)) {
		signer, err := signature.ParsePGPSigner([]byte(s.OpenPGPKeys[name].Reveal()), nil)
		if err != nil {
			return nil, fmt.Errorf("reading the OpenPGP key of check %q in the secrets: %w", clip(name), err)
		}
		signers[strings.ToLower(name)] = signer
	}
	return signers, nil
}

// addSecretSigners adds the keys in the secrets to those of the configuration, which win.
func (c *Config) addSecretSigners(signers map[string]signature.Signer, secrets Secrets) error {
	if c.Signer == SignerKMS {
		return nil
	}
	found, err := secrets.signers()
	if err != nil {
		return err
	}
	for name, s := range found {
		if _, ok := signers[name]; !ok {
			signers[name] = s
		}
	}
	return nil
}

// withLogins is the configuration with the logins in the secrets.
func (c *Config) withLogins(secrets Secrets) *Config {
	with := *c
	with.Repositories = maps.Clone(c.Repositories)
	for alias, login := range secrets.Repositories {
		r, ok := with.Repositories[strings.ToLower(alias)]
		if !ok || r.Auth != (RepositoryAuth{}) {
			continue // of an organisation that nobody checks, or given otherwise
		}
		r.Auth = RepositoryAuth{
			Token: login.Token.Reveal(), Username: login.Username, Password: login.Password.Reveal(),
			AppID: login.AppID, InstallationID: login.InstallationID, PrivateKey: login.PrivateKey.Reveal(),
		}
		with.Repositories[strings.ToLower(alias)] = r
	}
	return &with
}

// kmsProblems are what is wrong with the keys of KMS.
func (c *Config) kmsProblems(wrong *problems) {
	if c.Signer == SignerKMS && len(c.KMSKeys) == 0 && len(c.Keys) == 0 && !c.DryRun {
		wrong.addf("signer", "signer is \"kms\", and there are no [[kms_keys]]")
	}
	for i, k := range c.KMSKeys {
		at := fmt.Sprintf("kms_keys: key %d", i+1)
		if k.Check == "" {
			wrong.addf("kms_keys", "%s: check, which it signs for, is not set", at)
		} else if !known(k.Check) {
			wrong.addf("kms_keys", "%s: there is no check %q", at, clip(k.Check))
		}
		if err := k.Validate(); err != nil {
			wrong.addf("kms_keys", "%s: %w", at, err)
		}
	}
}
