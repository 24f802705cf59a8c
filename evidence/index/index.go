// Package index fills and serves the in-memory index of verified evidence.
//
// It follows the change feed of a metadata service, verifies each attestation
// once, when it arrives, against the keys trusted under its note, and answers
// which verified attestations a digest has without touching network or disk.
//
// # How fresh it is
//
// [Index.Collect] first waits until everything that the feed had when it was
// called has been applied, so whoever created an attestation and then deploys is
// never told that it is missing. When that does not come about within the
// request's deadline the evidence is Unavailable, never absent.
//
// # Which keys
//
// A [Trust] says which keys may sign under which note. Facts name the key that
// signed by its fingerprint, and a decision asks whether the attestor trusts that
// fingerprint now: removing a key takes effect at once, and adding one takes
// effect when [Index.SetTrust] returns.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// changesPage is how many changes are asked for at once: 1,000 occurrences
	// of a kilobyte are a megabyte in memory.
	changesPage = 1000

	// retryDelay is how long the follower waits after the source failed.
	retryDelay = 200 * time.Millisecond
)

// A Source is the change feed that an Index follows; *metadata.Service is one.
type Source interface {
	// Head returns the sequence number of the last committed change. It does no I/O.
	Head() uint64
	// Wait returns when Head is greater than after, or when ctx ends.
	Wait(ctx context.Context, after uint64) error
	// Changes returns up to limit changes after the given one, in order.
	Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error)
	// NoteOccurrences calls fn with the occurrences of a note as they stand, and
	// returns the sequence number that they reflect at least.
	NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (asOf uint64, err error)
}

// Trust says which keys may sign under which note (projects/P/notes/N).
type Trust map[string][]*signature.PublicKey

// An Index is safe for concurrent use. The zero Index is not usable; see [New].
type Index struct {
	source Source
	logger *slog.Logger
	memo   *signature.Memo

	trust atomic.Pointer[Trust]

	// setting serialises SetTrust. unread are the notes whose attestations have
	// not all been verified with the keys that are trusted now.
	setting sync.Mutex
	unread  map[string]bool

	mu     sync.RWMutex
	images map[image.Digest]evidence.Image
	// told names occurrences that the feed has told of while a scan runs, so that
	// the scan cannot bring back what it read before they were changed or
	// deleted; nil while none runs.
	told map[string]struct{}

	// start is where following begins: SetTrust reads what was stored before.
	start    uint64
	progress progress
	tags     tagHints
}

// New returns an Index that knows nothing and trusts nobody until [Index.SetTrust].
func New(source Source, logger *slog.Logger) *Index {
	const verdicts = 1 << 16 // memoised signature verdicts, 64 bytes each
	x := &Index{
		source: source, logger: logger,
		memo:   signature.NewMemo(verdicts),
		images: make(map[image.Digest]evidence.Image),
		unread: make(map[string]bool),
	}
	x.trust.Store(&Trust{})
	x.start = source.Head()
	x.progress.init(x.start)
	return x
}

// SetTrust replaces the trusted keys and returns when all attestations that are
// stored under their notes have been verified with them. Until the next call,
// facts by the keys of before stay too, so that a policy that is about to be
// replaced decides as before. When it fails, it must be called again.
func (x *Index) SetTrust(ctx context.Context, trust Trust) error {
	x.setting.Lock()
	defer x.setting.Unlock()
	old := *x.trust.Load()
	for note, keys := range trust {
		if !sameKeys(old[note], keys) {
			x.unread[note] = true
		}
	}
	both := union(old, trust)

	x.mu.Lock()
	x.told = make(map[string]struct{})
	x.trust.Store(&both)
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		x.told = nil
		x.mu.Unlock()
	}()

	for _, note := range slices.Sorted(maps.Keys(x.unread)) {
		if trust[note] != nil {
			if err := x.scan(ctx, note); err != nil {
				return fmt.Errorf("reading attestations of note %q: %w", note, err)
			}
		}
		delete(x.unread, note)
	}
	x.forget(both, trust)
	return nil
}

// union returns the keys of both, by note.
func union(a, b Trust) Trust {
	both := maps.Clone(b)
	if both == nil {
		both = Trust{}
	}
	for note, keys := range a {
		merged := slices.Clone(both[note])
		for _, k := range keys {
			if !slices.ContainsFunc(merged, func(m *signature.PublicKey) bool {
				return sameKeys([]*signature.PublicKey{m}, []*signature.PublicKey{k})
			}) {
				merged = append(merged, k)
			}
		}
		both[note] = merged
	}
	return both
}

// scan verifies and files every attestation stored under note.
func (x *Index) scan(ctx context.Context, note string) error {
	work := make(chan *grafeas.Occurrence, 64)
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for o := range work {
				x.put(o, fromScan)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		_, err := x.source.NoteOccurrences(ctx, note, func(o *grafeas.Occurrence) error {
			select {
			case work <- o:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		return err
	})
	return group.Wait()
}

// forget puts the new trust in place and drops facts under notes that neither it
// nor the one before names; no decision can rest on them.
func (x *Index) forget(trust, next Trust) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trust.Store(&next)
	for d, img := range x.images {
		kept := img
		kept.Attestations = slices.DeleteFunc(slices.Clone(img.Attestations), func(a evidence.Attestation) bool { return trust[a.Note] == nil })
		kept.Rejected = slices.DeleteFunc(slices.Clone(img.Rejected), func(r evidence.Rejection) bool { return trust[r.Note] == nil })
		x.store(d, kept)
	}
}

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
		for _, c := range changes {
			x.apply(c)
			at = c.Seq
		}
		x.progress.reach(at)
		if len(changes) == 0 {
			if err := x.source.Wait(ctx, at); err != nil {
				return err
			}
		}
	}
}

