package grafeasclient_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/grafeasclient"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

const (
	app     = "gcr.io/team/app"
	digest  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	another = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	payload = `{"critical":{}}`
)

// newMetadata starts a metadata server that speaks v1 and v1beta1, gRPC and REST.
func newMetadata(t *testing.T) string {
	t.Helper()
	service, err := metadata.NewService(t.Context(), memory.New(), metadata.Options{Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	handler, closeHandler := grafeasapi.NewHandler(service, grafeasapi.Options{})
	t.Cleanup(closeHandler)
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func open(t *testing.T, c attest.GrafeasConfig) grafeasclient.Client {
	t.Helper()
	client, err := grafeasclient.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func attestation(digest, signature string) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		NoteName: "projects/p/notes/diy", ResourceUri: "https://" + app + "@" + digest, Kind: grafeas.NoteKind_ATTESTATION,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: []byte(payload), Signatures: []*grafeas.Signature{{Signature: []byte(signature), PublicKeyId: "key"}},
		}},
	}
}

func TestEveryKindOfServer(t *testing.T) {
	t.Parallel()
	for about, config := range map[string]func(url string) attest.GrafeasConfig{
		"v1 over gRPC": func(url string) attest.GrafeasConfig { return attest.GrafeasConfig{Server: url} },
		"v1 over REST": func(url string) attest.GrafeasConfig {
			return attest.GrafeasConfig{Client: attest.ClientGrafeasOS, Hostname: url + "/", Version: "v1/"}
		},
		"v1beta1 over REST": func(url string) attest.GrafeasConfig {
			return attest.GrafeasConfig{Client: attest.ClientGrafeasOS, Hostname: url + "/", Version: "v1beta1/"}
		},
		"v1beta1, the version in the name": func(url string) attest.GrafeasConfig {
			return attest.GrafeasConfig{Client: attest.ClientGrafeasOS, Hostname: url + "/v1beta1"}
		},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			testServer(t, open(t, config(newMetadata(t))))
		})
	}
}

func testServer(t *testing.T, client grafeasclient.Client) {
	ctx := t.Context()
	create := func(digest, signature string) error {
		_, err := client.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: attestation(digest, signature)})
		return err
	}
	if err := create(digest, "x"); status.Code(err) != codes.NotFound {
		t.Errorf("an attestation under a note that does not exist: %v", err)
	}
	note := &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "diy", Note: &grafeas.Note{
		Kind: grafeas.NoteKind_ATTESTATION, Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: "diy"}}},
	}}
	if n, err := client.CreateNote(ctx, note); err != nil || n.GetName() != "projects/p/notes/diy" {
		t.Fatalf("creating a note: %v, %v", n, err)
	}
	if _, err := client.CreateNote(ctx, note); status.Code(err) != codes.AlreadyExists {
		t.Errorf("B9: creating a note that exists: %v", err)
	}
	if n, err := client.GetNote(ctx, &grafeas.GetNoteRequest{Name: "projects/p/notes/diy"}); err != nil || n.GetAttestation().GetHint().GetHumanReadableName() != "diy" {
		t.Errorf("reading the note: %v, %v", n, err)
	}
	for signature, d := range map[string]string{"\xff\x01": digest, "\xff\x02": another, "\xff\x03": digest} {
		if err := create(d, signature); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(another, "\xff\x02"); status.Code(err) != codes.AlreadyExists {
		t.Errorf("B9: the same attestation again: %v", err)
	}
	ref, err := image.Parse(app + "@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	found, err := client.ListNoteOccurrences(ctx, &grafeas.ListNoteOccurrencesRequest{Name: "projects/p/notes/diy", Filter: check.Filter(ref, grafeas.NoteKind_ATTESTATION), PageSize: 1})
	if err != nil || len(found.GetOccurrences()) != 1 || found.GetNextPageToken() == "" {
		t.Fatalf("a page of the note's: %v, %v", found, err)
	}
	if a := found.GetOccurrences()[0].GetAttestation(); string(a.GetSerializedPayload()) != payload || a.GetSignatures()[0].GetSignature()[0] != 0xff || a.GetSignatures()[0].GetPublicKeyId() != "key" {
		t.Errorf("B8: the attestation that was filed: %v", a)
	}
	facts, err := check.NewGrafeas(client, "p")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := facts.Occurrences(ctx, ref, grafeas.NoteKind_ATTESTATION); err != nil || len(all) != 2 {
		t.Errorf("the project's: %d, %v", len(all), err)
	}
}

// plain serves what a Grafeas server that knows no filters would.
func plain(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) grafeasclient.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(s.Close)
	return open(t, attest.GrafeasConfig{Client: attest.ClientGrafeasOS, Hostname: s.URL + "/", Version: "v1beta1/"})
}

