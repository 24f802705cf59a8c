package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/doctor"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/server"
)

// hospital is a healthy installation: a real API server, and a real gate with its store.
type hospital struct {
	*testing.T
	*controlplane.ControlPlane
	at      server.Addresses
	options doctor.Options
	stop    func()
}

func newHospital(t *testing.T) *hospital {
	t.Helper()
	h := &hospital{T: t}
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	cfg := server.DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
		*addr = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan server.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg, slog.New(slog.DiscardHandler), func(a server.Addresses) error { started <- a; return nil })
	}()
	stopped := false
	h.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(h.stop)
	select {
	case h.at = <-started:
	case err := <-ended:
		stopped = true
		t.Fatal(err)
	}
	h.ControlPlane = controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	client, err := kube.Open(kube.Options{Kubeconfig: h.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	h.options = doctor.Options{
		Kube: client, Namespace: "gatehouse", Name: "gatehouse", Service: "http://" + h.at.Metadata, HTTP: http.DefaultClient, Project: "default",
		Ops: []string{"http://" + h.at.Ops}, Now: time.Now, Config: &doctor.Configuration{File: "gatehouse.yaml"},
	}
	h.call("POST", "/v1/projects/default/notes?noteId=qa", `{"attestation":{"hint":{"humanReadableName":"qa"}}}`)
	h.call("POST", "/v1/projects/default/attestors?attestorId=qa", attestor(t, "qa", true))
	h.call("PUT", "/v1/projects/default/policy", policyBy("qa"))
	h.kubectl("", "create", "namespace", "gatehouse")
	h.kubectl(`apiVersion: apps/v1
kind: Deployment
metadata: {name: gatehouse-gate, namespace: gatehouse}
spec: {replicas: 2, selector: {matchLabels: {app: gate}}, template: {metadata: {labels: {app: gate}}, spec: {containers: [{name: gate, image: "gatehouse:1"}]}}}
---
`+gatePod("one", "n1")+"---\n"+gatePod("two", "n2"), "apply", "-f", "-")
	h.kubectl(h.healthy(), "apply", "-f", "-")
	h.ready(2)
	h.readyPod("one")
	h.readyPod("two")
	return h
}

func policyBy(attestor string) string {
	return `{"defaultAdmissionRule":{"evaluationMode":"REQUIRE_ATTESTATION","enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","requireAttestationsBy":["projects/default/attestors/` + attestor + `"]}}`
}

func attestor(t *testing.T, note string, withKey bool) string {
	t.Helper()
	keys := []any{}
	if withKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, map[string]any{"pkixPublicKey": map[string]any{
			"publicKeyPem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "signatureAlgorithm": "ECDSA_P256_SHA256",
		}})
	}
	text, err := json.Marshal(map[string]any{"userOwnedGrafeasNote": map[string]any{"noteReference": "projects/default/notes/" + note, "publicKeys": keys}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// call calls the metadata service, which must say yes.
func (h *hospital) call(method, path, body string) {
	h.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+h.at.Metadata+path, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		h.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
}

func (h *hospital) kubectl(manifest string, args ...string) {
	h.Helper()
	if _, stderr, err := h.Kubectl(context.Background(), strings.NewReader(manifest), args...); err != nil {
		h.Fatalf("%v: %s", err, stderr)
	}
}

func (h *hospital) ca() []byte {
	h.Helper()
	text, err := os.ReadFile(h.at.CA)
	if err != nil {
		h.Fatal(err)
	}
	return text
}

// healthy are the objects of the installation.
func (h *hospital) healthy() string {
	webhook := h.webhook("gatehouse", "imagepolicywebhook.image-policy.k8s.io")
	data, err := json.Marshal(string(h.ca()))
	if err != nil {
		h.Fatal(err)
	}
	return webhook + "---\n" + `apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: gatehouse-gate, namespace: gatehouse}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: gate}}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: gatehouse-controller, namespace: gatehouse}
spec: {holderIdentity: controller-1, leaseDurationSeconds: 3600, renewTime: "` + time.Now().UTC().Format("2006-01-02T15:04:05.000000Z") + `"}
---
` + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gatehouse-ca, namespace: gatehouse}\ndata: {ca.crt: " + string(data) + "}\n"
}

func (h *hospital) webhook(configuration, name string) string {
	return `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ` + configuration + `}
webhooks:
- name: ` + name + `
  clientConfig: {url: "https://` + h.at.Admission + `/validate", caBundle: ` + base64.StdEncoding.EncodeToString(h.ca()) + `}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers, replicationcontrollers, podtemplates]}
  - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, replicasets, statefulsets, daemonsets]}
  - {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [jobs, cronjobs]}
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, gatehouse]}]}
  matchConditions: [{name: not-in-deletion, expression: "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp)"}]
  failurePolicy: Fail
  sideEffects: NoneOnDryRun
  timeoutSeconds: 10
  admissionReviewVersions: [v1]
`
}

func (h *hospital) examine(change func(*doctor.Options), only ...string) []doctor.Finding {
	h.Helper()
	o := h.options
	if change != nil {
		change(&o)
	}
	found, err := doctor.Examine(context.Background(), o, only)
	if err != nil {
		h.Fatal(err)
	}
	return found
}

// patch patches the webhook configuration.
func (h *hospital) patch(operations string) {
	h.Helper()
	h.kubectl("", "patch", "validatingwebhookconfiguration", "gatehouse", "--type=json", "-p", operations)
}

// TestEachDisease breaks one thing at a time, and wants it found.
func TestEachDisease(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	for deadline := time.Now().Add(20 * time.Second); ; {
		found := h.examine(nil)
		if bad := notGood(found); bad == "" || time.Now().After(deadline) {
			if bad != "" {
				t.Fatalf("of a healthy one: %s", bad)
			}
			break
		}
	}
	h.kubectl("", "create", "serviceaccount", "doctor", "-n", "gatehouse")
	h.kubectl(documentedRights(t), "apply", "-f", "-")
	h.kubectl("", "create", "clusterrolebinding", "doctor", "--clusterrole", "gatehouse-doctor", "--serviceaccount", "gatehouse:doctor")
	doctorsToken, _, err := h.Kubectl(t.Context(), nil, "create", "token", "doctor", "-n", "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	within := time.Now().Add(10 * time.Second) // rights take a moment
	for bad := "x"; bad != ""; {
		bad = notGood(h.examine(func(o *doctor.Options) {
			o.Kube, o.Config = h.as(h.URL(), strings.TrimSpace(doctorsToken)), &doctor.Configuration{}
		}))
		if time.Now().After(within) {
			t.Fatalf("with the rights of the manual: %s", bad)
		}
	}
	elsewhere := h.as("https://127.0.0.1:1", "x")
	h.kubectl("", "create", "serviceaccount", "stranger", "-n", "gatehouse")
	token, _, err := h.Kubectl(t.Context(), nil, "create", "token", "stranger", "-n", "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	stranger := h.as(h.URL(), strings.TrimSpace(token))
	tableOf := func(value string) string {
		return `[{"op":"replace","path":"/webhooks/0/` + value + `}]`
	}
	asService := `clientConfig","value":{"service":{"namespace":"gatehouse","name":"gatehouse","path":"/validate"},"caBundle":"` + base64.StdEncoding.EncodeToString(h.ca()) + `"}`
	outside := func(o *doctor.Options) {
		o.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}
	}
	for _, tc := range []struct {
		name   string
		harm   func()
		change func(*doctor.Options)
		check  string
		result doctor.Result
		text   string
		mend   string
		heal   func()
	}{
		{"no API server", nil, func(o *doctor.Options) { o.Kube = elsewhere }, "api-server", doctor.Problem, "does not answer", "kubectl cluster-info", nil},
		{"no cluster", nil, func(o *doctor.Options) { o.Kube, o.KubeError = nil, kube.ErrNoCluster }, "api-server", doctor.Skipped, "no cluster is named", "--kubeconfig", nil},
		{"a cluster that cannot be found", nil, func(o *doctor.Options) { o.Kube, o.KubeError = nil, errors.New("no such file") }, "api-server", doctor.Unknown, "no such file", "--kubeconfig", nil},
		{"no cluster, another check", nil, func(o *doctor.Options) { o.Kube, o.KubeError = nil, errors.New("no such file") }, "webhook", doctor.Skipped, "see api-server", "--kubeconfig", nil},
		{"an invalid configuration", nil, func(o *doctor.Options) {
			o.Config = &doctor.Configuration{File: "x.yaml", Err: errors.New("x.yaml:2: unknown field")}
		}, "config", doctor.Problem, "x.yaml:2: unknown field", "gatehouse.yaml", nil},
		{"another name", nil, func(o *doctor.Options) { o.Name = "other" }, "webhook", doctor.Problem, "there is no ValidatingWebhookConfiguration other", "install", nil},
		{"not armed", func() {
			h.kubectl("", "annotate", "validatingwebhookconfiguration", "gatehouse", "gatehouse.dev/webhooks=- x")
			h.patch(`[{"op":"remove","path":"/webhooks"}]`)
		}, nil, "webhook", doctor.Problem, "is not armed", "kubectl logs deploy/gatehouse-controller", nil},
		{"pinning is not armed", func() {
			h.kubectl("apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: gatehouse-mutate}\n", "apply", "-f", "-")
		}, nil, "webhook", doctor.Warning, "gatehouse-mutate is not armed", "kubectl logs deploy/gatehouse-controller", func() { h.kubectl("", "delete", "mutatingwebhookconfiguration", "gatehouse-mutate") }},
		{"ephemeral containers are forgotten", func() { h.patch(tableOf(`rules/0/resources","value":["pods"]`)) }, nil, "rules", doctor.Problem, "pods/ephemeralcontainers", "docs/gate.md", nil},
		{"workloads are forgotten", func() { h.patch(tableOf(`rules/1/resources","value":["deployments"]`)) }, nil, "rules", doctor.Warning, "statefulsets", "", nil},
		{"it fails open", func() { h.patch(tableOf(`failurePolicy","value":"Ignore"`)) }, nil, "failure-policy", doctor.Problem, "failurePolicy Ignore", "Fail", nil},
		{"too little time", func() { h.patch(tableOf(`timeoutSeconds","value":1`)) }, nil, "failure-policy", doctor.Warning, "timeoutSeconds 1", "10", nil},
		{"a namespace more is exempt", func() {
			h.patch(tableOf(`namespaceSelector/matchExpressions/0/values","value":["kube-system","gatehouse","default"]`))
		}, nil, "exemptions", doctor.Warning, "pods in 1 namespace more are not looked at: default", "webhook.exemptNamespaces", nil},
		{"a label exempts", func() {
			h.patch(tableOf(`namespaceSelector/matchExpressions/0","value":{"key":"free","operator":"DoesNotExist"}`))
		}, nil, "exemptions", doctor.Warning, "labels free of namespaces", "", nil},
		{"an object selector", func() { h.patch(tableOf(`objectSelector","value":{"matchLabels":{"gated":"yes"}}`)) }, nil, "exemptions", doctor.Problem, "objectSelector (gated)", "remove", nil},
		{"a loose condition", func() {
			h.patch(`[{"op":"add","path":"/webhooks/0/matchConditions/-","value":{"name":"free","expression":"!has(object.metadata.labels) || !('free' in object.metadata.labels)"}}]`)
		}, nil, "exemptions", doctor.Warning, `matchCondition "free"`, "", nil},
		{"a second configuration", func() { h.kubectl(h.webhook("old", "old.gatehouse.dev"), "apply", "-f", "-") }, nil, "other-webhooks", doctor.Warning, "old/old.gatehouse.dev asks the same gate", "kubectl delete validatingwebhookconfiguration old",
			func() { h.kubectl("", "delete", "validatingwebhookconfiguration", "old") }},
		{"other roots", func() { h.patch(tableOf(`clientConfig/caBundle","value":"` + otherRoot(t) + `"`)) }, nil, "certificate", doctor.Problem, "does not verify", "kubectl rollout restart", nil},
		{"other roots, seen by the API server", func() { h.patch(tableOf(`clientConfig/caBundle","value":"` + otherRoot(t) + `"`)) }, nil, "trial", doctor.Problem, "does not get an answer", "see certificate", nil},
		{"other roots than the ConfigMap's", func() {
			h.kubectl("", "patch", "configmap", "gatehouse-ca", "-n", "gatehouse", "-p", `{"data":{"ca.crt":"x"}}`)
		}, nil, "roots", doctor.Problem, "is not what the ConfigMap", "kubectl logs", nil},
		{"the certificate has ended", nil, func(o *doctor.Options) { o.Now = func() time.Time { return time.Now().AddDate(1, 1, 0) } }, "certificate", doctor.Problem, "has ended", "", nil},
		{"the certificate ends soon", nil, func(o *doctor.Options) { o.Now = func() time.Time { return time.Now().AddDate(0, 11, 25) } }, "certificate", doctor.Warning, "ought to have been replaced", "", nil},
		{"the roots end", nil, func(o *doctor.Options) { o.Now = func() time.Time { return time.Now().AddDate(9, 10, 0) } }, "roots", doctor.Warning, "the last of 1 root ends", "ca rotate", nil},
		{"nobody is at the address", func() {
			h.patch(tableOf(`clientConfig/url","value":"https://127.0.0.1:1/validate"`))
		}, nil, "certificate", doctor.Problem, "nobody answers", "", nil},
		{"the policy lets everything in", func() {
			h.call("PUT", "/v1/projects/default/policy", `{"defaultAdmissionRule":{"evaluationMode":"ALWAYS_ALLOW","enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG"}}`)
		}, nil, "trial", doctor.Problem, "a pod is let in", "policy explain", func() { h.call("PUT", "/v1/projects/default/policy", policyBy("qa")) }},
		{"somebody else refuses", nil, func(o *doctor.Options) { o.TrialNamespace = "nowhere" }, "trial", doctor.Warning, "refused, and not by Gatehouse", "--trial-namespace", nil},
		{"from outside, without a Secret", func() { h.patch(tableOf(asService)) }, outside, "certificate", doctor.Skipped, "cannot be reached from outside", "kubectl exec", nil},
		{"from outside, a Secret of another CA", func() {
			h.patch(tableOf(asService))
			h.leafSecret()
		}, outside, "certificate", doctor.Problem, "in the Secret gatehouse/gatehouse-gate-tls", "rollout restart", func() { h.kubectl("", "delete", "secret", "gatehouse-gate-tls", "-n", "gatehouse") }},
		{"in a namespace that is exempt", nil, func(o *doctor.Options) { o.TrialNamespace = "gatehouse" }, "trial", doctor.Problem, "in namespace gatehouse a pod is let in", "exemptions", nil},
		{"one gate is not ready", func() { h.ready(1) }, nil, "gates", doctor.Warning, "1 of 2 gates are ready", "kubectl describe", func() { h.ready(2) }},
		{"no gate is ready", func() { h.ready(0) }, nil, "gates", doctor.Problem, "none of 2 gates", "kubectl delete validatingwebhookconfiguration gatehouse", func() { h.ready(2) }},
		{"all on one node", func() {
			h.kubectl("", "delete", "pod", "two", "-n", "gatehouse", "--force")
			h.kubectl(gatePod("two", "n1"), "apply", "-f", "-")
			h.readyPod("two")
		}, nil, "gates", doctor.Warning, "on one node", "anti-affinity", func() {
			h.kubectl("", "delete", "pod", "two", "-n", "gatehouse", "--force")
			h.kubectl(gatePod("two", "n2"), "apply", "-f", "-")
			h.readyPod("two")
		}},
		{"no budget", func() { h.kubectl("", "delete", "pdb", "gatehouse-gate", "-n", "gatehouse") }, nil, "gates", doctor.Warning, "no PodDisruptionBudget", "install", nil},
		{"no controller", func() {
			h.kubectl("", "annotate", "validatingwebhookconfiguration", "gatehouse", "--overwrite", "gatehouse.dev/webhooks=- x")
			h.kubectl("", "delete", "lease", "gatehouse-controller", "-n", "gatehouse")
		}, nil, "controller", doctor.Problem, "no controller has the Lease", "kubectl logs", nil},
		{"a controller that hangs", func() {
			h.kubectl("", "patch", "lease", "gatehouse-controller", "-n", "gatehouse", "--type=merge", "-p", `{"spec":{"leaseDurationSeconds":15,"renewTime":"2026-01-01T00:00:00.000000Z"}}`)
		}, nil, "controller", doctor.Problem, "has not renewed", "", nil},
		{"no metadata service", nil, func(o *doctor.Options) { o.Service = "http://127.0.0.1:1" }, "metadata", doctor.Problem, "does not answer", "see that it runs", nil},
		{"another project", nil, func(o *doctor.Options) { o.Project = "nobody" }, "metadata", doctor.Problem, "does not exist", "--project", nil},
		{"another CA of the metadata service", nil, func(o *doctor.Options) { o.Service = "https://" + h.at.Admission }, "metadata", doctor.Problem, "cannot be verified", "--ca-file", nil},
		{"an attestor without keys", func() {
			h.call("POST", "/v1/projects/default/attestors?attestorId=bare", attestor(t, "qa", false))
			h.call("PUT", "/v1/projects/default/policy", policyBy("bare"))
		}, nil, "attestors", doctor.Warning, "has no public keys", "policy-api.md", nil},
		{"a note that is not there", func() { h.call("POST", "/v1/projects/default/attestors?attestorId=lost", attestor(t, "lost", true)) }, nil, "attestors", doctor.Warning, "the note projects/default/notes/lost", "", func() {
			h.call("DELETE", "/v1/projects/default/attestors/lost", "")
		}},
		{"no gate at the ops address", nil, func(o *doctor.Options) { o.Ops = []string{"http://127.0.0.1:1"} }, "feed", doctor.Problem, "could not be read", "", nil},
		{"the clock here is wrong", nil, func(o *doctor.Options) { o.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) } }, "clocks", doctor.Problem, "at least 10m", "NTP", nil},
		{"the clock here is a little wrong", nil, func(o *doctor.Options) { o.Now = func() time.Time { return time.Now().Add(15 * time.Second) } }, "clocks", doctor.Warning, "the API server and the one here are at least 1", "NTP", nil},
		{"break-glass may not ask", nil, func(o *doctor.Options) { o.Config = &doctor.Configuration{AccessReviews: true} }, "delegation", doctor.Problem, "gatehouse-gate may create subjectaccessreviews, and it may not", "system:auth-delegator", nil},
		{"callers cannot be asked about", nil, func(o *doctor.Options) { o.Config = &doctor.Configuration{TokenReviews: true} }, "delegation", doctor.Problem, "tokenreviews", "--serviceaccount gatehouse:gatehouse-server", nil},
		{"they may", func() {
			h.kubectl("", "create", "clusterrolebinding", "d", "--clusterrole", "system:auth-delegator", "--serviceaccount", "gatehouse:gatehouse-gate")
		}, func(o *doctor.Options) { o.Config = &doctor.Configuration{AccessReviews: true} }, "delegation", doctor.OK, "may create subjectaccessreviews", "", nil},
		{"the folder is gone", nil, func(o *doctor.Options) { o.Data = "/nowhere" }, "store", doctor.Unknown, "/nowhere", "", nil},
		{"somebody who may not look", nil, func(o *doctor.Options) { o.Kube = stranger }, "webhook", doctor.Unknown, "may not be read", "docs/doctor.md", nil},
		{"the gate is away", func() { h.stop() }, nil, "trial", doctor.Problem, "does not get an answer", "kubectl delete validatingwebhookconfiguration", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h.T = t
			if tc.harm != nil {
				tc.harm()
			}
			good := func() (doctor.Finding, bool) {
				found := h.examine(tc.change, tc.check)
				for _, f := range found {
					if f.Result == tc.result && strings.Contains(f.Message, tc.text) && strings.Contains(f.Mend, tc.mend) {
						return f, true
					}
				}
				return doctor.Finding{Message: fmt.Sprintf("%+v", found)}, false
			}
			f, ok := good()
			for deadline := time.Now().Add(10 * time.Second); !ok && time.Now().Before(deadline); f, ok = good() { // API servers take a moment
			}
			if !ok {
				t.Errorf("want %s with %q and %q, got %s", tc.result, tc.text, tc.mend, f.Message)
			} else {
				t.Logf("%s\n-> %s", f.Message, f.Mend)
			}
			if tc.heal != nil {
				tc.heal()
			}
			if tc.harm != nil {
				h.kubectl(h.healthy(), "delete", "--ignore-not-found", "-f", "-")
				h.kubectl(h.healthy(), "create", "-f", "-")
			}
		})
	}
}

