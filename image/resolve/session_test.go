package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// logins are ways in which a registry may ask who calls. Each answers a request that it
// does not let in.
type login func(w http.ResponseWriter, r *http.Request) (answered bool)

func basic(w http.ResponseWriter, r *http.Request) bool {
	if user, _, ok := r.BasicAuth(); ok && user == "robot" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// bearer wants a token for the repository, which it gives for a name and password.
func bearer(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/token" {
		if !basic(w, r) {
			_, _ = fmt.Fprintf(w, `{"token":%q}`, r.URL.Query().Get("scope"))
		}
		return true
	}
	repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	if r.Header.Get("Authorization") == "Bearer repository:"+repo+":pull" {
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x",scope="repository:%s:pull"`, r.Host, repo))
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// hiding does not say that there is something to log in to, but at its door.
func hiding(w http.ResponseWriter, r *http.Request) bool {
	if _, _, ok := r.BasicAuth(); !ok && r.URL.Path != "/v2/" {
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	return basic(w, r)
}

// half lets everybody read what is called open.
func half(w http.ResponseWriter, r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/v2/open/") && basic(w, r)
}

func TestSession(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		login login
		// extra are the requests besides one for each tag.
		extra int64
	}{
		"open":                      {func(http.ResponseWriter, *http.Request) bool { return false }, 0},
		"a password":                {basic, 1},
		"a token for a repository":  {bearer, 1 + 4},
		"hidden without a password": {hiding, 1 + 1},
		"open in part":              {half, 2},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			var closed atomic.Bool
			var requests atomic.Int64
			host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
				if !closed.Load() {
					return false
				}
				requests.Add(1)
				return row.login(w, r)
			}))
			var refs []image.Reference
			want := map[string]image.Digest{}
			for _, repo := range []string{"open/a", "open/b", "team/a", "team/b"} {
				for n := range 5 {
					text := fmt.Sprintf("%s/%s:%d", host, repo, n)
					pushed := push(t, text, imageOf(t, "linux/amd64", fmt.Sprint(repo, n)))
					want[text] = pushed.Digest()
					refs = append(refs, mustParse(t, text))
				}
			}
			closed.Store(true)
			session, err := newResolver(resolve.WithKeychain(robot{})).Session()
			if err != nil {
				t.Fatal(err)
			}
			var group errgroup.Group
			for _, ref := range refs {
				group.Go(func() error {
					got, err := session.Digest(t.Context(), ref)
					if err == nil && got != want[ref.String()] {
						err = fmt.Errorf("%s is %s, want %s", ref, got, want[ref.String()])
					}
					return err
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			if got, most := requests.Load(), int64(len(refs))+row.extra; got > most {
				t.Errorf("%d requests for %d tags, want at most %d", got, len(refs), most)
			}
		})
	}
}

type robot struct{}

func (robot) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "robot", Password: "p"}), nil
}

func TestSessionErrors(t *testing.T) {
	t.Parallel()
	host := serve(t, hook(basic))
	session, err := newResolver().Session()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Digest(t.Context(), mustParse(t, host+"/a:1")); !errors.Is(err, resolve.ErrUnauthorized) {
		t.Errorf("without a password: %v", err)
	}
	open := serve(t, nil)
	push(t, open+"/a:1", imageOf(t, "linux/amd64", ""))
	for range 2 {
		if _, err := session.Digest(t.Context(), mustParse(t, open+"/a:2")); !errors.Is(err, resolve.ErrNotFound) {
			t.Errorf("a tag that is not there: %v", err)
		}
		if _, err := session.Digest(t.Context(), mustParse(t, open+"/a:1")); err != nil {
			t.Errorf("after that: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := session.Digest(ctx, mustParse(t, open+"/a:1")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := session.Digest(t.Context(), mustParse(t, open+"/a:1")); err != nil {
		t.Errorf("after a call that was cancelled: %v", err)
	}
}

// TestSessionWithADeadRegistry: who waits for a registry that never answers does not wait
// behind all others.
func TestSessionWithADeadRegistry(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	refuse := roundTrip(func(r *http.Request) (*http.Response, error) {
		dials.Add(1)
		return nil, &net.OpError{Op: "dial", Err: errors.New("no route to host")}
	})
	session, err := newResolver(resolve.WithTransport(refuse)).Session()
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for n := range 100 {
		wait.Go(func() {
			if _, err := session.Digest(t.Context(), mustParse(t, fmt.Sprintf("registry.example/a:%d", n))); err == nil || !strings.Contains(err.Error(), "no route to host") {
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	if got := dials.Load(); got > 10 {
		t.Errorf("%d connections were tried", got)
	}
}

func TestPlatformDigest(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	index := indexOf(t, "linux/amd64", "linux/arm/v6", "linux/arm/v7", "unknown/unknown")
	push(t, host+"/multi:1", index)
	single := push(t, host+"/single:1", imageOf(t, "linux/arm64", ""))
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	session, err := newResolver().Session()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ ref, platform, want, why string }{
		{"multi", "linux/amd64", manifest.Manifests[0].Digest.String(), ""},
		{"multi", "linux/arm/v7", manifest.Manifests[2].Digest.String(), ""},
		{"multi", "linux/arm", "", "there are several images for linux/arm: linux/arm/v6, linux/arm/v7"},
		{"multi", "windows/amd64", "", "no image for the platform windows/amd64; it has linux/amd64"},
		{"single", "linux/arm64", single.Digest().String(), ""},
		{"single", "linux/amd64", "", "no image for the platform linux/amd64; it has linux/arm64"},
		{"none", "linux/amd64", "", "not found"},
	} {
		p, err := resolve.ParsePlatform(row.platform)
		if err != nil {
			t.Fatal(err)
		}
		got, err := session.PlatformDigest(t.Context(), mustParse(t, host+"/"+row.ref+":1"), p)
		if row.why == "" && err != nil || row.why != "" && (err == nil || !strings.Contains(err.Error(), row.why)) || got.String() != row.want {
			t.Errorf("%s for %s: %s %v, want %s %s", row.ref, row.platform, got, err, row.want, row.why)
		}
	}
}

// TestSessionWhileOthersWait: a registry that is slow at first is asked by one, and the
// rest go on at the same time once it is known to be open.
func TestSessionWhileOthersWait(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 100)
	release := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Docker-Content-Digest", image.DigestOf([]byte(r.URL.Path)).String())
		w.Header().Set("Content-Length", "1")
	}))
	defer s.Close()
	session, err := newResolver().Session()
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	resolveOne := func(repo string) {
		group.Go(func() error {
			_, err := session.Digest(ctx, mustParse(t, strings.TrimPrefix(s.URL, "http://")+"/"+repo+":1"))
			return err
		})
	}
	wait := func() {
		select {
		case <-arrived:
		case <-ctx.Done():
			t.Fatal("a request does not come while others wait")
		}
	}
	resolveOne("first")
	wait()
	release <- struct{}{}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		resolveOne(fmt.Sprint("repo", n))
	}
	for range 10 {
		wait() // all at the same time: none has been answered
	}
	close(release)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
