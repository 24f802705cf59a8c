package decide_test

import (
	"reflect"
	"testing"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// FuzzDecide builds requests and evidence from a few bytes, and holds decisions
// to what must be true of all of them.
func FuzzDecide(f *testing.F) {
	f.Add(digested, tagged, uint8(2), uint8(3), true, "")
	f.Add(digested, digested, uint8(2), uint8(0), false, "label")
	f.Add("", "not a reference", uint8(0), uint8(15), true, "label")
	f.Add("gcr.io/p/exempt/a:1", "nginx", uint8(2), uint8(7), false, "")
	f.Fuzz(func(t *testing.T, one, two string, evaluation, have uint8, dryRun bool, breakGlass string) {
		rule := requireBoth()
		rule.Evaluation, rule.DryRun = policy.Evaluation(int(evaluation%5)-1), dryRun
		rules := rulesOf(rule)
		req := request(one, two)
		req.BreakGlass = breakGlass
		ev := fuzzEvidence(have)

		d := decided(req, rules, ev, noon)
		message := decide.Message(d)
		if again := decided(req, rules, ev, noon); !reflect.DeepEqual(d, again) || decide.Message(again) != message {
			t.Error("the same question has two answers")
		}
		if len(message) > 3200 {
			t.Errorf("message of %d bytes", len(message))
		}
		checkAnswer(t, d, dryRun, breakGlass)

		if rule.Evaluation == policy.RequireChecks {
			if d := decided(req, rules, images{}, noon); d.Verdict == decide.ALLOW || (d.Allowed && !dryRun && breakGlass == "") {
				t.Error("allowed without evidence")
			}
		}
		if d := decided(req, &policy.Ruleset{}, ev, noon); d.Verdict != decide.DENY || (d.Allowed && breakGlass == "") {
			t.Error("the zero Ruleset allows")
		}

		// More that counts never makes it worse, less never better.
		if more := decided(req, rules, both(), noon); d.Verdict == decide.ALLOW && more.Verdict != decide.ALLOW {
			t.Error("more evidence denies")
		}
		fewer := *rules
		fewer.Rules = []policy.Rule{rule}
		fewer.Rules[0].Checks = attestedBy(built)
		if less := decided(req, &fewer, ev, noon); d.Verdict == decide.ALLOW && less.Verdict != decide.ALLOW {
			t.Error("asking for fewer attestors denies")
		}
		wider := *rules
		wider.Exempt = exempt(t, "admissionWhitelistPatterns", "gcr.io/p/exempt/**")
		if w := decided(req, &wider, ev, noon); d.Verdict == decide.ALLOW && w.Verdict != decide.ALLOW {
			t.Error("an exemption denies")
		}
	})
}

func fuzzEvidence(have uint8) images {
	img := evidence.Image{}
	if have&1 != 0 {
		img.State = evidence.Known
	}
	if have&2 != 0 {
		img.Attestations = append(img.Attestations, attestation("built", keyBuilt))
	}
	if have&4 != 0 {
		img.Attestations = append(img.Attestations, attestation("scanned", keyScanned))
	}
	if have&8 != 0 {
		img.Attestations = append(img.Attestations, attestation("built", keyOther))
	}
	if have&16 != 0 {
		img.Rejected = append(img.Rejected, evidence.Rejection{Note: "projects/p/notes/built", Reason: "is bad"})
	}
	return images{digestA(): img}
}

// checkAnswer asserts how the parts of a decision hang together.
func checkAnswer(t *testing.T, d decide.Decision, dryRun bool, breakGlass string) {
	t.Helper()
	worst := decide.ALLOW
	for _, id := range d.Images {
		if len(id.Reasons) == 0 {
			t.Errorf("no reason for %v of %q", id.Verdict, id.Image)
		}
		for _, r := range id.Reasons {
			if r.Code == decide.CodeAttested && (id.Digest != digestA() || r.Occurrence == "") {
				t.Errorf("%q is attested, digest %v by %q", id.Image, id.Digest, r.Occurrence)
			}
		}
		if id.Verdict == decide.DENY || (id.Verdict == decide.INDETERMINATE && worst == decide.ALLOW) {
			worst = id.Verdict
		}
	}
	if d.Verdict != worst {
		t.Errorf("verdict %v of images whose worst is %v", d.Verdict, worst)
	}
	if d.Allowed != (worst == decide.ALLOW || dryRun || breakGlass != "") {
		t.Errorf("allowed %v with verdict %v, dry run %v, break-glass %q", d.Allowed, worst, dryRun, breakGlass)
	}
	if (d.Override != decide.NoOverride) != (d.Allowed && worst != decide.ALLOW) {
		t.Errorf("override %q with verdict %v, allowed %v", d.Override, worst, d.Allowed)
	}
	if d.BreakGlass != breakGlass {
		t.Errorf("break-glass recorded as %q", d.BreakGlass)
	}
}

func BenchmarkDecide(b *testing.B) {
	rules := rulesOf(requireBoth())
	rules.Exempt = exempt(b, "admissionWhitelistPatterns", "gke.gcr.io/**", "k8s.gcr.io/**", "gcr.io/google-containers/*", "gcr.io/stackdriver-agents/*")
	for _, bench := range []struct {
		name string
		req  decide.Request
		ev   images
		want decide.Verdict
	}{
		{"attested", request(digested), both(), decide.ALLOW},
		{"three images", request(digested, digested, digested), both(), decide.ALLOW},
		{"exempt", request("gke.gcr.io/pause:3"), nil, decide.ALLOW},
		{"not attested", request(digested), known(), decide.DENY},
		{"tag", request(tagged), nil, decide.DENY},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := decided(bench.req, rules, bench.ev, noon); d.Verdict != bench.want {
					b.Fatal(d.Verdict)
				}
			}
		})
	}
}
