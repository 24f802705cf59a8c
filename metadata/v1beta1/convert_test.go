package v1beta1_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/attestation"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/discovery"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/image"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/pkg"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/provenance"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/vulnerability"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// variants are how many ways each message is filled, so that nested oneofs are
// all tried.
const variants = 3

// through returns m as it comes back from a store.
func through[T proto.Message](t *testing.T, m T, empty T) T {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, empty); err != nil {
		t.Fatal(err)
	}
	return empty
}

func TestNotesOfEveryKindSurvive(t *testing.T) {
	for _, member := range metadatatest.Members(&grafeasbeta.Note{}, "type") {
		for variant := range variants {
			for _, strange := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, variant %d, strange %t", member, variant, strange), func(t *testing.T) {
					sent := metadatatest.Filled(&grafeasbeta.Note{}, member, variant)
					if strange {
						addUnknown(sent.ProtoReflect())
					}
					stored := v1beta1.NoteFrom(sent)
					sent.Kind = v1beta1.KindTo(stored.GetKind())
					got := v1beta1.NoteTo(through(t, stored, &grafeas.Note{}))
					if diff := cmp.Diff(sent, got, protocmp.Transform()); diff != "" {
						t.Errorf("what came back differs (-sent +got):\n%s", diff)
					}
					if sent.GetKind() == common.NoteKind_NOTE_KIND_UNSPECIFIED {
						t.Error("it has no kind")
					}
				})
			}
		}
	}
}

func TestOccurrencesOfEveryKindSurvive(t *testing.T) {
	for _, member := range metadatatest.Members(&grafeasbeta.Occurrence{}, "details") {
		for variant := range variants {
			for _, strange := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, variant %d, strange %t", member, variant, strange), func(t *testing.T) {
					sent := metadatatest.Filled(&grafeasbeta.Occurrence{}, member, variant)
					if strange {
						addUnknown(sent.ProtoReflect())
					}
					stored := v1beta1.OccurrenceFrom(sent)
					sent.Kind = v1beta1.KindTo(stored.GetKind())
					got := v1beta1.OccurrenceTo(through(t, stored, &grafeas.Occurrence{}))
					if diff := cmp.Diff(sent, got, protocmp.Transform()); diff != "" {
						t.Errorf("what came back differs (-sent +got):\n%s", diff)
					}
					if sent.GetKind() == common.NoteKind_NOTE_KIND_UNSPECIFIED {
						t.Error("it has no kind")
					}
					if stored.GetResourceUri() == "" || stored.GetNoteName() == "" {
						t.Error("v1 does not see the resource and the note")
					}
				})
			}
		}
	}
}

// TestWhatIsKept says which messages are kept whole beside what v1 holds. Those
// that are not, both versions share altogether: docs/grafeas-kinds.md says so.
func TestWhatIsKept(t *testing.T) {
	notes := map[string]bool{
		"vulnerability": true, "build": true, "base_image": false, "package": false, "deployable": false, "discovery": false,
		"attestation_authority": false, "intoto": true, "sbom": true, "spdx_package": true, "spdx_file": true, "spdx_relationship": true,
		"vulnerability_assessment": false, "sbom_reference": false, "secret": false, "ai_skill_analysis": false,
	}
	for _, member := range metadatatest.Members(&grafeasbeta.Note{}, "type") {
		stored := v1beta1.NoteFrom(metadatatest.Filled(&grafeasbeta.Note{}, member, 0))
		if want, known := notes[string(member)]; !known || metadata.HasOriginal(stored) != want {
			t.Errorf("note %s: kept %t, want %t (known %t)", member, metadata.HasOriginal(stored), want, known)
		}
	}
	occurrences := map[string]bool{
		"vulnerability": true, "build": false, "derived_image": false, "installation": false, "deployment": false, "discovered": true,
		"attestation": true, "intoto": true, "sbom": true, "spdx_package": true, "spdx_file": true, "spdx_relationship": true,
		"sbom_reference": false, "secret": false, "ai_skill_analysis": false,
	}
	for _, member := range metadatatest.Members(&grafeasbeta.Occurrence{}, "details") {
		o := metadatatest.Filled(&grafeasbeta.Occurrence{}, member, 0)
		o.Resource = &grafeasbeta.Resource{Uri: "https://example.com/image@sha256:00"}
		stored := v1beta1.OccurrenceFrom(o)
		if want, known := occurrences[string(member)]; !known || metadata.HasOriginal(stored) != want {
			t.Errorf("occurrence %s: kept %t, want %t (known %t)", member, metadata.HasOriginal(stored), want, known)
		}
	}
}

func TestFormerWaysToNameAResourceAreKept(t *testing.T) {
	sent := metadatatest.Filled(&grafeasbeta.Occurrence{}, "deployment", 0)
	stored := v1beta1.OccurrenceFrom(sent)
	if !metadata.HasOriginal(stored) {
		t.Error("the name and the content hash of the resource have no place in v1, and are not kept")
	}
	stored.ResourceUri = "https://example.com/moved"
	got := v1beta1.OccurrenceTo(stored)
	if got.GetResource().GetUri() != "https://example.com/moved" || got.GetResource().GetContentHash() == nil {
		t.Errorf("resource %v: the URI is v1's, the rest is what was sent", got.GetResource())
	}
}

