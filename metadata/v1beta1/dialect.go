package v1beta1

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Dialect returns the dialect, for [metadata.Service.As].
func Dialect() metadata.Dialect {
	return metadata.Dialect{
		Name:               "v1beta1",
		ValidateNote:       ValidateNote,
		ValidateOccurrence: ValidateOccurrence,
		NoteView:           func(n *grafeas.Note) proto.Message { return NoteTo(n) },
		OccurrenceView:     func(o *grafeas.Occurrence) proto.Message { return OccurrenceTo(o) },
		Notes:              (&grafeasbeta.Note{}).ProtoReflect().Descriptor(),
		Occurrences:        (&grafeasbeta.Occurrence{}).ProtoReflect().Descriptor(),
	}
}
