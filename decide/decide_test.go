package decide_test

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
)

const (
	hexA     = "77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	digested = "gcr.io/p/app@sha256:" + hexA
	tagged   = "gcr.io/p/app:v1"
	built    = "projects/p/attestors/built"
	scanned  = "projects/p/attestors/scanned"
)

var (
	keyBuilt   = [32]byte{1}
	keyScanned = [32]byte{2}
	keyOther   = [32]byte{9}
	noon       = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func digestA() image.Digest { return mustParse(digested).Digest() }

func mustParse(text string) image.Reference {
	r, err := image.Parse(text)
	if err != nil {
		panic(err)
	}
	return r
}

func exempt(t testing.TB, origin string, texts ...string) []policy.Exemption {
	t.Helper()
	var list []policy.Exemption
	for _, text := range texts {
		p, err := image.ParseBinauthzPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, policy.Exemption{Pattern: p, Origin: origin})
	}
	return list
}

// rulesOf returns a Ruleset of one default rule and the two attestors.
func rulesOf(rule policy.Rule) *policy.Ruleset {
	rule.ID = "default admission rule"
	return &policy.Ruleset{
		Name:    "projects/p/policy",
		Version: "v1",
		Rules:   []policy.Rule{rule},
		Attestors: map[string]policy.Attestor{
			built:   {Name: built, Note: "projects/p/notes/built", Keys: []policy.Key{{ID: "key-built", Fingerprint: keyBuilt}}},
			scanned: {Name: scanned, Note: "projects/p/notes/scanned", Keys: []policy.Key{{ID: "key-scanned", Fingerprint: keyScanned}}},
		},
	}
}

func requireBoth() policy.Rule {
	return policy.Rule{Evaluation: policy.RequireChecks, Checks: attestedBy(built, scanned)}
}

// attestedBy returns a check for each attestor.
func attestedBy(names ...string) []policy.Check {
	var list []policy.Check
	for _, name := range names {
		list = append(list, policy.Check{Condition: policy.Attested{Attestor: name}})
	}
	return list
}

// images are what is known about digests.
type images = map[image.Digest]evidence.Image

// decided decides by one policy, or without any if rules is nil.
func decided(req decide.Request, rules *policy.Ruleset, known images, now time.Time) decide.Decision {
	var set policy.Set
	if rules != nil {
		set = policy.Set{rules}
	}
	return decide.Decide(req, set, evidence.Facts{Images: known}, now)
}

func attestation(name string, key [32]byte) evidence.Attestation {
	return evidence.Attestation{
		Origin: evidence.Origin{
			Note: "projects/p/notes/" + name, Occurrence: "projects/p/occurrences/" + name, Project: "p",
			KeyID: "key-" + name, Fingerprint: key, Created: noon.Add(-time.Hour),
		},
		Repository: "gcr.io/p/app",
	}
}

func known(list ...evidence.Attestation) images {
	return images{digestA(): {State: evidence.Known, Attestations: list}}
}

func both() images {
	return known(attestation("built", keyBuilt), attestation("scanned", keyScanned))
}

func request(texts ...string) decide.Request {
	req := decide.Request{Cluster: "us-east1-b.prod", Namespace: "shop"}
	for i, text := range texts {
		req.Images = append(req.Images, decide.ImageUse{Container: fmt.Sprintf("c%d", i), Type: decide.Container, Text: text})
	}
	return req
}

func codes(id decide.ImageDecision) []decide.Code {
	var list []decide.Code
	for _, r := range id.Reasons {
		list = append(list, r.Code)
	}
	return list
}

