package check

import (
	"context"
	"errors"
	"slices"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// defaultInterval is how long to wait before a server is asked again that cannot
	// be followed.
	defaultInterval = 2 * time.Second
	// maxChanges is how many changes are read at a time.
	maxChanges = 100
)

// A Feed tells what changes in a store. A metadata.Service is one.
type Feed interface {
	Head() uint64
	Wait(ctx context.Context, after uint64) error
	Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error)
}

// WithFeed returns metadata whose Watch follows the feed of its store. Without one it
// returns at intervals, for there may be news.
func (g *Grafeas) WithFeed(f Feed) *Grafeas {
	clone := *g
	clone.feed = f
	return &clone
}

// WithInterval returns metadata whose Watch, while there is no feed, waits for d.
func (g *Grafeas) WithInterval(d time.Duration) *Grafeas {
	clone := *g
	clone.interval = d
	return &clone
}

// Watch implements [Metadata].
func (g *Grafeas) Watch(refs ...image.Reference) Watch {
	if g.feed == nil {
		return func(ctx context.Context) error { return wait(ctx, g.interval) }
	}
	after := g.feed.Head()
	return func(ctx context.Context) error {
		for {
			changes, err := g.feed.Changes(ctx, after, maxChanges)
			switch {
			case errors.Is(err, metadata.ErrCompacted):
				after = g.feed.Head() // what was dropped may have been about the image
				return nil
			case err != nil:
				return err
			case len(changes) == 0:
				if err := g.feed.Wait(ctx, after); err != nil {
					return err
				}
			}
			for _, c := range changes {
				after = c.Seq
				if concerns(c, refs) {
					return nil
				}
			}
		}
	}
}

// concerns reports whether a change may change what a check of the images finds: an
// occurrence about one, or the note of a discovery, which says what was looked for.
func concerns(c metadata.Change, refs []image.Reference) bool {
	if c.Occurrence != nil {
		return slices.ContainsFunc(refs, func(ref image.Reference) bool { return About(c.Occurrence, ref, c.Occurrence.GetKind()) })
	}
	return c.Note.GetKind() == grafeas.NoteKind_DISCOVERY
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
