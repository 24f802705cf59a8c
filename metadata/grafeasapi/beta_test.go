package grafeasapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/attestation"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

const voucherImage = "https://gcr.io/alpine@" + digest

// What Voucher's own client sends and reads in its Grafeas mode.
func TestVoucherOverRESTv1beta1(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1beta1/projects/provider/notes?note_id=diy", `{"attestationAuthority":{"hint":{"humanReadableName":"diy"}}}`,
		200, `"kind":"ATTESTATION"`, `"attestationAuthority":{"hint":{"humanReadableName":"diy"}}`)
	occurrence := `{"name":"","resource":{"name":"","uri":"` + voucherImage + `","contentHash":null},"noteName":"projects/provider/notes/diy",` +
		`"kind":"ATTESTATION","remediation":"","createTime":"0001-01-01T00:00:00Z","updateTime":"0001-01-01T00:00:00Z",` +
		`"attestation":{"attestation":{"pgpSignedAttestation":{"signature":"LS0tLS1CRUdJTg==","contentType":"SIMPLE_SIGNING_JSON","pgpKeyId":"90E942641C07A4C466BA97161EAF1DDD5EDB32B9"}}}}`
	created := s.expect("POST", "/v1beta1/projects/p/occurrences", occurrence, 200,
		`"kind":"ATTESTATION"`, `"resource":{"uri":"`+voucherImage+`"}`, `"pgpSignedAttestation":{"signature":"LS0tLS1CRUdJTg=="`)
	s.expect("POST", "/v1beta1/projects/p/occurrences", occurrence, 409, `"code":6`)
	name := field(t, created, "name")
	if got := s.expect("GET", "/v1beta1/"+name, "", 200); got != created {
		t.Errorf("read %s, created %s", got, created)
	}
	s.expect("GET", "/v1beta1/projects/p/occurrences?page_size=20&page_token=", "", 200, name, `"kind":"ATTESTATION"`)
	s.expect("GET", "/v1beta1/projects/provider/notes?page_size=20", "", 200, `"kind":"ATTESTATION"`)
	s.expect("GET", "/v1beta1/"+name+"/notes", "", 200, `"projects/provider/notes/diy"`)
	s.expect("GET", "/v1beta1/projects/provider/notes/diy/occurrences", "", 200, name)
	// v1 sees the same.
	s.expect("GET", "/v1/"+name, "", 200, `"kind":"ATTESTATION"`, `"resourceUri":"`+voucherImage+`"`)
	s.expect("DELETE", "/v1beta1/"+name, "", 200, `{}`)
	s.expect("GET", "/v1beta1/"+name, "", 404, `"code":5`, `"error":{"code":404`)
}

func TestProjectsUnderBothPrefixes(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("GET", "/v1beta1/projects", "", 200, `{}`)
	s.expect("POST", "/v1beta1/projects", `{"name":"projects/kritis"}`, 200, `{"name":"projects/kritis"}`)
	s.expect("POST", "/v1/projects", `{"name":"projects/kritis"}`, 409, `"ALREADY_EXISTS"`)
	s.expect("POST", "/v1/projects", `{"name":"projects/a"}`, 200)
	s.expect("GET", "/v1/projects/kritis", "", 200, `"projects/kritis"`)
	s.expect("GET", "/v1beta1/projects?pageSize=1", "", 200, `{"projects":[{"name":"projects/a"}],"nextPageToken":"`)
	s.expect("GET", "/v1beta1/projects?page_size=-1", "", 400, `"INVALID_ARGUMENT"`)
	s.expect("GET", "/v1beta1/projects?page_token=99", "", 400, `"INVALID_ARGUMENT"`)
	s.expect("POST", "/v1beta1/projects", `{}`, 400, `"INVALID_ARGUMENT"`)
	s.expect("POST", "/v1beta1/projects", `{"name":"a"}`, 400, `projects/[PROJECT_ID]`)
	s.expect("DELETE", "/v1beta1/projects/a", "", 200, `{}`)
	s.expect("DELETE", "/v1/projects/a", "", 404, `"NOT_FOUND"`)
	_, err := betaprojects.NewProjectsClient(s.conn).GetProject(t.Context(), &betaprojects.GetProjectRequest{Name: "projects/kritis"})
	check(t, err, codes.OK)
}

