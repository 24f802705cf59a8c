package kritis_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

func pkixAuthority(namespace, name string) string {
	return object("AttestationAuthority", namespace, name, "noteReference: projects/p/notes/"+name+"\npublicKeys:\n- keyType: PKIX\n  pkixPublicKey:\n    signatureAlgorithm: ecdsa-p256-sha256\n    publicKeyPem: |\n      "+
		strings.ReplaceAll(strings.TrimSpace(keys().p256.Marshal()), "\n", "\n      "))
}

func imported(t testing.TB, text string, options kritis.ImportOptions) *kritis.Imported {
	t.Helper()
	o, _ := parse(t, text)
	return importOf(t, o, options)
}

func importOf(t testing.TB, o *kritis.Objects, options kritis.ImportOptions) *kritis.Imported {
	t.Helper()
	i, diags := o.Import(options)
	if i == nil || len(diags) > 0 {
		t.Fatalf("%s\n%+v", diags, o)
	}
	return i
}

// enforced is what the imported texts demand, which their readers must accept.
func enforced(t testing.TB, i *kritis.Imported) policy.Set {
	t.Helper()
	p, diags := binauthz.ParsePolicy("policy.yaml", i.Policy)
	if diags.HasErrors() {
		t.Fatalf("%s\n%s", diags, i.Policy)
	}
	attestors, diags := binauthz.ParseAttestors("attestors.yaml", i.Attestors)
	if diags.HasErrors() {
		t.Fatalf("%s\n%s", diags, i.Attestors)
	}
	rules, diags := p.Compile(attestors)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	set := policy.Set{rules}
	if i.Platform != nil {
		p, diags := platform.ParsePolicy("platform-policy.yaml", i.Platform)
		if diags.HasErrors() {
			t.Fatalf("%s\n%s", diags, i.Platform)
		}
		rules, diags := p.Compile(platform.Options{Project: "default"})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		set = append(set, rules)
	}
	for _, text := range [][]byte{i.Policy, i.Attestors, i.Platform} {
		if again, err := document.Format(text); text != nil && (err != nil || string(again) != string(text)) {
			t.Errorf("not in the one form: %v\n%s", err, text)
		}
	}
	return set
}

// tells checks that a report has a line that begins and contains so.
func tells(t *testing.T, i *kritis.Imported, begin string, words ...string) {
	t.Helper()
	var all []string
	for _, c := range i.Report {
		if strings.HasPrefix(c.String(), begin) && containsAll(c.String(), words) {
			return
		}
		all = append(all, c.String())
	}
	t.Errorf("no line %q %q in\n%s", begin, words, strings.Join(all, "\n"))
}

func TestImportOfOnePolicyToANamespace(t *testing.T) {
	t.Parallel()
	i := imported(t, gap("g", "attestationAuthorityNames: [tested, built]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/side/*}]")+authority("built")+authority("tested")+authority("other"), kritis.ImportOptions{Project: "my"})
	want := `admissionWhitelistPatterns:
- namePattern: gcr.io/side/*
defaultAdmissionRule:
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  evaluationMode: ALWAYS_ALLOW
description: Imported from the policies of Kritis
globalPolicyEvaluationMode: DISABLE
kubernetesNamespaceAdmissionRules:
  shop:
    enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
    evaluationMode: REQUIRE_ATTESTATION
    requireAttestationsBy:
    - projects/my/attestors/shop.built
    - projects/my/attestors/shop.tested
name: projects/my/policy
`
	if diff := cmp.Diff(want, string(i.Policy)); diff != "" {
		t.Error(diff)
	}
	if i.Platform != nil || !i.Changed() {
		t.Errorf("%s %v", i.Platform, i.Report)
	}
	tells(t, i, "shop.yaml:1: kept: GenericAttestationPolicy shop/g is in the rule for namespace shop")
	tells(t, i, "shop.yaml:1: kept: a namespace without policies admits everything")
	tells(t, i, "shop.yaml:1: kept: all 2 authorities", "in Kritis v0.2.x one was enough")
	tells(t, i, `shop.yaml:6: kept: pattern "gcr.io/side/*"`)
	tells(t, i, "shop.yaml:8: changed: allows more: AttestationAuthority shop/built is attestor projects/my/attestors/shop.built", "in every repository")
	tells(t, i, "shop.yaml:22: dropped: AttestationAuthority shop/other is no attestor")
	set := enforced(t, i)
	if len(set) != 1 || len(set[0].Attestors) != 2 {
		t.Errorf("%+v", set)
	}
	if a := set[0].Attestors["projects/my/attestors/shop.built"]; a.Note != "projects/p/notes/built" || len(a.Keys) != 1 || a.Keys[0].Fingerprint != keys().pgp.Fingerprint() {
		t.Errorf("%+v", a)
	}
}

