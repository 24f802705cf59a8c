package v1beta1_test

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// invalid checks the error of a rule: nil if want is "", else an InvalidArgument
// of just this text.
func invalid(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want %s", want)
	case want != "" && (metadata.KindOf(err) != metadata.InvalidArgument || err.Error() != want):
		t.Errorf("error (%v)\n%v\nwant\n%s", metadata.KindOf(err), err, want)
	}
}

func TestNoteRules(t *testing.T) {
	for _, tc := range []struct{ name, note, want string }{
		{"no type", `{}`, "type is required: set one that this version of Grafeas knows"},
		{"an authority", `{"attestationAuthority": {"hint": {"humanReadableName": "qa"}}}`, ""},
		{"an authority without a hint", `{"attestationAuthority": {}}`, ""},
		{"an authority with an empty hint", `{"attestationAuthority": {"hint": {}}}`, "attestation_authority.hint.human_readable_name is required"},
		{"a build", `{"build": {"builderVersion": "1"}}`, ""},
		{"a build of nothing", `{"build": {"signature": {}}}`, "build.builder_version is required, build.signature.signature is required"},
		{"a deployable", `{"deployable": {"resourceUri": ["a"]}}`, ""},
		{"a deployable of nothing", `{"deployable": {}}`, "deployable.resource_uri is required"},
		{"a deployable with an empty URI", `{"deployable": {"resourceUri": ["a", ""]}}`, "deployable.resource_uri[1] is required"},
		{"a discovery", `{"discovery": {"analysisKind": "SPDX_FILE"}}`, ""},
		{"a discovery of nothing", `{"discovery": {}}`, "discovery.analysis_kind is required"},
		{"a base image", `{"baseImage": {"resourceUrl": "u", "fingerprint": {"v1Name": "n", "v2Blob": ["b"]}}}`, ""},
		{"a base image of nothing", `{"baseImage": {}}`, "base_image.resource_url is required, base_image.fingerprint is required"},
		{"an empty fingerprint", `{"baseImage": {"resourceUrl": "u", "fingerprint": {}}}`,
			"base_image.fingerprint.v1_name is required, base_image.fingerprint.v2_blob is required"},
		{"an empty blob", `{"baseImage": {"resourceUrl": "u", "fingerprint": {"v1Name": "n", "v2Blob": [""]}}}`, "base_image.fingerprint.v2_blob[0] is required"},
		{"a package", `{"package": {"name": "p", "distribution": [{"cpeUri": "c", "latestVersion": {"kind": "NORMAL", "name": "1"}}]}}`, ""},
		{"a package of nothing", `{"package": {"distribution": [{"latestVersion": {"kind": "NORMAL"}}]}}`,
			"package.name is required, package.distribution[0].cpe_uri is required, package.distribution[0].latest_version.name is required"},
		{"a version without a kind", `{"package": {"name": "p", "distribution": [{"cpeUri": "c", "latestVersion": {}}]}}`,
			"package.distribution[0].latest_version.kind is required"},
		{"a vulnerability without details", `{"vulnerability": {}}`, ""},
		{"a vulnerability", `{"vulnerability": {"details": [{"cpeUri": "c", "package": "p", "fixedLocation": {"cpeUri": "c", "package": "p", "version": {"kind": "NORMAL", "name": "1"}}}]}}`, ""},
		{"a vulnerability of nothing", `{"vulnerability": {"details": [{"minAffectedVersion": {}, "maxAffectedVersion": {}, "fixedLocation": {}}]}}`,
			"vulnerability.details[0].cpe_uri is required, vulnerability.details[0].package is required, " +
				"vulnerability.details[0].min_affected_version.kind is required, vulnerability.details[0].max_affected_version.kind is required, " +
				"vulnerability.details[0].fixed_location.cpe_uri is required, vulnerability.details[0].fixed_location.package is required, " +
				"vulnerability.details[0].fixed_location.version is required"},
		{"a kind without rules", `{"spdxFile": {}}`, ""},
		{"another kind without rules", `{"aiSkillAnalysis": {}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var n grafeasbeta.Note
			if err := protojson.Unmarshal([]byte(tc.note), &n); err != nil {
				t.Fatal(err)
			}
			if tc.want != "" {
				tc.want = "note is invalid: [" + tc.want + "]"
			}
			invalid(t, v1beta1.ValidateNote(v1beta1.NoteFrom(&n)), tc.want)
		})
	}
}

func TestOccurrenceRules(t *testing.T) {
	const about = `"resource": {"uri": "u"}, "noteName": "projects/p/notes/n"`
	for _, tc := range []struct{ name, occurrence, want string }{
		{"nothing", `{}`, "resource is required, note_name is required, details is required: set one that this version of Grafeas knows"},
		{"no URI", `{"resource": {}, "noteName": "projects/p/notes/n", "secret": {}}`, "resource.uri is required"},
		{"an OpenPGP attestation", `{` + about + `, "attestation": {"attestation": {"pgpSignedAttestation": {"signature": "s"}}}}`, ""},
		{"an OpenPGP attestation of nothing", `{` + about + `, "attestation": {"attestation": {"pgpSignedAttestation": {}}}}`,
			"attestation.attestation.pgp_signed_attestation.signature is required"},
		{"a generic attestation", `{` + about + `, "attestation": {"attestation": {"genericSignedAttestation": {
			"serializedPayload": "cA==", "signatures": [{"signature": "cw==", "publicKeyId": "k"}]}}}}`, ""},
		{"a generic attestation of nothing", `{` + about + `, "attestation": {"attestation": {"genericSignedAttestation": {}}}}`,
			"attestation.attestation.generic_signed_attestation.serialized_payload or attestation.attestation.generic_signed_attestation.signatures is required"},
		{"an empty signature", `{` + about + `, "attestation": {"attestation": {"genericSignedAttestation": {"serializedPayload": "cA==", "signatures": [{}]}}}}`,
			"attestation.attestation.generic_signed_attestation.signatures[0].public_key_id is required, " +
				"attestation.attestation.generic_signed_attestation.signatures[0].signature is required"},
		{"an attestation of nothing", `{` + about + `, "attestation": {}}`, "attestation.attestation is required"},
		{"an attestation without a form", `{` + about + `, "attestation": {"attestation": {}}}`,
			"attestation.attestation.pgp_signed_attestation or attestation.attestation.generic_signed_attestation is required"},
		{"a build with SLSA provenance alone", `{` + about + `, "build": {"inTotoSlsaProvenanceV1": {"_type": "t"}}}`, ""},
		{"a build of nothing", `{` + about + `, "build": {}}`, "build.provenance or build.in_toto_slsa_provenance_v1 is required"},
		{"a build with gaps", `{` + about + `, "build": {"provenance": {"commands": [{}], "sourceProvenance": {"fileHashes": {"a": {}, "b": {"fileHash": [{}]}}}}}}`,
			`build.provenance.id is required, build.provenance.commands[0].name is required, ` +
				`build.provenance.source_provenance.file_hashes["a"].file_hash is required, ` +
				`build.provenance.source_provenance.file_hashes["b"].file_hash[0].type is required, ` +
				`build.provenance.source_provenance.file_hashes["b"].file_hash[0].value is required`},
		{"a deployment", `{` + about + `, "deployment": {"deployment": {"deployTime": "2026-01-01T00:00:00Z"}}}`, ""},
		{"a deployment of nothing", `{` + about + `, "deployment": {}}`, "deployment.deployment is required"},
		{"a deployment without a time", `{` + about + `, "deployment": {"deployment": {}}}`, "deployment.deployment.deploy_time is required"},
		{"a discovery", `{` + about + `, "discovered": {"discovered": {}}}`, ""},
		{"a discovery of nothing", `{` + about + `, "discovered": {}}`, "discovered.discovered is required"},
		{"a derived image of nothing", `{` + about + `, "derivedImage": {}}`, "derived_image.derived_image is required"},
		{"a layer of nothing", `{` + about + `, "derivedImage": {"derivedImage": {"fingerprint": {"v1Name": "n", "v2Blob": ["b"]}, "layerInfo": [{}]}}}`,
			"derived_image.derived_image.layer_info[0].directive is required"},
		{"an installation of nothing", `{` + about + `, "installation": {}}`, "installation.installation is required"},
		{"an installation with gaps", `{` + about + `, "installation": {"installation": {"location": [{"version": {}}]}}}`,
			"installation.installation.name is required, installation.installation.location[0].cpe_uri is required, " +
				"installation.installation.location[0].version.kind is required"},
		{"an installation nowhere", `{` + about + `, "installation": {"installation": {"name": "p"}}}`, "installation.installation.location is required"},
		{"a vulnerability of nothing", `{` + about + `, "vulnerability": {}}`, "vulnerability.package_issue is required"},
		{"a vulnerability with gaps", `{` + about + `, "vulnerability": {"packageIssue": [{}, {"affectedLocation": {"cpeUri": "c", "package": "p", "version": {"kind": "MINIMUM"}}, "fixedLocation": {"cpeUri": "c"}}]}}`,
			"vulnerability.package_issue[0].affected_location is required, vulnerability.package_issue[1].fixed_location.package is required, " +
				"vulnerability.package_issue[1].fixed_location.version is required"},
		{"a vulnerability without a fix, as v1 writes it", `{` + about + `, "vulnerability": {"packageIssue": [{
			"affectedLocation": {"cpeUri": "c", "package": "p", "version": {"kind": "NORMAL", "name": "1"}}, "fixedLocation": {"version": {"kind": "MAXIMUM"}}}]}}`, ""},
		{"a kind without rules", `{` + about + `, "intoto": {}}`, ""},
		{"another kind without rules", `{` + about + `, "aiSkillAnalysis": {}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var o grafeasbeta.Occurrence
			if err := protojson.Unmarshal([]byte(tc.occurrence), &o); err != nil {
				t.Fatal(err)
			}
			if tc.want != "" {
				tc.want = "occurrence is invalid: [" + tc.want + "]"
			}
			invalid(t, v1beta1.ValidateOccurrence(v1beta1.OccurrenceFrom(&o)), tc.want)
		})
	}
}

