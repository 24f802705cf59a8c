package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
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
	registration = "admissionregistration.k8s.io"
	validating   = "validatingwebhookconfigurations"
	mutating     = "mutatingwebhookconfigurations"

	dialTimeout = 5 * time.Second
	// A serving certificate is replaced a month before its end, and a root a year.
	leafWarning = 14 * 24 * time.Hour
	rootWarning = 180 * 24 * time.Hour

	mostNamed = 10
)

// registered is a webhook configuration.
type registered struct {
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Webhooks []webhook
}

type webhook struct {
	Name         string
	ClientConfig struct {
		CABundle []byte
		URL      string
		Service  *struct {
			Namespace, Name, Path string
			Port                  int
		}
	}
	Rules []struct {
		Operations, APIGroups, APIVersions, Resources []string
	}
	NamespaceSelector, ObjectSelector selector
	MatchConditions                   []struct{ Name, Expression string }
	FailurePolicy, SideEffects        string
	TimeoutSeconds                    int
}

// address is where API servers ask a webhook.
func (w webhook) address() string {
	s := w.ClientConfig.Service
	if s == nil {
		return w.ClientConfig.URL
	}
	port := s.Port
	if port == 0 {
		port = 443
	}
	return "https://" + s.Name + "." + s.Namespace + ".svc:" + strconv.Itoa(port) + s.Path
}

// covers says that the rules have an operation on a resource.
func (w webhook) covers(group, resource, operation string) bool {
	has := func(list []string, s string) bool { return slices.Contains(list, s) || slices.Contains(list, "*") }
	for _, r := range w.Rules {
		base, sub, _ := strings.Cut(resource, "/")
		found := slices.ContainsFunc(r.Resources, func(pattern string) bool {
			if pattern == resource || pattern == "*/*" || pattern == "*" && sub == "" {
				return true
			}
			b, s, ok := strings.Cut(pattern, "/")
			return ok && sub != "" && (b == "*" || b == base) && (s == "*" || s == sub)
		})
		if found && has(r.APIGroups, group) && has(r.Operations, operation) && (has(r.APIVersions, "v1")) {
			return true
		}
	}
	return false
}

// A selector is one of labels.
type selector struct {
	MatchLabels      map[string]string
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	}
}

func (s selector) empty() bool { return len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 }

func (s selector) matches(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, there := labels[e.Key]
		in := there && slices.Contains(e.Values, value)
		if e.Operator == "In" && !in || e.Operator == "NotIn" && in || e.Operator == "Exists" && !there || e.Operator == "DoesNotExist" && there {
			return false
		}
	}
	return true
}

