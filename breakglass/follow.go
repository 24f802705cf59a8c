package breakglass

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	changesPage = 1000
	followRetry = time.Second
)

// GrantsOf is how the names of a project's grants begin.
func GrantsOf(project string) string { return "projects/" + project + "/breakGlassGrants/" }

// A Source is where documents and the feed of their changes are; *metadata.Service is one.
type Source interface {
	Documents(ctx context.Context, prefix string, fn func(*metadata.Document) error) (asOf uint64, err error)
	Head() uint64
	Wait(ctx context.Context, after uint64) error
	Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error)
}

// Read takes in the grants of a project, in place of those that it had of it.
func (gs *Grants) Read(ctx context.Context, source Source, project string, now func() time.Time, logger *slog.Logger) (asOf uint64, err error) {
	prefix := GrantsOf(project)
	var names []string
	asOf, err = source.Documents(ctx, prefix, func(d *metadata.Document) error {
		names = append(names, d.Name)
		gs.take(d, now(), logger)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, name := range gs.Sources() {
		if strings.HasPrefix(name, prefix) && !slices.Contains(names, name) {
			gs.Remove(name)
		}
	}
	return asOf, nil
}

// take takes in a document.
func (gs *Grants) take(d *metadata.Document, now time.Time, logger *slog.Logger) {
	if d.Deleted() {
		gs.Remove(d.Name)
		return
	}
	if err := gs.Put(d.Name, d.Content, now); err != nil {
		logger.Warn("a break-glass grant does not count", "grant", d.Name, "author", d.Author, "error", err)
		return
	}
	logger.Info("a break-glass grant has arrived", "grant", d.Name, "author", d.Author)
}

// Follow keeps the grants of a project as they are in the source, until ctx ends. While the
// source is away those that are known count.
func (gs *Grants) Follow(ctx context.Context, source Source, project string, now func() time.Time, logger *slog.Logger) {
	for ctx.Err() == nil {
		at, err := gs.Read(ctx, source, project, now, logger)
		for err == nil {
			at, err = gs.follow(ctx, source, project, at, now, logger)
		}
		if ctx.Err() == nil {
			if !errors.Is(err, metadata.ErrCompacted) {
				logger.Error("break-glass grants cannot be followed; trying again", "error", err)
			}
			sleep(ctx, followRetry)
		}
	}
}

// follow takes in the changes after a number, and returns that of the last, or waits for one.
func (gs *Grants) follow(ctx context.Context, source Source, project string, at uint64, now func() time.Time, logger *slog.Logger) (uint64, error) {
	changes, err := source.Changes(ctx, at, changesPage)
	if err != nil {
		return at, err
	}
	for _, c := range changes {
		at = c.Seq
		if c.Document != nil && strings.HasPrefix(c.Document.Name, GrantsOf(project)) {
			gs.take(c.Document, now(), logger)
		}
	}
	if len(changes) > 0 {
		return at, nil
	}
	return at, source.Wait(ctx, at)
}
