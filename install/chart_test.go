package install

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/api/kubernetes"
	"github.com/gatehouse-dev/gatehouse/deploy/chart"
	"github.com/gatehouse-dev/gatehouse/gatetest/helm"
)

const chartDir = "../deploy/chart/gatehouse"

// valueSets are the files of values that the chart is tried with, by name.
func valueSets(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no sets of values", err)
	}
	sets := map[string]string{}
	for _, file := range files {
		sets[strings.TrimSuffix(filepath.Base(file), ".yaml")] = file
	}
	return sets
}

func optionsOf(t *testing.T, file string) Options {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values, err := ParseValues(text)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Name: "gatehouse", Namespace: "gatehouse", Values: values}
}

func mustRender(t *testing.T, o Options) []Object {
	t.Helper()
	objects, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find returns an object by KIND/NAME.
func find(t *testing.T, objects []Object, name string) Object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o Object) bool { return o.String() == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return objects[i]
}

func byName(objects []Object) map[string]Object {
	m := map[string]Object{}
	for _, o := range objects {
		m[o.String()] = o
	}
	return m
}

func TestHelmRendersTheSameObjects(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("helm is not built in short mode")
	}
	h := helm.New(t, "")
	for name, file := range valueSets(t) {
		t.Run(name, func(t *testing.T) {
			if _, err := h.Run(t.Context(), "lint", "--strict", chartDir, "--values", file); err != nil {
				t.Error(err)
			}
			text, err := h.Run(t.Context(), "template", "prod", chartDir, "--namespace", "gates", "--values", file)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := parseObjects(text)
			if err != nil {
				t.Fatal(err)
			}
			o := optionsOf(t, file)
			o.Name, o.Namespace = "prod", "gates"
			ours := mustRender(t, o)
			if len(ours) != len(theirs) {
				t.Errorf("%d objects, and helm has %d", len(ours), len(theirs))
			}
			if diff := cmp.Diff(byName(theirs), byName(ours)); diff != "" {
				t.Errorf("helm has -, gatehouse install has +:\n%s", diff)
			}
		})
	}
}

func TestHelmRefusesTheSameValues(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"a setting that there is not":      "gate.replica=3",
		"a setting of admission of ours":   "gate.admission.certFile=x",
		"another kind of value":            "mutate.enabled=maybe",
		"too long a timeout":               "webhook.timeoutSeconds=31",
		"none of the words":                "webhook.failurePolicy=Sometimes",
		"a URL without TLS":                "webhook.url=http://gate.example",
		"an image that ends the condition": `image.repository=x\"y`,
		"no image":                         "image.repository=null",
		"none of the words of break-glass": "breakGlass.kritis=maybe",
		"many servers over one SQLite":     "server.replicas=2",
	} {
		t.Run(name, func(t *testing.T) {
			values := Values{}
			if err := values.Set(set); err != nil {
				t.Fatal(err)
			}
			_, err := Render(Options{Name: "gatehouse", Namespace: "gatehouse", Values: values})
			if err == nil {
				t.Error("gatehouse install takes it")
			} else if where, _, _ := strings.Cut(set, "="); !strings.Contains(err.Error(), where) {
				t.Errorf("the error does not name %s: %v", where, err)
			}
			if testing.Short() {
				return
			}
			if _, err := helm.New(t, "").Run(t.Context(), "template", "gatehouse", chartDir, "--set", set); err == nil {
				t.Error("helm takes it")
			}
		})
	}
}

// TestTheChartFitsKubernetes holds every object to the published schemas of three minor
// versions.
func TestTheChartFitsKubernetes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/kubernetes-v*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			api, err := parseSchema(text)
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range valueSets(t) {
				for _, o := range mustRender(t, optionsOf(t, values)) {
					fitsKubernetes(t, api, name, o)
				}
			}
			t.Run("and another would not", func(t *testing.T) {
				o := find(t, mustRender(t, Options{Name: "g", Namespace: "g"}), "Deployment/g-gate")
				o["spec"].(map[string]any)["replica"] = json.Number("3")
				if err := api.of(t, o).check(map[string]any(o), true); err == nil {
					t.Error("a field that there is not was taken")
				}
			})
		})
	}
}

