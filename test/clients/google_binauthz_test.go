package clients

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	binauthz "cloud.google.com/go/binaryauthorization/apiv1"
	pb "cloud.google.com/go/binaryauthorization/apiv1/binaryauthorizationpb"
	beta "cloud.google.com/go/binaryauthorization/apiv1beta1"
	betapb "cloud.google.com/go/binaryauthorization/apiv1beta1/binaryauthorizationpb"
	grafeaspb "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const binauthzPolicy = "projects/default/policy"

// binauthzKey is a key pair of an attestor, as somebody makes it with openssl.
func binauthzKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	private := ok[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := ok[[]byte](t)(x509.MarshalPKIXPublicKey(private.Public()))
	return private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// binauthzClients are Google's client of v1, over both of its transports.
func binauthzClients(t *testing.T, g *gatehouse) map[string]*binauthz.BinauthzManagementClient {
	t.Helper()
	client := ok[*binauthz.BinauthzManagementClient](t)
	all := map[string]*binauthz.BinauthzManagementClient{
		"grpc": client(binauthz.NewBinauthzManagementClient(t.Context(), g.overGRPC()...)),
		"rest": client(binauthz.NewBinauthzManagementRESTClient(t.Context(), g.overREST()...)),
	}
	for _, c := range all {
		t.Cleanup(func() { _ = c.Close() })
	}
	return all
}

func TestGoogleBinaryAuthorization(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, client := range binauthzClients(t, g) {
		t.Run(name, func(t *testing.T) { binauthzRound(t, client, name) })
	}
}

// binauthzRound calls each method that the client has.
func binauthzRound(t *testing.T, client *binauthz.BinauthzManagementClient, id string) {
	ctx, policy, attestor := t.Context(), ok[*pb.Policy](t), ok[*pb.Attestor](t)
	_, text := binauthzKey(t)
	name := "projects/default/attestors/" + id
	sent := &pb.Attestor{Description: "d", AttestorType: &pb.Attestor_UserOwnedGrafeasNote{UserOwnedGrafeasNote: &pb.UserOwnedGrafeasNote{
		NoteReference: "projects/default/notes/" + id,
		PublicKeys: []*pb.AttestorPublicKey{{Comment: "c", PublicKey: &pb.AttestorPublicKey_PkixPublicKey{PkixPublicKey: &pb.PkixPublicKey{
			PublicKeyPem: text, SignatureAlgorithm: pb.PkixPublicKey_ECDSA_P256_SHA256,
		}}}},
	}}}
	_, err := client.GetAttestor(ctx, &pb.GetAttestorRequest{Name: name})
	refused(t, err, codes.NotFound)
	created := attestor(client.CreateAttestor(ctx, &pb.CreateAttestorRequest{Parent: "projects/default", AttestorId: id, Attestor: sent}))
	key := created.GetUserOwnedGrafeasNote().GetPublicKeys()[0]
	if created.GetName() != name || created.GetUpdateTime() == nil || !strings.HasPrefix(key.GetId(), "ni:///sha-256;") || key.GetPkixPublicKey().GetPublicKeyPem() != text {
		t.Errorf("created %v", created)
	}
	_, err = client.CreateAttestor(ctx, &pb.CreateAttestorRequest{Parent: "projects/default", AttestorId: id, Attestor: sent})
	refused(t, err, codes.AlreadyExists)
	_, err = client.CreateAttestor(ctx, &pb.CreateAttestorRequest{Parent: "projects/missing", AttestorId: id, Attestor: sent})
	refused(t, err, codes.NotFound)
	created.Description = "changed"
	updated := attestor(client.UpdateAttestor(ctx, &pb.UpdateAttestorRequest{Attestor: created}))
	if updated.GetDescription() != "changed" || updated.GetEtag() == created.GetEtag() {
		t.Errorf("updated %v", updated)
	}
	_, err = client.UpdateAttestor(ctx, &pb.UpdateAttestorRequest{Attestor: created}) // with the etag of before
	refused(t, err, codes.Aborted)

	for i := range 3 {
		attestor(client.CreateAttestor(ctx, &pb.CreateAttestorRequest{Parent: "projects/default", AttestorId: fmt.Sprintf("%s-%d", id, i), Attestor: sent}))
	}
	all, sizes := pages[*pb.Attestor](t, client.ListAttestors(ctx, &pb.ListAttestorsRequest{Parent: "projects/default"}), 2)
	if len(all) < 4 || sizes[0] != 2 {
		t.Errorf("%d attestors in pages of %v", len(all), sizes)
	}

	before := policy(client.GetPolicy(ctx, &pb.GetPolicyRequest{Name: binauthzPolicy}))
	before.DefaultAdmissionRule = &pb.AdmissionRule{
		EvaluationMode: pb.AdmissionRule_REQUIRE_ATTESTATION, EnforcementMode: pb.AdmissionRule_ENFORCED_BLOCK_AND_AUDIT_LOG, RequireAttestationsBy: []string{name},
	}
	before.KubernetesNamespaceAdmissionRules = map[string]*pb.AdmissionRule{"shop": {EvaluationMode: pb.AdmissionRule_ALWAYS_DENY, EnforcementMode: pb.AdmissionRule_DRYRUN_AUDIT_LOG_ONLY}}
	before.AdmissionWhitelistPatterns = []*pb.AdmissionWhitelistPattern{{NamePattern: "gcr.io/google-containers/*"}}
	after := policy(client.UpdatePolicy(ctx, &pb.UpdatePolicyRequest{Policy: before}))
	if fmt.Sprint(after.GetDefaultAdmissionRule()) != fmt.Sprint(before.GetDefaultAdmissionRule()) || len(after.GetKubernetesNamespaceAdmissionRules()) != 1 || after.GetEtag() == before.GetEtag() {
		t.Errorf("policy %v, sent %v", after, before)
	}
	if got := policy(client.GetPolicy(ctx, &pb.GetPolicyRequest{Name: binauthzPolicy})); fmt.Sprint(got) != fmt.Sprint(after) {
		t.Errorf("policy %v, was %v", got, after)
	}
	_, err = client.UpdatePolicy(ctx, &pb.UpdatePolicyRequest{Policy: before})
	refused(t, err, codes.Aborted)
	_, err = client.UpdatePolicy(ctx, &pb.UpdatePolicyRequest{Policy: &pb.Policy{Name: binauthzPolicy, DefaultAdmissionRule: &pb.AdmissionRule{
		EvaluationMode: pb.AdmissionRule_REQUIRE_ATTESTATION, EnforcementMode: pb.AdmissionRule_ENFORCED_BLOCK_AND_AUDIT_LOG, RequireAttestationsBy: []string{"projects/default/attestors/missing"},
	}}})
	refused(t, err, codes.InvalidArgument)
	refused(t, client.DeleteAttestor(ctx, &pb.DeleteAttestorRequest{Name: name}), codes.FailedPrecondition)
	policy(client.UpdatePolicy(ctx, &pb.UpdatePolicyRequest{Policy: &pb.Policy{Name: binauthzPolicy, DefaultAdmissionRule: &pb.AdmissionRule{
		EvaluationMode: pb.AdmissionRule_ALWAYS_DENY, EnforcementMode: pb.AdmissionRule_ENFORCED_BLOCK_AND_AUDIT_LOG,
	}}}))
	if err := client.DeleteAttestor(ctx, &pb.DeleteAttestorRequest{Name: name}); err != nil {
		t.Error(err)
	}
}

func TestGoogleBinaryAuthorizationOfV1beta1(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := ok[*beta.BinauthzManagementServiceV1Beta1Client](t)
	for id, client := range map[string]*beta.BinauthzManagementServiceV1Beta1Client{
		"grpc": client(beta.NewBinauthzManagementServiceV1Beta1Client(t.Context(), g.overGRPC()...)),
		"rest": client(beta.NewBinauthzManagementServiceV1Beta1RESTClient(t.Context(), g.overREST()...)),
	} {
		t.Run(id, func(t *testing.T) {
			defer client.Close()
			ctx, attestor := t.Context(), ok[*betapb.Attestor](t)
			sent := &betapb.Attestor{AttestorType: &betapb.Attestor_UserOwnedDrydockNote{UserOwnedDrydockNote: &betapb.UserOwnedDrydockNote{NoteReference: "projects/default/notes/n"}}}
			created := attestor(client.CreateAttestor(ctx, &betapb.CreateAttestorRequest{Parent: "projects/default", AttestorId: id, Attestor: sent}))
			if created.GetUserOwnedDrydockNote().GetNoteReference() != "projects/default/notes/n" {
				t.Errorf("created %v", created)
			}
			created.Description = "d"
			if got := attestor(client.UpdateAttestor(ctx, &betapb.UpdateAttestorRequest{Attestor: created})); got.GetDescription() != "d" {
				t.Errorf("updated %v", got)
			}
			p := ok[*betapb.Policy](t)(client.GetPolicy(ctx, &betapb.GetPolicyRequest{Name: binauthzPolicy}))
			p.Description = id
			if p = ok[*betapb.Policy](t)(client.UpdatePolicy(ctx, &betapb.UpdatePolicyRequest{Policy: p})); p.GetDescription() != id {
				t.Errorf("policy %v", p)
			}
			if all := drain(t, client.ListAttestors(ctx, &betapb.ListAttestorsRequest{Parent: "projects/default", PageSize: 1}).Next); len(all) == 0 {
				t.Error("no attestors are listed")
			}
			if err := client.DeleteAttestor(ctx, &betapb.DeleteAttestorRequest{Name: created.GetName()}); err != nil {
				t.Error(err)
			}
		})
	}
	system := ok[*beta.SystemPolicyV1Beta1Client](t)(beta.NewSystemPolicyV1Beta1Client(t.Context(), g.overGRPC()...))
	defer system.Close()
	if p := ok[*betapb.Policy](t)(system.GetSystemPolicy(t.Context(), &betapb.GetSystemPolicyRequest{Name: "locations/global/policy"})); len(p.GetAdmissionWhitelistPatterns()) == 0 {
		t.Errorf("system policy %v", p)
	}
}

// An attestation is made, validated and stored as gcloud's "sign-and-create
// --validate" does it.
func TestGoogleValidationHelper(t *testing.T) {
	t.Parallel()
	g := start(t)
	private, text := binauthzKey(t)
	g.send(t, "POST", "/v1/projects/default/notes?noteId=n", `{"attestation": {"hint": {"humanReadableName": "qa"}}}`, 200)
	gcloud := url.Values{"alt": {"json"}, "attestorId": {"qa"}}
	g.send(t, "POST", "/v1/projects/default/attestors?"+gcloud.Encode(), `{"name": "projects/default/attestors/qa", "userOwnedGrafeasNote": {"noteReference": "projects/default/notes/n"}}`, 200)
	// public-keys add: read, append, write back.
	var attestor map[string]any
	if err := json.Unmarshal(g.send(t, "GET", "/v1/projects/default/attestors/qa?alt=json", "", 200), &attestor); err != nil {
		t.Fatal(err)
	}
	attestor["userOwnedGrafeasNote"].(map[string]any)["publicKeys"] = []any{map[string]any{
		"id": "//cloudkms.googleapis.com/v1/k", "pkixPublicKey": map[string]any{"publicKeyPem": text, "signatureAlgorithm": "ECDSA_P256_SHA256"},
	}}
	g.send(t, "PUT", "/v1/projects/default/attestors/qa?alt=json", string(ok[[]byte](t)(json.Marshal(attestor))), 200)

	payload := []byte(`{"critical": {"identity": {"docker-reference": "r.example/app"}, "image": {"docker-manifest-digest": "` + digest + `"}, "type": "Google cloud binauthz container signature"}}` + "\n")
	sum := sha256.Sum256(payload)
	signed := &grafeaspb.AttestationOccurrence{SerializedPayload: payload, Signatures: []*grafeaspb.Signature{
		{PublicKeyId: "//cloudkms.googleapis.com/v1/k", Signature: ok[[]byte](t)(private.Sign(rand.Reader, sum[:], crypto.SHA256))},
	}}
	helper := ok[*binauthz.ValidationHelperClient](t)
	for name, client := range map[string]*binauthz.ValidationHelperClient{
		"grpc": helper(binauthz.NewValidationHelperClient(t.Context(), g.overGRPC()...)),
		"rest": helper(binauthz.NewValidationHelperRESTClient(t.Context(), g.overREST()...)),
	} {
		t.Run(name, func(t *testing.T) {
			defer client.Close()
			req := &pb.ValidateAttestationOccurrenceRequest{
				Attestor: "projects/default/attestors/qa", Attestation: signed, OccurrenceNote: "projects/default/notes/n", OccurrenceResourceUri: "https://r.example/app@" + digest,
			}
			answer := ok[*pb.ValidateAttestationOccurrenceResponse](t)
			if v := answer(client.ValidateAttestationOccurrence(t.Context(), req)); v.GetResult() != pb.ValidateAttestationOccurrenceResponse_VERIFIED {
				t.Errorf("validated: %v", v)
			}
			req.OccurrenceResourceUri = strings.Replace(req.OccurrenceResourceUri, "1", "2", 1)
			if v := answer(client.ValidateAttestationOccurrence(t.Context(), req)); v.GetResult() != pb.ValidateAttestationOccurrenceResponse_ATTESTATION_NOT_VERIFIABLE || v.GetDenialReason() == "" {
				t.Errorf("validated: %v", v)
			}
		})
	}
}

func TestGoogleSystemPolicy(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := ok[*binauthz.SystemPolicyClient](t)
	for name, client := range map[string]*binauthz.SystemPolicyClient{
		"grpc": client(binauthz.NewSystemPolicyClient(t.Context(), g.overGRPC()...)),
		"rest": client(binauthz.NewSystemPolicyRESTClient(t.Context(), g.overREST()...)),
	} {
		t.Run(name, func(t *testing.T) {
			defer client.Close()
			p := ok[*pb.Policy](t)(client.GetSystemPolicy(t.Context(), &pb.GetSystemPolicyRequest{Name: "locations/global/policy"}))
			if len(p.GetAdmissionWhitelistPatterns()) == 0 || p.GetName() != "locations/global/policy" {
				t.Errorf("system policy %v", p)
			}
		})
	}
}

// What Terraform's provider for Google sends for google_binary_authorization_policy
// and google_binary_authorization_attestor, and what it compares afterwards.
func TestTerraformBinaryAuthorization(t *testing.T) {
	t.Parallel()
	g := start(t)
	_, text := binauthzKey(t)
	pemText := string(ok[[]byte](t)(json.Marshal(text)))
	object := func(method, path, body string) map[string]any {
		t.Helper()
		var o map[string]any
		if err := json.Unmarshal(g.send(t, method, path, body, 200), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	created := object("POST", "/v1/projects/default/attestors?alt=json&attestorId=test-attestor",
		`{"name":"test-attestor","userOwnedGrafeasNote":{"noteReference":"projects/default/notes/note","publicKeys":[{"comment":"","id":"","pkixPublicKey":{"publicKeyPem":`+pemText+`,"signatureAlgorithm":"ECDSA_P256_SHA256"}}]}}`)
	key := created["userOwnedGrafeasNote"].(map[string]any)["publicKeys"].([]any)[0].(map[string]any)
	if key["pkixPublicKey"].(map[string]any)["publicKeyPem"] != text || key["id"] == "" {
		t.Errorf("created %v", created)
	}
	object("PUT", "/v1/projects/default/attestors/test-attestor?alt=json",
		`{"description":"new","name":"test-attestor","userOwnedGrafeasNote":{"noteReference":"projects/default/notes/note","publicKeys":[]}}`)
	policy := object("PUT", "/v1/projects/default/policy?alt=json",
		`{"admissionWhitelistPatterns":[{"namePattern":"gcr.io/google_containers/*"}],"clusterAdmissionRules":{"us-central1-a.prod-cluster":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"REQUIRE_ATTESTATION","requireAttestationsBy":["projects/default/attestors/test-attestor"]}},"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"},"globalPolicyEvaluationMode":"ENABLE"}`)
	if read := object("GET", "/v1/projects/default/policy?alt=json", ""); fmt.Sprint(read) != fmt.Sprint(policy) {
		t.Errorf("read %v, wrote %v", read, policy)
	}
	// Destroying the policy is to write the default one, and then the attestor may go.
	object("PUT", "/v1/projects/default/policy?alt=json", `{"admissionWhitelistPatterns":[{"namePattern":"gcr.io/google_containers/*"}],"defaultAdmissionRule":{"enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG","evaluationMode":"ALWAYS_ALLOW"}}`)
	object("DELETE", "/v1/projects/default/attestors/test-attestor?alt=json", "")
	object("POST", "/v1/projects/default/policy:setIamPolicy?alt=json", `{"policy":{"bindings":[{"role":"roles/binaryauthorization.policyViewer","members":["user:ada@example.com"]}],"etag":""}}`)
	if p := object("GET", "/v1/projects/default/policy:getIamPolicy?alt=json&options.requestedPolicyVersion=3", ""); p["bindings"] == nil {
		t.Errorf("access policy %v", p)
	}
}

// gcloud's export is YAML of what it gets; its import sends the object back with
// the name of its own project.
func TestGcloudPolicyImport(t *testing.T) {
	t.Parallel()
	g := start(t)
	exported := g.send(t, "GET", "/v1/"+binauthzPolicy+"?alt=json", "", 200)
	g.send(t, "PUT", "/v1/"+binauthzPolicy+"?alt=json", string(exported), 200)
	text := g.send(t, "PUT", "/v1/"+binauthzPolicy+"?alt=json", string(exported), 409) // its etag is used up
	if !strings.Contains(string(text), "ABORTED") {
		t.Errorf("answered %s", text)
	}
}

// Of clients that have read one version and write at the same time, one wins.
func TestGoogleClientsThatRace(t *testing.T) {
	t.Parallel()
	g := start(t)
	clients := binauthzClients(t, g)
	for round := range 5 {
		read := ok[*pb.Policy](t)(clients["grpc"].GetPolicy(t.Context(), &pb.GetPolicyRequest{Name: binauthzPolicy}))
		read.Description = fmt.Sprint(round)
		var won, lost atomic.Int64
		var group sync.WaitGroup
		for _, client := range clients {
			for range 4 {
				group.Go(func() {
					_, err := client.UpdatePolicy(t.Context(), &pb.UpdatePolicyRequest{Policy: read})
					switch {
					case err == nil:
						won.Add(1)
					case status.Code(err) == codes.Aborted || strings.Contains(err.Error(), "409"):
						lost.Add(1)
					default:
						t.Error(err)
					}
				})
			}
		}
		group.Wait()
		if won.Load() != 1 || lost.Load() != 7 {
			t.Fatalf("round %d: %d won and %d lost", round, won.Load(), lost.Load())
		}
	}
}

// What was answered with OK is there after kill -9, with its whole history.
func TestAPolicySurvivesKill(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	const each = 20
	written := 0
	for range 3 {
		g := startIn(t, data)
		ctx, cancel := context.WithTimeout(t.Context(), callBound)
		client := ok[*binauthz.BinauthzManagementClient](t)(binauthz.NewBinauthzManagementClient(ctx, g.overGRPC()...))
		for range each {
			written++
			ok[*pb.Policy](t)(client.UpdatePolicy(ctx, &pb.UpdatePolicyRequest{Policy: &pb.Policy{
				Name: binauthzPolicy, Description: fmt.Sprint(written), DefaultAdmissionRule: &pb.AdmissionRule{EvaluationMode: pb.AdmissionRule_ALWAYS_DENY, EnforcementMode: pb.AdmissionRule_DRYRUN_AUDIT_LOG_ONLY},
			}}))
		}
		_ = client.Close()
		cancel()
		if err := g.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = g.cmd.Wait() // it was killed
	}
	g := startIn(t, data)
	defer g.stop(t)
	var history struct {
		Revisions []struct {
			Revision int
			Content  struct{ Description string }
		}
	}
	if err := json.Unmarshal(g.send(t, "GET", "/v1/"+binauthzPolicy+":listRevisions?pageSize=1000", "", 200), &history); err != nil {
		t.Fatal(err)
	}
	if len(history.Revisions) != written {
		t.Fatalf("%d revisions, written were %d", len(history.Revisions), written)
	}
	for i, r := range history.Revisions {
		if r.Revision != written-i || r.Content.Description != fmt.Sprint(written-i) {
			t.Errorf("revision %d is %q", r.Revision, r.Content.Description)
		}
	}
}
