package feedclient

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// checkKnown refuses what a newer server tells and this gate would not heed: a change of
// a new kind may be one that takes something back. What is new in greetings and beats
// is for nobody's decision, and ignored.
func checkKnown(m proto.Message) error {
	r := m.ProtoReflect()
	switch m := m.(type) {
	case *gatehousev1.Welcome, *gatehousev1.Beat:
		return nil
	case *gatehousev1.WatchResponse:
		if m.GetKind() == nil {
			return errNewer
		}
	}
	if len(r.GetUnknown()) > 0 {
		return errNewer
	}
	var err error
	r.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				if err = checkKnown(v.List().Get(i).Message().Interface()); err != nil {
					return false
				}
			}
		default:
			err = checkKnown(v.Message().Interface())
		}
		return err == nil
	})
	return err
}

var errNewer = metadata.Errorf(metadata.Unimplemented, "the metadata service tells what this gate does not know; upgrade the gate")
