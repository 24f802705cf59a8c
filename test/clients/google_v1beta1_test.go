package clients

import (
	"fmt"
	"strings"
	"testing"

	containeranalysis "cloud.google.com/go/containeranalysis/apiv1beta1"
	"cloud.google.com/go/containeranalysis/apiv1beta1/grafeas/grafeaspb"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/common"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/vulnerability"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// betaClients are Google's client of v1beta1 over gRPC and over REST, where it
// sends numbers for enums, asks for numbers, and reads errors of Google's shape.
func betaClients(t *testing.T, g *gatehouse) map[string]*containeranalysis.GrafeasV1Beta1Client {
	t.Helper()
	client := ok[*containeranalysis.GrafeasV1Beta1Client](t)
	all := map[string]*containeranalysis.GrafeasV1Beta1Client{
		"grpc": client(containeranalysis.NewGrafeasV1Beta1Client(t.Context(), g.overGRPC()...)),
		"rest": client(containeranalysis.NewGrafeasV1Beta1RESTClient(t.Context(), g.overREST()...)),
	}
	t.Cleanup(func() {
		for _, c := range all {
			_ = c.Close()
		}
	})
	return all
}

// Notes and occurrences of each kind that Google's package for v1beta1 has.
var betaKinds = []struct{ kind, note, details string }{
	{"VULNERABILITY", `"vulnerability": {"severity": "HIGH", "cvssScore": 7.5, "details": [{"cpeUri": "cpe:/o:debian:11", "package": "p"}]}`,
		`"vulnerability": {"severity": "HIGH", "effectiveSeverity": "HIGH", "packageIssue": [{
			"affectedLocation": {"cpeUri": "cpe:/o:debian:11", "package": "p", "version": {"kind": "NORMAL", "name": "1", "revision": "2"}},
			"fixedLocation": {"cpeUri": "cpe:/o:debian:11", "package": "p", "version": {"kind": "MAXIMUM"}}, "severityName": "HIGH"}]}`},
	{"BUILD", `"build": {"builderVersion": "1", "signature": {"publicKey": "k", "signature": "cw==", "keyType": "PKIX_PEM"}}`,
		`"build": {"provenance": {"id": "b", "creator": "ci@example.com", "commands": [{"name": "make"}], "builtArtifacts": [{"checksum": "c", "id": "i"}],
			"sourceProvenance": {"context": {"git": {"url": "https://g", "revisionId": "r"}}}}, "provenanceBytes": "{}"}`},
	{"IMAGE", `"baseImage": {"resourceUrl": "https://r/base", "fingerprint": {"v1Name": "n", "v2Blob": ["b"]}}`,
		`"derivedImage": {"derivedImage": {"fingerprint": {"v1Name": "n", "v2Blob": ["b"]}, "layerInfo": [{"directive": "RUN", "arguments": "x"}]}}`},
	{"PACKAGE", `"package": {"name": "p", "distribution": [{"cpeUri": "cpe:/o:debian:11", "architecture": "X64"}]}`,
		`"installation": {"installation": {"name": "p", "location": [{"cpeUri": "cpe:/o:debian:11", "version": {"kind": "NORMAL", "name": "1"}, "path": "/x"}]}}`},
	{"DEPLOYMENT", `"deployable": {"resourceUri": ["https://r"]}`, `"deployment": {"deployment": {"deployTime": "2026-01-02T03:04:05Z", "platform": "GKE"}}`},
	{"DISCOVERY", `"discovery": {"analysisKind": "VULNERABILITY"}`, `"discovered": {"discovered": {"analysisStatus": "FINISHED_SUCCESS", "continuousAnalysis": "ACTIVE"}}`},
	{"ATTESTATION", `"attestationAuthority": {"hint": {"humanReadableName": "qa"}}`,
		`"attestation": {"attestation": {"pgpSignedAttestation": {"signature": "s", "contentType": "SIMPLE_SIGNING_JSON", "pgpKeyId": "k"}}}`},
}

func TestGoogleClientOfV1beta1(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range betaClients(t, g) {
		for _, parent := range []string{"projects/" + name, "projects/" + name + "/locations/europe-west1"} {
			t.Run(strings.ReplaceAll(parent, "/", "_"), func(t *testing.T) { betaRound(t, client, parent) })
		}
	}
}

// betaRound calls each method that the client has, but for the summary.
func betaRound(t *testing.T, client *containeranalysis.GrafeasV1Beta1Client, parent string) {
	ctx, note, occurrence := t.Context(), ok[*grafeaspb.Note](t), ok[*grafeaspb.Occurrence](t)
	var names []string
	for _, k := range betaKinds {
		id := strings.ToLower(k.kind)
		sent := read(t, `{"shortDescription": "short", "relatedUrl": [{"url": "https://u", "label": "l"}], `+k.note+`}`, &grafeaspb.Note{})
		n := note(client.CreateNote(ctx, &grafeaspb.CreateNoteRequest{Parent: parent, NoteId: id, Note: sent}))
		same(t, n, sent)
		if n.GetKind().String() != k.kind || n.GetName() != parent+"/notes/"+id || n.GetCreateTime() == nil || n.GetUpdateTime() == nil {
			t.Errorf("created %v", n)
		}
		same(t, note(client.GetNote(ctx, &grafeaspb.GetNoteRequest{Name: n.GetName()})), n)
		about := read(t, fmt.Sprintf(`{"resource": {"uri": "https://r.example/%s@%s"}, "noteName": %q, %s}`, id, digest, n.GetName(), k.details), &grafeaspb.Occurrence{})
		o := occurrence(client.CreateOccurrence(ctx, &grafeaspb.CreateOccurrenceRequest{Parent: parent, Occurrence: about}))
		same(t, o, about)
		if o.GetKind().String() != k.kind || !strings.HasPrefix(o.GetName(), parent+"/occurrences/") || o.GetCreateTime() == nil {
			t.Errorf("created %v", o)
		}
		same(t, occurrence(client.GetOccurrence(ctx, &grafeaspb.GetOccurrenceRequest{Name: o.GetName()})), o)
		same(t, note(client.GetOccurrenceNote(ctx, &grafeaspb.GetOccurrenceNoteRequest{Name: o.GetName()})), n)
		names = append(names, o.GetName())
	}
	betaLists(t, client, parent, names)
	betaUpdates(t, client, parent, names[0])

	for _, name := range names {
		if err := client.DeleteOccurrence(ctx, &grafeaspb.DeleteOccurrenceRequest{Name: name}); err != nil {
			t.Error(err)
		}
	}
	if left := drain(t, client.ListOccurrences(ctx, &grafeaspb.ListOccurrencesRequest{Parent: parent}).Next); len(left) > 0 {
		t.Errorf("%d occurrences are left", len(left))
	}
	for _, k := range betaKinds {
		if err := client.DeleteNote(ctx, &grafeaspb.DeleteNoteRequest{Name: parent + "/notes/" + strings.ToLower(k.kind)}); err != nil {
			t.Error(err)
		}
	}
	betaBatches(t, client, parent)
}

func betaLists(t *testing.T, client *containeranalysis.GrafeasV1Beta1Client, parent string, names []string) {
	ctx := t.Context()
	notes, sizes := pages[*grafeaspb.Note](t, client.ListNotes(ctx, &grafeaspb.ListNotesRequest{Parent: parent}), 3)
	if len(notes) != len(betaKinds) || fmt.Sprint(sizes) != "[3 3 1]" {
		t.Errorf("%d notes in pages of %v", len(notes), sizes)
	}
	occurrences, sizes := pages[*grafeaspb.Occurrence](t, client.ListOccurrences(ctx, &grafeaspb.ListOccurrencesRequest{Parent: parent}), 3)
	if len(occurrences) != len(names) || fmt.Sprint(sizes) != "[3 3 1]" {
		t.Errorf("%d occurrences in pages of %v", len(occurrences), sizes)
	}
	one := drain(t, client.ListNotes(ctx, &grafeaspb.ListNotesRequest{Parent: parent, Filter: `kind="BUILD"`, PageSize: 1}).Next)
	if len(one) != 1 || one[0].GetKind() != common.NoteKind_BUILD {
		t.Errorf("notes of kind BUILD: %v", one)
	}
	found := drain(t, client.ListOccurrences(ctx, &grafeaspb.ListOccurrencesRequest{
		Parent: parent, Filter: `resourceUrl="https://r.example/image@` + digest + `" AND kind="IMAGE"`,
	}).Next)
	if len(found) != 1 || found[0].GetDerivedImage() == nil {
		t.Errorf("occurrences of a resource: %v", found)
	}
	of := drain(t, client.ListNoteOccurrences(ctx, &grafeaspb.ListNoteOccurrencesRequest{
		Name: parent + "/notes/vulnerability", Filter: `has_prefix(resource_url, "https://r.example/")`, PageSize: 1,
	}).Next)
	if len(of) != 1 || of[0].GetName() != names[0] {
		t.Errorf("occurrences of a note: %v", of)
	}
}

func betaUpdates(t *testing.T, client *containeranalysis.GrafeasV1Beta1Client, parent, occurrence string) {
	ctx, updatedNote, updated := t.Context(), ok[*grafeaspb.Note](t), ok[*grafeaspb.Occurrence](t)
	name := parent + "/notes/vulnerability"
	n := updatedNote(client.UpdateNote(ctx, &grafeaspb.UpdateNoteRequest{
		Name: name, Note: &grafeaspb.Note{LongDescription: "long"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"long_description", "related_url"}},
	}))
	if n.GetLongDescription() != "long" || n.GetShortDescription() != "short" || len(n.GetRelatedUrl()) != 0 || n.GetVulnerability() == nil {
		t.Errorf("updated with a mask: %v", n)
	}
	n.ShortDescription = "changed"
	same(t, updatedNote(client.UpdateNote(ctx, &grafeaspb.UpdateNoteRequest{Name: name, Note: n})), n)

	o := updated(client.UpdateOccurrence(ctx, &grafeaspb.UpdateOccurrenceRequest{
		Name: occurrence, Occurrence: &grafeaspb.Occurrence{Remediation: "mend"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"remediation"}},
	}))
	if o.GetRemediation() != "mend" || o.GetVulnerability() == nil || o.GetNoteName() != name {
		t.Errorf("updated with a mask: %v", o)
	}
	o.GetVulnerability().EffectiveSeverity, o.Remediation = vulnerability.Severity_LOW, "changed"
	same(t, updated(client.UpdateOccurrence(ctx, &grafeaspb.UpdateOccurrenceRequest{Name: occurrence, Occurrence: o})), o)
	same(t, updated(client.GetOccurrence(ctx, &grafeaspb.GetOccurrenceRequest{Name: occurrence})), o)
}

