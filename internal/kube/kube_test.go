package kube_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// api serves pages of pods, with a token that expires once, and keeps what it was asked.
type api struct {
	asked []string
	token string // that it wants
	gone  int    // how often a token has expired
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked = append(a.asked, r.URL.String())
	if r.Header.Get("Authorization") != a.token {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"kind": "Status", "message": "Unauthorized"}`)
		return
	}
	switch token := r.URL.Query().Get("continue"); {
	case r.URL.Path == "/elsewhere":
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
	case token == "":
		_, _ = io.WriteString(w, `{"kind": "PodList", "metadata": {"continue": "two"}, "items": ["a"]}`)
	case token == "two" && a.gone > 0:
		a.gone--
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"kind": "Status", "message": "too old", "metadata": {"continue": "now"}}`)
	case token == "now" && a.gone > 0:
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"kind": "Status", "message": "too old", "metadata": {"continue": "now"}}`)
	default:
		_, _ = io.WriteString(w, `{"kind": "PodList", "items": ["b"]}`)
	}
}

// kubeconfig writes one for a server, with a user in YAML.
func kubeconfig(t *testing.T, s *httptest.Server, user string) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\npreferences: {}\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]\nclusters: [{name: k, cluster: {server: %q, certificate-authority-data: %s}}]\nusers: [{name: u, user: %s}]\n",
		s.URL, base64.StdEncoding.EncodeToString(ca), user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func list(t *testing.T, file, path string) ([]string, error) {
	t.Helper()
	c, err := kube.Open(t.Context(), file, "", io.Discard)
	if err != nil {
		return nil, err
	}
	var pages []string
	err = c.List(t.Context(), path, func(page []byte) error {
		_, items, _ := strings.Cut(string(page), `"items": `)
		pages = append(pages, items)
		return nil
	})
	return pages, err
}

func TestAListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]int{"in one go": 0, "by a token that expires": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{token: "Bearer t", gone: gone}
			s := httptest.NewTLSServer(a)
			t.Cleanup(s.Close)
			pages, err := list(t, kubeconfig(t, s, "{token: t}"), "/api/v1/pods")
			if d := cmp.Diff([]string{`["a"]}`, `["b"]}`}, pages); d != "" || err != nil {
				t.Error(err, d)
			}
			if a.asked[0] != "/api/v1/pods?limit=500" {
				t.Error(a.asked)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(dir, "plugin")
	script := "#!/bin/sh\ntest \"$WORD\" = x || exit 1\ncase \"$KUBERNETES_EXEC_INFO\" in *ExecCredential*) ;; *) exit 1 ;; esac\necho '{\"kind\": \"ExecCredential\", \"status\": {\"token\": \"'$1'\"}}'\n"
	if err := os.WriteFile(plugin, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ user, wants string }{
		"a token":      {"{token: t}", "Bearer t"},
		"a token file": {fmt.Sprintf("{token: old, tokenFile: %s}", tokenFile), "Bearer t"},
		"a password":   {"{username: ann, password: p}", "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:p"))},
		"a plugin":     {fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, args: [tok], env: [{name: WORD, value: x}]}}", plugin), "Bearer tok"},
		"nothing":      {"{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewTLSServer(&api{token: test.wants})
			t.Cleanup(s.Close)
			if pages, err := list(t, kubeconfig(t, s, test.user), "/api/v1/pods"); err != nil || len(pages) != 2 {
				t.Error(pages, err)
			}
		})
	}
}

func TestWhatDoesNotWorkIsSaid(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(&api{token: "Bearer t"})
	t.Cleanup(s.Close)
	other := httptest.NewTLSServer(&api{})
	t.Cleanup(other.Close)
	stranger := strings.ReplaceAll(read(t, kubeconfig(t, s, "{token: t}")), base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), "")
	never := httptest.NewTLSServer(&api{token: "Bearer t", gone: 9})
	t.Cleanup(never.Close)
	for name, test := range map[string]struct {
		file, path, want string
	}{
		"no file":           {filepath.Join(t.TempDir(), "x"), "/api/v1/pods", "no such file"},
		"no YAML":           {write(t, "a: [\n"), "/api/v1/pods", "reading kubeconfig"},
		"no context":        {write(t, "a: 1\n"), "/api/v1/pods", "no current-context; give --context NAME"},
		"unknown context":   {write(t, "current-context: x\ncontexts: [{name: y}]\n"), "/api/v1/pods", `no context "x"; it has y`},
		"no such cluster":   {write(t, "current-context: x\ncontexts: [{name: x, context: {cluster: k}}]\n"), "/api/v1/pods", `names cluster "k"`},
		"no such user":      {write(t, "current-context: x\ncontexts: [{name: x, context: {cluster: k, user: u}}]\nclusters: [{name: k}]\n"), "/api/v1/pods", `names user "u"`},
		"no server":         {write(t, "current-context: x\ncontexts: [{name: x, context: {cluster: k}}]\nclusters: [{name: k}]\n"), "/api/v1/pods", "want https://HOST:PORT"},
		"a token, no TLS":   {write(t, "current-context: x\ncontexts: [{name: x, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: http://127.0.0.1}}]\nusers: [{name: u, user: {token: t}}]\n"), "/api/v1/pods", "without TLS"},
		"wrong credentials": {kubeconfig(t, s, "{token: other}"), "/api/v1/pods", "answers 401: Unauthorized"},
		"another's CA":      {write(t, stranger), "/api/v1/pods", "certificate"},
		"a redirect":        {kubeconfig(t, s, "{token: t}"), "/elsewhere", "answers 302"},
		"a plugin missing":  {kubeconfig(t, s, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, installHint: get it}}"), "/api/v1/pods", "get it"},
		"a plugin's failure": {kubeconfig(t, s, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: 'false'}}"), "/api/v1/pods",
			`running "false" for the user's credentials`},
		"a plugin's nonsense": {kubeconfig(t, s, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: echo, args: [hello]}}"), "/api/v1/pods",
			"printed no ExecCredential"},
		"an auth-provider": {kubeconfig(t, s, "{auth-provider: {name: gcp}}"), "/api/v1/pods", "auth-provider"},
		"a token that expires for ever": {kubeconfig(t, never, "{token: t}"), "/api/v1/pods",
			"answers 410"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := list(t, test.file, test.path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	var refused *kube.StatusError
	if _, err := list(t, kubeconfig(t, s, "{}"), "/api/v1/pods"); !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
		t.Error(err)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
