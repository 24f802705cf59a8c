package metadatatest

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Filled returns m with every field set, to other values in each variant, and the
// member of its oneof named; nested oneofs take a member by the variant.
func Filled[T proto.Message](m T, member protoreflect.Name, variant int) T {
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); (o == nil || f.Name() == member) && f.Name() != "kind" {
			fillField(r, f, variant)
		}
	}
	return m
}

// FillField sets one field of m as [Filled] does.
func FillField(m protoreflect.Message, name protoreflect.Name, variant int) {
	fillField(m, m.Descriptor().Fields().ByName(name), variant)
}

func fillMessage(m protoreflect.Message, variant int) {
	if m.Descriptor().FullName() == "google.protobuf.Value" { // it holds itself
		fillField(m, m.Descriptor().Fields().ByName("string_value"), variant)
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o == nil || o.Fields().Get(variant%o.Fields().Len()) == f {
			fillField(m, f, variant)
		}
	}
}

func fillField(m protoreflect.Message, f protoreflect.FieldDescriptor, variant int) {
	switch {
	case f.IsMap():
		for i := range 2 {
			key := protoreflect.ValueOfString(fmt.Sprintf("%s-%d-%d", f.Name(), variant, i)).MapKey()
			if f.MapValue().Message() != nil {
				fillMessage(m.Mutable(f).Map().Mutable(key).Message(), variant+i)
			} else {
				m.Mutable(f).Map().Set(key, scalar(f.MapValue(), variant+i))
			}
		}
	case f.IsList():
		for i := range 2 {
			if f.Message() != nil {
				fillMessage(m.Mutable(f).List().AppendMutable().Message(), variant+i)
			} else {
				m.Mutable(f).List().Append(scalar(f, variant+i))
			}
		}
	case f.Message() != nil:
		fillMessage(m.Mutable(f).Message(), variant)
	default:
		m.Set(f, scalar(f, variant))
	}
}

// scalar returns a value that is not zero and differs between fields.
func scalar(f protoreflect.FieldDescriptor, variant int) protoreflect.Value {
	n := int(f.Number()) + 100*variant
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("%s %d", f.Name(), n))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, byte(n), 0xff})
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(1 + variant%(values.Len()-1)).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n) / 3)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) / 3)
	}
	panic(fmt.Sprintf("no value for a %s", f.Kind()))
}

// Members are the members of a message's oneof.
func Members(m proto.Message, oneof protoreflect.Name) []protoreflect.Name {
	var names []protoreflect.Name
	fields := m.ProtoReflect().Descriptor().Oneofs().ByName(oneof).Fields()
	for i := range fields.Len() {
		names = append(names, fields.Get(i).Name())
	}
	return names
}
