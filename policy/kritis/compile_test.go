package kritis_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const twoAuthorities = "attestationAuthorityNames: [built, tested]"

func TestAGenericAttestationPolicyNeedsAllItsAuthorities(t *testing.T) {
	t.Parallel()
	text := gap("g", twoAuthorities) + authority("built") + authority("tested")
	all, _ := compile(t, text, kritis.Options{})
	either, _ := compile(t, text, kritis.Options{Authorities: kritis.AnyAuthority})
	for _, test := range []struct {
		by          []string
		all, either bool
	}{
		{nil, false, false},
		{[]string{"built"}, false, true},
		{[]string{"tested"}, false, true},
		{[]string{"other"}, false, false},
		{[]string{"built", "tested"}, true, true},
	} {
		allows(t, all, attestedBy(test.by...), test.all)
		allows(t, either, attestedBy(test.by...), test.either)
	}
}

func TestAuthoritiesOfTheLastReleaseAreWarnedOf(t *testing.T) {
	t.Parallel()
	text := gap("g", twoAuthorities) + authority("built") +
		object("AttestationAuthority", "shop", "tested", "noteReference: projects/p\npublicKeyData: "+armored(keys().pgp))
	rules, diags := compile(t, text, kritis.Options{})
	if len(diags) != 1 || !strings.Contains(diags.String(), "shop.yaml:1: warning: GenericAttestationPolicy shop/g: its authorities are of v0.2.x, where one of them was enough") {
		t.Error(diags)
	}
	allows(t, rules, attestedBy("built", "tested"), true)
	if _, diags := compile(t, text, kritis.Options{Authorities: kritis.AnyAuthority}); len(diags) > 0 {
		t.Error(diags)
	}
}

func TestOnePolicyOfSeveralIsEnough(t *testing.T) {
	t.Parallel()
	text := gap("g", "attestationAuthorityNames: [built]") + gap("h", "attestationAuthorityNames: [tested]") + authority("built") + authority("tested")
	one, _ := compile(t, text, kritis.Options{})
	every, _ := compile(t, text, kritis.Options{Policies: kritis.AllPolicies})
	allows(t, one, attestedBy("tested"), true)
	allows(t, one, attestedBy(), false)
	allows(t, every, attestedBy("tested"), false)
	allows(t, every, attestedBy("built", "tested"), true)
	if n := len(one.Rules[0].Checks); n != 1 || one.Rules[0].Checks[0].Name != "shop/g or shop/h" {
		t.Errorf("%d checks", n)
	}
	if c := every.Rules[0].Checks; len(c) != 2 || c[1].Name != "shop/h" || c[1].Line == c[0].Line {
		t.Errorf("%+v", c)
	}
}

func TestPatternsOfOnePolicyCoverForAll(t *testing.T) {
	t.Parallel()
	text := gap("g", "attestationAuthorityNames: [built]\nadmissionAllowlistPatterns: [{namePattern: registry.example.com/shop/*}]") +
		gap("h", "attestationAuthorityNames: [tested]") + authority("built") + authority("tested")
	for _, test := range []struct {
		options kritis.Options
		by      []string
		want    bool
	}{
		{kritis.Options{}, nil, true},
		{kritis.Options{PoolPatterns: true}, nil, true},
		{kritis.Options{Policies: kritis.AllPolicies}, nil, false},
		{kritis.Options{Policies: kritis.AllPolicies}, []string{"tested"}, true},
		{kritis.Options{Policies: kritis.AllPolicies, PoolPatterns: true}, nil, true},
	} {
		rules, _ := compile(t, text, test.options)
		allows(t, rules, attestedBy(test.by...), test.want)
	}
	pooled, _ := compile(t, strings.ReplaceAll(text, "/shop/*", "/x/*"), kritis.Options{Policies: kritis.AllPolicies, PoolPatterns: true})
	allows(t, pooled, attestedBy("tested"), false)
	allows(t, pooled, attestedBy("built", "tested"), true)
	says(t, decided(t, pooled, "shop", app, attestedBy("tested")), "is not attested by kritis/shop/built in GenericAttestationPolicy shop/g")
	if name := pooled.Rules[0].Checks[0].Name; name != "shop/g and shop/h" {
		t.Errorf("%q", name)
	}
}

