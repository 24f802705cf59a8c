package builds

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A Repository is where source code is. Its host is in lower case.
type Repository struct {
	Host string
	// Path is the path there, such as "my-org/app". It has no segment that means
	// something else than itself.
	Path string
}

// Owner returns the first segment of the path: the organisation or the user.
func (r Repository) Owner() string {
	owner, _, _ := strings.Cut(r.Path, "/")
	return owner
}

// String returns HOST/PATH.
func (r Repository) String() string { return r.Host + "/" + r.Path }

// maxRepository bounds the URL of a repository.
const maxRepository = 2048

// ParseRepository reads the URL of a repository in the forms that builders and Git
// write: "https://github.com/my-org/app", with "git+" before it and ".git" or a
// revision after it, "ssh://git@github.com/my-org/app" and "git@github.com:my-org/app".
func ParseRepository(s string) (Repository, error) {
	r, err := parseRepository(s)
	if err != nil {
		return Repository{}, fmt.Errorf("source repository %q: %w", Clip(s), err)
	}
	return r, nil
}

func parseRepository(s string) (Repository, error) {
	if len(s) > maxRepository {
		return Repository{}, fmt.Errorf("%d bytes, more than %d", len(s), maxRepository)
	}
	s = strings.TrimPrefix(s, "git+")
	if host, path, ok := strings.Cut(s, ":"); ok && !strings.HasPrefix(path, "//") && !strings.Contains(host, "/") {
		s = "ssh://" + host + "/" + path // as scp writes it
	} else if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(withoutRevision(s))
	if err != nil {
		return Repository{}, errors.New("it is no URL")
	}
	switch u.Scheme {
	case "https", "http", "ssh", "git":
	default:
		return Repository{}, fmt.Errorf("its scheme %q is none that repositories are fetched by", u.Scheme)
	}
	r := Repository{Host: strings.ToLower(u.Host), Path: strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")}
	if u.RawQuery != "" || u.Opaque != "" || u.RawPath != "" {
		return Repository{}, errors.New("it has more than a host and a path")
	}
	if r.Host == "" || !consists(r.Host, ".:") {
		return Repository{}, errors.New("it names no host")
	}
	segments := strings.Split(r.Path, "/")
	if len(segments) < 2 {
		return Repository{}, errors.New("it names no repository of an organisation")
	}
	for _, segment := range segments {
		if segment == "" || segment == "." || segment == ".." || !consists(segment, "._~+") {
			return Repository{}, errors.New("its path is not one that a repository has")
		}
	}
	return r, nil
}

// consists reports whether s has letters, digits, "-" and the characters of more only.
func consists(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

// IsCommit reports whether s is the whole id of a Git commit, in lower case.
func IsCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
