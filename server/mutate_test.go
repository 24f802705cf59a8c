package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
)

// pin sends a review and returns the patch, and the warnings.
func (r *running) pin(body []byte) (patch, warnings string) {
	r.t.Helper()
	resp, err := r.gate.Post("https://"+r.Mutate+"/mutate?timeout=5s", "application/json", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Response struct {
			Allowed  bool
			Patch    []byte
			Warnings []string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || !answer.Response.Allowed {
		r.t.Fatalf("%s: %+v, %v", resp.Status, answer, err)
	}
	return string(answer.Response.Patch), strings.Join(answer.Response.Warnings, "\n")
}

// TestTheRoleMutate runs alone, is told of rollout hints by a service elsewhere, goes on
// when that is gone, and pins nothing that hints may be about before it has heard of them.
func TestTheRoleMutate(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	img, err := registry.Image(registry.ImageOptions{User: "1000"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web", img)
	if err == nil {
		err = reg.Tag(t.Context(), ref, "v1")
	}
	if err != nil {
		t.Fatal(err)
	}
	signer := testSigner(t)
	key, err := json.Marshal(signer.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	signers := write(t, filepath.Join(t.TempDir(), "signers.yaml"), fmt.Sprintf("hintSigners:\n- name: projects/default/hintSigners/release\n  noteReference: projects/default/notes/hints\n  publicKeys: [{pkixPublicKey: {publicKeyPem: %s, signatureAlgorithm: ECDSA_P256_SHA256}}]\n", key))
	r := start(t, testConfig(t, nil))
	r.api().expect("", http.MethodPost, "/v1/projects/default/notes?noteId=hints", `{"attestation":{"hint":{"humanReadableName":"hints"}}}`, 200)
	mutate := func(server string) *running {
		return start(t, testConfig(t, func(c *Config) {
			c.Role, c.Mutate.Address = MutateRole, "127.0.0.1:0"
			c.Admission.Feed.Server, c.Admission.HintSignersFiles = server, []string{signers}
		}))
	}
	m := mutate("http://" + r.Metadata)
	pod := review.Pod("shop", "web").Image("main", ref.Name()+":v1").Review()
	within(t, "what the registry says", func() bool { patch, _ := m.pin(pod); return strings.Contains(patch, ref.Digest().String()) })
	meant := image.DigestOf([]byte("meant"))
	r.publish(signer, ref.Name()+":v1", meant, 1)
	within(t, "what the hint says", func() bool { patch, _ := m.pin(pod); return strings.Contains(patch, meant.String()) })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if patch, said := m.pin(pod); !strings.Contains(patch, meant.String()) {
		t.Errorf("the service is gone: %s %s", patch, said)
	}
	if patch, said := mutate("http://127.0.0.1:1").pin(pod); strings.Contains(patch, "sha256:") || !strings.Contains(said, "were not read yet") {
		t.Errorf("hints were not read: %s, %s", patch, said)
	}
}

func TestSettingsOfTheMutatingWebhook(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nothing said": {func(*Config) {}, ""},
		"templates somewhere": {func(c *Config) {
			c.Mutate.Namespaces = []MutateNamespace{{"team-*", "templates"}, {"kube-system", "none"}}
		}, ""},
		"a mode that there is not": {func(c *Config) { c.Mutate.Pin = "all" }, `pin "all": want pods, templates or none`},
		"one for a namespace":      {func(c *Config) { c.Mutate.Namespaces = []MutateNamespace{{"x", ""}} }, `namespace "x"`},
		"no namespace":             {func(c *Config) { c.Mutate.Namespaces = []MutateNamespace{{"", "pods"}} }, `namespace ""`},
		"a pattern that is none":   {func(c *Config) { c.Mutate.Namespaces = []MutateNamespace{{"a[", "pods"}} }, `namespace "a["`},
		"hints without a service":  {func(c *Config) { c.Role, c.Admission.HintSignersFiles = MutateRole, []string{"x"} }, "rollout hints are told by a metadata service"},
	} {
		cfg := testConfig(t, c.change)
		err := cfg.Validate()
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	m := MutateConfig{Pin: admission.PinNothing, Namespaces: []MutateNamespace{{"team-*", "templates"}, {"team-a", "none"}, {"x", "pods"}}}
	for namespace, want := range map[string]admission.PinMode{"team-a": "templates", "team-": "templates", "x": "pods", "xx": "none", "ateam-a": "none"} {
		if got := m.mode(namespace); got != want {
			t.Errorf("namespace %q: %q, want %q", namespace, got, want)
		}
	}
}
