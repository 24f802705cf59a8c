package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const scanPolicy = `{"gkePolicy": {"checkSets": [{"displayName": "all", "checks": [
	{"displayName": "ours", "trustedDirectoryCheck": {"trustedDirPatterns": ["reg.test/shop"]}},
	{"vulnerabilityCheck": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "HIGH"}}]}]}}`

// TestAPlatformPolicyIsEvaluatedAndEnforced: what the evaluate method says of a pod is
// what the gate answers, as scans come in through the API.
func TestAPlatformPolicyIsEvaluatedAndEnforced(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	api := r.api()
	ref := "reg.test/shop/web@" + image.DigestOf([]byte("web")).String()
	const at = "/v1/projects/default/platforms/gke/policies"
	api.expect("", "POST", at+"?policyId=scans", scanPolicy, 200, "projects/default/platforms/gke/policies/scans")
	evaluate := func(want ...string) {
		t.Helper()
		pod := fmt.Sprintf(`{"resource": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": %q}]}}}`, ref)
		api.expect("", "POST", at+"/scans:evaluate", pod, 200, want...)
	}
	admitted := func() (bool, string) { return r.ask(review.Pod("shop", "web").Image("main", ref).Review()) }
	denied := func() bool { ok, _ := admitted(); return !ok }

	evaluate(`"podName": "web"`, `"kubernetesNamespace": "default"`, `"verdict": "ERROR"`, "No finished vulnerability scan")
	within(t, "the policy is in force", denied)
	if ok, message := admitted(); ok || !strings.Contains(message, "VulnerabilityCheck at index 1 has verdict ERROR. No finished vulnerability scan was found") {
		t.Errorf("allowed %v: %s", ok, message)
	}

	api.expect("", "POST", "/v1/projects/default/notes?noteId=sbom", `{"discovery": {"analysisKind": "SBOM_REFERENCE"}}`, 200)
	api.expect("", "POST", "/v1/projects/default/occurrences", fmt.Sprintf(`{"resourceUri": "https://%s", "noteName": "projects/default/notes/sbom", "discovery": {"analysisStatus": "FINISHED_SUCCESS"}}`, ref), 200)
	evaluate(`"verdict": "ERROR"`, "No finished vulnerability scan")
	if ok, message := admitted(); ok {
		t.Errorf("an SBOM was made, and it is allowed: %s", message)
	}

	api.expect("", "POST", "/v1/projects/default/notes?noteId=scan", `{"discovery": {"analysisKind": "VULNERABILITY"}}`, 200)
	api.expect("", "POST", "/v1/projects/default/notes?noteId=CVE-2026-1", `{"vulnerability": {"severity": "HIGH", "details": [{"affectedCpeUri": "cpe:/o:debian:debian_linux:12", "affectedPackage": "p", "affectedVersionStart": {"kind": "MINIMUM"}}]}}`, 200)
	api.expect("", "POST", "/v1/projects/default/occurrences", fmt.Sprintf(`{"resourceUri": "https://%s", "noteName": "projects/default/notes/scan", "discovery": {"analysisStatus": "FINISHED_SUCCESS"}}`, ref), 200)
	evaluate(`"verdict": "CONFORMANT"`)
	if ok, message := admitted(); !ok {
		t.Errorf("scanned, and denied: %s", message)
	}

	api.expect("", "POST", "/v1/projects/default/occurrences", fmt.Sprintf(`{"resourceUri": "https://%s", "noteName": "projects/default/notes/CVE-2026-1",
		"vulnerability": {"effectiveSeverity": "HIGH", "packageIssue": [{"affectedPackage": "p", "affectedCpeUri": "cpe:/o:debian:debian_linux:12", "affectedVersion": {"name": "1", "kind": "NORMAL"},
		"fixedCpeUri": "cpe:/o:debian:debian_linux:12", "fixedPackage": "p", "fixedVersion": {"name": "2", "kind": "NORMAL"}}]}}`, ref), 200)
	evaluate(`"verdict": "NON_CONFORMANT"`, "VulnerabilityCheck")
	if ok, message := admitted(); ok || !strings.Contains(message, "CVE-2026-1 (HIGH)") {
		t.Errorf("vulnerable: allowed %v: %s", ok, message)
	}

	api.expect("", "POST", at+"/scans:evaluate", `{"resource": {"kind": "ConfigMap", "apiVersion": "v1"}}`, 400, "no images that Gatehouse knows of")
	api.expect("", "POST", at+"/gone:evaluate", `{"resource": {}}`, 404)
}

