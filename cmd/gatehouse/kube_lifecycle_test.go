//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/helm"
	"github.com/gatehouse-dev/gatehouse/gatetest/kubelet"
	"github.com/gatehouse-dev/gatehouse/gatetest/kwok"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/internal/clusterca"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	chart = "../../deploy/chart/gatehouse"
	// lifeBound is how long a cluster may take for what a test waits for.
	lifeBound = 4 * time.Minute
	lifeEvery = 100 * time.Millisecond
)

// A town is a cluster in which Gatehouse is installed by its chart, with nodes, and its
// pods as processes.
type town struct {
	*testing.T
	cluster *controlplane.ControlPlane
	helm    *helm.Helm
	nodes   *kwok.Nodes
	machine *kubelet.Machine
	// values are the flags of helm that every command has.
	values []string
}

func newTown(t *testing.T) *town {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := registry.BuildGo(t.Context(), ".", binary); err != nil {
		t.Fatal(err)
	}
	c := &town{T: t, cluster: controlplane.New(t, controlplane.Options{Scheduler: true})}
	c.helm = helm.New(t, c.cluster.Kubeconfig())
	c.machine = kubelet.New(t, c.cluster, "gatehouse", binary)
	gate, err := c.machine.Expose("gatehouse", 443)
	if err != nil {
		t.Fatal(err)
	}
	// An API server has connections for longer than it has questions, and a gate that ends
	// would wait for them.
	c.values = []string{"--set", "webhook.url=https://" + gate, "--set", "gate.admission.drainTimeout=15s"}
	c.power()
	return c
}

// power switches all nodes on.
func (c *town) power() {
	c.Helper()
	c.nodes = kwok.New(c.T, c.cluster, 3, "gatehouse")
	c.machine.Start()
}

// with is c for a subtest.
func (c *town) with(t *testing.T) *town {
	other := *c
	other.T = t
	return &other
}

func (c *town) kubectl(stdin string, args ...string) (string, error) {
	out, said, err := c.cluster.Kubectl(c.Context(), strings.NewReader(stdin), args...)
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, said)
	}
	return out, nil
}

