package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/install"
	"github.com/gatehouse-dev/gatehouse/server"
)

// configOf is the configuration of a part, as it is installed.
func configOf(t *testing.T, objects []install.Object, part string) string {
	t.Helper()
	for _, o := range objects {
		if o.String() == "ConfigMap/gatehouse-"+part+"-config" {
			return o["data"].(map[string]any)["gatehouse.yaml"].(string)
		}
	}
	t.Fatalf("there is no configuration of %s", part)
	return ""
}

// TestInstalledConfigurationsAreValid checks the configuration of each part, for each set
// of values that the chart is tried with, as far as it can be without a cluster.
func TestInstalledConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../install/testdata/values/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		values, err := readValues([]string{file}, nil)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := install.Render(install.Options{Name: "gatehouse", Namespace: "gatehouse", Values: values})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			part, isConfig := strings.CutSuffix(strings.TrimPrefix(o.Name(), "gatehouse-"), "-config")
			if o.Kind() != "ConfigMap" || !isConfig {
				continue
			}
			t.Run(filepath.Base(file)+"/"+part, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "gatehouse.yaml")
				if err := os.WriteFile(path, []byte(configOf(t, objects, part)), 0o600); err != nil {
					t.Fatal(err)
				}
				cfg := server.DefaultConfig()
				if err := cfg.LoadFile(path); err != nil {
					t.Fatal(err)
				}
				if err := cfg.Validate(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// An installed is an installation on a real API server, whose parts run as processes here,
// as they are: with the configuration and the rights that are installed. What kubelets and
// Services would do is done here: Secrets become files, and addresses are on loopback.
type installed struct {
	*testing.T
	kube    *controlplane.ControlPlane
	dir     string
	objects []install.Object
	// where the parts listen.
	gate, metadata string
}

func (i *installed) kubectl(stdin string, args ...string) (string, error) {
	out, said, err := i.kube.Kubectl(i.Context(), strings.NewReader(stdin), args...)
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, said)
	}
	return out + said, nil
}

func (i *installed) must(stdin string, args ...string) string {
	i.Helper()
	out, err := i.kubectl(stdin, args...)
	if err != nil {
		i.Fatal(err)
	}
	return out
}

// files puts the keys of a Secret or ConfigMap into files below the folder of a part, once
// they are there.
func (i *installed) files(part, mount, kind, name string, keys ...string) {
	i.Helper()
	for _, key := range keys {
		var content string
		until(i, name+" has "+key, func() bool {
			var o struct{ Data map[string]any }
			text := i.must("", "get", kind, name, "-n", "gatehouse", "-o", "json")
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				i.Fatal(err)
			}
			content, _ = o.Data[key].(string)
			return content != ""
		})
		if kind == "secret" {
			content = decodeBase64(i.T, content)
		}
		i.write(filepath.Join(part, mount, key), content)
	}
}

func (i *installed) write(name, content string) {
	i.Helper()
	path := filepath.Join(i.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		i.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		i.Fatal(err)
	}
}

// start runs a part, as its service account.
func (i *installed) start(part string, more ...string) *serveProcess {
	i.Helper()
	i.write(part+"/token/token", strings.TrimSpace(i.must("", "create", "token", "gatehouse-"+part, "-n", "gatehouse", "--audience", "gatehouse")))
	kubeconfig := filepath.Join(i.dir, part, "kubeconfig")
	i.write(part+"/kubeconfig", i.kubeconfig(strings.TrimSpace(i.must("", "create", "token", "gatehouse-"+part, "-n", "gatehouse"))))
	config := strings.NewReplacer(
		"/etc/gatehouse", filepath.Join(i.dir, part),
		"/var/lib/gatehouse", filepath.Join(i.dir, part, "data"),
		"kubernetes: {enabled: true,", "kubernetes: {kubeconfig: "+kubeconfig+", enabled: true,",
		"\ncontroller:\n", "\ncontroller:\n  kubeconfig: "+kubeconfig+"\n",
		"certificates: {issuer: own,", "certificates: {hosts: {server: [localhost]}, issuer: own,",
	).Replace(configOf(i.T, i.objects, part))
	i.write(part+"/gatehouse.yaml", config)
	return startServe(i, append([]string{"--config", filepath.Join(i.dir, part, "gatehouse.yaml")}, more...)...)
}

