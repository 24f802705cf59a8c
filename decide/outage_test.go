package decide_test

import (
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// rulesFor returns a built Ruleset of one rule with one check.
func rulesFor(c policy.Condition, unavailable policy.OnUnavailable) *policy.Ruleset {
	return rulesOf(policy.Rule{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: c}}, OnUnavailable: unavailable}).Build()
}

// What a rule allowed may have rested on more than the digest: on the repository
// that was attested, or on a name that is exempt.
func TestWhatARuleAllowedBridgesAnOutageForTheSameSpellingOnly(t *testing.T) {
	t.Parallel()
	const elsewhere = "gcr.io/evil/app@sha256:" + hexA
	bridge := policy.OnUnavailable{LastAllowedWithin: time.Hour}
	kritis := rulesFor(policy.Attested{Attestor: built}, bridge)
	byRepository := kritis.Attestors[built]
	byRepository.MatchRepository = true
	kritis.Attestors[built] = byRepository
	exempted := rulesFor(policy.Attested{Attestor: built}, bridge)
	exempted.Rules[0].Checks[0].Exempt = exempt(t, "imageAllowlist", "gcr.io/p/**")

	for name, rules := range map[string]*policy.Ruleset{"attested for one repository": kritis.Build(), "exempt by name": exempted.Build()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := decided(request(digested), rules, both(), noon.Add(-time.Minute))
			if before.Verdict != decide.ALLOW || len(before.Grants) != 1 {
				t.Fatalf("before the outage: %v, grants %v", before.Verdict, before.Grants)
			}
			down := images{digestA(): {Err: "the store is gone", Allowed: []evidence.Allowed{before.Grants[0].Allowed}}}
			if d := decided(request(digested), rules, down, noon); !d.Allowed {
				t.Errorf("what was allowed is not any more: %s", d.Summary)
			}
			if d := decided(request(elsewhere), rules, down, noon); d.Allowed {
				t.Errorf("the digest in another repository, which the rule never allowed: %s, %s", d.Override, d.Summary)
			}
		})
	}
}

func TestFailOpenIsForEvidenceThatCouldNotBeReadAndNothingElse(t *testing.T) {
	t.Parallel()
	warn := policy.OnUnavailable{Warn: true, LastAllowedWithin: time.Hour}
	signer := []policy.Signer{{Name: "s", Keys: []policy.Key{{ID: "k", Fingerprint: keyBuilt}}}}
	p := []string{"p"}

	for name, c := range map[string]policy.Condition{
		"no condition":              nil,
		"a condition of another":    foreign{},
		"a pointer":                 &policy.Attested{Attestor: built},
		"no signer":                 policy.SignedBy{Projects: p},
		"a signer without keys":     policy.SignedBy{Signers: []policy.Signer{{Name: "s"}}, Projects: p},
		"signed nowhere":            policy.SignedBy{Signers: signer},
		"scanned nowhere":           policy.Vulnerabilities{MaxFixable: policy.AllowAll, MaxUnfixable: policy.AllowAll, UnscannedAllowed: true},
		"no recorder":               policy.Fresh{MaxAge: time.Hour, Projects: p},
		"recorded nowhere":          policy.Fresh{MaxAge: time.Hour, Recorders: signer},
		"no age":                    policy.Fresh{Recorders: signer, Projects: p},
		"no builder":                policy.BuiltBy{},
		"built nowhere":             policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: policy.Builder{IDs: p, Keys: signer[0].Keys}}}},
		"a builder without keys":    policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: policy.Builder{IDs: p}, Projects: p}}},
		"a builder without a name":  policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: policy.Builder{Keys: signer[0].Keys}, Projects: p}}},
		"an attestor without keys":  policy.Attested{Attestor: "without keys"},
		"an attestor that is gone":  policy.Attested{Attestor: "gone"},
		"all of nothing":            policy.AllOf{},
		"any of nothing":            policy.AnyOf{},
		"never":                     policy.Never{},
		"a way that cannot be gone": policy.AnyOf{Of: []policy.Condition{policy.SignedBy{}, policy.Vulnerabilities{}, policy.Fresh{}, policy.BuiltBy{}, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := rulesFor(c, warn)
			rules.Attestors["without keys"] = policy.Attestor{Note: "projects/p/notes/built"}
			for _, known := range []images{nil, both(), {digestA(): {Err: "gone"}}} {
				if d := decided(request(digested), rules, known, noon); d.Verdict != decide.DENY || d.Allowed {
					t.Errorf("%v, override %q", d.Verdict, d.Override)
				}
			}
		})
	}

	// Who can make a scan find more must not turn a denial into doubt that is let by.
	t.Run("a scan that found more than is kept", func(t *testing.T) {
		t.Parallel()
		rules := rulesFor(policy.Vulnerabilities{MaxFixable: policy.Low, MaxUnfixable: policy.AllowAll, Projects: p}, warn)
		img := evidence.Image{
			State:   evidence.Known,
			Scans:   []evidence.Scan{{Project: "p", Finished: true, Truncated: true, Findings: []evidence.Finding{{Note: "projects/p/notes/CVE-1", Severity: 5}}}},
			Allowed: []evidence.Allowed{{Image: digested, Rule: rules.Rules[0].Hash(), Time: noon}},
		}
		if d := decided(request(digested), rules, images{digestA(): img}, noon); d.Verdict != decide.INDETERMINATE || d.Allowed {
			t.Errorf("%v, allowed %v, override %q", d.Verdict, d.Allowed, d.Override)
		}
	})
}