// TestKritisB22EmptyPattern: an empty pattern made Kritis forget those after it; here it
// is an error, and the patterns of one namespace are no other's.
func TestKritisB22EmptyPattern(t *testing.T) {
	t.Parallel()
	if o, diags := kritis.Parse("f", []byte(gap("g", twoAuthorities+"\nadmissionAllowlistPatterns: [{namePattern: ''}, {namePattern: x}]"))); o != nil || !strings.Contains(diags.String(), "f:6: error: namePattern: ") {
		t.Error(diags)
	}
	rules, _ := compile(t, gap("g", twoAuthorities+"\nadmissionAllowlistPatterns: [{namePattern: a}, {namePattern: x}]")+
		object("GenericAttestationPolicy", "other", "g", twoAuthorities), kritis.Options{})
	d := decided(t, rules, "shop", "x", evidence.Image{})
	if !d.Allowed || d.Images[0].Reasons[0].Exemption != "x" || d.Images[0].Reasons[0].Source != "shop.yaml:6" {
		t.Errorf("%+v", d.Images[0])
	}
	if decided(t, rules, "other", "x", evidence.Image{}).Allowed {
		t.Error("a pattern covers in another namespace")
	}
}

func TestAPolicyWithoutAuthorityDeniesWhatNoPatternCovers(t *testing.T) {
	t.Parallel()
	text := gap("g", "admissionAllowlistPatterns: [{namePattern: x}]")
	rules, _ := compile(t, text, kritis.Options{})
	says(t, decided(t, rules, "shop", app, attestedBy("built")), "GenericAttestationPolicy shop/g did not specify any attestation authority")
	if !decided(t, rules, "shop", "x", evidence.Image{}).Allowed {
		t.Error("its pattern does not count")
	}
	anyMode, _ := compile(t, text, kritis.Options{Authorities: kritis.AnyAuthority})
	allows(t, anyMode, attestedBy("built"), false)
	rules, _ = compile(t, text+gap("h", "attestationAuthorityNames: [built]")+authority("built"), kritis.Options{})
	allows(t, rules, attestedBy("built"), true)
	allows(t, rules, attestedBy(), false)
}

func TestAMissingAuthorityDeniesByName(t *testing.T) {
	t.Parallel()
	here := authority("built")
	for name, test := range map[string]struct {
		text    string
		options kritis.Options
	}{
		"GAP":              {gap("g", twoAuthorities) + here, kritis.Options{}},
		"GAP, any":         {gap("g", twoAuthorities) + here, kritis.Options{Authorities: kritis.AnyAuthority}},
		"ISP":              {isp("i", "attestationAuthorityName: tested") + here, kritis.Options{AllowUnscanned: true}},
		"ISP with several": {isp("i", twoAuthorities) + here, kritis.Options{AllowUnscanned: true}},
		"other namespace":  {gap("g", "attestationAuthorityNames: [tested]") + strings.ReplaceAll(authority("tested"), "namespace: shop", "namespace: other"), kritis.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, diags := compile(t, test.text, test.options)
			if len(diags) != 1 || !containsAll(diags.String(), []string{"shop.yaml:5: warning: there is no AttestationAuthority shop/tested", "denies every image"}) {
				t.Error(diags)
			}
			says(t, decided(t, rules, "shop", app, attestedBy("built", "tested")), "kritis/shop/tested", "does not exist")
		})
	}
}

