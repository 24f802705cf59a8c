package identity

import (
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// rolePrefix is how Google spells the roles in full.
const rolePrefix = "roles/containeranalysis."

// A role is a name for permissions.
type role struct {
	name        string
	permissions []metadata.Permission
}

// roles returns the table, from narrow to broad. It is Google's, but that admin
// has all permissions: Google's lacks notes.listOccurrences. Permissions on
// projects are part of the roles there that have resourcemanager.projects.
func roles() []role {
	viewer := []metadata.Permission{
		metadata.NotesGet, metadata.NotesList, metadata.NotesListOccurrences, metadata.NotesGetIamPolicy,
		metadata.OccurrencesGet, metadata.OccurrencesList, metadata.OccurrencesGetIamPolicy,
		metadata.ProjectsGet, metadata.ProjectsList,
	}
	return []role{
		{"notes.occurrences.viewer", []metadata.Permission{metadata.NotesGet, metadata.NotesListOccurrences}},
		{"notes.attacher", []metadata.Permission{metadata.NotesGet, metadata.NotesAttachOccurrence}},
		{"notes.viewer", []metadata.Permission{metadata.NotesGet, metadata.NotesList, metadata.ProjectsGet, metadata.ProjectsList}},
		{"occurrences.viewer", []metadata.Permission{metadata.OccurrencesGet, metadata.OccurrencesList, metadata.ProjectsGet, metadata.ProjectsList}},
		{"notes.editor", []metadata.Permission{
			metadata.NotesGet, metadata.NotesList, metadata.NotesCreate, metadata.NotesUpdate, metadata.NotesDelete,
			metadata.NotesAttachOccurrence, metadata.ProjectsGet, metadata.ProjectsList,
		}},
		{"occurrences.editor", []metadata.Permission{
			metadata.OccurrencesGet, metadata.OccurrencesList, metadata.OccurrencesCreate, metadata.OccurrencesUpdate,
			metadata.OccurrencesDelete, metadata.ProjectsGet, metadata.ProjectsList,
		}},
		{"viewer", viewer},
		{"editor", append(slices.Clone(viewer),
			metadata.NotesCreate, metadata.NotesUpdate, metadata.NotesDelete, metadata.NotesAttachOccurrence,
			metadata.OccurrencesCreate, metadata.OccurrencesUpdate, metadata.OccurrencesDelete)},
		{"admin", slices.Clone(metadata.Permissions)},
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
func PermissionsOf(name string) (permissions []metadata.Permission, known bool) {
	short := strings.TrimPrefix(name, rolePrefix)
	for _, r := range roles() {
		if r.name == short {
			return r.permissions, true
		}
	}
	return nil, false
}

// roleFor returns the narrowest role that has a permission.
func roleFor(p metadata.Permission) string {
	for _, r := range roles() {
		if slices.Contains(r.permissions, p) {
			return r.name
		}
	}
	return "admin"
}