func TestNoRulesetDenies(t *testing.T) {
	t.Parallel()
	allow := rulesOf(policy.Rule{Evaluation: policy.AlwaysAllow})
	for name, set := range map[string]policy.Set{"nil": {nil}, "zero": {{}}, "nil beside one that allows": {allow, nil}, "zero beside one that allows": {allow, {}}} {
		if d := decide.Decide(request(digested), set, evidence.Facts{Images: both()}, noon); d.Verdict != decide.DENY || d.Allowed {
			t.Errorf("%s: %v, allowed %v", name, d.Verdict, d.Allowed)
		}
	}
}

// An id that a malformed name lacks is nobody's, also where a list has an empty entry.
func TestAFindingWithoutANameIsAllowedByNone(t *testing.T) {
	t.Parallel()
	rules := rulesFor(policy.Vulnerabilities{Projects: []string{"p"}, Allowed: []string{""}}, policy.OnUnavailable{})
	for _, note := range []string{"", "projects/p/notes/", "/"} {
		img := evidence.Image{State: evidence.Known, Scans: []evidence.Scan{{Project: "p", Finished: true, Findings: []evidence.Finding{{Note: note, Severity: 5}}}}}
		if d := decided(request(digested), rules, map[image.Digest]evidence.Image{digestA(): img}, noon); d.Verdict != decide.DENY {
			t.Errorf("finding %q: %v", note, d.Verdict)
		}
	}
}

// A limit that is none of the severities is BLOCK_ALL, also for what has no severity.
func TestALimitOutOfRangeAllowsNothing(t *testing.T) {
	t.Parallel()
	for _, limit := range []policy.Severity{policy.BlockAll, -1, policy.AllowAll + 1} {
		for severity := -1; severity <= 6; severity++ {
			rules := rulesFor(policy.Vulnerabilities{MaxFixable: limit, MaxUnfixable: limit, Projects: []string{"p"}, UnspecifiedAllowed: true}, policy.OnUnavailable{})
			img := evidence.Image{State: evidence.Known, Scans: []evidence.Scan{{Project: "p", Finished: true, Findings: []evidence.Finding{{Note: "CVE-1", Severity: severity}}}}}
			if d := decided(request(digested), rules, images{digestA(): img}, noon); d.Verdict != decide.DENY {
				t.Errorf("limit %d, severity %d: %v", limit, severity, d.Verdict)
			}
		}
	}
}