// keys are the labels that a selector looks at.
func (s selector) keys() []string {
	var keys []string
	for k := range s.MatchLabels {
		keys = append(keys, k)
	}
	for _, e := range s.MatchExpressions {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// read reads the gate's configuration, once.
func (p *patient) read(ctx context.Context) (*registered, error) {
	if p.configuration == nil && p.readError == nil {
		r := new(registered)
		if p.readError = p.Kube.Get(ctx, r, nil, "apis", registration, "v1", validating, p.Name); p.readError == nil {
			p.configuration = r
		}
	}
	return p.configuration, p.readError
}

// armed returns the gate's webhooks, or why there are none to look at. That there are
// none is for one check to tell.
func (p *patient) armed(ctx context.Context) ([]webhook, []Finding) {
	if f := p.noCluster(); f != nil {
		return nil, f
	}
	r, err := p.read(ctx)
	if err != nil || len(r.Webhooks) == 0 {
		return nil, skipped("", "there is no webhook in force (see webhook)")
	}
	return r.Webhooks, nil
}

// pods are the webhooks that are asked about new pods.
func pods(all []webhook) []webhook {
	return slices.DeleteFunc(slices.Clone(all), func(w webhook) bool { return !w.covers("", "pods", "CREATE") })
}

func checkWebhook(ctx context.Context, p *patient) []Finding {
	if f := p.noCluster(); f != nil {
		return f
	}
	r, err := p.read(ctx)
	const kind = "ValidatingWebhookConfiguration"
	switch {
	case kube.NotFound(err):
		return []Finding{problem("gatehouse install --apply, or helm install; another name is told by --name", "there is no %s %s: nobody asks the gate", kind, p.Name)}
	case err != nil:
		return []Finding{asked("the "+kind+" "+p.Name, err)}
	}
	wanted := r.Metadata.Annotations[clusterca.WebhooksAnnotation]
	switch {
	case len(r.Webhooks) == 0 && wanted == "":
		return []Finding{problem("gatehouse install --apply", "the %s %s has no webhooks, and no annotation %s that says which", kind, p.Name, clusterca.WebhooksAnnotation)}
	case len(r.Webhooks) == 0:
		return []Finding{problem("kubectl logs deploy/"+p.Name+"-controller -n "+p.Namespace+" says why; it is armed when the gate answers",
			"the %s %s is not armed: it has no webhooks yet, and nobody asks the gate", kind, p.Name)}
	case len(pods(r.Webhooks)) == 0:
		return []Finding{problem("gatehouse install --apply", "no webhook of the %s %s is asked about new pods", kind, p.Name)}
	}
	return append([]Finding{ok("the %s %s has %s in force", kind, p.Name, counted(len(r.Webhooks), "webhook"))}, p.pinning(ctx)...)
}

// pinning looks at the webhook that pins tags, if there is one.
func (p *patient) pinning(ctx context.Context) []Finding {
	const kind = "MutatingWebhookConfiguration"
	var r registered
	err := p.Kube.Get(ctx, &r, nil, "apis", registration, "v1", mutating, p.Name+"-mutate")
	switch {
	case kube.NotFound(err):
		return nil
	case err != nil:
		return []Finding{asked("the "+kind+" "+p.Name+"-mutate", err)}
	case len(r.Webhooks) == 0:
		return []Finding{warning(p.controllerLog("does not arm it"), "the %s %s-mutate is not armed: tags are not pinned, and policies that want digests refuse them", kind, p.Name)}
	}
	return []Finding{ok("the %s %s-mutate has %s in force", kind, p.Name, counted(len(r.Webhooks), "webhook"))}
}

func checkRules(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	var missing, workloads []string
	covered := func(group, resource, operation string) bool {
		return slices.ContainsFunc(all, func(w webhook) bool { return w.covers(group, resource, operation) })
	}
	for _, c := range []struct{ resource, operation string }{{"pods", "CREATE"}, {"pods", "UPDATE"}, {"pods/ephemeralcontainers", "UPDATE"}} {
		if !covered("", c.resource, c.operation) {
			missing = append(missing, c.operation+" "+c.resource)
		}
	}
	for _, r := range []struct{ group, resource string }{
		{"apps", "deployments"}, {"apps", "replicasets"}, {"apps", "statefulsets"}, {"apps", "daemonsets"},
		{"batch", "jobs"}, {"batch", "cronjobs"}, {"", "replicationcontrollers"}, {"", "podtemplates"},
	} {
		if !covered(r.group, r.resource, "CREATE") || !covered(r.group, r.resource, "UPDATE") {
			workloads = append(workloads, r.resource)
		}
	}
	mend := "gatehouse install --apply; the rules are in docs/gate.md"
	var found []Finding
	if len(missing) > 0 {
		found = append(found, problem(mend, "the webhook is not asked about %s: images get in that way unseen", strings.Join(missing, ", ")))
	}
	if len(workloads) > 0 {
		found = append(found, warning(mend, "the webhook is not asked about %s: their pods are refused, and who applies them is not told", strings.Join(workloads, ", ")))
	}
	if found == nil {
		found = append(found, ok("pods, ephemeral containers and all workloads are reviewed"))
	}
	return found
}

func checkFailurePolicy(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	var found []Finding
	for _, w := range pods(all) {
		if w.FailurePolicy != "Fail" {
			found = append(found, problem("set failurePolicy: Fail, with webhook.failurePolicy of the chart", "webhook %s has failurePolicy %s: pods come in unseen while the gate is away", w.Name, w.FailurePolicy))
		}
		if w.TimeoutSeconds < 3 {
			found = append(found, warning("set timeoutSeconds: 10", "webhook %s has timeoutSeconds %d: a gate has half a second less, and asks its service in three quarters of that", w.Name, w.TimeoutSeconds))
		}
		if w.SideEffects != "NoneOnDryRun" && w.SideEffects != "None" {
			found = append(found, warning("set sideEffects: NoneOnDryRun", "webhook %s has sideEffects %s: API servers refuse server-side dry runs", w.Name, w.SideEffects))
		}
	}
	if found == nil {
		found = append(found, ok("pods are refused while the gate is away"))
	}
	return found
}

type namespaces []struct {
	Metadata struct {
		Name   string
		Labels map[string]string
	}
}

func (p *patient) namespaces(ctx context.Context) (all namespaces, err error) {
	err = p.Kube.List(ctx, func(page []byte) error {
		var list struct{ Items namespaces }
		if err := json.Unmarshal(page, &list); err != nil {
			return err
		}
		all = append(all, list.Items...)
		return nil
	}, "api", "v1", "namespaces")
	return all, err
}

func checkExemptions(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	list, err := p.namespaces(ctx)
	var found []Finding
	if err != nil {
		found = append(found, asked("the namespaces", err))
	}
	var exempt []string
	for _, n := range list {
		if !slices.ContainsFunc(pods(all), func(w webhook) bool { return w.NamespaceSelector.matches(n.Metadata.Labels) }) {
			exempt = append(exempt, n.Metadata.Name)
		}
	}
	usual := []string{"kube-system", p.Namespace}
	switch others := slices.DeleteFunc(slices.Clone(exempt), func(n string) bool { return slices.Contains(usual, n) }); {
	case len(list) > 0 && len(others) == 0:
		found = append(found, ok("exempt namespaces: %s", orNone(exempt)))
	case len(others) > 0:
		found = append(found, warning("remove them from the namespaceSelector, with webhook.exemptNamespaces of the chart, unless they are meant", "pods in %s more are not looked at: %s", counted(len(others), "namespace"), some(others)))
	}
	for _, w := range pods(all) {
		if labels := slices.DeleteFunc(w.NamespaceSelector.keys(), func(k string) bool { return k == "kubernetes.io/metadata.name" }); len(labels) > 0 {
			found = append(found, warning("exempt namespaces by kubernetes.io/metadata.name, or see that nobody else may label them: kubectl auth can-i --list",
				"webhook %s goes by the labels %s of namespaces: whoever may label a namespace can have it exempt", w.Name, strings.Join(labels, ", ")))
		}
		if !w.ObjectSelector.empty() {
			found = append(found, problem("remove the objectSelector", "webhook %s has an objectSelector (%s): whoever makes a pod can have it exempt by a label", w.Name, strings.Join(w.ObjectSelector.keys(), ", ")))
		}
		for _, c := range w.MatchConditions {
			if loose(c.Expression) {
				found = append(found, warning("see that it is meant: what is not matched is not looked at", "webhook %s has a matchCondition %q that goes by what whoever makes a pod may choose: %s", w.Name, c.Name, oneLine(c.Expression)))
			}
		}
	}
	return found
}

// loose says that a condition looks at labels or annotations of the object.
func loose(expression string) bool {
	for _, choice := range []string{"object.metadata.labels", "object.metadata.annotations", "object.metadata.name", "object.metadata.generateName"} {
		at := strings.Index(expression, choice)
		for at >= 0 {
			if !strings.HasSuffix(expression[:at], "old") { // what an old object has was let in
				return true
			}
			rest := strings.Index(expression[at+1:], choice)
			if rest < 0 {
				break
			}
			at += 1 + rest
		}
	}
	return false
}

func checkOtherWebhooks(ctx context.Context, p *patient) []Finding {
	if f := p.noCluster(); f != nil {
		return f
	}
	own := map[string]bool{}
	if r, err := p.read(ctx); err == nil {
		for _, w := range r.Webhooks {
			own[hostOf(w.address())] = true
		}
	}
	var found []Finding
	var seen []string
	for _, plural := range []string{validating, mutating} {
		var list struct{ Items []registered }
		if err := p.Kube.Get(ctx, &list, nil, "apis", registration, "v1", plural); err != nil {
			found = append(found, asked(plural, err))
			continue
		}
		for _, r := range list.Items {
			if r.Metadata.Name == p.Name || r.Metadata.Name == p.Name+"-mutate" {
				continue
			}
			for _, w := range pods(r.Webhooks) {
				label := r.Metadata.Name + "/" + w.Name
				switch {
				case own[hostOf(w.address())]:
					found = append(found, warning("kubectl delete "+strings.TrimSuffix(plural, "s")+" "+r.Metadata.Name+", if it was left behind", "%s asks the same gate a second time", label))
				case plural == mutating:
					seen = append(seen, label+" (may change pods before they are reviewed)")
				case w.FailurePolicy == "Fail":
					seen = append(seen, label+" (refuses pods while it is away)")
				default:
					seen = append(seen, label)
				}
			}
		}
	}
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Result == Unknown }) {
		return found
	}
	return append(found, ok("other webhooks that look at pods: %s; none of them can let in what the gate refuses", orNone(seen)))
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}

