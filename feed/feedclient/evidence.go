package feedclient

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A queue holds changes that have arrived and were not asked for yet, a batch for each
// message. Its length is bounded by the server, which sends so many ahead.
type queue struct {
	batches []batch
	// Changes up to base are gone, and through is how far there are.
	base    uint64
	through atomic.Uint64
	// anew is set until the follower was told that everything begins anew.
	anew bool
	// summaries are of the batches that were given away last.
	summaries map[resource]*metadata.Summary
}

type batch struct {
	through   uint64
	changes   []metadata.Change
	summaries map[resource]*metadata.Summary
	scanners  map[string]int32
}

type resource struct {
	parent metadata.Parent
	key    metadata.Key
}

// restart drops everything: changes begin after a number.
func (q *queue) restart(at uint64) {
	q.batches, q.summaries, q.base = nil, nil, at
	q.through.Store(at)
}

// push adds a batch, and reports whether it took no place of its own.
func (q *queue) push(b batch) (none bool) {
	q.through.Store(b.through)
	n := len(q.batches)
	if len(b.changes) == 0 && n > 0 && len(q.batches[n-1].changes) == 0 {
		q.batches[n-1].through = b.through
		return true
	}
	q.batches = append(q.batches, b)
	return len(b.changes) == 0
}

// drop drops what was applied up to a number, and returns how many batches with changes
// those were.
func (q *queue) drop(after uint64) (dropped int) {
	for len(q.batches) > 0 && q.batches[0].through <= after {
		if len(q.batches[0].changes) > 0 {
			dropped++
		}
		q.base, q.summaries = q.batches[0].through, nil
		q.batches[0] = batch{}
		q.batches = q.batches[1:]
	}
	return dropped
}

// convert makes a change what followers of a store are told.
func (b *batch) convert(c *gatehousev1.Change) (metadata.Change, error) {
	change := metadata.Change{Seq: c.GetSeq()}
	switch c.GetOp() {
	case gatehousev1.Change_CREATED:
		change.Op = metadata.Created
	case gatehousev1.Change_UPDATED:
		change.Op = metadata.Updated
	case gatehousev1.Change_DELETED:
		change.Op = metadata.Deleted
	default:
		return change, metadata.Errorf(metadata.Unimplemented, "change %d does what this gate does not know; upgrade it", c.GetSeq())
	}
	switch kind := c.GetKind().(type) {
	case *gatehousev1.Change_Occurrence:
		change.Occurrence = &grafeas.Occurrence{}
		if err := proto.Unmarshal(kind.Occurrence, change.Occurrence); err != nil {
			return change, metadata.Errorf(metadata.Internal, "change %d is no occurrence: %w", c.GetSeq(), err)
		}
	case *gatehousev1.Change_Scanner:
		change.Note = scannerNote(kind.Scanner.GetNote(), kind.Scanner.GetAnalysis())
		b.learn(kind.Scanner.GetNote(), kind.Scanner.GetAnalysis())
	case *gatehousev1.Change_Summary:
		s, err := b.summary(kind.Summary)
		if err != nil {
			return change, err
		}
		b.summaries[resource{s.Parent, s.Resource}] = s
		// Whatever it was that has changed: who follows reads the summary.
		change.Occurrence = &grafeas.Occurrence{Name: s.Parent.String() + "/occurrences/-", Kind: grafeas.NoteKind_DISCOVERY, ResourceUri: s.ResourceURI}
	default:
		return change, metadata.Errorf(metadata.Unimplemented, "change %d is of what this gate does not know; upgrade it", c.GetSeq())
	}
	return change, nil
}

func (b *batch) learn(note string, analysis int32) {
	if b.scanners == nil {
		b.scanners = make(map[string]int32)
	}
	b.scanners[note] = analysis
}

func scannerNote(name string, analysis int32) *grafeas.Note {
	return &grafeas.Note{Name: name, Kind: grafeas.NoteKind_DISCOVERY, Type: &grafeas.Note_Discovery{
		Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind(analysis)},
	}}
}