// TestTruthTable spells out, for one image that no pattern exempts, the table
// that Binary Authorization's pages amount to, and what the break-glass marker
// and unreadable evidence add to it.
func TestTruthTable(t *testing.T) {
	t.Parallel()
	type row struct {
		evaluation policy.Evaluation
		evidence   string // all, some, none, unreadable
		text       string
		verdict    decide.Verdict
		code       decide.Code // of the last reason
	}
	rows := []row{
		{policy.AlwaysAllow, "none", digested, decide.ALLOW, decide.CodeAlwaysAllow},
		{policy.AlwaysAllow, "none", tagged, decide.ALLOW, decide.CodeAlwaysAllow},
		{policy.AlwaysAllow, "none", "not a reference", decide.ALLOW, decide.CodeAlwaysAllow},
		{policy.AlwaysAllow, "unreadable", digested, decide.ALLOW, decide.CodeAlwaysAllow},
		{policy.AlwaysDeny, "all", digested, decide.DENY, decide.CodeAlwaysDeny},
		{policy.AlwaysDeny, "none", tagged, decide.DENY, decide.CodeAlwaysDeny},
		{policy.AlwaysDeny, "unreadable", digested, decide.DENY, decide.CodeAlwaysDeny},
		{policy.Evaluation(7), "all", digested, decide.DENY, decide.CodeAlwaysDeny},
		{policy.RequireChecks, "all", digested, decide.ALLOW, decide.CodeAttested},
		{policy.RequireChecks, "some", digested, decide.DENY, decide.CodeNotAttested},
		{policy.RequireChecks, "none", digested, decide.DENY, decide.CodeNotAttested},
		{policy.RequireChecks, "all", tagged, decide.DENY, decide.CodeNoDigest},
		{policy.RequireChecks, "none", tagged, decide.DENY, decide.CodeNoDigest},
		{policy.RequireChecks, "all", "gcr.io/p/app@sha256:12", decide.DENY, decide.CodeInvalidReference},
		{policy.RequireChecks, "all", "", decide.DENY, decide.CodeInvalidReference},
		{policy.RequireChecks, "unreadable", digested, decide.INDETERMINATE, decide.CodeEvidenceUnavailable},
	}
	sets := map[string]images{
		"all": both(), "some": known(attestation("built", keyBuilt)), "none": known(), "unreadable": {digestA(): {Err: "the disk is full"}},
	}
	for _, r := range rows {
		for _, dryRun := range []bool{false, true} {
			for _, breakGlass := range []string{"", "label image-policy.k8s.io/break-glass"} {
				for _, onUnavailable := range []policy.OnUnavailable{{}, {Warn: true}} {
					name := fmt.Sprintf("%v/%s/%s/dryRun=%v/breakGlass=%v/warn=%v", r.evaluation, r.evidence, r.text, dryRun, breakGlass != "", onUnavailable.Warn)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						rule := policy.Rule{Evaluation: r.evaluation, DryRun: dryRun, OnUnavailable: onUnavailable}
						if r.evaluation == policy.RequireChecks {
							rule.Checks = attestedBy(built, scanned)
						}
						req := request(r.text)
						req.BreakGlass, req.Justification = breakGlass, "the shop is down"
						d := decided(req, rulesOf(rule), sets[r.evidence], noon)

						override, allowed := decide.NoOverride, r.verdict == decide.ALLOW
						switch {
						case allowed:
						case dryRun:
							override, allowed = decide.DryRun, true
						case onUnavailable.Warn && r.verdict == decide.INDETERMINATE:
							override, allowed = decide.FailOpen, true
						case breakGlass != "":
							override, allowed = decide.BreakGlass, true
						}
						if d.Verdict != r.verdict || d.Allowed != allowed || d.Override != override {
							t.Errorf("got %v, allowed %v, override %q; want %v, %v, %q", d.Verdict, d.Allowed, d.Override, r.verdict, allowed, override)
						}
						if d.BreakGlass != breakGlass || d.Justification != req.Justification {
							t.Errorf("break-glass is recorded as %q, %q", d.BreakGlass, d.Justification)
						}
						if got := codes(d.Images[0]); got[len(got)-1] != r.code {
							t.Errorf("reasons %v, want the last to be %v", got, r.code)
						}
						if (decide.Message(d) == "") != (r.verdict == decide.ALLOW) {
							t.Errorf("message %q for verdict %v", decide.Message(d), d.Verdict)
						}
						if d.Summary == "" || strings.HasPrefix(d.Summary, "allowed") != allowed {
							t.Errorf("summary %q for allowed %v", d.Summary, allowed)
						}
					})
				}
			}
		}
	}
}