// TestEvaluatingTellsNothingOfProjectsThatTheCallerMayNotRead: who writes a policy
// chooses where it looks.
func TestEvaluatingTellsNothingOfProjectsThatTheCallerMayNotRead(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) {
		c.Identity.BearerTokensFile = tokens(t, "ann")
		c.Identity.Rules = []identity.Rule{{Caller: "ann", Project: "default", Roles: []string{"binaryauthorization.policyEditor"}}}
	}))
	const at = "/v1/projects/default/platforms/gke/policies"
	pod := fmt.Sprintf(`{"resource": {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "reg.test/shop/web@%s"}]}}}`, image.DigestOf([]byte("web")))
	for id, project := range map[string]string{"own": "default", "others": "kritis"} {
		r.api().expect(tokenOf("ann"), "POST", at+"?policyId="+id, fmt.Sprintf(`{"gkePolicy": {"checkSets": [{"checks": [
			{"vulnerabilityCheck": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "HIGH", "containerAnalysisVulnerabilityProjects": ["projects/%s"]}}]}]}}`, project), 200)
	}
	r.api().expect(tokenOf("ann"), "POST", at+"/own:evaluate", pod, 200, "No finished vulnerability scan")
	r.api().expect(tokenOf("ann"), "POST", at+"/others:evaluate", pod, 403, "occurrences.list", "projects/kritis")
}

// TestWhatWasTrustedOnceIsForgotten: what the gate answers does not depend on which
// policies were in force before. Here a record of an upload is read because a key set
// trusts its key in the project, and stays to be counted when only the freshness is
// asked for, whose recorders have other notes.
func TestWhatWasTrustedOnceIsForgotten(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewPKIXSigner(private, signature.ECDSAP256SHA256, "")
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf(`{"publicKeyPem": %q, "signatureAlgorithm": "ECDSA_P256_SHA256"}`, signer.PublicKey().Marshal())
	r := start(t, testConfig(t, nil))
	api := r.api()
	digest := image.DigestOf([]byte("web"))
	ref := "reg.test/shop/web@" + digest.String()
	denied := func(why string) func() bool {
		return func() bool {
			ok, message := r.ask(review.Pod("shop", "web").Image("main", ref).Review())
			return !ok && strings.Contains(message, why) && strings.Contains(message, "SimpleSigning") == (why == "SimpleSigning")
		}
	}
	const at = "/v1/projects/default/platforms/gke/policies"
	const fresh = `{"imageFreshnessCheck": {"maxUploadAgeDays": 30}}`
	signed := `{"simpleSigningAttestationCheck": {"containerAnalysisAttestationProjects": ["projects/default"], "attestationAuthenticators": [{"pkixPublicKeySet": {"pkixPublicKeys": [` + key + `]}}]}}`
	checks := func(list string) string {
		return `{"gkePolicy": {"checkSets": [{"checks": [` + list + `]}]}}`
	}

	api.expect("", "POST", attestorsAt+"?attestorId=ci", `{"userOwnedGrafeasNote": {"noteReference": "projects/default/notes/ci", "publicKeys": [{"pkixPublicKey": `+key+`}]}}`, 200)
	api.expect("", "PUT", policyAt, strings.Replace(requiring("projects/default/attestors/ci"), `{"defaultAdmissionRule": `, `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}, "kubernetesNamespaceAdmissionRules": {"other": `, 1)+"}", 200)
	api.expect("", "POST", at+"?policyId=p", checks(signed+", "+fresh), 200)
	within(t, "both checks are in force", denied("SimpleSigning"))

	statement := fmt.Appendf(nil, `{"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "web", "digest": {"sha256": %q}}],
		"predicateType": "https://gatehouse.dev/upload/v1", "predicate": {"uploadTime": %q}}`, strings.TrimPrefix(digest.String(), "sha256:"), time.Now().UTC().Format(time.RFC3339))
	sig, err := signer.Sign(t.Context(), signature.PAE(signature.PayloadTypeInToto, statement))
	if err != nil {
		t.Fatal(err)
	}
	api.expect("", "POST", "/v1/projects/default/notes?noteId=uploads", `{"dsseAttestation": {"hint": {"humanReadableName": "uploads"}}}`, 200)
	api.expect("", "POST", "/v1/projects/default/occurrences", fmt.Sprintf(`{"resourceUri": "https://%s", "noteName": "projects/default/notes/uploads", "dsseAttestation": {"envelope":
		{"payload": %q, "payloadType": %q, "signatures": [{"keyid": %q, "sig": %q}]}}}`,
		ref, base64.StdEncoding.EncodeToString(statement), signature.PayloadTypeInToto, signer.KeyID(), base64.StdEncoding.EncodeToString(sig)), 200)

	api.expect("", "PUT", at+"/p", checks(fresh), 200)
	within(t, "the record of the upload no longer counts", denied("It is not recorded when the image was uploaded"))
	pod := fmt.Sprintf(`{"resource": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": %q}]}}}`, ref)
	api.expect("", "POST", at+"/p:evaluate", pod, 200, `"verdict": "ERROR"`)

	// An attestor of the project records uploads, whether or not a policy names him.
	api.expect("", "POST", attestorsAt+"?attestorId=uploads", `{"userOwnedGrafeasNote": {"noteReference": "projects/default/notes/uploads", "publicKeys": [{"pkixPublicKey": `+key+`}]}}`, 200)
	within(t, "the record counts", func() bool {
		ok, _ := r.ask(review.Pod("shop", "web").Image("main", ref).Review())
		return ok
	})
	within(t, "the method knows the attestor", func() bool { // evidence counts a moment before
		code, _, text := api.do("", "POST", at+"/p:evaluate", pod)
		return code == 200 && strings.Contains(text, `"verdict": "CONFORMANT"`)
	})
}
