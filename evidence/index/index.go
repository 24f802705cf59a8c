// Package index fills and serves the in-memory index of verified evidence.
//
// It follows the change feed of a metadata service, verifies each statement once,
// when it arrives, against the keys trusted under its note and in its project, and
// answers what is known of a digest without touching network or disk.
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
// A [Trust] says which keys may sign under which note, and in which project. Facts
// name the key that signed by its fingerprint, and a decision asks whether the
// attestor trusts that fingerprint now: removing a key takes effect at once, and
// adding one takes effect when [Index.SetTrust] returns.
//
// # What it reads
//
// Attestations: a payload and its signatures, JWTs, and DSSE envelopes that hold
// such a payload. Uploads: DSSE attestations that are an in-toto statement of type
// https://gatehouse.dev/upload/v1. Provenances: DSSE attestations and builds with an
// envelope that is a statement with SLSA provenance of version 0.1, 0.2 or 1. What a
// statement is follows from the bytes that are signed, and the digest that it is
// filed under must be the one, or one of those, that it is about. A digest is that of
// an index or of a manifest, and neither stands for the other.
//
// Scans are not signed. Those of the projects that [Index.SetScope] names are kept as
// the store sums them up, an entry for each resource with the digest. What an analysis
// looks for, the note of its discoveries says, as it stands now: one that looks for
// something else than vulnerabilities is no scan, whether it has finished or not. See
// [metadata.FindsVulnerabilities].
//
// # How much it holds
//
// Less than 160 bytes for a digest with one attestation: 48 for the statement, 64 for the
// digest and where its statements and scans are, and up to 38 for its place in a map that
// may be half empty. A finding of a scan takes 4 more. Whoever may write occurrences can
// add as many as the store takes: each that verifies costs 48 bytes, of those that do not
// 4 are kept for each digest and trusted note or project, and an image is told one of those
// that say the same. The statements of provenances, which have up to 256 KiB, are kept as
// far as [Index.KeepStatements] says. Of scans an image is told 1,000 with 50,000 findings,
// and that there are more.
//
// [Index.Bound] sets how many statements are kept. Beyond it the oldest go, but for
// uploads, and whoever is denied for want of one has to look where they came from: see
// [Index.Cold] and [Index.About]. That is sound because no statement of those kinds makes
// a decision worse: with fewer of them less is allowed. Scans are not dropped, since with
// fewer findings more would be.
package index

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

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
	// returns the sequence number that they reflect at least. ProjectOccurrences does
	// so with those of some kinds that are filed in a project or a location of it.
	NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (asOf uint64, err error)
	ProjectOccurrences(ctx context.Context, project string, kinds metadata.Kinds, fn func(*grafeas.Occurrence) error) (asOf uint64, err error)
	// ProjectSummaries calls fn with what the scans of a project found, and
	// ResourceSummary returns what those of one resource did, as it stands.
	ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (asOf uint64, err error)
	ResourceSummary(ctx context.Context, parent metadata.Parent, resource metadata.Key) (*metadata.Summary, error)
	// Note returns a note as it stands, or an error of kind NotFound.
	Note(ctx context.Context, name string) (*grafeas.Note, error)
}

// signed are the kinds of occurrences that may make statements.
var signed = metadata.KindSet(grafeas.NoteKind_ATTESTATION, grafeas.NoteKind_DSSE_ATTESTATION, grafeas.NoteKind_BUILD)

// Kinds returns the kinds of occurrences that facts are made of.
func Kinds() metadata.Kinds {
	return signed | metadata.KindSet(grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_DISCOVERY)
}

