package server

import (
	"crypto/x509"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

func TestAdmissionSpeaksHTTP1OverTLSOnly(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.gate.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	resp, err := r.gate.Get("https://" + r.Admission + "/validate")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 1 || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("%s, %s", resp.Proto, resp.Status)
	}
	if resp, err := http.Get("https://" + r.Admission + "/validate"); err == nil {
		_ = resp.Body.Close()
		t.Error("a client that does not know the CA was served")
	}
}

func poolOf(c *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return pool
}

func TestPagesOfOthersAreKeptOut(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	for name, tc := range map[string]struct {
		url    string
		header http.Header
		host   string
		want   int
	}{
		"a tool":                       {"http://" + r.Metadata + "/v1/projects/p/notes?noteId=a", nil, "", http.StatusOK},
		"a tool by name":               {"http://" + r.Metadata + "/v1/projects/p/notes?noteId=b", nil, "localhost", http.StatusOK},
		"a page of another origin":     {"http://" + r.Metadata + "/v1/projects/p/notes?noteId=c", http.Header{"Origin": {"http://evil.example"}}, "", http.StatusForbidden},
		"a cross-site fetch":           {"http://" + r.Attestor + "/nobody", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "", http.StatusForbidden},
		"a name that resolves to here": {"http://" + r.Attestor + "/nobody", nil, "evil.example", http.StatusMisdirectedRequest},
		"metrics under such a name":    {"http://" + r.Ops + "/metrics", nil, "evil.example:9090", http.StatusMisdirectedRequest},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tc.url, strings.NewReader(`{"discovery":{"analysisKind":"VULNERABILITY"}}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "text/plain")
			for k, v := range tc.header {
				req.Header[k] = v
			}
			if tc.host != "" {
				req.Host = tc.host
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("%s, want %d", resp.Status, tc.want)
			}
		})
	}
}

func TestRulesForAPlaceThatIsNotKnownAreRefusedAtStart(t *testing.T) {
	t.Parallel()
	text := "clusterAdmissionRules: {us-east1-b.prod: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}\n" + openPolicy
	cfg := testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), text)}
	})
	err := Run(t.Context(), cfg, discard(), func(Addresses) error { return errors.New("it started") })
	if err == nil || !strings.Contains(err.Error(), "--cluster") {
		t.Errorf("got %v", err)
	}
	cfg.Cluster = "us-east1-b.prod"
	r := start(t, cfg)
	if allowed, _ := r.ask(review.Pod("shop", "web").Image("main", "nginx").Review()); allowed {
		t.Error("the cluster's rule was not applied")
	}
}
