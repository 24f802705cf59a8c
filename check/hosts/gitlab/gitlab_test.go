package gitlab_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check/approved"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
	"github.com/gatehouse-dev/gatehouse/check/hosts/gitlab"
)

const (
	commit = "1111111111111111111111111111111111111111"
	head   = "3333333333333333333333333333333333333333"
	at     = "/api/v4/projects/my-group%2Fteam%2Fapp"
)

var repo = builds.Repository{Host: "gitlab.com", Path: "my-group/team/app"}

type object = map[string]any

// A server speaks the REST API of GitLab, as far as it has answers: by path, an object
// or a list, which is given out two a page where the API pages.
type server struct {
	*httptest.Server
	answers map[string]any
	status  map[string]int
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{status: map[string]int{}, answers: map[string]any{
		at:                                   object{"id": 1, "path_with_namespace": "my-group/team/app", "default_branch": "main", "namespace": object{"kind": "group", "full_path": "my-group/team"}},
		at + "/repository/commits/" + commit: object{"id": commit},
		at + "/repository/commits/" + commit + "/signature": object{"signature_type": "PGP", "verification_status": "verified"},
		at + "/repository/commits/" + commit + "/statuses":  []any{object{"name": "image", "status": "running", "created_at": "2026-05-01T12:20:00Z"}},
		at + "/repository/commits/" + commit + "/merge_requests": []any{
			object{"iid": 5, "state": "merged", "merge_commit_sha": "other", "merged_at": "2026-05-01T12:10:00Z", "target_branch": "main"},
			object{"iid": 6, "state": "opened", "merge_commit_sha": commit, "target_branch": "main"},
			object{"iid": 7, "state": "merged", "merge_commit_sha": commit, "sha": head, "merged_at": "2026-05-01T12:10:00Z", "target_branch": "main", "author": object{"username": "ann"}},
			object{"iid": 8, "state": "merged", "squash_commit_sha": commit, "sha": head, "merged_at": "2026-05-01T12:10:00Z", "target_branch": "wip"},
			object{"iid": 9, "state": "merged", "sha": commit, "merged_at": "2026-05-01T12:10:00Z", "target_branch": "ff"},
		},
		at + "/merge_requests/7/approvals": object{"approvals_required": 2, "approved_by": []any{
			object{"user": object{"username": "bob"}, "approved_at": "2026-05-01T12:05:00Z"}, object{"user": object{"username": "cat"}}, object{},
		}},
		at + "/merge_requests/8/approvals": object{},
		at + "/merge_requests/9/approvals": object{},
		at + "/repository/commits/" + head + "/statuses": []any{
			object{"name": "test", "status": "success", "created_at": "2026-05-01T12:01:00Z", "finished_at": "2026-05-01T12:08:00Z"},
			object{"name": "lint", "status": "failed", "allow_failure": true, "finished_at": "2026-05-01T12:08:00Z"},
			object{"name": "e2e", "status": "canceled", "finished_at": "2026-05-01T12:08:00Z"},
			object{"name": "new", "status": "word_of_tomorrow", "finished_at": "2026-05-01T12:08:00Z"},
			object{"name": "deploy", "status": "manual", "created_at": "2026-05-01T12:08:00Z"},
		},
		at + "/protected_branches/main": object{"name": "main", "allow_force_push": false},
		at + "/repository/merge_base":   object{"id": commit},
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	answer, ok := s.answers[path]
	code := http.StatusOK
	switch {
	case r.Header.Get("Private-Token") != "t0ken":
		code, answer = http.StatusUnauthorized, object{"message": "401 Unauthorized"}
	case s.status[path] != 0:
		code, answer = s.status[path], object{"message": "no"}
	case !ok:
		code, answer = http.StatusNotFound, object{"message": "404 Not found"}
	}
	if all, isList := answer.([]any); isList && r.URL.Query().Get("per_page") != "" {
		const size = 2
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := min(max(page-1, 0)*size, len(all))
		to := min(from+size, len(all))
		if to < len(all) {
			w.Header().Set("X-Next-Page", strconv.Itoa(max(page, 1)+1))
		}
		answer = all[from:to]
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *server) host(t *testing.T, token string) *gitlab.Host {
	t.Helper()
	h, err := gitlab.New("gitlab.com", s.URL+"/api/v4", token)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func minute(m int) time.Time { return time.Date(2026, 5, 1, 12, m, 0, 0, time.UTC) }

func TestHost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.host(t, "t0ken")
	owner, err := h.Owner(t.Context(), repo)
	if diff := cmp.Diff(hosts.Owner{Path: "my-group/team", Organization: true}, owner); err != nil || diff != "" {
		t.Errorf("owner: %v (-want +got):\n%s", err, diff)
	}
	c, err := h.Commit(t.Context(), repo, commit)
	if diff := cmp.Diff(hosts.Commit{Signed: true, Signature: "verified", DefaultBranch: "main", Runs: []hosts.Run{{Name: "image", At: minute(20)}}}, c); err != nil || diff != "" {
		t.Errorf("commit: %v (-want +got):\n%s", err, diff)
	}
	runs := []hosts.Run{
		{Name: "test", State: hosts.Passed, At: minute(8)}, {Name: "lint", State: hosts.Passed, At: minute(8)}, {Name: "e2e", State: hosts.Failed, At: minute(8)},
		{Name: "new", State: hosts.Failed, At: minute(8)}, {Name: "deploy", State: hosts.Passed, At: minute(8)},
	}
	requests, err := h.Requests(t.Context(), repo, commit)
	want := []hosts.Request{
		{Name: "merge request !7", Author: "ann", Branch: "main", Merged: minute(10), Head: head, Required: 2, Runs: runs, Reviews: []hosts.Review{
			{By: "bob", Verdict: hosts.Approves, At: minute(5), Counts: true}, {By: "cat", Verdict: hosts.Approves, Counts: true},
		}},
		{Name: "merge request !8", Branch: "wip", Merged: minute(10), Head: head, Runs: runs},
		{Name: "merge request !9", Branch: "ff", Merged: minute(10), Head: commit, Runs: []hosts.Run{{Name: "image", At: minute(20)}}},
	}
	if diff := cmp.Diff(want, requests); err != nil || diff != "" {
		t.Errorf("requests: %v (-want +got):\n%s", err, diff)
	}
	branch, err := h.Branch(t.Context(), repo, "main", commit)
	if diff := cmp.Diff(hosts.Branch{Protected: true, Has: true}, branch); err != nil || diff != "" {
		t.Errorf("branch: %v (-want +got):\n%s", err, diff)
	}
}

// TestApproved asks the whole way, from a record of a build to the API and back.
func TestApproved(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c, err := approved.New(approved.Settings{Hosts: hosts.Set{{Alias: "us", Host: "gitlab.com", Path: "my-group", Of: s.host(t, "t0ken")}}})
	if err != nil {
		t.Fatal(err)
	}
	o := checktest.Build("git@gitlab.com:my-group/team/app.git", commit)
	o.GetBuild().GetProvenance().StartTime = timestamppb.New(minute(20))
	for _, row := range []struct {
		status any
		want   string
	}{
		{object{"name": "e2e", "status": "canceled", "finished_at": "2026-05-01T12:08:00Z"}, `of merge request !7, check "e2e" has failed`},
		{object{"name": "e2e", "status": "success", "finished_at": "2026-05-01T12:08:00Z"}, ""},
	} {
		s.answers[at+"/repository/commits/"+head+"/statuses"] = []any{row.status}
		got, err := checktest.Run(t, c, &checktest.Metadata{List: []*grafeas.Occurrence{o}}, nil)
		if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
			t.Errorf("want %q: got %+v, %v", row.want, got, err)
		}
	}
}

func TestWhatIsNotSo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.host(t, "t0ken")
	delete(s.answers, at+"/repository/commits/"+commit+"/signature")
	if c, err := h.Commit(t.Context(), repo, commit); err != nil || c.Signed || c.Signature != "unsigned" {
		t.Errorf("unsigned: %+v, %v", c, err)
	}
	s.answers[at+"/repository/commits/"+commit+"/signature"] = object{"verification_status": "unverified_key"}
	if c, err := h.Commit(t.Context(), repo, commit); err != nil || c.Signed || c.Signature != "unverified_key" {
		t.Errorf("signed by whom: %+v, %v", c, err)
	}
	s.answers[at+"/protected_branches/main"] = object{"allow_force_push": true}
	s.answers[at+"/repository/merge_base"] = object{"id": head}
	if b, err := h.Branch(t.Context(), repo, "main", commit); err != nil || b.Protected || b.Has || !strings.Contains(b.Why, "force") {
		t.Errorf("force push: %+v, %v", b, err)
	}
	delete(s.answers, at+"/protected_branches/main")
	if b, err := h.Branch(t.Context(), repo, "main", commit); err != nil || b.Protected {
		t.Errorf("B3: unprotected: %+v, %v", b, err)
	}
	if _, err := s.host(t, "wrong").Owner(t.Context(), repo); err == nil || strings.Contains(err.Error(), "wrong") || !strings.Contains(err.Error(), "401") {
		t.Errorf("bad credentials: %v", err)
	}
	for path, ask := range map[string]func() error{
		at: func() error { _, err := h.Owner(t.Context(), repo); return err },
		at + "/repository/commits/" + commit + "/merge_requests": func() error { _, err := h.Requests(t.Context(), repo, commit); return err },
		at + "/merge_requests/7/approvals":                       func() error { _, err := h.Requests(t.Context(), repo, commit); return err },
		at + "/repository/commits/" + head + "/statuses":         func() error { _, err := h.Requests(t.Context(), repo, commit); return err },
		at + "/protected_branches/main":                          func() error { _, err := h.Branch(t.Context(), repo, "main", commit); return err },
		at + "/repository/merge_base":                            func() error { _, err := h.Branch(t.Context(), repo, "main", commit); return err },
	} {
		s.status[path] = http.StatusForbidden
		if err := ask(); err == nil || !strings.Contains(err.Error(), "asking gitlab.com about") {
			t.Errorf("%s is refused: %v", path, err)
		}
		delete(s.status, path)
	}
	delete(s.answers, at+"/repository/commits/"+commit)
	if _, err := h.Commit(t.Context(), repo, commit); !errors.Is(err, hosts.ErrNotFound) {
		t.Errorf("no commit: %v", err)
	}
}

func TestB16_AHungHostEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	h, err := gitlab.New("gitlab.com", s.URL, "t0ken")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Commit(ctx, repo, commit); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "asking gitlab.com about gitlab.com/my-group/team/app: it did not answer in time") {
		t.Errorf("err = %v", err)
	}
}
