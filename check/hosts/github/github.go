// Package github asks GitHub, or a GitHub Enterprise Server, by its REST API.
//
// A token needs to read the contents, pull requests, checks, statuses and metadata of the
// repositories. How branches are protected is read from rulesets, which that is enough
// for, and from classic branch protection, which only administrators may read: where it
// may not be read, it does not count.
package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gogithub "github.com/google/go-github/v89/github"

	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

// API is where the API of github.com is.
const API = "https://api.github.com/"

// A Host is one GitHub. Make it with [New].
type Host struct {
	name   string
	client *gogithub.Client
}

var _ hosts.Host = (*Host)(nil)

// New returns the GitHub whose API is at a URL; "" is github.com's for that host, and
// /api/v3 of another. Its requests are made with the credentials.
func New(host, api string, auth Auth) (*Host, error) {
	switch {
	case api != "":
	case host == "github.com":
		api = API
	default:
		api = "https://" + host + "/api/v3/"
	}
	api = strings.TrimSuffix(api, "/") + "/"
	authorize, err := auth.authorizer(api)
	if err != nil {
		return nil, err
	}
	transport, err := hosts.NewClient(api, authorize)
	if err != nil {
		return nil, err
	}
	client, err := gogithub.NewClient(gogithub.WithHTTPClient(transport), gogithub.WithURLs(&api, &api), gogithub.WithUserAgent(hosts.UserAgent))
	if err != nil {
		return nil, fmt.Errorf("preparing to ask %s: %w", host, err)
	}
	return &Host{name: host, client: client}, nil
}

func split(repo builds.Repository) (owner, name string, err error) {
	owner, name, ok := strings.Cut(repo.Path, "/")
	if !ok || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q is no repository of GitHub", repo)
	}
	return owner, name, nil
}

func (h *Host) explain(about string, resp *gogithub.Response, err error) error {
	if resp != nil && resp.Response != nil && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusUnprocessableEntity) {
		err = hosts.ErrNotFound // 422 is the answer about a commit that is not there
	}
	return hosts.Explain(h.name, about, err)
}

// Owner implements hosts.Host.
func (h *Host) Owner(ctx context.Context, repo builds.Repository) (hosts.Owner, error) {
	r, err := h.repository(ctx, repo)
	if err != nil {
		return hosts.Owner{}, err
	}
	return hosts.Owner{Path: r.GetOwner().GetLogin(), Organization: r.GetOwner().GetType() == "Organization"}, nil
}

func (h *Host) repository(ctx context.Context, repo builds.Repository) (*gogithub.Repository, error) {
	owner, name, err := split(repo)
	if err != nil {
		return nil, err
	}
	r, resp, err := h.client.Repositories.Get(ctx, owner, name)
	if err != nil {
		return nil, h.explain(repo.String(), resp, err)
	}
	return r, nil
}

// Commit implements hosts.Host.
func (h *Host) Commit(ctx context.Context, repo builds.Repository, id string) (hosts.Commit, error) {
	r, err := h.repository(ctx, repo)
	if err != nil {
		return hosts.Commit{}, err
	}
	owner, name, err := split(repo)
	if err != nil {
		return hosts.Commit{}, err
	}
	c, resp, err := h.client.Repositories.GetCommit(ctx, owner, name, id, &gogithub.ListOptions{PerPage: 1})
	if err != nil {
		return hosts.Commit{}, h.explain("commit "+id+" of "+repo.String(), resp, err)
	}
	if c.GetSHA() != id {
		return hosts.Commit{}, hosts.Explain(h.name, "commit "+id+" of "+repo.String(), fmt.Errorf("it answered with commit %q", c.GetSHA()))
	}
	v := c.GetCommit().GetVerification()
	commit := hosts.Commit{Signed: v.GetVerified(), Signature: v.GetReason(), DefaultBranch: r.GetDefaultBranch()}
	commit.Runs, err = h.runs(ctx, owner, name, id)
	return commit, err
}

// pages reads a list to its end.
func pages(read func(gogithub.ListOptions) (*gogithub.Response, error)) error {
	options := gogithub.ListOptions{PerPage: hosts.PageSize}
	for range hosts.MaxPages {
		resp, err := read(options)
		if err != nil {
			return err
		}
		if resp.NextPage == 0 {
			return nil
		}
		options.Page = resp.NextPage
	}
	return fmt.Errorf("the list is longer than %d", hosts.MaxPages*hosts.PageSize)
}

