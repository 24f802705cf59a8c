package voucherapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	"golang.org/x/crypto/bcrypt"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/door"
	"github.com/gatehouse-dev/gatehouse/attest/voucherapi"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

const (
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	ref    = "gcr.io/a/b@" + digest
	good   = `{"image_url":"` + ref + `"}`
)

type runFunc = func(context.Context, *check.Input) (check.Result, error)

func pass(context.Context, *check.Input) (check.Result, error) { return check.Pass(), nil }

func fail(context.Context, *check.Input) (check.Result, error) { return check.Fail("no <good>"), nil }

// serve starts a server of an authority with the checks "good" and "bad", and
// those given.
func serve(t *testing.T, opts voucherapi.Options, checks map[string]runFunc) *httptest.Server {
	t.Helper()
	store := &attesttest.Store{}
	metadata, err := check.NewGrafeas(store, "p")
	if err != nil {
		t.Fatal(err)
	}
	o := attest.Options{
		Project: "p", Groups: map[string][]string{"all": {"good"}, "empty": {}, "mixed": {"bad", "good"}, "later": {"approved"}},
		Registry: resolve.New(), Metadata: metadata, Store: store, DryRun: true,
		Checks: []check.Check{{Name: "good", Run: pass}, {Name: "bad", Run: fail}},
	}
	for name, run := range checks {
		o.Checks = append(o.Checks, check.Check{Name: name, Run: run})
	}
	a, err := attest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(voucherapi.NewHandler(a, opts))
	t.Cleanup(s.Close)
	return s
}

// answer is what a client sees.
type answer struct {
	Status   int
	Type     string
	Body     string
	Location string
}

func do(t *testing.T, s *httptest.Server, method, path, body string, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(data), resp.Header.Get("Location")}
}

const (
	text  = "text/plain; charset=utf-8"
	jsonT = "application/json"
)

