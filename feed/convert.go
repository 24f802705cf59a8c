package feed

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func opOf(op metadata.Op) gatehousev1.Change_Op {
	switch op {
	case metadata.Created:
		return gatehousev1.Change_CREATED
	case metadata.Updated:
		return gatehousev1.Change_UPDATED
	case metadata.Deleted:
		return gatehousev1.Change_DELETED
	}
	return gatehousev1.Change_OP_UNSPECIFIED
}

func documentOf(d *metadata.Document) *gatehousev1.Document {
	return &gatehousev1.Document{Name: d.Name, Content: d.Content, Revision: d.Revision, Author: d.Author, Time: timestamppb.New(d.Time)}
}

// resourceOf returns what an occurrence of a scan is filed for.
func resourceOf(o *grafeas.Occurrence) (metadata.Parent, metadata.Key, error) {
	before, _, _ := strings.Cut(o.GetName(), "/occurrences/")
	parent, err := metadata.ParseParent(before)
	if err != nil {
		return metadata.Parent{}, metadata.Key{}, fmt.Errorf("reading the name of occurrence %q: %w", o.GetName(), err)
	}
	return parent, metadata.KeyOf(metadata.CanonicalURI(o.GetResourceUri())), nil
}

// summaryOf returns a summary with what its scanners look for. The resource is for one
// that is empty, and so does not tell it.
func (s *Service) summaryOf(ctx context.Context, from *metadata.Summary, resource string) (*gatehousev1.Summary, error) {
	if from.ResourceURI != "" {
		resource = from.ResourceURI
	}
	to := &gatehousev1.Summary{Parent: from.Parent.String(), ResourceUri: resource, Truncated: from.Truncated}
	for _, f := range from.Findings {
		to.Findings = append(to.Findings, &gatehousev1.Finding{Note: f.Note, Severity: int32(f.Severity), Fixable: f.Fixable, Count: int64(f.Count)})
	}
	for _, scan := range from.Scans {
		told := &gatehousev1.Scan{Id: scan.ID[:], Note: scan.Note, Status: int32(scan.Status), Updated: timestamppb.New(scan.Updated)}
		switch note, err := s.svc.Note(ctx, scan.Note); {
		case err == nil:
			analysis := int32(note.GetDiscovery().GetAnalysisKind())
			told.Analysis = &analysis
		case metadata.KindOf(err) != metadata.NotFound: // gone with the scan, which the feed will tell
			return nil, err
		}
		to.Scans = append(to.Scans, told)
	}
	return to, nil
}
