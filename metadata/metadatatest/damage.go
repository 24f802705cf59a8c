package metadatatest

import (
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// DamagedRows checks that a list which has a row in it that cannot be read fails. It
// fills an empty store, has the second note (change 3) and the second occurrence
// (change 4) damaged, and closes the store that it is given back.
func DamagedRows(t *testing.T, s metadata.Store, damage func(metadata.Store) metadata.Store) {
	t.Helper()
	parent := metadata.Parent{Project: "p"}
	for i := range 3 {
		name := fmt.Sprintf("projects/p/notes/n%d", i)
		o := metadata.OccurrenceName{Parent: parent, ID: metadata.ID{1, byte(i), 6: 0x70, 8: 0x80}}
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateNote: &grafeas.Note{Name: name, Kind: grafeas.NoteKind_SECRET}}))
		must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: &grafeas.Occurrence{
			Name: o.String(), ResourceUri: fmt.Sprintf("https://r.example/app%d", i), NoteName: name, Kind: grafeas.NoteKind_SECRET,
		}}))
	}
	s = damage(s)
	defer func() { must(t, s.Close()) }()
	// What is asked for one more than the page is not looked at.
	for limit, fails := range map[int]bool{1: false, 10: true} {
		notes, _, err := s.Notes(t.Context(), metadata.NoteQuery{Parent: parent, Kinds: metadata.AllKinds, Limit: limit})
		if (err != nil) != fails {
			t.Errorf("a page of %d notes: %d of them, error %v", limit, len(notes), err)
		}
		occurrences, _, err := s.Occurrences(t.Context(), metadata.OccurrenceQuery{Parent: parent, Kinds: metadata.AllKinds, Limit: limit})
		if (err != nil) != fails {
			t.Errorf("a page of %d occurrences: %d of them, error %v", limit, len(occurrences), err)
		}
	}
}
