package grafeasapi

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// FuzzMask applies any mask and patch: it never fails but with InvalidArgument,
// changes neither what it is given nor what the service sets, and a mask with an
// unknown path changes nothing.
func FuzzMask(f *testing.F) {
	patch, err := proto.Marshal(&grafeas.Note{ShortDescription: "x", Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, mask := range []string{"", "*", "short_description", "shortDescription,vulnerability.details", "name,kind", "expiration_time.seconds",
		"attestation.hint.human_readable_name", "..", "secret.", "related_url.url", "type", "vulnerability.cvss_v3.base_score"} {
		f.Add(mask, patch)
	}
	f.Fuzz(func(t *testing.T, mask string, raw []byte) {
		var patch grafeas.Note
		if proto.Unmarshal(raw, &patch) != nil {
			return
		}
		current := &grafeas.Note{
			Name: "projects/p/notes/n", Kind: grafeas.NoteKind_ATTESTATION, ShortDescription: "s", LongDescription: "l",
			Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: "QA"}}},
		}
		before, sent := proto.CloneOf(current), proto.CloneOf(&patch)
		paths := &fieldmaskpb.FieldMask{}
		if mask != "" {
			paths.Paths = strings.Split(mask, ",")
		}
		next, err := update(current, &patch, paths)
		if !proto.Equal(before, current) || !proto.Equal(sent, &patch) {
			t.Fatal("the arguments were changed")
		}
		if err != nil {
			if metadata.KindOf(err) != metadata.InvalidArgument {
				t.Fatalf("mask %q: %v", mask, err)
			}
			return
		}
		if masked := mask != "" && mask != "*"; masked && (next.GetName() != current.GetName() || next.GetKind() != current.GetKind()) {
			t.Fatalf("mask %q made it %q of kind %v", mask, next.GetName(), next.GetKind())
		}
		for _, path := range paths.GetPaths() {
			if path != "*" && fieldOf(current.ProtoReflect().Descriptor(), strings.Split(path, ".")[0]) == nil {
				t.Fatalf("mask %q was accepted", mask)
			}
		}
	})
}
