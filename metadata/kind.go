package metadata

import (
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Kinds is a set of note kinds, one bit each. The zero set is empty.
type Kinds uint64

// AllKinds holds every kind, those still to come included.
const AllKinds = ^Kinds(0)

// KindSet returns the set of the given kinds.
func KindSet(kinds ...grafeas.NoteKind) Kinds {
	var set Kinds
	for _, k := range kinds {
		set |= 1 << (uint(k) & 63)
	}
	return set
}

// Has reports whether kind is in the set.
func (s Kinds) Has(kind grafeas.NoteKind) bool { return s&KindSet(kind) != 0 }

// formerKinds are names that kinds had in v1alpha1, and that clients still send
// in filters.
var formerKinds = map[string]grafeas.NoteKind{
	"PACKAGE_VULNERABILITY": grafeas.NoteKind_VULNERABILITY,
	"BUILD_DETAILS":         grafeas.NoteKind_BUILD,
	"IMAGE_BASIS":           grafeas.NoteKind_IMAGE,
	"PACKAGE_MANAGER":       grafeas.NoteKind_PACKAGE,
	"DEPLOYABLE":            grafeas.NoteKind_DEPLOYMENT,
	"ATTESTATION_AUTHORITY": grafeas.NoteKind_ATTESTATION,
}

// parseKind parses the name of a kind, present or former.
func parseKind(s string) (grafeas.NoteKind, bool) {
	if k, ok := formerKinds[s]; ok {
		return k, true
	}
	k, ok := grafeas.NoteKind_value[s]
	return grafeas.NoteKind(k), ok && k != 0
}

// noteKind returns the kind that a note's type makes it, 0 if it has none.
func noteKind(n *grafeas.Note) grafeas.NoteKind { return kindByOneof(n, "type") }

// occurrenceKind returns the kind that an occurrence's details make it, 0 if it
// has none.
func occurrenceKind(o *grafeas.Occurrence) grafeas.NoteKind { return kindByOneof(o, "details") }

// kindByOneof relies on each member of the oneof bearing its kind's name, which
// a test asserts for all of them.
func kindByOneof(m proto.Message, oneof protoreflect.Name) grafeas.NoteKind {
	r := m.ProtoReflect()
	field := r.WhichOneof(r.Descriptor().Oneofs().ByName(oneof))
	if field == nil {
		return grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
	}
	return grafeas.NoteKind(grafeas.NoteKind_value[strings.ToUpper(string(field.Name()))])
}
