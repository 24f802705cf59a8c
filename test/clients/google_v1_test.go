package clients

import (
	"fmt"
	"strings"
	"testing"

	containeranalysis "cloud.google.com/go/containeranalysis/apiv1"
	grafeas "cloud.google.com/go/grafeas/apiv1"
	"google.golang.org/api/iterator"
	summary "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"
	v1 "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// v1Clients are the two ways to get Google's client of v1: its own constructor,
// and that of Container Analysis.
func v1Clients(t *testing.T, g *gatehouse) map[string]*grafeas.Client {
	t.Helper()
	own := ok[*grafeas.Client](t)(grafeas.NewClient(t.Context(), g.overGRPC()...))
	t.Cleanup(func() { _ = own.Close() })
	analysis := ok[*containeranalysis.Client](t)(containeranalysis.NewClient(t.Context(), g.overGRPC()...))
	t.Cleanup(func() { _ = analysis.Close() })
	return map[string]*grafeas.Client{"grafeas": own, "containeranalysis": analysis.GetGrafeasClient()}
}

// pages reads a list to its end as a program does that shows pages, and returns
// how many items each page had.
func pages[T any](t *testing.T, it iterator.Pageable, size int) (all []T, sizes []int) {
	t.Helper()
	pager := iterator.NewPager(it, size, "")
	for {
		var page []T
		token, err := pager.NextPage(&page)
		if err != nil {
			t.Fatal(err)
		}
		all, sizes = append(all, page...), append(sizes, len(page))
		if token == "" {
			return all, sizes
		}
	}
}

// drain reads a list to its end one by one.
func drain[T any](t *testing.T, next func() (T, error)) []T {
	t.Helper()
	var all []T
	for {
		item, err := next()
		if err == iterator.Done {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
}

// Notes and occurrences of each kind that Google's package for v1 has.
var v1Kinds = []struct{ kind, note, details string }{
	{"VULNERABILITY", `"vulnerability": {"severity": "HIGH", "cvssScore": 7.5, "details": [{"affectedCpeUri": "cpe:/o:debian:11", "affectedPackage": "p"}]}`,
		`"vulnerability": {"severity": "HIGH", "effectiveSeverity": "HIGH", "packageIssue": [{"affectedCpeUri": "cpe:/o:debian:11", "affectedPackage": "p", "affectedVersion": {"kind": "MINIMUM"}, "fixedVersion": {"kind": "MAXIMUM"}}]}`},
	{"BUILD", `"build": {"builderVersion": "1"}`, `"build": {"provenance": {"id": "b", "creator": "ci@example.com"}, "provenanceBytes": "{}"}`},
	{"IMAGE", `"image": {"resourceUrl": "https://r/base", "fingerprint": {"v1Name": "n", "v2Blob": ["b"]}}`,
		`"image": {"fingerprint": {"v1Name": "n", "v2Blob": ["b"]}, "layerInfo": [{"directive": "RUN", "arguments": "x"}]}`},
	{"PACKAGE", `"package": {"name": "p", "distribution": [{"cpeUri": "cpe:/o:debian:11"}]}`,
		`"package": {"name": "p", "location": [{"cpeUri": "cpe:/o:debian:11", "version": {"kind": "NORMAL", "name": "1"}}]}`},
	{"DEPLOYMENT", `"deployment": {"resourceUri": ["https://r"]}`, `"deployment": {"deployTime": "2026-01-02T03:04:05Z", "platform": "GKE"}`},
	{"DISCOVERY", `"discovery": {"analysisKind": "VULNERABILITY"}`, `"discovery": {"analysisStatus": "FINISHED_SUCCESS", "continuousAnalysis": "ACTIVE"}`},
	{"ATTESTATION", `"attestation": {"hint": {"humanReadableName": "qa"}}`, `"attestation": {"serializedPayload": "cA==", "signatures": [{"signature": "cw==", "publicKeyId": "k"}]}`},
	{"UPGRADE", `"upgrade": {"package": "p", "version": {"kind": "NORMAL", "name": "2"}}`, `"upgrade": {"package": "p", "parsedVersion": {"kind": "NORMAL", "name": "1"}}`},
	{"COMPLIANCE", `"compliance": {"title": "t", "cisBenchmark": {"profileLevel": 1}}`, `"compliance": {"nonComplianceReason": "r"}`},
	{"DSSE_ATTESTATION", `"dsseAttestation": {"hint": {"humanReadableName": "qa"}}`,
		`"dsseAttestation": {"envelope": {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "cw==", "keyid": "k"}]}}`},
	{"VULNERABILITY_ASSESSMENT", `"vulnerabilityAssessment": {"title": "t", "product": {"name": "p", "genericUri": "u"}, "assessment": {"vulnerabilityId": "CVE-1", "state": "NOT_AFFECTED"}}`, ``},
	{"SBOM_REFERENCE", `"sbomReference": {"format": "spdx", "version": "2.3"}`,
		`"sbomReference": {"payload": {"_type": "t", "predicateType": "p", "predicate": {"location": "gs://b", "digest": {"sha256": "aa"}}}, "payloadType": "x"}`},
	{"SECRET", `"secret": {}`, `"secret": {"kind": "SECRET_KIND_UNKNOWN", "locations": [{"fileLocation": {"filePath": "/x"}}]}`},
}

func TestGoogleClientOfV1(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range v1Clients(t, g) {
		for _, parent := range []string{"projects/" + name, "projects/" + name + "/locations/europe-west1"} {
			t.Run(strings.ReplaceAll(parent, "/", "_"), func(t *testing.T) { v1Round(t, client, parent) })
		}
	}
}

// v1Round calls each method that the client has.
func v1Round(t *testing.T, client *grafeas.Client, parent string) {
	ctx, note, occurrence := t.Context(), ok[*v1.Note](t), ok[*v1.Occurrence](t)
	var names []string
	for _, k := range v1Kinds {
		id := strings.ToLower(k.kind)
		sent := read(t, `{"shortDescription": "short", "relatedUrl": [{"url": "https://u", "label": "l"}], `+k.note+`}`, &v1.Note{})
		n := note(client.CreateNote(ctx, &v1.CreateNoteRequest{Parent: parent, NoteId: id, Note: sent}))
		same(t, n, sent)
		if n.GetKind().String() != k.kind || n.GetName() != parent+"/notes/"+id || n.GetCreateTime() == nil || n.GetUpdateTime() == nil {
			t.Errorf("created %v", n)
		}
		same(t, note(client.GetNote(ctx, &v1.GetNoteRequest{Name: n.GetName()})), n)
		if k.details == "" {
			continue
		}
		about := read(t, fmt.Sprintf(`{"resourceUri": "https://r.example/%s@%s", "noteName": %q, %s}`, id, digest, n.GetName(), k.details), &v1.Occurrence{})
		o := occurrence(client.CreateOccurrence(ctx, &v1.CreateOccurrenceRequest{Parent: parent, Occurrence: about}))
		same(t, o, about)
		if o.GetKind().String() != k.kind || !strings.HasPrefix(o.GetName(), parent+"/occurrences/") || o.GetCreateTime() == nil {
			t.Errorf("created %v", o)
		}
		same(t, occurrence(client.GetOccurrence(ctx, &v1.GetOccurrenceRequest{Name: o.GetName()})), o)
		same(t, note(client.GetOccurrenceNote(ctx, &v1.GetOccurrenceNoteRequest{Name: o.GetName()})), n)
		names = append(names, o.GetName())
	}
	v1Lists(t, client, parent, names)
	v1Updates(t, client, parent, names[0])

	for _, name := range names {
		if err := client.DeleteOccurrence(ctx, &v1.DeleteOccurrenceRequest{Name: name}); err != nil {
			t.Error(err)
		}
	}
	if left := drain(t, client.ListOccurrences(ctx, &v1.ListOccurrencesRequest{Parent: parent}).Next); len(left) > 0 {
		t.Errorf("%d occurrences are left", len(left))
	}
	for _, k := range v1Kinds {
		if err := client.DeleteNote(ctx, &v1.DeleteNoteRequest{Name: parent + "/notes/" + strings.ToLower(k.kind)}); err != nil {
			t.Error(err)
		}
	}
	v1Batches(t, client, parent)
}

func v1Lists(t *testing.T, client *grafeas.Client, parent string, names []string) {
	ctx := t.Context()
	notes, sizes := pages[*v1.Note](t, client.ListNotes(ctx, &v1.ListNotesRequest{Parent: parent}), 5)
	if len(notes) != len(v1Kinds) || fmt.Sprint(sizes) != "[5 5 3]" {
		t.Errorf("%d notes in pages of %v", len(notes), sizes)
	}
	occurrences, sizes := pages[*v1.Occurrence](t, client.ListOccurrences(ctx, &v1.ListOccurrencesRequest{Parent: parent}), 5)
	if len(occurrences) != len(names) || fmt.Sprint(sizes) != "[5 5 2]" {
		t.Errorf("%d occurrences in pages of %v", len(occurrences), sizes)
	}
	one := drain(t, client.ListNotes(ctx, &v1.ListNotesRequest{Parent: parent, Filter: `kind="BUILD"`, PageSize: 1}).Next)
	if len(one) != 1 || one[0].GetKind() != v1.NoteKind_BUILD {
		t.Errorf("notes of kind BUILD: %v", one)
	}
	found := drain(t, client.ListOccurrences(ctx, &v1.ListOccurrencesRequest{
		Parent: parent, Filter: `resourceUrl="https://r.example/secret@` + digest + `"`,
	}).Next)
	if len(found) != 1 || found[0].GetSecret() == nil {
		t.Errorf("occurrences of a resource: %v", found)
	}
	of := drain(t, client.ListNoteOccurrences(ctx, &v1.ListNoteOccurrencesRequest{Name: parent + "/notes/vulnerability", PageSize: 1}).Next)
	if len(of) != 1 || of[0].GetName() != names[0] {
		t.Errorf("occurrences of a note: %v", of)
	}
}

func v1Updates(t *testing.T, client *grafeas.Client, parent, occurrence string) {
	ctx, updatedNote, updated := t.Context(), ok[*v1.Note](t), ok[*v1.Occurrence](t)
	name := parent + "/notes/vulnerability"
	n := updatedNote(client.UpdateNote(ctx, &v1.UpdateNoteRequest{
		Name: name, Note: &v1.Note{LongDescription: "long"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"long_description", "related_url"}},
	}))
	if n.GetLongDescription() != "long" || n.GetShortDescription() != "short" || len(n.GetRelatedUrl()) != 0 || n.GetVulnerability() == nil {
		t.Errorf("updated with a mask: %v", n)
	}
	n.ShortDescription, n.LongDescription = "changed", ""
	same(t, updatedNote(client.UpdateNote(ctx, &v1.UpdateNoteRequest{Name: name, Note: n})), n)

	o := updated(client.UpdateOccurrence(ctx, &v1.UpdateOccurrenceRequest{
		Name: occurrence, Occurrence: &v1.Occurrence{Remediation: "mend"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"remediation"}},
	}))
	if o.GetRemediation() != "mend" || o.GetVulnerability() == nil || o.GetNoteName() != name {
		t.Errorf("updated with a mask: %v", o)
	}
	o.GetVulnerability().EffectiveSeverity, o.Remediation = v1.Severity_LOW, ""
	same(t, updated(client.UpdateOccurrence(ctx, &v1.UpdateOccurrenceRequest{Name: occurrence, Occurrence: o})), o)
	same(t, updated(client.GetOccurrence(ctx, &v1.GetOccurrenceRequest{Name: occurrence})), o)
}

func v1Batches(t *testing.T, client *grafeas.Client, parent string) {
	ctx := t.Context()
	byID := map[string]*v1.Note{}
	for _, k := range v1Kinds {
		byID["batch-"+strings.ToLower(k.kind)] = read(t, `{`+k.note+`}`, &v1.Note{})
	}
	notes := ok[*v1.BatchCreateNotesResponse](t)(client.BatchCreateNotes(ctx, &v1.BatchCreateNotesRequest{Parent: parent, Notes: byID}))
	if len(notes.GetNotes()) != len(byID) {
		t.Errorf("%d notes of a batch of %d", len(notes.GetNotes()), len(byID))
	}
	var sent []*v1.Occurrence
	for i := range 45 {
		sent = append(sent, read(t, fmt.Sprintf(`{"resourceUri": "https://r/%d", "noteName": "%s/notes/batch-discovery", %s}`, i, parent, v1Kinds[5].details), &v1.Occurrence{}))
	}
	made := ok[*v1.BatchCreateOccurrencesResponse](t)(client.BatchCreateOccurrences(ctx, &v1.BatchCreateOccurrencesRequest{Parent: parent, Occurrences: sent}))
	for i, o := range made.GetOccurrences() {
		same(t, o, sent[i])
		if o.GetKind() != v1.NoteKind_DISCOVERY {
			t.Errorf("kind %v", o.GetKind())
		}
	}
	// The default page has 20.
	if all := drain(t, client.ListNoteOccurrences(ctx, &v1.ListNoteOccurrencesRequest{Name: parent + "/notes/batch-discovery"}).Next); len(all) != len(sent) {
		t.Errorf("%d of %d occurrences, read page after page", len(all), len(sent))
	}
}

func TestGoogleVulnerabilitySummaryOfV1(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := ok[*containeranalysis.Client](t)(containeranalysis.NewClient(t.Context(), g.overGRPC()...))
	defer client.Close()
	rpc := client.GetGrafeasClient()
	ok[*v1.Note](t)(rpc.CreateNote(t.Context(), &v1.CreateNoteRequest{Parent: "projects/p", NoteId: "CVE-1", Note: read(t, `{`+v1Kinds[0].note+`}`, &v1.Note{})}))
	for i := range 3 {
		ok[*v1.Occurrence](t)(rpc.CreateOccurrence(t.Context(), &v1.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: read(t,
			fmt.Sprintf(`{"resourceUri": "https://r/%d", "noteName": "projects/p/notes/CVE-1", %s}`, i%2, v1Kinds[0].details), &v1.Occurrence{})}))
	}
	counts := ok[*summary.VulnerabilityOccurrencesSummary](t)(client.GetVulnerabilityOccurrencesSummary(t.Context(),
		&summary.GetVulnerabilityOccurrencesSummaryRequest{Parent: "projects/p", Filter: `resourceUrl="https://r/0"`}))
	var high, all int64
	for _, c := range counts.GetCounts() {
		switch {
		case c.GetResourceUri() != "https://r/0":
			t.Errorf("the filter let %q through", c.GetResourceUri())
		case c.GetSeverity() == v1.Severity_HIGH:
			high += c.GetTotalCount()
		case c.GetSeverity() == v1.Severity_SEVERITY_UNSPECIFIED:
			all += c.GetTotalCount()
		}
	}
	if high != 2 || all != 2 {
		t.Errorf("counts %v", counts)
	}
}
