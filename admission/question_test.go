package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// TestWhatIsNotUnderstoodIsNotLetIn has what no API server sends today, and what
// somebody might make one send.
func TestWhatIsNotUnderstoodIsNotLetIn(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	template := func(img string) object { return object{"spec": object{"containers": containers(img)}} }
	many := pod()
	many["spec"].(object)["containers"] = containers(make([]string, 501)...)
	for name, tc := range map[string]struct {
		object object
		edit   func(object)
		why    string
	}{
		"ephemeral containers as old API servers send them": {
			object{"kind": "Pod", "ephemeralContainers": containers(bad)},
			func(r object) {
				r["operation"], r["subResource"], r["kind"] = "UPDATE", "ephemeralcontainers", object{"version": "v1", "kind": "EphemeralContainers"}
			}, "is not understood",
		},
		"an unknown subresource of another kind": {
			pod(good), func(r object) { r["subResource"], r["kind"] = "images", object{"kind": "PodImages"} }, "is not understood",
		},
		"neither resource nor kind": {
			pod(good), func(r object) { r["resource"], r["kind"] = object{}, object{} }, "neither a resource nor a kind",
		},
		"resource and kind in another case": {
			pod(good), func(r object) {
				r["Resource"], r["Kind"] = r["resource"], r["kind"]
				delete(r, "resource")
				delete(r, "kind")
			}, "neither a resource nor a kind",
		},
		"a Deployment with a decoy job template": {
			object{"kind": "Deployment", "spec": object{"template": template(bad), "jobTemplate": object{"spec": object{}}}}, nil, "denied by",
		},
		"a Deployment with an attested decoy": {
			object{"kind": "Deployment", "spec": object{"template": template(bad), "jobTemplate": object{"spec": object{"template": template(good)}}}, "template": template(good)}, nil, "denied by",
		},
		"a CronJob with an attested decoy": {
			object{"kind": "CronJob", "spec": object{"template": template(good), "jobTemplate": object{"spec": object{"template": template(bad)}}}}, nil, "denied by",
		},
		"a PodTemplate with an attested decoy": {
			object{"kind": "PodTemplate", "template": template(bad), "spec": object{"template": template(good)}}, nil, "denied by",
		},
		"a pod without containers":  {object{"kind": "Pod"}, nil, "no containers"},
		"a template that is absent": {object{"kind": "Deployment", "spec": object{}}, nil, "no containers"},
		"more images than judged":   {many, nil, "501 images"},
		"an extensions kind, no more": {object{"kind": "Deployment", "spec": object{"template": template(bad)}}, func(r object) {
			r["resource"], r["kind"] = nil, object{"group": "extensions", "version": "v1beta1", "kind": "Deployment"}
		}, "denied by"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.post(t, reviewOf(tc.object, tc.edit))
			if a.Response.Allowed || !strings.Contains(a.Response.Status.Message, tc.why) {
				t.Errorf("allowed %v: %s", a.Response.Allowed, a.Response.Status.Message)
			}
		})
	}
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	refused := 0
	for _, r := range f.recorder.records {
		if r.Event == "refused" && r.Error != "" {
			refused++
		}
	}
	if refused != 7 {
		t.Errorf("%d of what was not understood is on record, want 7", refused)
	}
}

func TestManyImagesAreJudgedInTime(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	var images []string
	for i := range 500 {
		images = append(images, fmt.Sprintf("reg.test/a@sha256:%064x", i))
	}
	a := f.post(t, reviewOf(pod(images...), nil))
	if a.Response.Allowed || len(a.Response.Status.Message) > 8<<10 {
		t.Errorf("allowed %v, a message of %d bytes", a.Response.Allowed, len(a.Response.Status.Message))
	}
}

func TestRulesThatNeedAPlace(t *testing.T) {
	t.Parallel()
	rules := func(s policy.Scope) *policy.Ruleset {
		r := ruleset(false)
		r.Rules = append([]policy.Rule{{ID: "specific", Scope: s, Evaluation: policy.AlwaysAllow}}, r.Rules...)
		return r
	}
	cluster := rules(policy.Scope{Cluster: "us-east1-b.prod"})
	istio := rules(policy.Scope{IstioIdentity: "mesh.example/ns/shop/sa/default"})
	for name, tc := range map[string]struct {
		rules *policy.Ruleset
		place admission.Place
		known bool
	}{
		"cluster rules, cluster known":     {cluster, admission.Place{Cluster: "a.b"}, true},
		"cluster rules, cluster not known": {cluster, admission.Place{}, false},
		"istio rules, domain known":        {istio, admission.Place{TrustDomain: "mesh.example"}, true},
		"istio rules, domain not known":    {istio, admission.Place{Cluster: "a.b"}, false},
		"no such rules":                    {ruleset(false), admission.Place{}, true},
	} {
		if err := tc.place.Check(policy.Set{tc.rules}); (err == nil) != tc.known {
			t.Errorf("%s: %v", name, err)
		}
	}
	for domain, want := range map[string]bool{"mesh.example": true, "other.example": false} {
		f := start(t, istio, func(o *admission.Options) { o.TrustDomain = domain })
		if a := f.post(t, reviewOf(pod(bad), nil)); a.Response.Allowed != want {
			t.Errorf("in mesh %s: allowed %v", domain, a.Response.Allowed)
		}
	}
}
