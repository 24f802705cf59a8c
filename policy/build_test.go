package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// TestBuiltRulesetAnswersLikeTheList compares a Ruleset before and after Build:
// the rule for a pod, and the exemption of an image.
func TestBuiltRulesetAnswersLikeTheList(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	selected, none, exempt := 0, 0, 0
	for range 300 {
		plain := randomRuleset(rng)
		built := *plain
		built.Rules = append([]policy.Rule(nil), plain.Rules...)
		built.Build()
		for range 40 {
			pod := randomScope(rng)
			want, ok := plain.Select(pod)
			got, gotOK := built.Select(pod)
			switch {
			case ok != gotOK || (ok && got.ID != want.ID):
				t.Fatalf("pod %+v: rule %v (%v), by the list %v (%v)", pod, got, gotOK, want, ok)
			case ok && got != &built.Rules[indexOf(plain, want)]:
				t.Fatal("the rule is not one of the Ruleset's")
			case ok:
				selected++
			default:
				none++
			}
			text := fmt.Sprintf("gcr.io/%c/%c:v%d", 'a'+rune(rng.IntN(3)), 'a'+rune(rng.IntN(3)), rng.IntN(2))
			e, ok := plain.Exempts(text, "", time.Time{})
			got2, gotOK := built.Exempts(text, "", time.Time{})
			if ok != gotOK || e != got2 {
				t.Fatalf("%s: exemption %v (%v), by the list %v (%v)", text, got2, gotOK, e, ok)
			}
			if ok {
				exempt++
			}
		}
	}
	if selected < 1000 || none < 100 || exempt < 1000 {
		t.Errorf("%d selected, %d without a rule, %d exempt: the test does not try enough", selected, none, exempt)
	}
}

func indexOf(r *policy.Ruleset, rule *policy.Rule) int {
	for i := range r.Rules {
		if &r.Rules[i] == rule {
			return i
		}
	}
	return -1
}

func randomScope(rng *rand.Rand) policy.Scope {
	one := func(words ...string) string { return append(words, "", "", "")[rng.IntN(len(words)+3)] }
	return policy.Scope{Cluster: one("l.a", "l.b"), Namespace: one("a", "b"), ServiceAccount: one("a:x", "b:x"), IstioIdentity: one("d/ns/a/sa/x")}
}

func randomRuleset(rng *rand.Rand) *policy.Ruleset {
	r := &policy.Ruleset{}
	for i := range rng.IntN(10) {
		scope := randomScope(rng)
		if rng.IntN(2) == 0 { // as dialects have it, one fact
			scope = [...]policy.Scope{{Cluster: scope.Cluster}, {Namespace: scope.Namespace}, {ServiceAccount: scope.ServiceAccount}, {IstioIdentity: scope.IstioIdentity}}[rng.IntN(4)]
		}
		r.Rules = append(r.Rules, policy.Rule{ID: fmt.Sprint(i), Scope: scope})
	}
	for range rng.IntN(6) {
		parse := [...]func(string) (image.Pattern, error){image.ParseBinauthzPattern, image.ParsePlatformPattern}[rng.IntN(2)]
		text := fmt.Sprintf("gcr.io/%c/", 'a'+rune(rng.IntN(3))) + []string{"**", "*", "a", "b:v0", "c*"}[rng.IntN(5)]
		if p, err := parse(text); err == nil {
			r.Exempt = append(r.Exempt, policy.Exemption{Pattern: p, Origin: fmt.Sprint(len(r.Exempt))})
		}
	}
	return r
}
