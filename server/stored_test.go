package server

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// api is the policy API of a server without TLS.
func (r *running) api() rest {
	t, ok := r.t.(*testing.T)
	if !ok {
		r.t.Fatal("not in a test")
	}
	return rest{t, http.DefaultClient, "http://" + r.Metadata}
}

// within demands that something comes about in the second in which a policy that
// was written has to be in force.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
	t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond)) // on a busy machine, maybe more than a second
}

const (
	policyAt    = "/v1/projects/default/policy"
	attestorsAt = "/v1/projects/default/attestors"
	deniesAll   = `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}`
	allowsAll   = `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}`
)

func requiring(attestor string) string {
	return `{"defaultAdmissionRule": {"evaluationMode": "REQUIRE_ATTESTATION", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG", "requireAttestationsBy": ["` + attestor + `"]}}`
}

func TestAStoredPolicyIsInForce(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, nil)
	r := start(t, cfg)
	pod := review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review()
	allowed := func() bool { ok, _ := r.ask(pod); return ok }
	denied := func() bool { return !allowed() }

	// The policy that is shown of a project that has none does not count.
	r.api().expect("", "GET", policyAt, "", 200, "ALWAYS_ALLOW")
	if ok, message := r.ask(pod); !ok || !strings.Contains(message, "no policy") {
		t.Errorf("without a policy: allowed %v, said %q", ok, message)
	}
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the first policy is in force", denied)
	r.api().expect("", "PUT", "/v1/projects/kritis/policy", allowsAll, 200) // another's
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	within(t, "the second policy is in force", allowed)
	if ok, message := r.ask(pod); !ok || strings.Contains(message, "no policy") {
		t.Errorf("with a policy: allowed %v, said %q", ok, message)
	}
	r.api().expect("", "POST", policyAt+":rollback", `{"revision": 1}`, 200)
	within(t, "the first policy is in force again", denied)

	// One that this gate cannot enforce leaves the last good one.
	r.api().expect("", "PUT", policyAt, strings.Replace(allowsAll, "{", `{"clusterAdmissionRules": {"a.b": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}, `, 1), 200)
	within(t, "the policy that cannot be enforced is reported", func() bool {
		_, text := r.get("http://" + r.Ops + "/metrics")
		return strings.Contains(text, "\ngatehouse_policy_stale 1\n")
	})
	if allowed() {
		t.Error("a policy that cannot be enforced replaced the last good one")
	}
	// After a restart there is no last good one: everything is denied, and the API
	// serves, so that it can be mended.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	again.gate = r.gate // trusts the CA of before
	r = again
	if ok, message := r.ask(pod); ok || !strings.Contains(message, "cannot be enforced") {
		t.Errorf("a policy that cannot be enforced: allowed %v, said %q", ok, message)
	}
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	within(t, "the mended policy is in force", allowed)
}

// The first policy that a gate gets must not leave everything allowed.
func TestAFirstPolicyThatCannotBeEnforcedDenies(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	pod := review.Pod("shop", "web").Image("main", "nginx").Review()
	clusters := strings.Replace(allowsAll, "{", `{"clusterAdmissionRules": {"a.b": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}, `, 1)
	r.api().expect("", "PUT", policyAt, clusters, 200)
	within(t, "everything is denied", func() bool { ok, _ := r.ask(pod); return !ok })
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	within(t, "the mended policy is in force", func() bool { ok, _ := r.ask(pod); return ok })
}

