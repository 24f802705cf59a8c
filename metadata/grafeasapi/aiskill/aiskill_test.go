package aiskill_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi/aiskill"
)

// The same note and occurrence, as JSON and as Google's Go package keeps them.
const (
	noteJSON       = `{"name":"projects/p/notes/n","kind":"AI_SKILL_ANALYSIS","aiSkillAnalysis":{}}`
	occurrenceJSON = `{"resourceUri":"u","noteName":"projects/p/notes/n","kind":"AI_SKILL_ANALYSIS","createTime":"2026-01-02T03:04:05Z",` +
		`"aiSkillAnalysis":{"skillName":"s","findings":[{"ruleId":"r","category":"c","severity":"HIGH","title":"t","description":"d","filePath":"f","snippet":"x"}]}}`
)

func note() *grafeas.Note {
	n := &grafeas.Note{Name: "projects/p/notes/n", Kind: metadata.KindAISkillAnalysis}
	return with(n, 23, nil)
}

func occurrence() *grafeas.Occurrence {
	var finding []byte
	for i, s := range []string{"r", "c", "HIGH", "t", "d", "f", "x"} {
		finding = text(finding, protowire.Number(i+1), []byte(s))
	}
	o := &grafeas.Occurrence{
		ResourceUri: "u", NoteName: "projects/p/notes/n", Kind: metadata.KindAISkillAnalysis,
		CreateTime: &timestamppb.Timestamp{Seconds: 1767323045},
	}
	return with(o, 22, text(text(nil, 1, []byte("s")), 2, finding))
}

// text appends a length-delimited field.
func text(raw []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(raw, number, protowire.BytesType), content)
}

// with adds an unknown field to m.
func with[T proto.Message](m T, number protowire.Number, content []byte) T {
	r := m.ProtoReflect()
	r.SetUnknown(text(r.GetUnknown(), number, content))
	return m
}

