package v1beta1

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// UpdateNote returns what the stored note becomes when change is made to how
// v1beta1 shows it. What only v1 knows stays: a change beyond the common fields
// is refused, as FailedPrecondition, if it would lose some. The name, the kind
// and the times are the service's to set.
func UpdateNote(current *grafeas.Note, change func(*grafeasbeta.Note) (*grafeasbeta.Note, error)) (*grafeas.Note, error) {
	view := NoteTo(current)
	next, err := change(proto.CloneOf(view))
	if err != nil {
		return nil, err
	}
	if next == nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "a note must be specified")
	}
	if proto.Equal(noteDetails(view), noteDetails(next)) {
		return withNoteCommon(current, view, next), nil
	}
	if !noteHeld(current) {
		return nil, heldByV1("note", current.GetName())
	}
	return NoteFrom(next), nil
}

// noteDetails is the note without what withNoteCommon sets.
func noteDetails(n *grafeasbeta.Note) *grafeasbeta.Note {
	d := details(n, noteCommon)
	if sameEach(plainURLs(n.GetRelatedUrl()), n.GetRelatedUrl()) {
		d.RelatedUrl = nil
	}
	return d
}

// plainURLs are the addresses as v1 can hold them.
func plainURLs(urls []*common.RelatedUrl) []*common.RelatedUrl {
	return copiedEach[*grafeas.RelatedUrl, common.RelatedUrl](copiedEach[*common.RelatedUrl, grafeas.RelatedUrl](urls))
}

// withNoteCommon returns the stored note with the common fields of n. What view
// shows alike stays as it is stored, which may be more than v1beta1 can show.
func withNoteCommon(current *grafeas.Note, view, n *grafeasbeta.Note) *grafeas.Note {
	stored := proto.CloneOf(current)
	r := stored.ProtoReflect()
	for _, name := range noteCommon {
		if name != "kind" {
			r.Clear(r.Descriptor().Fields().ByName(name))
		}
	}
	copyCommon(stored, n, noteCommon)
	if !sameEach(view.GetRelatedUrl(), n.GetRelatedUrl()) {
		stored.RelatedUrl = copiedEach[*common.RelatedUrl, grafeas.RelatedUrl](n.GetRelatedUrl())
	}
	return stored
}

// noteHeld reports whether v1beta1 holds all of the stored note.
func noteHeld(n *grafeas.Note) bool {
	if metadata.HasOriginal(n) {
		return onlyOurs(n, metadata.AISkillNoteField)
	}
	back := noteFrom(noteTo(n))
	back.Kind = n.GetKind()
	return proto.Equal(back, n)
}

// UpdateOccurrence is [UpdateNote] for an occurrence.
func UpdateOccurrence(current *grafeas.Occurrence, change func(*grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error)) (*grafeas.Occurrence, error) {
	view := OccurrenceTo(current)
	next, err := change(proto.CloneOf(view))
	if err != nil {
		return nil, err
	}
	if next == nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "an occurrence must be specified")
	}
	if proto.Equal(occurrenceDetails(view), occurrenceDetails(next)) {
		return withOccurrenceCommon(current, view, next), nil
	}
	if !occurrenceHeld(current) {
		return nil, heldByV1("occurrence", current.GetName())
	}
	return OccurrenceFrom(next), nil
}

// occurrenceDetails is the occurrence without what withOccurrenceCommon sets.
func occurrenceDetails(o *grafeasbeta.Occurrence) *grafeasbeta.Occurrence {
	d := details(o, occurrenceCommon)
	if proto.Equal(envelopeTo(envelopeFrom(o.GetEnvelope())), o.GetEnvelope()) {
		d.Envelope = nil
	}
	if proto.Equal(resourceTo(o.GetResource().GetUri()), o.GetResource()) {
		d.Resource = nil
	} else {
		d.Resource.Uri = ""
	}
	return d
}

// withOccurrenceCommon is withNoteCommon for an occurrence.
func withOccurrenceCommon(current *grafeas.Occurrence, view, o *grafeasbeta.Occurrence) *grafeas.Occurrence {
	stored := proto.CloneOf(current)
	r := stored.ProtoReflect()
	for _, name := range occurrenceCommon {
		if name != "kind" {
			r.Clear(r.Descriptor().Fields().ByName(name))
		}
	}
	copyCommon(stored, o, occurrenceCommon)
	stored.ResourceUri = o.GetResource().GetUri()
	if !proto.Equal(view.GetEnvelope(), o.GetEnvelope()) {
		stored.Envelope = envelopeFrom(o.GetEnvelope())
	}
	return stored
}

// occurrenceHeld reports whether v1beta1 holds all of the stored occurrence.
func occurrenceHeld(o *grafeas.Occurrence) bool {
	if metadata.HasOriginal(o) {
		return onlyOurs(o, metadata.AISkillOccurrenceField)
	}
	back := occurrenceFrom(occurrenceTo(o))
	back.Kind = o.GetKind()
	return proto.Equal(back, o)
}

// onlyOurs reports whether a stored message that keeps an original has nothing
// unknown beside it, which v1 alone would have put there. Its details were made
// of the original: an update through v1 that changes them drops it.
func onlyOurs(stored proto.Message, aiSkill protowire.Number) bool {
	unknown := metadata.WithoutField(stored.ProtoReflect().GetUnknown(), metadata.OriginalField)
	return len(metadata.WithoutField(unknown, aiSkill)) == 0
}

func heldByV1(what, name string) error {
	return metadata.Errorf(metadata.FailedPrecondition,
		"updating %s %q through v1beta1: it holds content that only v1 knows, which this change would lose; update it through v1", what, name)
}
