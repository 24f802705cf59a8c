package grafeasapi

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// maxPaths bounds a field mask. A mask that REST derives from a body has a path
// for each of its fields.
const maxPaths = 1000

var (
	// outputOnly are the fields that the service sets. A client that sends back
	// what it has read names them too, to no effect.
	outputOnly = []protoreflect.Name{"name", "kind", "create_time", "update_time"}
	// kept are the fields that cannot be changed, and need not be repeated.
	kept = []protoreflect.Name{"note_name", "resource_uri", "resource"}
)

// update returns what current becomes when the fields that the mask names are
// taken from patch: those that patch lacks are cleared. Without a mask, or with
// "*", all fields are, but that what cannot change may be left out.
func update[T proto.Message](current, patch T, mask *fieldmaskpb.FieldMask) (T, error) {
	paths := mask.GetPaths()
	if len(paths) == 0 || len(paths) == 1 && paths[0] == "*" {
		return replace(current, patch), nil
	}
	next := proto.CloneOf(current)
	if len(paths) > maxPaths {
		return next, metadata.Errorf(metadata.InvalidArgument, "the update mask has %d paths, at most %d are allowed", len(paths), maxPaths)
	}
	for _, path := range paths {
		if err := copyPath(next.ProtoReflect(), patch.ProtoReflect(), path); err != nil {
			return next, err
		}
	}
	return next, nil
}

func replace[T proto.Message](current, patch T) T {
	next := proto.CloneOf(patch)
	to, from := next.ProtoReflect(), current.ProtoReflect()
	for _, name := range kept {
		if field := from.Descriptor().Fields().ByName(name); field != nil && !to.Has(field) && from.Has(field) {
			to.Set(field, from.Get(field))
		}
	}
	oneofs := from.Descriptor().Oneofs()
	for i := range oneofs.Len() {
		if have := from.WhichOneof(oneofs.Get(i)); have != nil && to.WhichOneof(oneofs.Get(i)) == nil {
			to.Set(have, from.Get(have))
		}
	}
	if len(to.GetUnknown()) == 0 {
		to.SetUnknown(from.GetUnknown())
	}
	return next
}

// copyPath sets what the path names in to to what it is in from.
func copyPath(to, from protoreflect.Message, path string) error {
	segments := strings.Split(path, ".")
	for i, segment := range segments {
		field := fieldOf(to.Descriptor(), segment)
		switch {
		case field == nil:
			return metadata.Errorf(metadata.InvalidArgument, "update mask path %q: %s has no field %q", clipped(path), to.Descriptor().FullName(), clipped(segment))
		case i == 0 && slices.Contains(outputOnly, field.Name()):
			return nil
		case i == len(segments)-1:
			if from.Has(field) {
				to.Set(field, from.Get(field))
			} else {
				to.Clear(field)
			}
			return nil
		case field.IsList() || field.IsMap() || field.Message() == nil:
			return metadata.Errorf(metadata.InvalidArgument, "update mask path %q: %q has no fields that can be set one by one; name it alone", clipped(path), clipped(strings.Join(segments[:i+1], ".")))
		}
		if !from.Has(field) && !to.Has(field) {
			return checkPath(field.Message(), segments[i+1:], path)
		}
		// Mutable makes the message, and chooses the member of a oneof.
		to, from = to.Mutable(field).Message(), from.Get(field).Message()
	}
	return nil
}

// checkPath refuses a path that there is nothing to do for, if it is wrong.
func checkPath(d protoreflect.MessageDescriptor, segments []string, path string) error {
	for i, segment := range segments {
		field := fieldOf(d, segment)
		if field == nil {
			return metadata.Errorf(metadata.InvalidArgument, "update mask path %q: %s has no field %q", clipped(path), d.FullName(), clipped(segment))
		}
		last := i == len(segments)-1
		if !last && (field.IsList() || field.IsMap() || field.Message() == nil) {
			return metadata.Errorf(metadata.InvalidArgument, "update mask path %q: nothing in %q can be set one by one", clipped(path), clipped(segment))
		}
		d = field.Message()
	}
	return nil
}

// fieldOf finds a field by either spelling of its name.
func fieldOf(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := d.Fields().ByTextName(name); field != nil {
		return field
	}
	return d.Fields().ByJSONName(name)
}

// clipped shortens a part of a request before it goes into an error.
func clipped(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
