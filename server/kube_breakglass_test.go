package server

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// TestBreakGlassByRBACOnARealAPIServer: the people behind the pods of Deployments are
// asked about, and an API server answers by its rules.
func TestBreakGlassByRBACOnARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	plane := controlplane.New(t, controlplane.Options{})
	c := &cluster{T: t, ControlPlane: plane}
	c.gate = start(t, kubeConfig(t, kubePolicy, func(cfg *Config) {
		cfg.BreakGlass.Modes, cfg.BreakGlass.Kubeconfig = []breakglass.Mode{breakglass.RBAC}, plane.Kubeconfig()
	}))
	for _, namespace := range []string{"shop", "open"} {
		c.must("", "create", "namespace", namespace)
		c.eventually("the service account of "+namespace, func() bool {
			ok, _ := c.run("", "get", "serviceaccount", "default", "-n", namespace)
			return ok
		})
	}
	// ann may break glass in shop, and bob may do all else there.
	c.must("", "create", "clusterrolebinding", "edits", "--clusterrole=edit", "--user=ann", "--user=bob")
	c.must(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: breakglass, namespace: shop}
rules: [{apiGroups: [gatehouse.dev], resources: [workloads], verbs: [breakglass]}]
`, "create", "-f", "-")
	c.must("", "create", "rolebinding", "breakglass", "-n", "shop", "--role=breakglass", "--user=ann")
	c.register()
	if said := c.denied(glassDeployment("bobs", 1), "create", "--as=bob", "-f", "-"); !strings.Contains(said, `"bob" may not do the verb breakglass`) {
		t.Errorf("bob is told: %s", said)
	}
	c.must(glassDeployment("anns", 1), "create", "--as=ann", "-f", "-")
	pods := func() []string {
		_, said := c.run("", "get", "pods", "-n", "shop", "-l", "app=anns", "-o", "name")
		return strings.Fields(said)
	}
	c.eventually("the pod of ann's Deployment", func() bool { return len(pods()) == 1 })
	code, text := c.gate.get("http://" + c.gate.Metadata + "/v1/projects/default/breakGlassIncidents")
	if code != 200 || strings.Count(text, `"id":`) == 0 || !strings.Contains(text, `"name":"anns"`) || !strings.Contains(text, `"name":"ann"`) || strings.Contains(text, "ReplicaSet") {
		t.Errorf("the incident: %d %s", code, text)
	}

	t.Run("behind several gates", func(t *testing.T) { c.at(t).severalGates() })
	c.register()

	// Who may no more has no pods made again, and their controller is told why.
	c.must("", "delete", "rolebinding", "breakglass", "-n", "shop")
	within(t, "the gate has forgotten what it was told", func() bool {
		ok, _ := c.run(podOf("anns", unattested, `, labels: {image-policy.k8s.io/break-glass: "true"}`, ""), "create", "--dry-run=server", "--as=ann", "-f", "-")
		return !ok
	})
	c.must("", "delete", "pods", "-n", "shop", "-l", "app=anns", "--force", "--grace-period=0")
	c.eventually("an event that says that ann may not", func() bool {
		_, said := c.run("", "get", "events", "-n", "shop", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(said, `"ann" may not do the verb breakglass`)
	})
}

// glassDeployment is a Deployment with a marker on its template.
func glassDeployment(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: shop}
spec:
  replicas: %d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, image-policy.k8s.io/break-glass: "true"}}
    spec: {containers: [{name: c, image: %[3]q}]}
`, name, replicas, unattested)
}

// severalGates are three behind one address: one sees Deployments written, one replica
// sets, and one pods. Who wrote the Deployment is known where its pods are judged.
func (c *cluster) severalGates() {
	c.Helper()
	server := c.gate
	launch := func(name string) *running {
		return start(c.T, gateConfig(c.T, "http://"+server.Metadata, func(cfg *Config) {
			cfg.Cluster, cfg.Admission.Feed.Gate = "us-east1-b.prod", name
			cfg.Admission.PolicyFiles = []string{write(c.T, filepath.Join(c.TempDir(), "policy.yaml"), kubePolicy)}
			cfg.BreakGlass.Modes, cfg.BreakGlass.Kubeconfig = []breakglass.Mode{breakglass.RBAC}, c.Kubeconfig()
		}))
	}
	gates := map[string]*running{"deployments": launch("deployments"), "replicasets": launch("replicasets"), "pods": launch("pods")}
	door := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct {
			Request struct{ Resource struct{ Resource string } }
		}
		if err != nil || json.Unmarshal(body, &in) != nil || gates[in.Request.Resource.Resource] == nil {
			http.Error(w, "not a review of these", http.StatusBadRequest)
			return
		}
		gate := gates[in.Request.Resource.Resource]
		resp, err := gate.gate.Post("https://"+gate.Admission+r.URL.String(), "application/json", bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, resp.Body)
	}))
	c.Cleanup(door.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: door.Certificate().Raw})
	if err := c.RegisterWebhook(c.Context(), webhookName, door.URL+"/validate", ca); err != nil {
		c.Fatal(err)
	}
	c.must(glassDeployment("split", 2), "create", "--as=ann", "-f", "-")
	begun := time.Now()
	c.pods("app=split", 2)
	c.Logf("two pods after %v", time.Since(begun).Round(time.Millisecond))
	within(c.T, "the service has one incident of the three gates", func() bool {
		list := server.incidents("split")
		// The Deployment, its replica set, and two pods.
		return len(list) == 1 && list[0].Uses == 4 && list[0].Pods == 2 && len(list[0].Gates) == 3 && len(list[0].People) == 1 && list[0].People[0].Name == "ann"
	})
	pod := podOf("stray", unattested, `, labels: {image-policy.k8s.io/break-glass: "true", pod-template-hash: "x"}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: stray-x, uid: unknown, controller: true}]`, "")
	said := c.denied(pod, "create", "-f", "-", "--as=system:serviceaccount:kube-system:replicaset-controller", "--as-group=system:masters")
	if !strings.Contains(said, "is not known; write its template once more") {
		c.Errorf("of a workload that nobody has seen: %s", said)
	}
}
