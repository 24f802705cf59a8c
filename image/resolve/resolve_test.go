package resolve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// serve starts a registry; each wrapper may answer in its place.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) (host string) {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// hook answers the requests that it returns true for.
func hook(answer func(http.ResponseWriter, *http.Request) bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodPatch || !answer(w, r) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

func newResolver(options ...resolve.Option) *resolve.Resolver {
	return resolve.New(append([]resolve.Option{
		resolve.WithKeychain(authn.NewMultiKeychain()),
		resolve.WithRetry(1, time.Millisecond),
	}, options...)...)
}

func imageOf(t *testing.T, platform, user string) v1.Image {
	t.Helper()
	p, err := resolve.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		Config: v1.Config{User: user, Labels: map[string]string{"team": "a"}},
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func indexOf(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, platform := range platforms {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        imageOf(t, platform, fmt.Sprint(1000+i)),
			Descriptor: v1.Descriptor{Platform: p},
		})
	}
	return idx
}

type artifact interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}

func push(t *testing.T, ref string, a artifact) image.Reference {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	switch a := a.(type) {
	case v1.Image:
		err = remote.Write(tag, a)
	case v1.ImageIndex:
		err = remote.WriteIndex(tag, a)
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, ref+"@"+h.String())
}

func mustParse(t *testing.T, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestDigest(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	pushed := push(t, host+"/team/app:v1", imageOf(t, "linux/amd64", "1000"))
	latest := push(t, host+"/team/app:latest", imageOf(t, "linux/amd64", "2000"))
	for about, row := range map[string]struct {
		ref  string
		want image.Digest
	}{
		"a tag":                  {host + "/team/app:v1", pushed.Digest()},
		"no tag means latest":    {host + "/team/app", latest.Digest()},
		"a digest stands itself": {"nowhere.invalid/x@" + pushed.Digest().String(), pushed.Digest()},
	} {
		t.Run(about, func(t *testing.T) {
			got, err := newResolver().Digest(t.Context(), mustParse(t, row.ref))
			if err != nil || got != row.want {
				t.Fatalf("Digest(%q) = %v, %v; want %v", row.ref, got, err, row.want)
			}
		})
	}
	t.Run("a missing tag says so", func(t *testing.T) {
		_, err := newResolver().Digest(t.Context(), mustParse(t, host+"/team/app:v9"))
		if !errors.Is(err, resolve.ErrNotFound) {
			t.Fatalf("err = %v, want ErrNotFound", err)
		}
	})
}

func TestDigestHashesContentWhenHeadGivesNone(t *testing.T) {
	t.Parallel()
	host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && strings.HasPrefix(r.UserAgent(), resolve.UserAgent) {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		return false
	}))
	pushed := push(t, host+"/a:v1", imageOf(t, "linux/amd64", ""))
	got, err := newResolver().Digest(t.Context(), mustParse(t, host+"/a:v1"))
	if err != nil || got != pushed.Digest() {
		t.Fatalf("Digest = %v, %v; want %v", got, err, pushed.Digest())
	}
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	single := push(t, host+"/single:v1", imageOf(t, "linux/arm64", "app"))
	index := push(t, host+"/multi:v1", indexOf(t, "linux/amd64", "linux/arm/v7", "unknown/unknown"))

	users := func(t *testing.T, ref image.Reference, wanted ...string) map[string]string {
		t.Helper()
		var platforms []resolve.Platform
		for _, s := range wanted {
			p, err := resolve.ParsePlatform(s)
			if err != nil {
				t.Fatal(err)
			}
			platforms = append(platforms, p)
		}
		configs, err := newResolver().Configs(t.Context(), ref, platforms...)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, c := range configs {
			if c.Manifest.IsZero() || c.Labels["team"] != "a" {
				t.Errorf("config lacks manifest or labels: %+v", c)
			}
			got[c.Platform.String()] = c.User
		}
		return got
	}
	same := func(t *testing.T, want, got map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("users by platform (-want +got):\n%s", diff)
		}
	}
	t.Run("of a single image", func(t *testing.T) {
		same(t, map[string]string{"linux/arm64": "app"}, users(t, single))
	})
	t.Run("of a single image whatever is asked for", func(t *testing.T) {
		same(t, map[string]string{"linux/arm64": "app"}, users(t, single, "linux/amd64"))
	})
	t.Run("of every image of an index, without build records", func(t *testing.T) {
		same(t, map[string]string{"linux/amd64": "1000", "linux/arm/v7": "1001"}, users(t, index))
	})
	t.Run("of one platform of an index", func(t *testing.T) {
		same(t, map[string]string{"linux/arm/v7": "1001"}, users(t, index, "linux/arm"))
	})
	t.Run("Config is Configs for one", func(t *testing.T) {
		c, err := newResolver().Config(t.Context(), index, resolve.Platform{OS: "linux", Architecture: "amd64"})
		if err != nil || c.User != "1000" {
			t.Fatalf("Config = %+v, %v", c, err)
		}
	})
	t.Run("a platform that is not there is named beside those that are", func(t *testing.T) {
		_, err := newResolver().Config(t.Context(), index, resolve.Platform{OS: "linux", Architecture: "s390x"})
		if !errors.Is(err, resolve.ErrNoPlatform) || !strings.Contains(err.Error(), "linux/s390x; it has linux/amd64, linux/arm/v7") {
			t.Fatalf("err = %v", err)
		}
	})
	t.Run("an index without images is refused", func(t *testing.T) {
		ref := push(t, host+"/none:v1", indexOf(t, "unknown/unknown"))
		if _, err := newResolver().Configs(t.Context(), ref); !errors.Is(err, resolve.ErrNotAnImage) {
			t.Fatalf("err = %v", err)
		}
	})
	t.Run("a reference without digest is refused", func(t *testing.T) {
		if _, err := newResolver().Configs(t.Context(), mustParse(t, host+"/multi:v1")); !errors.Is(err, image.ErrNoDigest) {
			t.Fatalf("err = %v", err)
		}
	})
}

