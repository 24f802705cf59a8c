package metadata

import (
	"context"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// NoteSubjectOccurrences calls fn for every occurrence of the note about one of the
// digests ("sha256:…"), wherever it is filed. For the server's own parts: it asks
// nobody's permission.
func (s *Service) NoteSubjectOccurrences(ctx context.Context, note string, digests []string, fn func(*grafeas.Occurrence) error) error {
	name, err := ParseNoteName(note)
	if err != nil || len(digests) == 0 {
		return err
	}
	subjects := make([]Key, 0, len(digests))
	for _, d := range digests {
		subjects = append(subjects, KeyOf(d))
	}
	return s.eachOccurrence(ctx, OccurrenceQuery{Note: name, Subjects: subjects, Kinds: AllKinds}, note, fn)
}
