package binauthz_test

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func TestAnExportIsWrittenAsGcloudWritesIt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/gcloud-export.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, diags := binauthz.ParsePolicy("p", text)
	if p == nil {
		t.Fatal(diags)
	}
	got, err := p.EncodeYAML()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(text), string(got)); d != "" {
		t.Error(d)
	}
	const wantJSON = `{"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"REQUIRE_ATTESTATION",` +
		`"requireAttestationsBy":["projects/example-project/attestors/built-by-ci"]},"etag":"\"GDXq/WrZN7Kp\"",` +
		`"globalPolicyEvaluationMode":"ENABLE","name":"projects/example-project/policy","updateTime":"2024-05-12T05:34:29.325967Z"}`
	if got, err = p.EncodeJSON(); err != nil || string(got) != wantJSON {
		t.Errorf("got %s, %v", got, err)
	}
}

// encodablePolicies are canonical: each is what its encoding is.
var encodablePolicies = []string{
	`{"defaultAdmissionRule":{"enforcementMode":"DRYRUN_AUDIT_LOG_ONLY","evaluationMode":"ALWAYS_DENY"}}`,
	`{"admissionWhitelistPatterns":[{"namePattern":"gcr.io/b/*"},{"namePattern":"gcr.io/a/x"}],"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"},` +
		`"description":"2024-01-02\n<é> 'x'","globalPolicyEvaluationMode":"DISABLE"}`,
	`{"clusterAdmissionRules":{"us-east1-b.b":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"REQUIRE_ATTESTATION","onUnavailable":"warn","requireAttestationsBy":["projects/p/attestors/b","projects/q/attestors/a"]},` +
		`"us-east1-b.c":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW","onUnavailable":{"allowIfLastAllowedWithin":"24h0m0s"}}},` +
		`"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_DENY"}}`,
	`{"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_DENY"},"kubernetesNamespaceAdmissionRules":{"123":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"}}}`,
	`{"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_DENY"},"kubernetesServiceAccountAdmissionRules":{"a:b":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"}}}`,
	`{"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_DENY"},"istioServiceIdentityAdmissionRules":{"spiffe://d/ns/n/sa/s":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"}}}`,
}

func TestAPolicySurvivesItsEncodings(t *testing.T) {
	t.Parallel()
	for _, text := range encodablePolicies {
		p, diags := binauthz.ParsePolicy("p", []byte(text))
		if p == nil {
			t.Fatal(diags)
		}
		if got := policyRoundTrip(t, p); got != text {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
}

// policyRoundTrip returns the JSON of a policy, having read it, and the YAML, back.
func policyRoundTrip(t *testing.T, p *binauthz.Policy) string {
	t.Helper()
	first, err := p.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := p.EncodeYAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{first, asYAML} {
		again, diags := binauthz.ParsePolicy("p", text)
		if again == nil {
			t.Fatalf("the encoding is not valid: %s\n%s", diags, text)
		}
		second, err := again.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != string(second) {
			t.Fatalf("encoded %s\nand then %s\nby way of %s", first, second, text)
		}
	}
	return string(first)
}

func FuzzPolicyEncodings(f *testing.F) {
	for _, text := range encodablePolicies {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, _ := binauthz.ParsePolicy("p", []byte(text)); p != nil {
			policyRoundTrip(t, p)
		}
	})
}

func TestAnAttestorSurvivesItsEncodings(t *testing.T) {
	t.Parallel()
	pkix, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePKIXSigner(pkix, signature.ECDSAP256SHA256, "//cloudkms.googleapis.com/v1/k")
	if err != nil {
		t.Fatal(err)
	}
	private, err := signature.GeneratePGP("ann", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pgp, err := signature.ParsePGPSigner(private, nil)
	if err != nil {
		t.Fatal(err)
	}
	headerless := strings.Split(strings.TrimSpace(pgp.PublicKey().Marshal()), "\n")
	body := strings.Join(headerless[2:len(headerless)-1], "\n")
	a := &binauthz.Attestor{
		Name: "projects/p/attestors/a", Description: "who: we", Note: "projects/p/notes/n", ETag: `"x"`, UpdateTime: "2024-05-12T05:34:29.325967Z",
		Keys:    []*signature.PublicKey{signer.PublicKey(), pgp.PublicKey()},
		Written: []binauthz.WrittenKey{{Comment: "of 2026", Text: signer.PublicKey().Marshal()}, {Text: body + "\n"}},
	}
	first, err := a.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"comment":"of 2026"`, `"id":"//cloudkms.googleapis.com/v1/k"`, `"id":"` + pgp.KeyID() + `"`, `"signatureAlgorithm":"ECDSA_P256_SHA256"`} {
		if !strings.Contains(string(first), want) {
			t.Errorf("%s lacks %s", first, want)
		}
	}
	asYAML, err := a.EncodeYAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{first, asYAML} {
		list, diags := binauthz.ParseAttestors("a", text)
		if len(list) != 1 || len(list[0].Keys) != 2 || list[0].Keys[1].Fingerprint() != pgp.PublicKey().Fingerprint() {
			t.Fatalf("read %v, %s", list, diags)
		}
		second, err := list[0].EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(first), string(second)); d != "" {
			t.Errorf("by way of\n%s\n%s", text, d)
		}
	}
	// An attestor that was made, and not read, has its keys all the same.
	a.Written = nil
	made, err := a.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	if list, diags := binauthz.ParseAttestors("a", made); len(list) != 1 || len(list[0].Keys) != 2 {
		t.Error(diags)
	}
}

func TestTheNameOfOneAttestorIsGiven(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n"}}`,
		`{"name": "short", "userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n"}}`,
		`{"name": null, "userOwnedDrydockNote": {"noteReference": "providers/p/notes/n"}}`,
	} {
		a, diags := binauthz.ParseAttestor("a", []byte(text), "projects/p/attestors/a")
		if a == nil || a.Name != "projects/p/attestors/a" || a.Note != "projects/p/notes/n" {
			t.Errorf("%s: %+v %s", text, a, diags)
		}
	}
	for _, text := range []string{`[]`, ``, `{}`, `[{"name": "projects/p/attestors/b", "userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n"}}]`} {
		if a, diags := binauthz.ParseAttestor("a", []byte(text), "projects/p/attestors/a"); a != nil || !diags.HasErrors() {
			t.Errorf("%s: %+v %s", text, a, diags)
		}
	}
}
