package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
	"github.com/gatehouse-dev/gatehouse/signature"
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

// TestAnObjectCarriesARolloutHint that counts by the signers of the gate, whoever wrote
// the object.
func TestAnObjectCarriesARolloutHint(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	signers := filepath.Join(t.TempDir(), "signers.json")
	pem, err := json.Marshal(key.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	write(t, signers, fmt.Sprintf(`{"hintSigners": [{"name": "projects/default/hintSigners/release", "noteReference": "projects/default/notes/hints", "require": "deny",
		"publicKeys": [{"pkixPublicKey": {"signatureAlgorithm": "ECDSA_P256_SHA256", "publicKeyPem": %s}}]}]}`, pem))
	k := keep(t)
	k.files.hintSigners = []string{signers}
	k.files.policies = []string{filepath.Join(t.TempDir(), "policy.yaml")}
	write(t, k.files.policies[0], fileAllows)
	const name, hinted, another = "reg.example/shop/web:v1", "sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c", "sha256:87b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	carry := func(object, digest string, sequence uint64, by signature.Signer) admin.ObjectChange {
		parsed, err := image.ParseDigest(digest)
		if err != nil {
			t.Fatal(err)
		}
		about, err := hint.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		h := hint.Hint{Name: about, Digest: parsed, Sequence: sequence, IssuedAt: time.Now().UTC().Truncate(time.Second), ExpiresAt: time.Now().UTC().Truncate(time.Second).Add(time.Hour)}
		payload, err := h.Payload()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := by.Sign(t.Context(), payload)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := json.Marshal(map[string]any{
			"noteReference": "projects/default/notes/hints", "resourceUri": h.ResourceURI(),
			"attestation": map[string]any{"serializedPayload": payload, "signatures": []any{map[string]any{"publicKeyId": by.PublicKey().ID(), "signature": sig}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return admin.ObjectChange{Object: fmt.Appendf(nil, `{"apiVersion": "gatehouse.dev/v1beta1", "kind": "RolloutHint", "metadata": {"name": %q, "namespace": "shop"}, "spec": %s}`, object, spec)}
	}
	runs := func() (list []bool) {
		for _, digest := range []string{hinted, another} {
			list = append(list, k.decide(name+"@"+digest).Allowed)
		}
		return list
	}
	k.apply("", carry("forged", hinted, 9, other))
	if got := runs(); got[0] || got[1] {
		t.Errorf("a forged hint counts: %v", got)
	}
	k.apply("", carry("first", hinted, 7, key))
	if got := runs(); !got[0] || got[1] {
		t.Errorf("the hint does not count: %v", got)
	}
	k.apply("", carry("second", another, 8, key))
	if got := runs(); got[0] || !got[1] {
		t.Errorf("the next hint does not count: %v", got)
	}
	k.apply("", admin.ObjectChange{Delete: objects.Ref{APIVersion: "gatehouse.dev/v1beta1", Kind: "RolloutHint", Namespace: "shop", Name: "second"}})
	if got := runs(); got[0] || got[1] {
		t.Errorf("deleting a hint is a way back: %v", got)
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

// TestObjectsReachAGateElsewhere by the feed, and stay in its copy.
func TestObjectsReachAGateElsewhere(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	cfg := gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Cluster = "us-east1-b.prod" })
	gate := start(t, cfg)
	pod := review.Pod("shop", "web").Image("main", someImage).Review()
	apply := func(changes ...admin.ObjectChange) {
		t.Helper()
		var list []adminclient.ObjectChange
		for _, c := range changes {
			list = append(list, adminclient.ObjectChange{Object: c.Object})
		}
		if _, err := adminclient.New("http://"+r.Metadata, http.DefaultClient).ApplyObjects(t.Context(), "projects/default", "us-east1-b.prod", list); err != nil {
			t.Fatal(err)
		}
	}
	apply(clusterObject("ClusterPolicy", "x", objectDenies))
	within(t, "the policy is in force", func() bool {
		ok, message := gate.ask(pod)
		return !ok && strings.Contains(message, someImage)
	})
	apply(clusterObject("ClusterExemption", "e", `{"reason": "legacy", "images": ["reg.example/legacy/*"], "namespaces": ["shop"]}`))
	within(t, "the exemption counts", func() bool { ok, _ := gate.ask(pod); return ok })
	if err := gate.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	if ok, message := again.ask(pod); !ok {
		t.Errorf("by the copy, the exemption does not count: %s", message)
	}
	if ok, _ := again.ask(review.Pod("other", "web").Image("main", someImage).Review()); ok {
		t.Error("by the copy, the policy does not count")
	}
}
