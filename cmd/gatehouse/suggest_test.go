package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// proposed is what policy suggest and tighten print as JSON.
type proposed struct {
	Patterns  []struct{ Pattern string }
	Attestors []string
	Findings  []struct{ Kind, Pattern, Message string }
	Policy    struct {
		DefaultAdmissionRule struct{ EvaluationMode string }
	}
}

func (p proposed) patterns() []string {
	list := []string{}
	for _, q := range p.Patterns {
		list = append(list, q.Pattern)
	}
	return list
}

// runSuggest runs a command that must exit with want.
func runSuggest(t *testing.T, want int, stdin string, args ...string) (p proposed, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), append([]string{"policy"}, append(args, "--output", "json")...), strings.NewReader(stdin), &out, &errs); got != want {
		t.Fatalf("exit status %d, want %d\n%s%s", got, want, &out, &errs)
	}
	if want != exitUnknown {
		if err := json.Unmarshal(out.Bytes(), &p); err != nil {
			t.Fatalf("%v in %s", err, &out)
		}
	}
	return p, errs.String()
}

// newSigned is newOffline with a key made for it.
func newSigned(t *testing.T) offline {
	t.Helper()
	private, err := signature.GeneratePKIX(signature.Ed25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePKIXSigner(private, signature.Ed25519, "")
	if err != nil {
		t.Fatal(err)
	}
	return newOffline(t, signer, map[string]any{"pkixPublicKey": map[string]any{"publicKeyPem": signer.PublicKey().Marshal(), "signatureAlgorithm": string(signature.Ed25519)}})
}

func TestAttestedImagesNeedNoPattern(t *testing.T) {
	t.Parallel()
	o := newSigned(t)
	pods := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": %q}, {"image": "reg.test/shop/old:1"}]}}`, o.ref)
	attestors, occurrences := filepath.Join(o.dir, "attestors.json"), filepath.Join(o.dir, "occurrences.json")
	p, _ := runSuggest(t, exitYes, pods, "suggest", "--attestors", attestors, "--occurrences", occurrences, "-")
	if d := cmp.Diff([]string{"reg.test/shop/old:1"}, p.patterns()); d != "" || !slices.Equal(p.Attestors, []string{"projects/p/attestors/ci"}) || p.Policy.DefaultAdmissionRule.EvaluationMode != "REQUIRE_ATTESTATION" {
		t.Error(p, d)
	}
	p, _ = runSuggest(t, exitYes, pods, "suggest", "--attestors", attestors, "-")
	if len(p.Patterns) != 2 || p.Attestors != nil {
		t.Error("without evidence", p)
	}
	// A pattern for what is attested by now is not needed any more.
	o.write("loose.yaml", "admissionWhitelistPatterns: [{namePattern: reg.test/shop/web@*}, {namePattern: 'reg.test/shop/old:*'}]\ndefaultAdmissionRule: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [projects/p/attestors/ci]}\n")
	loose := filepath.Join(o.dir, "loose.yaml")
	p, _ = runSuggest(t, exitNo, pods, "tighten", "-p", loose, "--attestors", attestors, "--occurrences", occurrences, "-")
	if len(p.Findings) != 1 || p.Findings[0].Pattern != "reg.test/shop/web@*" || !strings.Contains(p.Findings[0].Message, "let in without it") {
		t.Error(p.Findings)
	}
	if p, _ = runSuggest(t, exitYes, pods, "tighten", "-p", loose, "--attestors", attestors, "-"); len(p.Findings) != 0 {
		t.Error("without evidence", p.Findings)
	}
}

func TestWhatARunningServerKnows(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	pods := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": %q}, {"image": %q}]}}`, imageOf("good"), imageOf("new"))
	// An attestor under whose note nothing is filed yet.
	if p, _ := runSuggest(t, exitYes, pods, "suggest", "--metadata", c.server.Metadata, "-"); len(p.Patterns) != 2 || p.Attestors != nil {
		t.Error(p)
	}
	c.attest("good")
	p, _ := runSuggest(t, exitYes, pods, "suggest", "--metadata", c.server.Metadata, "-")
	if d := cmp.Diff([]string{imageOf("new")}, p.patterns()); d != "" || !slices.Equal(p.Attestors, []string{"projects/default/attestors/vetted"}) {
		t.Error(p, d)
	}
	if _, said := runSuggest(t, exitUnknown, pods, "suggest", "--metadata", c.server.Metadata, "--project", "nope", "-"); !strings.Contains(said, "nope") {
		t.Error(said)
	}
	// What its gate let in and what not is in its data folder.
	gate := &gateProcess{c.server, t, trusting(t, c.server.CA)}
	until(t, "the gate to know the attestation", func() bool { return gate.ask("good").Allowed })
	if gate.ask("new").Allowed {
		t.Fatal("let in without an attestation")
	}
	data := filepath.Join(c.dir, "server")
	until(t, "the record", func() bool {
		var out bytes.Buffer
		return run(t.Context(), []string{"audit", "--data", data, "--image", imageOf("new")}, nil, &out, &out) == exitYes
	})
	p, _ = runSuggest(t, exitYes, "", "suggest", "--data", data)
	if d := cmp.Diff([]string{imageOf("good")}, p.patterns()); d != "" {
		t.Error(d)
	}
	p, _ = runSuggest(t, exitYes, "", "suggest", "--data", data, "--metadata", c.server.Metadata)
	if d := cmp.Diff([]string{}, p.patterns()); d != "" {
		t.Error(d)
	}
}

func TestAServiceWithoutAttestors(t *testing.T) {
	t.Parallel()
	c := startServe(t, "--data", t.TempDir())
	pods := `{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "reg.test/a:1"}]}}`
	if _, said := runSuggest(t, exitUnknown, pods, "suggest", "--metadata", c.Metadata, "-"); !strings.Contains(said, "keeps no attestors in projects/default; give --attestors FILE") {
		t.Error(said)
	}
}

// kubeconfigFor writes a kubeconfig for a server.
func kubeconfigFor(t *testing.T, s *httptest.Server) string {
	t.Helper()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("contexts: [{name: prod, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: %q, certificate-authority-data: %s}}]\n", s.URL, ca)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAClusterThatHidesSomeOfItself(t *testing.T) {
	t.Parallel()
	forbidden := []string{"/apis/batch/v1/cronjobs"}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case slices.Contains(forbidden, r.URL.Path):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind": "Status", "message": "ann may not"}`)
		case r.URL.Path == "/api/v1/pods":
			_, _ = io.WriteString(w, `{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"image": "reg.test/a:1"}]}}]}`)
		case r.URL.Path == "/apis/apps/v1/replicasets":
			_, _ = io.WriteString(w, `{"apiVersion": "apps/v1", "kind": "ReplicaSetList", "items": [{"metadata": {"name": "r", "namespace": "n"}, "spec": {"replicas": 0, "template": {"spec": {"containers": [{"image": "reg.test/a:0"}]}}}}]}`)
		default:
			_, _ = io.WriteString(w, `{"apiVersion": "v1", "kind": "List", "items": []}`)
		}
	}))
	t.Cleanup(s.Close)
	file := kubeconfigFor(t, s)
	p, said := runSuggest(t, exitYes, "", "suggest", "--kubeconfig", file, "--context", "prod")
	if d := cmp.Diff([]string{"reg.test/a:0", "reg.test/a:1"}, p.patterns()); d != "" || !strings.Contains(said, "listing apis/batch/v1/cronjobs: the Kubernetes API server answers 403 Forbidden: ann may not; they are left out") {
		t.Error(said, d)
	}
	if _, said := runSuggest(t, exitUnknown, "", "suggest", "--kubeconfig", file); !strings.Contains(said, "say which cluster with --kubeconfig FILE or --context NAME") {
		t.Error(said)
	}
	forbidden = []string{"/api/v1/pods"}
	if _, said := runSuggest(t, exitUnknown, "", "suggest", "--kubeconfig", file, "--context", "prod"); !strings.Contains(said, "ann may not") {
		t.Error(said)
	}
}

