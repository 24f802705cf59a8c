package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

var (
	ann  = metadata.Caller{Name: "ann"}
	noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
)

// A fixture is a service over a store of its own, with projects p and q, and all
// that it recorded.
type fixture struct {
	*testing.T
	*admin.Service
	svc *metadata.Service

	mu    sync.Mutex
	calls []metadata.CallRecord
}

func (f *fixture) Record(_ context.Context, c metadata.CallRecord) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
}

func newFixture(t *testing.T, auth metadata.Authorizer, opts admin.Options) *fixture {
	t.Helper()
	f := &fixture{T: t}
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	if auth == nil {
		auth = metadata.InsecureAllowAll()
	}
	var err error
	if f.svc, err = metadata.NewService(t.Context(), store, metadata.Options{
		Authorizer: auth, Projects: []string{"p", "q"}, Clock: func() time.Time { return noon }, Recorder: f,
	}); err != nil {
		t.Fatal(err)
	}
	if f.Service, err = admin.New(f.svc, opts); err != nil {
		t.Fatal(err)
	}
	return f
}

func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantKind(t *testing.T, err error, kind metadata.Kind, parts ...string) {
	t.Helper()
	if err == nil || metadata.KindOf(err) != kind {
		t.Errorf("got error %v, want one of kind %v", err, kind)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q lacks %q", err, part)
		}
	}
}

func change(body string) admin.Change { return admin.Change{Body: []byte(body)} }

const denyAll = `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}`

