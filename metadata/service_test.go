package metadata_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

var (
	alice = metadata.Caller{Name: "alice"}
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func newService(t *testing.T, opts metadata.Options) *metadata.Service {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	if opts.Authorizer == nil {
		opts.Authorizer = metadata.InsecureAllowAll()
	}
	if opts.Clock == nil {
		opts.Clock = func() time.Time { return noon }
	}
	svc, err := metadata.NewService(t.Context(), store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

func attestationNote() *grafeas.Note {
	return &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}
}

func attestation(resource, payload string) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: resource,
		NoteName:    "projects/provider/notes/attester",
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: []byte(payload),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte("made for tests")}},
		}},
	}
}

func scanNote() *grafeas.Note {
	return &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantKind(t *testing.T, err error, kind metadata.Kind, text string) {
	t.Helper()
	if err == nil || metadata.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want one of kind %v with %q", err, kind, text)
	}
}

func TestServiceSetsWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	given := attestationNote()
	given.Name, given.Kind = "projects/evil/notes/other", grafeas.NoteKind_BUILD
	given.CreateTime, given.ExpirationTime = timestamppb.New(time.Time{}), timestamppb.New(noon)
	note := must[*grafeas.Note](t)(svc.CreateNote(t.Context(), alice, "projects/provider", "attester", given))
	want := attestationNote()
	want.Name, want.Kind = "projects/provider/notes/attester", grafeas.NoteKind_ATTESTATION
	want.CreateTime, want.UpdateTime, want.ExpirationTime = timestamppb.New(noon), timestamppb.New(noon), timestamppb.New(noon)
	if d := cmp.Diff(want, note, protocmp.Transform()); d != "" {
		t.Errorf("note (-want +got):\n%s", d)
	}
	if given.Name != "projects/evil/notes/other" {
		t.Error("the caller's message was changed")
	}

	o := attestation("https://r@"+digest, "x")
	o.Name, o.Kind = "projects/evil/occurrences/1", grafeas.NoteKind_BUILD
	created := must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, "projects/p", o))
	if created.Kind != grafeas.NoteKind_ATTESTATION || !strings.HasPrefix(created.Name, "projects/p/occurrences/") ||
		!created.CreateTime.AsTime().Equal(noon) || !created.UpdateTime.AsTime().Equal(noon) {
		t.Errorf("occurrence is %v", created)
	}
	got := must[*grafeas.Occurrence](t)(svc.GetOccurrence(t.Context(), alice, created.Name))
	if d := cmp.Diff(created, got, protocmp.Transform()); d != "" {
		t.Errorf("read occurrence (-created +got):\n%s", d)
	}
	got2 := must[*grafeas.Note](t)(svc.GetOccurrenceNote(t.Context(), alice, created.Name))
	if got2.Name != note.Name {
		t.Errorf("its note is %q", got2.Name)
	}
}

