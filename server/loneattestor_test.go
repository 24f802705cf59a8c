package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/Shopify/ejson"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// journal is a log that a test can wait on.
type journal struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newJournal() *journal { return &journal{wrote: make(chan struct{}, 1)} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case j.wrote <- struct{}{}:
	default:
	}
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// await waits until a line with all of these is written, n times.
func (j *journal) await(t *testing.T, what string, n int) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for strings.Count(j.String(), what) < n {
		select {
		case <-j.wrote:
		case <-timeout:
			t.Fatalf("%q is not said %d times:\n%s", what, n, j)
		}
	}
}

// lone is an attestor that runs alone, beside a metadata service.
type lone struct {
	*running
	journal *journal
	config  string
	text    string // of the configuration
	keys    []string
}

const loneUser, lonePassword = "vouch", "hunter2-password"

// voucherConfig is a configuration of Voucher's with all its secrets.
func voucherConfig(t *testing.T, dir, metadata, version, registry string, more ...string) (text string, secrets []string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(lonePassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ejson.GenerateKeypair()
	if err != nil {
		t.Fatal(err)
	}
	key := func() string {
		armoured, err := signature.GeneratePGP("made for tests", time.Now().Add(-time.Hour), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return string(armoured)
	}
	diy, nobody := key(), key()
	plain, err := json.Marshal(map[string]any{
		"_public_key": public, "openpgpkeys": map[string]string{"diy": diy, "nobody": nobody},
		"repositories": map[string]any{"us": map[string]string{"token": "hunter2-token"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if _, err := ejson.Encrypt(bytes.NewReader(plain), &sealed); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "keys", public), private)
	write(t, filepath.Join(dir, "secrets.ejson"), sealed.String())
	text = fmt.Sprintf(`binauth_project = "binauth"
scanner = "metadata"
failon = "high"
metadata_client = "grafeasos"
valid_repos = [%q]
signer = "pgp"
[checks]
diy = true
nobody = true
[required.root]
nobody = true
[server]
port = 8000
timeout = 60
require_auth = true
username = %q
password = %q
[grafeasos]
hostname = "http://%s/"
version = %q
[ejson]
dir = %q
secrets = %q
%s`, registry, loneUser, string(hash), metadata, version, filepath.Join(dir, "keys"), filepath.Join(dir, "secrets.ejson"), strings.Join(more, ""))
	if len(more) > 0 {
		text = strings.Replace(text, `signer = "pgp"`, `signer = "kms"`, 1)
	}
	inner := func(armoured string) string { // a line of the key itself
		return strings.Split(armoured, "\n")[4]
	}
	return text, []string{lonePassword, string(hash), private, inner(diy), inner(nobody), "hunter2-token"}
}

// startLone starts an attestor whose metadata service speaks a version of Grafeas.
func startLone(t *testing.T, metadata, version, registry string, more ...string) *lone {
	t.Helper()
	dir := t.TempDir()
	l := &lone{journal: newJournal(), config: filepath.Join(dir, "voucher.toml")}
	l.text, l.keys = voucherConfig(t, dir, metadata, version, registry, more...)
	write(t, l.config, l.text)
	cfg := testConfig(t, func(c *Config) {
		c.Role, c.Attestor.ConfigFile = AttestorRole, l.config
	})
	if err := Check(cfg, discard()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan Addresses, 1), make(chan error, 1)
	logger := slog.New(slog.NewTextHandler(l.journal, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() { ended <- Run(ctx, cfg, logger, func(a Addresses) error { started <- a; return nil }) }()
	l.running = &running{t: t, data: cfg.Data}
	var once sync.Once
	l.stop = func() (err error) {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	select {
	case l.Addresses = <-started:
	case err := <-ended:
		cancel()
		t.Fatalf("the attestor ended: %v", err)
	}
	t.Cleanup(func() {
		if err := l.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return l
}

// post asks the attestor as its user.
func (l *lone) post(path string, ref image.Reference) (int, string) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, "http://"+l.Attestor+path, strings.NewReader(fmt.Sprintf(`{"image_url":%q}`, ref)))
	if err != nil {
		l.t.Fatal(err)
	}
	req.SetBasicAuth(loneUser, lonePassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (l *lone) vouch(path string, ref image.Reference) attest.Response {
	l.t.Helper()
	status, text := l.post(path, ref)
	var r attest.Response
	if err := json.Unmarshal([]byte(text), &r); err != nil || status != http.StatusOK {
		l.t.Fatalf("%s: %d %s", path, status, text)
	}
	return r
}

// pushBoth puts an image that runs as somebody and one that runs as root into a registry.
func pushBoth(t *testing.T) (good, root image.Reference) {
	t.Helper()
	reg := registry.New(t)
	for user, ref := range map[string]*image.Reference{"65532": &good, "": &root} {
		img, err := registry.Image(registry.ImageOptions{User: user})
		if err != nil {
			t.Fatal(err)
		}
		if *ref, err = reg.Push(t.Context(), "shop/web", img); err != nil {
			t.Fatal(err)
		}
	}
	return good, root
}

func newMetadataServer(t *testing.T) *running {
	t.Helper()
	return start(t, testConfig(t, func(c *Config) { c.Project = "binauth" }))
}

// C1–C10 with a configuration of Voucher's, over either version of the API.
func TestAnAttestorAloneVouchesAndIsRecorded(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1beta1/", "v1/"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			metadata := newMetadataServer(t)
			good, root := pushBoth(t)
			l := startLone(t, metadata.Metadata, version, good.Registry())
			got := l.vouch("/all", good)
			if !got.Success || len(got.Results) != 2 || !got.Results[0].Attested || !got.Results[1].Attested {
				t.Fatalf("got %+v", got)
			}
			d := got.Results[0].Details
			if body := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"Google cloud binauthz container signature"}}`, good.Name(), good.Digest()); d.Body != body {
				t.Errorf("C6: the payload is\n%s, want\n%s", d.Body, body)
			}
			if d.CheckName != "diy" || !strings.HasPrefix(d.Signature, "-----BEGIN PGP SIGNATURE-----\n\n") || strings.HasSuffix(d.Signature, "\n") || len(d.KeyID) != 40 || strings.ToUpper(d.KeyID) != d.KeyID {
				t.Errorf("C3, C8, C9: details %+v", d)
			}
			if again := l.vouch("/all", good); !again.Success || !again.Results[0].Attested || again.Results[0].Details.Signature != "" {
				t.Errorf("B9: again: %+v", again)
			}
			if v := l.vouch("/all/verify", good); !v.Success {
				t.Errorf("B2: verify: %+v", v)
			}
			if v := l.vouch("/all/verify", root); v.Success {
				t.Errorf("B1: verify of another image: %+v", v)
			}
			if r := l.vouch("/root", root); r.Success || r.Results[0].Attested {
				t.Errorf("an image that runs as root: %+v", r)
			}
			if status, text := l.post("/nope", good); status != http.StatusNotFound || !strings.HasPrefix(text, `check or group "nope" is not active: required check(s) are not registered: nope`) {
				t.Errorf("%d %s", status, text)
			}
			_, listed := metadata.get("http://" + metadata.Metadata + "/v1/projects/binauth/notes/diy/occurrences")
			if !strings.Contains(listed, `"serializedPayload"`) || !strings.Contains(listed, base64.StdEncoding.EncodeToString([]byte(d.Signature))) || !strings.Contains(listed, "https://"+good.Name()+"@"+good.Digest().String()) {
				t.Errorf("C7, B8: what is filed: %s", listed)
			}
			_, metrics := l.get("http://" + l.Ops + "/metrics")
			for _, want := range []string{
				`voucher_check_run_success_total{check_name="diy"} 2`, `voucher_check_run_failure_total{check_name="nobody"} 1`, `voucher_check_attestation_success_total{check_name="nobody"} 2`,
				`gatehouse_attestor_requests_total{api="voucher",method="check",outcome="refused"} 1`, `gatehouse_attestor_config_current 1`, `voucher_check_run_latency_milliseconds_count{check_name="diy"} 2`,
			} {
				if !strings.Contains(metrics, want) {
					t.Errorf("B21: the metrics lack %s", want)
				}
			}
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			var lines []audit.Run
			if err := audit.QueryRuns(filepath.Join(l.data, "audit-attestor"), audit.RunFilter{}, func(r audit.Run) error { lines = append(lines, r); return nil }); err != nil {
				t.Fatal(err)
			}
			if len(lines) != 6 || lines[0].Caller != loneUser || lines[0].Origin != "127.0.0.1" || lines[0].Image != good.String() || lines[5].Error == "" {
				t.Fatalf("B18: the record: %+v", lines)
			}
			if a := lines[0].Results[0].Attestations; len(a) != 1 || a[0].KeyID != d.KeyID || a[0].Signature != base64.StdEncoding.EncodeToString([]byte(d.Signature)) {
				t.Errorf("the record of the signature: %+v", a)
			}
			l.holdsNoSecret(t)
		})
	}
}

// holdsNoSecret looks for secrets in all that is logged and recorded.
func (l *lone) holdsNoSecret(t *testing.T) {
	t.Helper()
	all := l.journal.String()
	err := filepath.Walk(l.data, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("nothing is logged")
	}
	for _, secret := range l.keys {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(all, form) {
				t.Errorf("what is logged or recorded has a secret in it: %.12s…", form)
			}
		}
	}
}

func TestKeysOfKMSSignAndAreReadAgain(t *testing.T) {
	t.Parallel()
	metadata, service := newMetadataServer(t), kms.New(t)
	key := func() string { return service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256) }
	first, second := key(), key()
	good, _ := pushBoth(t)
	l := startLone(t, metadata.Metadata, "v1beta1/", good.Registry(), fmt.Sprintf("[gatehouse]\nkms_endpoint = %q\n[[kms_keys]]\ncheck = \"nobody\"\npath = %q\nalgo = \"SHA256\"\n", service.Endpoint(), first))
	got := l.vouch("/root", good)
	if d := got.Results[0].Details; !got.Results[0].Attested || d.KeyID != "//cloudkms.googleapis.com/v1/"+first {
		t.Fatalf("C8: got %+v, %+v", got, d)
	}
	if v := l.vouch("/root/verify", good); !v.Success || v.Results[0].Details.VerifiedKeyID != "//cloudkms.googleapis.com/v1/"+first {
		t.Errorf("verify: %+v", v)
	}
	write(t, l.config, strings.Replace(l.text, first, second, 1))
	l.journal.await(t, "configuration of the attestor is in force", 1)
	if d := l.vouch("/root", good).Results[0].Details; d.KeyID != "//cloudkms.googleapis.com/v1/"+second {
		t.Errorf("after a change: %+v", d)
	}
}

func TestAnIndexIsAttestedWithItsImages(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	reg := registry.New(t)
	a, err := registry.Image(registry.ImageOptions{User: "65532", Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := registry.Image(registry.ImageOptions{User: "65532", Arch: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	index, err := registry.Index(a, b)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web", index)
	if err != nil {
		t.Fatal(err)
	}
	r.check(ref, "nobody", true)
	digests := map[string]bool{ref.Digest().String(): true}
	for _, img := range []v1.Image{a, b} {
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[d.String()] = true
	}
	for d := range digests {
		one, err := image.ParseDigest(d)
		if err != nil {
			t.Fatal(err)
		}
		r.check(ref.WithDigest(one), "nobody/verify", true)
	}
}

func TestAChangedConfigurationIsInForceAndABrokenOneIsNot(t *testing.T) {
	t.Parallel()
	metadata := newMetadataServer(t)
	good, _ := pushBoth(t)
	l := startLone(t, metadata.Metadata, "v1beta1/", good.Registry())
	// A broken one keeps the old.
	write(t, l.config, l.text+"\n[required.broken]\nnope = true\n")
	l.journal.await(t, "is not used, the last good one stays in force", 1)
	if got := l.vouch("/root", good); !got.Success {
		t.Errorf("after a broken change: %+v", got)
	}
	if _, metrics := l.get("http://" + l.Ops + "/metrics"); !strings.Contains(metrics, "gatehouse_attestor_config_current 0") || !strings.Contains(metrics, `gatehouse_attestor_config_reloads_total{result="error"} 1`) {
		t.Errorf("metrics after a broken change: %s", metrics)
	}
	if !strings.Contains(l.journal.String(), "there is no check") {
		t.Errorf("the log does not say what is wrong:\n%s", l.journal)
	}
	// Another project takes a restart.
	write(t, l.config, strings.Replace(l.text, `"binauth"`, `"other"`, 1))
	l.journal.await(t, "this takes a restart", 1)
	// A good one is in force.
	write(t, l.config, "dryrun = true\n"+l.text+"\n[required.more]\ndiy = true\n")
	l.journal.await(t, "configuration of the attestor is in force", 1)
	if got := l.vouch("/more", good); !got.Success || got.Results[0].Attested {
		t.Errorf("after a change: %+v", got)
	}
	// So is a key that is replaced.
	write(t, filepath.Join(filepath.Dir(l.config), "secrets.ejson"), "hunter2-broken")
	l.journal.await(t, "is not used, the last good one stays in force", 3)
	if _, metrics := l.get("http://" + l.Ops + "/metrics"); !strings.Contains(metrics, "gatehouse_attestor_config_current 0") {
		t.Errorf("metrics after broken secrets: %s", metrics)
	}
	if strings.Contains(l.journal.String(), "hunter2") {
		t.Error("the log has what was in the secrets")
	}
	l.holdsNoSecret(t)
}

func TestAnAttestorAloneIsRefusedWhatItDoesNotRun(t *testing.T) {
	t.Parallel()
	config := write(t, filepath.Join(t.TempDir(), "c.toml"), "binauth_project = \"p\"\n")
	for about, row := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no configuration": {func(c *Config) { c.Attestor.ConfigFile = "" }, "needs attestor.configFile"},
		"a policy":         {func(c *Config) { c.Admission.PolicyFiles = []string{"p"} }, "does not run what a policy is for"},
		"a store":          {func(c *Config) { c.Store.Postgres.ConnectionFile = "x" }, "what store is for"},
		"open to all":      {func(c *Config) { c.Attestor.Address = "0.0.0.0:0" }, "not authenticated"},
		"no project": {func(c *Config) {
			c.Attestor.ConfigFile = write(t, config+"2.toml", "failon = \"high\"\n")
			c.Project = ""
		}, "binauth_project is not set"},
		"a role that's none": {func(c *Config) { c.Role = "metadata" }, `role "metadata"`},
	} {
		cfg := DefaultConfig()
		cfg.Data, cfg.Role, cfg.Attestor.ConfigFile = t.TempDir(), AttestorRole, config
		row.change(&cfg)
		if err := Check(cfg, discard()); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", about, err, row.want)
		}
	}
}

// Where Cloud Run asks who the caller is, it listens everywhere and asks nobody.
func TestCloudRun(t *testing.T) {
	t.Setenv("IS_CLOUDRUN", "true")
	t.Setenv("VOUCHER_TARGET_ARCH", "arm64")
	config := write(t, filepath.Join(t.TempDir(), "c.toml"), "binauth_project = \"p\"\n[server]\nrequire_auth = true\nport = 8123\n")
	p := newParts(Config{Role: AttestorRole, Attestor: AttestorConfig{ConfigFile: config, Address: "0.0.0.0:0"}}, discard())
	got, err := loadAttestorConfig(p.cfg, discard())
	if err != nil || got.Server.RequireAuth || got.Platforms[0] != "linux/arm64" {
		t.Fatalf("got %+v, %v", got, err)
	}
	p.cfg.Attestor.Address, p.attestorConfig = "", got
	if address := p.loneAddress(); address != ":8123" {
		t.Errorf("it listens at %q", address)
	}
	got.Server.CloudRun = false
	if address := p.loneAddress(); address != "127.0.0.1:8123" {
		t.Errorf("elsewhere, asking nobody, it listens at %q", address)
	}
}
