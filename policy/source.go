package policy

import (
	"errors"
	"fmt"
	"strings"
)

// maxSource bounds the text of a source pattern; URLs of repositories are shorter.
const maxSource = 2048

// A SourcePattern covers source repositories by their URLs without scheme, such as
// "github.com/my-org/app", "github.com/my-org/*" (directly below) or
// "github.com/**" (all below). The zero SourcePattern covers nothing.
type SourcePattern struct {
	text, prefix string
	stars        int
}

// ParseSourcePattern parses a source pattern.
func ParseSourcePattern(text string) (SourcePattern, error) {
	fail := func(why string) (SourcePattern, error) {
		return SourcePattern{}, fmt.Errorf("parsing source repository pattern %.200q: %w", text, errors.New(why))
	}
	prefix := strings.TrimRight(text, "*")
	p := SourcePattern{text: text, prefix: prefix, stars: len(text) - len(prefix)}
	switch {
	case text == "":
		return fail("it is empty")
	case len(text) > maxSource:
		return fail("it is too long")
	case strings.Contains(text, "://"):
		return fail("write the URL without its scheme")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fail("it has characters that no URL has")
	case strings.Contains(prefix, "*"):
		return fail("a wildcard may stand only at the end")
	case p.stars > len("**"):
		return fail(`more than "**" at the end`)
	case p.stars > 0 && !strings.HasSuffix(prefix, "/"):
		return fail(`a wildcard must follow a "/"`)
	case p.stars > 0 && strings.Count(prefix, "/") == len(prefix):
		return fail("a wildcard alone would cover every repository; name a host")
	}
	return p, nil
}

// String returns the pattern as it was written.
func (p SourcePattern) String() string { return p.text }

// Match reports whether the pattern covers a repository's URL, with or without a
// scheme such as "https://" or "git+ssh://", user, revision ("@…") or fragment.
func (p SourcePattern) Match(url string) bool {
	if p.prefix == "" {
		return false
	}
	s := url
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	host, path, hasPath := strings.Cut(s, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:] // user
	}
	path, _, _ = strings.Cut(path, "@")
	s = strings.ToLower(host)
	if hasPath {
		s += "/" + strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
	}
	if hasDots(s) {
		return false
	}
	rest, ok := strings.CutPrefix(s, p.prefix)
	switch {
	case !ok:
		return false
	case p.stars == 0:
		return rest == ""
	case p.stars == 1:
		return rest != "" && !strings.Contains(rest, "/")
	}
	return rest != ""
}

// hasDots reports whether a path has a component that a server might resolve away:
// "a/../b" is not below "a".
func hasDots(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return strings.Contains(s, "%")
}
