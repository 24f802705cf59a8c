package image

import (
	"errors"
	"fmt"
	"strings"
)

// A Pattern matches image references as they are written. The zero Pattern
// matches nothing. [ParseBinauthzPattern] and [ParsePlatformPattern] read the
// two languages of Binary Authorization, which differ and are kept apart, and
// [ParseKritisPattern] that of Kritis.
// Patterns are values and may be compared.
type Pattern struct {
	text   string
	match  matcher
	prefix string // of the text (textPrefix, textDirPrefix) or of the name
	tag    string
	digest Digest
	// anyTag lets every tag by, tagPrefix those that begin with tag.
	anyTag, tagPrefix bool
}

// A matcher says how a Pattern compares. The zero matcher never matches.
type matcher uint8

const (
	textEqual     matcher = iota + 1 // the text is prefix
	textPrefix                       // the text begins with prefix
	textDirPrefix                    // … and has no "/" after it
	nameEqual                        // the name is prefix; tag and digest are compared too
	namePrefix                       // the name begins with prefix
	nameDirPrefix                    // … and has no "/" after it
)

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// IsZero reports whether p is the zero Pattern, which matches nothing.
func (p Pattern) IsZero() bool { return p.match == 0 }

// Match reports whether the pattern covers the reference as written. None covers
// text that is longer than any reference, and a pattern of a platform policy none
// that [Parse] refuses.
func (p Pattern) Match(ref string) bool {
	if len(ref) > maxReference {
		return false
	}
	switch p.match {
	case textEqual:
		return ref == p.prefix
	case textPrefix:
		return strings.HasPrefix(ref, p.prefix) && !p.extendsHost(ref)
	case textDirPrefix:
		return hasDirPrefix(ref, p.prefix)
	case nameEqual, namePrefix, nameDirPrefix:
		r, err := Parse(ref)
		return err == nil && p.matchParts(r)
	}
	return false
}

func (p Pattern) matchParts(r Reference) bool {
	switch p.match {
	case namePrefix:
		return strings.HasPrefix(r.name, p.prefix)
	case nameDirPrefix:
		return hasDirPrefix(r.name, p.prefix)
	}
	if r.name != p.prefix || (!p.digest.IsZero() && r.digest != p.digest) {
		return false
	}
	tag := string(r.tag)
	return p.anyTag || tag == p.tag || (p.tagPrefix && strings.HasPrefix(tag, p.tag))
}

// extendsHost reports whether the wildcard of a pattern without "/", such as
// "nginx**", would cover a part of the registry host in ref, such as
// "nginx.example/x": a wildcard never stands in a host.
func (p Pattern) extendsHost(ref string) bool {
	if strings.Contains(p.prefix, "/") {
		return false
	}
	first, _, more := strings.Cut(ref, "/")
	return more && isHost(first)
}

func hasDirPrefix(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	return ok && !strings.Contains(rest, "/")
}

// ParseBinauthzPattern parses an exempt pattern of a project's policy
// (admissionWhitelistPatterns). It is compared with the reference byte for byte;
// a "*" at its end stands for any text without "/", and "**" for any text. So a
// plain name covers neither its tags nor its digests: NAME:* covers the tags, and
// NAME@* the digests.
func ParseBinauthzPattern(text string) (Pattern, error) {
	fail := func(err error) (Pattern, error) {
		return Pattern{}, fmt.Errorf("parsing image pattern %q: %w", clip(text), err)
	}
	prefix, stars, err := splitWildcard(text)
	if err != nil {
		return fail(err)
	}
	p := Pattern{text: text, prefix: prefix}
	switch stars {
	case 0:
		p.match = textEqual
	case 1:
		p.match = textDirPrefix
	default:
		p.match = textPrefix
	}
	return p, nil
}

// ParseKritisPattern parses a pattern of the admissionAllowlistPatterns of Kritis. It
// is compared with the reference byte for byte; one "*" at its end stands for any
// text without "/", and nothing else has a meaning: a "*" before that one is a
// character like any other, so that "x**" covers only what begins with "x*". "*" alone
// covers every reference without "/". Only an empty pattern is refused, and one that
// is longer than any reference.
func ParseKritisPattern(text string) (Pattern, error) {
	if text == "" {
		return Pattern{}, errors.New(`parsing image pattern "": it is empty`)
	}
	if len(text) > maxReference+len("*") {
		return Pattern{}, fmt.Errorf("parsing image pattern %q: %d characters, more than any reference has", clip(text), len(text))
	}
	if prefix, wild := strings.CutSuffix(text, "*"); wild {
		return Pattern{text: text, match: textDirPrefix, prefix: prefix}, nil
	}
	return ExactPattern(text), nil
}