func TestAnAttestationCountsForItsRepositoryAndNote(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, gap("g", "attestationAuthorityNames: [built]")+authority("built"), kritis.Options{})
	known := attestedBy("built")
	allows(t, rules, known, true)
	known.Attestations[0].Repository = "registry.example.com/other/app"
	allows(t, rules, known, false)
	known = attestedBy("built")
	known.Attestations[0].Fingerprint = keys().otherPGP.Fingerprint()
	allows(t, rules, known, false)
	want := policy.Attestor{
		Name: "kritis/shop/built", Note: "projects/p/notes/built", MatchRepository: true,
		Keys: []policy.Key{{ID: keys().pgp.ID(), Fingerprint: keys().pgp.Fingerprint()}},
	}
	if diff := cmp.Diff(map[string]policy.Attestor{want.Name: want}, rules.Attestors); diff != "" {
		t.Error(diff)
	}
}

// TestKritisB16PKIXKeysCount: what the recommended signers write satisfies a policy.
func TestKritisB16PKIXKeysCount(t *testing.T) {
	t.Parallel()
	key := "keyType: PKIX\n  pkixPublicKey:\n    signatureAlgorithm: ecdsa-p256-sha256\n    publicKeyPem: |\n      " + strings.ReplaceAll(keys().p256.Marshal(), "\n", "\n      ")
	o, _ := parse(t, gap("g", "attestationAuthorityNames: [a]")+object("AttestationAuthority", "shop", "a", "noteReference: projects/p/notes/a\npublicKeys:\n- "+key))
	rules, _ := o.Compile(kritis.Options{})
	known := evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{attestation("projects/p/notes/a", keys().p256, "registry.example.com/shop/app")}}
	allows(t, rules, known, true)
	trust := o.Keys()
	if list := trust["projects/p/notes/a"]; len(trust) != 1 || len(list) != 1 || list[0].ID() != keys().p256.ID() {
		t.Errorf("%v", trust)
	}
}

// TestKritisB23BothSignatureEncodings: an armoured signature verifies as it is and, as
// v0.2.1 stored it, base64 over that.
func TestKritisB23BothSignatureEncodings(t *testing.T) {
	t.Parallel()
	o, _ := parse(t, authority("a"))
	key := o.Keys()["projects/p/notes/a"][0]
	ref, err := image.Parse(app)
	if err != nil {
		t.Fatal(err)
	}
	payload := signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeAtomic)
	sig, err := keys().pgpSigner.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, encoded := range [][]byte{sig, []byte(base64.StdEncoding.EncodeToString(sig))} {
		signed, err := key.Verify(nil, encoded)
		if err != nil || string(signed) != string(payload) {
			t.Errorf("%q %v", signed, err)
		}
	}
}

func TestKeysOfANoteThatAuthoritiesShare(t *testing.T) {
	t.Parallel()
	shared := strings.Replace(authority("b"), "notes/b", "notes/a", 1)
	o, _ := parse(t, authority("a")+shared+strings.Replace(strings.Replace(shared, "name: b", "name: c", 1), armored(keys().pgp), armored(keys().otherPGP), 1))
	if list := o.Keys()["projects/p/notes/a"]; len(list) != 2 || list[0].ID() != keys().pgp.ID() || list[1].ID() != keys().otherPGP.ID() {
		t.Errorf("%v", list)
	}
	if len((*kritis.Objects)(nil).Keys()) != 0 {
		t.Error("nothing has keys")
	}
}

func requirements(spec string) string {
	return isp("i", "packageVulnerabilityRequirements: {"+spec+"}")
}

