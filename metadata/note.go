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
	return do(ctx, s, caller, "CreateNote", parent+"/notes/"+id, func(c *call) (*grafeas.Note, error) {
		p, err := ParseParent(parent)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, NotesCreate, p.String()); err != nil {
			return nil, err
		}
		name, err := newNoteName(p, id)
		if err != nil {
			return nil, err
		}
		n, err := s.newNote(name, note)
		if err != nil {
			return nil, err
		}
		return n, c.store().Apply(ctx, Mutation{CreateNote: n})
	})
}

// BatchCreateNotes stores up to [MaxBatch] notes by their ids, all or none, and
// returns them in the order of their ids.
func (s *Service) BatchCreateNotes(ctx context.Context, caller Caller, parent string, notes map[string]*grafeas.Note) ([]*grafeas.Note, error) {
	return do(ctx, s, caller, "BatchCreateNotes", parent, func(c *call) ([]*grafeas.Note, error) {
		c.record.Items = len(notes)
		p, err := ParseParent(parent)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, NotesCreate, p.String()); err != nil {
			return nil, err
		}
		if err := checkBatch(len(notes), "note"); err != nil {
			return nil, err
		}
		var created []*grafeas.Note
		var mutations []Mutation
		var invalid problems
		for _, id := range slices.Sorted(maps.Keys(notes)) {
			name, err := newNoteName(p, id)
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
		return created, c.store().Apply(ctx, mutations...)
	})
}

// GetNote returns the note of the name.
func (s *Service) GetNote(ctx context.Context, caller Caller, name string) (*grafeas.Note, error) {
	return do(ctx, s, caller, "GetNote", name, func(c *call) (*grafeas.Note, error) {
		n, err := ParseNoteName(name)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, NotesGet, name); err != nil {
			return nil, err
		}
		return c.store().Note(ctx, n)
	})
}

// ListNotes returns a page of the parent's notes, in the order of their ids.
func (s *Service) ListNotes(ctx context.Context, caller Caller, req ListRequest) (NotePage, error) {
	return do(ctx, s, caller, "ListNotes", req.Parent, func(c *call) (NotePage, error) {
		p, err := ParseParent(req.Parent)
		if err != nil {
			return NotePage{}, err
		}
		if err := c.need(ctx, NotesList, req.Parent); err != nil {
			return NotePage{}, err
		}
		size, err := pageSize(req.PageSize)
		if err != nil {
			return NotePage{}, err
		}
		f, err := s.noteFilter(req.Filter)
		if err != nil {
			return NotePage{}, err
		}
		l := s.listing("ListNotes", req)
		q := NoteQuery{Parent: p, Kinds: AllKinds}
		if possible := f.bounds().noteQuery(&q); !possible {
			return NotePage{}, nil
		}
		if req.PageToken != "" {
			if q.After, err = s.tokens.decode(l, req.PageToken); err != nil {
				return NotePage{}, err
			}
		}
		var page NotePage
		var last string
		page.Notes, last, err = fillPage(size, f != nil, f.matchNote,
			func(limit int) ([]*grafeas.Note, bool, error) {
				q.Limit = limit
				rows, more, err := c.store().Notes(ctx, q)
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

// UpdateNote replaces a note by what change makes of it. The name, the kind and
// the times of what change returns are ignored; it must not modify its argument,
// and may be called again if somebody else changes the note meanwhile.
func (s *Service) UpdateNote(ctx context.Context, caller Caller, name string, change func(current *grafeas.Note) (*grafeas.Note, error)) (*grafeas.Note, error) {
	return do(ctx, s, caller, "UpdateNote", name, func(c *call) (*grafeas.Note, error) {
		n, err := ParseNoteName(name)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, NotesUpdate, name); err != nil {
			return nil, err
		}
		return untilUnchanged(ctx, s, name, func() (*grafeas.Note, error) {
			current, err := c.store().Note(ctx, n)
			if err != nil {
				return nil, err
			}
			changed, err := change(current)
			if err != nil {
				return nil, err
			}
			next, err := s.nextNote(current, changed)
			if err != nil {
				return nil, err
			}
			return next, c.store().Apply(ctx, Mutation{UpdateNote: next, IfUpdateTime: current.GetUpdateTime()})
		})
	})
}

// nextNote returns the note as an update stores it.
func (s *Service) nextNote(current, changed *grafeas.Note) (*grafeas.Note, error) {
	if err := ruled(s.validateNote(changed), current, changed); err != nil {
		return nil, err
	}
	next := proto.CloneOf(changed)
	if kind := noteKind(next); kind != current.GetKind() {
		return nil, Errorf(InvalidArgument, "note %q is of kind %s, which an update cannot change to %s",
			current.GetName(), KindName(current.GetKind()), KindName(kind))
	}
	next.Name, next.Kind, next.CreateTime = current.GetName(), current.GetKind(), current.GetCreateTime()
	next.UpdateTime = updateTime(s.now(), current.GetUpdateTime())
	return next, storable("note", next, s.dialect.NoteView)
}

// DeleteNote deletes a note that has no occurrences.
func (s *Service) DeleteNote(ctx context.Context, caller Caller, name string) error {
	_, err := do(ctx, s, caller, "DeleteNote", name, func(c *call) (struct{}, error) {
		n, err := ParseNoteName(name)
		if err != nil {
			return struct{}{}, err
		}
		if err := c.need(ctx, NotesDelete, name); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, c.store().Apply(ctx, Mutation{DeleteNote: n})
	})
	return err
}

func newNoteName(p Parent, id string) (NoteName, error) {
	switch {
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
	if err := s.validateNote(from); err != nil {
		return nil, err
	}
	n := proto.CloneOf(from)
	now := timestamppb.New(s.now())
	n.Name, n.Kind, n.CreateTime, n.UpdateTime = name.String(), noteKind(n), now, now
	return n, storable("note", n, s.dialect.NoteView)
}

// noteID returns the last segment of a stored note's name.
func noteID(n *grafeas.Note) string {
	return n.GetName()[strings.LastIndexByte(n.GetName(), '/')+1:]
}
