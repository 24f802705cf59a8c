package bundle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	open    = "defaultAdmissionRule: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n"
	require = "globalPolicyEvaluationMode: ENABLE\ndefaultAdmissionRule:\n  evaluationMode: REQUIRE_ATTESTATION\n  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG\n  requireAttestationsBy: [projects/p/attestors/a]\n"
)

func attestors(t *testing.T, key map[string]any) string {
	t.Helper()
	raw, err := json.Marshal([]any{map[string]any{"name": "projects/p/attestors/a", "userOwnedGrafeasNote": map[string]any{"noteReference": "projects/p/notes/a", "publicKeys": []any{key}}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func p256(t *testing.T) map[string]any {
	t.Helper()
	private, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePKIXSigner(private, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"pkixPublicKey": map[string]any{"publicKeyPem": signer.PublicKey().Marshal(), "signatureAlgorithm": "ECDSA_P256_SHA256"}}
}

const directory = "gkePolicy: {checkSets: [{checks: [{trustedDirectoryCheck: {trustedDirPatterns: [gcr.io/p]}}]}]}\n"

func file(name, text string) bundle.File { return bundle.File{Name: name, Data: []byte(text)} }

func TestLoad(t *testing.T) {
	t.Parallel()
	b, found := bundle.Load(bundle.Sources{
		Project:   "shop",
		Policies:  []bundle.File{file("a.yaml", require), file("dir/b.yaml", directory)},
		Attestors: []bundle.File{file("attestors.json", attestors(t, p256(t)))},
	})
	if b == nil || found.HasErrors() {
		t.Fatal(found)
	}
	if len(b.Set) != 2 || b.Set[0].Name != "projects/shop/policy" || b.Set[0].Source != "a.yaml" || b.Set[1].Source != "dir/b.yaml" ||
		b.Set[1].Name != "projects/shop/platforms/gke/policies/b" {
		t.Errorf("got %+v", b.Set)
	}
	if len(b.Keys["projects/p/notes/a"]) != 1 || len(b.Attestors) != 1 {
		t.Errorf("keys %v, attestors %v", b.Keys, b.Attestors)
	}
	if _, exempt := b.Set[0].Exempts("gke.gcr.io/pause:3", "", time.Time{}); !exempt {
		t.Error("the built-in system policy is not there")
	}
}

// TestSystemPolicyIsReplaced: what the built-in one exempts is exempt no more, and the
// version tells.
func TestSystemPolicyIsReplaced(t *testing.T) {
	t.Parallel()
	load := func(system *bundle.File) *policy.Ruleset {
		b, found := bundle.Load(bundle.Sources{Project: "p", Policies: []bundle.File{file("a.yaml", require)}, System: system})
		if b == nil {
			t.Fatal(found)
		}
		return b.Set[0]
	}
	own := file("system.yaml", "admissionWhitelistPatterns: [{namePattern: 'own.example/**'}]\n"+open)
	builtIn, replaced := load(nil), load(&own)
	for ref, want := range map[string]bool{"gke.gcr.io/pause:3": false, "own.example/x": true} {
		if _, exempt := replaced.Exempts(ref, "", time.Time{}); exempt != want {
			t.Errorf("%s: exempt %v", ref, exempt)
		}
		if _, exempt := builtIn.Exempts(ref, "", time.Time{}); exempt == want {
			t.Errorf("built in, %s: exempt %v", ref, exempt)
		}
	}
	if builtIn.Version == replaced.Version {
		t.Error("the version does not tell them apart")
	}
}

func TestOneBadFileSpoilsAll(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]bundle.Sources{
		"policy":    {Policies: []bundle.File{file("a", open), file("bad", "{}")}},
		"attestors": {Policies: []bundle.File{file("a", open)}, Attestors: []bundle.File{file("bad", "[{}]")}},
		"twice":     {Policies: []bundle.File{file("a", open), file("bad", open)}},
		"kritis":    {Policies: []bundle.File{file("bad", "apiVersion: kritis.grafeas.io/v1beta1\nkind: ImageSecurityPolicy")}},
		"builders":  {Policies: []bundle.File{file("a", open)}, Builders: []bundle.File{file("bad", "builders: [{}]")}},
		"system":    {Policies: []bundle.File{file("a", open)}, System: &bundle.File{Name: "bad", Data: []byte("{}")}},
	} {
		if b, found := bundle.Load(s); b != nil || !found.HasErrors() || !strings.Contains(found.String(), "bad:1: error") {
			t.Errorf("%s: %+v, %s", name, b, found)
		}
	}
}

// TestAttestorsOfTheProjectRecordUploads, and those of no other project, which a policy
// may name too.
func TestAttestorsOfTheProjectRecordUploads(t *testing.T) {
	t.Parallel()
	own, others := attestors(t, p256(t)), strings.ReplaceAll(attestors(t, p256(t)), "projects/p/", "projects/pp/")
	b, found := bundle.Load(bundle.Sources{
		Project:   "p",
		Policies:  []bundle.File{file("a.yaml", "gkePolicy: {checkSets: [{checks: [{imageFreshnessCheck: {maxUploadAgeDays: 3}}]}]}\n")},
		Attestors: []bundle.File{file("own", own), file("others", others)},
	})
	if b == nil || len(b.Attestors) != 2 {
		t.Fatal(found)
	}
	for c := range b.Set.Conditions() {
		if f, ok := c.(policy.Fresh); !ok || len(f.Recorders) != 1 || f.Recorders[0].Name != "projects/p/attestors/a" {
			t.Errorf("got %+v", c)
		}
	}
}

func TestSortOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bundle.Sort{
		open:                             bundle.BinauthzPolicy,
		"{\"defaultAdmissionRule\": {}}": bundle.BinauthzPolicy,
		"":                               bundle.BinauthzPolicy,
		": not : yaml":                   bundle.BinauthzPolicy,
		"gkePolicy: {}":                  bundle.PlatformPolicy,
		"apiVersion: kritis.grafeas.io/v1beta1\nkind: KritisConfig": bundle.KritisObjects,
		"# first\n---\napiVersion: kritis.grafeas.io/v1beta1":       bundle.KritisObjects,
		"apiVersion: v1\nkind: List":                                bundle.KritisObjects,
		"[{name: a, userOwnedGrafeasNote: {}}]":                     bundle.Attestors,
		"name: a\nuserOwnedDrydockNote: {}":                         bundle.Attestors,
		"attestors: []":                                             bundle.Attestors,
		"builders: []":                                              bundle.Builders,
		"policies: [p]\nattestors: [a]\ncases: []":                  bundle.Suite,
	} {
		if got := bundle.SortOf([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	if found := bundle.Lint([]bundle.File{file("a.yaml", require)}, now); found.HasErrors() || strings.Contains(found.String(), "does not exist") {
		t.Errorf("a policy alone is checked against attestors: %s", found)
	}
	if found := bundle.Lint([]bundle.File{file("a.yaml", require), file("attestors.json", `[{"userOwnedGrafeasNote": {}}]`)}, now); !found.HasErrors() || strings.Contains(found.String(), "does not exist") {
		t.Errorf("attestors that could not be read are said to be missing: %s", found)
	}
	if found := bundle.Lint([]bundle.File{file("suite.yaml", "cases: []")}, now); !strings.HasPrefix(found.String(), "suite.yaml:1: error: this is a suite of cases and no policy; 'gatehouse policy test' runs it") {
		t.Errorf("a suite: %s", found)
	}
	if _, found := bundle.Load(bundle.Sources{Policies: []bundle.File{file("suite.yaml", "cases: []")}}); !found.HasErrors() {
		t.Error("a suite is enforced")
	}
	if found := bundle.Lint([]bundle.File{file("a.yaml", require), file("attestors.json", "[]")}, now); !strings.Contains(found.String(), `a.yaml:5: warning: attestor "projects/p/attestors/a" does not exist`) {
		t.Errorf("a missing attestor is not found: %s", found)
	}
	expired, err := os.ReadFile(filepath.Join("testdata", "expired.asc"))
	if err != nil {
		t.Fatal(err)
	}
	text := attestors(t, map[string]any{"asciiArmoredPgpPublicKey": string(expired)})
	if found := bundle.Lint([]bundle.File{file("attestors.json", text)}, now); !strings.Contains(found.String(), "attestors.json:1: warning: key ") || !strings.Contains(found.String(), "expired at 20") {
		t.Errorf("an expired key is not found: %s", found)
	}
	if found := bundle.Lint([]bundle.File{file("attestors.json", text)}, time.Unix(0, 0)); strings.Contains(found.String(), "expired") {
		t.Errorf("before its time: %s", found)
	}
}

func TestImagePatternsOfExactText(t *testing.T) {
	t.Parallel()
	if p := image.ExactPattern("a*"); !p.Match("a*") || p.Match("ab") || image.ExactPattern("").Match("") {
		t.Error("an exact pattern is not exact")
	}
}
