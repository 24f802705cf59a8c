package metadata_test

import (
	"math"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// What gRPC carries and JSON cannot must not be stored: no list with it could be
// answered over REST.
func TestWhatCannotBeWrittenAsJSONIsRefused(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	ctx := t.Context()
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/p", "b", &grafeas.Note{Type: &grafeas.Note_Build{Build: &grafeas.BuildNote{BuilderVersion: "1"}}}))
	parameters := func(v *structpb.Value) *grafeas.BuildOccurrence {
		return &grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{
			Predicate: &grafeas.InTotoSlsaProvenanceV1_SlsaProvenanceV1{BuildDefinition: &grafeas.InTotoSlsaProvenanceV1_BuildDefinition{
				ExternalParameters: &structpb.Struct{Fields: map[string]*structpb.Value{"x": v}},
			}},
		}}
	}
	recipe := func(a *anypb.Any) *grafeas.BuildOccurrence {
		return &grafeas.BuildOccurrence{IntotoProvenance: &grafeas.InTotoProvenance{Recipe: &grafeas.Recipe{Arguments: []*anypb.Any{a}}}}
	}
	late := &timestamppb.Timestamp{Seconds: 1 << 60}
	packedLate, err := anypb.New(late)
	if err != nil {
		t.Fatal(err)
	}
	deep := structpb.NewStringValue("x")
	for range 200 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	for name, test := range map[string]struct {
		build *grafeas.BuildOccurrence
		want  string // "" if it is fine
	}{
		"a time after the year 9999": {&grafeas.BuildOccurrence{Provenance: &grafeas.BuildProvenance{Id: "x", CreateTime: late}}, "create_time is no time"},
		"a value of no kind":         {parameters(&structpb.Value{}), "has no value"},
		"a number that is none":      {parameters(structpb.NewNumberValue(math.NaN())), "finite"},
		"values nested deep":         {parameters(deep), "nested too deep"},
		"content not of its type":    {recipe(&anypb.Any{TypeUrl: packedLate.GetTypeUrl(), Value: []byte("x")}), "not of its type"},
		"content that is no good":    {recipe(packedLate), "is no time"},
		"parameters":                 {parameters(structpb.NewStringValue("x")), ""},
		"no content":                 {recipe(&anypb.Any{}), ""},
	} {
		o := &grafeas.Occurrence{ResourceUri: "r", NoteName: "projects/p/notes/b", Details: &grafeas.Occurrence_Build{Build: test.build}}
		_, err := svc.CreateOccurrence(ctx, alice, "projects/p", o)
		_, unprintable := protojson.Marshal(o)
		switch {
		case test.want != "":
			wantKind(t, err, metadata.InvalidArgument, test.want)
		case err != nil || unprintable != nil:
			t.Errorf("%s: %v, %v", name, err, unprintable)
		}
	}
	_, err = svc.UpdateNote(ctx, alice, "projects/p/notes/b", func(n *grafeas.Note) (*grafeas.Note, error) {
		return &grafeas.Note{Type: n.Type, ExpirationTime: late}, nil
	})
	wantKind(t, err, metadata.InvalidArgument, "expiration_time")
	if svc.Head() != 3 {
		t.Errorf("head is %d, want 3", svc.Head())
	}
}
