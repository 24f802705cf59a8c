package resolve_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

func file(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func withSettings(t *testing.T, s resolve.Settings, more ...resolve.Option) *resolve.Resolver {
	t.Helper()
	options, err := s.Options()
	if err != nil {
		t.Fatal(err)
	}
	return resolve.New(append(append(options, resolve.WithRetry(1, time.Millisecond)), more...)...)
}

// A real registry behind TLS of a private CA and a password, reached as users do.
func TestDockerConfiguration(t *testing.T) { // Voucher B15: Google's registries were all
	reg := registry.New(t, registry.WithTLS(), registry.WithBasicAuth("robot", "s3cret"))
	ref, err := reg.Push(t.Context(), "shop/web:1", imageOf(t, "linux/amd64", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca := file(t, filepath.Join(dir, "ca.pem"), string(reg.CertificatePEM()), 0o600)
	certs := filepath.Join(dir, "certs.d")
	file(t, filepath.Join(certs, reg.Host(), "ca.crt"), string(reg.CertificatePEM()), 0o600)
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\nread host\n[ \"$host\" = " + reg.Host() + " ] || { echo 'credentials not found in native keychain'; exit 1; }\n" +
		"echo '{\"ServerURL\":\"'$host'\",\"Username\":\"robot\",\"Secret\":\"s3cret\"}'\n"
	file(t, filepath.Join(dir, "bin/docker-credential-good"), helper, 0o700)
	file(t, filepath.Join(dir, "bin/docker-credential-bad"), "#!/bin/sh\necho 's3cret is broken'; exit 3\n", 0o700)
	auth := base64.StdEncoding.EncodeToString([]byte("robot:s3cret"))
	host := reg.Host()
	elsewhere := host[:strings.LastIndexByte(host, ':')] + ":1"
	for about, row := range map[string]struct {
		config   string
		settings resolve.Settings
		want     string // of the error; "" lets in
	}{
		"a password, and a CA for all":    {`{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`, resolve.Settings{CAFile: ca}, ""},
		"a CA for this registry":          {`{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`, resolve.Settings{CertsDir: certs}, ""},
		"a URL for a name":                {`{"auths":{"https://` + host + `/v1/":{"auth":"` + auth + `"}}}`, resolve.Settings{CAFile: ca}, ""},
		"a credential helper of the host": {`{"credHelpers":{"` + host + `":"good"}}`, resolve.Settings{CAFile: ca}, ""},
		"a credential store":              {`{"credsStore":"good"}`, resolve.Settings{CAFile: ca}, ""},
		"no CA":                           {`{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`, resolve.Settings{}, "certificate signed by unknown authority"},
		"a CA for another registry":       {`{}`, resolve.Settings{CertsDir: filepath.Join(dir, "bin")}, "certificate signed by unknown authority"},
		"another password":                {`{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot:x")) + `"}}}`, resolve.Settings{CAFile: ca}, "the registry refused access"},
		"a password for another port":     {`{"auths":{"` + elsewhere + `":{"auth":"` + auth + `"}}}`, resolve.Settings{CAFile: ca}, "the registry refused access"},
		"no password":                     {`{}`, resolve.Settings{CAFile: ca}, "the registry refused access"},
		"a helper that is not there":      {`{"credHelpers":{"` + host + `":"none"}}`, resolve.Settings{CAFile: ca}, "credential helper cannot be used"},
		"a helper that fails":             {`{"credHelpers":{"` + host + `":"bad"}}`, resolve.Settings{CAFile: ca}, "credential helper cannot be used"},
		"a configuration that is no JSON": {`{"auths":`, resolve.Settings{CAFile: ca}, "Docker configuration or its credential helper cannot be used"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Setenv("DOCKER_CONFIG", filepath.Dir(file(t, filepath.Join(t.TempDir(), "config.json"), row.config, 0o600)))
			r := withSettings(t, row.settings)
			configs, err := r.Configs(t.Context(), ref)
			digest, tagErr := r.Digest(t.Context(), mustParse(t, host+"/shop/web:1"))
			if row.want == "" {
				if err != nil || configs[0].User != "1000" || tagErr != nil || digest != ref.Digest() {
					t.Fatalf("got %+v, %v; %v, %v", configs, err, digest, tagErr)
				}
				return
			}
			for _, err := range []error{err, tagErr} {
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), host) {
					t.Errorf("got %v, want an error with %q and the registry", err, row.want)
				} else if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("it tells a secret: %v", err)
				}
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(ggcr.New())
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "https://")
	certs := t.TempDir()
	own := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}))
	file(t, filepath.Join(certs, host, "ca.crt"), cert, 0o600)
	anonymous := resolve.WithKeychain(authn.NewMultiKeychain())
	if _, err := withSettings(t, resolve.Settings{CertsDir: certs}, anonymous).Digest(t.Context(), mustParse(t, host+"/a:v1")); err == nil || errors.Is(err, resolve.ErrNotFound) {
		t.Errorf("without a certificate: %v", err)
	}
	file(t, filepath.Join(certs, host, "client.cert"), cert, 0o600)
	r := withSettings(t, resolve.Settings{CertsDir: certs}, anonymous)
	if _, err := r.Digest(t.Context(), mustParse(t, host+"/a:v1")); err == nil || errors.Is(err, resolve.ErrNotFound) {
		t.Errorf("without its key: %v", err)
	}
	file(t, filepath.Join(certs, host, "client.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), 0o600)
	if _, err := r.Digest(t.Context(), mustParse(t, host+"/a:v1")); !errors.Is(err, resolve.ErrNotFound) {
		t.Errorf("with a certificate: %v, want to be let in and find nothing", err)
	}
}

// A credential helper that hangs ends with the call, and does not keep others waiting
// longer than they may.
func TestAHungCredentialHelperEndsInTime(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	t.Cleanup(func() { close(hangs) })
	r := newResolver(resolve.WithKeychain(keychain(func(authn.Resource) (authn.Authenticator, error) {
		<-hangs
		return authn.Anonymous, nil
	})))
	host := serve(t, nil)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := r.Configs(ctx, mustParse(t, host+"/a@"+image.DigestOf(nil).String()))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the credential helper did not answer in time") || !strings.Contains(err.Error(), host) {
			t.Fatalf("got %v", err)
		}
	}
}

type keychain func(authn.Resource) (authn.Authenticator, error)

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) { return k(r) }

