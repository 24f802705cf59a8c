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
// note, resource, payload and signatures) is AlreadyExists, so that repeating the
// call adds nothing.
func (s *Service) CreateOccurrence(ctx context.Context, caller Caller, parent string, occurrence *grafeas.Occurrence) (*grafeas.Occurrence, error) {
	return do(ctx, s, caller, "CreateOccurrence", parent, func(c *call) (*grafeas.Occurrence, error) {
		p, err := ParseParent(parent)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, OccurrencesCreate, p.String()); err != nil {
			return nil, err
		}
		note, err := noteOf(occurrence)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, NotesAttachOccurrence, note.String()); err != nil {
			return nil, err
		}
		if err := s.validateOccurrence(occurrence); err != nil {
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
		return o, c.store().Apply(ctx, Mutation{CreateOccurrence: o})
	})
}

// BatchCreateOccurrences stores up to [MaxBatch] occurrences, all or none, and
// returns them in the order given.
func (s *Service) BatchCreateOccurrences(ctx context.Context, caller Caller, parent string, occurrences []*grafeas.Occurrence) ([]*grafeas.Occurrence, error) {
	return do(ctx, s, caller, "BatchCreateOccurrences", parent, func(c *call) ([]*grafeas.Occurrence, error) {
		c.record.Items = len(occurrences)
		p, err := ParseParent(parent)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, OccurrencesCreate, p.String()); err != nil {
			return nil, err
		}
		if err := checkBatch(len(occurrences), "occurrence"); err != nil {
			return nil, err
		}
		if err := c.needAttachAll(ctx, occurrences); err != nil {
			return nil, err
		}
		return s.createBatch(ctx, c, p, occurrences)
	})
}

// needAttachAll asks once for each note of a batch, and gathers the refusals.
func (c *call) needAttachAll(ctx context.Context, occurrences []*grafeas.Occurrence) error {
	asked := map[NoteName]bool{}
	var denied problems
	for i, o := range occurrences {
		note, err := noteOf(o)
		if err != nil {
			return Errorf(InvalidArgument, "occurrence %d of the batch: %w", i, err)
		}
		if asked[note] {
			continue
		}
		asked[note] = true
		err = c.need(ctx, NotesAttachOccurrence, note.String())
		if err != nil && KindOf(err) != PermissionDenied {
			return err
		}
		if err != nil {
			denied.add("%v", err)
		}
	}
	return denied.errOf(PermissionDenied, "one or more occurrences had auth errors, no occurrences were created")
}