func TestServiceRefuses(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	ctx := t.Context()
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", "attester", attestationNote()))
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", "scan", scanNote()))
	must[*grafeas.Occurrence](t)(svc.CreateOccurrence(ctx, alice, "projects/p", attestation("https://r", "x")))
	note := func(parent, id string, n *grafeas.Note) error {
		_, err := svc.CreateNote(ctx, alice, parent, id, n)
		return err
	}
	occurrence := func(change func(*grafeas.Occurrence)) error {
		o := attestation("https://r", "y")
		change(o)
		_, err := svc.CreateOccurrence(ctx, alice, "projects/p", o)
		return err
	}
	batch := func(list ...*grafeas.Occurrence) error {
		_, err := svc.BatchCreateOccurrences(ctx, alice, "projects/p", list)
		return err
	}
	_, noOccurrence := svc.CreateOccurrence(ctx, alice, "projects/p", nil)
	_, noNotes := svc.BatchCreateNotes(ctx, alice, "projects/p", nil)
	_, slashInBatch := svc.BatchCreateNotes(ctx, alice, "projects/p", map[string]*grafeas.Note{"a/b": attestationNote(), "": attestationNote(), "ok": nil})
	_, existingInBatch := svc.BatchCreateNotes(ctx, alice, "projects/provider", map[string]*grafeas.Note{"new": attestationNote(), "attester": attestationNote()})
	_, newAfterBatch := svc.GetNote(ctx, alice, "projects/provider/notes/new")
	_, updateNote := svc.UpdateNote(ctx, alice, "projects/provider/notes/attester", func(*grafeas.Note) (*grafeas.Note, error) { return scanNote(), nil })
	_, updateOccurrence := svc.UpdateOccurrence(ctx, alice, "projects/p/occurrences/01890a5d-ac96-7000-8000-0123456789ab", nil)
	for _, test := range []struct {
		what string
		err  error
		kind metadata.Kind
		text string
	}{
		{"a parent that is none", note("p", "n", attestationNote()), metadata.InvalidArgument, `"projects/[PROJECT_ID]", got "p"`},
		{"no note id", note("projects/p", "", attestationNote()), metadata.InvalidArgument, "a noteId must be specified"},
		{"a slash in the note id", note("projects/p", "a/b", attestationNote()), metadata.InvalidArgument, "must not contain /"},
		{"no note", note("projects/p", "n", nil), metadata.InvalidArgument, "a note must be specified"},
		{"an invalid note", note("projects/p", "n", &grafeas.Note{}), metadata.InvalidArgument, "type is required"},
		{"a note that exists", note("projects/provider", "attester", scanNote()), metadata.AlreadyExists, `"projects/provider/notes/attester" already exists`},
		{"a note too large", note("projects/p", "n", &grafeas.Note{Type: attestationNote().Type, LongDescription: strings.Repeat("x", metadata.MaxMessageBytes)}), metadata.InvalidArgument, "a maximum of"},
		{"no occurrence", noOccurrence, metadata.InvalidArgument, "an occurrence must be specified"},
		{"a note that does not exist", occurrence(func(o *grafeas.Occurrence) { o.NoteName = "projects/p/notes/missing" }), metadata.NotFound, `"projects/p/notes/missing" does not exist`},
		{"a note name that is none", occurrence(func(o *grafeas.Occurrence) { o.NoteName = "missing" }), metadata.InvalidArgument, `got "missing"`},
		{"a note of another kind", occurrence(func(o *grafeas.Occurrence) { o.NoteName = "projects/provider/notes/scan" }), metadata.FailedPrecondition, "is of kind DISCOVERY"},
		{"an invalid occurrence", occurrence(func(o *grafeas.Occurrence) { o.ResourceUri = "" }), metadata.InvalidArgument, "resource_uri is required"},
		{"the same attestation", occurrence(func(o *grafeas.Occurrence) { o.GetAttestation().SerializedPayload = []byte("x") }), metadata.AlreadyExists, "already exists"},
		{"an empty batch", batch(), metadata.InvalidArgument, "at least one occurrence"},
		{"a batch too large", batch(make([]*grafeas.Occurrence, 1001)...), metadata.InvalidArgument, "a maximum of 1000"},
		{"an absent item of a batch", batch(attestation("r", "1"), nil), metadata.InvalidArgument, "occurrence 1"},
		{"invalid items of a batch", batch(&grafeas.Occurrence{NoteName: "projects/p/notes/n"}, attestation("", "2")), metadata.InvalidArgument, "occurrence 0: occurrence is invalid"},
		{"no notes", noNotes, metadata.InvalidArgument, "at least one note"},
		{"ids in a batch of notes", slashInBatch, metadata.InvalidArgument, "no notes were created"},
		{"an existing note in a batch", existingInBatch, metadata.AlreadyExists, "projects/provider/notes/attester"},
		{"a note of a refused batch", newAfterBatch, metadata.NotFound, "projects/provider/notes/new"},
		{"deleting a note in use", svc.DeleteNote(ctx, alice, "projects/provider/notes/attester"), metadata.FailedPrecondition, "has occurrences"},
		{"deleting what is not there", svc.DeleteOccurrence(ctx, alice, "projects/p/occurrences/x"), metadata.NotFound, "does not exist"},
		{"making a note one of another kind", updateNote, metadata.InvalidArgument, "is of kind ATTESTATION, which an update cannot change to DISCOVERY"},
		{"updating what is not there", updateOccurrence, metadata.NotFound, "does not exist"},
	} {
		if test.err == nil || metadata.KindOf(test.err) != test.kind || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: got error %v, want one of kind %v with %q", test.what, test.err, test.kind, test.text)
		}
	}
	if got := svc.Head(); got != 3 {
		t.Errorf("head is %d, want 3: what was refused must not be stored", got)
	}
}