func (i *installed) kubeconfig(token string) string {
	i.Helper()
	text, err := os.ReadFile(i.kube.Kubeconfig())
	if err != nil {
		i.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		i.Fatal(err)
	}
	config["users"].([]any)[0].(map[string]any)["user"] = map[string]any{"token": token}
	text, err = json.Marshal(config)
	if err != nil {
		i.Fatal(err)
	}
	return string(text)
}

// TestAnInstallationComesUp: with the rights and the configurations that are installed, and
// nothing else, the controller makes certificates, the server and the gate start with them
// and prove to each other who they are, the webhook is put in force, and a policy that is
// applied with kubectl refuses a pod.
func TestAnInstallationComesUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	i := &installed{T: t, kube: controlplane.New(t, controlplane.Options{}), dir: t.TempDir(), gate: freePort(t), metadata: freePort(t)}
	set := []string{"--set", "webhook.url=https://" + i.gate}
	values, err := readValues(nil, set[1:])
	if err != nil {
		t.Fatal(err)
	}
	if i.objects, err = install.Render(install.Options{Name: "gatehouse", Namespace: "gatehouse", Values: values}); err != nil {
		t.Fatal(err)
	}
	apply := append([]string{"install", "--apply", "--wait=false", "--kubeconfig", i.kube.Kubeconfig()}, set...)
	if code := run(t.Context(), apply, nil, io.Discard, t.Output()); code != exitYes {
		t.Fatalf("gatehouse install: exit status %d", code)
	}
	feed := "https://localhost:" + i.metadata[strings.LastIndex(i.metadata, ":")+1:]
	controller := i.start("controller", "--feed-server", feed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the controller:\n%s\nits policy:\n%s", controller.stderr, i.seen())
		}
	})
	i.files("server", "tls", "secret", "gatehouse-server-tls", "tls.crt", "tls.key")
	i.files("gate", "tls", "secret", "gatehouse-gate-tls", "tls.crt", "tls.key")
	for _, part := range []string{"gate", "controller"} { // which has waited for it, as for a kubelet
		i.files(part, "ca", "configmap", "gatehouse-ca", "ca.crt")
	}
	metadata := i.start("server", "--metadata-addr", i.metadata)
	gate := i.start("gate", "--feed-server", feed, "--admission-addr", i.gate)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server:\n%s\nthe gate:\n%s", metadata.stderr, gate.stderr)
		}
	})
	until(t, "the webhooks are in force", func() bool {
		return i.must("", "get", "validatingwebhookconfiguration", "gatehouse", "-o", "jsonpath={.webhooks[*].name}") == "imagepolicywebhook.image-policy.k8s.io templates.gatehouse.dev"
	})
	pod := func(name string) string {
		return `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, namespace: default}, spec: {containers: [{name: c, image: "registry.test/web:1"}]}}`
	}
	until(t, "the gate is asked, and warns that there is no policy", func() bool {
		out, err := i.kubectl(pod("before"), "create", "--dry-run=server", "-f", "-")
		return err == nil && strings.Contains(out, "Warning")
	})
	i.must(`{apiVersion: gatehouse.dev/v1beta1, kind: ClusterPolicy, metadata: {name: none}, spec: {binaryAuthorization: {defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}}}`, "apply", "-f", "-")
	until(t, "the policy is in force", func() bool {
		_, err := i.kubectl(pod("after"), "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(err.Error(), "denied the request")
	})
	if _, err := i.kubectl(strings.Replace(pod("ours"), "namespace: default", "namespace: kube-system", 1), "create", "--dry-run=server", "-f", "-"); err != nil {
		t.Errorf("a pod of an exempt namespace: %v", err)
	}
	if forbidden := "403 Forbidden"; strings.Contains(controller.stderr.String(), forbidden) {
		t.Errorf("the controller lacks a right:\n%s", controller.stderr)
	}

	gate.kill()
	uninstall := []string{"uninstall", "--yes", "--purge", "--kubeconfig", i.kube.Kubeconfig()}
	if code := run(context.WithoutCancel(t.Context()), uninstall, nil, io.Discard, t.Output()); code != exitYes {
		t.Fatalf("gatehouse uninstall: exit status %d", code)
	}
	i.must(pod("free"), "create", "-f", "-")
}

// seen is what there is of policy, for a test that fails.
func (i *installed) seen() string {
	out, _, err := i.kube.Kubectl(context.WithoutCancel(i.Context()), nil, "get", "clusterpolicies", "-o", "yaml")
	if err != nil {
		return err.Error()
	}
	return out
}

func decodeBase64(t *testing.T, s string) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
