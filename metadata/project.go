package metadata

import (
	"context"
	"slices"
	"strings"
)

// DefaultProjectPageSize is the size of a page of projects when none is asked
// for, as with Grafeas's own server.
const DefaultProjectPageSize = 100

// A ProjectPage is one page of projects, by their names.
type ProjectPage struct {
	Names         []string
	NextPageToken string
}

// CreateProject creates the project of the name "projects/P". Projects are names
// that clients may want to see: notes and occurrences can be filed under any,
// created or not, and stay when one is deleted.
func (s *Service) CreateProject(ctx context.Context, caller Caller, name string) error {
	_, err := do(ctx, s, caller, "CreateProject", name, func(c *call) (struct{}, error) {
		if name == "" {
			return struct{}{}, Errorf(InvalidArgument, `a project name must be specified, in the form "projects/[PROJECT_ID]"`)
		}
		id, err := c.project(ctx, ProjectsCreate, name)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, c.store().Apply(ctx, Mutation{CreateProject: id})
	})
	return err
}

// GetProject returns nil if the project was created.
func (s *Service) GetProject(ctx context.Context, caller Caller, name string) error {
	_, err := do(ctx, s, caller, "GetProject", name, func(c *call) (struct{}, error) {
		id, err := c.project(ctx, ProjectsGet, name)
		if err != nil {
			return struct{}{}, err
		}
		found, err := c.store().Project(ctx, id)
		if err == nil && !found {
			err = ProjectMissing(id)
		}
		return struct{}{}, err
	})
	return err
}

// ListProjects returns a page of projects, in the order of their ids. Its request
// has no Parent, and no Filter: there is nothing to filter by.
func (s *Service) ListProjects(ctx context.Context, caller Caller, req ListRequest) (ProjectPage, error) {
	return do(ctx, s, caller, "ListProjects", "projects", func(c *call) (ProjectPage, error) {
		if err := c.need(ctx, ProjectsList, "projects"); err != nil {
			return ProjectPage{}, err
		}
		if strings.TrimSpace(req.Filter) != "" {
			return ProjectPage{}, Errorf(InvalidArgument, "filter %q: projects have nothing to filter by; list them without a filter", clip(req.Filter))
		}
		size := DefaultProjectPageSize
		if req.PageSize != 0 {
			var err error
			if size, err = pageSize(req.PageSize); err != nil {
				return ProjectPage{}, err
			}
		}
		l, after := s.listing("ListProjects", req), ""
		if req.PageToken != "" {
			var err error
			if after, err = s.tokens.decode(l, req.PageToken); err != nil {
				return ProjectPage{}, err
			}
		}
		ids, more, err := c.store().Projects(ctx, after, size)
		var page ProjectPage
		for _, id := range ids {
			page.Names = append(page.Names, Parent{Project: id}.String())
		}
		if err == nil && more {
			page.NextPageToken = s.tokens.encode(l, ids[len(ids)-1])
		}
		return page, err
	})
}

// DeleteProject deletes a project, and nothing that is filed under it.
func (s *Service) DeleteProject(ctx context.Context, caller Caller, name string) error {
	_, err := do(ctx, s, caller, "DeleteProject", name, func(c *call) (struct{}, error) {
		id, err := c.project(ctx, ProjectsDelete, name)
		if err != nil {
			return struct{}{}, err
		}
		if slices.Contains(s.projects, id) {
			return struct{}{}, Errorf(FailedPrecondition, "project %q always exists on this server", name)
		}
		return struct{}{}, c.store().Apply(ctx, Mutation{DeleteProject: id})
	})
	return err
}

// project returns the id in a project's name, if the caller has the permission.
func (c *call) project(ctx context.Context, permission Permission, name string) (string, error) {
	p, err := ParseParent(name)
	if err == nil && p.Location != "" {
		err = Errorf(InvalidArgument, `project name must be in the form "projects/[PROJECT_ID]", got %q`, clip(name))
	}
	if err != nil {
		return "", err
	}
	return p.Project, c.need(ctx, permission, name)
}

// createProjects makes the projects that always exist.
func (s *Service) createProjects(ctx context.Context) error {
	for _, id := range s.projects {
		if _, err := ParseParent(Parent{Project: id}.String()); err != nil {
			return err
		}
		err := s.store.Apply(ctx, Mutation{CreateProject: id})
		if err != nil && KindOf(err) != AlreadyExists {
			return err
		}
	}
	return nil
}