func TestEveryMessageThatHoldsThem(t *testing.T) {
	for _, tc := range []struct {
		json    string
		message proto.Message
	}{
		{noteJSON, note()},
		{occurrenceJSON, occurrence()},
		{`{"parent":"projects/p","noteId":"n","note":` + noteJSON + `}`, &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: note()}},
		{`{"name":"projects/p/notes/n","note":` + noteJSON + `}`, &grafeas.UpdateNoteRequest{Name: "projects/p/notes/n", Note: note()}},
		{`{"parent":"projects/p","notes":{"n":` + noteJSON + `,"o":{"secret":{}}}}`, &grafeas.BatchCreateNotesRequest{
			Parent: "projects/p", Notes: map[string]*grafeas.Note{"n": note(), "o": {Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}}}},
		{`{"notes":[` + noteJSON + `]}`, &grafeas.BatchCreateNotesResponse{Notes: []*grafeas.Note{note()}}},
		{`{"notes":[{"secret":{}},` + noteJSON + `],"nextPageToken":"t"}`, &grafeas.ListNotesResponse{
			Notes: []*grafeas.Note{{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}, note()}, NextPageToken: "t"}},
		{`{"parent":"projects/p","occurrence":` + occurrenceJSON + `}`, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: occurrence()}},
		{`{"name":"n","occurrence":` + occurrenceJSON + `}`, &grafeas.UpdateOccurrenceRequest{Name: "n", Occurrence: occurrence()}},
		{`{"parent":"projects/p","occurrences":[` + occurrenceJSON + `]}`, &grafeas.BatchCreateOccurrencesRequest{
			Parent: "projects/p", Occurrences: []*grafeas.Occurrence{occurrence()}}},
		{`{"occurrences":[` + occurrenceJSON + `]}`, &grafeas.BatchCreateOccurrencesResponse{Occurrences: []*grafeas.Occurrence{occurrence()}}},
		{`{"occurrences":[` + occurrenceJSON + `]}`, &grafeas.ListOccurrencesResponse{Occurrences: []*grafeas.Occurrence{occurrence()}}},
		{`{"occurrences":[` + occurrenceJSON + `]}`, &grafeas.ListNoteOccurrencesResponse{Occurrences: []*grafeas.Occurrence{occurrence()}}},
		{`{"kind":"AI_SKILL_ANALYSIS"}`, &grafeas.Note{Kind: metadata.KindAISkillAnalysis}},
		{`{"discovery":{"analysisKind":"AI_SKILL_ANALYSIS"}}`, &grafeas.Note{
			Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: metadata.KindAISkillAnalysis}}}},
	} {
		t.Run(string(tc.message.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			got, err := aiskill.Marshal(protojson.MarshalOptions{}, tc.message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(values(t, []byte(tc.json)), values(t, got)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			read := tc.message.ProtoReflect().New().Interface()
			if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, []byte(tc.json), read); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.message, read, protocmp.Transform()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoMessageIsForgotten looks for messages of the service that hold notes or
// occurrences where the test above has none.
func TestNoMessageIsForgotten(t *testing.T) {
	service := grafeas.File_grafeas_v1_grafeas_proto.Services().Get(0)
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		for _, d := range []protoreflect.MessageDescriptor{m.Input(), m.Output()} {
			for j := range d.Fields().Len() {
				f := d.Fields().Get(j)
				if f.Message() == nil || f.IsMap() || d.Name() == "Note" || d.Name() == "Occurrence" {
					continue
				}
				switch f.Message().Name() {
				case "Note", "Occurrence", "FieldMask":
				default:
					t.Errorf("%s holds a %s, in which notes are not looked for", d.Name(), f.Message().Name())
				}
			}
		}
	}
}

func values(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func TestOptionsHold(t *testing.T) {
	got, err := aiskill.Marshal(protojson.MarshalOptions{UseEnumNumbers: true, UseProtoNames: true}, note())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"projects/p/notes/n","kind":14,"ai_skill_analysis":{}}`
	if diff := cmp.Diff(values(t, []byte(want)), values(t, got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	var n grafeas.Note
	if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, got, &n); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(note(), &n, protocmp.Transform()); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestStrictAsProtojson(t *testing.T) {
	for _, raw := range []string{
		`{"aiSkillAnalysis":{"foo":1}}`, `{"foo":1,"aiSkillAnalysis":{}}`, `{"aiSkillAnalysis":{},"secret":{}}`,
		`{"aiSkillAnalysis":{}`, `{"aiSkillAnalysis":[]}`, `{"aiSkillAnalysis":{},"aiSkillAnalysis":{}}`, `{"kind":"AI_SKILL_ANALYSI"}`,
	} {
		if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, []byte(raw), &grafeas.Note{}); err == nil {
			t.Errorf("%s was accepted", raw)
		}
	}
	if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, []byte(`{"aiSkillAnalysis":{}}`), &timestamppb.Timestamp{}); err == nil {
		t.Error("a time was read from a note")
	}
}

func TestReplacesWhatWasThere(t *testing.T) {
	n := &grafeas.Note{ShortDescription: "before"}
	if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, []byte(noteJSON), n); err != nil || n.GetShortDescription() != "" {
		t.Errorf("got %v, %v", n, err)
	}
}

func TestOtherMessagesAreProtojsons(t *testing.T) {
	for _, m := range []proto.Message{
		&grafeas.Note{ShortDescription: "ai_skill_analysis", Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}},
		&grafeas.ListNotesRequest{Parent: "projects/p", Filter: `kind="AI_SKILL_ANALYSIS"`},
		&timestamppb.Timestamp{Seconds: 1},
		with(&grafeas.Note{}, 99, []byte("unknown")),
	} {
		got, err := aiskill.Marshal(protojson.MarshalOptions{}, m)
		if err != nil {
			t.Fatal(err)
		}
		want, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values(t, want), values(t, got)); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}
		read := m.ProtoReflect().New().Interface()
		if err := aiskill.Unmarshal(protojson.UnmarshalOptions{}, got, read); err != nil {
			t.Errorf("reading %s: %v", got, err)
		}
	}
}

func TestDetailsThatAreNotShown(t *testing.T) {
	broken := with(&grafeas.Occurrence{ResourceUri: "u"}, 22, []byte{0xff})
	second := with(&grafeas.Note{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}, 23, nil)
	for _, tc := range []struct {
		name, want string
		message    proto.Message
	}{
		{"broken ones", `{"resourceUri":"u"}`, broken},
		{"second ones", `{"secret":{}}`, second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := proto.Clone(tc.message)
			got, err := aiskill.Marshal(protojson.MarshalOptions{}, tc.message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(values(t, []byte(tc.want)), values(t, got)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			if !proto.Equal(before, tc.message) {
				t.Error("the message was changed")
			}
		})
	}
}
