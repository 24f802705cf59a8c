package v1beta1_test

import "google.golang.org/protobuf/reflect/protoreflect"

// addUnknown adds an unknown field to m and to every message in it, and makes
// every enum a number without a name.
func addUnknown(m protoreflect.Message) {
	var each func(protoreflect.Message)
	each = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.IsMap() && f.MapValue().Message() != nil:
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { each(v.Message()); return true })
			case f.IsMap():
			case f.IsList() && f.Message() != nil:
				for i := range v.List().Len() {
					each(v.List().Get(i).Message())
				}
			case f.IsList():
			case f.Message() != nil:
				each(v.Message())
			case f.Kind() == protoreflect.EnumKind && f.Name() != "kind":
				m.Set(f, protoreflect.ValueOfEnum(1234))
			}
			return true
		})
		m.SetUnknown(append(m.GetUnknown(), 0xf8, 0xff, 0x7f, byte(len(m.Descriptor().Name())))) // number 262143, varint
	}
	each(m)
}
