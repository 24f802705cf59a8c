package tags

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Source says what a tag means now. It is called concurrently, with references that
// have no digest.
type Source interface {
	Digest(ctx context.Context, ref image.Reference) (image.Digest, error)
}

// A SourceFunc is a Source.
type SourceFunc func(ctx context.Context, ref image.Reference) (image.Digest, error)

// Digest calls f.
func (f SourceFunc) Digest(ctx context.Context, ref image.Reference) (image.Digest, error) {
	return f(ctx, ref)
}

// Limits bound how a Source is asked.
type Limits struct {
	Parallel int           // requests at the same time, at least 1
	Each     time.Duration // for one tag; 0 is no bound
}

// Answers are what a Source has said of tags. The zero Answers has none.
type Answers struct {
	byTag map[string]answer
}

type answer struct {
	digest image.Digest
	err    error
}

// Resolve asks a Source for the tags of references, each once, however often and by
// which spelling of its registry it is written: what one run pins a tag to is the same
// everywhere. progress is told after each answer how many there are; it may be nil. A tag
// that cannot be resolved does not keep others from it.
func Resolve(ctx context.Context, src Source, refs []image.Reference, limits Limits, progress func(done, of int)) Answers {
	distinct := map[string]image.Reference{}
	var order []string
	for _, ref := range refs {
		if name := nameOf(ref); distinct[name] == (image.Reference{}) {
			distinct[name] = ref
			order = append(order, name)
		}
	}
	a := Answers{byTag: make(map[string]answer, len(order))}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(max(limits.Parallel, 1))
	for _, name := range order {
		group.Go(func() error {
			digest, err := ask(ctx, src, distinct[name], limits.Each)
			mu.Lock()
			defer mu.Unlock()
			a.byTag[name] = answer{digest, err}
			if progress != nil {
				progress(len(a.byTag), len(order))
			}
			return nil
		})
	}
	_ = group.Wait() // none of them fails
	return a
}

func ask(ctx context.Context, src Source, ref image.Reference, most time.Duration) (image.Digest, error) {
	if err := ctx.Err(); err != nil {
		return image.Digest{}, err
	}
	if most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	ref, err := Unpinned(ref)
	if err != nil {
		return image.Digest{}, err
	}
	return src.Digest(ctx, ref)
}

// nameOf returns the one name of what a reference says without its digest.
func nameOf(ref image.Reference) string {
	tag := ref.Tag()
	if tag == "" {
		tag = "latest"
	}
	return ref.Repository() + ":" + string(tag)
}

// Digest returns the digest of a reference's tag, or why there is none. ok is false for
// one that was not asked for.
func (a Answers) Digest(ref image.Reference) (d image.Digest, ok bool, err error) {
	found, ok := a.byTag[nameOf(ref)]
	return found.digest, ok, found.err
}
