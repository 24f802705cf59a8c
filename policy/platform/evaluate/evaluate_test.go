package evaluate_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/policy/platform/evaluate"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	text = `
name: projects/p/platforms/gke/policies/prod
gkePolicy:
  imageAllowlist: {allowPattern: [registry.k8s.io/**]}
  checkSets:
  - displayName: web
    scope: {kubernetesServiceAccount: "shop:web"}
    imageAllowlist: {allowPattern: [gcr.io/p/base/*]}
    checks:
    - displayName: My trusted directory check
      trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/shop]}
    - displayName: Scanned
      imageAllowlist: {allowPattern: [gcr.io/p/shop/tool]}
      vulnerabilityCheck: {maximumFixableSeverity: LOW, maximumUnfixableSeverity: HIGH}
    - imageFreshnessCheck: {maxUploadAgeDays: 30}
  - scope: {kubernetesNamespace: open}
    displayName: open
  - checks:
    - alwaysDeny: true
`
	digest   = "sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	scanned  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	unknown  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	conforms = "gcr.io/p/shop/app@" + digest
)

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func parse(t *testing.T, text string) *platform.Policy {
	t.Helper()
	p, diags := platform.ParsePolicy("policy.yaml", []byte(text))
	if p == nil {
		t.Fatal(diags)
	}
	return p
}

func facts(t *testing.T) evidence.Facts {
	t.Helper()
	upload := evidence.Upload{Origin: evidence.Origin{Project: "p", Fingerprint: [32]byte{7}, Occurrence: "projects/p/occurrences/1"}, Time: noon().Add(-24 * time.Hour)}
	images := map[image.Digest]evidence.Image{}
	for text, known := range map[string]evidence.Image{
		digest: {State: evidence.Known, Uploads: []evidence.Upload{upload}, Scans: []evidence.Scan{{Project: "p", Finished: true}}},
		scanned: {State: evidence.Known, Uploads: []evidence.Upload{upload}, Scans: []evidence.Scan{
			{Project: "p", Finished: true, Findings: []evidence.Finding{{Note: "projects/goog-vulnz/notes/CVE-2021-20305", Severity: 5, Fixable: true}}},
		}},
		unknown: {State: evidence.Known},
	} {
		d, err := image.ParseDigest(text)
		if err != nil {
			t.Fatal(err)
		}
		images[d] = known
	}
	return evidence.Facts{Images: images}
}

func podOf(t *testing.T, p *platform.Policy, namespace, account string, images ...string) evaluate.Pod {
	t.Helper()
	rules, _ := p.Compile(platform.Options{Project: "p", Recorders: []policy.Signer{{Name: "attestor", Keys: []policy.Key{{Fingerprint: [32]byte{7}}}}}})
	req := decide.Request{Namespace: namespace, ServiceAccount: account}
	for _, text := range images {
		req.Images = append(req.Images, decide.ImageUse{Container: "c", Type: decide.Container, Text: text})
	}
	return evaluate.Pod{Name: "pod", Request: req, Decision: decide.Decide(req, policy.Set{rules}, facts(t), noon())}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	p := parse(t, text)
	pod := func(namespace, account string, images ...string) evaluate.Pod {
		return podOf(t, p, namespace, account, images...)
	}
	for name, pods := range map[string][]evaluate.Pod{
		"conformant":     {pod("shop", "web", conforms)},
		"non-conformant": {pod("shop", "web", conforms, "gcr.io/p/other/app@"+scanned)},
		"error":          {pod("shop", "web", conforms, "gcr.io/p/shop/app@"+unknown)},
		"unavailable":    {pod("shop", "web", "gcr.io/p/shop/app@sha256:"+strings.Repeat("3", 64))},
		"mixed":          {pod("shop", "web", "gcr.io/p/other/app@"+unknown)},
		"tag":            {pod("shop", "web", "gcr.io/p/shop/app:v1", "not a reference")},
		"allowlists":     {pod("shop", "web", "registry.k8s.io/pause:3.9", "gcr.io/p/base/distroless:v1", "gcr.io/p/shop/tool@"+scanned)},
		"no-checks":      {pod("open", "", "nginx")},
		"default-set":    {pod("default", "", "nginx"), pod("shop", "web", conforms)},
		"no-images":      {pod("shop", "web")},
		"no-check-sets":  {podOf(t, parse(t, "gkePolicy: {imageAllowlist: {allowPattern: [gcr.io/p/**]}}\n"), "shop", "web", "nginx", "gcr.io/p/a")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := p
			if name == "no-check-sets" {
				asked = parse(t, "gkePolicy: {imageAllowlist: {allowPattern: [gcr.io/p/**]}}\n")
			}
			response, err := evaluate.Evaluate(asked, pods)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(response, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", string(got)+"\n")
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestPrecedence has every pair of verdicts, of two images of one pod and of two
// pods: what does not conform outweighs errors, and those what conforms.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	p := parse(t, text)
	images := map[evaluate.Verdict]string{
		evaluate.Conformant:    conforms,
		evaluate.NonConformant: "gcr.io/p/other/app@" + digest,
		evaluate.Error:         "gcr.io/p/shop/app@" + unknown,
	}
	rank := []evaluate.Verdict{evaluate.Conformant, evaluate.Error, evaluate.NonConformant}
	for _, a := range slices.Sorted(maps.Keys(images)) {
		for _, b := range slices.Sorted(maps.Keys(images)) {
			want := rank[max(slices.Index(rank, a), slices.Index(rank, b))]
			response, err := evaluate.Evaluate(p, []evaluate.Pod{podOf(t, p, "shop", "web", images[a], images[b])})
			if err != nil || response.Verdict != want || response.Results[0].Verdict != want || response.Results[0].ImageResults[0].Verdict != a || response.Results[0].ImageResults[1].Verdict != b {
				t.Errorf("images %s and %s: %+v, %v", a, b, response, err)
			}
			response, err = evaluate.Evaluate(p, []evaluate.Pod{podOf(t, p, "shop", "web", images[a]), podOf(t, p, "shop", "web", images[b])})
			if err != nil || response.Verdict != want || response.Results[0].Verdict != a || response.Results[1].Verdict != b {
				t.Errorf("pods %s and %s: %+v, %v", a, b, response, err)
			}
		}
	}
}

func TestDecisionsOnSomethingElseAreRefused(t *testing.T) {
	t.Parallel()
	p := parse(t, text)
	for name, test := range map[string]struct {
		edit func(*evaluate.Pod)
		want string
	}{
		"no namespace":     {func(p *evaluate.Pod) { p.Request.Namespace = "" }, "its namespace is not known"},
		"another dialect":  {func(p *evaluate.Pod) { p.Decision.Dialect = policy.Kritis }, "not by this platform policy alone"},
		"another policy":   {func(p *evaluate.Pod) { p.Decision.Policy = "projects/q/platforms/gke/policies/prod" }, "not by this platform policy alone"},
		"no decision":      {func(p *evaluate.Pod) { p.Decision = decide.Decision{} }, "not by this platform policy alone"},
		"several policies": {func(p *evaluate.Pod) { p.Decision.Policies = make([]decide.PolicyDecision, 2) }, "not by this platform policy alone"},
		"another rule":     {func(p *evaluate.Pod) { p.Decision.Rule = "check set 9" }, `by "check set 9", which the policy does not have`},
		"fewer images":     {func(p *evaluate.Pod) { p.Decision.Images = nil }, "on 0 images, and the pod has 1"},
		"another verdict":  {func(p *evaluate.Pod) { p.Decision.Images[0].Verdict = decide.DENY }, "the decision is DENY, and its reasons amount to CONFORMANT"},
		"no reasons":       {func(p *evaluate.Pod) { p.Decision.Images[0].Reasons = nil }, "its reasons amount to ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(t, p, "shop", "web", conforms)
			test.edit(&pod)
			if response, err := evaluate.Evaluate(p, []evaluate.Pod{pod}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v; want %q", response, err, test.want)
			}
		})
	}
	if _, err := evaluate.Evaluate(p, nil); err == nil {
		t.Error("no pod is answered for")
	}
	if _, err := evaluate.Evaluate(nil, []evaluate.Pod{podOf(t, p, "shop", "web", conforms)}); err == nil {
		t.Error("no policy is answered for")
	}
}
