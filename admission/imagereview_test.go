package admission_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// imageGate serves image reviews as a server does.
func imageGate(t *testing.T, rules *policy.Ruleset, change func(*admission.Options)) fixture {
	t.Helper()
	f := start(t, rules, change)
	mux := http.NewServeMux()
	mux.Handle("/imagereview", f.gate.ImageReviews())
	mux.Handle("/imagereview/{cluster}", f.gate.ImageReviews())
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func imageReview(annotations object, images ...string) object {
	var list []any
	for _, image := range images {
		list = append(list, object{"image": image})
	}
	return object{
		"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "metadata": object{"creationTimestamp": nil},
		"spec":   object{"containers": list, "annotations": annotations, "namespace": "shop"},
		"status": object{"allowed": false},
	}
}

// imageAnswer is what an API server reads, and nothing else may be in it.
type imageAnswer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     struct {
		Allowed          bool              `json:"allowed"`
		Reason           string            `json:"reason"`
		AuditAnnotations map[string]string `json:"auditAnnotations"`
	} `json:"status"`
}

func (f fixture) reviewImages(t *testing.T, path string, review any) (a imageAnswer) {
	t.Helper()
	body, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Client().Post(f.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s %v", resp.Status, text, err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil || a.APIVersion != "imagepolicy.k8s.io/v1alpha1" || a.Kind != "ImageReview" {
		t.Fatalf("%v in %s", err, text)
	}
	return a
}