func TestAPolicyReachesTheGatesOfOtherServers(t *testing.T) {
	t.Parallel()
	connection := write(t, filepath.Join(t.TempDir(), "connection"), postgres.Database(t)+"\n")
	shared := func(cfg *Config) { cfg.Store.Postgres.ConnectionFile = connection }
	first, second := start(t, testConfig(t, shared)), start(t, testConfig(t, shared))
	pod := review.Pod("shop", "web").Image("main", "nginx").Review()
	if ok, message := second.ask(pod); !ok {
		t.Fatalf("without a policy: %s", message)
	}
	first.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the other server's gate denies", func() bool { ok, _ := second.ask(pod); return !ok })
	second.api().expect("", "POST", policyAt+":rollback", `{"revision": 9}`, 404)
	second.api().expect("", "PUT", policyAt, allowsAll, 200)
	within(t, "the first server's gate allows", func() bool { ok, _ := first.ask(pod); return ok })
}

func TestStoredAttestorsAreTrusted(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	text, err := os.ReadFile(attestorsPath(r.data))
	if err != nil {
		t.Fatal(err)
	}
	own, diags := binauthz.ParseAttestors("own", text)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var nobody *binauthz.Attestor
	for i := range own {
		if strings.HasSuffix(own[i].Name, "/nobody") {
			nobody = &own[i]
		}
	}
	body, err := nobody.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	ref := push(t, "65532")
	pod := review.Pod("shop", "web").Image("main", ref.String()).Review()
	allowed := func() bool { ok, _ := r.ask(pod); return ok }

	r.api().expect("", "PUT", policyAt, requiring("projects/default/attestors/mine"), 400, "projects/default/attestors/mine")
	r.api().expect("", "POST", attestorsAt+"?attestorId=mine", string(body), 200)
	r.api().expect("", "PUT", policyAt, requiring("projects/default/attestors/mine"), 200)
	within(t, "what is not attested is refused", func() bool { return !allowed() })
	r.check(ref, "nobody", true) // signs with the same key, under the same note
	if ok, message := r.ask(pod); !ok {
		t.Errorf("attested, and refused: %s", message)
	}
	// Without the key it no longer counts, and with it again it does.
	r.api().expect("", "PUT", attestorsAt+"/mine", `{"userOwnedGrafeasNote": {"noteReference": "`+nobody.Note+`"}}`, 200)
	within(t, "an attestation by a key that was removed does not count", func() bool { return !allowed() })
	r.api().expect("", "POST", attestorsAt+"/mine:rollback", `{"revision": 1}`, 200)
	within(t, "it counts when the key is back", allowed)
	r.api().expect("", "DELETE", attestorsAt+"/mine?force=true", "", 200)
	within(t, "what asks for an attestor that is gone is denied", func() bool { return !allowed() })

	// A stored attestor wins over the development attestor of his name.
	r.api().expect("", "POST", attestorsAt+"?attestorId=nobody", `{"userOwnedGrafeasNote": {"noteReference": "`+nobody.Note+`"}}`, 200)
	r.api().expect("", "PUT", policyAt, requiring("projects/default/attestors/nobody"), 200)
	r.api().expect("", "PUT", attestorsAt+"/nobody", string(body), 200)
	within(t, "the stored attestor counts once he has the key", allowed)
	r.api().expect("", "PUT", attestorsAt+"/nobody", `{"userOwnedGrafeasNote": {"noteReference": "`+nobody.Note+`"}}`, 200)
	within(t, "and not without", func() bool { return !allowed() })
}

func TestStoredPlatformPoliciesAreInForce(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	pod := review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review()
	allowed := func() bool { ok, _ := r.ask(pod); return ok }
	const at = "/v1/projects/default/platforms/gke/policies"
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	r.api().expect("", "POST", at+"?policyId=none", `{"gkePolicy": {"checkSets": [{"displayName": "all", "checks": [{"displayName": "no", "alwaysDeny": true}]}]}}`, 200)
	within(t, "the platform policy denies what the other allows", func() bool { return !allowed() })
	r.api().expect("", "DELETE", at+"/none", "", 200)
	within(t, "without it the other allows", allowed)
	r.api().expect("", "POST", at+"?policyId=bad", `{"gkePolicy": {"checkSets": [{"checks": [{"alwaysDeny": false}]}]}}`, 400, "alwaysDeny")
}

