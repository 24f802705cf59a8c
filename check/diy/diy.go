// Package diy is the check that an image is in a repository of ours and can be
// pulled: its name is in one of the valid repositories, and its manifests and
// configurations are there and are what its digest says.
//
// A valid repository covers itself and what is beneath it, by whole segments:
// "registry.example/team" covers "registry.example/team/app" and does not cover
// "registry.example/team-evil/app". A registry on its own covers all of it.
package diy

import (
	"context"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
)

// Name is the name of the check.
const Name = "diy"

// Settings are what the check is made from.
type Settings struct {
	// ValidRepos are registries, or repositories and what is beneath them.
	// With none, no image passes.
	ValidRepos []string
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	var valid []prefix
	for _, repo := range s.ValidRepos {
		p, err := parsePrefix(repo)
		if err != nil {
			return check.Check{}, err
		}
		valid = append(valid, p)
	}
	return check.Check{Name: Name, Doc: doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		if !covered(valid, in.Image) {
			return check.Fail("image is not from a valid repo"), nil
		}
		if _, err := in.Registry.Configs(ctx, in.Image); err != nil {
			return check.Result{}, err
		}
		return check.Pass(), nil
	}}, nil
}

func doc() check.Doc {
	return check.Doc{
		Title:  "The image is in a repository of ours and can be pulled",
		Proves: "Passes when the image's name is one of valid_repos or beneath one, by whole segments, and its manifests and configurations can be read and have the digests they are named by. Layers are not read.",
		Needs:  []string{"registry"},
		Settings: []check.Setting{
			{Key: "valid_repos", Text: "registries, or repositories and what is beneath them", Default: "none, so that nothing passes"},
		},
	}
}

// prefix is a valid repository as it was written and in its normalised form.
type prefix struct{ written, normal string }

func parsePrefix(s string) (prefix, error) {
	// Two segments more make a full reference even of a registry alone, and
	// keep Docker Hub's implied "library" out of it.
	const beneath = "/x/y"
	written := strings.TrimSuffix(s, "/")
	ref, err := image.Parse(written + beneath)
	if err != nil || written == "" {
		return prefix{}, fmt.Errorf("valid_repos: %q is not a registry or a repository; write it whole, such as \"registry.example/team\", without scheme, tag or wildcard", s)
	}
	return prefix{written: written, normal: strings.TrimSuffix(ref.Repository(), beneath)}, nil
}

func covered(valid []prefix, ref image.Reference) bool {
	for _, p := range valid {
		if within(ref.Name(), p.written) || within(ref.Repository(), p.normal) {
			return true
		}
	}
	return false
}

func within(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
