package server

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// TestNothingSlipsPastThroughTheAPIServer tries, with a real API server and real
// controllers, what was a hole in Kritis or lets pods past other gates. Workloads are
// let in with a warning, so that it is the pods that have to be refused.
func TestNothingSlipsPastThroughTheAPIServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{}, kubeConfig(t, kubePolicy, func(c *Config) { c.Admission.Templates = "warn" }))
	image := push(t, "65532")
	c.gate.check(image, "nobody", true)
	c.register()
	good := image.String()
	c.must(workloadOf("Deployment", "web", good, 1), "apply", "-f", "-")
	c.pods("app=web", 1)

	t.Run("in Kritis", func(t *testing.T) { c.at(t).kritisHoles(good) })
	t.Run("by fields", func(t *testing.T) { c.at(t).fields(good) })
	t.Run("by requests", func(t *testing.T) { c.at(t).requests(good) })
	t.Run("by controllers", func(t *testing.T) { c.at(t).controllers(good) })
	t.Run("by a webhook that changes the image", func(t *testing.T) { c.at(t).mutator(good) })
	t.Run("by what the object claims", func(t *testing.T) { c.at(t).claims() })
	t.Run("and nothing stands in the way", func(t *testing.T) { c.at(t).passes(good) })
	t.Run("when the gate is gone", func(t *testing.T) { c.at(t).gone(good) })
	c.noneRuns("/evil/")
}

func (c *cluster) at(t *testing.T) *cluster {
	return &cluster{T: t, ControlPlane: c.ControlPlane, gate: c.gate}
}

// kritisHoles are the holes B1 to B8 of Kritis.
func (c *cluster) kritisHoles(good string) {
	c.Run("B1 updating a Deployment", func(t *testing.T) {
		c := c.at(t)
		c.must(workloadOf("Deployment", "b1", good, 1), "apply", "-f", "-")
		c.pods("app=b1", 1)
		if said := c.must("", "set", "image", "-n", "shop", "deployment/b1", "main="+unattested); !strings.Contains(said, "Warning: gatehouse: its pods will be refused") {
			t.Errorf("no warning: %s", said)
		}
		c.refusedPods("ReplicaSet", "b1", unattested)
	})
	c.Run("B2 naming an owner", func(t *testing.T) {
		c := c.at(t)
		uid := c.must("", "get", "-n", "shop", "deployment/web", "-o", "jsonpath={.metadata.uid}")
		set := c.must("", "get", "-n", "shop", "replicaset", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}")
		name, setUID, _ := strings.Cut(set, " ")
		for what, owners := range map[string]string{
			"the Deployment":      fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, name: web, uid: %s, controller: true}", uid),
			"its ReplicaSet":      fmt.Sprintf("{apiVersion: apps/v1, kind: ReplicaSet, name: %s, uid: %s, controller: true}", name, setUID),
			"with a made-up uid":  "{apiVersion: x/v9, kind: Deployment, name: web, uid: made-up}",
			"one that is not any": "{apiVersion: apps/v1, kind: Deployment, name: nobody, uid: a}",
			"none":                "",
		} {
			t.Run(what, func(t *testing.T) {
				c.at(t).denied(podOf("b2", unattested, ", labels: {app: web}, ownerReferences: ["+owners+"]", ""), "create", "-f", "-")
			})
		}
	})
	c.Run("B3 a marker whose value is not true", func(t *testing.T) {
		for _, meta := range []string{
			`annotations: {kritis.grafeas.io/breakglass: "true"}`,
			`annotations: {kritis.grafeas.io/breakglass: "false"}`,
			`labels: {image-policy.k8s.io/break-glass: "false"}`,
			`labels: {image-policy.k8s.io/break-glass: ""}`,
			`annotations: {image-policy.k8s.io/break-glass: "true"}`,
			`annotations: {alpha.image-policy.k8s.io/break-glass: "yes"}`,
		} {
			c.at(t).denied(podOf("b3", unattested, ", "+meta, ""), "create", "-f", "-")
		}
	})
	c.Run("B4 claiming another namespace", func(t *testing.T) {
		c := c.at(t)
		for _, namespace := range []string{"open", ""} {
			pod := map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "b4", "namespace": namespace},
				"spec": map[string]any{"containers": []any{map[string]any{"name": "main", "image": unattested}}},
			}
			status, said, err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/shop/pods", pod)
			if err != nil || status/100 == 2 {
				t.Errorf("as of %q: %d %s %v", namespace, status, said, err)
			}
		}
		// The same pod is welcome where the policy lets it in.
		c.must("", "run", "b4", "-n", "open", "--image=registry.test/anything:1")
	})
	c.Run("B5 and B6 an image that nothing is known of, again and again", func(t *testing.T) {
		for range 3 {
			c.at(t).denied(podOf("b6", unattested, "", ""), "create", "-f", "-")
		}
	})
	c.Run("B7 an exemption makes no attestation", func(t *testing.T) {
		c := c.at(t)
		const exempt = "registry.test/exempt/web@sha256:1111111111111111111111111111111111111111111111111111111111111111"
		c.must(podOf("b7-dry", exempt, "", ""), "create", "--dry-run=server", "-f", "-")
		c.must(podOf("b7", exempt, "", ""), "create", "-f", "-")
		filter := url.QueryEscape(`resourceUrl="https://` + exempt + `"`)
		if code, said := c.gate.get("http://" + c.gate.Metadata + "/v1/projects/default/occurrences?filter=" + filter); code != http.StatusOK || strings.Contains(said, "noteName") {
			t.Errorf("%d %s", code, said)
		}
	})
}