// documentedRights are those of the manual.
func documentedRights(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	role, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the manual has no ClusterRole")
	}
	return role
}

func notGood(found []doctor.Finding) string {
	var bad []string
	for _, f := range found {
		if f.Result != doctor.OK && f.Result != doctor.Skipped {
			bad = append(bad, fmt.Sprintf("%+v", f))
		}
	}
	return strings.Join(bad, "\n")
}

func otherRoot(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: newSerial(t), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"gatehouse.gatehouse.svc"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func newSerial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ready has so many gates be ready.
func (h *hospital) ready(n int) {
	h.Helper()
	h.kubectl("", "patch", "deployment", "gatehouse-gate", "-n", "gatehouse", "--subresource=status", "-p", fmt.Sprintf(`{"status":{"replicas":2,"readyReplicas":%d}}`, n))
}

func (h *hospital) readyPod(name string) {
	h.Helper()
	h.kubectl("", "patch", "pod", name, "-n", "gatehouse", "--subresource=status", "-p", `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
}

func gatePod(name, node string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: gatehouse, labels: {app: gate}}\nspec: {nodeName: %s, containers: [{name: gate, image: \"gatehouse:1\"}]}\n", name, node)
}

// leafSecret makes a Secret with a certificate that nobody trusts.
func (h *hospital) leafSecret() {
	h.Helper()
	h.kubectl("apiVersion: v1\nkind: Secret\nmetadata: {name: gatehouse-gate-tls, namespace: gatehouse}\ndata: {tls.crt: "+otherRoot(h.T)+"}\n", "create", "-f", "-")
}

// as returns a client of an API server at an address, by a token.
func (h *hospital) as(server, token string) *kube.Client {
	h.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": server, "certificate-authority": filepath.Join(h.Dir(), "ca.crt")}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	})
	if err != nil {
		h.Fatal(err)
	}
	path := filepath.Join(h.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		h.Fatal(err)
	}
	client, err := kube.Open(kube.Options{Kubeconfig: path})
	if err != nil {
		h.Fatal(err)
	}
	return client
}
