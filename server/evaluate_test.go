package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
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