// fill stores attestations of 10 images and scans of half of them.
func fill(t *testing.T, svc *metadata.Service) {
	t.Helper()
	must[*grafeas.Note](t)(svc.CreateNote(t.Context(), alice, "projects/provider", "attester", attestationNote()))
	must[*grafeas.Note](t)(svc.CreateNote(t.Context(), alice, "projects/goog-analysis", "PACKAGE_VULNERABILITY", scanNote()))
	var list []*grafeas.Occurrence
	for i := range 10 {
		uri := fmt.Sprintf("https://gcr.io/p/app%d@%s", i, digest)
		list = append(list, attestation(uri, fmt.Sprint(i)))
		if i%2 == 0 {
			list = append(list, &grafeas.Occurrence{
				ResourceUri: strings.TrimPrefix(uri, "https://"),
				NoteName:    "projects/goog-analysis/notes/PACKAGE_VULNERABILITY",
				Details:     &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{}},
			})
		}
	}
	must[[]*grafeas.Occurrence](t)(svc.BatchCreateOccurrences(t.Context(), alice, "projects/p", list))
}

func TestListing(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	fill(t, svc)
	for _, test := range []struct {
		filter string
		want   int
	}{
		{"", 15},
		{`kind="ATTESTATION"`, 10},
		{`resourceUrl="https://gcr.io/p/app4@` + digest + `"`, 2},
		{`resourceUrl="gcr.io/p/app4@` + digest + `" AND kind="DISCOVERY"`, 1},
		{`resourceUrl="https://gcr.io/p/app4@` + digest + `" AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`, 1},
		{`resourceUrl="https://gcr.io/p/app1@` + digest + `" OR resourceUrl="https://gcr.io/p/app2@` + digest + `"`, 3},
		{`has_suffix(resourceUrl, "` + digest + `") AND kind="ATTESTATION"`, 10},
		{`noteName="projects/goog-analysis/notes/PACKAGE_VULNERABILITY"`, 5},
		{`noteName="projects/provider/notes/attester" AND noteId="PACKAGE_VULNERABILITY"`, 0},
		{`NOT kind="ATTESTATION"`, 5},
		{`kind="BUILD"`, 0},
	} {
		for _, size := range []int32{1, 4, 0, 1000} {
			names := listAll(t, svc, test.filter, size)
			if len(names) != test.want {
				t.Errorf("%s in pages of %d: %d occurrences, want %d", test.filter, size, len(names), test.want)
			}
			if !slices.IsSortedFunc(names, func(a, b string) int { return strings.Compare(b, a) }) {
				t.Errorf("%s: not newest first, or not each once: %q", test.filter, names)
			}
		}
	}
	page := must[metadata.OccurrencePage](t)(svc.ListNoteOccurrences(t.Context(), alice,
		metadata.ListRequest{Parent: "projects/provider/notes/attester", Filter: `kind="ATTESTATION"`}))
	if len(page.Occurrences) != 10 || page.NextPageToken != "" {
		t.Errorf("%d occurrences of the note, token %q", len(page.Occurrences), page.NextPageToken)
	}
	notes := must[metadata.NotePage](t)(svc.ListNotes(t.Context(), alice,
		metadata.ListRequest{Parent: "projects/provider", Filter: `kind="ATTESTATION"`}))
	if len(notes.Notes) != 1 {
		t.Errorf("%d notes, want 1", len(notes.Notes))
	}
}

