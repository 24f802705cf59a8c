package resolve

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Body: http.NoBody}, nil
}

func TestRequestsOfOneCallAreBounded(t *testing.T) {
	t.Parallel()
	g := &guard{next: answering{}, max: 1}
	req, err := http.NewRequestWithContext(withBudget(t.Context()), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxRequests + 1 {
		resp, err := g.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if want := i == maxRequests; errors.Is(err, ErrEndless) != want {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
}

// seeing remembers what it was sent.
type seeing struct{ authorization []string }

func (s *seeing) RoundTrip(r *http.Request) (*http.Response, error) {
	s.authorization = append(s.authorization, r.Header.Get("Authorization"))
	return &http.Response{Body: http.NoBody}, nil
}

func TestACredentialGoesWhereItWentFirst(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		credential, second string
		want               bool
	}{
		"to the same place":         {"Basic eDp5", "https://registry.example.com/v2/x", true},
		"to its port, written out":  {"Basic eDp5", "https://registry.example.com:443/v2/x", true},
		"to another port":           {"Basic eDp5", "https://registry.example.com:8443/v2/x", false},
		"to a host below":           {"Basic eDp5", "https://a.registry.example.com/v2/x", false},
		"to another host":           {"Basic eDp5", "https://evil.test/v2/x", false},
		"a token, to another host":  {"Bearer t0ken", "https://evil.test/v2/x", false},
		"a token, to the same host": {"Bearer t0ken", "https://registry.example.com/v2/y", true},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			next := &seeing{}
			g := &guard{next: next, max: 1}
			ctx := withBudget(t.Context())
			for _, url := range []string{"https://registry.example.com/v2/", row.second} {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", row.credential)
				resp, err := g.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if req.Header.Get("Authorization") != row.credential {
					t.Error("the request of the caller was changed")
				}
			}
			if next.authorization[0] != row.credential || (next.authorization[1] == row.credential) != row.want {
				t.Errorf("sent %q, want the second %v", next.authorization, row.want)
			}
		})
	}
}

func FuzzMediaType(f *testing.F) {
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
	f.Add("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Fuzz(func(t *testing.T, header string, manifest []byte) {
		desc := &remote.Descriptor{Manifest: manifest}
		desc.MediaType = types.MediaType(header)
		got, err := mediaType(desc)
		if err == nil && got.IsIndex() && got.IsImage() {
			t.Errorf("%q is both", got)
		}
	})
}

func FuzzParsePlace(f *testing.F) {
	f.Add("docker.io/library")
	f.Add("127.0.0.1:5000")
	f.Fuzz(func(t *testing.T, s string) {
		place, err := parsePlace(s)
		if err != nil {
			return
		}
		if again, err := parsePlace(place); err != nil || again != place {
			t.Errorf("%q is read as %q, and that as %q, %v", s, place, again, err)
		}
	})
}
