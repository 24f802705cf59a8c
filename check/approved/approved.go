// Package approved is the check that what the image was built from was approved: its
// commit reached a protected branch by a pull request or merge request that was merged
// before the build, that enough people had approved by then, and that was green, and the
// commit is signed.
//
// The commit need not be the newest of its branch: what counts is how it got there, and
// that it still is there. What the host says of a request now is held to the times that
// it gives: an approval after the merge, a merge or a status check after the build were
// not there when they mattered.
package approved

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

// Name is the name of the check.
const Name = "approved"

// Reasons that are Voucher's, as far as they go.
const (
	noHost        = "this check requires a repository client"
	notSigned     = "commit was not signed by a valid key"
	notMerged     = "commit is not a merge commit"
	notApproved   = "the PR associated with this commit does not have the required number of approvals"
	notGreen      = "commit did not pass CI in source code repository"
	notProduction = "commit is not on the production branch"
)

// clockSkew is how far the clocks of a builder and of a host may differ.
const clockSkew = 2 * time.Minute

// Settings are what the check is made from.
type Settings struct {
	// Hosts are asked about commits. With none, no image passes.
	Hosts hosts.Set
	// Records reads how images were built.
	Records builds.Reader
	// Branches are those that a request may have been merged into; none means the
	// default branch of each repository.
	Branches []string
	// MinApprovals is how many people have to approve at least, whatever the host asks
	// for; 0 means 1.
	MinApprovals int
	// FreshApprovals counts only approvals of the last commit of a request.
	FreshApprovals bool
	// Ignored are the names of status checks that need not be green.
	Ignored []string
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if s.MinApprovals < 0 {
		return check.Check{}, fmt.Errorf("min_approvals: %d is not a number of people", s.MinApprovals)
	}
	s.MinApprovals = max(s.MinApprovals, 1)
	return check.Check{Name: Name, Doc: Doc(), Run: s.run}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "What the image was built from was approved",
		Proves: "The commit that a record of the build names has a signature that its host verified, and reached a protected branch, where it still is, as the result of a pull request or merge request. That was merged before the build. By then enough different people had approved it, its author not among them, and nobody asked for changes. Its status checks, of GitHub Actions and all others, were green before the build ended: those that the protection of the branch requires or, when it requires none, all there are. Without branch protection nothing is approved. What the check cannot see is whether the build used that commit: provenance, signed, says so.",
		Needs:  []string{"BUILD occurrences", "the source code host: GitHub or GitLab, with a token or a GitHub App for private repositories"},
		Settings: []check.Setting{
			{Key: "repository.<alias>.org-url", Text: "the organisations, or whole hosts, that are asked", Default: "none, so that nothing passes"},
			{Key: "gatehouse.repository.<alias>", Text: "kind (github or gitlab) and api_url of a host of one's own, and token_file", Default: "as for github.com and gitlab.com"},
			{Key: "gatehouse.approved.branches", Text: "the branches that count", Default: "the default branch of each repository"},
			{Key: "gatehouse.approved.min_approvals", Text: "how many people have to approve, at least; more when the protection of the branch asks for more", Default: "1"},
			{Key: "gatehouse.approved.fresh_approvals", Text: "count only approvals of the last commit of a request", Default: "false: an approval counts until the host takes it back"},
			{Key: "gatehouse.approved.ignored_checks", Text: "names of status checks that need not be green", Default: "none"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: builds.None, Do: "have the builder record its provenance for this digest, with the repository and the whole id of the commit"},
			{Failure: noHost, Do: "set repository.<alias>.org-url to the organisation that the repository belongs to"},
			{Failure: notSigned, Do: "sign commits, or merge on the host, which signs what it merges; the reason says what the host thinks of the signature"},
			{Failure: notMerged, Do: "merge the change by a pull request, and build what that comes to on its branch"},
			{Failure: notProduction, Do: "build from a branch that counts, or add the branch to gatehouse.approved.branches"},
			{Failure: "branch B is not protected", Do: "protect it on the host, so that changes need a request and a review"},
			{Failure: notApproved, Do: "have those who are missing approve before the next merge, and build that: an approval after the merge does not count"},
			{Failure: notGreen, Do: "mend the status checks that it names, and build again; those that say nothing of the change go in gatehouse.approved.ignored_checks"},
		},
	}
}

