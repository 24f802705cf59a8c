package binauthzapi_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	v1 "cloud.google.com/go/binaryauthorization/apiv1/binaryauthorizationpb"
	v1beta1 "cloud.google.com/go/binaryauthorization/apiv1beta1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/admin/binauthzapi"
	"github.com/gatehouse-dev/gatehouse/signature"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A system is a server on a real socket, and clients of it.
type system struct {
	*testing.T
	addr string
	conn *grpc.ClientConn

	mu    sync.Mutex
	calls []metadata.CallRecord
}

func (s *system) Record(_ context.Context, c metadata.CallRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// recorded returns what was recorded since it was called before.
func (s *system) recorded() []metadata.CallRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.calls
	s.calls = nil
	return list
}

func start(t *testing.T) *system {
	t.Helper()
	s := &system{T: t}
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{
		Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p", "q"}, Clock: func() time.Time { return noon }, Recorder: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := admin.New(svc, admin.Options{Evaluate: func(_ context.Context, v admin.Version, resource []byte, _ func(string) error) ([]byte, error) {
		return []byte(`{"verdict":"CONFORMANT","of":` + string(resource) + `}`), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	handler, stop := grafeasapi.NewHandler(svc, grafeasapi.Options{
		MaxRequestBytes: 100_000, Extensions: []grafeasapi.Extension{binauthzapi.New(policies)},
		Identify: func(r *http.Request) (metadata.Caller, error) {
			if r.Header.Get("Authorization") == "Bearer wrong" {
				return metadata.Caller{}, errors.New("wrong token")
			}
			return metadata.Caller{Name: "ann"}, nil
		},
	})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: &protocols}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	s.addr = listener.Addr().String()
	if s.conn, err = grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.conn.Close(), srv.Close()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		_ = store.Close()
	})
	return s
}

