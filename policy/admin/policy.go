package admin

import (
	"context"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// GetPolicy returns the policy of a project, "projects/P/policy". Of one that never
// had any it is Google's, which allows everything and has revision 0. NotFound
// means that there is no such project.
func (s *Service) GetPolicy(ctx context.Context, caller metadata.Caller, name string) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "GetPolicy", name, func(c *metadata.Call) (Version, error) {
		p, err := policyKind.of(name)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.PolicyGet, name); err != nil {
			return Version{}, err
		}
		if err := c.Project(ctx, p.project); err != nil {
			return Version{}, err
		}
		return current(ctx, c, name, policyKind)
	})
}

// UpdatePolicy replaces the policy of a project. The caller must be able to read
// the attestors that it names.
func (s *Service) UpdatePolicy(ctx context.Context, caller metadata.Caller, name string, change Change) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "UpdatePolicy", name, func(c *metadata.Call) (Version, error) {
		p, err := policyKind.of(name)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.PolicyUpdate, name); err != nil {
			return Version{}, err
		}
		if err := c.Project(ctx, p.project); err != nil {
			return Version{}, err
		}
		return s.put(ctx, c, p, name, replace, change)
	})
}

// GetSystemPolicy returns the system policy of a location, "locations/L/policy":
// the built-in one, with revision 0, unless it was replaced.
func (s *Service) GetSystemPolicy(ctx context.Context, caller metadata.Caller, name string) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "GetSystemPolicy", name, func(c *metadata.Call) (Version, error) {
		if _, err := systemKind.of(name); err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.PolicyGet, name); err != nil {
			return Version{}, err
		}
		return current(ctx, c, name, systemKind)
	})
}

// UpdateSystemPolicy replaces the system policy of a location, which Google's API
// cannot.
func (s *Service) UpdateSystemPolicy(ctx context.Context, caller metadata.Caller, name string, change Change) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "UpdateSystemPolicy", name, func(c *metadata.Call) (Version, error) {
		p, err := systemKind.of(name)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.PolicyUpdate, name); err != nil {
			return Version{}, err
		}
		return s.put(ctx, c, p, name, replace, change)
	})
}

// put parses a change and stores it, unless a file wins over it.
func (s *Service) put(ctx context.Context, c *metadata.Call, p place, name string, meant intent, change Change) (Version, error) {
	if err := s.opts.Files.refuse(p, name); err != nil {
		return Version{}, err
	}
	next, err := p.kind.parse(name, change.Body)
	if err != nil {
		return Version{}, err
	}
	return write(ctx, c, writing{name: name, kind: p.kind, intent: meant, comment: change.Comment, next: next})
}

// refuse refuses to write what a file wins over.
func (f Files) refuse(p place, name string) error {
	var files []string
	switch {
	case p.kind == attestorKind:
		files = f.Attestors
	case p.kind == systemKind && f.System != "" && name == SystemPolicyName:
		files = []string{f.System}
	case p.kind != systemKind && p.project == f.Project:
		files = f.Policies
	}
	if len(files) == 0 {
		return nil
	}
	return metadata.Errorf(metadata.FailedPrecondition, "this server's gate takes each %s from the file %s, which wins over what is stored: change that, or start the server without it; %q was not written",
		p.kind.noun, strings.Join(files, ", "), name)
}