func TestB1_AServerWithoutFiltersIsAskedWithoutAndOnlyTheImagesCount(t *testing.T) {
	t.Parallel()
	uri := "https://" + app + "@" + digest
	client := plain(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("filter") != "" {
			http.Error(w, `{"message":"filters are not implemented","code":12}`, http.StatusNotImplemented)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"occurrences": []any{
			map[string]any{"name": "projects/p/occurrences/1", "kind": "BUILD", "noteName": "projects/p/notes/b", "resource": map[string]any{"uri": uri}, "build": map[string]any{"provenance": map[string]any{"creator": "me"}}, "createTime": "0001-01-01T00:00:00Z"},
			map[string]any{"name": "projects/p/occurrences/2", "kind": "BUILD", "noteName": "projects/p/notes/b", "resource": map[string]any{"uri": strings.Replace(uri, digest, another, 1)}, "build": map[string]any{"provenance": map[string]any{"creator": "other"}}},
			map[string]any{"name": "projects/p/occurrences/3", "resource": map[string]any{"uri": uri}, "newer": 1},
		}})
	})
	facts, err := check.NewGrafeas(client, "p")
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.Parse(app + "@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	got, err := facts.Occurrences(t.Context(), ref, grafeas.NoteKind_BUILD)
	if err != nil || len(got) != 1 || got[0].GetBuild().GetProvenance().GetCreator() != "me" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAnswersThatAreErrors(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		status int
		body   string
		code   codes.Code
		said   string
	}{
		"B9: it is there, as gRPC's gateway says it": {409, `{"error":"x","message":"it is there","code":6}`, codes.AlreadyExists, "answered 409: it is there"},
		"it is there, in another status":             {400, `{"message":"it is there","code":6}`, codes.AlreadyExists, "it is there"},
		"as Google's services say it":                {404, `{"error":{"code":404,"message":"no note","status":"NOT_FOUND"}}`, codes.NotFound, "no note"},
		"an unknown word":                            {403, `{"error":{"message":"no","status":"WHATEVER"}}`, codes.PermissionDenied, "no"},
		"text":                                       {503, "down\nfor today", codes.Unavailable, "answered 503: down for today"},
		"a redirect":                                 {302, "", codes.Unknown, "answered 302"},
		"long":                                       {500, strings.Repeat("x", 1<<16), codes.Internal, "x…"},
		"no JSON":                                    {200, "<html>", codes.Internal, "is not Grafeas"},
		"no content":                                 {204, "", codes.Unknown, "answered 204"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			client := plain(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			})
			_, err := client.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: attestation(digest, "x")})
			if status.Code(err) != row.code || !strings.Contains(err.Error(), row.said) || len(err.Error()) > 1000 {
				t.Errorf("got %v, want %v: %s", err, row.code, row.said)
			}
		})
	}
}

func TestB12_AServerThatHangsEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	client := plain(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.GetNote(ctx, &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("err = %v", err)
	}
}

func TestB13_ConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	client := open(t, attest.GrafeasConfig{Client: attest.ClientGrafeasOS, Hostname: s.URL})
	for range 20 {
		if _, err := client.ListOccurrences(t.Context(), &grafeas.ListOccurrencesRequest{Parent: "projects/p"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls", n)
	}
}

func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]attest.GrafeasConfig{
		"no hostname":              {Client: attest.ClientGrafeasOS},
		"a hostname without URL":   {Client: attest.ClientGrafeasOS, Hostname: "grafeas:8080"},
		"a password in it":         {Client: attest.ClientGrafeasOS, Hostname: "http://u:hunter2@grafeas/"},
		"a server without scheme":  {Server: "gatehouse:8080"},
		"another machine in clear": {Server: "http://gatehouse.example:8080"},
		"a path":                   {Server: "https://gatehouse:8080/v1"},
	} {
		if _, err := grafeasclient.Open(t.Context(), c); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", about, err)
		}
	}
}
