package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// pluginCluster is a real API server whose ImagePolicyWebhook plugin asks a gate at a
// path.
func pluginCluster(t *testing.T, path, policy string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	c := &cluster{T: t, gate: start(t, kubeConfig(t, policy, nil))}
	c.ControlPlane = controlplane.New(t, controlplane.Options{
		AdmissionOnly:      true,
		ImagePolicyWebhook: &controlplane.ImagePolicyWebhook{URL: "https://" + c.gate.Admission + path, CA: c.ca(), DefaultAllow: true},
	})
	c.must("", "create", "namespace", "shop")
	return c
}

// refused runs kubectl, which must fail because the plugin was told to refuse.
func (c *cluster) refused(manifest string, args ...string) string {
	c.Helper()
	ok, said := c.run(manifest, args...)
	if ok || !strings.Contains(said, "image policy webhook backend denied one or more images: ") {
		c.Errorf("kubectl %s: want the plugin's denial, got success %v: %s", strings.Join(args, " "), ok, said)
	}
	return said
}

func TestTheImagePolicyWebhookPluginIsAnswered(t *testing.T) {
	t.Parallel()
	c := pluginCluster(t, "/imagereview", kubePolicy)
	image := push(t, "65532")
	c.gate.check(image, "nobody", true)
	good := image.String()

	t.Run("attested is let in", func(t *testing.T) {
		c.at(t).must(podOf("good", good, "", ""), "create", "-f", "-")
	})
	t.Run("unattested is refused, and told why", func(t *testing.T) {
		said := c.at(t).refused(podOf("bad", unattested, "", ""), "create", "-f", "-")
		if !strings.Contains(said, "Image "+unattested+" denied by Binary Authorization default admission rule. Image "+unattested+" denied by attestor projects/default/attestors/nobody") {
			t.Error(said)
		}
	})
	t.Run("an init container counts", func(t *testing.T) {
		c.at(t).refused(podOf("init", good, "", `, initContainers: [{name: i, image: "`+unattested+`"}]`), "create", "-f", "-")
	})
	t.Run("an update counts", func(t *testing.T) {
		c.at(t).refused("", "set", "image", "-n", "shop", "pod/good", "main="+unattested)
	})
	t.Run("an ephemeral container counts", func(t *testing.T) {
		status, said := c.at(t).patch("/api/v1/namespaces/shop/pods/good/ephemeralcontainers", "application/strategic-merge-patch+json",
			fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, unattested))
		if status != http.StatusForbidden || !strings.Contains(said, "image policy webhook backend denied") {
			t.Errorf("%d %s", status, said)
		}
	})
	t.Run("the namespace counts", func(t *testing.T) {
		c := c.at(t)
		c.must("", "create", "namespace", "open")
		c.must("", "run", "anything", "-n", "open", "--image=registry.test/anything:1")
	})
	t.Run("the label of break-glass does not arrive", func(t *testing.T) {
		c.at(t).refused(podOf("label", unattested, `, labels: {image-policy.k8s.io/break-glass: "true"}`, ""), "create", "-f", "-")
	})
	t.Run("the alpha annotation of break-glass does, and leaves its trace", func(t *testing.T) {
		c := c.at(t)
		c.must(podOf("glass", "registry.test/glass:1", `, annotations: {alpha.image-policy.k8s.io/break-glass: "true"}`, ""), "create", "-f", "-")
		c.auditedBy("imagepolicywebhook.image-policy.k8s.io/break-glass", "true")
		c.auditedBy("imagepolicywebhook.image-policy.k8s.io/overridden-verification-result", "'registry.test/glass:1' : Image registry.test/glass:1 denied by attestor projects/default/attestors/nobody")
	})
	t.Run("and all of it is on record", func(t *testing.T) {
		c := c.at(t)
		_, metrics := c.gate.get("http://" + c.gate.Ops + "/metrics")
		for _, want := range []string{
			`gatehouse_admission_decisions_total{dry_run="false",override="",resource="imagereviews.imagepolicy.k8s.io",verdict="ALLOW"} 2`,
			`gatehouse_admission_decisions_total{dry_run="false",override="BREAK_GLASS",resource="imagereviews.imagepolicy.k8s.io",verdict="DENY"} 1`,
		} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %s", want)
			}
		}
		if err := c.gate.stop(); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, d := range c.gate.decisions("") {
			counts[d]++
		}
		const resource = "imagereviews.imagepolicy.k8s.io admission "
		if counts[resource+"ALLOW"] != 2 || counts[resource+"DENY BREAK_GLASS"] != 1 || counts[resource+"DENY"] != 5 {
			t.Errorf("recorded %v", counts)
		}
	})
}

func TestTheImagePolicyWebhookPluginOfAnotherCluster(t *testing.T) {
	t.Parallel()
	const rules = "clusterAdmissionRules: {us-west1-a.stage: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}\n"
	c := pluginCluster(t, "/imagereview/us-west1-a.stage", rules+enforced)
	c.must(podOf("stage", unattested, "", ""), "create", "-f", "-")
}

// TestAPolicyThatAnImageReviewCannotBeAskedFor: it denies, even where the plugin lets in
// what it could not ask about.
func TestAPolicyThatAnImageReviewCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	const rules = "admissionWhitelistPatterns: [{namePattern: registry.test/exempt/*}]\n" +
		"kubernetesServiceAccountAdmissionRules: {\"shop:robot\": {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}\n"
	c := pluginCluster(t, "/imagereview", rules+openPolicy)
	said := c.refused(podOf("any", unattested, "", ""), "create", "-f", "-")
	if !strings.Contains(said, "rules by service account or Istio identity, which the API server's ImagePolicyWebhook plugin does not send; register the admission webhook instead") {
		t.Error(said)
	}
	c.must(podOf("exempt", "registry.test/exempt/web:1", "", ""), "create", "-f", "-")
}