func TestFilesWinOverWhatIsStored(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, nil)
	first := start(t, cfg)
	first.api().expect("", "PUT", policyAt, deniesAll, 200)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	cfg.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), openPolicy)}
	r := start(t, cfg)
	r.gate = first.gate // trusts the CA of before
	pod := review.Pod("shop", "web").Image("main", "nginx").Review()
	if ok, message := r.ask(pod); !ok {
		t.Errorf("refused: %s", message)
	}
	r.api().expect("", "PUT", policyAt, allowsAll, 400, "FAILED_PRECONDITION", cfg.Admission.PolicyFiles[0])
	r.api().expect("", "GET", policyAt, "", 200, "ALWAYS_DENY")
	// Attestors are not in a file, and a stored one counts for the policy of one.
	r.api().expect("", "POST", attestorsAt+"?attestorId=mine", `{"userOwnedGrafeasNote": {"noteReference": "projects/default/notes/mine"}}`, 200)
}

// The policy API asks who calls, by the same credentials and rules as the metadata
// API, and each call is in its record.
func TestThePolicyAPIAsksWhoCalls(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Identity.BearerTokensFile = tokens(t, "ann", "bob", "carl")
		c.Identity.Rules = []identity.Rule{
			{Caller: "ann", Project: "default", Roles: []string{"roles/binaryauthorization.policyEditor", "binaryauthorization.attestorsAdmin"}},
			{Caller: "bob", Project: "default", Roles: []string{"binaryauthorization.policyViewer"}},
			{Caller: "carl", Project: "default", Roles: []string{"admin"}}, // of Container Analysis
		}
	})
	r := start(t, cfg)
	api := r.api()
	api.expect("", "GET", policyAt, "", 401, "UNAUTHENTICATED")
	api.expect("wrong", "PUT", policyAt, deniesAll, 401, "UNAUTHENTICATED")
	api.expect(tokenOf("bob"), "GET", policyAt, "", 200)
	api.expect(tokenOf("bob"), "PUT", policyAt, deniesAll, 403, "binaryauthorization.policy.update", "binaryauthorization.policyEditor")
	api.expect(tokenOf("carl"), "GET", policyAt, "", 403, "binaryauthorization.policy.get")
	api.expect(tokenOf("ann"), "PUT", policyAt, deniesAll, 200)
	api.expect(tokenOf("ann"), "GET", "/v1/projects/kritis/policy", "", 403)
	api.expect(tokenOf("ann"), "POST", attestorsAt+"?attestorId=a", `{"userOwnedGrafeasNote": {"noteReference": "projects/default/notes/n"}}`, 200)
	// An access policy of one attestor gives what the rules do not.
	api.expect(tokenOf("bob"), "GET", attestorsAt+"/a", "", 403)
	api.expect(tokenOf("ann"), "POST", attestorsAt+"/a:setIamPolicy", `{"policy": {"bindings": [{"role": "roles/binaryauthorization.attestorsViewer", "members": ["user:bob"]}]}}`, 200)
	api.expect(tokenOf("bob"), "GET", attestorsAt+"/a", "", 200)
	api.expect(tokenOf("bob"), "GET", attestorsAt, "", 403)
	if text := api.expect(tokenOf("bob"), "GET", policyAt+":listRevisions", "", 200, `"author": "ann"`); strings.Count(text, `"revision"`) != 1 {
		t.Errorf("history: %s", text)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, c := range calls(t, cfg.Data) {
		outcomes = append(outcomes, c.Caller+" "+c.Method+" "+c.Code)
	}
	for _, want := range []string{"bob UpdatePolicy PERMISSION_DENIED", "ann UpdatePolicy OK", "ann SetIamPolicy OK", "bob ListVersions OK"} {
		if !slices.Contains(outcomes, want) {
			t.Errorf("the record lacks %q: %q", want, outcomes)
		}
	}
}
