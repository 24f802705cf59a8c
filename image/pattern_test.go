package image_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
)

type patternCase struct {
	pattern string
	yes, no []string
}

func checkPatterns(t *testing.T, parse func(string) (image.Pattern, error), cases []patternCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.pattern, func(t *testing.T) {
			t.Parallel()
			p, err := parse(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if p.String() != c.pattern || p.IsZero() {
				t.Errorf("String() = %q", p)
			}
			for _, ref := range c.yes {
				if !p.Match(ref) {
					t.Errorf("does not match %q", ref)
				}
			}
			for _, ref := range c.no {
				if p.Match(ref) {
					t.Errorf("matches %q", ref)
				}
			}
		})
	}
}

func TestBinauthzPatternMatchesBytes(t *testing.T) {
	t.Parallel()
	checkPatterns(t, image.ParseBinauthzPattern, []patternCase{
		{"gcr.io/my-project/nginx*",
			[]string{"gcr.io/my-project/nginx", "gcr.io/my-project/nginx:latest", "gcr.io/my-project/nginx@" + digestA, "gcr.io/my-project/nginx-evil:1"},
			[]string{"gcr.io/my-project/nginx-images/nginx", "gcr.io/my-project/ngin", "GCR.io/my-project/nginx", "https://gcr.io/my-project/nginx"}},
		{"gcr.io/my-project/nginx**",
			[]string{"gcr.io/my-project/nginx-1.14.2/image:latest", "gcr.io/my-project/nginx"}, []string{"gcr.io/my-project/x/nginx"}},
		{"gcr.io/nginx*", []string{"gcr.io/nginx@latest"}, []string{"gcr.io/nginx/image"}},
		{"gcr.io/my-project**", []string{"gcr.io/my-project/nginx", "gcr.io/my-project-exploit/nginx-exploit"}, []string{"gcr.io/my-projec"}},
		{"gcr.io/p/*", []string{"gcr.io/p/a", "gcr.io/p/a:1", "gcr.io/p/"}, []string{"gcr.io/p/a/b", "gcr.io/p", "gcr.io/px/a"}},
		{"gcr.io/p/**", []string{"gcr.io/p/a", "gcr.io/p/a/b@" + digestA}, []string{"gcr.io/p", "gcr.io/px/a"}},
		{"gcr.io/p/hello", []string{"gcr.io/p/hello"}, []string{"gcr.io/p/hello:1.0", "gcr.io/p/hello@" + digestA, "gcr.io/p/hello2", ""}},
		{"gcr.io/p/hello:latest", []string{"gcr.io/p/hello:latest"}, []string{"gcr.io/p/hello", "gcr.io/p/hello:latest@" + digestA}},
		{"gcr.io/p/hello:v1.*", []string{"gcr.io/p/hello:v1.2", "gcr.io/p/hello:v1.2@" + digestA}, []string{"gcr.io/p/hello:v11"}},
		{"gcr.io/p/hello@*", []string{"gcr.io/p/hello@" + digestA}, []string{"gcr.io/p/hello:latest", "gcr.io/p/hello:v1@" + digestA}},
		{"gcr.io/p/hello@" + digestA, []string{"gcr.io/p/hello@" + digestA}, []string{"gcr.io/p/hello@" + digestB, "gcr.io/p/hello:v1@" + digestA}},
		{"asia.gcr.io/google-containers/addon-resizer:*", []string{"asia.gcr.io/google-containers/addon-resizer:1.8"}, []string{"asia.gcr.io/google-containers/addon-resizer"}},
		{"loc-ref", []string{"loc-ref"}, []string{"docker.io/library/loc-ref", "loc-ref:1"}},
		{"nginx*", []string{"nginx:1.27", "nginx"}, []string{"nginx.example.com/evil", "docker.io/library/nginx"}},
		{"nginx**", []string{"nginx:1.27", "nginx", "nginx-x/y:1"}, []string{"nginx.example.com/evil", "nginx.example/evil@" + digestA, "nginx:5000/evil"}},
		{"nginx:1.*", []string{"nginx:1.27"}, []string{"nginx:11"}},
		{"localhost:5000/**", []string{"localhost:5000/a/b"}, []string{"localhost:50000/a"}},
		{"[::1]:5000/app*", []string{"[::1]:5000/app:1"}, []string{"[::1]:5001/app:1"}},
	})
}

