package grafeasapi

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A message is a note or an occurrence of v1.
type message interface {
	*grafeas.Note | *grafeas.Occurrence
	proto.Message
	GetKind() grafeas.NoteKind
}

// shown makes of a stored message what clients of v1 see: without what is kept of
// another version, and with a kind that v1 has.
func shown[T message](m T) T {
	if m == nil {
		return nil
	}
	metadata.StripOriginal(m)
	if _, known := grafeas.NoteKind_name[int32(m.GetKind())]; !known && m.GetKind() != metadata.KindAISkillAnalysis {
		r := m.ProtoReflect()
		r.Clear(r.Descriptor().Fields().ByName("kind"))
	}
	return m
}

func shownAll[T message](list []T) []T {
	for _, m := range list {
		shown(m)
	}
	return list
}

// taken removes from what a client sends the field that is not for clients to set.
func taken[T message](m T) T {
	if m != nil {
		metadata.StripOriginal(m)
	}
	return m
}

func takenAll[T message](list []T) []T {
	for _, m := range list {
		taken(m)
	}
	return list
}

func takenByID[T message](byID map[string]T) map[string]T {
	for _, m := range byID {
		taken(m)
	}
	return byID
}

// updateV1 is update, but that it refuses to change what stands for something that
// v1 cannot hold.
func updateV1[T message](current, patch T, mask *fieldmaskpb.FieldMask) (T, error) {
	next, err := update(current, patch, mask)
	if err != nil || !metadata.HasOriginal(current) {
		return next, err
	}
	kept := current.ProtoReflect().GetUnknown()
	to := metadata.Details(next)
	to.ProtoReflect().SetUnknown(kept)
	if !proto.Equal(to, metadata.Details(current)) {
		return nil, metadata.Errorf(metadata.FailedPrecondition, "it has content of v1beta1 that v1 cannot hold; update its details through v1beta1")
	}
	next.ProtoReflect().SetUnknown(kept)
	return next, nil
}
