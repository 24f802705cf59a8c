package metadata

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// HasOriginal reports whether a note or an occurrence keeps an [OriginalField].
func HasOriginal(m proto.Message) bool {
	return hasField(m.ProtoReflect().GetUnknown(), OriginalField)
}

// StripOriginal removes the [OriginalField] from a note or an occurrence. It
// costs nothing where there are no unknown fields.
func StripOriginal(m proto.Message) {
	if r := m.ProtoReflect(); hasField(r.GetUnknown(), OriginalField) {
		r.SetUnknown(WithoutField(r.GetUnknown(), OriginalField))
	}
}

// Original returns what the [OriginalField] keeps, nil if there is none.
func Original(m proto.Message) []byte {
	raw, _ := UnknownBytes(m.ProtoReflect().GetUnknown(), OriginalField)
	return raw
}

// SetOriginal makes the [OriginalField] keep raw.
func SetOriginal(m proto.Message, raw []byte) {
	r := m.ProtoReflect()
	r.SetUnknown(AppendField(WithoutField(r.GetUnknown(), OriginalField), OriginalField, raw))
}

// UnknownBytes returns the content of the length-delimited fields of the number,
// one after the other, which is how protobuf merges a message that comes in
// parts; ok is false if there is no such field, or one of another type.
func UnknownBytes(unknown protoreflect.RawFields, number protowire.Number) (raw []byte, ok bool) {
	for len(unknown) > 0 {
		n, typ, size := protowire.ConsumeField(unknown)
		if size < 0 {
			return nil, false
		}
		if n == number {
			if typ != protowire.BytesType {
				return nil, false
			}
			_, _, tag := protowire.ConsumeTag(unknown)
			content, _ := protowire.ConsumeBytes(unknown[tag:])
			raw, ok = append(raw, content...), true
		}
		unknown = unknown[size:]
	}
	return raw, ok
}

// AppendField appends a length-delimited field to unknown ones.
func AppendField(unknown protoreflect.RawFields, number protowire.Number, content []byte) protoreflect.RawFields {
	return protowire.AppendBytes(protowire.AppendTag(unknown, number, protowire.BytesType), content)
}

// WithoutField returns the unknown fields that have not the number.
func WithoutField(unknown protoreflect.RawFields, number protowire.Number) protoreflect.RawFields {
	var kept protoreflect.RawFields
	for len(unknown) > 0 {
		n, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			return append(kept, unknown...)
		}
		if n != number {
			kept = append(kept, unknown[:size]...)
		}
		unknown = unknown[size:]
	}
	return kept
}