// send sends a REST request.
func (s *system) send(method, path, body string, header ...string) (int, string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// object sends a request that has to succeed, and returns the answer.
func (s *system) object(method, path, body string) map[string]any {
	s.Helper()
	code, text := s.send(method, path, body)
	if code != http.StatusOK {
		s.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		s.Fatalf("%s %s: %s: %v", method, path, text, err)
	}
	return o
}

// refused sends a request that has to be refused, and checks the error.
func (s *system) refused(method, path, body string, code int, word string, parts ...string) {
	s.Helper()
	got, text := s.send(method, path, body)
	var e struct {
		Error struct {
			Code            int
			Message, Status string
		}
	}
	if err := json.Unmarshal([]byte(text), &e, json.MatchCaseInsensitiveNames(true)); err != nil {
		s.Fatalf("%s %s: %s: %v", method, path, text, err)
	}
	if got != code || e.Error.Code != code || e.Error.Status != word {
		s.Errorf("%s %s: %d %s, want %d %s", method, path, got, text, code, word)
	}
	for _, part := range parts {
		if !strings.Contains(e.Error.Message, part) {
			s.Errorf("%s %s: the message %q lacks %q", method, path, e.Error.Message, part)
		}
	}
}

const (
	denyAll     = `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}`
	anAttestor  = `{"userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n"}}`
	policyPath  = "/v1/projects/p/policy"
	attestorsAt = "/v1/projects/p/attestors"
)

func TestPolicyOverREST(t *testing.T) {
	t.Parallel()
	s := start(t)
	first := s.object("GET", policyPath, "")
	if first["name"] != "projects/p/policy" || first["globalPolicyEvaluationMode"] != "ENABLE" || first["updateTime"] != nil {
		t.Errorf("got %v", first)
	}
	// The way of gcloud: alt=json, and the name of the file's own project.
	second := s.object("PUT", policyPath+"?alt=json&comment=tighter", denyAll)
	s.object("PUT", policyPath, strings.Replace(denyAll, "{", `{"etag": `+quoted(second["etag"])+`, "name": "projects/x/policy", "updateTime": "2001-01-01T00:00:00Z", `, 1))
	s.refused("PUT", policyPath, strings.Replace(denyAll, "{", `{"etag": `+quoted(second["etag"])+`,`, 1), 409, "ABORTED", "projects/p/policy")
	// The way of Google's clients: enums as numbers, in both directions.
	third := s.object("PUT", policyPath+"?%24alt=json%3Benum-encoding%3Dint", `{"defaultAdmissionRule":{"evaluationMode":1,"enforcementMode":2}, "globalPolicyEvaluationMode": 2}`)
	want := map[string]any{"evaluationMode": 1.0, "enforcementMode": 2.0}
	if d := cmp.Diff(want, third["defaultAdmissionRule"]); d != "" || third["globalPolicyEvaluationMode"] != 2.0 {
		t.Errorf("got %v %s", third, d)
	}
	if beta := s.object("GET", "/v1beta1/projects/p/policy?$alt=json;enum-encoding=string", ""); beta["etag"] != third["etag"] || beta["globalPolicyEvaluationMode"] != "DISABLE" {
		t.Errorf("v1beta1: %v", beta)
	}
	s.refused("GET", "/v1/projects/missing/policy", "", 404, "NOT_FOUND", "projects/missing")
	s.refused("PUT", policyPath, `{"defaultAdmissionRule": {"evaluationMode": 2, "enforcementMode": 1, "requireAttestationsBy": ["projects/p/attestors/missing"]}}`, 400, "INVALID_ARGUMENT", "projects/p/attestors/missing")

	history := s.object("GET", policyPath+":listRevisions?pageSize=2", "")
	revisions := history["revisions"].([]any)
	newest := revisions[0].(map[string]any)
	if len(revisions) != 2 || newest["revision"] != 3.0 || newest["author"] != "ann" || newest["content"].(map[string]any)["etag"] != third["etag"] {
		t.Errorf("history: %v", history)
	}
	rest := s.object("GET", policyPath+":listRevisions?page_size=2&pageToken="+history["nextPageToken"].(string), "")
	if old := rest["revisions"].([]any)[0].(map[string]any); old["revision"] != 1.0 || old["comment"] != "tighter" || rest["nextPageToken"] != nil {
		t.Errorf("history: %v", rest)
	}
	if back := s.object("POST", policyPath+":rollback", `{"revision": 1}`); back["etag"] == second["etag"] || back["defaultAdmissionRule"].(map[string]any)["evaluationMode"] != "ALWAYS_DENY" {
		t.Errorf("rolled back to %v", back)
	}
	s.refused("POST", policyPath+":rollback", `{"revision": 99}`, 404, "NOT_FOUND", "revision 99")
	s.refused("POST", policyPath+":rollback", `{"revision": "1"}`, 400, "INVALID_ARGUMENT", "/revision")
	s.refused("POST", policyPath+":rollback", `{"revison": 1}`, 400, "INVALID_ARGUMENT", "/revison", "unknown field")
	s.refused("POST", policyPath+":rollback", `{}`, 400, "INVALID_ARGUMENT", "revision")
}

func quoted(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestAttestorsOverREST(t *testing.T) {
	t.Parallel()
	s := start(t)
	// The way of Terraform: the short name in the body.
	created := s.object("POST", attestorsAt+"?alt=json&attestorId=a", `{"name": "a", "description": "d", "userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n", "publicKeys": []}}`)
	want := map[string]any{
		"name": "projects/p/attestors/a", "description": "d", "etag": created["etag"], "updateTime": "2026-11-23T12:00:00.000000Z",
		"userOwnedGrafeasNote": map[string]any{"noteReference": "projects/p/notes/n"},
	}
	if d := cmp.Diff(want, created); d != "" {
		t.Error(d)
	}
	s.refused("POST", attestorsAt+"?attestorId=a", anAttestor, 409, "ALREADY_EXISTS", "projects/p/attestors/a")
	s.refused("POST", attestorsAt, anAttestor, 400, "INVALID_ARGUMENT", "attestorId")
	s.object("POST", "/v1beta1/projects/p/attestors?attestor_id=b", `{"userOwnedDrydockNote": {"noteReference": "projects/p/notes/n"}}`)
	beta := s.object("GET", "/v1beta1/projects/p/attestors/b", "")
	if beta["userOwnedDrydockNote"] == nil || beta["userOwnedGrafeasNote"] != nil {
		t.Errorf("v1beta1: %v", beta)
	}
	list := s.object("GET", attestorsAt+"?pageSize=1", "")
	next := s.object("GET", attestorsAt+"?pageSize=1&pageToken="+list["nextPageToken"].(string), "")
	if a := list["attestors"].([]any); len(a) != 1 || a[0].(map[string]any)["name"] != "projects/p/attestors/a" || next["nextPageToken"] != nil {
		t.Errorf("listed %v, %v", list, next)
	}
	if none := s.object("GET", "/v1/projects/q/attestors", ""); len(none) != 0 {
		t.Errorf("listed %v", none)
	}
	s.object("PUT", attestorsAt+"/a", anAttestor)
	s.refused("PUT", attestorsAt+"/missing", anAttestor, 404, "NOT_FOUND", "missing")
	s.object("PUT", policyPath, `{"defaultAdmissionRule": {"evaluationMode": 2, "enforcementMode": 1, "requireAttestationsBy": ["projects/p/attestors/a"]}}`)
	s.refused("DELETE", attestorsAt+"/a", "", 400, "FAILED_PRECONDITION", "projects/p/policy", "force=true")
	s.refused("DELETE", attestorsAt+"/a?force=maybe", "", 400, "INVALID_ARGUMENT", "force")
	if gone := s.object("DELETE", attestorsAt+"/a?force=true", ""); len(gone) != 0 {
		t.Errorf("deleted: %v", gone)
	}
	s.refused("GET", attestorsAt+"/a", "", 404, "NOT_FOUND")
	s.object("POST", attestorsAt+"/a:rollback", `{"revision": 1, "comment": "oops"}`)
	v := s.object("POST", attestorsAt+"/a:validateAttestationOccurrence", `{"attestor": "projects/p/attestors/a",
		"attestation": {"serializedPayload": "eA==", "signatures": [{"publicKeyId": "k", "signature": "eA=="}]},
		"occurrenceNote": "projects/p/notes/n", "occurrenceResourceUri": "https://r.example/a@sha256:`+strings.Repeat("0", 64)+`"}`)
	if v["result"] != "ATTESTATION_NOT_VERIFIABLE" || v["denialReason"] == nil {
		t.Errorf("validated: %v", v)
	}
	s.refused("POST", attestorsAt+"/a:validateAttestationOccurrence", `{"attestor": "projects/p/attestors/b"}`, 400, "INVALID_ARGUMENT", "attestor is")
	s.refused("POST", attestorsAt+"/a:validateAttestationOccurrence", `{"atestation": {}}`, 400, "INVALID_ARGUMENT", "atestation")
}

// Terraform sends OpenPGP keys without the first and the last line of their armour,
// and compares what it reads back.
func TestKeysComeBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	s := start(t)
	private, err := signature.GeneratePGP("test", noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePGPSigner(private, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, bare, _ := strings.Cut(signer.PublicKey().Marshal(), "\n\n")
	bare = strings.TrimSuffix(bare, "-----END PGP PUBLIC KEY BLOCK-----")
	pkix := `{"id": "projects/p/k", "comment": "c", "pkixPublicKey": {"publicKeyPem": ` + quoted(testPEM) + `, "signatureAlgorithm": 9}}`
	pgp := `{"id": "overwritten", "asciiArmoredPgpPublicKey": ` + quoted(bare) + `}`
	body := `{"userOwnedGrafeasNote": {"noteReference": "projects/p/notes/n", "publicKeys": [` + pkix + `,` + pgp + `]}}`
	created := s.object("POST", attestorsAt+"?attestorId=a&%24alt=json%3Benum-encoding%3Dint", body)
	want := []any{
		map[string]any{"id": "projects/p/k", "comment": "c", "pkixPublicKey": map[string]any{"publicKeyPem": testPEM, "signatureAlgorithm": 9.0}},
		map[string]any{"id": signer.KeyID(), "asciiArmoredPgpPublicKey": bare},
	}
	if d := cmp.Diff(want, created["userOwnedGrafeasNote"].(map[string]any)["publicKeys"]); d != "" {
		t.Error(d)
	}
	// gcloud adds a key to what it has read, and writes it back whole.
	read := s.object("GET", attestorsAt+"/a", "")
	s.object("PUT", attestorsAt+"/a", quoted(read))
}

// testPEM is a public key on P-256 of nobody.
const testPEM = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0yIucpzVlXAA57BD9t1I49YJuNv2
JXIUgtFJZmRHJbFGnSkOwEre3DcGyLnL3z639FnrKNNTxrA7tNVWkwZbAw==
-----END PUBLIC KEY-----
`

func TestPlatformPoliciesOverREST(t *testing.T) {
	t.Parallel()
	s := start(t)
	const at = "/v1/projects/p/platforms/gke/policies"
	created := s.object("POST", at+"?policyId=x", `{"gkePolicy": {"checkSets": []}}`)
	s.refused("PUT", at+"/x", `{}`, 400, "INVALID_ARGUMENT", "gkePolicy")
	replaced := s.object("PUT", at+"/x", `{"gkePolicy": {}, "etag": `+quoted(created["etag"])+`}`)
	if list := s.object("GET", at, ""); len(list["platformPolicies"].([]any)) != 1 {
		t.Errorf("listed %v", list)
	}
	if got := s.object("GET", at+"/x", ""); !cmp.Equal(got, replaced) {
		t.Errorf("got %v", got)
	}
	if v := s.object("POST", at+"/x:evaluate", `{"resource": {"kind": "Pod"}}`); v["verdict"] != "CONFORMANT" || v["of"].(map[string]any)["kind"] != "Pod" {
		t.Errorf("evaluated to %v", v)
	}
	s.refused("DELETE", at+"/x?etag=%22stale%22", "", 409, "ABORTED")
	s.object("DELETE", at+"/x?etag="+strings.NewReplacer(`"`, "%22", "+", "%2B").Replace(replaced["etag"].(string)), "")
	s.refused("GET", at+"/x", "", 404, "NOT_FOUND")
	s.refused("GET", "/v1/projects/p/platforms/x/policies", "", 400, "INVALID_ARGUMENT", "platform")
	s.refused("GET", "/v1beta1/projects/p/platforms/gke/policies", "", 404, "NOT_FOUND")
}

func TestSystemPolicyOverREST(t *testing.T) {
	t.Parallel()
	s := start(t)
	if p := s.object("GET", "/v1/locations/global/policy", ""); p["name"] != "locations/global/policy" || p["admissionWhitelistPatterns"] == nil {
		t.Errorf("got %v", p)
	}
	s.object("PUT", "/v1/locations/global/policy", denyAll)
	if p := s.object("GET", "/v1beta1/locations/global/policy", ""); p["admissionWhitelistPatterns"] != nil {
		t.Errorf("got %v", p)
	}
}

func TestAccessPoliciesOverREST(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.object("POST", attestorsAt+"?attestorId=a", anAttestor)
	for _, path := range []string{policyPath, attestorsAt + "/a"} {
		empty := s.object("GET", path+":getIamPolicy?options.requestedPolicyVersion=3", "")
		if empty["bindings"] != nil || empty["etag"] == nil {
			t.Errorf("got %v", empty)
		}
		set := s.object("POST", path+":setIamPolicy", `{"policy": {"etag": `+quoted(empty["etag"])+`, "bindings": [{"role": "roles/binaryauthorization.policyViewer", "members": ["user:bob"]}]}}`)
		s.refused("POST", path+":setIamPolicy", `{"policy": {"etag": `+quoted(empty["etag"])+`}}`, 409, "ABORTED")
		if got := s.object("GET", path+":getIamPolicy", ""); !cmp.Equal(got, set) {
			t.Errorf("got %v, want %v", got, set)
		}
		have := s.object("POST", path+":testIamPermissions", `{"permissions": ["binaryauthorization.policy.get", "binaryauthorization.attestors.get"]}`)
		if len(have["permissions"].([]any)) != 2 {
			t.Errorf("has %v", have)
		}
		s.refused("POST", path+":setIamPolicy", `{"policy": {"bindings": [{"role": "roles/owner", "members": ["user:bob"]}]}}`, 400, "INVALID_ARGUMENT", "roles/owner")
		s.refused("POST", path+":setIamPolicy", `{"polcy": {}}`, 400, "INVALID_ARGUMENT", "polcy")
	}
	s.refused("GET", attestorsAt+"/missing:getIamPolicy", "", 404, "NOT_FOUND")
	s.refused("GET", "/v1/projects/missing/policy:getIamPolicy", "", 404, "NOT_FOUND")
}

// What cannot be understood is refused with its place, and changes nothing.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.object("PUT", policyPath, denyAll)
	before := s.object("GET", policyPath, "")
	for name, test := range map[string]struct {
		query, body string
		code        int
		parts       []string
	}{
		"no body":                     {"", "", 400, []string{"no body"}},
		"an array":                    {"", "[]", 400, []string{"no object"}},
		"YAML":                        {"", "defaultAdmissionRule: {}", 400, []string{"not valid JSON"}},
		"trailing garbage":            {"", denyAll + " x", 400, []string{"not valid JSON", "line 1"}},
		"a second object":             {"", denyAll + denyAll, 400, []string{"text after"}},
		"a duplicate field":           {"", "{\"description\": \"a\",\n \"description\": \"b\"}", 400, []string{"line 2", "description"}},
		"a deep duplicate field":      {"", `{"defaultAdmissionRule": {"evaluationMode": 1, "evaluationMode": 3}}`, 400, []string{"/defaultAdmissionRule", "evaluationMode"}},
		"an unknown field":            {"", strings.Replace(denyAll, "{", `{"extra": 1, `, 1), 400, []string{`unknown field "extra"`}},
		"a wrong case":                {"", strings.Replace(denyAll, "defaultA", "DefaultA", 1), 400, []string{`"DefaultAdmissionRule"`, "did you mean"}},
		"a wrong case within":         {"", strings.Replace(denyAll, "evaluationMode", "evaluationmode", 1), 400, []string{"defaultAdmissionRule", `"evaluationmode"`}},
		"a wrong type":                {"", strings.Replace(denyAll, `"ALWAYS_DENY"`, `["ALWAYS_DENY"]`, 1), 400, []string{"evaluationMode"}},
		"a wrong enum":                {"", strings.Replace(denyAll, "ALWAYS_DENY", "always_deny", 1), 400, []string{"always_deny", "ALWAYS_DENY"}},
		"a wrong number":              {"", strings.Replace(denyAll, `"ALWAYS_DENY"`, `7`, 1), 400, []string{"7", "ALWAYS_DENY"}},
		"two kinds of rules":          {"", strings.Replace(denyAll, "{", `{"clusterAdmissionRules": {"a.b": {"evaluationMode": 1, "enforcementMode": 1}}, "kubernetesNamespaceAdmissionRules": {"a": {"evaluationMode": 1, "enforcementMode": 1}}, `, 1), 400, []string{"one kind"}},
		"a number that is no text":    {"", strings.Replace(denyAll, "{", `{"description": 1, `, 1), 400, []string{"description must be text"}},
		"not UTF-8":                   {"", "{\"description\": \"\xff\"}", 400, []string{"UTF-8"}},
		"half an object":              {"", `{"description"`, 400, []string{"not valid JSON"}},
		"nested too deep":             {"", `{"description": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, 400, []string{"nested"}},
		"fields":                      {"?fields=name", denyAll, 400, []string{"fields"}},
		"a key":                       {"?key=secret", denyAll, 400, []string{"authorization header"}},
		"a system field":              {"?$fields=name", denyAll, 400, []string{"fields"}},
		"a token in the query":        {"?access_token=x", denyAll, 400, []string{"authorization header"}},
		"another form":                {"?alt=proto", denyAll, 400, []string{"json"}},
		"an option of the form":       {"?$alt=json;x", denyAll, 400, []string{"alt"}},
		"a mask":                      {"?updateMask=description", denyAll, 400, []string{"whole"}},
		"a mask in snake case":        {"?update_mask=description", denyAll, 400, []string{"whole"}},
		"a parameter of another":      {"?etag=x", denyAll, 400, []string{"etag"}},
		"a parameter in another case": {"?Comment=x", denyAll, 400, []string{`"comment"`}},
		"a parameter twice":           {"?comment=x&comment=y", denyAll, 400, []string{"twice"}},
		"a broken query":              {"?comment=%zz", denyAll, 400, []string{"%zz"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &system{T: t, addr: s.addr}
			s.refused("PUT", policyPath+test.query, test.body, test.code, "INVALID_ARGUMENT", test.parts...)
		})
	}
	s.refused("PUT", policyPath, `{"description": "`+strings.Repeat("x", 200_000)+`"}`, 413, "RESOURCE_EXHAUSTED")
	s.refused("GET", policyPath, `{"x": 1}`, 400, "INVALID_ARGUMENT", "takes no body")
	s.refused("POST", policyPath, denyAll, 501, "UNIMPLEMENTED", "GET, PUT")
	s.refused("POST", policyPath+":evaluate", `{}`, 404, "NOT_FOUND")
	s.refused("GET", attestorsAt+"?pageSize=many", "", 400, "INVALID_ARGUMENT", "pageSize")
	s.refused("GET", attestorsAt+"?pageSize=-1", "", 400, "INVALID_ARGUMENT", "page size")
	s.refused("GET", attestorsAt+"?pageToken=x", "", 400, "INVALID_ARGUMENT", "page token")
	if after := s.object("GET", policyPath, ""); !cmp.Equal(before, after) {
		t.Errorf("changed to %v", after)
	}
	// What clients send about themselves is let by.
	for _, query := range []string{"quotaUser=x", "$.xgafv=2", "userIp=1.2.3.4", "alt=json", "prettyPrint=true", "$prettyPrint=false", "trace=x"} {
		s.object("GET", policyPath+"?"+query, "")
	}
	if _, text := s.send("GET", policyPath+"?prettyPrint=false", ""); strings.Count(text, "\n") != 1 {
		t.Errorf("in more lines than one: %s", text)
	}
}

func TestGrafeasIsServedAsBefore(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.object("POST", "/v1/projects/p/notes?noteId=policy", `{"secret": {}}`)
	s.object("GET", "/v1/projects/p/notes/policy", "")
	s.object("POST", "/v1/projects", `{"name": "projects/attestors"}`)
	s.object("GET", "/v1/projects/attestors", "")
	if list := s.object("GET", "/v1beta1/projects/p/notes", ""); len(list["notes"].([]any)) != 1 {
		t.Errorf("listed %v", list)
	}
	s.refused("GET", "/v1/projects/p/polici", "", 404, "NOT_FOUND")
	s.refused("GET", "/v1/projects//policy", "", 404, "NOT_FOUND")
}

// Every request leaves one record, with its caller, also one that is refused
// before it becomes a call.
func TestRequestsAreRecordedOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	management := v1.NewBinauthzManagementServiceV1Client(s.conn)
	for _, test := range []struct {
		method string
		err    bool
		call   func()
	}{
		{"GetPolicy", false, func() { s.object("GET", policyPath, "") }},
		{"UpdatePolicy", false, func() { s.object("PUT", policyPath, denyAll) }},
		{"UpdatePolicy", true, func() { s.refused("PUT", policyPath, `{}`, 400, "INVALID_ARGUMENT") }},
		{"PUT " + policyPath, true, func() { s.refused("PUT", policyPath, `{`, 400, "INVALID_ARGUMENT") }},
		{"PUT " + policyPath, true, func() { s.refused("PUT", policyPath+"?key=x", denyAll, 400, "INVALID_ARGUMENT") }},
		{"PATCH " + policyPath, true, func() { s.refused("PATCH", policyPath, denyAll, 501, "UNIMPLEMENTED") }},
		{"GET " + policyPath, true, func() {
			if code, text := s.send("GET", policyPath, "", "Authorization", "Bearer wrong"); code != 401 {
				t.Errorf("%d %s", code, text)
			}
		}},
		{"GetAttestor", true, func() {
			_, err := management.GetAttestor(t.Context(), &v1.GetAttestorRequest{Name: "projects/p/attestors/a"})
			wantCode(t, err, codes.NotFound)
		}},
		{"UpdatePolicy", true, func() {
			_, err := management.UpdatePolicy(t.Context(), &v1.UpdatePolicyRequest{})
			wantCode(t, err, codes.InvalidArgument)
		}},
		{"SetIamPolicy", false, func() { s.object("POST", policyPath+":setIamPolicy", `{"policy": {}}`) }},
	} {
		s.recorded()
		test.call()
		got := s.recorded()
		if len(got) != 1 || got[0].Method != test.method || (got[0].Err != nil) != test.err {
			t.Errorf("%s is recorded as %+v", test.method, got)
		}
		if len(got) == 1 && got[0].Caller.Name != "ann" && !strings.HasPrefix(test.method, "GET ") {
			t.Errorf("%s: the caller is %q", test.method, got[0].Caller.Name)
		}
	}
}

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got error %v, want code %v", err, code)
	}
}

func TestOverGRPC(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := t.Context()
	management, system := v1.NewBinauthzManagementServiceV1Client(s.conn), v1.NewSystemPolicyV1Client(s.conn)
	beta, betaSystem := v1beta1.NewBinauthzManagementServiceV1Beta1Client(s.conn), v1beta1.NewSystemPolicyV1Beta1Client(s.conn)
	note := &v1.Attestor_UserOwnedGrafeasNote{UserOwnedGrafeasNote: &v1.UserOwnedGrafeasNote{NoteReference: "projects/p/notes/n", PublicKeys: []*v1.AttestorPublicKey{{
		Id: "k", PublicKey: &v1.AttestorPublicKey_PkixPublicKey{PkixPublicKey: &v1.PkixPublicKey{PublicKeyPem: testPEM, SignatureAlgorithm: v1.PkixPublicKey_EC_SIGN_P256_SHA256}},
	}}}}
	created, err := management.CreateAttestor(ctx, &v1.CreateAttestorRequest{Parent: "projects/p", AttestorId: "a", Attestor: &v1.Attestor{AttestorType: note}})
	if err != nil || created.GetName() != "projects/p/attestors/a" || created.GetEtag() == "" || !created.GetUpdateTime().AsTime().Equal(noon) ||
		created.GetUserOwnedGrafeasNote().GetPublicKeys()[0].GetPkixPublicKey().GetSignatureAlgorithm() != v1.PkixPublicKey_ECDSA_P256_SHA256 {
		t.Fatalf("created %v, %v", created, err)
	}
	asBeta, err := beta.GetAttestor(ctx, &v1beta1.GetAttestorRequest{Name: created.GetName()})
	if err != nil || asBeta.GetUserOwnedDrydockNote().GetPublicKeys()[0].GetId() != "k" {
		t.Errorf("v1beta1: %v, %v", asBeta, err)
	}
	asBeta.Description = "by beta"
	if asBeta, err = beta.UpdateAttestor(ctx, &v1beta1.UpdateAttestorRequest{Attestor: asBeta}); err != nil || asBeta.GetDescription() != "by beta" {
		t.Errorf("v1beta1: %v, %v", asBeta, err)
	}
	_, err = management.UpdateAttestor(ctx, &v1.UpdateAttestorRequest{Attestor: created}) // its etag is old
	wantCode(t, err, codes.Aborted)
	_, err = management.CreateAttestor(ctx, &v1.CreateAttestorRequest{Parent: "projects/p", AttestorId: "b"})
	wantCode(t, err, codes.InvalidArgument)
	list, err := management.ListAttestors(ctx, &v1.ListAttestorsRequest{Parent: "projects/p"})
	if err != nil || len(list.GetAttestors()) != 1 {
		t.Errorf("listed %v, %v", list, err)
	}
	betaList, err := beta.ListAttestors(ctx, &v1beta1.ListAttestorsRequest{Parent: "projects/p"})
	if err != nil || len(betaList.GetAttestors()) != 1 || betaList.GetAttestors()[0].GetUserOwnedDrydockNote() == nil {
		t.Errorf("listed %v, %v", betaList, err)
	}
	policy, err := management.GetPolicy(ctx, &v1.GetPolicyRequest{Name: "projects/p/policy"})
	if err != nil || policy.GetDefaultAdmissionRule().GetEvaluationMode() != v1.AdmissionRule_ALWAYS_ALLOW {
		t.Fatalf("got %v, %v", policy, err)
	}
	policy.DefaultAdmissionRule = &v1.AdmissionRule{
		EvaluationMode: v1.AdmissionRule_REQUIRE_ATTESTATION, EnforcementMode: v1.AdmissionRule_DRYRUN_AUDIT_LOG_ONLY, RequireAttestationsBy: []string{"projects/p/attestors/a"},
	}
	if policy, err = management.UpdatePolicy(ctx, &v1.UpdatePolicyRequest{Policy: policy}); err != nil || policy.GetDefaultAdmissionRule().GetRequireAttestationsBy() == nil {
		t.Fatalf("got %v, %v", policy, err)
	}
	betaPolicy, err := beta.GetPolicy(ctx, &v1beta1.GetPolicyRequest{Name: "projects/p/policy"})
	if err != nil || betaPolicy.GetEtag() != policy.GetEtag() {
		t.Errorf("v1beta1: %v, %v", betaPolicy, err)
	}
	if _, err = beta.UpdatePolicy(ctx, &v1beta1.UpdatePolicyRequest{Policy: betaPolicy}); err != nil {
		t.Error(err)
	}
	_, err = management.UpdatePolicy(ctx, &v1.UpdatePolicyRequest{Policy: &v1.Policy{Name: "projects/p/policy", DefaultAdmissionRule: &v1.AdmissionRule{EvaluationMode: 9, EnforcementMode: 1}}})
	wantCode(t, err, codes.InvalidArgument)
	_, err = management.DeleteAttestor(ctx, &v1.DeleteAttestorRequest{Name: created.GetName()})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = beta.DeleteAttestor(ctx, &v1beta1.DeleteAttestorRequest{Name: "projects/p/attestors/none"})
	wantCode(t, err, codes.NotFound)
	if p, err := system.GetSystemPolicy(ctx, &v1.GetSystemPolicyRequest{Name: "locations/global/policy"}); err != nil || len(p.GetAdmissionWhitelistPatterns()) == 0 {
		t.Errorf("got %v, %v", p, err)
	}
	if p, err := betaSystem.GetSystemPolicy(ctx, &v1beta1.GetSystemPolicyRequest{Name: "locations/global/policy"}); err != nil || len(p.GetAdmissionWhitelistPatterns()) == 0 {
		t.Errorf("got %v, %v", p, err)
	}
	v, err := v1.NewValidationHelperV1Client(s.conn).ValidateAttestationOccurrence(ctx, &v1.ValidateAttestationOccurrenceRequest{Attestor: created.GetName()})
	wantCode(t, err, codes.InvalidArgument)
	if v.GetResult() != 0 {
		t.Errorf("validated: %v", v)
	}
}

func FuzzREST(f *testing.F) {
	store := memory.New()
	svc, err := metadata.NewService(context.Background(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p"}})
	if err != nil {
		f.Fatal(err)
	}
	policies, err := admin.New(svc, admin.Options{})
	if err != nil {
		f.Fatal(err)
	}
	api := binauthzapi.New(policies)
	f.Add("PUT", policyPath, "comment=x", denyAll)
	f.Add("POST", attestorsAt, "attestorId=a&$alt=json;enum-encoding=int", anAttestor)
	f.Add("GET", "/v1beta1/projects/p/attestors/a", "prettyPrint=false", "")
	f.Add("POST", "/v1/projects/p/attestors/a:rollback", "", `{"revision": 1}`)
	f.Add("POST", "/v1/projects/p/attestors/a:validateAttestationOccurrence", "", `{"occurrenceNote": "n"}`)
	f.Add("POST", "/v1/projects/p/policy:setIamPolicy", "", `{"policy": {}}`)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		for _, m := range api.Methods(path) {
			if m != method {
				continue
			}
			answer, err := api.ServeREST(t.Context(), metadata.Caller{}, grafeasapi.Request{Method: method, Path: path, Query: query, Body: []byte(body)})
			if err == nil && json.Unmarshal(answer, new(any)) != nil {
				t.Errorf("the answer is not JSON: %s", answer)
			}
			if err != nil && metadata.KindOf(err) == metadata.Internal {
				t.Errorf("an internal error: %v", err)
			}
		}
	})
}
