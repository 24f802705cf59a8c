package admission_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// failing is evidence that can be read until it is down.
type failing struct{ down atomic.Bool }

func (f *failing) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	return facts{down: f.down.Load()}.Collect(ctx, refs)
}

// bridging is a policy that gets over an outage of an hour.
func bridging() *policy.Ruleset {
	r := ruleset(false)
	r.Rules[0].OnUnavailable.LastAllowedWithin = time.Hour
	return r.Build()
}

// TestAnOutageIsNoDenial: whoever counts refusals must be able to tell them apart.
func TestAnOutageIsNoDenial(t *testing.T) {
	t.Parallel()
	f := start(t, ruleset(false), func(o *admission.Options) { o.Evidence = facts{down: true} })
	a := f.post(t, reviewOf(pod(good), nil))
	if s := a.Response.Status; a.Response.Allowed || s.Code != http.StatusServiceUnavailable || s.Reason != "EVIDENCE_UNAVAILABLE" || !strings.Contains(s.Message, "not admitted by Binary Authorization") {
		t.Errorf("got %+v", a.Response)
	}
	f = start(t, ruleset(false), nil)
	a = f.post(t, reviewOf(pod(bad), nil))
	if s := a.Response.Status; a.Response.Allowed || s.Code != http.StatusForbidden || s.Reason != "VIOLATES_POLICY" {
		t.Errorf("got %+v", a.Response)
	}
}

// TestAnOutageIsBridgedByWhatWasAllowed: what the rule has allowed goes on to be let
// in, until it is too long ago, and nothing else is.
func TestAnOutageIsBridgedByWhatWasAllowed(t *testing.T) {
	t.Parallel()
	evidence := &failing{}
	var rules atomic.Pointer[policy.Ruleset]
	rules.Store(bridging())
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC).Unix())
	f := start(t, nil, func(o *admission.Options) {
		o.Evidence = evidence
		o.Rules = func() policy.Set { return policy.Set{rules.Load()} }
		o.Now = func() time.Time { return time.Unix(now.Load(), 0).UTC() }
	})
	expect := func(what, image string, allowed bool) {
		t.Helper()
		a := f.post(t, reviewOf(pod(image), nil))
		if a.Response.Allowed != allowed {
			t.Errorf("%s: allowed %v, want %v: %s", what, a.Response.Allowed, allowed, a.Response.Status.Message)
		}
		if bridged := evidence.down.Load() && allowed; bridged != (a.Response.AuditAnnotations["failed-open"] == "true") || bridged != (len(a.Response.Warnings) > 0) {
			t.Errorf("%s: annotations %v, warnings %q", what, a.Response.AuditAnnotations, a.Response.Warnings)
		}
	}
	other := "reg.test/shop/web@sha256:" + strings.Repeat("c", 64)
	evidence.down.Store(true)
	expect("never allowed before", good, false)
	evidence.down.Store(false)
	expect("attested", good, true)
	expect("not attested", bad, false)
	evidence.down.Store(true)
	expect("allowed before", good, true)
	expect("denied before", bad, false)
	expect("never seen", other, false)
	now.Add(3600)
	expect("an hour ago", good, true)
	now.Add(1)
	expect("longer ago", good, false)
	// What was let in across the outage is no new ground to let it in.
	now.Add(-2)
	expect("still within the hour", good, true)
	now.Add(-7200)
	expect("allowed in the future", good, false)
	now.Add(7201)
	changed := bridging()
	a := changed.Attestors[attestor]
	a.Keys = []policy.Key{{ID: "other", Fingerprint: [32]byte{9}}}
	changed.Attestors[attestor] = a
	rules.Store(changed.Build())
	expect("the attestor has another key now", good, false)
	rules.Store(ruleset(false))
	expect("the rule does not bridge", good, false)
}

// TestEveryPolicyMustAllow: a second policy takes nothing from the first.
func TestEveryPolicyMustAllow(t *testing.T) {
	t.Parallel()
	open := &policy.Ruleset{Name: "open", Rules: []policy.Rule{{ID: "default", Evaluation: policy.AlwaysAllow}}}
	dry := &policy.Ruleset{Name: "dry", Dialect: policy.PlatformPolicy, Rules: []policy.Rule{{ID: "check set 0", DryRun: true}}}
	for name, test := range map[string]struct {
		set     policy.Set
		image   string
		allowed bool
		rule    string
		dryRun  bool
	}{
		"both allow":                {policy.Set{ruleset(false), open}, good, true, "default admission rule", false},
		"one denies":                {policy.Set{open, ruleset(false)}, bad, false, "default admission rule", false},
		"one denies in a dry run":   {policy.Set{ruleset(false), dry}, good, true, "check set 0", true},
		"the other one denies, too": {policy.Set{dry, ruleset(false)}, bad, false, "default admission rule", false},
	} {
		f := start(t, nil, func(o *admission.Options) { o.Rules = func() policy.Set { return test.set } })
		a := f.post(t, reviewOf(pod(test.image), nil))
		if a.Response.Allowed != test.allowed || (a.Response.AuditAnnotations["dry-run"] == "true") != test.dryRun {
			t.Errorf("%s: %+v", name, a.Response)
		}
		d := f.recorder.records[0].Decision
		if d.Rule != test.rule || len(d.Policies) != 2 || (d.Override == decide.DryRun) != test.dryRun {
			t.Errorf("%s: decision %+v", name, d)
		}
	}
}
