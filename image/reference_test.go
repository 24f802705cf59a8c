package image_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	hexA    = "77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	digestA = "sha256:" + hexA
	digestB = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
)

type parts struct{ Name, Registry, Path, Tag, Digest string }

func partsOf(r image.Reference) parts {
	return parts{r.Name(), r.Registry(), r.Path(), string(r.Tag()), r.Digest().String()}
}

func TestParseSplitsReference(t *testing.T) {
	t.Parallel()
	tests := map[string]parts{
		"nginx":                              {"nginx", "index.docker.io", "library/nginx", "", ""},
		"nginx:1.27":                         {"nginx", "index.docker.io", "library/nginx", "1.27", ""},
		"team/app":                           {"team/app", "index.docker.io", "team/app", "", ""},
		"docker.io/nginx":                    {"docker.io/nginx", "index.docker.io", "library/nginx", "", ""},
		"docker.io/library/nginx":            {"docker.io/library/nginx", "index.docker.io", "library/nginx", "", ""},
		"index.docker.io/team/app":           {"index.docker.io/team/app", "index.docker.io", "team/app", "", ""},
		"registry-1.docker.io/team/app":      {"registry-1.docker.io/team/app", "index.docker.io", "team/app", "", ""},
		"GCR.io/p/i":                         {"GCR.io/p/i", "gcr.io", "p/i", "", ""},
		"gcr.io/p/i@" + digestA:              {"gcr.io/p/i", "gcr.io", "p/i", "", digestA},
		"gcr.io/p/i:v1@" + digestA:           {"gcr.io/p/i", "gcr.io", "p/i", "v1", digestA},
		"localhost/app":                      {"localhost/app", "localhost", "app", "", ""},
		"localhost:5000/app:V_1":             {"localhost:5000/app", "localhost:5000", "app", "V_1", ""},
		"[::1]:5000/app":                     {"[::1]:5000/app", "[::1]:5000", "app", "", ""},
		"[::1]/app:1":                        {"[::1]/app", "[::1]", "app", "1", ""},
		"127.0.0.1:5000/a/b/c":               {"127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c", "", ""},
		"r.io/a.b/c_d/e__f/g-h/i---j":        {"r.io/a.b/c_d/e__f/g-h/i---j", "r.io", "a.b/c_d/e__f/g-h/i---j", "", ""},
		"r.io/p/" + hexA:                     {"r.io/p/" + hexA, "r.io", "p/" + hexA, "", ""},
		"host:443":                           {"host", "index.docker.io", "library/host", "443", ""},
		"r.io/a:" + strings.Repeat("x", 128): {"r.io/a", "r.io", "a", strings.Repeat("x", 128), ""},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			r, err := image.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, partsOf(r)); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
			if r.String() != text {
				t.Errorf("String() = %q, want the text as written", r)
			}
			if got, want := r.Repository(), want.Registry+"/"+want.Path; got != want {
				t.Errorf("Repository() = %q, want %q", got, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                                       "empty",
		" nginx":                                 "component",
		"nginx ":                                 "component",
		"nginx\n":                                "component",
		"nginx:1\n":                              "tag",
		"https://gcr.io/p/i":                     "no scheme",
		"docker://nginx":                         "no scheme",
		"gcr.io/":                                "no repository",
		"gcr.io/P/i":                             "lower-case",
		"Team/app":                               "lower-case",
		"gcr.io//i":                              "empty path component",
		"gcr.io/p/":                              "empty path component",
		"/p/i":                                   "empty path component",
		"gcr.io/p/../i":                          "component",
		"gcr.io/p/-i":                            "component",
		"gcr.io/p/i.":                            "component",
		"gcr.io/a..b":                            "not allowed",
		"gcr.io/a___b":                           "not allowed",
		"gcr.io/a.-b":                            "not allowed",
		"gcr.io/a%2fb":                           "not allowed",
		"gcr.io/аpp":                             "component", // Cyrillic а
		"gcr.io/p/i:":                            "tag after ':' is empty",
		"gcr.io/p/i:-x":                          "not allowed at position 0",
		"gcr.io/p/i:a:b":                         "component",
		"gcr.io/p/i:" + strings.Repeat("x", 129): "more than 128",
		"gcr.io/" + strings.Repeat("x", 256):     "more than 255",
		strings.Repeat("x", 2000):                "more than the",
		"gcr.io/p/i@":                            "must begin with",
		"gcr.io/p/i@latest":                      "must begin with",
		"gcr.io/p/i@sha256:abc":                  "3 characters",
		"gcr.io/p/i@sha512:" + hexA + hexA:       "must begin with",
		"gcr.io/p/i@SHA256:" + hexA:              "must begin with",
		"gcr.io/p/i@sha256:" + strings.ToUpper(hexA): "lower-case hexadecimal",
		"gcr.io/p/i@" + digestA + "@" + digestB:      "characters after",
		"gcr.io/p/i@" + digestA + ":tag":             "characters after",
		"@" + digestA:                                "no repository",
		":tag":                                       "no repository",
		hexA:                                         "ID that one node",
		digestA:                                      "ID that one node",
		"gcr.io./p/i":                                "host name",
		".gcr.io/p":                                  "host name",
		"-a.io/p":                                    "host name",
		"a_b.io/p":                                   "not part of a host name",
		"gcr.io:/p":                                  "port",
		"gcr.io:x/p":                                 "not a number",
		"gcr.io:0/p":                                 "1 to 65535",
		"gcr.io:65536/p":                             "1 to 65535",
		"gcr.io:000443/p":                            "1 to 65535",
		"gcr.io:1:2/p":                               "not a number",
		"[::1/p":                                     "missing ]",
		"[::1]x/p":                                   "unexpected text",
		"[]:1/p":                                     "not an IPv6 address",
		"[fe80::1%25eth0]:1/p":                       "not an IPv6 address",
		"[1.2.3.4]:1/p":                              "not an IPv6 address",
		strings.Repeat("a.", 140) + "io/p":           "registry host has",
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			r, err := image.Parse(text)
			if err == nil {
				t.Fatalf("Parse accepted it as %+v", partsOf(r))
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
			if r != (image.Reference{}) {
				t.Errorf("a refused reference is not zero: %+v", partsOf(r))
			}
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

// What Kritis' payloads say was computed with go-containerregistry.
func TestRepositoryIsThatOfGoContainerregistry(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"nginx", "team/app", "docker.io/team/app", "docker.io/nginx", "index.docker.io/library/nginx", "gcr.io/p/i", "gcr.io/p/i:tag",
		"localhost:5000/app", "europe-docker.pkg.dev/p/r/i", "127.0.0.1:80/a/b",
	} {
		digested := text + "@" + digestA
		want, err := name.NewDigest(digested)
		if err != nil {
			t.Fatal(err)
		}
		r, err := image.ParseDigested(digested)
		if err != nil {
			t.Errorf("ParseDigested(%q): %v", digested, err)
			continue
		}
		if got, want := r.Repository(), want.Context().Name(); got != want {
			t.Errorf("%q: Repository() = %q, go-containerregistry says %q", text, got, want)
		}
	}
}

func TestParseDigestedRequiresDigest(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"nginx", "gcr.io/p/i:v1"} {
		r, err := image.ParseDigested(text)
		if !errors.Is(err, image.ErrNoDigest) {
			t.Errorf("ParseDigested(%q) = %v, want ErrNoDigest", text, err)
		}
		if r != (image.Reference{}) {
			t.Errorf("ParseDigested(%q) returned a reference with its error", text)
		}
	}
	if _, err := image.ParseDigested("gcr.io/P"); err == nil || errors.Is(err, image.ErrNoDigest) {
		t.Errorf("a malformed reference gives %v", err)
	}
	if _, err := image.ParseDigested("gcr.io/p/i:v1@" + digestA); err != nil {
		t.Error(err)
	}
}

func TestParseResourceURI(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"https://gcr.io/p/i@" + digestA, "http://gcr.io/p/i@" + digestA, "gcr.io/p/i@" + digestA, "https://gcr.io/p/i:v1@" + digestA} {
		r, err := image.ParseResourceURI(uri)
		if err != nil {
			t.Errorf("ParseResourceURI(%q): %v", uri, err)
			continue
		}
		if got, want := r.ResourceURI(), "https://gcr.io/p/i@"+digestA; got != want {
			t.Errorf("ParseResourceURI(%q).ResourceURI() = %q, want %q", uri, got, want)
		}
	}
	for _, uri := range []string{"", "https://", "https://gcr.io/p/i", "https://https://gcr.io/p/i@" + digestA, "ftp://gcr.io/p/i@" + digestA} {
		if r, err := image.ParseResourceURI(uri); err == nil {
			t.Errorf("ParseResourceURI(%q) = %q, want an error", uri, r)
		}
	}
	if r, err := image.Parse("gcr.io/p/i:v1"); err != nil || r.ResourceURI() != "" {
		t.Errorf("a tag has resource URI %q (%v), want none", r.ResourceURI(), err)
	}
}

func TestWithDigestReplacesTagAndDigest(t *testing.T) {
	t.Parallel()
	d, err := image.ParseDigest(digestB)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"docker.io/nginx", "docker.io/nginx:1", "docker.io/nginx:1@" + digestA} {
		r, err := image.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.WithDigest(d).String(), "docker.io/nginx@"+digestB; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if got := r.WithDigest(image.Digest{}).String(); got != "docker.io/nginx" {
			t.Errorf("%q with the zero digest: got %q", text, got)
		}
		again, err := image.Parse(r.WithDigest(d).String())
		if err != nil || again != r.WithDigest(d) {
			t.Errorf("%q: WithDigest does not parse to itself: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "nginx", "nginx:1", "gcr.io/p/i:v1@" + digestA, "[::1]:5000/a", "localhost/a", "GCR.IO/a", "a//b", "a@b", ":", "/", "@", hexA, digestA,
		"https://gcr.io/p", "r.io/a__b/c---d", "é.io/a", "docker.io/library/nginx@" + digestA,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := image.Parse(text)
		if err != nil {
			if r != (image.Reference{}) {
				t.Fatalf("Parse(%q) failed and returned a reference", text)
			}
			return
		}
		built := r.Name()
		if r.Tag() != "" {
			built += ":" + string(r.Tag())
		}
		if !r.Digest().IsZero() {
			built += "@" + r.Digest().String()
		}
		if built != text || r.String() != text {
			t.Errorf("Parse(%q): parts make %q, String makes %q", text, built, r)
		}
		for _, c := range []byte(text) {
			if c <= ' ' || c > '~' {
				t.Errorf("Parse(%q) accepted byte %q", text, c)
			}
		}
		normal, err := image.Parse(r.Repository())
		if err != nil {
			t.Fatalf("Repository() %q of %q does not parse: %v", r.Repository(), text, err)
		}
		if normal.Repository() != r.Repository() || normal.Tag() != "" {
			t.Errorf("normalising %q twice: %q, then %q", text, r.Repository(), normal.Repository())
		}
		if uri := r.ResourceURI(); uri != "" {
			back, err := image.ParseResourceURI(uri)
			if err != nil || back.Digest() != r.Digest() || back.Repository() != r.Repository() {
				t.Errorf("resource URI %q does not lead back to %q: %v", uri, text, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := "europe-docker.pkg.dev/my-project/my-repo/service@" + digestA
	for b.Loop() {
		if _, err := image.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
