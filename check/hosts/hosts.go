// Package hosts says what checks ask of source code hosts: how a commit came to be
// where it is, and whose a repository is. Packages check/hosts/github and
// check/hosts/gitlab ask those two. What is right and what is wrong with an answer is for
// package check/approved to say.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check/builds"
)

// ErrNotFound says that a host does not have a repository or a commit, or does not show
// it to us.
var ErrNotFound = errors.New("not found, or not to be seen with the credentials given")

// A Host is one source code host, as one user of it sees it. It is safe for concurrent
// use. Its methods end soon after ctx is done, and their errors name the host.
type Host interface {
	// Owner returns whose a repository is.
	Owner(ctx context.Context, repo builds.Repository) (Owner, error)
	// Commit returns what the host knows of a commit.
	Commit(ctx context.Context, repo builds.Repository, id string) (Commit, error)
	// Requests returns the requests that were merged with the commit as the result.
	Requests(ctx context.Context, repo builds.Repository, id string) ([]Request, error)
	// Branch returns how a branch is protected, and whether it has the commit.
	Branch(ctx context.Context, repo builds.Repository, branch, commit string) (Branch, error)
}

// An Owner is whose a repository is.
type Owner struct {
	// Path is the owner's, such as "my-org", or "my-group/team" on GitLab.
	Path string
	// Organization is false for a person.
	Organization bool
}

// A Commit is what a host knows of a commit.
type Commit struct {
	// Signed is true when the host has verified the commit's signature.
	Signed bool
	// Signature is what it says of it, such as "unsigned".
	Signature string
	// DefaultBranch is that of the repository.
	DefaultBranch string
	// Runs are those that ran on this commit.
	Runs []Run
}

// A Run is a status check, such as a job of CI.
type Run struct {
	Name  string
	State RunState
	// At is when it came to its end, as far as that is known.
	At time.Time
}

// A RunState is how a Run stands. The zero RunState is that it has not ended.
type RunState int

// How runs stand. One that was skipped has passed.
const (
	Pending RunState = iota
	Passed
	Failed
)

// A Request is a pull request or merge request that was merged.
type Request struct {
	// Name is what people call it, such as "pull request #7".
	Name   string
	Author string
	// Branch is what it was merged into.
	Branch string
	Merged time.Time
	// Head is its last commit.
	Head string
	// Reviews are in the order in which they were made.
	Reviews []Review
	// Required is how many approvals the host asks of this request, if it says so of
	// requests.
	Required int
	// Runs are those that ran on its head.
	Runs []Run
}

// A Review is what one person said of a request at one time.
type Review struct {
	By      string
	Verdict Verdict
	// At is zero when the host does not tell.
	At time.Time
	// Commit is what was reviewed, and "" when the host does not tell.
	Commit string
	// Counts is false for people whose approval the host does not count, since they may
	// not write to the repository.
	Counts bool
}

// A Verdict is what a Review comes to. The zero Verdict is none: a comment, or a review
// that was withdrawn.
type Verdict int

// What reviews come to.
const (
	Nothing Verdict = iota
	Approves
	Refuses
)

// A Branch is how a branch is protected. The zero Branch is not.
type Branch struct {
	// Protected is true when what is to get there has to be requested.
	Protected bool
	// Why says, when it is not, what there is.
	Why string
	// Approvals is how many approvals the protection asks for.
	Approvals int
	// Runs are the names of the status checks that it asks for.
	Runs []string
	// Has is true when the commit is in the history of the branch now.
	Has bool
}

// An Organization is whose repositories are asked of which host.
type Organization struct {
	// Alias is what the configuration calls it.
	Alias string
	// Host is such as "github.com". Path is the organisation's there, and "" for all.
	Host, Path string
	Of         Host
}

// ParseURL reads the URL of an organisation, such as "https://github.com/my-org", or of
// a host alone. Of is nil.
func ParseURL(alias, text string) (Organization, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Organization{}, fmt.Errorf("org-url %q of repository %q: want https://HOST/ORGANISATION or https://HOST", builds.Clip(text), alias)
	}
	o := Organization{Alias: alias, Host: strings.ToLower(u.Host), Path: strings.Trim(u.Path, "/")}
	if o.Path == "" {
		return o, nil
	}
	if _, err := builds.ParseRepository("https://" + o.Host + "/" + o.Path + "/x"); err != nil {
		return Organization{}, fmt.Errorf("org-url %q of repository %q: it names no organisation", builds.Clip(text), alias)
	}
	return o, nil
}

// Has reports whether the owner is the organisation, or belongs to it. Hosts take names
// in any case for the same.
func (o Organization) Has(owner string) bool {
	path, owner := strings.ToLower(o.Path), strings.ToLower(owner)
	return path != "" && (owner == path || strings.HasPrefix(owner, path+"/"))
}

// A Set is all organisations of a configuration.
type Set []Organization

// For returns the one whose host is to be asked about a repository: that of its
// organisation or, failing that, of its host.
func (s Set) For(repo builds.Repository) (Organization, bool) {
	best, length := Organization{}, -1
	for _, o := range s {
		if o.Host != repo.Host || o.Path != "" && !strings.HasPrefix(strings.ToLower(repo.Path), strings.ToLower(o.Path)+"/") {
			continue
		}
		if len(o.Path) > length {
			best, length = o, len(o.Path)
		}
	}
	return best, length >= 0
}
