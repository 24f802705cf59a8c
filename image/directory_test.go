package image_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
)

const directoryDigest = "@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"

func TestDirectoriesCover(t *testing.T) {
	t.Parallel()
	for pattern, test := range map[string]struct{ in, out []string }{
		"gcr.io/my-project/my-repo": {
			in: []string{"gcr.io/my-project/my-repo/app", "gcr.io/my-project/my-repo/app:v1", "gcr.io/my-project/my-repo/app" + directoryDigest, "GCR.IO/my-project/my-repo/app:v1" + directoryDigest},
			out: []string{
				"gcr.io/my-project/my-repo", "gcr.io/my-project/my-repo/sub/app", "gcr.io/my-project/my-repo2/app", "gcr.io/my-project/app",
				"us.gcr.io/my-project/my-repo/app", "evil.example/gcr.io/my-project/my-repo/app", "gcr.io.evil.example/my-project/my-repo/app",
				"gcr.io:443/my-project/my-repo/app", "my-project/my-repo/app",
			},
		},
		"gcr.io/my-project/*": {
			in:  []string{"gcr.io/my-project/a/app", "gcr.io/my-project/b/app:v1"},
			out: []string{"gcr.io/my-project/app", "gcr.io/my-project/a/b/app", "gcr.io/my-project-x/a/app", "gcr.io/other/a/app"},
		},
		"gcr.io/my-project/**": {
			in:  []string{"gcr.io/my-project/app", "gcr.io/my-project/a/app", "gcr.io/my-project/a/b/app" + directoryDigest},
			out: []string{"gcr.io/my-project", "gcr.io/my-project-exploit/app", "gcr.io/my-project-exploit/a/app", "gcr.io/my/project/app"},
		},
		"gcr.io/my-project/team-*": {
			in:  []string{"gcr.io/my-project/team-a/app", "gcr.io/my-project/team-b/app"},
			out: []string{"gcr.io/my-project/team-a/b/app", "gcr.io/my-project/team-a", "gcr.io/my-project/a/app"},
		},
		"gcr.io/my-project/team-**": {
			in:  []string{"gcr.io/my-project/team-a/app", "gcr.io/my-project/team-a/b/app"},
			out: []string{"gcr.io/my-project/team-a", "gcr.io/my-project/a/app"},
		},
		"*-docker.pkg.dev/my-project/my-repo": {
			in:  []string{"us-docker.pkg.dev/my-project/my-repo/app", "europe-west1-docker.pkg.dev/my-project/my-repo/app:v1"},
			out: []string{"us-docker.pkg.dev/my-project/other/app", "docker.pkg.dev/my-project/my-repo/app", "us-docker.pkg.dev.evil.example/my-project/my-repo/app", "us-docker.pkg.dev:5000/my-project/my-repo/app", "evil.example/us-docker.pkg.dev/my-project/my-repo/app"},
		},
		"*.gcr.io/my-project": {
			in:  []string{"us.gcr.io/my-project/app", "EU.gcr.io/my-project/app"},
			out: []string{"gcr.io/my-project/app", "evilgcr.io/my-project/app", "us.gcr.io/my-project/a/app"},
		},
		"*docker.pkg.dev/p/r":             {in: []string{"us-docker.pkg.dev/p/r/app"}, out: []string{"pkg.dev/p/r/app", "us-docker.pkg.devil/p/r/app"}},
		"*.registry.example:5000/team":    {in: []string{"a.registry.example:5000/team/app"}, out: []string{"a.registry.example/team/app", "a.registry.example:50001/team/app"}},
		"registry.example:5000/team/**":   {in: []string{"registry.example:5000/team/app"}, out: []string{"registry.example/team/app"}},
		"docker.io/library":               {in: []string{"docker.io/library/nginx", "index.docker.io/nginx:1"}, out: []string{"nginx", "library/nginx", "nginx" + directoryDigest, "docker.io/team/app"}},
		"docker.io/team/**":               {in: []string{"docker.io/team/app"}, out: []string{"team/app", "docker.io/app"}},
		"gcr.io":                          {in: []string{"gcr.io/app"}, out: []string{"gcr.io/p/app", "app"}},
		"gcr.io/*":                        {in: []string{"gcr.io/p/app"}, out: []string{"gcr.io/app", "gcr.io/p/q/app"}},
		"gcr.io/**":                       {in: []string{"gcr.io/app", "gcr.io/p/app", "gcr.io/p/q/app"}, out: []string{"us.gcr.io/app", "localhost/app"}},
		"*.corp.example/**":               {in: []string{"a.corp.example/x", "a.b.corp.example/x/y"}, out: []string{"corp.example/x"}},
		"xn--bcher-kva.example/p/release": {in: []string{"xn--bcher-kva.example/p/release/app"}, out: []string{"bcher.example/p/release/app"}},
	} {
		d, err := image.ParseDirectory(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if d.String() != pattern {
			t.Errorf("String() of %q is %q", pattern, d)
		}
		for _, text := range test.in {
			if r := mustReference(t, text); !d.Match(r) {
				t.Errorf("%s does not cover %s", pattern, text)
			}
		}
		for _, text := range test.out {
			if r := mustReference(t, text); d.Match(r) {
				t.Errorf("%s covers %s", pattern, text)
			}
		}
	}
	if (image.Directory{}).Match(mustReference(t, "gcr.io/p/app")) || (image.Directory{}).Match(image.Reference{}) {
		t.Error("the zero Directory covers something")
	}
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                                   "does not begin with a registry",
		"/p/r":                               "does not begin with a registry",
		"gcr.i*":                             `one "*" may stand, at the beginning`,
		"sub*domain.gcr.io/nginx":            `one "*" may stand, at the beginning`,
		"*pkg.dev/my-project/my-repo":        "only a part of the registry's subdomain",
		"**-docker.pkg.dev":                  `one "*" may stand, at the beginning`,
		"*":                                  "only a part of the registry's subdomain",
		"**":                                 `one "*" may stand, at the beginning`,
		"*/p":                                "only a part of the registry's subdomain",
		"*.dev/p":                            "only a part of the registry's subdomain",
		"*.":                                 "only a part of the registry's subdomain",
		"*..":                                "not a host name",
		"nginx":                              "two or more words",
		"localhost/p":                        "two or more words",
		"localhost:5000/p":                   "two or more words",
		"p/r":                                "two or more words",
		"https://gcr.io/p":                   "has no scheme",
		"gcr.io/p/":                          `it ends in "/"`,
		"gcr.io/":                            `it ends in "/"`,
		"gcr.io/p/***":                       `more than "**"`,
		"gcr.io/*/r":                         "only at the end",
		"gcr.io/p//r":                        "empty path component",
		"gcr.io/p//**":                       "empty path component",
		"gcr.io//**":                         "empty path component",
		"gcr.io/P":                           "lower-case",
		"gcr.io/p/../r":                      "lower-case letter or a digit",
		"gcr.io/p/r:v1":                      "not allowed",
		"gcr.io/p/r" + directoryDigest:       "not allowed",
		"gcr.io/p/r\x00":                     "lower-case letter",
		"-.gcr.io/p":                         "not a host name",
		"gcr.io:0/p":                         "port must be",
		"*.gcr.io:x/p":                       "is not a number",
		"gcr.io/" + strings.Repeat("a", 800): "more than any reference has",
	} {
		if d, err := image.ParseDirectory(pattern); err == nil || !strings.Contains(err.Error(), want) || d != (image.Directory{}) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
}

func mustReference(t *testing.T, text string) image.Reference {
	t.Helper()
	r, err := image.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzDirectory holds what a pattern covers to a slow reading of its text.
func FuzzDirectory(f *testing.F) {
	f.Add("*-docker.pkg.dev/p/r*", "us-docker.pkg.dev/p/repo/app:v1")
	f.Add("gcr.io/p/**", "gcr.io/p/a/b/c")
	f.Add("docker.io/library", "nginx")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		d, err := image.ParseDirectory(pattern)
		if err != nil && d != (image.Directory{}) {
			t.Fatal("a pattern that is refused is there")
		}
		r, refErr := image.Parse(text)
		got := d.Match(r)
		if err != nil || refErr != nil {
			if got {
				t.Fatalf("%q (%v) covers %q (%v)", pattern, err, text, refErr)
			}
			return
		}
		if want := resides(pattern, text, r); got != want {
			t.Errorf("%q covers %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// resides is the specification of [image.Directory.Match].
func resides(pattern, text string, r image.Reference) bool {
	first, _, hasHost := strings.Cut(text, "/")
	hasHost = hasHost && (strings.ContainsAny(first, ".:") || first == "localhost")
	if !hasHost {
		return false
	}
	host, path, hasPath := strings.Cut(pattern, "/")
	host = strings.ToLower(host)
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = "index.docker.io"
	}
	if end, ok := strings.CutPrefix(host, "*"); ok {
		if !strings.HasSuffix(r.Registry(), end) {
			return false
		}
	} else if r.Registry() != host {
		return false
	}
	parts := strings.Split(r.Path(), "/")
	dir := strings.Join(parts[:len(parts)-1], "/")
	switch {
	case !hasPath:
		return dir == ""
	case strings.HasSuffix(path, "**"):
		prefix := strings.TrimSuffix(path, "**")
		return strings.HasPrefix(dir, prefix) || dir+"/" == prefix
	case strings.HasSuffix(path, "*"):
		prefix := strings.TrimSuffix(path, "*")
		return dir != "" && strings.HasPrefix(dir, prefix) && strings.Count(dir, "/") == strings.Count(prefix, "/")
	}
	return dir == path
}
