package server

import (
	"fmt"
	"strings"
	"testing"

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
	deployment := func(name string) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, image-policy.k8s.io/break-glass: "true"}}
    spec: {containers: [{name: c, image: %q}]}
`, name, unattested)
	}
	if said := c.denied(deployment("bobs"), "create", "--as=bob", "-f", "-"); !strings.Contains(said, `"bob" may not do the verb breakglass`) {
		t.Errorf("bob is told: %s", said)
	}
	c.must(deployment("anns"), "create", "--as=ann", "-f", "-")
	pods := func() []string {
		_, said := c.run("", "get", "pods", "-n", "shop", "-l", "app=anns", "-o", "name")
		return strings.Fields(said)
	}
	c.eventually("the pod of ann's Deployment", func() bool { return len(pods()) == 1 })
	code, text := c.gate.get("http://" + c.gate.Metadata + "/v1/projects/default/breakGlassIncidents")
	if code != 200 || strings.Count(text, `"id":`) == 0 || !strings.Contains(text, `"name":"anns"`) || !strings.Contains(text, `"name":"ann"`) || strings.Contains(text, "ReplicaSet") {
		t.Errorf("the incident: %d %s", code, text)
	}

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