func TestImageReviews(t *testing.T) {
	t.Parallel()
	f := imageGate(t, ruleset(false), nil)
	unknown := imageReview(nil, good)
	unknown["spec"].(object)["imageVolumes"] = []any{object{"image": bad}}
	nowhere := imageReview(nil, good)
	nowhere["spec"].(object)["namespace"] = ""
	twice := imageReview(nil, good)
	twice["spec"] = json.RawMessage(`{"namespace":"shop","containers":[{"image":"` + good + `","image":"` + bad + `"}]}`)
	for name, tc := range map[string]struct {
		review  object
		allowed bool
		reason  string
		record  string
	}{
		"attested":             {imageReview(nil, good), true, "", "admission ALLOW"},
		"unattested":           {imageReview(nil, good, bad), false, "Image " + bad + " denied by Binary Authorization default admission rule.", "admission DENY"},
		"by tag":               {imageReview(nil, tagged), false, "Expected digest with sha256 scheme", "admission DENY"},
		"no containers":        {imageReview(nil), false, "no containers", "refused"},
		"too many":             {imageReview(nil, make([]string, 501)...), false, "501 images", "refused"},
		"no namespace":         {nowhere, false, "no namespace", "refused"},
		"what is not known":    {unknown, false, "imageVolumes", "refused"},
		"a name twice":         {twice, false, "duplicate", "refused"},
		"spec null":            {object{"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "spec": nil}, false, "no namespace", "refused"},
		"no spec":              {object{"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1"}, false, "spec", "refused"},
		"another version":      {object{"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1"}, false, "want apiVersion", "refused"},
		"break-glass":          {imageReview(object{admission.BreakGlassAnnotation: "true"}, bad), true, "", "admission DENY BREAK_GLASS"},
		"break-glass, not so":  {imageReview(object{admission.BreakGlassAnnotation: "yes"}, bad), false, "denied", "admission DENY"},
		"the label's key":      {imageReview(object{admission.BreakGlassLabel: "true"}, bad), false, "denied", "admission DENY"},
		"one bad, many images": {imageReview(nil, good, good, bad, good), false, bad, "admission DENY"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.reviewImages(t, "/imagereview", tc.review)
			if a.Status.Allowed != tc.allowed || !strings.Contains(a.Status.Reason, tc.reason) || (tc.allowed && a.Status.Reason != "") {
				t.Errorf("got %+v", a.Status)
			}
			r := f.recorder.records[len(f.recorder.records)-1]
			got := r.Event
			if r.Decision != nil {
				got = strings.TrimSpace(got + " " + r.Decision.Verdict.String() + " " + string(r.Decision.Override))
			}
			if got != tc.record || r.Resource != "imagereviews.imagepolicy.k8s.io" && tc.record != "refused" {
				t.Errorf("recorded %s of %s", got, r.Resource)
			}
		})
	}
	t.Run("audit annotations have Google's keys", func(t *testing.T) {
		a := f.reviewImages(t, "/imagereview", imageReview(object{admission.BreakGlassAnnotation: "true"}, bad))
		want := map[string]string{
			"break-glass":                    "true",
			"overridden-verification-result": fmt.Sprintf("'%[1]s' : Image %[1]s denied by attestor %s: No attestations found that were valid and signed by a key trusted by the attestor\n", bad, attestor),
		}
		if diff := cmp.Diff(a.Status.AuditAnnotations, want); diff != "" {
			t.Error(diff)
		}
	})
}

func TestImageReviewsOfAnOutageAreDenials(t *testing.T) {
	t.Parallel()
	f := imageGate(t, ruleset(false), func(o *admission.Options) { o.Evidence = facts{down: true} })
	if a := f.reviewImages(t, "/imagereview", imageReview(nil, good)); a.Status.Allowed || a.Status.Reason == "" {
		t.Errorf("got %+v", a.Status)
	}
}

func TestImageReviewsOfClusters(t *testing.T) {
	t.Parallel()
	rules := ruleset(false)
	rules.Rules = append([]policy.Rule{{ID: "cluster admission rule for eu.stage", Scope: policy.Scope{Cluster: "eu.stage"}, Evaluation: policy.AlwaysAllow}}, rules.Rules...)
	f := imageGate(t, rules, nil)
	for path, want := range map[string]bool{"/imagereview": false, "/imagereview/eu.stage": true, "/imagereview/eu.prod": false} {
		if a := f.reviewImages(t, path, imageReview(nil, bad)); a.Status.Allowed != want {
			t.Errorf("%s: allowed %v", path, a.Status.Allowed)
		}
	}
	clusters := map[string]int{}
	for _, r := range f.recorder.records {
		clusters[r.Cluster]++
	}
	if diff := cmp.Diff(clusters, map[string]int{"us-east1-b.prod": 1, "eu.stage": 1, "eu.prod": 1}); diff != "" {
		t.Error(diff)
	}
}

func TestImageReviewsAndRulesByWhatTheyDoNotSay(t *testing.T) {
	t.Parallel()
	for name, scope := range map[string]policy.Scope{
		"service account": {ServiceAccount: "other:robot"},
		"Istio identity":  {IstioIdentity: "mesh.example/ns/shop/sa/default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			special := ruleset(false)
			special.Rules = []policy.Rule{{ID: "special", Scope: scope, Evaluation: policy.AlwaysAllow}, {ID: "default admission rule", Evaluation: policy.AlwaysAllow}}
			set := policy.Set{ruleset(false), special.Build()}
			f := imageGate(t, nil, func(o *admission.Options) { o.Rules = func() policy.Set { return set } })
			a := f.reviewImages(t, "/imagereview", imageReview(nil, good))
			if a.Status.Allowed || !strings.Contains(a.Status.Reason, "service account or Istio identity") {
				t.Errorf("got %+v", a.Status)
			}
			if a := f.reviewImages(t, "/imagereview", imageReview(object{admission.BreakGlassAnnotation: "true"}, good)); !a.Status.Allowed || f.recorder.records[1].Decision.Override != decide.BreakGlass {
				t.Errorf("with break-glass: %+v", a.Status)
			}
			// The webhook knows both.
			if len(set[1].Rules) != 2 || set[0].Rules[0].ID != "default admission rule" {
				t.Error("the policies in force were changed")
			}
		})
	}
}

func FuzzImageReview(f *testing.F) {
	for _, review := range []object{imageReview(nil, good), imageReview(object{admission.BreakGlassAnnotation: "true"}, bad), {"kind": "ImageReview"}} {
		body, err := json.Marshal(review)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	gate := newGate(f, ruleset(false), nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/imagereview", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		gate.gate.ImageReviews().ServeHTTP(w, r)
		var a imageAnswer
		if w.Code == http.StatusOK && json.Unmarshal(w.Body.Bytes(), &a) != nil {
			t.Errorf("%s", w.Body)
		}
		if w.Code == http.StatusInternalServerError || (a.Status.Allowed && !bytes.Contains(body, []byte(`image`))) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