func requires(attestors ...string) string {
	text, err := json.Marshal(map[string]any{"defaultAdmissionRule": map[string]any{
		"evaluationMode": 2, "enforcementMode": 1, "requireAttestationsBy": attestors,
	}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// withETag adds an etag to a document.
func withETag(body, etag string) string {
	var o map[string]any
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		panic(err)
	}
	o["etag"] = etag
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const someAttestor = `{"userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n"}}`

func (f *fixture) attestor(name string) admin.Version {
	f.Helper()
	parent, id, _ := strings.Cut(name, "/attestors/")
	return ok[admin.Version](f.T)(f.CreateAttestor(f.Context(), ann, parent, id, change(someAttestor)))
}

func TestAProjectThatNeverHadAPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	v := ok[admin.Version](t)(f.GetPolicy(t.Context(), ann, "projects/p/policy"))
	if v.Revision != 0 || v.ETag == "" || !v.Time.IsZero() {
		t.Errorf("got %+v", v)
	}
	var got map[string]any
	if err := json.Unmarshal(v.Content, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "projects/p/policy", "etag": v.ETag, "globalPolicyEvaluationMode": "ENABLE",
		"defaultAdmissionRule": map[string]any{"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	_, err := f.GetPolicy(t.Context(), ann, "projects/missing/policy")
	wantKind(t, err, metadata.NotFound, "projects/missing")
	_, err = f.UpdatePolicy(t.Context(), ann, "projects/missing/policy", change(denyAll))
	wantKind(t, err, metadata.NotFound, "projects/missing")
	// It counts as a version for who wants to replace that and no other.
	ok[admin.Version](t)(f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(withETag(denyAll, v.ETag))))
	_, err = f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(withETag(denyAll, v.ETag)))
	wantKind(t, err, metadata.Aborted)
}

func TestAPolicyIsReplacedWholeAndCanonical(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	f.attestor("projects/q/attestors/a")
	body := `{"name": "projects/evil/policy", "updateTime": "2001-01-01T00:00:00Z", "description": "d",
		"defaultAdmissionRule": {"enforcementMode": 1, "evaluationMode": "REQUIRE_ATTESTATION", "requireAttestationsBy": ["projects/q/attestors/a"]}}`
	first := ok[admin.Version](t)(f.UpdatePolicy(t.Context(), ann, "projects/p/policy", admin.Change{Body: []byte(body), Comment: "first"}))
	if first.Revision != 1 || first.Author != "ann" || first.Comment != "first" {
		t.Errorf("got %+v", first)
	}
	want := `{"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"REQUIRE_ATTESTATION",` +
		`"requireAttestationsBy":["projects/q/attestors/a"]},"description":"d","etag":` + quoted(first.ETag) + `,"name":"projects/p/policy",` +
		`"updateTime":"2026-11-23T12:00:00.123456Z"}`
	if string(first.Content) != want {
		t.Errorf("got  %s\nwant %s", first.Content, want)
	}
	if len(first.ETag) != 14 || first.ETag[0] != '"' || first.ETag[13] != '"' {
		t.Errorf("etag %s", first.ETag)
	}
	if got := ok[admin.Version](t)(f.GetPolicy(t.Context(), ann, "projects/p/policy")); !cmp.Equal(first, got) {
		t.Errorf("read %+v", got)
	}
	// The clock stands still, and versions differ all the same.
	second := ok[admin.Version](t)(f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(denyAll)))
	if second.Revision != 2 || !second.Time.After(first.Time) || second.ETag == first.ETag || strings.Contains(string(second.Content), "description") {
		t.Errorf("got %+v %s", second, second.Content)
	}
}

func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	f.attestor("projects/p/attestors/a")
	for name, test := range map[string]struct {
		body  string
		parts []string
	}{
		"attestors that do not exist": {requires("projects/p/attestors/a", "projects/p/attestors/b", "projects/q/attestors/a"), []string{`"projects/p/attestors/b", "projects/q/attestors/a"`}},
		"a wrong case":                {`{"defaultadmissionrule": {}}`, []string{"line 1", `unknown field "defaultadmissionrule"`, "defaultAdmissionRule"}},
		"duplicate fields":            {"{\"description\": \"a\",\n\"description\": \"b\"}", []string{"line 2", "twice"}},
		"a wrong type":                {`{"defaultAdmissionRule": "x"}`, []string{"defaultAdmissionRule must be an object"}},
		"no default rule":             {`{}`, []string{"defaultAdmissionRule is missing"}},
		"nothing":                     {``, []string{"empty"}},
		"attestors that do nothing":   {strings.Replace(requires("projects/p/attestors/a"), "2", "3", 1), []string{"requireAttestationsBy must be empty"}},
		"too much":                    {`{"description": "` + strings.Repeat("x", 5<<20) + `"}`, []string{"bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(test.body))
			wantKind(t, err, metadata.InvalidArgument, test.parts...)
		})
	}
	for _, comment := range []string{"two\nlines", "\xff", strings.Repeat("x", 2000), "\u202e"} {
		_, err := f.UpdatePolicy(t.Context(), ann, "projects/p/policy", admin.Change{Body: []byte(denyAll), Comment: comment})
		wantKind(t, err, metadata.InvalidArgument, "comment")
	}
	for _, name := range []string{"", "projects/p", "projects//policy", "projects/p/policy/", "projects/p/Policy", "projects/../policy", "locations/global/policy", "projects/p/locations/l/policy", "projects/p/attestors/a"} {
		_, err := f.UpdatePolicy(t.Context(), ann, name, change(denyAll))
		wantKind(t, err, metadata.InvalidArgument)
	}
	if v := ok[admin.Version](t)(f.GetPolicy(t.Context(), ann, "projects/p/policy")); v.Revision != 0 {
		t.Errorf("what was refused is stored: %s", v.Content)
	}
}

func TestOfTwoWritersWithOneEtagOneWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	const writers = 8
	etag := ok[admin.Version](t)(f.GetPolicy(t.Context(), ann, "projects/p/policy")).ETag
	for round := range 5 {
		var won atomic.Int64
		var next atomic.Value
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				v, err := f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(withETag(denyAll, etag)))
				if err == nil {
					won.Add(1)
					next.Store(v.ETag)
				} else if metadata.KindOf(err) != metadata.Aborted {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d writers won", round, won.Load())
		}
		etag = next.Load().(string)
	}
	// Without an etag nobody loses.
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			if _, err := f.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(denyAll)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if v := ok[admin.Version](t)(f.GetPolicy(t.Context(), ann, "projects/p/policy")); v.Revision != 5+writers {
		t.Errorf("revision %d", v.Revision)
	}
}

