package policy

import (
	"errors"
	"fmt"
	"slices"
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
	p, err := parseSource(text)
	if err != nil {
		return SourcePattern{}, fmt.Errorf("parsing source repository pattern %.200q: %w", text, err)
	}
	return p, nil
}

func parseSource(text string) (SourcePattern, error) {
	prefix := strings.TrimRight(text, "*")
	p := SourcePattern{text: text, stars: len(text) - len(prefix)}
	host, path, hasPath := strings.Cut(prefix, "/")
	switch {
	case text == "":
		return p, errors.New("it is empty")
	case len(text) > maxSource:
		return p, fmt.Errorf("%d characters, more than the %d allowed", len(text), maxSource)
	case strings.Contains(text, "://"):
		return p, errors.New("write the URL without its scheme")
	case strings.Contains(prefix, "*"):
		return p, errors.New("a wildcard may stand only at the end")
	case p.stars > len("**"):
		return p, errors.New(`more than "**" at the end`)
	case p.stars > 0 && prefix == "":
		return p, errors.New("a wildcard alone would cover every repository; name a host")
	case p.stars > 0 && !strings.HasSuffix(prefix, "/"):
		return p, errors.New(`a wildcard must follow a "/"`)
	case host == "" || !consistsOfURL(host, false):
		return p, errors.New("it must begin with the name of a host")
	}
	if p.stars > 0 {
		path += "0" // what a wildcard completes must be a path
	} else {
		path = strings.TrimSuffix(path, ".git")
	}
	if hasPath && !isSourcePath(path) {
		return p, errors.New("its path is not one that a repository has")
	}
	p.prefix = strings.ToLower(host)
	if hasPath {
		p.prefix += "/" + path
	}
	if p.stars > 0 {
		p.prefix = strings.TrimSuffix(p.prefix, "0")
	}
	return p, nil
}

// String returns the pattern as it was written.
func (p SourcePattern) String() string { return p.text }

// sourceSchemes are how repositories are fetched from the host that a URL names;
// "file" is none.
func sourceSchemes() []string {
	return []string{"https", "http", "ssh", "git", "git+https", "git+http", "git+ssh"}
}

// Match reports whether the pattern covers a repository's URL, with or without a
// scheme such as "https://" or "git+ssh://", user, revision ("@…"), query,
// fragment, and ".git". A URL that somebody might read in another way than this is
// covered by nothing.
func (p SourcePattern) Match(url string) bool {
	if p.prefix == "" {
		return false
	}
	name, ok := sourceName(url)
	if !ok {
		return false
	}
	rest, ok := strings.CutPrefix(name, p.prefix)
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

// sourceName returns HOST/PATH of the repository that a URL names.
func sourceName(url string) (name string, ok bool) {
	if len(url) > maxSource {
		return "", false
	}
	rest := url
	if scheme, after, ok := strings.Cut(url, "://"); ok {
		if !slices.Contains(sourceSchemes(), strings.ToLower(scheme)) {
			return "", false
		}
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	host, path, hasPath := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		if !consistsOfURL(host[:i], true) {
			return "", false
		}
		host = host[i+1:]
	}
	if host == "" || !consistsOfURL(host, false) {
		return "", false
	}
	host = strings.ToLower(host)
	if !hasPath || path == "" {
		return host, true
	}
	path, revision, _ := strings.Cut(path, "@")
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
	if !isSourcePath(path) || (revision != "" && !isSourcePath(revision)) {
		return "", false
	}
	return host + "/" + path, true
}

// isSourcePath reports whether a path has only components that mean themselves:
// "a/../b" is not below "a", and "a//b" and "%2e" are whatever a server makes of them.
func isSourcePath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || !consistsOfURL(part, true) {
			return false
		}
	}
	return true
}

// consistsOfURL reports whether all of s may stand in a host, or else in a path,
// where nothing has a meaning of its own.
func consistsOfURL(s string, inPath bool) bool {
	more := "-.:[]"
	if inPath {
		more = "-._~!$&'()+,;=:"
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
