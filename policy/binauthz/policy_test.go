package binauthz_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// strict is a default rule that no warning is about, in a policy that says what
// it thinks of system images.
const strict = `globalPolicyEvaluationMode: ENABLE
defaultAdmissionRule:
  evaluationMode: ALWAYS_DENY
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
`

func parse(t testing.TB, text string) *binauthz.Policy {
	t.Helper()
	p, diags := binauthz.ParsePolicy("policy.yaml", []byte(text))
	if p == nil || diags.HasErrors() {
		t.Fatalf("%s\n%s", diags, text)
	}
	return p
}

func TestExportOfGcloudIsReadWithoutComplaint(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "gcloud-export.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, diags := binauthz.ParsePolicy("policy.yaml", text)
	if len(diags) != 0 {
		t.Fatal(diags)
	}
	want := binauthz.AdmissionRule{
		Evaluation: policy.RequireChecks,
		Attestors:  []binauthz.AttestorRef{{Name: "projects/example-project/attestors/built-by-ci", Line: 5}},
		Line:       1,
	}
	if diff := cmp.Diff(want, p.Default); diff != "" {
		t.Error(diff)
	}
	if p.Name != "projects/example-project/policy" || p.ETag != `"GDXq/WrZN7Kp"` || p.UpdateTime != "2024-05-12T05:34:29.325967Z" || p.Global != binauthz.GlobalEnable {
		t.Errorf("got %+v", p)
	}
}

