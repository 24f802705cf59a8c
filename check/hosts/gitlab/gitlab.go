// Package gitlab asks GitLab, gitlab.com or one's own, by its REST API. A token needs the
// scope read_api, and of protected branches a Maintainer's may be read.
package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	api "gitlab.com/gitlab-org/api/client-go/v2"

	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

// A Host is one GitLab. Make it with [New].
type Host struct {
	name   string
	client *api.Client
}

var _ hosts.Host = (*Host)(nil)

// New returns the GitLab whose API is at a URL; "" is /api/v4 of the host. Its requests
// are made with the token, if there is one.
func New(host, url, token string) (*Host, error) {
	if url == "" {
		url = "https://" + host + "/api/v4"
	}
	transport, err := hosts.NewClient(url, func(req *http.Request) error {
		if token != "" {
			req.Header.Set("Private-Token", token)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	client, err := api.NewAuthSourceClient(api.Unauthenticated{}, api.WithBaseURL(url), api.WithHTTPClient(transport), api.WithUserAgent(hosts.UserAgent), api.WithCustomRetryMax(2))
	if err != nil {
		return nil, fmt.Errorf("preparing to ask %s: %w", host, err)
	}
	return &Host{name: host, client: client}, nil
}

func (h *Host) explain(about string, err error) error {
	if errors.Is(err, api.ErrNotFound) {
		err = hosts.ErrNotFound
	}
	return hosts.Explain(h.name, about, err)
}

// Owner implements hosts.Host.
func (h *Host) Owner(ctx context.Context, repo builds.Repository) (hosts.Owner, error) {
	p, err := h.project(ctx, repo)
	if err != nil {
		return hosts.Owner{}, err
	}
	if p.Namespace == nil {
		return hosts.Owner{}, h.explain(repo.String(), errors.New("the project has no namespace"))
	}
	return hosts.Owner{Path: p.Namespace.FullPath, Organization: p.Namespace.Kind == "group"}, nil
}

func (h *Host) project(ctx context.Context, repo builds.Repository) (*api.Project, error) {
	p, _, err := h.client.Projects.GetProject(repo.Path, nil, api.WithContext(ctx))
	if err != nil {
		return nil, h.explain(repo.String(), err)
	}
	return p, nil
}

// Commit implements hosts.Host.
func (h *Host) Commit(ctx context.Context, repo builds.Repository, id string) (hosts.Commit, error) {
	p, err := h.project(ctx, repo)
	if err != nil {
		return hosts.Commit{}, err
	}
	about := "commit " + id + " of " + repo.String()
	c, _, err := h.client.Commits.GetCommit(repo.Path, id, nil, api.WithContext(ctx))
	if err != nil {
		return hosts.Commit{}, h.explain(about, err)
	}
	if c.ID != id {
		return hosts.Commit{}, h.explain(about, fmt.Errorf("it answered with commit %q", c.ID))
	}
	commit := hosts.Commit{Signature: "unsigned", DefaultBranch: p.DefaultBranch}
	switch s, _, err := h.client.Commits.GetGPGSignature(repo.Path, id, api.WithContext(ctx)); {
	case errors.Is(err, api.ErrNotFound): // how it says that there is none
	case err != nil:
		return hosts.Commit{}, h.explain("the signature of "+about, err)
	default:
		commit.Signed, commit.Signature = s.VerificationStatus == "verified", s.VerificationStatus
	}
	commit.Runs, err = h.runs(ctx, repo, id)
	return commit, err
}

// pages reads a list to its end.
func pages(read func(api.ListOptions) (*api.Response, error)) error {
	options := api.ListOptions{PerPage: hosts.PageSize}
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

// runs returns the jobs of pipelines, and what others have reported, on a commit. Of one
// that was tried again there is the last.
func (h *Host) runs(ctx context.Context, repo builds.Repository, id string) ([]hosts.Run, error) {
	var runs []hosts.Run
	err := pages(func(options api.ListOptions) (*api.Response, error) {
		list, resp, err := h.client.Commits.GetCommitStatuses(repo.Path, id, &api.GetCommitStatusesOptions{ListOptions: options}, api.WithContext(ctx))
		if err != nil {
			return nil, h.explain("the status checks of commit "+id+" of "+repo.String(), err)
		}
		for _, s := range list {
			run := hosts.Run{Name: s.Name, State: runState(s), At: timeOf(s.FinishedAt)}
			if run.At.IsZero() {
				run.At = timeOf(s.CreatedAt)
			}
			runs = append(runs, run)
		}
		return resp, nil
	})
	return runs, err
}

// runState reads how a job stands. A status that is not known is none that passes. One
// that waits for somebody to start it is no part of the pipeline until then.
func runState(s *api.CommitStatus) hosts.RunState {
	switch s.Status {
	case "success", "skipped", "manual":
		return hosts.Passed
	case "created", "waiting_for_resource", "preparing", "pending", "running", "scheduled", "canceling":
		return hosts.Pending
	}
	if s.AllowFailure {
		return hosts.Passed
	}
	return hosts.Failed
}

// Requests implements hosts.Host.
func (h *Host) Requests(ctx context.Context, repo builds.Repository, id string) ([]hosts.Request, error) {
	list, _, err := h.client.Commits.ListMergeRequestsByCommit(repo.Path, id, api.WithContext(ctx))
	if err != nil {
		return nil, h.explain("the merge requests of commit "+id+" of "+repo.String(), err)
	}
	var requests []hosts.Request
	for _, m := range list {
		if m.State != "merged" || m.MergedAt == nil || !isResult(m, id) {
			continue
		}
		r := hosts.Request{Name: fmt.Sprintf("merge request !%d", m.IID), Branch: m.TargetBranch, Merged: *m.MergedAt, Head: m.SHA}
		if m.Author != nil {
			r.Author = m.Author.Username
		}
		if err := h.approvals(ctx, &r, repo, m.IID); err != nil {
			return nil, err
		}
		if r.Runs, err = h.runs(ctx, repo, m.SHA); err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return requests, nil
}

// isResult reports whether the commit is what the merge request came to: the merge
// commit, the squashed one, or without either its head.
func isResult(m *api.BasicMergeRequest, id string) bool {
	switch {
	case m.MergeCommitSHA != "":
		return m.MergeCommitSHA == id
	case m.SquashCommitSHA != "":
		return m.SquashCommitSHA == id
	}
	return m.SHA == id
}

// approvals reads who has approved a merge request. GitLab lets nobody approve who may
// not, takes approvals back when somebody does, and tells of those there are.
func (h *Host) approvals(ctx context.Context, r *hosts.Request, repo builds.Repository, iid int64) error {
	a, _, err := h.client.MergeRequestApprovals.GetConfiguration(repo.Path, iid, api.WithContext(ctx))
	if err != nil {
		return h.explain(fmt.Sprintf("the approvals of %s of %s", r.Name, repo), err)
	}
	r.Required = int(a.ApprovalsRequired)
	for _, by := range a.ApprovedBy {
		if by == nil || by.User == nil {
			continue
		}
		r.Reviews = append(r.Reviews, hosts.Review{By: by.User.Username, Verdict: hosts.Approves, At: timeOf(by.ApprovedAt), Counts: true})
	}
	return nil
}

// Branch implements hosts.Host.
func (h *Host) Branch(ctx context.Context, repo builds.Repository, branch, commit string) (hosts.Branch, error) {
	about := fmt.Sprintf("branch %q of %s", branch, repo)
	var b hosts.Branch
	switch p, _, err := h.client.ProtectedBranches.GetProtectedBranch(repo.Path, branch, api.WithContext(ctx)); {
	case errors.Is(err, api.ErrNotFound):
	case err != nil:
		return hosts.Branch{}, h.explain("the protection of "+about, err)
	case p.AllowForcePush:
		b.Why = "its protection allows force pushes, by which anything can get there"
	default:
		b.Protected = true
	}
	base, _, err := h.client.Repositories.MergeBase(repo.Path, &api.MergeBaseOptions{Ref: &[]string{commit, branch}}, api.WithContext(ctx))
	if err != nil {
		return hosts.Branch{}, h.explain(about, err)
	}
	b.Has = base.ID == commit
	return b, nil
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
