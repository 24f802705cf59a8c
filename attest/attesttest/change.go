package attesttest

import (
	"context"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// GetOccurrence returns an occurrence.
func (s *Store) GetOccurrence(ctx context.Context, req *grafeas.GetOccurrenceRequest, _ ...grpc.CallOption) (*grafeas.Occurrence, error) {
	if err := s.begin(ctx, "GetOccurrence"); err != nil {
		return nil, err
	}
	for _, o := range s.Occurrences() {
		if o.GetName() == req.GetName() && o.GetName() != "" {
			return o, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "occurrence %q not found", req.GetName())
}

// DeleteOccurrence deletes an occurrence, of which an empty one is left.
func (s *Store) DeleteOccurrence(ctx context.Context, req *grafeas.DeleteOccurrenceRequest, _ ...grpc.CallOption) (*emptypb.Empty, error) {
	if err := s.begin(ctx, "DeleteOccurrence"); err != nil {
		return nil, err
	}
	if !s.Change(req.GetName(), proto.Reset) {
		return nil, status.Errorf(codes.NotFound, "occurrence %q not found", req.GetName())
	}
	return &emptypb.Empty{}, nil
}

// Change changes an occurrence in its place, and reports whether there is one.
func (s *Store) Change(name string, change func(proto.Message)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.occurrences {
		if name != "" && o.GetName() == name {
			change(o)
			return true
		}
	}
	return false
}