// of returns the schema of an object's kind.
func (s *schema) of(t *testing.T, o Object) *schema {
	t.Helper()
	for name, definition := range s.Definitions {
		version, _ := o["apiVersion"].(string)
		group, version, core := strings.Cut(version, "/")
		if !core {
			group, version = "core", group
		}
		group, _, _ = strings.Cut(group, ".")
		if strings.HasSuffix(name, "."+group+"."+version+"."+o.Kind()) {
			definition.Definitions = s.Definitions
			return definition
		}
	}
	t.Fatalf("%s: Kubernetes has no such kind", o)
	return nil
}

func fitsKubernetes(t *testing.T, api *schema, values string, o Object) {
	t.Helper()
	if k, err := kindOfObject(o); err != nil {
		t.Fatal(err)
	} else if k.extra() { // which Kubernetes' own schemas do not have
		return
	}
	if err := api.of(t, o).check(map[string]any(o), true); err != nil {
		t.Errorf("values %s: %s:\n%v", values, o, err)
	}
	webhooks := o.annotation(annotationWebhooks)
	if webhooks == "" {
		return
	}
	armed := Object{}
	maps.Copy(armed, o)
	var list []any
	if err := unmarshal([]byte(webhooks), &list); err != nil || len(list) == 0 {
		t.Errorf("values %s: %s: the webhooks to come: %v, %v", values, o, list, err)
	}
	armed["webhooks"] = list
	if err := api.of(t, o).check(map[string]any(armed), true); err != nil {
		t.Errorf("values %s: %s, armed:\n%v", values, o, err)
	}
}

func TestEveryValueIsExplained(t *testing.T) {
	t.Parallel()
	text, err := fs.ReadFile(chart.Files(), "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	explained := false // by a comment above, or as one of a group that is
	for i, line := range strings.Split(string(text), "\n") {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(trimmed, "#"):
			explained = true
		case trimmed == "":
			explained = false
		case !explained:
			t.Errorf("values.yaml:%d: %q has no comment", i+1, line)
		}
	}
}

// TestEveryValueHasASchema: what the schema does not name would be refused.
func TestEveryValueHasASchema(t *testing.T) {
	t.Parallel()
	if _, err := Render(Options{Name: "gatehouse", Namespace: "gatehouse"}); err != nil {
		t.Error(err)
	}
	defaults, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(chart.Files(), "values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := parseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(settings.Properties)) {
		if _, ok := defaults[name]; !ok && name != "global" { // which is Helm's
			t.Errorf("the schema has %s, and values.yaml has not", name)
		}
	}
}

func TestTheChartHasTheDefinitionsAsTheyAre(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for _, d := range kubernetes.CRDs() {
		want[d.File] = string(d.Text)
	}
	got := map[string]string{}
	entries, err := fs.ReadDir(chart.Files(), "files/crds")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := fs.ReadFile(chart.Files(), "files/crds/"+e.Name())
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run make generate: api/kubernetes has -, the chart has +:\n%s", diff)
	}
}