func checkCertificate(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	var found []Finding
	done := map[string]bool{}
	for _, w := range all {
		u, err := url.Parse(w.address())
		if err != nil || u.Host == "" {
			found = append(found, problem("gatehouse install --apply", "webhook %s has no address that can be read: %q", w.Name, w.address()))
			continue
		}
		key := u.Host + string(w.ClientConfig.CABundle)
		if done[key] {
			continue
		}
		done[key] = true
		found = append(found, p.dial(ctx, w, u))
	}
	return found
}

// dial connects to a webhook as an API server does.
func (p *patient) dial(ctx context.Context, w webhook, u *url.URL) Finding {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(w.ClientConfig.CABundle) && len(w.ClientConfig.CABundle) > 0 {
		return problem("kubectl rollout restart deploy/"+p.Name+"-controller -n "+p.Namespace+", which writes it anew", "the caBundle of webhook %s has no certificate in it: every review fails", w.Name)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: u.Hostname()}
	if len(w.ClientConfig.CABundle) == 0 {
		config.RootCAs = nil
	}
	leaf, err := p.handshake(ctx, host, config)
	var verification *tls.CertificateVerificationError
	var nowhere *net.DNSError
	switch {
	case errors.As(err, &verification):
		return problem(p.certificateMend(verification.Err), "the gate at %s serves a certificate that the caBundle of webhook %s does not verify: %v", host, w.Name, verification.Err)
	case errors.As(err, &nowhere) && w.ClientConfig.Service != nil:
		return p.mounted(ctx, w, config)
	case err != nil:
		return problem("see that a gate runs there, and that API servers can reach it", "nobody answers at %s: %v", host, err)
	}
	return p.ending("the gate's certificate", leaf.NotAfter, leafWarning, p.controllerLog("is not replaced"))
}

