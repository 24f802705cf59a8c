package approved_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/approved"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

const (
	url  = "https://github.com/my-org/app"
	head = "3333333333333333333333333333333333333333"
)

// at is so many minutes after the request was opened; it was merged at 10, and built from
// 20 to 30.
func at(minute int) time.Time {
	return time.Date(2026, 5, 1, 12, minute, 0, 0, time.UTC)
}

// A host with one commit, and one request that came to it.
type host struct {
	hosts.Host
	commit   hosts.Commit
	requests []hosts.Request
	branch   hosts.Branch
	err      map[string]error
}

func (h *host) Commit(context.Context, builds.Repository, string) (hosts.Commit, error) {
	return h.commit, h.err["Commit"]
}

func (h *host) Requests(context.Context, builds.Repository, string) ([]hosts.Request, error) {
	return h.requests, h.err["Requests"]
}

func (h *host) Branch(context.Context, builds.Repository, string, string) (hosts.Branch, error) {
	return h.branch, h.err["Branch"]
}

// good is a host on which all is well.
func good() *host {
	return &host{
		commit: hosts.Commit{Signed: true, Signature: "valid", DefaultBranch: "main", Runs: []hosts.Run{{Name: "image", State: hosts.Pending}}},
		requests: []hosts.Request{{
			Name: "pull request #7", Author: "ann", Branch: "main", Merged: at(10), Head: head,
			Reviews: []hosts.Review{approval("bob", 5)},
			Runs:    []hosts.Run{{Name: "test", State: hosts.Passed, At: at(6)}},
		}},
		branch: hosts.Branch{Protected: true, Approvals: 1, Has: true},
	}
}

func approval(by string, minute int) hosts.Review {
	return hosts.Review{By: by, Verdict: hosts.Approves, At: at(minute), Commit: head, Counts: true}
}

func build(from, commit string) *grafeas.Occurrence {
	o := checktest.Build(from, commit)
	p := o.GetBuild().GetProvenance()
	p.StartTime, p.EndTime = timestamppb.New(at(20)), timestamppb.New(at(30))
	return o
}

func run(t *testing.T, h *host, s approved.Settings, list ...*grafeas.Occurrence) (check.Result, error) {
	t.Helper()
	if h != nil {
		s.Hosts = hosts.Set{{Alias: "us", Host: "github.com", Path: "my-org", Of: h}}
	}
	c, err := approved.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return checktest.Run(t, c, &checktest.Metadata{List: list}, nil)
}

