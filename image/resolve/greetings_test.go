package resolve_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// door is a registry with one image, whose way of letting in can be changed.
type door struct {
	host     string
	ref      image.Reference
	login    atomic.Pointer[login]
	requests atomic.Int64
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{}
	d.host = serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		d.requests.Add(1)
		l := d.login.Load()
		return l != nil && (*l)(w, r)
	}))
	d.ref = push(t, d.host+"/team/a:1", imageOf(t, "linux/amd64", "1000"))
	return d
}

func (d *door) set(l login) { d.login.Store(&l) }

// bearerAny wants a token for whatever is read, from a realm of its own.
func bearerAny(realm string) login {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == realm {
			if !basic(w, r) {
				_, _ = io.WriteString(w, `{"token":"of`+realm+`"}`)
			}
			return true
		}
		if strings.HasPrefix(r.URL.Path, "/token") {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer of"+realm {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s%s",service="x"`, r.Host, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// secure counts the requests over TLS.
type secure struct{ tried atomic.Int64 }

func (s *secure) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		s.tried.Add(1)
	}
	return remote.DefaultTransport.RoundTrip(r)
}

func TestARegistryIsAskedOnceHowToLogIn(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		login login
		want  int64 // requests of a call that is not the first
	}{
		"open":       {func(http.ResponseWriter, *http.Request) bool { return false }, 2},
		"a password": {basic, 2},
		"a token":    {bearerAny("/token/1"), 3},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			d.set(row.login)
			s := &secure{}
			r := newResolver(resolve.WithKeychain(robot{}), resolve.WithTransport(s))
			for n := range 4 {
				requests, tried := d.requests.Load(), s.tried.Load()
				if configs, err := r.Configs(t.Context(), d.ref); err != nil || configs[0].User != "1000" {
					t.Fatalf("call %d: %+v, %v", n+1, configs, err)
				}
				requests, tried = d.requests.Load()-requests, s.tried.Load()-tried
				if n > 0 && (requests != row.want || tried != 0) {
					t.Errorf("call %d: %d requests, want %d, and %d over TLS, want none", n+1, requests, row.want, tried)
				}
			}
			// Other calls share it.
			before := d.requests.Load()
			if got, err := r.Digest(t.Context(), mustParse(t, d.host+"/team/a:1")); err != nil || got != d.ref.Digest() {
				t.Errorf("Digest: %s, %v", got, err)
			}
			if n := d.requests.Load() - before; n != row.want-1 {
				t.Errorf("Digest: %d requests, want %d", n, row.want-1)
			}
		})
	}
}

// What is remembered of a registry does not keep anybody out, or in.
func TestARegistryThatChangesIsAskedAgain(t *testing.T) {
	t.Parallel()
	open := func(http.ResponseWriter, *http.Request) bool { return false }
	steps := []struct {
		about string
		login login
	}{
		{"open", open}, {"it wants tokens", bearerAny("/token/1")}, {"from elsewhere", bearerAny("/token/2")}, {"it wants passwords", basic}, {"open again", open},
	}
	d := newDoor(t)
	r := newResolver(resolve.WithKeychain(robot{}))
	for _, step := range steps {
		d.set(step.login)
		for range 2 {
			if configs, err := r.Configs(t.Context(), d.ref); err != nil || configs[0].User != "1000" {
				t.Errorf("%s: %+v, %v", step.about, configs, err)
			}
		}
	}
	d.set(basic)
	anonymous := newResolver()
	d.set(open)
	if _, err := anonymous.Configs(t.Context(), d.ref); err != nil {
		t.Fatal(err)
	}
	d.set(basic)
	for range 2 {
		if _, err := anonymous.Configs(t.Context(), d.ref); !errors.Is(err, resolve.ErrUnauthorized) {
			t.Errorf("who may not come in any more: %v", err)
		}
	}
}

// A failed login is not remembered: the next call asks for credentials anew.
func TestAFailedLoginIsNotRemembered(t *testing.T) {
	t.Parallel()
	for about, l := range map[string]login{"a password": basic, "a token": bearerAny("/token/1")} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			d.set(l)
			var user atomic.Pointer[string]
			set := func(s string) { user.Store(&s) }
			r := newResolver(resolve.WithKeychain(keychain(func(authn.Resource) (authn.Authenticator, error) {
				return authn.FromConfig(authn.AuthConfig{Username: *user.Load(), Password: "p"}), nil
			})))
			set("nobody")
			most := int64(0)
			for range 3 {
				before := d.requests.Load()
				if _, err := r.Configs(t.Context(), d.ref); !errors.Is(err, resolve.ErrUnauthorized) {
					t.Fatalf("with a wrong name: %v", err)
				}
				most = max(most, d.requests.Load()-before)
			}
			if most > 2 {
				t.Errorf("a call that is refused makes %d requests, want the question and one try", most)
			}
			set("robot")
			if _, err := r.Configs(t.Context(), d.ref); err != nil {
				t.Errorf("with the right name after that: %v", err)
			}
			set("nobody")
			if _, err := r.Configs(t.Context(), d.ref); !errors.Is(err, resolve.ErrUnauthorized) {
				t.Errorf("with a wrong name after the right one: %v", err)
			}
		})
	}
}

// Where the question how to log in is answered from memory, a token service is the first
// to be asked; it is still no registry.
func TestARememberedRealmGetsNoCredentialsOfAnotherParty(t *testing.T) {
	t.Parallel()
	const reg, evil = "https://registry.example.com", "https://evil.test"
	config := `{"os":"linux","architecture":"amd64"}`
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":"sha256:%x"},"layers":[]}`,
		len(config), sha256.Sum256([]byte(config)))
	content := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer t0ken":
			respond(w, 401, "", "WWW-Authenticate", `Bearer realm="`+evil+`/token",service="s"`)
		case strings.Contains(r.URL.Path, "/manifests/"):
			respond(w, 200, manifest, "Content-Type", "application/vnd.oci.image.manifest.v1+json", "Docker-Content-Digest", image.DigestOf([]byte(manifest)).String())
		default:
			respond(w, 200, config)
		}
	}
	network := func() *web {
		return &web{hosts: map[string]http.HandlerFunc{reg: content, evil: tokens}, sent: map[string][]string{}}
	}
	secretFor := resolve.WithKeychain(keychain(func(r authn.Resource) (authn.Authenticator, error) {
		if strings.HasSuffix(r.String(), "/private") {
			return authn.FromConfig(authn.AuthConfig{Username: "robot", Password: "s3cret"}), nil
		}
		return authn.Anonymous, nil
	}))
	at := "@" + image.DigestOf([]byte(manifest)).String()
	t.Run("of a resolver", func(t *testing.T) {
		t.Parallel()
		w := network()
		r := newResolver(resolve.WithTransport(w), secretFor)
		if _, err := r.Configs(t.Context(), mustParse(t, "registry.example.com/public"+at)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Configs(t.Context(), mustParse(t, "registry.example.com/private"+at)); !errors.Is(err, resolve.ErrForeignRealm) {
			t.Errorf("with credentials: %v", err)
		}
		if sent := w.sent[evil]; len(sent) > 0 {
			t.Errorf("the other party was sent %q", sent)
		}
	})
	t.Run("of a session", func(t *testing.T) {
		t.Parallel()
		w := network()
		s, err := newResolver(resolve.WithTransport(w), secretFor).Session()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Digest(t.Context(), mustParse(t, "registry.example.com/public:1")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Digest(t.Context(), mustParse(t, "registry.example.com/private:1")); !errors.Is(err, resolve.ErrForeignRealm) {
			t.Errorf("with credentials: %v", err)
		}
		if sent := w.sent[evil]; len(sent) > 0 {
			t.Errorf("the other party was sent %q", sent)
		}
	})
}
