package grafeasapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi/aiskill"
)

// A marshaler is the gateway's for JSON, made stable in what it prints and
// strict in what it reads.
type marshaler struct {
	runtime.JSONPb
}

func newMarshaler(enumNumbers bool) *marshaler {
	return &marshaler{runtime.JSONPb{
		MarshalOptions: protojson.MarshalOptions{UseEnumNumbers: enumNumbers},
	}}
}

// Marshal prints v without the spaces that protojson strews at random. A kind is
// printed even if it is unspecified, since it is of another version of the API:
// clients read it without asking whether it is there.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	opts := m.MarshalOptions
	message, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("encoding JSON: %T is no message", v)
	}
	opts.EmitDefaultValues = lacksKind(message.ProtoReflect())
	raw, err := aiskill.Marshal(opts, message)
	if err != nil {
		if raw, err = marshalForeign(opts, message); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	err = json.Compact(&b, raw)
	return b.Bytes(), err
}

// NewDecoder returns a decoder that reads r to its end and takes one value, with
// no unknown or repeated field, and nothing after it.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		raw, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("reading the request's body: %w", err)
		}
		if len(bytes.TrimSpace(raw)) == 0 {
			return io.EOF // which the gateway takes for an absent body
		}
		message, err := messageOf(v)
		if err != nil {
			return err
		}
		return aiskill.Unmarshal(m.UnmarshalOptions, raw, message)
	})
}

// messageOf returns the message in v: v itself, or what v points to, which is
// made if it is nil. The gateway passes the address of a request's field.
func messageOf(v any) (proto.Message, error) {
	if message, ok := v.(proto.Message); ok {
		return message, nil
	}
	p := reflect.ValueOf(v)
	if p.Kind() == reflect.Pointer && !p.IsNil() && p.Elem().Kind() == reflect.Pointer {
		if p.Elem().IsNil() {
			p.Elem().Set(reflect.New(p.Elem().Type().Elem()))
		}
		if message, ok := p.Elem().Interface().(proto.Message); ok {
			return message, nil
		}
	}
	return nil, fmt.Errorf("decoding JSON: %T is no message", v)
}

// lacksKind reports whether a message is, or lists, one whose kind is unspecified.
func lacksKind(m protoreflect.Message) bool {
	if kind := m.Descriptor().Fields().ByName("kind"); kind != nil {
		return !m.Has(kind)
	}
	for _, name := range []protoreflect.Name{"occurrences", "notes"} {
		field := m.Descriptor().Fields().ByName(name)
		if field == nil || !field.IsList() {
			continue
		}
		list := m.Get(field).List()
		for i := range list.Len() {
			if lacksKind(list.Get(i).Message()) {
				return true
			}
		}
	}
	return false
}
