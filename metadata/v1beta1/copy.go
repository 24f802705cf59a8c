package v1beta1

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
)

// copied copies to to what from has, field by field of the same name, and returns
// to. It skips what to cannot hold, unknown fields too; whether it did shows when
// the copy is copied back.
func copied[T proto.Message](to T, from proto.Message) T {
	copyByName(to.ProtoReflect(), from.ProtoReflect())
	return to
}

// copiedEach is copied for each element of a list.
func copiedEach[F proto.Message, T any, PT interface {
	*T
	proto.Message
}](from []F) []PT {
	var to []PT
	for _, f := range from {
		to = append(to, copied(PT(new(T)), f))
	}
	return to
}

func copyByName(to, from protoreflect.Message) {
	fields := to.Descriptor().Fields()
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		t := fields.ByName(f.Name())
		switch {
		case t == nil || t.IsList() != f.IsList() || t.IsMap() != f.IsMap():
		case f.IsMap():
			copyMap(to, t, f, v.Map())
		case f.IsList():
			copyList(to, t, f, v.List())
		case f.Message() != nil && t.Message() != nil:
			// Present even if nothing in it can be copied.
			copyMessage(to.Mutable(t).Message(), v.Message())
		default:
			if scalar, ok := convert(t, f, v); ok {
				to.Set(t, scalar)
			}
		}
		return true
	})
}

func copyMap(to protoreflect.Message, t, f protoreflect.FieldDescriptor, entries protoreflect.Map) {
	if t.MapKey().Kind() != f.MapKey().Kind() || (t.MapValue().Message() == nil) != (f.MapValue().Message() == nil) {
		return
	}
	copies := to.Mutable(t).Map()
	entries.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		if f.MapValue().Message() != nil {
			copyMessage(copies.Mutable(key).Message(), v.Message())
		} else if scalar, ok := convert(t.MapValue(), f.MapValue(), v); ok {
			copies.Set(key, scalar)
		}
		return true
	})
}

func copyList(to protoreflect.Message, t, f protoreflect.FieldDescriptor, elements protoreflect.List) {
	if (t.Message() == nil) != (f.Message() == nil) {
		return
	}
	copies := to.Mutable(t).List()
	for i := range elements.Len() {
		if f.Message() != nil {
			copyMessage(copies.AppendMutable().Message(), elements.Get(i).Message())
		} else if scalar, ok := convert(t, f, elements.Get(i)); ok {
			copies.Append(scalar)
		}
	}
}

func copyMessage(to, from protoreflect.Message) {
	if to.Descriptor() == from.Descriptor() { // a timestamp, or another type of Google's
		proto.Merge(to.Interface(), from.Interface())
		return
	}
	copyByName(to, from)
}

// convert returns what is no message as field t has it; ok is false if t cannot.
func convert(t, f protoreflect.FieldDescriptor, v protoreflect.Value) (_ protoreflect.Value, ok bool) {
	var none protoreflect.Value
	switch fromEnum, toEnum := f.Kind() == protoreflect.EnumKind, t.Kind() == protoreflect.EnumKind; {
	case fromEnum && toEnum:
		number, ok := enumByName(t.Enum(), f.Enum(), v.Enum())
		return protoreflect.ValueOfEnum(number), ok
	case fromEnum && t.Kind() == protoreflect.StringKind:
		name := wordOf(f.Enum(), v.Enum())
		return protoreflect.ValueOfString(name), name != ""
	case toEnum && f.Kind() == protoreflect.StringKind:
		number := numberOf(t.Enum(), v.String())
		return protoreflect.ValueOfEnum(number), number != 0
	case f.Kind() != t.Kind():
		return none, false
	case f.Kind() == protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte{}, v.Bytes()...)), true
	}
	return v, true
}

var (
	kindsV1   = grafeas.NoteKind(0).Descriptor()
	kindsBeta = common.NoteKind(0).Descriptor()
)

// enumByName returns the number of the same name in another enum. A number
// without a name there stays what it is, unless it would get one.
func enumByName(to, from protoreflect.EnumDescriptor, n protoreflect.EnumNumber) (_ protoreflect.EnumNumber, ok bool) {
	switch {
	case from == kindsBeta && to == kindsV1:
		kind := KindFrom(common.NoteKind(n))
		return protoreflect.EnumNumber(kind), kind != 0 && !foreign(kind)
	case from == kindsV1 && to == kindsBeta:
		kind := KindTo(grafeas.NoteKind(n))
		return protoreflect.EnumNumber(kind), kind != 0 && !foreign(grafeas.NoteKind(n))
	}
	if v := from.Values().ByNumber(n); v != nil {
		if same := to.Values().ByName(v.Name()); same != nil {
			return same.Number(), true
		}
	}
	return n, to.Values().ByNumber(n) == nil
}

// hashWords are the names of hashes in v1, where they are text and follow its
// documentation's example. All other enums that are text in v1 have their values'
// names there.
var hashWords = map[protoreflect.Name]string{"SHA256": "SHA-256", "SHA512": "SHA-512"}

// wordOf returns an enum's value as v1 writes it, "" if it has no name.
func wordOf(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := e.Values().ByNumber(n)
	if v == nil || n == 0 {
		return ""
	}
	if word, ok := hashWords[v.Name()]; ok {
		return word
	}
	return string(v.Name())
}

// numberOf returns the number of what v1 writes, 0 if there is none.
func numberOf(e protoreflect.EnumDescriptor, word string) protoreflect.EnumNumber {
	for name, hash := range hashWords {
		if word == hash {
			word = string(name)
		}
	}
	if v := e.Values().ByName(protoreflect.Name(word)); v != nil {
		return v.Number()
	}
	return 0
}
