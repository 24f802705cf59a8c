package identity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func TestRules(t *testing.T) {
	t.Parallel()
	who := open(t, identity.Config{MTLS: true, Rules: []identity.Rule{
		{Caller: "ci@shop", Project: "shop", Roles: []string{"occurrences.editor", "roles/containeranalysis.notes.viewer"}},
		{Caller: "ci@shop", Project: "shop", Note: "tested", Roles: []string{"notes.attacher"}},
		{Caller: "*", Project: "public", Permissions: []metadata.Permission{metadata.NotesGet}},
		{Caller: "root", Project: "*", Roles: []string{"admin"}},
	}}, identity.Options{Internal: []identity.Rule{{Caller: identity.ReservedCaller, Project: "shop", Roles: []string{"notes.attacher"}}}})
	for _, tc := range []struct {
		caller     string
		permission metadata.Permission
		resource   string
		want       bool
	}{
		{"ci@shop", metadata.OccurrencesCreate, "projects/shop", true},
		{"ci@shop", metadata.OccurrencesCreate, "projects/shop/locations/eu", true},
		{"ci@shop", metadata.OccurrencesDelete, "projects/shop/occurrences/0", true},
		{"ci@shop", metadata.OccurrencesCreate, "projects/shop2", false},
		{"ci@shop", metadata.OccurrencesCreate, "projects/sho", false},
		{"ci@shop", metadata.OccurrencesCreate, "projects/", false},
		{"ci@shop", metadata.OccurrencesCreate, "projects", false},
		{"ci@shop", metadata.OccurrencesCreate, "", false},
		{"ci@shop", metadata.OccurrencesCreate, "shop", false},
		{"CI@shop", metadata.OccurrencesCreate, "projects/shop", false},
		{"ci@shop", metadata.NotesCreate, "projects/shop", false},
		{"ci@shop", metadata.NotesList, "projects/shop", true},
		{"ci@shop", metadata.NotesAttachOccurrence, "projects/shop/notes/tested", true},
		{"ci@shop", metadata.NotesAttachOccurrence, "projects/shop/notes/tested2", false},
		{"ci@shop", metadata.NotesAttachOccurrence, "projects/shop/locations/eu/notes/tested", false},
		{"ci@shop", metadata.NotesAttachOccurrence, "projects/other/notes/tested", false},
		{"ci@shop", metadata.NotesAttachOccurrence, "projects/shop", false},
		{"ci@shop", metadata.NotesSetIamPolicy, "projects/shop/notes/tested", false},
		{"anybody", metadata.NotesGet, "projects/public/notes/n", true},
		{"anybody", metadata.NotesGet, "projects/shop/notes/n", false},
		{"anybody", metadata.NotesList, "projects/public", false},
		{"", metadata.NotesGet, "projects/public/notes/n", false},
		{"*", metadata.NotesDelete, "projects/public/notes/n", false},
		{"root", metadata.ProjectsList, "projects", true},
		{"root", metadata.ProjectsCreate, "projects/new", true},
		{"root", metadata.NotesAttachOccurrence, "projects/any/notes/n", true},
		{"ci@shop", metadata.ProjectsList, "projects", false},
		{"ci@shop", metadata.ProjectsGet, "projects/shop", true},
		{identity.ReservedCaller, metadata.NotesAttachOccurrence, "projects/shop/notes/n", true},
		{identity.ReservedCaller, metadata.NotesAttachOccurrence, "projects/other/notes/n", false},
	} {
		err := who.Authorize(t.Context(), metadata.Caller{Name: tc.caller}, tc.permission, tc.resource)
		if (err == nil) != tc.want {
			t.Errorf("%q, %s on %q: %v", tc.caller, tc.permission, tc.resource, err)
		}
		kind := metadata.PermissionDenied
		if tc.caller == "" {
			kind = metadata.Unauthenticated
		}
		if err != nil && metadata.KindOf(err) != kind {
			t.Errorf("%q, %s on %q: kind %s", tc.caller, tc.permission, tc.resource, metadata.KindOf(err))
		}
	}
}