func (c *town) must(stdin string, args ...string) string {
	c.Helper()
	out, err := c.kubectl(stdin, args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// chartCommand runs helm install or upgrade of the chart.
func (c *town) chartCommand(command string, more ...string) {
	c.Helper()
	args := slices.Concat([]string{command, "gatehouse", chart, "--namespace", "gatehouse", "--wait", "--timeout", lifeBound.String()}, c.values, more)
	if _, err := c.helm.Run(c.Context(), args...); err != nil {
		c.Fatal(err)
	}
}

// eventually demands that something comes about, and returns how long that took.
func (c *town) eventually(what string, done func() (bool, string)) time.Duration {
	c.Helper()
	begun, deadline, tick := time.Now(), time.After(lifeBound), time.NewTicker(lifeEvery)
	defer tick.Stop()
	for {
		ok, found := done()
		if ok {
			return time.Since(begun).Round(time.Millisecond)
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.Fatalf("never within %v: %s; the last: %s", lifeBound, what, found)
		}
	}
}

// What the gate makes of a pod, as whoever creates it sees it.
const (
	letIn      = "let in"
	denied     = "denied"
	unanswered = "refused, since no gate answers"
)

// A good image is one that the policy lets in, and a bad one any other.
const (
	goodImage = "registry.test/good/web:1"
	badImage  = "registry.test/bad/web:1"
)

const lifePolicy = `{apiVersion: gatehouse.dev/v1beta1, kind: ClusterPolicy, metadata: {name: good}, spec: {binaryAuthorization: {
  admissionWhitelistPatterns: [{namePattern: "registry.test/good/*"}],
  defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}}}`

// create creates a pod, or tries to in a dry run, and says what came of it.
func (c *town) create(namespace, image, query string) string {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-"},"spec":{"schedulerName":"none","containers":[{"name":"main","image":%q}]}}`, image)
	status, answer, err := c.cluster.Do(c.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods"+query, json.RawMessage(body))
	var said struct{ Message string }
	if err == nil {
		err = json.Unmarshal(answer, &said)
	}
	switch {
	case err != nil:
		return err.Error()
	case status == http.StatusCreated:
		return letIn
	case strings.Contains(said.Message, "denied the request"):
		return denied
	case strings.Contains(said.Message, "failed calling webhook"):
		return unanswered
	}
	return fmt.Sprint(status, " ", said.Message)
}

// judges waits until good images are let in and bad ones are denied.
func (c *town) judges() time.Duration {
	c.Helper()
	return c.eventually("the gate judges", func() (bool, string) {
		good, bad := c.create("shop", goodImage, "?dryRun=All"), c.create("shop", badImage, "?dryRun=All")
		return good == letIn && bad == denied, "a good image is " + good + ", and a bad one " + bad
	})
}

// armed waits until the webhooks are in force.
func (c *town) armed() time.Duration {
	c.Helper()
	return c.eventually("the webhooks are in force", func() (bool, string) {
		names := c.must("", "get", "validatingwebhookconfiguration", "gatehouse", "-o", "jsonpath={.webhooks[*].name} {.webhooks[0].failurePolicy}")
		return names == "imagepolicywebhook.image-policy.k8s.io templates.gatehouse.dev Fail", names
	})
}

// gates returns the UIDs of the gate's pods.
func (c *town) gates() []string {
	c.Helper()
	return strings.Fields(c.must("", "get", "pods", "-n", "gatehouse", "-l", "app.kubernetes.io/component=gate", "-o", "jsonpath={.items[*].metadata.uid}"))
}

// unanswered demands that pods are refused, since there is no gate.
func (c *town) unanswered(what string) {
	c.Helper()
	c.eventually(what+": pods are refused", func() (bool, string) {
		came := c.create("shop", goodImage, "?dryRun=All")
		return came == unanswered, came
	})
	const tries = 20
	for range tries {
		if came := c.create("shop", goodImage, ""); came != unanswered {
			c.Errorf("%s: a pod elsewhere is %s", what, came)
		}
	}
	if came := c.create("kube-system", goodImage, "?dryRun=All"); came != letIn {
		c.Errorf("%s: a pod in kube-system is %s", what, came)
	}
	c.Logf("%s: %d of %d pods elsewhere were refused", what, tries, tries)
}

// everything lists all objects that there are, as KIND NAMESPACE/NAME, but for what comes
// and goes by itself.
func (c *town) everything() []string {
	c.Helper()
	passing := []string{"events", "events.events.k8s.io", "endpoints", "pods", "replicasets.apps", "controllerrevisions.apps"}
	kinds := slices.DeleteFunc(strings.Fields(c.must("", "api-resources", "--verbs=list", "-o", "name")), func(k string) bool { return slices.Contains(passing, k) })
	out := c.must("", "get", strings.Join(kinds, ","), "-A", "--ignore-not-found", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	all := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(all)
	return slices.Compact(all)
}

// TestTheLifeOfAnInstallation: what happens to an installation over the years, on a real
// control plane with nodes. The chart is installed by Helm as it is, but for the address of
// the webhook, and every pod of it is a process.
func TestTheLifeOfAnInstallation(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	c := newTown(t)
	c.must("", "create", "namespace", "shop")
	before := c.everything()
	for _, step := range []struct {
		name string
		does func(*town)
	}{
		{"helm install", (*town).comesUp},
		{"an upgrade under load", (*town).isUpgraded},
		{"a cold start of the whole cluster", (*town).startsCold},
		{"certificates that have expired", (*town).outlivesItsCertificates},
		{"its namespace is deleted", (*town).losesItsNamespace},
		{"helm uninstall", func(c *town) { c.goes(before) }},
	} {
		begun := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.does(c.with(t)) }) {
			t.FailNow()
		}
		t.Logf("%s: %v", step.name, time.Since(begun).Round(time.Millisecond))
	}
}

func (c *town) comesUp() {
	c.chartCommand("install", "--create-namespace")
	c.armed()
	c.must(lifePolicy, "apply", "-f", "-")
	c.judges()
	if n := len(c.machine.Pids("gatehouse-gate-")); n != 3 {
		c.Errorf("%d gates run, want 3", n)
	}
	c.must("", "create", "deployment", "web", "-n", "shop", "--image", goodImage, "--replicas", "3")
	c.must("", "rollout", "status", "deployment/web", "-n", "shop", "--timeout", lifeBound.String())
	if out, err := c.kubectl("", "create", "deployment", "bad", "-n", "shop", "--image", badImage); err == nil {
		c.Errorf("a Deployment of a bad image was let in: %s", out)
	}
	if log := c.machine.Log("gatehouse-"); strings.Contains(log, "403 Forbidden") {
		c.Errorf("a part lacks a right:\n%s", log)
	}
}

// isUpgraded: another tag replaces every pod of every part.
func (c *town) isUpgraded() {
	old := c.gates()
	var good, bad, failed atomic.Int64
	ctx, stop := context.WithCancel(c.Context())
	defer stop()
	var creators sync.WaitGroup
	const atOnce, every = 4, 100 * time.Millisecond
	for range atOnce {
		creators.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				image, want, count := goodImage, letIn, &good
				if n%5 == 4 {
					image, want, count = badImage, denied, &bad
				}
				if came := c.create("shop", image, ""); came == want {
					count.Add(1)
				} else if failed.Add(1) < 5 {
					c.Errorf("a pod of %s is %s, want %s", image, came, want)
				}
			}
		})
	}
	c.chartCommand("upgrade", "--set", "image.tag=0.1.1", "--set", "gate.podAnnotations.upgraded=yes")
	c.eventually("all gates are others", func() (bool, string) {
		now := c.gates()
		return len(now) == len(old) && !slices.ContainsFunc(now, func(uid string) bool { return slices.Contains(old, uid) }), fmt.Sprint(now)
	})
	stop()
	creators.Wait()
	if good.Load() == 0 || bad.Load() == 0 {
		c.Error("there was no load")
	}
	c.Logf("upgrade: %d pods were let in, %d denied, and %d requests failed", good.Load(), bad.Load(), failed.Load())
}