// An Index is safe for concurrent use. The zero Index is not usable; see [New].
type Index struct {
	source Source
	logger *slog.Logger
	memo   *signature.Memo

	trust atomic.Pointer[Trust]
	scope atomic.Pointer[map[string]bool] // projects whose scans are kept, by their ids

	// setting serialises SetTrust, SetScope and the reading of everything anew.
	setting sync.Mutex
	// unread are the notes and projects whose statements have not all been verified
	// with the keys that are trusted now, and unscanned the projects whose scans have
	// not all been read. held is the trust that statements in the book may rest on.
	unread, unscanned map[string]bool
	held              Trust
	// unkept is set if provenances have not all been read again since more of their
	// statements are to be kept.
	unkept bool
	// copied are the keys that statements from a copy were verified with, until the
	// first trust tells which of them count; nil without one.
	copied      map[string]map[keyName]bool
	copiedLimit int // of the statements of provenances in it

	mu   sync.RWMutex
	book book
	// cooling is set while statements that are too many are dropped.
	cooling  atomic.Bool
	examined examined
	// renewed counts how often everything was read anew.
	renewed int
	// told names occurrences, and toldOf resources, that the feed has told of while a
	// scan runs, so that the scan cannot bring back what it read before they were
	// changed or deleted; nil while none runs.
	told   map[occurrenceName]struct{}
	toldOf map[scanned]struct{}

	// start is where following begins: SetTrust reads what was stored before.
	start    uint64
	progress progress
	tags     tagHints
	hints    hints
}

// New returns an Index that knows nothing and trusts nobody until [Index.SetTrust],
// and keeps no scans until [Index.SetScope].
func New(source Source, logger *slog.Logger) *Index {
	const verdicts = 1 << 16 // memoised signature verdicts, 64 bytes each
	x := &Index{
		source: source, logger: logger,
		memo:   signature.NewMemo(verdicts),
		book:   newBook(0),
		unread: make(map[string]bool), unscanned: make(map[string]bool),
	}
	x.trust.Store(&Trust{})
	x.scope.Store(&map[string]bool{})
	x.start = source.Head()
	x.progress.init(x.start)
	return x
}

// Memo returns the memory of verdicts on signatures, for whoever verifies some in the same
// process. Which keys are trusted is not in it.
func (x *Index) Memo() *signature.Memo { return x.memo }

// SetTrust replaces the trusted keys and returns when all statements that are
// stored under their notes and in their projects have been verified with them. Until
// the next call, facts by the keys of before stay too, so that a policy that is about
// to be replaced decides as before. When it fails, it must be called again.
func (x *Index) SetTrust(ctx context.Context, trust Trust) error {
	x.setting.Lock()
	defer x.setting.Unlock()
	x.adopt(trust)
	old := *x.trust.Load()
	for name, keys := range trust {
		if !sameKeys(old[name], keys) {
			x.unread[name] = true
		}
	}
	both := union(old, trust)
	x.held = union(x.held, both)
	defer x.scanning(func() { x.trust.Store(&both) })()

	projects := maps.Clone(x.unread) // what is filed there need not be read with its note too
	maps.DeleteFunc(projects, func(name string, _ bool) bool { return isNote(name) || trust[name] == nil })
	for _, name := range slices.Sorted(maps.Keys(x.unread)) {
		if trust[name] != nil {
			if err := x.read(ctx, name, filedElsewhere(name, projects)); err != nil {
				return err
			}
		}
		delete(x.unread, name)
	}
	x.forget(both, trust)
	return nil
}

