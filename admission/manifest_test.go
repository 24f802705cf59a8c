package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission"
)

// found renders what was found: a line for each request.
func found(m admission.Manifests) []string {
	var lines []string
	for _, o := range m.Objects {
		for _, r := range o.Requests {
			line := fmt.Sprintf("%d %s %s/%s %s:", o.Line, o.Kind, o.Namespace, o.Name, r.ServiceAccount)
			for _, u := range r.Images {
				line += " " + u.Text
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func pipelines(t *testing.T) admission.Resources {
	t.Helper()
	r, err := admission.NewResources([]admission.Resource{
		{Group: "example.com", Resource: "pipelines", Images: []string{"spec.steps[*].image"}, PodTemplates: []string{"spec.worker"}, ServiceAccount: "spec.account"},
		{Group: "example.com", Resource: "policies", Images: []string{"spec.image"}},
		{Group: "example.com", Resource: "oxen", Kind: "Ox", Images: []string{"spec.image"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestManifestsHaveTheImagesThatAGateWouldSee(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"a stream": {"# c\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers: [{image: i}]\n  containers: [{image: c}]\n  volumes: [{name: v, image: {reference: vol}}]\n---\n---\napiVersion: v1\nkind: ConfigMap\ndata: {image: no}\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j, namespace: n}\nspec: {jobTemplate: {spec: {template: {spec: {serviceAccountName: s, containers: [{image: x:1}]}}}}}\n",
			[]string{"2 Pod default/p : i c vol", "15 CronJob n/j s: x:1"}},
		"a list": {`{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": "a"}]}}, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generateName": "d-"}, "spec": {"template": {"spec": {"containers": [{"image": "b"}]}}}}]}`,
			[]string{"0 Pod default/p : a", "0 Deployment default/d- : b"}},
		"a list of the API": {`{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"image": "a"}], "ephemeralContainers": [{"image": "e"}]}}]}`,
			[]string{"0 Pod n/p : a e"}},
		"values one after another": {`{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "a"}]}} {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "b"}]}}`,
			[]string{"0 Pod default/ : a", "0 Pod default/ : b"}},
		"YAML in flow style":      {"{apiVersion: v1, kind: Pod, spec: {containers: [{image: a}]}}", []string{"1 Pod default/ : a"}},
		"anchors":                 {"apiVersion: v1\nkind: Pod\nspec: {containers: [&c {image: a}, *c]}\n", []string{"1 Pod default/ : a a"}},
		"a patch without images":  {"apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 3}\n", nil},
		"a container of a patch":  {"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{name: c}, {image: a}]}}}\n", []string{"1 Deployment default/ :  a"}},
		"a kind of another group": {"apiVersion: example.com/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{image: a}]}}}\n", nil},
		"a custom resource": {"apiVersion: example.com/v1\nkind: Pipeline\nmetadata: {name: p}\nspec: {account: acc, steps: [{image: a}, {image: b}], worker: {spec: {serviceAccountName: w, containers: [{image: c}]}}}\n",
			[]string{"1 Pipeline default/p acc: a b", "1 Pipeline default/p w: c"}},
		"a plural in -ies":    {"apiVersion: example.com/v1\nkind: Policy\nspec: {image: a}\n", []string{"1 Policy default/ : a"}},
		"a kind that is told": {"apiVersion: example.com/v1\nkind: Ox\nspec: {image: a}\n", []string{"1 Ox default/ : a"}},
		"a review": {`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "n", "operation": "CREATE", "object": {"spec": {"containers": [{"image": "a"}]}}}}`,
			[]string{"0 AdmissionReview of pods n/ : a"}},
		"no object":   {"a: 1\n---\n- b\n---\ntext\n", nil},
		"empty":       {"", nil},
		"only spaces": {" \n\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := admission.ReadManifests([]byte(test.text), admission.Place{}, pipelines(t))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, found(m)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatBringsNoImageIsCounted(t *testing.T) {
	t.Parallel()
	text := "apiVersion: v1\nkind: Service\n---\napiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: a}]}\n---\napiVersion: v1\nkind: ConfigMap\ndata: {image: x}\n---\nx: 1\n---\napiVersion: tekton.dev/v1\nkind: Run\n"
	m, err := admission.ReadManifests([]byte(text), admission.Place{}, admission.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"v1 Service": 1, "tekton.dev/v1 Task": 1, "v1 ConfigMap": 1, "": 1, "tekton.dev/v1 Run": 1}, m.Passed); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int{"tekton.dev/v1 Task": 1}, m.Unknown); d != "" {
		t.Error(d)
	}
}

func TestManifestsThatCannotBeReadAreRefusedWithTheirLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a template":         {"apiVersion: v1\nkind: Pod\nspec:\n  {{- if .x }}\n  a: b\n", "line"},
		"JSON cut short":     {"{\"apiVersion\": \"v1\",\n\"kind\": ", "line 2"},
		"a list for an item": {"apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: {image: a}}\n", "line 4: Pod default/p: decoding pods: /spec/containers is an object"},
		"a number":           {"apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 1}]}\n", "/spec/containers/0/image is a number"},
		"a name twice":       {`{"apiVersion": "v1", "kind": "Pod", "kind": "Service"}`, "duplicate"},
		"lists in lists":     {strings.Repeat(`{"apiVersion": "v1", "kind": "List", "items": [`, 9) + strings.Repeat("]}", 9), "lists in lists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := admission.ReadManifests([]byte(test.text), admission.Place{}, admission.Resources{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzReadManifests(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: a}]}\n"))
	f.Add([]byte(`{"apiVersion": "v1", "kind": "PodList", "items": [{"spec": {"containers": [{"image": "a"}]}}]} {}`))
	f.Add([]byte(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "resource": {"resource": "pods"}, "operation": "CREATE", "object": {}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := admission.ReadManifests(data, admission.Place{}, pipelines(t))
		if err != nil {
			return
		}
		// What a decision can be asked about a single object, is found here too.
		r, err := admission.ReadRequest(data, admission.Place{})
		if err != nil || len(r.Images) == 0 {
			return
		}
		all := map[string]bool{}
		for _, o := range m.Objects {
			for _, q := range o.Requests {
				for _, u := range q.Images {
					all[u.Text] = true
				}
			}
		}
		for _, u := range r.Images {
			if !all[u.Text] {
				t.Errorf("%q is judged and was not found", u.Text)
			}
		}
	})
}
