package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A Rule gives a caller roles on a project. Rules only add up: none takes away
// what another gives.
type Rule struct {
	// Caller is the name of a caller, or "*" for all that have proved who they are.
	Caller string `yaml:"caller"`
	// Project is a project's id, or "*" for all, and for what is above them:
	// listing the projects needs it.
	Project string `yaml:"project"`
	// Note, if set, is the id of one note of the project, and the rule is about
	// that note alone: reading it, changing it, attaching to it. It gives nothing
	// on the project, where creating notes and occurrences is decided.
	Note string `yaml:"note"`
	// Roles are names from [metadata.Roles], with or without Google's prefix
	// "roles/containeranalysis.", or "roles/" for those of Binary Authorization.
	Roles []string `yaml:"roles"`
	// Permissions are single ones, such as "notes.attachOccurrence".
	Permissions []metadata.Permission `yaml:"permissions"`
}

const everything = "*"

// onNotes are the permissions that are asked for on a note itself.
func onNotes(p metadata.Permission) bool {
	switch p {
	case metadata.NotesGet, metadata.NotesUpdate, metadata.NotesDelete, metadata.NotesListOccurrences,
		metadata.NotesAttachOccurrence, metadata.NotesGetIamPolicy, metadata.NotesSetIamPolicy:
		return true
	}
	return false
}

// check returns all that is wrong with the rule.
func (r Rule) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Caller == "" {
		bad(`no caller: give the caller's name, or "*" for everybody who has proved who he is`)
	} else if err := r.checkCaller(); err != nil {
		errs = append(errs, err)
	}
	if r.Project == "" {
		bad(`no project: give the project's id, or "*" for all`)
	} else if _, err := metadata.ParseParent("projects/" + r.Project); r.Project != everything && (err != nil || strings.Contains(r.Project, "/")) {
		bad(`project %q: want a project's id, such as "shop", or "*" for all`, clip(r.Project))
	}
	if len(r.Roles) == 0 && len(r.Permissions) == 0 {
		bad("neither roles nor permissions: the rule gives nothing; roles are %s", strings.Join(metadata.Roles(), ", "))
	}
	for _, name := range r.Roles {
		if _, known := metadata.PermissionsOf(name); known {
			continue
		}
		if slices.Contains(metadata.Permissions, metadata.Permission(name)) {
			bad("role %q is a permission: write it under permissions", name)
			continue
		}
		bad("there is no role %q: want %s", clip(name), strings.Join(metadata.Roles(), ", "))
	}
	for _, p := range r.Permissions {
		if !slices.Contains(metadata.Permissions, p) {
			bad("there is no permission %q: want one such as notes.attachOccurrence or occurrences.create", clip(string(p)))
		}
	}
	if r.Note != "" {
		errs = append(errs, r.checkNote())
	}
	return errors.Join(errs...)
}

func (r Rule) checkCaller() error {
	if r.Caller == everything {
		return nil
	}
	if err := checkName(r.Caller); err != nil {
		return err
	}
	if strings.Contains(r.Caller, everything) {
		return fmt.Errorf(`caller %q: "*" stands for everybody and not for a part of a name`, clip(r.Caller))
	}
	return nil
}

func (r Rule) checkNote() error {
	if r.Project == everything {
		return fmt.Errorf("note %q: name its project; one of that id in any project may belong to anybody", clip(r.Note))
	}
	if _, err := metadata.ParseNoteName("projects/p/notes/" + r.Note); err != nil {
		return fmt.Errorf("note %q: want the id of a note, without projects/…/notes/", clip(r.Note))
	}
	for _, p := range r.Permissions {
		if !onNotes(p) {
			return fmt.Errorf("note %q: %s is not about one note: give it in a rule without note", clip(r.Note), clip(string(p)))
		}
	}
	for _, name := range r.Roles {
		if permissions, known := metadata.PermissionsOf(name); known && !slices.ContainsFunc(permissions, onNotes) {
			return fmt.Errorf("note %q: role %s gives nothing on a note: give it in a rule without note", clip(r.Note), clip(name))
		}
	}
	return nil
}

// A scope is what permissions are given to and on.
type scope struct{ caller, project, note string }

// rules are compiled Rules.
type rules struct {
	given map[scope]map[metadata.Permission]bool
}

// compileRules checks the configured rules. The internal ones are the program's
// own, and may name the reserved caller.
func compileRules(configured, internal []Rule) (*rules, error) {
	var errs []error
	for n, r := range configured {
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("identity rule %d (caller %q, project %q): %w", n+1, clip(r.Caller), clip(r.Project), err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c := &rules{given: make(map[scope]map[metadata.Permission]bool)}
	for _, r := range slices.Concat(configured, internal) {
		for _, name := range r.Roles {
			permissions, _ := metadata.PermissionsOf(name)
			c.give(r, permissions)
		}
		c.give(r, r.Permissions)
	}
	return c, nil
}

func (c *rules) give(r Rule, permissions []metadata.Permission) {
	to := scope{r.Caller, r.Project, r.Note}
	for _, p := range permissions {
		if r.Note != "" && !onNotes(p) {
			continue
		}
		if c.given[to] == nil {
			c.given[to] = make(map[metadata.Permission]bool)
		}
		c.given[to][p] = true
	}
}

// Authorize returns nil if a rule gives the permission, or says which would.
func (c *rules) Authorize(_ context.Context, caller metadata.Caller, permission metadata.Permission, resource string) error {
	if caller.Name == "" {
		return metadata.Errorf(metadata.Unauthenticated, "%s on %q is for callers that have proved who they are", permission, clip(resource))
	}
	project, note := placeOf(resource)
	for _, name := range [...]string{caller.Name, everything} {
		for _, on := range [...]scope{{name, project, ""}, {name, everything, ""}, {name, project, note}} {
			if on.project != "" && c.given[on][permission] {
				return nil
			}
		}
	}
	return metadata.Errorf(metadata.PermissionDenied, "caller %q lacks %s on %q: no rule under identity.rules gives it; {caller: %q, project: %q%s} would",
		clip(caller.Name), permission, clip(resource), clip(caller.Name), orEverything(project), remedy(permission))
}

// placeOf returns the project of a resource, and the id of the note if it is one
// of the project itself; one of a location is another note. What is above all
// projects has neither.
func placeOf(resource string) (project, note string) {
	if n, err := metadata.ParseNoteName(resource); err == nil {
		if n.Parent.Location == "" {
			note = n.ID
		}
		return n.Parent.Project, note
	}
	rest, ok := strings.CutPrefix(resource, "projects/")
	if !ok {
		return "", ""
	}
	id, _, _ := strings.Cut(rest, "/")
	p, err := metadata.ParseParent("projects/" + id)
	if err != nil {
		return "", ""
	}
	return p.Project, ""
}

func orEverything(project string) string {
	if project == "" {
		return everything
	}
	return clip(project)
}

// remedy is what a rule has to say to give the permission.
func remedy(p metadata.Permission) string {
	if name := metadata.RoleFor(p); name != "admin" {
		return ", roles: [" + name + "]"
	}
	return ", permissions: [" + string(p) + "]"
}
