package install

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/helm"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	ownImage   = "ghcr.io/gatehouse-dev/gatehouse:0.1.0"
	otherImage = "registry.test/web:1"
	// bound is how long a cluster may take for what a test waits for.
	bound = 2 * time.Minute
)

// A place is a real cluster, and a gate that lets everything in and remembers what it was
// asked.
type place struct {
	*testing.T
	*controlplane.ControlPlane
	helm *helm.Helm
	kube *kube.Client
	gate *recorder
}

type recorder struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]bool
}

func startRecorder() *recorder {
	r := &recorder{asked: map[string]bool{}}
	r.Server = httptest.NewTLSServer(r)
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var review struct {
		Request struct {
			UID       string `json:"uid"`
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"request"`
	}
	if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.asked[review.Request.Namespace+"/"+review.Request.Name] = true
	r.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"response": map[string]any{"uid": review.Request.UID, "allowed": true}}) // the client is the API server
}

// forget says whether there was a question about an object, and forgets all.
func (r *recorder) forget(object string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.asked[object]
	clear(r.asked)
	return was
}

func (r *recorder) root() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}))
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	p := &place{T: t, ControlPlane: controlplane.New(t, controlplane.Options{}), gate: startRecorder()}
	t.Cleanup(p.gate.Close)
	p.helm = helm.New(t, p.Kubeconfig())
	p.kube = p.client(p.Kubeconfig())
	return p
}

func (p *place) client(kubeconfig string) *kube.Client {
	p.Helper()
	client, err := kube.Open(kube.Options{Kubeconfig: kubeconfig})
	if err != nil {
		p.Fatal(err)
	}
	return client
}

func (p *place) kubectl(stdin string, args ...string) (string, error) {
	out, said, err := p.Kubectl(p.Context(), strings.NewReader(stdin), args...)
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, said)
	}
	return out, nil
}

func (p *place) must(stdin string, args ...string) string {
	p.Helper()
	out, err := p.kubectl(stdin, args...)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

func (p *place) mustHelm(args ...string) string {
	p.Helper()
	out, err := p.helm.Run(p.Context(), args...)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

func (p *place) eventually(what string, done func() bool) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), bound)
	defer cancel()
	c := Cluster{Poll: 100 * time.Millisecond}
	if err := c.wait(ctx, func(context.Context) (string, error) {
		if done() {
			return "", nil
		}
		return what, nil
	}); err != nil {
		p.Fatal(err)
	}
}

// with is p for a subtest.
func (p *place) with(t *testing.T) *place {
	other := *p
	other.T = t
	return &other
}

// arm does what the controller does once a gate has answered.
func (p *place) arm(kind, name string) {
	p.Helper()
	at := []string{"apis", "admissionregistration.k8s.io", "v1", kind, name}
	var now Object
	if err := p.kube.Get(p.Context(), &now, nil, at...); err != nil {
		p.Fatal(err)
	}
	var webhooks []map[string]any
	if err := unmarshal([]byte(now.annotation(annotationWebhooks)), &webhooks); err != nil {
		p.Fatal(err)
	}
	for _, w := range webhooks {
		w["clientConfig"].(map[string]any)["caBundle"] = base64.StdEncoding.EncodeToString([]byte(p.gate.root()))
	}
	if err := p.kube.Merge(p.Context(), map[string]any{"webhooks": webhooks}, nil, at...); err != nil {
		p.Fatal(err)
	}
}

func (p *place) armGate() {
	p.Helper()
	p.arm("validatingwebhookconfigurations", "gatehouse")
	p.eventually("the webhook to be asked", func() bool {
		_, _ = p.kubectl(pod("probe", "default", otherImage), "create", "--dry-run=server", "-f", "-")
		return p.gate.forget("default/probe")
	})
}

// webhooks returns what is in force.
func (p *place) webhooks() any {
	p.Helper()
	var now Object
	if err := p.kube.Get(p.Context(), &now, nil, "apis", "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "gatehouse"); err != nil {
		p.Fatal(err)
	}
	return now["webhooks"]
}

// remains lists the objects of the installation, but for those that are to stay.
func (p *place) remains() []string {
	p.Helper()
	c := Cluster{Client: p.kube}
	var all []string
	for _, k := range append(kinds(), volumes()) {
		found, err := c.ours(p.Context(), k, "gatehouse", "gatehouse")
		if err != nil {
			p.Fatal(err)
		}
		for _, o := range found {
			if reason(k) == "" {
				all = append(all, o.String())
			}
		}
	}
	return all
}

func pod(name, namespace, image string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: {containers: [{name: c, image: %q,
  securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}}]}}`, name, namespace, image)
}

func deployment(name, namespace, image string) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: %s}, spec: {replicas: 0, selector: {matchLabels: {app: %s}},
  template: {metadata: {labels: {app: %s}}, spec: {containers: [{name: c, image: %q}]}}}}`, name, namespace, name, name, image)
}

// TestHelmInstallsUpgradesAndUninstalls, and gatehouse install does, in the same cluster.
func TestHelmInstallsUpgradesAndUninstalls(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	set := "webhook.url=" + p.gate.URL
	p.mustHelm("install", "gatehouse", "testdata/first-version.tgz", "--namespace", "gatehouse", "--create-namespace", "--set", set)
	for _, namespace := range []string{"default", "gatehouse"} {
		p.eventually("a service account", func() bool {
			_, err := p.kubectl("", "get", "serviceaccount", "default", "-n", namespace)
			return err == nil
		})
	}
	t.Run("nothing is asked before the controller has had an answer", func(t *testing.T) {
		p := p.with(t)
		if p.webhooks() != nil {
			t.Errorf("in force: %v", p.webhooks())
		}
		p.must(pod("early", "default", otherImage), "create", "-f", "-")
		if p.gate.forget("default/early") {
			t.Error("it was asked")
		}
	})
	p.must(`{"data":{"ca.key":"c2VjcmV0"}}`, "patch", "secret", "gatehouse-ca", "-n", "gatehouse", "--type=merge", "-p", `{"data":{"ca.key":"c2VjcmV0"}}`)
	p.must("", "patch", "lease", "gatehouse-controller", "-n", "gatehouse", "--type=merge", "-p", `{"spec":{"holderIdentity":"controller-0"}}`)
	p.armGate()
	inForce := p.webhooks()

	for _, way := range [][]string{{"--server-side=auto"}, {"--server-side=false", "--set", "webhook.timeoutSeconds=7"}, {"--server-side=true", "--force-conflicts"}} {
		t.Run("an upgrade leaves what the controller wrote: "+way[0], func(t *testing.T) {
			p := p.with(t)
			p.mustHelm(append([]string{"upgrade", "gatehouse", chartDir, "--namespace", "gatehouse", "--set", set, "--set", "gate.replicas=2"}, way...)...)
			if diff := cmp.Diff(inForce, p.webhooks()); diff != "" {
				t.Errorf("webhooks were -, are +:\n%s", diff)
			}
			if got := p.must("", "get", "secret", "gatehouse-ca", "-n", "gatehouse", "-o", "jsonpath={.data.ca\\.key}"); got != "c2VjcmV0" {
				t.Errorf("the CA's key is %q", got)
			}
			if got := p.must("", "get", "lease", "gatehouse-controller", "-n", "gatehouse", "-o", "jsonpath={.spec.holderIdentity}"); got != "controller-0" {
				t.Errorf("the lease is held by %q", got)
			}
			if got := p.must("", "get", "deployment", "gatehouse-gate", "-n", "gatehouse", "-o", "jsonpath={.spec.replicas}"); got != "2" {
				t.Errorf("%s gates", got)
			}
		})
	}
	t.Run("what is asked", func(t *testing.T) { p.with(t).conditions() })
	t.Run("the gate is away", func(t *testing.T) { p.with(t).gateAway() })
	t.Run("gatehouse install leaves alone what Helm has installed", func(t *testing.T) {
		c := Cluster{Client: p.kube}
		_, err := c.Install(t.Context(), Options{Name: "gatehouse", Namespace: "gatehouse"})
		if err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "helm upgrade") {
			t.Error(err)
		}
		if _, _, err := c.Uninstall(t.Context(), "gatehouse", "gatehouse", false); err == nil || !strings.Contains(err.Error(), "helm uninstall") {
			t.Error(err)
		}
	})
	t.Run("helm uninstall leaves what the manual names", func(t *testing.T) {
		p := p.with(t)
		p.mustHelm("uninstall", "gatehouse", "--namespace", "gatehouse")
		if left := p.remains(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		p.must("", "get", "crd", "imagesecuritypolicies.kritis.grafeas.io", "policies.gatehouse.dev")
		p.must(pod("late", "default", otherImage), "create", "-f", "-")
	})
	t.Run("gatehouse install", func(t *testing.T) { p.with(t).ownInstall(set) })
}

// conditions tries which requests are asked about. The gate would let all of them in.
func (p *place) conditions() {
	p.must("", "create", "namespace", "kube-exempt") // which is not exempt, whatever it is called
	p.must("", "label", "namespace", "kube-exempt", "kritis-validation=disabled")
	p.must(pod("old", "default", otherImage), "create", "-f", "-")
	p.must(deployment("old", "default", otherImage), "create", "-f", "-")
	dry := []string{"create", "--dry-run=server", "-f", "-"}
	merge := func(kind, patch string, more ...string) []string {
		return append([]string{"patch", kind, "old", "--type=merge", "-p", patch}, more...)
	}
	p.eventually("its service account", func() bool {
		_, err := p.kubectl("", "get", "serviceaccount", "default", "-n", "kube-exempt")
		return err == nil
	})
	for _, c := range []struct {
		name, stdin string
		args        []string
		object      string
		asked       bool
	}{
		{"a pod", pod("a", "default", otherImage), dry, "default/a", true},
		{"a pod of our image elsewhere", pod("b", "default", ownImage), dry, "default/b", true},
		{"a pod of ours", pod("c", "gatehouse", ownImage), dry, "gatehouse/c", false},
		{"a pod of ours by digest", pod("d", "gatehouse", strings.Split(ownImage, ":")[0]+"@sha256:"+strings.Repeat("a", 64)), dry, "gatehouse/d", false},
		{"another pod beside the gate", pod("e", "gatehouse", otherImage), dry, "gatehouse/e", true},
		{"an image that is called almost as ours", pod("f", "gatehouse", strings.Split(ownImage, ":")[0]+"-evil:1"), dry, "gatehouse/f", true},
		{"a pod of an exempt namespace", pod("g", "kube-system", otherImage), dry, "kube-system/g", false},
		{"a pod of a namespace that was labelled", pod("m", "kube-exempt", otherImage), dry, "kube-exempt/m", true},
		{"labels of a pod", "", merge("pod", `{"metadata":{"labels":{"a":"b"}}}`), "default/old", false},
		{"finalizers of a pod", "", merge("pod", `{"metadata":{"finalizers":["gatehouse.dev/test"]}}`), "default/old", false},
		{"the deadline of a pod", "", merge("pod", `{"spec":{"activeDeadlineSeconds":5000}}`), "default/old", false},
		{"an image of a pod", "", []string{"set", "image", "pod/old", "c=registry.test/web:2", "--dry-run=server"}, "default/old", true},
		{"a container for debugging", "", []string{"patch", "pod", "old", "--subresource=ephemeralcontainers", "--type=merge", "-p", `{"spec":{"ephemeralContainers":[{"name":"debug","image":"registry.test/sh:1"}]}}`}, "default/old", true},
		{"a template", deployment("h", "default", otherImage), dry, "default/h", true},
		{"a template of ours", deployment("i", "gatehouse", ownImage), dry, "gatehouse/i", false},
		{"another template beside the gate", deployment("j", "gatehouse", otherImage), dry, "gatehouse/j", true},
		{"scaling", "", merge("deployment", `{"spec":{"replicas":1}}`, "--dry-run=server"), "default/old", false},
		{"a template's image", "", merge("deployment", `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"registry.test/web:2"}]}}}}`, "--dry-run=server"), "default/old", true},
		{"a template's annotations, which may ask to break glass", "", merge("deployment", `{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`, "--dry-run=server"), "default/old", true},
		{"a schedule", `{apiVersion: batch/v1, kind: CronJob, metadata: {name: k, namespace: default}, spec: {schedule: "0 0 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}}}`, dry, "default/k", true},
		{"a lease", `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: default}}`, dry, "default/l", false},
	} {
		p.Run(c.name, func(t *testing.T) {
			p.gate.forget("")
			p.with(t).must(c.stdin, c.args...)
			if asked := p.gate.forget(c.object); asked != c.asked {
				t.Errorf("asked: %v, want %v", asked, c.asked)
			}
		})
	}
}

// gateAway tries what a cluster can do without a gate, and the documented command that
// has it do everything.
func (p *place) gateAway() {
	p.gate.Close()
	p.must("", "delete", "pod", "old", "-n", "default", "--wait=false")
	p.must("", "patch", "pod", "old", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	p.must("", "scale", "deployment", "old", "--replicas=2")
	p.must(deployment("while-away", "default", otherImage), "create", "-f", "-")
	p.must(pod("needed", "gatehouse", ownImage), "create", "-f", "-")
	p.must(pod("needed", "kube-system", otherImage), "create", "-f", "-")
	for _, namespace := range []string{"default", "gatehouse"} {
		if _, err := p.kubectl(pod("refused", namespace, otherImage), "create", "-f", "-"); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			p.Errorf("a pod in %s, and nobody to ask: %v", namespace, err)
		}
	}
	notes, err := Notes(Options{Name: "gatehouse", Namespace: "gatehouse"})
	if err != nil {
		p.Fatal(err)
	}
	patch := []string{"patch", "validatingwebhookconfiguration", "gatehouse", "--type=json", "-p", `[{"op":"remove","path":"/webhooks"}]`}
	if !strings.Contains(notes, strings.Replace(strings.Join(patch, " "), patch[5], "'"+patch[5]+"'", 1)) {
		p.Errorf("the notes do not say it: %s", notes)
	}
	p.must("", patch...)
	p.eventually("pods to be let in", func() bool {
		_, err := p.kubectl(pod("in", "default", otherImage), "create", "--dry-run=server", "-f", "-")
		return err == nil
	})
	p.gate = startRecorder()
	p.Cleanup(p.gate.Close)
}

func (p *place) ownInstall(set string) {
	values := Values{}
	for _, s := range []string{set, "mutate.enabled=true", "mutate.url=https://127.0.0.1:1"} {
		if err := values.Set(s); err != nil {
			p.Fatal(err)
		}
	}
	o := Options{Name: "gatehouse", Namespace: "gatehouse", Values: values}
	var said []string
	c := Cluster{Client: p.kube, Poll: 100 * time.Millisecond, Say: func(line string) { said = append(said, line) }}

	p.Run("without rights nothing is changed", func(t *testing.T) {
		p := p.with(t)
		weak := Cluster{Client: p.client(p.unprivileged())}
		_, err := weak.Install(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "you may not create clusterroles.rbac.authorization.k8s.io") {
			t.Error(err)
		}
		if left := p.remains(); len(left) > 0 {
			t.Errorf("made: %v", left)
		}
	})
	p.Run("stopped halfway it goes on", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		half := Cluster{Client: p.kube, Say: func(line string) {
			if strings.HasPrefix(line, "Secret/") {
				stop()
			}
		}}
		if _, err := half.Install(ctx, o); err == nil || !strings.Contains(err.Error(), "goes on from here") {
			t.Fatal(err)
		}
		changes, err := c.Install(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := changeOf(changes, "ServiceAccount/gatehouse-gate"); got != "unchanged" {
			t.Errorf("the service account was made again: %s", got)
		}
		if got := changeOf(changes, "Deployment/gatehouse-gate"); got != "created" {
			t.Errorf("the gate: %s", got)
		}
	})
	p.Run("again it changes nothing", func(t *testing.T) {
		changes, err := c.Install(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			if change.Change != "unchanged" && !strings.HasPrefix(change.Object, "Deployment/") && !strings.HasPrefix(change.Object, "StatefulSet/") { // whose status moves
				t.Errorf("%s %s", change.Object, change.Change)
			}
		}
	})
	p.Run("what others have set is theirs", func(t *testing.T) {
		p := p.with(t)
		p.must("", "patch", "deployment", "gatehouse-gate", "-n", "gatehouse", "--type=merge", "-p", `{"spec":{"replicas":9}}`)
		_, err := c.Install(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "--force-conflicts") || !strings.Contains(err.Error(), "nothing was changed") {
			t.Fatal(err)
		}
		forced := c
		forced.Force = true
		if _, err := forced.Install(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := p.must("", "get", "deployment", "gatehouse-gate", "-n", "gatehouse", "-o", "jsonpath={.spec.replicas}"); got != "3" {
			t.Errorf("%s gates", got)
		}
	})
	p.Run("it waits for the webhooks", func(t *testing.T) {
		p := p.with(t)
		idle := Options{Name: o.Name, Namespace: o.Namespace, Values: o.Values.Merge(nil)}
		for _, part := range []string{"gate", "server", "controller", "mutate"} { // there is nobody to run them
			if err := idle.Values.Set(part + ".replicas=0"); err != nil {
				t.Fatal(err)
			}
		}
		waits := make(chan string, 100)
		waiting := Cluster{Client: p.kube, Poll: 100 * time.Millisecond, Force: true, Say: func(line string) {
			if strings.HasPrefix(line, "waiting: MutatingWebhook") || strings.HasPrefix(line, "waiting: ValidatingWebhook") {
				waits <- line
			}
		}}
		if _, err := waiting.Install(t.Context(), idle); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- waiting.Wait(t.Context(), idle) }()
		for _, kind := range []string{"mutatingwebhookconfigurations/gatehouse-mutate", "validatingwebhookconfigurations/gatehouse"} {
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			case line := <-waits:
				t.Log(line)
			}
			resource, name, _ := strings.Cut(kind, "/")
			p.arm(resource, name)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	p.Run("a second one of the name, in another namespace, is refused", func(t *testing.T) {
		elsewhere := o
		elsewhere.Namespace = "other"
		if _, err := c.Install(t.Context(), elsewhere); err == nil || !strings.Contains(err.Error(), "say --namespace gatehouse") || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("installed: %v", err)
		}
		if changes, _, err := c.Uninstall(t.Context(), o.Name, "other", false); err == nil || !strings.Contains(err.Error(), "say --namespace gatehouse") || len(changes) > 0 {
			t.Errorf("uninstalled: %v, %v", changes, err)
		}
	})
	p.Run("what values have no more goes", func(t *testing.T) {
		fewer := o
		fewer.Values = Values{}
		if err := fewer.Values.Set(set); err != nil {
			t.Fatal(err)
		}
		forced := c
		forced.Force = true
		changes, err := forced.Install(t.Context(), fewer)
		if err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{"MutatingWebhookConfiguration/gatehouse-mutate", "Deployment/gatehouse-mutate", "Service/gatehouse-mutate"} {
			if got := changeOf(changes, gone); got != "deleted" {
				t.Errorf("%s: %q", gone, got)
			}
		}
		if p.with(t).webhooks() == nil {
			t.Error("the gate's webhooks are gone too")
		}
	})
	p.Run("the namespace is deleted, with webhooks in force", func(t *testing.T) {
		p := p.with(t)
		p.gate.Close()
		p.must("", "delete", "namespace", "gatehouse", "--timeout=2m")
		if _, err := p.kubectl(pod("refused", "default", otherImage), "create", "-f", "-"); err == nil {
			t.Error("whoever may delete the namespace has switched the gate off")
		}
		changes, err := c.Install(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := changeOf(changes, "Deployment/gatehouse-gate"); got != "created" {
			t.Errorf("the gate: %q", got)
		}
		p.eventually("the gate's pods", func() bool {
			return p.must("", "get", "pods", "-n", "gatehouse", "-l", "app.kubernetes.io/component=gate", "-o", "name") != ""
		})
	})
	p.Run("uninstall, with webhooks in force and no gate", func(t *testing.T) {
		p := p.with(t)
		said = nil
		_, left, err := c.Uninstall(t.Context(), "gatehouse", "gatehouse", false)
		if err != nil {
			t.Fatal(err)
		}
		if len(said) == 0 || said[0] != "ValidatingWebhookConfiguration/gatehouse deleted" {
			t.Errorf("it began with %q", said[:1])
		}
		if remains := p.remains(); len(remains) > 0 {
			t.Errorf("left: %v", remains)
		}
		kindsLeft := map[string]bool{}
		for _, l := range left {
			kindsLeft[strings.SplitN(l.Object, "/", 2)[0]] = true
		}
		if diff := cmp.Diff([]string{"CustomResourceDefinition", "Namespace", "PersistentVolumeClaim"}, slices.Sorted(maps.Keys(kindsLeft))); diff != "" {
			t.Errorf("named as left: %s", diff)
		}
		p.must(pod("free", "default", otherImage), "create", "-f", "-")
	})
	p.Run("purge", func(t *testing.T) {
		p := p.with(t)
		forced := c
		forced.Force = true // the definitions were Helm's
		if _, left, err := forced.Uninstall(t.Context(), "gatehouse", "gatehouse", true); err != nil || len(left) > 0 {
			t.Error(left, err)
		}
		p.eventually("the definitions and the namespace to go", func() bool {
			return p.must("", "get", "crd,namespace", "-l", labelInstance+"=gatehouse", "-o", "name") == ""
		})
		if changes, left, err := c.Uninstall(t.Context(), "gatehouse", "gatehouse", false); err != nil || len(left) > 0 || len(changes) > 0 {
			t.Error(changes, left, err)
		}
	})
}

func changeOf(changes []Change, object string) string {
	for _, c := range changes {
		if c.Object == object {
			return c.Change
		}
	}
	return ""
}

// unprivileged returns a kubeconfig of a service account that may do nothing.
func (p *place) unprivileged() string {
	p.Helper()
	token := strings.TrimSpace(p.must("", "create", "token", "default", "-n", "default"))
	text, err := os.ReadFile(p.Kubeconfig())
	if err != nil {
		p.Fatal(err)
	}
	var config map[string]any
	if err := unmarshal(text, &config); err != nil {
		p.Fatal(err)
	}
	users := config["users"].([]any)
	users[0].(map[string]any)["user"] = map[string]any{"token": token}
	file := filepath.Join(p.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, must(json.Marshal(config)), 0o600); err != nil {
		p.Fatal(err)
	}
	return file
}

func TestPodsAreWaitedFor(t *testing.T) {
	t.Parallel()
	workload := func(generation, observed, want, updated, available int) Object {
		text := fmt.Sprintf(`{"kind":"Deployment","metadata":{"name":"d","namespace":"n","generation":%d},"spec":{"replicas":%d},
			"status":{"observedGeneration":%d,"updatedReplicas":%d,"availableReplicas":%d}}`, generation, want, observed, updated, available)
		var o Object
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	for name, c := range map[string]struct {
		o     Object
		ready bool
	}{
		"all are there":               {workload(2, 2, 3, 3, 3), true},
		"none are wanted":             {workload(1, 1, 0, 0, 0), true},
		"its controller has not seen": {workload(2, 1, 3, 3, 3), false},
		"old ones still serve":        {workload(2, 2, 3, 1, 3), false},
		"new ones are not ready":      {workload(2, 2, 3, 3, 2), false},
	} {
		if missing := podsMissing(c.o); (missing == "") != c.ready {
			t.Errorf("%s: %q", name, missing)
		}
	}
}

func TestWaitingIsSaidAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		c := Cluster{Say: func(line string) { said = append(said, line) }}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 75*time.Second, errors.New("not ready"))
		defer cancel()
		err := c.wait(ctx, func(context.Context) (string, error) { return "pods", nil })
		if err == nil || err.Error() != "not ready, waiting for: pods" {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"waiting: pods", "still waiting, for 30s: pods", "still waiting, for 1m0s: pods"}, said); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAnOldKubernetesIsRefused(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{"1.29": false, "1.30": true, "1.37+": true, "2.0": true, "1.x": false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			major, minor, _ := strings.Cut(version, ".")
			_, _ = fmt.Fprintf(w, `{"major":%q,"minor":%q,"gitVersion":"v%s.0"}`, major, minor, version)
		}))
		defer server.Close()
		file := filepath.Join(t.TempDir(), "kubeconfig")
		config := fmt.Sprintf(`{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}`, server.URL)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		client, err := kube.Open(kube.Options{Kubeconfig: file})
		if err != nil {
			t.Fatal(err)
		}
		c := Cluster{Client: client}
		if err := c.checkVersion(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %v", version, err)
		}
	}
}
