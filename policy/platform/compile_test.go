package platform_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	digestText = "sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	app        = "gcr.io/p/r/app@" + digestText
	hosted     = "https://cloudbuild.example/GoogleHostedWorker@v1"
	provenance = `{"subject": [{"name": "app"}], "predicateType": "https://slsa.dev/provenance/v1", "predicate": {"branch": "main"}}`
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func options() platform.Options {
	return platform.Options{
		Project:   "p",
		Recorders: []policy.Signer{{Name: "attestor", Keys: []policy.Key{{ID: "recorder", Fingerprint: [32]byte{7}}}}},
		Builders:  []platform.Builder{{Name: "GOOGLE_CLOUD_BUILD", IDs: []string{"https://cloudbuild.example/"}, Keys: []*signature.PublicKey{keys().builder}}},
	}
}

// known returns what is known about the image: evidence that passes every check of
// these tests, and what the edits make of it.
func known(edits ...func(*evidence.Image)) evidence.Image {
	origin := func(project string, k *signature.PublicKey) evidence.Origin {
		return evidence.Origin{Note: "projects/" + project + "/notes/n", Occurrence: "projects/" + project + "/occurrences/o", Project: project, KeyID: k.ID(), Fingerprint: k.Fingerprint(), Created: noon}
	}
	upload := origin("p", keys().ci)
	upload.Fingerprint = [32]byte{7}
	img := evidence.Image{
		State: evidence.Known,
		Attestations: []evidence.Attestation{
			{Origin: origin("p", keys().ci), Repository: "gcr.io/p/r/app"},
			{Origin: origin("p", keys().cosign), Cosign: true},
		},
		Scans: []evidence.Scan{{Project: "p", Finished: true, Findings: []evidence.Finding{
			{Note: "projects/goog-vulnz/notes/CVE-2021-20305", Severity: 4, Fixable: true},
			{Note: "projects/goog-vulnz/notes/CVE-2020-10543", Severity: 3},
		}}},
		Uploads: []evidence.Upload{{Origin: upload, Time: noon.Add(-10 * 24 * time.Hour)}},
		Provenances: []evidence.Provenance{{
			Origin: origin("p", keys().builder), Builder: hosted, Source: "https://github.com/org/app", ConfigBased: true, Statement: []byte(provenance),
		}},
	}
	for _, edit := range edits {
		edit(&img)
	}
	return img
}

