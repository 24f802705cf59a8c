package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
)

// FuzzSecretsAreNotTold puts a text where secrets are, and looks for it in all that is
// said of them.
func FuzzSecretsAreNotTold(f *testing.F) {
	for _, s := range []string{"hunter2", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxx\n", "$2a$10$", "", "\"", "\\n", "\xff", "{}", "[1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		secret := "§" + s + "§"
		quoted := strconv.Quote(secret)
		var said bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&said, nil))
		tell := func(err error) {
			if err != nil {
				logger.Error("failed", "error", err)
				fmt.Fprintln(&said, err)
			}
		}
		for file, text := range map[string]string{
			"c.toml": "binauth_project = \"p\"\n[server]\nrequire_auth = true\nusername = \"u\"\npassword = " + tomlString(secret) + "\n[gatehouse.callers.ci]\npassword = " + tomlString(secret) + "\n",
			"c.json": `{"binauth_project": "p", "server": {"require_auth": true, "username": "u", "password": ` + string(jsonString(t, secret)) + `}}`,
			"c.yaml": "binauth_project: p\nserver: {require_auth: true, username: u, password: " + string(jsonString(t, secret)) + "}\n",
		} {
			c, warnings, err := ParseVoucherConfig(file, []byte(text))
			tell(err)
			logger.Info("warnings", "all", warnings)
			if err == nil {
				t.Errorf("%s: %q is taken for a bcrypt hash: %+v", file, secret, c)
			}
		}
		in := jsonString(t, secret)
		for _, text := range []string{
			`{"openpgpkeys": {"diy": ` + string(in) + `}, "repositories": {"us": {"token": ` + string(in) + `, "private_key": ` + string(in) + `}}}`,
			`{"openpgpkeys": ` + string(in) + `}`, `{"repositories": {"us": ` + string(in) + `}}`, `{"repositories": [` + string(in) + `]}`,
			string(in), `{"openpgpkeys": {"diy": ` + string(in), `{"openpgpkeys": {"diy": {"x": ` + string(in) + `}}}`,
		} {
			secrets, err := parseSecrets([]byte(text))
			tell(err)
			_, err = secrets.signers()
			tell(err)
			logger.Info("secrets", "all", secrets)
			fmt.Fprintf(&said, "%v %+v %#v", secrets, secrets, secrets)
		}
		for _, form := range []string{secret, quoted[1 : len(quoted)-1], string(in[1 : len(in)-1])} {
			if strings.Contains(said.String(), form) {
				t.Errorf("%q is told:\n%s", form, &said)
			}
		}
	})
}

func jsonString(t *testing.T, s string) []byte {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// tomlString is a basic string, in which all that may need it is escaped.
func tomlString(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, "\\U%08X", r)
	}
	return `"` + b.String() + `"`
}
