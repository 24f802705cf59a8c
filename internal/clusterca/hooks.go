package clusterca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// WebhooksAnnotation has the webhooks that a configuration is to have, as YAML, without
// caBundle.
const WebhooksAnnotation = "gatehouse.dev/webhooks"

const (
	registration = "admissionregistration.k8s.io"

	// maxWebhooks bounds what is read of an annotation, which an API server holds to
	// 256 KiB, and maxReview the answer of a webhook.
	maxWebhooks = 32
	maxReview   = 1 << 20
	// reviewTimeout bounds the question whether a webhook answers.
	reviewTimeout = 5 * time.Second
	// maxBefore bounds the roots that are taken over from a lost authority.
	maxBefore = 8
)

// A hook is a webhook configuration that is there.
type hook struct {
	part   Part
	plural string
	name   string
	meta   meta
	live   []map[string]any
	// wanted are the webhooks of the annotation, and entries where they are.
	wanted  []map[string]any
	entries []entry
	// unreadable is what is wrong with the annotation.
	unreadable error
}

// An entry is where a webhook is asked.
type entry struct{ name, address string }

func (k *Keeper) configurations() []hook {
	return []hook{
		{part: Gate, plural: "validatingwebhookconfigurations", name: k.Name},
		{part: Mutate, plural: "mutatingwebhookconfigurations", name: k.Name + "-mutate"},
	}
}

// resources are those that are followed.
func (k *Keeper) resources() []kube.Resource {
	var all []kube.Resource
	for _, h := range k.configurations() {
		all = append(all, kube.Resource{Group: registration, Version: "v1", Name: h.plural, Fields: "metadata.name=" + h.name})
	}
	named := func(plural, name string) kube.Resource {
		return kube.Resource{Version: "v1", Name: plural, Namespace: k.Namespace, Fields: "metadata.name=" + name}
	}
	for _, part := range Parts() {
		all = append(all, named("secrets", k.leafName(part)))
	}
	if k.Issuer == Own {
		all = append(all, named("secrets", k.Name+"-ca"), named("configmaps", k.Name+"-ca"))
	}
	return all
}

func (p *pass) readHooks() ([]*hook, error) {
	var found []*hook
	for _, h := range p.configurations() {
		var o struct {
			Metadata meta             `json:"metadata"`
			Webhooks []map[string]any `json:"webhooks"`
		}
		err := p.Client.Get(p.ctx, &o, nil, "apis", registration, "v1", h.plural, h.name)
		if kube.NotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the webhook configuration %s: %w", h.name, err)
		}
		h.meta, h.live = o.Metadata, o.Webhooks
		h.wanted, h.entries, h.unreadable = readWebhooks(o.Metadata.Annotations[WebhooksAnnotation])
		found = append(found, &h)
	}
	return found, nil
}

func (p *pass) hookOf(part Part) *hook {
	for _, h := range p.hooks {
		if h.part == part {
			return h
		}
	}
	return nil
}

// readWebhooks reads the annotation.
func readWebhooks(text string) (wanted []map[string]any, entries []entry, err error) {
	fail := func(format string, args ...any) ([]map[string]any, []entry, error) {
		return nil, nil, fmt.Errorf("annotation "+WebhooksAnnotation+": "+format, args...)
	}
	var list []map[string]any
	if err := yaml.Unmarshal([]byte(text), &list); err != nil {
		return fail("%w", err)
	}
	if len(list) == 0 || len(list) > maxWebhooks {
		return fail("%d webhooks, want 1 to %d", len(list), maxWebhooks)
	}
	asJSON, err := json.Marshal(list) // and back, so that numbers are those of JSON
	if err == nil {
		err = json.Unmarshal(asJSON, &wanted)
	}
	if err != nil {
		return fail("%w", err)
	}
	var typed []struct {
		Name         string
		ClientConfig struct {
			CABundle *string
			URL      string
			Service  *struct {
				Namespace, Name, Path string
				Port                  int
			}
		}
	}
	if err := json.Unmarshal(asJSON, &typed); err != nil {
		return fail("%w", err)
	}
	for _, w := range typed {
		at := entry{w.Name, w.ClientConfig.URL}
		if s := w.ClientConfig.Service; s != nil {
			port := s.Port
			if port == 0 {
				port = 443
			}
			at.address = "https://" + s.Name + "." + s.Namespace + ".svc:" + strconv.Itoa(port) + s.Path
		}
		if at.address == "" || w.ClientConfig.CABundle != nil {
			return fail("webhook %q: want a clientConfig with service or url, and no caBundle", w.Name)
		}
		entries = append(entries, at)
	}
	return wanted, entries, nil
}

// keepHooks has webhook configurations have the webhooks that they should, with the roots.
func (p *pass) keepHooks() error {
	var errs []error
	for _, h := range p.hooks {
		err := p.arm(h)
		if kube.Conflict(err) {
			return err
		}
		p.status.Armed[h.name] = err == nil
		if err != nil {
			errs = append(errs, fmt.Errorf("webhook configuration %s: %w", h.name, err))
		}
	}
	return errors.Join(errs...)
}

// rootsFor are those that a configuration is to have.
func (p *pass) rootsFor(h *hook) ([]byte, error) {
	if p.Issuer == Own {
		return p.roots, nil
	}
	roots := join(p.leaves[h.part].Data[bundleKey])
	if len(roots) == 0 {
		return nil, fmt.Errorf("the Secret %s/%s has no ca.crt yet: cert-manager writes it", p.Namespace, p.leafName(h.part))
	}
	return roots, nil
}

