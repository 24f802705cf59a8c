package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

const clusterBound = 2 * time.Minute

// askCluster lets a real API server ask the gate.
func (t *tour) askCluster(ctx context.Context) error {
	logf := func(format string, args ...any) { t.say("  "+format, args...) }
	kube, err := controlplane.Start(ctx, controlplane.Options{Dir: filepath.Join(t.dir, "kube"), Logf: logf})
	if err != nil {
		return err
	}
	t.onStop(func() error { kube.Stop(); return nil })
	ca, err := os.ReadFile(t.server.CA)
	if err != nil {
		return err
	}
	if err := kube.RegisterWebhook(ctx, "validate.gatehouse.dev", "https://"+t.server.Admission+"/validate", ca); err != nil {
		return err
	}
	t.say("  registered the webhook; export KUBECONFIG=%s", kube.Kubeconfig())
	for _, namespace := range []string{"shop", "trial"} {
		if _, stderr, err := kube.Kubectl(ctx, nil, "create", "namespace", namespace); err != nil {
			return fmt.Errorf("%w: %s", err, stderr)
		}
		if err := t.await(ctx, "the service account of namespace "+namespace, func() (bool, error) {
			_, _, err := kube.Kubectl(ctx, nil, "get", "serviceaccount", "default", "--namespace", namespace)
			return err == nil, nil
		}); err != nil {
			return err
		}
	}
	for _, p := range t.pods() {
		if err := t.createPod(ctx, kube, p); err != nil {
			return err
		}
	}
	return t.rollOut(ctx, kube)
}

func (t *tour) createPod(ctx context.Context, kube *controlplane.ControlPlane, p pod) error {
	marks := ""
	if p.breakGlass != "" {
		marks = fmt.Sprintf("  labels: {%s: \"true\"}\n  annotations: {%s: %q}\n", breakGlassLabel, justification, p.breakGlass)
	}
	manifest := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n%sspec:\n  containers:\n  - {name: main, image: %q}\n",
		p.name, p.namespace, marks, p.image)
	stdout, stderr, err := kube.Kubectl(ctx, strings.NewReader(manifest), "create", "-f", "-")
	if err != nil && !isExit(err, 1) {
		return err
	}
	t.decided(p, err == nil)
	t.quote(stdout + stderr)
	if (err == nil) != p.allowed {
		return fmt.Errorf("pod %s: admitted %v, and should be %v", p.name, err == nil, p.allowed)
	}
	return nil
}

// rollOut deploys the vulnerable image, sees that no pod comes, and fixes it.
func (t *tour) rollOut(ctx context.Context, kube *controlplane.ControlPlane) error {
	t.say("\n  a Deployment of the vulnerable image:")
	if err := t.apply(ctx, kube, t.images.vulnerable); err != nil {
		return err
	}
	events := func() (string, error) {
		stdout, _, err := kube.Kubectl(ctx, nil, "get", "events", "--namespace", "shop", "--field-selector", "reason=FailedCreate", "--output", "jsonpath={.items[0].message}")
		return stdout, ignoreExit(err)
	}
	err := t.await(ctx, "an event that says why there are no pods", func() (bool, error) {
		message, err := events()
		return strings.Contains(message, "denied the request"), err
	})
	if err != nil {
		return err
	}
	t.say("  never gets its pods, and its events say why:")
	if err := t.kubectl(ctx, kube, "get", "deployment,pods", "--namespace", "shop", "--selector", "app=checkout"); err != nil {
		return err
	}
	message, err := events()
	if err != nil {
		return err
	}
	t.quote("FailedCreate: " + message)

	t.say("\n  the program is built anew with a fixed library, checked, and rolled out:")
	if err := t.checkImage(ctx, t.images.fixed); err != nil {
		return err
	}
	if err := t.apply(ctx, kube, t.images.fixed); err != nil {
		return err
	}
	err = t.await(ctx, "the pods of the fix", func() (bool, error) {
		stdout, _, err := kube.Kubectl(ctx, nil, "get", "pods", "--namespace", "shop", "--selector", "app=checkout", "--output", "name")
		return strings.Count(stdout, "pod/") >= 2, ignoreExit(err)
	})
	if err != nil {
		return err
	}
	return t.kubectl(ctx, kube, "get", "pods", "--namespace", "shop", "--selector", "app=checkout", "--output", "custom-columns=POD:.metadata.name,PHASE:.status.phase,IMAGE:.spec.containers[0].image")
}

// deployment recreates its pods on a change: there is no kubelet here to make new
// ones ready, which a rolling update would wait for.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop, labels: {app: checkout}}
spec:
  replicas: 2
  strategy: {type: Recreate}
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout}}
    spec:
      containers:
      - {name: main, image: %q}
`

func (t *tour) apply(ctx context.Context, kube *controlplane.ControlPlane, p picture) error {
	t.command("kubectl apply -f checkout.yaml   # 2 replicas of %s", short(p))
	stdout, stderr, err := kube.Kubectl(ctx, strings.NewReader(fmt.Sprintf(deployment, p.ref)), "apply", "-f", "-")
	t.quote(stdout + stderr)
	return err
}

func (t *tour) kubectl(ctx context.Context, kube *controlplane.ControlPlane, args ...string) error {
	t.command("kubectl %s", strings.Join(args, " "))
	stdout, stderr, err := kube.Kubectl(ctx, nil, args...)
	t.quote(stdout + stderr)
	return err
}

// await asks until the answer is yes.
func (t *tour) await(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, clusterBound)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// isExit reports whether a program ended with this status.
func isExit(err error, code int) bool {
	exit := (*exec.ExitError)(nil)
	return errors.As(err, &exit) && exit.ExitCode() == code
}

// ignoreExit takes a program that found nothing for an answer.
func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}
