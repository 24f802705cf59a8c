package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/clusterca"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	// oldestMinor is the first minor version of Kubernetes 1 whose webhooks have
	// matchConditions for everybody.
	oldestMinor = 30

	// Clocks are told to the second, and asking takes time.
	skewWarning, skewProblem = 5 * time.Second, time.Minute
)

func checkAPIServer(ctx context.Context, p *patient) []Finding {
	switch {
	case p.Kube != nil:
	case p.KubeError == nil || errors.Is(p.KubeError, kube.ErrNoCluster):
		return skipped("give --kubeconfig FILE or --context NAME", "%v", kube.ErrNoCluster)
	default: // one was named
		return []Finding{unknown("kubectl config view; another cluster is named by --kubeconfig and --context", "%v", p.KubeError)}
	}
	v, err := p.Kube.Version(ctx)
	if err != nil {
		return []Finding{problem("kubectl cluster-info; another cluster is named by --kubeconfig and --context", "the Kubernetes API server does not answer: %v", err)}
	}
	minor, err := strconv.Atoi(strings.TrimRight(v.Minor, "+"))
	if v.Major == "1" && err == nil && minor < oldestMinor {
		return []Finding{problem("update the cluster to 1."+strconv.Itoa(oldestMinor)+" or later", "the API server is %s: it passes over the matchConditions of webhooks, or does not know them", v.GitVersion)}
	}
	return []Finding{ok("the API server is %s", v.GitVersion)}
}

func checkClocks(ctx context.Context, p *patient) []Finding {
	var found []Finding
	compare := func(what string, ask func() (time.Time, error)) {
		begun := p.Now()
		there, err := ask()
		if err != nil || there.IsZero() {
			if err != nil {
				found = append(found, unknown("", "the clock of %s could not be read: %v", what, err))
			}
			return
		}
		ended := p.Now()
		// What it says is the beginning of a second, at some time between the two.
		ahead := max(begun.Sub(there.Add(time.Second)), there.Sub(ended), 0)
		mend := "set the clocks, and keep them set (NTP): certificates and tokens are judged by them, and so are ages of images and of scans"
		switch {
		case ahead >= skewProblem:
			found = append(found, problem(mend, "the clock of %s and the one here are at least %s apart", what, ahead.Round(time.Second)))
		case ahead >= skewWarning:
			found = append(found, warning(mend, "the clock of %s and the one here are at least %s apart", what, ahead.Round(time.Second)))
		default:
			found = append(found, ok("the clock of %s agrees with the one here", what))
		}
	}
	if p.Kube != nil {
		compare("the API server", func() (time.Time, error) {
			v, err := p.Kube.Version(ctx)
			return v.Clock, err
		})
	}
	if p.Service != "" {
		compare("the metadata service", func() (time.Time, error) { return p.serviceClock(ctx) })
	}
	if found == nil {
		return skipped("", "there is no other clock to compare with")
	}
	return found
}

// deployment is what is read of one.
type deployment struct {
	Spec struct {
		Replicas *int
		Selector selector
		Template struct {
			Metadata struct{ Labels map[string]string }
		}
	}
	Status struct{ ReadyReplicas int }
}

// pod is what is read of one.
type pod struct {
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Spec   struct{ NodeName string }
	Status struct {
		Phase      string
		Conditions []struct{ Type, Status string }
	}
}

func (p pod) ready() bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c struct{ Type, Status string }) bool { return c.Type == "Ready" && c.Status == "True" })
}

// gatePods returns the gate's Deployment and its pods.
func (p *patient) gatePods(ctx context.Context) (deployment, []pod, error) {
	var d deployment
	if err := p.Kube.Get(ctx, &d, nil, "apis", "apps", "v1", "namespaces", p.Namespace, "deployments", p.Name+"-gate"); err != nil {
		return d, nil, err
	}
	var list struct{ Items []pod }
	if err := p.Kube.Get(ctx, &list, url.Values{"limit": {"500"}}, "api", "v1", "namespaces", p.Namespace, "pods"); err != nil {
		return d, nil, err
	}
	return d, slices.DeleteFunc(list.Items, func(pod pod) bool { return !d.Spec.Selector.matches(pod.Metadata.Labels) }), nil
}