// summary reads what scans have found.
func (b *batch) summary(from *gatehousev1.Summary) (*metadata.Summary, error) {
	parent, err := metadata.ParseParent(from.GetParent())
	if err != nil {
		return nil, metadata.Errorf(metadata.Internal, "a summary has no parent: %w", err)
	}
	if len(from.GetFindings()) > metadata.MaxFindings || len(from.GetScans()) > metadata.MaxScans {
		return nil, metadata.Errorf(metadata.Internal, "a summary has %d findings and %d scans, more than summaries have", len(from.GetFindings()), len(from.GetScans()))
	}
	s := &metadata.Summary{
		Parent: parent, Resource: metadata.KeyOf(metadata.CanonicalURI(from.GetResourceUri())),
		ResourceURI: from.GetResourceUri(), Truncated: from.GetTruncated(),
	}
	for _, f := range from.GetFindings() {
		severity := grafeas.Severity(f.GetSeverity())
		s.Findings = append(s.Findings, metadata.Finding{Note: f.GetNote(), Severity: severity, Fixable: f.GetFixable(), Count: int(f.GetCount())})
		s.Counts = []metadata.SeverityCount{{Severity: severity, Total: 1}} // it is not empty; how many, nobody here asks
	}
	for _, scan := range from.GetScans() {
		id := metadata.ID{}
		if copy(id[:], scan.GetId()) != len(id) || len(scan.GetId()) != len(id) {
			return nil, metadata.Errorf(metadata.Internal, "a scan of a summary has no id")
		}
		updated := time.Time{}
		if scan.GetUpdated() != nil {
			updated = scan.GetUpdated().AsTime()
		}
		s.Scans = append(s.Scans, metadata.Scan{ID: id, Note: scan.GetNote(), Status: grafeas.DiscoveryOccurrence_AnalysisStatus(scan.GetStatus()), Updated: updated})
		if scan.Analysis != nil {
			b.learn(scan.GetNote(), scan.GetAnalysis())
		}
	}
	return s, nil
}

// Evidence is the side of a client that an index of evidence follows.
type Evidence struct{ c *Client }

// Evidence returns that side.
func (c *Client) Evidence() *Evidence { return &Evidence{c} }

// Head returns the number of the last change that has arrived.
func (e *Evidence) Head() uint64 {
	return e.c.evidence.through.Load()
}

// Wait returns when Head is greater, or everything begins anew; or when ctx ends.
func (e *Evidence) Wait(ctx context.Context, after uint64) error {
	return e.c.await(ctx, func() bool { return e.c.evidence.anew || e.c.evidence.through.Load() != after })
}

// Changes returns those after a number that arrived together. The last of them may
// tell only how far there was nothing more. [metadata.ErrCompacted] says that
// everything begins anew.
func (e *Evidence) Changes(_ context.Context, after uint64, _ int) ([]metadata.Change, error) {
	c := e.c
	c.mu.Lock()
	q := &c.evidence
	if q.anew || after < q.base || after > q.through.Load() {
		q.anew = q.anew && after == 0 // of one who asks for the beginning, and does not follow
		c.mu.Unlock()
		return nil, metadata.ErrCompacted
	}
	dropped, s := q.drop(after), c.session
	var changes []metadata.Change
	if len(q.batches) > 0 {
		b := q.batches[0]
		changes, q.summaries = b.changes, b.summaries
		if n := len(changes); n == 0 || changes[n-1].Seq < b.through {
			changes = append(changes[:n:n], metadata.Change{Seq: b.through})
		}
	}
	c.mu.Unlock()
	for range dropped {
		if s != nil {
			s.took(0)
		}
	}
	return changes, nil
}

// NoteOccurrences calls fn with the signed statements under a note, as they stand at
// the server, and has changes told of from now on.
func (e *Evidence) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (asOf uint64, err error) {
	return e.Head(), e.c.read(ctx, aNote, note, eachOccurrence(fn))
}