func TestApproved(t *testing.T) {
	t.Parallel()
	const tooFew = "the PR associated with this commit does not have the required number of approvals: pull request #7 "
	const red = "commit did not pass CI in source code repository: "
	request := func(change func(*hosts.Request)) func(*host, *approved.Settings) {
		return func(h *host, _ *approved.Settings) { change(&h.requests[0]) }
	}
	for about, row := range map[string]struct {
		change func(*host, *approved.Settings)
		want   []string // parts of the reason; none means that it passes
	}{
		"a good one": {func(*host, *approved.Settings) {}, nil},
		"B17: a commit that is no longer the newest": {func(h *host, _ *approved.Settings) {
			h.branch.Has = true // all that is asked is that the branch has it
		}, nil},
		"a commit that the branch lost": {func(h *host, _ *approved.Settings) { h.branch.Has = false },
			[]string{"commit is not on the production branch", `"main" of github.com/my-org/app does not have commit 1111`}},
		"an unsigned commit": {func(h *host, _ *approved.Settings) { h.commit.Signed, h.commit.Signature = false, "unsigned" },
			[]string{"commit was not signed by a valid key: github.com says \"unsigned\" of commit 1111"}},
		"a commit that CI failed on": {func(h *host, _ *approved.Settings) {
			h.commit.Runs = append(h.commit.Runs, hosts.Run{Name: "lint", State: hosts.Failed})
		}, []string{red + "on commit 1111", `check "lint" has failed`}},
		"no request": {func(h *host, _ *approved.Settings) { h.requests = nil }, []string{"commit is not a merge commit: no pull request"}},
		"B3: no branch protection is no approval": {func(h *host, _ *approved.Settings) { h.branch.Protected, h.branch.Why = false, "" },
			[]string{`branch "main" of github.com/my-org/app is not protected`, "protect it"}},
		"protection that cannot be read": {func(h *host, _ *approved.Settings) { h.branch.Protected, h.branch.Why = false, "it may not be read" },
			[]string{"is not protected: it may not be read"}},
		"another branch":           {request(func(r *hosts.Request) { r.Branch = "wip" }), []string{"commit is not on the production branch", `pull request #7 was merged into "wip"`, "what counts is main"}},
		"another branch that may":  {func(h *host, s *approved.Settings) { h.requests[0].Branch, s.Branches = "release", []string{"release"} }, nil},
		"a merge after the build":  {request(func(r *hosts.Request) { r.Merged = at(23) }), []string{"commit is not a merge commit", "was merged at 2026-05-01T12:23:00Z, after the build of 2026-05-01T12:20:00Z"}},
		"clocks that differ a bit": {request(func(r *hosts.Request) { r.Merged = at(21) }), nil},
		"nobody":                   {request(func(r *hosts.Request) { r.Reviews = nil }), []string{tooFew + "has 0, needs 1"}},
		"too few for the branch":   {func(h *host, _ *approved.Settings) { h.branch.Approvals = 2 }, []string{tooFew + "has 1, needs 2", "approved by bob"}},
		"too few for the request":  {request(func(r *hosts.Request) { r.Required = 3 }), []string{tooFew + "has 1, needs 3"}},
		"too few for the settings": {func(_ *host, s *approved.Settings) { s.MinApprovals = 2 }, []string{tooFew + "has 1, needs 2"}},
		"B17: one who approves twice": {func(h *host, s *approved.Settings) {
			h.requests[0].Reviews, s.MinApprovals = []hosts.Review{approval("bob", 4), approval("bob", 5)}, 2
		}, []string{tooFew + "has 1, needs 2"}},
		"two": {func(h *host, s *approved.Settings) {
			h.requests[0].Reviews, s.MinApprovals = []hosts.Review{approval("bob", 4), approval("cat", 5)}, 2
		}, nil},
		"the author":            {request(func(r *hosts.Request) { r.Reviews = []hosts.Review{approval("ann", 5)} }), []string{"has 0", "not counted: ann, who made the change"}},
		"a stranger":            {request(func(r *hosts.Request) { r.Reviews[0].Counts = false }), []string{"has 0", "bob, who may not write to the repository"}},
		"after the merge":       {request(func(r *hosts.Request) { r.Reviews = []hosts.Review{approval("bob", 11)} }), []string{"has 0", "bob, who came after the merge"}},
		"one who takes it back": {request(func(r *hosts.Request) { r.Reviews = append(r.Reviews, hosts.Review{By: "bob", At: at(6)}) }), []string{"has 0"}},
		"one who refuses": {request(func(r *hosts.Request) {
			r.Reviews = append(r.Reviews, hosts.Review{By: "cat", Verdict: hosts.Refuses, At: at(6)})
		}), []string{"has 1, needs 1", "changes are asked for by cat"}},
		"one who refused first": {request(func(r *hosts.Request) {
			r.Reviews = append([]hosts.Review{{By: "bob", Verdict: hosts.Refuses, At: at(1)}}, r.Reviews...)
		}), nil},
		"one who refuses later": {request(func(r *hosts.Request) {
			r.Reviews = append(r.Reviews, hosts.Review{By: "cat", Verdict: hosts.Refuses, At: at(11)})
		}), nil},
		"somebody who is gone":     {request(func(r *hosts.Request) { r.Reviews[0].By = "" }), []string{"has 0", "somebody who is gone"}},
		"of an older commit":       {request(func(r *hosts.Request) { r.Reviews[0].Commit = "old" }), nil},
		"of an older, when fresh":  {func(h *host, s *approved.Settings) { h.requests[0].Reviews[0].Commit, s.FreshApprovals = "old", true }, []string{"bob, who has not seen its last commit"}},
		"no CI":                    {request(func(r *hosts.Request) { r.Runs = nil }), []string{red, "there are no status checks"}},
		"CI that failed":           {request(func(r *hosts.Request) { r.Runs[0].State = hosts.Failed }), []string{red + `of pull request #7, check "test" has failed`}},
		"CI that has not ended":    {request(func(r *hosts.Request) { r.Runs[0].State = hosts.Pending }), []string{red, `"test" has not ended`}},
		"CI green after the build": {request(func(r *hosts.Request) { r.Runs[0].At = at(33) }), []string{red, `"test" was green at 2026-05-01T12:33:00Z only, after the build of 2026-05-01T12:30:00Z`}},
		"ignored CI": {func(h *host, s *approved.Settings) {
			h.requests[0].Runs = append(h.requests[0].Runs, hosts.Run{Name: "coverage", State: hosts.Failed})
			h.commit.Runs = append(h.commit.Runs, hosts.Run{Name: "coverage", State: hosts.Failed})
			s.Ignored = []string{"coverage"}
		}, nil},
		"nothing but ignored CI":   {func(_ *host, s *approved.Settings) { s.Ignored = []string{"test"} }, []string{red, "there are no status checks"}},
		"a required check":         {func(h *host, _ *approved.Settings) { h.branch.Runs = []string{"test"} }, nil},
		"a required check not run": {func(h *host, _ *approved.Settings) { h.branch.Runs = []string{"test", "scan"} }, []string{red, `"scan", which the protection of the branch requires, did not run`}},
		"another than the required": {func(h *host, _ *approved.Settings) {
			h.branch.Runs = []string{"test"}
			h.requests[0].Runs = append(h.requests[0].Runs, hosts.Run{Name: "slow"})
		}, nil},
		"another one that has failed": {func(h *host, _ *approved.Settings) {
			h.branch.Runs = []string{"test"}
			h.requests[0].Runs = append(h.requests[0].Runs, hosts.Run{Name: "slow", State: hosts.Failed})
		}, []string{red, `"slow" has failed`}},
		"a second request that is good": {func(h *host, _ *approved.Settings) {
			bad := h.requests[0]
			bad.Name, bad.Branch = "pull request #6", "wip"
			h.requests = append([]hosts.Request{bad}, h.requests...)
		}, nil},
		"a commit that the host lacks": {func(h *host, _ *approved.Settings) {
			h.err = map[string]error{"Commit": hosts.Explain("github.com", "commit 1", hosts.ErrNotFound)}
		}, []string{"asking github.com about commit 1: not found, or not to be seen"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			h, s := good(), approved.Settings{}
			row.change(h, &s)
			got, err := run(t, h, s, build(url, checktest.Commit))
			if err != nil || got.Passed() != (row.want == nil) {
				t.Fatalf("got %+v, %v; want reason %q", got, err, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(got.Reason(), want) {
					t.Errorf("reason = %q, want %q in it", got.Reason(), want)
				}
			}
			if got.Passed() && !strings.Contains(strings.Join(got.Evidence(), "\n"), "approved by bob") {
				t.Errorf("evidence = %q", got.Evidence())
			}
		})
	}
}

func TestTheBuildMustTellWhatWasBuilt(t *testing.T) {
	t.Parallel()
	timeless := build(url, checktest.Commit)
	timeless.GetBuild().GetProvenance().StartTime, timeless.GetBuild().GetProvenance().EndTime = nil, nil
	for about, row := range map[string]struct {
		list []*grafeas.Occurrence
		want string
	}{
		"no build":               {nil, "no build metadata associated with this image"},
		"no source":              {[]*grafeas.Occurrence{build("", "")}, "does not tell which one commit was built"},
		"a branch":               {[]*grafeas.Occurrence{build(url, "main")}, `"main" for a commit, which is not the whole id of one`},
		"a short commit":         {[]*grafeas.Occurrence{build(url, "1111111")}, "not the whole id"},
		"no time":                {[]*grafeas.Occurrence{timeless}, "does not tell when it was"},
		"no repository":          {[]*grafeas.Occurrence{build("file:///x/y", checktest.Commit)}, "source repository"},
		"another organisation":   {[]*grafeas.Occurrence{build("https://github.com/my-org-evil/app", checktest.Commit)}, `this check requires a repository client for "github.com/my-org-evil/app"`},
		"another host":           {[]*grafeas.Occurrence{build("https://github.com.evil.example/my-org/app", checktest.Commit)}, "this check requires a repository client for"},
		"B4: no provenance":      {[]*grafeas.Occurrence{{Kind: grafeas.NoteKind_BUILD}}, "build metadata has no provenance"},
		"two builds, one good":   {[]*grafeas.Occurrence{build(url, "main"), build(url+".git", checktest.Commit)}, ""},
		"organisation by letter": {[]*grafeas.Occurrence{build("https://github.com/My-Org/app", checktest.Commit)}, ""},
	} {
		got, err := run(t, good(), approved.Settings{}, row.list...)
		if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
			t.Errorf("%s: got %+v, %v; want %q", about, got, err, row.want)
		}
	}
	if got, err := run(t, nil, approved.Settings{}, build(url, checktest.Commit)); err != nil || !strings.Contains(got.Reason(), "this check requires a repository client; set repository.") {
		t.Errorf("without hosts: got %+v, %v", got, err)
	}
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, method := range []string{"Commit", "Requests", "Branch"} {
		h := good()
		h.err = map[string]error{method: down}
		if got, err := run(t, h, approved.Settings{}, build(url, checktest.Commit)); !errors.Is(err, down) || got.Passed() {
			t.Errorf("%s: got %+v, %v", method, got, err)
		}
	}
	c, err := approved.New(approved.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	m := &checktest.Metadata{Err: map[grafeas.NoteKind]error{grafeas.NoteKind_BUILD: down}}
	if _, err := checktest.Run(t, c, m, nil); !errors.Is(err, down) {
		t.Errorf("metadata: err = %v", err)
	}
	if _, err := approved.New(approved.Settings{MinApprovals: -1}); err == nil {
		t.Error("less than nobody approves: no error")
	}
}