// TestMonitoringIsAsItIs holds the chart's alerts and dashboard to those of deploy/monitoring,
// byte for byte, and what is applied to what they say.
func TestMonitoringIsAsItIs(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, name := range []string{"alerts.yaml", "dashboard.json"} {
		want, err := os.ReadFile(filepath.Join("../deploy/monitoring", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(chart.Files(), "files/monitoring/"+name)
		if err != nil || string(got) != string(want) {
			t.Errorf("run make generate: the chart has another %s than deploy/monitoring, %v", name, err)
		}
		files[name] = string(want)
	}
	var groups map[string]any
	if err := unmarshal([]byte(files["alerts.yaml"]), &groups); err != nil {
		t.Fatal(err)
	}
	objects := mustRender(t, optionsOf(t, "testdata/values/monitoring.yaml"))
	if diff := cmp.Diff(groups, find(t, objects, "PrometheusRule/gatehouse")["spec"]); diff != "" {
		t.Errorf("of the alerts: %s", diff)
	}
	dashboard := find(t, objects, "ConfigMap/gatehouse-dashboard")
	if field(dashboard, "data", "gatehouse.json") != files["dashboard.json"] || field(dashboard, "metadata", "labels", "grafana_dashboard") != "1" {
		t.Errorf("%v", dashboard)
	}
	for _, o := range mustRender(t, optionsOf(t, "testdata/values/default.yaml")) {
		if k, err := kindOfObject(o); err != nil || k.extra() {
			t.Errorf("by default there is %s, %v", o, err)
		}
	}
}

// TestRunbooksNameWhatIsInstalled holds the commands of docs/runbooks to the names that the
// chart gives.
func TestRunbooksNameWhatIsInstalled(t *testing.T) {
	t.Parallel()
	kindOf := map[string]string{
		"deploy": "Deployment", "deployment": "Deployment", "statefulset": "StatefulSet", "secret": "Secret", "lease": "Lease",
		"validatingwebhookconfiguration": "ValidatingWebhookConfiguration",
	}
	named := regexp.MustCompile(`\b([a-z]+)[/ ](gatehouse(?:-[a-z]+)*)\b`)
	part := regexp.MustCompile(`app\.kubernetes\.io/component=([a-z]+)`)
	objects := mustRender(t, Options{Name: "gatehouse", Namespace: "gatehouse", Values: Values{"mutate": map[string]any{"enabled": true}}})
	pages, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if kind := kindOf[m[1]]; kind != "" {
				found++
				find(t, objects, kind+"/"+m[2])
			}
		}
		for _, m := range part.FindAllStringSubmatch(string(text), -1) {
			if !slices.ContainsFunc(objects, func(o Object) bool {
				return field(o, "spec", "template", "metadata", "labels", "app.kubernetes.io/component") == m[1]
			}) {
				t.Errorf("%s: no pods are of component %s", page, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names were found", found)
	}
}

// TestPodsAreConfined holds all pods to Kubernetes' restricted standard, and to a little
// more.
func TestPodsAreConfined(t *testing.T) {
	t.Parallel()
	for name, file := range valueSets(t) {
		for _, o := range mustRender(t, optionsOf(t, file)) {
			pod, _ := field(o, "spec", "template", "spec").(map[string]any)
			if pod == nil {
				continue
			}
			t.Run(name+"/"+o.Name(), func(t *testing.T) {
				confined(t, pod)
			})
		}
	}
}

func confined(t *testing.T, pod map[string]any) {
	for _, want := range []struct {
		path  []string
		value any
	}{
		{[]string{"securityContext", "runAsNonRoot"}, true},
		{[]string{"securityContext", "seccompProfile", "type"}, "RuntimeDefault"},
		{[]string{"terminationGracePeriodSeconds"}, json.Number("150")},
	} {
		if got := field(pod, want.path...); got != want.value {
			t.Errorf("%v is %v, want %v", want.path, got, want.value)
		}
	}
	if _, said := pod["automountServiceAccountToken"].(bool); !said {
		t.Error("it does not say whether it has a token for the API server")
	}
	container := pod["containers"].([]any)[0].(map[string]any)
	for path, want := range map[string]any{
		"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
	} {
		if diff := cmp.Diff(want, field(container, "securityContext", path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	for _, needed := range []string{"readinessProbe", "livenessProbe", "startupProbe", "resources"} {
		if container[needed] == nil {
			t.Errorf("it has no %s", needed)
		}
	}
}

// TestRightsAreNoMoreThanNeeded: what would let somebody who has taken over a part take
// over more. No wildcards; what can be named is.
func TestRightsAreNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	for name, file := range valueSets(t) {
		for _, o := range mustRender(t, optionsOf(t, file)) {
			rules, _ := o["rules"].([]any)
			for _, rule := range rules {
				rule := rule.(map[string]any)
				text := string(must(json.Marshal(rule)))
				if strings.Contains(text, `"*"`) {
					t.Errorf("%s: %s: a wildcard: %s", name, o, text)
				}
				for _, guarded := range []string{"secrets", "configmaps", "webhookconfigurations", "leases"} {
					pullSecrets := o.String() == "ClusterRole/gatehouse-mutate"
					if strings.Contains(text, guarded) && rule["resourceNames"] == nil && !pullSecrets {
						t.Errorf("%s: %s: all %s: %s", name, o, guarded, text)
					}
				}
			}
		}
	}
	for _, o := range mustRender(t, Options{Name: "g", Namespace: "g"}) {
		if strings.Contains(o.Kind(), "Role") && strings.Contains(string(must(json.Marshal(o["subjects"]))), "g-gate") {
			t.Errorf("%s: the gate needs no rights, unless break-glass is decided by RBAC", o)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