// ProjectOccurrences does so with those that are filed in a project, by its id. Kinds
// that are no signed statements are not told.
func (e *Evidence) ProjectOccurrences(ctx context.Context, project string, kinds metadata.Kinds, fn func(*grafeas.Occurrence) error) (asOf uint64, err error) {
	return e.Head(), e.c.read(ctx, aProject, project, eachOccurrence(func(o *grafeas.Occurrence) error {
		if !kinds.Has(o.GetKind()) {
			return nil
		}
		return fn(o)
	}))
}

func eachOccurrence(fn func(*grafeas.Occurrence) error) func(*gatehousev1.Part) error {
	return func(p *gatehousev1.Part) error {
		for _, raw := range p.GetOccurrences() {
			o := &grafeas.Occurrence{}
			if err := proto.Unmarshal(raw, o); err != nil {
				return metadata.Errorf(metadata.Internal, "the metadata service sends what is no occurrence: %w", err)
			}
			if err := fn(o); err != nil {
				return err
			}
		}
		return nil
	}
}

// ProjectSummaries calls fn with what the scans of a project have found.
func (e *Evidence) ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (asOf uint64, err error) {
	return e.Head(), e.c.read(ctx, aScan, project, func(p *gatehousev1.Part) error {
		for _, from := range p.GetSummaries() {
			s, err := e.learn(from)
			if err != nil {
				return err
			}
			if err := fn(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// learn reads a summary and keeps what it tells of scanners.
func (e *Evidence) learn(from *gatehousev1.Summary) (*metadata.Summary, error) {
	b := batch{}
	s, err := b.summary(from)
	if err != nil {
		return nil, err
	}
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for name, analysis := range b.scanners {
		e.c.learnScanner(name, analysis)
	}
	return s, nil
}

// ResourceSummary returns the one that came with the changes that were asked for last.
func (e *Evidence) ResourceSummary(_ context.Context, parent metadata.Parent, key metadata.Key) (*metadata.Summary, error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	if s := e.c.evidence.summaries[resource{parent, key}]; s != nil {
		return s, nil
	}
	return nil, metadata.Errorf(metadata.Unavailable, "what scans found did not come with the change that tells of it")
}

// Note returns the note of a scanner, as far as it was told of.
func (e *Evidence) Note(_ context.Context, name string) (*grafeas.Note, error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	analysis, ok := e.c.scanners[name]
	if !ok {
		return nil, metadata.Errorf(metadata.NotFound, "note %q was not told of", name)
	}
	return scannerNote(name, analysis), nil
}

// A Found is what there is about some digests.
type Found struct {
	Occurrences []*grafeas.Occurrence
	Summaries   []*metadata.Summary
	// Scanners are the notes of those whose words the summaries have.
	Scanners []*grafeas.Note
}

// Lookup returns all that the server has now about digests, of what this gate is told.
// An error has the kind Unavailable if it could not be asked in time.
func (e *Evidence) Lookup(ctx context.Context, digests []string) (Found, error) {
	c := e.c
	c.mu.Lock()
	req := &gatehousev1.LookupRequest{Project: c.opts.Project, Interest: c.asked(), Digests: digests}
	c.mu.Unlock()
	answer, err := c.feed.Lookup(ctx, req)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Found{}, metadata.Errorf(metadata.Unavailable, "the metadata service has not answered in time")
		}
		return Found{}, fmt.Errorf("asking the metadata service: %w", told(err))
	}
	if err := checkKnown(answer); err != nil {
		return Found{}, err
	}
	var f Found
	if err := eachOccurrence(func(o *grafeas.Occurrence) error {
		f.Occurrences = append(f.Occurrences, o)
		return nil
	})(&gatehousev1.Part{Occurrences: answer.GetOccurrences()}); err != nil {
		return Found{}, err
	}
	for _, from := range answer.GetSummaries() {
		b := batch{}
		s, err := b.summary(from)
		if err != nil {
			return Found{}, err
		}
		f.Summaries = append(f.Summaries, s)
		for name, analysis := range b.scanners {
			f.Scanners = append(f.Scanners, scannerNote(name, analysis))
		}
	}
	return f, nil
}
