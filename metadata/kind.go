package metadata

import (
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protowire"
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

// Kinds that v1beta1 has and v1 has not, as they are stored: numbers that v1 does
// not use, below 64 so that [Kinds] holds them.
const (
	KindInToto           grafeas.NoteKind = 50
	KindSBOM             grafeas.NoteKind = 51
	KindSPDXPackage      grafeas.NoteKind = 52
	KindSPDXFile         grafeas.NoteKind = 53
	KindSPDXRelationship grafeas.NoteKind = 54

	// KindAISkillAnalysis is of v1 too, though not in Google's Go package yet.
	KindAISkillAnalysis grafeas.NoteKind = 14
)

// unpublished are the names of the kinds that Google's Go package lacks.
var unpublished = map[grafeas.NoteKind]string{
	KindInToto:           "INTOTO",
	KindSBOM:             "SBOM",
	KindSPDXPackage:      "SPDX_PACKAGE",
	KindSPDXFile:         "SPDX_FILE",
	KindSPDXRelationship: "SPDX_RELATIONSHIP",
	KindAISkillAnalysis:  "AI_SKILL_ANALYSIS",
}

// StoredKinds are all kinds that notes and occurrences can be of.
func StoredKinds() []grafeas.NoteKind {
	var all []grafeas.NoteKind
	for k := range grafeas.NoteKind_name {
		if k != 0 {
			all = append(all, grafeas.NoteKind(k))
		}
	}
	for k := range unpublished {
		all = append(all, k)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// KindName returns the name of a kind.
func KindName(k grafeas.NoteKind) string {
	if name, ok := unpublished[k]; ok {
		return name
	}
	return k.String()
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
	for k, name := range unpublished {
		if s == name {
			return k, true
		}
	}
	k, ok := grafeas.NoteKind_value[s]
	return grafeas.NoteKind(k), ok && k != 0
}

// The field numbers of AI_SKILL_ANALYSIS in v1's Note and Occurrence. Google's Go
// package does not know them, and so keeps them as unknown fields.
const (
	aiSkillNoteField       protowire.Number = 23
	aiSkillOccurrenceField protowire.Number = 22
)

// noteKind returns the kind that a note's type makes it, 0 if it has none.
func noteKind(n *grafeas.Note) grafeas.NoteKind {
	return kindByOneof(n, n.GetKind(), "type", aiSkillNoteField)
}

// occurrenceKind returns the kind that an occurrence's details make it, 0 if it
// has none.
func occurrenceKind(o *grafeas.Occurrence) grafeas.NoteKind {
	return kindByOneof(o, o.GetKind(), "details", aiSkillOccurrenceField)
}

// kindByOneof relies on each member of the oneof bearing its kind's name, which
// a test asserts for all of them. A message without one is of the kind that its
// unknown fields tell; said is what another dialect has made of them.
func kindByOneof(m proto.Message, said grafeas.NoteKind, oneof protoreflect.Name, aiSkill protowire.Number) grafeas.NoteKind {
	r := m.ProtoReflect()
	if field := r.WhichOneof(r.Descriptor().Oneofs().ByName(oneof)); field != nil {
		return grafeas.NoteKind(grafeas.NoteKind_value[strings.ToUpper(string(field.Name()))])
	}
	if hasField(r.GetUnknown(), aiSkill) {
		return KindAISkillAnalysis
	}
	if _, foreign := unpublished[said]; foreign && hasField(r.GetUnknown(), OriginalField) {
		return said
	}
	return grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
}

// OriginalField is the number of a field, unknown to v1, in which a message that
// v1 cannot hold is kept as it was written. No caller may set it: transports
// remove it from what they receive and from what they answer.
const OriginalField protowire.Number = 536_870_000

// hasField reports whether unknown fields hold one of the number.
func hasField(unknown protoreflect.RawFields, number protowire.Number) bool {
	for len(unknown) > 0 {
		n, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			return false
		}
		if n == number {
			return true
		}
		unknown = unknown[size:]
	}
	return false
}
