package breakglassapi_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/breakglass/breakglassapi"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// roles let callers do what their name says.
type roles struct{}

func (roles) Authorize(_ context.Context, caller metadata.Caller, permission metadata.Permission, resource string) error {
	permissions, _ := metadata.PermissionsOf(caller.Name)
	for _, p := range permissions {
		if p == permission && resource == "projects/p" {
			return nil
		}
	}
	return metadata.Errorf(metadata.PermissionDenied, "no")
}

func newAPI(t *testing.T) (*breakglassapi.API, string) {
	t.Helper()
	dir, logger := t.TempDir(), slog.New(slog.DiscardHandler)
	log, err := audit.Open(filepath.Join(dir, "audit"), logger)
	if err != nil {
		t.Fatal(err)
	}
	incidents, err := breakglass.OpenIncidents(breakglass.IncidentOptions{Dir: dir, Log: log, Writers: breakglass.NewWriters(nil), Now: time.Now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: roles{}, Projects: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []func() error{incidents.Close, log.Close, store.Close} {
			if err := c(); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		if err := log.AppendSync(t.Context(), audit.Record{
			ID: audit.NewID(), Time: time.Now(), Namespace: "shop", Resource: "pods", User: "ann", Decision: &decide.Decision{
				Override: decide.BreakGlass, BreakGlass: "label", Images: []decide.ImageDecision{{Image: audit.NewID()}},
			}, BreakGlass: &audit.BreakGlass{Needed: true, Kind: "Deployment", Name: "web", By: "ann"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	api := breakglassapi.New(breakglassapi.Options{Service: svc, Project: "p", Incidents: incidents, Grants: breakglass.NewGrants()})
	if err := incidents.CatchUp(); err != nil {
		t.Fatal(err)
	}
	list, _ := incidents.List(breakglass.Filter{}, "", 1)
	return api, list[0].ID
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	api, id := newAPI(t)
	grant := breakglass.Grant{ID: breakglass.NewGrantID(), Cluster: "*", Namespace: "shop", Begins: time.Now().UTC(), Ends: time.Now().UTC().Add(time.Hour)}
	payload, err := grant.Payload()
	if err != nil {
		t.Fatal(err)
	}
	signed := breakglass.SignedGrant{PayloadType: breakglass.GrantType, Payload: payload}
	text, err := signed.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, path, query string
		body                string
		may                 string // roles
		want                metadata.Kind
	}{
		{"GET", "breakGlassIncidents", "", "", "breakGlassViewer breakGlassResponder admin", 0},
		{"GET", "breakGlassIncidents", "state=odd", "", "breakGlassViewer breakGlassResponder admin", metadata.InvalidArgument},
		{"GET", "breakGlassIncidents", "filter=x", "", "breakGlassViewer breakGlassResponder admin", metadata.InvalidArgument},
		{"GET", "breakGlassIncidents/" + id, "", "", "breakGlassViewer breakGlassResponder admin", 0},
		{"GET", "breakGlassIncidents/none", "", "", "breakGlassViewer breakGlassResponder admin", metadata.NotFound},
		{"POST", "breakGlassIncidents/" + id + ":acknowledge", "", `{"comment":"x"}`, "breakGlassResponder admin", 0},
		{"POST", "breakGlassIncidents/" + id + ":acknowledge", "", `{"remark":"x"}`, "breakGlassResponder admin", metadata.InvalidArgument},
		{"GET", "breakGlassGrants", "", "", "breakGlassViewer breakGlassResponder breakGlassGranter admin", 0},
		{"POST", "breakGlassGrants", "", string(text), "breakGlassGranter admin", 0},
		{"POST", "breakGlassGrants", "", "{}", "breakGlassGranter admin", metadata.InvalidArgument},
	} {
		if methods := api.Methods("/v1/projects/p/" + tc.path); !strings.Contains(strings.Join(methods, " "), tc.method) {
			t.Errorf("%s takes %q", tc.path, methods)
			continue
		}
		for _, role := range []string{"viewer", "editor", "gate", "breakGlassViewer", "breakGlassResponder", "breakGlassGranter", "admin"} {
			want := metadata.PermissionDenied
			if strings.Contains(" "+tc.may+" ", " "+role+" ") {
				want = tc.want
			}
			_, err := api.ServeREST(t.Context(), metadata.Caller{Name: role}, grafeasapi.Request{Method: tc.method, Path: "/v1/projects/p/" + tc.path, Query: tc.query, Body: []byte(tc.body)})
			if (err == nil) != (want == 0) || err != nil && metadata.KindOf(err) != want {
				t.Errorf("%s %s?%s %s by %s: %v, want %v", tc.method, tc.path, tc.query, tc.body, role, err, want)
			}
		}
	}
}

func TestIncidentsComeInPages(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t)
	seen, token := 0, ""
	for range 3 {
		text, err := api.ServeREST(t.Context(), metadata.Caller{Name: "admin"}, grafeasapi.Request{Method: "GET", Path: "/v1/projects/p/breakGlassIncidents", Query: "pageSize=2&pageToken=" + token})
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Count(string(text), `"record":`)
		_, rest, found := strings.Cut(string(text), `"nextPageToken":"`)
		if !found {
			break
		}
		token, _, _ = strings.Cut(rest, `"`)
	}
	if seen != 3 {
		t.Errorf("%d incidents in all pages, want 3", seen)
	}
}

func TestOtherPathsAreNotTheirs(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t)
	for _, path := range []string{"/v1/projects/p/breakGlass", "/v1/projects//breakGlassIncidents", "/v2/projects/p/breakGlassIncidents", "/v1/projects/p/breakGlassIncidents/x:open"} {
		if methods := api.Methods(path); len(methods) > 0 {
			t.Errorf("%s takes %q", path, methods)
		}
	}
}