// fields are places of images, B3 of the bypass classes and B8 of Kritis' holes.
func (c *cluster) fields(good string) {
	for what, pod := range map[string]string{
		"an init container":     podOf("f1", good, "", `, initContainers: [{name: i, image: "`+unattested+`"}]`),
		"a sidecar":             podOf("f2", good, "", `, initContainers: [{name: i, restartPolicy: Always, image: "`+unattested+`"}]`),
		"the second container":  podOf("f3", good, "", "") + "",
		"an image volume":       podOf("f4", good, "", `, volumes: [{name: v, image: {reference: "`+unattested+`"}}]`),
		"a mirror pod":          podOf("f5", unattested, `, annotations: {kubernetes.io/config.mirror: abc}`, ", nodeName: node-0"),
		"a tag":                 podOf("f6", "registry.test/evil/web:1.4", "", ""),
		"a tag and a digest":    podOf("f7", strings.Replace(unattested, "@", ":1.4@", 1), "", ""),
		"an exempt look-alike":  podOf("f8", "registry.test/exempt/../evil/web", "", ""),
		"an exempt host prefix": podOf("f9", "registry.test.evil/exempt/evil/web", "", ""),
		"a digest in the tag":   podOf("f10", "registry.test/evil/web:"+strings.TrimPrefix(good[strings.Index(good, "@"):], "@sha256:"), "", ""),
	} {
		if what == "the second container" {
			pod = strings.Replace(pod, "}]}", `}, {name: other, image: "`+unattested+`"}]}`, 1)
		}
		c.Run(what, func(t *testing.T) { c.at(t).denied(pod, "create", "-f", "-") })
	}
	c.Run("text that a terminal would obey", func(t *testing.T) {
		pod := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"f11","namespace":"shop"},"spec":{"containers":[{"name":"main","image":%q}]}}`, "evil/web\u001b[2J\u202e\nallowed")
		if said := c.at(t).denied(pod, "create", "-f", "-"); strings.ContainsAny(said, "\u001b\u202e") {
			t.Errorf("%q", said)
		}
	})
}

// requests are ways to ask, B4 and B5 of the bypass classes.
func (c *cluster) requests(good string) {
	pod := c.must("", "get", "pods", "-n", "shop", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	path := "/api/v1/namespaces/shop/pods/" + pod
	ephemeral := fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":"debug","image":%q,"targetContainerName":"main"}]}}`, unattested)
	changed := fmt.Sprintf(`{"spec":{"containers":[{"name":"main","image":%q}]}}`, unattested)
	for what, tc := range map[string]struct{ path, kind, body string }{
		"an ephemeral container, by strategic merge": {path + "/ephemeralcontainers", "application/strategic-merge-patch+json", ephemeral},
		"an ephemeral container, by merge":           {path + "/ephemeralcontainers", "application/merge-patch+json", ephemeral},
		"an ephemeral container, by JSON patch": {path + "/ephemeralcontainers", "application/json-patch+json",
			fmt.Sprintf(`[{"op":"add","path":"/spec/ephemeralContainers","value":[{"name":"debug","image":%q}]}]`, unattested)},
		"an ephemeral container, applied": {path + "/ephemeralcontainers?fieldManager=x&force=true", "application/apply-patch+yaml",
			strings.Replace(ephemeral, "{", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"`+pod+`"},`, 1)},
		"an image, by strategic merge": {path, "application/strategic-merge-patch+json", changed},
		"an image, by JSON patch": {path, "application/json-patch+json",
			fmt.Sprintf(`[{"op":"replace","path":"/spec/containers/0/image","value":%q}]`, unattested)},
		"an image, applied": {path + "?fieldManager=x&force=true", "application/apply-patch+yaml",
			strings.Replace(changed, "{", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"`+pod+`"},`, 1)},
		"an image, with a label": {path, "application/strategic-merge-patch+json", strings.Replace(changed, "{", `{"metadata":{"labels":{"a":"b"}},`, 1)},
		"a dry run":              {path + "?dryRun=All", "application/strategic-merge-patch+json", changed},
	} {
		c.Run(what, func(t *testing.T) {
			if status, said := c.at(t).patch(tc.path, tc.kind, tc.body); status != http.StatusForbidden || !strings.Contains(said, "VIOLATES_POLICY") || !strings.Contains(said, "denied the request") {
				t.Errorf("%d %s", status, said)
			}
		})
	}
	// These change no image, whatever they say.
	for _, sub := range []string{"status", "resize"} {
		c.Run("the subresource "+sub, func(t *testing.T) {
			c := c.at(t)
			c.patch(path+"/"+sub, "application/strategic-merge-patch+json", changed)
			if got := c.must("", "get", "pod", "-n", "shop", pod, "-o", "jsonpath={.spec.containers[0].image}"); got != good {
				t.Errorf("the image is %s", got)
			}
		})
	}
	c.Run("an attested ephemeral container is let in", func(t *testing.T) {
		if status, said := c.at(t).patch(path+"/ephemeralcontainers", "application/strategic-merge-patch+json", strings.ReplaceAll(ephemeral, unattested, good)); status != http.StatusOK {
			t.Errorf("%d %s", status, said)
		}
	})
	c.Run("a server-side dry run is answered", func(t *testing.T) { // that it leaves no record is seen in the end
		c := c.at(t)
		c.denied(podOf("dry", unattested, "", ""), "create", "--dry-run=server", "-f", "-")
		c.must(podOf("dry", unattested, `, labels: {image-policy.k8s.io/break-glass: "true"}`, ""), "create", "--dry-run=server", "-f", "-")
	})
}