func TestTheLifeOfAnAttestor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	const name = "projects/p/attestors/a"
	_, err := f.GetAttestor(ctx, ann, name)
	wantKind(t, err, metadata.NotFound, name)
	_, err = f.UpdateAttestor(ctx, ann, name, change(someAttestor))
	wantKind(t, err, metadata.NotFound, name)
	wantKind(t, f.DeleteAttestor(ctx, ann, name, true), metadata.NotFound, name)

	_, err = f.CreateAttestor(ctx, ann, "projects/missing", "a", change(someAttestor))
	wantKind(t, err, metadata.NotFound, "projects/missing")
	for _, id := range []string{"", "a/b", "-a", ".", "a b", "ä", "a:b", strings.Repeat("a", 200)} {
		_, err = f.CreateAttestor(ctx, ann, "projects/p", id, change(someAttestor))
		wantKind(t, err, metadata.InvalidArgument)
	}
	_, err = f.CreateAttestor(ctx, ann, "projects/p", "a", change(`{"userOwnedGrafeasNote": {"noteReference": "projects/123/notes/n"}}`))
	wantKind(t, err, metadata.InvalidArgument, "project number")

	v := f.attestor(name)
	if v.Revision != 1 || v.Name != name || !strings.Contains(string(v.Content), `"name":"`+name+`"`) {
		t.Errorf("created %+v %s", v, v.Content)
	}
	_, err = f.CreateAttestor(ctx, ann, "projects/p", "a", change(someAttestor))
	wantKind(t, err, metadata.AlreadyExists, name)

	_, err = f.UpdateAttestor(ctx, ann, name, change(`{"userOwnedGrafeasNote": {"noteReference": "projects/p/notes/other"}}`))
	wantKind(t, err, metadata.InvalidArgument, "immutable")
	old := v.ETag
	v = ok[admin.Version](t)(f.UpdateAttestor(ctx, ann, name, change(`{"description": "new", "etag": `+quoted(old)+`, "userOwnedDrydockNote": {"noteReference": "providers/p/notes/n", "delegationServiceAccountEmail": "x@example.com"}}`)))
	if strings.Contains(string(v.Content), "Drydock") || strings.Contains(string(v.Content), "x@example.com") || !strings.Contains(string(v.Content), `"noteReference":"projects/p/notes/n"`) {
		t.Errorf("updated %s", v.Content)
	}
	_, err = f.UpdateAttestor(ctx, ann, name, change(withETag(someAttestor, old)))
	wantKind(t, err, metadata.Aborted, name)

	if err := f.DeleteAttestor(ctx, ann, name, false); err != nil {
		t.Error(err)
	}
	_, err = f.GetAttestor(ctx, ann, name)
	wantKind(t, err, metadata.NotFound, name)
	if v = f.attestor(name); v.Revision != 4 {
		t.Errorf("created again as revision %d", v.Revision)
	}
}

func TestAttestorsAreListed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	_, err := f.ListAttestors(t.Context(), ann, "projects/missing", 0, "")
	wantKind(t, err, metadata.InvalidArgument, "projects/missing")
	var want []string
	for i := range 5 {
		want = append(want, f.attestor(fmt.Sprintf("projects/p/attestors/a%d", i)).Name)
	}
	f.attestor("projects/q/attestors/a")
	f.attestor("projects/p/attestors/gone")
	if err := f.DeleteAttestor(t.Context(), ann, "projects/p/attestors/gone", false); err != nil {
		t.Fatal(err)
	}
	var got []string
	token := ""
	for {
		page := ok[admin.Page](t)(f.ListAttestors(t.Context(), ann, "projects/p", 2, token))
		if len(page.Versions) > 2 {
			t.Fatalf("%d on a page", len(page.Versions))
		}
		for _, v := range page.Versions {
			got = append(got, v.Name)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
		_, err := f.ListAttestors(t.Context(), ann, "projects/q", 2, token)
		wantKind(t, err, metadata.InvalidArgument, "token")
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	_, err = f.ListAttestors(t.Context(), ann, "projects/p", -1, "")
	wantKind(t, err, metadata.InvalidArgument, "page size")
}

func TestAnAttestorInUseStaysUnlessForced(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	const name = "projects/p/attestors/a"
	f.attestor(name)
	ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, "projects/q/policy", change(requires(name))))
	wantKind(t, f.DeleteAttestor(ctx, ann, name, false), metadata.FailedPrecondition, name, "projects/q/policy", "force=true")
	if err := f.DeleteAttestor(ctx, ann, name, true); err != nil {
		t.Fatal(err)
	}
	_, err := f.UpdatePolicy(ctx, ann, "projects/q/policy", change(requires(name)))
	wantKind(t, err, metadata.InvalidArgument, name)
	p := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "q"))
	if p.Empty() || len(p.Sources.Attestors) != 0 {
		t.Errorf("read %+v", p)
	}
}

func TestHistoryAndRollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ctx := t.Context()
	const name = "projects/p/policy"
	if page := ok[admin.Page](t)(f.ListVersions(ctx, ann, name, 0, "")); len(page.Versions) != 0 {
		t.Errorf("the history of a policy that never was: %+v", page)
	}
	_, err := f.Rollback(ctx, ann, name, 1, "", "")
	wantKind(t, err, metadata.NotFound)
	f.attestor("projects/p/attestors/a")
	first := ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, name, change(requires("projects/p/attestors/a"))))
	second := ok[admin.Version](t)(f.UpdatePolicy(ctx, metadata.Caller{Name: "bob"}, name, change(denyAll)))
	third := ok[admin.Version](t)(f.Rollback(ctx, ann, name, 1, second.ETag, ""))
	if third.Revision != 3 || third.ETag == first.ETag || third.Comment != "rollback to revision 1" || !third.Time.After(second.Time) ||
		sansStamps(third) != sansStamps(first) {
		t.Errorf("rolled back to %+v %s", third, third.Content)
	}
	_, err = f.Rollback(ctx, ann, name, 1, second.ETag, "")
	wantKind(t, err, metadata.Aborted)
	for _, revision := range []uint64{0, 4} {
		if _, err = f.Rollback(ctx, ann, name, revision, "", ""); err == nil {
			t.Errorf("rolled back to revision %d", revision)
		}
	}
	page := ok[admin.Page](t)(f.ListVersions(ctx, ann, name, 2, ""))
	rest := ok[admin.Page](t)(f.ListVersions(ctx, ann, name, 2, page.NextPageToken))
	if d := cmp.Diff([]admin.Version{third, second, first}, append(page.Versions, rest.Versions...)); d != "" || rest.NextPageToken != "" {
		t.Error(d)
	}
	if got := ok[admin.Version](t)(f.GetVersion(ctx, ann, name, 2)); !cmp.Equal(got, second) {
		t.Errorf("got %+v", got)
	}

	// What is no longer valid is refused.
	ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, name, change(denyAll)))
	if err := f.DeleteAttestor(ctx, ann, "projects/p/attestors/a", false); err != nil {
		t.Fatal(err)
	}
	_, err = f.Rollback(ctx, ann, name, 1, "", "")
	wantKind(t, err, metadata.FailedPrecondition, "no longer valid", "projects/p/attestors/a")
	// And what was deleted comes back.
	_, err = f.Rollback(ctx, ann, "projects/p/attestors/a", 2, "", "")
	wantKind(t, err, metadata.InvalidArgument, "its deletion")
	if v := ok[admin.Version](t)(f.Rollback(ctx, ann, "projects/p/attestors/a", 1, "", "oops")); v.Revision != 3 || v.Comment != "oops" {
		t.Errorf("got %+v", v)
	}
	ok[admin.Version](t)(f.Rollback(ctx, ann, name, 1, "", ""))
}

