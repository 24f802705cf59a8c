package policy_test

import (
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

func TestZeroValuesDeny(t *testing.T) {
	t.Parallel()
	var rules policy.Ruleset
	if _, ok := rules.Select(policy.Scope{Namespace: "n"}); ok {
		t.Error("the zero Ruleset has a rule")
	}
	if _, ok := rules.Exempts("gcr.io/p/i", "", time.Time{}); ok {
		t.Error("the zero Ruleset exempts")
	}
	rules.Exempt = []policy.Exemption{{}}
	if _, ok := rules.Exempts("", "", time.Time{}); ok {
		t.Error("the zero Exemption exempts")
	}
	var rule policy.Rule
	if rule.Evaluation != policy.AlwaysDeny || rule.OnUnavailable != (policy.OnUnavailable{}) || rule.DryRun {
		t.Errorf("the zero Rule does not deny: %+v", rule)
	}
	if (policy.Attestor{}).Trusts([32]byte{}) {
		t.Error("the zero Attestor trusts the zero fingerprint")
	}
}

func TestScopeNeedsEveryFieldThatIsSet(t *testing.T) {
	t.Parallel()
	pod := policy.Scope{Cluster: "l.c", Namespace: "n", ServiceAccount: "n:sa", IstioIdentity: "d/ns/n/sa/sa"}
	for _, s := range []policy.Scope{{}, {Cluster: "l.c"}, {Namespace: "n"}, {ServiceAccount: "n:sa"}, {IstioIdentity: "d/ns/n/sa/sa"}, pod} {
		if !s.Matches(pod) {
			t.Errorf("%+v does not match %+v", s, pod)
		}
	}
	for _, s := range []policy.Scope{
		{Cluster: "l.d"}, {Namespace: "N"}, {ServiceAccount: "n:other"}, {IstioIdentity: "e/ns/n/sa/sa"}, {Cluster: "l.c", Namespace: "m"},
	} {
		if s.Matches(pod) {
			t.Errorf("%+v matches %+v", s, pod)
		}
	}
}

func TestSelectTakesFirstRuleInScope(t *testing.T) {
	t.Parallel()
	rules := policy.Ruleset{Rules: []policy.Rule{
		{ID: "a", Scope: policy.Scope{Namespace: "a"}}, {ID: "b", Scope: policy.Scope{Namespace: "b"}}, {ID: "default"},
	}}
	for namespace, want := range map[string]string{"a": "a", "b": "b", "c": "default", "": "default"} {
		if rule, ok := rules.Select(policy.Scope{Namespace: namespace}); !ok || rule.ID != want {
			t.Errorf("namespace %q gets rule %q, want %q", namespace, rule.ID, want)
		}
	}
}

func TestExemptsNamesFirstPattern(t *testing.T) {
	t.Parallel()
	var rules policy.Ruleset
	for _, text := range []string{"gcr.io/p/a*", "gcr.io/p/**"} {
		pattern, err := image.ParseBinauthzPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		rules.Exempt = append(rules.Exempt, policy.Exemption{Pattern: pattern, Origin: "list of " + text})
	}
	for ref, want := range map[string]string{"gcr.io/p/a:1": "list of gcr.io/p/a*", "gcr.io/p/a/b": "list of gcr.io/p/**", "gcr.io/q": ""} {
		if e, ok := rules.Exempts(ref, "", time.Time{}); e.Origin != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", ref, e.Origin, ok, want)
		}
	}
}

func TestTrustsComparesFingerprintsNotNames(t *testing.T) {
	t.Parallel()
	a := policy.Attestor{Keys: []policy.Key{{ID: "k", Fingerprint: [32]byte{1}}, {ID: "l", Fingerprint: [32]byte{2}}}}
	if (policy.Attestor{Keys: []policy.Key{{}}}).Trusts([32]byte{}) {
		t.Error("a key without fingerprint is trusted")
	}
	if !a.Trusts([32]byte{2}) || a.Trusts([32]byte{3}) {
		t.Error("Trusts does not follow the fingerprints")
	}
}

func TestEvaluationNames(t *testing.T) {
	t.Parallel()
	for e, want := range map[policy.Evaluation]string{
		policy.AlwaysDeny: "ALWAYS_DENY", policy.AlwaysAllow: "ALWAYS_ALLOW", policy.RequireChecks: "REQUIRE_ATTESTATION", -1: "ALWAYS_DENY", 3: "ALWAYS_DENY",
	} {
		if e.String() != want {
			t.Errorf("Evaluation(%d) = %q, want %q", int(e), e, want)
		}
	}
}
