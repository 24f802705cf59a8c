package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
)

// follow starts a follower of project p, and returns what is there when it calls,
// unless that is what was there before.
func (f *fixture) follow(source admin.Source) <-chan admin.Policies {
	f.Helper()
	last := ok[admin.Policies](f.T)(admin.Read(f.Context(), source, "p"))
	ctx, cancel := context.WithCancel(f.Context())
	applied, ended := make(chan admin.Policies, 100), make(chan struct{})
	go func() {
		defer close(ended)
		admin.Follow(ctx, source, "p", last.Seq, slog.New(slog.DiscardHandler), func() {
			now, err := admin.Read(ctx, f.svc, "p")
			if err != nil {
				f.Error(err)
			}
			if !cmp.Equal(now.Sources, last.Sources) {
				last = now
				applied <- now
			}
		})
	}()
	f.Cleanup(func() { cancel(); <-ended })
	return applied
}

// names are those of all texts.
func names(p admin.Policies) []string {
	var all []string
	for _, f := range slices.Concat(p.Sources.Policies, p.Sources.Attestors) {
		all = append(all, f.Name)
	}
	return all
}

func TestAFollowerSeesEveryChangeOfItsProject(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	applied := f.follow(f.svc)
	f.attestor("projects/q/attestors/a")
	f.attestor("projects/q/attestors/b")
	ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, "projects/q/policy", change(denyAll))) // another's

	ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, "projects/p/policy", change(requires("projects/q/attestors/a"))))
	p := <-applied
	if d := cmp.Diff([]string{"projects/p/policy, revision 1", "projects/q/attestors/a, revision 1"}, names(p)); d != "" {
		t.Fatal(d)
	}
	if compiled, diags := bundle.Load(p.Sources); compiled == nil || len(compiled.Set) != 1 || compiled.Set[0].Name != "projects/p/policy" || len(compiled.Attestors) != 1 {
		t.Fatal(diags)
	}
	// Of attestors only those that the policy names, or that policies in files do.
	named := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "p", bundle.File{Data: []byte(requires("projects/q/attestors/b"))}))
	if d := cmp.Diff([]string{"projects/p/policy, revision 1", "projects/q/attestors/a, revision 1", "projects/q/attestors/b, revision 1"}, names(named)); d != "" {
		t.Error(d)
	}
	ok[admin.Version](t)(f.UpdateAttestor(ctx, ann, "projects/q/attestors/b", change(someAttestor)))
	ok[admin.Version](t)(f.UpdateAttestor(ctx, ann, "projects/q/attestors/a", change(`{"description": "new", `+someAttestor[1:])))
	if p = <-applied; !slices.Contains(names(p), "projects/q/attestors/a, revision 2") {
		t.Fatalf("applied %+v", p)
	}
	if err := f.DeleteAttestor(ctx, ann, "projects/q/attestors/a", true); err != nil {
		t.Fatal(err)
	}
	if p = <-applied; len(p.Sources.Attestors) != 0 {
		t.Fatalf("applied %+v", p)
	}
	// One that is missing is waited for.
	f.attestor("projects/q/attestors/a")
	if p = <-applied; len(p.Sources.Attestors) != 1 {
		t.Fatalf("applied %+v", p)
	}
	ok[admin.Version](t)(f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/gke", "x", change(`{"gkePolicy": {}}`)))
	if p = <-applied; !slices.Contains(names(p), "projects/p/platforms/gke/policies/x, revision 1") {
		t.Fatalf("applied %+v", p)
	}
	ok[admin.Version](t)(f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/cloudRun", "x", change(`{"gkePolicy": {}}`))) // not for gates
	ok[admin.Version](t)(f.UpdateSystemPolicy(ctx, ann, admin.SystemPolicyName, change(denyAll)))
	if p = <-applied; p.Sources.System == nil {
		t.Fatalf("applied %+v", p)
	}
	ok[admin.Version](t)(f.Rollback(ctx, ann, "projects/p/policy", 1, "", ""))
	if p = <-applied; !slices.Contains(names(p), "projects/p/policy, revision 2") {
		t.Fatalf("applied %+v", p)
	}
	if len(applied) != 0 {
		t.Errorf("applied once more: %+v", <-applied)
	}
}

// TestPlatformPoliciesComeWithTheAttestorsOfTheirProject, who may record uploads: no
// policy names those, and without them images would never be fresh.
func TestPlatformPoliciesComeWithTheAttestorsOfTheirProject(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	const text = `{"gkePolicy": {"checkSets": [{"checks": [{"imageFreshnessCheck": {"maxUploadAgeDays": 3}}]}]}}`
	for _, name := range []string{"projects/p/attestors/a", "projects/p/attestors/gone", "projects/q/attestors/a"} {
		f.attestor(name)
	}
	if err := f.DeleteAttestor(ctx, ann, "projects/p/attestors/gone", false); err != nil {
		t.Fatal(err)
	}
	if p := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "p")); len(p.Sources.Attestors) != 0 {
		t.Errorf("without a platform policy: %q", names(p))
	}
	inFile := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "p", bundle.File{Data: []byte(text)}))
	if d := cmp.Diff([]string{"projects/p/attestors/a, revision 1"}, names(inFile)); d != "" {
		t.Errorf("a policy in a file: %s", d)
	}
	ok[admin.Version](t)(f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/gke", "x", change(text)))
	p := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "p"))
	if d := cmp.Diff([]string{"projects/p/platforms/gke/policies/x, revision 1", "projects/p/attestors/a, revision 1"}, names(p)); d != "" {
		t.Errorf("a stored policy: %s", d)
	}
}

// flaky fails once for each of its methods that reads, and forgets its feed.
type flaky struct {
	*metadata.Service
	failures chan error
}

func (s flaky) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	select {
	case err := <-s.failures:
		return nil, err
	default:
		return s.Service.Changes(ctx, after, limit)
	}
}

func TestAFollowerSurvivesItsSource(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	source := flaky{f.svc, make(chan error, 2)}
	source.failures <- metadata.Errorf(metadata.Unavailable, "away")
	source.failures <- metadata.ErrCompacted
	applied := f.follow(source)
	ok[admin.Version](t)(f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(denyAll)))
	if p := <-applied; p.Empty() {
		t.Fatalf("applied %+v", p)
	}
	if len(source.failures) != 0 {
		t.Error("the source never failed")
	}
	if _, err := admin.Read(t.Context(), broken{f.svc}, "p"); err == nil {
		t.Error("a source that fails reads as one without policies")
	}
}

// broken cannot read documents.
type broken struct{ *metadata.Service }

func (broken) Document(context.Context, string) (*metadata.Document, error) {
	return nil, errors.New("broken")
}
