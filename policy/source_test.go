package policy_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy"
)

func TestSourcePatternsCover(t *testing.T) {
	t.Parallel()
	for pattern, urls := range map[string][]string{
		"source.cloud.google.com/p/r": {
			"source.cloud.google.com/p/r", "git+ssh://source.cloud.google.com/p/r", "https://source.cloud.google.com/p/r",
			"https://source.cloud.google.com/p/r.git", "https://source.cloud.google.com/p/r/", "HTTPS://Source.Cloud.Google.com/p/r",
			"ssh://git@source.cloud.google.com/p/r", "git+https://source.cloud.google.com/p/r@refs/heads/main", "https://source.cloud.google.com/p/r#0123abcd",
			"https://source.cloud.google.com/p/r?at=v1", "https://user:secret@source.cloud.google.com/p/r",
		},
		"Source.Cloud.Google.com/p/r.git": {"https://source.cloud.google.com/p/r", "source.cloud.google.com/p/r.git"},
		"github.com/my-project/*":         {"github.com/my-project/a", "https://github.com/my-project/b.git"},
		"github.com/**":                   {"github.com/a/b", "https://github.com/a", "github.com/a/b/c"},
		"git.example:8443/a/*":            {"https://git.example:8443/a/b"},
	} {
		p, err := policy.ParseSourcePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != pattern {
			t.Errorf("String() of %q is %q", pattern, p)
		}
		for _, url := range urls {
			if !p.Match(url) {
				t.Errorf("%s does not cover %s", pattern, url)
			}
		}
	}
}

func TestSourcePatternsDoNotCover(t *testing.T) {
	t.Parallel()
	for pattern, urls := range map[string][]string{
		"github.com/org/app": {
			"", "github.com", "github.com/", "github.com/org", "github.com/org/app2", "github.com/org/app/sub", "github.com/Org/app", "gitlab.com/org/app",
			"https://evil.example/github.com/org/app", "https://github.com.evil.example/org/app", "https://evil.example#@github.com/org/app",
			"https://evil.example?@github.com/org/app", `https://evil.example\@github.com/org/app`, "https://github.com@evil.example/org/app",
			"file://github.com/org/app", "javascript://github.com/org/app", "https://https://github.com/org/app", "://github.com/org/app",
			"https://github.com:8443/org/app", "https://github.com//org/app", "https://github.com/org//app", "https://github.com/org/./app",
			"https://github.com/evil/../org/app", "https://github.com/evil%2f..%2forg/app", "https://github.com/org/app@x/../../../evil/app",
			"https://github.com/org/app\x00", "https://github.com/org/app evil", "https:///github.com/org/app", " github.com/org/app",
			"https://a\tb@github.com/org/app", "git@github.com:org/app",
		},
		"github.com/org/*": {"github.com/org", "github.com/org/", "github.com/org/a/b", "github.com/org/../evil", "github.com/org/.", "github.com/organisation/a", "github.com/org/*/x"},
		"github.com/**":    {"github.com", "https://github.com/", "github.community/a", "https://x.github.com/a"},
	} {
		p, err := policy.ParseSourcePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range urls {
			if p.Match(url) {
				t.Errorf("%s covers %q", pattern, url)
			}
		}
	}
	if (policy.SourcePattern{}).Match("github.com/org/app") || (policy.SourcePattern{}).Match("") {
		t.Error("the zero pattern covers something")
	}
}

func TestSourcePatternsThatAreRefused(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                              "it is empty",
		"https://github.com/org/app":    "without its scheme",
		"*":                             "would cover every repository",
		"**":                            "would cover every repository",
		"/*":                            "begin with the name of a host",
		"//**":                          "begin with the name of a host",
		"github.com*":                   `must follow a "/"`,
		"github.com/org**":              `must follow a "/"`,
		"github.com/org/***":            `more than "**"`,
		"github.com/*/app":              "only at the end",
		"git@github.com/org/app":        "begin with the name of a host",
		"github.com/org/app@main":       "its path is not one",
		"github.com/org//app":           "its path is not one",
		"github.com//**":                "its path is not one",
		"github.com/org/../app":         "its path is not one",
		"github.com/org/app#x":          "its path is not one",
		"github.com/org/app?x":          "its path is not one",
		"github.com/org/%61pp":          "its path is not one",
		"github.com/org/":               "its path is not one",
		"github.com/org/a b":            "its path is not one",
		strings.Repeat("a", 2049):       "2049 characters",
		"github.com/" + "é":             "its path is not one",
		"github.com/org/app\x1b[31m/**": "its path is not one",
	} {
		if p, err := policy.ParseSourcePattern(pattern); err == nil || !strings.Contains(err.Error(), want) || p != (policy.SourcePattern{}) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
}

// FuzzSourcePattern holds what a pattern covers to what its text says.
func FuzzSourcePattern(f *testing.F) {
	f.Add("github.com/org/*", "https://github.com/org/app.git@refs/heads/main")
	f.Add("github.com/**", "git+ssh://git@github.com/a/../b")
	f.Add("source.cloud.google.com/p/r", "https://source.cloud.google.com/p/r?x#y")
	f.Fuzz(func(t *testing.T, pattern, url string) {
		p, err := policy.ParseSourcePattern(pattern)
		if err != nil {
			if p.Match(url) {
				t.Fatal("a pattern that is refused covers something")
			}
			return
		}
		host, _, _ := strings.Cut(strings.ToLower(strings.TrimRight(pattern, "*")), "/")
		if p.Match(url) && !strings.Contains(strings.ToLower(url), host) {
			t.Errorf("%q covers %q, which does not name its host", pattern, url)
		}
		if p.Match(url) && (strings.Contains(url, "/../") || strings.ContainsAny(url[:strings.IndexAny(url+"#", "#?")], "\\% \x00")) {
			t.Errorf("%q covers %q", pattern, url)
		}
		if !strings.HasSuffix(pattern, "*") && !p.Match(pattern) {
			t.Errorf("%q does not cover itself", pattern)
		}
		if prefix, ok := strings.CutSuffix(pattern, "/*"); ok {
			wider, err := policy.ParseSourcePattern(prefix + "/**")
			if err != nil || (p.Match(url) && !wider.Match(url)) {
				t.Errorf("** covers less than * in %q of %q (%v)", pattern, url, err)
			}
		}
	})
}