func checkGates(ctx context.Context, p *patient) []Finding {
	if f := p.noCluster(); f != nil {
		return f
	}
	name := p.Namespace + "/" + p.Name + "-gate"
	d, pods, err := p.gatePods(ctx)
	if kube.NotFound(err) {
		if r, err := p.read(ctx); err == nil && len(r.Webhooks) > 0 && r.Webhooks[0].ClientConfig.URL != "" {
			return skipped("", "there is no Deployment %s: the gate runs elsewhere, at %s", name, hostOf(r.Webhooks[0].ClientConfig.URL))
		}
		return []Finding{problem("gatehouse install --apply, or helm install; elsewhere: --namespace NS", "there is no Deployment %s", name)}
	}
	if err != nil {
		return []Finding{asked("the Deployment "+name, err)}
	}
	replicas := 1
	if d.Spec.Replicas != nil {
		replicas = *d.Spec.Replicas
	}
	var found []Finding
	why := "kubectl describe pods -n " + p.Namespace + " says why; gates are not ready while they have no certificate, or have not heard the metadata service"
	switch ready := d.Status.ReadyReplicas; {
	case ready == 0:
		found = append(found, problem(why+"; while none can be: kubectl delete validatingwebhookconfiguration "+p.Name, "none of %d gates of the Deployment %s is ready: pods are refused", replicas, name))
	case ready < replicas:
		found = append(found, warning(why, "%d of %d gates are ready", ready, replicas))
	case replicas < 2:
		found = append(found, warning("kubectl scale deploy/"+p.Name+"-gate -n "+p.Namespace+" --replicas 3, or gate.replicas of the chart", "there is one gate: while it is replaced, pods are refused"))
	default:
		found = append(found, ok("%d of %d gates are ready", ready, replicas))
	}
	nodes := map[string]bool{}
	ready := 0
	for _, pod := range pods {
		if pod.ready() {
			ready++
			nodes[pod.Spec.NodeName] = true
		}
	}
	if ready > 1 && len(nodes) == 1 {
		found = append(found, warning("add nodes, or see that the anti-affinity of the chart is in force", "all %d gates are on one node: when it goes, pods are refused", ready))
	}
	if f := p.budget(ctx, d); f != nil && replicas > 1 {
		found = append(found, *f)
	}
	return found
}

// budget says what is wrong with the disruption budget of the gates.
func (p *patient) budget(ctx context.Context, d deployment) *Finding {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ Selector *selector }
		}
	}
	if err := p.Kube.Get(ctx, &list, nil, "apis", "policy", "v1", "namespaces", p.Namespace, "poddisruptionbudgets"); err != nil {
		f := asked("the PodDisruptionBudgets", err)
		return &f
	}
	for _, b := range list.Items {
		if b.Spec.Selector != nil && b.Spec.Selector.matches(d.Spec.Template.Metadata.Labels) {
			return nil
		}
	}
	f := warning("gatehouse install --apply, which has one", "no PodDisruptionBudget covers the gates: draining nodes may stop all of them at once")
	return &f
}

func checkController(ctx context.Context, p *patient) []Finding {
	if f := p.noCluster(); f != nil {
		return f
	}
	name := p.Namespace + "/" + p.Name + "-controller"
	var lease struct {
		Spec struct {
			HolderIdentity       string
			LeaseDurationSeconds int
			RenewTime            time.Time
		}
	}
	err := p.Kube.Get(ctx, &lease, nil, "apis", "coordination.k8s.io", "v1", "namespaces", p.Namespace, "leases", p.Name+"-controller")
	expected := false
	if r, err := p.read(ctx); err == nil {
		expected = r.Metadata.Annotations[clusterca.WebhooksAnnotation] != ""
	}
	mend := "kubectl get pods -n " + p.Namespace + "; kubectl logs deploy/" + p.Name + "-controller -n " + p.Namespace
	switch {
	case kube.NotFound(err) && !expected:
		return skipped("", "no controller looks after this installation")
	case err != nil && !kube.NotFound(err):
		return []Finding{asked("the Lease "+name, err)}
	case err != nil || lease.Spec.HolderIdentity == "":
		return []Finding{problem(mend, "no controller has the Lease %s: certificates are not renewed, and objects are not followed", name)}
	}
	v, err := p.Kube.Version(ctx)
	if err != nil || v.Clock.IsZero() {
		v.Clock = p.Now()
	}
	if age := v.Clock.Sub(lease.Spec.RenewTime); age > 2*time.Duration(lease.Spec.LeaseDurationSeconds)*time.Second+skewWarning {
		return []Finding{problem(mend, "the controller %s has not renewed the Lease %s for %s: certificates are not renewed, and objects are not followed", oneLine(lease.Spec.HolderIdentity), name, age.Round(time.Second))}
	}
	return []Finding{ok("the controller %s has the Lease %s", oneLine(lease.Spec.HolderIdentity), name)}
}