func TestExemptionsComeBeforeEveryRule(t *testing.T) {
	t.Parallel()
	for _, e := range []policy.Evaluation{policy.AlwaysDeny, policy.RequireChecks} {
		rules := rulesOf(policy.Rule{Evaluation: e, Checks: attestedBy(built)})
		rules.Exempt = append(exempt(t, "system policy", "gke.gcr.io/**"), exempt(t, "admissionWhitelistPatterns", "gke.gcr.io/a*", "gcr.io/p/app:*")...)
		d := decided(request("gke.gcr.io/a:1", tagged), rules, nil, noon)
		if !d.Allowed || d.Verdict != decide.ALLOW {
			t.Fatalf("%v: exempt images are denied: %s", e, decide.Message(d))
		}
		if got := d.Images[0]; got.Exemption != "gke.gcr.io/**" || !strings.Contains(got.Reasons[0].Message, "system policy") {
			t.Errorf("the system policy comes first; got %+v", got)
		}
		if got := d.Images[1].Exemption; got != "gcr.io/p/app:*" {
			t.Errorf("exemption %q", got)
		}
		if d := decided(request("gke.gcr.io/a:1", digested), rules, nil, noon); d.Allowed {
			t.Errorf("%v: an exempt image lets in another one", e)
		}
	}
}

func TestRuleIsChosenByThePod(t *testing.T) {
	t.Parallel()
	allow := func(id string, s policy.Scope) policy.Rule {
		return policy.Rule{ID: id, Scope: s, Evaluation: policy.AlwaysAllow}
	}
	rules := &policy.Ruleset{Rules: []policy.Rule{
		allow("cluster", policy.Scope{Cluster: "us-east1-b.dev"}),
		allow("namespace", policy.Scope{Namespace: "tools"}),
		allow("account", policy.Scope{ServiceAccount: "shop:bot"}),
		allow("implied account", policy.Scope{ServiceAccount: "play:default"}),
		allow("istio", policy.Scope{IstioIdentity: "example.com/ns/shop/sa/bot"}),
		{ID: "default"},
	}}
	tests := []struct {
		req  decide.Request
		want string
	}{
		{decide.Request{Cluster: "us-east1-b.dev", Namespace: "shop"}, "cluster"},
		{decide.Request{Cluster: "us-east1-b.prod", Namespace: "tools"}, "namespace"},
		{decide.Request{Namespace: "shop", ServiceAccount: "bot"}, "account"},
		{decide.Request{Namespace: "other", ServiceAccount: "bot"}, "default"},
		{decide.Request{Namespace: "play"}, "implied account"},
		{decide.Request{Namespace: "x", IstioIdentity: "spiffe://example.com/ns/shop/sa/bot"}, "istio"},
		{decide.Request{Namespace: "x", IstioIdentity: "example.com/ns/shop/sa/bot"}, "istio"},
		{decide.Request{}, "default"},
	}
	for _, test := range tests {
		test.req.Images = request(tagged).Images
		d := decided(test.req, rules, nil, noon)
		if d.Rule != test.want || d.Allowed != (test.want != "default") {
			t.Errorf("%+v: rule %q, allowed %v; want %q", test.req, d.Rule, d.Allowed, test.want)
		}
	}
}

