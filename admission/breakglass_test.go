package admission_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/breakglass"
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

// warden is asked by a gate, and remembers.
type warden struct {
	ruling breakglass.Ruling
	asked  []breakglass.Request
	wrote  []breakglass.Object
	keeps  bool
}

func (w *warden) Identify(r *breakglass.Request) (breakglass.User, breakglass.Workload, bool) {
	return breakglass.User{Name: "the person behind " + r.User.Name}, r.Object, true
}

func (w *warden) Rule(_ context.Context, r *breakglass.Request) breakglass.Ruling {
	w.asked = append(w.asked, *r)
	return w.ruling
}
func (w *warden) KeepsWriters() bool        { return w.keeps }
func (w *warden) Wrote(o breakglass.Object) { w.wrote = append(w.wrote, o) }

func guarded(w *warden) func(*admission.Options) {
	return func(o *admission.Options) { o.Warden = w }
}

// markedPod has the label, and an owner.
func markedPod(images ...string) object {
	p := pod(images...)
	p["metadata"] = object{
		"name": "web-1", "uid": "pod-uid", "labels": object{admission.BreakGlassLabel: "true", "pod-template-hash": "6d4"},
		"annotations":     object{admission.JustificationAnnotation: "it burns", admission.TicketAnnotation: "OPS-7"},
		"ownerReferences": []any{object{"kind": "X", "name": "x", "uid": "x"}, object{"kind": "ReplicaSet", "name": "web-6d4", "uid": "rs-uid", "controller": true}},
	}
	return p
}

func markedDeployment(images ...string) object {
	return object{
		"kind": "Deployment", "metadata": object{"name": "web", "uid": "deployment-uid"},
		"spec": object{"template": object{
			"metadata": object{"labels": object{admission.BreakGlassLabel: "true"}}, "spec": object{"containers": containers(images...)},
		}},
	}
}

