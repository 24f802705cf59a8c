// Package aiskill is protojson for the messages of Grafeas v1, AI_SKILL_ANALYSIS
// included. Google's Go package does not have that kind yet: its types keep the
// details as unknown fields, which protojson leaves out of what it writes and
// refuses in what it reads.
//
// [Marshal] and [Unmarshal] do what protojson does. Only a message that has such
// details goes through descriptors that know them.
package aiskill

import (
	"bytes"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Marshal writes m as JSON. Details that do not parse are left out.
func Marshal(opts protojson.MarshalOptions, m proto.Message) ([]byte, error) {
	if !speaks(m) {
		return opts.Marshal(m)
	}
	d, err := dynamic(m)
	if err != nil {
		return nil, err
	}
	raw, err := proto.Marshal(withoutOthers(m))
	if err != nil {
		return nil, fmt.Errorf("writing a %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if proto.Unmarshal(raw, d) != nil {
		return opts.Marshal(m)
	}
	return opts.Marshal(d)
}

// Unmarshal reads JSON into m, in place of what m holds.
func Unmarshal(opts protojson.UnmarshalOptions, raw []byte, m proto.Message) error {
	if !mentions(raw) || !carries(m.ProtoReflect().Descriptor()) {
		return opts.Unmarshal(raw, m)
	}
	d, err := dynamic(m)
	if err != nil {
		return err
	}
	if err := opts.Unmarshal(raw, d); err != nil {
		return err
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err == nil {
		err = proto.Unmarshal(wire, m)
	}
	if err != nil {
		return fmt.Errorf("reading a %s from JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// dynamic returns an empty message of m's type as the extended descriptors have it.
func dynamic(m proto.Message) (*dynamicpb.Message, error) {
	files, err := extended()
	if err != nil {
		return nil, err
	}
	name := m.ProtoReflect().Descriptor().FullName()
	d, err := files.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("looking for %s with AI skill analyses: %w", name, err)
	}
	message, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, fmt.Errorf("looking for %s with AI skill analyses: it is no message", name)
	}
	return dynamicpb.NewMessage(message), nil
}

// words are in every JSON text that has such details, or the kind by its name.
var words = [][]byte{[]byte("aiSkillAnalysis"), []byte("ai_skill_analysis"), []byte("AI_SKILL_ANALYSIS")}

func mentions(raw []byte) bool {
	for _, word := range words {
		if bytes.Contains(raw, word) {
			return true
		}
	}
	return false
}

var (
	notes       = (&grafeas.Note{}).ProtoReflect().Descriptor()
	occurrences = (&grafeas.Occurrence{}).ProtoReflect().Descriptor()
)

// carries reports whether messages of the type are or hold notes or occurrences.
func carries(d protoreflect.MessageDescriptor) bool {
	if d == notes || d == occurrences {
		return true
	}
	for i := range d.Fields().Len() {
		if held := heldBy(d.Fields().Get(i)); held == notes || held == occurrences {
			return true
		}
	}
	return false
}

// heldBy returns the type of the messages in a field, nil if it has none.
func heldBy(f protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if f.IsMap() {
		f = f.MapValue()
	}
	return f.Message()
}

// speaks reports whether a note or an occurrence in m is of the kind, or about it.
func speaks(m proto.Message) bool {
	found := false
	each(m.ProtoReflect(), func(m protoreflect.Message) {
		switch m := m.Interface().(type) {
		case *grafeas.Note:
			found = found || m.GetKind() == metadata.KindAISkillAnalysis || has(m, metadata.AISkillNoteField) ||
				m.GetDiscovery().GetAnalysisKind() == metadata.KindAISkillAnalysis
		case *grafeas.Occurrence:
			found = found || m.GetKind() == metadata.KindAISkillAnalysis || has(m, metadata.AISkillOccurrenceField)
		}
	})
	return found
}

func has(m proto.Message, field protowire.Number) bool {
	unknown := m.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return false
	}
	_, ok := metadata.UnknownBytes(unknown, field)
	return ok
}

// each calls fn for m if it is a note or an occurrence, else for those it holds.
func each(m protoreflect.Message, fn func(protoreflect.Message)) {
	if d := m.Descriptor(); d == notes || d == occurrences {
		fn(m)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch held := heldBy(f); {
		case held != notes && held != occurrences:
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { fn(v.Message()); return true })
		case f.IsList():
			for i := range v.List().Len() {
				fn(v.List().Get(i).Message())
			}
		default:
			fn(v.Message())
		}
		return true
	})
}

// withoutOthers returns m without details of the kind in messages that have ones
// of a published kind: those are what the message is stored as.
func withoutOthers(m proto.Message) proto.Message {
	c := proto.Clone(m)
	each(c.ProtoReflect(), func(m protoreflect.Message) {
		switch typed := m.Interface().(type) {
		case *grafeas.Note:
			if typed.GetType() != nil {
				m.SetUnknown(metadata.WithoutField(m.GetUnknown(), metadata.AISkillNoteField))
			}
		case *grafeas.Occurrence:
			if typed.GetDetails() != nil {
				m.SetUnknown(metadata.WithoutField(m.GetUnknown(), metadata.AISkillOccurrenceField))
			}
		}
	})
	return c
}
