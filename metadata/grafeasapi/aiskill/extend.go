package aiskill

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	noteType       = "AISkillAnalysisNote"
	occurrenceType = "AISkillAnalysisOccurrence"
)

// extended returns the files of grafeas.v1 as upstream has them: Google's, with
// the kind, its messages, and the fields that hold them. They are registered
// nowhere, since their names are those of Google's.
var extended = sync.OnceValues(func() (*protoregistry.Files, error) {
	files := new(protoregistry.Files)
	if err := extend(files, grafeas.File_grafeas_v1_grafeas_proto); err != nil {
		return nil, fmt.Errorf("adding AI skill analyses to grafeas.v1: %w", err)
	}
	return files, nil
})

// extend adds a file, after those that it imports of the same package.
func extend(files *protoregistry.Files, f protoreflect.FileDescriptor) error {
	if _, err := files.FindFileByPath(f.Path()); err == nil || f.Package() != "grafeas.v1" {
		return nil
	}
	for i := range f.Imports().Len() {
		if err := extend(files, f.Imports().Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	file := protodesc.ToFileDescriptorProto(f)
	for _, e := range file.GetEnumType() {
		if e.GetName() == "NoteKind" {
			e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{
				Name: proto.String("AI_SKILL_ANALYSIS"), Number: proto.Int32(int32(metadata.KindAISkillAnalysis))})
		}
	}
	for _, m := range file.GetMessageType() {
		switch m.GetName() {
		case "Note":
			addMember(m, "type", metadata.AISkillNoteField, noteType)
			file.MessageType = append(file.MessageType, messages()...)
		case "Occurrence":
			addMember(m, "details", metadata.AISkillOccurrenceField, occurrenceType)
		}
	}
	built, err := protodesc.NewFile(file, resolver{files})
	if err != nil {
		return err
	}
	return files.RegisterFile(built)
}

// addMember adds the field ai_skill_analysis to a oneof, after its last member
// since those must stand together.
func addMember(m *descriptorpb.DescriptorProto, oneof string, number protowire.Number, typ string) {
	f := field("ai_skill_analysis", int32(number), descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, typ)
	last := 0
	for i, o := range m.GetField() {
		if o.OneofIndex != nil && m.GetOneofDecl()[o.GetOneofIndex()].GetName() == oneof {
			f.OneofIndex, last = o.OneofIndex, i
		}
	}
	m.Field = slices.Insert(m.GetField(), last+1, f)
}

func messages() []*descriptorpb.DescriptorProto {
	finding := &descriptorpb.DescriptorProto{Name: proto.String("Finding")}
	for i, name := range []string{"rule_id", "category", "severity", "title", "description", "file_path", "snippet"} {
		finding.Field = append(finding.Field, field(name, int32(i+1), descriptorpb.FieldDescriptorProto_TYPE_STRING, ""))
	}
	findings := field("findings", 2, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, occurrenceType+".Finding")
	findings.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	return []*descriptorpb.DescriptorProto{
		{Name: proto.String(noteType)},
		{
			Name:       proto.String(occurrenceType),
			Field:      []*descriptorpb.FieldDescriptorProto{field("skill_name", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, ""), findings},
			NestedType: []*descriptorpb.DescriptorProto{finding},
		},
	}
}

func field(name string, number int32, typ descriptorpb.FieldDescriptorProto_Type, message string) *descriptorpb.FieldDescriptorProto {
	words := strings.Split(name, "_")
	for i := range words[1:] {
		words[i+1] = strings.ToUpper(words[i+1][:1]) + words[i+1][1:]
	}
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), JsonName: proto.String(strings.Join(words, "")), Number: proto.Int32(number),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: typ.Enum(),
	}
	if message != "" {
		f.TypeName = proto.String(".grafeas.v1." + message)
	}
	return f
}

// A resolver finds the extended files first, and what they import elsewhere.
type resolver struct{ own *protoregistry.Files }

func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := r.own.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := r.own.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}
