package server

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

const signingPolicy = `
apiVersion: kritis.grafeas.io/v1beta1
kind: VulnzSigningPolicy
metadata: {name: release-gate}
spec:
  imageVulnerabilityRequirements: {maximumFixableSeverity: LOW}
`

// signs makes a configuration with a signer that signs by Cloud KMS.
func signs(t *testing.T, c *Config) {
	t.Helper()
	service := kms.New(t)
	c.KritisSigner = KritisSignerConfig{
		Address: "127.0.0.1:0", Policy: signingPolicy, NoteName: "projects/default/notes/vulnz", VulnzTimeout: time.Minute,
		KMSKeyName: service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256), KMSEndpoint: service.Endpoint(),
	}
}

// TestTheSignerOfKritis is the story of an image that is scanned while its signature
// is asked for.
func TestTheSignerOfKritis(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		signs(t, c)
		c.KritisSigner.Callers = []string{"ci@shop"}
		c.Identity = identity.Config{
			BearerTokensFile: tokens(t, "admin", "ci@shop", "eve"),
			Rules:            []identity.Rule{{Caller: "admin", Project: "*", Roles: []string{"admin"}}},
		}
	})
	r := start(t, cfg)
	admin := rest{t, http.DefaultClient, "http://" + r.Metadata}
	signer := rest{t, http.DefaultClient, "http://" + r.Kritis}
	ref := "registry.example/shop/web@" + image.DigestOf([]byte("web")).String()
	body := `{"image":"` + ref + `"}`

	signer.expect("", http.MethodPost, "/check-and-sign", body, 401, `"status":"failed"`)
	signer.expect(tokenOf("eve"), http.MethodPost, "/check-and-sign", body, 403, "kritisSigner.callers")

	answered := make(chan string, 1)
	go func() {
		code, _, text := signer.do(tokenOf("ci@shop"), http.MethodPost, "/check-and-sign", body)
		answered <- http.StatusText(code) + " " + text
	}()
	token := tokenOf("admin")
	admin.expect(token, http.MethodPost, "/v1/projects/default/notes?noteId=scanner", `{"discovery":{"analysisKind":"VULNERABILITY"}}`, 200)
	scan := admin.expect(token, http.MethodPost, "/v1/projects/default/occurrences",
		`{"resourceUri":"https://`+ref+`","noteName":"projects/default/notes/scanner","discovery":{"analysisStatus":"FINISHED_SUCCESS"}}`, 200)
	if got := <-answered; !strings.HasPrefix(got, "OK ") || !strings.Contains(got, `"status":"signed"`) {
		t.Errorf("answered %s", got)
	}
	signer.expect(tokenOf("ci@shop"), http.MethodPost, "/check-only", body, 200, `"status":"ok"`)
	admin.expect(token, http.MethodGet, "/v1/projects/default/notes/vulnz/occurrences", "", 200, ref, "//cloudkms.googleapis.com/v1/")
	if strings.Contains(scan, "error") {
		t.Error(scan)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	recorded := map[string]int{}
	for _, c := range calls(t, r.data) {
		if strings.HasPrefix(c.Method, "kritis.signer.") {
			recorded[c.Method+" "+c.Caller+" "+c.Code]++
		}
	}
	for _, want := range []string{"kritis.signer.CheckAndSign ci@shop OK", "kritis.signer.CheckAndSign  UNAUTHENTICATED", "kritis.signer.CheckAndSign eve PERMISSION_DENIED", "kritis.signer.CheckOnly ci@shop OK"} {
		if recorded[want] != 1 {
			t.Errorf("%q is recorded %d times, of %v", want, recorded[want], recorded)
		}
	}
}

