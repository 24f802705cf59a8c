package metadatatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	containeranalysis "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	projects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
)

// RunAPI tests a whole service as clients of Grafeas v1 see it over gRPC. The
// service that connect connects to must be new, empty, and let everybody do
// everything.
func RunAPI(t *testing.T, connect func(t testing.TB) grpc.ClientConnInterface) {
	for _, test := range []struct {
		name string
		run  func(*api)
	}{
		{"an update without a mask replaces what can change", (*api).updateWhole},
		{"an update with a mask changes what it names", (*api).updateMasked},
		{"what cannot change is refused", (*api).updateRefused},
		{"concurrent updates of different fields are all kept", (*api).updateConcurrently},
		{"an updated attestation is found, and fed, as it is now", (*api).updateFound},
		{"a batch is created whole, or says what is wrong with each item", (*api).batches},
		{"an attestation is created once", (*api).repetition},
		{"a note must exist, be of the kind, and stay while it is in use", (*api).noteRules},
		{"projects and locations do not see each other", (*api).isolation},
		{"pages follow each other, and their tokens serve their list only", (*api).paging},
		{"the filters of known clients find what they mean", (*api).filters},
		{"a filter is applied or refused, with its position", (*api).badFilters},
		{"the kind is always filled in", (*api).kinds},
		{"projects are created, listed and deleted", (*api).projectLife},
		{"access policies are read, set and tested", (*api).policies},
		{"vulnerabilities are counted by resource and severity", (*api).vulnerabilities},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t)
			test.run(&api{
				T: t, ctx: t.Context(), GrafeasClient: grafeas.NewGrafeasClient(conn),
				projectClient: projects.NewProjectsClient(conn), companion: containeranalysis.NewContainerAnalysisClient(conn),
			})
		})
	}
}

// An api is a test of one service.
type api struct {
	*testing.T
	ctx context.Context
	grafeas.GrafeasClient
	projectClient projects.ProjectsClient
	companion     containeranalysis.ContainerAnalysisClient
}

// want checks the code of an error, and that its text holds the parts.
func (a *api) want(err error, code codes.Code, parts ...string) {
	a.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		a.Fatalf("got code %v (%s), want %v", st.Code(), st.Message(), code)
	}
	for _, part := range parts {
		if !strings.Contains(st.Message(), part) {
			a.Errorf("the error %q lacks %q", st.Message(), part)
		}
	}
}

func ok[T any](a *api, v T, err error) T {
	a.Helper()
	a.want(err, codes.OK)
	return v
}

func (a *api) note(parent, id string, n *grafeas.Note) *grafeas.Note {
	a.Helper()
	created, err := a.CreateNote(a.ctx, &grafeas.CreateNoteRequest{Parent: parent, NoteId: id, Note: n})
	return ok(a, created, err)
}

func (a *api) occurrence(parent string, o *grafeas.Occurrence) *grafeas.Occurrence {
	a.Helper()
	created, err := a.CreateOccurrence(a.ctx, &grafeas.CreateOccurrenceRequest{Parent: parent, Occurrence: o})
	return ok(a, created, err)
}

func (a *api) updateNote(n *grafeas.Note, paths ...string) (*grafeas.Note, error) {
	req := &grafeas.UpdateNoteRequest{Name: "projects/provider/notes/n", Note: n}
	if paths != nil {
		req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
	}
	return a.UpdateNote(a.ctx, req)
}

const (
	apiProject = "projects/p"
	apiNote    = "projects/provider/notes/n"
	apiDigest  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	apiImage   = "https://r.example/app@" + apiDigest
)

func attestationType() *grafeas.Note_Attestation {
	return &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: "QA"}}}
}

func discoveryType() *grafeas.Note_Discovery {
	return &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}
}

// apiAttestation is of the note n.
func apiAttestation(uri, payload string) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: uri, NoteName: apiNote,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: []byte(payload),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte("made for tests")}},
		}},
	}
}

// apiFinding is of the note of that id, and apiScan of the note "scan".
func apiFinding(uri, id string, severity grafeas.Severity, fixed bool) *grafeas.Occurrence {
	fix := &grafeas.Version{Kind: grafeas.Version_MAXIMUM}
	if fixed {
		fix = &grafeas.Version{Kind: grafeas.Version_NORMAL, Name: "2"}
	}
	return &grafeas.Occurrence{
		ResourceUri: uri, NoteName: "projects/goog-vulnz/notes/" + id,
		Details: &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{
			EffectiveSeverity: severity,
			PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{{
				AffectedCpeUri: "cpe:/o:debian", AffectedPackage: "openssl", AffectedVersion: &grafeas.Version{Kind: grafeas.Version_NORMAL, Name: "1"},
				FixedCpeUri: "cpe:/o:debian", FixedPackage: "openssl", FixedVersion: fix,
			}},
		}},
	}
}

