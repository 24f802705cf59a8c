package clients

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	containeranalysis "cloud.google.com/go/containeranalysis/apiv1beta1"
	"cloud.google.com/go/containeranalysis/apiv1beta1/grafeas/grafeaspb"
	"google.golang.org/api/option"
)

// Clients that were generated spell fields as protocol buffers do or as JSON does,
// in bodies, queries and masks: Python's and Google's in camelCase, Grafeas's own
// and what people write by hand in snake_case.
func TestBothSpellingsOverREST(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, s := range map[string]struct{ version, noteID, note, occurrence, mask, patch, size, token string }{
		"v1 in camelCase": {
			"v1", "noteId", `{"shortDescription":"s","attestation":{"hint":{"humanReadableName":"qa"}}}`,
			`{"resourceUri":"https://r","noteName":"NOTE","attestation":{"serializedPayload":"cA==","signatures":[{"signature":"cw==","publicKeyId":"k"}]}}`,
			"updateMask=shortDescription,longDescription", `{"shortDescription":"t","longDescription":"l"}`, "pageSize", "pageToken",
		},
		"v1 in snake_case": {
			"v1", "note_id", `{"short_description":"s","attestation":{"hint":{"human_readable_name":"qa"}}}`,
			`{"resource_uri":"https://r","note_name":"NOTE","attestation":{"serialized_payload":"cA==","signatures":[{"signature":"cw==","public_key_id":"k"}]}}`,
			"update_mask=short_description,long_description", `{"short_description":"t","long_description":"l"}`, "page_size", "page_token",
		},
		"v1beta1 in camelCase": {
			"v1beta1", "noteId", `{"shortDescription":"s","attestationAuthority":{"hint":{"humanReadableName":"qa"}}}`,
			`{"resource":{"uri":"https://r"},"noteName":"NOTE","attestation":{"attestation":{"pgpSignedAttestation":{"signature":"s","pgpKeyId":"k","contentType":1}}}}`,
			"updateMask=shortDescription,longDescription", `{"shortDescription":"t","longDescription":"l"}`, "pageSize", "pageToken",
		},
		"v1beta1 in snake_case": {
			"v1beta1", "note_id", `{"short_description":"s","attestation_authority":{"hint":{"human_readable_name":"qa"}}}`,
			`{"resource":{"uri":"https://r"},"note_name":"NOTE","attestation":{"attestation":{"pgp_signed_attestation":{"signature":"s","pgp_key_id":"k","content_type":"SIMPLE_SIGNING_JSON"}}}}`,
			"update_mask=short_description,long_description", `{"short_description":"t","long_description":"l"}`, "page_size", "page_token",
		},
	} {
		t.Run(name, func(t *testing.T) {
			parent := "projects/" + strings.ReplaceAll(name, " ", "-")
			at := "/" + s.version + "/" + parent
			for _, id := range []string{"a", "b", "c"} {
				g.send(t, "POST", at+"/notes?"+s.noteID+"="+id, s.note, 200)
			}
			made := g.send(t, "POST", at+"/occurrences", strings.Replace(s.occurrence, "NOTE", parent+"/notes/a", 1), 200)
			if !bytes.Contains(made, []byte(`"kind":"ATTESTATION"`)) || !bytes.Contains(made, []byte(`"noteName":"`+parent+`/notes/a"`)) {
				t.Errorf("created %s", made)
			}
			changed := string(g.send(t, "PATCH", at+"/notes/a?"+s.mask, s.patch, 200))
			if !strings.Contains(changed, `"shortDescription":"t"`) || !strings.Contains(changed, `"longDescription":"l"`) || !strings.Contains(changed, `"humanReadableName":"qa"`) {
				t.Errorf("updated %s", changed)
			}
			var first, second struct {
				Notes         []struct{ Name string }
				NextPageToken string
			}
			if err := json.Unmarshal(g.send(t, "GET", at+"/notes?"+s.size+"=2", "", 200), &first); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(g.send(t, "GET", at+"/notes?"+s.size+"=2&"+s.token+"="+url.QueryEscape(first.NextPageToken), "", 200), &second); err != nil {
				t.Fatal(err)
			}
			if len(first.Notes) != 2 || len(second.Notes) != 1 || second.NextPageToken != "" {
				t.Errorf("pages %v and %v", first, second)
			}
		})
	}
}

// A tap keeps the last answer, as it came over the wire.
type tap struct {
	query url.Values
	body  []byte
}

func (w *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	w.query = req.URL.Query()
	w.body, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(w.body))
	return resp, err
}

// Google's REST clients ask for enums as numbers, and some read nothing else.
func TestGoogleRESTClientGetsNumbers(t *testing.T) {
	t.Parallel()
	g := start(t)
	wire := &tap{}
	client := ok[*containeranalysis.GrafeasV1Beta1Client](t)(containeranalysis.NewGrafeasV1Beta1RESTClient(t.Context(),
		option.WithEndpoint("http://"+g.Metadata), option.WithHTTPClient(&http.Client{Transport: wire})))
	defer client.Close()
	ok[*grafeaspb.Note](t)(client.CreateNote(t.Context(), &grafeaspb.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: read(t, "{"+betaKinds[0].note+"}", &grafeaspb.Note{})}))
	if alt := wire.query.Get("$alt"); alt != "json;enum-encoding=int" {
		t.Fatalf("the client asked for %q; the test is of no use", alt)
	}
	var got struct {
		Kind          json.Number
		Vulnerability struct{ Severity json.Number }
	}
	if err := json.Unmarshal(wire.body, &got); err != nil || got.Kind != "1" || got.Vulnerability.Severity != "4" {
		t.Errorf("%s: %v", wire.body, err)
	}
}
