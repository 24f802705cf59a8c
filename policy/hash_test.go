package policy_test

import (
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

type constraint string

func (constraint) Holds([]byte) (bool, error) { return false, nil }
func (c constraint) String() string           { return string(c) }

// Two rules of one hash allow the same images on the same evidence, so that what
// one has allowed counts for the other: whatever changes what a rule demands must
// change its hash.
func TestWhateverARuleDemandsChangesItsHash(t *testing.T) {
	t.Parallel()
	hash := func(rule policy.Rule, a policy.Attestor) string {
		r := &policy.Ruleset{Rules: []policy.Rule{rule}, Attestors: map[string]policy.Attestor{"a": a}}
		return r.Build().Rules[0].Hash()
	}
	key := func(b byte) []policy.Key { return []policy.Key{{Fingerprint: [32]byte{b}}} }
	pattern := func(parse func(string) (image.Pattern, error), text string) []policy.Exemption {
		p, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return []policy.Exemption{{Pattern: p}}
	}
	directory, err := image.ParseDirectory("gcr.io/p/*")
	if err != nil {
		t.Fatal(err)
	}
	builder := policy.Builder{Name: "b", IDs: []string{"x"}, Keys: key(1)}
	of := func(c policy.Condition) policy.Rule {
		return policy.Rule{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: c}}}
	}
	attestor := policy.Attestor{Note: "n", Keys: key(1)}
	vulnerabilities := policy.Vulnerabilities{Projects: []string{"p"}}
	seen := map[string]int{}
	for i, rule := range []policy.Rule{
		{}, {Evaluation: policy.AlwaysAllow}, {Evaluation: policy.RequireChecks},
		{Exempt: pattern(image.ParseBinauthzPattern, "gcr.io/p/a")}, {Exempt: pattern(image.ParsePlatformPattern, "gcr.io/p/a")},
		of(nil), of(policy.Attested{Attestor: "a"}), of(policy.Attested{Attestor: "none"}), of(policy.Never{}), of(policy.Digested{}),
		of(policy.AllOf{}), of(policy.AnyOf{}), of(policy.AllOf{Of: []policy.Condition{policy.Never{}}}), of(policy.AnyOf{Of: []policy.Condition{policy.Never{}}}),
		of(policy.AllOf{Of: []policy.Condition{policy.AllOf{}, policy.Never{}}}), of(policy.AllOf{Of: []policy.Condition{policy.AllOf{Of: []policy.Condition{policy.Never{}}}}}),
		of(policy.SignedBy{}), of(policy.SignedBy{Cosign: true}), of(policy.SignedBy{Projects: []string{"p"}}), of(policy.SignedBy{Projects: []string{"p", ""}}),
		of(policy.SignedBy{Signers: []policy.Signer{{Keys: key(1)}}}), of(policy.SignedBy{Signers: []policy.Signer{{Keys: key(2)}}}), of(policy.SignedBy{Signers: []policy.Signer{{Keys: key(1)}, {}}}),
		of(vulnerabilities),
		of(policy.Vulnerabilities{Projects: []string{"p"}, MaxFixable: 1}), of(policy.Vulnerabilities{Projects: []string{"p"}, MaxUnfixable: 1}),
		of(policy.Vulnerabilities{Projects: []string{"p"}, Allowed: []string{"a"}}), of(policy.Vulnerabilities{Projects: []string{"p"}, Blocked: []string{"a"}}),
		of(policy.Vulnerabilities{Projects: []string{"p"}, UnscannedAllowed: true}), of(policy.Vulnerabilities{Projects: []string{"p"}, UnspecifiedAllowed: true}),
		of(policy.Fresh{MaxAge: time.Second}), of(policy.Fresh{MaxAge: time.Second + 1}), of(policy.Fresh{MaxAge: time.Second, Projects: []string{"p"}}), of(policy.Fresh{MaxAge: time.Second, Recorders: []policy.Signer{{Keys: key(1)}}}),
		of(policy.InDirectory{}), of(policy.InDirectory{Patterns: []image.Directory{directory}}),
		of(policy.BuiltBy{}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{}}}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: builder}}}),
		of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{ConfigBased: true}}}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{Sources: make([]policy.SourcePattern, 1)}}}),
		// What is not there must not be taken for what comes after it.
		of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{Constraint: constraint("")}}}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{Constraint: constraint("x")}}}),
		of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{Constraint: constraint("x")}, {}}}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{}, {Constraint: constraint("x")}}}), of(policy.BuiltBy{Rules: []policy.ProvenanceRule{{}, {}}}),
		{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Never{}, Exempt: pattern(image.ParseBinauthzPattern, "a")}}},
		{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Never{}}, {Condition: policy.Never{}}}},
	} {
		h := hash(rule, attestor)
		if j, ok := seen[h]; ok {
			t.Errorf("rules %d and %d have one hash", j, i)
		}
		seen[h] = i
	}
	attested := of(policy.Attested{Attestor: "a"})
	for name, other := range map[string]policy.Attestor{
		"note": {Note: "m", Keys: key(1)}, "key": {Note: "n", Keys: key(2)}, "no key": {Note: "n"}, "repository": {Note: "n", Keys: key(1), MatchRepository: true},
	} {
		if hash(attested, other) == hash(attested, attestor) {
			t.Errorf("an attestor with another %s has the same hash", name)
		}
	}
	// What a rule is called, and what it does beside deciding, does not count.
	named := attested
	named.ID, named.Line, named.File, named.DryRun, named.OnUnavailable.Warn = "other", 3, "f", true, true
	if hash(named, policy.Attestor{Name: "other", Note: "n", Keys: []policy.Key{{ID: "other", Fingerprint: [32]byte{1}}}}) != hash(attested, attestor) {
		t.Error("a name changes the hash")
	}
}
