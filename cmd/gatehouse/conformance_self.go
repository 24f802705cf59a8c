package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/conformance"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/server"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// What the gate of --self is given: one attestor, one exempt image, one namespace
// where everything runs.
const (
	selfAttestor  = "projects/default/attestors/conformance"
	selfNote      = "projects/default/notes/conformance"
	selfExempt    = "exempt.example/tools/shell:1"
	selfNamespace = "conformance-exempt"
	selfPolicy    = `admissionWhitelistPatterns:
- namePattern: ` + selfExempt + `
kubernetesNamespaceAdmissionRules:
  ` + selfNamespace + `: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}
defaultAdmissionRule:
  evaluationMode: REQUIRE_ATTESTATION
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  requireAttestationsBy: [` + selfAttestor + `]
`
)

// self is a whole server with one attested image.
type self struct {
	conformance.Options
	dir    string
	keys   selfKeys
	api    string // of the metadata
	cancel context.CancelFunc
	ended  chan error
}

// startSelf starts a server that knows the registry's own good image.
func startSelf(ctx context.Context, registry *conformance.Registry) (*self, error) {
	dir, err := os.MkdirTemp("", "gatehouse-conformance-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the gate: %w", err)
	}
	running, cancel := context.WithCancel(ctx)
	s := &self{dir: dir, cancel: cancel, ended: make(chan error, 1)}
	if err := s.start(running, registry); err != nil {
		return nil, fmt.Errorf("starting a gate to try: %w", errors.Join(err, s.stop()))
	}
	return s, nil
}

func (s *self) start(ctx context.Context, registry *conformance.Registry) error {
	var err error
	if s.keys, err = newSelfKeys(); err != nil {
		s.ended <- nil
		return err
	}
	cfg, err := s.config()
	if err != nil {
		s.ended <- nil
		return err
	}
	started := make(chan server.Addresses, 1)
	go func() {
		s.ended <- server.Run(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), func(a server.Addresses) error { started <- a; return nil })
	}()
	var at server.Addresses
	select {
	case at = <-started:
	case err := <-s.ended:
		s.ended <- nil
		return err
	}
	s.api = "http://" + at.Metadata
	if err := s.attest(ctx, registry); err != nil {
		return err
	}
	ca, err := os.ReadFile(at.CA)
	if err != nil {
		return err
	}
	s.URL, s.Roots = "https://"+at.Admission+"/validate", x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(ca)
	return nil
}

// stop ends the server and removes what it kept.
func (s *self) stop() error {
	s.cancel()
	return errors.Join(<-s.ended, os.RemoveAll(s.dir))
}

// selfKeys are the attestor's key and that of a stranger.
type selfKeys struct{ trusted, strange signature.Signer }

func newSelfKeys() (selfKeys, error) {
	var signers [2]signature.Signer
	for i := range signers {
		pem, err := signature.GeneratePKIX(signature.Ed25519, nil)
		if err != nil {
			return selfKeys{}, err
		}
		if signers[i], err = signature.ParsePKIXSigner(pem, signature.Ed25519, ""); err != nil {
			return selfKeys{}, err
		}
	}
	return selfKeys{signers[0], signers[1]}, nil
}

func (s *self) config() (server.Config, error) {
	key := s.keys.trusted.PublicKey()
	attestors, err := json.Marshal([]any{map[string]any{"name": selfAttestor, "userOwnedGrafeasNote": map[string]any{
		"noteReference": selfNote,
		"publicKeys":    []any{map[string]any{"id": key.ID(), "pkixPublicKey": map[string]any{"publicKeyPem": key.Marshal(), "signatureAlgorithm": key.Algorithm()}}},
	}}})
	if err != nil {
		return server.Config{}, err
	}
	files := map[string][]byte{"policy.yaml": []byte(selfPolicy), "attestors.json": attestors}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			return server.Config{}, err
		}
	}
	cfg := server.DefaultConfig()
	cfg.Data = filepath.Join(s.dir, "data")
	cfg.Admission.PolicyFiles = []string{filepath.Join(s.dir, "policy.yaml")}
	cfg.Admission.AttestorsFiles = []string{filepath.Join(s.dir, "attestors.json")}
	for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
		*addr = "127.0.0.1:0"
	}
	return cfg, nil
}