func listAll(t *testing.T, svc *metadata.Service, filter string, size int32) []string {
	t.Helper()
	req := metadata.ListRequest{Parent: "projects/p", Filter: filter, PageSize: size}
	var names []string
	for {
		page := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, req))
		for _, o := range page.Occurrences {
			names = append(names, o.GetName())
		}
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			return names
		}
	}
}

func TestListingRefuses(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	fill(t, svc)
	base := metadata.ListRequest{Parent: "projects/p", Filter: `kind="ATTESTATION"`, PageSize: 2}
	token := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, base)).NextPageToken
	for what, change := range map[string]func(*metadata.ListRequest){
		"a negative page size":    func(r *metadata.ListRequest) { r.PageSize = -1 },
		"a page size too large":   func(r *metadata.ListRequest) { r.PageSize = 1001 },
		"a filter of its own":     func(r *metadata.ListRequest) { r.Filter = "filters_are_yet_to_be_implemented" },
		"a token that was forged": func(r *metadata.ListRequest) { r.PageToken = "20" },
		"a token of another list": func(r *metadata.ListRequest) { r.PageToken, r.Parent = token, "projects/q" },
		"a token of a filter":     func(r *metadata.ListRequest) { r.PageToken, r.Filter = token, "" },
		"no parent":               func(r *metadata.ListRequest) { r.Parent = "" },
	} {
		req := base
		change(&req)
		_, err := svc.ListOccurrences(t.Context(), alice, req)
		if metadata.KindOf(err) != metadata.InvalidArgument {
			t.Errorf("%s: got error %v", what, err)
		}
	}
	_, err := svc.ListNoteOccurrences(t.Context(), alice, metadata.ListRequest{Parent: "projects/p/notes/missing"})
	wantKind(t, err, metadata.NotFound, "projects/p/notes/missing")
	// A token may be used with another page size.
	req := base
	req.PageToken, req.PageSize = token, 100
	if page := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, req)); len(page.Occurrences) != 8 {
		t.Errorf("%d occurrences after the first two, want 8", len(page.Occurrences))
	}
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	type grant struct {
		permission metadata.Permission
		resource   string
	}
	granted := map[grant]bool{}
	var log bytes.Buffer
	svc := newService(t, metadata.Options{
		Authorizer: metadata.AuthorizerFunc(func(_ context.Context, c metadata.Caller, p metadata.Permission, r string) error {
			if c == alice && granted[grant{p, r}] {
				return nil
			}
			return errors.New("no such grant")
		}),
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	ctx := t.Context()
	const note = "projects/provider/notes/attester"
	granted[grant{metadata.NotesCreate, "projects/provider"}] = true
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", "attester", attestationNote()))
	granted[grant{metadata.OccurrencesCreate, "projects/p"}] = true
	_, err := svc.CreateOccurrence(ctx, alice, "projects/p", attestation("r", "x"))
	wantKind(t, err, metadata.PermissionDenied, `caller "alice" needs notes.attachOccurrence on "`+note+`"`)
	granted[grant{metadata.NotesAttachOccurrence, note}] = true
	_, err = svc.CreateOccurrence(ctx, metadata.Caller{Name: "mallory"}, "projects/p", attestation("r", "x"))
	wantKind(t, err, metadata.PermissionDenied, `caller "mallory" needs occurrences.create on "projects/p"`)
	o := must[*grafeas.Occurrence](t)(svc.CreateOccurrence(ctx, alice, "projects/p", attestation("r", "x")))

	// Every other method asks, and takes the grant that belongs to it.
	granted = map[grant]bool{}
	list := func(parent string) metadata.ListRequest { return metadata.ListRequest{Parent: parent} }
	for _, test := range []struct {
		grants []grant
		call   func() error
	}{
		{[]grant{{metadata.NotesGet, note}}, func() error { _, err := svc.GetNote(ctx, alice, note); return err }},
		{[]grant{{metadata.NotesList, "projects/provider"}}, func() error { _, err := svc.ListNotes(ctx, alice, list("projects/provider")); return err }},
		{[]grant{{metadata.NotesListOccurrences, note}}, func() error { _, err := svc.ListNoteOccurrences(ctx, alice, list(note)); return err }},
		{[]grant{{metadata.OccurrencesList, "projects/p"}}, func() error { _, err := svc.ListOccurrences(ctx, alice, list("projects/p")); return err }},
		{[]grant{{metadata.OccurrencesGet, o.Name}}, func() error { _, err := svc.GetOccurrence(ctx, alice, o.Name); return err }},
		{[]grant{{metadata.OccurrencesGet, o.Name}}, func() error { _, err := svc.GetOccurrenceNote(ctx, alice, o.Name); return err }},
		{[]grant{{metadata.OccurrencesCreate, "projects/p"}, {metadata.NotesAttachOccurrence, note}}, func() error {
			_, err := svc.BatchCreateOccurrences(ctx, alice, "projects/p", []*grafeas.Occurrence{attestation("r", fmt.Sprint(len(granted)))})
			return err
		}},
		{[]grant{{metadata.NotesCreate, "projects/provider"}}, func() error {
			_, err := svc.BatchCreateNotes(ctx, alice, "projects/provider", map[string]*grafeas.Note{fmt.Sprint("n", len(granted)): attestationNote()})
			return err
		}},
		{[]grant{{metadata.OccurrencesDelete, o.Name}, {metadata.NotesAttachOccurrence, note}}, func() error { return svc.DeleteOccurrence(ctx, alice, o.Name) }},
		{[]grant{{metadata.NotesDelete, "projects/provider/notes/n1"}}, func() error { return svc.DeleteNote(ctx, alice, "projects/provider/notes/n1") }},
	} {
		granted = map[grant]bool{}
		for _, g := range test.grants {
			wantKind(t, test.call(), metadata.PermissionDenied, string(g.permission))
			granted[g] = true
		}
		if err := test.call(); err != nil {
			t.Errorf("with %v: %v", test.grants, err)
		}
	}
	granted[grant{metadata.AuditAppend, "projects/p"}] = true
	for method, reads := range map[string]bool{"AppendRecords": false, "ReportIncidents": true} {
		if _, err := metadata.Do(ctx, svc, alice, method, "projects/p", func(c *metadata.Call) (struct{}, error) {
			if reads {
				c.Reads()
			}
			return struct{}{}, c.Need(ctx, metadata.AuditAppend, "projects/p")
		}); err != nil {
			t.Error(err)
		}
		if logged := strings.Contains(log.String(), "method="+method); logged == reads {
			t.Errorf("%s: logged at level Info: %v", method, logged)
		}
	}
	for _, want := range []string{
		"level=INFO msg=\"metadata call\" method=CreateNote caller=alice resource=projects/provider",
		"level=WARN msg=\"metadata call failed\" method=CreateOccurrence caller=mallory resource=projects/p",
		"kind=PERMISSION_DENIED",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log.String(), "msg=\"metadata call\" method=GetNote") {
		t.Error("a read is logged at level Info")
	}
}

func TestAuthorizersOwnKindStands(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{Authorizer: metadata.AuthorizerFunc(
		func(context.Context, metadata.Caller, metadata.Permission, string) error {
			return metadata.Errorf(metadata.Unavailable, "the directory is down")
		})})
	_, err := svc.GetNote(t.Context(), alice, "projects/p/notes/n")
	wantKind(t, err, metadata.Unavailable, "the directory is down")
}

