package v1beta1

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// marshal makes the same bytes of the same message, so that an update that
// changes nothing stores what is stored.
var marshal = proto.MarshalOptions{Deterministic: true}

// copyCommon copies the named fields, which both messages have.
func copyCommon(to, from proto.Message, names []protoreflect.Name) {
	t, f := to.ProtoReflect(), from.ProtoReflect()
	for _, name := range names {
		if name == "kind" {
			continue // its numbers differ
		}
		field := f.Descriptor().Fields().ByName(name)
		if !f.Has(field) {
			continue
		}
		target := t.Descriptor().Fields().ByName(name)
		switch v := f.Get(field); {
		case field.IsList():
			copyList(t, target, field, v.List())
		case field.Message() != nil:
			copyMessage(t.Mutable(target).Message(), v.Message())
		default:
			t.Set(target, v)
		}
	}
}

// details returns a copy of m without the named fields.
func details[T proto.Message](m T, common []protoreflect.Name) T {
	c := proto.CloneOf(m)
	r := c.ProtoReflect()
	for _, name := range common {
		r.Clear(r.Descriptor().Fields().ByName(name))
	}
	return c
}

// unreadable is no message. It is kept in place of one that cannot be encoded,
// since it has text that is not UTF-8: no transport lets such in, and the rules
// refuse what is kept so.
var unreadable = []byte{0}

// keep makes stored keep the original.
func keep(stored, original proto.Message) {
	metadata.SetOriginal(stored, encoded(original))
}

func encoded(m proto.Message) []byte {
	raw, err := marshal.Marshal(m)
	if err != nil {
		return unreadable
	}
	return raw
}

// kept reads the original that stored keeps, if it does.
func kept(stored, original proto.Message) bool {
	if !metadata.HasOriginal(stored) {
		return false
	}
	return proto.Unmarshal(metadata.Original(stored), original) == nil
}

// setAISkill makes details of kind AI_SKILL_ANALYSIS what a v1 that knows them
// has on the wire: the messages of both versions are the same there.
func setAISkill(stored proto.Message, field protowire.Number, content proto.Message) {
	r := stored.ProtoReflect()
	r.SetUnknown(metadata.AppendField(r.GetUnknown(), field, encoded(content)))
}

// aiSkill reads what setAISkill has written, if it has.
func aiSkill(stored proto.Message, field protowire.Number, content proto.Message) bool {
	raw, ok := metadata.UnknownBytes(stored.ProtoReflect().GetUnknown(), field)
	return ok && proto.Unmarshal(raw, content) == nil
}

func sameEach[T proto.Message](a, b []T) bool {
	return slices.EqualFunc(a, b, func(a, b T) bool { return proto.Equal(a, b) })
}
