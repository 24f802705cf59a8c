package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// resources are custom resources with every kind of path.
func resources(t *testing.T) admission.Resources {
	t.Helper()
	r, err := admission.NewResources([]admission.Resource{{
		Group: "batch.example.com", Resource: "pipelines",
		Images: []string{"spec.steps[*].image", "spec.base"}, PodTemplates: []string{"spec.template", "spec.workers.*.template"},
		ServiceAccount: "spec.runAs",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pipeline wraps a custom object.
func pipeline(spec object, edit func(request object)) object {
	return pipelineOf(object{"kind": "Pipeline", "metadata": object{"name": "p"}, "spec": spec}, edit)
}

func pipelineOf(obj object, edit func(request object)) object {
	return reviewOf(obj, func(r object) {
		r["kind"] = object{"group": "batch.example.com", "version": "v1", "kind": "Pipeline"}
		r["resource"] = object{"group": "batch.example.com", "version": "v1", "resource": "pipelines"}
		if edit != nil {
			edit(r)
		}
	})
}

func steps(images ...any) object {
	var list []any
	for _, image := range images {
		list = append(list, object{"image": image})
	}
	return object{"steps": list}
}

func templateOf(images ...string) object {
	return object{"metadata": object{}, "spec": object{"containers": containers(images...)}}
}

func TestCustomResources(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Resources = resources(t) })
	many := make([]any, 501)
	for i := range many {
		many[i] = good
	}
	workers := object{}
	for i := range 51 {
		workers[fmt.Sprint(i)] = object{"template": templateOf(good)}
	}
	for name, tc := range map[string]struct {
		spec    object
		allowed bool
		why     string
	}{
		"an attested image":                {steps(good), true, ""},
		"an unattested image":              {steps(good, bad), false, bad},
		"an image at another path":         {object{"base": bad}, false, bad},
		"no image at all":                  {object{}, true, ""},
		"images that are null":             {object{"steps": nil, "base": nil, "template": nil}, true, ""},
		"an image that is left empty":      {object{"base": ""}, true, ""},
		"an image that is no string":       {steps(7), false, "spec.steps[0].image: want a string, found a number"},
		"an image that is a list":          {steps([]any{good}), false, "spec.steps[0].image: want a string, found a list"},
		"another type on the way":          {object{"steps": "x"}, false, "spec.steps: want a list, found a string"},
		"an attested template":             {object{"template": templateOf(good)}, true, ""},
		"an unattested template":           {object{"template": templateOf(bad)}, false, bad},
		"a template that is no object":     {object{"template": "x"}, false, "spec.template"},
		"a template of another shape":      {object{"template": object{"spec": object{"containers": object{}}}}, false, "spec.template"},
		"a template without containers":    {object{"template": object{}}, true, ""},
		"a template that leaves out image": {object{"template": object{"spec": object{"containers": []any{object{"name": "a"}}}}}, true, ""},
		"one bad template of several":      {object{"workers": object{"a": object{"template": templateOf(good)}, "b": object{"template": templateOf(bad)}}}, false, bad},
		"a template's image volume":        {object{"template": object{"spec": object{"volumes": []any{object{"name": "v", "image": object{"reference": bad}}}}}}, false, bad},
		"another case":                     {object{"Base": bad, "base": good}, true, ""},
		"too many images":                  {object{"steps": steps(many...)["steps"]}, false, "501 images"},
		"too many templates":               {object{"workers": workers}, false, "more than 50 pod templates"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.post(t, pipeline(tc.spec, nil))
			if a.Response.Allowed != tc.allowed || !strings.Contains(a.Response.Status.Message, tc.why) {
				t.Errorf("allowed %v: %s", a.Response.Allowed, a.Response.Status.Message)
			}
		})
	}
	t.Run("the same name in another group is not it", func(t *testing.T) {
		a := f.post(t, pipeline(object{"base": bad}, func(r object) { r["resource"].(object)["group"] = "example.com" }))
		if !a.Response.Allowed {
			t.Error("refused")
		}
	})
	t.Run("in a record it is told where the image stands", func(t *testing.T) {
		f.post(t, pipeline(object{"steps": steps(good)["steps"], "workers": object{"a": object{"template": templateOf(bad)}}}, nil))
		var got []string
		for _, i := range f.recorder.records[len(f.recorder.records)-1].Decision.Images {
			got = append(got, i.Container)
		}
		if diff := cmp.Diff(got, []string{"spec.steps[0].image", "spec.workers.a.template/c0"}); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUpdatesOfCustomResources(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Resources = resources(t) })
	deleting := object{"kind": "Pipeline", "metadata": object{"deletionTimestamp": "2026-11-23T00:00:00Z"}, "spec": object{"steps": "what nobody understands"}}
	for name, tc := range map[string]struct {
		now, old object
		allowed  bool
		event    string
	}{
		"that change no image":                 {steps(bad), steps(bad), true, "unchanged"},
		"that change an image":                 {steps(bad), steps(good), false, "admission"},
		"that move an image to another step":   {steps(good, bad), steps(bad, good), false, "admission"},
		"that add an image":                    {steps(good, bad), steps(good), false, "admission"},
		"that take one away":                   {steps(good), steps(good, bad), true, "admission"},
		"of what could not be understood":      {steps(bad), object{"steps": 7}, false, "admission"},
		"that mend what was not understood":    {steps(good), object{"steps": 7}, true, "admission"},
		"that move an image between templates": {object{"workers": object{"a": object{"template": templateOf(bad)}}}, object{"workers": object{"b": object{"template": templateOf(bad)}}}, false, "admission"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.post(t, pipeline(tc.now, func(r object) { r["operation"], r["oldObject"] = "UPDATE", object{"spec": tc.old} }))
			if got := f.recorder.records[len(f.recorder.records)-1].Event; a.Response.Allowed != tc.allowed || got != tc.event {
				t.Errorf("allowed %v, event %q: %s", a.Response.Allowed, got, a.Response.Status.Message)
			}
		})
	}
	t.Run("of an object in deletion are let in, whatever it holds", func(t *testing.T) {
		a := f.post(t, pipelineOf(deleting, func(r object) { r["operation"], r["oldObject"] = "UPDATE", deleting }))
		if !a.Response.Allowed {
			t.Error(a.Response.Status.Message)
		}
	})
}

// TestPartsOfAnObjectAreJudgedAsTheyRun: each template for its own account.
func TestPartsOfAnObjectAreJudgedAsTheyRun(t *testing.T) {
	t.Parallel()
	rules := ruleset(false)
	rules.Rules = append([]policy.Rule{
		{ID: "robot's rule", Scope: policy.Scope{ServiceAccount: "shop:robot"}, Evaluation: policy.AlwaysAllow},
		{ID: "ghost's rule", Scope: policy.Scope{ServiceAccount: "shop:ghost"}, Evaluation: policy.AlwaysDeny},
	}, rules.Rules...)
	template := func(account, image string, labels object) object {
		x := templateOf(image)
		x["spec"].(object)["serviceAccountName"] = account
		x["metadata"].(object)["labels"] = labels
		return object{"template": x}
	}
	two := func(a, b object) object { return object{"workers": object{"a": a, "b": b}} }
	marked := object{admission.BreakGlassLabel: "true"}
	for name, tc := range map[string]struct {
		spec    object
		allowed bool
		why     []string
		records int
	}{
		"images of a step, by the account at its path": {object{"steps": steps(bad)["steps"], "runAs": "robot"}, true, nil, 1},
		"images of a step, of no account":              {steps(bad), false, []string{"default admission rule"}, 1},
		"an account that is no string":                 {object{"base": good, "runAs": 7}, false, []string{"spec.runAs: want a string"}, 1},
		"the same account twice is one decision":       {two(template("robot", bad, nil), template("robot", good, nil)), true, nil, 1},
		"one account may, the other may not":           {two(template("robot", bad, nil), template("", bad, nil)), false, []string{"default admission rule"}, 2},
		"both may not":                                 {two(template("ghost", good, nil), template("", bad, nil)), false, []string{"ghost's rule", "default admission rule"}, 2},
		"a marker counts for its own template":         {two(template("", bad, marked), template("ghost", good, nil)), false, []string{"ghost's rule"}, 2},
		"a marker on each":                             {two(template("", bad, marked), template("ghost", good, marked)), true, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, rules, func(o *admission.Options) { o.Resources = resources(t) })
			a := f.post(t, pipeline(tc.spec, nil))
			if a.Response.Allowed != tc.allowed || len(f.recorder.records) != tc.records {
				t.Errorf("allowed %v, %d records: %s", a.Response.Allowed, len(f.recorder.records), a.Response.Status.Message)
			}
			for _, why := range tc.why {
				if !strings.Contains(a.Response.Status.Message, why) {
					t.Errorf("no %q in %s", why, a.Response.Status.Message)
				}
			}
		})
	}
	t.Run("the marker on the object is for images that no template holds", func(t *testing.T) {
		for spec, allowed := range map[string]bool{"steps": true, "template": false} {
			f := start(t, rules, func(o *admission.Options) { o.Resources = resources(t) })
			obj := object{"kind": "Pipeline", "metadata": object{"labels": marked}, "spec": steps(bad)}
			if spec == "template" {
				obj["spec"] = object{"template": templateOf(bad)}
			}
			a := f.post(t, pipelineOf(obj, nil))
			if a.Response.Allowed != allowed {
				t.Errorf("%s: allowed %v", spec, a.Response.Allowed)
			}
			if allowed && f.recorder.records[0].Decision.Override != decide.BreakGlass {
				t.Errorf("%s: %+v", spec, f.recorder.records[0].Decision)
			}
		}
	})
}