func TestNewServiceRefusesToTrustByDefault(t *testing.T) {
	t.Parallel()
	if _, err := metadata.NewService(t.Context(), memory.New(), metadata.Options{}); err == nil {
		t.Error("a service without an authorizer was made")
	}
	if _, err := metadata.NewService(t.Context(), nil, metadata.Options{Authorizer: metadata.InsecureAllowAll()}); err == nil {
		t.Error("a service without a store was made")
	}
}

func TestSnapshotThenFeed(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	fill(t, svc)
	const note = "projects/provider/notes/attester"
	live := map[string]bool{}
	asOf, err := svc.NoteOccurrences(t.Context(), note, func(o *grafeas.Occurrence) error {
		live[o.GetName()] = true
		if len(live) == 3 { // a write while the snapshot is read
			must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, "projects/other", attestation("new", "new")))
		}
		return nil
	})
	if err != nil || asOf != 17 {
		t.Fatalf("snapshot as of %d, %v; want 17", asOf, err)
	}
	if err := svc.Wait(t.Context(), asOf); err != nil {
		t.Fatal(err)
	}
	changes := must[[]metadata.Change](t)(svc.Changes(t.Context(), asOf, 100))
	for _, c := range changes {
		live[c.Occurrence.GetName()] = true
	}
	if len(live) != 11 || changes[len(changes)-1].Seq != svc.Head() {
		t.Errorf("%d occurrences are known, want 11", len(live))
	}
	stop := errors.New("stop")
	if _, err := svc.NoteOccurrences(t.Context(), note, func(*grafeas.Occurrence) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got error %v, want the callback's", err)
	}
	if _, err := svc.NoteOccurrences(t.Context(), "nonsense", nil); metadata.KindOf(err) != metadata.InvalidArgument {
		t.Errorf("got error %v for a name that is none", err)
	}
}

