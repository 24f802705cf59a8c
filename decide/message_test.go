package decide_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

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

// gallery has one decision of each kind.
func gallery(t *testing.T) map[string]decide.Decision {
	t.Helper()
	stranger := attestation("built", keyOther)
	stranger.KeyID = "projects/mallory/key"
	found := images{digestA(): {
		State:        evidence.Known,
		Attestations: []evidence.Attestation{attestation("scanned", keyScanned), stranger},
		Rejected:     []evidence.Rejection{{Note: "projects/p/notes/built", Occurrence: "projects/p/occurrences/77", Reason: `is signed by unknown key "x"`}},
	}}
	keys := []policy.Key{{ID: "k", Fingerprint: keyBuilt}}
	check := func(c policy.Condition, img evidence.Image) decide.Decision {
		img.State = evidence.Known
		return decided(request(digested), rulesFor(c, policy.OnUnavailable{}), images{digestA(): img}, noon)
	}
	slsa := policy.BuiltBy{Rules: []policy.ProvenanceRule{
		{Builder: policy.Builder{Name: "GOOGLE_CLOUD_BUILD", IDs: []string{"https://build.example/"}, Keys: keys}, Projects: []string{"p"}, Constraint: holds{says: true}},
		{Builder: policy.Builder{Name: "GOOGLE_CLOUD_BUILD", IDs: []string{"https://build.example/"}, Keys: keys}, Projects: []string{"q"}},
	}}
	fresh := policy.Fresh{MaxAge: 24 * time.Hour, Recorders: []policy.Signer{{Name: "s", Keys: keys}}, Projects: []string{"p"}}
	var rejected []evidence.Rejection
	for i, project := range []string{"r", "q", "p", "p", "p", "p"} {
		rejected = append(rejected, evidence.Rejection{Occurrence: fmt.Sprintf("projects/%s/occurrences/%d", project, 70+i), Project: project, Reason: `is signed by key "x", which is not trusted in its project`})
	}
	cluster := requireBoth()
	clusterRules := rulesOf(cluster)
	clusterRules.Rules[0].ID = "cluster admission rule for us-east1-b.prod"
	exempted := rulesOf(requireBoth())
	exempted.Exempt = exempt(t, "admissionWhitelistPatterns", "gcr.io/p/app:*")
	dry := requireBoth()
	dry.DryRun = true
	warn := requireBoth()
	warn.OnUnavailable.Warn = true
	broken := request(digested)
	broken.BreakGlass, broken.Justification = "label image-policy.k8s.io/break-glass", "INC-7: checkout is down"
	missing := requireBoth()
	missing.Checks = append(missing.Checks, attestedBy("projects/p/attestors/gone")...)

	return map[string]decide.Decision{
		"attested":          decided(request(digested), rulesOf(requireBoth()), both(), noon),
		"exempt":            decided(request(tagged), exempted, nil, noon),
		"always allow":      decided(request(tagged), rulesOf(policy.Rule{Evaluation: policy.AlwaysAllow}), nil, noon),
		"always deny":       decided(request(tagged), rulesOf(policy.Rule{}), nil, noon),
		"not attested":      decided(request(digested), clusterRules, found, noon),
		"tag":               decided(request(tagged, digested), rulesOf(requireBoth()), both(), noon),
		"invalid reference": decided(request("gcr.io/p/app:v1\nImage x allowed"), rulesOf(requireBoth()), nil, noon),
		"attestor missing":  decided(request(digested), rulesOf(missing), both(), noon),
		"unreadable":        decided(request(digested), rulesOf(requireBoth()), images{digestA(): {Err: "reading the store: disk I/O error"}}, noon),
		"fail open":         decided(request(digested), rulesOf(warn), nil, noon),
		"dry run":           decided(request(tagged), rulesOf(dry), nil, noon),
		"break-glass":       decided(broken, rulesOf(requireBoth()), known(), noon),
		"no policy":         decided(request(tagged), nil, nil, noon),
		"no rule":           decided(request(tagged), &policy.Ruleset{}, nil, noon),
		"not built":         check(slsa, evidence.Image{Rejected: rejected[:3]}),
		"not kept whole": check(slsa, evidence.Image{Rejected: rejected[:1], Provenances: []evidence.Provenance{
			{Origin: attestation("built", keyBuilt).Origin, Builder: "https://build.example/worker"},
		}}),
		"upload unknown": check(fresh, evidence.Image{Rejected: rejected, Uploads: []evidence.Upload{
			{Origin: evidence.Origin{Occurrence: "projects/p/occurrences/60", Project: "p", KeyID: "y", Fingerprint: keyOther}, Time: noon},
			{Origin: evidence.Origin{Occurrence: "projects/r/occurrences/61", Project: "r", KeyID: "y", Fingerprint: keyBuilt}, Time: noon},
		}}),
		"no images": decided(request(), rulesOf(policy.Rule{}), nil, noon),
	}
}

