package grafeasapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

func TestREST(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1/projects/provider/notes?noteId=attester", `{"attestation":{"hint":{"humanReadableName":"QA"}}}`,
		200, `"name":"projects/provider/notes/attester"`, `"kind":"ATTESTATION"`, `"createTime":"`)
	s.expect("POST", "/v1/projects/provider/notes?note_id=snake", `{"attestation":{"hint":{"human_readable_name":"QA"}}}`, 200, `"humanReadableName":"QA"`)
	s.expect("GET", "/v1/projects/provider/notes/attester", "", 200, `"name":"projects/provider/notes/attester"`)
	s.expect("GET", "/v1/projects/provider/notes", "", 200, `notes/attester"`, `notes/snake"`)

	// What Voucher sends for an attestation, in v1's shape.
	voucher := `{"name":"","resourceUri":"https://gcr.io/alpine@` + digest + `","noteName":"projects/provider/notes/attester",` +
		`"kind":"ATTESTATION","remediation":"","createTime":"0001-01-01T00:00:00Z","updateTime":"0001-01-01T00:00:00Z",` +
		`"attestation":{"serializedPayload":"e30=","signatures":[{"signature":"c2lnbmF0dXJl","publicKeyId":"90E942641C07A4C466BA97161EAF1DDD5EDB32B9"}]}}`
	created := s.expect("POST", "/v1/projects/p/occurrences", voucher, 200, `"kind":"ATTESTATION"`, `"resourceUri":"https://gcr.io/alpine@`)
	name := field(t, created, "name")
	s.expect("POST", "/v1/projects/p/occurrences", voucher, 409, `"code":6`, `"status":"ALREADY_EXISTS"`)
	if got := s.expect("GET", "/v1/"+name, "", 200); got != created {
		t.Errorf("read %s, created %s", got, created)
	}
	s.expect("GET", "/v1/"+name+"/notes", "", 200, `"name":"projects/provider/notes/attester"`)
	s.expect("GET", "/v1/projects/provider/notes/attester/occurrences?page_size=5", "", 200, name)
	s.expect("GET", "/v1/projects/provider/notes/snake/occurrences", "", 200, `{}`)
	s.expect("DELETE", "/v1/projects/provider/notes/attester", "", 400, `"FAILED_PRECONDITION"`)
	s.expect("DELETE", "/v1/"+name, "", 200, `{}`)
	s.expect("GET", "/v1/"+name, "", 404, `"code":5`, `"error":{"code":404`, `"status":"NOT_FOUND"`)
	s.expect("DELETE", "/v1/projects/provider/notes/attester", "", 200, `{}`)
	s.expect("POST", "/v1/projects/p/notes:batchCreate", `{"notes":{"b":{"secret":{}},"a":{"secret":{}}}}`,
		200, `[{"name":"projects/p/notes/a","kind":"SECRET"`)
	s.expect("POST", "/v1/projects/p/occurrences:batchCreate",
		`{"occurrences":[{"resourceUri":"r","noteName":"projects/p/notes/a","secret":{}},{"resource_uri":"r","note_name":"projects/p/notes/b","secret":{}}]}`,
		200, `"noteName":"projects/p/notes/a"`, `"noteName":"projects/p/notes/b"`)
	s.expect("PATCH", "/v1/projects/p/notes/a?updateMask=shortDescription", `{"shortDescription":"x"}`, 200, `"shortDescription":"x"`)

	// Locations are names like others.
	s.expect("POST", "/v1/projects/p/locations/eu/notes?noteId=n", `{"secret":{}}`, 200, `"projects/p/locations/eu/notes/n"`)
	s.expect("GET", "/v1/projects/p/locations/eu/notes/n", "", 200, `"projects/p/locations/eu/notes/n"`)
	in := s.expect("POST", "/v1/projects/p/locations/eu/occurrences", `{"resourceUri":"r","noteName":"projects/p/locations/eu/notes/n","secret":{}}`,
		200, `"projects/p/locations/eu/occurrences/`)
	s.expect("GET", "/v1/"+field(t, in, "name"), "", 200)
	if list := s.expect("GET", "/v1/projects/p/locations/eu/occurrences", "", 200, field(t, in, "name")); strings.Contains(list, `notes/a"`) {
		t.Errorf("the location lists what is of the project: %s", list)
	}
	// Ids with unusual characters.
	s.expect("POST", "/v1/projects/p/notes?noteId=a%20b%3F%23%3Ac", `{"secret":{}}`, 200, `"projects/p/notes/a b?#:c"`)
	s.expect("GET", "/v1/projects/p/notes/a%20b%3F%23%3Ac", "", 200, `"projects/p/notes/a b?#:c"`)
}