func TestImportWithoutAChangeSaysSo(t *testing.T) {
	t.Parallel()
	i := importOf(t, &kritis.Objects{}, kritis.ImportOptions{})
	if i.Changed() || len(i.Report) != 1 || i.Report[0].String() != "kritis:1: kept: a namespace without policies admits everything, as in Kritis" {
		t.Errorf("%v", i.Report)
	}
	if string(i.Attestors) != "[]\n" || !strings.Contains(string(i.Policy), "name: projects/default/policy") {
		t.Errorf("%s %s", i.Attestors, i.Policy)
	}
	if set := enforced(t, i); !decided2(set, "shop", app, evidence.Image{}).Allowed {
		t.Error("denied")
	}
	none := importOf(t, &kritis.Objects{}, kritis.ImportOptions{Options: kritis.Options{DefaultDeny: true}})
	tells(t, none, "kritis:1: changed: denies more: a namespace without policies admits nothing")
	if set := enforced(t, none); decided2(set, "shop", app, evidence.Image{}).Allowed {
		t.Error("allowed")
	}
}

func TestImportSaysWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	two := gap("g", "attestationAuthorityNames: [built]") + gap("h", "attestationAuthorityNames: [tested]")
	other := object("GenericAttestationPolicy", "other", "o", "attestationAuthorityNames: [x]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/p/*}]") +
		strings.Replace(authority("x"), "namespace: shop", "namespace: other", 1)
	for name, test := range map[string]struct {
		text    string
		options kritis.Options
		begin   string
		words   []string
	}{
		"alternatives of PGP keys": {two + authority("built") + authority("tested"), kritis.Options{}, "shop.yaml:1: changed: denies more: one of built, tested was enough", nil},
		"alternatives of PKIX keys": {
			two + pkixAuthority("shop", "built") + pkixAuthority("shop", "tested"), kritis.Options{},
			"shop.yaml:1: changed: allows more and denies more: that one of built, tested must attest is a check of the platform policy", []string{"under any note", "project kritis"},
		},
		"PKIX keys count": {gap("g", "attestationAuthorityNames: [built]") + pkixAuthority("shop", "built"), kritis.Options{}, "shop.yaml:7: changed: allows more: the PKIX keys", nil},
		"any authority": {
			gap("g", twoAuthorities) + authority("built") + authority("tested"), kritis.Options{Authorities: kritis.AnyAuthority},
			"shop.yaml:1: changed: denies more: one of built, tested was enough", nil,
		},
		"patterns of each policy": {
			gap("g", "attestationAuthorityNames: [built]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/p/*}]") + gap("h", "attestationAuthorityNames: [built]") + authority("built"),
			kritis.Options{Policies: kritis.AllPolicies},
			`shop.yaml:6: changed: allows more: pattern "gcr.io/p/*" covers in every namespace, also for GenericAttestationPolicy shop/h`, nil,
		},
		"patterns of another namespace": {
			gap("g", "attestationAuthorityNames: [built]") + authority("built") + other, kritis.Options{},
			`shop.yaml:19: changed: allows more: pattern "gcr.io/p/*" covers in every namespace, also for GenericAttestationPolicy shop/g`, nil,
		},
		"patterns and default": {other, kritis.Options{DefaultDeny: true}, "shop.yaml:6: changed: allows more: pattern", []string{"namespaces without policies"}},
		"two stars": {
			gap("g", "attestationAuthorityNames: [built]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/p/**}]") + authority("built"), kritis.Options{},
			`shop.yaml:6: dropped: pattern "gcr.io/p/**" covers no image`, []string{"for Binary Authorization it would cover some"},
		},
		"only a star": {
			gap("g", "attestationAuthorityNames: [built]\nadmissionAllowlistPatterns: [{namePattern: '*'}]") + authority("built"), kritis.Options{},
			`shop.yaml:6: dropped: denies more: pattern "*" is none for Binary Authorization`, nil,
		},
		"no authority":      {gap("g", "{}"), kritis.Options{}, "shop.yaml:1: changed: allows more: GenericAttestationPolicy shop/g names no authority", nil},
		"missing authority": {gap("g", "attestationAuthorityNames: [x]"), kritis.Options{}, "shop.yaml:5: changed: allows more: AttestationAuthority shop/x does not exist", nil},
		"missing authority of an ISP": {
			isp("i", "attestationAuthorityName: x"), kritis.Options{}, "shop.yaml:5: kept: AttestationAuthority shop/x does not exist, so that ImageSecurityPolicy shop/i denies", nil,
		},
		"authority of an ISP": {isp("i", "attestationAuthorityName: built\nprivateKeySecretName: s") + authority("built"), kritis.Options{}, "shop.yaml:5: dropped: denies more: an attestation by built no longer spares", nil},
		"signing":             {isp("i", "attestationAuthorityName: built\nprivateKeySecretName: s") + authority("built"), kritis.Options{}, "shop.yaml:1: dropped: denies more: ImageSecurityPolicy shop/i no longer attests", nil},
		"unscanned":           {isp("i", "{}"), kritis.Options{ScanProjects: []string{"a", "b"}}, "shop.yaml:1: changed: denies more: ImageSecurityPolicy shop/i denies an image that no scan in a, b", nil},
		"unspecified":         {requirements("maximumSeverity: SEVERITY_UNSPECIFIED"), kritis.Options{}, "shop.yaml:5: changed: denies more: SEVERITY_UNSPECIFIED is BLOCK_ALL", nil},
		"CVE":                 {requirements("allowlistCVEs: [projects/v/notes/C]"), kritis.Options{}, "shop.yaml:5: changed: allows more: C is let by as a note of any project, not only of v", nil},
		"bare CVE":            {requirements("allowlistCVEs: [C]"), kritis.Options{}, `shop.yaml:5: dropped: "C" allowed nothing`, nil},
		"odd CVE":             {requirements("allowlistCVEs: [v/C]"), kritis.Options{}, `shop.yaml:5: dropped: denies more: "v/C" is not the name of a note`, nil},
		"CVE of no project":   {requirements(`allowlistCVEs: ["projects/\x1b/notes/C"]`), kritis.Options{}, `shop.yaml:5: dropped: denies more: "projects/\x1b/notes/C" is not the name of a note`, nil},
		"tag":                 {isp("i", "imageAllowlist: [gcr.io/p/a:1]"), kritis.Options{}, `shop.yaml:5: changed: allows more: "gcr.io/p/a:1" also covers that tag with any digest`, nil},
		"digest":              {isp("i", "imageAllowlist: ['"+app+"']"), kritis.Options{}, `shop.yaml:5: changed: allows more: "` + app + `" also covers that digest with any tag`, nil},
		"tag and digest":      {isp("i", "imageAllowlist: ['a:1@sha256:"+hexA+"']"), kritis.Options{}, `shop.yaml:5: kept: "a:1@`, nil},
		"name":                {isp("i", "imageAllowlist: [nginx]"), kritis.Options{}, `shop.yaml:5: dropped: denies more: "nginx" without tag and digest`, nil},
		"no reference":        {isp("i", "imageAllowlist: ['a b']"), kritis.Options{}, `shop.yaml:5: dropped: denies more: "a b" is no image reference`, nil},
		"build policy":        {object("BuildPolicy", "shop", "b", "attestationAuthorityName: x"), kritis.Options{}, "shop.yaml:1: dropped: BuildPolicy shop/b says what a signer signs", nil},
		"signing policy":      {object("VulnzSigningPolicy", "", "b", "{}"), kritis.Options{}, "shop.yaml:1: dropped: VulnzSigningPolicy b says what a signer signs", nil},
		"configuration":       {object("KritisConfig", "", "b", "{}"), kritis.Options{}, "shop.yaml:1: dropped: KritisConfig b configures Kritis' server", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := imported(t, test.text, kritis.ImportOptions{Options: test.options})
			tells(t, i, test.begin, test.words...)
			enforced(t, i)
			if !i.Changed() && name != "missing authority of an ISP" {
				t.Error("no change")
			}
		})
	}
}

