package platform_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// testKeys are made once per run, for tests.
type testKeys struct {
	ci, other, cosign, builder *signature.PublicKey
	pgp                        string
}

var keys = sync.OnceValue(func() testKeys {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	pkix := func(alg signature.Algorithm) *signature.PublicKey {
		private, err := signature.GeneratePKIX(alg, rand.Reader)
		check(err)
		signer, err := signature.ParsePKIXSigner(private, alg, "")
		check(err)
		return signer.PublicKey()
	}
	private, err := signature.GeneratePGP("Test", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rand.Reader)
	check(err)
	pgp, err := signature.ParsePGPSigner(private, nil)
	check(err)
	return testKeys{
		ci: pkix(signature.ECDSAP256SHA256), other: pkix(signature.ECDSAP256SHA256),
		cosign: pkix(signature.Ed25519), builder: pkix(signature.ECDSAP384SHA384),
		pgp: pgp.PublicKey().Marshal(),
	}
})

type object = map[string]any

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t testing.TB, text string) *platform.Policy {
	t.Helper()
	p, diags := platform.ParsePolicy("policy.yaml", []byte(text))
	if p == nil || diags.HasErrors() {
		t.Fatalf("%s\n%s", diags, text)
	}
	return p
}

// policyOf returns the text of a policy of one check set with these checks.
func policyOf(t testing.TB, checks ...object) string {
	t.Helper()
	return jsonOf(t, object{"gkePolicy": object{"checkSets": []object{{"checks": checks}}}})
}

func pkixKey(k *signature.PublicKey) object {
	return object{"publicKeyPem": k.Marshal(), "signatureAlgorithm": string(k.Algorithm())}
}

func authenticator(name string, list ...object) object {
	return object{"displayName": name, "pkixPublicKeySet": object{"pkixPublicKeys": list}}
}

func simpleSigning(projects []string, authenticators ...object) object {
	check := object{"attestationAuthenticators": authenticators}
	if projects != nil {
		check["containerAnalysisAttestationProjects"] = projects
	}
	return object{"simpleSigningAttestationCheck": check}
}

func sigstore(list ...*signature.PublicKey) object {
	var pems []object
	for _, k := range list {
		pems = append(pems, object{"publicKeyPem": k.Marshal()})
	}
	return object{"sigstoreSignatureCheck": object{"sigstoreAuthorities": []object{{"displayName": "release", "publicKeySet": object{"publicKeys": pems}}}}}
}

func directories(patterns ...string) object {
	return object{"trustedDirectoryCheck": object{"trustedDirPatterns": patterns}}
}

func vulnerability(fields object) object {
	check := object{"maximumFixableSeverity": "HIGH", "maximumUnfixableSeverity": "HIGH"}
	for k, v := range fields {
		check[k] = v
	}
	return object{"vulnerabilityCheck": check}
}

func slsa(rules ...object) object { return object{"slsaCheck": object{"rules": rules}} }

func ruleOf(fields object) object {
	rule := object{"trustedBuilder": "GOOGLE_CLOUD_BUILD", "trustedSourceRepoPatterns": []string{"github.com/org/app"}}
	for k, v := range fields {
		if v == nil {
			delete(rule, k)
			continue
		}
		rule[k] = v
	}
	return rule
}

// with returns a check with one field more.
func with(check object, field string, value any) object {
	out := object{field: value}
	for k, v := range check {
		out[k] = v
	}
	return out
}

func allow(patterns ...string) object { return object{"allowPattern": patterns} }

func TestExportOfGcloudIsReadWithoutComplaint(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "gcloud-describe.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, diags := platform.ParsePolicy("policy.yaml", text)
	if len(diags) != 0 {
		t.Fatal(diags)
	}
	if p.Name != "projects/p/platforms/gke/policies/prod" || p.ETag != `"kDg5mVZ7X0Q="` || p.UpdateTime != "2026-04-12T05:34:29.325967Z" || p.Description != "What production may run" {
		t.Errorf("got %+v", p)
	}
	if len(p.Allow) != 1 || p.Allow[0].Pattern.String() != "registry.k8s.io/**" || p.Allow[0].Line != 37 {
		t.Errorf("imageAllowlist %+v", p.Allow)
	}
	shop, rest := p.CheckSets[0], p.CheckSets[1]
	if shop.DisplayName != "Shop" || shop.Scope != (policy.Scope{ServiceAccount: "shop:web"}) || len(shop.Checks) != 1 || shop.Line != 5 {
		t.Errorf("check set %+v", shop)
	}
	signing, ok := shop.Checks[0].Of.(platform.SimpleSigning)
	if !ok || shop.Checks[0].DisplayName != "Built by us" || shop.Checks[0].Line != 6 || !cmp.Equal(signing.Projects, []string{"attestations"}) ||
		signing.Authenticators[0].DisplayName != "CI" || !strings.HasSuffix(signing.Authenticators[0].Keys[0].ID(), "/cryptoKeyVersions/1") {
		t.Errorf("check %+v", shop.Checks[0])
	}
	if rest.Scope != (policy.Scope{}) || len(rest.Allow) != 1 || rest.Checks[0].Of != (platform.ImageFreshness{MaxUploadAgeDays: 30}) {
		t.Errorf("check set %+v", rest)
	}
	if dirs, ok := rest.Checks[1].Of.(platform.TrustedDirectory); !ok || len(dirs.Patterns) != 1 {
		t.Errorf("check %+v", rest.Checks[1])
	}
}