// TestFormsThatAreAccepted has policies of one meaning in every form that a
// writer may use; each must be the same as the first.
func TestFormsThatAreAccepted(t *testing.T) {
	t.Parallel()
	type meaning struct {
		Default, Specific binauthz.AdmissionRule
		Scope             policy.Scope
		Exempt            []string
	}
	forms := map[string]string{
		"yaml": `
globalPolicyEvaluationMode: DISABLE
admissionWhitelistPatterns:
- namePattern: gcr.io/p/*
clusterAdmissionRules:
  us-east1-b.prod:
    evaluationMode: REQUIRE_ATTESTATION
    enforcementMode: DRYRUN_AUDIT_LOG_ONLY
    requireAttestationsBy:
    - projects/p/attestors/a
defaultAdmissionRule:
  evaluationMode: ALWAYS_DENY
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
`,
		"nulls": `
name:
description: ~
globalPolicyEvaluationMode: null
admissionWhitelistPatterns: [{namePattern: gcr.io/p/*}]
kubernetesNamespaceAdmissionRules:
istioServiceIdentityAdmissionRules: {}
clusterAdmissionRules: {us-east1-b.prod: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: DRYRUN_AUDIT_LOG_ONLY, requireAttestationsBy: [projects/p/attestors/a]}}
defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: }
`,
		"numbers": `{admissionWhitelistPatterns: [{namePattern: gcr.io/p/*}], globalPolicyEvaluationMode: 2,
 clusterAdmissionRules: {us-east1-b.prod: {evaluationMode: 2, enforcementMode: 2, requireAttestationsBy: [projects/p/attestors/a]}},
 defaultAdmissionRule: {evaluationMode: 3, enforcementMode: 1}}`,
		"json": `{"admissionWhitelistPatterns":[{"namePattern":"gcr.io\/p\/*"}],
	"clusterAdmissionRules":{"us-east1-b.prod":{"evaluationMode":"REQUIRE_ATTESTATION","enforcementMode":2,"requireAttestationsBy":["projects/p/attestors/a"]}},
	"defaultAdmissionRule":{"evaluationMode":"ALWAYS_DENY","enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","requireAttestationsBy":[]},
	"description":"\ud83d\ude00", "kubernetesNamespaceAdmissionRules":null}`,
	}
	want := meaning{
		Default:  binauthz.AdmissionRule{Evaluation: policy.AlwaysDeny},
		Specific: binauthz.AdmissionRule{Evaluation: policy.RequireChecks, DryRun: true, Attestors: []binauthz.AttestorRef{{Name: "projects/p/attestors/a"}}},
		Scope:    policy.Scope{Cluster: "us-east1-b.prod"},
		Exempt:   []string{"gcr.io/p/*"},
	}
	for name, text := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, text)
			got := meaning{Default: p.Default, Specific: p.Specific[0].AdmissionRule, Scope: p.Specific[0].Scope}
			for _, e := range p.Exempt {
				got.Exempt = append(got.Exempt, e.Pattern.String())
			}
			got.Default.Line, got.Specific.Line, got.Specific.Attestors[0].Line = 0, 0, 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	rule := "{evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}"
	tests := map[string]struct{ text, want string }{
		"empty":              {"", "policy.yaml:1: error: the document is empty"},
		"only a comment":     {"# nothing\n", "policy.yaml:1: error: the document is empty"},
		"only null":          {"---\n", "policy must be an object, and is null"},
		"a list":             {"- a\n", ":1: error: policy must be an object, and is a list"},
		"an empty object":    {"{}", "defaultAdmissionRule is missing"},
		"no default rule":    {"name: projects/p/policy\n", "defaultAdmissionRule is missing"},
		"null default rule":  {"defaultAdmissionRule:\n", "defaultAdmissionRule is missing"},
		"not UTF-8":          {strict + "name: \xff\n", "not UTF-8"},
		"broken yaml":        {strict + "name: 'x\n", "not valid YAML"},
		"broken json":        {"{\"name\": \"x\",\n\"description\": ]", ":2: error: not valid JSON"},
		"json cut off":       {"{\"name\": \"x\",\n", "it ends too early"},
		"text after json":    {"{\"name\": \"x\"}\n{}", "not valid JSON: text after the value"},
		"two documents":      {strict + "---\n" + strict, "more than one YAML document"},
		"a directive":        {"%FOO\n---\n" + strict, "error"},
		"anchor":             {strict + "description: &a x\n", ":5: error: anchors and aliases are not accepted"},
		"alias":              {strict + "description: &a x\nname: *a\n", ":6: error: anchors and aliases"},
		"merge key":          {strict + "<<: {name: x}\n", ":5: error: key \"<<\" is not text"},
		"tag":                {strict + "description: !!binary aGk=\n", ":5: error: tag \"!!binary\" is not accepted"},
		"own tag":            {strict + "description: !x y\n", "is not accepted"},
		"unknown field":      {strict + "colour: red\n", ":5: error: policy: unknown field \"colour\""},
		"other case":         {strict + "DefaultAdmissionRule: " + rule + "\n", ":5: error: policy: unknown field \"DefaultAdmissionRule\"; did you mean \"defaultAdmissionRule\"?"},
		"protobuf spelling":  {strict + "admission_whitelist_patterns: []\n", "did you mean \"admissionWhitelistPatterns\"?"},
		"field given twice":  {strict + strict, ":5: error: \"globalPolicyEvaluationMode\" is given twice, first at line 1"},
		"twice in json":      {"{\"name\": \"a\",\n\"name\": \"b\"}", ":2: error: \"name\" is given twice, first at line 1"},
		"twice by an escape": {"{\"name\": \"a\",\n\"n\\u0061me\": \"b\"}", ":2: error: \"name\" is given twice"},
		"key is no text":     {strict + "kubernetesNamespaceAdmissionRules:\n  123: " + rule + "\n", ":6: error: key \"123\" is not text; put it in quotes"},
		"name is a number":   {strict + "name: 7\n", ":5: error: name must be text, and is a number; put it in quotes"},
		"name is a list":     {strict + "name: [a]\n", ":5: error: name must be text, and is a list"},
		"unknown enum":       {"globalPolicyEvaluationMode: enable\n" + strict[34:], ":1: error: globalPolicyEvaluationMode: \"enable\" is not one of ENABLE, DISABLE; did you mean \"ENABLE\"?"},
		"enum number":        {"globalPolicyEvaluationMode: 3\n" + strict[34:], ":1: error: globalPolicyEvaluationMode: 3 is not the number"},
		"enum in hex":        {"globalPolicyEvaluationMode: 0x1\n" + strict[34:], "is not the number"},
		"enum as a fraction": {"globalPolicyEvaluationMode: 1.0\n" + strict[34:], "is a number"},
		"enum in quotes":     {"globalPolicyEvaluationMode: '1'\n" + strict[34:], "\"1\" is not one of"},
		"rule is text":       {"defaultAdmissionRule: ALWAYS_ALLOW\n", ":1: error: defaultAdmissionRule must be an object, and is text"},
		"no evaluation":      {"defaultAdmissionRule:\n  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG\n", ":2: error: defaultAdmissionRule: evaluationMode is missing"},
		"no enforcement":     {"defaultAdmissionRule:\n  evaluationMode: ALWAYS_ALLOW\n", ":2: error: defaultAdmissionRule: enforcementMode is missing"},
		"null evaluation":    {"defaultAdmissionRule:\n  evaluationMode:\n  enforcementMode: 1\n", "evaluationMode is missing"},
		"unspecified":        {"defaultAdmissionRule:\n  evaluationMode: EVALUATION_MODE_UNSPECIFIED\n  enforcementMode: 1\n", ":2: error: defaultAdmissionRule: evaluationMode must not be EVALUATION_MODE_UNSPECIFIED"},
		"unspecified number": {"defaultAdmissionRule:\n  evaluationMode: 1\n  enforcementMode: 0\n", ":3: error: defaultAdmissionRule: enforcementMode must not be"},
		"no attestor":        {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n", "REQUIRE_ATTESTATION needs at least one attestor"},
		"empty attestors":    {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy: []\n", "needs at least one attestor"},
		"needless attestors": {"defaultAdmissionRule:\n  evaluationMode: ALWAYS_DENY\n  enforcementMode: 1\n  requireAttestationsBy:\n  - projects/p/attestors/a\n", ":4: error: defaultAdmissionRule: requireAttestationsBy must be empty with ALWAYS_DENY"},
		"attestor form":      {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy:\n  - a\n", ":5: error: requireAttestationsBy: \"a\" does not have the form projects/*/attestors/*"},
		"attestor is a note": {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy: [projects/p/notes/a]\n", "does not have the form"},
		"attestor of dots":   {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy: [projects/../attestors/a]\n", "not an identifier"},
		"attestor null":      {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy:\n  -\n", "requireAttestationsBy must be text, and is null"},
		"attestors are text": {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy: projects/p/attestors/a\n", ":4: error: requireAttestationsBy must be a list, and is text"},
		"pattern is text":    {strict + "admissionWhitelistPatterns:\n- gcr.io/p/*\n", `:6: error: admissionWhitelistPatterns holds objects, and this is text; write {namePattern: "gcr.io/p/*"}`},
		"pattern null":       {strict + "admissionWhitelistPatterns:\n- namePattern:\n", ":6: error: admissionWhitelistPatterns: namePattern is missing"},
		"pattern empty":      {strict + "admissionWhitelistPatterns:\n- namePattern: ''\n", ":6: error: namePattern: parsing image pattern \"\": it is empty"},
		"pattern is number":  {strict + "admissionWhitelistPatterns:\n- namePattern: 1\n", ":6: error: namePattern must be text"},
		"pattern invalid":    {strict + "admissionWhitelistPatterns:\n- namePattern: ok/*\n- namePattern: gcr.io/n*x\n", ":7: error: namePattern: parsing image pattern \"gcr.io/n*x\": a wildcard may stand only at the end"},
		"patterns in a map":  {strict + "admissionWhitelistPatterns: {namePattern: x}\n", "must be a list, and is an object"},
		"two kinds": {strict + "kubernetesNamespaceAdmissionRules:\n  a: " + rule + "\nclusterAdmissionRules:\n  l.c: " + rule + "\n",
			":5: error: a policy may have one kind of specific rules, and this one has clusterAdmissionRules (line 7) and kubernetesNamespaceAdmissionRules (line 5)"},
		"rules in a list":     {strict + "clusterAdmissionRules: []\n", "clusterAdmissionRules must be an object, and is a list"},
		"null rule":           {strict + "clusterAdmissionRules:\n  l.c:\n", "clusterAdmissionRules[l.c] must be an object, and is null"},
		"cluster key":         {strict + "clusterAdmissionRules:\n  prod: " + rule + "\n", ":6: error: clusterAdmissionRules: key \"prod\": want LOCATION.NAME"},
		"cluster key, dots":   {strict + "clusterAdmissionRules:\n  a.b.c: " + rule + "\n", "want LOCATION.NAME"},
		"namespace key":       {strict + "kubernetesNamespaceAdmissionRules:\n  Shop: " + rule + "\n", "want the name of a namespace"},
		"namespace key empty": {strict + "kubernetesNamespaceAdmissionRules:\n  '': " + rule + "\n", "want the name of a namespace"},
		"account key":         {strict + "kubernetesServiceAccountAdmissionRules:\n  default: " + rule + "\n", "want NAMESPACE:SERVICEACCOUNT"},
		"istio key":           {strict + "istioServiceIdentityAdmissionRules:\n  https://d/ns/n/sa/s: " + rule + "\n", "want spiffe://"},
		"istio key twice":     {strict + "istioServiceIdentityAdmissionRules:\n  spiffe://d/ns/n/sa/s: " + rule + "\n  d/ns/n/sa/s: " + rule + "\n", ":7: error: istioServiceIdentityAdmissionRules: \"d/ns/n/sa/s\" means the same as the key at line 6"},
		"nested deep":         {strict + "description: " + strings.Repeat("[", 500) + strings.Repeat("]", 500), "nested deeper than 16 levels"},
		"nested deep in json": {strings.Repeat("[", 500) + strings.Repeat("]", 500), "nested deeper than 16 levels"},
		"too large":           {"#" + strings.Repeat("x", binauthz.MaxPolicy), "4194305 bytes, more than the 4194304 allowed"},
		"too many attestors": {"defaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: 1\n  requireAttestationsBy:\n" +
			strings.Repeat("  - projects/p/attestors/a\n", 201), "201 attestor references, more than the 200 allowed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := binauthz.ParsePolicy("policy.yaml", []byte(test.text))
			if p != nil || !diags.HasErrors() {
				t.Fatalf("accepted; diagnostics:\n%s", diags)
			}
			if !strings.Contains(diags.String(), test.want) {
				t.Errorf("got\n%swant\n%s", diags, test.want)
			}
			if diags.Err() == nil || len(diags.String()) > 20000 {
				t.Errorf("Err() = %v, %d bytes of diagnostics", diags.Err(), len(diags.String()))
			}
		})
	}
}

func TestKeysThatAreAccepted(t *testing.T) {
	t.Parallel()
	for field, keys := range map[string]map[string]policy.Scope{
		"clusterAdmissionRules":                  {"us-east1-b.my-cluster-1": {Cluster: "us-east1-b.my-cluster-1"}, "global.test-membership": {Cluster: "global.test-membership"}},
		"kubernetesNamespaceAdmissionRules":      {"shop2": {Namespace: "shop2"}, "a.b-c": {Namespace: "a.b-c"}},
		"kubernetesServiceAccountAdmissionRules": {"test-ns:default": {ServiceAccount: "test-ns:default"}, "n:a.b": {ServiceAccount: "n:a.b"}},
		"istioServiceIdentityAdmissionRules": {
			"spiffe://example.com/ns/test-ns/sa/default": {IstioIdentity: "example.com/ns/test-ns/sa/default"},
			"p.svc.id.goog/ns/n/sa/s":                    {IstioIdentity: "p.svc.id.goog/ns/n/sa/s"},
		},
	} {
		for key, want := range keys {
			p := parse(t, strict+field+":\n  "+key+": {evaluationMode: 1, enforcementMode: 1}\n")
			if len(p.Specific) != 1 || p.Specific[0].Scope != want || p.Specific[0].Line != 6 || !strings.HasSuffix(p.Specific[0].ID, " admission rule for "+key) {
				t.Errorf("%s: %q gives %+v", field, key, p.Specific)
			}
		}
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, diags := binauthz.ParsePolicy("p", []byte("colour: red\nname: 7\nadmissionWhitelistPatterns:\n- namePattern: '*'\ndefaultAdmissionRule: {evaluationMode: 9}\n"))
	var lines []int
	for _, d := range diags {
		lines = append(lines, d.Line)
	}
	if want := []int{1, 2, 4, 5, 5}; !cmp.Equal(lines, want) {
		t.Errorf("lines %v, want %v:\n%s", lines, want, diags)
	}
}

func TestDiagnosticsAreBounded(t *testing.T) {
	t.Parallel()
	_, diags := binauthz.ParsePolicy("p", []byte(strict+"admissionWhitelistPatterns:\n"+strings.Repeat("- namePattern: '*'\n", 5000)))
	if len(diags) != 101 || !strings.Contains(diags[100].Message, "4900 more problems") || !diags.HasErrors() {
		t.Errorf("%d diagnostics, the last %v", len(diags), diags[len(diags)-1])
	}
	p, diags := binauthz.ParsePolicy("p", []byte(strict+"admissionWhitelistPatterns:\n"+strings.Repeat("- namePattern: nginx\n", 5000)))
	if p == nil || len(diags) != 101 || diags.HasErrors() {
		t.Errorf("too many warnings make an error: %v", diags.Err())
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	patterns := func(texts ...string) string {
		return strict + "admissionWhitelistPatterns:\n- namePattern: " + strings.Join(texts, "\n- namePattern: ") + "\n"
	}
	rule := func(evaluation, enforcement string) string {
		return fmt.Sprintf("{evaluationMode: %s, enforcementMode: %s}", evaluation, enforcement)
	}
	deny, allow := rule("3", "1"), rule("1", "1")
	tests := map[string]struct{ text, want string }{
		"strict":                       {strict, ""},
		"Google's system patterns":     {patterns("gcr.io/google_containers/*", "gcr.io/google-containers/*", "k8s.gcr.io/**", "gke.gcr.io/**", "gcr.io/stackdriver-agents/*"), ""},
		"our system policy":            {binauthz.SystemPolicy(), ""},
		"directories":                  {patterns("gcr.io/example-project/*", "us-docker.pkg.dev/p/**", "gcr.io/other/nginx**", "gcr.io/other2/hello:v1.*", "gcr.io/p/x:latest", "quay.io/team/app@sha256:"+strings.Repeat("a", 64)), ""},
		"names below a project":        {patterns("gcr.io/my-project/nginx**"), ""},
		"specific allow":               {strict + "clusterAdmissionRules:\n  l.dev: " + allow + "\n", ""},
		"neighbours":                   {patterns("gcr.io/my-project**"), ":6: warning: pattern \"gcr.io/my-project**\" also covers neighbours, such as gcr.io/my-project-other/x; write gcr.io/my-project/**"},
		"neighbours on Docker Hub":     {patterns("docker.io/team**"), "also covers neighbours"},
		"other hosts":                  {patterns("nginx**"), "also covers everyone on Docker Hub whose name begins with \"nginx\""},
		"everyone":                     {patterns("docker.io/**"), "anyone may push to docker.io"},
		"everyone on AR":               {patterns("us-docker.pkg.dev/**"), "anyone may push"},
		"everyone on GCR":              {patterns("gcr.io/**"), "anyone may push"},
		"own registry":                 {patterns("registry.example.com/**"), ""},
		"bare name":                    {patterns("gcr.io/p/hello"), "pattern \"gcr.io/p/hello\" covers neither tags nor digests"},
		"digests only":                 {patterns("gcr.io/p/hello@*"), "covers digests only; gcr.io/p/hello:* is needed for tags"},
		"never matches":                {patterns("gcr.io/P/hello:1"), "matches no image that a node can pull"},
		"never matches, wildcard":      {patterns("gcr.io/P/*"), "matches no image that a node can pull"},
		"never matches, digest":        {patterns("gcr.io/p/hello@sha256:12"), "matches no image that a node can pull"},
		"trailing slash":               {patterns("gcr.io/p/"), "matches no image that a node can pull"},
		"given twice":                  {patterns("gcr.io/p/*", "gcr.io/q/*", "gcr.io/p/*"), ":8: warning: pattern \"gcr.io/p/*\" is given twice, first at line 6"},
		"included":                     {patterns("gcr.io/p/a:*", "gcr.io/p/**"), ":6: warning: pattern \"gcr.io/p/a:*\" is included in \"gcr.io/p/**\" at line 7"},
		"included in one star":         {patterns("gcr.io/p/*", "gcr.io/p/a:1"), ":7: warning: pattern \"gcr.io/p/a:1\" is included in \"gcr.io/p/*\" at line 6"},
		"two stars are not in one":     {patterns("gcr.io/p/x*", "gcr.io/p/x-1/**"), ""},
		"deeper is not in one star":    {patterns("gcr.io/p/*", "gcr.io/p/a/b:*"), ""},
		"all allowed":                  {"defaultAdmissionRule: " + allow, ":1: warning: the default rule is ALWAYS_ALLOW and there is no other: every image may run"},
		"default allowed":              {"globalPolicyEvaluationMode: ENABLE\nclusterAdmissionRules: {l.c: " + deny + "}\ndefaultAdmissionRule: " + allow, ":3: warning: the default rule is ALWAYS_ALLOW: every image may run wherever no specific rule is"},
		"dry run":                      {"globalPolicyEvaluationMode: ENABLE\ndefaultAdmissionRule: " + rule("3", "2"), "the default rule is a dry run"},
		"system images listed":         {"admissionWhitelistPatterns: [{namePattern: gke.gcr.io/**}]\ndefaultAdmissionRule: " + deny, ""},
		"system images disabled":       {"globalPolicyEvaluationMode: DISABLE\ndefaultAdmissionRule: " + deny, ""},
		"former name":                  {"globalPolicyEvaluationMode: DISABLE\nadmissionWhitelistPatterns: [{namePattern: gcr.io/google_containers/*}]\ndefaultAdmissionRule: " + deny, "is the former name of gcr.io/google-containers/*"},
		"attestor twice":               {"globalPolicyEvaluationMode: DISABLE\ndefaultAdmissionRule:\n  evaluationMode: 2\n  enforcementMode: 1\n  requireAttestationsBy:\n  - projects/p/attestors/a\n  - projects/p/attestors/a\n", ":7: warning: attestor \"projects/p/attestors/a\" is named twice in one rule, first at line 6"},
		"name of another form":         {strict + "name: my-policy\n", ":5: warning: name: \"my-policy\" is ignored"},
		"given twice, all on one line": {`{"globalPolicyEvaluationMode":1,"admissionWhitelistPatterns":[{"namePattern":"gcr.io/p/*"},{"namePattern":"gcr.io/p/*"}],"defaultAdmissionRule":{"evaluationMode":3,"enforcementMode":1}}`, "is given twice"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := binauthz.ParsePolicy("policy.yaml", []byte(test.text))
			if p == nil || diags.HasErrors() {
				t.Fatalf("refused:\n%s", diags)
			}
			if !strings.Contains(diags.String(), test.want) || (test.want == "") != (len(diags) == 0) || len(diags) > 1 {
				t.Errorf("got\n%swant\n%s", diags, test.want)
			}
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(strict))
	f.Add([]byte(binauthz.SystemPolicy()))
	f.Add([]byte(`{"defaultAdmissionRule":{"evaluationMode":1,"enforcementMode":1},"clusterAdmissionRules":{"a.b":{"evaluationMode":2,"enforcementMode":2,"requireAttestationsBy":["projects/p/attestors/a"]}}}`))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("? {x: y}\n: z\n"))
	f.Add([]byte("- |\n  x\n-\t{"))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, diags := binauthz.ParsePolicy("p", data)
		if (p == nil) != diags.HasErrors() || (diags.Err() != nil) != diags.HasErrors() {
			t.Fatalf("policy %v with diagnostics\n%s", p, diags)
		}
		for _, d := range diags {
			if d.Line < 0 || d.Message == "" || strings.ContainsAny(d.Message, "\n\x00\x1b") || len(d.Message) > 2000 {
				t.Errorf("diagnostic %q", d)
			}
		}
		rules, more := p.Compile(nil)
		if rules == nil || (p == nil && (len(rules.Rules) != 0 || len(rules.Exempt) != 0)) {
			t.Fatalf("rules %v of policy %v", rules, p)
		}
		if p != nil && (more.HasErrors() || rules.Rules[len(rules.Rules)-1].Scope != (policy.Scope{})) {
			t.Errorf("a valid policy does not compile to rules that end with a default:\n%s", more)
		}
	})
}