func TestThresholdsOfAnImageSecurityPolicy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spec    string
		options kritis.Options
		found   evidence.Finding
		want    bool
	}{
		"default, critical with a fix":    {"", kritis.Options{}, finding(5, true), true},
		"default, critical without":       {"", kritis.Options{}, finding(5, false), true},
		"at the limit":                    {"maximumSeverity: MEDIUM", kritis.Options{}, finding(3, true), true},
		"above the limit":                 {"maximumSeverity: MEDIUM", kritis.Options{}, finding(4, true), false},
		"limit is for what has a fix":     {"maximumSeverity: MEDIUM", kritis.Options{}, finding(4, false), true},
		"without a fix, at the limit":     {"maximumFixUnavailableSeverity: HIGH", kritis.Options{}, finding(4, false), true},
		"without a fix, above":            {"maximumFixUnavailableSeverity: HIGH", kritis.Options{}, finding(5, false), false},
		"that limit is for what has none": {"maximumFixUnavailableSeverity: LOW", kritis.Options{}, finding(5, true), true},
		"BLOCK_ALL":                       {"maximumSeverity: BLOCK_ALL", kritis.Options{}, finding(1, true), false},
		"ALLOW_ALL":                       {"maximumSeverity: ALLOW_ALL", kritis.Options{}, finding(0, true), true},
		"allowed by its name":             {"maximumSeverity: BLOCK_ALL, allowlistCVEs: [projects/v/notes/CVE-1]", kritis.Options{}, finding(5, true), true},
		"allowed in another project":      {"maximumSeverity: BLOCK_ALL, allowlistCVEs: [projects/w/notes/CVE-1]", kritis.Options{}, finding(5, true), false},
		"a bare id allows nothing":        {"maximumSeverity: BLOCK_ALL, allowlistCVEs: [CVE-1]", kritis.Options{}, finding(5, true), false},
		"unspecified, denied":             {"", kritis.Options{}, finding(0, true), false},
		"unspecified, let by":             {"", kritis.Options{AllowUnspecified: true}, finding(0, true), true},
		"unspecified, blocked":            {"maximumSeverity: BLOCK_ALL", kritis.Options{AllowUnspecified: true}, finding(0, true), false},
		"limit unspecified":               {"maximumSeverity: SEVERITY_UNSPECIFIED", kritis.Options{AllowUnspecified: true}, finding(1, true), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, _ := compile(t, requirements(test.spec), test.options)
			allows(t, rules, scanned(test.found), test.want)
			signing, _ := parse(t, object("VulnzSigningPolicy", "", "v", "imageVulnerabilityRequirements: {"+
				strings.NewReplacer("maximumSeverity", "maximumFixableSeverity", "maximumFixUnavailableSeverity", "maximumUnfixableSeverity").Replace(test.spec)+"}"))
			allows(t, signing.VulnzSigningPolicies[0].Compile(test.options), scanned(test.found), test.want)
		})
	}
}

// TestKritisB5MissingDataDenies: Kritis let in what no scan had looked at, and what
// had no severity.
func TestKritisB5MissingDataDenies(t *testing.T) {
	t.Parallel()
	strict, _ := compile(t, requirements(""), kritis.Options{})
	unscanned := evidence.Image{State: evidence.Known}
	says(t, decided(t, strict, "shop", app, unscanned), "No finished vulnerability scan was found for the image in project kritis (ImageSecurityPolicy shop/i)")
	says(t, decided(t, strict, "shop", app, scanned(finding(0, true))), "found violations in "+app, "CVE-1 (SEVERITY_UNSPECIFIED)")
	running := scanned()
	running.Scans[0].Finished = false
	allows(t, strict, running, false)
	lax, _ := compile(t, requirements(""), kritis.Options{AllowUnscanned: true})
	allows(t, lax, unscanned, true)
	if d := decided(t, lax, "shop", app, evidence.Image{}); d.Allowed || d.Verdict != decide.INDETERMINATE {
		t.Errorf("what could not be read is %v", d.Verdict)
	}
}

