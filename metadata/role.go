package metadata

import (
	"slices"
	"strings"
)

// How Google spells the roles in full: all of it may be left out of those of
// Container Analysis, and "roles/" of those of Binary Authorization.
const (
	RolePrefix       = "roles/containeranalysis."
	rolesPrefix      = "roles/"
	binauthzRoleName = "binaryauthorization."
)

// A role is a name for permissions.
type role struct {
	name        string
	permissions []Permission
}

// roles returns the table, from narrow to broad for each service. It is Google's,
// but for gate, which gates in other places have, those about break-glass and clusterController, which
// files the objects of a cluster, and that admin has all permissions of Container Analysis: Google's lacks
// notes.listOccurrences. Permissions on projects are part of the roles there that
// have resourcemanager.projects.
func roles() []role {
	viewer := []Permission{
		NotesGet, NotesList, NotesListOccurrences, NotesGetIamPolicy,
		OccurrencesGet, OccurrencesList, OccurrencesGetIamPolicy,
		ProjectsGet, ProjectsList,
	}
	return []role{
		{"gate", []Permission{FeedWatch}},
		{"breakGlassViewer", []Permission{BreakGlassIncidentsGet, BreakGlassIncidentsList, BreakGlassGrantsList}},
		{"breakGlassResponder", []Permission{BreakGlassIncidentsGet, BreakGlassIncidentsList, BreakGlassIncidentsUpdate, BreakGlassGrantsList, BreakGlassGrantsDelete}},
		{"breakGlassGranter", []Permission{BreakGlassGrantsList, BreakGlassGrantsCreate, BreakGlassGrantsDelete}},
		{"clusterController", []Permission{ClusterObjectsList, ClusterObjectsUpdate, ProjectsGet}},
		{"notes.occurrences.viewer", []Permission{NotesGet, NotesListOccurrences}},
		{"notes.attacher", []Permission{NotesGet, NotesAttachOccurrence}},
		{"notes.viewer", []Permission{NotesGet, NotesList, ProjectsGet, ProjectsList}},
		{"occurrences.viewer", []Permission{OccurrencesGet, OccurrencesList, ProjectsGet, ProjectsList}},
		{"notes.editor", []Permission{
			NotesGet, NotesList, NotesCreate, NotesUpdate, NotesDelete,
			NotesAttachOccurrence, ProjectsGet, ProjectsList,
		}},
		{"occurrences.editor", []Permission{
			OccurrencesGet, OccurrencesList, OccurrencesCreate, OccurrencesUpdate,
			OccurrencesDelete, ProjectsGet, ProjectsList,
		}},
		{"viewer", viewer},
		{"editor", append(slices.Clone(viewer),
			NotesCreate, NotesUpdate, NotesDelete, NotesAttachOccurrence,
			OccurrencesCreate, OccurrencesUpdate, OccurrencesDelete)},
		{"admin", slices.DeleteFunc(slices.Clone(Permissions), isPolicy)},
		{"binaryauthorization.policyViewer", with(PolicyGet, PlatformPoliciesGet, PlatformPoliciesList)},
		{"binaryauthorization.policyEvaluator", with(PolicyGet, PlatformPoliciesGet, PlatformPoliciesList, PlatformPoliciesEvaluatePolicy)},
		{"binaryauthorization.policyEditor", with(PolicyGet, PolicyUpdate, PlatformPoliciesGet, PlatformPoliciesList,
			PlatformPoliciesCreate, PlatformPoliciesReplace, PlatformPoliciesDelete, PlatformPoliciesEvaluatePolicy)},
		{"binaryauthorization.policyAdmin", with(PolicyGet, PolicyUpdate, PolicyGetIamPolicy, PolicySetIamPolicy,
			PlatformPoliciesGet, PlatformPoliciesList, PlatformPoliciesCreate, PlatformPoliciesReplace,
			PlatformPoliciesDelete, PlatformPoliciesEvaluatePolicy)},
		{"binaryauthorization.attestorsViewer", with(AttestorsGet, AttestorsList)},
		{"binaryauthorization.attestorsVerifier", with(AttestorsGet, AttestorsList, AttestorsVerifyImageAttested)},
		{"binaryauthorization.attestorsEditor", with(AttestorsGet, AttestorsList, AttestorsCreate, AttestorsUpdate,
			AttestorsDelete, AttestorsVerifyImageAttested)},
		{"binaryauthorization.attestorsAdmin", with(AttestorsGet, AttestorsList, AttestorsCreate, AttestorsUpdate,
			AttestorsDelete, AttestorsVerifyImageAttested, AttestorsGetIamPolicy, AttestorsSetIamPolicy)},
	}
}

// with returns the permissions of a role of Binary Authorization, all of which let
// their holders see the project.
func with(permissions ...Permission) []Permission {
	return append(permissions, ProjectsGet, ProjectsList)
}

// isPolicy tells permissions about policy, which admin does not have: it is a role of
// Container Analysis.
func isPolicy(p Permission) bool {
	return strings.HasPrefix(string(p), binauthzRoleName) || p == ClusterObjectsList || p == ClusterObjectsUpdate
}

// Roles returns the names of the roles, from narrow to broad for each service,
// without Google's prefixes "roles/containeranalysis." and "roles/".
func Roles() []string {
	var names []string
	for _, r := range roles() {
		names = append(names, r.name)
	}
	return names
}

// PermissionsOf returns what a role permits; its name may have Google's prefix. A
// role that does not exist permits nothing and is not known.
func PermissionsOf(name string) (permissions []Permission, known bool) {
	for _, r := range roles() {
		full := RolePrefix + r.name
		if strings.HasPrefix(r.name, binauthzRoleName) {
			full = rolesPrefix + r.name
		}
		if name == r.name || name == full {
			return r.permissions, true
		}
	}
	return nil, false
}

// RoleFor returns the narrowest role that has a permission.
func RoleFor(p Permission) string {
	for _, r := range roles() {
		if slices.Contains(r.permissions, p) {
			return r.name
		}
	}
	return "admin"
}
