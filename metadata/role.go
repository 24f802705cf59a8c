package metadata

import (
	"slices"
	"strings"
)

// RolePrefix is how Google spells the roles in full. It may be left out.
const RolePrefix = "roles/containeranalysis."

// A role is a name for permissions.
type role struct {
	name        string
	permissions []Permission
}

// roles returns the table, from narrow to broad. It is Google's, but that admin
// has all permissions: Google's lacks notes.listOccurrences. Permissions on
// projects are part of the roles there that have resourcemanager.projects.
func roles() []role {
	viewer := []Permission{
		NotesGet, NotesList, NotesListOccurrences, NotesGetIamPolicy,
		OccurrencesGet, OccurrencesList, OccurrencesGetIamPolicy,
		ProjectsGet, ProjectsList,
	}
	return []role{
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
		{"admin", slices.Clone(Permissions)},
	}
}

// Roles returns the names of the roles, from narrow to broad, without Google's
// prefix "roles/containeranalysis.".
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
	short := strings.TrimPrefix(name, RolePrefix)
	for _, r := range roles() {
		if r.name == short {
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
