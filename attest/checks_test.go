package attest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// everyCheck is a configuration with every key of the checks.
const everyCheck = `binauth_project = "p"
valid_repos = ["registry.example/team"]
trusted_builder_identities = ["ci"]
trusted_projects = ["builds"]
failon = "high"
[required.all_of_them]
age = true
approved = true
base = true
cel_ours = true
diy = true
is_us = true
nobody = true
provenance = true
sbom = true
snakeoil = true
[repository.us]
org-url = "https://github.com/my-org"
[repository.own]
org-url = "https://git.example/team"
[gatehouse]
unscored = "high"
scan_wait = 5
platforms = ["linux/amd64"]
[gatehouse.snakeoil]
failon_fixable = "low"
failon_unfixable = "never"
scan_notes = ["projects/p/notes/scan"]
[[gatehouse.snakeoil.allow]]
id = "CVE-2021-20305"
reason = "not reachable"
expires = "2026-12-31"
[[gatehouse.snakeoil.allow]]
id = "CVE-2021-20306"
reason = "not ours"
[gatehouse.nobody]
numeric = true
[gatehouse.builds.keys.ci]
file = "ci.pub"
algorithm = "ECDSA_P256_SHA256"
[gatehouse.sbom.keys.ci]
file = "ci.pub"
algorithm = "ECDSA_P256_SHA256"
[gatehouse.approved]
branches = ["main"]
min_approvals = 2
fresh_approvals = true
ignored_checks = ["coverage"]
[gatehouse.repository.own]
kind = "GitLab"
api_url = "https://git.example/api/v4"
token_file = "token"
[gatehouse.age]
max_build_days = 90
max_scan_days = 7
[gatehouse.base]
allowed = ["registry.example/base"]
[gatehouse.cel.ours]
expression = 'config.user != ""'
message = "set one"
`