// A registry that misbehaves gives an error that says how, and never a config.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	manifests := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/sha256:") }
	blobs := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	status := func(match func(*http.Request) bool, code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if match(r) && r.Method == http.MethodGet {
				w.WriteHeader(code)
				return true
			}
			return false
		}
	}
	body := func(match func(*http.Request) bool, content []byte, chunked bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !match(r) || r.Method != http.MethodGet {
				return false
			}
			w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
			if chunked {
				w.(http.Flusher).Flush()
			}
			_, _ = w.Write(content)
			return true
		}
	}
	huge := bytes.Repeat([]byte(" "), resolve.MaxResponse+1)
	for about, row := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		is     error
		text   string
	}{
		"manifest not found":         {status(manifests, 404), resolve.ErrNotFound, "check that it was pushed"},
		"manifest forbidden":         {status(manifests, 403), resolve.ErrUnauthorized, "docker login"},
		"manifest unauthorised":      {status(manifests, 401), resolve.ErrUnauthorized, "docker login"},
		"rate limited":               {status(manifests, 429), nil, "limits the rate"},
		"server error":               {status(manifests, 500), nil, "500"},
		"config blob not found (B4)": {status(blobs, 404), resolve.ErrNotFound, "configuration"},
		"other manifest (B15)":       {body(manifests, []byte(`{"schemaVersion":2}`), false), resolve.ErrMismatch, ""},
		"other config (B15)":         {body(blobs, []byte(`{"config":{"User":"1000"}}`), true), resolve.ErrMismatch, ""},
		"endless manifest":           {body(manifests, huge, true), resolve.ErrTooLarge, ""},
		"long manifest":              {body(manifests, huge, false), resolve.ErrTooLarge, ""},
		"endless config":             {body(blobs, huge, true), nil, ""},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			host := serve(t, hook(row.answer))
			ref := push(t, host+"/a:v1", imageOf(t, "linux/amd64", "1000"))
			got, err := newResolver().Configs(t.Context(), ref)
			if err == nil {
				t.Fatalf("got %+v, want an error", got)
			}
			if row.is != nil && !errors.Is(err, row.is) {
				t.Errorf("err = %v, want %v", err, row.is)
			}
			if !strings.Contains(err.Error(), row.text) || !strings.Contains(err.Error(), ref.String()) {
				t.Errorf("err = %v, want %q and the reference in it", err, row.text)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
		})
	}
}