func TestImportOfAlternatives(t *testing.T) {
	t.Parallel()
	rules := func(text string, o kritis.Options) string {
		set := enforced(t, imported(t, text, kritis.ImportOptions{Options: o}))
		rule, _ := set[0].Select(policy.Scope{Namespace: "shop"})
		var names []string
		for _, c := range rule.Checks {
			names = append(names, strings.TrimPrefix(c.Condition.(policy.Attested).Attestor, "projects/default/attestors/shop."))
		}
		text = rule.Evaluation.String() + " " + strings.Join(names, " ")
		if len(set) > 1 {
			rule, _ := set[1].Select(policy.Scope{Namespace: "shop"})
			for _, c := range rule.Checks {
				text += " [" + c.Name + "]"
			}
		}
		return text
	}
	names := func(policies ...string) string {
		text := pkixAuthority("shop", "a") + pkixAuthority("shop", "b") + pkixAuthority("shop", "c") + authority("p")
		for i, p := range policies {
			text += gap(fmt.Sprint("g", i), "attestationAuthorityNames: ["+p+"]")
		}
		return text
	}
	for _, test := range []struct {
		policies []string
		options  kritis.Options
		want     string
	}{
		{[]string{"a, b"}, kritis.Options{}, "REQUIRE_ATTESTATION a b"},
		{[]string{"a", "b"}, kritis.Options{}, "ALWAYS_ALLOW  [one of a, b]"},
		{[]string{"a, b", "a, c"}, kritis.Options{}, "REQUIRE_ATTESTATION a [one of b, c]"},
		{[]string{"a", "a, b"}, kritis.Options{}, "REQUIRE_ATTESTATION a"},
		{[]string{"a", "a"}, kritis.Options{}, "REQUIRE_ATTESTATION a"},
		{[]string{"a", "p"}, kritis.Options{}, "REQUIRE_ATTESTATION a p"},
		{[]string{"a", "p"}, kritis.Options{Policies: kritis.AllPolicies}, "REQUIRE_ATTESTATION a p"},
		{[]string{"a, b", "c"}, kritis.Options{Authorities: kritis.AnyAuthority}, "ALWAYS_ALLOW  [one of a, b, c]"},
		{[]string{"a, b", "c"}, kritis.Options{Authorities: kritis.AnyAuthority, Policies: kritis.AllPolicies}, "REQUIRE_ATTESTATION a b c"},
		{[]string{"a, b", "c"}, kritis.Options{Authorities: kritis.AnyAuthority, Policies: kritis.AllPolicies, PoolPatterns: true}, "REQUIRE_ATTESTATION c [one of a, b]"},
		{[]string{"a", ""}, kritis.Options{}, "REQUIRE_ATTESTATION a"},
		{[]string{"a", "missing"}, kritis.Options{}, "REQUIRE_ATTESTATION a"},
		{[]string{"a", "missing"}, kritis.Options{Policies: kritis.AllPolicies}, "ALWAYS_DENY "},
		{[]string{""}, kritis.Options{}, "ALWAYS_DENY "},
	} {
		if got := rules(names(test.policies...), test.options); got != test.want {
			t.Errorf("%v %+v: %q, want %q", test.policies, test.options, got, test.want)
		}
	}
	// 3 × 3 × 3 × 3 clauses are beyond what is multiplied out.
	var many []string
	text := ""
	for i := range 4 {
		var three []string
		for j := range 3 {
			name := fmt.Sprintf("n%d%d", i, j)
			three = append(three, name)
			text += authority(name)
		}
		many = append(many, strings.Join(three, ", "))
		text += gap(fmt.Sprint("g", i), "attestationAuthorityNames: ["+many[i]+"]")
	}
	i := imported(t, text, kritis.ImportOptions{})
	tells(t, i, "", "changed: denies more: the 4 policies of namespace shop cannot be multiplied out")
	if rule, _ := enforced(t, i)[0].Select(policy.Scope{Namespace: "shop"}); len(rule.Checks) != 12 {
		t.Errorf("%d attestors", len(rule.Checks))
	}
}

