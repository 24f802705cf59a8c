package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// kubeBound is how long a controller may take to do what a test waits for.
const kubeBound = 2 * time.Minute

// unattested is an image that nobody has said anything about.
const unattested = "registry.test/evil/web@sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

// webhookName is what the gate is registered as.
const webhookName = "imagepolicywebhook.image-policy.k8s.io"

// A cluster is a real API server that asks a gate, with the namespaces shop and open.
type cluster struct {
	*testing.T
	*controlplane.ControlPlane
	gate *running
}

// newCluster starts both. Without controllers there are no pods but those created.
func newCluster(t *testing.T, o controlplane.Options, cfg Config) *cluster {
	t.Helper()
	c := &cluster{T: t}
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	c.gate = start(t, cfg)
	c.ControlPlane = controlplane.New(t, o)
	for _, namespace := range []string{"shop", "open"} {
		c.must("", "create", "namespace", namespace)
		if !o.AdmissionOnly {
			c.eventually("the service account of "+namespace, func() bool {
				_, _, err := c.Kubectl(t.Context(), nil, "get", "serviceaccount", "default", "-n", namespace)
				return err == nil
			})
		}
	}
	return c
}

// register has the API server ask the gate by the admission webhook.
func (c *cluster) register() {
	c.Helper()
	if err := c.RegisterWebhook(c.Context(), webhookName, "https://"+c.gate.Admission+"/validate", c.ca()); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) ca() []byte {
	c.Helper()
	ca, err := os.ReadFile(c.gate.CA)
	if err != nil {
		c.Fatal(err)
	}
	return ca
}

// run runs kubectl, and returns whether it did what it was told, and all it said.
func (c *cluster) run(manifest string, args ...string) (ok bool, said string) {
	c.Helper()
	stdout, stderr, err := c.Kubectl(c.Context(), strings.NewReader(manifest), args...)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.Fatal(err)
	}
	return err == nil, stdout + stderr
}

// must runs kubectl, which must succeed.
func (c *cluster) must(manifest string, args ...string) string {
	c.Helper()
	ok, said := c.run(manifest, args...)
	if !ok {
		c.Fatalf("kubectl %s: %s", strings.Join(args, " "), said)
	}
	return said
}

// denied runs kubectl, which must fail because the gate denies the request.
func (c *cluster) denied(manifest string, args ...string) string {
	c.Helper()
	ok, said := c.run(manifest, args...)
	if ok || !strings.Contains(said, "denied the request") {
		c.Errorf("kubectl %s: want the gate's denial, got success %v: %s", strings.Join(args, " "), ok, said)
	}
	return said
}

// eventually waits until something is so.
func (c *cluster) eventually(what string, is func() bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), kubeBound)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			_, events := c.run("", "get", "events", "-A")
			_, pods := c.run("", "get", "pods", "-A")
			c.Fatalf("waiting for %s: %v\n%s\n%s", what, ctx.Err(), pods, events)
		}
	}
}

// refusedPods waits until the controller of an object has been told that its pods are
// denied, with this image in the words.
func (c *cluster) refusedPods(kind, name, image string) {
	c.Helper()
	c.eventually("a FailedCreate event of "+kind+" "+name, func() bool {
		_, said := c.run("", "get", "events", "-n", "shop", "-o", "jsonpath={range .items[*]}{.reason} {.involvedObject.kind} {.involvedObject.name} {.message}{\"\\n\"}{end}")
		for line := range strings.Lines(said) {
			if strings.HasPrefix(line, "FailedCreate "+kind+" "+name) && strings.Contains(line, "denied the request") && strings.Contains(line, image) {
				return true
			}
		}
		return false
	})
}

// pods waits until a label has this many pods.
func (c *cluster) pods(label string, n int) {
	c.Helper()
	c.eventually(fmt.Sprintf("%d pods of %s", n, label), func() bool {
		_, said := c.run("", "get", "pods", "-n", "shop", "-l", label, "-o", "name")
		return strings.Count(said, "pod/") == n
	})
}