func betaBatches(t *testing.T, client *containeranalysis.GrafeasV1Beta1Client, parent string) {
	ctx := t.Context()
	byID := map[string]*grafeaspb.Note{}
	for _, k := range betaKinds {
		byID["batch-"+strings.ToLower(k.kind)] = read(t, `{`+k.note+`}`, &grafeaspb.Note{})
	}
	notes := ok[*grafeaspb.BatchCreateNotesResponse](t)(client.BatchCreateNotes(ctx, &grafeaspb.BatchCreateNotesRequest{Parent: parent, Notes: byID}))
	if len(notes.GetNotes()) != len(byID) {
		t.Errorf("%d notes of a batch of %d", len(notes.GetNotes()), len(byID))
	}
	var sent []*grafeaspb.Occurrence
	for i := range 45 {
		sent = append(sent, read(t, fmt.Sprintf(`{"resource": {"uri": "https://r/%d"}, "noteName": "%s/notes/batch-discovery", %s}`, i, parent, betaKinds[5].details), &grafeaspb.Occurrence{}))
	}
	made := ok[*grafeaspb.BatchCreateOccurrencesResponse](t)(client.BatchCreateOccurrences(ctx, &grafeaspb.BatchCreateOccurrencesRequest{Parent: parent, Occurrences: sent}))
	if len(made.GetOccurrences()) != len(sent) {
		t.Fatalf("%d of %d occurrences were created", len(made.GetOccurrences()), len(sent))
	}
	for i, o := range made.GetOccurrences() {
		same(t, o, sent[i])
		if o.GetKind() != common.NoteKind_DISCOVERY {
			t.Errorf("kind %v", o.GetKind())
		}
	}
	// The default page has 20.
	if all := drain(t, client.ListNoteOccurrences(ctx, &grafeaspb.ListNoteOccurrencesRequest{Name: parent + "/notes/batch-discovery"}).Next); len(all) != len(sent) {
		t.Errorf("%d of %d occurrences, read page after page", len(all), len(sent))
	}
}