// TestImportOfAlternativesInManyProjects: a check may look into ten.
func TestImportOfAlternativesInManyProjects(t *testing.T) {
	t.Parallel()
	for projects, tightened := range map[int]bool{9: false, 10: true} { // and kritis
		text, names := "", []string{}
		for i := range projects {
			name := fmt.Sprint("a", i)
			names = append(names, name)
			text += strings.Replace(pkixAuthority("shop", name), "projects/p/", "projects/p"+name+"/", 1)
		}
		i := imported(t, gap("g", "attestationAuthorityNames: ["+strings.Join(names, ", ")+"]")+text, kritis.ImportOptions{Options: kritis.Options{Authorities: kritis.AnyAuthority}})
		if (i.Platform == nil) != tightened {
			t.Errorf("%d projects: %s", projects, i.Platform)
		}
	}
}

func TestImportIsRefused(t *testing.T) {
	t.Parallel()
	if i, diags := (*kritis.Objects)(nil).Import(kritis.ImportOptions{}); i != nil || !diags.HasErrors() {
		t.Errorf("%v %s", i, diags)
	}
	o, _ := parse(t, smallISP)
	if i, diags := o.Import(kritis.ImportOptions{Project: "a/b"}); i != nil || !strings.Contains(diags.String(), `"a/b" is not the id of a project`) {
		t.Errorf("%v %s", i, diags)
	}
	text := ""
	for n := range 201 {
		namespace := fmt.Sprint("n", n)
		text += object("GenericAttestationPolicy", namespace, "g", "attestationAuthorityNames: [a]") + strings.Replace(authority("a"), "namespace: shop", "namespace: "+namespace, 1)
	}
	o, _ = parse(t, text)
	if i, diags := o.Import(kritis.ImportOptions{}); i != nil || !strings.Contains(diags.String(), "201 references to attestors, more than the 200") {
		t.Errorf("%v %s", i, diags)
	}
}

