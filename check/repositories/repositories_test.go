package repositories_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/repositories"
)

func TestCovers(t *testing.T) {
	t.Parallel()
	s, err := repositories.Parse("key", []string{"gcr.io/team", "docker.io/library", "localhost:5000"})
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]bool{
		"gcr.io/team/app": true, "gcr.io/team": true, "gcr.io/team-evil/app": false, "gcr.io/x": false,
		"nginx": true, "index.docker.io/library/nginx": true, "team/app": false, "localhost:5000/x": true, "localhost:50001/x": false,
	} {
		if s.Covers(checktest.Ref(t, ref)) != want {
			t.Errorf("%q: covered = %v", ref, !want)
		}
	}
	if (repositories.Set{}).Covers(checktest.Ref(t, "nginx")) || (repositories.Set{}).String() != "none" {
		t.Error("the zero Set covers something")
	}
	if got := s.String(); got != "gcr.io/team, docker.io/library, localhost:5000" {
		t.Errorf("listed as %q", got)
	}
	many, err := repositories.Parse("key", strings.Split(strings.Repeat("gcr.io/a ", 12)[:12*9-1], " "))
	if err != nil || !strings.HasSuffix(many.String(), "and 2 more") {
		t.Errorf("%v, %v", many, err)
	}
	if _, err := repositories.Parse("key", []string{"gcr.io/*"}); err == nil || !strings.HasPrefix(err.Error(), "key: ") {
		t.Errorf("err = %v", err)
	}
}