// controllers make pods of templates that were let in.
func (c *cluster) controllers(good string) {
	c.must(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-0","labels":{"kubernetes.io/hostname":"node-0"}}}`, "create", "-f", "-")
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"} {
		c.Run("a "+kind, func(t *testing.T) {
			c := c.at(t)
			name := "c-" + strings.ToLower(kind)
			manifest := workloadOf(kind, name, unattested, 1)
			if kind == "ReplicaSet" {
				manifest = strings.Replace(manifest, "strategy: {type: Recreate}, ", "", 1)
			}
			if said := c.must(manifest, "apply", "--server-side", "-f", "-"); !strings.Contains(said, "Warning: gatehouse: its pods will be refused") {
				t.Errorf("no warning: %s", said)
			}
			if kind == "Deployment" {
				kind = "ReplicaSet"
			}
			c.refusedPods(kind, name, unattested)
		})
	}
	c.Run("a CronJob", func(t *testing.T) {
		c := c.at(t)
		c.must(workloadOf("CronJob", "c-cron", unattested, 1), "apply", "-f", "-")
		c.must("", "create", "job", "-n", "shop", "c-cron-now", "--from=cronjob/c-cron")
		c.refusedPods("Job", "c-cron-now", unattested)
	})
	c.Run("a PodTemplate", func(t *testing.T) {
		if said := c.at(t).must(workloadOf("PodTemplate", "c-template", unattested, 1), "apply", "-f", "-"); !strings.Contains(said, "Warning: gatehouse: its pods will be refused") {
			t.Errorf("no warning: %s", said)
		}
	})
	c.Run("one of zero replicas, scaled", func(t *testing.T) {
		c := c.at(t)
		c.must(workloadOf("Deployment", "c-zero", unattested, 0), "apply", "-f", "-")
		c.must("", "scale", "-n", "shop", "deployment/c-zero", "--replicas=2")
		c.refusedPods("ReplicaSet", "c-zero", unattested)
	})
	c.Run("one that is rolled back", func(t *testing.T) {
		c := c.at(t)
		c.must(workloadOf("Deployment", "c-undo", unattested, 1), "apply", "-f", "-")
		c.refusedPods("ReplicaSet", "c-undo", unattested)
		c.must("", "set", "image", "-n", "shop", "deployment/c-undo", "main="+good)
		c.pods("app=c-undo", 1)
		c.must("", "delete", "events", "-n", "shop", "--all")
		c.must("", "rollout", "undo", "-n", "shop", "deployment/c-undo")
		c.refusedPods("ReplicaSet", "c-undo", unattested)
	})
	c.Run("somebody who says to be one", func(t *testing.T) {
		c := c.at(t)
		for _, who := range []string{"system:serviceaccount:kube-system:replicaset-controller", "system:serviceaccount:kube-system:daemon-set-controller", "system:kube-controller-manager"} {
			c.denied(podOf("c-as", unattested, "", ""), "create", "-f", "-", "--as="+who, "--as-group=system:masters")
		}
	})
	c.Run("one that is attested makes its pods", func(t *testing.T) {
		c := c.at(t)
		for _, kind := range []string{"StatefulSet", "DaemonSet", "Job", "ReplicationController"} {
			name := "g-" + strings.ToLower(kind)
			if said := c.must(workloadOf(kind, name, good, 1), "apply", "-f", "-"); strings.Contains(said, "Warning") {
				t.Errorf("%s: %s", kind, said)
			}
			c.pods("app="+name, 1)
		}
	})
}

