package grafeasapi_test

import (
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

// What a gRPC client packs in a type of its own comes back to it, and does not
// keep REST from answering.
func TestForeignContentIsShownAsBytes(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1/projects/p/notes?noteId=b", `{"build":{"builderVersion":"1"}}`, 200)
	foreign := &anypb.Any{TypeUrl: "type.example/own.Type", Value: []byte("xyz")}
	created, err := s.rpc.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: &grafeas.Occurrence{
		ResourceUri: "r", NoteName: "projects/p/notes/b",
		Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{IntotoProvenance: &grafeas.InTotoProvenance{
			Recipe: &grafeas.Recipe{Arguments: []*anypb.Any{foreign}},
		}}},
	}})
	check(t, err, codes.OK)
	if got := created.GetBuild().GetIntotoProvenance().GetRecipe().GetArguments(); len(got) != 1 || !proto.Equal(got[0], foreign) {
		t.Errorf("got %v", got)
	}
	s.expect("GET", "/v1/projects/p/occurrences", "", 200, `{"@type":"type.example/own.Type","value":"eHl6"}`)
}
