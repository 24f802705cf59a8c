package v1beta1

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// kinds are those that v1beta1 has: what they are in v1, and the fields that make
// a note or an occurrence one of them.
var kinds = []struct {
	beta             common.NoteKind
	v1               grafeas.NoteKind
	note, occurrence protoreflect.Name
}{
	{common.NoteKind_VULNERABILITY, grafeas.NoteKind_VULNERABILITY, "vulnerability", "vulnerability"},
	{common.NoteKind_BUILD, grafeas.NoteKind_BUILD, "build", "build"},
	{common.NoteKind_IMAGE, grafeas.NoteKind_IMAGE, "base_image", "derived_image"},
	{common.NoteKind_PACKAGE, grafeas.NoteKind_PACKAGE, "package", "installation"},
	{common.NoteKind_DEPLOYMENT, grafeas.NoteKind_DEPLOYMENT, "deployable", "deployment"},
	{common.NoteKind_DISCOVERY, grafeas.NoteKind_DISCOVERY, "discovery", "discovered"},
	{common.NoteKind_ATTESTATION, grafeas.NoteKind_ATTESTATION, "attestation_authority", "attestation"},
	{common.NoteKind_INTOTO, metadata.KindInToto, "intoto", "intoto"},
	{common.NoteKind_SBOM, metadata.KindSBOM, "sbom", "sbom"},
	{common.NoteKind_SPDX_PACKAGE, metadata.KindSPDXPackage, "spdx_package", "spdx_package"},
	{common.NoteKind_SPDX_FILE, metadata.KindSPDXFile, "spdx_file", "spdx_file"},
	{common.NoteKind_SPDX_RELATIONSHIP, metadata.KindSPDXRelationship, "spdx_relationship", "spdx_relationship"},
	{common.NoteKind_VULNERABILITY_ASSESSMENT, grafeas.NoteKind_VULNERABILITY_ASSESSMENT, "vulnerability_assessment", ""},
	{common.NoteKind_SBOM_REFERENCE, grafeas.NoteKind_SBOM_REFERENCE, "sbom_reference", "sbom_reference"},
	{common.NoteKind_SECRET, grafeas.NoteKind_SECRET, "secret", "secret"},
	{common.NoteKind_AI_SKILL_ANALYSIS, metadata.KindAISkillAnalysis, "ai_skill_analysis", "ai_skill_analysis"},
}

// KindTo returns a stored kind as v1beta1 has it, unspecified if it does not.
func KindTo(kind grafeas.NoteKind) common.NoteKind {
	for _, k := range kinds {
		if k.v1 == kind {
			return k.beta
		}
	}
	return common.NoteKind_NOTE_KIND_UNSPECIFIED
}

// KindFrom returns a kind of v1beta1 as it is stored, unspecified if there is no
// such kind.
func KindFrom(kind common.NoteKind) grafeas.NoteKind {
	for _, k := range kinds {
		if k.beta == kind {
			return k.v1
		}
	}
	return grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
}

// foreign reports whether v1 has no such kind. Those are stored under numbers
// that mean nothing to its clients.
func foreign(kind grafeas.NoteKind) bool {
	return kind >= metadata.KindInToto && kind <= metadata.KindSPDXRelationship
}

// typeOf returns which member of the oneof is set, "" if none is.
func typeOf(m proto.Message, oneof protoreflect.Name) protoreflect.Name {
	r := m.ProtoReflect()
	if field := r.WhichOneof(r.Descriptor().Oneofs().ByName(oneof)); field != nil {
		return field.Name()
	}
	return ""
}
