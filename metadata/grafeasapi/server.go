package grafeasapi

import (
	"context"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A server is Grafeas v1: it translates between its messages and the service, and
// nothing else.
type server struct {
	svc *metadata.Service
}

var _ grafeas.GrafeasServer = (*server)(nil)

// answer asks who is calling, calls, and makes the error a status.
func answer[T any](ctx context.Context, call func(metadata.Caller) (T, error)) (T, error) {
	var none T
	caller, err := callerOf(ctx)
	if err != nil {
		return none, toStatus(err)
	}
	result, err := call(caller)
	if err != nil {
		return none, toStatus(err)
	}
	return result, nil
}

func (s *server) GetOccurrence(ctx context.Context, req *grafeas.GetOccurrenceRequest) (*grafeas.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Occurrence, error) {
		o, err := s.svc.GetOccurrence(ctx, caller, req.GetName())
		return shown(o), err
	})
}

func (s *server) ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest) (*grafeas.ListOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.ListOccurrencesResponse, error) {
		page, err := s.svc.ListOccurrences(ctx, caller, metadata.ListRequest{
			Parent: req.GetParent(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &grafeas.ListOccurrencesResponse{Occurrences: shownAll(page.Occurrences), NextPageToken: page.NextPageToken}, err
	})
}

func (s *server) CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest) (*grafeas.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Occurrence, error) {
		o, err := s.svc.CreateOccurrence(ctx, caller, req.GetParent(), taken(req.GetOccurrence()))
		return shown(o), err
	})
}

func (s *server) BatchCreateOccurrences(ctx context.Context, req *grafeas.BatchCreateOccurrencesRequest) (*grafeas.BatchCreateOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.BatchCreateOccurrencesResponse, error) {
		created, err := s.svc.BatchCreateOccurrences(ctx, caller, req.GetParent(), takenAll(req.GetOccurrences()))
		return &grafeas.BatchCreateOccurrencesResponse{Occurrences: shownAll(created)}, err
	})
}

func (s *server) UpdateOccurrence(ctx context.Context, req *grafeas.UpdateOccurrenceRequest) (*grafeas.Occurrence, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Occurrence, error) {
		patch := taken(req.GetOccurrence())
		if patch == nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "an occurrence must be specified")
		}
		o, err := s.svc.UpdateOccurrence(ctx, caller, req.GetName(), func(current *grafeas.Occurrence) (*grafeas.Occurrence, error) {
			return updateV1(current, patch, req.GetUpdateMask())
		})
		return shown(o), err
	})
}

func (s *server) DeleteOccurrence(ctx context.Context, req *grafeas.DeleteOccurrenceRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteOccurrence(ctx, caller, req.GetName())
	})
}

func (s *server) GetOccurrenceNote(ctx context.Context, req *grafeas.GetOccurrenceNoteRequest) (*grafeas.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Note, error) {
		n, err := s.svc.GetOccurrenceNote(ctx, caller, req.GetName())
		return shown(n), err
	})
}

func (s *server) GetNote(ctx context.Context, req *grafeas.GetNoteRequest) (*grafeas.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Note, error) {
		n, err := s.svc.GetNote(ctx, caller, req.GetName())
		return shown(n), err
	})
}

func (s *server) ListNotes(ctx context.Context, req *grafeas.ListNotesRequest) (*grafeas.ListNotesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.ListNotesResponse, error) {
		page, err := s.svc.ListNotes(ctx, caller, metadata.ListRequest{
			Parent: req.GetParent(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &grafeas.ListNotesResponse{Notes: shownAll(page.Notes), NextPageToken: page.NextPageToken}, err
	})
}

func (s *server) CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest) (*grafeas.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Note, error) {
		n, err := s.svc.CreateNote(ctx, caller, req.GetParent(), req.GetNoteId(), taken(req.GetNote()))
		return shown(n), err
	})
}

func (s *server) BatchCreateNotes(ctx context.Context, req *grafeas.BatchCreateNotesRequest) (*grafeas.BatchCreateNotesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.BatchCreateNotesResponse, error) {
		created, err := s.svc.BatchCreateNotes(ctx, caller, req.GetParent(), takenByID(req.GetNotes()))
		return &grafeas.BatchCreateNotesResponse{Notes: shownAll(created)}, err
	})
}

func (s *server) UpdateNote(ctx context.Context, req *grafeas.UpdateNoteRequest) (*grafeas.Note, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.Note, error) {
		patch := taken(req.GetNote())
		if patch == nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "a note must be specified")
		}
		n, err := s.svc.UpdateNote(ctx, caller, req.GetName(), func(current *grafeas.Note) (*grafeas.Note, error) {
			return updateV1(current, patch, req.GetUpdateMask())
		})
		return shown(n), err
	})
}

func (s *server) DeleteNote(ctx context.Context, req *grafeas.DeleteNoteRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteNote(ctx, caller, req.GetName())
	})
}

func (s *server) ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest) (*grafeas.ListNoteOccurrencesResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*grafeas.ListNoteOccurrencesResponse, error) {
		page, err := s.svc.ListNoteOccurrences(ctx, caller, metadata.ListRequest{
			Parent: req.GetName(), Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
		})
		return &grafeas.ListNoteOccurrencesResponse{Occurrences: shownAll(page.Occurrences), NextPageToken: page.NextPageToken}, err
	})
}
