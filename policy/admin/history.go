package admin

import (
	"context"
	"strconv"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// ListVersions returns a page of the history of a document, newest first. Who may
// read the document may read it; one that never was written has none.
func (s *Service) ListVersions(ctx context.Context, caller metadata.Caller, name string, pageSize int32, pageToken string) (Page, error) {
	return metadata.Do(ctx, s.svc, caller, "ListVersions", name, func(c *metadata.Call) (Page, error) {
		if _, err := s.readable(ctx, c, name); err != nil {
			return Page{}, err
		}
		l := metadata.List{Method: "ListVersions", Parent: name, PageSize: pageSize, PageToken: pageToken}
		size, after, err := c.Page(l)
		if err != nil {
			return Page{}, err
		}
		var before uint64
		if after != "" {
			if before, err = strconv.ParseUint(after, 10, 64); err != nil {
				return Page{}, metadata.Errorf(metadata.Internal, "reading a page token: %w", err)
			}
		}
		rows, more, err := c.Store().Revisions(ctx, name, before, size)
		if err != nil {
			return Page{}, err
		}
		page, err := pageOf(rows)
		if err == nil && more {
			page.NextPageToken = c.NextPageToken(l, strconv.FormatUint(rows[len(rows)-1].Revision, 10))
		}
		return page, err
	})
}

// GetVersion returns one version of a document, which may be its deletion.
func (s *Service) GetVersion(ctx context.Context, caller metadata.Caller, name string, revision uint64) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "GetVersion", name, func(c *metadata.Call) (Version, error) {
		if _, err := s.readable(ctx, c, name); err != nil {
			return Version{}, err
		}
		return stored(ctx, c, name, revision)
	})
}

// readable parses the name of a document that the caller may read.
func (s *Service) readable(ctx context.Context, c *metadata.Call, name string) (place, error) {
	p, err := placeOf(name)
	if err != nil {
		return p, err
	}
	if err := c.Need(ctx, p.kind.get, name); err != nil {
		return p, err
	}
	if p.project != "" {
		err = c.Project(ctx, p.project)
	}
	return p, err
}

func stored(ctx context.Context, c *metadata.Call, name string, revision uint64) (Version, error) {
	if revision == 0 {
		return Version{}, metadata.Errorf(metadata.InvalidArgument, "revision must be specified; the history has their numbers")
	}
	d, err := c.Store().Document(ctx, name, revision)
	if err != nil {
		return Version{}, err
	}
	return versionOf(d)
}

// Rollback makes the content of an earlier version the newest one. It needs what
// an update needs, and for what was deleted since what creating it needs. A version
// that is no longer valid is a FailedPrecondition. With an etag it only replaces
// the version that has it.
func (s *Service) Rollback(ctx context.Context, caller metadata.Caller, name string, revision uint64, etag, comment string) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "Rollback", name, func(c *metadata.Call) (Version, error) {
		p, err := placeOf(name)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, p.kind.update, name); err != nil {
			return Version{}, err
		}
		if p.project != "" {
			if err := c.Project(ctx, p.project); err != nil {
				return Version{}, err
			}
		}
		if err := s.opts.Files.refuse(p, name); err != nil {
			return Version{}, err
		}
		if err := checkComment(comment); err != nil {
			return Version{}, err
		}
		old, err := stored(ctx, c, name, revision)
		if err != nil {
			return Version{}, err
		}
		if old.Deleted() {
			return Version{}, metadata.Errorf(metadata.InvalidArgument, "revision %d of %q is its deletion; delete it instead", revision, name)
		}
		meant := replace
		if now, err := current(ctx, c, name, p.kind); err != nil {
			return Version{}, err
		} else if now.Deleted() {
			meant = restore
			if err := c.Need(ctx, p.kind.create, p.parent); err != nil {
				return Version{}, err
			}
		}
		next, err := p.kind.parse(name, old.Content)
		if err != nil {
			return Version{}, noLonger(revision, name, err)
		}
		if next.etag = etag; comment == "" {
			comment = "rollback to revision " + strconv.FormatUint(revision, 10)
		}
		v, err := write(ctx, c, writing{name: name, kind: p.kind, intent: meant, comment: comment, next: next})
		if metadata.KindOf(err) == metadata.InvalidArgument {
			err = noLonger(revision, name, err)
		}
		return v, err
	})
}

// noLonger says that a version which was valid is not any more.
func noLonger(revision uint64, name string, err error) error {
	if kind := metadata.KindOf(err); kind != metadata.InvalidArgument {
		return err
	}
	return metadata.Errorf(metadata.FailedPrecondition, "revision %d of %q is no longer valid: %w", revision, name, err)
}