// mutator is B6 of the bypass classes: another webhook that changes what was created.
func (c *cluster) mutator(good string) {
	patch := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `[{"op":"replace","path":"/spec/containers/0/image","value":%q}]`, unattested))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct {
			Request struct{ UID string }
		}
		if err != nil || json.Unmarshal(body, &in) != nil {
			http.Error(w, "not a review", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true,"patchType":"JSONPatch","patch":%q}}`, in.Request.UID, patch)
	}))
	c.Cleanup(server.Close)
	configuration := map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": map[string]any{"name": "zz-mutator"},
		"webhooks": []any{map[string]any{
			"name": "zz.mutator.test", "clientConfig": map[string]any{"url": server.URL, "caBundle": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			"rules":          []any{map[string]any{"apiGroups": []string{""}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE"}, "resources": []string{"pods"}}},
			"objectSelector": map[string]any{"matchLabels": map[string]any{"mutate": "me"}},
			"sideEffects":    "None", "admissionReviewVersions": []string{"v1"}, "reinvocationPolicy": "Never",
		}},
	}
	const path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
	if status, said, err := c.Do(c.Context(), http.MethodPost, path, configuration); err != nil || status != http.StatusCreated {
		c.Fatalf("%d %s %v", status, said, err)
	}
	defer func() { _, _, _ = c.Do(c.Context(), http.MethodDelete, path+"/zz-mutator", nil) }()
	c.eventually("the other webhook to be asked, and the gate to see what it did", func() bool {
		ok, said := c.run(podOf("mutated", good, ", labels: {mutate: me}", ""), "create", "--dry-run=server", "-f", "-")
		return !ok && strings.Contains(said, "denied the request") && strings.Contains(said, unattested)
	})
	c.denied(podOf("mutated", good, ", labels: {mutate: me}", ""), "create", "-f", "-")
}

// claims are B17 and B18 of the bypass classes: what whoever deploys can write.
func (c *cluster) claims() {
	for _, label := range []string{"kritis-validation=disabled", "policy.sigstore.dev/exclude=true", "admission.gatekeeper.sh/ignore=no-self-managing", "gatehouse.dev/exempt=true", "image-policy.k8s.io/break-glass=true"} {
		c.must("", "label", "namespace", "shop", label)
	}
	c.denied(podOf("labelled", unattested, `, labels: {gatehouse.dev/verified: "true"}, annotations: {alpha.image-policy.k8s.io/failed-open: "true", imagepolicywebhook.image-policy.k8s.io/dry-run: "true"}`, ""), "create", "-f", "-")
	c.Run("break-glass leaves its trace", func(t *testing.T) {
		c := c.at(t)
		said := c.must(podOf("glass", "registry.test/glass:1", `, labels: {image-policy.k8s.io/break-glass: "true"}, annotations: {gatehouse.dev/break-glass-justification: INC-7}`, ""), "create", "-f", "-")
		if !strings.Contains(said, "Warning: gatehouse: break-glass: let in against policy, and recorded") {
			t.Errorf("no warning: %s", said)
		}
		if list := c.gate.decisions("glass"); !slices.Equal(list, []string{"pods admission DENY BREAK_GLASS"}) {
			t.Errorf("recorded %q", list)
		}
		c.auditedBy(webhookName+"/break-glass", "true")
		c.auditedBy(webhookName+"/overridden-verification-result", "'registry.test/glass:1' : Image registry.test/glass:1 denied by attestor projects/default/attestors/nobody")
	})
}

// auditedBy waits for an annotation in the API server's audit log.
func (c *cluster) auditedBy(key, value string) {
	c.Helper()
	c.eventually("the API server's audit annotation "+key, func() bool {
		for _, annotations := range c.auditAnnotations() {
			if strings.HasPrefix(annotations[key], value) {
				return true
			}
		}
		return false
	})
}

// passes are requests that must never be denied, whatever policy says now.
func (c *cluster) passes(good string) {
	c.Run("objects in deletion, and what changes no image", func(t *testing.T) {
		c := c.at(t)
		// It was let in by break-glass, and is unattested.
		c.must(podOf("held", "registry.test/held:1", `, finalizers: [gatehouse.dev/test], labels: {image-policy.k8s.io/break-glass: "true"}`, ""), "create", "-f", "-")
		c.must("", "label", "pod", "-n", "shop", "held", "image-policy.k8s.io/break-glass-", "a=b")
		c.must("", "delete", "pod", "-n", "shop", "held", "--wait=false")
		c.must("", "label", "pod", "-n", "shop", "held", "c=d")
		c.must("", "patch", "pod", "-n", "shop", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		c.must("", "delete", "pod", "-n", "shop", "held", "--ignore-not-found", "--force", "--grace-period=0")
		want := []string{"pods admission DENY BREAK_GLASS", "pods unchanged", "pods deleting", "pods deleting"}
		c.eventually(fmt.Sprintf("the records %q", want), func() bool { // within 100 ms
			got := c.gate.decisions("held")
			return len(got) >= len(want) && slices.Equal(got[:len(want)], want)
		})
	})
	c.Run("scaling down and deleting what is not attested", func(t *testing.T) {
		c := c.at(t)
		c.must("", "scale", "-n", "shop", "deployment/c-zero", "--replicas=0")
		c.must("", "annotate", "-n", "shop", "deployment/c-zero", "a=b")
		c.must("", "delete", "-n", "shop", "deployment/c-zero", "--wait=false")
	})
}

// gone is B16: no answer is no permission.
func (c *cluster) gone(good string) {
	if err := c.gate.stop(); err != nil {
		c.Fatal(err)
	}
	if list := c.gate.decisions("dry"); len(list) > 0 {
		c.Errorf("dry runs were recorded as if they were none: %v", list)
	}
	for _, image := range []string{good, unattested} {
		if ok, said := c.run(podOf("gone", image, "", ""), "create", "-f", "-"); ok || !strings.Contains(said, "failed calling webhook") {
			c.Errorf("success %v: %s", ok, said)
		}
	}
	c.must(strings.Replace(podOf("system", unattested, "", ""), "shop", "kube-system", 1), "create", "--dry-run=server", "-f", "-")
}
