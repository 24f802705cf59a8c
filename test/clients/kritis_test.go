package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"cloud.google.com/go/containeranalysis/apiv1beta1/grafeas/grafeaspb"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/attestation"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/common"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/discovery"
	"google.golang.org/genproto/googleapis/devtools/containeranalysis/v1beta1/vulnerability"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	kritisImage = "gcr.io/shop/web@" + digest
	kritisOther = "gcr.io/shop/other@" + digest
	kritisNote  = "projects/kritis/notes/qa"
)

// kritisPGP is an attestation as the webhook makes it; kritisGeneric is as the
// signer makes it, without a payload if the key is OpenPGP's.
func kritisPGP(image, signature string) *grafeaspb.Occurrence {
	return kritisOccurrence(image, &attestation.Attestation{Signature: &attestation.Attestation_PgpSignedAttestation{
		PgpSignedAttestation: &attestation.PgpSignedAttestation{
			Signature: signature, KeyId: &attestation.PgpSignedAttestation_PgpKeyId{PgpKeyId: voucherKey},
			ContentType: attestation.PgpSignedAttestation_SIMPLE_SIGNING_JSON,
		},
	}})
}

func kritisGeneric(image, payload, signature string) *grafeaspb.Occurrence {
	return kritisOccurrence(image, &attestation.Attestation{Signature: &attestation.Attestation_GenericSignedAttestation{
		GenericSignedAttestation: &attestation.GenericSignedAttestation{
			Signatures:        []*common.Signature{{Signature: []byte(signature), PublicKeyId: voucherKey}},
			SerializedPayload: []byte(payload), ContentType: attestation.GenericSignedAttestation_SIMPLE_SIGNING_JSON,
		},
	}})
}

func kritisOccurrence(image string, a *attestation.Attestation) *grafeaspb.Occurrence {
	return &grafeaspb.Occurrence{
		Resource: &grafeaspb.Resource{Uri: "https://" + image}, NoteName: kritisNote,
		Details: &grafeaspb.Occurrence_Attestation{Attestation: &attestation.Details{Attestation: a}},
	}
}

// kritisAuthority looks for the note of an authority, and makes it on any error.
func kritisAuthority(t *testing.T, client grafeaspb.GrafeasV1Beta1Client) {
	t.Helper()
	note := ok[*grafeaspb.Note](t)
	if _, err := client.GetNote(t.Context(), &grafeaspb.GetNoteRequest{Name: kritisNote}); status.Code(err) != codes.NotFound {
		t.Errorf("a note that is not there: %v", err)
	}
	made := note(client.CreateNote(t.Context(), &grafeaspb.CreateNoteRequest{
		Note: &grafeaspb.Note{
			Name: kritisNote, ShortDescription: "Image Policy Security Attestor", LongDescription: "Image Policy Security Attestor deployed in shop namespace",
			Type: &grafeaspb.Note_AttestationAuthority{AttestationAuthority: &attestation.Authority{Hint: &attestation.Authority_Hint{HumanReadableName: "qa"}}},
		},
		NoteId: "qa", Parent: "projects/kritis",
	}))
	if made.GetName() != kritisNote {
		t.Errorf("made %v", made)
	}
	same(t, note(client.GetNote(t.Context(), &grafeaspb.GetNoteRequest{Name: kritisNote})), made)
}

// kritisFetch follows page tokens as Kritis does: to the end, but not past a
// first page without a result.
func kritisFetch(t *testing.T, page func(token string) ([]*grafeaspb.Occurrence, string, error)) (all []*grafeaspb.Occurrence, requests int) {
	t.Helper()
	for token := ""; ; {
		items, next, err := page(token)
		if err != nil {
			t.Fatal(err)
		}
		requests++
		if all = append(all, items...); len(all) == 0 || next == "" {
			return all, requests
		}
		token = next
	}
}

func kritisAttestations(t *testing.T, client grafeaspb.GrafeasV1Beta1Client, filter string) ([]*grafeaspb.Occurrence, int) {
	t.Helper()
	return kritisFetch(t, func(token string) ([]*grafeaspb.Occurrence, string, error) {
		page, err := client.ListNoteOccurrences(t.Context(), &grafeaspb.ListNoteOccurrencesRequest{Name: kritisNote, Filter: filter, PageSize: 100, PageToken: token})
		return page.GetOccurrences(), page.GetNextPageToken(), err
	})
}