// TestFormsThatAreAccepted has policies of one meaning in the forms that writers
// use, with what is said to those of Google's examples that differ from its API.
func TestFormsThatAreAccepted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, warning string }{
		"yaml": {`
gkePolicy:
  imageAllowlist:
    allowPattern:
    - gcr.io/p/**
  checkSets:
  - scope:
      kubernetesNamespace: shop
    checks:
    - trustedDirectoryCheck:
        trustedDirPatterns:
        - gcr.io/p/r
  - checks:
    - alwaysDeny: true
`, ""},
		"json":                {`{"gkePolicy": {"imageAllowlist": {"allowPattern": ["gcr.io/p/**"]}, "checkSets": [{"scope": {"kubernetesNamespace": "shop", "kubernetesServiceAccount": null}, "checks": [{"trustedDirectoryCheck": {"trustedDirPatterns": ["gcr.io/p/r"]}}]}, {"scope": {}, "checks": [{"alwaysDeny": true}]}]}}`, ""},
		"nulls":               {"name:\netag: ~\ngkePolicy:\n  imageAllowlist: {allowPattern: [gcr.io/p/**]}\n  checkSets:\n  - {scope: {kubernetesNamespace: shop}, imageAllowlist: , checks: [{imageAllowlist: null, trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/r]}}]}\n  - {scope: , checks: [{alwaysDeny: true, slsaCheck: null}]}\n", ""},
		"pattern as text":     {"gkePolicy:\n  imageAllowlist:\n    allowPattern: gcr.io/p/**\n  checkSets:\n  - {scope: {kubernetesNamespace: shop}, checks: [{trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/r]}}]}\n  - {checks: [{alwaysDeny: true}]}\n", `policy.yaml:3: warning: allowPattern is a list; write allowPattern: ["gcr.io/p/**"]`},
		"directory as text":   {"gkePolicy:\n  imageAllowlist: {allowPattern: [gcr.io/p/**]}\n  checkSets:\n  - {scope: {kubernetesNamespace: shop}, checks: [{trustedDirectoryCheck: {trustedDirPatterns: \"gcr.io/p/r\"}}]}\n  - {checks: [{alwaysDeny: true}]}\n", `policy.yaml:4: warning: trustedDirPatterns is a list; write trustedDirPatterns: ["gcr.io/p/r"]`},
		"allowlist as a list": {"gkePolicy:\n  imageAllowlist:\n  - allowPattern: [gcr.io/p/**]\n  checkSets:\n  - {scope: {kubernetesNamespace: shop}, checks: [{trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/r]}}]}\n  - {checks: [{alwaysDeny: true}]}\n", `policy.yaml:2: warning: imageAllowlist is an object and not a list; write imageAllowlist: {allowPattern: [PATTERN, …]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := platform.ParsePolicy("policy.yaml", []byte(test.text))
			if p == nil || strings.TrimSuffix(diags.String(), "\n") != test.warning {
				t.Fatalf("got %q, want %q", diags, test.warning)
			}
			if len(p.Allow) != 1 || p.Allow[0].Pattern.String() != "gcr.io/p/**" || len(p.CheckSets) != 2 || p.CheckSets[0].Scope.Namespace != "shop" || p.CheckSets[1].Scope != (policy.Scope{}) {
				t.Errorf("got %+v", p)
			}
			if dirs, ok := p.CheckSets[0].Checks[0].Of.(platform.TrustedDirectory); !ok || dirs.Patterns[0].String() != "gcr.io/p/r" || p.CheckSets[1].Checks[0].Of != (platform.AlwaysDeny{}) {
				t.Errorf("got %+v", p.CheckSets)
			}
		})
	}
}

// set returns the text of a policy of one check set without a scope, from the
// YAML of its only check, whose first line is line 5.
func set(check string) string {
	return "gkePolicy:\n  checkSets:\n  - displayName: d\n    checks:\n    - " + strings.ReplaceAll(strings.TrimSpace(check), "\n", "\n      ") + "\n"
}

func TestErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	deny := "checks: [{alwaysDeny: true}]"
	eleven := strings.Repeat("projects/p, ", 10) + "projects/p"
	pem := strings.ReplaceAll(strings.TrimSpace(keys().ci.Marshal()), "\n", "\\n")
	signing := func(key string) string {
		return set("simpleSigningAttestationCheck:\n  attestationAuthenticators:\n  - pkixPublicKeySet:\n      pkixPublicKeys:\n      - " + key)
	}
	vuln := func(fields string) string {
		return set("vulnerabilityCheck:\n  maximumFixableSeverity: LOW\n  maximumUnfixableSeverity: LOW\n  " + fields)
	}
	rule := func(fields string) string {
		return set("slsaCheck:\n  rules:\n  - trustedBuilder: GOOGLE_CLOUD_BUILD\n    trustedSourceRepoPatterns: [github.com/a/b]\n    " + fields)
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":                  {"", ":1: error: the document is empty"},
		"a list":                 {"- a\n", "platform policy must be an object, and is a list"},
		"unknown field":          {"gkePolicies: {}\n", `:1: error: platform policy: unknown field "gkePolicies"`},
		"another case":           {"GkePolicy: {}\n", `unknown field "GkePolicy"; did you mean "gkePolicy"?`},
		"no policy":              {"name: projects/p/platforms/gke/policies/x\n", ":1: error: gkePolicy is missing"},
		"policy is text":         {"gkePolicy: x\n", "gkePolicy must be an object, and is text"},
		"unknown in policy":      {"gkePolicy: {check_sets: []}\n", `gkePolicy: unknown field "check_sets"; did you mean "checkSets"?`},
		"sets in an object":      {"gkePolicy: {checkSets: {}}\n", "checkSets must be a list, and is an object"},
		"set is text":            {"gkePolicy: {checkSets: [x]}\n", "checkSets must be an object, and is text"},
		"unknown in set":         {"gkePolicy: {checkSets: [{check: [], displayName: x}]}\n", `checkSets: unknown field "check"; did you mean "checks"?`},
		"checks in an object":    {"gkePolicy:\n  checkSets:\n  - checks: {alwaysDeny: true}\n", ":3: error: checks must be a list, and is an object"},
		"too large":              {"#" + strings.Repeat("x", platform.MaxPolicy), "more than the 4194304 allowed"},
		"last is scoped":         {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: a}, " + deny + "}\n", ":3: error: the last check set must be one without a scope"},
		"unscoped comes first":   {"gkePolicy:\n  checkSets:\n  - {" + deny + "}\n  - {scope: {kubernetesNamespace: a}, " + deny + "}\n", ":4: error: check set 1 is more specific than the one before it"},
		"namespace comes first":  {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: a}, " + deny + "}\n  - {scope: {kubernetesServiceAccount: 'b:c'}, " + deny + "}\n  - {" + deny + "}\n", ":4: error: check set 1 is more specific"},
		"one namespace twice":    {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: a}, " + deny + "}\n  - {scope: {kubernetesNamespace: a}, " + deny + "}\n  - {" + deny + "}\n", ":4: error: check set 1 has the same scope as the one at line 3"},
		"one account twice":      {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesServiceAccount: 'a:b'}, " + deny + "}\n  - {scope: {kubernetesServiceAccount: 'a:b'}, " + deny + "}\n  - {" + deny + "}\n", "same scope"},
		"two without a scope":    {"gkePolicy:\n  checkSets:\n  - {" + deny + "}\n  - {scope: {}, " + deny + "}\n", ":4: error: check set 1 has the same scope as the one at line 3"},
		"scope of two":           {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: a, kubernetesServiceAccount: 'a:b'}, " + deny + "}\n", "exclude each other"},
		"scope is text":          {"gkePolicy:\n  checkSets:\n  - {scope: a, " + deny + "}\n", "scope must be an object, and is text"},
		"scope unknown":          {"gkePolicy:\n  checkSets:\n  - {scope: {namespace: a}, " + deny + "}\n", `scope: unknown field "namespace"`},
		"scope, namespace":       {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: A}, " + deny + "}\n", `kubernetesNamespace "A": want the name of a namespace`},
		"scope, empty namespace": {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: ''}, " + deny + "}\n", `kubernetesNamespace "": want the name of a namespace`},
		"scope, account":         {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesServiceAccount: web}, " + deny + "}\n", `kubernetesServiceAccount "web": want NAMESPACE:SERVICEACCOUNT`},

		"check is text":        {set("alwaysDeny"), ":5: error: checks must be an object, and is text"},
		"no check":             {set("displayName: x"), ":5: error: checks: a check needs one of alwaysDeny, imageFreshnessCheck, sigstoreSignatureCheck, simpleSigningAttestationCheck, slsaCheck, trustedDirectoryCheck, vulnerabilityCheck"},
		"two checks in one":    {set("alwaysDeny: true\ntrustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p]}"), ":6: error: checks: alwaysDeny and trustedDirectoryCheck exclude each other"},
		"unknown check":        {set("trustedDirectoriesCheck: {}"), `:5: error: checks: unknown field "trustedDirectoriesCheck"`},
		"check name is number": {set("displayName: 1\nalwaysDeny: true"), "displayName must be text, and is a number"},

		"alwaysDeny false":           {set("alwaysDeny: false"), ":5: error: alwaysDeny may only be true"},
		"alwaysDeny text":            {set("alwaysDeny: 'true'"), "alwaysDeny must be true or false, and is text"},
		"alwaysDeny false, reported": {"etag: 1\n" + set("alwaysDeny: false"), "alwaysDeny may only be true"},

		"no age":            {set("imageFreshnessCheck: {}"), ":5: error: imageFreshnessCheck: maxUploadAgeDays is missing"},
		"age zero":          {set("imageFreshnessCheck: {maxUploadAgeDays: 0}"), "0 is not a number of days from 1 to 2147483647"},
		"age negative":      {set("imageFreshnessCheck: {maxUploadAgeDays: -3}"), "-3 is not a number of days"},
		"age too large":     {set("imageFreshnessCheck: {maxUploadAgeDays: 2147483648}"), "2147483648 is not a number of days"},
		"age far too large": {set("imageFreshnessCheck: {maxUploadAgeDays: 99999999999999999999}"), "is not a number of days"},
		"age as text":       {set("imageFreshnessCheck: {maxUploadAgeDays: '3'}"), "must be a whole number of days, and is text"},
		"age a fraction":    {set("imageFreshnessCheck: {maxUploadAgeDays: 3.5}"), "must be a whole number of days, and is a number"},
		"age in hex":        {set("imageFreshnessCheck: {maxUploadAgeDays: 0x10}"), "must be a whole number of days"},
		"age in octal":      {set("imageFreshnessCheck: {maxUploadAgeDays: 010}"), "010 begins with 0; write it without"},
		"age a list":        {set("imageFreshnessCheck: {maxUploadAgeDays: [3]}"), "must be a whole number of days, and is a list"},
		"freshness unknown": {set("imageFreshnessCheck: {maxUploadAgeDay: 3}"), `unknown field "maxUploadAgeDay"; did you mean "maxUploadAgeDays"?`},
		"freshness is text": {set("imageFreshnessCheck: 3"), "imageFreshnessCheck must be an object, and is a number"},

		"no directories":    {set("trustedDirectoryCheck: {}"), ":5: error: trustedDirectoryCheck: trustedDirPatterns is missing"},
		"empty directories": {set("trustedDirectoryCheck: {trustedDirPatterns: []}"), "trustedDirPatterns is missing"},
		"bad directory":     {set("trustedDirectoryCheck:\n  trustedDirPatterns:\n  - gcr.io/p\n  - gcr.i*"), `:8: error: trustedDirPatterns: parsing trusted directory pattern "gcr.i*"`},
		"directory number":  {set("trustedDirectoryCheck: {trustedDirPatterns: [1]}"), "trustedDirPatterns must be text, and is a number"},
		"directory unknown": {set("trustedDirectoryCheck: {trustedDirPattern: [gcr.io/p], trustedDirPatterns: [gcr.io/p]}"), `unknown field "trustedDirPattern"`},

		"no fixable":           {set("vulnerabilityCheck: {maximumUnfixableSeverity: LOW}"), ":5: error: vulnerabilityCheck: maximumFixableSeverity is missing"},
		"no unfixable":         {set("vulnerabilityCheck: {maximumFixableSeverity: LOW}"), "maximumUnfixableSeverity is missing"},
		"unspecified":          {set("vulnerabilityCheck: {maximumUnfixableSeverity: LOW, maximumFixableSeverity: MAXIMUM_ALLOWED_SEVERITY_UNSPECIFIED}"), "maximumFixableSeverity must not be MAXIMUM_ALLOWED_SEVERITY_UNSPECIFIED"},
		"unspecified number":   {set("vulnerabilityCheck: {maximumUnfixableSeverity: 0, maximumFixableSeverity: LOW}"), "maximumUnfixableSeverity must not be"},
		"unknown severity":     {set("vulnerabilityCheck: {maximumUnfixableSeverity: low, maximumFixableSeverity: LOW}"), `"low" is not one of BLOCK_ALL, MINIMAL, LOW, MEDIUM, HIGH, CRITICAL, ALLOW_ALL; did you mean "LOW"?`},
		"severity number":      {set("vulnerabilityCheck: {maximumUnfixableSeverity: 8, maximumFixableSeverity: LOW}"), "8 is not the number of one of"},
		"severity is a truth":  {set("vulnerabilityCheck: {maximumUnfixableSeverity: true, maximumFixableSeverity: LOW}"), "must be one of BLOCK_ALL"},
		"allowed and blocked":  {vuln("allowedCves:\n  - CVE-2021-20305\n  blockedCves:\n  - CVE-2021-20305"), `:11: error: blockedCves: "CVE-2021-20305" is allowed at line 9`},
		"cve in full":          {vuln("allowedCves: [projects/p/notes/CVE-2021-20305]"), "is not the id of a note"},
		"cve empty":            {vuln("blockedCves: ['']"), "is not the id of a note"},
		"cve number":           {vuln("blockedCves: [2021]"), "blockedCves must be text"},
		"vulnerability, scans": {vuln("containerAnalysisVulnerabilityProjects: [" + eleven + "]"), ":8: error: containerAnalysisVulnerabilityProjects: 11 projects, more than the 10 allowed"},
		"project form":         {vuln("containerAnalysisVulnerabilityProjects: [p]"), `"p" does not have the form projects/*`},
		"project number":       {vuln("containerAnalysisVulnerabilityProjects: [projects/123]"), `"123" is a project number; write the project's ID`},
		"project of parts":     {vuln("containerAnalysisVulnerabilityProjects: [projects/a/b]"), "does not have the form projects/*"},
		"project of dots":      {vuln("containerAnalysisVulnerabilityProjects: [projects/..]"), "does not have the form projects/*"},
		"vulnerability, field": {vuln("maxFixable: LOW"), `unknown field "maxFixable"`},

		"no rules":             {set("slsaCheck: {}"), ":5: error: slsaCheck: rules is missing"},
		"empty rules":          {set("slsaCheck: {rules: []}"), "slsaCheck: rules must name at least one"},
		"rules without a dash": {set("slsaCheck:\n  rules:\n    trustedBuilder: GOOGLE_CLOUD_BUILD"), `:7: error: rules must be a list, and is an object; put "- " before its first field`},
		"no builder":           {set("slsaCheck: {rules: [{configBasedBuildRequired: true}]}"), "rules: trustedBuilder is missing"},
		"unspecified builder":  {set("slsaCheck: {rules: [{trustedBuilder: BUILDER_UNSPECIFIED}]}"), "trustedBuilder must not be BUILDER_UNSPECIFIED"},
		"unknown builder":      {set("slsaCheck: {rules: [{trustedBuilder: JENKINS}]}"), `trustedBuilder: "JENKINS" is not one of GOOGLE_CLOUD_BUILD`},
		"builder number":       {set("slsaCheck: {rules: [{trustedBuilder: 2}]}"), "2 is not the number of one of GOOGLE_CLOUD_BUILD"},
		"source is a list":     {rule("attestationSource:\n    - containerAnalysisAttestationProjects: [projects/p]"), ":10: error: attestationSource is an object and not a list; write attestationSource: {containerAnalysisAttestationProjects: [projects/PROJECT, …]}"},
		"source, unknown":      {rule("attestationSource: {projects: [projects/p]}"), `attestationSource: unknown field "projects"`},
		"source, projects":     {rule("attestationSource: {containerAnalysisAttestationProjects: [" + eleven + "]}"), "11 projects, more than the 10 allowed"},
		"source, number":       {rule("attestationSource: {containerAnalysisAttestationProjects: [projects/7]}"), "is a project number"},
		"config is text":       {rule("configBasedBuildRequired: 'yes'"), "configBasedBuildRequired must be true or false"},
		"source repository":    {set("slsaCheck: {rules: [{trustedBuilder: 1, trustedSourceRepoPatterns: ['https://github.com/a/b']}]}"), "write the URL without its scheme"},
		"rule, unknown":        {rule("customConstraint: 'true'"), `did you mean "customConstraints"?`},
		"constraint":           {rule("customConstraints: provenance.x == 1"), ":9: error: customConstraints: at character 1: undeclared reference to 'provenance'"},
		"constraint, type":     {rule("customConstraints: predicateType"), "it must be true or false"},
		"constraint, empty":    {rule("customConstraints: ''"), "customConstraints: it is empty"},
		"constraint, number":   {rule("customConstraints: 1"), "customConstraints must be text"},

		"no authenticators":    {set("simpleSigningAttestationCheck: {containerAnalysisAttestationProjects: [projects/p]}"), ":5: error: simpleSigningAttestationCheck: attestationAuthenticators is missing"},
		"empty authenticators": {set("simpleSigningAttestationCheck: {attestationAuthenticators: []}"), "attestationAuthenticators must name at least one"},
		"no key set":           {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{displayName: x}]}"), "attestationAuthenticators: pkixPublicKeySet is missing"},
		"no keys":              {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{pkixPublicKeySet: {}}]}"), "pkixPublicKeySet: pkixPublicKeys is missing"},
		"empty keys":           {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{pkixPublicKeySet: {pkixPublicKeys: []}}]}"), "pkixPublicKeys must name at least one"},
		"signing, projects":    {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{pkixPublicKeySet: {pkixPublicKeys: []}}], containerAnalysisAttestationProjects: [" + eleven + "]}"), "11 projects, more than the 10 allowed"},
		"signing, number":      {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{pkixPublicKeySet: {pkixPublicKeys: []}}], containerAnalysisAttestationProjects: [projects/1]}"), "is a project number"},
		"PGP by its field":     {set("simpleSigningAttestationCheck: {attestationAuthenticators: [{pgpPublicKeySet: {}}]}"), "pgpPublicKeySet: platform policies have no OpenPGP keys"},
		"PGP as in attestors":  {signing("{asciiArmoredPgpPublicKey: x}"), ":9: error: asciiArmoredPgpPublicKey: platform policies have no OpenPGP keys"},
		"PGP in a PEM":         {signing("{publicKeyPem: \"" + strings.ReplaceAll(keys().pgp, "\n", "\\n") + "\", signatureAlgorithm: 9}"), "pkixPublicKey: parsing PKIX public key"},
		"key without PEM":      {signing("{signatureAlgorithm: 9}"), "needs both publicKeyPem and signatureAlgorithm"},
		"key no algorithm":     {signing("{publicKeyPem: \"" + pem + "\"}"), "needs both publicKeyPem and signatureAlgorithm"},
		"key, unspecified":     {signing("{publicKeyPem: \"" + pem + "\", signatureAlgorithm: SIGNATURE_ALGORITHM_UNSPECIFIED}"), "signatureAlgorithm: "},
		"key, wrong algorithm": {signing("{publicKeyPem: \"" + pem + "\", signatureAlgorithm: ECDSA_P384_SHA384}"), "does not fit an ECDSA key on curve P-256"},
		"key, id with a space": {signing("{publicKeyPem: \"" + pem + "\", signatureAlgorithm: 9, keyId: 'a b'}"), `key id "a b" is no URI reference`},
		"key twice":            {signing("{publicKeyPem: \"" + pem + "\", signatureAlgorithm: 9}\n      - {publicKeyPem: \"" + pem + "\", signatureAlgorithm: EC_SIGN_P256_SHA256}"), ":10: error: pkixPublicKeys: key "},
		"key, unknown field":   {signing("{publicKeyPem: \"" + pem + "\", signatureAlgorithm: 9, id: x}"), `unknown field "id"`},
		"key is a private one": {signing("{publicKeyPem: '-----BEGIN PRIVATE KEY-----', signatureAlgorithm: 9}"), "pkixPublicKey: parsing PKIX public key"},

		"no authorities":         {set("sigstoreSignatureCheck: {}"), "sigstoreSignatureCheck: sigstoreAuthorities is missing"},
		"authority without keys": {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{publicKeySet: {publicKeys: []}}]}"), "publicKeys must name at least one"},
		"authority without set":  {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{displayName: x}]}"), "sigstoreAuthorities: publicKeySet is missing"},
		"authority, no PEM":      {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{publicKeySet: {publicKeys: [{}]}}]}"), "publicKeys: publicKeyPem is missing"},
		"authority, bad PEM":     {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{publicKeySet: {publicKeys: [{publicKeyPem: x}]}}]}"), "no PEM block"},
		"authority, PGP":         {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{publicKeySet: {publicKeys: [{pgpKey: x}]}}]}"), "platform policies have no OpenPGP keys"},
		"authority, algorithm":   {set("sigstoreSignatureCheck: {sigstoreAuthorities: [{publicKeySet: {publicKeys: [{publicKeyPem: \"" + pem + "\", signatureAlgorithm: 9}]}}]}"), `unknown field "signatureAlgorithm"`},

		"no pattern":           {"gkePolicy: {imageAllowlist: {}}\n", "imageAllowlist: allowPattern is missing"},
		"empty patterns":       {"gkePolicy: {imageAllowlist: {allowPattern: []}}\n", "allowPattern is missing"},
		"allowlist is text":    {"gkePolicy: {imageAllowlist: gcr.io/p/*}\n", "imageAllowlist must be an object, and is text"},
		"allowlist of texts":   {"gkePolicy: {imageAllowlist: [gcr.io/p/*]}\n", "imageAllowlist must be an object, and is text"},
		"allowlist unknown":    {"gkePolicy: {imageAllowlist: {allowPatterns: [gcr.io/p/*]}}\n", `unknown field "allowPatterns"; did you mean "allowPattern"?`},
		"bad pattern":          {"gkePolicy:\n  imageAllowlist:\n    allowPattern:\n    - gcr.io/p/a\n    - gcr.io/p/a:*\n", `:5: error: allowPattern: parsing image pattern "gcr.io/p/a:*"`},
		"pattern of all":       {"gkePolicy: {imageAllowlist: {allowPattern: ['**']}}\n", "would cover every image"},
		"bad pattern in set":   {"gkePolicy: {checkSets: [{imageAllowlist: {allowPattern: ['*']}, " + deny + "}]}\n", "would cover every image"},
		"bad pattern in check": {set("alwaysDeny: true\nimageAllowlist: {allowPattern: ['a**']}"), `"**" must follow a "/"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := platform.ParsePolicy("policy.yaml", []byte(test.text))
			if p != nil || !diags.HasErrors() {
				t.Fatalf("accepted; diagnostics:\n%s", diags)
			}
			if !strings.Contains(diags.String(), test.want) {
				t.Errorf("got\n%swant\n%s", diags, test.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	deny := "{checks: [{alwaysDeny: true}]}"
	allowing := func(patterns string) string {
		return "gkePolicy:\n  imageAllowlist: {allowPattern: [" + patterns + "]}\n  checkSets: [" + deny + "]\n"
	}
	dirs := func(patterns string) string {
		return set("trustedDirectoryCheck: {trustedDirPatterns: [" + patterns + "]}")
	}
	cves := func(field, list string) string {
		return set("vulnerabilityCheck: {maximumFixableSeverity: 5, maximumUnfixableSeverity: 7, " + field + ": [" + list + "]}")
	}
	sources := func(list string) string {
		return set("slsaCheck: {rules: [{trustedBuilder: 1, trustedSourceRepoPatterns: [" + list + "]}]}")
	}
	for name, test := range map[string]struct{ text, want string }{
		"strict":                 {set("alwaysDeny: true"), ""},
		"no check sets":          {"gkePolicy: {}\n", ":1: warning: the policy has no check sets, and so allows every image"},
		"empty check sets":       {"gkePolicy: {checkSets: []}\n", "the policy has no check sets"},
		"no checks":              {"gkePolicy:\n  checkSets:\n  - displayName: x\n", ":3: warning: check set 0 has no checks, and so allows every image"},
		"empty checks":           {"gkePolicy:\n  checkSets:\n  - checks: []\n", ":3: warning: check set 0 has no checks"},
		"name of another form":   {"name: projects/p/policy\n" + set("alwaysDeny: true"), `:1: warning: name: "projects/p/policy" is ignored`},
		"alwaysDeny and more":    {"gkePolicy: {checkSets: [{checks: [{alwaysDeny: true}, {imageFreshnessCheck: {maxUploadAgeDays: 1}}]}]}\n", "the other checks of the set decide nothing"},
		"alwaysDeny with a way":  {"gkePolicy: {checkSets: [{checks: [{alwaysDeny: true, imageAllowlist: {allowPattern: [gcr.io/p/a]}}, {imageFreshnessCheck: {maxUploadAgeDays: 1}}]}]}\n", ""},
		"directories of one":     {allowing("gcr.io/p/**, gcr.io/p-*, registry.k8s.io/**"), ""},
		"everyone":               {allowing("docker.io/**"), `pattern "docker.io/**" exempts everyone's images: anyone may push to docker.io`},
		"everyone, AR":           {allowing("us-docker.pkg.dev/**"), "anyone may push to us-docker.pkg.dev"},
		"given twice":            {allowing("gcr.io/p/a, gcr.io/p/a"), `pattern "gcr.io/p/a" is given twice, first at line 2`},
		"included":               {allowing("gcr.io/p/a:v1, gcr.io/p/a"), `pattern "gcr.io/p/a:v1" is included in "gcr.io/p/a" at line 2`},
		"in the policy's":        {"gkePolicy:\n  imageAllowlist: {allowPattern: [gcr.io/p/**]}\n  checkSets:\n  - imageAllowlist: {allowPattern: [gcr.io/p/a]}\n    checks: [{alwaysDeny: true}]\n", `:4: warning: pattern "gcr.io/p/a" is included in "gcr.io/p/**" of the policy, at line 2`},
		"same in the set's":      {"gkePolicy:\n  checkSets:\n  - imageAllowlist: {allowPattern: [gcr.io/p/a]}\n    checks: [{alwaysDeny: true, imageAllowlist: {allowPattern: [gcr.io/p/a]}}]\n", `:4: warning: pattern "gcr.io/p/a" is in the imageAllowlist of the policy or the check set already, at line 3`},
		"other sets apart":       {"gkePolicy:\n  checkSets:\n  - {scope: {kubernetesNamespace: a}, imageAllowlist: {allowPattern: [gcr.io/p/a]}, checks: [{alwaysDeny: true}]}\n  - {imageAllowlist: {allowPattern: [gcr.io/p/a]}, checks: [{alwaysDeny: true}]}\n", ""},
		"directory of one":       {dirs("gcr.io/p, gcr.io/p/**, '*-docker.pkg.dev/p/r*', registry.example/**, 'docker.io/library'"), ""},
		"directory of all":       {dirs("gcr.io/**"), `directory "gcr.io/**" is everyone's: anyone may push to gcr.io`},
		"directory of all, one":  {dirs("gcr.io/*"), "is everyone's"},
		"directory of all, AR":   {dirs("'*-docker.pkg.dev/**'"), "is everyone's"},
		"directory of all, us":   {dirs("'*.gcr.io/**'"), "is everyone's"},
		"directory's neighbours": {dirs("gcr.io/team*"), `directory "gcr.io/team*" also covers neighbours, such as gcr.io/team-other; write gcr.io/team/**`},
		"source of all":          {sources("github.com/**"), `"github.com/**" is everyone's source: anyone may have a repository at github.com`},
		"source of one":          {sources("github.com/org/*, git.example/**"), ""},
		"any source":             {set("slsaCheck: {rules: [{trustedBuilder: 1}]}"), ":5: warning: rules: without trustedSourceRepoPatterns, what GOOGLE_CLOUD_BUILD built from anyone's source is trusted"},
		"CVE":                    {cves("blockedCves", "CVE-2021-20305, CVE-2024-1234567, GHSA-jfh8-c2jp-5v3q"), ""},
		"CVE in lower case":      {cves("blockedCves", "cve-2021-20305"), `blockedCves: "cve-2021-20305" does not have the form CVE-YEAR-NUMBER`},
		"CVE short":              {cves("blockedCves", "CVE-2021-203"), "does not have the form"},
		"CVE, space":             {cves("blockedCves", "'CVE-2021-20305 '"), "does not have the form"},
		"CVE without CVE":        {cves("allowedCves", "2021-20305"), "allowedCves: \"2021-20305\" does not have the form"},
		"CVE, year":              {cves("blockedCves", "CVE-21-20305"), "does not have the form"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := platform.ParsePolicy("policy.yaml", []byte(test.text))
			if p == nil || diags.HasErrors() {
				t.Fatalf("refused:\n%s", diags)
			}
			if !strings.Contains(diags.String(), test.want) || (test.want == "") != (len(diags) == 0) || len(diags) > 1 {
				t.Errorf("got\n%swant\n%s", diags, test.want)
			}
		})
	}
}

func TestLongAllowlistsAreReadInTime(t *testing.T) {
	t.Parallel()
	list := make([]string, 0, 60000)
	for i := range cap(list) {
		list = append(list, fmt.Sprintf("gcr.io/p/a:v%d", i))
	}
	start := time.Now()
	p := parse(t, jsonOf(t, object{"gkePolicy": object{"imageAllowlist": allow(list...), "checkSets": []object{{"checks": []object{{"alwaysDeny": true}}}}}}))
	if took := time.Since(start); len(p.Allow) != len(list) || took > 20*time.Second {
		t.Errorf("%d patterns in %v", len(p.Allow), took)
	}
}

func TestBuilders(t *testing.T) {
	t.Parallel()
	key := func(id string) object {
		return object{"id": id, "comment": "global", "pkixPublicKey": pkixKey(keys().builder)}
	}
	builder := func(fields object) object {
		b := object{"name": "GOOGLE_CLOUD_BUILD", "ids": []string{"https://cloudbuild.googleapis.com/GoogleHostedWorker"}, "publicKeys": []object{key("projects/verified-builder/key")}}
		for k, v := range fields {
			if v == nil {
				delete(b, k)
				continue
			}
			b[k] = v
		}
		return b
	}
	file := func(list ...object) string { return jsonOf(t, object{"builders": list}) }
	list, diags := platform.ParseBuilders("builders.json", []byte(file(builder(nil))))
	if len(diags) != 0 || len(list) != 1 || list[0].Name != "GOOGLE_CLOUD_BUILD" || len(list[0].IDs) != 1 || list[0].Keys[0].ID() != "projects/verified-builder/key" ||
		list[0].Keys[0].Fingerprint() != keys().builder.Fingerprint() || list[0].File != "builders.json" || list[0].Line != 1 {
		t.Errorf("got %+v, %s", list, diags)
	}
	if list, diags := platform.ParseBuilders("b", []byte(`{"builders": []}`)); list == nil || len(list) != 0 || len(diags) != 0 {
		t.Errorf("an empty list: %v, %s", list, diags)
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":         {"", "the document is empty"},
		"a list":        {"[]", "file of builders must be an object"},
		"no list":       {"{}", "builders is missing"},
		"unknown":       {`{"builder": []}`, `did you mean "builders"?`},
		"is text":       {`{"builders": ["GOOGLE_CLOUD_BUILD"]}`, "builders must be an object, and is text"},
		"unknown field": {file(builder(object{"id": "x"})), `unknown field "id"`},
		"no name":       {file(builder(object{"name": nil})), "name is missing"},
		"other name":    {file(builder(object{"name": "JENKINS"})), `"JENKINS" is no builder that a policy can trust`},
		"no ids":        {file(builder(object{"ids": nil})), "ids is missing"},
		"empty ids":     {file(builder(object{"ids": []string{}})), "ids is missing"},
		"empty id":      {file(builder(object{"ids": []string{""}})), "an empty id would be every builder"},
		"no keys":       {file(builder(object{"publicKeys": nil})), "publicKeys is missing"},
		"empty keys":    {file(builder(object{"publicKeys": []object{}})), "publicKeys must name at least one"},
		"PGP":           {file(builder(object{"publicKeys": []object{{"asciiArmoredPgpPublicKey": keys().pgp}}})), "no OpenPGP keys"},
		"no key in key": {file(builder(object{"publicKeys": []object{{"id": "x"}}})), "pkixPublicKey is missing"},
		"key twice":     {file(builder(object{"publicKeys": []object{key("x"), key("x")}})), `public key "x" is given twice`},
		"twice":         {file(builder(nil), builder(nil)), `builder "GOOGLE_CLOUD_BUILD" is given twice`},
		"too large":     {strings.Repeat(" ", platform.MaxBuilders+1), "more than the"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, diags := platform.ParseBuilders("builders.json", []byte(test.text))
			if list != nil || !diags.HasErrors() || !strings.Contains(diags.String(), test.want) {
				t.Errorf("got %v,\n%swant\n%s", list, diags, test.want)
			}
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "gcloud-describe.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(set("alwaysDeny: true")))
	f.Add([]byte(policyOf(f, sigstore(keys().cosign), vulnerability(object{"blockedCves": []string{"CVE-2021-1234"}}), slsa(ruleOf(object{"customConstraints": "predicate.x == 1"})))))
	f.Add([]byte("gkePolicy:\n  imageAllowlist:\n  - allowPattern: gcr.io/p/**\n  checkSets:\n  - {scope: {kubernetesServiceAccount: 'a:b'}}\n  - {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, diags := platform.ParsePolicy("p", data)
		if (p == nil) != diags.HasErrors() || (diags.Err() != nil) != diags.HasErrors() {
			t.Fatalf("policy %v with diagnostics\n%s", p, diags)
		}
		checkDiagnostics(t, diags)
		rules, more := p.Compile(platform.Options{Project: "p"})
		checkDiagnostics(t, more)
		if rules == nil || (p == nil && (len(rules.Rules) != 0 || len(rules.Exempt) != 0)) {
			t.Fatalf("rules %v of policy %v", rules, p)
		}
		if p != nil && (more.HasErrors() || rules.Rules[len(rules.Rules)-1].Scope != (policy.Scope{})) {
			t.Errorf("a valid policy does not compile to rules that end with a default:\n%s", more)
		}
		if builders, diags := platform.ParseBuilders("b", data); (builders == nil) != diags.HasErrors() {
			t.Errorf("builders %v with diagnostics\n%s", builders, diags)
		}
	})
}

func checkDiagnostics(t *testing.T, diags document.Diagnostics) {
	t.Helper()
	for _, d := range diags {
		if d.Line < 0 || d.Message == "" || strings.ContainsAny(d.Message, "\n\x00\x1b") || len(d.Message) > 2000 {
			t.Errorf("diagnostic %q", d)
		}
	}
}

// TestDocumentedPolicyIsReadWithoutComplaint keeps the example of the manual true.
func TestDocumentedPolicyIsReadWithoutComplaint(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "platform-policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```yaml\n")
	text, rest, _ := strings.Cut(rest, "```")
	p, diags := platform.ParsePolicy("manual.yaml", []byte(text))
	if len(diags) != 0 || len(p.CheckSets) != 2 || len(p.CheckSets[0].Checks) != 2 {
		t.Errorf("got %s", diags)
	}
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ = strings.Cut(rest, "```")
	block := strings.ReplaceAll(strings.TrimSpace(keys().ci.Marshal()), "\n", "\n        ")
	begin, end := strings.Index(text, "-----BEGIN"), strings.Index(text, "-----END PUBLIC KEY-----")
	text = text[:begin] + block + text[end+len("-----END PUBLIC KEY-----"):]
	if list, diags := platform.ParseBuilders("manual.yaml", []byte(text)); len(diags) != 0 || len(list) != 1 || len(list[0].Keys) != 1 {
		t.Errorf("got %v, %s", list, diags)
	}
}
