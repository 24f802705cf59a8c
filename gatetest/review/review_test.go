package review_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// decode returns a review as plain maps.
func decode(t *testing.T, b *review.Builder) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(b.Review(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// at follows a path of names and, for "0", first items.
func at(t *testing.T, value any, path string) any {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		if name == "0" {
			list, ok := value.([]any)
			if !ok || len(list) == 0 {
				t.Fatalf("%s: no list at 0", path)
			}
			value = list[0]
			continue
		}
		members, ok := value.(map[string]any)
		if !ok {
			t.Fatalf("%s: no object at %s but %v", path, name, value)
		}
		value = members[name]
	}
	return value
}

func TestPodHasEveryPlaceOfImages(t *testing.T) {
	t.Parallel()
	r := decode(t, review.Pod("shop", "web-0").Image("web", "r.test/web:1").InitImage("init", "r.test/init:1").
		EphemeralImage("debug", "r.test/debug:1").ImageVolume("data", "r.test/data:1"))
	for path, want := range map[string]any{
		"kind":                                            "AdmissionReview",
		"apiVersion":                                      "admission.k8s.io/v1",
		"request.kind.kind":                               "Pod",
		"request.resource.resource":                       "pods",
		"request.requestKind.kind":                        "Pod",
		"request.namespace":                               "shop",
		"request.name":                                    "web-0",
		"request.operation":                               "CREATE",
		"request.dryRun":                                  false,
		"request.oldObject":                               nil,
		"request.options.kind":                            "CreateOptions",
		"request.object.metadata.name":                    "web-0",
		"request.object.spec.containers.0.image":          "r.test/web:1",
		"request.object.spec.initContainers.0.image":      "r.test/init:1",
		"request.object.spec.ephemeralContainers.0.image": "r.test/debug:1",
		"request.object.spec.volumes.0.image.reference":   "r.test/data:1",
		"request.object.spec.serviceAccountName":          "default",
	} {
		if diff := cmp.Diff(want, at(t, r, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestWorkloadsHaveTheirImagesInTheirTemplate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		begin                           func(namespace, name string) *review.Builder
		apiVersion, kind, resource, pod string
	}{
		{review.Deployment, "apps/v1", "Deployment", "deployments", "spec.template"},
		{review.ReplicaSet, "apps/v1", "ReplicaSet", "replicasets", "spec.template"},
		{review.StatefulSet, "apps/v1", "StatefulSet", "statefulsets", "spec.template"},
		{review.DaemonSet, "apps/v1", "DaemonSet", "daemonsets", "spec.template"},
		{review.Job, "batch/v1", "Job", "jobs", "spec.template"},
		{review.CronJob, "batch/v1", "CronJob", "cronjobs", "spec.jobTemplate.spec.template"},
		{review.ReplicationController, "v1", "ReplicationController", "replicationcontrollers", "spec.template"},
		{review.PodTemplate, "v1", "PodTemplate", "podtemplates", "template"},
	} {
		t.Run(test.kind, func(t *testing.T) {
			t.Parallel()
			r := decode(t, test.begin("shop", "web").Image("web", "r.test/web:1").PodLabel("a", "b").Annotation("c", "d"))
			for path, want := range map[string]string{
				"request.kind.kind":                                       test.kind,
				"request.resource.resource":                               test.resource,
				"request.object.apiVersion":                               test.apiVersion,
				"request.object.kind":                                     test.kind,
				"request.object.metadata.annotations.c":                   "d",
				"request.object." + test.pod + ".metadata.labels.a":       "b",
				"request.object." + test.pod + ".spec.containers.0.image": "r.test/web:1",
			} {
				if got := at(t, r, path); got != want {
					t.Errorf("%s is %v, want %v", path, got, want)
				}
			}
		})
	}
}

func TestUpdateHasBothObjects(t *testing.T) {
	t.Parallel()
	old := review.Pod("shop", "web-0").Image("web", "r.test/web:1")
	r := decode(t, review.Pod("shop", "web-0").Image("web", "r.test/web:1").EphemeralImage("debug", "r.test/debug:1").
		Subresource("ephemeralcontainers").Update(old).DryRun().Deleting().UID("u-1").User("root", "system:masters").V1Beta1())
	for path, want := range map[string]any{
		"apiVersion":                 "admission.k8s.io/v1beta1",
		"request.uid":                "u-1",
		"request.operation":          "UPDATE",
		"request.subResource":        "ephemeralcontainers",
		"request.requestSubResource": "ephemeralcontainers",
		"request.dryRun":             true,
		"request.userInfo.username":  "root",
		"request.userInfo.groups":    []any{"system:masters"},
		"request.object.spec.ephemeralContainers.0.image": "r.test/debug:1",
		"request.oldObject.spec.ephemeralContainers":      nil,
		"request.oldObject.spec.containers.0.image":       "r.test/web:1",
		"request.object.metadata.deletionTimestamp":       "2026-01-02T03:04:05Z",
	} {
		if diff := cmp.Diff(want, at(t, r, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestDeleteHasOnlyTheOldObject(t *testing.T) {
	t.Parallel()
	r := decode(t, review.Pod("shop", "web-0").Image("web", "r.test/web:1").Delete())
	if at(t, r, "request.object") != nil || at(t, r, "request.oldObject.metadata.name") != "web-0" {
		t.Errorf("got %v", r)
	}
}

func TestWhatARequesterMayClaim(t *testing.T) {
	t.Parallel()
	r := decode(t, review.Pod("shop", "x").GenerateName("web-").ObjectNamespace("kube-system").
		Owner("apps/v1", "ReplicaSet", "web").Label("l", "1").ServiceAccount("ci").
		Edit(func(o map[string]any) { o["extra"] = true }))
	for path, want := range map[string]any{
		"request.namespace":                              "shop",
		"request.name":                                   nil,
		"request.object.metadata.namespace":              "kube-system",
		"request.object.metadata.name":                   nil,
		"request.object.metadata.generateName":           "web-",
		"request.object.metadata.labels.l":               "1",
		"request.object.metadata.ownerReferences.0.kind": "ReplicaSet",
		"request.object.spec.serviceAccountName":         "ci",
		"request.object.extra":                           true,
	} {
		if diff := cmp.Diff(want, at(t, r, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestEqualCallsBuildEqualBytes(t *testing.T) {
	t.Parallel()
	build := func(name string) string {
		return string(review.Deployment("shop", name).Image("web", "r.test/web:1").Realistic().Review())
	}
	if first, second := build("web"), build("web"); first != second {
		t.Error("the same calls built different reviews")
	}
	if a, b := review.Pod("shop", "a").RequestUID(), review.Pod("shop", "b").RequestUID(); a == b || len(a) != 36 {
		t.Errorf("requests for two pods have the ids %q and %q", a, b)
	}
}

// The benchmarks' figures are for requests of 8.9 kB.
func TestRealisticSize(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:4b825dc642cb6eb9a060e54bf8d69288fbee49044b825dc642cb6eb9a060e54b"
	body := review.Pod("shop", "web-7d9c6b8f54-x2v9k").
		Owner("apps/v1", "ReplicaSet", "web-7d9c6b8f54").
		Image("web", "registry.example.com/shop/web"+digest).
		Image("proxy", "registry.example.com/mesh/proxy"+digest).
		Image("metrics", "registry.example.com/ops/metrics"+digest).
		Realistic().Review()
	t.Logf("%d bytes", len(body))
	if len(body) < 8_400 || len(body) > 9_400 {
		t.Errorf("a realistic pod of three containers makes %d bytes, want about 8,900", len(body))
	}
	if !strings.Contains(string(body), `"k:{\"name\":\"proxy\"}"`) {
		t.Error("the managed fields lack a container")
	}
}