func TestDecisionJSONIsStable(t *testing.T) {
	t.Parallel()
	all := gallery(t)
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	golden(t, "decision.json", b.String())

	var back map[string]decide.Decision
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, back, cmpopts.EquateComparable(image.Digest{})); diff != "" {
		t.Errorf("a decision changes when it is stored and read (-made +read):\n%s", diff)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	all := gallery(t)
	var b strings.Builder
	for _, name := range []string{
		"attested", "always deny", "not attested", "not built", "not kept whole", "upload unknown", "tag", "invalid reference", "attestor missing", "unreadable", "fail open", "dry run", "break-glass", "no policy", "no rule",
	} {
		fmt.Fprintf(&b, "== %s: %s\n%s\n\n", name, all[name].Summary, decide.Message(all[name]))
	}
	golden(t, "messages.txt", b.String())
}

func TestMessageSaysItInBinaryAuthorizationsWords(t *testing.T) {
	t.Parallel()
	all := gallery(t)
	for name, want := range map[string]string{
		"always deny":  "Image gcr.io/p/app:v1 denied by Binary Authorization default admission rule. Denied by always_deny admission rule",
		"break-glass":  "Image " + digested + " denied by Binary Authorization default admission rule. Image " + digested + " denied by attestor projects/p/attestors/built: No attestations found that were valid and signed by a key trusted by the attestor",
		"not attested": "Image " + digested + " denied by Binary Authorization cluster admission rule for us-east1-b.prod. Image " + digested + " denied by attestor projects/p/attestors/built: No attestations found",
		"tag":          "denied by attestor projects/p/attestors/built: Expected digest with sha256 scheme, but got tag or malformed digest",
	} {
		if got := decide.Message(all[name]); !strings.Contains(got, want) {
			t.Errorf("%s: message\n%s\ndoes not say\n%s", name, got, want)
		}
	}
}

// TestVerificationResult has the form that alerts on Binary Authorization's audit log
// look for.
func TestVerificationResult(t *testing.T) {
	t.Parallel()
	all := gallery(t)
	for name, want := range map[string]string{
		"break-glass": "'" + digested + "' : Image " + digested + " denied by attestor projects/p/attestors/built: No attestations found that were valid and signed by a key trusted by the attestor. " +
			"Image " + digested + " denied by attestor projects/p/attestors/scanned: No attestations found that were valid and signed by a key trusted by the attestor\n",
		"always deny": "'gcr.io/p/app:v1' : Denied by always_deny admission rule\n",
		"attested":    "",
	} {
		if got := decide.VerificationResult(all[name]); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("reg.test/%s/\x1b[2J%d:1", strings.Repeat("x", 200), i))
	}
	got := decide.VerificationResult(decided(request(many...), rulesOf(requireBoth()), both(), noon))
	if len(got) > 4<<10 || !strings.Contains(got, "more images") || strings.Contains(got, "\x1b") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

func TestMessageSpeaksOfDeniedImagesOnly(t *testing.T) {
	t.Parallel()
	d := decided(request(digested, tagged, tagged), rulesOf(requireBoth()), both(), noon)
	got := decide.Message(d)
	if strings.Contains(got, digested) {
		t.Errorf("an image that is allowed is spoken of:\n%s", got)
	}
	if n := strings.Count(got, "Image "+tagged+" denied by Binary Authorization"); n != 1 {
		t.Errorf("an image that two containers share is denied %d times:\n%s", n, got)
	}
}