func TestKindsOfOneVersionSeenThroughTheOther(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	// v1beta1 alone has INTOTO.
	s.expect("POST", "/v1beta1/projects/p/notes?noteId=step", `{"shortDescription":"x","intoto":{"stepName":"build","threshold":"2"}}`,
		200, `"kind":"INTOTO"`, `"threshold":"2"`)
	s.expect("GET", "/v1/projects/p/notes/step", "", 200, `"kind":"NOTE_KIND_UNSPECIFIED"`, `"shortDescription":"x"`)
	s.expect("GET", "/v1/projects/p/notes?filter=kind%3D%22INTOTO%22", "", 200, "notes/step")
	s.expect("PATCH", "/v1/projects/p/notes/step", `{"shortDescription":"y"}`, 200, `"shortDescription":"y"`)
	s.expect("GET", "/v1beta1/projects/p/notes/step", "", 200, `"kind":"INTOTO"`, `"threshold":"2"`, `"shortDescription":"y"`)
	s.expect("PATCH", "/v1/projects/p/notes/step", `{"secret":{}}`, 400)
	// v1 alone has COMPLIANCE.
	s.expect("POST", "/v1/projects/p/notes?noteId=cis", `{"compliance":{"title":"t"}}`, 200, `"kind":"COMPLIANCE"`)
	s.expect("GET", "/v1beta1/projects/p/notes/cis", "", 200, `"kind":"NOTE_KIND_UNSPECIFIED"`)
	s.expect("GET", "/v1beta1/projects/p/notes", "", 200, `"kind":"NOTE_KIND_UNSPECIFIED"`, `"kind":"INTOTO"`)
	s.expect("PATCH", "/v1beta1/projects/p/notes/cis", `{"longDescription":"z"}`, 200, `"longDescription":"z"`)
	s.expect("GET", "/v1/projects/p/notes/cis", "", 200, `"kind":"COMPLIANCE"`, `"title":"t"`, `"longDescription":"z"`)
	// Both have AI_SKILL_ANALYSIS, which Google's Go package for v1 lacks.
	s.expect("POST", "/v1/projects/p/notes?noteId=skill", `{"aiSkillAnalysis":{}}`, 200, `"kind":"AI_SKILL_ANALYSIS"`, `"aiSkillAnalysis":{}`)
	o := s.expect("POST", "/v1/projects/p/occurrences", `{"resourceUri":"r","noteName":"projects/p/notes/skill","aiSkillAnalysis":{"skillName":"s"}}`,
		200, `"kind":"AI_SKILL_ANALYSIS"`, `"skillName":"s"`)
	s.expect("GET", "/v1beta1/"+field(t, o, "name"), "", 200, `"kind":"AI_SKILL_ANALYSIS"`, `"skillName":"s"`)
	s.expect("GET", "/v1/projects/p/occurrences?%24alt=json%3Benum-encoding%3Dint", "", 200, `"kind":14`)
}

func TestPatches(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	for _, v := range []string{"v1", "v1beta1"} {
		at := "/" + v + "/projects/" + v + "/notes"
		s.expect("POST", at+"?noteId=n", `{"shortDescription":"s","longDescription":"l","relatedUrl":[{"url":"u"}],"secret":{}}`, 200)
		// Without a mask, what the body has is what changes.
		s.expect("PATCH", at+"/n", `{"shortDescription":"t"}`, 200, `"shortDescription":"t"`, `"longDescription":"l"`, `"url":"u"`)
		s.expect("PATCH", at+"/n?updateMask=longDescription,short_description", `{"longDescription":"m","relatedUrl":[]}`, 200, `"longDescription":"m"`, `"url":"u"`)
		s.expect("PATCH", at+"/n", `{"relatedUrl":[{"url":"v"},{"url":"w"}]}`, 200, `[{"url":"v"},{"url":"w"}]`)
		// As a client sends back what it has read.
		whole := s.expect("GET", at+"/n", "", 200)
		again := s.expect("PATCH", at+"/n", strings.Replace(whole, `"m"`, `"n"`, 1), 200, `"longDescription":"n"`)
		if strings.Contains(again, `"shortDescription"`) {
			t.Errorf("the mask did not clear the short description: %s", again)
		}
		s.expect("PATCH", at+"/n?updateMask=nope", `{}`, 400, `"INVALID_ARGUMENT"`, "nope")
		s.expect("PATCH", at+"/n", `{"build":{"builderVersion":"1"}}`, 400, "cannot change")
	}
	created := s.expect("POST", "/v1/projects/v1/occurrences", `{"resourceUri":"r","noteName":"projects/v1/notes/n","secret":{"kind":"SECRET_KIND_UNKNOWN"}}`, 200)
	name := field(t, created, "name")
	// A body without noteName is fine, as is one that repeats it.
	s.expect("PATCH", "/v1/"+name, `{"remediation":"x"}`, 200, `"remediation":"x"`, `"noteName":"projects/v1/notes/n"`)
	s.expect("PATCH", "/v1beta1/"+name, `{"remediation":"y","noteName":"projects/v1/notes/n","resource":{"uri":"r"}}`, 200, `"remediation":"y"`)
	s.expect("PATCH", "/v1beta1/"+name, `{"resource":{"uri":"other"}}`, 400, "immutable")
	s.expect("PATCH", "/v1/"+name, `{"noteName":"projects/v1/notes/other"}`, 400, "immutable")
	s.expect("GET", "/v1/projects/v1/occurrences", "", 200, name, `"remediation":"y"`)
}

