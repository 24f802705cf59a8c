package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// TestStatementsAreKeptWhileAPolicyLooksIntoThem and as long as that may be in force.
func TestStatementsAreKeptWhileAPolicyLooksIntoThem(t *testing.T) {
	t.Parallel()
	signer := testSigner(t)
	svc, ref := builds(t, signer)
	dir := t.TempDir()
	write := func(name string, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	builders, err := json.Marshal(map[string]any{"builders": []any{map[string]any{
		"name": "GOOGLE_CLOUD_BUILD", "ids": []string{"https://b.test/"},
		"publicKeys": []any{map[string]any{"pkixPublicKey": map[string]any{"publicKeyPem": signer.PublicKey().Marshal(), "signatureAlgorithm": "ECDSA_P256_SHA256"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	policyOf := func(rule string) {
		write("policy.yaml", `{"gkePolicy": {"checkSets": [{"checks": [{"slsaCheck": {"rules": [{"trustedBuilder": "GOOGLE_CLOUD_BUILD"`+rule+`}]}}]}]}}`)
	}
	const plain, custom, invalid = ``, `, "customConstraints": "has(predicate.runDetails)"`, `, "customConstraints": "1"`
	policyOf(plain)
	idx := index.New(svc, discard())
	p, err := newPolicies(testConfig(t, func(c *Config) {
		c.Project = "p"
		c.Admission.PolicyFiles, c.Admission.BuildersFiles = []string{filepath.Join(dir, "policy.yaml")}, []string{write("builders.json", string(builders))}
	}), "", svc, idx, discard(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		rule  string
		kept  bool
		fails bool
	}{
		{plain, false, false}, {custom, true, false}, {custom, true, false}, {invalid, true, true}, {invalid, true, true},
		{plain, true, false},  // that of before may still be deciding
		{plain, false, false}, // and not any more
		{custom, true, false},
	} {
		policyOf(step.rule)
		if err := p.load(t.Context()); (err != nil) != step.fails {
			t.Fatalf("step %d: %v", i, err)
		}
		got := idx.Collect(t.Context(), []image.Reference{ref}).Images[ref.Digest()].Provenances
		if len(got) != 1 || (got[0].Statement != nil) != step.kept {
			t.Errorf("step %d: %+v, want the statement kept: %t", i, got, step.kept)
		}
	}
}

// builds returns a service in which a provenance of an image is stored.
func builds(t *testing.T, signer signature.Signer) (*metadata.Service, image.Reference) {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	caller := metadata.Caller{Name: "test"}
	if _, err := svc.CreateNote(t.Context(), caller, "projects/p", "build", &grafeas.Note{Type: &grafeas.Note_Build{Build: &grafeas.BuildNote{BuilderVersion: "1"}}}); err != nil {
		t.Fatal(err)
	}
	ref, err := image.Parse("reg.test/app@" + image.DigestOf([]byte("x")).String())
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Appendf(nil, `{"_type":%q,"subject":[{"name":"app","digest":{"sha256":%q}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{"runDetails":{"builder":{"id":"https://b.test/1"}}}}`,
		signature.StatementV1, ref.Digest().String()[len("sha256:"):])
	sig, err := signer.Sign(t.Context(), signature.PAE(signature.PayloadTypeInToto, body))
	if err != nil {
		t.Fatal(err)
	}
	_, err = svc.CreateOccurrence(t.Context(), caller, "projects/p", &grafeas.Occurrence{
		ResourceUri: ref.String(), NoteName: "projects/p/notes/build",
		Envelope: &grafeas.Envelope{Payload: body, PayloadType: signature.PayloadTypeInToto, Signatures: []*grafeas.EnvelopeSignature{{Keyid: signer.KeyID(), Sig: sig}}},
		Details:  &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Type: signature.StatementV1}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return svc, ref
}