func TestContract(t *testing.T) {
	t.Parallel()
	s := serve(t, voucherapi.Options{}, nil)
	for about, row := range map[string]struct {
		method, path, body string
		want               answer
	}{
		"C1: a check": {"POST", "/good", good, answer{200, jsonT, `{"image":"` + ref + `","success":true,"results":[{"name":"good","success":true,"attested":false}]}` + "\n", ""}},
		"C1: a group": {"POST", "/mixed", good, answer{200, jsonT,
			`{"image":"` + ref + `","success":false,"results":[{"name":"bad","error":"no \u003cgood\u003e","success":false,"attested":false},{"name":"good","success":true,"attested":false}]}` + "\n", ""}},
		"C1: verify": {"POST", "/mixed/verify", good, answer{200, jsonT,
			`{"image":"` + ref + `","success":false,"results":[{"name":"bad","success":false,"attested":false},{"name":"good","success":false,"attested":false}]}` + "\n", ""}},
		"C1: a tag is kept":                 {"POST", "/good", `{"image_url":"gcr.io/a/b:v1@` + digest + `"}`, answer{200, jsonT, `{"image":"gcr.io/a/b:v1@` + digest + `","success":true,"results":[{"name":"good","success":true,"attested":false}]}` + "\n", ""}},
		"C1: other fields and what follows": {"POST", "/good", `{"x":1,"IMAGE_URL":"` + ref + `"} trailing`, answer{200, jsonT, `{"image":"` + ref + `","success":true,"results":[{"name":"good","success":true,"attested":false}]}` + "\n", ""}},
		"C2: a check that fails is 200":     {"POST", "/bad", good, answer{200, jsonT, `{"image":"` + ref + `","success":false,"results":[{"name":"bad","error":"no \u003cgood\u003e","success":false,"attested":false}]}` + "\n", ""}},
		"B3: an empty group":                {"POST", "/empty", good, answer{200, jsonT, `{"image":"` + ref + `","success":false,"results":[]}` + "\n", ""}},
		"B3: an empty group, verified":      {"POST", "/empty/verify", good, answer{200, jsonT, `{"image":"` + ref + `","success":false,"results":[]}` + "\n", ""}},
		"C4: ping":                          {"GET", "/services/ping", "", answer{200, "", "", ""}},
		"ping, wrong method":                {"POST", "/services/ping", "", answer{405, "", "", ""}},
		"wrong method":                      {"GET", "/all", "", answer{405, "", "", ""}},
		"wrong method, verify":              {"GET", "/all/verify", "", answer{405, "", "", ""}},
		"unknown path":                      {"POST", "/all/other", good, answer{404, text, "404 page not found\n", ""}},
		"no path":                           {"POST", "/", good, answer{404, text, "404 page not found\n", ""}},
		"trailing slash":                    {"POST", "/all/", good, answer{301, "", "", "/all"}},
		"trailing slash, verify":            {"POST", "/all/verify/", good, answer{301, "", "", "/all/verify"}},
		"two slashes":                       {"POST", "//all", good, answer{301, "", "", "/all"}},
		"trailing slash and a query":        {"POST", "/all/?a=b", good, answer{301, "", "", "/all?a=b"}},
		"unknown check":                     {"POST", "/nope", good, answer{404, text, `check or group "nope" is not active: required check(s) are not registered: nope` + "\n", ""}},
		"another case":                      {"POST", "/Good", good, answer{404, text, `check or group "Good" is not active: required check(s) are not registered: Good` + "\n", ""}},
		"a group with an unknown check":     {"POST", "/later", good, answer{404, text, `check or group "later" is not active: required check(s) are not registered: approved` + "\n", ""}},
		"bad JSON":                          {"POST", "/good", "{bad", answer{422, text, "invalid character 'b' looking for beginning of object key string\n", ""}},
		"no body":                           {"POST", "/good", "", answer{422, text, "EOF\n", ""}},
		"an array":                          {"POST", "/good", "[]", answer{422, text, "the request is a JSON array; want an object: {\"image_url\":\"REPOSITORY@sha256:…\"}\n", ""}},
		"a number":                          {"POST", "/good", "1.5", answer{422, text, "the request is a JSON number; want an object: {\"image_url\":\"REPOSITORY@sha256:…\"}\n", ""}},
		"a reference of another kind":       {"POST", "/good", `{"image_url":17}`, answer{422, text, "image_url is a JSON number; want a string\n", ""}},
		"bad reference":                     {"POST", "/good", `{"image_url":"https://gcr.io/a"}`, answer{422, text, "can't use URL in ImageData: invalid reference format\n", ""}},
		"no reference":                      {"POST", "/good", `{}`, answer{422, text, "can't use URL in ImageData: repository name must have at least one component\n", ""}},
		"no digest":                         {"POST", "/good", `{"image_url":"gcr.io/a/b:latest"}`, answer{422, text, "reference gcr.io/a/b:latest has no digest\n", ""}},
		"a body too long":                   {"POST", "/good", `{"x":"` + strings.Repeat("a", voucherapi.MaxBody) + `"}`, answer{413, text, "request is too long\n", ""}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(row.want, do(t, s, row.method, row.path, row.body)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("B20: a form is read as JSON all the same", func(t *testing.T) {
		t.Parallel()
		got := do(t, s, "POST", "/good", good, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") })
		if got.Status != 200 || got.Type != jsonT {
			t.Errorf("got %+v", got)
		}
	})
}

func TestLogin(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, voucherapi.Options{RequireAuth: true, Username: "vouch", PasswordHash: string(hash)}, nil)
	denied := answer{401, text, "username or password is incorrect\n", ""}
	basic := func(user, pass string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, pass) }
	}
	t.Run("C5: with user name and password", func(t *testing.T) {
		if got := do(t, s, "POST", "/good", good, basic("vouch", "hunter2")); got.Status != 200 {
			t.Errorf("got %+v", got)
		}
	})
	for about, change := range map[string]func(*http.Request){
		"without":             func(*http.Request) {},
		"another password":    basic("vouch", "hunter3"),
		"another user":        basic("Vouch", "hunter2"),
		"the hash":            basic("vouch", string(hash)),
		"neither":             basic("", ""),
		"another scheme":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer hunter2") },
		"a password too long": basic("vouch", strings.Repeat("x", 100)),
	} {
		t.Run("C5: "+about, func(t *testing.T) {
			for _, path := range []string{"/good", "/nope", "/good/verify"} {
				if diff := cmp.Diff(denied, do(t, s, "POST", path, "{bad", change)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
		})
	}
	t.Run("B20: 401 says how to log in", func(t *testing.T) {
		resp, err := s.Client().Post(s.URL+"/good", "", strings.NewReader(good))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
			t.Errorf("WWW-Authenticate: %q", got)
		}
	})
	t.Run("C4: ping needs none", func(t *testing.T) {
		if got := do(t, s, "GET", "/services/ping", ""); got.Status != 200 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("without user name or hash in the settings no one gets in", func(t *testing.T) {
		for _, opts := range []voucherapi.Options{{RequireAuth: true}, {RequireAuth: true, Username: "vouch"}, {RequireAuth: true, PasswordHash: string(hash)}} {
			s := serve(t, opts, nil)
			for _, change := range []func(*http.Request){basic("vouch", "hunter2"), basic("", "hunter2"), basic("vouch", ""), basic("", "")} {
				if got := do(t, s, "POST", "/good", good, change); got != denied {
					t.Errorf("%+v: got %+v", opts, got)
				}
			}
		}
	})
}

func TestB4_APanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, voucherapi.Options{}, map[string]runFunc{"broken": func(context.Context, *check.Input) (check.Result, error) {
		panic("secret detail")
	}})
	for range 2 { // the server lives on
		got := do(t, s, "POST", "/broken", good)
		if got.Status != 200 || !strings.Contains(got.Body, `"success":false`) || strings.Contains(got.Body, "secret") {
			t.Errorf("got %+v", got)
		}
	}
}

func TestB4_APanicOutsideOfChecksIsAnAnswer(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	// Without an authority every request panics.
	s := httptest.NewServer(voucherapi.NewHandler(nil, voucherapi.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	t.Cleanup(s.Close)
	if got := do(t, s, "POST", "/good", good); got.Status != 500 || got.Type != text {
		t.Errorf("got %+v", got)
	}
	s.Close() // waits for the log
	if !strings.Contains(log.String(), "request panicked") {
		t.Errorf("the log: %s", log.String())
	}
}

func TestB12_TheTimeoutIsEnforced(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	s := serve(t, voucherapi.Options{Timeout: 50 * time.Millisecond}, map[string]runFunc{"deaf": func(context.Context, *check.Input) (check.Result, error) {
		<-release
		return check.Pass(), nil
	}})
	got := do(t, s, "POST", "/deaf", good) // ends before the check does
	if got.Status != 200 || !strings.Contains(got.Body, `"success":false`) || !strings.Contains(got.Body, "did not finish") {
		t.Errorf("got %+v", got)
	}
}

func TestAClientThatGoesAwayCancels(t *testing.T) {
	t.Parallel()
	started, ended := make(chan struct{}), make(chan error, 1)
	s := serve(t, voucherapi.Options{}, map[string]runFunc{"wait": func(ctx context.Context, _ *check.Input) (check.Result, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return check.Result{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/wait", strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-started
		cancel()
	}()
	if resp, err := s.Client().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("an answer without end")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the check ended with %v", err)
	}
}

func TestRequestsAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	s := serve(t, voucherapi.Options{Door: door.New(door.Options{MaxRequests: 1, PerCaller: 2})}, map[string]runFunc{"wait": func(context.Context, *check.Input) (check.Result, error) {
		close(started)
		<-release
		return check.Pass(), nil
	}})
	var wg sync.WaitGroup
	wg.Go(func() { do(t, s, "POST", "/wait", good) })
	<-started
	if got := do(t, s, "POST", "/good", good); got.Status != 503 {
		t.Errorf("while another is worked on: %+v", got)
	}
	if got := do(t, s, "GET", "/services/ping", ""); got.Status != 200 {
		t.Errorf("ping meanwhile: %+v", got)
	}
	close(release)
	wg.Wait()
	if got := do(t, s, "POST", "/good", good); got.Status != 200 {
		t.Errorf("afterwards: %+v", got)
	}
}

// FuzzRequest sends bytes as a request and as its body: whatever comes, the
// answer is one of those that there are, and nothing passes that has no digest.
func FuzzRequest(f *testing.F) {
	f.Add("/good", []byte(good))
	f.Add("/all/verify", []byte(`{"image_url":"a@sha256:"}`))
	f.Add("//x/../good/", []byte(`{"image_url":1}`))
	f.Add("/%2e%2e/good", []byte(`[]`))
	metadata, err := check.NewGrafeas(&attesttest.Store{}, "p")
	if err != nil {
		f.Fatal(err)
	}
	a, err := attest.New(attest.Options{
		Project: "p", Registry: resolve.New(), Metadata: metadata, Store: &attesttest.Store{}, DryRun: true,
		Checks: []check.Check{{Name: "good", Run: pass}}, Groups: map[string][]string{"all": {"good"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	h := voucherapi.NewHandler(a, voucherapi.Options{})
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		raw := "POST " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || len(body) == 0 {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 301, 404, 405, 413, 422:
		case 200:
			var got attest.Response
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if _, err := image.ParseDigested(got.Image); err != nil {
				t.Fatalf("an answer about %q", got.Image)
			}
		default:
			t.Fatalf("status %d for %q %q: %s", w.Code, path, body, w.Body)
		}
	})
}

// A deploy as a user lives it: a registry, an image with a scan and a build, the
// configuration of Voucher, and the group "all" of its four checks.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	reg := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(reg.Close)
	repo := strings.TrimPrefix(reg.URL, "http://") + "/team/app"
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{User: "1000"}, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(repo + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := attest.ParseVoucherConfig("config.toml", []byte(`binauth_project = "p"
failon = "high"
valid_repos = ["`+repo+`"]
trusted_builder_identities = ["ci"]
trusted_projects = ["builds"]
checks = { diy = true, nobody = true, snakeoil = true, provenance = true }
gatehouse.scan_wait = 0
`))
	if err != nil {
		t.Fatal(err)
	}
	store := &attesttest.Store{}
	o, err := cfg.Options()
	if err != nil {
		t.Fatal(err)
	}
	o.Store, o.Registry = store, resolve.New(resolve.WithKeychain(authn.NewMultiKeychain()))
	if o.Metadata, err = cfg.Metadata(store); err != nil {
		t.Fatal(err)
	}
	a, err := attest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(voucherapi.NewHandler(a, voucherapi.Options{}))
	t.Cleanup(s.Close)
	body := `{"image_url":"` + repo + "@" + hash.String() + `"}`

	before := do(t, s, "POST", "/all", body).Body
	for _, want := range []string{`"name":"snakeoil","error":"discoveries have not finished processing: no scan of the image is known`, `"error":"no build metadata associated with this image"`, `"success":false,"results"`} {
		if !strings.Contains(before, want) {
			t.Errorf("before scan and build, want %s in %s", want, before)
		}
	}
	uri := "https://" + repo + "@" + hash.String()
	note := &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}
	if _, err := store.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "scan", Note: note}); err != nil {
		t.Fatal(err)
	}
	store.Add("p",
		&grafeas.Occurrence{ResourceUri: uri, NoteName: "projects/p/notes/scan", Kind: grafeas.NoteKind_DISCOVERY, Details: &grafeas.Occurrence_Discovery{
			Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_FINISHED_SUCCESS}}},
		&grafeas.Occurrence{ResourceUri: uri, Kind: grafeas.NoteKind_BUILD, Details: &grafeas.Occurrence_Build{
			Build: &grafeas.BuildOccurrence{Provenance: &grafeas.BuildProvenance{Creator: "ci", ProjectId: "builds", BuiltArtifacts: []*grafeas.Artifact{{Checksum: hash.String()}}}}}},
	)
	var got attest.Response
	if err := json.Unmarshal([]byte(do(t, s, "POST", "/all", body).Body), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Success || len(got.Results) != 4 {
		t.Errorf("after them: %+v", got)
	}
}