func TestGoogleVulnerabilitySummaryOfV1beta1(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range betaClients(t, g) {
		t.Run(name, func(t *testing.T) {
			parent := "projects/" + name
			ok[*grafeaspb.Note](t)(client.CreateNote(t.Context(), &grafeaspb.CreateNoteRequest{Parent: parent, NoteId: "CVE-1", Note: read(t, `{`+betaKinds[0].note+`}`, &grafeaspb.Note{})}))
			for i := range 3 {
				ok[*grafeaspb.Occurrence](t)(client.CreateOccurrence(t.Context(), &grafeaspb.CreateOccurrenceRequest{Parent: parent, Occurrence: read(t,
					fmt.Sprintf(`{"resource": {"uri": "https://r/%d"}, "noteName": "%s/notes/CVE-1", %s}`, i%2, parent, betaKinds[0].details), &grafeaspb.Occurrence{})}))
			}
			counts := ok[*grafeaspb.VulnerabilityOccurrencesSummary](t)(client.GetVulnerabilityOccurrencesSummary(t.Context(),
				&grafeaspb.GetVulnerabilityOccurrencesSummaryRequest{Parent: parent, Filter: `resourceUrl="https://r/0"`}))
			got := map[vulnerability.Severity]int64{}
			for _, c := range counts.GetCounts() {
				if c.GetResource().GetUri() != "https://r/0" {
					t.Errorf("the filter let %v through", c.GetResource())
				}
				got[c.GetSeverity()] += c.GetTotalCount()
			}
			if got[vulnerability.Severity_HIGH] != 2 || got[vulnerability.Severity_SEVERITY_UNSPECIFIED] != 2 {
				t.Errorf("counts %v", counts)
			}
		})
	}
}
