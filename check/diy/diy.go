// Package diy is the check that an image is in a repository of ours and can be
// pulled: its name is in one of the valid repositories, as package check/repositories
// reads them, and its manifests and configurations are there and are what its digest
// says.
package diy

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/repositories"
)

// Name is the name of the check.
const Name = "diy"

// notValid is Voucher's reason.
const notValid = "image is not from a valid repo"

// Settings are what the check is made from.
type Settings struct {
	// ValidRepos are registries, or repositories and what is beneath them.
	// With none, no image passes.
	ValidRepos []string
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	valid, err := repositories.Parse("valid_repos", s.ValidRepos)
	if err != nil {
		return check.Check{}, err
	}
	return check.Check{Name: Name, Doc: Doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		if !valid.Covers(in.Image) {
			return check.Fail("%s: %q is beneath none of valid_repos, which are: %s", notValid, in.Image.Name(), valid), nil
		}
		if _, err := in.Registry.Configs(ctx, in.Image); err != nil {
			return check.Result{}, err
		}
		return check.Pass(in.Image.Name() + " is in a valid repository, and its manifests and configurations were read"), nil
	}}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image is in a repository of ours and can be pulled",
		Proves: "The image's name is one of valid_repos or beneath one, by whole segments, and its manifests and configurations, for every platform, can be read and have the digests they are named by. Layers are not read.",
		Needs:  []string{"the registry"},
		Settings: []check.Setting{
			{Key: "valid_repos", Text: "registries, or repositories and what is beneath them", Default: "none, so that nothing passes"},
		},
		Fixes: []check.Fix{
			{Failure: notValid, Do: "push the image to one of the repositories that the reason lists, or add its repository to valid_repos"},
			{Failure: "not found in the registry", Do: "see that the image was pushed, all its platforms too, and not deleted"},
			{Failure: "the registry refused access", Do: "log in to the registry as the user that Gatehouse runs as, or give that account the right to pull"},
		},
	}
}