func TestEveryCheckIsConfigured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	for name, text := range map[string]string{"config.toml": everyCheck, "ci.pub": checktest.Signer(t).PublicKey().Marshal(), "token": "s3cret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, warnings, err := attest.LoadVoucherConfig(file)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	key := attest.KeyFile{File: filepath.Join(dir, "ci.pub"), Algorithm: "ECDSA_P256_SHA256"}
	const day = 24 * time.Hour
	want := attest.CheckSettings{
		FailOnFixable: "low", FailOnUnfixable: "never", ScanNotes: []string{"projects/p/notes/scan"},
		Allowed:      []attest.AllowedVulnerability{{ID: "CVE-2021-20305", Reason: "not reachable", Expires: "2026-12-31"}, {ID: "CVE-2021-20306", Reason: "not ours"}},
		NumericUsers: true, BuildKeys: []attest.KeyFile{key}, SBOMKeys: []attest.KeyFile{key},
		Branches: []string{"main"}, MinApprovals: 2, FreshApprovals: true, IgnoredRuns: []string{"coverage"},
		MaxBuildAge: 90 * day, MaxScanAge: 7 * day, Bases: []string{"registry.example/base"},
		Expressions: map[string]attest.Expression{"ours": {Text: `config.user != ""`, Message: "set one"}},
	}
	if diff := cmp.Diff(want, c.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	repositories := map[string]attest.Repository{
		"us":  {OrgURL: "https://github.com/my-org"},
		"own": {OrgURL: "https://git.example/team", Kind: "gitlab", APIURL: "https://git.example/api/v4", TokenFile: filepath.Join(dir, "token")},
	}
	if diff := cmp.Diff(repositories, c.Repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	checks, err := c.Checks()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range checks {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"age", "approved", "base", "cel_ours", "diy", "is_own", "is_us", "nobody", "provenance", "sbom", "snakeoil"}, names); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	for _, gone := range []string{"ci.pub", "token"} {
		text, err := os.ReadFile(filepath.Join(dir, gone))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Checks(); err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: %v", gone, err)
		}
		if err := os.WriteFile(filepath.Join(dir, gone), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestB5_WhatIsWrongWithChecksIsToldAtStart(t *testing.T) {
	t.Parallel()
	const good = "binauth_project = \"p\"\nfailon = \"high\"\n" // two lines
	for about, row := range map[string]struct {
		text string
		want []string
	}{
		"is_ without its repository":     {good + "[required.x]\nis_us = true", []string{`c.toml:4: group "x": is_us needs repository.us.org-url`}},
		"age without days":               {good + "[required.x]\nage = true", []string{"c.toml:4: group \"x\": age needs gatehouse.age.max_build_days"}},
		"base without bases":             {good + "[checks]\nbase = true", []string{"c.toml:4: group \"all\": base needs gatehouse.base.allowed"}},
		"cel without its expression":     {good + "[checks]\ncel_x = true", []string{"c.toml:4: group \"all\": cel_x needs gatehouse.cel.x.expression"}},
		"an expression that is none":     {good + "[gatehouse.cel.x]\nexpression = \"image.\"", []string{"c.toml:3: gatehouse.cel.x: expression: at character"}},
		"no organisation's URL":          {good + "[repository.us]\norg-url = \"github.com/us\"", []string{`c.toml:3: org-url "github.com/us" of repository "us": want https://`}},
		"no URL at all":                  {good + "[repository.us]\n", []string{`c.toml:3: org-url "" of repository "us"`}},
		"an unknown host":                {good + "[repository.us]\norg-url = \"https://git.example/us\"", []string{`it is not known what "git.example" is; set gatehouse.repository.us.kind`}},
		"an unknown kind of host":        {good + "[repository.us]\norg-url = \"https://git.example/us\"\n[gatehouse.repository.us]\nkind = \"gitea\"", []string{"set gatehouse.repository.us.kind"}},
		"credentials in the clear":       {good + "[repository.us]\norg-url = \"https://github.com/us\"\n[gatehouse.repository.us]\napi_url = \"http://git.example\"", []string{"credentials are sent over HTTPS only"}},
		"ours without Voucher's":         {good + "[gatehouse.repository.us]\nkind = \"github\"", []string{"c.toml:3: gatehouse.repository.us: there is no repository.us"}},
		"an alias that names no check":   {good + "[repository.\"a/b\"]\norg-url = \"https://github.com/us\"", []string{`repository "a/b": name "is_a/b" of a check`}},
		"a threshold that doesn't exist": {good + "[gatehouse.snakeoil]\nfailon_fixable = \"bad\"", []string{`c.toml:4: gatehouse.snakeoil.failon_fixable: severity "bad" doesn't exist`}},
		"one threshold of two":           {"binauth_project = \"p\"\n[gatehouse.snakeoil]\nfailon_fixable = \"low\"", []string{"c.toml:2: failon is not set, and so both"}},
		"an allowance without reason":    {good + "[[gatehouse.snakeoil.allow]]\nid = \"CVE-1\"", []string{`allowed vulnerability "CVE-1" has no reason`}},
		"an allowance without id":        {good + "[[gatehouse.snakeoil.allow]]\nreason = \"x\"", []string{`allowed vulnerability "": want the id`}},
		"an allowance to no day":         {good + "[[gatehouse.snakeoil.allow]]\nid = \"CVE-1\"\nreason = \"x\"\nexpires = \"soon\"", []string{`expires "soon" of "CVE-1": want a day`}},
		"an allowance that is no table":  {good + "[gatehouse.snakeoil]\nallow = [\"CVE-1\"]", []string{"c.toml:4: gatehouse.snakeoil.allow: want a list of tables, have a string in place 1"}},
		"an allowance that is there twice": {good + "[gatehouse.snakeoil]\nallow = [{id = \"CVE-1\", reason = \"x\"}, {id = \"CVE-1\", reason = \"y\"}]",
			[]string{`"CVE-1" is there twice`}},
		"a key without file":      {good + "[gatehouse.builds.keys.x]\nid = \"k\"", []string{"a key of gatehouse.builds.keys or gatehouse.sbom.keys has no file"}},
		"nobody approves":         {good + "[gatehouse.approved]\nmin_approvals = 0", []string{"c.toml:4: gatehouse.approved.min_approvals: 0 is not between 1 and 100"}},
		"an age before its time":  {good + "[gatehouse.age]\nmax_scan_days = -1", []string{"c.toml:4: gatehouse.age.max_scan_days: -1 is not between"}},
		"a base that is no place": {good + "[gatehouse.base]\nallowed = [\"registry.example/*\"]", []string{"c.toml:4: gatehouse.base.allowed: \"registry.example/*\" is not a registry"}},
		"several of them at once": {"[gatehouse.cel.x]\nexpression = \"\"\n[gatehouse.base]\nallowed = [\"\"]", []string{"gatehouse.cel.x: expression: it is empty", "gatehouse.base.allowed: \"\""}},
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
		})
	}
}

func TestCredentialsForRepositories(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for about, row := range map[string]struct {
		r    attest.Repository
		want string
	}{
		"a token":               {attest.Repository{OrgURL: "https://github.com/us", Auth: attest.RepositoryAuth{Token: "s3cret"}}, ""},
		"an app":                {attest.Repository{OrgURL: "https://github.com/us", Auth: attest.RepositoryAuth{AppID: "1", InstallationID: "2", PrivateKey: private}}, ""},
		"an app without a key":  {attest.Repository{OrgURL: "https://github.com/us", Auth: attest.RepositoryAuth{AppID: "1", InstallationID: "2", PrivateKey: "s3cret"}}, "private_key is no PEM"},
		"an app on GitLab":      {attest.Repository{OrgURL: "https://gitlab.com/us", Auth: attest.RepositoryAuth{AppID: "1", InstallationID: "2", PrivateKey: private}}, "GitLab has no apps"},
		"a token on GitLab":     {attest.Repository{OrgURL: "https://gitlab.com/us", Auth: attest.RepositoryAuth{Token: "s3cret"}}, ""},
		"a password":            {attest.Repository{OrgURL: "https://github.com/us", Auth: attest.RepositoryAuth{Username: "u", Password: "s3cret"}}, "unsupported auth type: userpassword"},
		"two tokens":            {attest.Repository{OrgURL: "https://github.com/us", TokenFile: tokenFile, Auth: attest.RepositoryAuth{Token: "s3cret"}}, "the secrets have a token for it too"},
		"a token in a file":     {attest.Repository{OrgURL: "https://github.com/us", TokenFile: tokenFile}, ""},
		"nothing, as a visitor": {attest.Repository{OrgURL: "https://github.com/us"}, ""},
	} {
		c := &attest.Config{Project: "p", Repositories: map[string]attest.Repository{"us": row.r}}
		_, err := c.Checks()
		if (err == nil) != (row.want == "") || err != nil && (!strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: err = %v, want %q", about, err, row.want)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(verb, c); strings.Contains(text, "s3cret") || strings.Contains(text, "PRIVATE") {
				t.Errorf("%s: %s tells a secret: %s", about, verb, text)
			}
		}
	}
}

