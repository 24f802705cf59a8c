package hosts_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://github.com/my-org": "github.com my-org", "https://GitHub.com/My-Org/": "github.com My-Org", "https://github.com": "github.com ",
		"https://gitlab.com/a/b": "gitlab.com a/b", "https://git.example:8443/x": "git.example:8443 x",
		"": "", "github.com/my-org": "", "http://github.com/my-org": "", "https://": "", "https://github.com/a/../b": "", "https://github.com/a?b": "", "https://u@github.com/a": "", "https://github.com/%2e%2e": "",
	} {
		o, err := hosts.ParseURL("us", url)
		if (err == nil) != (want != "") || err == nil && o.Host+" "+o.Path != want {
			t.Errorf("%q: %q %q, %v; want %q", url, o.Host, o.Path, err, want)
		}
	}
}

func TestForAnswersWithTheNearest(t *testing.T) {
	t.Parallel()
	var set hosts.Set
	for alias, url := range map[string]string{"host": "https://github.com", "org": "https://github.com/my-org", "group": "https://gitlab.com/a", "team": "https://gitlab.com/a/b"} {
		o, err := hosts.ParseURL(alias, url)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, o)
	}
	want := map[string]string{
		"github.com/my-org/app": "org", "github.com/My-Org/app": "org", "github.com/my-org-evil/app": "host", "github.com/x/y": "host",
		"gitlab.com/a/x": "group", "gitlab.com/a/b/x": "team", "gitlab.com/a/bc/x": "group", "gitlab.com/x/y": "", "git.example/my-org/app": "",
	}
	got := map[string]string{}
	for s := range want {
		repo, err := builds.ParseRepository(s)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := set.For(repo)
		got[s] = o.Alias
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("organisations (-want +got):\n%s", diff)
	}
}

func TestHas(t *testing.T) {
	t.Parallel()
	o := hosts.Organization{Path: "my-org"}
	for owner, want := range map[string]bool{"my-org": true, "MY-ORG": true, "my-org/team": true, "my-org-evil": false, "my": false, "": false} {
		if o.Has(owner) != want {
			t.Errorf("%q: %v", owner, !want)
		}
	}
	if (hosts.Organization{}).Has("") {
		t.Error("no organisation has nobody")
	}
}

func TestAnAnswerWithoutEndIsAnError(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 40 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	client, err := hosts.NewClient(s.URL, func(*http.Request) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("err = %v", err)
	}
}

func TestARedirectToPlainHTTPIsRefused(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.RedirectHandler("http://git.example/x", http.StatusFound))
	defer s.Close()
	client, err := hosts.NewClient(s.URL, func(*http.Request) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(s.URL)
	if err == nil {
		_ = resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "which is not HTTPS") {
		t.Errorf("err = %v", err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	long := errors.New(strings.Repeat("x", 1000) + "\n\xff")
	if text := hosts.Explain("h", "a", long).Error(); len(text) > 300 || strings.Contains(text, "\n") {
		t.Errorf("%q", text)
	}
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, hosts.ErrNotFound, long} {
		if got := hosts.Explain("h", "a", err); !errors.Is(got, err) || !strings.HasPrefix(got.Error(), "asking h about a: ") {
			t.Errorf("%v", got)
		}
	}
}