func TestAccessPoliciesOverREST(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`, 200)
	for _, v := range []string{"v1", "v1beta1"} {
		at := "/" + v + "/projects/p/notes/n"
		s.expect("POST", at+":setIamPolicy", `{"policy":{"bindings":[{"role":"roles/containeranalysis.notes.attacher","members":["user:a"]}]}}`, 200, `"etag":"`)
		s.expect("POST", at+":getIamPolicy", `{}`, 200, `"members":["user:a"]`)
		s.expect("POST", at+":testIamPermissions", `{"permissions":["containeranalysis.notes.get"]}`, 200, `["containeranalysis.notes.get"]`)
		s.expect("POST", at+":setIamPolicy", `{"policy":{"bindings":[{"role":"roles/owner","members":["user:a"]}]}}`, 400, "there is no role")
		s.expect("GET", "/"+v+"/projects/p/occurrences:vulnerabilitySummary", "", 200, `{}`)
		s.expect("GET", "/"+v+"/projects/p/occurrences:vulnerabilitySummary?filter=nope", "", 400, "position 1")
	}
}

// What v1beta1 cannot say to v1 is not lost when it goes over gRPC, and a client
// of v1 can neither see nor set what is kept for it.
func TestOriginalsAreNotForClients(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	client := beta.NewGrafeasV1Beta1Client(s.conn)
	ctx := t.Context()
	_, err := client.CreateNote(ctx, &beta.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: &beta.Note{
		Type: &beta.Note_AttestationAuthority{AttestationAuthority: &attestation.Authority{}},
	}})
	check(t, err, codes.OK)
	sent := &beta.Occurrence{
		Resource: &beta.Resource{Uri: "r", Name: "old name"}, NoteName: "projects/p/notes/n",
		Details: &beta.Occurrence_Attestation{Attestation: &attestation.Details{Attestation: &attestation.Attestation{
			Signature: &attestation.Attestation_PgpSignedAttestation{PgpSignedAttestation: &attestation.PgpSignedAttestation{
				Signature: "armour", KeyId: &attestation.PgpSignedAttestation_PgpKeyId{PgpKeyId: "key"},
			}},
		}}},
	}
	created, err := client.CreateOccurrence(ctx, &beta.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: sent})
	check(t, err, codes.OK)
	sent.Name, sent.Kind, sent.CreateTime, sent.UpdateTime = created.GetName(), common.NoteKind_ATTESTATION, created.GetCreateTime(), created.GetUpdateTime()
	if !proto.Equal(sent, created) {
		t.Errorf("created %v, sent %v", created, sent)
	}
	inV1, err := s.rpc.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: created.GetName()})
	check(t, err, codes.OK)
	if n := len(inV1.ProtoReflect().GetUnknown()); n > 0 {
		t.Errorf("v1 is shown %d bytes that are not its own", n)
	}
	// Details that v1 would not have let in are no hindrance to changing the rest.
	patched, err := s.rpc.UpdateOccurrence(ctx, &grafeas.UpdateOccurrenceRequest{
		Name: created.GetName(), Occurrence: &grafeas.Occurrence{Remediation: "x"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"remediation"}},
	})
	check(t, err, codes.OK)
	if patched.GetRemediation() != "x" {
		t.Errorf("remediation is %q", patched.GetRemediation())
	}
	// To update details through v1 would lose what v1 cannot hold.
	inV1.GetAttestation().SerializedPayload = []byte("x")
	_, err = s.rpc.UpdateOccurrence(ctx, &grafeas.UpdateOccurrenceRequest{Name: created.GetName(), Occurrence: inV1})
	check(t, err, codes.FailedPrecondition)

	forged := &grafeas.Occurrence{ResourceUri: "r2", NoteName: "projects/p/notes/n", Kind: 50}
	forged.ProtoReflect().SetUnknown([]byte{0x82, 0xc6, 0xc1, 0xff, 0x0f, 0x00}) // the field of originals, empty
	_, err = s.rpc.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: forged})
	check(t, err, codes.InvalidArgument)
}

func TestEveryServiceIsServed(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	for _, test := range []struct{ method, path string }{
		{"GET", "/v1/projects/p/notes"}, {"GET", "/v1beta1/projects/p/notes"},
		{"GET", "/v1/projects/p/locations/eu/occurrences"}, {"GET", "/v1beta1/projects/p/locations/eu/occurrences"},
		{"GET", "/v1beta1/projects/p/locations/eu/occurrences:vulnerabilitySummary"},
	} {
		body := s.expect(test.method, test.path, "", 200)
		if err := json.Unmarshal([]byte(body), &map[string]any{}); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
	}
}
