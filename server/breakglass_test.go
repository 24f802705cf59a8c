package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A grantor has a key, and a file that says who he is.
func newGrantor(t *testing.T, name string) (signature.Signer, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewPKIXSigner(key, signature.ECDSAP256SHA256, "")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"grantors": []any{map[string]any{"name": name, "publicKeys": []any{map[string]any{"pkixPublicKey": map[string]any{
		"publicKeyPem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "signatureAlgorithm": "ECDSA_P256_SHA256",
	}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return signer, write(t, filepath.Join(t.TempDir(), "grantors.json"), string(text))
}

func grantText(t *testing.T, by signature.Signer, g breakglass.Grant) string {
	t.Helper()
	payload, err := g.Payload()
	if err != nil {
		t.Fatal(err)
	}
	s := breakglass.SignedGrant{Payload: payload}
	if err := s.Sign(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAGrantReachesAGateElsewhere: it is filed with the server, permits at a gate that
// follows it, and does so when the server is away; and no more when it has ended, or was
// taken back.
func TestAGrantReachesAGateElsewhere(t *testing.T) {
	t.Parallel()
	signer, grantors := newGrantor(t, "ann")
	byGrant := func(c *Config) {
		c.BreakGlass.Modes, c.BreakGlass.GrantorsFiles = []breakglass.Mode{breakglass.ByGrant}, []string{grantors}
	}
	r := start(t, testConfig(t, byGrant))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, byGrant))
	pod := func(namespace string) []byte {
		return review.Pod(namespace, "web").Label("image-policy.k8s.io/break-glass", "true").Image("main", "reg.test/app:1").Review()
	}
	if ok, said := gate.ask(pod("shop")); ok || !strings.Contains(said, "no grant covers") {
		t.Errorf("without a grant: allowed %v, said %q", ok, said)
	}
	now := time.Now().UTC()
	grant := breakglass.Grant{ID: breakglass.NewGrantID(), Cluster: "*", Namespace: "shop", Begins: now, Ends: now.Add(time.Hour)}
	const at = "/v1/projects/default/breakGlassGrants"
	r.api().expect("", "POST", at, grantText(t, signer, grant), 200)
	within(t, "the grant permits", func() bool { ok, _ := gate.ask(pod("shop")); return ok })
	if ok, said := gate.ask(pod("other")); ok {
		t.Errorf("another namespace is let in: %s", said)
	}
	soon := breakglass.Grant{ID: breakglass.NewGrantID(), Cluster: "*", Namespace: "brief", Begins: now, Ends: time.Now().UTC().Add(2 * time.Second)}
	r.api().expect("", "POST", at, grantText(t, signer, soon), 200)
	within(t, "a brief grant permits", func() bool { ok, _ := gate.ask(pod("brief")); return ok })
	within(t, "its end is said to the pod that is made again", func() bool {
		ok, said := gate.ask(pod("brief"))
		return !ok && strings.Contains(said, fmt.Sprintf("grant %s of ann ended at", soon.ID))
	})
	r.api().expect("", "DELETE", at+"/"+grant.ID, "", 200)
	within(t, "the grant that was taken back permits no more", func() bool { ok, _ := gate.ask(pod("shop")); return !ok })
	again := grant
	again.ID = breakglass.NewGrantID()
	r.api().expect("", "POST", at, grantText(t, signer, again), 200)
	within(t, "another grant permits", func() bool { ok, _ := gate.ask(pod("shop")); return ok })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if ok, said := gate.ask(pod("shop")); !ok {
		t.Errorf("the server is away, and the grant does not permit: %s", said)
	}
}

// TestAGrantOutlivesARestartWithoutTheService: it is in the copy on the gate's disk, and
// ends when it ends.
func TestAGrantOutlivesARestartWithoutTheService(t *testing.T) {
	t.Parallel()
	signer, grantors := newGrantor(t, "ann")
	byGrant := func(c *Config) {
		c.BreakGlass.Modes, c.BreakGlass.GrantorsFiles = []breakglass.Mode{breakglass.ByGrant}, []string{grantors}
	}
	r := start(t, testConfig(t, byGrant))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	cfg := gateConfig(t, "http://"+r.Metadata, byGrant)
	gate := start(t, cfg)
	pod := func(namespace string) []byte {
		return review.Pod(namespace, "web").Label("image-policy.k8s.io/break-glass", "true").Image("main", "reg.test/app:1").Review()
	}
	now := time.Now().UTC()
	const brief = 8 * time.Second
	for namespace, life := range map[string]time.Duration{"shop": time.Hour, "brief": brief} {
		g := breakglass.Grant{ID: breakglass.NewGrantID(), Cluster: "*", Namespace: namespace, Begins: now, Ends: now.Add(life)}
		r.api().expect("", "POST", "/v1/projects/default/breakGlassGrants", grantText(t, signer, g), 200)
		within(t, "the grant permits", func() bool { ok, _ := gate.ask(pod(namespace)); return ok })
	}
	if err := gate.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	within(t, "the grant of the copy permits", func() bool { ok, _ := again.ask(pod("shop")); return ok })
	if ok, said := again.ask(pod("other")); ok {
		t.Errorf("another namespace is let in: %s", said)
	}
	within(t, "the brief grant has ended", func() bool {
		ok, said := again.ask(pod("brief"))
		return !ok && strings.Contains(said, "of ann ended at")
	})
}

// TestAnIncidentClosesWhenTheImageIsAllowed: by the policy and the evidence that the gate
// decides by.
func TestAnIncidentClosesWhenTheImageIsAllowed(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the policy is in force", func() bool {
		ok, _ := r.ask(review.Pod("shop", "web").Image("main", "reg.test/app:1").Review())
		return !ok
	})
	if ok, said := r.ask(review.Pod("shop", "web").Label("image-policy.k8s.io/break-glass", "true").Image("main", "reg.test/app:1").Review()); !ok {
		t.Fatal(said)
	}
	open := func(state string) bool {
		code, text := r.get("http://" + r.Metadata + "/v1/projects/default/breakGlassIncidents?state=" + state)
		return code == 200 && strings.Contains(text, "reg.test/app:1")
	}
	if !open("open") {
		t.Fatal("there is no incident")
	}
	r.api().expect("", "PUT", policyAt, strings.Replace(deniesAll, "ALWAYS_DENY", "ALWAYS_ALLOW", 1), 200)
	within(t, "the incident is resolved", func() bool { return open("resolved") })
	if open("open") {
		t.Error("the incident is open all the same")
	}
}