func apiScan(uri string) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: uri, NoteName: "projects/goog-analysis/notes/PACKAGE_VULNERABILITY",
		Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{
			AnalysisStatus: grafeas.DiscoveryOccurrence_FINISHED_SUCCESS, Cpe: "cpe:/o:debian",
		}},
	}
}

func vulnerabilityType() *grafeas.Note_Vulnerability {
	return &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{
		Details: []*grafeas.VulnerabilityNote_Detail{{AffectedCpeUri: "cpe:/o:debian", AffectedPackage: "openssl"}},
	}}
}

func (a *api) updateWhole() {
	created := a.note("projects/provider", "n", &grafeas.Note{
		ShortDescription: "short", LongDescription: "long", RelatedUrl: []*grafeas.RelatedUrl{{Url: "u"}}, Type: attestationType(),
	})
	patch := &grafeas.Note{ShortDescription: "new", CreateTime: timestamppb.New(epoch.AsTime()), Kind: grafeas.NoteKind_BUILD, Name: "projects/x/notes/y"}
	got, err := a.updateNote(patch)
	ok(a, got, err)
	want := &grafeas.Note{
		Name: apiNote, Kind: grafeas.NoteKind_ATTESTATION, ShortDescription: "new", Type: attestationType(),
		CreateTime: created.GetCreateTime(), UpdateTime: got.GetUpdateTime(),
	}
	diff(a, want, got)
	if !got.GetUpdateTime().AsTime().After(created.GetUpdateTime().AsTime()) {
		a.Errorf("updated at %v, created at %v", got.GetUpdateTime().AsTime(), created.GetUpdateTime().AsTime())
	}
	read, err := a.GetNote(a.ctx, &grafeas.GetNoteRequest{Name: apiNote})
	diff(a, want, ok(a, read, err))

	o := a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	updated, err := a.UpdateOccurrence(a.ctx, &grafeas.UpdateOccurrenceRequest{Name: o.GetName(), Occurrence: &grafeas.Occurrence{Remediation: "do"}})
	ok(a, updated, err)
	o.Remediation, o.UpdateTime = "do", updated.GetUpdateTime()
	diff(a, o, updated)
}

func (a *api) updateMasked() {
	want := a.note("projects/provider", "n", &grafeas.Note{
		ShortDescription: "short", LongDescription: "long", Type: attestationType(),
		RelatedNoteNames: []string{"projects/a/notes/b"},
	})
	for _, test := range []struct {
		paths  []string
		patch  *grafeas.Note
		change func(*grafeas.Note)
	}{
		{[]string{"short_description"}, &grafeas.Note{ShortDescription: "1", LongDescription: "no"}, func(n *grafeas.Note) { n.ShortDescription = "1" }},
		{[]string{"shortDescription", "longDescription"}, &grafeas.Note{ShortDescription: "2"}, func(n *grafeas.Note) { n.ShortDescription, n.LongDescription = "2", "" }},
		{[]string{"related_note_names"}, &grafeas.Note{RelatedNoteNames: []string{"c", "d"}}, func(n *grafeas.Note) { n.RelatedNoteNames = []string{"c", "d"} }},
		{[]string{"attestation.hint.human_readable_name"}, &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: "dev"}}}},
			func(n *grafeas.Note) { n.GetAttestation().Hint.HumanReadableName = "dev" }},
		{[]string{"attestation.hint"}, &grafeas.Note{}, func(n *grafeas.Note) { n.GetAttestation().Hint = nil }},
		// What the service sets may be named, to no effect.
		{[]string{"name", "kind", "create_time", "updateTime", "long_description"}, &grafeas.Note{Name: "x", Kind: 3, LongDescription: "3"}, func(n *grafeas.Note) { n.LongDescription = "3" }},
		{[]string{"expiration_time.seconds"}, &grafeas.Note{ExpirationTime: &timestamppb.Timestamp{Seconds: 9, Nanos: 9}}, func(n *grafeas.Note) { n.ExpirationTime = &timestamppb.Timestamp{Seconds: 9} }},
		{[]string{"*"}, &grafeas.Note{ShortDescription: "4"}, func(n *grafeas.Note) {
			n.ShortDescription, n.LongDescription, n.RelatedNoteNames, n.ExpirationTime = "4", "", nil, nil
		}},
	} {
		got, err := a.updateNote(test.patch, test.paths...)
		ok(a, got, err)
		test.change(want)
		want.UpdateTime = got.GetUpdateTime()
		diff(a, want, got)
	}
}

