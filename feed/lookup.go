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
			l := lookup{s: s}
			asked := req.GetInterest()
			err := s.svc.About(ctx, metadata.Question{
				Digests: req.GetDigests(), Notes: asked.GetNotes(), Projects: asked.GetProjects(), Scans: asked.GetScans(),
				Statements: statements, MaxRows: maxRows,
			}, l.statement, func(found *metadata.Summary, uri string) error { return l.scan(ctx, found, uri) })
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
	s      *Service
	answer gatehousev1.LookupResponse
	bytes  int
}

func (l *lookup) count(bytes int) error {
	if l.bytes += bytes; l.bytes > maxLookup {
		return metadata.Errorf(metadata.ResourceExhausted, "there is more about the images than one look-up tells: %d bytes", maxLookup)
	}
	return nil
}

func (l *lookup) statement(o *grafeas.Occurrence) error {
	raw, err := proto.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding occurrence %q: %w", o.GetName(), err)
	}
	l.answer.Occurrences = append(l.answer.Occurrences, raw)
	return l.count(len(raw))
}

func (l *lookup) scan(ctx context.Context, found *metadata.Summary, uri string) error {
	summary, err := l.s.summaryOf(ctx, found, uri)
	if err != nil {
		return err
	}
	l.answer.Summaries = append(l.answer.Summaries, summary)
	return l.count(proto.Size(summary))
}