func TestBinauthzPatternRefuses(t *testing.T) {
	t.Parallel()
	refuse(t, image.ParseBinauthzPattern, map[string]string{
		"":                                    "empty",
		"*":                                   "wildcard alone",
		"**":                                  "wildcard alone",
		"***":                                 "wildcard alone",
		"gcr.io/p/x***":                       "more than",
		"gcr.io/my-project/n*x":               "only at the end",
		"gcr.io/*/x*":                         "only at the end",
		"*.gcr.io/p/x":                        "only at the end",
		"**/x":                                "only at the end",
		"gcr.i*":                              "registry host",
		"gcr.io*":                             "registry host",
		"gcr.io**":                            "registry host",
		"gcr.io:50*":                          "registry host",
		"localhost*":                          "registry host",
		"localhost:5*":                        "registry host",
		"host:50**":                           "registry host",
		"[::1*":                               "registry host",
		"https://gcr.io/p/*":                  "no scheme",
		" gcr.io/p/*":                         "cannot stand",
		"gcr.io/p/* ":                         "cannot stand",
		"gcr.io/p/\t*":                        "cannot stand",
		"gcr.io/p/\x00":                       "cannot stand",
		"gcr.io/p/é*":                         "cannot stand",
		"gcr.io/p/?":                          "cannot stand",
		"gcr.io/p/[a-z]{2}":                   "cannot stand",
		"/p/*":                                "empty path component",
		"gcr.io//*":                           "empty path component",
		"gcr.io/" + strings.Repeat("x", 1000): "more than any reference",
	})
}

func TestPlatformPatternMatchesParts(t *testing.T) {
	t.Parallel()
	checkPatterns(t, image.ParsePlatformPattern, []patternCase{
		{"reg.io/path/img",
			[]string{"reg.io/path/img", "reg.io/path/img:1", "reg.io/path/img@" + digestA, "reg.io/path/img:1@" + digestA},
			[]string{"reg.io/path/img2", "reg.io/path/img/x", "reg.io/img", "reg.io/path/img:", "reg.io/path/img@sha256:1", ""}},
		{"reg.io/path/img:tag",
			[]string{"reg.io/path/img:tag", "reg.io/path/img:tag@" + digestA},
			[]string{"reg.io/path/img", "reg.io/path/img:tag2", "reg.io/path/img@" + digestA, "reg.io/path/img:TAG"}},
		{"reg.io/path/img:foo*",
			[]string{"reg.io/path/img:foo", "reg.io/path/img:foobar", "reg.io/path/img:foo-1@" + digestA},
			[]string{"reg.io/path/img:fo", "reg.io/path/img", "reg.io/path/img@" + digestA, "reg.io/path/img2:foo"}},
		{"reg.io/path/img@" + digestA,
			[]string{"reg.io/path/img@" + digestA, "reg.io/path/img:any@" + digestA},
			[]string{"reg.io/path/img@" + digestB, "reg.io/path/img", "reg.io/path/img:any"}},
		{"reg.io/path/img:tag@" + digestA,
			[]string{"reg.io/path/img:tag@" + digestA},
			[]string{"reg.io/path/img@" + digestA, "reg.io/path/img:tag", "reg.io/path/img:tag@" + digestB, "reg.io/path/img:other@" + digestA}},
		{"reg.io/path/pre*",
			[]string{"reg.io/path/pre", "reg.io/path/prefix", "reg.io/path/prefix:1", "reg.io/path/prefix@" + digestA, "reg.io/path/pre:1@" + digestA},
			[]string{"reg.io/path/prefix/deeper", "reg.io/path/pr", "reg.io/path/PREFIX", "reg.io/path/prefix@latest"}},
		{"reg.io/path/*", []string{"reg.io/path/a", "reg.io/path/a:1"}, []string{"reg.io/path/a/b", "reg.io/path", "reg.io/path/"}},
		{"reg.io/path/**",
			[]string{"reg.io/path/a", "reg.io/path/a/b/c:1@" + digestA, "reg.io/path/a@" + digestA},
			[]string{"reg.io/path", "reg.io/path2/a", "reg.io/path/", "reg.io/path/A"}},
		{"host:5000/img", []string{"host:5000/img:1"}, []string{"host/img", "host:5001/img"}},
		{"nginx", []string{"nginx", "nginx:1"}, []string{"docker.io/library/nginx", "library/nginx"}},
	})
}