// secret gives every host the same credentials, so that it is for the resolver alone to
// keep them where they belong.
func secret(token bool) resolve.Option {
	return resolve.WithKeychain(keychain(func(authn.Resource) (authn.Authenticator, error) {
		if token {
			return authn.FromConfig(authn.AuthConfig{Username: "<token>", IdentityToken: "s3cret"}), nil
		}
		return authn.FromConfig(authn.AuthConfig{Username: "robot", Password: "s3cret"}), nil
	}))
}

// web is a network of hosts, with what each was sent.
type web struct {
	mu    sync.Mutex
	hosts map[string]http.HandlerFunc
	sent  map[string][]string // Authorization, or a form, by SCHEME://HOST
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	place := r.URL.Scheme + "://" + r.URL.Host
	said := r.Header.Get("Authorization")
	if r.Body != nil {
		form, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		said += string(form)
	}
	if said != "" {
		w.sent[place] = append(w.sent[place], said)
	}
	h := w.hosts[place]
	if h == nil {
		return nil, fmt.Errorf("there is no host %s", place)
	}
	answer := httptest.NewRecorder()
	h(answer, r)
	resp := answer.Result()
	resp.Request = r
	return resp, nil
}

func respond(w http.ResponseWriter, status int, body string, header ...string) {
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// challenged is a registry that wants a token from a realm.
func challenged(realm string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			respond(w, 404, "")
			return
		}
		respond(w, 401, "", "WWW-Authenticate", `Bearer realm="`+realm+`",service="s"`)
	}
}

func tokens(w http.ResponseWriter, _ *http.Request) { respond(w, 200, `{"token":"t0ken"}`) }

