package attest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/attest"
)

// The same configuration in each format that Voucher reads.
var sameConfig = map[string]string{
	"c.toml": `
binauth_project = "p"
failon = "high"
valid_repos = ["gcr.io/a", "gcr.io/b"]
[server]
port = 8081
[Required.Env]
DIY = true
nobody = false
[[kms_keys]]
check = "diy"
path = "` + kmsPath + `"
algo = "SHA256"
`,
	"c.yaml": `
binauth_project: p
failon: high
valid_repos: [gcr.io/a, gcr.io/b]
signer:
server: {port: 8081}
Required:
  Env:
    DIY: true
    nobody: false
kms_keys:
- check: diy
  path: ` + kmsPath + `
  algo: SHA256
`,
	"c.json": `{
 "binauth_project": "p", "failon": "high", "signer": null,
 "valid_repos": ["gcr.io/a", "gcr.io/b"],
 "server": {"port": 8081},
 "Required": {"Env": {"DIY": true, "nobody": false}},
 "kms_keys": [{"check": "diy", "path": "` + kmsPath + `", "algo": "SHA256"}]
}`,
}

func TestEveryFormatSaysTheSame(t *testing.T) {
	t.Parallel()
	want, _, err := attest.ParseVoucherConfig("c.toml", []byte(sameConfig["c.toml"]))
	if err != nil {
		t.Fatal(err)
	}
	if want.Server.Port != 8081 || len(want.Groups["env"]) != 1 || len(want.KMSKeys) != 1 || len(want.ValidRepos) != 2 {
		t.Fatalf("TOML: %+v", want)
	}
	for file, text := range sameConfig {
		got, _, err := attest.ParseVoucherConfig(file, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-TOML +it):\n%s", file, diff)
		}
	}
}

func TestB5_MistakesInEveryFormatHaveTheirLine(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct{ file, text, want string }{
		"YAML that is none":         {"c.yaml", "a: b\n c: d", "c.yaml: line 2"},
		"YAML, another type":        {"c.yml", "binauth_project: p\nserver:\n  port: yes please\n", "c.yml:3: server.port: want a whole number"},
		"YAML, a key twice":         {"c.yaml", "failon: a\nfailon: b\n", `c.yaml:2: key "failon" is set twice`},
		"YAML, in different case":   {"c.yaml", "failon: high\nFailon: low\n", "failon: is set twice, in different case"},
		"YAML, an alias":            {"c.yaml", "a: &x 1\nb: *x\n", "c.yaml:2: aliases are not read"},
		"YAML, a list":              {"c.yaml", "- a\n", "c.yaml:1: want keys and values, have a list"},
		"YAML, two documents":       {"c.yaml", "a: b\n---\n", "more than one YAML document"},
		"YAML, a quoted bool":       {"c.yaml", "checks:\n  diy: \"true\"\n", "c.yaml:2: checks.diy: want true or false, without quotes"},
		"JSON that is none":         {"c.json", "{\n\"failon\": \"hunter2\",,}", "c.json:2: it is not JSON"},
		"JSON, another type":        {"c.json", "{\"server\":\n{\"port\": true}}", "c.json:2: server.port: want a whole number"},
		"JSON, a key twice":         {"c.json", `{"failon":"a","failon":"b"}`, "c.json:1: it is not JSON, or has a key twice"},
		"JSON, more after it":       {"c.json", "{}\n{}", "there is more after the object"},
		"JSON, a list":              {"c.json", "[]", "want an object, have a list"},
		"JSON, too deep":            {"c.json", strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50), "nests more than 32 deep"},
		"JSON, a bad check":         {"c.json", "{\"failon\":\"high\",\n\"checks\":{\n\"nope\":true}}", "c.json:3: group \"all\": there is no check"},
		"KMS without keys":          {"c.toml", "signer = \"kms\"\n", "c.toml:1: signer is \"kms\", and there are no [[kms_keys]]"},
		"KMS, a key without check":  {"c.toml", "signer = \"kms\"\n[[kms_keys]]\npath = \"" + kmsPath + "\"\nalgo = \"SHA256\"\n", "check, which it signs for, is not set"},
		"KMS, a path that is none":  {"c.toml", "signer = \"kms\"\n[[kms_keys]]\ncheck = \"diy\"\npath = \"x\"\nalgo = \"SHA256\"\n", "kms_keys: key 1"},
		"KMS, a hash that is none":  {"c.toml", "signer = \"kms\"\n[[kms_keys]]\ncheck = \"diy\"\npath = \"" + kmsPath + "\"\nalgo = \"MD5\"\n", `"MD5": want SHA256`},
		"KMS keys that are none":    {"c.toml", "kms_keys = [1]\n", "want a list of tables"},
		"a client that is none":     {"c.toml", "metadata_client = \"x\"\n", `"x" is not a metadata client`},
		"half a client certificate": {"c.toml", "[gatehouse.metadata]\ncert_file = \"x\"\n", "give both or neither"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			_, _, err := attest.ParseVoucherConfig(row.file, []byte(row.text))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("err = %v\nwant %q in it", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a value: %v", err)
			}
		})
	}
}

func TestTheEnvironmentIsTakenOverTheFileAndSaidSo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("binauth_project = \"p\"\nfailon = \"low\"\n[Server]\nport = 8000\nTimeout = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"FAILON": "high", "DRYRUN": "true", "VALID_REPOS": "gcr.io/a gcr.io/b", "SERVER.PORT": "9000", "SERVER.USERNAME": "u"}
	got, warnings, err := attest.LoadVoucherConfigOver(file, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if got.FailOn != "high" || !got.DryRun || len(got.ValidRepos) != 2 || got.Server.Port != 9000 || got.Server.Username != "u" || got.Server.Timeout.Seconds() != 7 {
		t.Errorf("got %+v", got)
	}
	said := ""
	for _, w := range warnings {
		said += w.String() + "\n"
	}
	for name := range env {
		if !strings.Contains(said, "environment variable "+name+",") {
			t.Errorf("no one is told of %s:\n%s", name, said)
		}
	}
	if plain, _, err := attest.LoadVoucherConfig(file); err != nil || plain.FailOn != "low" || plain.DryRun {
		t.Errorf("without the environment: %+v, %v", plain, err)
	}
	env = map[string]string{"SERVER.PORT": "many"}
	if _, _, err := attest.LoadVoucherConfigOver(file, func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "SERVER.PORT") {
		t.Errorf("a port that is none: %v", err)
	}
}

func TestFindVoucherConfig(t *testing.T) {
	home := t.TempDir()
	t.Chdir(t.TempDir())
	if _, err := attest.FindVoucherConfig(home); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("where there is none: %v", err)
	}
	for _, file := range []string{"config.yaml", "config/config.toml", home + "/.voucher/config.json"} { // each before the last
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := attest.FindVoucherConfig(home); err != nil || got != file {
			t.Errorf("got %q, %v; want %q", got, err, file)
		}
	}
}
