package diy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/diy"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// registry holds every image, or answers with an error.
type registry struct {
	check.Registry
	err error
}

func (r registry) Configs(context.Context, image.Reference, ...resolve.Platform) ([]resolve.Config, error) {
	return []resolve.Config{{}}, r.err
}

func run(t *testing.T, r check.Registry, name string, valid ...string) (check.Result, error) {
	t.Helper()
	c, err := diy.New(diy.Settings{ValidRepos: valid})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.Parse(name + digest)
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(t.Context(), &check.Input{Image: ref, Registry: r})
}

func TestB3_ValidReposCoverWholeSegments(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, valid string
		want        bool
	}{
		{"gcr.io/team/app", "gcr.io/team", true},
		{"gcr.io/team/app", "gcr.io/team/", true},
		{"gcr.io/team/app", "gcr.io/team/app", true},
		{"gcr.io/team/a/b", "gcr.io/team", true},
		{"gcr.io/team/app:v1", "gcr.io/team", true},
		{"gcr.io/team/app", "gcr.io", true},
		{"gcr.io/team-evil/app", "gcr.io/team", false},
		{"gcr.io/teams", "gcr.io/team", false},
		{"gcr.io.evil.example/team/app", "gcr.io", false},
		{"gcr.io:5000/team/app", "gcr.io", false},
		{"localhost:5000/app", "localhost:5000", true},
		{"localhost:50001/app", "localhost:5000", false},
		{"evil.example/gcr.io/team/app", "gcr.io/team", false},
		{"gcr.io/team", "gcr.io/team/app", false},
		// Docker Hub in its spellings.
		{"nginx", "nginx", true},
		{"nginx", "docker.io/library", true},
		{"docker.io/library/nginx", "index.docker.io/library/nginx", true},
		{"team/app", "docker.io/team", true},
		{"team/app", "docker.io", true},
		{"team/app", "team", true},
		{"teamster/app", "team", false},
		{"gcr.io/team/app", "docker.io", false},
	} {
		got, err := run(t, registry{}, row.name, row.valid)
		if err != nil || got.Passed() != row.want {
			t.Errorf("%q in valid_repos %q: passed = %v, %v; want %v", row.name, row.valid, got.Passed(), err, row.want)
		}
		if !row.want && !strings.HasPrefix(got.Reason(), "image is not from a valid repo: ") {
			t.Errorf("%q: reason = %q", row.name, got.Reason())
		}
	}
}

func TestNoValidReposPassNothing(t *testing.T) {
	t.Parallel()
	if got, err := run(t, registry{}, "gcr.io/team/app"); err != nil || got.Passed() {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestAnImageThatCannotBeReadDoesNotPass(t *testing.T) {
	t.Parallel()
	got, err := run(t, registry{err: resolve.ErrNotFound}, "gcr.io/team/app", "gcr.io/team")
	if !errors.Is(err, resolve.ErrNotFound) || got.Passed() {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestNewRefusesWhatIsNoRepository(t *testing.T) {
	t.Parallel()
	for _, valid := range []string{"", "/", " ", "https://gcr.io/team", "gcr.io/team:v1", "gcr.io/team" + digest, "gcr.io/team-", "gcr.io/*", "gcr.io/Team", "gcr.io//team"} {
		if _, err := diy.New(diy.Settings{ValidRepos: []string{valid}}); err == nil || !strings.Contains(err.Error(), "valid_repos") {
			t.Errorf("valid_repos %q: err = %v", valid, err)
		}
	}
}