func (s Settings) run(ctx context.Context, in *check.Input) (check.Result, error) {
	found, err := s.Records.Read(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	if len(found.Builds) == 0 {
		return check.Fail("%s", found.Why()), nil
	}
	if len(s.Hosts) == 0 {
		return check.Fail("%s; set repository.<alias>.org-url to the organisation on its source code host", noHost), nil
	}
	var reasons []string
	var failed error
	for _, b := range found.Builds {
		evidence, reason, err := s.build(ctx, b)
		switch {
		case err != nil:
			failed = err
		case reason == "":
			return check.Pass(evidence...), nil
		default:
			reasons = append(reasons, reason)
		}
	}
	if failed != nil {
		return check.Result{}, failed // another build may be the good one
	}
	return check.Fail("%s", found.Why(reasons...)), nil
}

// build returns why what was built was not approved, or on what it rests that it was.
func (s Settings) build(ctx context.Context, b builds.Build) (evidence []string, reason string, err error) {
	switch {
	case b.Source == builds.Source{}:
		return nil, "build metadata does not tell which one commit was built", nil
	case !builds.IsCommit(b.Source.Commit):
		return nil, fmt.Sprintf("build metadata has %q for a commit, which is not the whole id of one", builds.Clip(b.Source.Commit)), nil
	case b.Time().IsZero():
		return nil, "build metadata does not tell when it was", nil
	}
	repo, err := builds.ParseRepository(b.Source.URL)
	if err != nil {
		return nil, err.Error(), nil //nolint:nilerr // it is the image's fault
	}
	o, ok := s.Hosts.For(repo)
	if !ok {
		return nil, fmt.Sprintf("%s for %q: set repository.<alias>.org-url to its organisation", noHost, repo), nil
	}
	commit, err := o.Of.Commit(ctx, repo, b.Source.Commit)
	if errors.Is(err, hosts.ErrNotFound) {
		return nil, err.Error(), nil
	} else if err != nil {
		return nil, "", err
	}
	if !commit.Signed {
		return nil, fmt.Sprintf("%s: %s says %q of commit %s", notSigned, repo.Host, builds.Clip(commit.Signature), b.Source.Commit), nil
	}
	if bad := s.failed(commit.Runs); bad != "" {
		return nil, fmt.Sprintf("%s: on commit %s, %s", notGreen, b.Source.Commit, bad), nil
	}
	requests, err := o.Of.Requests(ctx, repo, b.Source.Commit)
	if err != nil {
		return nil, "", err
	}
	if len(requests) == 0 {
		return nil, fmt.Sprintf("%s: no pull request or merge request of %s was merged as %s", notMerged, repo, b.Source.Commit), nil
	}
	var reasons []string
	for _, r := range requests {
		j := judge{Settings: s, build: b, repo: repo, request: r}
		reason, err := j.whole(ctx, o.Of, commit.DefaultBranch)
		if err != nil {
			return nil, "", err
		}
		if reason == "" {
			return j.evidence, "", nil
		}
		reasons = append(reasons, reason)
	}
	return nil, builds.Join(reasons), nil
}

// failed names a status check that has failed, and is not ignored. One of the commit that
// has not ended may be that which asks.
func (s Settings) failed(runs []hosts.Run) string {
	for _, r := range runs {
		if r.State == hosts.Failed && !slices.Contains(s.Ignored, r.Name) {
			return fmt.Sprintf("check %q has failed", builds.Clip(r.Name))
		}
	}
	return ""
}

// names lists people or checks, in a fixed order.
func names(list []string) string {
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	const most = 20
	if n := len(list); n > most {
		list = append(list[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return builds.Clip(strings.Join(list, ", "))
}
