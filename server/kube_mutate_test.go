package server

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
)

// mutating registers webhooks that are asked in the order of their names.
func (c *cluster) mutating(name, url string, ca []byte, more map[string]any) {
	c.Helper()
	hook := map[string]any{
		"name": name + ".webhook.test", "clientConfig": map[string]any{"url": url, "caBundle": ca}, "failurePolicy": "Fail", "timeoutSeconds": 10,
		"rules": []any{
			map[string]any{"apiGroups": []string{""}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE", "UPDATE"}, "resources": []string{"pods", "pods/ephemeralcontainers"}},
			map[string]any{"apiGroups": []string{"apps", "batch"}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE", "UPDATE"}, "resources": []string{"*"}},
		},
		"namespaceSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": "kubernetes.io/metadata.name", "operator": "In", "values": []string{"shop", "open"}}}},
		"sideEffects":       "None", "admissionReviewVersions": []string{"v1"}, "reinvocationPolicy": "IfNeeded",
	}
	for k, v := range more {
		hook[k] = v
	}
	configuration := map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": map[string]any{"name": name}, "webhooks": []any{hook},
	}
	if status, said, err := c.Do(c.Context(), http.MethodPost, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", configuration); err != nil || status != http.StatusCreated {
		c.Fatalf("%d %s %v", status, said, err)
	}
}