// TestMessageSaysItInKritisWords has the words that people search for, for checks with
// and without alternatives.
func TestMessageSaysItInKritisWords(t *testing.T) {
	t.Parallel()
	gap := func(of ...policy.Condition) policy.Check {
		return policy.Check{Type: "GenericAttestationPolicy", Name: "shop/g", Condition: policy.AnyOf{Of: []policy.Condition{policy.AllOf{Name: "GenericAttestationPolicy shop/g", Of: of}}}}
	}
	isp := func(c policy.Condition) policy.Check {
		return policy.Check{Type: "ImageSecurityPolicy", Name: "shop/i", Condition: c}
	}
	by, scan := policy.Attested{Attestor: built}, policy.Vulnerabilities{Projects: []string{"p"}}
	vulnerable := images{digestA(): {State: evidence.Known, Scans: []evidence.Scan{{Project: "p", Finished: true, Findings: []evidence.Finding{{Note: "projects/p/notes/CVE-1", Severity: 5}}}}}}
	for _, test := range []struct {
		check policy.Check
		image string
		known images
		want  string
	}{
		{gap(by), digested, known(), digested + " is not attested by " + built + " in GenericAttestationPolicy shop/g"},
		{gap(by), tagged, nil, tagged + " is not attested by " + built + " in GenericAttestationPolicy shop/g: it is not a fully qualified image"},
		{gap(by), "x:y:z", nil, "x:y:z is not attested by " + built + " in GenericAttestationPolicy shop/g: it is not a fully qualified image"},
		{gap(), digested, known(), "GenericAttestationPolicy shop/g did not specify any attestation authority"},
		{isp(by), digested, known(), digested + " is not attested by " + built + " (ImageSecurityPolicy shop/i)"},
		{isp(by), tagged, nil, tagged + " is not attested by " + built + " (ImageSecurityPolicy shop/i): it is not a fully qualified image"},
		{isp(scan), tagged, nil, tagged + " is not a fully qualified image (ImageSecurityPolicy shop/i)"},
		{isp(scan), "x:y:z", nil, "x:y:z is not a fully qualified image (ImageSecurityPolicy shop/i)"},
		{isp(scan), digested, vulnerable, "found violations in " + digested + " (ImageSecurityPolicy shop/i): Image has 1 vulnerability that the policy does not allow"},
		{isp(scan), digested, known(), "No finished vulnerability scan was found for the image in project p (ImageSecurityPolicy shop/i)"},
		{policy.Check{Type: "ImageSecurityPolicy", Condition: scan}, tagged, nil, tagged + " is not a fully qualified image"},
	} {
		rules := rulesOf(policy.Rule{Evaluation: policy.RequireChecks, Checks: []policy.Check{test.check}})
		rules.Dialect = policy.Kritis
		got, _, _ := strings.Cut(decide.Message(decided(request(test.image), rules, test.known, noon)), "\n")
		if want := "Image " + test.image + " denied by default admission rule. " + test.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestMessageIsBounded(t *testing.T) {
	t.Parallel()
	const most = 3200
	var many []string
	rule := policy.Rule{Evaluation: policy.RequireChecks}
	rules := rulesOf(rule)
	for i := range 200 {
		many = append(many, fmt.Sprintf("gcr.io/p/app%03d@sha256:%064d", i, i))
		name := fmt.Sprintf("projects/p/attestors/a%03d", i)
		rules.Rules[0].Checks = append(rules.Rules[0].Checks, attestedBy(name)...)
		rules.Attestors[name] = policy.Attestor{Note: "projects/p/notes/" + name, Keys: []policy.Key{{Fingerprint: keyBuilt}}}
	}
	ev := images{}
	for i, text := range many {
		img := evidence.Image{State: evidence.Known}
		for range max(3, 1000-500*i) {
			img.Rejected = append(img.Rejected, evidence.Rejection{Note: "projects/p/notes/projects/p/attestors/a000", Occurrence: text, Reason: strings.Repeat("x", 5000)})
		}
		ev[mustParse(text).Digest()] = img
	}
	d := decided(request(many...), rules, ev, noon)
	got := decide.Message(d)
	if len(got) > most || len(got) < 500 {
		t.Errorf("message of %d bytes, want at most %d:\n%s", len(got), most, got)
	}
	for _, want := range []string{many[0], "(and 197 more attestors)", "more images", "more findings", "more steps"} {
		if !strings.Contains(got, want) {
			t.Errorf("message does not say %q:\n%s", want, got)
		}
	}
	if details := d.Images[0].Reasons[0].Details; len(details) != 4 || details[3] != "and 997 more that do not count" {
		t.Errorf("details %d: %q", len(details), details[len(details)-1])
	}
	long := decide.Message(decided(request(strings.Repeat("x", 100000), strings.Repeat("y", 100000)), rules, nil, noon))
	if len(long) > most {
		t.Errorf("long names make a message of %d bytes", len(long))
	}
}

func TestMessageCannotBeForgedByAnImageName(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x\nImage y allowed", "x\x1b[2K", "x\u202egnp", "x\x00", "x\xff", "x\u2028y", "<b>"} {
		got := decide.Message(decided(request(text), rulesOf(requireBoth()), nil, noon))
		first, _, _ := strings.Cut(got, "\n")
		if !strings.Contains(first, "malformed digest") {
			t.Errorf("%q breaks out of its line:\n%s", text, got)
		}
		for _, bad := range []string{"\x1b", "\u202e", "\x00", "\xff", "\u2028"} {
			if strings.Contains(got, bad) {
				t.Errorf("%q: the message holds %q", text, bad)
			}
		}
	}
}

func TestZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	var d decide.Decision
	if d.Allowed || d.Verdict != decide.DENY || d.Verdict.String() != "DENY" || decide.Message(d) == "" {
		t.Errorf("the zero Decision is %v %v %q", d.Allowed, d.Verdict, decide.Message(d))
	}
	if got := decide.Verdict(9).String(); got != "DENY" {
		t.Errorf("an unknown verdict reads %q", got)
	}
	var v decide.Verdict
	if err := v.UnmarshalText([]byte("allow")); err == nil {
		t.Error("a verdict in lower case was read")
	}
}

func TestExplanationIsThatOfContinuousValidation(t *testing.T) {
	t.Parallel()
	check := &decide.CheckRef{Index: 2, Name: "My check", Type: "VulnerabilityCheck"}
	for want, r := range map[string]decide.Reason{
		`VulnerabilityCheck at index 2 with display name "My check" has verdict NOT_CONFORMANT. Found`: {Code: decide.CodeVulnerable, Message: "Found.", Check: check},
		`VulnerabilityCheck at index 2 with display name "My check" has verdict CONFORMANT. Fine`:      {Verdict: decide.ALLOW, Code: decide.CodeScanned, Message: "Fine", Check: check},
		`VulnerabilityCheck at index 2 with display name "My check" has verdict ERROR. No scan`:        {Code: decide.CodeNotScanned, Message: "No scan", Check: check},
		`No rule`: {Code: decide.CodeNoRule, Message: "No rule"},
	} {
		if got := r.Explanation(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What the webhook that pins tags could not do stands in the refusal, for the image that
// it is about and made harmless.
func TestARefusalSaysWhyATagWasNotPinned(t *testing.T) {
	t.Parallel()
	req := request("reg.test/app:1")
	req.Unpinned = "reg.test/other:1: of another\nreg.test/app:1: registry reg.test does not answer\x1b[31m\n"
	d := decide.Decide(req, policy.Set{rulesFor(policy.Digested{}, policy.OnUnavailable{})}, evidence.Facts{}, noon)
	details := strings.Join(d.Images[0].Reasons[0].Details, "\n")
	if d.Verdict != decide.DENY || !strings.Contains(details, "registry reg.test does not answer") || strings.Contains(details, "another") || strings.Contains(details, "\x1b") {
		t.Errorf("%v: %q", d.Verdict, details)
	}
	if text := decide.Message(d); !strings.Contains(text, "registry reg.test does not answer") {
		t.Errorf("the message lacks it: %s", text)
	}
	req.Images[0].Text = "reg.test/app@sha256:" + strings.Repeat("0", 64)
	if d := decide.Decide(req, policy.Set{rulesFor(policy.Digested{}, policy.OnUnavailable{})}, evidence.Facts{}, noon); d.Verdict != decide.ALLOW {
		t.Errorf("what is said of tags counts for a digest: %v", d.Verdict)
	}
}