// SetScope replaces the projects, by their ids, whose scans are kept, and returns
// when all that are stored there have been read. Until the next call, those of the
// projects of before stay too. When it fails, it must be called again.
func (x *Index) SetScope(ctx context.Context, projects []string) error {
	x.setting.Lock()
	defer x.setting.Unlock()
	old, next := *x.scope.Load(), make(map[string]bool)
	both := maps.Clone(old)
	for _, p := range projects {
		next[p], both[p] = true, true
		if !old[p] {
			x.unscanned[p] = true
		}
	}
	defer x.scanning(func() { x.scope.Store(&both) })()

	for _, p := range slices.Sorted(maps.Keys(x.unscanned)) {
		if next[p] {
			if err := x.readScans(ctx, p); err != nil {
				return err
			}
		}
		delete(x.unscanned, p)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scope.Store(&next)
	x.book.keepScans(func(project string) bool { return both[project] })
	return nil
}

// KeepStatements sets how many bytes of the statements of provenances are kept, which
// only a policy with a custom constraint needs; at first, none. When it keeps more than
// before it returns when those that are stored have been read again, and when it fails
// it must be called again.
//
// Of more than there is room for, those of the latest occurrences are kept. The others
// count as before, but for their Statement, which is nil.
func (x *Index) KeepStatements(ctx context.Context, bytes int) error {
	x.setting.Lock()
	defer x.setting.Unlock()
	defer x.scanning(func() {
		x.unkept = bytes > 0 && (x.unkept || bytes > x.book.wholes.limit)
		x.book.keepWholes(bytes)
	})()
	if x.unkept {
		if err := x.readProvenances(ctx); err != nil {
			return err
		}
		x.unkept = false
	}
	return nil
}

// readProvenances reads again what may be one.
func (x *Index) readProvenances(ctx context.Context) error {
	trust := *x.trust.Load()
	projects := make(map[string]bool)
	for name := range trust {
		projects[name] = !isNote(name)
	}
	for name := range trust {
		elsewhere := filedElsewhere(name, projects)
		err := x.read(ctx, name, func(o *grafeas.Occurrence) bool {
			return o.GetKind() == grafeas.NoteKind_ATTESTATION || elsewhere(o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scanning begins a scan together with what the function changes, and returns what
// ends it.
func (x *Index) scanning(change func()) (end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.told, x.toldOf = make(map[occurrenceName]struct{}), make(map[scanned]struct{})
	change()
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.told, x.toldOf = nil, nil
	}
}

// filedElsewhere returns a function that tells which of a note's occurrences are filed
// in projects that are read too; all of a project's have to be read with it.
func filedElsewhere(name string, projects map[string]bool) (skip func(*grafeas.Occurrence) bool) {
	return func(o *grafeas.Occurrence) bool { return isNote(name) && projects[projectOf(o.GetName())] }
}

// read verifies and files every statement that is stored under a note, or in a
// project, but for those that are to be skipped.
func (x *Index) read(ctx context.Context, name string, skip func(*grafeas.Occurrence) bool) error {
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
		return x.each(ctx, name, func(o *grafeas.Occurrence) error {
			if skip != nil && skip(o) {
				return nil
			}
			select {
			case work <- o:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return group.Wait()
}

// each calls fn with the occurrences under a note, or in a project.
func (x *Index) each(ctx context.Context, name string, fn func(*grafeas.Occurrence) error) error {
	if isNote(name) {
		if _, err := x.source.NoteOccurrences(ctx, name, fn); err != nil {
			return fmt.Errorf("reading attestations of note %q: %w", name, err)
		}
		return nil
	}
	if _, err := x.source.ProjectOccurrences(ctx, projectID(name), signed, fn); err != nil {
		return fmt.Errorf("reading attestations in %q: %w", name, err)
	}
	return nil
}

// readScans files what the scans of a project found.
func (x *Index) readScans(ctx context.Context, project string) error {
	_, err := x.source.ProjectSummaries(ctx, project, func(s *metadata.Summary) error {
		err := x.learnAnalyses(ctx, s.Scans)
		if ref, parseErr := image.ParseResourceURI(s.ResourceURI); err == nil && parseErr == nil {
			x.fileScan(ref.Digest(), scanned{unique.Make(s.Parent), s.Resource}, s, fromScan)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the scans of project %q: %w", project, err)
	}
	return nil
}

// forget puts the new trust in place and drops statements that neither it nor the
// one before has a key for; no decision can rest on them.
func (x *Index) forget(both, next Trust) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trust.Store(&next)
	if !both.covers(x.held) {
		x.book.keep(both.why())
	}
	x.held = both
}

// learnAnalyses reads the notes of scans that are not known yet. The feed tells of them
// too, and what it has told meanwhile is as new, so that it stays.
func (x *Index) learnAnalyses(ctx context.Context, scans []metadata.Scan) error {
	for _, s := range scans {
		x.mu.RLock()
		_, known := x.book.analyses.known[s.Note]
		x.mu.RUnlock()
		if known {
			continue
		}
		n, err := x.source.Note(ctx, s.Note)
		if metadata.KindOf(err) == metadata.NotFound {
			continue // gone with the scan, which the feed will tell
		}
		if err != nil {
			return fmt.Errorf("reading what scanner %q looks for: %w", s.Note, err)
		}
		x.mu.Lock()
		if _, told := x.book.analyses.known[s.Note]; !told {
			x.book.analyses.learn(n, metadata.Created)
		}
		x.mu.Unlock()
	}
	return nil
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
	facts.Hints = x.hints.about(refs)
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, d := range digests {
		set[d] = x.book.image(d)
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
	return x.book.entries.len()
}

// Statements returns how many statements about them are kept.
func (x *Index) Statements() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.book.cold.kept
}
