package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	note     = "projects/p/notes/vetted"
	attestor = "projects/p/attestors/vetted"
	good     = "reg.test/shop/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	bad      = "reg.test/shop/web@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	tagged   = "reg.test/shop/web:1.4"
)

var trusted = [32]byte{1}

// facts is the evidence of these tests: good is attested, and is what was last
// built as tagged.
type facts struct{ down bool }

func (f facts) Collect(_ context.Context, refs []image.Reference) evidence.Facts {
	set := map[image.Digest]evidence.Image{}
	known := evidence.Facts{Images: set, Built: map[string]image.Digest{}}
	for _, ref := range refs {
		d := ref.Digest()
		switch {
		case ref.String() == tagged:
			was, _ := image.Parse(good)
			known.Built[tagged] = was.Digest()
		case d.IsZero():
		case f.down:
			set[d] = evidence.Image{State: evidence.Unavailable, Err: "store is gone"}
		case strings.HasSuffix(good, d.String()):
			set[d] = evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{{Origin: evidence.Origin{Note: note, Fingerprint: trusted, KeyID: "k", Occurrence: "projects/p/occurrences/01890a5d-ac96-7000-8000-0123456789ab"}, Repository: "reg.test/shop/web"}}}
		default:
			set[d] = evidence.Image{State: evidence.Known}
		}
	}
	return known
}

// recorder keeps records; it fails as told.
type recorder struct {
	mu      sync.Mutex
	records []audit.Record
	synced  int
	fail    error
}

func (r *recorder) Append(rec audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.records = append(r.records, rec)
	return nil
}

func (r *recorder) AppendSync(_ context.Context, rec audit.Record) error {
	r.mu.Lock()
	r.synced++
	r.mu.Unlock()
	return r.Append(rec)
}

type fixture struct {
	*httptest.Server
	gate     *admission.Gate
	patience string // 10s if it is not said
	recorder *recorder
	registry *prometheus.Registry
}

func ruleset(dryRun bool) *policy.Ruleset {
	return &policy.Ruleset{
		Name: "projects/p/policy", Version: "v1",
		Rules: []policy.Rule{{
			ID: "default admission rule", Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Attested{Attestor: attestor}}}, DryRun: dryRun,
		}},
		Attestors: map[string]policy.Attestor{attestor: {Name: attestor, Note: note, Keys: []policy.Key{{ID: "k", Fingerprint: trusted}}}},
	}
}

func start(t testing.TB, rules *policy.Ruleset, change func(*admission.Options)) fixture {
	t.Helper()
	f := newGate(t, rules, change)
	f.Server = httptest.NewServer(f.gate)
	t.Cleanup(f.Close)
	return f
}

// newGate returns a fixture without a server.
func newGate(t testing.TB, rules *policy.Ruleset, change func(*admission.Options)) fixture {
	t.Helper()
	f := fixture{recorder: &recorder{}, registry: prometheus.NewRegistry()}
	o := admission.Options{
		Rules: func() policy.Set {
			if rules == nil {
				return nil
			}
			return policy.Set{rules}
		}, Evidence: facts{}, Recorder: f.recorder, Place: admission.Place{Cluster: "us-east1-b.prod"},
		Now:      func() time.Time { return time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) },
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registry: f.registry,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if f.gate, err = admission.NewGate(o); err != nil {
		t.Fatal(err)
	}
	return f
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

type object = map[string]any

func containers(images ...string) []any {
	var list []any
	for i, img := range images {
		list = append(list, object{"name": fmt.Sprintf("c%d", i), "image": img})
	}
	return list
}

func pod(images ...string) object {
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"name": "web", "namespace": "shop"},
		"spec":     object{"containers": containers(images...)},
	}
}