func (a *api) updateRefused() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	a.note("projects/provider", "other", &grafeas.Note{Type: attestationType()})
	o := a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	secret := &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}
	for _, test := range []struct {
		paths []string
		patch *grafeas.Note
		text  string
	}{
		{[]string{"nope"}, &grafeas.Note{}, `"nope"`},
		{[]string{""}, &grafeas.Note{}, `has no field ""`},
		{[]string{"short_description.x"}, &grafeas.Note{}, `"short_description"`},
		{[]string{"related_url.url"}, &grafeas.Note{}, "name it alone"},
		{[]string{"expiration_time.nope"}, &grafeas.Note{}, `"nope"`},
		{[]string{"*", "short_description"}, &grafeas.Note{}, `"*"`},
		{[]string{"secret"}, &grafeas.Note{Type: secret}, "which an update cannot change"},
		{nil, &grafeas.Note{Type: secret}, "which an update cannot change"},
		{[]string{"attestation"}, &grafeas.Note{}, "type is required"},
		{[]string{"attestation.hint.human_readable_name"}, &grafeas.Note{}, "human_readable_name is required"},
		{slices.Repeat([]string{"short_description"}, 2000), &grafeas.Note{}, "2000 paths"},
	} {
		_, err := a.updateNote(test.patch, test.paths...)
		a.want(err, codes.InvalidArgument, test.text)
	}
	for _, test := range []struct {
		path  string
		patch *grafeas.Occurrence
		text  string
	}{
		{"resource_uri", &grafeas.Occurrence{ResourceUri: "other"}, "immutable"},
		{"note_name", &grafeas.Occurrence{NoteName: "projects/provider/notes/other"}, "immutable"},
		{"note_name", &grafeas.Occurrence{}, "immutable"},
		{"", &grafeas.Occurrence{NoteName: "projects/provider/notes/other"}, "immutable"},
		{"attestation.serialized_payload", &grafeas.Occurrence{}, "serialized_payload"},
	} {
		req := &grafeas.UpdateOccurrenceRequest{Name: o.GetName(), Occurrence: test.patch}
		if test.path != "" {
			req.UpdateMask = &fieldmaskpb.FieldMask{Paths: []string{test.path}}
		}
		_, err := a.UpdateOccurrence(a.ctx, req)
		a.want(err, codes.InvalidArgument, test.text)
	}
	_, err := a.UpdateOccurrence(a.ctx, &grafeas.UpdateOccurrenceRequest{Name: o.GetName()})
	a.want(err, codes.InvalidArgument, "an occurrence must be specified")
	_, err = a.UpdateNote(a.ctx, &grafeas.UpdateNoteRequest{Name: "projects/provider/notes/missing", Note: &grafeas.Note{}})
	a.want(err, codes.NotFound)
	read, err := a.GetOccurrence(a.ctx, &grafeas.GetOccurrenceRequest{Name: o.GetName()})
	diff(a, o, ok(a, read, err))
}

func (a *api) updateConcurrently() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	const rounds = 20
	var group sync.WaitGroup
	for _, path := range []string{"short_description", "long_description"} {
		group.Go(func() {
			for i := range rounds {
				text := fmt.Sprint(i)
				if _, err := a.updateNote(&grafeas.Note{ShortDescription: text, LongDescription: text}, path); err != nil {
					a.Error(err)
				}
			}
		})
	}
	group.Wait()
	n, err := a.GetNote(a.ctx, &grafeas.GetNoteRequest{Name: apiNote})
	ok(a, n, err)
	if last := fmt.Sprint(rounds - 1); n.GetShortDescription() != last || n.GetLongDescription() != last {
		a.Errorf("descriptions are %q and %q, want %q", n.GetShortDescription(), n.GetLongDescription(), last)
	}
}

func (a *api) updateFound() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	o := a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	updated, err := a.UpdateOccurrence(a.ctx, &grafeas.UpdateOccurrenceRequest{
		Name: o.GetName(), Occurrence: apiAttestation(apiImage, "2"), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"attestation"}},
	})
	ok(a, updated, err)
	diff(a, []*grafeas.Occurrence{updated}, a.find(apiProject, `resourceUrl="`+apiImage+`"`))
	// What it said is free to be said again, and what it says is taken.
	a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	_, err = a.CreateOccurrence(a.ctx, &grafeas.CreateOccurrenceRequest{Parent: apiProject, Occurrence: apiAttestation(apiImage, "2")})
	a.want(err, codes.AlreadyExists)
}
