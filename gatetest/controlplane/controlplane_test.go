package controlplane_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: registry.test/web:1}]
`

func TestDeploymentMakesPods(t *testing.T) {
	t.Parallel()
	cp := controlplane.New(t, controlplane.Options{})

	if _, stderr, err := cp.Kubectl(t.Context(), strings.NewReader(deployment), "apply", "-f", "-"); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	// kubectl wait returns when the second pod is there, by a watch.
	_, stderr, err := cp.Kubectl(t.Context(), nil, "wait", "--for=jsonpath={.status.replicas}=2", "--timeout=60s", "deployment/web")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	pods, stderr, err := cp.Kubectl(t.Context(), nil, "get", "pods", "-l", "app=web",
		"-o", "jsonpath={range .items[*]}{.metadata.ownerReferences[0].kind} {.spec.serviceAccountName} {.spec.containers[0].image}\n{end}")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if want := strings.Repeat("ReplicaSet default registry.test/web:1\n", 2); pods != want {
		t.Errorf("pods of the Deployment:\n%swant:\n%s", pods, want)
	}
	version, _, err := cp.Kubectl(t.Context(), nil, "version", "-o", "json")
	if err != nil || strings.Contains(version, "v0.0.0") {
		t.Errorf("kubectl version: %v:\n%s\nwant a version stamp on client and server", err, version)
	}
}

func TestWebhookIsAskedFromRegistrationUntilRemoval(t *testing.T) {
	t.Parallel()
	cp := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	gate := newDenier(t)

	const name = "validate.gate.test"
	if err := cp.RegisterWebhook(t.Context(), name, gate.server.URL+"/validate", gate.ca); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := cp.Kubectl(t.Context(), nil, "run", "bad", "--image=registry.test/bad:1")
	if err == nil {
		t.Fatal("a pod that the webhook denies was created")
	}
	if want := `admission webhook "validate.gate.test" denied the request: not today: registry.test/bad:1`; !strings.Contains(stderr, want) {
		t.Errorf("kubectl said:\n%s\nwant it to contain: %s", stderr, want)
	}
	_, stderr, err = cp.Kubectl(t.Context(), strings.NewReader(deployment), "apply", "-f", "-")
	if err == nil || !strings.Contains(stderr, "denied the request") {
		t.Errorf("a Deployment: %v: %s; want a denial", err, stderr)
	}
	if _, stderr, err := cp.Kubectl(t.Context(), nil, "run", "exempt", "--namespace=kube-system", "--image=registry.test/bad:1"); err != nil {
		t.Errorf("a pod in kube-system: %v: %s", err, stderr)
	}

	if err := cp.UnregisterWebhook(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := cp.Kubectl(t.Context(), nil, "run", "bad", "--image=registry.test/bad:1"); err != nil {
		t.Errorf("a pod after the webhook was removed: %v: %s", err, stderr)
	}
	if got, want := gate.seen(), []string{"CREATE pods", "CREATE deployments"}; strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("the webhook was asked about %q, want %q", got, want)
	}
}

func TestAuditLogHasTheWebhooksAnnotations(t *testing.T) {
	t.Parallel()
	cp := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	gate := newDenier(t)
	if err := cp.RegisterWebhook(t.Context(), "validate.gate.test", gate.server.URL, gate.ca); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cp.Kubectl(t.Context(), nil, "run", "bad", "--image=registry.test/bad:1"); err == nil {
		t.Fatal("a pod that the webhook denies was created")
	}
	log, err := os.ReadFile(cp.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	if want := `"validate.gate.test/decision":"deny"`; !strings.Contains(string(log), want) {
		t.Errorf("the audit log lacks %s:\n%s", want, log)
	}
}

func TestRegisterWebhookRefuses(t *testing.T) {
	t.Parallel()
	cp := &controlplane.ControlPlane{}
	for _, test := range []struct{ name, webhook, address, ca, want string }{
		{"a short name", "gate.test", "https://127.0.0.1:1", "x", "three labels"},
		{"plain http", "a.gate.test", "http://127.0.0.1:1", "x", "not an https URL"},
		{"no certificate", "a.gate.test", "https://127.0.0.1:1", "", "CA certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := cp.RegisterWebhook(t.Context(), test.webhook, test.address, []byte(test.ca))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	dir := filepath.Join(t.TempDir(), "state")
	cp, err := controlplane.Start(t.Context(), controlplane.Options{AdmissionOnly: true, Dir: dir, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	cp.Stop()
	cp.Stop()
	if _, _, err := cp.Do(t.Context(), http.MethodGet, "/readyz", nil); err == nil {
		t.Error("the API server answers after Stop")
	}
	if _, err := os.Stat(filepath.Join(dir, "kube-apiserver.log")); err != nil {
		t.Errorf("the logs are gone from a folder that the caller named: %v", err)
	}
}

func TestStartTellsWhyItFailed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	_, err := controlplane.Start(t.Context(), controlplane.Options{APIServerFlags: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v, want the API server's own words about the flag", err)
	}
}

// A denier is a webhook that denies what it is asked about.
type denier struct {
	server *httptest.Server
	ca     []byte

	mu       sync.Mutex
	requests []string
	body     []byte
}

func newDenier(t *testing.T) *denier {
	d := &denier{}
	d.server = httptest.NewTLSServer(d)
	t.Cleanup(d.server.Close)
	d.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.server.Certificate().Raw})
	return d
}

func (d *denier) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.requests...)
}

// last returns the body of the last request.
func (d *denier) last() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.body
}

func (d *denier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var review struct {
		Request struct {
			UID       string
			Operation string
			Resource  struct{ Resource string }
			Object    struct {
				Spec struct{ Containers []struct{ Image string } }
			}
		}
	}
	if err := json.Unmarshal(body, &review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	d.body = body
	d.requests = append(d.requests, review.Request.Operation+" "+review.Request.Resource.Resource)
	d.mu.Unlock()
	image := ""
	if containers := review.Request.Object.Spec.Containers; len(containers) > 0 {
		image = containers[0].Image
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
		"uid": %q, "allowed": false, "status": {"message": %q}, "auditAnnotations": {"decision": "deny"}}}`,
		review.Request.UID, "not today: "+image)
}
