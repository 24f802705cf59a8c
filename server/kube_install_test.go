package server

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// documented returns the webhook configuration of the manual, for this gate.
func (c *cluster) documented() string {
	c.Helper()
	text, err := os.ReadFile("../docs/gate.md")
	if err != nil {
		c.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "## Registering the webhook\n\n```yaml\n")
	manifest, _, found := strings.Cut(rest, "```")
	const service = "service: {namespace: gatehouse, name: gatehouse, path: /validate, port: 443}"
	if !found || !strings.Contains(manifest, service) {
		c.Fatal("the manual has no such configuration")
	}
	manifest = strings.Replace(manifest, service, "url: https://"+c.gate.Admission+"/validate", 1)
	return strings.Replace(manifest, "BASE64", base64.StdEncoding.EncodeToString(c.ca()), 1)
}

// TestAClusterStartsWhileTheGateIsDown: with what the manual says to register, which
// fails closed, a control plane comes up, what the gate itself needs can be created, and
// all else can once the gate is there.
func TestAClusterStartsWhileTheGateIsDown(t *testing.T) {
	t.Parallel()
	cfg := kubeConfig(t, openPolicy, nil)
	dir := filepath.Join(t.TempDir(), "kube")
	c := newCluster(t, controlplane.Options{Dir: dir}, cfg)
	c.must(c.documented(), "apply", "-f", "-")
	c.must("", "create", "namespace", "gatehouse")
	c.eventually("the service account of gatehouse", func() bool {
		ok, _ := c.run("", "get", "serviceaccount", "default", "-n", "gatehouse")
		return ok
	})
	pod := podOf("web", "registry.test/web:1", ", finalizers: [gatehouse.dev/test]", "")
	c.must(pod, "create", "-f", "-")
	c.must(workloadOf("Deployment", "later", "registry.test/web:1", 1), "create", "-f", "-")
	c.pods("app=later", 1)
	c.must("", "delete", "pod", "-n", "shop", "web", "--wait=false")
	address := c.gate.Admission
	if err := c.gate.stop(); err != nil {
		t.Fatal(err)
	}
	c.Stop()

	c.ControlPlane = controlplane.New(t, controlplane.Options{Dir: dir}) // which waits for the controllers
	c.eventually("the webhook to fail closed", func() bool {
		_, said := c.run(podOf("probe", "registry.test/web:1", "", ""), "create", "--dry-run=server", "-f", "-")
		return strings.Contains(said, "failed calling webhook")
	})
	for _, namespace := range []string{"kube-system", "gatehouse"} {
		c.must("", "run", "needed", "-n", namespace, "--image=registry.test/gatehouse:1")
	}
	c.must("", "patch", "pod", "-n", "shop", "web", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	c.must("", "delete", "pod", "-n", "shop", "-l", "app=later", "--force", "--grace-period=0")

	cfg.Admission.Address = address
	c.gate = start(t, cfg)
	c.pods("app=later", 1) // by its controller, which tries again
	c.must(podOf("new", "registry.test/web:1", "", ""), "create", "-f", "-")
}