func TestKritisAttests(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := grafeaspb.NewGrafeasV1Beta1Client(g.conn(t))
	kritisAuthority(t, client)
	attest := func(o *grafeaspb.Occurrence) {
		t.Helper()
		made := ok[*grafeaspb.Occurrence](t)(client.CreateOccurrence(t.Context(), &grafeaspb.CreateOccurrenceRequest{Occurrence: o, Parent: "projects/kritis"}))
		same(t, made, o)
	}
	attest(kritisPGP(kritisImage, voucherArmour))
	attest(kritisGeneric(kritisImage, voucherPayload, "signature of the payload"))
	attest(kritisGeneric(kritisImage, "", strings.Replace(voucherArmour, "owEBCg", "owEBDg", 1)))
	for i := range 120 {
		attest(kritisPGP(kritisOther, fmt.Sprint("signature ", i)))
	}
	filters := map[string]string{
		"with Grafeas":            `resource_url="https://%s" AND kind="ATTESTATION_AUTHORITY"`,
		"with Container Analysis": `resourceUrl="https://%s"`,
	}
	for name, filter := range filters {
		t.Run(name, func(t *testing.T) {
			found, _ := kritisAttestations(t, client, fmt.Sprintf(filter, kritisImage))
			var pgp, generic int
			for _, o := range found {
				switch s := o.GetAttestation().GetAttestation().GetSignature().(type) {
				case *attestation.Attestation_PgpSignedAttestation:
					pgp++
				case *attestation.Attestation_GenericSignedAttestation:
					generic += len(s.GenericSignedAttestation.GetSignatures())
				default:
					t.Errorf("Kritis gives up the whole list for %v", o)
				}
			}
			if len(found) != 3 || pgp != 1 || generic != 2 {
				t.Errorf("%d attestations, %d of OpenPGP and %d generic signatures", len(found), pgp, generic)
			}
			found, requests := kritisAttestations(t, client, fmt.Sprintf(filter, kritisOther))
			if len(found) != 120 || requests != 2 {
				t.Errorf("%d attestations in %d requests", len(found), requests)
			}
			if found, _ := kritisAttestations(t, client, fmt.Sprintf(filter, "gcr.io/shop/none@"+digest)); len(found) != 0 {
				t.Errorf("%d attestations of an image that has none", len(found))
			}
		})
	}
	// Its signer takes attestations back.
	found, _ := kritisAttestations(t, client, fmt.Sprintf(filters["with Grafeas"], kritisImage))
	if _, err := client.DeleteOccurrence(t.Context(), &grafeaspb.DeleteOccurrenceRequest{Name: found[0].GetName()}); err != nil {
		t.Error(err)
	}
	if found, _ := kritisAttestations(t, client, fmt.Sprintf(filters["with Grafeas"], kritisImage)); len(found) != 2 {
		t.Errorf("%d attestations are left", len(found))
	}
}

func TestKritisReadsScans(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := grafeaspb.NewGrafeasV1Beta1Client(g.conn(t))
	for _, test := range []struct{ name, project, provider, filter string }{
		{"with Grafeas", "kritis", "kritis", `resource_url="https://%s" AND kind="PACKAGE_VULNERABILITY"`},
		{"with Container Analysis", "shop", "goog-analysis", `resourceUrl="https://%s" AND kind="PACKAGE_VULNERABILITY"`},
	} {
		t.Run(test.name, func(t *testing.T) { kritisScan(t.Context(), t, client, test.project, test.provider, test.filter) })
	}
}

func kritisScan(ctx context.Context, t *testing.T, client grafeaspb.GrafeasV1Beta1Client, project, provider, filter string) {
	provider, project = "projects/"+provider, "projects/"+project
	for id, note := range map[string]string{"PACKAGE_VULNERABILITY": betaKinds[5].note, "CVE-1": betaKinds[0].note} {
		ok[*grafeaspb.Note](t)(client.CreateNote(ctx, &grafeaspb.CreateNoteRequest{Parent: provider, NoteId: id, Note: read(t, "{"+note+"}", &grafeaspb.Note{})}))
	}
	scanned := func(parent, image, note, details string) {
		t.Helper()
		ok[*grafeaspb.Occurrence](t)(client.CreateOccurrence(ctx, &grafeaspb.CreateOccurrenceRequest{Parent: parent, Occurrence: read(t,
			fmt.Sprintf(`{"resource": {"uri": "https://%s"}, "noteName": "%s/notes/%s", %s}`, image, provider, note, details), &grafeaspb.Occurrence{})}))
	}
	scanned(project, kritisImage, "CVE-1", betaKinds[0].details)
	scanned(project, kritisOther, "CVE-1", betaKinds[0].details)
	scanned("projects/shop", kritisImage, "PACKAGE_VULNERABILITY", betaKinds[5].details)

	found, _ := kritisFetch(t, func(token string) ([]*grafeaspb.Occurrence, string, error) {
		page, err := client.ListOccurrences(ctx, &grafeaspb.ListOccurrencesRequest{
			Filter: fmt.Sprintf(filter, kritisImage), PageSize: 100, Parent: project, PageToken: token,
		})
		return page.GetOccurrences(), page.GetNextPageToken(), err
	})
	if len(found) != 1 || found[0].GetVulnerability().GetEffectiveSeverity() != vulnerability.Severity_HIGH ||
		found[0].GetVulnerability().GetPackageIssue()[0].GetFixedLocation().GetVersion().GetKind().String() != "MAXIMUM" {
		t.Errorf("vulnerabilities %v", found)
	}
	// The signer waits for the scan, and asks again by name.
	page := ok[*grafeaspb.ListOccurrencesResponse](t)(client.ListOccurrences(ctx, &grafeaspb.ListOccurrencesRequest{
		Parent: "projects/shop",
		Filter: fmt.Sprintf(`resourceUrl=%q AND noteProjectId=%q AND noteId="PACKAGE_VULNERABILITY"`, "https://"+kritisImage, provider[len("projects/"):]),
	}))
	if len(page.GetOccurrences()) != 1 {
		t.Fatalf("discoveries %v", page)
	}
	again := ok[*grafeaspb.Occurrence](t)(client.GetOccurrence(ctx, &grafeaspb.GetOccurrenceRequest{Name: page.GetOccurrences()[0].GetName()}))
	if again.GetDiscovered().GetDiscovered().GetAnalysisStatus() != discovery.Discovered_FINISHED_SUCCESS {
		t.Errorf("discovery %v", again)
	}
}