func TestEveryCheckExplainsItself(t *testing.T) {
	t.Parallel()
	c, _, err := attest.ParseVoucherConfig("c.toml", []byte(everyCheck))
	if err != nil {
		t.Fatal(err)
	}
	c.Settings.BuildKeys, c.Settings.SBOMKeys = nil, nil
	delete(c.Repositories, "own")
	checks, err := c.Checks()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range checks {
		doc, ok := attest.FindCheckDoc(k.Name)
		if !ok {
			t.Errorf("check %q cannot be explained", k.Name)
			continue
		}
		if diff := cmp.Diff(doc.Doc, k.Doc); diff != "" && !strings.HasPrefix(k.Name, "cel_") {
			t.Errorf("check %q says of itself (-list +check):\n%s", k.Name, diff)
		}
	}
	for _, d := range attest.CheckDocs() {
		if d.Title == "" || strings.HasSuffix(d.Title, ".") || d.Proves == "" || len(d.Needs) == 0 || len(d.Settings) == 0 || len(d.Fixes) == 0 {
			t.Errorf("check %q does not say all of itself: %+v", d.Name, d)
		}
		for _, f := range d.Fixes {
			if f.Failure == "" || f.Do == "" {
				t.Errorf("check %q: fix %+v", d.Name, f)
			}
		}
	}
	if _, ok := attest.FindCheckDoc("is_"); ok {
		t.Error("is_ is a check")
	}
}

// TestDocumentedSettingsAreRead: each key that a check documents is in the configuration
// that has every key, which is read without a warning.
func TestDocumentedSettingsAreRead(t *testing.T) {
	t.Parallel()
	words := map[string]bool{}
	for _, word := range regexp.MustCompile(`[a-z_-]+`).FindAllString(everyCheck, -1) {
		words[word] = true
	}
	for _, d := range attest.CheckDocs() {
		for _, s := range d.Settings {
			for _, word := range regexp.MustCompile(`[a-z_-]+`).FindAllString(s.Key, -1) {
				if word != "alias" && !words[word] {
					t.Errorf("check %q has a setting %q, and no configuration has a %q", d.Name, s.Key, word)
				}
			}
		}
	}
}

// TestThePageOfChecks holds docs/checks.md to what the checks say about themselves.
func TestThePageOfChecks(t *testing.T) {
	t.Parallel()
	const file = "../docs/checks.md"
	var b bytes.Buffer
	writeCheckPage(&b)
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("%s is not what the checks say; run go test ./attest -run ThePageOfChecks -update (-page +checks):\n%s", file, diff)
	}
}

var _ check.Registry = noRegistry{}