// ParsePlatformPattern parses an allow pattern of a platform policy. The reference
// is first split into its name, tag and digest:
//
//	reg/path/img              that name, with any tag or digest
//	reg/path/img:tag          that tag, with any digest or none
//	reg/path/img:foo*         tags that begin with foo
//	reg/path/img@sha256:…     that digest, with any tag or none
//	reg/path/img:tag@sha256:… both
//	reg/path/pre*             names that begin so and go no deeper, any tag or digest
//	reg/path/**               all names below, any tag or digest
func ParsePlatformPattern(text string) (Pattern, error) {
	p, err := parsePlatform(text)
	if err != nil {
		return Pattern{}, fmt.Errorf("parsing image pattern %q: %w", clip(text), err)
	}
	return p, nil
}

func parsePlatform(text string) (Pattern, error) {
	prefix, stars, err := splitWildcard(text)
	if err != nil {
		return Pattern{}, err
	}
	if stars == 0 {
		r, err := parse(prefix)
		if err != nil {
			return Pattern{}, err
		}
		return Pattern{text: text, match: nameEqual, prefix: r.name, tag: string(r.tag), anyTag: r.tag == "", digest: r.digest}, nil
	}
	if strings.Contains(prefix, "@") {
		return Pattern{}, errors.New("a digest is matched whole; take the wildcard away, or the digest")
	}
	// What a wildcard completes must be a reference: try the shortest completion.
	r, err := parse(prefix + "0")
	if err != nil {
		return Pattern{}, err
	}
	inTag := r.tag != ""
	switch {
	case stars == 2 && !strings.HasSuffix(prefix, "/"):
		return Pattern{}, errors.New(`"**" must follow a "/"`)
	case stars == 2:
		return Pattern{text: text, match: namePrefix, prefix: prefix}, nil
	case inTag && strings.HasSuffix(prefix, ":"):
		return Pattern{}, errors.New("the wildcard stands for every tag; a name without tag does that")
	case inTag:
		return Pattern{text: text, match: nameEqual, prefix: r.name, tag: strings.TrimSuffix(string(r.tag), "0"), tagPrefix: true}, nil
	}
	return Pattern{text: text, match: nameDirPrefix, prefix: prefix}, nil
}

// splitWildcard checks what the two languages have in common, and splits a
// pattern into what stands before its wildcard and the length of that.
func splitWildcard(text string) (prefix string, stars int, err error) {
	if text == "" {
		return "", 0, errors.New("it is empty")
	}
	if len(text) > maxReference+len("**") {
		return "", 0, fmt.Errorf("%d characters, more than any reference has", len(text))
	}
	for i := range len(text) {
		if c := text[i]; !isAlnum(c) && (c < 'A' || c > 'Z') && !strings.ContainsRune("._-/:@[]*", rune(c)) {
			return "", 0, fmt.Errorf("%q at position %d cannot stand in an image reference", c, i)
		}
	}
	if i := strings.Index(text, "://"); i >= 0 {
		return "", 0, fmt.Errorf("a pattern has no scheme; write it without %q", text[:i+3])
	}
	prefix = strings.TrimRight(text, "*")
	stars = len(text) - len(prefix)
	switch {
	case prefix == "":
		return "", 0, errors.New("a wildcard alone would cover every image of every registry; name a registry and a path")
	case stars > len("**"):
		return "", 0, errors.New(`more than "**" at the end`)
	case strings.Contains(prefix, "*"):
		return "", 0, errors.New("a wildcard may stand only at the end")
	case prefix[0] == '/' || strings.Contains(prefix, "//"):
		return "", 0, errors.New("it has an empty path component")
	case stars > 0 && endsInHost(prefix, stars):
		return "", 0, errors.New("a wildcard may not stand in the registry host; write the whole host and a \"/\" before it")
	}
	return prefix, stars, nil
}

// endsInHost reports whether a wildcard after prefix would extend a registry
// host. A first component that only "*" follows, such as "nginx", is a name of
// Docker Hub, because "*" stops at "/". "nginx:1." ends in a tag.
func endsInHost(prefix string, stars int) bool {
	if strings.Contains(prefix, "/") {
		return false
	}
	if prefix[0] == '[' {
		return true
	}
	name, _, hasColon := strings.Cut(prefix, ":")
	return strings.Contains(name, ".") || name == "localhost" || (hasColon && stars == len("**"))
}
