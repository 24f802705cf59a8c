package metadatatest

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	expr "google.golang.org/genproto/googleapis/type/expr"
	"google.golang.org/grpc/codes"
)

func conditionAlways() *expr.Expr { return &expr.Expr{Expression: "true"} }

func (a *api) createBatch(list ...*grafeas.Occurrence) (*grafeas.BatchCreateOccurrencesResponse, error) {
	return a.BatchCreateOccurrences(a.ctx, &grafeas.BatchCreateOccurrencesRequest{Parent: apiProject, Occurrences: list})
}

func (a *api) batches() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	a.note("projects/provider", "scan", &grafeas.Note{Type: discoveryType()})
	a.occurrence(apiProject, apiAttestation(apiImage, "there"))
	missing := apiAttestation(apiImage, "1")
	missing.NoteName = "projects/provider/notes/missing"
	mismatch := apiAttestation(apiImage, "2")
	mismatch.NoteName = "projects/provider/notes/scan"
	good := apiAttestation(apiImage, "3")

	_, err := a.createBatch()
	a.want(err, codes.InvalidArgument, "at least one")
	_, err = a.createBatch(make([]*grafeas.Occurrence, 1001)...)
	a.want(err, codes.InvalidArgument, "1001", "a maximum of 1000")
	// Everything that is wrong is told, with the place of the item.
	_, err = a.createBatch(good, apiAttestation("", "x"), &grafeas.Occurrence{NoteName: apiNote, ResourceUri: "r"})
	a.want(err, codes.InvalidArgument, "occurrence 1: ", "resource_uri is required", "occurrence 2: ", "details is required", "no occurrences were created")
	_, err = a.createBatch(good, missing, mismatch)
	a.want(err, codes.NotFound, "occurrence 1: ", "projects/provider/notes/missing", "occurrence 2: ", "is of kind DISCOVERY")
	_, err = a.createBatch(good, apiAttestation(apiImage, "there"), apiAttestation(apiImage, "3"))
	a.want(err, codes.AlreadyExists, "item 1 of the batch")
	if rows := a.find(apiProject, ""); len(rows) != 1 {
		a.Errorf("%d occurrences after refused batches, want 1", len(rows))
	}
	created, err := a.createBatch(good, apiAttestation(apiImage, "4"))
	if list := ok(a, created, err).GetOccurrences(); len(list) != 2 || string(list[0].GetAttestation().GetSerializedPayload()) != "3" {
		a.Errorf("created %v", list)
	}

	notes := func(byID map[string]*grafeas.Note) error {
		_, err := a.BatchCreateNotes(a.ctx, &grafeas.BatchCreateNotesRequest{Parent: "projects/provider", Notes: byID})
		return err
	}
	a.want(notes(nil), codes.InvalidArgument, "at least one")
	a.want(notes(map[string]*grafeas.Note{"": {Type: attestationType()}, "x/y": {Type: attestationType()}, "fine": {}}),
		codes.InvalidArgument, `note "": a noteId must be specified`, `note "x/y"`, `note "fine"`)
	a.want(notes(map[string]*grafeas.Note{"a": {Type: attestationType()}, "n": {Type: attestationType()}}), codes.AlreadyExists, apiNote)
	_, err = a.GetNote(a.ctx, &grafeas.GetNoteRequest{Name: "projects/provider/notes/a"})
	a.want(err, codes.NotFound)
	many := map[string]*grafeas.Note{}
	for i := range 1000 {
		many[fmt.Sprint("m", i)] = &grafeas.Note{Type: attestationType()}
	}
	a.want(notes(many), codes.OK)
}

func (a *api) repetition() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	_, err := a.CreateNote(a.ctx, &grafeas.CreateNoteRequest{Parent: "projects/provider", NoteId: "n", Note: &grafeas.Note{Type: attestationType()}})
	a.want(err, codes.AlreadyExists, `"`+apiNote+`" already exists`)
	a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	// The same one, however its URI is spelt.
	for _, uri := range []string{apiImage, strings.TrimPrefix(apiImage, "https://")} {
		_, err = a.CreateOccurrence(a.ctx, &grafeas.CreateOccurrenceRequest{Parent: apiProject, Occurrence: apiAttestation(uri, "1")})
		a.want(err, codes.AlreadyExists)
	}
	if rows := a.find(apiProject, ""); len(rows) != 1 {
		a.Errorf("%d attestations, want 1", len(rows))
	}
	a.occurrence("projects/q", apiAttestation(apiImage, "1"))
	a.occurrence(apiProject, apiAttestation(apiImage, "2"))
	// Two scans may well find the same.
	a.note("projects/goog-analysis", "PACKAGE_VULNERABILITY", &grafeas.Note{Type: discoveryType()})
	a.occurrence(apiProject, apiScan(apiImage))
	a.occurrence(apiProject, apiScan(apiImage))
}

func (a *api) noteRules() {
	o := apiAttestation(apiImage, "1")
	create := func(o *grafeas.Occurrence) error {
		_, err := a.CreateOccurrence(a.ctx, &grafeas.CreateOccurrenceRequest{Parent: apiProject, Occurrence: o})
		return err
	}
	a.want(create(o), codes.NotFound, `"`+apiNote+`" does not exist`)
	a.note("projects/provider", "n", &grafeas.Note{Type: discoveryType()})
	a.want(create(o), codes.FailedPrecondition, "is of kind DISCOVERY")
	remove := func() error {
		_, err := a.DeleteNote(a.ctx, &grafeas.DeleteNoteRequest{Name: apiNote})
		return err
	}
	a.want(remove(), codes.OK)
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	created := a.occurrence(apiProject, o)
	a.want(remove(), codes.FailedPrecondition, "has occurrences")
	_, err := a.DeleteOccurrence(a.ctx, &grafeas.DeleteOccurrenceRequest{Name: created.GetName()})
	a.want(err, codes.OK)
	a.want(remove(), codes.OK)
	a.want(remove(), codes.NotFound)
	_, err = a.ListNoteOccurrences(a.ctx, &grafeas.ListNoteOccurrencesRequest{Name: apiNote})
	a.want(err, codes.NotFound)
}

func (a *api) kinds() {
	n := a.note("projects/provider", "n", &grafeas.Note{Kind: grafeas.NoteKind_BUILD, Type: attestationType()})
	o := apiAttestation(apiImage, "1")
	o.Kind, o.Name = grafeas.NoteKind_BUILD, "projects/x/occurrences/y"
	created := a.occurrence(apiProject, o)
	for what, kind := range map[string]grafeas.NoteKind{"note": n.GetKind(), "occurrence": created.GetKind()} {
		if kind != grafeas.NoteKind_ATTESTATION {
			a.Errorf("the %s is of kind %v", what, kind)
		}
	}
	if strings.HasPrefix(created.GetName(), "projects/x/") {
		a.Error("the client chose the name")
	}
}