// noneRuns fails the test if any pod has an image that contains the text.
func (c *cluster) noneRuns(image string) {
	c.Helper()
	if said := c.must("", "get", "pods", "-A", "-o", "json"); strings.Contains(said, image) {
		c.Errorf("a pod has %s:\n%s", image, said)
	}
}

// podOf is a pod's manifest; more is added to its spec's first container list as YAML.
func podOf(name, image, meta, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %q, namespace: shop%s}\nspec: {containers: [{name: main, image: %q}]%s}\n", name, meta, image, spec)
}

// workloadOf is the manifest of what makes pods labelled app=name.
func workloadOf(kind, name, image string, replicas int) string {
	template := fmt.Sprintf("{metadata: {labels: {app: %s}}, spec: {containers: [{name: main, image: %q}]}}", name, image)
	job := fmt.Sprintf("{backoffLimit: 0, template: {metadata: {labels: {app: %s}}, spec: {restartPolicy: Never, containers: [{name: main, image: %q}]}}}", name, image)
	head := func(version, spec string) string {
		return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: shop}\n%s\n", version, kind, name, spec)
	}
	selector := "selector: {matchLabels: {app: " + name + "}}, template: " + template
	switch kind {
	case "DaemonSet":
		return head("apps/v1", "spec: {"+selector+"}")
	case "StatefulSet":
		return head("apps/v1", fmt.Sprintf("spec: {serviceName: x, replicas: %d, %s}", replicas, selector))
	case "ReplicationController":
		return head("v1", fmt.Sprintf("spec: {replicas: %d, selector: {app: %s}, template: %s}", replicas, name, template))
	case "Job":
		return head("batch/v1", "spec: "+job)
	case "CronJob":
		return head("batch/v1", "spec: {schedule: \"0 0 1 1 *\", jobTemplate: {spec: "+job+"}}")
	case "PodTemplate":
		return head("v1", "template: "+template)
	}
	return head("apps/v1", fmt.Sprintf("spec: {replicas: %d, strategy: {type: Recreate}, %s}", replicas, selector))
}

// kubePolicy demands an attestation, but not in the namespace open, and not of an
// exempt image.
const kubePolicy = `admissionWhitelistPatterns:
- namePattern: registry.test/exempt/*
kubernetesNamespaceAdmissionRules:
  open: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}
` + enforced

func kubeConfig(t *testing.T, text string, change func(*Config)) Config {
	t.Helper()
	return testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), text)}
		c.Cluster = "us-east1-b.prod"
		if change != nil {
			change(c)
		}
	})
}

// decisions returns the records about objects whose name begins so, but for what was only
// tried out.
func (r *running) decisions(prefix string) []string {
	r.t.Helper()
	entries, err := filepath.Glob(filepath.Join(r.data, "audit", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	var list []string
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var record struct {
				Name, Event string
				Resource    string
				DryRun      bool
				Decision    struct{ Verdict, Override string }
			}
			if json.Unmarshal([]byte(line), &record) == nil && !record.DryRun && strings.HasPrefix(record.Name, prefix) {
				list = append(list, strings.TrimSpace(strings.Join([]string{record.Resource, record.Event, record.Decision.Verdict, record.Decision.Override}, " ")))
			}
		}
	}
	return list
}

// patch sends a patch of a type as an administrator.
func (c *cluster) patch(path, kind, body string) (int, string) {
	c.Helper()
	request, err := http.NewRequestWithContext(c.Context(), http.MethodPatch, c.URL()+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	resp, err := c.Client().Do(request)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Message, Reason string }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, status.Reason + ": " + status.Message
}

// auditAnnotations are those that the API server has logged, a map for each request.
func (c *cluster) auditAnnotations() []map[string]string {
	c.Helper()
	text, err := os.ReadFile(c.AuditLog())
	if err != nil {
		c.Fatal(err)
	}
	var all []map[string]string
	for line := range strings.Lines(string(text)) {
		var event struct{ Annotations map[string]string }
		if json.Unmarshal([]byte(line), &event) == nil {
			all = append(all, event.Annotations)
		}
	}
	return all
}