func (p *patient) controllerLog(why string) string {
	return "kubectl logs deploy/" + p.Name + "-controller -n " + p.Namespace + " says why it " + why
}

// handshake returns the certificate that is served at an address.
func (p *patient) handshake(ctx context.Context, host string, config *tls.Config) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = raw.Close() }() // nothing was sent
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

// mounted looks at the certificate in the Secret that gates mount, from where their
// Service has no name.
func (p *patient) mounted(ctx context.Context, w webhook, config *tls.Config) Finding {
	name := p.Namespace + "/" + p.Name + "-gate-tls"
	var secret struct{ Data map[string][]byte }
	err := p.Kube.Get(ctx, &secret, nil, "api", "v1", "namespaces", p.Namespace, "secrets", p.Name+"-gate-tls")
	mend := "kubectl exec deploy/" + p.Name + "-controller -n " + p.Namespace + " -- gatehouse doctor --only certificate"
	var chain []*x509.Certificate
	for block, rest := pem.Decode(secret.Data["tls.crt"]); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			chain = append(chain, c)
		}
	}
	if err != nil || len(chain) == 0 {
		return Finding{Result: Skipped, Mend: mend, Message: fmt.Sprintf("the Service %s cannot be reached from outside of the cluster, and the Secret %s has no certificate to look at; the trial tells whether the API server gets through", config.ServerName, name)}
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: config.ServerName, Roots: config.RootCAs, Intermediates: between, CurrentTime: p.Now()}); err != nil {
		return problem(p.certificateMend(err), "the certificate in the Secret %s is one that the caBundle of webhook %s does not verify: %v", name, w.Name, err)
	}
	return p.ending("the certificate in the Secret "+name, chain[0].NotAfter, leafWarning, p.controllerLog("is not replaced"))
}