func (s *Service) createBatch(ctx context.Context, c *call, p Parent, from []*grafeas.Occurrence) ([]*grafeas.Occurrence, error) {
	ids, err := s.ids.next(len(from))
	if err != nil {
		return nil, err
	}
	var invalid problems
	created := make([]*grafeas.Occurrence, len(from))
	mutations := make([]Mutation, len(from))
	for i, o := range from {
		err := s.validateOccurrence(o)
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
	if err := c.checkNotes(ctx, created); err != nil {
		return nil, err
	}
	return created, c.store().Apply(ctx, mutations...)
}

// checkNotes gathers which items of a batch lack a note of their kind. The store
// holds the batch to the same rules, and would tell of the first item alone.
func (c *call) checkNotes(ctx context.Context, created []*grafeas.Occurrence) error {
	type found struct {
		kind grafeas.NoteKind
		err  error
	}
	notes := map[NoteName]found{}
	var unfit problems
	var kind Kind
	for i, o := range created {
		name, err := ParseNoteName(o.GetNoteName())
		if err != nil {
			return err
		}
		note, asked := notes[name]
		if !asked {
			n, err := c.store().Note(ctx, name)
			if err != nil && KindOf(err) != NotFound {
				return err
			}
			note = found{n.GetKind(), err}
			notes[name] = note
		}
		if err = note.err; err == nil && note.kind != o.GetKind() {
			err = KindMismatch(name, note.kind, o.GetKind())
		}
		if err == nil {
			continue
		}
		if len(unfit.list) == 0 {
			kind = KindOf(err)
		}
		unfit.add("occurrence %d: %v", i, err)
	}
	return unfit.errOf(kind, "one or more occurrences do not fit their notes, no occurrences were created")
}

// GetOccurrence returns the occurrence of the name.
func (s *Service) GetOccurrence(ctx context.Context, caller Caller, name string) (*grafeas.Occurrence, error) {
	return do(ctx, s, caller, "GetOccurrence", name, func(c *call) (*grafeas.Occurrence, error) {
		return c.occurrence(ctx, OccurrencesGet, name)
	})
}

// occurrence reads one that the caller names, if he may.
func (c *call) occurrence(ctx context.Context, permission Permission, name string) (*grafeas.Occurrence, error) {
	n, err := parseOccurrenceForm(name)
	if err != nil {
		return nil, err
	}
	// Who may not, is not told whether it exists.
	if err := c.need(ctx, permission, name); err != nil {
		return nil, err
	}
	if n.ID.IsZero() {
		return nil, occurrenceMissing(name)
	}
	return c.store().Occurrence(ctx, n)
}

// GetOccurrenceNote returns the note of the occurrence of the name. Its caller
// needs no permission on the note, as with Grafeas's own server.
func (s *Service) GetOccurrenceNote(ctx context.Context, caller Caller, name string) (*grafeas.Note, error) {
	return do(ctx, s, caller, "GetOccurrenceNote", name, func(c *call) (*grafeas.Note, error) {
		o, err := c.occurrence(ctx, OccurrencesGet, name)
		if err != nil {
			return nil, err
		}
		note, err := ParseNoteName(o.GetNoteName())
		if err != nil {
			return nil, err
		}
		return c.store().Note(ctx, note)
	})
}

// ListOccurrences returns a page of the parent's occurrences, newest first.
func (s *Service) ListOccurrences(ctx context.Context, caller Caller, req ListRequest) (OccurrencePage, error) {
	return do(ctx, s, caller, "ListOccurrences", req.Parent, func(c *call) (OccurrencePage, error) {
		p, err := ParseParent(req.Parent)
		if err != nil {
			return OccurrencePage{}, err
		}
		if err := c.need(ctx, OccurrencesList, req.Parent); err != nil {
			return OccurrencePage{}, err
		}
		return s.listOccurrences(ctx, c, "ListOccurrences", OccurrenceQuery{Parent: p}, req)
	})
}

// ListNoteOccurrences returns a page of the occurrences of the note that
// req.Parent names, in all projects, newest first.
func (s *Service) ListNoteOccurrences(ctx context.Context, caller Caller, req ListRequest) (OccurrencePage, error) {
	return do(ctx, s, caller, "ListNoteOccurrences", req.Parent, func(c *call) (OccurrencePage, error) {
		n, err := ParseNoteName(req.Parent)
		if err != nil {
			return OccurrencePage{}, err
		}
		if err := c.need(ctx, NotesListOccurrences, req.Parent); err != nil {
			return OccurrencePage{}, err
		}
		if _, err := c.store().Note(ctx, n); err != nil {
			return OccurrencePage{}, err
		}
		return s.listOccurrences(ctx, c, "ListNoteOccurrences", OccurrenceQuery{Note: n}, req)
	})
}

func (s *Service) listOccurrences(ctx context.Context, c *call, method string, q OccurrenceQuery, req ListRequest) (OccurrencePage, error) {
	size, err := pageSize(req.PageSize)
	if err != nil {
		return OccurrencePage{}, err
	}
	f, err := s.occurrenceFilter(req.Filter)
	if err != nil {
		return OccurrencePage{}, err
	}
	l := s.listing(method, req)
	if q.Before, err = s.decodePosition(l, req.PageToken); err != nil {
		return OccurrencePage{}, err
	}
	if possible := q.narrow(f.bounds()); !possible {
		return OccurrencePage{}, nil
	}
	if err := c.refuseTooBroad(ctx, q, f, req); err != nil {
		return OccurrencePage{}, err
	}
	var page OccurrencePage
	var last string
	page.Occurrences, last, err = fillPage(size, f != nil, f.matchOccurrence,
		func(limit int) ([]*grafeas.Occurrence, bool, error) {
			q.Limit = limit
			rows, more, err := c.store().Occurrences(ctx, q)
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

// refuseTooBroad refuses a filter that asks what no index can answer of more rows
// than one call looks at. Later pages look at fewer.
func (c *call) refuseTooBroad(ctx context.Context, q OccurrenceQuery, f *filter, req ListRequest) error {
	if _, _, scan := f.unindexed(); !scan || req.PageToken != "" {
		return nil
	}
	q.Limit = maxScan + 1
	n, err := c.store().CountOccurrences(ctx, q)
	if err == nil && n > maxScan {
		err = f.refuseTooBroad(maxScan)
	}
	return err
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
	q.Kinds, q.Hints = b.kinds, b.hints()
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

// UpdateOccurrence replaces an occurrence by what change makes of it, which must
// be of the same note and resource. The name, the kind and the times of what
// change returns are ignored; it must not modify its argument, and may be called
// again if somebody else changes the occurrence meanwhile. The caller needs to be
// allowed to attach to the note.
func (s *Service) UpdateOccurrence(ctx context.Context, caller Caller, name string, change func(current *grafeas.Occurrence) (*grafeas.Occurrence, error)) (*grafeas.Occurrence, error) {
	return do(ctx, s, caller, "UpdateOccurrence", name, func(c *call) (*grafeas.Occurrence, error) {
		return untilUnchanged(ctx, s, name, func() (*grafeas.Occurrence, error) {
			current, err := c.occurrence(ctx, OccurrencesUpdate, name)
			if err != nil {
				return nil, err
			}
			if err := c.need(ctx, NotesAttachOccurrence, current.GetNoteName()); err != nil {
				return nil, err
			}
			changed, err := change(current)
			if err != nil {
				return nil, err
			}
			next, err := s.nextOccurrence(current, changed)
			if err != nil {
				return nil, err
			}
			return next, c.store().Apply(ctx, Mutation{UpdateOccurrence: next, IfUpdateTime: current.GetUpdateTime()})
		})
	})
}

// nextOccurrence returns the occurrence as an update stores it.
func (s *Service) nextOccurrence(current, changed *grafeas.Occurrence) (*grafeas.Occurrence, error) {
	if err := ruled(s.validateOccurrence(changed), current, changed); err != nil {
		return nil, err
	}
	next := proto.CloneOf(changed)
	switch kind := occurrenceKind(next); {
	case kind != current.GetKind():
		return nil, Errorf(InvalidArgument, "occurrence %q is of kind %s, which an update cannot change to %s",
			current.GetName(), KindName(current.GetKind()), KindName(kind))
	case next.GetNoteName() != current.GetNoteName():
		return nil, Errorf(InvalidArgument, "note_name of occurrence %q is immutable: it is %q", current.GetName(), current.GetNoteName())
	case next.GetResourceUri() != current.GetResourceUri():
		return nil, Errorf(InvalidArgument, "the resource of occurrence %q is immutable: it is %q", current.GetName(), clip(current.GetResourceUri()))
	}
	next.Name, next.Kind, next.CreateTime = current.GetName(), current.GetKind(), current.GetCreateTime()
	next.UpdateTime = updateTime(s.now(), current.GetUpdateTime())
	return next, storable("occurrence", next, s.dialect.OccurrenceView)
}

// DeleteOccurrence deletes an occurrence. Who does needs to be allowed to attach
// to its note, since withdrawing an attestation is as grave as making one.
func (s *Service) DeleteOccurrence(ctx context.Context, caller Caller, name string) error {
	_, err := do(ctx, s, caller, "DeleteOccurrence", name, func(c *call) (struct{}, error) {
		o, err := c.occurrence(ctx, OccurrencesDelete, name)
		if err != nil {
			return struct{}{}, err
		}
		if err := c.need(ctx, NotesAttachOccurrence, o.GetNoteName()); err != nil {
			return struct{}{}, err
		}
		n, err := ParseOccurrenceName(name)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, c.store().Apply(ctx, Mutation{DeleteOccurrence: n})
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
	return o, storable("occurrence", o, s.dialect.OccurrenceView)
}

// maxURI bounds a resource URI, in bytes.
const maxURI = 4096

func validResourceURI(uri string) bool {
	return len(uri) <= maxURI && !strings.ContainsAny(uri, "\x00\r\n")
}