// decided2 decides by a set of policies.
func decided2(set policy.Set, namespace, text string, known evidence.Image) decide.Decision {
	req := decide.Request{Namespace: namespace, Images: []decide.ImageUse{{Container: "c", Type: decide.Container, Text: text}}}
	ref, err := image.Parse(app)
	if err != nil {
		panic(err)
	}
	return decide.Decide(req, set, evidence.Facts{Images: map[image.Digest]evidence.Image{ref.Digest(): known}}, noon)
}

// A world is random objects of Kritis, and random facts about app.
type world struct {
	*rand.Rand
	// honest worlds have no attestation for another repository than the image's.
	honest bool
}

func (w world) pick(list ...string) string { return list[w.IntN(len(list))] }

func (w world) some(list ...string) []string {
	var kept []string
	for _, s := range list {
		if w.IntN(2) == 0 {
			kept = append(kept, s)
		}
	}
	w.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	return kept
}

func (w world) quoted(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, `"`+s+`"`)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var patterns = []string{"registry.example.com/shop/*", "registry.example.com/shop/a*", "registry.example.com/**", "*", app, "registry.example.com/shop/app:v1", "registry.example.com/shop/app:*", "nginx"}

func (w world) objects() string {
	text := ""
	namespaces := []string{"shop", "other"}
	if w.IntN(2) == 0 {
		namespaces = namespaces[:1]
	}
	for _, namespace := range namespaces {
		for _, name := range []string{"a", "b", "c"} {
			switch w.IntN(8) {
			case 0:
			case 1, 2, 3:
				text += pkixAuthority(namespace, name)
			default:
				text += strings.Replace(authority(name), "namespace: shop", "namespace: "+namespace, 1)
			}
		}
		for i := range w.IntN(3) {
			var list []string
			if w.IntN(2) == 0 {
				for _, p := range w.some(patterns...) {
					list = append(list, `{namePattern: "`+p+`"}`)
				}
			}
			names := w.some("a", "b", "c")
			if w.IntN(2) == 0 {
				names = []string{w.pick("a", "b", "c")}
			}
			text += object("GenericAttestationPolicy", namespace, fmt.Sprint("g", i), "attestationAuthorityNames: "+w.quoted(names)+"\nadmissionAllowlistPatterns: ["+strings.Join(list, ", ")+"]")
		}
		for i := range max(w.IntN(4)-1, 0) {
			spec := "packageVulnerabilityRequirements: {maximumSeverity: " + w.pick("''", "BLOCK_ALL", "LOW", "CRITICAL", "ALLOW_ALL", "SEVERITY_UNSPECIFIED") +
				", maximumFixUnavailableSeverity: " + w.pick("''", "MEDIUM") + ", allowlistCVEs: " + w.quoted(w.some("CVE-1", "projects/v/notes/CVE-1", "projects/w/notes/CVE-1")) + "}"
			if w.IntN(3) == 0 {
				spec += "\nimageAllowlist: " + w.quoted(w.some(app, "registry.example.com/shop/app:v1", "registry.example.com/shop/app", "x y", "registry.example.com/shop/app:v1@sha256:"+hexA))
			}
			if w.IntN(3) == 0 {
				spec += "\nattestationAuthorityName: " + w.pick("a", "b", "c")
			}
			text += object("ImageSecurityPolicy", namespace, fmt.Sprint("i", i), spec)
		}
	}
	return text + object("KritisConfig", "", "c", "{}")
}

