// Package repositories reads lists of image repositories that a check trusts.
//
// An entry covers itself and what is beneath it, by whole segments:
// "registry.example/team" covers "registry.example/team/app" and does not cover
// "registry.example/team-evil/app". A registry on its own covers all of it.
package repositories

import (
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Set is a list of repositories. The zero Set covers nothing.
type Set struct{ entries []entry }

// entry is a repository as it was written and in its normalised form.
type entry struct{ written, normal string }

// Parse parses a list. key is what the error calls it.
func Parse(key string, list []string) (Set, error) {
	var s Set
	for _, text := range list {
		e, err := parse(text)
		if err != nil {
			return Set{}, fmt.Errorf("%s: %w", key, err)
		}
		s.entries = append(s.entries, e)
	}
	return s, nil
}

func parse(s string) (entry, error) {
	// Two segments more make a full reference even of a registry alone, and
	// keep Docker Hub's implied "library" out of it.
	const beneath = "/x/y"
	written := strings.TrimSuffix(s, "/")
	ref, err := image.Parse(written + beneath)
	if err != nil || written == "" {
		return entry{}, fmt.Errorf("%q is not a registry or a repository; write it whole, such as \"registry.example/team\", without scheme, tag or wildcard", s)
	}
	return entry{written: written, normal: strings.TrimSuffix(ref.Repository(), beneath)}, nil
}

// Covers reports whether the image is in one of the repositories or beneath one.
func (s Set) Covers(ref image.Reference) bool {
	for _, e := range s.entries {
		if within(ref.Name(), e.written) || within(ref.Repository(), e.normal) {
			return true
		}
	}
	return false
}

// String lists the repositories, not too many, or says that there are none.
func (s Set) String() string {
	const most = 10
	if len(s.entries) == 0 {
		return "none"
	}
	words := make([]string, 0, most+1)
	for i, e := range s.entries {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(s.entries)-most))
			break
		}
		words = append(words, e.written)
	}
	return strings.Join(words, ", ")
}

func within(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
