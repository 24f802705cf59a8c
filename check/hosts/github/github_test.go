package github_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check/approved"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
	"github.com/gatehouse-dev/gatehouse/check/hosts/github"
)

const (
	commit = "1111111111111111111111111111111111111111"
	head   = "3333333333333333333333333333333333333333"
	token  = "t0ken"
)

var repo = builds.Repository{Host: "github.com", Path: "my-org/app"}

// A server speaks the REST API of GitHub, as far as it has answers: by path, a JSON
// object or, for lists, the elements, given out two a page.
type server struct {
	*httptest.Server
	answers map[string]any
	status  map[string]int

	mu    sync.Mutex
	calls map[string]int
	auth  string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{answers: map[string]any{}, status: map[string]int{}, calls: map[string]int{}, auth: "Bearer " + token}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// list is a list that the API wraps into an object, under a name.
type list struct {
	under string
	all   []any
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v3")
	s.mu.Lock()
	s.calls[path]++
	s.mu.Unlock()
	answer, ok := s.answers[path]
	code := http.StatusOK
	if c := s.status[path]; c != 0 {
		code = c
	}
	switch {
	case r.Header.Get("Authorization") != s.auth:
		code, answer = http.StatusUnauthorized, map[string]any{"message": "Bad credentials"}
	case !ok:
		code, answer = http.StatusNotFound, map[string]any{"message": "Not Found"}
	}
	wrapped, isList := answer.(list)
	all, isArray := answer.([]any)
	if isList {
		all = wrapped.all
	}
	if isList || isArray {
		const size = 2
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := min(max(page-1, 0)*size, len(all))
		to := min(from+size, len(all))
		if to < len(all) {
			next := *r.URL
			q := next.Query()
			q.Set("page", strconv.Itoa(max(page, 1)+1))
			next.RawQuery = q.Encode()
			w.Header().Set("Link", fmt.Sprintf(`<%s%s>; rel="next"`, s.URL, next.RequestURI()))
		}
		if answer = all[from:to]; isList {
			answer = map[string]any{"total_count": len(all), wrapped.under: all[from:to]}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *server) host(t *testing.T, auth github.Auth) *github.Host {
	t.Helper()
	h, err := github.New("github.com", s.URL+"/api/v3", auth)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type object = map[string]any

// fill gives the server a repository with a commit that came from a pull request.
func (s *server) fill() {
	const at = "/repos/my-org/app"
	s.answers = map[string]any{
		at:                        object{"full_name": "my-org/app", "default_branch": "main", "owner": object{"login": "my-org", "type": "Organization"}},
		at + "/commits/" + commit: object{"sha": commit, "commit": object{"verification": object{"verified": true, "reason": "valid"}}},
		at + "/commits/" + commit + "/check-runs": list{"check_runs", []any{
			object{"name": "image", "status": "in_progress"},
		}},
		at + "/commits/" + commit + "/status": list{"statuses", nil},
		at + "/commits/" + commit + "/pulls": []any{
			object{"number": 5, "merge_commit_sha": "other", "merged_at": "2026-05-01T12:10:00Z", "base": object{"ref": "main", "repo": object{"full_name": "my-org/app"}}},
			object{"number": 6, "merge_commit_sha": commit, "state": "open", "base": object{"ref": "main", "repo": object{"full_name": "my-org/app"}}},
			object{"number": 8, "merge_commit_sha": commit, "merged_at": "2026-05-01T12:10:00Z", "base": object{"ref": "main", "repo": object{"full_name": "fork/app"}}},
			object{"number": 7, "merge_commit_sha": commit, "merged_at": "2026-05-01T12:10:00Z", "user": object{"login": "ann"},
				"head": object{"sha": head}, "base": object{"ref": "main", "repo": object{"full_name": "My-Org/app"}}},
		},
		at + "/pulls/7/reviews": []any{
			object{"user": object{"login": "cat"}, "state": "APPROVED", "submitted_at": "2026-05-01T12:06:00Z", "commit_id": head},
			object{"user": object{"login": "bob"}, "state": "APPROVED", "submitted_at": "2026-05-01T12:05:00Z", "commit_id": head},
			object{"user": object{"login": "bob"}, "state": "COMMENTED", "submitted_at": "2026-05-01T12:07:00Z"},
			object{"user": object{"login": "dan"}, "state": "CHANGES_REQUESTED", "submitted_at": "2026-05-01T12:01:00Z"},
			object{"user": object{"login": "dan"}, "state": "DISMISSED", "submitted_at": "2026-05-01T12:02:00Z"},
		},
		at + "/collaborators/bob/permission": object{"permission": "write"},
		at + "/collaborators/cat/permission": object{"permission": "read"},
		at + "/commits/" + head + "/check-runs": list{"check_runs", []any{
			object{"name": "test", "status": "completed", "conclusion": "success", "completed_at": "2026-05-01T12:08:00Z"},
			object{"name": "lint", "status": "completed", "conclusion": "skipped", "completed_at": "2026-05-01T12:08:00Z"},
			object{"name": "e2e", "status": "completed", "conclusion": "timed_out", "completed_at": "2026-05-01T12:08:00Z"},
			object{"name": "new", "status": "completed", "conclusion": "word_of_tomorrow", "completed_at": "2026-05-01T12:08:00Z"},
			object{"name": "slow", "status": "waiting"},
		}},
		at + "/commits/" + head + "/status": list{"statuses", []any{
			object{"context": "ci/a", "state": "success", "updated_at": "2026-05-01T12:08:00Z"},
			object{"context": "ci/b", "state": "pending", "updated_at": "2026-05-01T12:08:00Z"},
			object{"context": "ci/c", "state": "error", "updated_at": "2026-05-01T12:08:00Z"},
		}},
		at + "/rules/branches/main": []any{
			object{"type": "pull_request", "parameters": object{"required_approving_review_count": 2}},
			object{"type": "required_status_checks", "parameters": object{"required_status_checks": []any{object{"context": "test"}}}},
		},
		at + "/branches/main/protection":      object{"required_pull_request_reviews": object{"required_approving_review_count": 1}, "required_status_checks": object{"strict": true, "contexts": []any{"lint"}}},
		at + "/compare/" + commit + "...main": object{"status": "ahead"},
	}
}

func minute(m int) time.Time { return time.Date(2026, 5, 1, 12, m, 0, 0, time.UTC) }

func TestHost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.fill()
	h := s.host(t, github.Auth{Token: token})
	t.Run("tells whose a repository is", func(t *testing.T) {
		got, err := h.Owner(t.Context(), repo)
		if diff := cmp.Diff(hosts.Owner{Path: "my-org", Organization: true}, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("tells of a commit", func(t *testing.T) {
		got, err := h.Commit(t.Context(), repo, commit)
		want := hosts.Commit{Signed: true, Signature: "valid", DefaultBranch: "main", Runs: []hosts.Run{{Name: "image"}}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("B16, B17: tells of merged requests, to the last page of each list, whatever its words", func(t *testing.T) {
		got, err := h.Requests(t.Context(), repo, commit)
		want := []hosts.Request{{
			Name: "pull request #7", Author: "ann", Branch: "main", Merged: minute(10), Head: head,
			Reviews: []hosts.Review{
				{By: "dan", Verdict: hosts.Refuses, At: minute(1)},
				{By: "dan", At: minute(2)},
				{By: "bob", Verdict: hosts.Approves, At: minute(5), Commit: head, Counts: true},
				{By: "cat", Verdict: hosts.Approves, At: minute(6), Commit: head},
			},
			Runs: []hosts.Run{
				{Name: "test", State: hosts.Passed, At: minute(8)}, {Name: "lint", State: hosts.Passed, At: minute(8)},
				{Name: "e2e", State: hosts.Failed, At: minute(8)}, {Name: "new", State: hosts.Failed, At: minute(8)}, {Name: "slow"},
				{Name: "ci/a", State: hosts.Passed, At: minute(8)}, {Name: "ci/b", At: minute(8)}, {Name: "ci/c", State: hosts.Failed, At: minute(8)},
			},
		}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("tells how a branch is protected, by rulesets and by what was before them", func(t *testing.T) {
		got, err := h.Branch(t.Context(), repo, "main", commit)
		if diff := cmp.Diff(hosts.Branch{Protected: true, Approvals: 2, Runs: []string{"test", "lint"}, Has: true}, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func TestBranchProtection(t *testing.T) {
	t.Parallel()
	const at = "/repos/my-org/app"
	for about, row := range map[string]struct {
		change func(*server)
		want   hosts.Branch
		err    string
	}{
		"B3: none": {func(s *server) {
			s.answers[at+"/rules/branches/main"] = []any{}
			s.answers[at+"/branches/main/protection"], s.status[at+"/branches/main/protection"] = object{"message": "Branch not protected"}, http.StatusNotFound
		}, hosts.Branch{Has: true}, ""},
		"that may not be read": {func(s *server) {
			s.answers[at+"/rules/branches/main"] = []any{}
			s.status[at+"/branches/main/protection"] = http.StatusForbidden
		}, hosts.Branch{Has: true, Why: "its branch protection may not be read with these credentials, which takes an administrator; rulesets may"}, ""},
		"of a server without rulesets": {func(s *server) { delete(s.answers, at+"/rules/branches/main") }, hosts.Branch{Protected: true, Approvals: 1, Runs: []string{"lint"}, Has: true}, ""},
		"by status checks alone is not of requests": {func(s *server) {
			s.answers[at+"/rules/branches/main"] = []any{}
			s.answers[at+"/branches/main/protection"] = object{"required_status_checks": object{"checks": []any{object{"context": "x"}}}}
		}, hosts.Branch{Runs: []string{"x"}, Has: true}, ""},
		"of a branch that lost the commit": {func(s *server) { s.answers[at+"/compare/"+commit+"...main"] = object{"status": "diverged"} }, hosts.Branch{Protected: true, Approvals: 2, Runs: []string{"test", "lint"}}, ""},
		"that the server fails at":         {func(s *server) { s.status[at+"/rules/branches/main"] = http.StatusBadGateway }, hosts.Branch{}, `asking github.com about the rules of branch "main"`},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.fill()
			row.change(s)
			got, err := s.host(t, github.Auth{Token: token}).Branch(t.Context(), repo, "main", commit)
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Fatalf("err = %v", err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("branch (-want +got):\n%s", diff)
			}
		})
	}
}

// TestApproved asks the whole way, from a record of a build to the API and back.
func TestApproved(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.fill()
	const at = "/repos/my-org/app"
	s.answers[at+"/commits/"+head+"/check-runs"] = list{"check_runs", []any{
		object{"name": "test", "status": "completed", "conclusion": "success", "completed_at": "2026-05-01T12:08:00Z"},
		object{"name": "lint", "status": "completed", "conclusion": "success", "completed_at": "2026-05-01T12:08:00Z"},
	}}
	s.answers[at+"/commits/"+head+"/status"] = list{"statuses", nil}
	c, err := approved.New(approved.Settings{Hosts: hosts.Set{{Alias: "us", Host: "github.com", Path: "my-org", Of: s.host(t, github.Auth{Token: token})}}})
	if err != nil {
		t.Fatal(err)
	}
	o := checktest.Build("https://github.com/my-org/app.git", commit)
	o.GetBuild().GetProvenance().StartTime = timestamppb.New(minute(20))
	for permission, want := range map[string]string{
		"read":  "pull request #7 has 1, needs 2; approved by bob; not counted: cat, who may not write to the repository",
		"admin": "",
	} {
		s.answers[at+"/collaborators/cat/permission"] = object{"permission": permission}
		got, err := checktest.Run(t, c, &checktest.Metadata{List: []*grafeas.Occurrence{o}}, nil)
		if err != nil || got.Passed() != (want == "") || !strings.Contains(got.Reason(), want) {
			t.Errorf("cat has %s: got %+v, %v", permission, got, err)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.host(t, github.Auth{Token: token})
	if _, err := h.Owner(t.Context(), repo); !errors.Is(err, hosts.ErrNotFound) || !strings.Contains(err.Error(), "asking github.com about github.com/my-org/app") {
		t.Errorf("a repository: %v", err)
	}
	s.fill()
	s.status["/repos/my-org/app/commits/"+commit] = http.StatusUnprocessableEntity
	if _, err := h.Commit(t.Context(), repo, commit); !errors.Is(err, hosts.ErrNotFound) || !strings.Contains(err.Error(), commit) {
		t.Errorf("a commit: %v", err)
	}
	s.status = map[string]int{}
	s.answers["/repos/my-org/app/commits/"+commit] = object{"sha": head}
	if _, err := h.Commit(t.Context(), repo, commit); err == nil || !strings.Contains(err.Error(), "answered with commit") {
		t.Errorf("another commit: %v", err)
	}
	if _, err := h.Owner(t.Context(), builds.Repository{Host: "github.com", Path: "a/b/c"}); err == nil || !strings.Contains(err.Error(), "no repository of GitHub") {
		t.Errorf("no repository: %v", err)
	}
	if _, err := s.host(t, github.Auth{Token: "wrong"}).Owner(t.Context(), repo); err == nil || strings.Contains(err.Error(), "wrong") || !strings.Contains(err.Error(), "401") {
		t.Errorf("bad credentials: %v", err)
	}
}

func TestB16_AHungHostEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	h, err := github.New("github.com", s.URL, github.Auth{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = h.Commit(ctx, repo, commit)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "asking github.com about github.com/my-org/app: it did not answer in time") {
		t.Errorf("err = %v", err)
	}
}

func TestCredentialsGoToTheAPIOnly(t *testing.T) {
	t.Parallel()
	var leaked string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"owner":{"login":"my-org","type":"Organization"}}`))
	}))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusMovedPermanently))
	defer s.Close()
	h, err := github.New("github.com", s.URL, github.Auth{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Owner(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	if leaked != "" {
		t.Errorf("the other host was sent %q", leaked)
	}
	for _, api := range []string{"http://github.example/api/v3", "://", "ftp://x"} {
		if _, err := github.New("github.example", api, github.Auth{}); err == nil {
			t.Errorf("%q: no error", api)
		}
	}
}

func TestApp(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	var mu sync.Mutex
	asked, life := 0, time.Hour
	s := newServer(t)
	s.fill()
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v3/app/installations/34/access_tokens" {
			s.ServeHTTP(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		if err := proves(r, &key.PublicKey); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token":%q,"expires_at":%q}`, token, time.Now().Add(life).UTC().Format(time.RFC3339))
	})
	h := s.host(t, github.Auth{App: github.App{ID: "12", Installation: "34", PrivateKey: private}})
	t.Run("gets one token for many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := h.Owner(t.Context(), repo); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if asked != 1 {
			t.Errorf("asked for %d tokens, want 1", asked)
		}
	})
	t.Run("renews it before its end", func(t *testing.T) {
		life = time.Minute
		h := s.host(t, github.Auth{App: github.App{ID: "12", Installation: "34", PrivateKey: private}})
		asked = 0
		for range 2 {
			if _, err := h.Owner(t.Context(), repo); err != nil {
				t.Fatal(err)
			}
		}
		if asked != 2 {
			t.Errorf("asked for %d tokens, want 2", asked)
		}
	})
	t.Run("is refused with another key, and tells no secret", func(t *testing.T) {
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(other)
		if err != nil {
			t.Fatal(err)
		}
		h := s.host(t, github.Auth{App: github.App{ID: "12", Installation: "34", PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))}})
		if _, err := h.Owner(t.Context(), repo); err == nil || !strings.Contains(err.Error(), "getting a token for GitHub App 12: status 401") {
			t.Errorf("err = %v", err)
		}
	})
	for about, auth := range map[string]github.Auth{
		"two ways":        {Token: token, App: github.App{ID: "12", Installation: "34", PrivateKey: private}},
		"no number":       {App: github.App{ID: "x", Installation: "34", PrivateKey: private}},
		"no installation": {App: github.App{ID: "12", PrivateKey: private}},
		"no key":          {App: github.App{ID: "12", Installation: "34", PrivateKey: "secret"}},
		"something else":  {App: github.App{ID: "12", Installation: "34", PrivateKey: "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n"}},
	} {
		if _, err := github.New("github.com", "", auth); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%s: err = %v", about, err)
		}
	}
}

// proves verifies the JWT of an app, as GitHub does.
func proves(r *http.Request, key *rsa.PublicKey) error {
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		return errors.New("no JWT")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return err
	}
	if now := time.Now().Unix(); claims.Iss != "12" || claims.Iat > now || claims.Exp <= now || claims.Exp-claims.Iat > 600 {
		return fmt.Errorf("claims %s", raw)
	}
	return nil
}