// powerOff ends everything in the cluster at once, and starts only what was never ours: a
// control plane whose webhook is registered, and nobody answers.
func (c *town) powerOff() {
	c.Helper()
	c.machine.PowerOff()
	c.nodes.Stop()
	c.cluster.Halt()
	if err := c.cluster.Resume(c.Context()); err != nil {
		c.Fatal(err)
	}
}

// startsCold: the worst of cold starts, in which the nodes are others, so that every pod of
// Gatehouse has to be created again.
func (c *town) startsCold() {
	old := c.gates()
	c.powerOff()
	c.unanswered("cold start")
	c.must("", "delete", "nodes", "--all")
	c.must("", "delete", "pods", "-n", "gatehouse", "--all", "--force", "--grace-period=0")
	c.eventually("gates are created, though no gate answers", func() (bool, string) {
		now := c.gates()
		return len(now) == 3 && !slices.ContainsFunc(now, func(uid string) bool { return slices.Contains(old, uid) }), fmt.Sprint(now)
	})
	begun := time.Now()
	c.power()
	c.judges()
	c.Logf("cold start: the gate judges %v after nodes were there", time.Since(begun).Round(time.Millisecond))
}

// outlivesItsCertificates: the cluster was off for longer than even its root lives.
func (c *town) outlivesItsCertificates() {
	c.powerOff()
	client, err := kube.Open(kube.Options{Kubeconfig: c.cluster.Kubeconfig()})
	if err != nil {
		c.Fatal(err)
	}
	secrets := []string{"gatehouse-ca", "gatehouse-gate-tls", "gatehouse-server-tls"}
	for _, name := range secrets {
		c.must("", "patch", "secret", name, "-n", "gatehouse", "--type=merge", "-p", `{"data":null}`)
	}
	// What is in the webhook would be kept beside the new root: it goes with the old one.
	longAgo, lives := time.Now().AddDate(-11, 0, 0), clusterca.DefaultLives()
	lives.Root, lives.RenewRoot = 3*365*24*time.Hour, 365*24*time.Hour
	keeper := clusterca.New(clusterca.Options{
		Client: client, Namespace: "gatehouse", Name: "gatehouse", Issuer: clusterca.Own, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Lives: lives, Now: func() time.Time { return longAgo },
	})
	ctx, stop := context.WithCancel(c.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { _ = keeper.Run(ctx) })
	c.eventually("there are certificates of long ago", func() (bool, string) {
		s := keeper.Status()
		return !s.Certificates[clusterca.Gate].IsZero() && !s.Certificates[clusterca.Server].IsZero(), fmt.Sprint(s)
	})
	stop()
	keeping.Wait()
	status := keeper.Status()
	if !status.Root.Before(time.Now()) || !status.Certificates[clusterca.Gate].Before(time.Now()) {
		c.Fatalf("they have not expired: %+v", status)
	}
	roots := base64.StdEncoding.EncodeToString([]byte(c.must("", "get", "configmap", "gatehouse-ca", "-n", "gatehouse", "-o", `jsonpath={.data.ca\.crt}`)))
	c.must("", "patch", "validatingwebhookconfiguration", "gatehouse", "--type=json", "-p",
		fmt.Sprintf(`[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":%q},{"op":"replace","path":"/webhooks/1/clientConfig/caBundle","value":%[1]q}]`, roots))
	c.unanswered("expired certificates")
	begun := time.Now()
	c.power()
	c.judges()
	c.Logf("expired certificates: root until %v, gate's until %v; the gate judges %v after nodes were there",
		status.Root.Format(time.DateOnly), status.Certificates[clusterca.Gate].Format(time.DateOnly), time.Since(begun).Round(time.Millisecond))
}

