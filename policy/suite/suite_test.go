package suite_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/suite"
)

const (
	digest = "sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	web    = "reg.example/shop/web@" + digest
	built  = "projects/p/attestors/built"
)

// world is a Set that is there without files.
type world struct {
	set policy.Set
	err error
}

func (w world) Policies(*suite.Suite) (policy.Set, error) { return w.set, w.err }
func (w world) Object(_ *suite.Suite, path string, place suite.Place) (decide.Request, error) {
	if path != "pod.yaml" {
		return decide.Request{}, errors.New("there is no " + path)
	}
	return decide.Request{Cluster: place.Cluster, Namespace: "shop", Images: []decide.ImageUse{{Text: web}}}, nil
}

func (w world) Facts(_ *suite.Suite, refs []image.Reference) (evidence.Facts, error) {
	facts := evidence.Facts{Images: map[image.Digest]evidence.Image{}}
	for _, r := range refs {
		if !r.Digest().IsZero() {
			facts.Images[r.Digest()] = evidence.Image{State: evidence.Known}
		}
	}
	return facts, nil
}

// set has one policy with a check of each kind that a case can satisfy in words.
func set(t *testing.T) policy.Set {
	t.Helper()
	pattern, err := image.ParseBinauthzPattern("registry.k8s.io/**")
	if err != nil {
		t.Fatal(err)
	}
	key := func(n byte) []policy.Key {
		return []policy.Key{{ID: fmt.Sprintf("key-%d", n), Fingerprint: [32]byte{n}}}
	}
	signer := []policy.Signer{{Name: "s", Keys: key(2)}}
	require := func(id, namespace string, line int, c policy.Condition) policy.Rule {
		return policy.Rule{ID: id, Line: line, Scope: policy.Scope{Namespace: namespace}, Evaluation: policy.RequireChecks, Checks: []policy.Check{{Type: "Check", Condition: c, Line: line + 1}}}
	}
	r := &policy.Ruleset{
		Name: "projects/p/policy", Version: "v", Source: "policy.yaml",
		Exempt: []policy.Exemption{{Pattern: pattern, Origin: "admissionWhitelistPatterns", Line: 3}},
		Rules: []policy.Rule{
			require("shop", "shop", 10, policy.Attested{Attestor: built}),
			require("signed", "signed", 20, policy.SignedBy{Signers: signer, Projects: []string{"p"}, Cosign: true}),
			require("scanned", "scanned", 30, policy.Vulnerabilities{MaxFixable: policy.Low, MaxUnfixable: policy.High, Projects: []string{"p"}}),
			require("fresh", "fresh", 40, policy.Fresh{MaxAge: 24 * time.Hour, Recorders: signer, Projects: []string{"p"}}),
			require("provenance", "provenance", 50, policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: policy.Builder{Name: "B", IDs: []string{"https://b"}, Keys: key(3)}, Projects: []string{"p"}}}}),
			{ID: "default", Line: 60},
		},
		Attestors: map[string]policy.Attestor{built: {Name: built, Note: "projects/p/notes/built", Keys: key(1)}},
	}
	return policy.Set{r.Build()}
}

func parse(t *testing.T, cases string) *suite.Suite {
	t.Helper()
	s, found, ok := suite.Parse("shop.yaml", []byte("project: p\ntime: 2026-11-30T12:00:00Z\ncases:\n"+cases))
	if !ok || s == nil {
		t.Fatalf("not read: %s", found)
	}
	return s
}

func run(t *testing.T, cases string) *suite.Report {
	t.Helper()
	return suite.Run([]*suite.Suite{parse(t, cases)}, world{set: set(t)}, time.Now)
}

// TestWhatACaseSaysOfAnImageCounts: each word of evidence makes the difference.
func TestWhatACaseSaysOfAnImageCounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ namespace, enough, short string }{
		"attestedBy": {"shop", "attestedBy: [" + built + "]", ""},
		"signedBy":   {"signed", "signedBy: [{key: key-2, cosign: true}]", "signedBy: [{key: key-2}]"},
		"elsewhere":  {"signed", "signedBy: [{key: key-2, cosign: true, project: p}]", "signedBy: [{key: key-2, cosign: true, project: q}]"},
		"scans":      {"scanned", "scans: [{findings: [{vulnerability: CVE-1, severity: HIGH}]}]", "scans: [{findings: [{vulnerability: CVE-1, severity: HIGH, fixable: true}]}]"},
		"unfinished": {"scanned", "scans: [{}]", "scans: [{unfinished: true}]"},
		"uploaded":   {"fresh", "uploaded: 2026-11-30T00:00:00Z", "uploaded: 2026-11-28T00:00:00Z"},
		"builtBy":    {"provenance", "builtBy: [{builder: B}]", "builtBy: [{builder: B, project: q}]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := func(name, evidence, want string) string {
				return fmt.Sprintf("- {name: %s, namespace: %s, images: [%q], evidence: [{image: %q, %s}], want: %s}\n", name, test.namespace, web, digest, evidence, want)
			}
			short := test.short
			if short == "" {
				short = "attestedBy: []"
			}
			r := run(t, one("enough", test.enough, "ALLOW")+one("short", short, "DENY"))
			if r.Passed != 2 || r.Failed != 0 {
				t.Errorf("%s", strings.Join(r.Failures(), "\n"))
			}
		})
	}
}

