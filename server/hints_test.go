package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// publish files a signed hint, and returns the name of its occurrence.
func (r *running) publish(s signature.Signer, name string, d image.Digest, sequence uint64) string {
	r.t.Helper()
	n, err := hint.ParseName(name)
	if err != nil {
		r.t.Fatal(err)
	}
	h := hint.Hint{Name: n, Digest: d, Sequence: sequence, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
	payload, err := h.Payload()
	if err != nil {
		r.t.Fatal(err)
	}
	sig, err := s.Sign(r.t.Context(), payload)
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"resourceUri": h.ResourceURI(), "noteName": "projects/default/notes/hints", "attestation": map[string]any{
		"serializedPayload": payload, "signatures": []any{map[string]any{"signature": sig, "publicKeyId": s.KeyID()}},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	var o struct{ Name string }
	if err := json.Unmarshal([]byte(r.api().expect("", http.MethodPost, "/v1/projects/default/occurrences", string(body), 200)), &o); err != nil {
		r.t.Fatal(err)
	}
	return o.Name
}

// TestWhatRunsIsWhatWasHinted, at a gate beside the store and at one elsewhere, through
// changes of what is meant, a deletion, and with the service gone.
func TestWhatRunsIsWhatWasHinted(t *testing.T) {
	t.Parallel()
	signer := testSigner(t)
	pem, err := json.Marshal(signer.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	policyFile := write(t, filepath.Join(dir, "policy.yaml"), "defaultAdmissionRule: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n")
	signers := filepath.Join(dir, "signers.yaml")
	require := func(word string) {
		write(t, signers, fmt.Sprintf(`hintSigners:
- name: projects/default/hintSigners/release
  noteReference: projects/default/notes/hints
  publicKeys: [{pkixPublicKey: {publicKeyPem: %s, signatureAlgorithm: ECDSA_P256_SHA256}}]
  require: %s
`, pem, word))
	}
	require("deny")
	with := func(c *Config) {
		c.Admission.PolicyFiles, c.Admission.HintSignersFiles = []string{policyFile}, []string{signers}
	}
	r := start(t, testConfig(t, with))
	r.api().expect("", http.MethodPost, "/v1/projects/default/notes?noteId=hints", `{"attestation":{"hint":{"humanReadableName":"hints"}}}`, 200)
	config := gateConfig(t, "http://"+r.Metadata, with)
	far := start(t, config)
	doors := map[string]*running{"beside the store": r, "elsewhere": far}
	one, two := image.DigestOf([]byte("1")), image.DigestOf([]byte("2"))
	expect := func(what string, d image.Digest, allowed bool, says string) {
		t.Helper()
		pod := review.Pod("shop", "web").Image("main", "reg.test/app:v1@"+d.String()).Review()
		for door, gate := range doors {
			within(t, what+", "+door, func() bool {
				ok, message := gate.ask(pod)
				return ok == allowed && strings.Contains(message, says)
			})
		}
	}
	expect("nothing is hinted", one, false, "No rollout hint is about the image")
	r.publish(signer, "reg.test/app:v1", one, 1)
	expect("the hinted one", one, true, "")
	expect("another", two, false, one.String())
	newest := r.publish(signer, "reg.test/app:v1", two, 2)
	expect("the next", two, true, "")
	expect("the one before", one, false, "Rollout hint 2")
	r.publish(signer, "reg.test/app:v1", one, 1)
	r.api().expect("", http.MethodDelete, "/v1/"+newest, "", 200)
	expect("the newest deleted, and an old one filed again", one, false, "was deleted")
	r.publish(signer, "reg.test/app:v1", one, 3)
	expect("the next", one, true, "")
	require("warn")
	expect("only warned of", two, true, "")
	require("deny")
	expect("refused again", two, false, "Rollout hint 3")

	// The gate elsewhere goes on without the service, and starts without it.
	if err := far.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	doors = map[string]*running{"from its copy": start(t, config)}
	expect("the hinted one", one, true, "")
	expect("another", two, false, "Rollout hint 3")
}

// A key that attests signs no hints: the files are refused at the start.
func TestAKeyIsNeverBothAttestorAndSignerOfHints(t *testing.T) {
	t.Parallel()
	signer := testSigner(t)
	pem, err := json.Marshal(signer.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	dir, key := t.TempDir(), fmt.Sprintf(`publicKeys: [{pkixPublicKey: {publicKeyPem: %s, signatureAlgorithm: ECDSA_P256_SHA256}}]`, pem)
	cfg := testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(dir, "p.yaml"), "defaultAdmissionRule: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [projects/default/attestors/a]}\n")}
		c.Admission.AttestorsFiles = []string{write(t, filepath.Join(dir, "a.yaml"), "attestors:\n- name: projects/default/attestors/a\n  userOwnedGrafeasNote:\n    noteReference: projects/default/notes/a\n    "+key+"\n")}
		c.Admission.HintSignersFiles = []string{write(t, filepath.Join(dir, "h.yaml"), "hintSigners:\n- name: projects/default/hintSigners/h\n  noteReference: projects/default/notes/hints\n  "+key+"\n")}
	})
	if err := Check(cfg, discard()); err == nil || !strings.Contains(err.Error(), "never both") || !strings.Contains(err.Error(), "h.yaml:2") {
		t.Errorf("a configuration with one key for both: %v", err)
	}
}