// runs returns the status checks of a commit: those of GitHub Actions and other apps, and
// the older statuses.
func (h *Host) runs(ctx context.Context, owner, name, id string) ([]hosts.Run, error) {
	var runs []hosts.Run
	about := fmt.Sprintf("the status checks of commit %s of %s/%s", id, owner, name)
	err := pages(func(options gogithub.ListOptions) (*gogithub.Response, error) {
		list, resp, err := h.client.Checks.ListCheckRunsForRef(ctx, owner, name, id, &gogithub.ListCheckRunsOptions{ListOptions: options})
		if err != nil {
			return nil, h.explain(about, resp, err)
		}
		for _, r := range list.CheckRuns {
			runs = append(runs, hosts.Run{Name: r.GetName(), State: runState(r.GetStatus(), r.GetConclusion()), At: r.GetCompletedAt().Time})
		}
		return resp, nil
	})
	if err != nil {
		return nil, err
	}
	err = pages(func(options gogithub.ListOptions) (*gogithub.Response, error) {
		list, resp, err := h.client.Repositories.GetCombinedStatus(ctx, owner, name, id, &options)
		if err != nil {
			return nil, h.explain(about, resp, err)
		}
		for _, s := range list.Statuses {
			runs = append(runs, hosts.Run{Name: s.GetContext(), State: statusState(s.GetState()), At: s.GetUpdatedAt().Time})
		}
		return resp, nil
	})
	return runs, err
}

// runState reads how a check run stands. A conclusion that is not known is none that
// passes.
func runState(status, conclusion string) hosts.RunState {
	if status != "completed" {
		return hosts.Pending
	}
	switch conclusion {
	case "success", "neutral", "skipped":
		return hosts.Passed
	}
	return hosts.Failed
}

func statusState(state string) hosts.RunState {
	switch state {
	case "success":
		return hosts.Passed
	case "pending":
		return hosts.Pending
	}
	return hosts.Failed
}

