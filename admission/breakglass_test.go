package admission_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
)

func TestBreakGlass(t *testing.T) {
	t.Parallel()
	marked := func(where, key, value string) object {
		p := pod(bad)
		p["metadata"].(object)[where] = object{key: value}
		return p
	}
	for name, tc := range map[string]struct {
		object object
		want   bool
	}{
		"label":                      {marked("labels", admission.BreakGlassLabel, "true"), true},
		"alpha annotation":           {marked("annotations", admission.BreakGlassAnnotation, "true"), true},
		"label with another value":   {marked("labels", admission.BreakGlassLabel, "True"), false},
		"label key as an annotation": {marked("annotations", admission.BreakGlassLabel, "true"), false},
		"annotation key as a label":  {marked("labels", admission.BreakGlassAnnotation, "true"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, ruleset(false), nil)
			a := f.post(t, reviewOf(tc.object, nil))
			if a.Response.Allowed != tc.want {
				t.Fatalf("allowed %v, want %v", a.Response.Allowed, tc.want)
			}
			if !tc.want {
				return
			}
			r := f.recorder.records[0]
			if f.recorder.synced != 1 || r.Decision.Override != decide.BreakGlass || r.Decision.Verdict != decide.DENY {
				t.Errorf("synced %d, decision %+v", f.recorder.synced, r.Decision)
			}
			if a.Response.AuditAnnotations["break-glass"] != "true" || !strings.Contains(a.Response.AuditAnnotations["overridden-verification-result"], attestor) {
				t.Errorf("audit annotations %q", a.Response.AuditAnnotations)
			}
		})
	}
	t.Run("that cannot be recorded does not count", func(t *testing.T) {
		f := start(t, ruleset(false), nil)
		f.recorder.fail = errors.New("disk full")
		a := f.post(t, reviewOf(marked("labels", admission.BreakGlassLabel, "true"), nil))
		if a.Response.Allowed || !strings.Contains(a.Response.Status.Message, "disk full") {
			t.Errorf("allowed %v: %s", a.Response.Allowed, a.Response.Status.Message)
		}
	})
	t.Run("that is not needed is noted, not used", func(t *testing.T) {
		f := start(t, ruleset(false), nil)
		p := pod(good)
		p["metadata"].(object)["labels"] = object{admission.BreakGlassLabel: "true"}
		p["metadata"].(object)["annotations"] = object{admission.JustificationAnnotation: "INC-1"}
		f.post(t, reviewOf(p, nil))
		d := f.recorder.records[0].Decision
		if f.recorder.synced != 0 || d.Override != decide.NoOverride || d.BreakGlass == "" || d.Justification != "INC-1" {
			t.Errorf("synced %d, decision %+v", f.recorder.synced, d)
		}
	})
	t.Run("on the workload instead of its template is explained", func(t *testing.T) {
		f := start(t, ruleset(false), nil)
		d := object{
			"kind":     "Deployment",
			"metadata": object{"labels": object{admission.BreakGlassLabel: "true"}},
			"spec":     object{"template": object{"spec": object{"containers": containers(bad)}}},
		}
		a := f.post(t, reviewOf(d, nil))
		if a.Response.Allowed || len(a.Response.Warnings) != 1 || !strings.Contains(a.Response.Warnings[0], "spec.template.metadata") {
			t.Errorf("allowed %v, warnings %q", a.Response.Allowed, a.Response.Warnings)
		}
	})
}
