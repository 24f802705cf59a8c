package grafeasapi

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// updatingOccurrence returns the change that a request makes: of the occurrence
// as v1beta1 shows it, with nothing lost of what it does not show.
func updatingOccurrence(req *beta.UpdateOccurrenceRequest) func(*grafeas.Occurrence) (*grafeas.Occurrence, error) {
	return func(current *grafeas.Occurrence) (*grafeas.Occurrence, error) {
		return v1beta1.UpdateOccurrence(current, func(view *beta.Occurrence) (*beta.Occurrence, error) {
			return update(view, req.GetOccurrence(), req.GetUpdateMask())
		})
	}
}

func updatingNote(req *beta.UpdateNoteRequest) func(*grafeas.Note) (*grafeas.Note, error) {
	return func(current *grafeas.Note) (*grafeas.Note, error) {
		return v1beta1.UpdateNote(current, func(view *beta.Note) (*beta.Note, error) {
			return update(view, req.GetNote(), req.GetUpdateMask())
		})
	}
}

func newByID(size int) map[string]*grafeas.Note { return make(map[string]*grafeas.Note, size) }