func (w world) facts() evidence.Image {
	known := evidence.Image{State: evidence.Known}
	if w.IntN(20) == 0 {
		known.State = evidence.Unavailable
	}
	for range w.IntN(5) {
		key := keys().pgp
		switch w.IntN(6) {
		case 0, 1:
			key = keys().p256
		case 2:
			key = keys().otherPGP
		}
		a := attestation("projects/p/notes/"+w.pick("a", "b", "c"), key, "registry.example.com/shop/app")
		a.Project = w.pick("p", "kritis", "elsewhere")
		if !w.honest {
			a.Repository = w.pick("registry.example.com/shop/app", "registry.example.com/other", "")
		}
		known.Attestations = append(known.Attestations, a)
	}
	for range w.IntN(3) {
		scan := evidence.Scan{Project: w.pick("kritis", "kritis", "p"), Finished: w.IntN(4) > 0, Truncated: w.IntN(10) == 0}
		for range w.IntN(3) {
			scan.Findings = append(scan.Findings, evidence.Finding{Note: w.pick("projects/v/notes/CVE-1", "projects/w/notes/CVE-1", "projects/x/notes/CVE-2"), Severity: w.IntN(6), Fixable: w.IntN(2) == 0})
		}
		known.Scans = append(known.Scans, scan)
	}
	return known
}

func (w world) options() kritis.Options {
	if w.IntN(2) == 0 {
		return kritis.Options{}
	}
	return kritis.Options{
		Authorities: kritis.AuthorityMode(w.IntN(2)), Policies: kritis.PolicyMode(w.IntN(2)), PoolPatterns: w.IntN(2) == 0, DefaultDeny: w.IntN(2) == 0,
		AllowUnscanned: w.IntN(2) == 0, AllowUnspecified: w.IntN(2) == 0, KritisImages: w.IntN(2) == 0,
	}
}

