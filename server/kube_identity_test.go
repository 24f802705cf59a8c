package server

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
)

// TestServiceAccountsCall the metadata API by tokens that a real API server has issued,
// and vouches for.
func TestServiceAccountsCall(t *testing.T) {
	t.Parallel()
	c := &cluster{T: t, ControlPlane: controlplane.New(t, controlplane.Options{AdmissionOnly: true})}
	c.must("", "create", "namespace", "gatehouse")
	for _, name := range []string{"gate", "next", "ci", "stranger"} {
		c.must("", "create", "serviceaccount", name, "-n", "gatehouse")
	}
	tokenFor := func(name, audience string) string {
		return strings.TrimSpace(c.must("", "create", "token", name, "-n", "gatehouse", "--audience", audience, "--duration", "10m"))
	}
	kubernetes := identity.DefaultKubernetes()
	kubernetes.Enabled, kubernetes.Kubeconfig, kubernetes.CacheFor = true, c.Kubeconfig(), time.Second
	const account = "system:serviceaccount:gatehouse:"
	r := start(t, testConfig(t, func(c *Config) {
		c.Identity = identity.Config{Kubernetes: kubernetes, BearerTokensFile: tokens(t, "file@here"), Rules: []identity.Rule{
			{Caller: "*", Project: "default", Roles: []string{"viewer"}},
			{Caller: account + "gate", Project: "default", Roles: []string{"gate"}},
			{Caller: account + "next", Project: "default", Roles: []string{"gate"}},
		}}
	}))
	ask := func(token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Metadata+"/v1/projects/default/notes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var status struct{ Error struct{ Message string } }
		_ = json.NewDecoder(resp.Body).Decode(&status)
		return resp.StatusCode, status.Error.Message
	}

	ci := tokenFor("ci", "gatehouse")
	if code, text := ask(ci); code != http.StatusOK {
		t.Errorf("the right audience: %d %s", code, text)
	}
	if code, text := ask(tokenOf("file@here")); code != http.StatusOK {
		t.Errorf("a token of the file: %d %s", code, text)
	}
	if code, text := ask(tokenFor("ci", "https://kubernetes.default.svc.cluster.local")); code != http.StatusUnauthorized || !strings.Contains(text, `want one for "gatehouse"`) {
		t.Errorf("another audience: %d %s", code, text)
	}
	// One that says that it is for us, and is signed by nobody.
	head, rest, _ := strings.Cut(ci, ".")
	claims, _, _ := strings.Cut(rest, ".")
	stranger := tokenFor("stranger", "gatehouse")
	if code, text := ask(head + "." + claims + stranger[strings.LastIndexByte(stranger, '.'):]); code != http.StatusUnauthorized || !strings.Contains(text, "does not vouch") {
		t.Errorf("a forged token: %d %s", code, text)
	}

	// A gate whose token is replaced, as a kubelet does it, by another account's.
	dir := t.TempDir()
	project := func(name, token string) {
		t.Helper()
		write(t, filepath.Join(dir, name, "token"), token)
		next := filepath.Join(dir, "..next")
		if err := os.Symlink(name, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	project("first", tokenFor("gate", "gatehouse"))
	pod := func(text string) []byte {
		return review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte(text)).String()).Review()
	}
	gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) {
		c.Admission.Feed.TokenFile = filepath.Join(dir, "..data", "token")
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), enforced)}
		c.Admission.AttestorsFiles = []string{attestorsPath(r.data)}
	}))
	if ok, message := gate.ask(pod("one")); ok || !strings.Contains(message, "nobody") {
		t.Errorf("allowed %v, said %q", ok, message)
	}
	project("second", tokenFor("next", "gatehouse"))
	c.must("", "delete", "serviceaccount", "gate", "-n", "gatehouse")
	c.must("", "delete", "serviceaccount", "ci", "-n", "gatehouse")
	within(t, "a service account that was deleted is refused", func() bool {
		code, _ := ask(ci)
		return code == http.StatusUnauthorized
	})
	if ok, message := gate.ask(pod("two")); ok || !strings.Contains(message, "nobody") {
		t.Errorf("with the token that replaced it: allowed %v, said %q", ok, message)
	}
	within(t, "both names of the gate are recorded", func() bool {
		seen := map[string]bool{}
		if err := audit.QueryCalls(filepath.Join(r.data, auditAPIDir), audit.CallFilter{}, func(c audit.Call) error { seen[c.Caller] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		return seen[account+"gate"] && seen[account+"next"]
	})

	next := tokenFor("next", "gatehouse")
	c.Stop()
	within(t, "nobody new is let in while the API server is away", func() bool {
		code, text := ask(next)
		return code == http.StatusServiceUnavailable && strings.Contains(text, "could not be reviewed")
	})
	if code, text := ask(tokenOf("file@here")); code != http.StatusOK {
		t.Errorf("a token of the file, while the API server is away: %d %s", code, text)
	}
}
