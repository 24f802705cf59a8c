// Package attesttest is a kit for tests of what talks to a metadata server: a
// small Grafeas server's client, in memory, that can also be made to misbehave.
package attesttest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Store is a metadata server in memory. The zero Store is empty and behaves.
// It knows the one filter that checks and attestors send. Set its fields before
// it is used.
type Store struct {
	// IgnoreFilter answers every list with all there is, as a server would that
	// does not know filters.
	IgnoreFilter bool
	// Unique refuses a second attestation of one image under one note, as
	// Google's server does.
	Unique bool
	// PageSize bounds a page; 0 means 2, so that lists have pages.
	PageSize int
	// Fail, when it returns an error for a method, is what that method answers.
	Fail func(ctx context.Context, method string) error

	mu          sync.Mutex
	notes       map[string]*grafeas.Note
	occurrences []*grafeas.Occurrence
	calls       map[string]int
}

// Add stores occurrences as they are, in a project, without any validation.
func (s *Store) Add(project string, occurrences ...*grafeas.Occurrence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range occurrences {
		s.add("projects/"+project, o)
	}
}

func (s *Store) add(parent string, o *grafeas.Occurrence) *grafeas.Occurrence {
	o = proto.CloneOf(o)
	o.Name = fmt.Sprintf("%s/occurrences/%d", parent, len(s.occurrences)+1)
	if o.CreateTime == nil {
		o.CreateTime = &timestamppb.Timestamp{Seconds: int64(len(s.occurrences) + 1)}
	}
	s.occurrences = append(s.occurrences, o)
	return proto.CloneOf(o)
}

// Occurrences returns all that is stored.
func (s *Store) Occurrences() []*grafeas.Occurrence {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*grafeas.Occurrence, 0, len(s.occurrences))
	for _, o := range s.occurrences {
		all = append(all, proto.CloneOf(o))
	}
	return all
}

// Note returns a note, or nil.
func (s *Store) Note(name string) *grafeas.Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.CloneOf(s.notes[name])
}

// Calls returns how often a method was called.
func (s *Store) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// begin counts a call and says whether it fails. It does not hold the lock
// while Fail runs, which may wait.
func (s *Store) begin(ctx context.Context, method string) error {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[method]++
	s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	if s.Fail == nil {
		return nil
	}
	return s.Fail(ctx, method)
}

// CreateNote creates a note.
func (s *Store) CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	if err := s.begin(ctx, "CreateNote"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := req.GetParent() + "/notes/" + req.GetNoteId()
	if s.notes[name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "note %q already exists", name)
	}
	if s.notes == nil {
		s.notes = map[string]*grafeas.Note{}
	}
	note := proto.CloneOf(req.GetNote())
	note.Name = name
	s.notes[name] = note
	return proto.CloneOf(note), nil
}

// GetNote returns a note that exists.
func (s *Store) GetNote(ctx context.Context, req *grafeas.GetNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	if err := s.begin(ctx, "GetNote"); err != nil {
		return nil, err
	}
	if n := s.Note(req.GetName()); n != nil {
		return n, nil
	}
	return nil, status.Errorf(codes.NotFound, "note %q not found", req.GetName())
}

// CreateOccurrence creates an occurrence of a note that exists.
func (s *Store) CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, _ ...grpc.CallOption) (*grafeas.Occurrence, error) {
	if err := s.begin(ctx, "CreateOccurrence"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := req.GetOccurrence()
	if s.notes[o.GetNoteName()] == nil {
		return nil, status.Errorf(codes.NotFound, "note %q not found", o.GetNoteName())
	}
	for _, old := range s.occurrences {
		if s.Unique && old.GetNoteName() == o.GetNoteName() && old.GetResourceUri() == o.GetResourceUri() {
			return nil, status.Errorf(codes.AlreadyExists, "%q has an attestation under %q", o.GetResourceUri(), o.GetNoteName())
		}
	}
	return s.add(req.GetParent(), o), nil
}

// ListOccurrences lists the occurrences of a project.
func (s *Store) ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error) {
	if err := s.begin(ctx, "ListOccurrences"); err != nil {
		return nil, err
	}
	page, next, err := s.list(req.GetFilter(), req.GetPageToken(), func(o *grafeas.Occurrence) bool {
		return strings.HasPrefix(o.GetName(), req.GetParent()+"/")
	})
	return &grafeas.ListOccurrencesResponse{Occurrences: page, NextPageToken: next}, err
}

// ListNoteOccurrences lists the occurrences of a note in all projects.
func (s *Store) ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListNoteOccurrencesResponse, error) {
	if err := s.begin(ctx, "ListNoteOccurrences"); err != nil {
		return nil, err
	}
	page, next, err := s.list(req.GetFilter(), req.GetPageToken(), func(o *grafeas.Occurrence) bool {
		return s.IgnoreFilter || o.GetNoteName() == req.GetName()
	})
	return &grafeas.ListNoteOccurrencesResponse{Occurrences: page, NextPageToken: next}, err
}

func (s *Store) list(filter, token string, in func(*grafeas.Occurrence) bool) ([]*grafeas.Occurrence, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var uri, kind string
	if _, err := fmt.Sscanf(filter, "resourceUrl=%q AND kind=%q", &uri, &kind); err != nil && !s.IgnoreFilter {
		return nil, "", status.Errorf(codes.InvalidArgument, "filter %q is not understood", filter)
	}
	var found []*grafeas.Occurrence
	for _, o := range s.occurrences {
		if in(o) && (s.IgnoreFilter || o.GetResourceUri() == uri && o.GetKind().String() == kind) {
			found = append(found, proto.CloneOf(o))
		}
	}
	start := 0
	if token != "" {
		var err error
		if start, err = strconv.Atoi(token); err != nil || start > len(found) {
			return nil, "", status.Errorf(codes.InvalidArgument, "page token %q is not understood", token)
		}
	}
	size := s.PageSize
	if size <= 0 {
		size = 2
	}
	if end := start + size; end < len(found) {
		return found[start:end], strconv.Itoa(end), nil
	}
	return found[start:], "", nil
}