// TestTheRemedyThatARefusalNamesIsOne follows each refusal's advice.
func TestTheRemedyThatARefusalNamesIsOne(t *testing.T) {
	t.Parallel()
	other := identity.Rule{Caller: "other", Project: "*", Roles: []string{"viewer"}}
	for _, p := range metadata.Permissions {
		resource, project := "projects/shop/notes/n", "shop"
		if p == metadata.ProjectsList {
			resource, project = "projects", "*"
		}
		err := open(t, identity.Config{MTLS: true, Rules: []identity.Rule{other}}, identity.Options{}).
			Authorize(t.Context(), metadata.Caller{Name: "ci"}, p, resource)
		if err == nil {
			t.Fatalf("%s was given", p)
		}
		rule := identity.Rule{Caller: "ci", Project: project}
		if _, list, ok := strings.Cut(err.Error(), ", roles: ["); ok {
			rule.Roles = []string{list[:strings.IndexByte(list, ']')]}
		} else if _, list, ok := strings.Cut(err.Error(), ", permissions: ["); ok {
			rule.Permissions = []metadata.Permission{metadata.Permission(list[:strings.IndexByte(list, ']')])}
		}
		if !strings.Contains(err.Error(), `{caller: "ci", project: "`+project+`", `) || !strings.Contains(err.Error(), "lacks "+string(p)) {
			t.Errorf("%v", err)
		}
		if err := open(t, identity.Config{MTLS: true, Rules: []identity.Rule{rule}}, identity.Options{}).
			Authorize(t.Context(), metadata.Caller{Name: "ci"}, p, resource); err != nil {
			t.Errorf("with the rule that was advised: %v", err)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	attach := map[string]bool{"notes.attacher": true, "notes.editor": true, "editor": true, "admin": true}
	given := map[metadata.Permission]bool{}
	for _, name := range metadata.Roles() {
		permissions, known := metadata.PermissionsOf(name)
		prefix, other := "roles/containeranalysis.", "roles/"
		if strings.HasPrefix(name, "binaryauthorization.") {
			prefix, other = other, prefix
		}
		full, fullKnown := metadata.PermissionsOf(prefix + name)
		if _, known := metadata.PermissionsOf(other + name); known {
			t.Errorf("there is a role %s", other+name)
		}
		if !known || !fullKnown || !slices.Equal(permissions, full) {
			t.Errorf("role %s: %v, with prefix %v", name, permissions, full)
		}
		if got := slices.Contains(permissions, metadata.NotesAttachOccurrence); got != attach[name] {
			t.Errorf("role %s may attach: %v", name, got)
		}
		for n, p := range permissions {
			if !slices.Contains(metadata.Permissions, p) || slices.Contains(permissions[:n], p) {
				t.Errorf("role %s: permission %s", name, p)
			}
			if strings.HasSuffix(strings.ToLower(name), "viewer") && strings.ContainsAny(string(p[strings.IndexByte(string(p), '.'):]), "UCD") {
				t.Errorf("role %s changes: %s", name, p)
			}
		}
		for _, p := range permissions {
			given[p] = true
		}
	}
	for _, p := range metadata.Permissions {
		if !given[p] {
			t.Errorf("no role gives %s", p)
		}
		admin, _ := metadata.PermissionsOf("admin")
		if foreign := strings.HasPrefix(string(p), "binaryauthorization.") || strings.HasPrefix(string(p), "gatehouse.clusterObjects."); foreign == slices.Contains(admin, p) {
			t.Errorf("admin of Container Analysis has %s: %v", p, !foreign)
		}
	}
	if p, known := metadata.PermissionsOf("owner"); known || p != nil {
		t.Errorf("role owner: %v", p)
	}
}
