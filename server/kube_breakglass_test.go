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
	"slices"
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

// TestNothingSilencesBreakGlass tries, on a real API server with its controllers, what
// could keep a use of break-glass from being seen, and what ends an incident. The results
// are those of the table in docs/break-glass.md.
func TestNothingSilencesBreakGlass(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	plane := controlplane.New(t, controlplane.Options{})
	c := &cluster{T: t, ControlPlane: plane}
	people := newTold(t)
	c.gate = start(t, kubeConfig(t, kubePolicy, func(cfg *Config) {
		tells(t, people)(cfg)
		cfg.Notify.Routes[0].GroupWait = 2 * time.Second
		cfg.BreakGlass.CloseWhenGone, cfg.BreakGlass.GoneAfter, cfg.BreakGlass.Kubeconfig = true, 5*time.Second, plane.Kubeconfig()
	}))
	for _, namespace := range []string{"shop", "quiet"} {
		c.must("", "create", "namespace", namespace)
		c.eventually("the service account of "+namespace, func() bool {
			ok, _ := c.run("", "get", "serviceaccount", "default", "-n", namespace)
			return ok
		})
	}
	c.must("", "create", "clusterrolebinding", "edits", "--clusterrole=edit", "--user=bob")
	c.register()
	t.Run("pods that a controller makes", func(t *testing.T) { c.at(t).madeByAController() })
	t.Run("a marker that an update adds", func(t *testing.T) { c.at(t).markedByUpdate() })
	t.Run("a marker that is taken off", func(t *testing.T) { c.at(t).markerTakenOff() })
	t.Run("a webhook that takes it off before", func(t *testing.T) { c.at(t).strippedBefore() })
	t.Run("a server dry run", func(t *testing.T) { c.at(t).dryRun() })
	t.Run("a namespace that opts out by its labels", func(t *testing.T) { c.at(t).optOutByLabel() })
	t.Run("a namespace that the webhook leaves out", func(t *testing.T) { c.at(t).optOutBySelector() })
	t.Run("a storm", func(t *testing.T) { c.at(t).storm(people) })
	t.Run("it is over when no pod has the image any more", func(t *testing.T) { c.at(t).gonePods() })
}

const glassLabel = `, labels: {image-policy.k8s.io/break-glass: "true"}`

// exemptImage is one that policy allows.
const exemptImage = "registry.test/exempt/web@sha256:1111111111111111111111111111111111111111111111111111111111111111"

// incident is the one whose workload has this name.
func (c *cluster) incident(workload string) breakglass.Incident {
	c.Helper()
	var found breakglass.Incident
	for _, i := range c.gate.incidents(workload) {
		if i.Workload.Name == workload {
			if found.ID != "" {
				c.Errorf("two incidents of %s", workload)
			}
			found = i
		}
	}
	return found
}

func (c *cluster) noIncident(workload string) {
	c.Helper()
	if i := c.incident(workload); i.ID != "" {
		c.Errorf("there is an incident: %+v", i)
	}
}

func (c *cluster) madeByAController() {
	c.must(glassDeployment("made", 2), "create", "--as=bob", "-f", "-")
	c.pods("app=made", 2)
	if i := c.incident("made"); i.Pods != 2 || i.Uses != 4 || i.Workload.Kind != "Deployment" || len(i.People) != 1 || i.People[0].Name != "bob" {
		c.Errorf("the incident: %+v", i)
	}
	if list := c.gate.decisions("made"); len(list) != 4 {
		c.Errorf("recorded %q", list)
	}
}

func (c *cluster) markedByUpdate() {
	c.must(podOf("marked", exemptImage, "", ""), "create", "-f", "-")
	c.must("", "label", "pod", "-n", "shop", "marked", "image-policy.k8s.io/break-glass=true")
	c.noIncident("marked")
	c.must("", "set", "image", "-n", "shop", "pod/marked", "main="+unattested, "--as=bob")
	if i := c.incident("marked"); i.Uses != 1 || len(i.People) != 1 || i.People[0].Name != "bob" {
		c.Errorf("the incident of the other image: %+v", i)
	}
	c.must(workloadOf("Deployment", "template", exemptImage, 1), "create", "-f", "-")
	c.pods("app=template", 1)
	c.must("", "patch", "deployment", "-n", "shop", "template", "--as=bob", "--patch",
		fmt.Sprintf(`{"spec":{"template":{"metadata":{"labels":{"image-policy.k8s.io/break-glass":"true"}},"spec":{"containers":[{"name":"main","image":%q}]}}}}`, unattested))
	c.eventually("the pod of the template", func() bool { return c.incident("template").Pods > 0 })
	if i := c.incident("template"); len(i.People) != 1 || i.People[0].Name != "bob" {
		c.Errorf("the incident: %+v", i)
	}
}

func (c *cluster) markerTakenOff() {
	c.must(podOf("off", unattested, glassLabel, ""), "create", "-f", "-")
	c.must("", "label", "pod", "-n", "shop", "off", "image-policy.k8s.io/break-glass-")
	if i := c.incident("off"); i.Uses != 1 || i.State != breakglass.StateOpen {
		c.Errorf("the incident: %+v", i)
	}
}