func checkDelegation(ctx context.Context, p *patient) []Finding {
	switch {
	case p.Config == nil:
		return skipped("give --config FILE to have it checked", "it is not known what has to be delegated")
	case !p.Config.AccessReviews && !p.Config.TokenReviews:
		return skipped("", "neither break-glass nor the callers' identity asks the API server")
	}
	if f := p.noCluster(); f != nil {
		return f
	}
	var found []Finding
	for _, d := range []struct {
		needed                        bool
		account, why, group, resource string
	}{
		{p.Config.AccessReviews, p.Name + "-gate", "break-glass mode rbac", "authorization.k8s.io", "subjectaccessreviews"},
		{p.Config.TokenReviews, p.Name + "-server", "identity.kubernetes", "authentication.k8s.io", "tokenreviews"},
	} {
		if !d.needed {
			continue
		}
		may, _, err := p.Kube.May(ctx, kube.Access{
			User: "system:serviceaccount:" + p.Namespace + ":" + d.account, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + p.Namespace, "system:authenticated"},
			Verb: "create", Group: d.group, Resource: d.resource,
		})
		switch {
		case err != nil:
			found = append(found, asked("what the service account "+d.account+" may do", err))
		case !may:
			found = append(found, problem(fmt.Sprintf("kubectl create clusterrolebinding %s-delegator --clusterrole system:auth-delegator --serviceaccount %s:%s", d.account, p.Namespace, d.account),
				"%s needs that the service account %s/%s may create %s, and it may not", d.why, p.Namespace, d.account, d.resource))
		default:
			found = append(found, ok("%s: the service account %s/%s may create %s", d.why, p.Namespace, d.account, d.resource))
		}
	}
	return found
}

// metricsOf returns the metrics of each gate, by what it is called here.
func (p *patient) metricsOf(ctx context.Context) (map[string]string, []Finding) {
	all := make(map[string]string)
	var found []Finding
	for _, base := range p.Ops {
		text, err := p.fetch(ctx, http.DefaultClient, strings.TrimSuffix(base, "/")+"/metrics")
		if err != nil {
			found = append(found, problem("see that it runs, and that this is its ops address", "the metrics of %s could not be read: %v", base, err))
			continue
		}
		all[base] = string(text)
	}
	if len(p.Ops) > 0 {
		return all, found
	}
	if p.Kube == nil {
		return nil, skipped("give --ops URL, the ops address of a gate", "no gate is named")
	}
	_, pods, err := p.gatePods(ctx)
	if kube.NotFound(err) {
		return nil, skipped("give --ops URL, the ops address of a gate", "there are no gates in namespace %s", p.Namespace)
	}
	if err != nil {
		return nil, []Finding{asked("the gates", err)}
	}
	for _, pod := range pods {
		if pod.Status.Phase != "Running" {
			continue
		}
		text, err := p.Kube.Text(ctx, "api", "v1", "namespaces", p.Namespace, "pods", pod.Metadata.Name+":9090", "proxy", "metrics")
		if err != nil {
			found = append(found, asked("the metrics of pod "+pod.Metadata.Name, err))
			continue
		}
		all[pod.Metadata.Name] = string(text)
	}
	return all, found
}

// metric returns the value of a metric without labels.
func metric(text, name string) (value float64, ok bool) {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return value, err == nil
		}
	}
	return 0, false
}

func checkFeed(ctx context.Context, p *patient) []Finding {
	all, found := p.metricsOf(ctx)
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text := all[name]
		connected, follows := metric(text, "gatehouse_feed_connected")
		if !follows {
			found = append(found, ok("%s has its store beside it, and follows nobody", name))
			continue
		}
		lag, _ := metric(text, "gatehouse_evidence_lag_changes")
		silence, _ := metric(text, "gatehouse_feed_silence_seconds")
		copied, _ := metric(text, "gatehouse_evidence_from_copy")
		refused, _ := metric(text, "gatehouse_evidence_copy_refused")
		const mostBehind = 1000
		heard := "it has never been heard"
		if silence >= 0 {
			heard = fmt.Sprintf("it was heard %.0f s ago", silence)
		}
		switch {
		case connected == 0 && copied != 0:
			found = append(found, problem("see metadata; the gate's log says why it cannot connect", "gate %s does not reach the metadata service, and decides by its copy on disk", name))
		case connected == 0:
			found = append(found, problem("see metadata; the gate's log says why it cannot connect", "gate %s does not reach the metadata service (%s), and decides by what is in memory", name, heard))
		case lag > mostBehind:
			found = append(found, warning("give the gate more CPU, if it lasts", "gate %s is %.0f changes behind", name, lag))
		default:
			found = append(found, ok("gate %s follows the metadata service, %.0f changes behind", name, lag))
		}
		if refused != 0 {
			found = append(found, warning("the gate's log says why; it has read everything from the metadata service instead", "gate %s has refused its copy on disk", name))
		}
	}
	return found
}

func decodeJSON(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