// resnapshot reads all trusted notes anew after the feed has forgotten changes
// that were not read in time. Facts of occurrences deleted meanwhile must go, so
// the notes' facts are rebuilt from nothing.
func (x *Index) resnapshot(ctx context.Context) (uint64, error) {
	x.setting.Lock()
	defer x.setting.Unlock()
	head := x.source.Head()
	x.mu.Lock()
	clear(x.images)
	x.mu.Unlock()
	for note := range *x.trust.Load() {
		if err := x.scan(ctx, note); err != nil {
			return 0, err
		}
	}
	return head, nil
}

func (x *Index) apply(c metadata.Change) {
	o := c.Occurrence
	if o == nil {
		return
	}
	if o.GetKind() == grafeas.NoteKind_BUILD && c.Op != metadata.Deleted {
		x.tags.learn(o)
	}
	if o.GetKind() != grafeas.NoteKind_ATTESTATION {
		return
	}
	if c.Op == metadata.Deleted {
		x.remove(o)
		return
	}
	x.put(o, fromFeed)
}

// origin is where an attestation was read.
type origin bool

const (
	fromScan origin = false
	fromFeed origin = true
)

// put verifies an attestation with the keys that are trusted now, and files what
// came of it in place of what was filed for the same occurrence before. What was
// verified with the keys of before a change must not replace what a scan has
// found with those of after it, and so is verified again.
func (x *Index) put(o *grafeas.Occurrence, from origin) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		x.logger.Debug("attestation is not of an image", "occurrence", o.GetName(), "error", err)
		return
	}
	for filed := false; !filed; {
		trust := x.trust.Load()
		keys := (*trust)[o.GetNoteName()]
		if keys == nil {
			return
		}
		accepted, rejected := verify(o, ref.Digest(), keys, x.memo)
		filed = x.file(o.GetName(), from, ref.Digest(), trust, accepted, rejected)
	}
}

// file replaces what is known from one occurrence, unless the trust has changed.
func (x *Index) file(occurrence string, from origin, d image.Digest, trust *Trust, accepted []evidence.Attestation, rejected []evidence.Rejection) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.trust.Load() != trust {
		return false
	}
	if _, newer := x.told[occurrence]; newer && from == fromScan {
		return true
	}
	if x.told != nil && from == fromFeed {
		x.told[occurrence] = struct{}{}
	}
	img := without(x.images[d], occurrence)
	img.Attestations = append(img.Attestations, accepted...)
	img.Rejected = append(img.Rejected, rejected...)
	if len(img.Rejected) > maxRejections {
		img.Rejected = img.Rejected[len(img.Rejected)-maxRejections:]
	}
	x.store(d, img)
	return true
}

func (x *Index) remove(o *grafeas.Occurrence) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.told != nil {
		x.told[o.GetName()] = struct{}{}
	}
	if img, ok := x.images[ref.Digest()]; ok {
		x.store(ref.Digest(), without(img, o.GetName()))
	}
}

// store files img, or nothing when there is nothing to say; the caller holds mu.
func (x *Index) store(d image.Digest, img evidence.Image) {
	if len(img.Attestations) == 0 && len(img.Rejected) == 0 {
		delete(x.images, d)
		return
	}
	img.State = evidence.Known
	x.images[d] = img
}

// without returns img less what came of one occurrence, sharing no slice with it:
// readers may hold the old one.
func without(img evidence.Image, occurrence string) evidence.Image {
	img.Attestations = slices.DeleteFunc(slices.Clone(img.Attestations), func(a evidence.Attestation) bool { return a.Occurrence == occurrence })
	img.Rejected = slices.DeleteFunc(slices.Clone(img.Rejected), func(r evidence.Rejection) bool { return r.Occurrence == occurrence })
	return img
}

// Collect returns what is known about the images. It is complete up to the moment
// it was called; if that cannot be had before ctx ends, every digest is
// Unavailable.
func (x *Index) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	set := make(map[image.Digest]evidence.Image, len(refs))
	facts := evidence.Facts{Images: set, Built: x.tags.builtAs(refs)}
	digests := digestsOf(refs)
	if err := x.progress.waitFor(ctx, x.source.Head()); err != nil {
		why := fmt.Sprintf("the index of attestations is %d changes behind the metadata store", x.Lag())
		for _, d := range digests {
			set[d] = evidence.Image{State: evidence.Unavailable, Err: why}
		}
		return facts
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, d := range digests {
		img := x.images[d]
		img.State = evidence.Known
		set[d] = img
	}
	return facts
}

func digestsOf(refs []image.Reference) []image.Digest {
	list := make([]image.Digest, 0, len(refs))
	for _, r := range refs {
		if !r.Digest().IsZero() {
			list = append(list, r.Digest())
		}
	}
	return list
}

// Ready returns when the index has applied everything that the feed has now.
func (x *Index) Ready(ctx context.Context) error {
	return x.progress.waitFor(ctx, x.source.Head())
}

// Lag returns how many changes of the feed have not been applied yet.
func (x *Index) Lag() uint64 {
	head, at := x.source.Head(), x.progress.position()
	if at >= head {
		return 0
	}
	return head - at
}

// Len returns how many digests there is evidence about.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.images)
}

func sameKeys(a, b []*signature.PublicKey) bool {
	return a != nil && slices.EqualFunc(a, b, func(p, q *signature.PublicKey) bool {
		return p.Fingerprint() == q.Fingerprint() && p.ID() == q.ID()
	})
}