func (p *patient) certificateMend(err error) string {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "kubectl delete secret " + p.Name + "-gate-tls -n " + p.Namespace + ", which has the controller issue another; if there is a clock wrong, set it (see clocks)"
	case errors.As(err, new(x509.HostnameError)):
		return "add the name to controller.certificates.hosts.gate (admission.hosts without a controller)"
	}
	return "kubectl rollout restart deploy/" + p.Name + "-controller -n " + p.Namespace + ", which writes the caBundle anew; without a controller give it the ca.crt of the gate (gatehouse ca show)"
}

// ending says when something ends.
func (p *patient) ending(what string, end time.Time, early time.Duration, mend string) Finding {
	switch left := end.Sub(p.Now()); {
	case left <= 0:
		return problem(mend, "%s has ended at %s", what, end.UTC().Format(time.RFC3339))
	case left < early:
		return warning(mend, "%s ends at %s, and ought to have been replaced", what, end.UTC().Format(time.RFC3339))
	}
	return ok("%s is good until %s", what, end.UTC().Format(time.RFC3339))
}

func checkRoots(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	var found []Finding
	for _, w := range all[:1] {
		last := time.Time{}
		n := 0
		for block, rest := pem.Decode(w.ClientConfig.CABundle); block != nil; block, rest = pem.Decode(rest) {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				n++
				if c.NotAfter.After(last) {
					last = c.NotAfter
				}
			}
		}
		if n == 0 {
			continue // that is for the certificate to tell
		}
		found = append(found, p.ending("the last of "+counted(n, "root"), last, rootWarning, "gatehouse ca rotate --namespace "+p.Namespace))
	}
	var cm struct{ Data map[string]string }
	err := p.Kube.Get(ctx, &cm, nil, "api", "v1", "namespaces", p.Namespace, "configmaps", p.Name+"-ca")
	switch {
	case kube.NotFound(err): // without a controller, or with cert-manager, there is none
	case err != nil:
		found = append(found, asked("the ConfigMap "+p.Namespace+"/"+p.Name+"-ca", err))
	default:
		for _, w := range all {
			if !bytes.Equal(bytes.TrimSpace(w.ClientConfig.CABundle), bytes.TrimSpace([]byte(cm.Data["ca.crt"]))) {
				found = append(found, problem(p.controllerLog("does not write it"), "the caBundle of webhook %s is not what the ConfigMap %s/%s-ca has", w.Name, p.Namespace, p.Name))
			}
		}
	}
	if found == nil {
		return skipped("", "there are no roots in the webhook configuration: the API server's own are used")
	}
	return found
}

