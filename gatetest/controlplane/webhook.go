package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	webhookConfigurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
	fieldManager          = "gatetest"

	// probeLabel marks the one object that the probe webhook is asked about.
	probeLabel = "gatetest.gatehouse.dev/probe"
	// probeURL is a place where nobody listens.
	probeURL = "https://127.0.0.1:1/probe"
	// probeBound is far above the second that an API server takes.
	probeBound = time.Minute
)

// RegisterWebhook registers a validating admission webhook for everything that
// carries images: pods, the ephemeral containers of pods, and the workload kinds
// that make pods, in every namespace but kube-system. It returns when the API
// server asks the webhook. Registering a name again replaces it.
//
// The name is both the webhook's, which must be a domain name of three labels or
// more, and its configuration's. The address must be https, and may be on
// loopback; caPEM are the certificates that its certificate is verified with.
// The webhook fails closed after 10 seconds and is sent AdmissionReview v1.
func (c *ControlPlane) RegisterWebhook(ctx context.Context, name, address string, caPEM []byte) error {
	if err := c.registerWebhook(ctx, name, address, caPEM); err != nil {
		return fmt.Errorf("registering admission webhook %q: %w", name, err)
	}
	return nil
}

func (c *ControlPlane) registerWebhook(ctx context.Context, name, address string, caPEM []byte) error {
	if strings.Count(name, ".") < 2 {
		return errors.New("the name must be a domain name of three labels or more, such as validate.gatehouse.dev")
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" {
		return fmt.Errorf("the address %q is not an https URL", address)
	}
	if len(caPEM) == 0 {
		return errors.New("without a CA certificate the API server could not verify it")
	}
	gate := gateWebhook(name, address, caPEM)
	// All webhooks of a configuration become active at once, so a second one
	// that refuses for certain tells when the first is asked.
	probe := probeWebhook(name, caPEM)
	if err := c.applyWebhooks(ctx, name, gate, probe); err != nil {
		return err
	}
	if err := c.awaitProbe(ctx, name, true); err != nil {
		return err
	}
	return c.applyWebhooks(ctx, name, gate)
}

// UnregisterWebhook removes a webhook that [ControlPlane.RegisterWebhook]
// registered, and returns when the API server no longer asks it.
func (c *ControlPlane) UnregisterWebhook(ctx context.Context, name string) error {
	if err := c.unregisterWebhook(ctx, name); err != nil {
		return fmt.Errorf("removing admission webhook %q: %w", name, err)
	}
	return nil
}

func (c *ControlPlane) unregisterWebhook(ctx context.Context, name string) error {
	// With the probe alone the webhook is out once the probe answers.
	if err := c.applyWebhooks(ctx, name, probeWebhook(name, nil)); err != nil {
		return err
	}
	if err := c.awaitProbe(ctx, name, true); err != nil {
		return err
	}
	if err := c.expect(ctx, http.MethodDelete, webhookConfigurations+"/"+url.PathEscape(name), "application/json", nil); err != nil {
		return err
	}
	return c.awaitProbe(ctx, name, false)
}

type object = map[string]any

func gateWebhook(name, address string, caPEM []byte) object {
	operations := []string{"CREATE", "UPDATE"}
	rule := func(group string, resources ...string) object {
		return object{
			"apiGroups": []string{group}, "apiVersions": []string{"v1"},
			"operations": operations, "resources": resources, "scope": "Namespaced",
		}
	}
	return object{
		"name":         name,
		"clientConfig": object{"url": address, "caBundle": caPEM},
		"rules": []object{
			rule("", "pods", "pods/ephemeralcontainers", "replicationcontrollers", "podtemplates"),
			rule("apps", "deployments", "replicasets", "statefulsets", "daemonsets"),
			rule("batch", "jobs", "cronjobs"),
		},
		"failurePolicy":           "Fail",
		"matchPolicy":             "Equivalent",
		"sideEffects":             "NoneOnDryRun",
		"timeoutSeconds":          10,
		"admissionReviewVersions": []string{"v1"},
		"namespaceSelector": object{"matchExpressions": []object{{
			"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": []string{"kube-system"},
		}}},
	}
}

// probeWebhook refuses the labelled ConfigMap of [ControlPlane.awaitProbe], and
// nothing else, since nobody answers at its address.
func probeWebhook(name string, caPEM []byte) object {
	config := object{"url": probeURL}
	if caPEM != nil {
		config["caBundle"] = caPEM
	}
	return object{
		"name":         "probe." + name,
		"clientConfig": config,
		"rules": []object{{
			"apiGroups": []string{""}, "apiVersions": []string{"v1"},
			"operations": []string{"CREATE"}, "resources": []string{"configmaps"}, "scope": "Namespaced",
		}},
		"objectSelector":          object{"matchLabels": object{probeLabel: name}},
		"failurePolicy":           "Fail",
		"sideEffects":             "None",
		"timeoutSeconds":          1,
		"admissionReviewVersions": []string{"v1"},
	}
}

// applyWebhooks makes these, and no others, the webhooks of the configuration.
func (c *ControlPlane) applyWebhooks(ctx context.Context, name string, webhooks ...object) error {
	path := webhookConfigurations + "/" + url.PathEscape(name) + "?force=true&fieldManager=" + fieldManager
	return c.expect(ctx, http.MethodPatch, path, "application/apply-patch+yaml", object{
		"apiVersion": "admissionregistration.k8s.io/v1",
		"kind":       "ValidatingWebhookConfiguration",
		"metadata":   object{"name": name},
		"webhooks":   webhooks,
	})
}

// expect sends a request that must succeed.
func (c *ControlPlane) expect(ctx context.Context, method, path, contentType string, body any) error {
	status, response, err := c.do(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("the API server answered %d: %.500s", status, response)
	}
	return nil
}

// awaitProbe creates, in a dry run, the object that the probe webhook refuses,
// until it is refused (active) or let in.
func (c *ControlPlane) awaitProbe(ctx context.Context, name string, active bool) error {
	probe := object{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   object{"generateName": "gatetest-probe-", "labels": object{probeLabel: name}},
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeBound, fmt.Errorf("not within %v", probeBound))
	defer cancel()
	last := errors.New("not asked yet")
	err := c.poll(ctx, func() (done bool) {
		status, body, err := c.Do(ctx, http.MethodPost, "/api/v1/namespaces/default/configmaps?dryRun=All", probe)
		if err != nil {
			last = err
			return false
		}
		refused := status == http.StatusInternalServerError && strings.Contains(string(body), "probe."+name)
		last = fmt.Errorf("status %d: %.200s", status, body)
		return refused == active && (refused || status == http.StatusCreated)
	})
	if err != nil {
		return fmt.Errorf("waiting until the API server has taken it up: %w (the last answer: %w)", err, last)
	}
	return nil
}
