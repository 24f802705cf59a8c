package controlplane_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

const podManifest = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: default
  labels: {l: "1"}
  annotations: {a: "1"}
spec:
  initContainers: [{name: init, image: "registry.test/init:1", imagePullPolicy: IfNotPresent}]
  containers: [{name: web, image: "registry.test/web:1", imagePullPolicy: IfNotPresent}]
  volumes: [{name: data, image: {reference: "registry.test/data:1", pullPolicy: IfNotPresent}}]
`

// Package review says that it builds what an API server sends. The API server
// is the judge of that: both requests must have the same members, everywhere.
func TestReviewBuilderAgreesWithTheAPIServer(t *testing.T) {
	t.Parallel()
	cp := controlplane.New(t, controlplane.Options{})
	gate := newDenier(t)
	if err := cp.RegisterWebhook(t.Context(), "validate.gate.test", gate.server.URL, gate.ca); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, manifest string
		built          *review.Builder
		// What only the API server sends.
		ignore []string
	}{
		{
			name: "pod", manifest: podManifest,
			built: review.Pod("default", "web").Label("l", "1").Annotation("a", "1").
				InitImage("init", "registry.test/init:1").Image("web", "registry.test/web:1").ImageVolume("data", "registry.test/data:1"),
			ignore: []string{"request.object.spec.volumes", "request.object.metadata.managedFields.fieldsV1.f:spec.f:volumes"},
		},
		{
			name: "deployment", manifest: deployment,
			built: review.Deployment("default", "web").PodLabel("app", "web").Image("web", "registry.test/web:1"),
			ignore: []string{
				"request.object.spec.strategy", "request.object.spec.revisionHistoryLimit", "request.object.spec.progressDeadlineSeconds",
				"request.object.metadata.managedFields",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, stderr, err := cp.Kubectl(t.Context(), strings.NewReader(test.manifest), "create", "-f", "-")
			if err == nil || !strings.Contains(stderr, "not today") {
				t.Fatalf("kubectl create: %v: %s; want the webhook's denial", err, stderr)
			}
			ignore := append(test.ignore, "request.userInfo")
			sent, built := members(t, gate.last(), ignore), members(t, test.built.Review(), ignore)
			if diff := cmp.Diff(sent, built); diff != "" {
				t.Errorf("members (-API server +package review):\n%s", diff)
			}
		})
	}
}

// members returns the sorted paths of all members of a JSON object, with the
// types of their values, but those at or below the ignored paths.
func members(t *testing.T, body []byte, ignore []string) []string {
	t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		if slices.ContainsFunc(ignore, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			return
		}
		switch value := value.(type) {
		case map[string]any:
			for name, v := range value {
				walk(strings.TrimPrefix(path+"."+name, "."), v)
			}
			found[path+" object"] = true
		case []any:
			for _, v := range value {
				walk(path, v)
			}
		default:
			found[fmt.Sprintf("%s %T", path, value)] = true
		}
	}
	walk("", value)
	return slices.Sorted(maps.Keys(found))
}
