package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

const pipelines = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pipelines.batch.example.com}
spec:
  group: batch.example.com
  scope: Namespaced
  names: {plural: pipelines, singular: pipeline, kind: Pipeline}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func pipeline(name, spec string) string {
	return fmt.Sprintf("apiVersion: batch.example.com/v1\nkind: Pipeline\nmetadata: {name: %s, namespace: shop, finalizers: [gatehouse.dev/test]}\nspec: %s\n", name, spec)
}

// registerPipelines has the API server ask the gate about pipelines too, and returns
// when it does.
func (c *cluster) registerPipelines() {
	c.Helper()
	c.must(pipelines, "create", "-f", "-")
	configuration := map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": map[string]any{"name": "pipelines"},
		"webhooks": []any{map[string]any{
			"name": "pipelines.gatehouse.dev", "clientConfig": map[string]any{"url": "https://" + c.gate.Admission + "/validate", "caBundle": c.ca()},
			"rules": []any{map[string]any{
				"apiGroups": []string{"batch.example.com"}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE", "UPDATE"}, "resources": []string{"pipelines", "pipelines/status"},
			}},
			"sideEffects": "NoneOnDryRun", "admissionReviewVersions": []string{"v1"}, "timeoutSeconds": 10,
		}},
	}
	if status, said, err := c.Do(c.Context(), http.MethodPost, "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", configuration); err != nil || status != http.StatusCreated {
		c.Fatalf("%d %s %v", status, said, err)
	}
	c.eventually("the API server to ask about pipelines", func() bool {
		_, said := c.run(pipeline("probe", `{steps: [{image: 7}]}`), "create", "--dry-run=server", "-f", "-")
		return strings.Contains(said, "denied the request")
	})
}

func TestCustomResourcesThroughTheAPIServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{AdmissionOnly: true}, kubeConfig(t, kubePolicy, func(c *Config) {
		c.Admission.Resources = []admission.Resource{{
			Group: "batch.example.com", Resource: "pipelines", Images: []string{"spec.steps[*].image"}, PodTemplates: []string{"spec.workers.*.template"},
		}}
	}))
	c.registerPipelines()
	image := push(t, "65532")
	c.gate.check(image, "nobody", true)
	good := image.String()

	step := func(image string) string { return fmt.Sprintf("{steps: [{name: a, image: %q}]}", image) }
	worker := func(image string) string {
		return fmt.Sprintf("{workers: {gpu: {template: {metadata: {}, spec: {initContainers: [{name: i, image: %q}], containers: [{name: c, image: %q}]}}}}}", image, good)
	}
	c.denied(pipeline("a", step(unattested)), "create", "-f", "-")
	c.denied(pipeline("a", worker(unattested)), "create", "-f", "-")
	if said := c.denied(pipeline("a", "{steps: {image: a}}"), "create", "-f", "-"); !strings.Contains(said, "spec.steps: want a list, found an object") {
		t.Error(said)
	}
	c.must(pipeline("a", step(good)), "create", "-f", "-")
	c.must(pipeline("b", worker(good)), "create", "-f", "-")
	c.must(pipeline("c", "{}"), "create", "-f", "-")
	c.denied(pipeline("a", step(unattested)), "apply", "-f", "-")
	c.must("", "annotate", "-n", "shop", "pipeline/a", "x=y")
	if status, said := c.patch("/apis/batch.example.com/v1/namespaces/shop/pipelines/a/status", "application/merge-patch+json", `{"status":{"phase":"done"},"spec":{"steps":[{"image":"`+unattested+`"}]}}`); status != http.StatusOK {
		t.Errorf("%d %s", status, said)
	}
	if said := c.must("", "get", "pipeline", "-n", "shop", "a", "-o", "json"); strings.Contains(said, "evil") || !strings.Contains(said, `"done"`) {
		t.Error(said)
	}
	c.must("", "delete", "pipeline", "-n", "shop", "a", "--wait=false")
	c.must("", "patch", "pipeline", "-n", "shop", "a", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}

// TestAnAPIServerThatIsTurnedAwayAsksAgain: it is told when, and the pod is created
// once there is room.
func TestAnAPIServerThatIsTurnedAwayAsksAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{AdmissionOnly: true}, kubeConfig(t, openPolicy, func(c *Config) { c.Admission.MaxRequests = 2 }))
	c.register()
	finish := c.gate.hold("127.0.0.1", podReview())
	done := make(chan string, 1)
	go func() {
		stdout, stderr, err := c.Kubectl(t.Context(), strings.NewReader(podOf("later", "registry.test/web:1", "", "")), "create", "-f", "-")
		done <- fmt.Sprint(stdout, stderr, err)
	}()
	c.eventually("the API server to be turned away", func() bool {
		_, metrics := c.gate.get("http://" + c.gate.Ops + "/metrics")
		return strings.Contains(metrics, `gatehouse_admission_turned_away_total{status="429"}`)
	})
	if resp, text := finish(); resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", resp.Status, text)
	}
	select {
	case said := <-done:
		if !strings.Contains(said, "pod/later created") {
			t.Error(said)
		}
	case <-time.After(kubeBound):
		t.Error("the API server did not ask again")
	}
}

// TestWorkloadsAreRefusedAtOnce: early feedback for each kind that makes pods.
func TestWorkloadsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{AdmissionOnly: true}, kubeConfig(t, kubePolicy, nil))
	c.register()
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController", "PodTemplate"} {
		manifest := workloadOf(kind, "w", unattested, 0)
		if kind == "ReplicaSet" {
			manifest = strings.Replace(manifest, "strategy: {type: Recreate}, ", "", 1)
		}
		c.denied(manifest, "create", "-f", "-")
		c.must(strings.ReplaceAll(manifest, unattested, "registry.test/exempt/web:1"), "create", "-f", "-")
		if kind != "Job" { // whose template cannot change
			c.denied(manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
		}
	}
}