func TestScansCountInTheGivenProjects(t *testing.T) {
	t.Parallel()
	elsewhere := scanned()
	elsewhere.Scans[0].Project = "scanner"
	rules, _ := compile(t, requirements(""), kritis.Options{})
	allows(t, rules, elsewhere, false)
	rules, _ = compile(t, requirements(""), kritis.Options{ScanProjects: []string{"other", "scanner"}})
	allows(t, rules, elsewhere, true)
	allows(t, rules, scanned(), false)
	none, _ := compile(t, requirements(""), kritis.Options{ScanProjects: []string{}})
	allows(t, none, scanned(), false)

	config := requirements("") + object("KritisConfig", "", "c", "{}")
	if _, diags := compile(t, config, kritis.Options{}); len(diags) != 1 || !containsAll(diags.String(), []string{"shop.yaml:7: warning: with metadataBackend containerAnalysis", "project kritis only"}) {
		t.Error(diags)
	}
	for _, quiet := range []string{requirements(""), requirements("") + object("KritisConfig", "", "c", "metadataBackend: grafeas\ngrafeas: {addr: x}")} {
		if _, diags := compile(t, quiet, kritis.Options{}); len(diags) > 0 {
			t.Error(diags)
		}
	}
	if _, diags := compile(t, config, kritis.Options{ScanProjects: []string{"p"}}); len(diags) > 0 {
		t.Error(diags)
	}
}

func TestWithoutAnyPolicyItIsSaidThatEverythingIsLetIn(t *testing.T) {
	t.Parallel()
	for _, text := range []string{authority("built"), object("KritisConfig", "", "c", "{}")} {
		if _, diags := compile(t, text, kritis.Options{}); len(diags) != 1 || !strings.Contains(diags.String(), ":1: warning: there is no ImageSecurityPolicy and no GenericAttestationPolicy") {
			t.Error(diags)
		}
		if _, diags := compile(t, text, kritis.Options{DefaultDeny: true}); len(diags) > 0 {
			t.Error(diags)
		}
	}
}

func TestAnAttestationSparesTheScan(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, isp("i", "attestationAuthorityName: built")+authority("built")+authority("tested"), kritis.Options{})
	allows(t, rules, attestedBy("built"), true)
	allows(t, rules, attestedBy("tested"), false)
	allows(t, rules, scanned(), true)
	either, _ := compile(t, isp("i", twoAuthorities)+authority("built")+authority("tested"), kritis.Options{})
	allows(t, either, attestedBy("tested"), true)
}

func TestAllImageSecurityPoliciesMustPass(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, isp("i", "packageVulnerabilityRequirements: {maximumSeverity: LOW}")+isp("j", "packageVulnerabilityRequirements: {maximumSeverity: HIGH}"), kritis.Options{})
	allows(t, rules, scanned(finding(2, true)), true)
	d := decided(t, rules, "shop", app, scanned(finding(3, true)))
	says(t, d, "found violations in "+app+" (ImageSecurityPolicy shop/i)")
	if got := d.Images[0].Reasons[0]; got.Check.Name != "shop/i" || got.Source != "shop.yaml:1" || got.Check.Index != 0 {
		t.Errorf("%+v", got)
	}
}

// TestKritisB7AllowlistedIsNotAttested: an image on an allow-list passes while it is
// there, by its exact text, and neither digest nor attestation is asked for. Nothing is
// written, so nothing of it outlives the list.
func TestKritisB7AllowlistedIsNotAttested(t *testing.T) {
	t.Parallel()
	list := "attestationAuthorityName: built\nimageAllowlist: [debug:v1, 'x*']"
	rules, _ := compile(t, isp("i", list)+isp("j", "imageAllowlist: [debug:v1]")+authority("built"), kritis.Options{})
	d := decided(t, rules, "shop", "debug:v1", evidence.Image{})
	if !d.Allowed || len(d.Images[0].Reasons) != 2 || d.Images[0].Reasons[0].Source != "shop.yaml:6" || d.Images[0].Reasons[0].Code != decide.CodeExempt {
		t.Errorf("%+v", d.Images[0])
	}
	for _, other := range []string{"debug:v2", "debug", "docker.io/library/debug:v1", "xy"} {
		if decided(t, rules, "shop", other, evidence.Image{}).Allowed {
			t.Errorf("%s is allowed", other)
		}
	}
	if decided(t, rules, "shop", "x*", evidence.Image{}).Allowed {
		t.Error("one list counts for both policies")
	}
	o, _ := parse(t, isp("i", list+"\nprivateKeySecretName: s")+authority("built"))
	if !o.ImageSecurityPolicies[0].PrivateKey {
		t.Error("it is not kept that Kritis would have signed")
	}
}

