package clients

import (
	"encoding/json"
	"errors"
	"testing"

	"cloud.google.com/go/containeranalysis/apiv1beta1/grafeas/grafeaspb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/googleapi"
	v1 "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// canonical are the codes that the tests ask for, as they stand in JSON and in
// HTTP's status line.
var canonical = map[codes.Code]struct {
	name string
	http int
}{
	codes.InvalidArgument:    {"INVALID_ARGUMENT", 400},
	codes.FailedPrecondition: {"FAILED_PRECONDITION", 400},
	codes.NotFound:           {"NOT_FOUND", 404},
	codes.AlreadyExists:      {"ALREADY_EXISTS", 409},
	codes.Aborted:            {"ABORTED", 409},
}

// refused demands an error that Google's clients have understood: one with a code
// and a text, which over REST they find only in the shape of Google's services.
func refused(t *testing.T, err error, want codes.Code) {
	t.Helper()
	var read *apierror.APIError
	if !errors.As(err, &read) {
		t.Fatalf("error %v, want %v", err, want)
	}
	var overREST *googleapi.Error
	if !errors.As(err, &overREST) {
		if st := status.Convert(err); st.Code() != want || st.Message() == "" {
			t.Errorf("error %v, want %v and a text", err, want)
		}
		return
	}
	wire := canonical[want]
	if overREST.Code != wire.http || read.HTTPCode() != wire.http || overREST.Message == "" || read.Message() == "" {
		t.Errorf("error %v (HTTP status %d), want HTTP status %d and a text", overREST, read.HTTPCode(), wire.http)
	}
	// What clients of Google's in other languages go by.
	var body struct {
		Error struct {
			Code            int
			Message, Status string
		}
	}
	if err := json.Unmarshal([]byte(overREST.Body), &body); err != nil {
		t.Fatal(err)
	}
	if body.Error.Status != wire.name || body.Error.Code != wire.http || body.Error.Message != overREST.Message {
		t.Errorf("body %s, want status %s", overREST.Body, wire.name)
	}
	if kind := overREST.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("content type %q", kind)
	}
}

func TestGoogleClientsReadErrorsOfV1beta1(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range betaClients(t, g) {
		t.Run(name, func(t *testing.T) {
			ctx, parent := t.Context(), "projects/"+name
			create := func(id, body string) error {
				_, err := client.CreateNote(ctx, &grafeaspb.CreateNoteRequest{Parent: parent, NoteId: id, Note: read(t, body, &grafeaspb.Note{})})
				return err
			}
			attach := func(note string) error {
				_, err := client.CreateOccurrence(ctx, &grafeaspb.CreateOccurrenceRequest{Parent: parent, Occurrence: read(t,
					`{"resource": {"uri": "https://r@`+digest+`"}, "noteName": "`+parent+`/notes/`+note+`", `+betaKinds[6].details+`}`, &grafeaspb.Occurrence{})})
				return err
			}
			list := func(req *grafeaspb.ListOccurrencesRequest) error {
				req.Parent = parent
				_, err := client.ListOccurrences(ctx, req).Next()
				return err
			}
			if err := errors.Join(create("a", `{`+betaKinds[6].note+`}`), attach("a")); err != nil {
				t.Fatal(err)
			}
			refused(t, create("a", `{`+betaKinds[6].note+`}`), codes.AlreadyExists)
			refused(t, create("b", `{}`), codes.InvalidArgument)
			refused(t, create("", `{`+betaKinds[6].note+`}`), codes.InvalidArgument)
			refused(t, attach("a"), codes.AlreadyExists)
			refused(t, client.DeleteNote(ctx, &grafeaspb.DeleteNoteRequest{Name: parent + "/notes/a"}), codes.FailedPrecondition)
			refused(t, client.DeleteNote(ctx, &grafeaspb.DeleteNoteRequest{Name: parent + "/notes/none"}), codes.NotFound)
			refused(t, list(&grafeaspb.ListOccurrencesRequest{Filter: `color="blue"`}), codes.InvalidArgument)
			refused(t, list(&grafeaspb.ListOccurrencesRequest{PageToken: "99"}), codes.InvalidArgument)
			_, err := client.GetNote(ctx, &grafeaspb.GetNoteRequest{Name: parent + "/notes/none"})
			refused(t, err, codes.NotFound)
			_, err = client.GetOccurrence(ctx, &grafeaspb.GetOccurrenceRequest{Name: parent + "/occurrences/none"})
			refused(t, err, codes.NotFound)
			_, err = client.UpdateNote(ctx, &grafeaspb.UpdateNoteRequest{Name: parent + "/notes/none", Note: &grafeaspb.Note{ShortDescription: "x"}})
			refused(t, err, codes.NotFound)
		})
	}
}

func TestGoogleClientsReadErrorsOfV1(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range v1Clients(t, g) {
		t.Run(name, func(t *testing.T) {
			ctx, parent := t.Context(), "projects/"+name
			create := func(body string) error {
				_, err := client.CreateNote(ctx, &v1.CreateNoteRequest{Parent: parent, NoteId: "a", Note: read(t, body, &v1.Note{})})
				return err
			}
			refused(t, create(`{}`), codes.InvalidArgument)
			if err := create(`{` + v1Kinds[6].note + `}`); err != nil {
				t.Fatal(err)
			}
			refused(t, create(`{`+v1Kinds[6].note+`}`), codes.AlreadyExists)
			attach := &v1.CreateOccurrenceRequest{Parent: parent, Occurrence: read(t,
				`{"resourceUri": "https://r@`+digest+`", "noteName": "`+parent+`/notes/a", `+v1Kinds[6].details+`}`, &v1.Occurrence{})}
			ok[*v1.Occurrence](t)(client.CreateOccurrence(ctx, attach))
			_, err := client.CreateOccurrence(ctx, attach)
			refused(t, err, codes.AlreadyExists)
			refused(t, client.DeleteNote(ctx, &v1.DeleteNoteRequest{Name: parent + "/notes/a"}), codes.FailedPrecondition)
			_, err = client.GetNote(ctx, &v1.GetNoteRequest{Name: parent + "/notes/none"})
			refused(t, err, codes.NotFound)
			_, err = client.ListOccurrences(ctx, &v1.ListOccurrencesRequest{Parent: parent, Filter: `color="blue"`}).Next()
			refused(t, err, codes.InvalidArgument)
		})
	}
}