// attest files what the profile then tells: the good image's attestation, one by a
// stranger, one that is about another image, and one that has expired.
func (s *self) attest(ctx context.Context, registry *conformance.Registry) error {
	good, bad := registry.Images()
	s.Profile = conformance.Profile{
		Good: conformance.ProfileImage{Image: good, Tag: strings.Split(good, "@")[0] + ":1"}, Bad: conformance.ProfileImage{Image: bad},
		Timeout:    conformance.Duration(20 * time.Second),
		Versions:   []string{"v1", "v1beta1"},
		Kinds:      []string{"deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch", "replicationcontrollers", "podtemplates"},
		Exempt:     conformance.ProfileExemptions{Image: selfExempt, Namespace: selfNamespace},
		BreakGlass: conformance.ProfileBreakGlass{Label: "image-policy.k8s.io/break-glass", Use: true},
	}
	if err := post(ctx, s.api+"/v1/projects/default/notes?noteId=conformance", map[string]any{"attestation": map[string]any{"hint": map[string]any{"humanReadableName": "conformance"}}}); err != nil {
		return err
	}
	ref, err := image.ParseDigested(good)
	if err != nil {
		return err
	}
	if err := s.sign(ctx, ref, ref.Digest(), s.keys.trusted); err != nil {
		return err
	}
	return s.attestAmiss(ctx, ref)
}

// attestAmiss files attestations that must not count.
func (s *self) attestAmiss(ctx context.Context, good image.Reference) error {
	other := func(what string) image.Reference { return good.WithDigest(image.DigestOf([]byte(what))) }
	stranger, borrowed, expired, later := other("stranger"), other("borrowed"), other("expired"), other("later")
	now := time.Now()
	err := errors.Join(
		s.sign(ctx, stranger, stranger.Digest(), s.keys.strange),
		s.sign(ctx, borrowed, good.Digest(), s.keys.trusted),
		s.signJWT(ctx, expired, now.Add(-2*time.Hour), now.Add(-time.Hour)),
		s.signJWT(ctx, later, now.Add(time.Hour), now.Add(2*time.Hour)),
	)
	s.Profile.Denied = []conformance.ProfileDenied{
		{Class: "B11", Image: stranger.String(), Why: "signed by a key that no attestor has"},
		{Class: "B11", Image: borrowed.String(), Why: "the good image's signature, filed under another image"},
		{Class: "B12", Image: expired.String(), Why: "an attestation that has expired"},
		{Class: "B12", Image: later.String(), Why: "an attestation that does not hold yet"},
	}
	return err
}

// sign files an attestation for one image whose payload is about a digest.
func (s *self) sign(ctx context.Context, ref image.Reference, about image.Digest, signer signature.Signer) error {
	payload := signature.NewPayload(ref.Repository(), about, signature.TypeBinauthz)
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return err
	}
	return file(ctx, s.api, ref, map[string]any{
		"serializedPayload": payload,
		"signatures":        []any{map[string]any{"signature": sig, "publicKeyId": signer.KeyID()}},
	})
}

// signJWT files an attestation that holds for a time.
func (s *self) signJWT(ctx context.Context, ref image.Reference, from, to time.Time) error {
	part := func(v any) string {
		b, _ := json.Marshal(v) // maps of strings and numbers
		return base64.RawURLEncoding.EncodeToString(b)
	}
	token := part(map[string]any{"typ": "JWT", "alg": "EdDSA", "kid": s.keys.trusted.KeyID()}) + "." + part(map[string]any{
		"sub": "container:digest:" + ref.Digest().String(), "aud": "//binaryauthorization.googleapis.com", "nbf": from.Unix(), "exp": to.Unix(),
	})
	sig, err := s.keys.trusted.Sign(ctx, []byte(token))
	if err != nil {
		return err
	}
	return file(ctx, s.api, ref, map[string]any{"jwts": []any{map[string]any{"compactJwt": token + "." + base64.RawURLEncoding.EncodeToString(sig)}}})
}

func file(ctx context.Context, api string, ref image.Reference, attestation map[string]any) error {
	return post(ctx, api+"/v1/projects/default/occurrences", map[string]any{
		"resourceUri": ref.ResourceURI(), "noteName": selfNote, "attestation": attestation,
	})
}

// post creates something by the metadata API.
func post(ctx context.Context, url string, message map[string]any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return err
}