// sidecar is a webhook that adds a container to each pod that has not got it.
func sidecar(t *testing.T, ref string) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct {
			Request struct {
				UID      string
				Resource struct{ Resource string }
				Object   struct {
					Spec struct{ Containers []struct{ Name string } }
				}
			}
		}
		if err != nil || json.Unmarshal(body, &in) != nil {
			http.Error(w, "not a review", http.StatusBadRequest)
			return
		}
		patch := ""
		if in.Request.Resource.Resource == "pods" && len(in.Request.Object.Spec.Containers) == 1 {
			patch = fmt.Sprintf(`,"patchType":"JSONPatch","patch":%q`, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `[{"op":"add","path":"/spec/containers/-","value":{"name":"sidecar","image":%q}}]`, ref)))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true%s}}`, in.Request.UID, patch)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestTagsArePinnedByTheAPIServersWebhook: on a real API server, with a registry that asks
// who it is, pull secrets, rollout hints, another webhook after it, and a tag that moves.
func TestTagsArePinnedByTheAPIServersWebhook(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	open, closed := registry.New(t), registry.New(t, registry.WithBasicAuth("robot", "made-for-tests"))
	put := func(r *registry.Registry, repository, tag, user string) image.Reference {
		t.Helper()
		img, err := registry.Image(registry.ImageOptions{User: user})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := r.Push(t.Context(), repository, img)
		if err == nil {
			err = r.Tag(t.Context(), ref, tag)
		}
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	web, moved := put(open, "shop/web", "v1", "1000"), put(open, "shop/next", "v1", "2000")
	mesh, private := put(open, "mesh/proxy", "v2", "3000"), put(closed, "shop/private", "v1", "4000")

	signer := testSigner(t)
	key, err := json.Marshal(signer.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	signers := write(t, t.TempDir()+"/signers.yaml", fmt.Sprintf("hintSigners:\n- name: projects/default/hintSigners/release\n  noteReference: projects/default/notes/hints\n  publicKeys: [{pkixPublicKey: {publicKeyPem: %s, signatureAlgorithm: ECDSA_P256_SHA256}}]\n", key))
	// Whatever has a digest is let in: what is judged is that it has.
	const digestsOnly = "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\nadmissionWhitelistPatterns:\n"
	policy := digestsOnly
	for _, ref := range []image.Reference{web, moved, mesh, private} {
		policy += fmt.Sprintf("- namePattern: \"%s:v1@*\"\n- namePattern: \"%s:v2@*\"\n- namePattern: \"%s:latest@*\"\n", ref.Name(), ref.Name(), ref.Name())
	}
	plane := controlplane.New(t, controlplane.Options{})
	config := kubeConfig(t, policy, func(c *Config) {
		c.Mutate.Address, c.Mutate.PullSecrets, c.Mutate.Kubeconfig = "127.0.0.1:0", true, plane.Kubeconfig()
		c.Mutate.Namespaces = []MutateNamespace{{Name: "op*", Pin: "templates"}}
		c.Admission.Templates = admission.WarnTemplates // those by tags are pinned as pods
		c.Admission.HintSignersFiles = []string{signers}
	})
	c := &cluster{T: t, ControlPlane: plane, gate: start(t, config)}
	for _, namespace := range []string{"shop", "open"} {
		c.must("", "create", "namespace", namespace)
		c.eventually("the service account of "+namespace, func() bool { ok, _ := c.run("", "get", "serviceaccount", "default", "-n", namespace); return ok })
	}
	c.register()
	other := sidecar(t, mesh.Name()+":v2")
	c.mutating("a-gatehouse", "https://"+c.gate.Mutate+"/mutate", c.ca(), nil)
	c.mutating("b-mesh", other.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw}), map[string]any{"objectSelector": map[string]any{"matchLabels": map[string]any{"mesh": "yes"}}})
	images := func(kind, name, namespace string) string {
		t.Helper()
		at := ".spec.containers[*].image"
		if kind != "pod" {
			at = ".spec.template.spec.containers[*].image"
		}
		return c.must("", "get", kind, name, "-n", namespace, "-o", "jsonpath={"+at+"}")
	}
	pinned := func(ref image.Reference, tag string) string {
		return ref.Name() + ":" + tag + "@" + ref.Digest().String()
	}

	c.eventually("the webhook to pin", func() bool {
		_, said := c.run(podOf("first", web.Name()+":v1", "", ""), "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		return strings.Contains(said, pinned(web, "v1"))
	})
	c.must(podOf("web", web.Name()+":v1", ", labels: {mesh: \"yes\"}", ""), "create", "-f", "-")
	if got, want := images("pod", "web", "shop"), pinned(web, "v1")+" "+pinned(mesh, "v2"); got != want {
		t.Errorf("a pod with another webhook's container: %s\nwant %s", got, want)
	}
	// The tag moves: what runs is what was judged, and the next pod gets the next.
	if err := open.Tag(t.Context(), mustRef(t, web.Name()+"@"+web.Digest().String()), "old"); err != nil {
		t.Fatal(err)
	}
	next := put(open, "shop/web", "v1", "5000")
	if got := images("pod", "web", "shop"); !strings.HasPrefix(got, pinned(web, "v1")) {
		t.Errorf("the tag moved, and the pod is %s", got)
	}
	c.must("", "label", "pod", "web", "-n", "shop", "x=y") // an update of something else
	c.must(podOf("after", web.Name()+":v1", "", ""), "create", "-f", "-")
	if got := images("pod", "after", "shop"); got != pinned(next, "v1") {
		t.Errorf("after the tag moved: %s", got)
	}
	// A hint comes before the registry, and its end leaves the tag to be refused.
	c.gate.api().expect("", http.MethodPost, "/v1/projects/default/notes?noteId=hints", `{"attestation":{"hint":{"humanReadableName":"hints"}}}`, 200)
	hinted := c.gate.publish(signer, web.Name(), web.Digest(), 1)
	c.eventually("the hint to count", func() bool {
		_, said := c.run(podOf("hinted", web.Name()+":v1", "", ""), "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		return strings.Contains(said, pinned(web, "v1"))
	})
	c.gate.api().expect("", http.MethodDelete, "/v1/"+hinted, "", 200)
	c.eventually("the deleted hint not to count", func() bool {
		ok, said := c.run(podOf("hinted", web.Name()+":v1", "", ""), "create", "-f", "-")
		return !ok && strings.Contains(said, "denied the request")
	})
	// With the pod's pull secret, or its service account's, and not without.
	said := c.denied(podOf("private", private.Name()+":v1", "", ""), "create", "-f", "-")
	if !strings.Contains(said, "could not pin "+private.Name()+":v1") || !strings.Contains(said, "refused access") {
		t.Errorf("without a secret: %s", said)
	}
	c.must("", "create", "secret", "docker-registry", "regcred", "-n", "shop", "--docker-server="+closed.Host(), "--docker-username=robot", "--docker-password=made-for-tests")
	c.must(podOf("private", private.Name()+":v1", "", ", imagePullSecrets: [{name: regcred}]"), "create", "-f", "-")
	if got := images("pod", "private", "shop"); got != pinned(private, "v1") {
		t.Errorf("with a pull secret: %s", got)
	}
	c.must("", "patch", "serviceaccount", "default", "-n", "shop", "-p", `{"imagePullSecrets":[{"name":"regcred"}]}`)
	c.must(podOf("private2", private.Name()+":v1", "", ""), "create", "-f", "-")
	// A registry that is gone: in time, refused, and said why.
	begun := time.Now()
	said = c.denied(podOf("gone", "127.0.0.1:1/x/y:v1", "", ""), "create", "-f", "-")
	if !strings.Contains(said, "could not pin 127.0.0.1:1/x/y:v1") {
		t.Errorf("a registry that is gone: %s", said)
	}
	t.Logf("a registry that is gone was refused after %v", time.Since(begun))

	// Templates in the namespace that says so; a Job's never, and its pod all the same.
	inOpen := func(manifest string) string {
		return strings.Replace(manifest, "namespace: shop", "namespace: open", 1)
	}
	c.must(inOpen(workloadOf("Deployment", "web", moved.Name()+":v1", 1)), "create", "-f", "-")
	if got := images("deployment", "web", "open"); got != pinned(moved, "v1") {
		t.Errorf("a template: %s", got)
	}
	for range 2 { // the same manifest again is no conflict
		c.must(inOpen(workloadOf("Job", "once", moved.Name()+":v1", 1)), "apply", "-f", "-")
	}
	if got := images("job", "once", "open"); got != moved.Name()+":v1" {
		t.Errorf("the template of a Job was touched: %s", got)
	}
	c.eventually("the pod of the Job", func() bool {
		_, said := c.run("", "get", "pods", "-n", "open", "-l", "app=once", "-o", "jsonpath={.items[*].spec.containers[*].image}")
		return said == pinned(moved, "v1")
	})
	c.must(workloadOf("Deployment", "web", moved.Name()+":v1", 1), "create", "-f", "-")
	if got := images("deployment", "web", "shop"); got != moved.Name()+":v1" {
		t.Errorf("a template where only pods are pinned: %s", got)
	}
	c.pods("app=web", 1)
}

// TestAPinnedPodIsNotAskedAbout by an API server that has the match conditions of the
// documentation, in whatever place its images are; any that is not pinned is.
func TestAPinnedPodIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	page, err := os.ReadFile("../docs/pin-tags.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "```yaml\napiVersion: admissionregistration")
	text, _, _ := strings.Cut(after, "```")
	var documented map[string]any
	if err := yaml.Unmarshal([]byte("apiVersion: admissionregistration"+text), &documented); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct{ Request struct{ UID, Name string } }
		if err != nil || json.Unmarshal(body, &in) != nil {
			http.Error(w, "not a review", http.StatusBadRequest)
			return
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, in.Request.UID)
	}))
	t.Cleanup(s.Close)
	plane := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	c := &cluster{T: t, ControlPlane: plane}
	c.must("", "create", "namespace", "shop")
	hooks, ok := documented["webhooks"].([]any)
	if !ok || len(hooks) != 2 {
		t.Fatalf("the page has %v", documented["webhooks"])
	}
	for _, h := range hooks {
		hook := h.(map[string]any)
		hook["clientConfig"] = map[string]any{"url": s.URL, "caBundle": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
		hook["failurePolicy"] = "Fail"
	}
	if status, said, err := c.Do(c.Context(), http.MethodPost, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", documented); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s %v", status, said, err)
	}
	pod := func(name, image, spec string) string { return podOf(name, image, "", spec) }
	const pinned = "reg.test/x:v1@sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	c.eventually("the webhook to be asked", func() bool {
		_, _ = c.run(pod("first", "reg.test/x:v1", ""), "create", "--dry-run=server", "-f", "-")
		return asked.Load() > 0
	})
	for what, p := range map[string]struct {
		manifest string
		asked    bool
	}{
		"all pinned":         {pod("a", pinned, ", initContainers: [{name: i, image: \""+pinned+"\"}], volumes: [{name: v, emptyDir: {}}]"), false},
		"a tag":              {pod("b", "reg.test/x:v1", ""), true},
		"an init container":  {pod("c", pinned, ", initContainers: [{name: i, image: x}]"), true},
		"an image volume":    {pod("d", pinned, ", volumes: [{name: v, image: {reference: x}}]"), true},
		"a pinned volume":    {pod("e", pinned, ", volumes: [{name: v, image: {reference: \""+pinned+"\"}}]"), false},
		"a template by tags": {workloadOf("Deployment", "f", "x", 1), true},
	} {
		before := asked.Load()
		c.must(p.manifest, "create", "--dry-run=server", "-f", "-")
		if got := asked.Load() > before; got != p.asked {
			t.Errorf("%s: asked %t", what, got)
		}
	}
}

func mustRef(t *testing.T, text string) image.Reference {
	t.Helper()
	r, err := image.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