// TestKritisB17EveryReasonIsTold: Kritis stopped at the first violation, listed no CVE,
// and let the message of one policy replace that of the other.
func TestKritisB17EveryReasonIsTold(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, gap("g", "attestationAuthorityNames: [built]")+gap("h", "attestationAuthorityNames: [tested]")+authority("built")+authority("tested")+
		requirements("maximumSeverity: LOW, maximumFixUnavailableSeverity: BLOCK_ALL"), kritis.Options{})
	known := scanned(finding(5, true), evidence.Finding{Note: "projects/v/notes/CVE-%s", Severity: 1})
	says(t, decided(t, rules, "shop", app, known),
		"denied by Kritis policies of namespace shop.",
		app+" is not attested by kritis/shop/built in GenericAttestationPolicy shop/g",
		app+" is not attested by kritis/shop/tested in GenericAttestationPolicy shop/h",
		"found violations in "+app+" (ImageSecurityPolicy shop/i): Image has 2 vulnerabilities",
		"CVE-1 (CRITICAL): the most that is allowed with a fix is LOW",
		"CVE-%s (MINIMAL): the most that is allowed without a fix is BLOCK_ALL",
	)
}

// TestMessagesOfImagesWithoutDigest has the words that people search for.
func TestMessagesOfImagesWithoutDigest(t *testing.T) {
	t.Parallel()
	text := gap("g", "attestationAuthorityNames: [built]") + isp("i", "attestationAuthorityName: built") + authority("built")
	rules, _ := compile(t, text, kritis.Options{AllowUnscanned: true})
	for _, ref := range []string{"registry.example.com/shop/app:v1", "registry.example.com/Shop", "registry.example.com/shop/app@sha512:" + hexA} {
		says(t, decided(t, rules, "shop", ref, evidence.Image{State: evidence.Known}),
			ref+" is not attested by kritis/shop/built in GenericAttestationPolicy shop/g: it is not a fully qualified image",
			ref+" is not attested by kritis/shop/built (ImageSecurityPolicy shop/i): it is not a fully qualified image",
			ref+" is not a fully qualified image (ImageSecurityPolicy shop/i)",
		)
	}
	says(t, decided(t, rules, "shop", app, evidence.Image{State: evidence.Known}), app+" is not attested by kritis/shop/built in GenericAttestationPolicy shop/g")
	rules, _ = compile(t, isp("i", "attestationAuthorityName: built\npackageVulnerabilityRequirements: {maximumSeverity: BLOCK_ALL}")+authority("built"), kritis.Options{})
	says(t, decided(t, rules, "shop", app, scanned(finding(1, true))), app+" is not attested by kritis/shop/built (ImageSecurityPolicy shop/i)", "found violations in "+app)
}

// TestKritisB18ShortNamesCanBeAttested: "nginx@sha256:…" counted as qualified, and
// could never be attested; a digest of another kind counted as one.
func TestKritisB18ShortNamesCanBeAttested(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, gap("g", "attestationAuthorityNames: [built]")+authority("built"), kritis.Options{})
	known := evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{attestation("projects/p/notes/built", keys().pgp, "index.docker.io/library/nginx")}}
	for ref, want := range map[string]bool{
		"nginx@sha256:" + hexA:                     true,
		"docker.io/library/nginx:1@sha256:" + hexA: true,
		"nginx@sha512:" + hexA:                     false,
		"nginx@sha256:" + hexA + "0":               false,
		"nginx@sha256:" + strings.ToUpper(hexA):    false,
	} {
		if d := decided(t, rules, "shop", ref, known); d.Allowed != want {
			t.Errorf("%s: %v", ref, d.Allowed)
		}
	}
}