// losesItsNamespace: and with it everything that is in it, the CA too. docs/install.md
// names the command.
func (c *town) losesItsNamespace() {
	c.must("", "delete", "namespace", "gatehouse", "--wait=false")
	// It looks for what is left again after half the grace period of a pod that is there at
	// first; by force there is none.
	c.must("", "delete", "pods", "-n", "gatehouse", "--all", "--force", "--grace-period=0")
	c.must("", "wait", "--for=delete", "namespace/gatehouse", "--timeout", lifeBound.String())
	if pids := c.machine.Pids(""); len(pids) != 0 {
		c.Errorf("these run: %v", pids)
	}
	c.unanswered("the namespace is gone")
	begun := time.Now()
	c.chartCommand("install", "--create-namespace")
	c.judges()
	c.Logf("the namespace is gone: the gate judges %v after helm install", time.Since(begun).Round(time.Millisecond))
}

func (c *town) goes(before []string) {
	if _, err := c.helm.Run(c.Context(), "uninstall", "gatehouse", "--namespace", "gatehouse", "--wait", "--timeout", lifeBound.String()); err != nil {
		c.Fatal(err)
	}
	if came := c.create("shop", badImage, ""); came != letIn {
		c.Errorf("after it a pod is %s", came)
	}
	c.must("", "delete", "deployment", "web", "-n", "shop")
	// As docs/install.md has it.
	stays := map[string]int{}
	c.eventually("nothing is left but what the documentation names", func() (bool, string) {
		clear(stays)
		var others []string
		for _, o := range c.everything() {
			kind, name, _ := strings.Cut(o, " ")
			switch {
			case slices.Contains(before, o):
			case kind == "CustomResourceDefinition" && (strings.HasSuffix(name, ".gatehouse.dev") || strings.HasSuffix(name, ".kritis.grafeas.io")),
				o == "ClusterPolicy /good",
				o == "PersistentVolumeClaim gatehouse/data-gatehouse-server-0",
				o == "Namespace /gatehouse":
				stays[kind]++
			case kind == "PersistentVolume", kind == "Node", kind == "Lease" && strings.HasPrefix(name, "kube-node-lease/"), // the claim's; the kit's
				kind == "ServiceAccount" && (strings.HasSuffix(name, "/default") || strings.HasPrefix(name, "kube-system/")), // every namespace's; the controllers'
				strings.HasSuffix(name, "/kube-root-ca.crt"), kind == "APIService":                                           // every namespace's; the definitions'
			default:
				others = append(others, o)
			}
		}
		return len(others) == 0, strings.Join(others, ", ")
	})
	for _, kind := range slices.Sorted(maps.Keys(stays)) {
		c.Logf("uninstall: %d of %s stay", stays[kind], kind)
	}
}
