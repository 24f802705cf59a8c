package metadata

import (
	"context"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// CreateOccurrence stores an occurrence under parent. The name, kind and times
// in the one given are ignored; the one returned has them. Its note must exist
// and be of the same kind. An attestation that is there already (same parent,
// note, resource, payload and signatures) is AlreadyExists.
func (s *Service) CreateOccurrence(ctx context.Context, caller Caller, parent string, occurrence *grafeas.Occurrence) (*grafeas.Occurrence, error) {
	p, err := ParseParent(parent)
	if err != nil {
		return nil, err
	}
	note, err := noteOf(occurrence)
	if err != nil {
		return nil, err
	}
	needs := []access{{OccurrencesCreate, p.String()}, {NotesAttachOccurrence, note.String()}}
	return do(ctx, s, caller, "CreateOccurrence", needs, func() (*grafeas.Occurrence, error) {
		if err := validateOccurrence(occurrence); err != nil {
			return nil, err
		}
		ids, err := s.ids.next(1)
		if err != nil {
			return nil, err
		}
		o, err := s.newOccurrence(OccurrenceName{Parent: p, ID: ids[0]}, occurrence)
		if err != nil {
			return nil, err
		}
		return o, s.store.Apply(ctx, Mutation{CreateOccurrence: o})
	})
}

// BatchCreateOccurrences stores up to [MaxBatch] occurrences, all or none, and
// returns them in the order given.
func (s *Service) BatchCreateOccurrences(ctx context.Context, caller Caller, parent string, occurrences []*grafeas.Occurrence) ([]*grafeas.Occurrence, error) {
	p, err := ParseParent(parent)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(len(occurrences), "occurrence"); err != nil {
		return nil, err
	}
	needs := []access{{OccurrencesCreate, p.String()}}
	asked := map[NoteName]bool{}
	for i, o := range occurrences {
		note, err := noteOf(o)
		if err != nil {
			return nil, Errorf(InvalidArgument, "occurrence %d of the batch: %w", i, err)
		}
		if !asked[note] {
			asked[note] = true
			needs = append(needs, access{NotesAttachOccurrence, note.String()})
		}
	}
	return do(ctx, s, caller, "BatchCreateOccurrences", needs, func() ([]*grafeas.Occurrence, error) {
		return s.createBatch(ctx, p, occurrences)
	})
}

func (s *Service) createBatch(ctx context.Context, p Parent, from []*grafeas.Occurrence) ([]*grafeas.Occurrence, error) {
	ids, err := s.ids.next(len(from))
	if err != nil {
		return nil, err
	}
	var invalid problems
	created := make([]*grafeas.Occurrence, len(from))
	mutations := make([]Mutation, len(from))
	for i, o := range from {
		err := validateOccurrence(o)
		if err == nil {
			created[i], err = s.newOccurrence(OccurrenceName{Parent: p, ID: ids[i]}, o)
		}
		if err != nil {
			invalid.add("occurrence %d: %v", i, err)
		}
		mutations[i] = Mutation{CreateOccurrence: created[i]}
	}
	if err := invalid.err("one or more occurrences are invalid, no occurrences were created"); err != nil {
		return nil, err
	}
	if err := checkBatchSize(&grafeas.BatchCreateOccurrencesResponse{Occurrences: created}); err != nil {
		return nil, err
	}
	return created, s.store.Apply(ctx, mutations...)
}

// GetOccurrence returns the occurrence of the name.
func (s *Service) GetOccurrence(ctx context.Context, caller Caller, name string) (*grafeas.Occurrence, error) {
	n, err := ParseOccurrenceName(name)
	if err != nil {
		return nil, err
	}
	return do(ctx, s, caller, "GetOccurrence", []access{{OccurrencesGet, name}}, func() (*grafeas.Occurrence, error) {
		return s.store.Occurrence(ctx, n)
	})
}

// GetOccurrenceNote returns the note of the occurrence of the name.
func (s *Service) GetOccurrenceNote(ctx context.Context, caller Caller, name string) (*grafeas.Note, error) {
	n, err := ParseOccurrenceName(name)
	if err != nil {
		return nil, err
	}
	return do(ctx, s, caller, "GetOccurrenceNote", []access{{OccurrencesGet, name}}, func() (*grafeas.Note, error) {
		o, err := s.store.Occurrence(ctx, n)
		if err != nil {
			return nil, err
		}
		note, err := ParseNoteName(o.GetNoteName())
		if err != nil {
			return nil, err
		}
		return s.store.Note(ctx, note)
	})
}

// ListOccurrences returns a page of the parent's occurrences, newest first.
func (s *Service) ListOccurrences(ctx context.Context, caller Caller, req ListRequest) (OccurrencePage, error) {
	p, err := ParseParent(req.Parent)
	if err != nil {
		return OccurrencePage{}, err
	}
	needs := []access{{OccurrencesList, req.Parent}}
	return do(ctx, s, caller, "ListOccurrences", needs, func() (OccurrencePage, error) {
		return s.listOccurrences(ctx, "ListOccurrences", OccurrenceQuery{Parent: p}, req)
	})
}

// ListNoteOccurrences returns a page of the occurrences of the note that
// req.Parent names, in all projects, newest first.
func (s *Service) ListNoteOccurrences(ctx context.Context, caller Caller, req ListRequest) (OccurrencePage, error) {
	n, err := ParseNoteName(req.Parent)
	if err != nil {
		return OccurrencePage{}, err
	}
	needs := []access{{NotesListOccurrences, req.Parent}}
	return do(ctx, s, caller, "ListNoteOccurrences", needs, func() (OccurrencePage, error) {
		if _, err := s.store.Note(ctx, n); err != nil {
			return OccurrencePage{}, err
		}
		return s.listOccurrences(ctx, "ListNoteOccurrences", OccurrenceQuery{Note: n}, req)
	})
}

func (s *Service) listOccurrences(ctx context.Context, method string, q OccurrenceQuery, req ListRequest) (OccurrencePage, error) {
	size, err := pageSize(req.PageSize)
	if err != nil {
		return OccurrencePage{}, err
	}
	f, err := parseOccurrenceFilter(req.Filter)
	if err != nil {
		return OccurrencePage{}, err
	}
	l := listing{method, req.Parent, req.Filter}
	if q.Before, err = s.decodePosition(l, req.PageToken); err != nil {
		return OccurrencePage{}, err
	}
	if possible := q.narrow(f.bounds()); !possible {
		return OccurrencePage{}, nil
	}
	var page OccurrencePage
	var last string
	page.Occurrences, last, err = fillPage(size, f != nil,
		func(o *grafeas.Occurrence) bool { return f.match(occurrenceFacts(o)) },
		func(limit int) ([]*grafeas.Occurrence, bool, error) {
			q.Limit = limit
			rows, more, err := s.store.Occurrences(ctx, q)
			if err == nil && len(rows) > 0 {
				q.Before, err = idOf(rows[len(rows)-1])
			}
			return rows, more, err
		},
		func(o *grafeas.Occurrence) (string, error) {
			id, err := idOf(o)
			return string(id[:]), err
		})
	if err == nil && last != "" {
		page.NextPageToken = s.tokens.encode(l, last)
	}
	return page, err
}

func (s *Service) decodePosition(l listing, token string) (ID, error) {
	if token == "" {
		return ID{}, nil
	}
	position, err := s.tokens.decode(l, token)
	if err != nil {
		return ID{}, err
	}
	var id ID
	if copy(id[:], position) != len(id) || len(position) != len(id) {
		return ID{}, Errorf(InvalidArgument, "page token is damaged; begin again without it")
	}
	return id, nil
}

// narrow restricts q to what the bounds allow; it reports false if that is nothing.
func (q *OccurrenceQuery) narrow(b bounds) bool {
	if b.empty() {
		return false
	}
	q.Kinds = b.kinds
	for _, r := range b.resources {
		q.Resources = append(q.Resources, KeyOf(r))
	}
	for _, d := range b.subjects {
		q.Subjects = append(q.Subjects, KeyOf(d))
	}
	if len(b.notes) != 1 {
		return true // none asked, or several, which the filter tells apart
	}
	note, err := ParseNoteName(b.notes[0])
	if err != nil || !q.Note.IsZero() && q.Note != note {
		return false
	}
	q.Note = note
	return true
}

// UpdateOccurrence will change an occurrence; for now it is refused.
func (s *Service) UpdateOccurrence(ctx context.Context, caller Caller, name string) (*grafeas.Occurrence, error) {
	if _, err := ParseOccurrenceName(name); err != nil {
		return nil, err
	}
	return do(ctx, s, caller, "UpdateOccurrence", []access{{OccurrencesUpdate, name}}, func() (*grafeas.Occurrence, error) {
		return nil, Errorf(Unimplemented, "updating occurrence %q: occurrences cannot be changed yet; create a new one and delete this", name)
	})
}

// DeleteOccurrence deletes an occurrence. Who does needs to be allowed to attach
// to its note, since withdrawing an attestation is as grave as making one.
func (s *Service) DeleteOccurrence(ctx context.Context, caller Caller, name string) error {
	n, err := ParseOccurrenceName(name)
	if err != nil {
		return err
	}
	_, err = do(ctx, s, caller, "DeleteOccurrence", []access{{OccurrencesDelete, name}}, func() (struct{}, error) {
		o, err := s.store.Occurrence(ctx, n)
		if err != nil {
			return struct{}{}, err
		}
		if err := s.authorize(ctx, caller, access{NotesAttachOccurrence, o.GetNoteName()}); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.store.Apply(ctx, Mutation{DeleteOccurrence: n})
	})
	return err
}

// noteOf returns the name of an occurrence's note.
func noteOf(o *grafeas.Occurrence) (NoteName, error) {
	if o == nil {
		return NoteName{}, Errorf(InvalidArgument, "an occurrence must be specified")
	}
	return ParseNoteName(o.GetNoteName())
}

// newOccurrence returns the occurrence as it is stored.
func (s *Service) newOccurrence(name OccurrenceName, from *grafeas.Occurrence) (*grafeas.Occurrence, error) {
	o := proto.CloneOf(from)
	now := timestamppb.New(s.now())
	o.Name, o.Kind, o.CreateTime, o.UpdateTime = name.String(), occurrenceKind(o), now, now
	return o, checkSize("occurrence", o)
}

// maxURI bounds a resource URI, in bytes.
const maxURI = 4096

func validResourceURI(uri string) bool {
	return len(uri) <= maxURI && !strings.ContainsAny(uri, "\x00\r\n")
}
