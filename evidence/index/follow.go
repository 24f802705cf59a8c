package index

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Run follows the change feed until ctx ends. When the source fails it keeps
// what it has and tries again.
func (x *Index) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return x.followForever(ctx) })
	group.Go(func() error {
		if err := x.learnBuilds(ctx); err != nil && ctx.Err() == nil {
			x.logger.Warn("reading earlier builds; messages about tags may lack a digest", "error", err)
		}
		return nil
	})
	return group.Wait()
}

// learnBuilds reads the tags of the builds that were stored before this Index
// was made. Nothing waits for it.
func (x *Index) learnBuilds(ctx context.Context) error {
	for at := uint64(0); at < x.start; {
		changes, err := x.source.Changes(ctx, at, changesPage)
		if errors.Is(err, metadata.ErrCompacted) {
			return nil // they are only a help
		}
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			return nil
		}
		for _, c := range changes {
			if c.Op != metadata.Deleted && c.Occurrence.GetKind() == grafeas.NoteKind_BUILD {
				x.tags.learn(c.Occurrence)
			}
			at = c.Seq
		}
	}
	return nil
}

func (x *Index) followForever(ctx context.Context) error {
	for {
		err := x.follow(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryDelay):
			x.logger.Warn("following the metadata feed; trying again", "error", err, "position", x.progress.position())
		}
	}
}

// follow applies changes until the source fails or ctx ends.
func (x *Index) follow(ctx context.Context) error {
	for {
		at := x.progress.position()
		changes, err := x.source.Changes(ctx, at, changesPage)
		if errors.Is(err, metadata.ErrCompacted) {
			if at, err = x.resnapshot(ctx); err == nil {
				x.progress.reach(at)
			}
		}
		if err != nil {
			return err
		}
		scans := make(map[scanned]image.Digest)
		for _, c := range changes {
			x.apply(c, scans)
			at = c.Seq
		}
		if err := x.refresh(ctx, scans); err != nil {
			return err
		}
		x.progress.reach(at)
		if len(changes) == 0 {
			if err := x.source.Wait(ctx, at); err != nil {
				return err
			}
		}
	}
}

// resnapshot reads everything anew after the feed has forgotten changes that were not
// read in time, or the store was set back. Facts of occurrences deleted meanwhile must
// go, so all are rebuilt from nothing, and until then nothing is Known.
func (x *Index) resnapshot(ctx context.Context) (uint64, error) {
	x.setting.Lock()
	defer x.setting.Unlock()
	x.progress.restart()
	head := x.source.Head()
	x.mu.Lock()
	limit := x.book.cold.limit
	x.book = newBook(x.book.wholes.limit)
	x.book.cold.limit = limit
	x.renewed++
	x.mu.Unlock()
	for name := range *x.trust.Load() {
		if err := x.read(ctx, name, nil); err != nil {
			return 0, err
		}
	}
	for project := range *x.scope.Load() {
		if err := x.readScans(ctx, project); err != nil {
			return 0, err
		}
	}
	if err := x.hints.readAnew(ctx, x.source, x.memo); err != nil {
		return 0, err
	}
	return head, nil
}

// apply applies a change, or adds the resource whose scans it has changed to scans.
func (x *Index) apply(c metadata.Change, scans map[scanned]image.Digest) {
	if n := c.Note; n.GetKind() == grafeas.NoteKind_DISCOVERY {
		x.mu.Lock()
		x.book.analyses.learn(n, c.Op)
		x.mu.Unlock()
	}
	o := c.Occurrence
	if o == nil {
		return
	}
	x.hints.apply(o, c.Op, x.memo)
	if o.GetKind() == grafeas.NoteKind_BUILD && c.Op != metadata.Deleted {
		x.tags.learn(o)
	}
	switch {
	case metadata.Summarized(o.GetKind()):
		if of, d, ok := resourceOf(o); ok && (*x.scope.Load())[of.project()] {
			scans[of] = d
		}
	case c.Op == metadata.Deleted:
		x.remove(o)
	case signed.Has(o.GetKind()):
		x.put(o, fromFeed)
	}
}

// refresh reads what the scans of these resources found.
func (x *Index) refresh(ctx context.Context, scans map[scanned]image.Digest) error {
	for of, d := range scans {
		s, err := x.source.ResourceSummary(ctx, of.parent.Value(), of.resource)
		if err != nil {
			return err
		}
		if err := x.learnAnalyses(ctx, s.Scans); err != nil {
			return err
		}
		x.fileScan(d, of, s, fromFeed)
	}
	return nil
}
