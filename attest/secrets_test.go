package attest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/rand"

	"github.com/Shopify/ejson"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// writeEJSON encrypts secrets as the ejson command does, and returns the file and the
// folder of its key.
func writeEJSON(t *testing.T, secrets map[string]any) attest.SecretFiles {
	t.Helper()
	public, private, err := ejson.GenerateKeypair()
	if err != nil {
		t.Fatal(err)
	}
	secrets["_public_key"] = public
	plain, err := json.Marshal(secrets)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if _, err := ejson.Encrypt(bytes.NewReader(plain), &sealed); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := attest.SecretFiles{EJSONFile: filepath.Join(dir, "secrets.ejson"), EJSONKeyDir: filepath.Join(dir, "keys")}
	if err := os.Mkdir(files.EJSONKeyDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{files.EJSONFile: sealed.String(), filepath.Join(files.EJSONKeyDir, public): private + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestKeysInTheSecretsSign(t *testing.T) {
	t.Parallel()
	armoured, err := signature.GeneratePGP("made for tests", time.Now().Add(-time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := writeEJSON(t, map[string]any{
		"openpgpkeys": map[string]string{"diy": string(armoured)},
		"repositories": map[string]any{
			"us":  map[string]string{"token": "hunter2-token"},
			"app": map[string]string{"_app_id": "17", "_installation_id": "18", "private_key": "hunter2-pem"},
		},
		"datadog": map[string]string{"api_key": "x"},
	})
	text := fmt.Sprintf("binauth_project = \"p\"\n[ejson]\ndir = %q\nsecrets = %q\n", files.EJSONKeyDir, files.EJSONFile)
	c, warnings, err := attest.ParseVoucherConfig("c.toml", []byte(text))
	if err != nil || len(warnings) != 1 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	options, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	signer := options.Signers["diy"]
	if signer == nil || len(options.Signers) != 1 {
		t.Fatalf("signers: %v", options.Signers)
	}
	if want, err := signature.ParsePGPSigner(armoured, nil); err != nil || signer.KeyID() != want.KeyID() {
		t.Errorf("C8: key id %q, want %q (%v)", signer.KeyID(), want.KeyID(), err)
	}
	secrets, err := files.Load(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if secrets.Repositories["us"].Token.Reveal() != "hunter2-token" || secrets.Repositories["app"].AppID != "17" || secrets.Repositories["app"].PrivateKey.Reveal() != "hunter2-pem" {
		t.Error("the logins at source code hosts are not what was encrypted")
	}
}

func TestSecretsPrintAsPlaceholders(t *testing.T) {
	t.Parallel()
	secrets, err := writeEJSON(t, map[string]any{
		"openpgpkeys":  map[string]string{"diy": "hunter2"},
		"repositories": map[string]any{"us": map[string]string{"token": "hunter2", "password": "hunter2", "private_key": "hunter2"}},
	}).Load(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&said, nil), slog.NewJSONHandler(&said, nil)} {
		slog.New(handler).Info("secrets", "all", secrets, "one", secrets.OpenPGPKeys["diy"])
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&said, verb, secrets)
		fmt.Fprintf(&said, verb, secrets.OpenPGPKeys["diy"])
	}
	if err := json.NewEncoder(&said).Encode(secrets); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "hunter2") || !strings.Contains(said.String(), "[secret]") {
		t.Errorf("it prints:\n%s", said.String())
	}
}

func TestB22_SecretsThatCannotBeReadAreToldAtStart(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		secrets map[string]any
		want    string
	}{
		"a login that is a text, as in Voucher's sample": {map[string]any{"repositories": map[string]any{"us": "hunter2"}}, "/repositories/us: another kind of value belongs here"},
		"the id of an app as the README writes it":       {map[string]any{"repositories": map[string]any{"us": map[string]string{"_id": "hunter2"}}}, "repositories.us: want token, or username and password, or _app_id"},
		"a key that is none":                             {map[string]any{"openpgpkeys": map[string]string{"diy": "hunter2"}}, `the OpenPGP key of check "diy"`},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			c := attest.Config{Project: "p", Server: attest.ServerConfig{Port: 1, Timeout: 1}, Secrets: writeEJSON(t, row.secrets)}
			if _, err := c.Options(); err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("err = %v, want %q", err, row.want)
			}
		})
	}
	c := attest.Config{Project: "p", Server: attest.ServerConfig{Port: 1, Timeout: 1}, Secrets: attest.SecretFiles{EJSONFile: "nowhere", EJSONKeyDir: "nowhere"}}
	if _, err := c.Options(); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("secrets that are not there: %v", err)
	}
}