// sansStamps is what a version says, without its etag and time.
func sansStamps(v admin.Version) string {
	var o map[string]any
	if err := json.Unmarshal(v.Content, &o); err != nil {
		panic(err)
	}
	delete(o, "etag")
	delete(o, "updateTime")
	text, err := json.Marshal(o, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestSystemPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	v := ok[admin.Version](t)(f.GetSystemPolicy(t.Context(), ann, "locations/us-east1/policy"))
	builtIn, diags := binauthz.ParsePolicy("s", []byte(binauthz.SystemPolicy()))
	if builtIn == nil {
		t.Fatal(diags)
	}
	got, diags := binauthz.ParsePolicy("s", v.Content)
	if got == nil || len(got.Exempt) != len(builtIn.Exempt) || got.Name != "locations/us-east1/policy" || v.Revision != 0 {
		t.Errorf("got %s %s", v.Content, diags)
	}
	ok[admin.Version](t)(f.UpdateSystemPolicy(t.Context(), ann, "locations/global/policy", change(denyAll)))
	p := ok[admin.Policies](t)(admin.Read(t.Context(), f.svc, "p"))
	if p.Sources.System == nil || !p.Empty() {
		t.Errorf("read %+v", p)
	}
	_, err := f.GetSystemPolicy(t.Context(), ann, "locations/a b/policy")
	wantKind(t, err, metadata.InvalidArgument)
}

func TestWhatAFileWinsOverIsNotWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{Files: admin.Files{
		Project: "p", Policies: []string{"/etc/policy.yaml", "/etc/kritis.yaml"}, Attestors: []string{"/etc/attestors.yaml"}, System: "/etc/system.yaml",
	}})
	ctx := t.Context()
	_, err := f.UpdatePolicy(ctx, ann, "projects/p/policy", change(denyAll))
	wantKind(t, err, metadata.FailedPrecondition, "/etc/policy.yaml")
	_, err = f.Rollback(ctx, ann, "projects/p/policy", 1, "", "")
	wantKind(t, err, metadata.FailedPrecondition, "/etc/policy.yaml")
	_, err = f.CreateAttestor(ctx, ann, "projects/q", "a", change(someAttestor))
	wantKind(t, err, metadata.FailedPrecondition, "/etc/attestors.yaml")
	wantKind(t, f.DeleteAttestor(ctx, ann, "projects/q/attestors/a", true), metadata.FailedPrecondition, "/etc/attestors.yaml")
	_, err = f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/gke", "x", change(`{"gkePolicy": {}}`))
	wantKind(t, err, metadata.FailedPrecondition, "/etc/kritis.yaml")
	wantKind(t, f.DeletePlatformPolicy(ctx, ann, "projects/p/platforms/gke/policies/x", ""), metadata.FailedPrecondition, "/etc/kritis.yaml")
	_, err = f.UpdateSystemPolicy(ctx, ann, "locations/global/policy", change(denyAll))
	wantKind(t, err, metadata.FailedPrecondition, "/etc/system.yaml")
	// The gate does not look at the policies of other projects and locations.
	ok[admin.Version](t)(f.UpdateSystemPolicy(ctx, ann, "locations/eu/policy", change(denyAll)))
	ok[admin.Version](t)(f.UpdatePolicy(ctx, ann, "projects/q/policy", change(denyAll)))
}

func TestPlatformPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{Evaluate: func(_ context.Context, v admin.Version, resource []byte, _ func(string) error) ([]byte, error) {
		return fmt.Appendf(nil, `{"verdict":%q,"of":%s}`, v.Name, resource), nil
	}})
	ctx := t.Context()
	const parent, name = "projects/p/platforms/gke", "projects/p/platforms/gke/policies/x"
	v := ok[admin.Version](t)(f.CreatePlatformPolicy(ctx, ann, parent, "x", change(`{"gkePolicy": {"checkSets": []}, "description": "d"}`)))
	want := `{"description":"d","etag":` + quoted(v.ETag) + `,"gkePolicy":{"checkSets":[]},"name":"` + name + `","updateTime":"2026-11-23T12:00:00.123456Z"}`
	if string(v.Content) != want {
		t.Errorf("got  %s\nwant %s", v.Content, want)
	}
	_, err := f.CreatePlatformPolicy(ctx, ann, parent, "x", change(`{"gkePolicy": {}}`))
	wantKind(t, err, metadata.AlreadyExists, name)
	_, err = f.CreatePlatformPolicy(ctx, ann, parent, "y", change(`{}`))
	wantKind(t, err, metadata.InvalidArgument, "gkePolicy")
	_, err = f.CreatePlatformPolicy(ctx, ann, parent, "y", change("gkePolicy: {}"))
	wantKind(t, err, metadata.InvalidArgument, "not JSON")
	_, err = f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/x", "y", change(`{"gkePolicy": {}}`))
	wantKind(t, err, metadata.InvalidArgument, "platform")
	second := ok[admin.Version](t)(f.ReplacePlatformPolicy(ctx, ann, name, change(`{"gkePolicy": {}, "etag": `+quoted(v.ETag)+`}`)))
	_, err = f.ReplacePlatformPolicy(ctx, ann, name, change(`{"gkePolicy": {}, "etag": `+quoted(v.ETag)+`}`))
	wantKind(t, err, metadata.Aborted)
	if got := ok[admin.Version](t)(f.GetPlatformPolicy(ctx, ann, name)); !cmp.Equal(got, second) {
		t.Errorf("read %+v", got)
	}
	answer := ok[[]byte](t)(f.EvaluatePlatformPolicy(ctx, ann, name, []byte(`{}`)))
	if string(answer) != `{"verdict":"`+name+`","of":{}}` {
		t.Errorf("evaluated to %s", answer)
	}
	p := ok[admin.Policies](t)(admin.Read(ctx, f.svc, "p"))
	if len(p.Sources.Policies) != 1 || p.Sources.Policies[0].Name != name+", revision 2" || !bytes.Equal(p.Sources.Policies[0].Data, second.Content) {
		t.Errorf("read %+v", p)
	}
	wantKind(t, f.DeletePlatformPolicy(ctx, ann, name, v.ETag), metadata.Aborted)
	if err := f.DeletePlatformPolicy(ctx, ann, name, second.ETag); err != nil {
		t.Error(err)
	}
	page := ok[admin.Page](t)(f.ListPlatformPolicies(ctx, ann, parent, 0, ""))
	if len(page.Versions) != 0 {
		t.Errorf("listed %+v", page)
	}
	if back := ok[admin.Version](t)(f.Rollback(ctx, ann, name, 1, "", "")); sansStamps(back) != sansStamps(v) || back.Revision != 4 {
		t.Errorf("rolled back to %+v", back)
	}
	bare := newFixture(t, nil, admin.Options{})
	_, err = bare.EvaluatePlatformPolicy(ctx, ann, name, []byte(`{}`))
	wantKind(t, err, metadata.Unimplemented)
}

