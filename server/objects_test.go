package server

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// clusterObject is an object of a cluster: a kind of Gatehouse's, without a namespace.
func clusterObject(kind, name, spec string) admin.ObjectChange {
	return admin.ObjectChange{Object: fmt.Appendf(nil, `{"apiVersion": "gatehouse.dev/v1beta1", "kind": %q, "metadata": {"name": %q}, "spec": %s}`, kind, name, spec)}
}

const (
	objectDenies = `{"binaryAuthorization": {"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}}`
	fileAllows   = "defaultAdmissionRule: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n"
	someImage    = "reg.example/legacy/app:1"
)

// apply files objects of a cluster, and has the gate look.
func (k *kept) apply(cluster string, changes ...admin.ObjectChange) {
	k.t.Helper()
	svc, err := admin.New(k.source.Service, admin.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := svc.ApplyObjects(k.t.Context(), metadata.Caller{Name: "controller"}, "projects/default", cluster, changes); err != nil {
		k.t.Fatal(err)
	}
	k.stored = nil
	if err := k.load(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

func TestObjectsOfTheClusterAreInForceBesideFiles(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{"a file": {"policy.yaml"}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range files {
				files[i] = filepath.Join(t.TempDir(), files[i])
				write(t, files[i], fileAllows)
			}
			k := keep(t, files...)
			k.apply("us-east1-b.prod", clusterObject("ClusterPolicy", "other", objectDenies))
			if d := k.decide(someImage); !d.Allowed {
				t.Fatalf("an object of another cluster counts: %s", d.Summary)
			}
			k.apply("", clusterObject("ClusterPolicy", "x", objectDenies))
			if d := k.decide(someImage); d.Allowed || d.Policy != "ClusterPolicy x" {
				t.Errorf("got %s by %s", d.Summary, d.Policy)
			}
			k.apply("", clusterObject("ClusterExemption", "e", `{"reason": "legacy", "images": ["reg.example/legacy/*"]}`))
			if d := k.decide(someImage); !d.Allowed || d.Images[0].Exemption == "" {
				t.Errorf("the exemption does not count: %s", d.Summary)
			}
			k.apply("", clusterObject("ClusterExemption", "e", `{"reason": "legacy", "images": 7}`))
			if d := k.decide(someImage); d.Allowed {
				t.Errorf("a broken exemption counts, or the one before it: %s", d.Summary)
			}
			k.apply("", admin.ObjectChange{Delete: objects.Ref{APIVersion: "gatehouse.dev/v1beta1", Kind: "ClusterPolicy", Name: "x"}})
			if d := k.decide(someImage); !d.Allowed {
				t.Errorf("the policy that was taken away counts: %s", d.Summary)
			}
		})
	}
}

func TestObjectsOfTheClusterCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.files.objects = false
	k.apply("", clusterObject("ClusterPolicy", "x", objectDenies))
	if d := k.decide(someImage); d.Override != decide.NoPolicy {
		t.Errorf("got %+v", d.Deciding)
	}
}

// TestAChangedObjectIsInForceSoon, by the feed.
func TestAChangedObjectIsInForceSoon(t *testing.T) {
	t.Parallel()
	k := keep(t)
	if err := k.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = k.Run(t.Context()) }() // ends with the test
	svc, err := admin.New(k.source.Service, admin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.ApplyObjects(t.Context(), metadata.Caller{}, "projects/default", "", []admin.ObjectChange{clusterObject("ClusterPolicy", "x", objectDenies)}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); k.decide(someImage).Allowed; {
		if time.Now().After(deadline) {
			t.Fatal("it is not in force")
		}
	}
}
