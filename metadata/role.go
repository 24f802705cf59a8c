package metadata

import (
	"maps"
	"slices"
	"strings"
)

// RolePrefix begins the names of roles as Google writes them. It may be left out.
const RolePrefix = "roles/containeranalysis."

// roles are those of Google's Container Analysis, with the permissions that it
// gives them, and what this service adds: projects for the administrator, and
// "viewer" for whoever may read everything.
var roles = map[string][]Permission{
	"admin":                    Permissions,
	"viewer":                   {NotesGet, NotesList, NotesListOccurrences, OccurrencesGet, OccurrencesList, ProjectsGet, ProjectsList},
	"notes.attacher":           {NotesGet, NotesAttachOccurrence},
	"notes.editor":             {NotesGet, NotesList, NotesCreate, NotesUpdate, NotesDelete, NotesAttachOccurrence},
	"notes.viewer":             {NotesGet, NotesList},
	"notes.occurrences.viewer": {NotesGet, NotesListOccurrences},
	"occurrences.editor":       {OccurrencesGet, OccurrencesList, OccurrencesCreate, OccurrencesUpdate, OccurrencesDelete},
	"occurrences.viewer":       {OccurrencesGet, OccurrencesList},
}

// Roles returns the names of all roles, without their prefix.
func Roles() []string { return slices.Sorted(maps.Keys(roles)) }

// PermissionsOf returns what a role permits; ok is false if there is no such role.
func PermissionsOf(role string) (permissions []Permission, ok bool) {
	permissions, ok = roles[strings.TrimPrefix(role, RolePrefix)]
	return slices.Clone(permissions), ok
}