func TestNamespacesWithoutPolicies(t *testing.T) {
	t.Parallel()
	text := gap("g", "attestationAuthorityNames: [built]") + authority("built") + object("AttestationAuthority", "other", "a", "noteReference: projects/p/notes/n")
	rules, _ := compile(t, text, kritis.Options{})
	if d := decided(t, rules, "other", "x", evidence.Image{}); !d.Allowed || d.Rule != "no Kritis policy in the namespace" {
		t.Errorf("%+v", d)
	}
	if d := decided(t, rules, "shop", "x", evidence.Image{}); d.Allowed || d.Rule != "Kritis policies of namespace shop" || d.Source != "shop.yaml:1" || d.Dialect != policy.Kritis || d.Policy != "kritis" {
		t.Errorf("%+v", d)
	}
	strict, _ := compile(t, text, kritis.Options{DefaultDeny: true})
	says(t, decided(t, strict, "other", "x", evidence.Image{}), "denied by default rule for namespaces without Kritis policies")
	allows(t, strict, attestedBy("built"), true)
}

func TestImagesOfKritisItself(t *testing.T) {
	t.Parallel()
	text := gap("g", "attestationAuthorityNames: [built]") + authority("built")
	with, _ := compile(t, text, kritis.Options{KritisImages: true})
	without, _ := compile(t, text, kritis.Options{})
	for _, name := range []string{"gcr.io/kritis-project/kritis-server", "gcr.io/kritis-project/preinstall", "gcr.io/kritis-project/postinstall", "gcr.io/kritis-project/predelete", "us.gcr.io/grafeas/grafeas-server"} {
		for _, suffix := range []string{"", ":v1", "@sha256:" + hexA} {
			if d := decided(t, with, "shop", name+suffix, evidence.Image{}); !d.Allowed {
				t.Error(decide.Message(d))
			}
			if decided(t, without, "shop", name+suffix, evidence.Image{}).Allowed {
				t.Errorf("%s is allowed", name)
			}
		}
		if decided(t, with, "shop", name+"-other", evidence.Image{}).Allowed {
			t.Errorf("a neighbour of %s is allowed", name)
		}
	}
	if with.Version == without.Version {
		t.Error("the version does not tell")
	}
}

func TestARuleBeginsWithItsFirstPolicy(t *testing.T) {
	t.Parallel()
	rules, _ := compile(t, isp("i", "{}")+gap("g", "attestationAuthorityNames: [built]")+authority("built"), kritis.Options{})
	if r := rules.Rules[0]; r.Line != 1 || r.File != "shop.yaml" || r.Checks[0].Line != 7 || r.Checks[1].Line != 1 {
		t.Errorf("%+v", r)
	}
}

