package image

import (
	"errors"
	"fmt"
	"strings"
)

// A Directory covers the images that reside in a directory of a registry: the
// trustedDirPatterns of platform policies. The zero Directory covers nothing.
//
//	gcr.io/my-project/my-repo         images directly in it
//	gcr.io/my-project/*               … in a directory one level below
//	gcr.io/my-project/**              … in it, or in any directory below
//	gcr.io/my-project/team-*          … in a directory whose name begins so
//	*-docker.pkg.dev/my-project/repo  … in it, in every registry that ends so
//
// A name without a registry, such as "nginx", is in no directory: it is the node
// that chooses the registry for it.
type Directory struct {
	text string
	// suffix is the end of the registry host if that begins with a wildcard,
	// host all of it otherwise.
	host, suffix string
	path         string // what stands before the wildcard, or all of it
	stars        int
}

// ParseDirectory parses a directory pattern. The registry must be two or more
// words with dots between them; a "*" may be the beginning of its subdomain, and
// "*" or "**" the end of the path.
func ParseDirectory(text string) (Directory, error) {
	d, err := parseDirectory(text)
	if err != nil {
		return Directory{}, fmt.Errorf("parsing trusted directory pattern %q: %w", clip(text), err)
	}
	return d, nil
}

func parseDirectory(text string) (Directory, error) {
	d := Directory{text: text}
	if len(text) > maxReference {
		return d, fmt.Errorf("%d characters, more than any reference has", len(text))
	}
	if i := strings.Index(text, "://"); i >= 0 {
		return d, fmt.Errorf("a pattern has no scheme; write it without %q", text[:i+3])
	}
	host, path, _ := strings.Cut(text, "/")
	if err := d.setHost(host); err != nil {
		return d, err
	}
	d.path = strings.TrimRight(path, "*")
	d.stars = len(path) - len(d.path)
	switch {
	case d.stars > len("**"):
		return d, errors.New(`more than "**" at the end`)
	case strings.Contains(d.path, "*"):
		return d, errors.New("a wildcard may stand only at the end of the path")
	case d.stars == 0 && strings.HasSuffix(text, "/"):
		return d, errors.New(`it ends in "/"`)
	}
	complete := d.path
	if d.stars > 0 {
		complete += "0" // what a wildcard completes must be a path: the shortest completion
	}
	if complete == "" {
		return d, nil
	}
	return d, checkRepository(complete)
}

func (d *Directory) setHost(host string) error {
	name, wild := strings.CutPrefix(host, "*")
	switch {
	case host == "":
		return errors.New("it does not begin with a registry")
	case strings.Contains(name, "*"):
		return errors.New("in the registry, one \"*\" may stand, at the beginning")
	case wild && !leavesDomain(name):
		return errors.New("the wildcard may cover only a part of the registry's subdomain, such as in *.gcr.io or *-docker.pkg.dev")
	case !strings.Contains(name, "."):
		return errors.New("the registry must be two or more words with dots between them")
	}
	if !wild {
		d.host = normalHost(host)
		return checkHost(host)
	}
	d.suffix = strings.ToLower(name)
	return checkHost("a" + name)
}

// leavesDomain reports whether what follows a wildcard has the two last words of
// the host whole: ".gcr.io" and "-docker.pkg.dev" do, "pkg.dev" does not.
func leavesDomain(name string) bool {
	_, domain, ok := strings.Cut(name, ".")
	return ok && strings.Contains(domain, ".")
}

// String returns the pattern as it was written.
func (d Directory) String() string { return d.text }

// Match reports whether the image resides in the directory. It never does if
// [Parse] refuses the reference.
func (d Directory) Match(r Reference) bool {
	switch host, _, ok := strings.Cut(r.name, "/"); {
	case !ok || !isHost(host), d.host == "" && d.suffix == "":
		return false
	case d.suffix != "" && !strings.HasSuffix(r.registry, d.suffix):
		return false
	case d.suffix == "" && r.registry != d.host:
		return false
	}
	dir := ""
	if i := strings.LastIndexByte(r.repo, '/'); i >= 0 {
		dir = r.repo[:i]
	}
	rest, ok := strings.CutPrefix(dir, d.path)
	switch d.stars {
	case 0:
		return dir == d.path
	case 1:
		return ok && dir != "" && !strings.Contains(rest, "/")
	}
	return ok || dir == strings.TrimSuffix(d.path, "/") // what is all below a directory is below it directly, too
}