// reviewOf wraps an object as an API server does; edit may change the request.
func reviewOf(obj object, edit func(request object)) object {
	resources := map[string][2]string{
		"Pod": {"", "pods"}, "Deployment": {"apps", "deployments"}, "CronJob": {"batch", "cronjobs"},
		"PodTemplate": {"", "podtemplates"}, "Service": {"", "services"}, "Scale": {"apps", "deployments"},
		"ReplicaSet": {"apps", "replicasets"}, "StatefulSet": {"apps", "statefulsets"}, "DaemonSet": {"apps", "daemonsets"},
		"Job": {"batch", "jobs"}, "ReplicationController": {"", "replicationcontrollers"},
	}
	kind := obj["kind"].(string)
	res := resources[kind]
	req := object{
		"uid": "uid-1", "operation": "CREATE", "namespace": "shop", "name": "web",
		"kind":     object{"group": res[0], "version": "v1", "kind": kind},
		"resource": object{"group": res[0], "version": "v1", "resource": res[1]},
		"userInfo": object{"username": "ada"},
		"object":   obj,
	}
	if edit != nil {
		edit(req)
	}
	return object{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": req}
}

type answer struct {
	APIVersion string
	Kind       string
	Response   struct {
		UID     string
		Allowed bool
		Status  struct {
			Status, Message, Reason string
			Code                    int
		}
		AuditAnnotations map[string]string
		Warnings         []string
	}
}

// timeout is what an API server says it waits.
func (f fixture) timeout() string {
	if f.patience == "" {
		return "10s"
	}
	return f.patience
}

func (f fixture) post(t testing.TB, review any) answer {
	t.Helper()
	body, raw := review.(json.RawMessage) // which need not be JSON
	if !raw {
		var err error
		if body, err = json.Marshal(review); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := f.Client().Post(f.URL+"/validate?timeout="+f.timeout(), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %s: %s", resp.Status, text)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if a.APIVersion != "admission.k8s.io/v1" || a.Kind != "AdmissionReview" || a.Response.UID != "uid-1" {
		t.Errorf("envelope %s %s uid %q", a.APIVersion, a.Kind, a.Response.UID)
	}
	return a
}

func TestPods(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)

	t.Run("attested is let in and recorded", func(t *testing.T) {
		if a := f.post(t, reviewOf(pod(good), nil)); !a.Response.Allowed {
			t.Errorf("denied: %s", a.Response.Status.Message)
		}
	})
	t.Run("unattested is refused with what is missing and what to run", func(t *testing.T) {
		a := f.post(t, reviewOf(pod(bad), nil))
		s := a.Response.Status
		if a.Response.Allowed || s.Code != 403 || s.Reason != "VIOLATES_POLICY" || s.Status != "Failure" {
			t.Errorf("got %+v", a.Response)
		}
		for _, want := range []string{bad, "default admission rule", attestor, "gatehouse check"} {
			if !strings.Contains(s.Message, want) {
				t.Errorf("message lacks %q:\n%s", want, s.Message)
			}
		}
	})
	t.Run("a tag is refused and its digest named", func(t *testing.T) {
		a := f.post(t, reviewOf(pod(tagged), nil))
		if a.Response.Allowed || !strings.Contains(a.Response.Status.Message, good) || !strings.Contains(a.Response.Status.Message, "Expected digest with sha256 scheme") {
			t.Errorf("allowed %v, message:\n%s", a.Response.Allowed, a.Response.Status.Message)
		}
	})
	t.Run("one bad image among good ones refuses the pod", func(t *testing.T) {
		if f.post(t, reviewOf(pod(good, bad, good), nil)).Response.Allowed {
			t.Error("allowed")
		}
	})
	for _, place := range []string{"initContainers", "ephemeralContainers"} {
		t.Run("images of "+place+" count", func(t *testing.T) {
			p := pod(good)
			p["spec"].(object)[place] = containers(bad)
			if f.post(t, reviewOf(p, nil)).Response.Allowed {
				t.Error("allowed")
			}
		})
	}
	t.Run("image volumes count", func(t *testing.T) {
		p := pod(good)
		p["spec"].(object)["volumes"] = []any{object{"name": "v", "image": object{"reference": bad}}, object{"name": "e", "emptyDir": object{}}}
		if f.post(t, reviewOf(p, nil)).Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("a field in another case is another field", func(t *testing.T) {
		p := pod(bad)
		p["spec"].(object)["Containers"] = containers(good)
		p["spec"].(object)["containers"].([]any)[0].(object)["Image"] = good
		if f.post(t, reviewOf(p, nil)).Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("an owner reference buys nothing", func(t *testing.T) {
		p := pod(bad)
		p["metadata"].(object)["ownerReferences"] = []any{object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}}
		if f.post(t, reviewOf(p, nil)).Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("every judgement was recorded", func(t *testing.T) {
		if n := len(f.recorder.records); n != 9 {
			t.Errorf("%d records", n)
		}
		r := f.recorder.records[1]
		if r.User != "ada" || r.Namespace != "shop" || r.Resource != "pods" || r.Cluster != "us-east1-b.prod" || r.Decision.Verdict != decide.DENY {
			t.Errorf("record %+v", r)
		}
	})
}

func TestTheRequestsNamespaceCounts(t *testing.T) {
	t.Parallel()
	rules := ruleset(false)
	rules.Rules = append([]policy.Rule{{ID: "namespace admission rule for open", Scope: policy.Scope{Namespace: "open"}, Evaluation: policy.AlwaysAllow}}, rules.Rules...)
	f := start(t, rules, nil)
	p := pod(bad)
	p["metadata"].(object)["namespace"] = "open"
	if f.post(t, reviewOf(p, nil)).Response.Allowed {
		t.Error("the object's own namespace was believed")
	}
	if !f.post(t, reviewOf(pod(bad), func(r object) { r["namespace"] = "open" })).Response.Allowed {
		t.Error("the request's namespace was not used")
	}
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	update := func(now, old object, edit func(object)) answer {
		return f.post(t, reviewOf(now, func(r object) {
			r["operation"], r["oldObject"] = "UPDATE", old
			if edit != nil {
				edit(r)
			}
		}))
	}
	last := func() audit.Record { return f.recorder.records[len(f.recorder.records)-1] }

	t.Run("that change no image are let in", func(t *testing.T) {
		now := pod(bad)
		now["metadata"].(object)["labels"] = object{"a": "b"}
		if a := update(now, pod(bad), nil); !a.Response.Allowed || last().Event != "unchanged" {
			t.Errorf("allowed %v, event %q", a.Response.Allowed, last().Event)
		}
	})
	t.Run("that change an image are judged", func(t *testing.T) {
		if update(pod(bad), pod(good), nil).Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("that move an image to another container are judged", func(t *testing.T) {
		if update(pod(good, bad), pod(bad, good), nil).Response.Allowed {
			t.Error("allowed")
		}
	})
	t.Run("of an object in deletion are let in", func(t *testing.T) {
		old := pod(good)
		old["metadata"].(object)["deletionTimestamp"] = "2026-11-23T00:00:00Z"
		if a := update(pod(bad), old, nil); !a.Response.Allowed || last().Event != "deleting" {
			t.Errorf("allowed %v, event %q", a.Response.Allowed, last().Event)
		}
	})
	t.Run("cannot claim to be in deletion", func(t *testing.T) {
		now := pod(bad)
		now["metadata"].(object)["deletionTimestamp"] = "2026-11-23T00:00:00Z"
		if update(now, pod(good), nil).Response.Allowed {
			t.Error("allowed")
		}
	})
	ephemeral := func(img string) object {
		p := pod(bad) // runs already, and would not be let in today
		p["spec"].(object)["ephemeralContainers"] = containers(img)
		return p
	}
	t.Run("that add an ephemeral container judge what they add", func(t *testing.T) {
		sub := func(r object) { r["subResource"] = "ephemeralcontainers" }
		if a := update(ephemeral(good), pod(bad), sub); !a.Response.Allowed {
			t.Errorf("an attested one was refused: %s", a.Response.Status.Message)
		}
		if update(ephemeral(bad), pod(bad), sub).Response.Allowed {
			t.Error("an unattested one was let in")
		}
	})
	t.Run("without an old object are judged", func(t *testing.T) {
		if update(pod(bad), nil, nil).Response.Allowed {
			t.Error("allowed")
		}
	})
}

func TestWorkloadTemplates(t *testing.T) {
	t.Parallel()
	template := func(img string) object {
		return object{"metadata": object{}, "spec": object{"containers": containers(img)}}
	}
	workloads := map[string]func(string) object{
		"CronJob": func(img string) object {
			return object{"kind": "CronJob", "spec": object{"jobTemplate": object{"spec": object{"template": template(img)}}}}
		},
		"PodTemplate": func(img string) object { return object{"kind": "PodTemplate", "template": template(img)} },
	}
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"} {
		workloads[kind] = func(img string) object { return object{"kind": kind, "spec": object{"template": template(img)}} }
	}
	denying := start(t, ruleset(false), nil)
	warning := start(t, ruleset(false), func(o *admission.Options) { o.Templates = admission.WarnTemplates })
	for kind, make := range workloads {
		t.Run(kind, func(t *testing.T) {
			if a := denying.post(t, reviewOf(make(good), nil)); !a.Response.Allowed {
				t.Errorf("attested refused: %s", a.Response.Status.Message)
			}
			if denying.post(t, reviewOf(make(bad), nil)).Response.Allowed {
				t.Error("unattested let in")
			}
			a := warning.post(t, reviewOf(make(bad), nil))
			if !a.Response.Allowed || len(a.Response.Warnings) == 0 || !strings.Contains(a.Response.Warnings[0], "its pods will be refused") {
				t.Errorf("with warn: allowed %v, warnings %q", a.Response.Allowed, a.Response.Warnings)
			}
		})
	}
	t.Run("a subresource without images is let in", func(t *testing.T) {
		scale := object{"kind": "Scale", "spec": object{"replicas": 3}}
		if !denying.post(t, reviewOf(scale, func(r object) { r["subResource"] = "scale" })).Response.Allowed {
			t.Error("refused")
		}
	})
	t.Run("an object without images is let in", func(t *testing.T) {
		if !denying.post(t, reviewOf(object{"kind": "Service"}, nil)).Response.Allowed {
			t.Error("refused")
		}
	})
	t.Run("a deletion is let in", func(t *testing.T) {
		r := reviewOf(workloads["Deployment"](bad), func(r object) { r["operation"] = "DELETE"; r["object"] = nil })
		if !denying.post(t, r).Response.Allowed {
			t.Error("refused")
		}
	})
}

func TestPolicyDryRunLetsInAndRecords(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(true), nil)
	a := f.post(t, reviewOf(pod(bad), nil))
	if !a.Response.Allowed || a.Response.AuditAnnotations["dry-run"] != "true" || len(a.Response.Warnings) == 0 {
		t.Errorf("got %+v", a.Response)
	}
	if d := f.recorder.records[0].Decision; d.Override != decide.DryRun || d.Verdict != decide.DENY {
		t.Errorf("decision %+v", d)
	}
}

func TestNoPolicyObservesAndSaysSo(t *testing.T) {
	t.Parallel()
	f := start(t, nil, nil)
	a := f.post(t, reviewOf(pod(bad), nil))
	if !a.Response.Allowed || len(a.Response.Warnings) != 1 || !strings.Contains(a.Response.Warnings[0], "no policy") {
		t.Errorf("got %+v", a.Response)
	}
	if d := f.recorder.records[0].Decision; d.Override != decide.NoPolicy {
		t.Errorf("decision %+v", d)
	}
}

func TestEvidenceThatCannotBeReadIsNeverAnAllow(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Evidence = facts{down: true} })
	a := f.post(t, reviewOf(pod(good), nil))
	if a.Response.Allowed || f.recorder.records[0].Decision.Verdict != decide.INDETERMINATE {
		t.Errorf("allowed %v, decision %+v", a.Response.Allowed, f.recorder.records[0].Decision)
	}
}