// TestReasonsNameTheFileOfEachPolicy has policies of one namespace in two files.
func TestReasonsNameTheFileOfEachPolicy(t *testing.T) {
	t.Parallel()
	pattern := "attestationAuthorityNames: [built]\nadmissionAllowlistPatterns: [{namePattern: %s}]"
	one, _ := kritis.Parse("one.yaml", []byte(authority("built")+gap("g", fmt.Sprintf(pattern, "a"))))
	two, _ := kritis.Parse("two.yaml", []byte(gap("h", fmt.Sprintf(pattern, "b"))+isp("i", "imageAllowlist: [a, b]")))
	all, diags := kritis.Merge(one, two)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	rules, _ := all.Compile(kritis.Options{})
	if rules.Source != "one.yaml and 1 more" {
		t.Errorf("source %q", rules.Source)
	}
	for ref, want := range map[string][]string{"a": {"one.yaml:13", "two.yaml:12"}, "b": {"two.yaml:6", "two.yaml:12"}} {
		d := decided(t, rules, "shop", ref, evidence.Image{})
		var got []string
		for _, r := range d.Images[0].Reasons {
			got = append(got, r.Source)
		}
		if diff := cmp.Diff(want, got); diff != "" || !d.Allowed {
			t.Errorf("%s %v: %s", ref, d.Allowed, diff)
		}
	}
	d := decided(t, rules, "shop", app, scanned(finding(5, true)))
	if got := d.Images[0].Reasons[0]; got.Source != "one.yaml:8" || got.Alternative != "GenericAttestationPolicy shop/g" || d.Source != "one.yaml:8" {
		t.Errorf("%+v", got)
	}
	b, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(b), `"type":"GenericAttestationPolicy"`) {
		t.Errorf("%s %v", b, err)
	}
}

func TestTheSamePoliciesHaveTheSameVersion(t *testing.T) {
	t.Parallel()
	a := object("GenericAttestationPolicy", "a", "g", "attestationAuthorityNames: [x]")
	b := object("GenericAttestationPolicy", "b", "g", "attestationAuthorityNames: [x]")
	x := strings.Replace(authority("x"), "namespace: shop", "namespace: a", 1)
	version := func(text string, o kritis.Options) string {
		rules, _ := compile(t, text, o)
		return rules.Version
	}
	one := version(a+b+x, kritis.Options{})
	if version("# a comment\n---\n"+b+x+a+object("KritisConfig", "", "c", "{}"), kritis.Options{}) != one {
		t.Error("what does not decide counts")
	}
	for name, other := range map[string]string{
		"a key":      version(a+b+strings.Replace(x, armored(keys().pgp), armored(keys().otherPGP), 1), kritis.Options{}),
		"a rule":     version(a+x, kritis.Options{}),
		"the place":  version(a+strings.Replace(b, "namespace: b", "namespace: c", 1)+x, kritis.Options{}),
		"an option":  version(a+b+x, kritis.Options{DefaultDeny: true}),
		"a pattern":  version(strings.Replace(a, "Names: [x]", "Names: [x]\n  admissionAllowlistPatterns: [{namePattern: y}]", 1)+b+x, kritis.Options{}),
		"the policy": version(strings.Replace(a, "[x]", "[y]", 1)+b+x, kritis.Options{}),
	} {
		if other == one {
			t.Errorf("%s does not count", name)
		}
	}
}

func TestNothingToCompileDenies(t *testing.T) {
	t.Parallel()
	rules, diags := (*kritis.Objects)(nil).Compile(kritis.Options{})
	if rules == nil || !diags.HasErrors() || decided(t, rules, "shop", app, scanned()).Allowed {
		t.Errorf("%v %s", rules, diags)
	}
	if decided(t, (*kritis.VulnzSigningPolicy)(nil).Compile(kritis.Options{}), "shop", app, scanned()).Allowed {
		t.Error("no signing policy allows")
	}
}

func TestAVulnzSigningPolicyDecides(t *testing.T) {
	t.Parallel()
	o, _ := parse(t, object("VulnzSigningPolicy", "", "release", "imageVulnerabilityRequirements: {maximumFixableSeverity: LOW}"))
	rules := o.VulnzSigningPolicies[0].Compile(kritis.Options{})
	d := decided(t, rules, "", app, scanned(finding(3, true)))
	says(t, d, "found violations in "+app+" (VulnzSigningPolicy release)")
	if d.Source != "shop.yaml:1" || rules.Version == "" {
		t.Errorf("%+v", d.Deciding)
	}
	says(t, decided(t, rules, "", "app:v1", scanned()), "app:v1 is not a fully qualified image (VulnzSigningPolicy release)")
}
