package clients

import (
	"fmt"
	"testing"

	v1 "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What Voucher asks of Google's client of v1 in its Google mode. Only the address
// there is fixed in its code.
func TestVoucherInGoogleMode(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := v1Clients(t, g)["grafeas"]
	ctx := t.Context()
	note := func(parent, id, body string) {
		t.Helper()
		ok[*v1.Note](t)(client.CreateNote(ctx, &v1.CreateNoteRequest{Parent: parent, NoteId: id, Note: read(t, "{"+body+"}", &v1.Note{})}))
	}
	note("projects/binauth", "snakeoil", v1Kinds[6].note)
	note("projects/goog-vulnz", "CVE-1", v1Kinds[0].note)
	note("projects/goog-analysis", "PACKAGE_VULNERABILITY", v1Kinds[5].note)
	note("projects/shop", "PACKAGE_VULNERABILITY", v1Kinds[5].note)
	note("projects/shop", "build", v1Kinds[1].note)

	attestation := func() *v1.CreateOccurrenceRequest {
		return &v1.CreateOccurrenceRequest{Parent: "projects/binauth", Occurrence: &v1.Occurrence{
			NoteName: "projects/binauth/notes/snakeoil", ResourceUri: voucherImage,
			Details: &v1.Occurrence_Attestation{Attestation: &v1.AttestationOccurrence{
				SerializedPayload: []byte(voucherPayload), Signatures: []*v1.Signature{{Signature: []byte(voucherArmour), PublicKeyId: voucherKey}},
			}},
		}}
	}
	ok[*v1.Occurrence](t)(client.CreateOccurrence(ctx, attestation()))
	if _, err := client.CreateOccurrence(ctx, attestation()); status.Code(err) != codes.AlreadyExists {
		t.Errorf("attested twice: %v, which Voucher does not take for success", err)
	}
	for _, image := range []string{voucherImage, "https://gcr.io/shop/other@" + digest} {
		for noteName, details := range map[string]string{
			"projects/goog-vulnz/notes/CVE-1":                    v1Kinds[0].details,
			"projects/goog-analysis/notes/PACKAGE_VULNERABILITY": v1Kinds[5].details,
			"projects/shop/notes/PACKAGE_VULNERABILITY":          v1Kinds[5].details,
			"projects/shop/notes/build":                          v1Kinds[1].details,
		} {
			ok[*v1.Occurrence](t)(client.CreateOccurrence(ctx, &v1.CreateOccurrenceRequest{Parent: "projects/shop", Occurrence: read(t,
				fmt.Sprintf(`{"resourceUri": %q, "noteName": %q, %s}`, image, noteName, details), &v1.Occurrence{})}))
		}
	}

	one := func(req *v1.ListOccurrencesRequest) *v1.Occurrence {
		t.Helper()
		found := drain(t, client.ListOccurrences(ctx, req).Next)
		if len(found) != 1 || found[0].GetResourceUri() != voucherImage {
			t.Fatalf("%s: %v", req.GetFilter(), found)
		}
		return found[0]
	}
	kind := func(k v1.NoteKind) string {
		return fmt.Sprintf(`resourceUrl="%s" AND kind="%s"`, voucherImage, k)
	}
	attested := one(&v1.ListOccurrencesRequest{Parent: "projects/binauth", Filter: kind(v1.NoteKind_ATTESTATION)})
	if got := string(attested.GetAttestation().GetSerializedPayload()); got != voucherPayload {
		t.Errorf("payload %s", got)
	}
	of := ok[*v1.Note](t)(client.GetOccurrenceNote(ctx, &v1.GetOccurrenceNoteRequest{Name: attested.GetName()}))
	if of.GetName() != "projects/binauth/notes/snakeoil" {
		t.Errorf("note %q", of.GetName())
	}
	discovered := one(&v1.ListOccurrencesRequest{
		Parent: "projects/shop", Filter: kind(v1.NoteKind_DISCOVERY) + ` AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`, PageSize: 50,
	})
	if discovered.GetDiscovery().GetAnalysisStatus() != v1.DiscoveryOccurrence_FINISHED_SUCCESS {
		t.Errorf("discovery %v", discovered)
	}
	vulnerable := one(&v1.ListOccurrencesRequest{Parent: "projects/shop", Filter: kind(v1.NoteKind_VULNERABILITY)})
	if vulnerable.GetVulnerability().GetEffectiveSeverity() != v1.Severity_HIGH || vulnerable.GetNoteName() != "projects/goog-vulnz/notes/CVE-1" {
		t.Errorf("vulnerability %v", vulnerable)
	}
	built := one(&v1.ListOccurrencesRequest{Parent: "projects/shop", Filter: kind(v1.NoteKind_BUILD)})
	if built.GetBuild().GetProvenance().GetCreator() != "ci@example.com" {
		t.Errorf("build %v", built)
	}
}