func TestTheWardenIsAsked(t *testing.T) {
	t.Parallel()
	t.Run("with what the request says, and only if it is needed", func(t *testing.T) {
		w := &warden{ruling: breakglass.Ruling{Allowed: true, Permit: "rbac"}}
		f := start(t, ruleset(false), guarded(w))
		a := f.post(t, reviewOf(markedPod(good, bad), func(r object) {
			r["userInfo"] = object{"username": "ada", "uid": "7", "groups": []any{"dev"}, "extra": object{"scopes": []any{"a"}}}
		}))
		if !a.Response.Allowed {
			t.Fatalf("refused: %s", a.Response.Status.Message)
		}
		want := breakglass.Request{
			Cluster: "us-east1-b.prod", Namespace: "shop", Object: breakglass.Workload{Kind: "Pod", Name: "web-1"}, UID: "pod-uid",
			Owner: breakglass.Owner{Workload: breakglass.Workload{Kind: "ReplicaSet", Name: "web-6d4"}, UID: "rs-uid"}, TemplateHash: "6d4",
			User:   breakglass.User{Name: "ada", UID: "7", Groups: []string{"dev"}, Extra: map[string][]string{"scopes": {"a"}}},
			Marker: "label " + admission.BreakGlassLabel, Reason: "it burns", Ticket: "OPS-7", Denied: []string{bad}, Images: []string{good, bad},
		}
		if diff := cmp.Diff([]breakglass.Request{want}, w.asked); diff != "" {
			t.Error(diff)
		}
		b := f.recorder.records[0].BreakGlass
		if b == nil || b.Permit != "rbac" || b.By != "the person behind ada" || b.Ticket != "OPS-7" || !b.Needed || len(w.wrote) != 0 {
			t.Errorf("recorded %+v, told %+v", b, w.wrote)
		}
		f.post(t, reviewOf(markedPod(good), nil))
		if b := f.recorder.records[1].BreakGlass; len(w.asked) != 1 || b == nil || b.Needed || b.Permit != "" {
			t.Errorf("asked %d times, recorded %+v", len(w.asked), b)
		}
	})
	t.Run("and refuses with the reason, for the person, the log and the API server's log", func(t *testing.T) {
		w := &warden{ruling: breakglass.Ruling{Refused: "grant 7 ended\nat \x1b[2Jnoon"}}
		f := start(t, ruleset(false), guarded(w))
		a := f.post(t, reviewOf(markedPod(bad), nil))
		message := a.Response.Status.Message
		if a.Response.Allowed || a.Response.Status.Reason != "VIOLATES_POLICY" || !strings.Contains(message, attestor) ||
			!strings.Contains(message, "\nBreak-glass (label image-policy.k8s.io/break-glass) is not permitted: grant 7 ended at  [2Jnoon") || strings.Contains(message, "\x1b") {
			t.Errorf("allowed %v: %q", a.Response.Allowed, message)
		}
		r := f.recorder.records[0]
		if r.Decision.Override != decide.NoOverride || r.Decision.BreakGlass == "" || r.BreakGlass.Refused == "" || len(w.wrote) != 0 || f.recorder.synced != 0 {
			t.Errorf("recorded %+v %+v", r.Decision, r.BreakGlass)
		}
		if a.Response.AuditAnnotations["break-glass-refused"] == "" {
			t.Errorf("audit annotations %q", a.Response.AuditAnnotations)
		}
	})
	t.Run("who refuses without a reason refuses", func(t *testing.T) {
		f := start(t, ruleset(false), guarded(&warden{}))
		if a := f.post(t, reviewOf(markedPod(bad), nil)); a.Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("a template that is let in with a warning has its writer on record before", func(t *testing.T) {
		w := &warden{ruling: breakglass.Ruling{Refused: "no"}, keeps: true}
		f := start(t, ruleset(false), func(o *admission.Options) { o.Warden, o.Templates = w, admission.WarnTemplates })
		a := f.post(t, reviewOf(markedDeployment(bad), nil))
		if !a.Response.Allowed || f.recorder.synced != 1 || len(w.wrote) != 1 || w.wrote[0].Writer.Name != "ada" {
			t.Errorf("allowed %v, synced %d, told %+v", a.Response.Allowed, f.recorder.synced, w.wrote)
		}
	})
	t.Run("a server dry run is answered, and recorded as one", func(t *testing.T) {
		w := &warden{ruling: breakglass.Ruling{Allowed: true, Permit: "open"}, keeps: true}
		f := start(t, ruleset(false), guarded(w))
		a := f.post(t, reviewOf(markedPod(bad), func(r object) { r["dryRun"] = true }))
		if !a.Response.Allowed || len(f.recorder.records) != 1 || !f.recorder.records[0].DryRun || f.recorder.synced != 0 || len(w.wrote) != 0 || !strings.Contains(a.Response.Warnings[0], "would let this in") {
			t.Errorf("allowed %v, recorded %d, told %d, warnings %q", a.Response.Allowed, len(f.recorder.records), len(w.wrote), a.Response.Warnings)
		}
	})
}

// TestAMarkerCannotBeHidden: what a marker does that comes later, or goes.
func TestAMarkerCannotBeHidden(t *testing.T) {
	t.Parallel()
	update := func(from, to object) object {
		return reviewOf(to, func(r object) { r["operation"], r["oldObject"] = "UPDATE", from })
	}
	plain := object{
		"kind": "Deployment", "metadata": object{"name": "web", "uid": "deployment-uid"},
		"spec": object{"template": object{"spec": object{"containers": containers(bad)}}},
	}
	open := func() *warden { return &warden{ruling: breakglass.Ruling{Allowed: true, Permit: "open"}} }
	t.Run("put on a template by an update it is judged as a new one, by who put it there", func(t *testing.T) {
		w := open()
		f := start(t, ruleset(false), guarded(w))
		a := f.post(t, update(plain, markedDeployment(bad)))
		if !a.Response.Allowed || f.recorder.synced != 1 || len(w.asked) != 1 || w.asked[0].User.Name != "ada" || w.wrote[0].UID != "deployment-uid" {
			t.Errorf("allowed %v, synced %d, asked %+v", a.Response.Allowed, f.recorder.synced, w.asked)
		}
	})
	t.Run("nothing is judged again when nothing of it has changed", func(t *testing.T) {
		w := open()
		f := start(t, ruleset(false), guarded(w))
		f.post(t, update(markedDeployment(bad), markedDeployment(bad)))
		if f.recorder.records[0].Event != "unchanged" || len(w.asked) != 0 {
			t.Errorf("recorded %+v", f.recorder.records[0])
		}
	})
	t.Run("put on a pod that runs it is for nothing", func(t *testing.T) {
		w := open()
		f := start(t, ruleset(false), guarded(w))
		a := f.post(t, update(pod(bad), markedPod(bad)))
		if !a.Response.Allowed || f.recorder.records[0].Event != "unchanged" || len(w.asked) != 0 || len(w.wrote) != 0 {
			t.Errorf("recorded %+v, asked %d", f.recorder.records[0], len(w.asked))
		}
	})
	t.Run("put on a pod together with another image it is used", func(t *testing.T) {
		w := open()
		f := start(t, ruleset(false), guarded(w))
		f.post(t, update(pod(good), markedPod(bad)))
		if f.recorder.synced != 1 || len(w.asked) != 1 {
			t.Errorf("synced %d, asked %d", f.recorder.synced, len(w.asked))
		}
	})
	t.Run("taken off later it leaves the record", func(t *testing.T) {
		f := start(t, ruleset(false), guarded(open()))
		f.post(t, reviewOf(markedPod(bad), nil))
		f.post(t, update(markedPod(bad), pod(bad)))
		if len(f.recorder.records) != 2 || f.recorder.records[0].Decision.Override != decide.BreakGlass {
			t.Errorf("recorded %+v", f.recorder.records)
		}
	})
	t.Run("labels that opt out of others opt out of nothing", func(t *testing.T) {
		f := start(t, ruleset(false), guarded(open()))
		p := markedPod(bad)
		for _, label := range []string{"kritis-validation", "gatehouse.dev/ignore", "policy.sigstore.dev/exclude"} {
			p["metadata"].(object)["labels"].(object)[label] = "disabled"
		}
		f.post(t, reviewOf(p, nil))
		if f.recorder.synced != 1 {
			t.Errorf("synced %d", f.recorder.synced)
		}
	})
}

func TestKritisMarker(t *testing.T) {
	t.Parallel()
	on := func(value string) object {
		p := pod(bad)
		p["metadata"].(object)["annotations"] = object{admission.KritisAnnotation: value}
		return p
	}
	onDeployment := object{
		"kind": "Deployment", "metadata": object{"annotations": object{admission.KritisAnnotation: ""}},
		"spec": object{"template": object{"spec": object{"containers": containers(bad)}}},
	}
	for name, tc := range map[string]struct {
		mode    admission.KritisMode
		object  object
		want    bool
		warning string
	}{
		"is nothing by default":                  {"", on("true"), false, "counts for nothing here"},
		"is a marker where that is chosen":       {admission.KritisTrue, on("true"), true, ""},
		"and then with the value true only":      {admission.KritisTrue, on("false"), false, `only with the value "true"`},
		"and not on the workload":                {admission.KritisTrue, onDeployment, false, ""},
		"has any value where it is as in Kritis": {admission.KritisAny, on("false"), true, ""},
		"and is on the workload then":            {admission.KritisAny, onDeployment, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, ruleset(false), func(o *admission.Options) { o.KritisBreakGlass = tc.mode })
			a := f.post(t, reviewOf(tc.object, nil))
			if a.Response.Allowed != tc.want || tc.warning != "" && !strings.Contains(strings.Join(a.Response.Warnings, "\n"), tc.warning) {
				t.Errorf("allowed %v, warnings %q", a.Response.Allowed, a.Response.Warnings)
			}
		})
	}
}