func digestOf(t testing.TB) image.Digest {
	t.Helper()
	d, err := image.ParseDigest(digestText)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compile(t testing.TB, text string, o platform.Options) *policy.Ruleset {
	t.Helper()
	rules, diags := parse(t, text).Compile(o)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return rules
}

func decided(t testing.TB, rules *policy.Ruleset, text string, img evidence.Image) decide.Decision {
	t.Helper()
	req := decide.Request{Namespace: "shop", ServiceAccount: "web", Images: []decide.ImageUse{{Container: "c", Type: decide.Container, Text: text}}}
	return decide.Decide(req, policy.Set{rules}, evidence.Facts{Images: map[image.Digest]evidence.Image{digestOf(t): img}}, noon)
}

// TestEachFieldMakesTheDifference has pairs of policies that differ in one field,
// of which the one allows what the other does not, or pairs of evidence.
func TestEachFieldMakesTheDifference(t *testing.T) {
	t.Parallel()
	type edit = func(*evidence.Image)
	signing, cosign := simpleSigning(nil, authenticator("CI", pkixKey(keys().ci))), sigstore(keys().cosign)
	fresh := func(days int) object { return object{"imageFreshnessCheck": object{"maxUploadAgeDays": days}} }
	rule := func(fields object) object { return slsa(ruleOf(fields)) }
	source := func(project string) object {
		return object{"attestationSource": object{"containerAnalysisAttestationProjects": []string{"projects/" + project}}}
	}
	for name, test := range map[string]struct {
		check   object
		edit    edit
		want    decide.Verdict
		code    decide.Code
		message string // a part of it
	}{
		"alwaysDeny":               {object{"alwaysDeny": true}, nil, decide.DENY, decide.CodeAlwaysDeny, "AlwaysDeny at index 0 has verdict NOT_CONFORMANT"},
		"alwaysDeny, waived":       {with(object{"alwaysDeny": true}, "imageAllowlist", allow("gcr.io/p/r/app")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"alwaysDeny, other waived": {with(object{"alwaysDeny": true}, "imageAllowlist", allow("gcr.io/p/r/other")), nil, decide.DENY, decide.CodeAlwaysDeny, ""},

		"maxUploadAgeDays":             {fresh(10), nil, decide.ALLOW, decide.CodeFresh, ""},
		"maxUploadAgeDays, fewer":      {fresh(9), nil, decide.DENY, decide.CodeStale, "ImageFreshnessCheck at index 0 has verdict NOT_CONFORMANT. Image was uploaded at"},
		"maxUploadAgeDays, the most":   {fresh(2147483647), nil, decide.ALLOW, decide.CodeFresh, ""},
		"upload not recorded":          {fresh(10), func(i *evidence.Image) { i.Uploads = nil }, decide.DENY, decide.CodeUploadUnknown, "ImageFreshnessCheck at index 0 has verdict ERROR"},
		"upload recorded by another":   {fresh(10), func(i *evidence.Image) { i.Uploads[0].Fingerprint = [32]byte{8} }, decide.DENY, decide.CodeUploadUnknown, ""},
		"upload recorded elsewhere":    {fresh(10), func(i *evidence.Image) { i.Uploads[0].Project = "q" }, decide.DENY, decide.CodeUploadUnknown, ""},
		"freshness, waived":            {with(fresh(1), "imageAllowlist", allow("gcr.io/p/**")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"trustedDirPatterns":           {directories("gcr.io/p/r"), nil, decide.ALLOW, decide.CodeTrusted, ""},
		"trustedDirPatterns, another":  {directories("gcr.io/p/q"), nil, decide.DENY, decide.CodeNotTrusted, "TrustedDirectoryCheck at index 0 has verdict NOT_CONFORMANT. Image is not in a trusted directory"},
		"trustedDirPatterns, one of":   {directories("gcr.io/p/q", "gcr.io/p/*"), nil, decide.ALLOW, decide.CodeTrusted, ""},
		"directory, named":             {with(directories("gcr.io/p/q"), "displayName", "My trusted directory check"), nil, decide.DENY, decide.CodeNotTrusted, `TrustedDirectoryCheck at index 0 with display name "My trusted directory check" has verdict NOT_CONFORMANT. Image is not in a trusted directory`},
		"directory, waived":            {with(directories("gcr.io/p/q"), "imageAllowlist", allow("gcr.io/p/r/app@"+digestText)), nil, decide.ALLOW, decide.CodeExempt, ""},
		"directory without evidence":   {directories("gcr.io/p/r"), func(i *evidence.Image) { *i = evidence.Image{} }, decide.ALLOW, decide.CodeTrusted, ""},
		"severities":                   {vulnerability(nil), nil, decide.ALLOW, decide.CodeScanned, ""},
		"maximumFixableSeverity":       {vulnerability(object{"maximumFixableSeverity": "MEDIUM"}), nil, decide.DENY, decide.CodeVulnerable, "VulnerabilityCheck at index 0 has verdict NOT_CONFORMANT"},
		"maximumFixable by number":     {vulnerability(object{"maximumFixableSeverity": 4}), nil, decide.DENY, decide.CodeVulnerable, ""},
		"maximumUnfixableSeverity":     {vulnerability(object{"maximumUnfixableSeverity": "LOW"}), nil, decide.DENY, decide.CodeVulnerable, ""},
		"maximumUnfixable is its own":  {vulnerability(object{"maximumUnfixableSeverity": "MEDIUM"}), nil, decide.ALLOW, decide.CodeScanned, ""},
		"BLOCK_ALL":                    {vulnerability(object{"maximumUnfixableSeverity": "BLOCK_ALL"}), nil, decide.DENY, decide.CodeVulnerable, ""},
		"without a severity":           {vulnerability(object{"maximumFixableSeverity": "CRITICAL", "maximumUnfixableSeverity": "CRITICAL"}), func(i *evidence.Image) { i.Scans[0].Findings[0].Severity = 0 }, decide.DENY, decide.CodeVulnerable, ""},
		"ALLOW_ALL":                    {vulnerability(object{"maximumFixableSeverity": "ALLOW_ALL"}), func(i *evidence.Image) { i.Scans[0].Findings[0].Severity = 0 }, decide.ALLOW, decide.CodeScanned, ""},
		"allowedCves":                  {vulnerability(object{"maximumFixableSeverity": "LOW", "allowedCves": []string{"CVE-2021-20305"}}), nil, decide.ALLOW, decide.CodeScanned, ""},
		"allowedCves, another":         {vulnerability(object{"maximumFixableSeverity": "LOW", "allowedCves": []string{"CVE-2020-10543"}}), nil, decide.DENY, decide.CodeVulnerable, ""},
		"blockedCves":                  {vulnerability(object{"blockedCves": []string{"CVE-2020-10543"}}), nil, decide.DENY, decide.CodeVulnerable, ""},
		"blockedCves, another":         {vulnerability(object{"blockedCves": []string{"CVE-2020-10544"}}), nil, decide.ALLOW, decide.CodeScanned, ""},
		"scans of a project":           {vulnerability(object{"containerAnalysisVulnerabilityProjects": []string{"projects/q"}}), nil, decide.DENY, decide.CodeNotScanned, "VulnerabilityCheck at index 0 has verdict ERROR"},
		"scans of projects":            {vulnerability(object{"containerAnalysisVulnerabilityProjects": []string{"projects/q", "projects/p"}}), nil, decide.ALLOW, decide.CodeScanned, ""},
		"not scanned":                  {vulnerability(object{"maximumFixableSeverity": "ALLOW_ALL", "maximumUnfixableSeverity": "ALLOW_ALL"}), func(i *evidence.Image) { i.Scans = nil }, decide.DENY, decide.CodeNotScanned, ""},
		"vulnerabilities, waived":      {with(vulnerability(object{"maximumFixableSeverity": "LOW"}), "imageAllowlist", allow("gcr.io/p/r/*")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"trustedBuilder":               {rule(nil), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"built by another key":         {rule(nil), func(i *evidence.Image) { i.Provenances[0].Fingerprint = keys().other.Fingerprint() }, decide.DENY, decide.CodeNotBuilt, "SlsaCheck at index 0 has verdict NOT_CONFORMANT"},
		"built by another builder":     {rule(nil), func(i *evidence.Image) { i.Provenances[0].Builder = "https://evil.example/" + hosted }, decide.DENY, decide.CodeNotBuilt, ""},
		"attestationSource":            {rule(source("q")), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"attestationSource, right":     {rule(source("p")), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"attestationSource as text":    {rule(object{"attestationSource": object{"containerAnalysisAttestationProjects": "projects/q"}}), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"configBasedBuildRequired":     {rule(object{"configBasedBuildRequired": true}), func(i *evidence.Image) { i.Provenances[0].ConfigBased = false }, decide.DENY, decide.CodeNotBuilt, ""},
		"config is there":              {rule(object{"configBasedBuildRequired": true}), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"config is not required":       {rule(object{"configBasedBuildRequired": false}), func(i *evidence.Image) { i.Provenances[0].ConfigBased = false }, decide.ALLOW, decide.CodeBuilt, ""},
		"trustedSourceRepoPatterns":    {rule(object{"trustedSourceRepoPatterns": []string{"github.com/other/*"}}), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"trusted source, one of":       {rule(object{"trustedSourceRepoPatterns": []string{"github.com/other/*", "github.com/org/*"}}), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"any source":                   {rule(object{"trustedSourceRepoPatterns": nil}), func(i *evidence.Image) { i.Provenances[0].Source = "" }, decide.ALLOW, decide.CodeBuilt, ""},
		"source is not told":           {rule(nil), func(i *evidence.Image) { i.Provenances[0].Source = "" }, decide.DENY, decide.CodeNotBuilt, ""},
		"customConstraints":            {rule(object{"customConstraints": `predicate.branch == "main"`}), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"customConstraints, false":     {rule(object{"customConstraints": `predicate.branch == "dev"`}), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"customConstraints, error":     {rule(object{"customConstraints": `predicate.nope == "dev"`}), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"rules, one of":                {slsa(ruleOf(source("q")), ruleOf(nil)), nil, decide.ALLOW, decide.CodeBuilt, ""},
		"rules, none of":               {slsa(ruleOf(source("q")), ruleOf(object{"customConstraints": "false"})), nil, decide.DENY, decide.CodeNotBuilt, ""},
		"provenance, waived":           {with(rule(source("q")), "imageAllowlist", allow("gcr.io/p/r/app")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"attestationAuthenticators":    {signing, nil, decide.ALLOW, decide.CodeAttested, ""},
		"authenticator, another key":   {simpleSigning(nil, authenticator("CI", pkixKey(keys().other))), nil, decide.DENY, decide.CodeNotAttested, "SimpleSigningAttestationCheck at index 0 has verdict NOT_CONFORMANT"},
		"authenticator, one key of":    {simpleSigning(nil, authenticator("CI", pkixKey(keys().other), pkixKey(keys().ci))), nil, decide.ALLOW, decide.CodeAttested, ""},
		"authenticator, one of":        {simpleSigning(nil, authenticator("QA", pkixKey(keys().other)), authenticator("CI", pkixKey(keys().ci))), nil, decide.ALLOW, decide.CodeAttested, ""},
		"attestations of a project":    {simpleSigning([]string{"projects/q"}, authenticator("CI", pkixKey(keys().ci))), nil, decide.DENY, decide.CodeNotAttested, ""},
		"attestations of projects":     {simpleSigning([]string{"projects/q", "projects/p"}, authenticator("CI", pkixKey(keys().ci))), nil, decide.ALLOW, decide.CodeAttested, ""},
		"not attested":                 {signing, func(i *evidence.Image) { i.Attestations = i.Attestations[1:] }, decide.DENY, decide.CodeNotAttested, ""},
		"attestation, waived":          {with(simpleSigning(nil, authenticator("CI", pkixKey(keys().other))), "imageAllowlist", allow("gcr.io/p/**")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"attestation of cosign":        {simpleSigning(nil, authenticator("CI", pkixKey(keys().ci))), func(i *evidence.Image) { i.Attestations[0].Cosign = true }, decide.ALLOW, decide.CodeAttested, ""},
		"sigstoreAuthorities":          {cosign, nil, decide.ALLOW, decide.CodeAttested, ""},
		"sigstore, another key":        {sigstore(keys().other), nil, decide.DENY, decide.CodeNotAttested, "SigstoreSignatureCheck at index 0 has verdict NOT_CONFORMANT"},
		"sigstore, one key of":         {sigstore(keys().other, keys().cosign), nil, decide.ALLOW, decide.CodeAttested, ""},
		"sigstore, not cosign's":       {cosign, func(i *evidence.Image) { i.Attestations[1].Cosign = false }, decide.DENY, decide.CodeNotAttested, ""},
		"sigstore, another project":    {cosign, func(i *evidence.Image) { i.Attestations[1].Project = "q" }, decide.DENY, decide.CodeNotAttested, ""},
		"sigstore, waived":             {with(sigstore(keys().other), "imageAllowlist", allow("gcr.io/p/**")), nil, decide.ALLOW, decide.CodeExempt, ""},
		"evidence could not be read":   {signing, func(i *evidence.Image) { *i = evidence.Image{} }, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, "SimpleSigningAttestationCheck at index 0 has verdict ERROR"},
		"vulnerabilities, not read":    {vulnerability(nil), func(i *evidence.Image) { *i = evidence.Image{} }, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"freshness, not read":          {fresh(10), func(i *evidence.Image) { *i = evidence.Image{} }, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"provenance, not read":         {rule(nil), func(i *evidence.Image) { *i = evidence.Image{} }, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"sigstore, not read":           {cosign, func(i *evidence.Image) { *i = evidence.Image{} }, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"alwaysDeny needs no evidence": {object{"alwaysDeny": true}, func(i *evidence.Image) { *i = evidence.Image{} }, decide.DENY, decide.CodeAlwaysDeny, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := known()
			if test.edit != nil {
				test.edit(&img)
			}
			d := decided(t, compile(t, policyOf(t, test.check), options()), app, img)
			if d.Verdict != test.want || d.Allowed != (test.want == decide.ALLOW) || len(d.Images[0].Reasons) != 1 || d.Images[0].Reasons[0].Code != test.code {
				t.Fatalf("got %v, %+v\n%s", d.Verdict, d.Images[0].Reasons, decide.Message(d))
			}
			if message := decide.Message(d); !strings.Contains(message, test.message) {
				t.Errorf("message\n%s\nwant %s", message, test.message)
			}
		})
	}
}

func TestTagsPassOnlyWhatNeedsNoDigest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		check object
		code  decide.Code
	}{
		"attestation": {simpleSigning(nil, authenticator("CI", pkixKey(keys().ci))), decide.CodeNoDigest},
		"cosign":      {sigstore(keys().cosign), decide.CodeNoDigest},
		"scan":        {vulnerability(object{"maximumFixableSeverity": "ALLOW_ALL", "maximumUnfixableSeverity": "ALLOW_ALL"}), decide.CodeNoDigest},
		"upload":      {object{"imageFreshnessCheck": object{"maxUploadAgeDays": 10}}, decide.CodeNoDigest},
		"provenance":  {slsa(ruleOf(nil)), decide.CodeNoDigest},
		"directory":   {directories("gcr.io/p/r"), decide.CodeTrusted},
		"exempt":      {with(slsa(ruleOf(nil)), "imageAllowlist", allow("gcr.io/p/r/app:v1")), decide.CodeExempt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decided(t, compile(t, policyOf(t, test.check), options()), "gcr.io/p/r/app:v1", known())
			if r := d.Images[0].Reasons[0]; r.Code != test.code || d.Allowed != (test.code != decide.CodeNoDigest) {
				t.Errorf("got %v, %+v", d.Verdict, r)
			}
		})
	}
}

// TestAllowPatterns has every row of the table in which Binary Authorization
// documents the patterns of platform policies, in each of the three places where an
// allowlist may stand.
func TestAllowPatterns(t *testing.T) {
	t.Parallel()
	const other = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	for pattern, test := range map[string]struct{ in, out []string }{
		"reg.io/path/img":                   {[]string{"reg.io/path/img", "reg.io/path/img:v1", "reg.io/path/img@" + digestText, "reg.io/path/img:v1@" + digestText}, []string{"reg.io/path/img2", "reg.io/path/img/x", "reg.io/img"}},
		"reg.io/path/img:tag":               {[]string{"reg.io/path/img:tag", "reg.io/path/img:tag@" + digestText}, []string{"reg.io/path/img", "reg.io/path/img:tag2", "reg.io/path/img@" + digestText}},
		"reg.io/path/img:foo*":              {[]string{"reg.io/path/img:foo", "reg.io/path/img:foo-1", "reg.io/path/img:foo@" + digestText}, []string{"reg.io/path/img:fo", "reg.io/path/img", "reg.io/path/img2:foo"}},
		"reg.io/path/img@" + digestText:     {[]string{"reg.io/path/img@" + digestText, "reg.io/path/img:any@" + digestText}, []string{"reg.io/path/img", "reg.io/path/img@" + other}},
		"reg.io/path/img:tag@" + digestText: {[]string{"reg.io/path/img:tag@" + digestText}, []string{"reg.io/path/img:tag", "reg.io/path/img@" + digestText, "reg.io/path/img:tag@" + other}},
		"reg.io/path/pre*":                  {[]string{"reg.io/path/pre", "reg.io/path/prefix:v1", "reg.io/path/prefix@" + digestText}, []string{"reg.io/path/prefix/x", "reg.io/path/other", "reg.io/pre"}},
		"reg.io/path/**":                    {[]string{"reg.io/path/a", "reg.io/path/a/b:v1", "reg.io/path/a@" + digestText}, []string{"reg.io/path", "reg.io/pathology/a", "reg.io/other/a"}},
	} {
		deny := object{"alwaysDeny": true}
		for place, text := range map[string]string{
			"imageAllowlist of the policy":    jsonOf(t, object{"gkePolicy": object{"imageAllowlist": allow(pattern), "checkSets": []object{{"checks": []object{deny}}}}}),
			"imageAllowlist of the check set": jsonOf(t, object{"gkePolicy": object{"checkSets": []object{{"imageAllowlist": allow(pattern), "checks": []object{deny}}}}}),
			"imageAllowlist of the check":     policyOf(t, with(deny, "imageAllowlist", allow(pattern))),
		} {
			t.Run(place+" "+pattern, func(t *testing.T) {
				t.Parallel()
				rules := compile(t, text, options())
				for _, ref := range test.in {
					d := decided(t, rules, ref, evidence.Image{})
					if r := d.Images[0].Reasons[0]; !d.Allowed || r.Code != decide.CodeExempt || r.Exemption != pattern || !strings.Contains(r.Message, "of the "+place+" covers") || r.Source != "policy.yaml:1" {
						t.Errorf("%s: %v, %+v", ref, d.Verdict, r)
					}
				}
				for _, ref := range test.out {
					if d := decided(t, rules, ref, evidence.Image{}); d.Allowed {
						t.Errorf("%s is allowed", ref)
					}
				}
			})
		}
	}
}

func TestAllowlistOfACheckWaivesThatCheckOnly(t *testing.T) {
	t.Parallel()
	rules := compile(t, policyOf(t, with(object{"alwaysDeny": true}, "imageAllowlist", allow("gcr.io/p/r/app")), directories("gcr.io/p/q")), options())
	d := decided(t, rules, app, known())
	if d.Verdict != decide.DENY || len(d.Images[0].Reasons) != 2 || d.Images[0].Reasons[0].Verdict != decide.ALLOW || d.Images[0].Reasons[1].Check.Index != 1 {
		t.Errorf("got %v, %+v", d.Verdict, d.Images[0].Reasons)
	}
}

const scoped = `
name: projects/p/platforms/gke/policies/prod
gkePolicy:
  checkSets:
  - displayName: web
    scope: {kubernetesServiceAccount: "shop:web"}
    checks: [{alwaysDeny: true}]
  - scope: {kubernetesNamespace: shop}
    checks:
    - displayName: "a \"b\""
      trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/shop]}
  - displayName: rest
    checks:
    - trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p/rest]}
`

func TestTheMostSpecificCheckSetSpeaks(t *testing.T) {
	t.Parallel()
	rules := compile(t, scoped, options())
	for name, test := range map[string]struct{ namespace, account, rule, source string }{
		"service account":         {"shop", "web", `check set 0 "web"`, "policy.yaml:5"},
		"namespace":               {"shop", "api", "check set 1", "policy.yaml:8"},
		"namespace, default":      {"shop", "", "check set 1", "policy.yaml:8"},
		"neither":                 {"default", "web", `check set 2 "rest"`, "policy.yaml:12"},
		"longer namespace":        {"shopping", "web", `check set 2 "rest"`, "policy.yaml:12"},
		"account, no namespace":   {"", "shop:web", `check set 2 "rest"`, "policy.yaml:12"},
		"account in another case": {"shop", "Web", "check set 1", "policy.yaml:8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := decide.Request{Namespace: test.namespace, ServiceAccount: test.account, Images: []decide.ImageUse{{Text: "nginx"}}}
			d := decide.Decide(req, policy.Set{rules}, evidence.Facts{}, noon)
			if d.Rule != test.rule || d.Source != test.source || d.Allowed || d.Dialect != policy.PlatformPolicy {
				t.Errorf("rule %q of %q (%s)", d.Rule, d.Source, d.Dialect)
			}
		})
	}
	d := decide.Decide(decide.Request{Namespace: "shop", Images: []decide.ImageUse{{Text: "nginx"}}}, policy.Set{rules}, evidence.Facts{}, noon)
	want := `Image nginx denied by platform policy projects/p/platforms/gke/policies/prod, check set 1. ` +
		`TrustedDirectoryCheck at index 0 with display name "a \"b\"" has verdict NOT_CONFORMANT. Image is not in a trusted directory`
	if got := decide.Message(d); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNothingToCheckAllows(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, rule string }{
		"no check sets":    {"gkePolicy: {}\n", "policy without check sets"},
		"empty check sets": {"gkePolicy: {checkSets: []}\n", "policy without check sets"},
		"no checks":        {"gkePolicy: {checkSets: [{displayName: x}]}\n", `check set 0 "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := decided(t, compile(t, test.text, platform.Options{}), "nginx", evidence.Image{}); !d.Allowed || d.Verdict != decide.ALLOW || d.Rule != test.rule {
				t.Errorf("%v by %q", d.Verdict, d.Rule)
			}
		})
	}
}

func TestDryRunAndOutage(t *testing.T) {
	t.Parallel()
	o := options()
	o.DryRun = true
	if d := decided(t, compile(t, policyOf(t, object{"alwaysDeny": true}), o), app, known()); !d.Allowed || d.Verdict != decide.DENY || d.Override != decide.DryRun {
		t.Errorf("%v, %s", d.Verdict, d.Override)
	}
	o = options()
	o.OnUnavailable = policy.OnUnavailable{Warn: true}
	if d := decided(t, compile(t, policyOf(t, sigstore(keys().cosign)), o), app, evidence.Image{}); !d.Allowed || d.Override != decide.FailOpen {
		t.Errorf("%v, %s", d.Verdict, d.Override)
	}
}

// TestWhatIsNotGivenDenies compiles policies without what they need.
func TestWhatIsNotGivenDenies(t *testing.T) {
	t.Parallel()
	none := func(o *platform.Options) { o.Project = "" }
	for name, test := range map[string]struct {
		check object
		edit  func(*platform.Options)
		want  string
		err   bool
	}{
		"no project, scans":          {vulnerability(nil), none, "policy.yaml:1: warning: the check names no project", false},
		"no project, attestations":   {simpleSigning(nil, authenticator("CI", pkixKey(keys().ci))), none, "names no project", false},
		"no project, cosign":         {sigstore(keys().cosign), none, "names no project", false},
		"no project, provenance":     {slsa(ruleOf(nil)), none, "names no project", false},
		"no project, uploads":        {object{"imageFreshnessCheck": object{"maxUploadAgeDays": 30}}, none, "names no project", false},
		"no recorders":               {object{"imageFreshnessCheck": object{"maxUploadAgeDays": 30}}, func(o *platform.Options) { o.Recorders = nil }, "nobody's records of uploads are trusted here", false},
		"no builder":                 {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders = nil }, "no keys of builder GOOGLE_CLOUD_BUILD are known here", false},
		"one builder twice":          {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders = append(o.Builders, o.Builders[0]) }, `builder "GOOGLE_CLOUD_BUILD" is there twice`, true},
		"a builder without keys":     {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders[0].Keys = nil }, "", false},
		"a builder without ids":      {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders[0].IDs = nil }, "", false},
		"a builder of another name":  {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders[0].Name = "JENKINS" }, "no keys of builder", false},
		"a builder with the zero id": {slsa(ruleOf(nil)), func(o *platform.Options) { o.Builders[0].IDs = []string{""} }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options()
			test.edit(&o)
			rules, diags := parse(t, policyOf(t, test.check)).Compile(o)
			if !strings.Contains(diags.String(), test.want) || (test.want == "") != (len(diags) == 0) || diags.HasErrors() != test.err {
				t.Errorf("got\n%swant %s", diags, test.want)
			}
			if d := decided(t, rules, app, known()); d.Allowed {
				t.Errorf("allowed: %+v", d.Images[0].Reasons)
			}
		})
	}
	var missing *platform.Policy
	rules, diags := missing.Compile(options())
	if rules == nil || !diags.HasErrors() || len(missing.Keys(options())) != 0 {
		t.Fatalf("got %v, %s", rules, diags)
	}
	if d := decided(t, rules, app, known()); d.Allowed {
		t.Error("a nil policy allows")
	}
}

func TestKeysByProject(t *testing.T) {
	t.Parallel()
	named := pkixKey(keys().ci)
	named["keyId"] = "//kms/1"
	p := parse(t, policyOf(t,
		simpleSigning(nil, authenticator("a", pkixKey(keys().ci)), authenticator("b", pkixKey(keys().other))),
		simpleSigning([]string{"projects/q", "projects/r"}, authenticator("a", pkixKey(keys().ci), named)),
		simpleSigning(nil, authenticator("again", pkixKey(keys().ci))),
		sigstore(keys().cosign),
		slsa(ruleOf(object{"attestationSource": object{"containerAnalysisAttestationProjects": []string{"projects/builds"}}})),
		vulnerability(nil),
	))
	got := map[string][]string{}
	for project, list := range p.Keys(options()) {
		for _, k := range list {
			got[project] = append(got[project], k.ID())
		}
	}
	ci, other := keys().ci.ID(), keys().other.ID()
	want := map[string][]string{
		"projects/p": {ci, other, keys().cosign.ID()}, "projects/q": {ci, "//kms/1"}, "projects/r": {ci, "//kms/1"}, "projects/builds": {keys().builder.ID()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if keys := p.Keys(platform.Options{}); keys["projects/"] != nil || len(keys) != 2 {
		t.Errorf("without a project: %v", keys)
	}
}

func TestVersionFollowsWhatIsEnforced(t *testing.T) {
	t.Parallel()
	text := policyOf(t, slsa(ruleOf(nil)), object{"imageFreshnessCheck": object{"maxUploadAgeDays": 3}}, simpleSigning([]string{"projects/q"}, authenticator("a", pkixKey(keys().ci))))
	version := func(text string, edit func(*platform.Options)) string {
		o := options()
		o.Recorders = append(o.Recorders, policy.Signer{Name: "b", Keys: []policy.Key{{Fingerprint: [32]byte{8}}}})
		if edit != nil {
			edit(&o)
		}
		return compile(t, text, o).Version
	}
	base := version(text, nil)
	if len(base) != 64 {
		t.Errorf("version %q", base)
	}
	signing := policyOf(t, simpleSigning([]string{"projects/q"}, authenticator("a", pkixKey(keys().ci))))
	for name, same := range map[string]bool{
		"order of recorders":       base == version(text, func(o *platform.Options) { o.Recorders[0], o.Recorders[1] = o.Recorders[1], o.Recorders[0] }),
		"builder that nobody uses": version(signing, nil) == version(signing, func(o *platform.Options) { o.Builders = nil }),
		"recorder nobody uses":     version(signing, nil) == version(signing, func(o *platform.Options) { o.Recorders = nil }),
		"project nobody uses":      version(signing, nil) == version(signing, func(o *platform.Options) { o.Project = "x" }),
	} {
		if !same {
			t.Errorf("%s changes the version", name)
		}
	}
	for name, edit := range map[string]func(*platform.Options){
		"project":      func(o *platform.Options) { o.Project = "x" },
		"recorders":    func(o *platform.Options) { o.Recorders = o.Recorders[1:] },
		"builder keys": func(o *platform.Options) { o.Builders[0].Keys = nil },
		"builder ids":  func(o *platform.Options) { o.Builders[0].IDs = []string{"https://other.example"} },
		"dry run":      func(o *platform.Options) { o.DryRun = true },
		"outage":       func(o *platform.Options) { o.OnUnavailable.Warn = true },
		"outage, time": func(o *platform.Options) { o.OnUnavailable.LastAllowedWithin = time.Hour },
	} {
		if version(text, edit) == base {
			t.Errorf("%s does not change the version", name)
		}
	}
	if version(text+"\n", nil) == base {
		t.Error("the text does not change the version")
	}
}

func TestRuleIDsStayShort(t *testing.T) {
	t.Parallel()
	p := parse(t, jsonOf(t, object{"gkePolicy": object{"checkSets": []object{{"displayName": strings.Repeat("ä\n", 500), "checks": []object{{"alwaysDeny": true}}}}}}))
	if id := p.RuleID(0); len(id) > 350 || strings.Contains(id, "\n") || !strings.HasPrefix(id, `check set 0 "ä\nä`) {
		t.Errorf("rule %q", id)
	}
}

// BenchmarkParseAndCompile has a policy of a thousand checks, of every kind.
func BenchmarkParseAndCompile(b *testing.B) {
	var sets []object
	for i := range 100 {
		s := object{"displayName": fmt.Sprint("set ", i), "checks": []object{
			simpleSigning([]string{"projects/q"}, authenticator("a", pkixKey(keys().ci))), sigstore(keys().cosign), vulnerability(nil), directories("gcr.io/p/r"),
			{"imageFreshnessCheck": object{"maxUploadAgeDays": 30}}, slsa(ruleOf(object{"customConstraints": fmt.Sprintf("predicate.x == %d", i)})),
			simpleSigning(nil, authenticator("b", pkixKey(keys().other))), vulnerability(object{"blockedCves": []string{"CVE-2021-20305"}}), directories("gcr.io/p/**"), slsa(ruleOf(nil)),
		}}
		if i < 99 {
			s["scope"] = object{"kubernetesNamespace": fmt.Sprint("ns-", i)}
		}
		sets = append(sets, s)
	}
	text := []byte(jsonOf(b, object{"gkePolicy": object{"checkSets": sets}}))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		p, diags := platform.ParsePolicy("p", text)
		if p == nil {
			b.Fatal(diags)
		}
		if rules, _ := p.Compile(options()); len(rules.Rules) != 100 {
			b.Fatal("not compiled")
		}
	}
}