func TestTheSignerOfKritisIsRefusedBeforeAnythingIsServed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"an open listener":         {func(c *Config) { c.KritisSigner.Address = "0.0.0.0:0" }, "not on loopback"},
		"tokens in the clear":      {func(c *Config) { c.KritisSigner.Address = "0.0.0.0:0"; guarded(c) }, "sent in the clear"},
		"nobody who may ask":       {guarded, "nobody may ask"},
		"callers that nobody asks": {func(c *Config) { c.KritisSigner.Callers = []string{"ci"} }, "no way to tell them"},
		"half a certificate":       {func(c *Config) { c.KritisSigner.CertFile = "c" }, "both or neither"},
		"a gate alone":             {func(c *Config) { c.Role = AdmissionRole }, "which holds no keys"},
		"two policies":             {func(c *Config) { c.KritisSigner.PolicyFile = "p" }, "one of them"},
		"a wait without end":       {func(c *Config) { c.KritisSigner.VulnzTimeout = 24 * time.Hour }, "at most an hour"},
		"no policy":                {func(c *Config) { c.KritisSigner.Policy = "" }, "there is no policy"},
		"a policy of another kind": {func(c *Config) {
			c.KritisSigner.Policy = strings.Replace(signingPolicy, "VulnzSigningPolicy", "Policy", 1)
		}, "none of Kritis' kinds"},
		"a note without key":      {func(c *Config) { c.KritisSigner.KMSKeyName = "" }, "no key is given"},
		"a key without note":      {func(c *Config) { c.KritisSigner.NoteName = "" }, "no noteName"},
		"a note of no form":       {func(c *Config) { c.KritisSigner.NoteName = "vulnz" }, "projects/PROJECT/notes/NOTE"},
		"a key that is not there": {func(c *Config) { c.KritisSigner.KMSKeyName += "7" }, "NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, func(c *Config) { signs(t, c); tc.change(c) })
			err := Run(t.Context(), cfg, discard(), func(Addresses) error { t.Error("it is served"); return context.Canceled })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if err := Check(cfg, discard()); name != "a note of no form" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("--check-config: got %v, want an error with %q", err, tc.want)
			}
		})
	}
	t.Run("a good one is valid", func(t *testing.T) {
		t.Parallel()
		if err := Check(testConfig(t, func(c *Config) { signs(t, c) }), discard()); err != nil {
			t.Error(err)
		}
	})
}

func guarded(c *Config) {
	c.Identity = identity.Config{BearerTokensFile: "t", Rules: []identity.Rule{{Caller: "*", Project: "p", Roles: []string{"viewer"}}}}
}

func TestTheEnvironmentOfGCRSigner(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"ATTESTATION_POLICY": signingPolicy, "ATTESTATION_NOTE_NAME": "projects/p/notes/n", "ATTESTATION_PROJECT": "q",
		"ATTESTATION_OVERWRITE": "1", "ATTESTATION_KMS_KEY": "k", "ATTESTATION_DIGEST_ALGORITHM": "SHA256",
	}
	getenv := func(name string) string { return env[name] }
	c := KritisSignerConfig{Address: "127.0.0.1:0", AttestationProject: "mine"}
	if err := c.applyEnvironment(getenv, discard()); err != nil {
		t.Fatal(err)
	}
	if c.Policy != signingPolicy || c.NoteName != "projects/p/notes/n" || c.AttestationProject != "mine" || !c.Overwrite || c.KMSKeyName != "k" || c.KMSDigestAlg != "SHA256" {
		t.Errorf("got %+v", c)
	}
	c = KritisSignerConfig{Address: "127.0.0.1:0", PKIXKeyFile: "f", PolicyFile: "g"}
	if err := c.applyEnvironment(getenv, discard()); err != nil || c.KMSKeyName != "" || c.Policy != "" {
		t.Errorf("what is set does not win: %+v, %v", c, err)
	}
	c = KritisSignerConfig{}
	if err := c.applyEnvironment(getenv, discard()); err != nil || c.NoteName != "" || c.Policy != "" {
		t.Errorf("it counts where the signer does not run: %+v, %v", c, err)
	}
	env["ATTESTATION_OVERWRITE"] = "perhaps"
	c = KritisSignerConfig{Address: "127.0.0.1:0"}
	if err := c.applyEnvironment(getenv, discard()); err == nil || !strings.Contains(err.Error(), "ATTESTATION_OVERWRITE") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsWaitedForIsSeenWhenItHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		service, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p"}})
		if err != nil {
			t.Fatal(err)
		}
		p := &parts{service: service}
		wait := p.watchStore()
		start := time.Now()
		if err := wait(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("without news: %v after %s", err, time.Since(start))
		}
		wait = p.watchStore()
		note := &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}
		if _, err := service.CreateNote(t.Context(), metadata.Caller{}, "projects/p", "n", note); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if err := wait(t.Context(), time.Minute); err != nil || time.Since(start) > time.Second {
			t.Errorf("with news from before the wait: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.watchStore()(ctx, time.Minute); err == nil {
			t.Error("the caller has gone, and it is not told")
		}
	})
}

func TestTheSignerOfKritisServesTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := start(t, testConfig(t, func(c *Config) {
		signs(t, c)
		c.KritisSigner.CertFile, c.KritisSigner.KeyFile = ca.files(nil)
	}))
	secure := restOver(t, r, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12})
	secure.base = "https://" + r.Kritis
	secure.expect("", http.MethodPost, "/check-only", `{}`, 400, "names no image")
}
