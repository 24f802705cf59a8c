package kube_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// open returns a client of an API server that has these objects, by their paths.
func open(t *testing.T, objects map[string]string) *kube.Client {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret-token" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		text, ok := objects[r.URL.EscapedPath()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprintf(w, `{"kind":"Status","reason":"NotFound","message":"%s is not there"}`, r.URL.Path)
			return
		}
		_, _ = fmt.Fprint(w, text)
	}))
	t.Cleanup(s.Close)
	return client(t, s.URL, "secret-token", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func client(t *testing.T, url, token string, ca []byte) *kube.Client {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%q}}],"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, url, base64.StdEncoding.EncodeToString(ca), token)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kube.Open(kube.Options{Kubeconfig: config})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func secretOf(t *testing.T, kind, key string, auths map[string]map[string]string) string {
	t.Helper()
	var value any = auths
	if kind == "kubernetes.io/dockerconfigjson" {
		value = map[string]any{"auths": auths}
	}
	config, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"type": kind, "data": map[string][]byte{key: config}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func basic(user, password string) map[string]string {
	return map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
}

// TestTheLoginsOfAPod are those of its secrets and of its service account's, by host and
// the longest path.
func TestTheLoginsOfAPod(t *testing.T) {
	t.Parallel()
	c := open(t, map[string]string{
		"/api/v1/namespaces/shop/serviceaccounts/robot": `{"imagePullSecrets":[{"name":"old"},{"name":"gone"}]}`,
		"/api/v1/namespaces/shop/secrets/new": secretOf(t, "kubernetes.io/dockerconfigjson", ".dockerconfigjson", map[string]map[string]string{
			"reg.test": basic("all", "a:b"), "https://reg.test/v1/": basic("v1", "x"), "reg.test/team": basic("team", "t"), "*.cloud.test:5000": {"username": "cloud", "password": "c"}, "docker.io": {"identitytoken": "id"},
		}),
		"/api/v1/namespaces/shop/secrets/old": secretOf(t, "kubernetes.io/dockercfg", ".dockercfg", map[string]map[string]string{"old.test": basic("old", "o")}),
	})
	found, err := c.PullSecretsOf(t.Context(), "shop", "robot", []string{"new", "new", ""})
	if err != nil {
		t.Fatal(err)
	}
	users := func(registry, repository string) []string {
		var all []string
		for _, l := range found.For(registry, repository) {
			all = append(all, l.Username+"/"+l.Password+l.IdentityToken)
		}
		return all
	}
	for of, want := range map[[2]string][]string{
		{"reg.test", "team/web"}:            {"team/t", "all/a:b", "v1/x"},
		{"REG.test", "teamwork/web"}:        {"all/a:b", "v1/x"},
		{"old.test", "x"}:                   {"old/o"},
		{"eu.cloud.test:5000", "x"}:         {"cloud/c"},
		{"eu.cloud.test", "x"}:              nil,
		{"a.eu.cloud.test:5000", "x"}:       nil,
		{"index.docker.io", "library/x"}:    {"/id"},
		{"reg.test.evil.example", "team/x"}: nil,
		{"evil.example", "reg.test/team"}:   nil,
	} {
		got := users(of[0], of[1])
		if of[0] == "reg.test" || of[0] == "REG.test" { // two for the whole host, in an order of their own
			if len(got) == len(want) && len(got) > 1 && got[len(got)-1] != want[len(want)-1] {
				got[len(got)-1], got[len(got)-2] = got[len(got)-2], got[len(got)-1]
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", of, d)
		}
	}
	if _, err := c.PullSecretsOf(t.Context(), "shop", "nobody", []string{"gone"}); err != nil {
		t.Errorf("a service account and a secret that are not there: %v", err)
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	t.Parallel()
	c := open(t, map[string]string{
		"/api/v1/namespaces/shop/secrets/opaque":  `{"type":"Opaque","data":{}}`,
		"/api/v1/namespaces/shop/secrets/broken":  `{"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"aHVudGVyMg=="}}`,
		"/api/v1/namespaces/shop/secrets/garbled": secretOf(t, "kubernetes.io/dockercfg", ".dockercfg", map[string]map[string]string{"reg.test": {"auth": "hunter2"}}),
	})
	for name, want := range map[string]string{"opaque": "Opaque", "broken": "no docker configuration", "garbled": "no docker configuration"} {
		_, err := c.PullSecretsOf(t.Context(), "shop", "default", []string{name})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"..", ".", ""} {
		if err := c.Get(t.Context(), new(any), nil, "api", "v1", "namespaces", name, "secrets"); err == nil {
			t.Errorf("namespace %q was asked for", name)
		}
	}
	if err := c.Get(t.Context(), new(any), nil, "api", "v1", "namespaces", "a/../../secrets", "x"); !kube.NotFound(err) || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("a name with slashes: %v", err)
	}
	if err := client(t, "http://127.0.0.1:1", "t", nil).Get(t.Context(), new(any), nil, "api"); err == nil {
		t.Error("nobody there, and no error")
	}
}

func TestNoClusterIsSaid(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	if _, err := kube.Open(kube.Options{}); !errors.Is(err, kube.ErrNoCluster) || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("%v", err)
	}
}

func TestNoConfigurationIsSaid(t *testing.T) {
	t.Parallel()
	if _, err := kube.Open(kube.Options{Kubeconfig: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v", err)
	}
}
