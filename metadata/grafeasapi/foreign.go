package grafeasapi

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi/aiskill"
)

// marshalForeign is for messages with an Any of a type that nobody here knows. It
// shows the content as bytes: {"@type": "…", "value": "base64"}.
func marshalForeign(opts protojson.MarshalOptions, m proto.Message) ([]byte, error) {
	shown := proto.Clone(m)
	if err := wrapForeign(shown.ProtoReflect()); err != nil {
		return nil, err
	}
	opts.Resolver = foreignTypes{protoregistry.GlobalTypes}
	return aiskill.Marshal(opts, shown)
}

// foreignTypes takes what is of an unknown type for bytes.
type foreignTypes struct{ *protoregistry.Types }

// FindMessageByURL is of protojson's resolvers.
func (t foreignTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if known, err := t.Types.FindMessageByURL(url); err == nil {
		return known, nil
	}
	return (&wrapperspb.BytesValue{}).ProtoReflect().Type(), nil
}

// wrapForeign makes the content of each Any of an unknown type bytes in a message.
func wrapForeign(m protoreflect.Message) (err error) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		if _, unknown := protoregistry.GlobalTypes.FindMessageByURL(a.GetTypeUrl()); unknown != nil {
			a.Value, err = proto.Marshal(wrapperspb.Bytes(a.GetValue()))
		}
		return err
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = wrapForeign(v.Message())
				return err == nil
			})
		case field.IsList() && field.Message() != nil:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = wrapForeign(v.List().Get(i).Message())
			}
		case !field.IsMap() && field.Message() != nil:
			err = wrapForeign(v.Message())
		}
		return err == nil
	})
	return err
}