// Requests implements hosts.Host.
func (h *Host) Requests(ctx context.Context, repo builds.Repository, id string) ([]hosts.Request, error) {
	owner, name, err := split(repo)
	if err != nil {
		return nil, err
	}
	var merged []*gogithub.PullRequest
	err = pages(func(options gogithub.ListOptions) (*gogithub.Response, error) {
		list, resp, err := h.client.PullRequests.ListPullRequestsWithCommit(ctx, owner, name, id, &options)
		if err != nil {
			return nil, h.explain("the pull requests of commit "+id+" of "+repo.String(), resp, err)
		}
		for _, p := range list {
			if p.GetMergedAt().IsZero() || p.GetMergeCommitSHA() != id || !strings.EqualFold(p.GetBase().GetRepo().GetFullName(), repo.Path) {
				continue
			}
			merged = append(merged, p)
		}
		return resp, nil
	})
	if err != nil {
		return nil, err
	}
	var requests []hosts.Request
	for _, p := range merged {
		r := hosts.Request{
			Name: fmt.Sprintf("pull request #%d", p.GetNumber()), Author: p.GetUser().GetLogin(), Branch: p.GetBase().GetRef(),
			Merged: p.GetMergedAt().Time, Head: p.GetHead().GetSHA(),
		}
		if r.Reviews, err = h.reviews(ctx, owner, name, p.GetNumber()); err != nil {
			return nil, err
		}
		if r.Runs, err = h.runs(ctx, owner, name, r.Head); err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return requests, nil
}

func (h *Host) reviews(ctx context.Context, owner, name string, number int) ([]hosts.Review, error) {
	var reviews []hosts.Review
	about := fmt.Sprintf("the reviews of pull request #%d of %s/%s", number, owner, name)
	err := pages(func(options gogithub.ListOptions) (*gogithub.Response, error) {
		list, resp, err := h.client.PullRequests.ListReviews(ctx, owner, name, number, &options)
		if err != nil {
			return nil, h.explain(about, resp, err)
		}
		for _, r := range list {
			review := hosts.Review{By: r.GetUser().GetLogin(), At: r.GetSubmittedAt().Time, Commit: r.GetCommitID()}
			switch r.GetState() {
			case "APPROVED":
				review.Verdict = hosts.Approves
			case "CHANGES_REQUESTED":
				review.Verdict = hosts.Refuses
			case "DISMISSED":
			default:
				continue // a comment takes nothing back
			}
			reviews = append(reviews, review)
		}
		return resp, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(reviews, func(a, b hosts.Review) int { return a.At.Compare(b.At) })
	return reviews, h.count(ctx, owner, name, reviews)
}

// count finds out whose approvals count: of those who may write to the repository.
func (h *Host) count(ctx context.Context, owner, name string, reviews []hosts.Review) error {
	may := map[string]bool{}
	for i, r := range reviews {
		if r.Verdict != hosts.Approves || r.By == "" {
			continue
		}
		counts, known := may[r.By]
		if !known {
			level, resp, err := h.client.Repositories.GetPermissionLevel(ctx, owner, name, r.By)
			switch {
			case resp != nil && resp.StatusCode == http.StatusNotFound: // not a user any more
			case err != nil:
				return h.explain(fmt.Sprintf("the permission of %s on %s/%s", r.By, owner, name), resp, err)
			default:
				counts = level.GetPermission() == "write" || level.GetPermission() == "admin"
			}
			may[r.By] = counts
		}
		reviews[i].Counts = counts
	}
	return nil
}

// Branch implements hosts.Host.
func (h *Host) Branch(ctx context.Context, repo builds.Repository, branch, commit string) (hosts.Branch, error) {
	owner, name, err := split(repo)
	if err != nil {
		return hosts.Branch{}, err
	}
	var b hosts.Branch
	if err := h.rulesets(ctx, &b, owner, name, branch); err != nil {
		return hosts.Branch{}, err
	}
	if err := h.classic(ctx, &b, owner, name, branch); err != nil {
		return hosts.Branch{}, err
	}
	c, resp, err := h.client.Repositories.CompareCommits(ctx, owner, name, commit, branch, &gogithub.ListOptions{PerPage: 1})
	if err != nil {
		return hosts.Branch{}, h.explain(fmt.Sprintf("branch %q of %s", branch, repo), resp, err)
	}
	b.Has = c.GetStatus() == "ahead" || c.GetStatus() == "identical" // the branch, seen from the commit
	return b, nil
}

// rulesets reads the rules that rulesets have for a branch.
func (h *Host) rulesets(ctx context.Context, b *hosts.Branch, owner, name, branch string) error {
	return pages(func(options gogithub.ListOptions) (*gogithub.Response, error) {
		rules, resp, err := h.client.Repositories.ListRulesForBranch(ctx, owner, name, url.PathEscape(branch), &options)
		if resp != nil && resp.StatusCode == http.StatusNotFound {
			return &gogithub.Response{}, nil // a server that does not know rulesets
		}
		if err != nil {
			return nil, h.explain(fmt.Sprintf("the rules of branch %q of %s/%s", branch, owner, name), resp, err)
		}
		for _, r := range rules.PullRequest {
			b.Protected, b.Approvals = true, max(b.Approvals, r.Parameters.RequiredApprovingReviewCount)
		}
		for _, r := range rules.RequiredStatusChecks {
			for _, c := range r.Parameters.RequiredStatusChecks {
				b.Runs = append(b.Runs, c.Context)
			}
		}
		return resp, nil
	})
}

// classic reads the branch protection from before rulesets. Who is no administrator may
// not, and then it does not count.
func (h *Host) classic(ctx context.Context, b *hosts.Branch, owner, name, branch string) error {
	p, resp, err := h.client.Repositories.GetBranchProtection(ctx, owner, name, branch)
	switch {
	case errors.Is(err, gogithub.ErrBranchNotProtected):
		return nil
	case resp != nil && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden) && !limited(err):
		b.Why = "its branch protection may not be read with these credentials, which takes an administrator; rulesets may"
		return nil
	case err != nil:
		return h.explain(fmt.Sprintf("the protection of branch %q of %s/%s", branch, owner, name), resp, err)
	}
	if r := p.GetRequiredPullRequestReviews(); r != nil {
		b.Protected, b.Approvals = true, max(b.Approvals, r.RequiredApprovingReviewCount)
	}
	if c := p.GetRequiredStatusChecks(); c != nil {
		if c.Contexts != nil {
			b.Runs = append(b.Runs, *c.Contexts...)
		}
		if c.Checks != nil {
			for _, one := range *c.Checks {
				b.Runs = append(b.Runs, one.Context)
			}
		}
	}
	return nil
}

// limited reports whether an error is that we ask too often.
func limited(err error) bool {
	var primary *gogithub.RateLimitError
	var secondary *gogithub.AbuseRateLimitError
	return errors.As(err, &primary) || errors.As(err, &secondary)
}
