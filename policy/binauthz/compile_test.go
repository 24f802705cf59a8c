package binauthz_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const example = `
name: projects/p/policy
globalPolicyEvaluationMode: ENABLE
admissionWhitelistPatterns:
- namePattern: gcr.io/tools/*
kubernetesNamespaceAdmissionRules:
  dev:
    evaluationMode: ALWAYS_ALLOW
    enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  staging:
    evaluationMode: REQUIRE_ATTESTATION
    enforcementMode: DRYRUN_AUDIT_LOG_ONLY
    requireAttestationsBy:
    - projects/p/attestors/built
defaultAdmissionRule:
  evaluationMode: REQUIRE_ATTESTATION
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  requireAttestationsBy:
  - projects/p/attestors/built
  - projects/p/attestors/scanned
`

func attestor(name string, keys ...*signature.PublicKey) binauthz.Attestor {
	return binauthz.Attestor{Name: "projects/p/attestors/" + name, Note: "projects/p/notes/" + name, Keys: keys}
}

func attestation(name string, key *signature.PublicKey) evidence.Attestation {
	return evidence.Attestation{Origin: evidence.Origin{Note: "projects/p/notes/" + name, Occurrence: "projects/p/occurrences/" + name, KeyID: key.ID(), Fingerprint: key.Fingerprint()}}
}

func TestCompiledPolicyDecides(t *testing.T) {
	t.Parallel()
	built, scanned := keys().p256, keys().pgp
	rules, diags := parse(t, example).Compile([]binauthz.Attestor{attestor("built", built), attestor("scanned", scanned), attestor("unused", built)})
	if len(diags) != 0 || rules.Name != "projects/p/policy" || rules.Source != "policy.yaml" || len(rules.Version) != 64 || len(rules.Attestors) != 2 {
		t.Fatalf("%s%+v", diags, rules)
	}
	const app = "gcr.io/p/app@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	ref, err := image.Parse(app)
	if err != nil {
		t.Fatal(err)
	}
	one := evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{attestation("built", built)}}
	two := evidence.Image{State: evidence.Known, Attestations: append(one.Attestations[:1:1], attestation("scanned", scanned))}
	swapped := evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{attestation("built", scanned), attestation("scanned", built)}}
	for name, test := range map[string]struct {
		namespace, image, rule string
		evidence               evidence.Image
		verdict                decide.Verdict
		allowed                bool
	}{
		"both attested":           {"prod", app, "default admission rule", two, decide.ALLOW, true},
		"one attested":            {"prod", app, "default admission rule", one, decide.DENY, false},
		"keys of one another":     {"prod", app, "default admission rule", swapped, decide.DENY, false},
		"not read":                {"prod", app, "default admission rule", evidence.Image{}, decide.INDETERMINATE, false},
		"system image":            {"prod", "gke.gcr.io/pause:3.8", "default admission rule", evidence.Image{}, decide.ALLOW, true},
		"exempt tool":             {"prod", "gcr.io/tools/kubectl:1", "default admission rule", evidence.Image{}, decide.ALLOW, true},
		"namespace that is free":  {"dev", "nginx", "namespace admission rule for dev", evidence.Image{}, decide.ALLOW, true},
		"namespace in dry run":    {"staging", "nginx", "namespace admission rule for staging", evidence.Image{}, decide.DENY, true},
		"namespace, one attestor": {"staging", app, "namespace admission rule for staging", one, decide.ALLOW, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := decide.Request{Namespace: test.namespace, Images: []decide.ImageUse{{Text: test.image}}}
			d := decide.Decide(req, policy.Set{rules}, evidence.Facts{Images: map[image.Digest]evidence.Image{ref.Digest(): test.evidence}}, time.Time{})
			if d.Verdict != test.verdict || d.Allowed != test.allowed || d.Rule != test.rule {
				t.Errorf("%v, allowed %v, rule %q:\n%s", d.Verdict, d.Allowed, d.Rule, decide.Message(d))
			}
		})
	}
}

func TestSystemPolicyIsOffUnlessEnabled(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]bool{"ENABLE": true, "DISABLE": false, "GLOBAL_POLICY_EVALUATION_MODE_UNSPECIFIED": false, "": false} {
		text := "globalPolicyEvaluationMode: " + mode + "\ndefaultAdmissionRule: {evaluationMode: 3, enforcementMode: 1}\n"
		rules, diags := parse(t, text).Compile(nil)
		e, ok := rules.Exempts("k8s.gcr.io/pause:3", "", time.Time{})
		if ok != want || len(diags) != 0 {
			t.Errorf("%q: exempt %v, want %v; %s", mode, ok, want, diags)
		}
		if ok && e.Origin != "system policy" {
			t.Errorf("origin %q", e.Origin)
		}
		if _, ok := rules.Exempts("gcr.io/p/app", "", time.Time{}); ok {
			t.Errorf("%q exempts an ordinary image", mode)
		}
	}
}