func TestARealCluster(t *testing.T) {
	t.Parallel()
	c := controlplane.New(t, controlplane.Options{})
	const objects = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 0, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'reg.test/shop/web:1'}]}}}\n---\n" +
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'reg.test/shop/job:1'}]}}}}}\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {initContainers: [{name: i, image: 'reg.test/shop/init:1'}], containers: [{name: c, image: 'reg.test/shop/pod:1'}]}\n"
	if out, errs, err := c.Kubectl(t.Context(), strings.NewReader(objects), "apply", "-f", "-"); err != nil {
		t.Fatal(out, errs, err)
	}
	want := []string{"reg.test/shop/init:1", "reg.test/shop/job:1", "reg.test/shop/pod:1", "reg.test/shop/web:1"}
	p, _ := runSuggest(t, exitYes, "", "suggest", "--kubeconfig", c.Kubeconfig())
	if d := cmp.Diff(want, p.patterns()); d != "" {
		t.Error(d)
	}
	// The way by kubectl finds the same.
	out, errs, err := c.Kubectl(t.Context(), nil, "get", "pods,deployments,cronjobs", "-A", "-o", "json")
	if err != nil {
		t.Fatal(errs, err)
	}
	p, _ = runSuggest(t, exitYes, out, "suggest", "-")
	if d := cmp.Diff(want, p.patterns()); d != "" {
		t.Error(d)
	}
}