func TestRESTFilters(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	s.expect("POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`, 200)
	for i := range 3 {
		s.expect("POST", "/v1/projects/p/occurrences", fmt.Sprintf(`{"resourceUri":"https://r%d@%s","noteName":"projects/p/notes/n","secret":{}}`, i, digest), 200)
	}
	count := func(query string) int {
		t.Helper()
		return strings.Count(s.expect("GET", "/v1/projects/p/occurrences?"+query, "", 200), `"name":`)
	}
	// gcloud asks for both spellings, each term in parentheses.
	for query, want := range map[string]int{
		`filter=(kind%20%3D%20%22SECRET%22)%20AND%20((resource_url%20%3D%20%22https://r1@` + digest + `%22)%20OR%20(resource_url%20%3D%20%22r1@` + digest + `%22))`: 1,
		`filter=has_suffix(resourceUrl,%22` + digest + `%22)`:                        3,
		`filter=has_prefix(resource_url,%22https://r%22)%20AND%20kind%3D%22BUILD%22`: 0,
		`pageSize=2`: 2,
		`page_size=2&unknown=1&$alt=json%3Benum-encoding%3Dint`: 2,
		`prettyPrint=false&alt=json`:                            3,
	} {
		if got := count(query); got != want {
			t.Errorf("%s: %d occurrences, want %d", query, got, want)
		}
	}
	s.expect("GET", `/v1/projects/p/occurrences?filter=foo%3D1`, "", 400, `"code":3`, `position 1`, `"status":"INVALID_ARGUMENT"`)
	s.expect("GET", "/v1/projects/p/occurrences?pageSize=-1", "", 400, "cannot be negative")
	s.expect("GET", "/v1/projects/p/occurrences?pageToken=-5", "", 400, "page token")
	s.expect("GET", "/v1/projects/p/occurrences?pageSize=x", "", 400)
	s.expect("GET", "/v1/projects/p/occurrences?$alt=json;enum-encoding=int", "", 200, `"kind":13`)
	s.expect("POST", "/v1/projects/p/notes?noteId=m&%24alt=json%3Benum-encoding%3Dint", `{"kind":13,"secret":{}}`, 200, `"kind":13`)
}

func TestRESTErrors(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{MaxRequestBytes: 10_000})
	for _, test := range []struct {
		method, path, body string
		code               int
		text               string
	}{
		{"GET", "/", "", 404, "nothing at this path"},
		{"GET", "/v1", "", 404, "nothing at this path"},
		{"GET", "/v2/projects/p/notes", "", 404, "nothing at this path"},
		{"PUT", "/v1/projects/p/notes", "", 501, "Method Not Allowed"},
		{"GET", "/v1/projects/p/occurrences?Filter=x", "", 400, `write "filter"`},
		{"GET", "/v1/projects/p/occurrences?PAGESIZE=1", "", 400, `write "pageSize"`},
		{"GET", "/v1/projects/p/notes?page_Token=x", "", 400, `write "page_token"`},
		{"POST", "/v1/projects/p/notes?noteID=n", `{"secret":{}}`, 400, `write "noteId"`},
		{"PATCH", "/v1/projects/p/notes/n?UPDATE_MASK=kind", `{"secret":{}}`, 400, `write "update_mask"`},
		{"GET", "/v1/projects/p/notes/a%2Fb", "", 404, ""},
		{"GET", "/v1/projects//notes", "", 400, "project name must be"},
		{"POST", "/v1/projects/p/notes?noteId=n", "", 400, "a note must be specified"},
		{"POST", "/v1/projects/p/notes?noteId=n", "{", 400, ""},
		{"POST", "/v1/projects/p/notes?noteId=n", "null", 400, ""},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}} {}`, 400, ""},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"foo":1,"secret":{}}`, 400, `unknown field`},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"secret":{},"secret":{}}`, 400, `duplicate`},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"secret":{},"build":{}}`, 400, `oneof`},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"kind":"NO_SUCH","secret":{}}`, 400, ``},
		{"POST", "/v1/projects/p/notes?noteId=n", `{"longDescription":"` + strings.Repeat("x", 20_000) + `"}`, 413, "too large"},
		{"PATCH", "/v1/projects/p/notes/n", `{"longDescription":"` + strings.Repeat("x", 20_000) + `"}`, 413, "too large"},
		{"GET", "/v1/projects/p/notes?pageSize=1;2", "", 400, ""},
	} {
		code, body, header := s.do(test.method, test.path, test.body)
		var shape struct {
			Code    int
			Message string
			Error   struct {
				Code            int
				Message, Status string
			}
		}
		if err := json.Unmarshal([]byte(body), &shape); err != nil {
			t.Errorf("%s %s: body %s: %v", test.method, test.path, body, err)
			continue
		}
		if code != test.code || shape.Code == 0 || shape.Error.Code != code || shape.Error.Status == "" ||
			shape.Message == "" || shape.Error.Message != shape.Message || !strings.Contains(shape.Message, test.text) {
			t.Errorf("%s %s: status %d, want %d with %q; body %s", test.method, test.path, code, test.code, test.text, body)
		}
		if got := header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s %s: content type %q", test.method, test.path, got)
		}
	}
}

// FuzzREST checks that no body is answered with a server's error, and that what
// is accepted is what was sent.
func FuzzREST(f *testing.F) {
	for _, seed := range []string{
		`{"resourceUri":"r","noteName":"projects/p/notes/n","secret":{}}`,
		`{"resource_uri":"r","note_name":"projects/p/notes/n","secret":{},"createTime":"0001-01-01T00:00:00Z"}`,
		`{"resource":{"uri":"r"},"noteName":"projects/p/notes/n","secret":{}}`, `{"resource":{"uri":"r","contentHash":{"type":"SHA256","value":"AA=="}},"build":{}}`,
		`{"name":"projects/q"}`, `{"name":"projects/../p"}`, `{"occurrences":[{"resource":null}]}`, `{"notes":{"m":{"secret":{}}}}`,
		`null`, `[]`, `{`, `{"kind":99}`, ``, `{"attestation":null}`, `{"secret":{"data":{"@type":"x"}}}`,
	} {
		f.Add(seed)
	}
	store := memory.New()
	svc, err := metadata.NewService(f.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		f.Fatal(err)
	}
	handler, stop := grafeasapi.NewHandler(svc, grafeasapi.Options{})
	defer stop()
	send := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}
	send("POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, r := range []struct{ method, path string }{
			{"POST", "/v1/projects/p/occurrences"}, {"POST", "/v1/projects/p/occurrences:batchCreate"},
			{"PATCH", "/v1/projects/p/notes/n"}, {"POST", "/v1/projects/p/notes?noteId=m"}, {"POST", "/v1/projects/p/notes/n:setIamPolicy"},
			{"POST", "/v1beta1/projects/p/occurrences"}, {"POST", "/v1beta1/projects/p/occurrences:batchCreate"},
			{"PATCH", "/v1beta1/projects/p/notes/n"}, {"POST", "/v1beta1/projects/p/notes:batchCreate"},
			{"POST", "/v1beta1/projects/p/locations/eu/occurrences"}, {"POST", "/v1/projects"}, {"POST", "/v1beta1/projects"},
		} {
			w := send(r.method, r.path, body)
			if w.Code >= 500 && w.Code != http.StatusNotImplemented || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %s: status %d, body %s", r.method, r.path, w.Code, w.Body)
			}
			if w.Code != 200 || r.path != "/v1/projects/p/occurrences" {
				continue
			}
			var sent, got grafeas.Occurrence
			if err := protojson.Unmarshal([]byte(body), &sent); err != nil {
				t.Fatalf("%q was accepted: %v", body, err)
			}
			if err := protojson.Unmarshal(w.Body.Bytes(), &got); err != nil || got.GetResourceUri() != sent.GetResourceUri() {
				t.Errorf("sent %s, stored %s: %v", body, w.Body, err)
			}
		}
	})
}
