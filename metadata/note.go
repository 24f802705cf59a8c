package metadata

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// CreateNote stores a note under parent with the id. The name, kind and times in
// the note given are ignored; the note returned has them.
func (s *Service) CreateNote(ctx context.Context, caller Caller, parent, id string, note *grafeas.Note) (*grafeas.Note, error) {
	name, err := newNoteName(parent, id)
	if err != nil {
		return nil, err
	}
	needs := []access{{NotesCreate, name.Parent.String()}}
	return do(ctx, s, caller, "CreateNote", needs, func() (*grafeas.Note, error) {
		n, err := s.newNote(name, note)
		if err != nil {
			return nil, err
		}
		return n, s.store.Apply(ctx, Mutation{CreateNote: n})
	})
}

// BatchCreateNotes stores up to [MaxBatch] notes by their ids, all or none, and
// returns them in the order of their ids.
func (s *Service) BatchCreateNotes(ctx context.Context, caller Caller, parent string, notes map[string]*grafeas.Note) ([]*grafeas.Note, error) {
	p, err := ParseParent(parent)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(len(notes), "note"); err != nil {
		return nil, err
	}
	needs := []access{{NotesCreate, p.String()}}
	return do(ctx, s, caller, "BatchCreateNotes", needs, func() ([]*grafeas.Note, error) {
		var created []*grafeas.Note
		var mutations []Mutation
		var invalid problems
		for _, id := range slices.Sorted(maps.Keys(notes)) {
			name, err := newNoteName(parent, id)
			if err == nil {
				var n *grafeas.Note
				if n, err = s.newNote(name, notes[id]); err == nil {
					created = append(created, n)
					mutations = append(mutations, Mutation{CreateNote: n})
				}
			}
			if err != nil {
				invalid.add("note %q: %v", clip(id), err)
			}
		}
		if err := invalid.err("one or more notes are invalid, no notes were created"); err != nil {
			return nil, err
		}
		if err := checkBatchSize(&grafeas.BatchCreateNotesResponse{Notes: created}); err != nil {
			return nil, err
		}
		return created, s.store.Apply(ctx, mutations...)
	})
}

// GetNote returns the note of the name.
func (s *Service) GetNote(ctx context.Context, caller Caller, name string) (*grafeas.Note, error) {
	n, err := ParseNoteName(name)
	if err != nil {
		return nil, err
	}
	return do(ctx, s, caller, "GetNote", []access{{NotesGet, name}}, func() (*grafeas.Note, error) {
		return s.store.Note(ctx, n)
	})
}

// ListNotes returns a page of the parent's notes, in the order of their ids.
func (s *Service) ListNotes(ctx context.Context, caller Caller, req ListRequest) (NotePage, error) {
	p, err := ParseParent(req.Parent)
	if err != nil {
		return NotePage{}, err
	}
	return do(ctx, s, caller, "ListNotes", []access{{NotesList, req.Parent}}, func() (NotePage, error) {
		size, err := pageSize(req.PageSize)
		if err != nil {
			return NotePage{}, err
		}
		f, err := parseNoteFilter(req.Filter)
		if err != nil {
			return NotePage{}, err
		}
		l := listing{"ListNotes", req.Parent, req.Filter}
		q := NoteQuery{Parent: p}
		if req.PageToken != "" {
			if q.After, err = s.tokens.decode(l, req.PageToken); err != nil {
				return NotePage{}, err
			}
		}
		var page NotePage
		var last string
		page.Notes, last, err = fillPage(size, f != nil,
			func(n *grafeas.Note) bool { return f.match(noteFacts(n)) },
			func(limit int) ([]*grafeas.Note, bool, error) {
				q.Limit = limit
				rows, more, err := s.store.Notes(ctx, q)
				if len(rows) > 0 {
					q.After = noteID(rows[len(rows)-1])
				}
				return rows, more, err
			},
			func(n *grafeas.Note) (string, error) { return noteID(n), nil })
		if err == nil && last != "" {
			page.NextPageToken = s.tokens.encode(l, last)
		}
		return page, err
	})
}

// UpdateNote will change a note; for now it is refused.
func (s *Service) UpdateNote(ctx context.Context, caller Caller, name string) (*grafeas.Note, error) {
	if _, err := ParseNoteName(name); err != nil {
		return nil, err
	}
	return do(ctx, s, caller, "UpdateNote", []access{{NotesUpdate, name}}, func() (*grafeas.Note, error) {
		return nil, Errorf(Unimplemented, "updating note %q: notes cannot be changed yet; delete it and create it anew", name)
	})
}

// DeleteNote deletes a note that has no occurrences.
func (s *Service) DeleteNote(ctx context.Context, caller Caller, name string) error {
	n, err := ParseNoteName(name)
	if err != nil {
		return err
	}
	_, err = do(ctx, s, caller, "DeleteNote", []access{{NotesDelete, name}}, func() (struct{}, error) {
		return struct{}{}, s.store.Apply(ctx, Mutation{DeleteNote: n})
	})
	return err
}

func newNoteName(parent, id string) (NoteName, error) {
	p, err := ParseParent(parent)
	switch {
	case err != nil:
		return NoteName{}, err
	case id == "":
		return NoteName{}, Errorf(InvalidArgument, "a noteId must be specified")
	case strings.Contains(id, "/"):
		return NoteName{}, Errorf(InvalidArgument, "a noteId must not contain /")
	case !validSegment(id):
		return NoteName{}, Errorf(InvalidArgument, "noteId %q must be printable, without *, and of at most %d bytes", clip(id), maxSegment)
	}
	return NoteName{Parent: p, ID: id}, nil
}

// newNote returns the note as it is stored.
func (s *Service) newNote(name NoteName, from *grafeas.Note) (*grafeas.Note, error) {
	if from == nil {
		return nil, Errorf(InvalidArgument, "a note must be specified")
	}
	if err := validateNote(from); err != nil {
		return nil, err
	}
	n := proto.CloneOf(from)
	now := timestamppb.New(s.now())
	n.Name, n.Kind, n.CreateTime, n.UpdateTime = name.String(), noteKind(n), now, now
	return n, checkSize("note", n)
}

// noteID returns the last segment of a stored note's name.
func noteID(n *grafeas.Note) string {
	return n.GetName()[strings.LastIndexByte(n.GetName(), '/')+1:]
}
