package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
)

// TestKubectlCallsThePlugin has a real kubectl find the plugin in PATH, resolve from a
// registry that is private, and apply to a real API server.
func TestKubectlCallsThePlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	cluster := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	reg := registry.New(t, registry.WithTLS(), registry.WithBasicAuth("robot", "secret"))
	img, err := registry.Image(registry.ImageOptions{User: "1"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web:1", img)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", "kubectl-resolve_tags"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kube, err := controlplane.Build(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	// kubectl is a link beside the control plane, and the plugin calls it by that name.
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+filepath.Dir(kube)+":"+os.Getenv("PATH"))
	t.Setenv("SSL_CERT_FILE", write("ca.pem", string(reg.CertificatePEM())))
	auth := base64.StdEncoding.EncodeToString([]byte("robot:secret"))
	t.Setenv("DOCKER_CONFIG", filepath.Dir(write("docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, reg.Host(), auth))))
	kubectl := func(stdin string, args ...string) string {
		t.Helper()
		stdout, stderr, err := cluster.Kubectl(t.Context(), strings.NewReader(stdin), args...)
		if err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		return stdout
	}
	tagged := reg.Host() + "/shop/web:1"
	pinned := tagged + "@" + ref.Digest().String()
	image := func(kind, name string) string {
		t.Helper()
		return kubectl("", "get", kind, name, "-o", "jsonpath={..image}")
	}

	t.Run("piped into kubectl apply", func(t *testing.T) {
		file := write("pod.yaml", "# a pod\napiVersion: v1\nkind: Pod\nmetadata: {name: piped}\nspec:\n  containers:\n  - {name: web, image: '"+tagged+"'}\n")
		out := kubectl("", "resolve-tags", "-f", file)
		if !strings.HasPrefix(out, "# a pod\n") {
			t.Errorf("got %s", out)
		}
		kubectl(out, "apply", "-f", "-")
		if got := image("pod", "piped"); got != pinned {
			t.Errorf("got %s, want %s", got, pinned)
		}
	})
	t.Run("several files are one stream to kubectl", func(t *testing.T) {
		a := write("a.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"in-json"},"spec":{"containers":[{"name":"web","image":"`+tagged+`"}]}}`)
		b := write("b.yaml", "\ufeffapiVersion: v1\r\nkind: Pod\r\nmetadata: {name: in-yaml}\r\nspec: {containers: [{name: web, image: "+tagged+"}]}\r\n---")
		kubectl(kubectl("", "resolve-tags", "-f", a, "-f", b, "-f", a), "apply", "-f", "-")
		for _, name := range []string{"in-json", "in-yaml"} {
			if got := image("pod", name); got != pinned {
				t.Errorf("got %s, want %s", got, pinned)
			}
		}
	})
	t.Run("by --apply", func(t *testing.T) {
		file := write("deployment.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: applied}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - &c {name: web, image: `+tagged+`}
      - {<<: *c, name: sidecar}
`)
		out := kubectl("", "resolve-tags", "-f", file, "--apply", "--", "--server-side")
		if want := "deployment.apps/applied serverside-applied\n"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		if got := image("deployment", "applied"); got != pinned+" "+pinned {
			t.Errorf("got %s, want %s twice", got, pinned)
		}
	})
	t.Run("of kustomize", func(t *testing.T) {
		write("base/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: kustomized}\nspec: {containers: [{name: web, image: web}]}\n")
		file := write("base/kustomization.yaml", "resources: [pod.yaml]\nimages: [{name: web, newName: "+reg.Host()+"/shop/web, newTag: '1'}]\n")
		kubectl("", "resolve-tags", "-k", filepath.Dir(file), "-a")
		if got := image("pod", "kustomized"); got != pinned {
			t.Errorf("got %s, want %s", got, pinned)
		}
	})
	t.Run("the exit status is the plugin's", func(t *testing.T) {
		file := write("unpinned.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: "+tagged+"}]}\n")
		for want, args := range map[int][]string{1: {"--check"}, 2: {"--colour"}} {
			_, _, err := cluster.Kubectl(t.Context(), nil, append([]string{"resolve-tags", "-f", file}, args...)...)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != want {
				t.Errorf("%v: got %v, want status %d", args, err, want)
			}
		}
	})
	t.Run("kubectl reads the same as before, but for the images", func(t *testing.T) {
		file := write("many.yaml", strings.ReplaceAll(many, "IMAGE", tagged))
		read := func(text string) (objects []any) {
			for dec := json.NewDecoder(strings.NewReader(kubectl(text, "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"))); dec.More(); {
				var v any
				if err := dec.Decode(&v); err != nil {
					t.Fatal(err)
				}
				objects = append(objects, v)
			}
			return objects
		}
		out := kubectl("", "resolve-tags", "-f", file)
		if n := strings.Count(out, pinned); n != 8 {
			t.Errorf("%d images are pinned: %s", n, out)
		}
		before := read(strings.ReplaceAll(many, "IMAGE", tagged))
		after := read(out)
		cut := cmp.FilterValues(func(a, b string) bool { return (a == tagged && b == pinned) || (a == pinned && b == tagged) }, cmp.Ignore())
		if diff := cmp.Diff(before, after, cut); diff != "" || len(before) != 6 {
			t.Errorf("%d objects: %s", len(before), diff)
		}
		// All that kubectl takes for the images of pods are pinned.
		for _, o := range after {
			if text, _ := json.Marshal(o); strings.Contains(string(text), `"image":"`+tagged+`"`) && !strings.Contains(string(text), `"ConfigMap"`) {
				t.Errorf("an image is left: %s", text)
			}
		}
	})
}

// many has all that a manifest may be written with.
const many = `# one
---
apiVersion: v1
kind: Pod
metadata: {name: styles, annotations: {number: "0644", yes: 'yes'}}
spec:
  containers:
  - {name: plain, image: IMAGE}
  - name: folded
    image: >-
      IMAGE
  - name: escaped
    "image": "IMAGE" # why
    env: [{name: image, value: IMAGE}]
--- # two
apiVersion: v1
kind: ConfigMap
metadata: {name: data}
data:
  image: IMAGE
  pem: |
    -----BEGIN CERTIFICATE-----
    ---
    -----END CERTIFICATE-----
---
apiVersion: v1
kind: Pod
x-common: &common {image: IMAGE, imagePullPolicy: Always}
metadata: {name: merged}
spec:
  initContainers:
  - <<: *common
    name: one
  - {<<: *common, name: two}
  containers:
  - name: three
    image: &image IMAGE
  - name: four
    image: *image
---
{"apiVersion": "v1", "kind": "List", "items": [
	{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "IMAGE"}]}}}}}},
	{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "volumes"}, "spec": {"containers": [{"name": "c", "image": "IMAGE"}], "volumes": [{"name": "v", "image": {"reference": "IMAGE"}}]}}
]}
---
apiVersion: v1
kind: Service
metadata: {name: last}
spec: {ports: [{port: 80}]}
---
`
