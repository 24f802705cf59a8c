package metadata

import (
	"errors"
	"math"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxDepth bounds how deep messages may be nested: far beyond what any kind needs.
const maxDepth = 64

// storable refuses what is too large to be sent, or cannot be written as JSON in
// v1 or in the dialect whose view is given.
func storable[T proto.Message](what string, m T, view func(T) proto.Message) error {
	if err := checkSize(what, m); err != nil {
		return err
	}
	if err := checkPrintable(what, m); err != nil || view == nil {
		return err
	}
	return checkPrintable(what, view(m))
}

// checkPrintable refuses a message that cannot be written as JSON. gRPC carries
// such messages; if one were stored, REST could not answer with any list it is in.
func checkPrintable(what string, m proto.Message) error {
	path, problem := unprintable(m.ProtoReflect(), 0)
	if problem == "" {
		return nil
	}
	return Errorf(InvalidArgument, "%s is invalid: [%s %s]", what, clip(path), problem)
}

// unprintable returns the path to what cannot be written as JSON, and why; "" if
// there is nothing of the sort.
func unprintable(m protoreflect.Message, depth int) (path, problem string) {
	if depth > maxDepth {
		return "", "is nested too deep"
	}
	if problem, known := wellKnown(m, depth); problem != "" || known {
		return "", problem
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		var inner string
		check := func(v protoreflect.Value) bool {
			inner, problem = unprintable(v.Message(), depth+1)
			return problem == ""
		}
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { return check(v) })
		case field.IsList() && field.Message() != nil:
			for i := 0; i < v.List().Len() && check(v.List().Get(i)); i++ {
			}
		case !field.IsMap() && field.Message() != nil:
			check(v)
		}
		if problem != "" {
			path = string(field.Name())
			if inner != "" {
				path += "." + inner
			}
		}
		return problem == ""
	})
	return path, problem
}

// wellKnown checks the messages that have a JSON form of their own; known reports
// whether that is all there is to check.
func wellKnown(m protoreflect.Message, depth int) (problem string, known bool) {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		if v.CheckValid() != nil {
			return "is no time between the years 1 and 9999", true
		}
		return "", true
	case *durationpb.Duration:
		if v.CheckValid() != nil {
			return "is no duration", true
		}
		return "", true
	case *structpb.Value:
		n, isNumber := v.GetKind().(*structpb.Value_NumberValue)
		switch {
		case v.GetKind() == nil:
			return "has no value", true
		case isNumber && (math.IsNaN(n.NumberValue) || math.IsInf(n.NumberValue, 0)):
			return "is not a finite number", true
		}
	case *anypb.Any:
		if v.GetTypeUrl() == "" && len(v.GetValue()) == 0 {
			return "", true
		}
		content, err := v.UnmarshalNew()
		switch {
		case errors.Is(err, protoregistry.NotFound):
			return "", true // transports can show it as bytes
		case err != nil:
			return "has content that is not of its type", true
		}
		_, problem := unprintable(content.ProtoReflect(), depth+1)
		return problem, true
	}
	return "", false
}