// arm puts in force what the annotation says, unless it is.
func (p *pass) arm(h *hook) error {
	if h.unreadable != nil {
		return h.unreadable
	}
	roots, err := p.rootsFor(h)
	if err != nil {
		return err
	}
	want := withRoots(h.wanted, roots)
	inForce := func(live []map[string]any) bool {
		return reflect.DeepEqual(withDefaults(want, h.part), withDefaults(live, h.part))
	}
	if inForce(h.live) || p.accepted[h.name] == h.meta.ResourceVersion {
		return nil
	}
	for _, e := range h.entries {
		if err := p.answers(e, roots); err != nil {
			return fmt.Errorf("webhook %s does not answer yet, and is not put in force: %w", e.name, err)
		}
	}
	var after struct {
		Metadata meta             `json:"metadata"`
		Webhooks []map[string]any `json:"webhooks"`
	}
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": h.meta.ResourceVersion}, "webhooks": want}
	if err := p.Client.Merge(p.ctx, patch, &after, "apis", registration, "v1", h.plural, h.name); err != nil {
		return fmt.Errorf("putting it in force: %w", err)
	}
	p.Logger.Info("the webhooks are in force", "configuration", h.name, "webhooks", len(want))
	h.live, h.meta = after.Webhooks, after.Metadata
	if !inForce(h.live) { // a newer API server says more than is known here
		p.accepted[h.name] = after.Metadata.ResourceVersion
	}
	return nil
}

// withRoots returns webhooks with caBundle.
func withRoots(wanted []map[string]any, roots []byte) []map[string]any {
	var all []map[string]any
	for _, w := range wanted {
		w = clone(w)
		config, _ := w["clientConfig"].(map[string]any)
		config = clone(config)
		config["caBundle"] = base64.StdEncoding.EncodeToString(roots)
		w["clientConfig"] = config
		all = append(all, w)
	}
	return all
}

func clone(m map[string]any) map[string]any {
	c := make(map[string]any, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// withDefaults returns webhooks with what an API server adds to them.
func withDefaults(webhooks []map[string]any, part Part) []map[string]any {
	set := func(m map[string]any, key string, value any) {
		if m[key] == nil {
			m[key] = value
		}
	}
	var all []map[string]any
	for _, w := range webhooks {
		w = clone(w)
		set(w, "failurePolicy", "Fail")
		set(w, "matchPolicy", "Equivalent")
		set(w, "timeoutSeconds", float64(10))
		set(w, "namespaceSelector", map[string]any{})
		set(w, "objectSelector", map[string]any{})
		if part == Mutate {
			set(w, "reinvocationPolicy", "Never")
		}
		if config, ok := w["clientConfig"].(map[string]any); ok {
			if service, ok := config["service"].(map[string]any); ok {
				config, service = clone(config), clone(service)
				set(service, "port", float64(443))
				config["service"] = service
				w["clientConfig"] = config
			}
		}
		if rules, ok := w["rules"].([]any); ok {
			var scoped []any
			for _, r := range rules {
				if rule, ok := r.(map[string]any); ok {
					rule = clone(rule)
					set(rule, "scope", "*")
					r = rule
				}
				scoped = append(scoped, r)
			}
			w["rules"] = scoped
		}
		all = append(all, w)
	}
	return all
}

// answers asks a webhook, as an API server that has these roots does.
func (p *pass) answers(at entry, roots []byte) error {
	ctx, cancel := context.WithTimeout(p.ctx, reviewTimeout)
	defer cancel()
	uid := rand.Text()
	review := map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": uid, "operation": "CREATE", "dryRun": true, "namespace": p.Namespace, "name": "gatehouse-probe",
			"kind":            map[string]string{"group": "", "version": "v1", "kind": "Pod"},
			"resource":        map[string]string{"group": "", "version": "v1", "resource": "pods"},
			"requestKind":     map[string]string{"group": "", "version": "v1", "kind": "Pod"},
			"requestResource": map[string]string{"group": "", "version": "v1", "resource": "pods"},
			"userInfo":        map[string]any{"username": "system:serviceaccount:" + p.Namespace + ":" + p.Name + "-controller"},
			"object": map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "gatehouse-probe", "namespace": p.Namespace},
				"spec": map[string]any{"containers": []any{map[string]any{"name": "probe", "image": "gatehouse.invalid/probe:1"}}},
			},
		},
	}
	body, err := json.Marshal(review)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReview))
	if err != nil {
		return err
	}
	var answer struct {
		Kind     string
		Response *struct{ UID string }
	}
	if json.Unmarshal(text, &answer) != nil || answer.Kind != "AdmissionReview" || answer.Response == nil || answer.Response.UID != uid {
		return fmt.Errorf("it answers %d, and not with a review", resp.StatusCode)
	}
	return nil
}

// bundles are the roots that the webhooks in force have.
func (p *pass) bundles() [][]byte {
	var all [][]byte
	for _, h := range p.hooks {
		for _, w := range h.live {
			config, _ := w["clientConfig"].(map[string]any)
			text, _ := config["caBundle"].(string)
			roots, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				roots = nil
			}
			all = append(all, roots)
		}
	}
	return all
}

// everybodyTrusts says that all webhooks in force have the root that issues.
func (p *pass) everybodyTrusts() bool {
	issuer := p.kept.Issuer(p.now)
	for _, roots := range p.bundles() {
		found := false
		for _, c := range certificates(roots) {
			found = found || c.Equal(issuer)
		}
		if !found {
			return false
		}
	}
	return true
}

// trusted are roots that API servers have, of an authority that was lost. Who may write
// webhook configurations may have any webhook be asked anyway.
func (p *pass) trusted() []byte {
	var all []byte
	n := 0
	for _, c := range certificates(join(p.bundles()...)) {
		if c.IsCA && p.now.Before(c.NotAfter) && n < maxBefore {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			n++
		}
	}
	return all
}

// certificates are those in a text of PEM that can be read.
func certificates(text []byte) (all []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
	return all
}
