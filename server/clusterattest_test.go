package server

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// TestAControllerHasImagesAttested by the signer of Kritis, which checks them again, and
// has it on record who asked.
func TestAControllerHasImagesAttested(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) {
		signs(t, c)
		c.KritisSigner.Callers = []string{"controller"}
		c.Identity = identity.Config{
			BearerTokensFile: tokens(t, "admin", "controller"),
			Rules:            []identity.Rule{{Caller: "admin", Project: "*", Roles: []string{"admin"}}},
		}
	}))
	cfg := testConfig(t, func(c *Config) {
		c.Controller.Attest = AttestConfig{
			TokenFile: write(t, filepath.Join(t.TempDir(), "token"), tokenOf("controller")+"\n"),
			Signers:   []AttestSigner{{Authority: "shop/ci", Server: "http://" + r.Kritis}},
		}
	})
	p := newParts(cfg, discard())
	t.Cleanup(func() { _ = p.close() })
	s := p.newAskingSigners()
	ci := kube.Key{Namespace: "shop", Name: "ci"}
	if !s.Signs(ci) || s.Signs(kube.Key{Namespace: "other", Name: "ci"}) {
		t.Error("it signs for others than it was told")
	}
	admin := rest{t, http.DefaultClient, "http://" + r.Metadata}
	ref, err := image.Parse("registry.example/shop/web@" + image.DigestOf([]byte("web")).String())
	if err != nil {
		t.Fatal(err)
	}
	admin.expect(tokenOf("admin"), http.MethodPost, "/v1/projects/default/notes?noteId=scanner", `{"discovery":{"analysisKind":"VULNERABILITY"}}`, 200)
	admin.expect(tokenOf("admin"), http.MethodPost, "/v1/projects/default/occurrences",
		`{"resourceUri":"https://`+ref.String()+`","noteName":"projects/default/notes/scanner","discovery":{"analysisStatus":"FINISHED_SUCCESS"}}`, 200)
	if err := s.Attest(t.Context(), ci, ref); err != nil {
		t.Fatal(err)
	}
	admin.expect(tokenOf("admin"), http.MethodGet, "/v1/projects/default/notes/vulnz/occurrences", "", 200, ref.String())
	s.token.path = write(t, filepath.Join(t.TempDir(), "other"), "nonsense")
	if err := s.Attest(t.Context(), ci, ref); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong token: %v", err)
	}
	if (&parts{cfg: DefaultConfig()}).newAskingSigners() != nil {
		t.Error("somebody signs who was not told")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	recorded := 0
	for _, c := range calls(t, r.data) {
		if c.Method == "kritis.signer.CheckAndSign" && c.Caller == "controller" {
			recorded++
		}
	}
	if recorded != 1 {
		t.Errorf("it is on record %d times", recorded)
	}
}

func TestSettingsOfAController(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no metadata service":          {func(c *Config) { c.Admission.Feed.Server = "" }, "no server"},
		"a store":                      {func(c *Config) { c.Store.Postgres.ConnectionFile = "f" }, "role controller does not run"},
		"no lease":                     {func(c *Config) { c.Controller.Lease.Name = "" }, "controller.lease"},
		"an unknown group":             {func(c *Config) { c.Controller.Groups = []string{"kritis.github.com"} }, `"kritis.github.com"`},
		"no interval":                  {func(c *Config) { c.Controller.Pods.Interval = 0 }, "controller.pods.interval"},
		"an authority of no namespace": {func(c *Config) { c.Controller.Attest.Signers = []AttestSigner{{"ci", "https://s:1"}} }, "NAMESPACE/NAME"},
		"a signer in the clear":        {func(c *Config) { c.Controller.Attest.Signers = []AttestSigner{{"shop/ci", "http://s:1"}} }, "use https"},
		"no address of a signer":       {func(c *Config) { c.Controller.Attest.Signers = []AttestSigner{{"shop/ci", "s:1"}} }, "want https://"},
		"two signers for an authority": {func(c *Config) {
			c.Controller.Attest.Signers = []AttestSigner{{"shop/ci", "https://s:1"}, {"shop/ci", "https://t:1"}}
		}, "twice"},
	} {
		cfg := gateConfig(t, "http://127.0.0.1:1", func(c *Config) { c.Role = ControllerRole })
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		tc.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
