package image

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// DockerHub is the registry that short names belong to, in the spelling
	// that Kritis and go-containerregistry write into payloads.
	DockerHub = "index.docker.io"

	// Limits of the OCI distribution specification and of DNS.
	maxRepository = 255
	maxTag        = 128
	maxHost       = 255 + 1 + 5

	// maxReference bounds the text looked at: host, repository, tag and digest
	// at their limits, and their separators.
	maxReference = maxHost + 1 + maxRepository + 1 + maxTag + 1 + 71
)

// ErrNoDigest is returned by [Reference.RequireDigest] for a reference that
// names a tag, or nothing at all, where content must be named.
var ErrNoDigest = errors.New("reference has no digest")

// A Tag is a mutable name within a repository. It is never evidence.
type Tag string

// A Reference is a parsed image reference: REPOSITORY, REPOSITORY:TAG,
// REPOSITORY@DIGEST or REPOSITORY:TAG@DIGEST.
type Reference struct {
	raw      string
	name     string // as written, without tag and digest
	registry string
	repo     string
	tag      Tag
	digest   Digest
}

// Parse parses a reference strictly. It refuses a scheme, upper-case
// repositories, digests other than sha256, and text beyond the limits of the
// OCI distribution specification.
func Parse(s string) (Reference, error) {
	r, err := parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("parsing image reference %q: %w", clip(s), err)
	}
	return r, nil
}

func parse(s string) (Reference, error) {
	if s == "" {
		return Reference{}, errors.New("it is empty")
	}
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("%d characters, more than the %d any registry can serve", len(s), maxReference)
	}
	if i := strings.Index(s, "://"); i >= 0 {
		return Reference{}, fmt.Errorf("a reference has no scheme; write it without %q", s[:i+3])
	}
	if isImageID(s) {
		return Reference{}, errors.New("it is the ID that one node gave an image; write REPOSITORY@sha256:…")
	}
	r := Reference{raw: s}
	rest, dig, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		d, err := ParseDigest(dig)
		if err != nil {
			return Reference{}, err
		}
		r.digest = d
	}
	// A colon after the last slash separates a tag; one before it belongs to a port.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		r.tag, rest = Tag(rest[i+1:]), rest[:i]
		if err := checkTag(r.tag); err != nil {
			return Reference{}, err
		}
	}
	r.name, r.registry, r.repo = rest, DockerHub, rest
	if host, path, ok := strings.Cut(rest, "/"); ok && isHost(host) {
		if err := checkHost(host); err != nil {
			return Reference{}, err
		}
		r.registry, r.repo = normalHost(host), path
	}
	if r.registry == DockerHub && r.repo != "" && !strings.Contains(r.repo, "/") {
		r.repo = "library/" + r.repo
	}
	if err := checkRepository(r.repo); err != nil {
		return Reference{}, err
	}
	return r, nil
}

// ParseDigested is [Parse] for the doors that only take a reference with a digest.
func ParseDigested(s string) (Reference, error) {
	r, err := Parse(s)
	if err != nil {
		return Reference{}, err
	}
	if err := r.RequireDigest(); err != nil {
		return Reference{}, err
	}
	return r, nil
}

// ParseResourceURI parses a Grafeas resource URI of a container image: a
// reference with a digest, with or without a leading "https://" (or "http://"),
// in any of the spellings that writers of occurrences use.
func ParseResourceURI(uri string) (Reference, error) {
	s := strings.TrimPrefix(uri, "https://")
	if s == uri {
		s = strings.TrimPrefix(uri, "http://")
	}
	return ParseDigested(s)
}

// String returns the reference exactly as it was written.
func (r Reference) String() string { return r.raw }

// Registry returns the normalised registry host, with its port if it has one.
func (r Reference) Registry() string { return r.registry }

// Path returns the repository within its registry, such as "library/nginx".
func (r Reference) Path() string { return r.repo }

// Repository returns registry and path, the docker-reference of a signed payload.
func (r Reference) Repository() string { return r.registry + "/" + r.repo }

// Name returns the reference as written without its tag and digest.
func (r Reference) Name() string { return r.name }

// Tag returns the tag as written, or "".
func (r Reference) Tag() Tag { return r.tag }

// Digest returns the digest, which is zero when the reference has none.
func (r Reference) Digest() Digest { return r.digest }

// RequireDigest returns an error that wraps [ErrNoDigest] unless r has a digest.
func (r Reference) RequireDigest() error {
	if r.digest.IsZero() {
		return fmt.Errorf("%w: %q names content that can change; write %s@sha256:…", ErrNoDigest, r.raw, r.name)
	}
	return nil
}

