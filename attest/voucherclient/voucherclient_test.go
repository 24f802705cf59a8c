package voucherclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/voucherapi"
	"github.com/gatehouse-dev/gatehouse/attest/voucherclient"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func mustParse(t *testing.T, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func newClient(t *testing.T, url string, options ...voucherclient.Option) *voucherclient.Client {
	t.Helper()
	c, err := voucherclient.New(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAndServer(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	store := &attesttest.Store{}
	metadata, err := check.NewGrafeas(store, "p")
	if err != nil {
		t.Fatal(err)
	}
	a, err := attest.New(attest.Options{
		Project: "p", Registry: resolve.New(), Metadata: metadata, Store: store,
		Checks: []check.Check{
			{Name: "good", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Pass(), nil }},
			{Name: "bad", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Fail("it is bad"), nil }},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/prefix/", http.StripPrefix("/prefix", voucherapi.NewHandler(a, voucherapi.Options{RequireAuth: true, Username: "u", PasswordHash: string(hash)})))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	ref := mustParse(t, "gcr.io/a/b:v1@"+digest)
	c := newClient(t, s.URL+"/prefix", voucherclient.WithBasicAuth("u", "hunter2"))

	got, err := c.Check(t.Context(), ref, "good")
	if err != nil || !got.Success || got.Image != ref.String() || len(got.Results) != 1 || !got.Results[0].Success {
		t.Errorf("Check: %+v, %v", got, err)
	}
	got, err = c.Check(t.Context(), ref, "bad")
	if err != nil || got.Success || got.Results[0].Error != "it is bad" {
		t.Errorf("Check of what does not pass: %+v, %v", got, err)
	}
	got, err = c.Verify(t.Context(), ref, "good")
	if err != nil || got.Success {
		t.Errorf("Verify: %+v, %v", got, err)
	}
	var refused *voucherclient.StatusError
	if _, err = c.Check(t.Context(), ref, "nope"); !errors.As(err, &refused) || refused.Status != 404 || !strings.Contains(err.Error(), `"nope" is not active`) {
		t.Errorf("Check of an unknown name: %v", err)
	}
	stranger := newClient(t, strings.Replace(s.URL, "http://", "http://u:wrong@", 1)+"/prefix")
	if _, err = stranger.Check(t.Context(), ref, "good"); !errors.As(err, &refused) || refused.Status != 401 || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	ref := mustParse(t, "gcr.io/a/b@"+digest)
	const good = `{"image":"gcr.io/a/b@` + digest + `","success":true,"results":[]}`
	for about, row := range map[string]struct {
		status     int
		kind, body string
		want       string // empty means that it is one
	}{
		"good":                    {200, "application/json; charset=utf-8", good, ""},
		"JSON with an error":      {500, "application/json", good, "answered 500"},
		"text with 200":           {200, "text/html", "<html>" + good, `of type "text/html"`},
		"no type":                 {200, "", good, "not JSON"},
		"another image":           {200, "application/json", strings.Replace(good, "a/b", "a/c", 1), "another image"},
		"broken JSON":             {200, "application/json", `{"image":`, "reading the answer"},
		"endless":                 {200, "application/json", strings.Repeat(" ", 17<<20), "longer than"},
		"an error that is long":   {500, "text/plain", strings.Repeat("x", 1<<20), "answered 500"},
		"an error without text":   {502, "text/plain", "", "Bad Gateway"},
		"a redirect":              {301, "", "", `redirects to "https://elsewhere.example/"`},
		"success with no content": {204, "application/json", "", "answered 204"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.UserAgent() != voucherclient.UserAgent {
					t.Errorf("%s by %q", r.Method, r.UserAgent())
				}
				w.Header()["Content-Type"] = []string{row.kind}
				if row.status == 301 {
					w.Header().Set("Location", "https://elsewhere.example/")
				}
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			}))
			t.Cleanup(s.Close)
			got, err := newClient(t, s.URL).Check(t.Context(), ref, "all")
			if row.want == "" {
				if err != nil || !got.Success {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			if err == nil || got.Success || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %+v, %v; want %q", got, err, row.want)
			}
			if len(err.Error()) > 2048 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
		})
	}
}

func TestQuestionsThatAreNoneAreNotAsked(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	if _, err := c.Check(t.Context(), mustParse(t, "gcr.io/a/b:v1"), "all"); !errors.Is(err, image.ErrNoDigest) {
		t.Errorf("without digest: %v", err)
	}
	if _, err := c.Check(t.Context(), mustParse(t, "gcr.io/a/b@"+digest), "../all"); err == nil {
		t.Error("a name that is a path: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ctx, mustParse(t, "gcr.io/a/b@"+digest), "all"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"attestor.example", "attestor.example:8000", "http://localhost:8000/", "https://u:p@attestor.example/x"} {
		if _, err := voucherclient.New(url); err != nil {
			t.Errorf("New(%q): %v", url, err)
		}
	}
	for _, url := range []string{"", "ftp://attestor.example", "https://", "https://a.example/?x=1", "https://u:hunter2@a.example:port", "https://u:hunter2@a.example/#x"} {
		if _, err := voucherclient.New(url); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%q): err = %v", url, err)
		}
	}
}