func TestNoPolicyAllowsAndSaysSo(t *testing.T) {
	t.Parallel()
	req := request(digested, "not a reference")
	req.BreakGlass = "marker"
	d := decided(req, nil, nil, noon)
	if !d.Allowed || d.Override != decide.NoPolicy || d.Verdict == decide.ALLOW || d.BreakGlass != "marker" {
		t.Errorf("got %+v", d)
	}
	for _, id := range d.Images {
		if got := codes(id); !cmp.Equal(got, []decide.Code{decide.CodeNoPolicy}) {
			t.Errorf("%q: reasons %v", id.Image, got)
		}
	}
	if d.Images[0].Digest != digestA() {
		t.Error("the digest is not recorded")
	}
}

func TestZeroRulesetDenies(t *testing.T) {
	t.Parallel()
	d := decided(request(digested), &policy.Ruleset{}, both(), noon)
	if d.Allowed || d.Verdict != decide.DENY || d.Images[0].Reasons[0].Code != decide.CodeNoRule {
		t.Errorf("got %+v", d)
	}
}

func TestNoImagesIsAllowed(t *testing.T) {
	t.Parallel()
	d := decided(request(), rulesOf(policy.Rule{}), nil, noon)
	if !d.Allowed || d.Verdict != decide.ALLOW || d.Images == nil || !strings.Contains(d.Summary, "no image") {
		t.Errorf("got %+v", d)
	}
}