func TestPlatformPatternRefuses(t *testing.T) {
	t.Parallel()
	refuse(t, image.ParsePlatformPattern, map[string]string{
		"":                              "empty",
		"*":                             "wildcard alone",
		"**":                            "wildcard alone",
		"reg.io/path/img:*":             "every tag",
		"reg.io/path/img:**":            `"**" must follow`,
		"reg.io/path/img:foo**":         `"**" must follow`,
		"reg.io/path/pre**":             `"**" must follow`,
		"reg.io/path/img@*":             "digest is matched whole",
		"reg.io/path/img@sha256:ab*":    "digest is matched whole",
		"reg.io/path/img:t*@" + digestA: "only at the end",
		"reg.io/*/img":                  "only at the end",
		"reg.i*":                        "registry host",
		"reg.io/path/PRE*":              "lower-case",
		"reg.io/path/img@sha256:abc":    "characters after",
		"reg.io/path/":                  "empty path component",
		"https://reg.io/path/img":       "no scheme",
		"reg.io/path/img***":            "more than",
		"reg.io/path/a..*":              "not allowed",
	})
}

func refuse(t *testing.T, parse func(string) (image.Pattern, error), cases map[string]string) {
	t.Helper()
	for text, want := range cases {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			p, err := parse(text)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
			if !p.IsZero() || len(err.Error()) > 1000 {
				t.Errorf("zero: %v, error of %d bytes", p.IsZero(), len(err.Error()))
			}
		})
	}
}

func TestZeroPatternMatchesNothing(t *testing.T) {
	t.Parallel()
	var p image.Pattern
	for _, ref := range []string{"", "nginx", "gcr.io/p/i@" + digestA} {
		if p.Match(ref) {
			t.Errorf("matches %q", ref)
		}
	}
}