func TestRulesOfV1HoldForWhatOnlyV1Knows(t *testing.T) {
	layer := &grafeas.Occurrence{ResourceUri: "u", NoteName: "projects/p/notes/n", Details: &grafeas.Occurrence_Image{
		Image: &grafeas.ImageOccurrence{
			Fingerprint: &grafeas.Fingerprint{V1Name: "n", V2Blob: []string{"b"}},
			LayerInfo:   []*grafeas.Layer{{Directive: "of another builder"}},
		}}}
	invalid(t, v1beta1.ValidateOccurrence(layer), "")
	layer.GetImage().LayerInfo[0].Arguments, layer.GetImage().Fingerprint.V1Name = "a", ""
	invalid(t, v1beta1.ValidateOccurrence(layer), "occurrence is invalid: [image.fingerprint.v1_name is required]")
	invalid(t, v1beta1.ValidateNote(&grafeas.Note{Type: &grafeas.Note_Upgrade{Upgrade: &grafeas.UpgradeNote{}}}), "")
}

func TestTextThatNoTransportLetsIn(t *testing.T) {
	n := metadatatest.Filled(&grafeasbeta.Note{}, "intoto", 0)
	n.GetIntoto().StepName = "\xff"
	if err := v1beta1.ValidateNote(v1beta1.NoteFrom(n)); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("error %v: the note would be lost", err)
	}
	o := metadatatest.Filled(&grafeasbeta.Occurrence{}, "spdx_file", 0)
	o.GetSpdxFile().Id = "\xff"
	if err := v1beta1.ValidateOccurrence(v1beta1.OccurrenceFrom(o)); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("error %v: the occurrence would be lost", err)
	}
}

func TestDialectIsWhole(t *testing.T) {
	d := v1beta1.Dialect()
	if d.Name == "" || d.ValidateNote == nil || d.ValidateOccurrence == nil || d.Notes == nil || d.Occurrences == nil {
		t.Error("the service needs every field of it")
	}
	n, o := metadatatest.Filled(&grafeas.Note{}, "package", 0), metadatatest.Filled(&grafeas.Occurrence{}, "package", 0)
	if got := d.NoteView(n).ProtoReflect().Descriptor(); got != d.Notes {
		t.Errorf("a note's view is a %v", got.FullName())
	}
	if got := d.OccurrenceView(o).ProtoReflect().Descriptor(); got != d.Occurrences {
		t.Errorf("an occurrence's view is a %v", got.FullName())
	}
}