// TestWhatDoesNotSatisfyAnAttestor changes one thing at a time in evidence that
// satisfies him.
func TestWhatDoesNotSatisfyAnAttestor(t *testing.T) {
	t.Parallel()
	good := attestation("built", keyBuilt)
	with := func(change func(*evidence.Attestation)) images {
		att := good
		change(&att)
		return known(att)
	}
	tests := map[string]struct {
		attestor func(*policy.Attestor)
		evidence images
		text     string
		verdict  decide.Verdict
		code     decide.Code
		detail   string
	}{
		"nothing is missing":        {evidence: known(good), verdict: decide.ALLOW, code: decide.CodeAttested},
		"another repository counts": {evidence: known(good), text: "ghcr.io/x/y:1@sha256:" + hexA, verdict: decide.ALLOW, code: decide.CodeAttested},
		"another note":              {evidence: with(func(a *evidence.Attestation) { a.Note = "projects/q/notes/built" }), code: decide.CodeNotAttested},
		"another key": {evidence: with(func(a *evidence.Attestation) { a.Fingerprint, a.KeyID = keyOther, "mallory" }), code: decide.CodeNotAttested,
			detail: "an attestation by key mallory exists (projects/p/occurrences/built), and the attestor does not trust that key"},
		"another key of the same name": {evidence: with(func(a *evidence.Attestation) { a.Fingerprint = keyOther }), code: decide.CodeNotAttested, detail: "does not trust"},
		"another digest":               {evidence: images{image.DigestOf(nil): {State: evidence.Known, Attestations: []evidence.Attestation{good}}}, verdict: decide.INDETERMINATE, code: decide.CodeEvidenceUnavailable},
		"another digest, known":        {evidence: images{image.DigestOf(nil): known(good)[digestA()], digestA(): {State: evidence.Known}}, code: decide.CodeNotAttested},
		"no evidence at all":           {evidence: nil, verdict: decide.INDETERMINATE, code: decide.CodeEvidenceUnavailable},
		"evidence of unknown state":    {evidence: images{digestA(): {State: 7, Attestations: []evidence.Attestation{good}}}, verdict: decide.INDETERMINATE, code: decide.CodeEvidenceUnavailable},
		"unreadable, with a remnant":   {evidence: images{digestA(): {Attestations: []evidence.Attestation{good}}}, verdict: decide.INDETERMINATE, code: decide.CodeEvidenceUnavailable},
		"rejected": {evidence: images{digestA(): {State: evidence.Known, Rejected: []evidence.Rejection{
			{Note: good.Note, Occurrence: "projects/p/occurrences/r", Reason: `is signed by unknown key "x"`},
			{Note: "projects/p/notes/scanned", Occurrence: "projects/p/occurrences/s", Reason: "belongs elsewhere"},
		}}}, code: decide.CodeNotAttested, detail: `the attestation projects/p/occurrences/r is signed by unknown key "x"`},
		"attestor without keys":                         {attestor: func(a *policy.Attestor) { a.Keys = nil }, evidence: known(good), code: decide.CodeNotAttested, detail: "no public keys"},
		"attestor without keys and unreadable evidence": {attestor: func(a *policy.Attestor) { a.Keys = nil }, code: decide.CodeNotAttested, detail: "no public keys"},
		"attestor without note":                         {attestor: func(a *policy.Attestor) { a.Note = "" }, evidence: with(func(a *evidence.Attestation) { a.Note = "" }), code: decide.CodeNotAttested, detail: "or no note"},
		"zero fingerprints":                             {attestor: func(a *policy.Attestor) { a.Keys = []policy.Key{{}} }, evidence: with(func(a *evidence.Attestation) { a.Fingerprint = [32]byte{} }), code: decide.CodeNotAttested, detail: "does not trust"},
		"repository must match": {attestor: func(a *policy.Attestor) { a.MatchRepository = true }, evidence: known(good), text: "gcr.io/p/other@sha256:" + hexA,
			code: decide.CodeNotAttested, detail: "for repository gcr.io/p/app, and the image is of gcr.io/p/other"},
		"repository must match and does": {attestor: func(a *policy.Attestor) { a.MatchRepository = true }, evidence: known(good), verdict: decide.ALLOW, code: decide.CodeAttested},
		"repository matches normalised": {attestor: func(a *policy.Attestor) { a.MatchRepository = true },
			evidence: with(func(a *evidence.Attestation) { a.Repository = "index.docker.io/library/nginx" }), text: "nginx@sha256:" + hexA, verdict: decide.ALLOW, code: decide.CodeAttested},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := rulesOf(policy.Rule{Evaluation: policy.RequireChecks, Checks: attestedBy(built)})
			if test.attestor != nil {
				a := rules.Attestors[built]
				test.attestor(&a)
				rules.Attestors[built] = a
			}
			text := test.text
			if text == "" {
				text = digested
			}
			d := decided(request(text), rules, test.evidence, noon)
			if d.Verdict != test.verdict || d.Allowed != (test.verdict == decide.ALLOW) {
				t.Errorf("verdict %v, allowed %v; want %v", d.Verdict, d.Allowed, test.verdict)
			}
			r := d.Images[0].Reasons
			if len(r) != 1 || r[0].Code != test.code {
				t.Fatalf("reasons %+v, want one %v", r, test.code)
			}
			if details := strings.Join(r[0].Details, "\n"); !strings.Contains(details, test.detail) || (test.detail == "" && details != "") {
				t.Errorf("details %q, want %q", details, test.detail)
			}
		})
	}
}

func TestMissingAttestorDeniesEvenWithoutEvidence(t *testing.T) {
	t.Parallel()
	rule := policy.Rule{Evaluation: policy.RequireChecks, Checks: attestedBy(built, "projects/p/attestors/gone", scanned), OnUnavailable: policy.OnUnavailable{Warn: true}}
	d := decided(request(digested), rulesOf(rule), nil, noon)
	want := []decide.Code{decide.CodeEvidenceUnavailable, decide.CodeAttestorMissing}
	if d.Allowed || d.Verdict != decide.DENY || !cmp.Equal(codes(d.Images[0]), want) {
		t.Errorf("verdict %v, reasons %v; want DENY and %v", d.Verdict, codes(d.Images[0]), want)
	}
	if d := decided(request(digested), rulesOf(rule), both(), noon); d.Allowed {
		t.Error("two of three attestors let the image in")
	}
}