// changes are the ways in which a report says that verdicts may differ from those of
// the objects compiled as they are. What only Kritis itself did otherwise is left out,
// and so is what a world has no facts for.
func (w world) changes(i *kritis.Imported, o kritis.Options) (more, less bool) {
	for _, c := range i.Report {
		switch {
		case c.Code == kritis.CodeKeys, c.Code == kritis.CodePolicy, c.Code == kritis.CodeDefault:
			continue
		case c.Code == kritis.CodeRepository && w.honest:
			continue
		case c.Code == kritis.CodeUnscanned && !o.AllowUnscanned && !o.AllowUnspecified:
			continue
		}
		more = more || c.Effect == kritis.AllowsMore || c.Effect == kritis.Differs
		less = less || c.Effect == kritis.DeniesMore || c.Effect == kritis.Differs
	}
	return more, less
}

// TestImportAllowsWhatKritisAllows: in random worlds, the imported policies and the
// objects as they are say the same wherever the report says so, and otherwise differ
// only in the way that it says.
func TestImportAllowsWhatKritisAllows(t *testing.T) {
	t.Parallel()
	refs := []string{
		app, "registry.example.com/shop/app:v1", "registry.example.com/shop/app:v1@sha256:" + hexA, "registry.example.com/shop/app", "nginx@sha256:" + hexA, "nginx",
		"registry.example.com/shop/deep/app@sha256:" + hexA, "gcr.io/kritis-project/preinstall:v1", "gcr.io/kritis-project/preinstall@sha256:" + hexA,
	}
	type outcome struct{ more, less, kritis, imported bool }
	seen := map[outcome]int{}
	for seed := range uint64(500) {
		w := world{Rand: rand.New(rand.NewPCG(seed, 1)), honest: seed%4 != 0} //nolint:gosec // the same worlds every time
		text, options := w.objects(), w.options()
		o, diags := kritis.Parse("shop.yaml", []byte(text))
		if o == nil {
			t.Fatalf("%s\n%s", diags, text)
		}
		rules, _ := o.Compile(options)
		i, diags := o.Import(kritis.ImportOptions{Options: options})
		if i == nil {
			t.Fatalf("%s\n%s", diags, text)
		}
		set := enforced(t, i)
		more, less := w.changes(i, options)
		for range 8 {
			known := w.facts()
			for _, ref := range refs {
				if r, err := image.Parse(ref); w.honest && err == nil && !r.Digest().IsZero() && r.Path() != "shop/app" && (!options.KritisImages || r.Path() != "kritis-project/preinstall") {
					continue // nobody has attested it there
				}
				namespace := w.pick("shop", "shop", "other", "third")
				was, is := decided2(policy.Set{rules}, namespace, ref, known), decided2(set, namespace, ref, known)
				seen[outcome{more, less, was.Allowed, is.Allowed}]++
				if (is.Allowed && !was.Allowed && !more) || (was.Allowed && !is.Allowed && !less) {
					t.Fatalf("seed %d: %s in %s: Kritis %v, imported %v, more %v, less %v, %+v\n%s\n%s\n%s\n%v\n%s\n%s\n%s",
						seed, ref, namespace, was.Allowed, is.Allowed, more, less, options, decide.Message(was), decide.Message(is), text, i.Report, i.Policy, i.Platform, fmt.Sprint(known))
				}
			}
		}
	}
	// The worlds must not all be changed ones, and each change must show.
	for _, want := range []outcome{
		{false, false, true, true}, {false, false, false, false}, {true, false, false, true}, {false, true, true, false},
		{true, true, true, false}, {true, true, false, true}, {true, false, true, true}, {false, true, false, false},
	} {
		if seen[want] < 20 {
			t.Errorf("%+v was seen %d times", want, seen[want])
		}
	}
}

func TestReportIsInOrderAndTextsAreStable(t *testing.T) {
	t.Parallel()
	w := world{Rand: rand.New(rand.NewPCG(7, 7))} //nolint:gosec // the same every time
	for range 50 {
		text := w.objects()
		a, b := imported(t, text, kritis.ImportOptions{}), imported(t, text, kritis.ImportOptions{})
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(diff)
		}
		if !slices.IsSortedFunc(a.Report, func(x, y kritis.Change) int { return x.Line - y.Line }) {
			t.Error("the report is not in order")
		}
	}
}