func TestHostileContent(t *testing.T) {
	t.Parallel()
	// Each document is served under its own digest, so that only its content
	// can be what is refused.
	config := `{"config":{"User":"1000"}}`
	ambiguous := `{"config":{"User":"1000","user":"root"}}`
	manifest := func(config string, extra string) string {
		return fmt.Sprintf(`{"schemaVersion":2,%s"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[]}`,
			extra, types.DockerConfigJSON, len(config), image.DigestOf([]byte(config)))
	}
	nested := func(inner string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
			types.OCIImageIndex, len(inner), image.DigestOf([]byte(inner)))
	}
	image1, bad := manifest(config, ""), manifest(ambiguous, "")
	deep := nested(nested(nested(nested(image1))))
	wide := `{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(fmt.Sprintf(
		`{"mediaType":%q,"size":%d,"digest":%q,"platform":{"os":"linux","architecture":"amd64"}},`,
		types.OCIManifestSchema1, len(image1), image.DigestOf([]byte(image1))), 100), ",") + `]}`
	docs := map[string]string{}
	for _, d := range []string{config, ambiguous, image1, bad, deep, wide,
		nested(image1), nested(nested(image1)), nested(nested(nested(image1))),
		manifest(config, `"manifests":[],`), manifest(config, `"mediaType":"application/vnd.oci.image.index.v1+json",`),
		manifest(config, `"config":{},`), `{"schemaVersion":1}`, `not json`} {
		docs[image.DigestOf([]byte(d)).String()] = d
	}
	host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		doc, ok := docs[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		if !ok {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1)+"; charset=utf-8")
		if strings.HasPrefix(doc, `{"schemaVersion":2,"manifests":[{`) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
		}
		if doc == `{"schemaVersion":1}` {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1Signed))
		}
		_, _ = io.WriteString(w, doc)
		return true
	}))
	read := func(t *testing.T, doc string) ([]resolve.Config, error) {
		return newResolver().Configs(t.Context(), mustParse(t, host+"/a@"+image.DigestOf([]byte(doc)).String()))
	}
	t.Run("a good one is read, as the others would be", func(t *testing.T) {
		got, err := read(t, image1)
		if err != nil || len(got) != 1 || got[0].User != "1000" {
			t.Fatalf("Configs = %+v, %v", got, err)
		}
	})
	for about, row := range map[string]struct{ doc, text string }{
		"names that differ in case only":   {bad, "duplicate"},
		"names that repeat":                {manifest(config, `"config":{},`), "duplicate"},
		"an image that is an index too":    {manifest(config, `"manifests":[],`), "as an image and as an index"},
		"a type that is not the header's":  {manifest(config, `"mediaType":"application/vnd.oci.image.index.v1+json",`), "calls itself"},
		"indexes nested without end":       {deep, "nest more than"},
		"an index with too many images":    {wide, "more than 64"},
		"the obsolete schema 1":            {`{"schemaVersion":1}`, "schema 1"},
		"a manifest that cannot be parsed": {`not json`, "parsing the manifest"},
	} {
		t.Run(about+" is refused", func(t *testing.T) {
			got, err := read(t, row.doc)
			if err == nil || !strings.Contains(err.Error(), row.text) {
				t.Fatalf("Configs = %+v, %v; want an error with %q", got, err, row.text)
			}
		})
	}
}

func TestDeadlineIsHonoured(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	host := serve(t, hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	}))
	ref := mustParse(t, host+"/a@"+image.DigestOf(nil).String())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := newResolver().Configs(ctx, ref); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want %v", err, context.Canceled)
	}
}

func TestPlainHTTPStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	never := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			t.Errorf("a plain HTTP request to %s", r.URL.Host)
		}
		return nil, errors.New("connection refused")
	})
	for _, host := range []string{"10.1.2.3:5000", "registry.local", "192.168.0.9"} {
		_, err := newResolver(resolve.WithTransport(never)).Digest(t.Context(), mustParse(t, host+"/a:v1"))
		if err == nil {
			t.Errorf("%s: no error", host)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestUserAgentAndCredentials(t *testing.T) {
	t.Parallel()
	host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.UserAgent(), resolve.UserAgent) {
			t.Errorf("User-Agent = %q", r.UserAgent())
		}
		user, pass, _ := r.BasicAuth()
		if user == "robot" && pass == "s3cret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}))
	ref := mustParse(t, host+"/a:v1")
	_, err := newResolver().Digest(t.Context(), ref)
	if !errors.Is(err, resolve.ErrUnauthorized) {
		t.Fatalf("without credentials: %v", err)
	}
	_, err = newResolver(resolve.WithKeychain(static{})).Digest(t.Context(), ref)
	if !errors.Is(err, resolve.ErrNotFound) {
		t.Fatalf("with credentials: %v, want to be let in and find nothing", err)
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Fatalf("the error tells the password: %v", err)
	}
}

type static struct{}

func (static) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "robot", Password: "s3cret"}), nil
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"linux/amd64", "linux/arm/v7"} {
		if p, err := resolve.ParsePlatform(s); err != nil || p.String() != s {
			t.Errorf("ParsePlatform(%q) = %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "a/b/c/d", "Linux/amd64", "linux/am d64"} {
		if p, err := resolve.ParsePlatform(s); err == nil {
			t.Errorf("ParsePlatform(%q) = %v, want an error", s, p)
		}
	}
}
