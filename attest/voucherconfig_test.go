package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A configuration as users of Voucher have it, with all that it may contain.
const voucherConfig = `dryrun = false
scanner = "metadata"
failon = "high"
metadata_client = "containeranalysis"
image_project = "old"
binauth_project = "binauth"
signer = "kms"
valid_repos = ["gcr.io/team/", "eu.gcr.io"]
trusted_builder_identities = ["ci@builds.example"]
trusted_projects = ["builds"]

[checks]
diy = true
nobody = true
snakeoil = true
provenance = false

[server]
port = 8080
timeout = 120
require_auth = true
username = "vouch"
password = "$2a$04$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

[required.Prod]
Snakeoil = true
diy = true
nobody = false

[required.github]
approved = true
is_us = true

[ejson]
dir = "/key"

[[kms_keys]]
check = "diy"
path = "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
algo = "SHA512"

[metrics]
backend = "statsd"

[grafeasos]
hostname = "http://grafeas.example:8080/"
version = "v1beta1/"

[containeranalysis]
build_detail_fallback_project = "more-builds"

[repository.us]
org-url = "https://github.com/us"
`

const kmsPath = "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

func TestParseVoucherConfig(t *testing.T) {
	t.Parallel()
	got, warnings, err := attest.ParseVoucherConfig("config.toml", []byte(voucherConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := &attest.Config{
		Project: "binauth", FailOn: "high", Signer: attest.SignerKMS,
		Grafeas:      attest.GrafeasConfig{Client: "containeranalysis", Hostname: "http://grafeas.example:8080/", Version: "v1beta1/"},
		KMSKeys:      []attest.KMSKey{{Check: "diy", Path: kmsPath, Algorithm: "SHA512"}},
		BuildProject: "more-builds",
		ValidRepos:   []string{"gcr.io/team/", "eu.gcr.io"}, TrustedBuilders: []string{"ci@builds.example"}, TrustedProjects: []string{"builds"},
		ScanWait: 50 * time.Second, CreateNotes: true,
		Groups: map[string][]string{"all": {"diy", "nobody", "snakeoil"}, "prod": {"snakeoil", "diy"}, "github": {"approved", "is_us"}},
		Server: attest.ServerConfig{Port: 8080, Timeout: 2 * time.Minute, RequireAuth: true, Username: "vouch", PasswordHash: "$2a$04$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		Keys:   map[string]attest.KeyFile{}, TrustedKeys: map[string][]attest.KeyFile{},

		Repositories: map[string]attest.Repository{"us": {OrgURL: "https://github.com/us"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	var told []string
	for _, w := range warnings {
		told = append(told, w.String())
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{
		"config.toml:5: image_project:",
		"config.toml:34: ejson: has no effect: it takes both", "config.toml:42: metrics: has no effect: metrics are for Prometheus",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the warnings lack %q:\n%s", want, all)
		}
	}
	if len(warnings) != 3 {
		t.Errorf("%d warnings, want 3:\n%s", len(warnings), all)
	}
	options, err := got.Options()
	if err != nil {
		t.Fatal(err)
	}
	if len(options.Checks) != 7 || options.Project != "binauth" || !options.CreateNotes {
		t.Errorf("options: %+v", options)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, warnings, err := attest.ParseVoucherConfig("c", []byte(`binauth_project = "p"`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(attest.ServerConfig{Port: 8000, Timeout: 240 * time.Second}, c.Server); diff != "" {
		t.Errorf("server (-want +got):\n%s", diff)
	}
	if g, ok := c.Groups["all"]; !ok || len(g) != 0 {
		t.Errorf("groups: %v", c.Groups)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), "snakeoil is not active") {
		t.Errorf("warnings: %v", warnings)
	}
	options, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range options.Checks {
		if k.Name == "snakeoil" {
			t.Error("snakeoil is active without failon")
		}
	}
}

func TestB5_AllThatIsWrongIsToldAtStartWithItsLine(t *testing.T) {
	t.Parallel()
	const good = "binauth_project = \"p\"\nfailon = \"high\"\n" // two lines
	for about, row := range map[string]struct {
		text string
		want []string
	}{
		"a severity that doesn't exist":    {"binauth_project = \"p\"\nfailon = \"severe\"", []string{`c.toml:2: failon: severity "severe" doesn't exist`}},
		"a scanner that doesn't":           {good + `scanner = "clair"`, []string{`c.toml:3: scanner: "clair": Clair is not supported`}},
		"a signer that doesn't":            {good + `signer = "x"`, []string{`c.toml:3: signer: "x"`}},
		"a metadata client that doesn't":   {good + `metadata_client = "x"`, []string{`c.toml:3: metadata_client: "x"`}},
		"a project that is a path":         {"binauth_project = \"projects/p\"\nfailon = \"high\"", []string{`c.toml:1: binauth_project: "projects/p"`}},
		"a word for a number":              {good + "[server]\nport = \"8000\"", []string{"c.toml:4: server.port: want a whole number, have a string"}},
		"a number for a word":              {good + "[server]\nusername = 1", []string{"c.toml:4: server.username: want a string, have a whole number"}},
		"a port out of range":              {good + "[server]\nport = 70000", []string{"c.toml:4: server.port: 70000 is not between 1 and 65535"}},
		"no time":                          {good + "[server]\ntimeout = 0", []string{"c.toml:4: server.timeout: 0 is not between"}},
		"a check that is no bool":          {good + "[checks]\ndiy = \"true\"", []string{"c.toml:4: checks.diy: want true or false"}},
		"a required check that is no bool": {good + "[required.prod]\ndiy = 1", []string{"c.toml:4: required.prod.diy: want true or false"}},
		"a check that doesn't exist":       {good + "[required.prod]\ndyi = true", []string{`c.toml:4: group "prod": there is no check "dyi"`}},
		"snakeoil without failon":          {"binauth_project = \"p\"\n[checks]\nsnakeoil = true", []string{"c.toml:3: group \"all\": snakeoil needs failon"}},
		"a list that is none":              {good + `valid_repos = "gcr.io"`, []string{"c.toml:3: valid_repos: want a list"}},
		"a list of something else":         {good + `valid_repos = ["gcr.io", 1]`, []string{"c.toml:3: valid_repos: want a list of strings, have a whole number in place 2"}},
		"B3: an empty valid repo":          {good + `valid_repos = [""]`, []string{`c.toml:3: valid_repos: "" is not a registry`}},
		"an empty builder":                 {good + `trusted_builder_identities = [""]`, []string{"c.toml:3: trusted_builder_identities: an empty"}},
		"no user name":                     {good + "[server]\nrequire_auth = true", []string{"c.toml:4: server.require_auth: username"}},
		"a password in clear":              {good + "[server]\nrequire_auth = true\nusername = \"u\"\npassword = \"hunter2\"", []string{"c.toml:6: server.password: it is not a bcrypt hash"}},
		"a table that is none":             {good + `server = 1`, []string{"c.toml:3: server: want a table"}},
		"a key set in two cases":           {good + "Dryrun = true\ndryrun = false", []string{"c.toml:3: dryrun: is set twice"}},
		"no TOML":                          {good + "= = =", []string{"c.toml:3: "}},
		"a key of no check":                {good + "[gatehouse.keys.dyi]\nfile = \"k\"", []string{"c.toml:3: gatehouse.keys.dyi: there is no check"}},
		"a key without file":               {good + "[gatehouse.keys.diy]\nid = \"k\"", []string{"c.toml:3: gatehouse.keys.diy: file"}},
		"an algorithm that doesn't exist":  {good + "[gatehouse.keys.diy]\nfile = \"k\"\nalgorithm = \"ROT13\"", []string{"c.toml:3: gatehouse.keys.diy: "}},
		"a platform that is none":          {good + "[gatehouse]\nplatforms = [\"linux\"]", []string{`c.toml:4: parsing platform "linux"`}},
		"unscored as what":                 {good + "[gatehouse]\nunscored = \"bad\"", []string{`c.toml:4: unscored: severity "bad" doesn't exist`}},
		"a group's name":                   {good + "[required.\"a/b\"]\ndiy = true", []string{"c.toml:3: required.a/b: name"}},
		"several things at once": {"failon = \"severe\"\nvalid_repos = [\"gcr.io/*\"]\n[server]\nrequire_auth = true",
			[]string{"c.toml:1: failon", "c.toml:2: valid_repos", "c.toml:4: server.require_auth"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			c, _, err := attest.ParseVoucherConfig("c.toml", []byte(row.text))
			if err == nil || c != nil {
				t.Fatalf("no error: %+v", c)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v\nwant %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestKeysNoOneKnowsAreWarnedOf(t *testing.T) {
	t.Parallel()
	const text = `binauth_project = "p"
failon = "high"
trusted_builder-identities = ["x"]
server = { port = 80, tls = true }
[gatehouse]
stict = true
keys.diy = { file = "k", passphrase = "p" }
`
	_, warnings, err := attest.ParseVoucherConfig("c.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const what = "is not a key that Gatehouse or Voucher knows, and has no effect"
	want := []attest.Warning{
		{"c.toml", 4, "server.tls: " + what},
		{"c.toml", 7, "gatehouse.keys.diy.passphrase: " + what},
		{"c.toml", 6, "gatehouse.stict: " + what},
		{"c.toml", 3, "trusted_builder-identities: " + what},
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestKeysAreReadFromFilesBesideTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pkix, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pgp, err := signature.GeneratePGP("made for tests", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(old.Public())
	if err != nil {
		t.Fatal(err)
	}
	write("diy.pem", pkix)
	write("nobody.asc", pgp)
	write("old.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	write("config.toml", []byte(`binauth_project = "p"
failon = "high"
[gatehouse]
strict = true
create_notes = false
scan_wait = 0
unscored = "unknown"
platforms = ["linux/amd64"]
metadata_projects = ["scans"]
[gatehouse.keys.diy]
file = "diy.pem"
id = "kms://diy"
[gatehouse.keys.nobody]
file = "nobody.asc"
[gatehouse.trusted_keys.diy.old]
file = "old.pub"
algorithm = "ECDSA_P256_SHA256"
id = "old"
`))
	c, warnings, err := attest.LoadVoucherConfig(filepath.Join(dir, "config.toml"))
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	if !c.Strict || c.CreateNotes || c.ScanWait >= 0 || c.Unscored != "unknown" {
		t.Errorf("config: %+v", c)
	}
	o, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	if id := o.Signers["diy"].KeyID(); id != "kms://diy" {
		t.Errorf("the key of diy is %q", id)
	}
	if id := o.Signers["nobody"].KeyID(); len(id) != 40 {
		t.Errorf("the key of nobody is %q", id)
	}
	if keys := o.TrustedKeys["diy"]; len(keys) != 1 || keys[0].ID() != "old" {
		t.Errorf("trusted: %v", keys)
	}
	if _, err := c.Metadata(&attesttest.Store{}); err != nil {
		t.Error(err)
	}

	write("garbage", []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"))
	for about, k := range map[string]attest.KeyFile{
		"a file that is not there":    {File: filepath.Join(dir, "none")},
		"a file that is no key":       {File: filepath.Join(dir, "garbage")},
		"a public key":                {File: filepath.Join(dir, "old.pub")},
		"an algorithm beside OpenPGP": {File: filepath.Join(dir, "nobody.asc"), Algorithm: "ECDSA_P256_SHA256"},
		"another algorithm":           {File: filepath.Join(dir, "diy.pem"), Algorithm: "ECDSA_P384_SHA384"},
	} {
		bad := *c
		bad.Keys = map[string]attest.KeyFile{"diy": k}
		_, err := bad.Options()
		if err == nil || !strings.Contains(err.Error(), `"diy"`) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: err = %v", about, err)
		}
	}
	if _, _, err := attest.LoadVoucherConfig(filepath.Join(dir, "none.toml")); err == nil {
		t.Error("a file that is not there: no error")
	}
	write("long.toml", make([]byte, 2<<20))
	if _, _, err := attest.LoadVoucherConfig(filepath.Join(dir, "long.toml")); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a file too long: %v", err)
	}
}

func TestApplyVoucherEnvironment(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		env  map[string]string
		want attest.Config
	}{
		"nothing":   {nil, attest.Config{Server: attest.ServerConfig{RequireAuth: true}}},
		"Cloud Run": {map[string]string{"IS_CLOUDRUN": "true"}, attest.Config{Server: attest.ServerConfig{CloudRun: true}}},
		"not quite": {map[string]string{"IS_CLOUDRUN": "1"}, attest.Config{Server: attest.ServerConfig{RequireAuth: true}}},
		"platform":  {map[string]string{"VOUCHER_TARGET_ARCH": "arm64"}, attest.Config{Platforms: []string{"linux/arm64"}, Server: attest.ServerConfig{RequireAuth: true}}},
	} {
		c := attest.Config{Server: attest.ServerConfig{RequireAuth: true}}
		c.ApplyVoucherEnvironment(func(k string) string { return row.env[k] })
		if diff := cmp.Diff(row.want, c); diff != "" {
			t.Errorf("%s (-want +got):\n%s", about, diff)
		}
	}
}

func TestPlatformsNarrowWhatIsAttested(t *testing.T) {
	t.Parallel()
	c := attest.Config{Project: "p", Platforms: []string{"linux/arm/v7"}, Server: attest.ServerConfig{Port: 1, Timeout: 1}}
	options, err := c.Options()
	if err != nil || len(options.Platforms) != 1 || options.Platforms[0].String() != "linux/arm/v7" {
		t.Errorf("got %v, %v", options.Platforms, err)
	}
}

func FuzzParseVoucherConfig(f *testing.F) {
	f.Add("c.toml", []byte(voucherConfig))
	f.Add("c.toml", []byte("a.\"b\\u0041\".c = {d = [{e = 1}]}\n[[x]]\ny = 1\n"))
	for file, text := range sameConfig {
		f.Add(file, []byte(text))
	}
	f.Add("c.toml", []byte("[required]\nprod = 1"))
	f.Fuzz(func(t *testing.T, file string, data []byte) {
		if len(file) > 10 {
			return // its name is in every error
		}
		c, _, err := attest.ParseVoucherConfig(file, data)
		if (err == nil) != (c != nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("what was accepted is not valid: %v", err)
		}
		if _, ok := c.Groups["all"]; !ok {
			t.Fatal("there is no group all")
		}
	})
}