func (c *cluster) strippedBefore() {
	defer c.mutates(`[{"op":"remove","path":"/metadata/labels/image-policy.k8s.io~1break-glass"}]`)()
	pod := podOf("stripped", unattested, `, labels: {image-policy.k8s.io/break-glass: "true", mutate: me}`, "")
	c.eventually("the other webhook is asked", func() bool {
		ok, said := c.run(pod, "create", "--dry-run=server", "-f", "-")
		return !ok && strings.Contains(said, "denied the request")
	})
	c.denied(pod, "create", "-f", "-")
	c.noIncident("stripped")
}

func (c *cluster) dryRun() {
	c.must(podOf("dry", unattested, glassLabel, ""), "create", "--dry-run=server", "-f", "-")
	c.must(podOf("wet", unattested, glassLabel, ""), "create", "-f", "-")
	if c.incident("wet").Uses != 1 { // so that the record before it is counted too, if there is one
		c.Error("there is no incident of the pod that is created")
	}
	c.noIncident("dry")
}

func (c *cluster) optOutByLabel() {
	for _, label := range []string{"kritis-validation=disabled", "policy.sigstore.dev/exclude=true", "image-policy.k8s.io/break-glass=true"} {
		c.must("", "label", "namespace", "shop", label)
	}
	c.denied(podOf("optout", unattested, "", ""), "create", "-f", "-")
	c.must(podOf("optout", unattested, glassLabel, ""), "create", "-f", "-")
	if i := c.incident("optout"); i.Uses != 1 {
		c.Errorf("the incident: %+v", i)
	}
}

// optOutBySelector: the gate is not asked, and so there is no trace of it.
func (c *cluster) optOutBySelector() {
	pod := strings.Replace(podOf("quiet", unattested, glassLabel, ""), "shop", "quiet", 1)
	plain := strings.Replace(podOf("quiet", unattested, "", ""), "shop", "quiet", 1)
	c.denied(plain, "create", "-f", "-")
	configuration := func(names string) {
		c.must("", "patch", "validatingwebhookconfiguration", webhookName, "--type=json", "--patch",
			`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":[`+names+`]}]}}]`)
	}
	configuration(`"kube-system","quiet"`)
	c.eventually("the webhook leaves the namespace out", func() bool {
		ok, _ := c.run(plain, "create", "--dry-run=server", "-f", "-")
		return ok
	})
	c.must(pod, "create", "-f", "-")
	c.noIncident("quiet")
	configuration(`"kube-system"`)
	c.eventually("the webhook is asked again", func() bool {
		ok, _ := c.run(strings.Replace(plain, `"quiet"`, `"loud"`, 1), "create", "--dry-run=server", "-f", "-")
		return !ok
	})
	c.must("", "delete", "pod", "-n", "quiet", "quiet", "--force", "--grace-period=0")
}

// storm is 400 pods of 50 Deployments.
func (c *cluster) storm(people *told) {
	const workloads, each = 50, 8
	before := people.count()
	var all []string
	for n := range workloads {
		all = append(all, glassDeployment(fmt.Sprintf("storm-%02d", n), each))
	}
	begun := time.Now()
	c.must(strings.Join(all, "---"), "create", "-f", "-")
	var list []breakglass.Incident
	c.eventually("all pods", func() bool {
		list = slices.DeleteFunc(c.gate.incidents("storm-"), func(i breakglass.Incident) bool { return i.Pods != each })
		return len(list) == workloads
	})
	c.Logf("%d pods of %d Deployments in %v", workloads*each, workloads, time.Since(begun).Round(time.Millisecond))
	for _, i := range list {
		if i.Uses != each+2 {
			c.Errorf("%s: %d uses, want %d pods, the Deployment and its replica set", i.Workload, i.Uses, each)
		}
	}
	c.eventually("people are told of all", func() bool {
		opened := slices.DeleteFunc(people.all(), func(m string) bool { return !strings.HasPrefix(m, "incident.opened ") })
		return len(opened) >= workloads
	})
	if n := people.count() - before; n > 15 {
		c.Errorf("%d pages", n)
	} else {
		c.Logf("%d pages", n)
	}
}

func (c *cluster) gonePods() {
	for name, digits := range map[string]string{"stays": "cc", "gone": "dd"} {
		c.must(podOf(name, strings.ReplaceAll(unattested, "ee", digits), glassLabel, ""), "create", "-f", "-")
		if i := c.incident(name); i.State != breakglass.StateOpen {
			c.Fatalf("the incident: %+v", i)
		}
	}
	c.must("", "delete", "pod", "-n", "shop", "gone", "--force", "--grace-period=0")
	c.eventually("the incident is over", func() bool { return c.incident("gone").State == breakglass.StateResolved })
	if i := c.incident("stays"); i.State != breakglass.StateOpen {
		c.Errorf("the pod is there, and the incident: %+v", i)
	}
	i := c.incident("gone")
	if last := i.History[len(i.History)-1]; last.What != breakglass.EventClosed || !strings.Contains(last.Text, "no pod in the namespace") {
		c.Errorf("the incident: %+v", i)
	}
}