// TestKritisPatterns has what Kritis itself answers.
func TestKritisPatterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]struct{ yes, no []string }{
		"gcr.io/a/*":   {[]string{"gcr.io/a/b:1", "gcr.io/a/b@" + digestA, "gcr.io/a/"}, []string{"gcr.io/a/b/c", "gcr.io/a", "gcr.io/ab"}},
		"gcr.io/a/b*":  {[]string{"gcr.io/a/b", "gcr.io/a/bc:1"}, []string{"gcr.io/a/b/c", "gcr.io/a/c"}},
		"gcr.io/a/b":   {[]string{"gcr.io/a/b"}, []string{"gcr.io/a/b:1", "gcr.io/a/b@" + digestA, "GCR.io/a/b"}},
		"*":            {[]string{"nginx", "nginx:1", ""}, []string{"a/b"}},
		"a**":          {[]string{"a*", "a*:1"}, []string{"a", "ab", "a/b", "a*/b"}},
		"gcr.io/*/app": {[]string{"gcr.io/*/app"}, []string{"gcr.io/a/app"}},
		"*/app*":       {[]string{"*/app:1"}, []string{"a/app:1"}},
		"nginx":        {[]string{"nginx"}, []string{"docker.io/library/nginx", "nginx:latest"}},
		"gcr.io*":      {[]string{"gcr.io:443"}, []string{"gcr.io/a"}},
		"Ä %s":         {[]string{"Ä %s"}, []string{"ä %s"}},
	} {
		p, err := image.ParseKritisPattern(pattern)
		if err != nil || p.String() != pattern {
			t.Fatalf("%q: %q, %v", pattern, p, err)
		}
		for _, ref := range want.yes {
			if !p.Match(ref) {
				t.Errorf("%q does not cover %q", pattern, ref)
			}
		}
		for _, ref := range want.no {
			if p.Match(ref) {
				t.Errorf("%q covers %q", pattern, ref)
			}
		}
	}
	for _, bad := range []string{"", strings.Repeat("a", 1000)} {
		if p, err := image.ParseKritisPattern(bad); err == nil || !p.IsZero() {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

// FuzzKritisPattern compares with the rule as Kritis writes it: the image begins with
// what stands before the "*", and its last "/" lies within that.
func FuzzKritisPattern(f *testing.F) {
	f.Add("gcr.io/a/*", "gcr.io/a/b:1")
	f.Add("a**", "a*b")
	f.Add("*", "nginx")
	f.Add("x", "x")
	f.Fuzz(func(t *testing.T, pattern, ref string) {
		p, err := image.ParseKritisPattern(pattern)
		if err != nil {
			if pattern != "" && len(pattern) < 700 {
				t.Errorf("%q is refused: %v", pattern, err)
			}
			return
		}
		want := ref == pattern
		if n := len(pattern) - 1; pattern[n] == '*' {
			want = strings.HasPrefix(ref, pattern[:n]) && strings.LastIndexByte(ref, '/') < n
		}
		if p.Match(ref) != want {
			t.Errorf("%q covers %q: %v, want %v", pattern, ref, !want, want)
		}
		if found := image.NewPatternSet([]image.Pattern{p}).Match(ref) == 0; found != want {
			t.Errorf("in a set, %q covers %q: %v, want %v", pattern, ref, found, want)
		}
	})
}

// FuzzPatterns holds both languages to what is true whatever the pattern: a
// match begins with all that stands before the wildcard, so no pattern leaves
// the registry it names, and a platform pattern covers only real references.
func FuzzPatterns(f *testing.F) {
	f.Add("gcr.io/p/*", "gcr.io/p/a:1")
	f.Add("gcr.io/p/**", "gcr.io/p/a/b@"+digestA)
	f.Add("nginx*", "nginx.evil.com/x")
	f.Add("host:50*", "host:5000/x")
	f.Add("reg.io/a:foo*", "reg.io/a:foobar@"+digestA)
	f.Add("reg.io/a@"+digestA, "reg.io/a@"+digestA)
	f.Add("[::1]:5*", "[::1]:5000/x")
	f.Fuzz(func(t *testing.T, pattern, ref string) {
		prefix := strings.TrimRight(pattern, "*")
		if p, err := image.ParseBinauthzPattern(pattern); err == nil {
			if prefix == "" || strings.Contains(prefix, "*") || len(pattern)-len(prefix) > 2 {
				t.Fatalf("accepted %q", pattern)
			}
			if p.Match(ref) && !strings.HasPrefix(ref, prefix) {
				t.Errorf("%q matches %q", pattern, ref)
			}
			if p.Match(ref) && prefix == pattern && ref != pattern {
				t.Errorf("%q without a wildcard matches %q", pattern, ref)
			}
			if again, err := image.ParseBinauthzPattern(p.String()); err != nil || again != p {
				t.Errorf("%q does not parse to itself: %v", pattern, err)
			}
		}
		p, err := image.ParsePlatformPattern(pattern)
		if err != nil {
			return
		}
		if again, err := image.ParsePlatformPattern(p.String()); err != nil || again != p {
			t.Errorf("%q does not parse to itself: %v", pattern, err)
		}
		if p.Match(ref) {
			r, err := image.Parse(ref)
			if err != nil {
				t.Fatalf("%q matches %q, which is no reference: %v", pattern, ref, err)
			}
			if name, _, _ := strings.Cut(prefix, "@"); !strings.HasPrefix(name, r.Name()) && !strings.HasPrefix(r.Name(), name) {
				t.Errorf("%q matches %q of another name", pattern, ref)
			}
		}
	})
}

func BenchmarkBinauthzPattern(b *testing.B) {
	p, err := image.ParseBinauthzPattern("europe-docker.pkg.dev/my-project/**")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !p.Match("europe-docker.pkg.dev/my-project/my-repo/service@" + digestA) {
			b.Fatal("no match")
		}
	}
}
