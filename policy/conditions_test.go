package policy_test

import (
	"slices"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy"
)

func TestConditionsYieldsThoseWithin(t *testing.T) {
	t.Parallel()
	set := policy.Set{{Rules: []policy.Rule{{Checks: []policy.Check{
		{Condition: policy.AnyOf{Of: []policy.Condition{
			policy.Attested{Attestor: "a"},
			policy.AllOf{Of: []policy.Condition{policy.Digested{}, policy.Vulnerabilities{Projects: []string{"q", "p"}}}},
		}}},
		{Condition: policy.Vulnerabilities{Projects: []string{"p", "r"}}},
		{Condition: policy.SignedBy{Projects: []string{"s"}}},
		{Condition: policy.Fresh{Projects: []string{"t", "p"}}},
		{Condition: policy.BuiltBy{Rules: []policy.ProvenanceRule{{Projects: []string{"u"}}, {Projects: []string{"v"}}}}},
	}}}}}
	n := 0
	for range set.Conditions() {
		n++
	}
	if n != 9 {
		t.Errorf("%d conditions, want 9", n)
	}
	for c := range set.Conditions() {
		if _, ok := c.(policy.Digested); ok {
			break // ends early
		}
	}
	if got := set.ScanProjects(); !slices.Equal(got, []string{"p", "q", "r"}) {
		t.Errorf("scan projects %q", got)
	}
	if set.NeedsStatements() {
		t.Error("no check looks at a statement")
	}
	built := set[0].Rules[0].Checks[4].Condition.(policy.BuiltBy)
	built.Rules[1].Constraint = never{}
	if !set.NeedsStatements() {
		t.Error("a constraint looks at a statement")
	}
	if got := set.Projects(); !slices.Equal(got, []string{"p", "q", "r", "s", "t", "u", "v"}) {
		t.Errorf("projects %q", got)
	}
}

// never is a constraint that holds of nothing.
type never struct{}

func (never) Holds([]byte) (bool, error) { return false, nil }

func (never) String() string { return "false" }