func TestAMarkerThatIsWrongIsExplained(t *testing.T) {
	t.Parallel()
	for want, meta := range map[string]object{
		`only with the value "true"`:          {"labels": object{admission.BreakGlassLabel: "yes"}},
		"counts for nothing as an annotation": {"annotations": object{admission.BreakGlassLabel: "true"}},
		"counts for nothing as a label":       {"labels": object{admission.BreakGlassAnnotation: "true"}},
	} {
		f := start(t, ruleset(false), nil)
		p := pod(bad)
		p["metadata"] = meta
		if a := f.post(t, reviewOf(p, nil)); a.Response.Allowed || !strings.Contains(strings.Join(a.Response.Warnings, "\n"), want) {
			t.Errorf("allowed %v, warnings %q, want %q", a.Response.Allowed, a.Response.Warnings, want)
		}
	}
}

// TestBreakGlassOfImageReviews: the plugin passes on no labels and not who asks, and only
// annotations with ".image-policy.k8s.io/" in their names.
func TestBreakGlassOfImageReviews(t *testing.T) {
	t.Parallel()
	w := &warden{ruling: breakglass.Ruling{Allowed: true, Permit: "grant"}}
	f := newGate(t, ruleset(false), guarded(w))
	f.Server = httptest.NewServer(f.gate.ImageReviews())
	t.Cleanup(f.Close)
	a := f.reviewImages(t, "/", imageReview(object{
		admission.BreakGlassAnnotation: "true", admission.ImageReviewJustification: "it burns", admission.ImageReviewTicket: "OPS-7",
	}, bad))
	if !a.Status.Allowed || len(w.asked) != 1 || w.asked[0].User.Name != "" || w.asked[0].Reason != "it burns" || w.asked[0].Ticket != "OPS-7" || f.recorder.synced != 1 {
		t.Errorf("said %+v, asked %+v", a, w.asked)
	}
}
