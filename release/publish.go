package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	checksumsFile = "SHA256SUMS"
	// signatureFile has the signature of the checksums in base64, as cosign verify-blob
	// takes it, and publicKeyFile the key.
	signatureFile = checksumsFile + ".sig"
	publicKeyFile = "release-key.pub"

	algorithm = "ECDSA_P256_SHA256"
	maxKey    = 64 << 10
)

// checksums writes those of everything that is published, as sha256sum does.
func (r *release) checksums() error {
	slices.Sort(r.files)
	var text strings.Builder
	for _, name := range r.files {
		sum, err := r.hash(name)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&text, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(r.out, checksumsFile), []byte(text.String()), 0o644) //nolint:gosec // it is published
}

// readKey reads the key that checksums are signed with.
func readKey(file string) (signature.Signer, error) {
	pem, err := bounded.ReadFile(file, maxKey)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	signer, err := signature.ParsePKIXSigner(pem, algorithm, "")
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", file, err)
	}
	return signer, nil
}

// sign signs the checksums: openssl and cosign verify it with the key beside it.
func (r *release) sign(ctx context.Context, signer signature.Signer) error {
	sums, err := os.ReadFile(filepath.Join(r.out, checksumsFile))
	if err != nil {
		return err
	}
	sig, err := signer.Sign(ctx, sums)
	if err != nil {
		return fmt.Errorf("signing the checksums: %w", err)
	}
	for name, content := range map[string][]byte{
		signatureFile: []byte(base64.StdEncoding.EncodeToString(sig)),
		publicKeyFile: []byte(signer.PublicKey().Marshal()),
	} {
		if err := os.WriteFile(filepath.Join(r.out, name), content, 0o644); err != nil { //nolint:gosec // it is published
			return err
		}
	}
	return nil
}

// A krewPlugin is the manifest that Krew's index has of a plugin.
type krewPlugin struct {
	APIVersion string       `yaml:"apiVersion"`
	Kind       string       `yaml:"kind"`
	Metadata   krewMetadata `yaml:"metadata"`
	Spec       krewSpec     `yaml:"spec"`
}

type krewMetadata struct {
	Name string `yaml:"name"`
}

type krewSpec struct {
	Version          string         `yaml:"version"`
	Homepage         string         `yaml:"homepage"`
	ShortDescription string         `yaml:"shortDescription"`
	Description      string         `yaml:"description"`
	Platforms        []krewPlatform `yaml:"platforms"`
}

type krewPlatform struct {
	Selector krewSelector `yaml:"selector"`
	URI      string       `yaml:"uri"`
	SHA256   string       `yaml:"sha256"`
	Bin      string       `yaml:"bin"`
}

type krewSelector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

// krew writes the manifest of the plugin kubectl resolve-tags.
func (r *release) krew(archives []archived) error {
	m := krewPlugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: krewMetadata{"resolve-tags"},
		Spec: krewSpec{
			Version: r.version, Homepage: "https://github.com/gatehouse-dev/gatehouse", ShortDescription: "Write the digest of each image into manifests",
			Description: "Resolves the tags in Kubernetes manifests to digests, by the credentials that you have\nfor registries, and changes nothing else in them. It can print the outcome, show what\nwould change, check that nothing would, write in place, and apply.\n",
		},
	}
	for _, a := range archives {
		m.Spec.Platforms = append(m.Spec.Platforms, krewPlatform{
			Selector: krewSelector{map[string]string{"os": a.os, "arch": a.arch}},
			URI:      r.urls + "/" + a.file, SHA256: a.sha256, Bin: a.binary,
		})
	}
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := enc.Encode(m); err != nil {
		return err
	}
	return r.publish("resolve-tags.yaml", text.Bytes())
}
