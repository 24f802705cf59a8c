package metadata

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

func TestNoteValidation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ note, want string }{
		{`{}`, "type is required"},
		{`{"attestation":{}}`, ""},
		{`{"attestation":{"hint":{}}}`, "attestation.hint.human_readable_name is required"},
		{`{"build":{}}`, "build.builder_version is required"},
		{`{"build":{"builderVersion":"1"}}`, ""},
		{`{"deployment":{}}`, "deployment.resource_uri is required"},
		{`{"deployment":{"resourceUri":["a",""]}}`, "deployment.resource_uri[1] is required"},
		{`{"discovery":{}}`, "discovery.analysis_kind is required"},
		{`{"discovery":{"analysisKind":"VULNERABILITY"}}`, ""},
		{`{"image":{"resourceUrl":"u"}}`, "image.fingerprint is required"},
		{`{"image":{"fingerprint":{}}}`, "image.resource_url is required, image.fingerprint.v1_name is required, image.fingerprint.v2_blob is required"},
		{`{"image":{"resourceUrl":"u","fingerprint":{"v1Name":"n","v2Blob":["b"]}}}`, ""},
		{`{"package":{"distribution":[{"latestVersion":{}}]}}`, "package.name is required, package.distribution[0].cpe_uri is required, package.distribution[0].latest_version.kind is required"},
		{`{"package":{"name":"n","distribution":[{"cpeUri":"c","latestVersion":{"kind":"NORMAL"}}]}}`, "package.distribution[0].latest_version.name is required"},
		{`{"package":{"name":"n"}}`, ""},
		{`{"vulnerability":{}}`, "vulnerability.details is required"},
		{`{"vulnerability":{"details":[{}]}}`, "vulnerability.details[0].affected_cpe_uri is required, vulnerability.details[0].affected_package is required"},
		{`{"vulnerability":{"details":[{"affectedCpeUri":"c","affectedPackage":"p","fixedVersion":{"kind":"NORMAL","name":"1"}}]}}`,
			"vulnerability.details[0].fixed_cpe_uri is required, vulnerability.details[0].fixed_package is required"},
		{`{"vulnerability":{"details":[{"affectedCpeUri":"c","affectedPackage":"p","fixedVersion":{"kind":"MAXIMUM"}}]}}`, ""},
		{`{"upgrade":{}}`, ""}, {`{"compliance":{}}`, ""}, {`{"dsseAttestation":{}}`, ""},
		{`{"vulnerabilityAssessment":{}}`, ""}, {`{"sbomReference":{}}`, ""}, {`{"secret":{}}`, ""},
	} {
		var n grafeas.Note
		if err := protojson.Unmarshal([]byte(test.note), &n); err != nil {
			t.Fatal(err)
		}
		checkProblems(t, test.note, validateNote(&n), test.want)
	}
}

func TestOccurrenceValidation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ details, want string }{
		{`"kind":"BUILD"`, "details is required"},
		{`"attestation":{}`, "attestation.serialized_payload or attestation.jwts is required"},
		{`"attestation":{"serializedPayload":"eA==","signatures":[{}]}`, "attestation.signatures[0].public_key_id is required, attestation.signatures[0].signature is required"},
		{`"attestation":{"serializedPayload":"eA==","signatures":[{"publicKeyId":"k","signature":"eA=="}]}`, ""},
		{`"attestation":{"jwts":[{"compactJwt":"a.b.c"}]}`, ""},
		{`"build":{}`, "build.provenance, build.intoto_provenance"},
		{`"build":{"inTotoSlsaProvenanceV1":{}}`, ""},
		{`"build":{"provenance":{"commands":[{}]}}`, "build.provenance.id is required, build.provenance.commands[0].name is required"},
		{`"build":{"provenance":{"id":"b","sourceProvenance":{"fileHashes":{"f":{},"g":{"fileHash":[{}]}}}}}`,
			`file_hashes["f"].file_hash is required, build.provenance.source_provenance.file_hashes["g"].file_hash[0].type is required, build.provenance.source_provenance.file_hashes["g"].file_hash[0].value is required`},
		{`"deployment":{}`, "deployment.deploy_time is required"},
		{`"deployment":{"deployTime":"2026-01-01T00:00:00Z"}`, ""},
		{`"discovery":{}`, ""},
		{`"image":{}`, "image.fingerprint is required"},
		{`"image":{"fingerprint":{"v1Name":"n","v2Blob":[""]},"layerInfo":[{}]}`, "image.fingerprint.v2_blob[0] is required, image.layer_info[0].directive is required"},
		{`"package":{}`, "package.name is required, package.location is required"},
		{`"package":{"name":"n","location":[{"version":{"kind":"NORMAL"}}]}`, "package.location[0].cpe_uri is required, package.location[0].version.name is required"},
		{`"package":{"name":"n","location":[{"cpeUri":"c"}]}`, ""},
		{`"vulnerability":{}`, "vulnerability.package_issue is required"},
		{`"vulnerability":{"packageIssue":[{"affectedCpeUri":"c","affectedPackage":"p","affectedVersion":{"kind":"MINIMUM"}}]}`, "vulnerability.package_issue[0].fixed_version is required"},
		{`"vulnerability":{"packageIssue":[{"affectedCpeUri":"c","affectedPackage":"p","affectedVersion":{"kind":"NORMAL","name":"1"},"fixedVersion":{"kind":"NORMAL","name":"2"}}]}`,
			"vulnerability.package_issue[0].fixed_cpe_uri is required, vulnerability.package_issue[0].fixed_package is required"},
		{`"vulnerability":{"packageIssue":[{"affectedCpeUri":"c","affectedPackage":"p","affectedVersion":{"kind":"NORMAL","name":"1"},"fixedVersion":{"kind":"MAXIMUM"}}]}`, ""},
		{`"upgrade":{}`, ""}, {`"compliance":{}`, ""}, {`"dsseAttestation":{}`, ""}, {`"sbomReference":{}`, ""}, {`"secret":{}`, ""},
	} {
		var o grafeas.Occurrence
		text := `{"resourceUri":"https://r@sha256:1",` + test.details + `}`
		if err := protojson.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		checkProblems(t, test.details, validateOccurrence(&o), test.want)
	}
	secret := &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}}
	checkProblems(t, "no resource", validateOccurrence(&grafeas.Occurrence{Details: secret}), "resource_uri is required")
	long := &grafeas.Occurrence{Details: secret, ResourceUri: strings.Repeat("x", maxURI+1)}
	checkProblems(t, "long resource", new(Service).validateOccurrence(long), "one line of at most 4096 bytes")
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	n := &grafeas.DeploymentNote{ResourceUri: make([]string, 1000)}
	err := validateNote(&grafeas.Note{Type: &grafeas.Note_Deployment{Deployment: n}})
	if err == nil || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "and 980 more") {
		t.Errorf("got error %v", err)
	}
}

func checkProblems(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (KindOf(err) != InvalidArgument || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got error %v, want InvalidArgument with %q", what, err, want)
	}
}