func TestUnavailableEvidenceIsIndeterminate(t *testing.T) {
	t.Parallel()
	r := run(t, fmt.Sprintf("- {name: n, namespace: shop, images: [%q], evidence: [{image: %q, unavailable: the store is down}], want: {verdict: INDETERMINATE, allowed: false, codes: [EVIDENCE_UNAVAILABLE]}}\n", web, web))
	if r.Passed != 1 {
		t.Errorf("%s", strings.Join(r.Failures(), "\n"))
	}
}

// TestWhatIsWantedIsCompared: each field of want alone makes a case fail.
func TestWhatIsWantedIsCompared(t *testing.T) {
	t.Parallel()
	for want, problem := range map[string]string{
		"ALLOW":                         "verdict is DENY, want ALLOW",
		"{allowed: true}":               "allowed is false, want true",
		"{override: DRY_RUN}":           "override is none, want DRY_RUN",
		"{policy: projects/q/policy}":   "policy is projects/p/policy, want projects/q/policy",
		"{rule: default}":               "rule is shop, want default",
		"{codes: [NO_DIGEST]}":          "no reason has code NO_DIGEST; there are [NOT_ATTESTED]",
		"{verdict: DENY, rule: shop}":   "",
		"{codes: [NOT_ATTESTED]}":       "",
		"{verdict: DENY, override: ''}": "",
	} {
		r := run(t, fmt.Sprintf("- {name: n, namespace: shop, images: [%q], want: %s}\n", web, want))
		c := r.Suites[0].Cases[0]
		if got := strings.Join(c.Problems, "\n"); got != problem || c.Passed != (problem == "") {
			t.Errorf("want %s: passed %v, problems %q; want %q", want, c.Passed, got, problem)
		}
	}
}

// TestACaseThatProvesNothingFails: what it names must be there.
func TestACaseThatProvesNothingFails(t *testing.T) {
	t.Parallel()
	for evidence, problem := range map[string]string{
		"image: nginx": "digest",
		"image: " + digest + ", attestedBy: [projects/p/attestors/gone]": "no policy requires an attestor",
		"image: " + digest + ", signedBy: [{key: key-9}]":                "no check of a policy trusts a key",
		"image: " + digest + ", builtBy: [{builder: X}]":                 "no check of a policy trusts a builder",
		"image: sha256:12": "digest",
	} {
		r := run(t, fmt.Sprintf("- {name: n, namespace: shop, images: [%q], evidence: [{%s}], want: DENY}\n", web, evidence))
		c := r.Suites[0].Cases[0]
		if c.Passed || len(c.Problems) != 1 || !strings.Contains(c.Problems[0], problem) || !strings.Contains(c.Problems[0], "line 4") {
			t.Errorf("%s: %+v", evidence, c.Problems)
		}
	}
	if r := run(t, "- {name: n, object: gone.yaml, want: DENY}\n"); r.Failed != 1 {
		t.Error("a case whose object is not there passes")
	}
	if r := run(t, "- {name: n, object: pod.yaml, want: {verdict: DENY, rule: shop}}\n"); r.Passed != 1 {
		t.Errorf("%s", strings.Join(r.Failures(), "\n"))
	}
}

func TestSuiteThatCannotBeRunIsAFailure(t *testing.T) {
	t.Parallel()
	r := suite.Run([]*suite.Suite{parse(t, "- {name: n, images: [x], want: DENY}\n")}, world{err: errors.New("policy.yaml is gone")}, time.Now)
	if r.Failed != 1 || r.Passed != 0 || !strings.Contains(strings.Join(r.Failures(), ""), "policy.yaml is gone") {
		t.Errorf("got %+v", r)
	}
}

