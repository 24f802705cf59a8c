package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

func TestNamespaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only, except []string
		covered      string // of shop, team-a, team-b, kube-system
	}{
		{nil, nil, "shop team-a team-b kube-system"},
		{[]string{"*"}, nil, "shop team-a team-b kube-system"},
		{[]string{"shop", "team-*"}, nil, "shop team-a team-b"},
		{[]string{"team-*"}, []string{"team-b"}, "team-a"},
		{nil, []string{"kube-*", "shop"}, "team-a team-b"},
		{nil, []string{"*"}, ""},
		{[]string{"sho"}, nil, ""},
	} {
		n, err := policy.ParseNamespaces(c.only, c.except)
		if err != nil {
			t.Fatal(err)
		}
		var covered []string
		for _, ns := range []string{"shop", "team-a", "team-b", "kube-system"} {
			if n.Cover(ns) {
				covered = append(covered, ns)
			}
		}
		if got := strings.Join(covered, " "); got != c.covered {
			t.Errorf("%v but %v: %s, want %s", c.only, c.except, got, c.covered)
		}
	}
	for _, bad := range []string{"", "A", "-a", "a-", "a**", "*a", "a.b", "a_b", strings.Repeat("a", 64), "-*"} {
		if n, err := policy.ParseNamespaces([]string{bad}, nil); err == nil {
			t.Errorf("%q is taken: %v", bad, n)
		}
		if _, err := policy.ParseNamespaces(nil, []string{bad}); err == nil {
			t.Errorf("%q is taken as an exception", bad)
		}
	}
}

func named(name string, of policy.Namespaces) *policy.Ruleset {
	r := &policy.Ruleset{Name: name, Namespaces: of, Rules: []policy.Rule{{
		Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Vulnerabilities{Projects: []string{name}}}},
	}}}
	return r.Build()
}

func namesOf(s policy.Set) string {
	var all []string
	for _, r := range s {
		all = append(all, r.Name)
	}
	return strings.Join(all, " ")
}

func TestALocalFindsThePoliciesOfANamespace(t *testing.T) {
	t.Parallel()
	teams, err := policy.ParseNamespaces([]string{"team-*"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, forTeams, own, nothing := named("file", policy.Namespaces{}), named("teams", teams), named("own", policy.Namespaces{}), named("nothing", policy.Namespaces{})
	local := &policy.Ruleset{Name: "local", Local: policy.NewLocal(map[string]policy.Set{"shop": {own}, "empty": nil}, policy.Set{forTeams}, nothing)}
	set := policy.Set{file, local}
	for ns, want := range map[string]string{"shop": "file own", "team-a": "file teams", "other": "file nothing", "empty": "file nothing"} {
		if got := namesOf(set.In(ns)); got != want {
			t.Errorf("%s: %s, want %s", ns, got, want)
		}
	}
	if got := strings.Join(set.Projects(), " "); got != "file nothing own teams" {
		t.Errorf("projects of all: %s", got)
	}
	if rule, ok := local.Select(policy.Scope{}); ok {
		t.Errorf("asked itself it has the rule %+v", rule)
	}
	bare := policy.Set{{Local: policy.NewLocal(nil, nil, nil)}}
	if in := bare.In("shop"); len(in) != 1 || len(in[0].Rules) != 0 {
		t.Errorf("where nothing speaks, not even for that, all is let in: %+v", in)
	}
	if plain := (policy.Set{file}); namesOf(plain.In("shop")) != "file" {
		t.Error("a set without a Local is another")
	}
}

func TestWithAddsToWhatIsLetIn(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	shop, err := policy.ParseNamespaces([]string{"shop"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := named("r", policy.Namespaces{})
	with := r.With([]policy.Exemption{
		{Pattern: image.ExactPattern("a"), Until: noon.Add(-time.Second)}, {Pattern: image.ExactPattern("a"), Origin: "later", Until: noon.Add(time.Second)},
		{Pattern: image.ExactPattern("b"), Namespaces: shop},
	}, []policy.Waiver{{Name: "past", Until: noon}, {Name: "w", Namespaces: shop}})
	for text, want := range map[string]string{"a shop": "later", "b shop": "", "b other": "no", "c shop": "no"} {
		name, ns, _ := strings.Cut(text, " ")
		for _, r := range []*policy.Ruleset{with, {Exempt: with.Exempt}} { // built, and not
			e, ok := r.Exempts(name, ns, noon)
			if got := e.Origin; ok == (want == "no") || ok && got != want {
				t.Errorf("%s: %v %q, want %q", text, ok, got, want)
			}
		}
	}
	if _, ok := with.Exempts("a", "shop", noon.Add(time.Second)); ok {
		t.Error("an exemption does not end")
	}
	if w, ok := with.Waives("shop", noon); !ok || w.Name != "w" {
		t.Errorf("got %+v", w)
	}
	if _, ok := with.Waives("other", noon); ok {
		t.Error("a waiver counts in another namespace")
	}
	if _, ok := r.Exempts("b", "shop", noon); ok || len(r.Waived) > 0 {
		t.Error("the Ruleset itself has changed")
	}
	if with.Version == r.Version {
		t.Error("what lets in more has the same version")
	}
	if r.With(nil, nil) != r {
		t.Error("nothing more makes another Ruleset")
	}
}