func TestCommonFieldsAreThoseOfV1(t *testing.T) {
	stored := v1beta1.NoteFrom(metadatatest.Filled(&grafeasbeta.Note{}, "intoto", 0))
	stored.ShortDescription = "changed through v1"
	stored.RelatedUrl = []*grafeas.RelatedUrl{{Url: "https://example.com"}}
	got := v1beta1.NoteTo(stored)
	if got.GetShortDescription() != "changed through v1" || len(got.GetRelatedUrl()) != 1 {
		t.Errorf("got %v, want what v1 has", got)
	}
	if got.GetIntoto().GetStepName() == "" {
		t.Error("the type is lost")
	}
}

func TestStrangeAddressesGoWhenV1ChangesThem(t *testing.T) {
	sent := metadatatest.Filled(&grafeasbeta.Note{}, "intoto", 0)
	addUnknown(sent.ProtoReflect())
	stored := v1beta1.NoteFrom(sent)
	stored.RelatedUrl[0].Url = "https://example.com/changed"
	got := v1beta1.NoteTo(stored).GetRelatedUrl()
	if len(got) != len(stored.GetRelatedUrl()) || got[0].GetUrl() != "https://example.com/changed" {
		t.Errorf("got %v, want what v1 has", got)
	}
}

func TestWhatV1Sees(t *testing.T) {
	location := &vulnerability.VulnerabilityLocation{CpeUri: "cpe:/o:debian:12", Package: "zlib", Version: &pkg.Version{Kind: pkg.Version_NORMAL, Name: "1.2"}}
	version := &grafeas.Version{Kind: grafeas.Version_NORMAL, Name: "1.2"}
	hash := func(h provenance.Hash_HashType) *provenance.Hash {
		return &provenance.Hash{Type: h, Value: []byte("v")}
	}
	for _, tc := range []struct {
		name string
		sent *grafeasbeta.Occurrence
		want *grafeas.Occurrence
		kept bool
	}{{
		name: "an OpenPGP attestation is a signature that holds its payload",
		sent: &grafeasbeta.Occurrence{Details: &grafeasbeta.Occurrence_Attestation{Attestation: &attestation.Details{
			Attestation: &attestation.Attestation{Signature: &attestation.Attestation_PgpSignedAttestation{
				PgpSignedAttestation: &attestation.PgpSignedAttestation{
					Signature: "armour", KeyId: &attestation.PgpSignedAttestation_PgpKeyId{PgpKeyId: "AB"}}}}}}},
		want: &grafeas.Occurrence{Kind: grafeas.NoteKind_ATTESTATION, Details: &grafeas.Occurrence_Attestation{
			Attestation: &grafeas.AttestationOccurrence{Signatures: []*grafeas.Signature{{Signature: []byte("armour"), PublicKeyId: "AB"}}}}},
		kept: true,
	}, {
		name: "a generic attestation is v1's",
		sent: &grafeasbeta.Occurrence{Details: &grafeasbeta.Occurrence_Attestation{Attestation: &attestation.Details{
			Attestation: &attestation.Attestation{Signature: &attestation.Attestation_GenericSignedAttestation{
				GenericSignedAttestation: &attestation.GenericSignedAttestation{
					SerializedPayload: []byte("payload"), Signatures: []*common.Signature{{Signature: []byte("s"), PublicKeyId: "k"}}}}}}}},
		want: &grafeas.Occurrence{Kind: grafeas.NoteKind_ATTESTATION, Details: &grafeas.Occurrence_Attestation{
			Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: []byte("payload"), Signatures: []*grafeas.Signature{{Signature: []byte("s"), PublicKeyId: "k"}}}}},
	}, {
		name: "a vulnerability's locations are taken apart",
		sent: &grafeasbeta.Occurrence{Details: &grafeasbeta.Occurrence_Vulnerability{Vulnerability: &vulnerability.Details{
			EffectiveSeverity: vulnerability.Severity_HIGH, CvssV3: &vulnerability.CVSS{BaseScore: 7},
			PackageIssue: []*vulnerability.PackageIssue{{AffectedLocation: location, FixedLocation: location}}}}},
		want: &grafeas.Occurrence{Kind: grafeas.NoteKind_VULNERABILITY, Details: &grafeas.Occurrence_Vulnerability{
			Vulnerability: &grafeas.VulnerabilityOccurrence{
				EffectiveSeverity: grafeas.Severity_HIGH, Cvssv3: &grafeas.CVSS{BaseScore: 7},
				PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{{
					AffectedCpeUri: "cpe:/o:debian:12", AffectedPackage: "zlib", AffectedVersion: version,
					FixedCpeUri: "cpe:/o:debian:12", FixedPackage: "zlib", FixedVersion: version}}}}},
	}, {
		name: "a layer's directive is text",
		sent: &grafeasbeta.Occurrence{Details: &grafeasbeta.Occurrence_DerivedImage{DerivedImage: &image.Details{
			DerivedImage: &image.Derived{LayerInfo: []*image.Layer{{Directive: image.Layer_COPY, Arguments: ". ."}}}}}},
		want: &grafeas.Occurrence{Kind: grafeas.NoteKind_IMAGE, Details: &grafeas.Occurrence_Image{
			Image: &grafeas.ImageOccurrence{LayerInfo: []*grafeas.Layer{{Directive: "COPY", Arguments: ". ."}}}}},
	}, {
		name: "the state of an analysis is v1's, its former time is kept",
		sent: &grafeasbeta.Occurrence{Details: &grafeasbeta.Occurrence_Discovered{Discovered: &discovery.Details{
			Discovered: filledDiscovered(discovery.Discovered_FINISHED_SUCCESS)}}},
		want: &grafeas.Occurrence{Kind: grafeas.NoteKind_DISCOVERY, Details: &grafeas.Occurrence_Discovery{
			Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_FINISHED_SUCCESS}}},
		kept: true,
	}} {
		t.Run(tc.name, func(t *testing.T) {
			stored := v1beta1.OccurrenceFrom(tc.sent)
			if metadata.HasOriginal(stored) != tc.kept {
				t.Errorf("kept %t, want %t", metadata.HasOriginal(stored), tc.kept)
			}
			metadata.StripOriginal(stored)
			if diff := cmp.Diff(tc.want, stored, protocmp.Transform()); diff != "" {
				t.Errorf("v1 sees otherwise (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("hashes are named as in v1", func(t *testing.T) {
		sent := metadatatest.Filled(&grafeasbeta.Occurrence{}, "build", 0)
		sent.GetBuild().Provenance.SourceProvenance.FileHashes = map[string]*provenance.FileHashes{
			"f": {FileHash: []*provenance.Hash{hash(provenance.Hash_SHA256), hash(provenance.Hash_GO_MODULE_H1)}}}
		got := v1beta1.OccurrenceFrom(sent).GetBuild().GetProvenance().GetSourceProvenance().GetFileHashes()["f"].GetFileHash()
		if got[0].GetType() != "SHA-256" || got[1].GetType() != "GO_MODULE_H1" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("nothing of a kind it has not", func(t *testing.T) {
		stored := v1beta1.NoteFrom(metadatatest.Filled(&grafeasbeta.Note{}, "spdx_file", 0))
		if stored.GetType() != nil || stored.GetKind() != metadata.KindSPDXFile {
			t.Errorf("type %T, kind %d", stored.GetType(), stored.GetKind())
		}
	})
}

func filledDiscovered(status discovery.Discovered_AnalysisStatus) *discovery.Discovered {
	d := &discovery.Discovered{AnalysisStatus: status}
	metadatatest.FillField(d.ProtoReflect(), "last_analysis_time", 0)
	return d
}

// onlyV1 are the kinds that v1beta1 has not, by the members that make them.
var onlyV1 = map[protoreflect.Name]grafeas.NoteKind{
	"upgrade":          grafeas.NoteKind_UPGRADE,
	"compliance":       grafeas.NoteKind_COMPLIANCE,
	"dsse_attestation": grafeas.NoteKind_DSSE_ATTESTATION,
}

func TestKindsOnlyInV1ShowTheCommonFields(t *testing.T) {
	for member, kind := range onlyV1 {
		n := v1beta1.NoteTo(metadatatest.Filled(&grafeas.Note{Kind: kind}, member, 0))
		if n.GetType() != nil || n.GetKind() != 0 || n.GetShortDescription() == "" || len(n.GetRelatedUrl()) == 0 {
			t.Errorf("note %s shows as %v", member, n)
		}
		o := v1beta1.OccurrenceTo(metadatatest.Filled(&grafeas.Occurrence{Kind: kind}, member, 0))
		if o.GetDetails() != nil || o.GetKind() != 0 || o.GetRemediation() == "" || o.GetResource().GetUri() == "" {
			t.Errorf("occurrence %s shows as %v", member, o)
		}
	}
}

func TestAnalysesOfKindsThatV1HasNot(t *testing.T) {
	for _, kind := range []common.NoteKind{common.NoteKind_SBOM, common.NoteKind_SECRET, 50, 99} {
		sent := &grafeasbeta.Note{Kind: common.NoteKind_DISCOVERY,
			Type: &grafeasbeta.Note_Discovery{Discovery: &discovery.Discovery{AnalysisKind: kind}}}
		stored := v1beta1.NoteFrom(sent)
		if got := v1beta1.NoteTo(stored); !proto.Equal(got, sent) {
			t.Errorf("kind %v came back as %v", kind, got)
		}
		if kind == common.NoteKind_SECRET && stored.GetDiscovery().GetAnalysisKind() != grafeas.NoteKind_SECRET {
			t.Errorf("v1 sees %v", stored)
		}
	}
}

func TestNothingIsNothing(t *testing.T) {
	if v1beta1.NoteFrom(nil) != nil || v1beta1.NoteTo(nil) != nil || v1beta1.OccurrenceFrom(nil) != nil || v1beta1.OccurrenceTo(nil) != nil {
		t.Error("a message came of none")
	}
}