// TestSnapshotOfAProject reads what is filed in a project and its locations, and no
// more, with and without what scans found.
func TestSnapshotOfAProject(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	fill(t, svc) // ten attestations and five discoveries in p
	for _, parent := range []string{"projects/p/locations/eu", "projects/pp", "projects/pp/locations/p"} {
		must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, parent, attestation("https://r@"+digest, parent)))
		must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, parent, &grafeas.Occurrence{
			ResourceUri: "https://r@" + digest, NoteName: "projects/goog-analysis/notes/PACKAGE_VULNERABILITY",
			Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{}},
		}))
	}
	parents := map[string]int{}
	asOf, err := svc.ProjectOccurrences(t.Context(), "p", metadata.KindSet(grafeas.NoteKind_ATTESTATION), func(o *grafeas.Occurrence) error {
		if o.GetKind() != grafeas.NoteKind_ATTESTATION {
			t.Errorf("got one of kind %v", o.GetKind())
		}
		parent, _, _ := strings.Cut(o.GetName(), "/occurrences/")
		parents[parent]++
		return nil
	})
	if err != nil || asOf != svc.Head() {
		t.Errorf("snapshot as of %d, %v; want %d", asOf, err, svc.Head())
	}
	if d := cmp.Diff(map[string]int{"projects/p": 10, "projects/p/locations/eu": 1}, parents); d != "" {
		t.Errorf("occurrences (-want +got):\n%s", d)
	}
	clear(parents)
	asOf, err = svc.ProjectSummaries(t.Context(), "p", func(s *metadata.Summary) error {
		one, err := svc.ResourceSummary(t.Context(), s.Parent, s.Resource)
		if d := cmp.Diff(s, one); err != nil || d != "" {
			t.Errorf("the summary alone: %v (-listed +alone):\n%s", err, d)
		}
		parents[s.Parent.String()] += len(s.Scans)
		return nil
	})
	if err != nil || asOf != svc.Head() {
		t.Errorf("summaries as of %d, %v; want %d", asOf, err, svc.Head())
	}
	if d := cmp.Diff(map[string]int{"projects/p": 5, "projects/p/locations/eu": 1}, parents); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	if s, err := svc.ResourceSummary(t.Context(), metadata.Parent{Project: "p"}, metadata.KeyOf("r@"+digest)); err != nil || !s.Empty() {
		t.Errorf("of a resource of another parent: %+v, %v", s, err)
	}
	stop := errors.New("stop")
	if _, err := svc.ProjectOccurrences(t.Context(), "p", metadata.AllKinds, func(*grafeas.Occurrence) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got error %v, want the callback's", err)
	}
	if _, err := svc.ProjectSummaries(t.Context(), "p", func(*metadata.Summary) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got error %v, want the callback's", err)
	}
}

