package feed

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

const (
	// maxDigests bounds what one look-up asks for: the images of some pods.
	maxDigests = 128
	// maxLookup bounds an answer, in bytes, so that clients can receive it.
	maxLookup = 3 << 20
	// maxRows bounds what one look-up reads.
	maxRows = 50_000
)

// Lookup returns what there is about some digests now: all that was committed before it
// was called.
func (s *Service) Lookup(ctx context.Context, req *gatehousev1.LookupRequest) (*gatehousev1.LookupResponse, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (*gatehousev1.LookupResponse, error) {
		return metadata.Do(ctx, s.svc, caller, "Lookup", projectName(req.GetProject()), func(c *metadata.Call) (*gatehousev1.LookupResponse, error) {
			if err := checkLookup(ctx, c, req); err != nil {
				return nil, err
			}
			l := lookup{s: s, seen: make(map[string]bool), resources: make(map[string]bool)}
			err := l.read(ctx, req)
			return &l.answer, err
		})
	})
}

func checkLookup(ctx context.Context, c *metadata.Call, req *gatehousev1.LookupRequest) error {
	if err := checkProject(req.GetProject()); err != nil {
		return err
	}
	if n := len(req.GetDigests()); n > maxDigests {
		return metadata.Errorf(metadata.InvalidArgument, "%d digests; %d can be looked up at once", n, maxDigests)
	}
	for _, d := range req.GetDigests() {
		if hex, ok := strings.CutPrefix(d, "sha256:"); !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return metadata.Errorf(metadata.InvalidArgument, "digest %q: want sha256: and 64 hexadecimal digits", clip(d))
		}
	}
	return permit(ctx, c, req.GetProject(), req.GetInterest())
}

type lookup struct {
	s         *Service
	answer    gatehousev1.LookupResponse
	bytes     int
	rows      int
	seen      map[string]bool // occurrences
	resources map[string]bool
}

func (l *lookup) read(ctx context.Context, req *gatehousev1.LookupRequest) error {
	for _, note := range req.GetInterest().GetNotes() {
		if err := l.s.svc.NoteSubjectOccurrences(ctx, note, req.GetDigests(), l.statement); err != nil {
			return err
		}
	}
	scans := make(map[string]bool)
	for _, project := range req.GetInterest().GetScans() {
		scans[project] = true
	}
	// What both want of a project is read at once.
	for _, project := range req.GetInterest().GetProjects() {
		both := scans[project]
		delete(scans, project)
		if err := l.project(ctx, project, req.GetDigests(), true, both); err != nil {
			return err
		}
	}
	for project := range scans {
		if err := l.project(ctx, project, req.GetDigests(), false, true); err != nil {
			return err
		}
	}
	return nil
}

func (l *lookup) project(ctx context.Context, project string, digests []string, signed, scans bool) error {
	var kinds metadata.Kinds
	if signed {
		kinds |= statements
	}
	if scans {
		kinds |= metadata.KindSet(grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_DISCOVERY)
	}
	return l.s.svc.SubjectOccurrences(ctx, project, digests, kinds, func(o *grafeas.Occurrence) error {
		if metadata.Summarized(o.GetKind()) {
			return l.scan(ctx, o)
		}
		return l.statement(o)
	})
}

func (l *lookup) count(bytes int) error {
	l.rows, l.bytes = l.rows+1, l.bytes+bytes
	if l.rows > maxRows || l.bytes > maxLookup {
		return metadata.Errorf(metadata.ResourceExhausted, "there is more about the images than one look-up reads")
	}
	return nil
}

func (l *lookup) statement(o *grafeas.Occurrence) error {
	if !statements.Has(o.GetKind()) || l.seen[o.GetName()] {
		return l.count(0)
	}
	l.seen[o.GetName()] = true
	raw, err := proto.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding occurrence %q: %w", o.GetName(), err)
	}
	l.answer.Occurrences = append(l.answer.Occurrences, raw)
	return l.count(len(raw))
}

func (l *lookup) scan(ctx context.Context, o *grafeas.Occurrence) error {
	parent, resource, err := resourceOf(o)
	if err != nil {
		return err
	}
	of := parent.String() + " " + string(resource[:])
	if l.resources[of] {
		return l.count(0)
	}
	l.resources[of] = true
	from, err := l.s.svc.ResourceSummary(ctx, parent, resource)
	if err != nil {
		return err
	}
	summary, err := l.s.summaryOf(ctx, from, o.GetResourceUri())
	if err != nil {
		return err
	}
	l.answer.Summaries = append(l.answer.Summaries, summary)
	return l.count(proto.Size(summary))
}