// What a registry is trusted with, it alone is trusted with.
func TestCredentialsStayWhereTheyBelong(t *testing.T) { // CVE-2025-27403, CVE-2026-48978, CVE-2026-50151
	t.Parallel()
	const reg = "https://registry.example.com"
	redirect := func(to string, code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Header.Get("Authorization") == "":
				respond(w, 401, "", "WWW-Authenticate", `Basic realm="r"`)
			case r.URL.Path == "/v2/":
				respond(w, 200, "")
			default:
				respond(w, code, "", "Location", to+r.URL.Path)
			}
		}
	}
	nothing := func(w http.ResponseWriter, _ *http.Request) { respond(w, 404, "") }
	for about, row := range map[string]struct {
		hosts    map[string]http.HandlerFunc
		token    bool // the secret is a refresh token
		services map[string]string
		to       string // that must get the secret; "" that none but the registry may
		foreign  bool   // the error says that it was to go elsewhere
	}{
		"a redirect to another host":                     {map[string]http.HandlerFunc{reg: redirect("https://evil.test", 307), "https://evil.test": nothing}, false, nil, "", false},
		"a redirect to a host below":                     {map[string]http.HandlerFunc{reg: redirect("https://evil.registry.example.com", 307), "https://evil.registry.example.com": nothing}, false, nil, "", false},
		"a redirect to another port":                     {map[string]http.HandlerFunc{reg: redirect("https://registry.example.com:8443", 302), "https://registry.example.com:8443": nothing}, false, nil, "", false},
		"a realm of another party":                       {map[string]http.HandlerFunc{reg: challenged("https://evil.test/v2/"), "https://evil.test": tokens}, false, nil, "", true},
		"a realm of another party, with a refresh token": {map[string]http.HandlerFunc{reg: challenged("https://evil.test/v2/"), "https://evil.test": tokens}, true, nil, "", true},
		"a realm of another tenant":                      {map[string]http.HandlerFunc{"https://a.github.io": challenged("https://b.github.io/token"), "https://b.github.io": tokens}, false, nil, "", true},
		"a realm of the domain":                          {map[string]http.HandlerFunc{reg: challenged("https://auth.example.com/token"), "https://auth.example.com": tokens}, false, nil, "https://auth.example.com", false},
		"a realm of the domain, with a refresh token":    {map[string]http.HandlerFunc{reg: challenged("https://auth.example.com/token"), "https://auth.example.com": tokens}, true, nil, "https://auth.example.com", false},
		"a realm at another port":                        {map[string]http.HandlerFunc{reg: challenged("https://registry.example.com:8443/token"), "https://registry.example.com:8443": tokens}, false, nil, "https://registry.example.com:8443", false},
		"a realm that is named":                          {map[string]http.HandlerFunc{reg: challenged("https://auth.other.test/token"), "https://auth.other.test": tokens}, false, map[string]string{"registry.example.com": "auth.other.test"}, "https://auth.other.test", false},
		"a realm that is named for another":              {map[string]http.HandlerFunc{reg: challenged("https://auth.other.test/token"), "https://auth.other.test": tokens}, false, map[string]string{"registry.other.test": "auth.other.test"}, "", true},
		"a realm that redirects to a host below": {map[string]http.HandlerFunc{reg: challenged("https://auth.example.com/token"),
			"https://auth.example.com": func(w http.ResponseWriter, _ *http.Request) {
				respond(w, 307, "", "Location", "https://evil.auth.example.com/token")
			}, "https://evil.auth.example.com": tokens}, false, nil, "https://auth.example.com", false},
		"a realm that redirects a refresh token": {map[string]http.HandlerFunc{reg: challenged("https://auth.example.com/token"),
			"https://auth.example.com": func(w http.ResponseWriter, _ *http.Request) {
				respond(w, 307, "", "Location", "https://evil.test/token")
			}, "https://evil.test": tokens}, true, nil, "https://auth.example.com", true},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			w := &web{hosts: row.hosts, sent: map[string][]string{}}
			host := "registry.example.com"
			if row.hosts[reg] == nil {
				host = "a.github.io"
			}
			r := newResolver(resolve.WithTransport(w), secret(row.token), resolve.WithTokenServices(row.services))
			_, err := r.Configs(t.Context(), mustParse(t, host+"/a@"+image.DigestOf(nil).String()))
			if err == nil || errors.Is(err, resolve.ErrForeignRealm) != row.foreign {
				t.Errorf("err = %v, want foreign %v", err, row.foreign)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("it tells a secret: %v", err)
			}
			got := false
			for place, said := range w.sent {
				for _, s := range said {
					s = strings.ReplaceAll(s, base64.StdEncoding.EncodeToString([]byte("robot:s3cret")), "s3cret")
					if !strings.Contains(s, "s3cret") {
						if place != "https://"+host && strings.Contains(s, "t0ken") {
							t.Errorf("the token was sent to %s", place)
						}
						continue
					}
					if got = got || place == row.to; place != row.to && place != "https://"+host {
						t.Errorf("the secret was sent to %s: %s", place, s)
					}
				}
			}
			if row.to != "" && !got {
				t.Errorf("%s did not get the secret; sent was %v", row.to, w.sent)
			}
		})
	}
	t.Run("a realm of another party may be asked without credentials", func(t *testing.T) {
		t.Parallel()
		w := &web{hosts: map[string]http.HandlerFunc{reg: challenged("https://auth.other.test/token"), "https://auth.other.test": tokens}, sent: map[string][]string{}}
		_, err := newResolver(resolve.WithTransport(w)).Configs(t.Context(), mustParse(t, "registry.example.com/a@"+image.DigestOf(nil).String()))
		if !errors.Is(err, resolve.ErrNotFound) || len(w.sent["https://auth.other.test"]) != 0 {
			t.Errorf("err = %v, sent %v", err, w.sent)
		}
	})
	t.Run("half a token in a bad answer is not told", func(t *testing.T) {
		t.Parallel()
		w := &web{hosts: map[string]http.HandlerFunc{reg: challenged(reg + "/token")}, sent: map[string][]string{}}
		w.hosts[reg] = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				respond(w, 200, `{"refresh_token":"s3cret"}`)
				return
			}
			challenged(reg+"/token")(w, r)
		}
		_, err := newResolver(resolve.WithTransport(w)).Configs(t.Context(), mustParse(t, "registry.example.com/a@"+image.DigestOf(nil).String()))
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("err = %v", err)
		}
	})
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	anonymous := resolve.WithKeychain(authn.NewMultiKeychain())
	// pair makes a registry with an image, and a mirror that has it or answers otherwise.
	type pair struct {
		origin   *registry.Registry
		ref      image.Reference
		mirror   string
		mirrored *registry.Registry
	}
	newPair := func(t *testing.T, mirrored bool) pair {
		t.Helper()
		p := pair{origin: registry.New(t), mirrored: registry.New(t)}
		img := imageOf(t, "linux/amd64", "1000")
		ref, err := p.origin.Push(t.Context(), "shop/web:1", img)
		if err != nil {
			t.Fatal(err)
		}
		p.ref = ref
		if mirrored {
			if _, err := p.mirrored.Push(t.Context(), "proxy/shop/web:1", img); err != nil {
				t.Fatal(err)
			}
		}
		p.mirror = p.mirrored.Host() + "/proxy"
		return p
	}
	settings := func(p pair, tags bool) resolve.Settings {
		return resolve.Settings{Mirrors: []resolve.Mirror{{Of: p.origin.Host(), At: p.mirror, Tags: tags}}}
	}
	t.Run("one that has the image is enough", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, true)
		if err := p.origin.Close(); err != nil {
			t.Fatal(err)
		}
		configs, err := withSettings(t, settings(p, false), anonymous).Configs(t.Context(), p.ref)
		if err != nil || configs[0].User != "1000" {
			t.Fatalf("got %+v, %v", configs, err)
		}
	})
	t.Run("one that has not is passed over", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, false)
		configs, err := withSettings(t, settings(p, false), anonymous).Configs(t.Context(), p.ref)
		if err != nil || configs[0].User != "1000" || p.mirrored.Requests() == 0 {
			t.Fatalf("got %+v, %v", configs, err)
		}
	})
	t.Run("one that lies about content is passed over", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, false)
		liar := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			_, _ = io.WriteString(w, `{"schemaVersion":2,"config":{},"layers":[]}`)
			return true
		}))
		p.mirror = liar
		configs, err := withSettings(t, settings(p, false), anonymous).Configs(t.Context(), p.ref)
		if err != nil || configs[0].User != "1000" {
			t.Fatalf("got %+v, %v", configs, err)
		}
	})
	t.Run("one that hangs costs half of the time", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, false)
		p.mirror = serve(t, hook(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				<-r.Context().Done()
			}
			return false
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if configs, err := withSettings(t, settings(p, false), anonymous).Configs(ctx, p.ref); err != nil || configs[0].User != "1000" {
			t.Fatalf("got %+v, %v", configs, err)
		}
	})
	t.Run("a tag is the registry's word", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, false)
		other, err := p.mirrored.Push(t.Context(), "proxy/shop/web:1", imageOf(t, "linux/amd64", "0"))
		if err != nil {
			t.Fatal(err)
		}
		tag := mustParse(t, p.origin.Host()+"/shop/web:1")
		if d, err := withSettings(t, settings(p, false), anonymous).Digest(t.Context(), tag); err != nil || d != p.ref.Digest() {
			t.Errorf("got %v, %v", d, err)
		}
		if d, err := withSettings(t, settings(p, true), anonymous).Digest(t.Context(), tag); err != nil || d != other.Digest() {
			t.Errorf("a mirror that is believed: got %v, %v", d, err)
		}
	})
	t.Run("when none has it, all are named", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, false)
		_, err := withSettings(t, settings(p, false), anonymous).Configs(t.Context(), mustParse(t, p.origin.Host()+"/shop/web@"+image.DigestOf(nil).String()))
		if !errors.Is(err, resolve.ErrNotFound) || !strings.Contains(err.Error(), "the mirror "+p.mirror+"/shop/web did not help") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of another registry are not asked", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, true)
		s := settings(p, true)
		s.Mirrors[0].Of = p.origin.Host() + "/shopping"
		if _, err := withSettings(t, s, anonymous).Configs(t.Context(), p.ref); err != nil || p.mirrored.Requests() > 8 { // those that pushed
			t.Errorf("%v, and the mirror had %d requests", err, p.mirrored.Requests())
		}
	})
}

func TestSettingsThatAreWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for about, row := range map[string]struct {
		settings resolve.Settings
		want     string
	}{
		"a CA that is not there": {resolve.Settings{CAFile: filepath.Join(dir, "none")}, "none"},
		"a CA that is none":      {resolve.Settings{CAFile: file(t, filepath.Join(dir, "ca"), "x", 0o600)}, "has none in PEM"},
		"a mirror of nothing":    {resolve.Settings{Mirrors: []resolve.Mirror{{At: "m.example"}}}, "want HOST[:PORT]"},
		"a mirror without place": {resolve.Settings{Mirrors: []resolve.Mirror{{Of: "docker.io"}}}, "want HOST[:PORT]"},
		"a mirror with a scheme": {resolve.Settings{Mirrors: []resolve.Mirror{{Of: "docker.io", At: "https://m.example"}}}, "want HOST[:PORT]"},
		"a mirror with a tag":    {resolve.Settings{Mirrors: []resolve.Mirror{{Of: "docker.io", At: "m.example/x:1"}}}, "want HOST[:PORT]"},
		"a mirror of a name":     {resolve.Settings{Mirrors: []resolve.Mirror{{Of: "library", At: "m.example"}}}, "want HOST[:PORT]"},
	} {
		if _, err := row.settings.Options(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error with %q", about, err, row.want)
		}
	}
}

// A body that never ends its last byte is given up on with the call.
func TestASlowBodyEndsInTime(t *testing.T) {
	t.Parallel()
	host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		_, _ = io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := newResolver().Configs(ctx, mustParse(t, host+"/a@"+image.DigestOf(nil).String()))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "registry "+host+" did not answer in time") {
		t.Errorf("got %v", err)
	}
}

// What a manifest says of the size of its configuration binds.
func TestAConfigurationOfAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	for _, off := range []int{-1, 1} {
		l := newLibrary(t)
		config := `{"os":"linux","architecture":"amd64","config":{"User":"1000"}}`
		d := l.add(config, types.DockerConfigJSON)
		manifest := l.add(fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[]}`, types.DockerConfigJSON, len(config)+off, d), types.OCIManifestSchema1)
		if got, err := newResolver().Configs(t.Context(), mustParse(t, l.host+"/a@"+manifest.String())); err == nil {
			t.Errorf("size off by %d: got %+v", off, got)
		}
	}
}
