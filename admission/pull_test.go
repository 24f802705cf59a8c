package admission_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// pullGate serves nodes.
func pullGate(t *testing.T, rules *policy.Ruleset, change func(*admission.Options)) fixture {
	t.Helper()
	f := newGate(t, rules, change)
	f.Server = httptest.NewServer(f.gate.ImagePulls())
	t.Cleanup(f.Close)
	return f
}

func (f fixture) pull(t *testing.T, body any) (status int, a admission.PullAnswer) {
	t.Helper()
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	resp, err := f.Client().Post(f.URL, "application/json", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		dec := json.NewDecoder(bytes.NewReader(answer))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&a); err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
	}
	return resp.StatusCode, a
}

// digests of the images of these tests.
func goodDigest() string { return good[strings.Index(good, "@")+1:] }
func badDigest() string  { return bad[strings.Index(bad, "@")+1:] }

func exact(t *testing.T, texts ...string) (list []policy.Exemption) {
	t.Helper()
	for _, text := range texts {
		p, err := image.ParseBinauthzPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, policy.Exemption{Pattern: p})
	}
	return list
}

func TestPulls(t *testing.T) {
	t.Parallel()
	rules := ruleset(false)
	rules.Exempt = exact(t, "nginx:1.25", "quay.io/ops/*")
	rules.Rules = append([]policy.Rule{
		{ID: "rule for namespace lab", Scope: policy.Scope{Namespace: "lab"}, Exempt: exact(t, "reg.test/lab/*"), Evaluation: policy.AlwaysDeny},
		{ID: "rule for a service account", Scope: policy.Scope{ServiceAccount: "ops:deployer"}, Evaluation: policy.RequireChecks, Exempt: exact(t, "reg.test/tools/*"), Checks: rules.Rules[0].Checks},
		{ID: "rule for another cluster", Scope: policy.Scope{Cluster: "us-east1-b.stage"}, Evaluation: policy.AlwaysAllow},
	}, rules.Rules...)
	rules.Rules[0].Evaluation = policy.RequireChecks
	rules.Rules[0].Checks = rules.Rules[3].Checks
	f := pullGate(t, rules, nil)
	for name, tc := range map[string]struct {
		pull    admission.Pull
		allowed bool
		reason  string
	}{
		"attested, by digest":             {admission.Pull{Name: good, Digest: goodDigest()}, true, "allowed by policy"},
		"attested, by tag":                {admission.Pull{Name: "reg.test/shop/web:1.4", Digest: goodDigest()}, true, ""},
		"attested, by tag and digest":     {admission.Pull{Name: "reg.test/shop/web:1.4@" + goodDigest(), Digest: goodDigest()}, true, ""},
		"attested, of a port":             {admission.Pull{Name: "reg.test:5000/shop/web", Digest: goodDigest()}, true, ""},
		"not attested":                    {admission.Pull{Name: bad, Digest: badDigest()}, false, "No attestations found"},
		"a digest that is another":        {admission.Pull{Name: good, Digest: badDigest()}, false, "another one"},
		"Docker Hub, exempt by its short": {admission.Pull{Name: "docker.io/library/nginx:1.25", Digest: badDigest()}, true, ""},
		"Docker Hub, another tag":         {admission.Pull{Name: "docker.io/library/nginx:1.26", Digest: badDigest()}, false, "nginx"},
		"exempt by a pattern":             {admission.Pull{Name: "quay.io/ops/agent:2", Digest: badDigest()}, true, ""},
		"let in by one namespace":         {admission.Pull{Name: "reg.test/lab/x:1", Digest: badDigest()}, true, ""},
		"not for a namespace that is not": {admission.Pull{Name: "reg.test/lab/x:1", Digest: badDigest(), Namespace: "shop", Operation: "run"}, false, ""},
		"for that namespace":              {admission.Pull{Name: "reg.test/lab/x:1", Digest: badDigest(), Namespace: "lab", Operation: "run"}, true, ""},
		"nowhere, strictly":               {admission.Pull{Name: "reg.test/lab/x:1", Digest: badDigest(), Strict: true}, false, ""},
		"let in by a service account":     {admission.Pull{Name: "reg.test/tools/x:1", Digest: badDigest(), Namespace: "ops"}, true, ""},
		"an account of another namespace": {admission.Pull{Name: "reg.test/tools/x:1", Digest: badDigest(), Namespace: "shop"}, false, ""},
		"no digest":                       {admission.Pull{Name: good}, false, "digest"},
		"no name":                         {admission.Pull{Digest: goodDigest()}, false, "name"},
		"an operation that is not known":  {admission.Pull{Name: good, Digest: goodDigest(), Operation: "push"}, false, "push"},
		"a field that is too long":        {admission.Pull{Name: good, Digest: goodDigest(), Node: strings.Repeat("n", 5000)}, false, "5000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			status, a := f.pull(t, tc.pull)
			if status != 200 || a.Allowed != tc.allowed || !strings.Contains(a.Reason, tc.reason) || a.Reason == "" {
				t.Errorf("%d %+v", status, a)
			}
		})
	}
	last := f.recorder.records
	if len(last) == 0 || last[0].Event != "pull" && last[0].Event != "refused" {
		t.Errorf("recorded %+v", last)
	}
}

