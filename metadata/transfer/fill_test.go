package transfer_test

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
)

func namesOf(names []protoreflect.Name) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = string(name)
	}
	return all
}

func nameOf(s string) protoreflect.Name { return protoreflect.Name(s) }

// v1Note is a request for a note of a kind, in projects/p.
func v1Note(member protoreflect.Name) *grafeas.CreateNoteRequest {
	return &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: string(member), Note: metadatatest.Filled(&grafeas.Note{}, member, 0)}
}