func TestResourcesThatAreRefused(t *testing.T) {
	t.Parallel()
	ok := []string{"spec.image"}
	for name, tc := range map[string]struct {
		list []admission.Resource
		want string
	}{
		"no paths":              {[]admission.Resource{{Group: "g", Resource: "r"}}, `resources[0] ("r.g"): give images or podTemplates`},
		"no resource":           {[]admission.Resource{{Group: "g", Images: ok}}, "resource: want the plural name"},
		"a subresource":         {[]admission.Resource{{Group: "g", Resource: "r/status", Images: ok}}, "without a subresource"},
		"every resource":        {[]admission.Resource{{Group: "g", Resource: "*", Images: ok}}, "resource: want the plural name of one"},
		"a group and version":   {[]admission.Resource{{Group: "g/v1", Resource: "r", Images: ok}}, "without a version"},
		"pods":                  {[]admission.Resource{{Resource: "pods", Images: ok}}, "is reviewed anyway"},
		"Deployments":           {[]admission.Resource{{Group: "apps", Resource: "deployments", Images: ok}}, "is reviewed anyway"},
		"one twice":             {[]admission.Resource{{Group: "g", Resource: "r", Images: ok}, {Group: "g", Resource: "r", Images: ok}}, "resources[1]"},
		"a path with an error":  {[]admission.Resource{{Group: "g", Resource: "r", Images: []string{"spec.image", "spec[0]"}}}, `images[1]: "spec[0]": column 5: want [*]`},
		"a template's path":     {[]admission.Resource{{Group: "g", Resource: "r", PodTemplates: []string{"a b"}}}, `podTemplates[0]: "a b": column 2`},
		"an account's path":     {[]admission.Resource{{Group: "g", Resource: "r", Images: ok, ServiceAccount: "."}}, `serviceAccount: ".": column 1`},
		"several accounts":      {[]admission.Resource{{Group: "g", Resource: "r", Images: ok, ServiceAccount: "a[*].b"}}, "want the path of one value"},
		"an account of nothing": {[]admission.Resource{{Group: "g", Resource: "r", PodTemplates: ok, ServiceAccount: "a"}}, "podTemplates have their own"},
		"too many paths":        {[]admission.Resource{{Group: "g", Resource: "r", Images: make([]string, 17)}}, "17 paths"},
		"too many":              {make([]admission.Resource, 101), "101 resources"},
	} {
		if _, err := admission.NewResources(tc.list); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
	}
}