// WithDigest returns the reference NAME@d, where NAME is r's name as written. The
// tag is dropped, also when d is zero.
func (r Reference) WithDigest(d Digest) Reference {
	r.tag, r.digest, r.raw = "", d, r.name
	if !d.IsZero() {
		r.raw += "@" + d.String()
	}
	return r
}

// ResourceURI returns the Grafeas resource URI under which Gatehouse, Voucher
// and Kritis file facts about the image: "https://" and the name as written,
// "@" and the digest, without the tag. It returns "" without a digest.
func (r Reference) ResourceURI() string {
	if r.digest.IsZero() {
		return ""
	}
	return "https://" + r.name + "@" + r.digest.String()
}

// isHost tells a registry host from the first component of a Docker Hub path,
// by the rule that Docker set: a host has a dot or a port, or is localhost.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost"
}

// normalHost gives every spelling of a registry the same text: host names do not
// depend on case, and Docker Hub has three of them.
func normalHost(host string) string {
	host = strings.ToLower(host)
	if host == "docker.io" || host == "registry-1.docker.io" {
		return DockerHub
	}
	return host
}

// isImageID reports whether a container runtime would take s for the ID of an
// image that is on the node already, and would not ask any registry.
func isImageID(s string) bool {
	s = strings.TrimPrefix(s, digestPrefix)
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func checkHost(host string) error {
	if len(host) > maxHost {
		return fmt.Errorf("registry host has %d characters, more than %d", len(host), maxHost)
	}
	name, port, hasPort := strings.Cut(host, ":")
	if inner, ok := strings.CutPrefix(host, "["); ok {
		var closed bool
		if name, port, closed = strings.Cut(inner, "]"); !closed {
			return fmt.Errorf("registry host %q: missing ]", host)
		}
		if port, hasPort = strings.CutPrefix(port, ":"); !hasPort && port != "" {
			return fmt.Errorf("registry host %q: unexpected text after ]", host)
		}
		if addr, err := netip.ParseAddr(name); err != nil || !addr.Is6() || addr.Zone() != "" {
			return fmt.Errorf("registry host %q: %q is not an IPv6 address", host, name)
		}
	} else if err := checkHostName(host, name); err != nil {
		return err
	}
	if hasPort {
		return checkPort(host, port)
	}
	return nil
}

func checkHostName(host, name string) error {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("registry host %q is not a host name", host)
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && (c < 'A' || c > 'Z') && c != '-' {
				return fmt.Errorf("registry host %q: %q is not part of a host name", host, c)
			}
		}
	}
	return nil
}

func checkPort(host, port string) error {
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return fmt.Errorf("registry host %q: port %q is not a number", host, port)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || len(port) > 5 {
		return fmt.Errorf("registry host %q: port must be a number from 1 to 65535", host)
	}
	return nil
}

// checkRepository applies the grammar of the OCI distribution specification:
// components of lower-case letters and digits joined by ".", "_", "__" or any
// number of "-".
func checkRepository(repo string) error {
	if repo == "" {
		return errors.New("it has no repository")
	}
	if len(repo) > maxRepository {
		return fmt.Errorf("repository has %d characters, more than %d", len(repo), maxRepository)
	}
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" {
			return fmt.Errorf("repository %q has an empty path component", repo)
		}
		if !isAlnum(part[0]) || !isAlnum(part[len(part)-1]) {
			return fmt.Errorf("repository component %q must begin and end with a lower-case letter or a digit", part)
		}
		for i := 0; i < len(part); {
			if isAlnum(part[i]) {
				i++
				continue
			}
			run := i
			for !isAlnum(part[i]) {
				i++
			}
			switch sep := part[run:i]; {
			case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
			default:
				return fmt.Errorf("repository component %q: %q is not allowed (lower-case letters, digits, and single separators)", part, sep)
			}
		}
	}
	return nil
}

func checkTag(t Tag) error {
	if t == "" {
		return errors.New("the tag after ':' is empty")
	}
	if len(t) > maxTag {
		return fmt.Errorf("tag has %d characters, more than %d", len(t), maxTag)
	}
	for i := range len(t) {
		c := t[i]
		word := isAlnum(c) || (c >= 'A' && c <= 'Z') || c == '_'
		if !word && (i == 0 || (c != '.' && c != '-')) {
			return fmt.Errorf("tag %q: %q is not allowed at position %d", string(t), c, i)
		}
	}
	return nil
}

func isAlnum(c byte) bool { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') }