func TestMistakesInASuiteAreFoundWithTheirLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"cases:\n- {images: [x], want: DENY}":                                                                          "shop.yaml:2: error: case: name is missing",
		"cases:\n- {name: n, want: DENY}":                                                                              "give images, or an object",
		"cases:\n- {name: n, images: [x]}":                                                                             "want is missing",
		"cases:\n- {name: n, images: [x], want: {}}":                                                                   "could not fail",
		"cases:\n- {name: n, images: [x], want: allow}":                                                                `"allow" is not one of ALLOW`,
		"cases:\n- {name: n, images: [x], wants: DENY}":                                                                `unknown field "wants"; did you mean "want"?`,
		"cases:\n- {name: n, object: p, namespace: x, want: DENY}":                                                     "what an object says is not said beside it",
		"cases:\n- {name: n, images: [x], want: DENY}\n- {name: n, images: [x], want: DENY}":                           `case "n" is there twice, first at line 2`,
		"time: yesterday\ncases: []":                                                                                   "is not a time",
		"cases:\n- {name: n, images: [x], want: {allowed: yes}}":                                                       "must be true or false",
		"cases:\n- {name: n, images: [x], want: DENY, evidence: [{attestedBy: [a]}]}":                                  "evidence: image is missing",
		"cases:\n- {name: n, images: [x], want: DENY, evidence: [{image: x, scans: [{findings: [{severity: BAD}]}]}]}": `"BAD" is not one of`,
	} {
		s, found, ok := suite.Parse("shop.yaml", []byte(text))
		if !ok || s != nil || !strings.Contains(found.String(), want) {
			t.Errorf("%s\ngives\n%swant %s", text, found, want)
		}
	}
	if _, found, ok := suite.Parse("policy.yaml", []byte("defaultAdmissionRule: {}")); ok || found != nil {
		t.Errorf("a policy is taken for a suite: %s", found)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	deny := fmt.Sprintf("- {name: d, namespace: shop, images: [%q], want: DENY}\n", web)
	allow := fmt.Sprintf("- {name: a, namespace: shop, images: [%q], evidence: [{image: %q, attestedBy: [%s]}], want: ALLOW}\n", web, web, built)
	uncovered := func(cases string) []string {
		var list []string
		for _, u := range run(t, cases).Uncovered() {
			list = append(list, strings.SplitN(u, ": ", 2)[0]+u[strings.LastIndex(u, ":"):])
		}
		return list
	}
	none := []string{
		"policy.yaml:20: no case tries it", "policy.yaml:21: no case tries it", "policy.yaml:30: no case tries it", "policy.yaml:31: no case tries it",
		"policy.yaml:40: no case tries it", "policy.yaml:41: no case tries it", "policy.yaml:50: no case tries it", "policy.yaml:51: no case tries it",
	}
	with := func(list ...string) []string { return append(list, none...) }
	exempt := "policy.yaml:3: no case tries it"
	last := "policy.yaml:60: no case tries it"
	if diff := cmp.Diff(append(with(exempt, "policy.yaml:11: no case passes it"), last), uncovered(deny)); diff != "" {
		t.Errorf("a denial (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(append(with(exempt, "policy.yaml:11: no case fails it"), last), uncovered(allow)); diff != "" {
		t.Errorf("an allowance (-want +got):\n%s", diff)
	}
	rest := "- {name: e, images: [registry.k8s.io/pause], want: ALLOW}\n- {name: r, images: [x], want: DENY}\n"
	if diff := cmp.Diff(with(), uncovered(deny+allow+rest)); diff != "" {
		t.Errorf("all but four rules (-want +got):\n%s", diff)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	r := run(t, fmt.Sprintf("- {name: 'right <&>', namespace: shop, images: [%q], want: DENY}\n- {name: wrong, images: [x], want: ALLOW}\n", web))
	data, err := r.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var junit struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Cases    []struct {
			Name    string  `xml:"name,attr"`
			Failure *string `xml:"failure"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(data, &junit); err != nil || junit.Tests != 2 || junit.Failures != 1 || len(junit.Cases) != 2 ||
		junit.Cases[0].Name != "right <&>" || junit.Cases[0].Failure != nil || junit.Cases[1].Failure == nil {
		t.Errorf("%v, %+v", err, junit)
	}
	raw, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(raw), `"passed":1,"failed":1`) {
		t.Errorf("%v: %s", err, raw)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("cases:\n- {name: n, images: [x], want: DENY}"))
	f.Add([]byte(`{"cases":[{"name":"n","object":"p","want":{"verdict":"ALLOW"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, found, ok := suite.Parse("f", data)
		if s == nil && ok && !found.HasErrors() {
			t.Error("nothing was read, and nothing is wrong")
		}
		if s != nil {
			suite.Run([]*suite.Suite{s}, world{}, time.Now)
		}
	})
}