// Each method asks for the permissions of Google's names, on the right resource,
// before it tells anything, and leaves one record.
func TestPermissionsAndRecords(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	allowed := ""
	f := newFixture(t, metadata.AuthorizerFunc(func(_ context.Context, _ metadata.Caller, p metadata.Permission, resource string) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, string(p)+" on "+resource)
		if allowed == "*" || strings.Contains(allowed, string(p)+" on "+resource+";") {
			return nil
		}
		return errors.New("no rule")
	}), admin.Options{Evaluate: func(_ context.Context, _ admin.Version, _ []byte, may func(string) error) ([]byte, error) {
		return []byte("{}"), errors.Join(may("p"), may("q"))
	}})
	ctx := t.Context()
	second := func(_ any, err error) error { return err }
	const policy, attestor, platform = "projects/p/policy", "projects/p/attestors/a", "projects/p/platforms/gke/policies/x"
	for _, test := range []struct {
		method, want string
		call         func() error
	}{
		{"GetPolicy", "policy.get on " + policy, func() error { return second(f.GetPolicy(ctx, ann, policy)) }},
		{"UpdatePolicy", "policy.update on " + policy, func() error { return second(f.UpdatePolicy(ctx, ann, policy, change("bad"))) }},
		{"CreateAttestor", "attestors.create on projects/p", func() error { return second(f.CreateAttestor(ctx, ann, "projects/p", "a", change("bad"))) }},
		{"GetAttestor", "attestors.get on " + attestor, func() error { return second(f.GetAttestor(ctx, ann, attestor)) }},
		{"UpdateAttestor", "attestors.update on " + attestor, func() error { return second(f.UpdateAttestor(ctx, ann, attestor, change("bad"))) }},
		{"ListAttestors", "attestors.list on projects/p", func() error { return second(f.ListAttestors(ctx, ann, "projects/p", 0, "")) }},
		{"DeleteAttestor", "attestors.delete on " + attestor, func() error { return f.DeleteAttestor(ctx, ann, attestor, true) }},
		{"ValidateAttestationOccurrence", "attestors.verifyImageAttested on " + attestor, func() error { return second(f.ValidateAttestation(ctx, ann, attestor, nil, "", "")) }},
		{"GetSystemPolicy", "policy.get on locations/global/policy", func() error { return second(f.GetSystemPolicy(ctx, ann, "locations/global/policy")) }},
		{"UpdateSystemPolicy", "policy.update on locations/global/policy", func() error {
			return second(f.UpdateSystemPolicy(ctx, ann, "locations/global/policy", change("bad")))
		}},
		{"CreatePlatformPolicy", "platformPolicies.create on projects/p/platforms/gke", func() error {
			return second(f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/gke", "x", change("bad")))
		}},
		{"GetPlatformPolicy", "platformPolicies.get on " + platform, func() error { return second(f.GetPlatformPolicy(ctx, ann, platform)) }},
		{"ReplacePlatformPolicy", "platformPolicies.replace on " + platform, func() error { return second(f.ReplacePlatformPolicy(ctx, ann, platform, change("bad"))) }},
		{"ListPlatformPolicies", "platformPolicies.list on projects/p/platforms/gke", func() error {
			return second(f.ListPlatformPolicies(ctx, ann, "projects/p/platforms/gke", 0, ""))
		}},
		{"DeletePlatformPolicy", "platformPolicies.delete on " + platform, func() error { return f.DeletePlatformPolicy(ctx, ann, platform, "") }},
		{"EvaluateGkePolicy", "platformPolicies.evaluatePolicy on " + platform, func() error { return second(f.EvaluatePlatformPolicy(ctx, ann, platform, nil)) }},
		{"ListVersions", "attestors.get on " + attestor, func() error { return second(f.ListVersions(ctx, ann, attestor, 0, "")) }},
		{"GetVersion", "platformPolicies.get on " + platform, func() error { return second(f.GetVersion(ctx, ann, platform, 1)) }},
		{"Rollback", "policy.update on " + policy, func() error { return second(f.Rollback(ctx, ann, policy, 1, "", "")) }},
		{"Rollback", "attestors.update on " + attestor, func() error { return second(f.Rollback(ctx, ann, attestor, 1, "", "")) }},
	} {
		asked, f.calls = nil, nil
		wantKind(t, test.call(), metadata.PermissionDenied)
		if len(asked) != 1 || asked[0] != "binaryauthorization."+test.want {
			t.Errorf("%s asked for %q", test.method, asked)
		}
		if len(f.calls) != 1 || f.calls[0].Method != test.method || f.calls[0].Caller != ann || f.calls[0].Err == nil {
			t.Errorf("%s is recorded as %+v", test.method, f.calls)
		}
	}
	// Who names an attestor must be able to read him; whether he exists is not told.
	allowed = "binaryauthorization.policy.update on projects/p/policy;"
	_, err := f.UpdatePolicy(ctx, ann, policy, change(requires(attestor)))
	wantKind(t, err, metadata.PermissionDenied, "binaryauthorization.attestors.get", attestor)
	// A policy may look into the evidence of others. Who evaluates it must be able to do
	// so himself, or he could read by it what he may not.
	allowed = "*"
	ok[admin.Version](t)(f.CreatePlatformPolicy(ctx, ann, "projects/p/platforms/gke", "x", change(`{"gkePolicy": {}}`)))
	allowed = "binaryauthorization.platformPolicies.evaluatePolicy on " + platform + ";"
	_, err = f.EvaluatePlatformPolicy(ctx, ann, platform, []byte("{}"))
	wantKind(t, err, metadata.PermissionDenied, "occurrences.list", "projects/q")
	allowed += "occurrences.list on projects/q;"
	ok[[]byte](t)(f.EvaluatePlatformPolicy(ctx, ann, platform, []byte("{}")))
	// To bring back what was deleted is to create it.
	allowed = "*"
	f.attestor(attestor)
	if err := f.DeleteAttestor(ctx, ann, attestor, false); err != nil {
		t.Fatal(err)
	}
	allowed = "binaryauthorization.attestors.update on " + attestor + ";"
	_, err = f.Rollback(ctx, ann, attestor, 1, "", "")
	wantKind(t, err, metadata.PermissionDenied, "binaryauthorization.attestors.create", "projects/p")
}
