package admission_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

func TestAServerSideDryRunIsRecordedAsOne(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	p := pod(bad)
	p["metadata"].(object)["labels"] = object{admission.BreakGlassLabel: "true"}
	if !f.post(t, reviewOf(p, func(r object) { r["dryRun"] = true })).Response.Allowed {
		t.Error("answered otherwise than for real")
	}
	if r := f.recorder.records; len(r) != 1 || !r[0].DryRun || f.recorder.synced != 0 {
		t.Errorf("%d waited for, records %+v", f.recorder.synced, r)
	}
	want := `
# HELP gatehouse_admission_decisions_total Admission requests answered, by resource, verdict of policy (ALLOW, DENY, INDETERMINATE, or NONE when nothing was judged), what overrode it, and whether the API server only tried it out.
# TYPE gatehouse_admission_decisions_total counter
gatehouse_admission_decisions_total{dry_run="true",override="BREAK_GLASS",resource="pods",verdict="DENY"} 1
`
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "gatehouse_admission_decisions_total"); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotAReviewIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	valid, err := json.Marshal(reviewOf(pod(good), nil))
	if err != nil {
		t.Fatal(err)
	}
	text := string(valid)
	for name, tc := range map[string]struct {
		body string
		code int
	}{
		"empty":               {"", 400},
		"truncated":           {text[:len(text)/2], 400},
		"not JSON":            {"hello", 400},
		"no request":          {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400},
		"another kind":        {strings.Replace(text, `"kind":"AdmissionReview"`, `"kind":"Pod"`, 1), 400},
		"another version":     {strings.Replace(text, "admission.k8s.io/v1", "admission.k8s.io/v2", 1), 400},
		"no uid":              {strings.Replace(text, `"uid":"uid-1"`, `"uid":""`, 1), 400},
		"an endless uid":      {strings.Replace(text, `"uid":"uid-1"`, `"uid":"`+strings.Repeat("u", 300)+`"`, 1), 400},
		"larger than allowed": {`{"a":"` + strings.Repeat("x", 40<<20) + `"}`, 413},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := f.Client().Post(f.URL, "application/json", strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.code {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.code)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		resp, err := f.Client().Get(f.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

// TestAReviewThatCannotBeReadIsDenied: whoever can be answered is, with a denial, which
// counts even where a failing webhook is ignored.
func TestAReviewThatCannotBeReadIsDenied(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	text := string(review.Pod("shop", "web").Image("main", good).UID("uid-1").Review()) // in an API server's order
	for name, body := range map[string]string{
		"duplicate name":     strings.Replace(text, `"request":`, `"kind":"AdmissionReview","request":`, 1),
		"duplicate uid":      strings.Replace(text, `"uid":"uid-1"`, `"uid":"uid-1","uid":"uid-2"`, 1),
		"trailing data":      text + text,
		"too deep":           strings.Replace(text, `"spec":`, `"deep":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`,"spec":`, 1),
		"operation a number": strings.Replace(text, `"CREATE"`, "7", 1),
		"invalid UTF-8":      strings.Replace(text, `"CREATE"`, "\"\xff\"", 1),
	} {
		t.Run(name, func(t *testing.T) {
			a := f.post(t, json.RawMessage(body))
			if a.Response.Allowed || a.Response.Status.Code != 400 {
				t.Errorf("got %+v", a.Response)
			}
		})
	}
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	if n := len(f.recorder.records); n != 6 {
		t.Errorf("%d records", n)
	}
}

func TestAnObjectThatCannotBeReadIsDenied(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	for name, obj := range map[string]any{
		"absent":              nil,
		"a string":            "pod",
		"containers a map":    object{"spec": object{"containers": object{}}},
		"image a number":      object{"spec": object{"containers": []any{object{"image": 1}}}},
		"duplicate container": json.RawMessage(`{"spec":{"containers":[{"image":"` + good + `","image":"` + bad + `"}]}}`),
	} {
		t.Run(name, func(t *testing.T) {
			r := reviewOf(pod(good), func(r object) { r["object"] = obj })
			if raw, ok := obj.(json.RawMessage); ok && !json.Valid(raw) {
				t.Fatal("bad test")
			}
			body, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := f.Client().Post(f.URL, "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var a answer
			if resp.StatusCode == http.StatusOK {
				if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
					t.Fatal(err)
				}
			}
			if a.Response.Allowed || (resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadRequest) {
				t.Errorf("status %d, allowed %v", resp.StatusCode, a.Response.Allowed)
			}
		})
	}
}

func TestV1beta1IsAnsweredInKind(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), nil)
	r := reviewOf(pod(good), nil)
	r["apiVersion"] = "admission.k8s.io/v1beta1"
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Client().Post(f.URL, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	if a.APIVersion != "admission.k8s.io/v1beta1" || !a.Response.Allowed {
		t.Errorf("got %+v", a)
	}
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	review, err := json.Marshal(reviewOf(pod(tagged), nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		in   string
		want decide.Request
	}{
		"a pod in YAML": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: ns, labels: {image-policy.k8s.io/break-glass: \"true\"}}\nspec:\n  serviceAccountName: sa\n  containers: [{name: c, image: x:1}]\n",
			decide.Request{Namespace: "ns", ServiceAccount: "sa", BreakGlass: "label image-policy.k8s.io/break-glass", Images: []decide.ImageUse{{Container: "c", Type: decide.Container, Text: "x:1"}}},
		},
		"a deployment with separators": {
			"---\napiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {initContainers: [{name: i, image: y}], containers: [{name: c, image: z}]}}}\n---\n",
			decide.Request{Namespace: "default", Images: []decide.ImageUse{{Container: "i", Type: decide.InitContainer, Text: "y"}, {Container: "c", Type: decide.Container, Text: "z"}}},
		},
		"a review": {
			string(review),
			decide.Request{Namespace: "shop", Images: []decide.ImageUse{{Container: "c0", Type: decide.Container, Text: tagged}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := admission.ReadRequest([]byte(tc.in), admission.Place{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Error(diff)
			}
		})
	}
	pod := "apiVersion: v1\nkind: Pod\nspec: "
	for name, tc := range map[string]struct{ in, want string }{
		"empty":          {"", "there is no object in it"},
		"only a comment": {"# nothing\n", "there is no object in it"},
		"two objects":    {"kind: Pod\napiVersion: v1\n---\nkind: Pod\napiVersion: v1\n", "more than one object"},
		"no images":      {"apiVersion: v1\nkind: Service\n", "has no images that Gatehouse knows of"},
		"no kind":        {"defaultAdmissionRule: {}\n", "it needs both apiVersion and kind: want a Pod"},
		"text":           {"hello\n", "it is YAML, but no object: want a Pod"},
		"a list":         {"- a\n", "it is YAML, but no object: want a Pod"},
		"no containers":  {pod + "{Containers: [{name: c, image: x}]}\n", "the object (pods) has no containers"},
		"a misspelt key": {"apiVersion: apps/v1\nkind: Deployment\nspec: {templates: {spec: {containers: [{image: x}]}}}\n", "has no containers"},
		"duplicate key":  {"apiVersion: v1\nkind: Pod\nkind: Pod\n", `decoding YAML: line 3: mapping key "kind" already defined at line 2`},
		"a number":       {pod + "{containers: [{image: 5}]}\n", "/spec/containers/0/image is a number, which is not what Kubernetes has there"},
		"an object":      {pod + "{containers: {image: x}}\n", "/spec/containers is an object, which"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			if r, err := admission.ReadRequest([]byte(tc.in), admission.Place{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Pod\nspec: {containers: [{image: x}]}\n"))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"kind":"Pod"},"object":{"spec":{"containers":[{"image":"x"}]}}}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = admission.ReadRequest(data, admission.Place{}) // must not panic or hang
	})
}