func TestWhatIsNoPullIsTurnedAway(t *testing.T) {
	t.Parallel()
	f := pullGate(t, ruleset(false), nil)
	for _, body := range []string{``, `[]`, `"x"`, `{"name":`} {
		if status, a := f.pull(t, body); status != 400 {
			t.Errorf("%s: %d %+v", body, status, a)
		}
	}
	for _, body := range []string{`{}`, `{"name":"a","name":"b"}`, `{"Name":"` + good + `","Digest":"` + goodDigest() + `"}`, `{"unknown":1}`} {
		if status, a := f.pull(t, body); a.Allowed {
			t.Errorf("%s: %d %+v", body, status, a)
		}
	}
}

func TestPullsOfWhatPolicyLetsInOtherwise(t *testing.T) {
	t.Parallel()
	not := admission.Pull{Name: bad, Digest: badDigest(), Node: "n1"}
	t.Run("without a policy", func(t *testing.T) {
		if _, a := pullGate(t, nil, nil).pull(t, not); !a.Allowed || a.Override != decide.NoPolicy {
			t.Errorf("%+v", a)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		if _, a := pullGate(t, ruleset(true), nil).pull(t, not); !a.Allowed || a.Override != decide.DryRun || a.Verdict != decide.DENY {
			t.Errorf("%+v", a)
		}
	})
	t.Run("evidence that cannot be read", func(t *testing.T) {
		f := pullGate(t, ruleset(false), func(o *admission.Options) { o.Evidence = facts{down: true} })
		if _, a := f.pull(t, admission.Pull{Name: good, Digest: goodDigest()}); a.Allowed || a.Verdict != decide.INDETERMINATE {
			t.Errorf("%+v", a)
		}
	})
	t.Run("break-glass that let it in", func(t *testing.T) {
		f := pullGate(t, ruleset(false), func(o *admission.Options) {
			o.Broken = func(d image.Digest, texts []string) (string, bool) {
				return "0f1e", d.String() == badDigest() && len(texts) > 0
			}
		})
		_, a := f.pull(t, not)
		if !a.Allowed || a.Override != decide.BreakGlass || a.Verdict != decide.DENY || !strings.Contains(a.Reason, "incident 0f1e") {
			t.Errorf("%+v", a)
		}
		r := f.recorder.records[0]
		if r.Event != "pull" || r.Name != "n1" || r.Decision.Override != decide.BreakGlass || r.BreakGlass != nil {
			t.Errorf("recorded %+v", r)
		}
		if _, a := f.pull(t, admission.Pull{Name: "reg.test/x", Digest: "sha256:" + strings.Repeat("c", 64)}); a.Allowed {
			t.Errorf("an image that nobody let in: %+v", a)
		}
	})
}
