// Package provenance is the check that a builder of ours built the image.
//
// It reads the records of how the image was built, in every form that package
// check/builds knows, and passes when any one of them names a trusted builder and the
// digest of the image; a Build record must also name a trusted project, which SLSA
// provenance does not have. All must hold in the same record. With keys, only what a
// key has signed counts. Without, who may write BUILD occurrences is for the metadata
// server to say: the check believes them.
package provenance

import (
	"context"
	"errors"
	"slices"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
)

// Name is the name of the check.
const Name = "provenance"

// Settings are what the check is made from. Without builders no image passes, and
// without projects no Build record counts.
type Settings struct {
	// Builders are the creators, and the ids of builders in SLSA provenance, that are
	// trusted, compared exactly.
	Builders []string
	// Projects are the ids of the projects that are trusted to build.
	Projects []string
	// Records reads how images were built.
	Records builds.Reader
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if slices.Contains(s.Builders, "") {
		return check.Check{}, errors.New("trusted_builder_identities: an empty identity would trust builds that name no builder")
	}
	if slices.Contains(s.Projects, "") {
		return check.Check{}, errors.New("trusted_projects: an empty project would trust builds that name no project")
	}
	return check.Check{Name: Name, Doc: Doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		found, err := s.Records.Read(ctx, in)
		if err != nil {
			return check.Result{}, err
		}
		var reasons []string
		for _, b := range found.Builds {
			reason := s.distrust(b)
			if reason == "" {
				return check.Pass(b.String()), nil
			}
			reasons = append(reasons, reason)
		}
		return check.Fail("%s", found.Why(reasons...)), nil
	}}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "A trusted builder built the image",
		Proves: "One record of how the image was built names a trusted builder, and the image's digest among what was built; a Build record must name a trusted project, too. The forms are the Build record of Grafeas, in-toto statements, and SLSA provenance v0.1, v0.2 and v1. With keys in gatehouse.builds.keys the record must be signed by one, and nothing but what was signed is read; without, whoever may write BUILD occurrences is believed.",
		Needs:  []string{"BUILD occurrences", "DSSE_ATTESTATION occurrences, with gatehouse.builds.keys"},
		Settings: []check.Setting{
			{Key: "trusted_builder_identities", Text: "creators of Build records, and ids of builders in SLSA provenance, that are trusted, compared exactly", Default: "none, so that nothing passes"},
			{Key: "trusted_projects", Text: "ids of projects that are trusted to build; SLSA provenance names none", Default: "none, so that no Build record counts"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: builds.None, Do: "have the builder record its provenance for this digest; a record about another digest, or a tag, does not count"},
			{Failure: "builder identity not trusted: B", Do: "build it with a builder in trusted_builder_identities, or add B there, letter by letter as given"},
			{Failure: "builder project not trusted: P", Do: "build it in a project in trusted_projects, or add P there"},
			{Failure: "no built artifact has the digest of this image", Do: "check the image by the digest that the build printed; an image that was copied with changes has another"},
			{Failure: "signed build metadata does not count", Do: "see which key the builder signs with, and name its public half in gatehouse.builds.keys"},
		},
	}
}

// distrust returns why a build does not vouch for the image, or "".
func (s Settings) distrust(b builds.Build) string {
	switch {
	case !slices.Contains(s.Builders, b.Builder):
		return "builder identity not trusted: " + builds.Clip(b.Builder)
	case b.HasProject && !slices.Contains(s.Projects, b.Project):
		return "builder project not trusted: " + builds.Clip(b.Project)
	}
	return ""
}
