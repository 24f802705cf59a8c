package objects_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
	"github.com/gatehouse-dev/gatehouse/signature"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const (
	created  = "2026-11-29T12:00:00Z"
	digested = "reg.example/shop/web@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	denyAll  = `{"binaryAuthorization": {"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}}`
	allowAll = `{"binaryAuthorization": {"defaultAdmissionRule": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}}`
)

// requires is the spec of a policy that asks for attestors.
func requires(attestors ...string) string {
	list, _ := json.Marshal(attestors)
	return fmt.Sprintf(`{"binaryAuthorization": {"defaultAdmissionRule": {"evaluationMode": "REQUIRE_ATTESTATION", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG", "requireAttestationsBy": %s}}}`, list)
}

// object is one of a cluster; its name is NAMESPACE/NAME or NAME.
func object(t testing.TB, kind, name, spec string) *objects.Object {
	t.Helper()
	o, err := objects.Parse([]byte(text(kind, name, spec)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func text(kind, name, spec string) string {
	namespace, short, ok := strings.Cut(name, "/")
	if !ok {
		namespace, short = "", name
	}
	group := objects.GroupKritis
	for _, k := range objects.Kinds() {
		if k.Kind == kind {
			group = k.Group
		}
	}
	return fmt.Sprintf(`{"apiVersion": %q, "kind": %q, "metadata": {"name": %q, "namespace": %q, "uid": "u", "generation": 3, "creationTimestamp": %q}, "spec": %s}`,
		group+"/v1beta1", kind, short, namespace, created, spec)
}

func pem(t testing.TB) string {
	t.Helper()
	private, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(private, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s.PublicKey().Marshal()
}

func attestorSpec(note string, pems ...string) string {
	var keys []map[string]any
	for _, p := range pems {
		keys = append(keys, map[string]any{"pkixPublicKey": map[string]any{"publicKeyPem": p, "signatureAlgorithm": "ECDSA_P256_SHA256"}})
	}
	raw, _ := json.Marshal(map[string]any{"noteReference": note, "publicKeys": keys})
	return string(raw)
}

func compile(list ...*objects.Object) *objects.Outcome {
	return objects.Compile(list, &objects.Options{Project: "p"}, noon)
}

func in(namespace, image string, out *objects.Outcome, now time.Time) decide.Decision {
	var set policy.Set
	if out.Rules != nil {
		set = policy.Set{out.Rules}
	}
	return decide.Decide(decide.Request{Namespace: namespace, Images: []decide.ImageUse{{Text: image}}}, set, evidence.Facts{}, now)
}

// verdicts decides on an image in namespaces, "ALLOW" or "DENY" or an override.
func verdicts(out *objects.Outcome, image string, namespaces ...string) string {
	var words []string
	for _, n := range namespaces {
		d := in(n, image, out, noon)
		word := d.Verdict.String()
		if d.Override != "" {
			word += "+" + string(d.Override)
		}
		words = append(words, n+"="+word)
	}
	return strings.Join(words, " ")
}

func reasons(out *objects.Outcome) string {
	var lines []string
	for _, o := range out.Objects {
		for _, p := range out.Problems[o.Ref] {
			if p.Reason != objects.Doubtful {
				lines = append(lines, fmt.Sprintf("%s %s %s", o.Ref, p.Reason, p.Field))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func TestPoliciesAreInForceWhereTheySay(t *testing.T) {
	t.Parallel()
	out := compile(
		object(t, "ClusterPolicy", "some", `{"namespaces": ["team-*", "shop"], "exceptNamespaces": ["team-b"], `+denyAll[1:]),
		object(t, "Policy", "own/more", denyAll),
		object(t, "Policy", "shop/lax", allowAll),
	)
	if got, want := verdicts(out, digested, "team-a", "team-b", "shop", "own", "other"), "team-a=DENY team-b=ALLOW shop=DENY own=DENY other=ALLOW"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d := in("shop", digested, out, noon); len(d.Policies) != 2 || d.Policy != "ClusterPolicy some" || d.Source != "ClusterPolicy some, generation 3" {
		t.Errorf("a Policy lets in what a ClusterPolicy denies, or the source is not told: %+v", d.Deciding)
	}
	if d := in("other", digested, out, noon); d.Rule != "no object of policy is for the namespace" {
		t.Errorf("got %+v", d.Deciding)
	}
}

func TestWithoutADemandThereIsNoPolicy(t *testing.T) {
	t.Parallel()
	out := compile(object(t, "ClusterAttestor", "ci", attestorSpec("projects/p/notes/n", pem(t))))
	if out.Rules != nil || len(out.Keys["projects/p/notes/n"]) != 1 {
		t.Errorf("rules %v, keys %v", out.Rules, out.Keys)
	}
}

// TestABrokenPolicyDeniesWhereItWouldBe, and nowhere else; a dry run stays one.
func TestABrokenPolicyDeniesWhereItWouldBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		objects []*objects.Object
		want    string
	}{
		"a Policy":               {[]*objects.Object{object(t, "Policy", "shop/x", `{"binaryAuthorization": {}}`)}, "shop=DENY other=ALLOW"},
		"a ClusterPolicy":        {[]*objects.Object{object(t, "ClusterPolicy", "x", `{"namespaces": ["shop"], "misspelt": 1, "gkePolicy": {}}`)}, "shop=DENY other=ALLOW"},
		"its namespaces":         {[]*objects.Object{object(t, "ClusterPolicy", "x", `{"namespaces": ["shop", "No!"], `+allowAll[1:])}, "shop=DENY other=DENY"},
		"namespaces of no list":  {[]*objects.Object{object(t, "ClusterPolicy", "x", `{"namespaces": "shop", `+allowAll[1:])}, "shop=DENY other=DENY"},
		"no namespaces":          {[]*objects.Object{object(t, "ClusterPolicy", "x", `{"namespaces": [], `+allowAll[1:])}, "shop=DENY other=DENY"},
		"a namespace of no text": {[]*objects.Object{object(t, "ClusterPolicy", "x", `{"namespaces": ["shop", 7], `+allowAll[1:])}, "shop=DENY other=DENY"},
		"a dry run":              {[]*objects.Object{object(t, "Policy", "shop/x", `{"dryRun": true, "binaryAuthorization": {}}`)}, "shop=DENY+DRY_RUN other=ALLOW"},
		"no spec":                {[]*objects.Object{object(t, "Policy", "shop/x", `null`)}, "shop=DENY other=ALLOW"},
		"deeper than is read":    {[]*objects.Object{object(t, "Policy", "shop/x", `{"binaryAuthorization": `+strings.Repeat(`{"a":`, 20)+"1"+strings.Repeat("}", 20)+"}")}, "shop=DENY other=ALLOW"},
		"both":                   {[]*objects.Object{object(t, "Policy", "shop/x", allowAll[:len(allowAll)-1]+`, "gkePolicy": {}}`)}, "shop=DENY other=ALLOW"},
		"rules of namespaces": {[]*objects.Object{object(t, "Policy", "shop/x", strings.Replace(allowAll, `"defaultA`,
			`"kubernetesNamespaceAdmissionRules": {}, "defaultA`, 1))}, "shop=DENY other=ALLOW"},
		"a mesh that is not known": {[]*objects.Object{object(t, "Policy", "shop/x", strings.Replace(allowAll, `"defaultA`,
			`"istioServiceIdentityAdmissionRules": {"d/ns/shop/sa/a": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}, "defaultA`, 1))}, "shop=DENY other=ALLOW"},
		"a missing attestor": {[]*objects.Object{object(t, "Policy", "shop/x", requires("nobody"))}, "shop=DENY other=ALLOW"},
		"an ISP":             {[]*objects.Object{object(t, "ImageSecurityPolicy", "shop/x", `{"imageAllowlist": ["`+digested+`"], "misspelt": 1}`)}, "shop=DENY other=ALLOW"},
		"a GAP":              {[]*objects.Object{object(t, "GenericAttestationPolicy", "shop/x", `{"admissionAllowlistPatterns": [{"namePattern": "`+digested+`"}], "misspelt": 1}`)}, "shop=DENY other=ALLOW"},
		"a GAP beside one that covers": {[]*objects.Object{
			object(t, "GenericAttestationPolicy", "shop/x", `{"misspelt": 1}`),
			object(t, "GenericAttestationPolicy", "shop/y", `{"admissionAllowlistPatterns": [{"namePattern": "`+digested+`"}]}`),
		}, "shop=ALLOW other=ALLOW"},
		"an ISP beside one that covers": {[]*objects.Object{
			object(t, "ImageSecurityPolicy", "shop/x", `{"misspelt": 1}`),
			object(t, "ImageSecurityPolicy", "shop/y", `{"imageAllowlist": ["`+digested+`"]}`),
		}, "shop=DENY other=ALLOW"},
	} {
		out := compile(append(c.objects, object(t, "Policy", "third/ok", allowAll))...)
		if got, want := verdicts(out, digested, "shop", "other", "third"), c.want+" third="+c.want[strings.LastIndex(c.want, "=")+1:]; got != want {
			t.Errorf("%s: got %s, want %s\n%s", name, got, want, reasons(out))
		}
		if told := reasons(out); told == "" || strings.Contains(told, "shop/y") || strings.Contains(told, "third") {
			t.Errorf("%s: problems %s", name, reasons(out))
		}
	}
}

func TestAProblemNamesItsField(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"Policy", `{"binaryAuthorization": {"defaultAdmissionRule": {"evaluationMode": "always", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}}`, "Invalid spec.binaryAuthorization.defaultAdmissionRule.evaluationMode"},
		{"Policy", `{"gkePolicy": {"checkSets": [{"checks": [{"alwaysDeny": true}, {"trustedDirectoryCheck": {"trustedDirPatterns": ["a b"]}}]}]}}`, "Invalid spec.gkePolicy.checkSets[0].checks[1].trustedDirectoryCheck.trustedDirPatterns[0]"},
		{"Attestor", `{"noteReference": "n"}`, "Invalid spec.noteReference"},
		{"Exemption", `{"reason": "r", "expires": "tomorrow", "images": ["a"]}`, "Invalid spec.expires"},
		{"Policy", `{"binaryAuthorization": {"misspelt": {}, "defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}}`, "Invalid spec.binaryAuthorization.misspelt"},
		{"ImageSecurityPolicy", `{"packageVulnerabilityRequirements": {"maximumSeverity": "low"}}`, "Invalid spec.packageVulnerabilityRequirements.maximumSeverity"},
	} {
		o := object(t, c[0], "shop/x", c[1])
		var got []string
		for _, p := range o.Problems {
			if p.Severity == document.Error {
				got = append(got, string(p.Reason)+" "+p.Field)
			}
		}
		if len(got) != 1 || got[0] != c[2] {
			t.Errorf("%s: got %q, want %s", c[1], got, c[2])
		}
	}
}

func TestAttestorsAreFoundByTheirShortNames(t *testing.T) {
	t.Parallel()
	own, others := object(t, "Attestor", "shop/ci", attestorSpec("projects/p/notes/own", pem(t))), object(t, "ClusterAttestor", "qa", attestorSpec("projects/p/notes/qa", pem(t)))
	out := compile(own, others,
		object(t, "Policy", "shop/x", requires("ci", "qa", "projects/p/attestors/stored")),
		object(t, "Policy", "other/x", requires("ci")),
		object(t, "ClusterPolicy", "x", requires("ci", "qa")),
	)
	if got, want := reasons(out), "ClusterPolicy x NotFound \nPolicy other/x NotFound \nPolicy shop/x NotFound "; got != want {
		t.Errorf("got %s", got)
	}
	names := map[string]string{}
	for r := range (policy.Set{out.Rules}).Rulesets() {
		var list []string
		for _, rule := range r.Rules {
			for _, c := range rule.Checks {
				name := c.Condition.(policy.Attested).Attestor
				list = append(list, fmt.Sprintf("%s(%d)", name, len(r.Attestors[name].Keys)))
			}
		}
		names[r.Name] = strings.Join(list, " ")
	}
	for name, want := range map[string]string{
		"Policy shop/x":   "namespaces/shop/attestors/ci(1) clusterattestors/qa(1) projects/p/attestors/stored(0)",
		"Policy other/x":  "clusterattestors/ci(0)",
		"ClusterPolicy x": "clusterattestors/ci(0) clusterattestors/qa(1)",
	} {
		if names[name] != want {
			t.Errorf("%s: got %s, want %s", name, names[name], want)
		}
	}
}

// TestAnAttestorThatShadowsCountsForNothing: nobody's attestations come to count for
// those of a ClusterAttestor.
func TestAnAttestorThatShadowsCountsForNothing(t *testing.T) {
	t.Parallel()
	out := compile(
		object(t, "Attestor", "shop/ci", attestorSpec("projects/p/notes/theirs", pem(t))), object(t, "ClusterAttestor", "ci", attestorSpec("projects/p/notes/ci", pem(t))),
		object(t, "Policy", "shop/x", requires("ci")),
	)
	if got := reasons(out); got != "Attestor shop/ci Shadowed " {
		t.Errorf("got %s", got)
	}
	if len(out.Keys["projects/p/notes/theirs"]) != 0 || len(out.Keys["projects/p/notes/ci"]) != 1 {
		t.Errorf("keys %v", out.Keys)
	}
	for r := range (policy.Set{out.Rules}).Rulesets() {
		if _, ok := r.Attestors["namespaces/shop/attestors/ci"]; ok {
			t.Error("it counts")
		}
	}
}

func TestKeysThatCannotBeUsedAreLeftOut(t *testing.T) {
	t.Parallel()
	good := pem(t)
	armoured := `{"keyType": "PGP", "keyId": "ABC", "asciiArmoredPgpPublicKey": "bm9uZQ=="}`
	authority := `{"noteReference": "projects/p/notes/aa", "publicKeys": [` + armoured + `, {"keyType": "PKIX", "pkixPublicKey": {"publicKeyPem": ` + string(must(json.Marshal(good))) + `, "signatureAlgorithm": "ECDSA_P256_SHA256"}}]}`
	out := compile(
		object(t, "ClusterAttestor", "ci", attestorSpec("projects/p/notes/ci", "rubbish", good, good)),
		object(t, "AttestationAuthority", "shop/aa", authority),
	)
	for name, want := range map[objects.Ref][]int{
		{APIVersion: "gatehouse.dev/v1beta1", Kind: "ClusterAttestor", Name: "ci"}:                             {0, 2},
		{APIVersion: "kritis.grafeas.io/v1beta1", Kind: "AttestationAuthority", Namespace: "shop", Name: "aa"}: {0},
	} {
		state := out.KeysOf(name)
		var got []int
		for _, u := range state.Unusable {
			got = append(got, u.Index)
			if u.Why == "" {
				t.Errorf("%s: key %d has no reason", name, u.Index)
			}
		}
		if state.Usable != 1 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v", name, state)
		}
		if !strings.Contains(reasons(out), name.String()+" KeyUnusable spec.publicKeys[0]") {
			t.Errorf("%s: %s", name, reasons(out))
		}
	}
	if len(out.Keys["projects/p/notes/ci"]) != 1 || len(out.Keys["projects/p/notes/aa"]) != 1 {
		t.Errorf("keys %v", out.Keys)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const legacy = "reg.example/legacy/app:1"

func exempt(images, more string) string {
	return `{"reason": "ticket 12", "images": ` + images + more + `}`
}

func TestAClusterExemptionCountsUntilItEnds(t *testing.T) {
	t.Parallel()
	out := compile(
		object(t, "ClusterPolicy", "x", denyAll), object(t, "Policy", "shop/x", denyAll), object(t, "ImageSecurityPolicy", "kritis/x", `{}`),
		object(t, "ClusterExemption", "e", exempt(`["reg.example/legacy/*"]`, `, "namespaces": ["shop", "kritis", "team-*"], "expires": "2026-12-01T00:00:00Z"`)),
	)
	if got, want := verdicts(out, legacy, "shop", "team-a", "other", "kritis"), "shop=ALLOW team-a=ALLOW other=DENY kritis=DENY"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if in("shop", legacy, out, end.Add(-time.Second)).Verdict != decide.ALLOW || in("shop", legacy, out, end).Verdict != decide.DENY {
		t.Error("it does not end when it says")
	}
	if d := in("team-a", legacy, out, noon); !strings.Contains(d.Images[0].Reasons[0].Message, "ClusterExemption e (ticket 12; until 2026-12-01T00:00:00Z)") {
		t.Errorf("the decision does not tell why: %+v", d.Images[0].Reasons)
	}
	later := objects.Compile(out.Objects, &objects.Options{}, end)
	if !strings.Contains(reasons(later), "ClusterExemption e Expired") {
		t.Errorf("got %s", reasons(later))
	}
}

// TestAnExemptionNeedsADelegation that covers all of it.
func TestAnExemptionNeedsADelegation(t *testing.T) {
	t.Parallel()
	const within = `, "expires": "2026-12-02T12:00:00Z"` // three days after it was made
	delegation := func(namespaces, images, most string) *objects.Object {
		return object(t, "Delegation", "d", fmt.Sprintf(`{"namespaces": %s, "exemptions": {"images": %s, "maxDuration": %q}}`, namespaces, images, most))
	}
	for name, c := range map[string]struct {
		delegation *objects.Object
		images     string
		want       string
	}{
		"none":                      {nil, `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
		"of all":                    {delegation(`["*"]`, `["reg.example/**"]`, "72h"), `["reg.example/legacy/*"]`, "shop=ALLOW other=DENY"},
		"of the namespace":          {delegation(`["sh*"]`, `["reg.example/legacy/*"]`, "72h"), `["reg.example/legacy/app:1"]`, "shop=ALLOW other=DENY"},
		"of another namespace":      {delegation(`["other"]`, `["reg.example/**"]`, "72h"), `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
		"for a shorter time":        {delegation(`["shop"]`, `["reg.example/**"]`, "71h59m"), `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
		"of narrower images":        {delegation(`["shop"]`, `["reg.example/legacy/app*"]`, "72h"), `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
		"of only one of two":        {delegation(`["shop"]`, `["reg.example/legacy/*"]`, "72h"), `["reg.example/legacy/*", "reg.example/x"]`, "shop=DENY other=DENY"},
		"of a star for two":         {delegation(`["shop"]`, `["reg.example/*"]`, "72h"), `["reg.example/**"]`, "shop=DENY other=DENY"},
		"of a star for a directory": {delegation(`["shop"]`, `["reg.example/*"]`, "72h"), `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
		"that cannot be read":       {delegation(`["shop"]`, `["reg.example/**"]`, "long"), `["reg.example/legacy/*"]`, "shop=DENY other=DENY"},
	} {
		list := []*objects.Object{object(t, "ClusterPolicy", "x", denyAll), object(t, "Exemption", "shop/e", exempt(c.images, within))}
		if c.delegation != nil {
			list = append(list, c.delegation)
		}
		out := compile(list...)
		if got := verdicts(out, legacy, "shop", "other"); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if told := strings.Contains(reasons(out), "Exemption shop/e NotDelegated"); told == strings.HasPrefix(c.want, "shop=ALLOW") {
			t.Errorf("%s: %s", name, reasons(out))
		}
	}
}

func TestADryRunOfANamespaceIsDelegatedToo(t *testing.T) {
	t.Parallel()
	list := []*objects.Object{
		object(t, "ClusterPolicy", "x", denyAll), object(t, "Exemption", "shop/e", `{"reason": "moving", "dryRun": true, "expires": "2026-11-30T13:00:00Z"}`),
		object(t, "Delegation", "images", `{"namespaces": ["shop"], "exemptions": {"images": ["**"], "maxDuration": "1000h"}}`),
	}
	if got := verdicts(compile(list...), digested, "shop"); got != "shop=DENY" {
		t.Errorf("a Delegation of exemptions is one of dry runs: %s", got)
	}
	out := compile(append(list, object(t, "Delegation", "dry", `{"namespaces": ["shop"], "dryRun": {"maxDuration": "48h"}}`))...)
	if got := verdicts(out, digested, "shop", "other"); got != "shop=DENY+DRY_RUN other=DENY" {
		t.Errorf("got %s", got)
	}
	want := "allowed: Exemption shop/e (moving; until 2026-11-30T13:00:00Z) has denials only recorded; policy does not allow the request"
	if d := in("shop", digested, out, noon); d.Summary != want {
		t.Errorf("the decision does not name what it rests on: %s", d.Summary)
	}
	if d := in("shop", digested, out, noon.Add(time.Hour)); d.Allowed {
		t.Error("it does not end")
	}
	cluster := compile(object(t, "ClusterPolicy", "x", denyAll), object(t, "ClusterExemption", "e", `{"reason": "rollout", "dryRun": true, "namespaces": ["team-*"]}`))
	if got := verdicts(cluster, digested, "team-a", "other"); got != "team-a=DENY+DRY_RUN other=DENY" {
		t.Errorf("got %s", got)
	}
}

func TestNobodyAttestsByWhatSignsHints(t *testing.T) {
	t.Parallel()
	key := pem(t)
	signer := hintSigner(t, key)
	out := objects.Compile([]*objects.Object{
		object(t, "ClusterAttestor", "key", attestorSpec("projects/p/notes/a", key)),
		object(t, "Attestor", "shop/note", attestorSpec("projects/p/notes/hints", pem(t))),
		object(t, "AttestationAuthority", "shop/aa", `{"noteReference": "projects/p/notes/hints", "publicKeys": []}`),
		object(t, "Policy", "shop/x", requires("key", "note")),
	}, &objects.Options{HintSigners: signer}, noon)
	for _, want := range []string{"ClusterAttestor key KeyForHints", "Attestor shop/note KeyForHints", "AttestationAuthority shop/aa KeyForHints"} {
		if !strings.Contains(reasons(out), want) {
			t.Errorf("%s is not told: %s", want, reasons(out))
		}
	}
	if len(out.Keys["projects/p/notes/a"])+len(out.Keys["projects/p/notes/hints"]) != 0 {
		t.Errorf("keys %v", out.Keys)
	}
}

func TestKritisObjectsMeanWhatTheyDoInFiles(t *testing.T) {
	t.Parallel()
	out := objects.Compile([]*objects.Object{object(t, "ImageSecurityPolicy", "shop/x", `{"imageAllowlist": ["`+legacy+`"]}`)}, &objects.Options{Kritis: kritis.Options{DefaultDeny: true}}, noon)
	if got := verdicts(out, legacy, "shop", "other"); got != "shop=ALLOW other=DENY" {
		t.Errorf("got %s", got)
	}
	if got := verdicts(out, "reg.example/other:1", "shop"); got != "shop=DENY" {
		t.Errorf("got %s", got)
	}
}
