package admin

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// CreatePlatformPolicy stores a new platform policy under a platform,
// "projects/P/platforms/L".
func (s *Service) CreatePlatformPolicy(ctx context.Context, caller metadata.Caller, parent, id string, change Change) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "CreatePlatformPolicy", parent+"/policies/"+id, func(c *metadata.Call) (Version, error) {
		project, err := platformOf(parent)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.PlatformPoliciesCreate, parent); err != nil {
			return Version{}, err
		}
		if err := c.Project(ctx, project); err != nil {
			return Version{}, err
		}
		if err := checkPolicyID(id); err != nil {
			return Version{}, err
		}
		return s.put(ctx, c, place{kind: platformKind, project: project}, parent+"/policies/"+id, create, change)
	})
}

// GetPlatformPolicy returns a platform policy.
func (s *Service) GetPlatformPolicy(ctx context.Context, caller metadata.Caller, name string) (Version, error) {
	return s.get(ctx, caller, "GetPlatformPolicy", platformKind, name)
}

// ReplacePlatformPolicy replaces a platform policy.
func (s *Service) ReplacePlatformPolicy(ctx context.Context, caller metadata.Caller, name string, change Change) (Version, error) {
	return s.update(ctx, caller, "ReplacePlatformPolicy", platformKind, name, change)
}

// ListPlatformPolicies returns a page of a platform's policies, in the order of
// their names.
func (s *Service) ListPlatformPolicies(ctx context.Context, caller metadata.Caller, parent string, pageSize int32, pageToken string) (Page, error) {
	return metadata.Do(ctx, s.svc, caller, "ListPlatformPolicies", parent, func(c *metadata.Call) (Page, error) {
		project, err := platformOf(parent)
		if err != nil {
			return Page{}, err
		}
		if err := c.Need(ctx, metadata.PlatformPoliciesList, parent); err != nil {
			return Page{}, err
		}
		if err := c.Project(ctx, project); err != nil {
			return Page{}, err
		}
		return list(ctx, c, metadata.List{Method: "ListPlatformPolicies", Parent: parent, PageSize: pageSize, PageToken: pageToken}, parent+"/policies/")
	})
}

// DeletePlatformPolicy deletes a platform policy; with an etag only the version
// that has it.
func (s *Service) DeletePlatformPolicy(ctx context.Context, caller metadata.Caller, name, etag string) error {
	_, err := metadata.Do(ctx, s.svc, caller, "DeletePlatformPolicy", name, func(c *metadata.Call) (struct{}, error) {
		p, err := platformKind.of(name)
		if err != nil {
			return struct{}{}, err
		}
		if err := c.Need(ctx, metadata.PlatformPoliciesDelete, name); err != nil {
			return struct{}{}, err
		}
		if err := s.opts.Files.refuse(p, name); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, remove(ctx, c, name, platformKind, etag, false)
	})
	return err
}

// EvaluatePlatformPolicy evaluates a platform policy for a Kubernetes object, JSON,
// and returns the answer, JSON too. The answer tells what the policy's own project
// has about the images; of another project that the policy names, the caller must be
// able to list the occurrences himself.
func (s *Service) EvaluatePlatformPolicy(ctx context.Context, caller metadata.Caller, name string, resource []byte) ([]byte, error) {
	return metadata.Do(ctx, s.svc, caller, "EvaluateGkePolicy", name, func(c *metadata.Call) ([]byte, error) {
		p, err := platformKind.of(name)
		if err != nil {
			return nil, err
		}
		if err := c.Need(ctx, metadata.PlatformPoliciesEvaluatePolicy, name); err != nil {
			return nil, err
		}
		if s.opts.Evaluate == nil {
			return nil, metadata.Errorf(metadata.Unimplemented, "platform policies are not evaluated here")
		}
		if len(resource) == 0 {
			return nil, metadata.Errorf(metadata.InvalidArgument, "request is invalid: [resource is required]")
		}
		v, err := found(ctx, c, name, platformKind)
		if err != nil {
			return nil, err
		}
		return s.opts.Evaluate(ctx, v, resource, func(project string) error {
			if project == p.project {
				return nil
			}
			return c.Need(ctx, metadata.OccurrencesList, "projects/"+project)
		})
	})
}