func TestLongScansEndInShortPages(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	must[*grafeas.Note](t)(svc.CreateNote(t.Context(), alice, "projects/provider", "attester", attestationNote()))
	// One match, and above it more rows than one call looks at.
	must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, "projects/p", attestation("needle", "x")))
	for n := range 11 {
		list := make([]*grafeas.Occurrence, metadata.MaxBatch)
		for i := range list {
			list[i] = attestation("hay", fmt.Sprint(n, i))
		}
		must[[]*grafeas.Occurrence](t)(svc.BatchCreateOccurrences(t.Context(), alice, "projects/p", list))
	}
	req := metadata.ListRequest{Parent: "projects/p", Filter: `has_prefix(resourceUrl, "needle")`}
	first := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, req))
	if len(first.Occurrences) != 0 || first.NextPageToken == "" {
		t.Fatalf("first page has %d occurrences and token %q; want none and a token", len(first.Occurrences), first.NextPageToken)
	}
	req.PageToken = first.NextPageToken
	second := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, req))
	if len(second.Occurrences) != 1 || second.NextPageToken != "" {
		t.Errorf("second page has %d occurrences and token %q; want the needle", len(second.Occurrences), second.NextPageToken)
	}
}

func TestPagesFitWhatClientsAccept(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	must[*grafeas.Note](t)(svc.CreateNote(t.Context(), alice, "projects/provider", "attester", attestationNote()))
	for i := range 5 {
		o := attestation("r", fmt.Sprint(i)+strings.Repeat("x", metadata.MaxPageBytes/2))
		must[*grafeas.Occurrence](t)(svc.CreateOccurrence(t.Context(), alice, "projects/p", o))
	}
	for _, filter := range []string{"", `kind="ATTESTATION"`, `has_prefix(resourceUrl, "r")`} {
		req := metadata.ListRequest{Parent: "projects/p", PageSize: 1000, Filter: filter}
		page := must[metadata.OccurrencePage](t)(svc.ListOccurrences(t.Context(), alice, req))
		if len(page.Occurrences) != 1 || page.NextPageToken == "" {
			t.Errorf("%d occurrences on the first page, token %q; want one and more", len(page.Occurrences), page.NextPageToken)
		}
		if got := len(listAll(t, svc, filter, 1000)); got != 5 {
			t.Errorf("%d occurrences in all, want 5", got)
		}
	}
}

func TestBatchesFitWhatClientsAccept(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{})
	ctx := t.Context()
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", "attester", attestationNote()))
	// Two of half the limit each fit as they are sent, and not with their names.
	half := strings.Repeat("x", metadata.MaxBatchBytes/2-130)
	batch := []*grafeas.Occurrence{attestation("r", "1"+half), attestation("r", "2"+half)}
	if n := proto.Size(&grafeas.BatchCreateOccurrencesRequest{Parent: "projects/p", Occurrences: batch}); n > metadata.MaxBatchBytes {
		t.Fatalf("the batch has %d bytes already", n)
	}
	_, err := svc.BatchCreateOccurrences(ctx, alice, "projects/p", batch)
	wantKind(t, err, metadata.InvalidArgument, "send smaller batches")
	if got := listAll(t, svc, "", 10); len(got) != 0 {
		t.Errorf("%d occurrences were created all the same", len(got))
	}
	big := attestationNote()
	big.LongDescription = strings.Repeat("x", metadata.MaxBatchBytes/2)
	_, err = svc.BatchCreateNotes(ctx, alice, "projects/p", map[string]*grafeas.Note{"a": big, "b": big})
	wantKind(t, err, metadata.InvalidArgument, "send smaller batches")
	_, err = svc.GetNote(ctx, alice, "projects/p/notes/a")
	wantKind(t, err, metadata.NotFound, "")
}
