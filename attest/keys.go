package attest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// maxFile bounds a configuration or key file, in bytes. OpenPGP keys carry the
// signatures of others and can be long.
const maxFile = 1 << 20

func (c *Config) signers() (map[string]signature.Signer, error) {
	signers := map[string]signature.Signer{}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		s, err := c.Keys[name].Signer()
		if err != nil {
			return nil, fmt.Errorf("reading the signing key of check %q: %w", name, err)
		}
		signers[name] = s
	}
	return signers, nil
}

func (c *Config) trustedKeys() (map[string][]*signature.PublicKey, error) {
	trusted := map[string][]*signature.PublicKey{}
	for _, name := range slices.Sorted(maps.Keys(c.TrustedKeys)) {
		for _, f := range c.TrustedKeys[name] {
			k, err := f.publicKey()
			if err != nil {
				return nil, fmt.Errorf("reading a trusted key of check %q: %w", name, err)
			}
			trusted[name] = append(trusted[name], k)
		}
	}
	return trusted, nil
}

// Signer reads the private key in the file.
func (k KeyFile) Signer() (signature.Signer, error) {
	text, err := bounded.ReadFile(k.File, maxFile)
	if err != nil {
		return nil, err
	}
	if !isPGP(text) {
		alg, err := k.algorithm()
		if err != nil {
			return nil, err
		}
		s, err := signature.ParsePKIXSigner(text, alg, k.ID)
		return s, inFile(k.File, err)
	}
	if k.Algorithm != "" || k.ID != "" {
		return nil, fmt.Errorf("file %q holds an OpenPGP key, which says itself what its algorithm and id are; leave them out", k.File)
	}
	var passphrase []byte
	if k.PassphraseFile != "" {
		if passphrase, err = bounded.ReadFile(k.PassphraseFile, maxFile); err != nil {
			return nil, err
		}
		passphrase = bytes.TrimRight(passphrase, "\r\n")
	}
	s, err := signature.ParsePGPSigner(text, passphrase)
	return s, inFile(k.File, err)
}

func (k KeyFile) publicKey() (*signature.PublicKey, error) {
	text, err := bounded.ReadFile(k.File, maxFile)
	if err != nil {
		return nil, err
	}
	if isPGP(text) {
		p, err := signature.ParsePGPPublicKey(string(text))
		return p, inFile(k.File, err)
	}
	alg, err := k.algorithm()
	if err != nil {
		return nil, err
	}
	p, err := signature.ParsePKIXPublicKey(string(text), alg, k.ID)
	return p, inFile(k.File, err)
}

func (k KeyFile) algorithm() (signature.Algorithm, error) {
	if k.Algorithm == "" {
		return "", nil
	}
	return signature.ParseAlgorithm(k.Algorithm)
}

func isPGP(text []byte) bool { return bytes.Contains(text, []byte("-----BEGIN PGP ")) }

func inFile(file string, err error) error {
	if err != nil {
		return fmt.Errorf("file %q: %w", file, err)
	}
	return nil
}
