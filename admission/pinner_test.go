package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/image"
)

// A pinner is one under test, and what was asked of it.
type pinner struct {
	*admission.Pinner
	t     *testing.T
	mu    sync.Mutex
	asked []admission.PinQuestion
}

// newPinner resolves "good" images to the hash of what is asked.
func newPinner(t *testing.T, mode admission.PinMode) *pinner {
	t.Helper()
	p := &pinner{t: t}
	var err error
	p.Pinner, err = admission.NewPinner(admission.PinOptions{
		Mode: func(string) admission.PinMode { return mode },
		Resolve: func(ctx context.Context, q admission.PinQuestion) (image.Digest, error) {
			p.mu.Lock()
			p.asked = append(p.asked, q)
			p.mu.Unlock()
			switch {
			case strings.Contains(q.Ref.String(), "good"):
				return image.DigestOf([]byte(q.Ref.String())), nil
			case strings.Contains(q.Ref.String(), "hangs"):
				<-ctx.Done()
				return image.Digest{}, errors.New("registry reg.test does not answer")
			case strings.Contains(q.Ref.String(), "panics"):
				panic("no")
			}
			return image.Digest{}, errors.New("no such tag\n\x1b[31m")
		},
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func digestFor(text string) string { return text + "@" + image.DigestOf([]byte(text)).String() }

// A pinAnswer is what the API server reads.
type pinAnswer struct {
	Allowed   bool
	Patch     []byte
	PatchType string
	Warnings  []string
}

type operation struct {
	Op, Path string
	Value    any
}

func (p *pinner) send(body string) pinAnswer {
	p.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/mutate?timeout=2s", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	var out struct {
		APIVersion string
		Response   struct {
			UID string
			pinAnswer
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK || out.Response.UID != "u" || !out.Response.Allowed {
		p.t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return out.Response.pinAnswer
}

func (a pinAnswer) operations(t *testing.T) []operation {
	t.Helper()
	if (len(a.Patch) > 0) != (a.PatchType == "JSONPatch") {
		t.Fatalf("patch %q of type %q", a.Patch, a.PatchType)
	}
	var ops []operation
	if len(a.Patch) > 0 {
		if err := json.Unmarshal(a.Patch, &ops); err != nil {
			t.Fatalf("%s: %v", a.Patch, err)
		}
	}
	return ops
}

func pinReview(operation, resource, object, old string) string {
	group, name, ok := strings.Cut(resource, "/")
	if !ok {
		group, name = "", resource
	}
	name, sub, _ := strings.Cut(name, ":")
	if old == "" {
		old = "null"
	}
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","resource":{"group":%q,"version":"v1","resource":%q},"subResource":%q,"namespace":"shop","operation":%q,"object":%s,"oldObject":%s}}`,
		group, name, sub, operation, object, old)
}

// apply applies replace operations, add and remove of one member, as an API server does.
func apply(t *testing.T, object string, ops []operation) string {
	t.Helper()
	var root any
	if err := json.Unmarshal([]byte(object), &root); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		steps := strings.Split(op.Path, "/")[1:]
		at := root
		for _, s := range steps[:len(steps)-1] {
			switch v := at.(type) {
			case map[string]any:
				at = v[s]
			case []any:
				i, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				at = v[i]
			}
		}
		last := strings.NewReplacer("~1", "/", "~0", "~").Replace(steps[len(steps)-1])
		m, ok := at.(map[string]any)
		if _, have := m[last]; !ok || op.Op != "add" && !have {
			t.Fatalf("%+v does not fit %s", op, object)
		}
		if op.Op == "remove" {
			delete(m, last)
		} else {
			m[last] = op.Value
		}
	}
	text, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const everywhere = `{"metadata":{"name":"web"},"spec":{"serviceAccountName":"robot","imagePullSecrets":[{"name":"regcred"},{"name":""}],
 "initContainers":[{"name":"i","image":"reg.test/good-init:1"}],
 "containers":[{"name":"a","image":"reg.test/good:1"},{"name":"b","image":"reg.test/good:1"},{"name":"c","image":"good"},{"name":"d","image":"reg.test/x@sha256:0000000000000000000000000000000000000000000000000000000000000000"}],
 "ephemeralContainers":[{"name":"e","image":"reg.test/good-debug"}],
 "volumes":[{"name":"v","image":{"reference":"reg.test/good-data:2"}},{"name":"w","emptyDir":{}}]}}`

// TestTagsArePinnedEverywhereInAPod, each asked for once, and a second time nothing is
// left to do, whatever another webhook has added.
func TestTagsArePinnedEverywhereInAPod(t *testing.T) {
	t.Parallel()
	p := newPinner(t, admission.PinPods)
	a := p.send(pinReview("CREATE", "pods", everywhere, ""))
	want := []operation{
		{"replace", "/spec/initContainers/0/image", digestFor("reg.test/good-init:1")},
		{"replace", "/spec/containers/0/image", digestFor("reg.test/good:1")},
		{"replace", "/spec/containers/1/image", digestFor("reg.test/good:1")},
		{"replace", "/spec/containers/2/image", digestFor("good")},
		{"replace", "/spec/ephemeralContainers/0/image", digestFor("reg.test/good-debug")},
		{"replace", "/spec/volumes/0/image/reference", digestFor("reg.test/good-data:2")},
	}
	if d := cmp.Diff(want, a.operations(t)); d != "" || len(a.Warnings) > 0 {
		t.Errorf("%v (-want +got):\n%s", a.Warnings, d)
	}
	if len(p.asked) != 5 {
		t.Errorf("%d questions, want one for each reference", len(p.asked))
	}
	for _, q := range p.asked {
		if q.Namespace != "shop" || q.ServiceAccount != "robot" || !slices.Equal(q.PullSecrets, []string{"regcred"}) || !q.Ref.Digest().IsZero() {
			t.Errorf("asked %+v", q)
		}
	}
	pinned := apply(t, everywhere, a.operations(t))
	if again := p.send(pinReview("CREATE", "pods", pinned, "")); len(again.Patch) > 0 || len(p.asked) != 5 {
		t.Errorf("called again: %s", again.Patch)
	}
	injected := strings.Replace(pinned, `"containers":[`, `"containers":[{"name":"sidecar","image":"reg.test/good-sidecar"},`, 1)
	again := p.send(pinReview("CREATE", "pods", injected, ""))
	if d := cmp.Diff([]operation{{"replace", "/spec/containers/0/image", digestFor("reg.test/good-sidecar")}}, again.operations(t)); d != "" {
		t.Errorf("called again after another webhook (-want +got):\n%s", d)
	}
}

// What a pod has is not touched by an update of something else; what it gets is pinned.
func TestUpdatesOfPods(t *testing.T) {
	t.Parallel()
	pod := func(image, label string) string {
		return fmt.Sprintf(`{"metadata":{"labels":{"l":%q}},"spec":{"containers":[{"name":"a","image":"reg.test/good-old:1"},{"name":"b","image":%q}],"ephemeralContainers":[{"name":"e","image":"reg.test/good-e"}]}}`, label, image)
	}
	for what, c := range map[string]struct {
		resource, now, old string
		want               []operation
	}{
		"another label":         {"pods", pod("reg.test/good:1", "x"), pod("reg.test/good:1", "y"), nil},
		"another image":         {"pods", pod("reg.test/good:2", "x"), pod("reg.test/good:1", "x"), []operation{{"replace", "/spec/containers/1/image", digestFor("reg.test/good:2")}}},
		"a container to debug":  {"pods:ephemeralcontainers", pod("x", "x"), strings.Replace(pod("x", "x"), "good-e", "good-f", 1), []operation{{"replace", "/spec/ephemeralContainers/0/image", digestFor("reg.test/good-e")}}},
		"the status":            {"pods:status", pod("reg.test/good:2", "x"), pod("reg.test/good:1", "x"), nil},
		"the digest taken away": {"pods", pod("reg.test/good:1", "x"), pod(digestFor("reg.test/good:1"), "x"), []operation{{"replace", "/spec/containers/1/image", digestFor("reg.test/good:1")}}},
	} {
		if d := cmp.Diff(c.want, newPinner(t, admission.PinPods).send(pinReview("UPDATE", c.resource, c.now, c.old)).operations(t)); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}

func TestWhatIsPinnedInAMode(t *testing.T) {
	t.Parallel()
	const template = `{"spec":{"containers":[{"name":"a","image":"reg.test/good:1"}]}}`
	owned := func(object string) string {
		return strings.Replace(object, `{"spec"`, `{"metadata":{"ownerReferences":[{"kind":"Deployment","controller":true}]},"spec"`, 1)
	}
	inSpec := `{"spec":{"template":` + template + `}}`
	for what, c := range map[string]struct {
		mode             admission.PinMode
		resource, object string
		path             string // "" if nothing is pinned
	}{
		"pods: a pod":                      {admission.PinPods, "pods", template, "/spec/containers/0/image"},
		"pods: a pod of a controller":      {admission.PinPods, "pods", owned(template), "/spec/containers/0/image"},
		"pods: a deployment":               {admission.PinPods, "apps/deployments", inSpec, ""},
		"templates: a pod":                 {admission.PinTemplates, "pods", template, "/spec/containers/0/image"},
		"templates: a deployment":          {admission.PinTemplates, "apps/deployments", inSpec, "/spec/template/spec/containers/0/image"},
		"templates: a stateful set":        {admission.PinTemplates, "apps/statefulsets", inSpec, "/spec/template/spec/containers/0/image"},
		"templates: a replica set":         {admission.PinTemplates, "apps/replicasets", inSpec, "/spec/template/spec/containers/0/image"},
		"templates: one of a deployment":   {admission.PinTemplates, "apps/replicasets", owned(inSpec), ""},
		"templates: a cron job":            {admission.PinTemplates, "batch/cronjobs", `{"spec":{"jobTemplate":{"spec":{"template":` + template + `}}}}`, "/spec/jobTemplate/spec/template/spec/containers/0/image"},
		"templates: a job":                 {admission.PinTemplates, "batch/jobs", inSpec, ""},
		"templates: a pod template":        {admission.PinTemplates, "podtemplates", `{"template":` + template + `}`, "/template/spec/containers/0/image"},
		"templates: another kind":          {admission.PinTemplates, "example.com/deployments", inSpec, ""},
		"none: a pod":                      {admission.PinNothing, "pods", template, ""},
		"a mode that there is not: a pod":  {"", "pods", template, ""},
		"templates: a deployment's scale":  {admission.PinTemplates, "apps/deployments:scale", inSpec, ""},
		"pods: what is no object of a pod": {admission.PinPods, "pods", `{"spec":{}}`, ""},
	} {
		var want []operation
		if c.path != "" {
			want = []operation{{"replace", c.path, digestFor("reg.test/good:1")}}
		}
		for _, op := range []string{"CREATE", "UPDATE"} {
			old := ""
			if op == "UPDATE" {
				old = `{}`
			}
			if d := cmp.Diff(want, newPinner(t, c.mode).send(pinReview(op, c.resource, c.object, old)).operations(t)); d != "" {
				t.Errorf("%s, %s (-want +got):\n%s", what, op, d)
			}
		}
		if a := newPinner(t, c.mode).send(pinReview("DELETE", c.resource, "null", c.object)); len(a.Patch) > 0 {
			t.Errorf("%s: a deletion is patched: %s", what, a.Patch)
		}
	}
}

// What cannot be pinned is left for the gate, whose refusal says why; what can be is
// pinned all the same, and in time.
func TestWhatCannotBePinnedIsLeftAndSaid(t *testing.T) {
	t.Parallel()
	p := newPinner(t, admission.PinPods)
	begun := time.Now()
	a := p.send(pinReview("CREATE", "pods", `{"spec":{"containers":[{"name":"a","image":"reg.test/bad:1"},{"name":"b","image":"reg.test/good:1"},{"name":"c","image":"reg.test/hangs:1"},{"name":"d","image":"reg.test/panics:1"},{"name":"e","image":"Not A Reference"}]}}`, ""))
	ops := a.operations(t)
	if len(ops) != 2 || ops[0].Path != "/spec/containers/1/image" || ops[1].Path != "/metadata/annotations" {
		t.Fatalf("%+v", ops)
	}
	said := fmt.Sprint(ops[1].Value)
	for _, want := range []string{"reg.test/bad:1: no such tag", "reg.test/hangs:1: not in time: registry reg.test does not answer", "reg.test/panics:1: internal error"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q lacks %q", said, want)
		}
	}
	if len(a.Warnings) < 3 || !strings.Contains(a.Warnings[0], "could not pin reg.test/bad:1: no such tag") {
		t.Errorf("warnings %q", a.Warnings)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("answered after %v", took)
	}
	// Nobody else's word stays on a pod that was pinned.
	forged := p.send(pinReview("CREATE", "pods", `{"metadata":{"annotations":{"gatehouse.dev/unpinned":"x","y":"z"}},"spec":{"containers":[{"name":"b","image":"reg.test/good:1"}]}}`, ""))
	if d := cmp.Diff([]operation{{"replace", "/spec/containers/0/image", digestFor("reg.test/good:1")}, {"remove", "/metadata/annotations/gatehouse.dev~1unpinned", nil}}, forged.operations(t)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Whatever comes is let in unchanged, for the gate to judge, or turned away unread.
func TestAPinnerLetsInWhatItCannotRead(t *testing.T) {
	t.Parallel()
	p := newPinner(t, admission.PinTemplates)
	for what, object := range map[string]string{
		"an image that is no text": `{"spec":{"containers":[{"name":"a","image":7}]}}`,
		"containers in an object":  `{"spec":{"containers":{}}}`,
		"a name twice":             `{"spec":{"containers":[{"name":"a","image":"reg.test/good:1","image":"reg.test/x"}]}}`,
		"no object":                `null`,
		"too many images":          `{"spec":{"containers":[` + strings.TrimSuffix(strings.Repeat(`{"image":"reg.test/good:1"},`, 501), ",") + `]}}`,
	} {
		if a := p.send(pinReview("CREATE", "pods", object, "")); len(a.Patch) > 0 {
			t.Errorf("%s: %s", what, a.Patch)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/mutate", bytes.NewReader([]byte("{")))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if p.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
		t.Errorf("what is no review: %d", w.Code)
	}
}
