package decide_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// TestPoliciesOfANamespaceAreAsked, and those of others are not.
func TestPoliciesOfANamespaceAreAsked(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	deny := (&policy.Ruleset{Name: "deny", Rules: []policy.Rule{{ID: "d", Evaluation: policy.AlwaysDeny}}}).Build()
	allow := (&policy.Ruleset{Name: "allow", Rules: []policy.Rule{{ID: "a", Evaluation: policy.AlwaysAllow}}}).Build()
	broken := (&policy.Ruleset{Name: "broken", Rules: []policy.Rule{{ID: "b", Evaluation: policy.RequireChecks, Checks: []policy.Check{{Type: "Policy", Condition: policy.Never{Why: "spec: \x1b[1munknown field"}}}}}}).Build()
	exempt := []policy.Exemption{{Pattern: image.ExactPattern("reg.example/a:1"), Origin: "Exemption shop/e", Until: now.Add(time.Hour)}}
	waived := []policy.Waiver{{Name: "w", Until: now.Add(time.Hour)}}
	set := policy.Set{{Name: "local", Local: policy.NewLocal(map[string]policy.Set{
		"shop": {deny.With(exempt, nil), allow}, "moving": {deny.With(nil, waived)}, "broken": {broken},
	}, nil, allow)}}
	at := func(ns string, now time.Time) decide.Decision {
		return decide.Decide(decide.Request{Namespace: ns, Images: []decide.ImageUse{{Text: "reg.example/a:1"}}}, set, evidence.Facts{}, now)
	}
	if d := at("shop", now); !d.Allowed || d.Override != "" || len(d.Policies) != 2 || d.Images[0].Exemption == "" {
		t.Errorf("an exemption: %+v", d)
	}
	if d := at("shop", now.Add(time.Hour)); d.Allowed {
		t.Errorf("an exemption that has ended: %+v", d)
	}
	if d := at("moving", now); !d.Allowed || d.Verdict != decide.DENY || d.Override != decide.DryRun || d.Summary != "allowed: w has denials only recorded; policy does not allow the request" {
		t.Errorf("a waiver: %+v", d)
	}
	if d := at("moving", now.Add(time.Hour)); d.Allowed {
		t.Errorf("a waiver that has ended: %+v", d)
	}
	if d := at("other", now); !d.Allowed || d.Policy != "allow" {
		t.Errorf("another namespace: %+v", d)
	}
	d := at("broken", now)
	if r := d.Images[0].Reasons[0]; d.Allowed || r.Code != decide.CodeUnreadable || !strings.Contains(r.Message, "unknown field") || strings.Contains(r.Message, "\x1b") {
		t.Errorf("a policy that cannot be read: %+v", r)
	}
	if m := decide.Message(d); !strings.Contains(m, "The policy cannot be enforced as it is written: ") {
		t.Errorf("it is not told: %s", m)
	}
}