// checkTrial asks the API server itself: whatever is between it and the gate shows.
func checkTrial(ctx context.Context, p *patient) []Finding {
	all, f := p.armed(ctx)
	if f != nil {
		return f
	}
	namespace := p.TrialNamespace
	if namespace == "" {
		namespace = "default"
		if list, err := p.namespaces(ctx); err == nil {
			gated := func(n string) bool {
				return slices.ContainsFunc(list, func(ns struct {
					Metadata struct {
						Name   string
						Labels map[string]string
					}
				}) bool {
					return ns.Metadata.Name == n && slices.ContainsFunc(pods(all), func(w webhook) bool { return w.NamespaceSelector.matches(ns.Metadata.Labels) })
				})
			}
			for _, ns := range list {
				if gated(namespace) {
					break
				}
				namespace = ns.Metadata.Name
			}
		}
	}
	digest := make([]byte, 32)
	_, _ = rand.Read(digest) // never fails: it crashes the program
	image := "gatehouse.invalid/doctor@sha256:" + hex.EncodeToString(digest)
	no := false
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"generateName": "gatehouse-doctor-", "namespace": namespace},
		"spec": map[string]any{"automountServiceAccountToken": no, "containers": []any{map[string]any{"name": "trial", "image": image,
			"securityContext": map[string]any{"allowPrivilegeEscalation": no, "runAsNonRoot": true, "capabilities": map[string]any{"drop": []string{"ALL"}}, "seccompProfile": map[string]string{"type": "RuntimeDefault"}}}}},
	}
	warnings, err := p.Kube.TryCreate(ctx, pod, "api", "v1", "namespaces", namespace, "pods")
	if err == nil {
		said := ""
		if len(warnings) > 0 {
			said = "; it says: " + oneLine(warnings[0])
		}
		return []Finding{problem("gatehouse policy explain --policy FILE -n "+namespace+" "+image+" says which rule lets it in; if none does, the webhook was not asked (see exemptions, failure-policy)",
			"in namespace %s a pod is let in whose image nobody has attested%s", namespace, said)}
	}
	var e *kube.Error
	if !errors.As(err, &e) {
		return []Finding{unknown("", "a pod could not be tried in namespace %s: %v", namespace, err)}
	}
	for _, w := range all {
		switch {
		case strings.Contains(e.Message, fmt.Sprintf("admission webhook %q denied the request", w.Name)) && (strings.Contains(e.Message, "could not be read") || e.Code == http.StatusServiceUnavailable):
			return []Finding{problem("see feed, metadata and gates", "in namespace %s the gate denies because it could not find out: %s", namespace, oneLine(e.Message))}
		case strings.Contains(e.Message, fmt.Sprintf("admission webhook %q denied the request", w.Name)):
			return []Finding{ok("in namespace %s the gate denies a pod whose image nobody has attested", namespace)}
		case strings.Contains(e.Message, fmt.Sprintf("failed calling webhook %q", w.Name)):
			return []Finding{problem(callMend(p, e.Message), "the API server does not get an answer of the gate, and refuses all pods: %s", oneLine(e.Message))}
		}
	}
	if e.Code == http.StatusForbidden && strings.Contains(e.Message, "cannot create resource") {
		return []Finding{asked("what would become of a pod in namespace "+namespace, err)}
	}
	return []Finding{warning("try another namespace: --trial-namespace NS", "in namespace %s a pod is refused, and not by Gatehouse, so that it is not known what that would do: %s", namespace, oneLine(e.Message))}
}

func callMend(p *patient, message string) string {
	switch {
	case strings.Contains(message, "x509"):
		return "see certificate, roots and clocks"
	case strings.Contains(message, "no endpoints") || strings.Contains(message, "not found"):
		return "kubectl get deploy,endpointslices -n " + p.Namespace + " says why no gate is ready; while none can be: kubectl delete validatingwebhookconfiguration " + p.Name
	}
	return "see that a gate runs, and that API servers reach it (network policy, firewall); while none can be: kubectl delete validatingwebhookconfiguration " + p.Name
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return some(list)
}

// some names the first of a long list.
func some(list []string) string {
	if len(list) > mostNamed {
		return strings.Join(list[:mostNamed], ", ") + fmt.Sprintf(" and %d more", len(list)-mostNamed)
	}
	return strings.Join(list, ", ")
}

// oneLine is text of others in a line.
func oneLine(s string) string {
	const most = 400
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
