package decide_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
)

func TestTheClassIsThatOfWhatDecides(t *testing.T) {
	t.Parallel()
	noKeys := rulesOf(requireBoth())
	noKeys.Attestors[built] = policy.Attestor{Name: built, Note: "projects/p/notes/built"}
	exempting := rulesOf(requireBoth())
	exempting.Exempt = exempt(t, "policy", "gcr.io/p/*")
	scans := rulesOf(policy.Rule{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Vulnerabilities{Projects: []string{"p"}}}}})
	dryRun := requireBoth()
	dryRun.DryRun = true
	for name, row := range map[string]struct {
		request decide.Request
		rules   *policy.Ruleset
		known   images
		want    decide.Class
	}{
		"attested":                  {request(digested), rulesOf(requireBoth()), both(), decide.ClassAllowed},
		"exempt":                    {request(digested), exempting, known(), decide.ClassExempt},
		"an exempt image of two":    {request("gcr.io/p/app:v1", "gcr.io/q/app@sha256:"+hexA), exempting, both(), decide.ClassAllowed},
		"no image":                  {request(), rulesOf(requireBoth()), known(), decide.ClassNoImages},
		"nothing is there":          {request(digested), rulesOf(requireBoth()), known(), decide.ClassNotAttested},
		"by a key that is another":  {request(digested), rulesOf(requireBoth()), known(attestation("built", keyOther)), decide.ClassAttestationRefused},
		"no keys":                   {request(digested), noKeys, both(), decide.ClassKeyUnusable},
		"a tag":                     {request(tagged), rulesOf(requireBoth()), known(), decide.ClassTagNotDigest},
		"no reference":              {request("UPPER CASE"), rulesOf(requireBoth()), known(), decide.ClassInvalidReference},
		"denied by the rule":        {request(digested), rulesOf(policy.Rule{Evaluation: policy.AlwaysDeny}), both(), decide.ClassAlwaysDeny},
		"no attestor in the rule":   {request(digested), rulesOf(policy.Rule{Evaluation: policy.RequireChecks}), both(), decide.ClassPolicyIncomplete},
		"evidence that is away":     {request(digested), rulesOf(requireBoth()), images{digestA(): evidence.Image{State: evidence.Unavailable}}, decide.ClassUnavailable},
		"not scanned":               {request(digested), scans, known(), decide.ClassNotScanned},
		"let in, and why it is not": {request(digested), rulesOf(dryRun), known(), decide.ClassNotAttested},
	} {
		d := decided(row.request, row.rules, row.known, noon)
		if got := d.Class(); got != row.want {
			t.Errorf("%s: got %v, want %v, of %+v", name, got, row.want, d)
		}
	}
	if none := decide.Decide(request(digested), nil, evidence.Facts{}, noon); none.Class() != decide.ClassNoPolicy {
		t.Errorf("without a policy: %v", none.Class())
	}
}

func TestClassesHaveNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for i, c := range decide.Classes() {
		if name := c.String(); int(c) != i || name == "" || seen[name] {
			t.Errorf("class %d is called %q", c, name)
		}
		seen[c.String()] = true
	}
	if (&decide.Decision{}).Class() != decide.ClassOther || decide.Class(200).String() != "other" {
		t.Error("what has no class is another")
	}
}
