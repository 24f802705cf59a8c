package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheReferenceConfigurationIsWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	var got Config
	if err := got.LoadFile("../docs/gatehouse.yaml"); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Data = "/var/lib/gatehouse"
	if diff := cmp.Diff(got, want, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

// viewers begins a section identity that lacks a method.
const viewers = "identity:\n  rules: [{caller: \"*\", project: p, roles: [viewer]}]\n"

func TestListenersOffLoopbackThatAreGuarded(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"tokens over TLS":             "metadata: {address: \"0.0.0.0:8080\", tls: {certFile: c, keyFile: k}}\n" + viewers + "  bearerTokensFile: t\n",
		"client certificates":         "metadata: {address: \":8080\", tls: {certFile: c, keyFile: k, clientCAFile: a}}\n" + viewers + "  mtls: true\n",
		"tokens behind TLS of others": "insecureNoAuth: true\nmetadata: {address: \":8080\"}\n" + viewers + "  basicUsersFile: t\n",
		"tokens on loopback":          viewers + "  bearerTokensFile: t\n",
		"a socket":                    "metadata: {address: \"unix:///run/m.sock\"}\n",
	} {
		cfg := DefaultConfig()
		err := cfg.LoadFile(write(t, filepath.Join(t.TempDir(), "gatehouse.yaml"), "data: d\n"+text))
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigurationThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":                     {"data: d\nadmision: {}\n", `gatehouse.yaml:2: unknown field "admision"`},
		"a field that is mistyped":          {"data: d\nadmission: {policyFile: p}\n", `gatehouse.yaml:2: unknown field "policyFile"; did you mean "policyFiles"?`},
		"a time in days":                    {"data: d\naudit: {retention: 30d}\n", "a time such as 90s or 24h: 30d"},
		"a spill beside the logs":           {"data: d\naudit: {spillDir: d/audit/spill}\n", "outside of data"},
		"a spill that is the data folder":   {"data: /d\naudit: {spillDir: /d/}\n", "outside of data"},
		"wrong case":                        {"Data: d\n", `gatehouse.yaml:1: unknown field "Data"`},
		"duplicate field":                   {"data: d\ndata: e\n", `gatehouse.yaml:2: mapping key "data" already defined at line 1`},
		"wrong type":                        {"data: [d]\n", "gatehouse.yaml:1: another kind of value belongs here"},
		"two documents":                     {"data: d\n---\ndata: e\n", "more than one"},
		"no data":                           {"project: p\n", "--data"},
		"open listener":                     {"data: d\nmetadata: {address: \"0.0.0.0:8080\"}\n", "not on loopback"},
		"every address":                     {"data: d\nops: {address: \":9090\"}\n", "not on loopback"},
		"no port":                           {"data: d\nops: {address: localhost}\n", "HOST:PORT"},
		"project with /":                    {"data: d\nproject: projects/p\n", "project id"},
		"cluster":                           {"data: d\ncluster: prod\n", "LOCATION.NAME"},
		"templates":                         {"data: d\nadmission: {templates: ignore}\n", "templates"},
		"a path of images":                  {"data: d\nadmission: {resources: [{group: g, resource: r, images: [\"spec[0]\"]}]}\n", `resources[0] ("r.g"): images[0]: "spec[0]": column 5`},
		"a field of a resource":             {"data: d\nadmission:\n  resources:\n  - {group: g, resource: r, image: [a]}\n", `:4: unknown field "image"`},
		"room for nobody":                   {"data: d\nadmission: {maxRequests: 1}\n", "at least 2"},
		"key without cert":                  {"data: d\nadmission: {keyFile: k}\n", "both or neither"},
		"a certificate without its key":     {"data: d\nmetadata: {tls: {certFile: c}}\n", "give keyFile"},
		"a key without its certificate":     {"data: d\nmetadata: {tls: {keyFile: k}}\n", "give certFile"},
		"a client CA in the clear":          {"data: d\nmetadata: {tls: {clientCAFile: ca}}\n" + viewers + "  mtls: true\n", "serve in the clear"},
		"client certificates without a CA":  {"data: d\n" + viewers + "  mtls: true\n", "needs metadata.tls.clientCAFile"},
		"a client CA that nobody asks":      {"data: d\nmetadata: {tls: {certFile: c, keyFile: k, clientCAFile: ca}}\n", "set identity.mtls: true"},
		"tokens in the clear":               {"data: d\nmetadata: {address: \"0.0.0.0:8080\"}\n" + viewers + "  bearerTokensFile: t\n", "sent in the clear"},
		"an open listener with limits only": {"data: d\nmetadata: {address: \"0.0.0.0:8080\"}\nidentity: {requestsPerSecond: 5}\n", "not on loopback"},
		"TLS that asks nobody":              {"data: d\nmetadata: {address: \"0.0.0.0:8080\", tls: {certFile: c, keyFile: k}}\n", "not authenticated"},
		"identity without rules":            {"data: d\nidentity: {bearerTokensFile: t}\n", "add rules"},
		"an unknown field of a rule":        {"data: d\nidentity:\n  rules:\n  - {caller: a, project: p, role: admin}\n", "gatehouse.yaml:4: unknown field"},
		"a token in the configuration":      {"data: d\nidentity:\n  bearerTokens: [x]\n", "gatehouse.yaml:3: unknown field"},
		"a relative socket":                 {"data: d\nmetadata: {address: \"unix://run/x.sock\"}\n", "absolute path"},
		"a socket's path too long":          {"data: d\nmetadata: {address: \"unix:///" + strings.Repeat("x", 200) + "\"}\n", "longer than"},
		"a socket for the webhook":          {"data: d\nadmission: {address: \"unix:///x.sock\"}\n", "HOST:PORT"},
		"several at a time":                 {"project: p/q\ncluster: prod\n", "LOCATION.NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "gatehouse.yaml")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			err := cfg.LoadFile(file)
			if err == nil {
				err = cfg.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}