func TestMissingAttestorIsWarnedOfAndDenies(t *testing.T) {
	t.Parallel()
	rules, diags := parse(t, example).Compile([]binauthz.Attestor{attestor("built", keys().p256)})
	if len(diags) != 1 || diags.HasErrors() || !strings.HasPrefix(diags[0].String(), `policy.yaml:20: warning: attestor "projects/p/attestors/scanned" does not exist`) {
		t.Errorf("got\n%s", diags)
	}
	if _, ok := rules.Attestors["projects/p/attestors/scanned"]; ok {
		t.Error("the missing attestor is there")
	}
}

func TestAttestorThatIsThereTwiceIsNotUsed(t *testing.T) {
	t.Parallel()
	rules, diags := parse(t, example).Compile([]binauthz.Attestor{attestor("built", keys().p256), attestor("scanned", keys().pgp), attestor("built", keys().ed25519)})
	if !diags.HasErrors() || !strings.Contains(diags.String(), `attestor "projects/p/attestors/built" is there twice`) {
		t.Errorf("got\n%s", diags)
	}
	if _, ok := rules.Attestors["projects/p/attestors/built"]; ok {
		t.Error("one of the two is used")
	}
}

func TestNilPolicyCompilesToDenial(t *testing.T) {
	t.Parallel()
	var p *binauthz.Policy
	rules, diags := p.Compile(nil)
	if rules == nil || !diags.HasErrors() {
		t.Fatalf("got %v, %s", rules, diags)
	}
	d := decide.Decide(decide.Request{Images: []decide.ImageUse{{Text: "nginx"}}}, policy.Set{rules}, evidence.Facts{}, time.Time{})
	if d.Allowed {
		t.Errorf("allowed: %+v", d)
	}
}

func TestVersionFollowsWhatIsEnforced(t *testing.T) {
	t.Parallel()
	version := func(text string, list ...binauthz.Attestor) string {
		rules, _ := parse(t, text).Compile(list)
		return rules.Version
	}
	a, b := attestor("built", keys().p256), attestor("scanned", keys().pgp)
	base := version(example, a, b)
	otherNote := a
	otherNote.Note = "projects/q/notes/built"
	for name, other := range map[string]string{
		"order of attestors": version(example, b, a),
		"unused attestor":    version(example, a, b, attestor("unused", keys().pgp)),
	} {
		if other != base {
			t.Errorf("%s changes the version", name)
		}
	}
	for name, other := range map[string]string{
		"text":             version(example+"# more\n", a, b),
		"missing attestor": version(example, a),
		"another key":      version(example, attestor("built", keys().ed25519), b),
		"one more key":     version(example, attestor("built", keys().p256, keys().ed25519), b),
		"another note":     version(example, otherNote, b),
	} {
		if other == base {
			t.Errorf("%s does not change the version", name)
		}
	}
	if version(example, attestor("built", keys().p256, keys().ed25519), b) != version(example, attestor("built", keys().ed25519, keys().p256), b) {
		t.Error("the order of keys changes the version")
	}
}

func TestRulesEndWithTheDefault(t *testing.T) {
	t.Parallel()
	rules, _ := parse(t, example).Compile(nil)
	last := rules.Rules[len(rules.Rules)-1]
	if len(rules.Rules) != 3 || last.Scope != (policy.Scope{}) || last.ID != "default admission rule" || last.Line != 15 {
		t.Errorf("got %+v", rules.Rules)
	}
}

// TestMatchRepositoryIsOfEveryAttestor: the digest alone does otherwise, and the version
// tells the difference.
func TestMatchRepositoryIsOfEveryAttestor(t *testing.T) {
	t.Parallel()
	list := []binauthz.Attestor{attestor("built", keys().p256), attestor("scanned", keys().pgp)}
	p := parse(t, example)
	plain, _ := p.CompileWith(binauthz.CompileOptions{Attestors: list})
	strict, _ := p.CompileWith(binauthz.CompileOptions{Attestors: list, MatchRepository: true})
	for name := range plain.Attestors {
		if plain.Attestors[name].MatchRepository || !strict.Attestors[name].MatchRepository {
			t.Errorf("%s: %v without the option, %v with it", name, plain.Attestors[name].MatchRepository, strict.Attestors[name].MatchRepository)
		}
	}
	if plain.Version == strict.Version {
		t.Error("the version does not tell them apart")
	}
}
