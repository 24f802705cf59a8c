// Command kubeschema reads Kubernetes' published description of its API, of the versions
// given, and writes what it says of the kinds that the chart has, without the prose:
//
//	go run ./internal/gen/kubeschema v1.35.4 v1.36.3 v1.37.2
//
// Tests hold the chart to it (install/testdata/kubernetes-VERSION.json).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, version := range os.Args[1:] {
		if err := write(ctx, version); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "kubeschema:", err)
			stop()
			os.Exit(1)
		}
	}
}

// kinds are those of the chart that Kubernetes has.
var kinds = []string{
	"api.core.v1.Namespace", "api.core.v1.ServiceAccount", "api.core.v1.Secret", "api.core.v1.ConfigMap", "api.core.v1.Service",
	"api.rbac.v1.ClusterRole", "api.rbac.v1.ClusterRoleBinding", "api.rbac.v1.Role", "api.rbac.v1.RoleBinding",
	"api.networking.v1.NetworkPolicy", "api.policy.v1.PodDisruptionBudget", "api.coordination.v1.Lease",
	"api.apps.v1.Deployment", "api.apps.v1.StatefulSet",
	"api.admissionregistration.v1.ValidatingWebhookConfiguration", "api.admissionregistration.v1.MutatingWebhookConfiguration",
	"apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
}

func write(ctx context.Context, version string) error {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "k8s.io/kubernetes@"+version)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("downloading Kubernetes %s: %w", version, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "api", "openapi-spec", "swagger.json"))
	if err != nil {
		return err
	}
	var api struct{ Definitions map[string]any }
	if err := json.Unmarshal(text, &api); err != nil {
		return err
	}
	kept := map[string]any{}
	for _, kind := range kinds {
		keep(api.Definitions, "io.k8s."+kind, kept)
	}
	minor := version[:strings.LastIndex(version, ".")]
	var schema bytes.Buffer
	if err := json.NewEncoder(&schema).Encode(map[string]any{"definitions": kept}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("install", "testdata", "kubernetes-"+minor+".json"), schema.Bytes(), 0o644)
}

// keep adds a definition, and those that it refers to.
func keep(all map[string]any, name string, kept map[string]any) {
	if _, done := kept[name]; done {
		return
	}
	definition, ok := all[name].(map[string]any)
	if !ok {
		panic("there is no " + name)
	}
	bare := map[string]any{}
	kept[name] = bare
	for key, value := range strip(definition, false).(map[string]any) {
		bare[key] = value
	}
	refer(all, definition, kept)
}

func refer(all map[string]any, v any, kept map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			keep(all, strings.TrimPrefix(ref, "#/definitions/"), kept)
		}
		for _, member := range v {
			refer(all, member, kept)
		}
	case []any:
		for _, item := range v {
			refer(all, item, kept)
		}
	}
}

// strip takes away prose, and what says how lists are merged. Names of properties are
// never keywords.
func strip(v any, names bool) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	bare := map[string]any{}
	for key, value := range m {
		if !names && (key == "description" || key == "default" || key == "uniqueItems" || strings.HasPrefix(key, "x-kubernetes-")) {
			continue
		}
		bare[key] = strip(value, !names && key == "properties")
	}
	return bare
}
