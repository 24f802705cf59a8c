package grafeasapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/vulnerability"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// A betaServer is Grafeas v1beta1 over the same service as v1.
type betaServer struct {
	svc *metadata.Service
}

var _ beta.GrafeasV1Beta1Server = (*betaServer)(nil)

// views returns the stored messages as v1beta1 shows them.
func views[From, To any](stored []From, view func(From) To) []To {
	all := make([]To, len(stored))
	for i, m := range stored {
		all[i] = view(m)
	}
	return all
}

func (s *betaServer) GetOccurrence(ctx context.Context, req *beta.GetOccurrenceRequest) (*beta.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Occurrence, error) {
		o, err := s.svc.GetOccurrence(ctx, caller, req.GetName())
		return v1beta1.OccurrenceTo(o), err
	})
}

func (s *betaServer) ListOccurrences(ctx context.Context, req *beta.ListOccurrencesRequest) (*beta.ListOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.ListOccurrencesResponse, error) {
		page, err := s.svc.ListOccurrences(ctx, caller, metadata.ListRequest{
			Parent: req.GetParent(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &beta.ListOccurrencesResponse{Occurrences: views(page.Occurrences, v1beta1.OccurrenceTo), NextPageToken: page.NextPageToken}, err
	})
}

func (s *betaServer) CreateOccurrence(ctx context.Context, req *beta.CreateOccurrenceRequest) (*beta.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Occurrence, error) {
		o, err := s.svc.CreateOccurrence(ctx, caller, req.GetParent(), v1beta1.OccurrenceFrom(req.GetOccurrence()))
		return v1beta1.OccurrenceTo(o), err
	})
}

func (s *betaServer) BatchCreateOccurrences(ctx context.Context, req *beta.BatchCreateOccurrencesRequest) (*beta.BatchCreateOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.BatchCreateOccurrencesResponse, error) {
		created, err := s.svc.BatchCreateOccurrences(ctx, caller, req.GetParent(), views(req.GetOccurrences(), v1beta1.OccurrenceFrom))
		return &beta.BatchCreateOccurrencesResponse{Occurrences: views(created, v1beta1.OccurrenceTo)}, err
	})
}

func (s *betaServer) UpdateOccurrence(ctx context.Context, req *beta.UpdateOccurrenceRequest) (*beta.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Occurrence, error) {
		if req.GetOccurrence() == nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "an occurrence must be specified")
		}
		o, err := s.svc.UpdateOccurrence(ctx, caller, req.GetName(), updatingOccurrence(req))
		return v1beta1.OccurrenceTo(o), err
	})
}

func (s *betaServer) DeleteOccurrence(ctx context.Context, req *beta.DeleteOccurrenceRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteOccurrence(ctx, caller, req.GetName())
	})
}

func (s *betaServer) GetOccurrenceNote(ctx context.Context, req *beta.GetOccurrenceNoteRequest) (*beta.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Note, error) {
		n, err := s.svc.GetOccurrenceNote(ctx, caller, req.GetName())
		return v1beta1.NoteTo(n), err
	})
}

func (s *betaServer) GetNote(ctx context.Context, req *beta.GetNoteRequest) (*beta.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Note, error) {
		n, err := s.svc.GetNote(ctx, caller, req.GetName())
		return v1beta1.NoteTo(n), err
	})
}

func (s *betaServer) ListNotes(ctx context.Context, req *beta.ListNotesRequest) (*beta.ListNotesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.ListNotesResponse, error) {
		page, err := s.svc.ListNotes(ctx, caller, metadata.ListRequest{
			Parent: req.GetParent(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &beta.ListNotesResponse{Notes: views(page.Notes, v1beta1.NoteTo), NextPageToken: page.NextPageToken}, err
	})
}

func (s *betaServer) CreateNote(ctx context.Context, req *beta.CreateNoteRequest) (*beta.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Note, error) {
		n, err := s.svc.CreateNote(ctx, caller, req.GetParent(), req.GetNoteId(), v1beta1.NoteFrom(req.GetNote()))
		return v1beta1.NoteTo(n), err
	})
}

func (s *betaServer) BatchCreateNotes(ctx context.Context, req *beta.BatchCreateNotesRequest) (*beta.BatchCreateNotesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.BatchCreateNotesResponse, error) {
		notes := newByID(len(req.GetNotes()))
		for id, n := range req.GetNotes() {
			notes[id] = v1beta1.NoteFrom(n)
		}
		created, err := s.svc.BatchCreateNotes(ctx, caller, req.GetParent(), notes)
		return &beta.BatchCreateNotesResponse{Notes: views(created, v1beta1.NoteTo)}, err
	})
}

func (s *betaServer) UpdateNote(ctx context.Context, req *beta.UpdateNoteRequest) (*beta.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.Note, error) {
		if req.GetNote() == nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "a note must be specified")
		}
		n, err := s.svc.UpdateNote(ctx, caller, req.GetName(), updatingNote(req))
		return v1beta1.NoteTo(n), err
	})
}

func (s *betaServer) DeleteNote(ctx context.Context, req *beta.DeleteNoteRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteNote(ctx, caller, req.GetName())
	})
}

func (s *betaServer) ListNoteOccurrences(ctx context.Context, req *beta.ListNoteOccurrencesRequest) (*beta.ListNoteOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.ListNoteOccurrencesResponse, error) {
		page, err := s.svc.ListNoteOccurrences(ctx, caller, metadata.ListRequest{
			Parent: req.GetName(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &beta.ListNoteOccurrencesResponse{Occurrences: views(page.Occurrences, v1beta1.OccurrenceTo), NextPageToken: page.NextPageToken}, err
	})
}

func (s *betaServer) GetVulnerabilityOccurrencesSummary(ctx context.Context, req *beta.GetVulnerabilityOccurrencesSummaryRequest) (*beta.VulnerabilityOccurrencesSummary, error) {
	return answer(ctx, func(caller metadata.Caller) (*beta.VulnerabilityOccurrencesSummary, error) {
		counts, err := s.svc.VulnerabilitySummary(ctx, caller, req.GetParent(), req.GetFilter())
		return &beta.VulnerabilityOccurrencesSummary{Counts: views(counts, func(c metadata.ResourceCount) *beta.VulnerabilityOccurrencesSummary_FixableTotalByDigest {
			return &beta.VulnerabilityOccurrencesSummary_FixableTotalByDigest{
				Resource: &beta.Resource{Uri: c.ResourceURI}, Severity: vulnerability.Severity(c.Severity),
				FixableCount: c.Fixable, TotalCount: c.Total,
			}
		})}, err
	})
}
