// Package provenance is the check that a builder of ours built the image.
//
// It reads the BUILD occurrences of the image and passes when any one of them
// names a trusted builder as its creator and a trusted project, and has, among
// the artifacts it built, one whose checksum is the image's digest. All three
// must hold in the same occurrence. Who may write BUILD occurrences is for the
// metadata server to say: the check believes them.
package provenance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
)

// Name is the name of the check.
const Name = "provenance"

// maxReasons bounds the reasons that a failure lists.
const maxReasons = 5

// Settings are what the check is made from. With either list empty no image
// passes.
type Settings struct {
	// Builders are the creators that are trusted, compared exactly.
	Builders []string
	// Projects are the ids of the projects that are trusted to build.
	Projects []string
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if slices.Contains(s.Builders, "") {
		return check.Check{}, fmt.Errorf("trusted_builder_identities: an empty identity would trust builds that name no builder")
	}
	if slices.Contains(s.Projects, "") {
		return check.Check{}, fmt.Errorf("trusted_projects: an empty project would trust builds that name no project")
	}
	return check.Check{Name: Name, Doc: doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		builds, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_BUILD)
		if err != nil {
			return check.Result{}, err
		}
		if len(builds) == 0 {
			return check.Fail("no build metadata associated with this image"), nil
		}
		var reasons []string
		for _, b := range builds {
			reason := s.distrust(b.GetBuild().GetProvenance(), in.Image.Digest())
			if reason == "" {
				return check.Pass(), nil
			}
			reasons = append(reasons, reason)
		}
		return check.Fail("%s", join(reasons)), nil
	}}, nil
}

func doc() check.Doc {
	return check.Doc{
		Title:  "A trusted builder built the image",
		Proves: "Passes when one BUILD occurrence of the image has a trusted creator, a trusted project, and a built artifact whose checksum is the image's digest.",
		Needs:  []string{"BUILD occurrences"},
		Settings: []check.Setting{
			{Key: "trusted_builder_identities", Text: "creators that are trusted, compared exactly", Default: "none, so that nothing passes"},
			{Key: "trusted_projects", Text: "ids of projects that are trusted to build", Default: "none, so that nothing passes"},
		},
	}
}

// distrust returns why a build does not vouch for the digest, or "".
func (s Settings) distrust(p *grafeas.BuildProvenance, d image.Digest) string {
	switch {
	case p == nil:
		return "build metadata has no provenance"
	case !slices.Contains(s.Builders, p.GetCreator()):
		return "builder identity not trusted: " + clip(p.GetCreator())
	case !slices.Contains(s.Projects, p.GetProjectId()):
		return "builder project not trusted: " + clip(p.GetProjectId())
	case !slices.ContainsFunc(p.GetBuiltArtifacts(), func(a *grafeas.Artifact) bool { return isDigest(a.GetChecksum(), d) }):
		return "no built artifact has the digest of this image"
	}
	return ""
}

// isDigest compares a checksum with the digest. Builders write it with and
// without the algorithm.
func isDigest(checksum string, d image.Digest) bool {
	want := d.String()
	return want != "" && (checksum == want || "sha256:"+checksum == want)
}

// join lists different reasons, in a fixed order.
func join(reasons []string) string {
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	if n := len(reasons); n > maxReasons {
		reasons = append(reasons[:maxReasons:maxReasons], fmt.Sprintf("and %d more reasons", n-maxReasons))
	}
	return strings.Join(reasons, "; ")
}

func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