func TestRuleThatNamesNoAttestorDenies(t *testing.T) {
	t.Parallel()
	d := decided(request(digested), rulesOf(policy.Rule{Evaluation: policy.RequireChecks}), both(), noon)
	if d.Allowed || !cmp.Equal(codes(d.Images[0]), []decide.Code{decide.CodeAttestorMissing}) {
		t.Errorf("got %+v", d)
	}
}

func TestOneBadImageDeniesThePod(t *testing.T) {
	t.Parallel()
	for _, texts := range [][]string{{digested, tagged}, {tagged, digested}, {digested, "gcr.io/p/b@sha256:" + strings.Repeat("0", 64), tagged}} {
		d := decided(request(texts...), rulesOf(requireBoth()), both(), noon)
		if d.Allowed || d.Verdict != decide.DENY || len(d.Images) != len(texts) {
			t.Errorf("%v: %+v", texts, d)
		}
	}
	d := decided(request(digested, "gcr.io/p/b@sha256:"+strings.Repeat("0", 64)), rulesOf(requireBoth()), both(), noon)
	if d.Allowed || d.Verdict != decide.INDETERMINATE {
		t.Errorf("one image without evidence: %+v", d)
	}
}

func TestAttestationIsChosenWhateverTheOrder(t *testing.T) {
	t.Parallel()
	older, newest, twin := attestation("built", keyBuilt), attestation("built", keyBuilt), attestation("built", keyBuilt)
	older.Created, older.Occurrence = noon.Add(-2*time.Hour), "projects/p/occurrences/0"
	newest.Occurrence, twin.Occurrence = "projects/p/occurrences/1", "projects/p/occurrences/2"
	rules := rulesOf(policy.Rule{Evaluation: policy.RequireChecks, Checks: attestedBy(built)})
	for _, list := range [][]evidence.Attestation{{older, newest, twin}, {twin, newest, older}, {newest, older, twin}} {
		d := decided(request(digested), rules, known(list...), noon)
		if r := d.Images[0].Reasons[0]; r.Occurrence != newest.Occurrence || r.KeyID != "key-built" || r.Attestor != built {
			t.Errorf("got %+v, want occurrence %s", r, newest.Occurrence)
		}
	}
}

func TestImageTextIsBounded(t *testing.T) {
	t.Parallel()
	d := decided(request("gcr.io/"+strings.Repeat("é", 1<<20)), rulesOf(requireBoth()), nil, noon)
	if d.Allowed || len(d.Images[0].Image) > 1<<10 {
		t.Errorf("allowed %v, %d bytes of text", d.Allowed, len(d.Images[0].Image))
	}
}

// TestTheDecidingPolicyIsOneThatKeepsThePodOut: a dry run does not, however bad its
// verdict is.
func TestTheDecidingPolicyIsOneThatKeepsThePodOut(t *testing.T) {
	t.Parallel()
	named := func(name string, rule policy.Rule) *policy.Ruleset {
		r := rulesOf(rule)
		r.Name = name
		return r
	}
	dry := requireBoth()
	dry.DryRun = true
	set := policy.Set{named("dry", dry), named("open", policy.Rule{Evaluation: policy.AlwaysAllow}), named("strict", requireBoth())}
	d := decide.Decide(request(digested), set, evidence.Facts{Images: known()}, noon)
	if d.Allowed || d.Policy != "strict" {
		t.Errorf("allowed %v, by %q", d.Allowed, d.Policy)
	}
	if first, _, _ := strings.Cut(decide.Message(d), "\n"); strings.Count(decide.Message(d), "denied by Binary Authorization") != 1 {
		t.Errorf("the dry run is spoken of, too: %s", first)
	}
	d = decide.Decide(request(digested), set[:2], evidence.Facts{Images: known()}, noon)
	if !d.Allowed || d.Policy != "dry" || d.Override != decide.DryRun {
		t.Errorf("allowed %v, by %q, override %q", d.Allowed, d.Policy, d.Override)
	}
}
