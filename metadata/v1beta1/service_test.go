package v1beta1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/testing/protocmp"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/intoto"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// TestThroughTheService stores what v1 has not, and updates it, as a transport
// does.
func TestThroughTheService(t *testing.T) {
	service, err := metadata.NewService(t.Context(), memory.New(), metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	beta, caller := service.As(v1beta1.Dialect()), metadata.Caller{}
	sent := &grafeasbeta.Note{Type: &grafeasbeta.Note_Intoto{Intoto: &intoto.InToto{StepName: "build"}}}
	created, err := beta.CreateNote(t.Context(), caller, "projects/p", "step", v1beta1.NoteFrom(sent))
	if err != nil {
		t.Fatal(err)
	}
	if created.GetKind() != metadata.KindInToto {
		t.Errorf("stored as kind %v", created.GetKind())
	}
	_, err = beta.UpdateNote(t.Context(), caller, created.GetName(), func(current *grafeas.Note) (*grafeas.Note, error) {
		return v1beta1.UpdateNote(current, func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
			n.GetIntoto().Threshold = 2
			return n, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := beta.GetNote(t.Context(), caller, created.GetName())
	if err != nil {
		t.Fatal(err)
	}
	want := &intoto.InToto{StepName: "build", Threshold: 2}
	if diff := cmp.Diff(want, v1beta1.NoteTo(got).GetIntoto(), protocmp.Transform()); diff != "" {
		t.Errorf("the step (-want +got):\n%s", diff)
	}
	_, err = beta.CreateNote(t.Context(), caller, "projects/p", "nothing", v1beta1.NoteFrom(&grafeasbeta.Note{}))
	invalid(t, err, "note is invalid: [type is required: set one that this version of Grafeas knows]")
}
