package grafeasapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

// The reference server of Grafeas has 25 known defects. Each test here shows that
// one of them, by its number in our list of them, is not here. The others have
// theirs where the code is: 12 (a broken read looks like a short page) in
// metadata/sqlite and metadata/postgres, 15 (half a TLS configuration is clear
// text), 16 (all origins are allowed) and 21 (REST over a unix socket) in server.
func TestDefectsOfTheReference(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *system){
		"1 a page token past the end, or a negative size, kills the server": defectTokens,
		"2 lists and creates deadlock":                                      defectDeadlock,
		"3 readers and writers share messages":                              defectSharing,
		"4 an id opens occurrences of other projects":                       defectForeignNames,
		"5 a project lists those that its name begins":                      defectPrefix,
		"6 a note needs its name in the body":                               defectNoteName,
		"7 an update replaces everything":                                   defectUpdate,
		"8 a batch swallows errors":                                         defectBatchErrors,
		"9 and 10 pages lose rows, or never end":                            defectPages,
		"11 an invalid token begins again":                                  defectRestart,
		"13 a missing note, or one in use, is an internal error":            defectNotes,
		"14 filters are ignored":                                            defectFilters,
		"17 kinds, notes and generic attestations are not checked":          defectChecks,
		"18 a build with only SLSA provenance is refused":                   defectSLSA,
		"19 a batch creates notes that cannot be fetched":                   defectBatchIDs,
		"20 large pages cannot be read":                                     defectLargePages,
		"22 location names do not parse":                                    defectLocations,
		"24 the versions disagree on the largest page":                      defectPageSize,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "metadata.db"), sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			test(t, startOn(t, store, nil, grafeasapi.Options{}))
		})
	}
	t.Run("23 errors of the store are the caller's fault in a batch", func(t *testing.T) {
		t.Parallel()
		s := startOn(t, brokenStore{memory.New()}, nil, grafeasapi.Options{})
		s.expect("POST", "/v1/projects/p/notes:batchCreate", `{"notes":{"a":{"secret":{}}}}`, 503, `"UNAVAILABLE"`)
		s.expect("POST", "/v1beta1/projects/p/occurrences:batchCreate", `{"occurrences":[{"resource":{"uri":"r"},"noteName":"projects/p/notes/n","secret":{}}]}`, 503, `"UNAVAILABLE"`)
	})
	t.Run("25 a bad path ends the process", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "missing", "metadata.db")
		if _, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got error %v", err)
		}
	})
}

// A brokenStore's disk is full.
type brokenStore struct{ metadata.Store }

func (brokenStore) Apply(context.Context, ...metadata.Mutation) error {
	return metadata.Errorf(metadata.Unavailable, "the disk is full")
}

func (brokenStore) Note(context.Context, metadata.NoteName) (*grafeas.Note, error) {
	return &grafeas.Note{Kind: grafeas.NoteKind_SECRET}, nil
}

// secrets makes a note and n occurrences of it, and returns their names.
func (s *system) secrets(parent string, n int) (names []string) {
	s.t.Helper()
	_, _, _ = s.do("POST", "/v1/projects/provider/notes?noteId=n", `{"secret":{}}`)
	for i := range n {
		created := s.expect("POST", "/v1/"+parent+"/occurrences", fmt.Sprintf(`{"resourceUri":"r%d","noteName":"projects/provider/notes/n","secret":{}}`, i), 200)
		names = append(names, field(s.t, created, "name"))
	}
	return names
}

func defectTokens(t *testing.T, s *system) {
	s.secrets("projects/p", 3)
	for _, v := range []string{"v1", "v1beta1"} {
		for _, query := range []string{"pageToken=1000", "pageToken=-1", "page_token=3", "pageSize=-1", "pageToken=" + strings.Repeat("A", 100000)} {
			for _, list := range []string{"projects/p/occurrences", "projects/p/notes", "projects/provider/notes/n/occurrences", "projects"} {
				s.expect("GET", "/"+v+"/"+list+"?"+query, "", 400, `"INVALID_ARGUMENT"`)
			}
		}
		s.expect("GET", "/"+v+"/projects/p/occurrences", "", 200)
	}
}

func defectDeadlock(t *testing.T, s *system) {
	s.secrets("projects/p", 1)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 20 {
				_, err := s.rpc.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: &grafeas.Occurrence{
					ResourceUri: fmt.Sprint(worker, ".", i), NoteName: "projects/provider/notes/n", Details: &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}},
				}})
				_, listErr := s.rpc.ListNoteOccurrences(t.Context(), &grafeas.ListNoteOccurrencesRequest{Name: "projects/provider/notes/n"})
				if err := errors.Join(err, listErr); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// defectSharing is for the race detector.
func defectSharing(t *testing.T, s *system) {
	name := s.secrets("projects/p", 1)[0]
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for range 20 {
				_, get := s.rpc.GetOccurrence(t.Context(), &grafeas.GetOccurrenceRequest{Name: name})
				_, list := s.rpc.ListOccurrences(t.Context(), &grafeas.ListOccurrencesRequest{Parent: "projects/p"})
				_, update := s.rpc.UpdateOccurrence(t.Context(), &grafeas.UpdateOccurrenceRequest{Name: name, Occurrence: &grafeas.Occurrence{Remediation: fmt.Sprint(worker)}})
				if err := errors.Join(get, list, update); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func defectForeignNames(t *testing.T, s *system) {
	name := s.secrets("projects/p", 1)[0]
	foreign := strings.Replace(name, "projects/p/", "projects/thief/", 1)
	for _, v := range []string{"v1", "v1beta1"} {
		for _, method := range []string{"GET", "DELETE"} {
			s.expect(method, "/"+v+"/"+foreign, "", 404)
		}
		s.expect("PATCH", "/"+v+"/"+foreign, `{"remediation":"x"}`, 404)
		if got := field(t, s.expect("GET", "/"+v+"/"+name, "", 200), "name"); got != name {
			t.Errorf("the occurrence moved to %s", got)
		}
	}
}

func defectPrefix(t *testing.T, s *system) {
	s.secrets("projects/p1", 1)
	s.expect("POST", "/v1/projects/p1/notes?noteId=x", `{"secret":{}}`, 200)
	for _, list := range []string{"/v1/projects/p/occurrences", "/v1/projects/p/notes", "/v1beta1/projects/p/occurrences", "/v1beta1/projects/p/notes"} {
		if got := s.expect("GET", list, "", 200); got != "{}" {
			t.Errorf("%s: %s", list, got)
		}
	}
}

func defectNoteName(t *testing.T, s *system) {
	s.expect("POST", "/v1beta1/projects/p/notes?noteId=a", `{"secret":{}}`, 200, `"projects/p/notes/a"`)
	s.expect("POST", "/v1beta1/projects/p/notes?noteId=b", `{"name":"projects/other/notes/c","secret":{}}`, 200, `"projects/p/notes/b"`)
	s.expect("GET", "/v1beta1/projects/other/notes/c", "", 404)
}

func defectUpdate(t *testing.T, s *system) {
	name := s.secrets("projects/p", 1)[0]
	before := s.expect("GET", "/v1/"+name, "", 200)
	after := s.expect("PATCH", "/v1/"+name, `{"remediation":"x"}`, 200, `"remediation":"x"`)
	for _, kept := range []string{"name", "resourceUri", "noteName", "kind", "createTime"} {
		if field(t, before, kept) != field(t, after, kept) {
			t.Errorf("%s was %q and is %q", kept, field(t, before, kept), field(t, after, kept))
		}
	}
	s.expect("GET", "/v1/projects/p/occurrences", "", 200, name)
	s.expect("PATCH", "/v1/"+name+"?updateMask=resourceUri", `{"resourceUri":"other"}`, 400)
}

func defectBatchErrors(t *testing.T, s *system) {
	s.secrets("projects/p", 0)
	good := `{"resourceUri":"r","noteName":"projects/provider/notes/n","secret":{}}`
	bad := `{"resourceUri":"r","noteName":"projects/provider/notes/missing","secret":{}}`
	s.expect("POST", "/v1/projects/p/occurrences:batchCreate", `{"occurrences":[`+good+`,`+bad+`]}`, 404, "occurrence 1", "notes/missing")
	s.expect("POST", "/v1/projects/provider/notes:batchCreate", `{"notes":{"new":{"secret":{}},"n":{"secret":{}}}}`, 409, "notes/n")
	s.expect("GET", "/v1/projects/p/occurrences", "", 200, "{}")
	s.expect("GET", "/v1/projects/provider/notes/new", "", 404)
}

func defectPages(t *testing.T, s *system) {
	var want []string
	for i, name := range s.secrets("projects/p", 25) {
		if i%5 == 0 {
			s.expect("DELETE", "/v1/"+name, "", 200)
			continue
		}
		want = append(want, name)
	}
	s.secrets("projects/q", 25)
	for _, version := range []string{"v1", "v1beta1"} {
		var got []string
		for token, pages := "", 0; ; pages++ {
			if pages > 20 {
				t.Fatal("the pages do not end")
			}
			body := s.expect("GET", "/"+version+"/projects/p/occurrences?pageSize=4&pageToken="+token, "", 200)
			for _, part := range strings.Split(body, `"name":"`)[1:] {
				if name, _, _ := strings.Cut(part, `"`); strings.HasPrefix(name, "projects/") {
					got = append(got, name)
				}
			}
			if !strings.Contains(body, "nextPageToken") {
				break
			}
			token = field(t, body, "nextPageToken")
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: %d occurrences on all pages, want %d", version, len(got), len(want))
		}
	}
}

func defectRestart(_ *testing.T, s *system) {
	s.secrets("projects/p", 2)
	for _, token := range []string{"x", "gAAAAA", "MTIz", "%00"} {
		s.expect("GET", "/v1beta1/projects/p/occurrences?pageToken="+token, "", 400, "page token")
	}
}

func defectNotes(_ *testing.T, s *system) {
	s.expect("POST", "/v1beta1/projects/p/occurrences", `{"resource":{"uri":"r"},"noteName":"projects/p/notes/missing","secret":{}}`, 404, `projects/p/notes/missing`)
	s.secrets("projects/p", 1)
	s.expect("DELETE", "/v1beta1/projects/provider/notes/n", "", 400, `"FAILED_PRECONDITION"`)
}

func defectFilters(t *testing.T, s *system) {
	s.secrets("projects/p", 3)
	for _, v := range []string{"v1", "v1beta1"} {
		got := s.expect("GET", "/"+v+"/projects/p/occurrences?filter="+url.QueryEscape(`resourceUrl="r1"`), "", 200)
		if n := strings.Count(got, `"kind":"SECRET"`); n != 1 {
			t.Errorf("%s: %d occurrences of one resource", v, n)
		}
		for _, list := range []string{"projects/p/occurrences", "projects/p/notes", "projects/provider/notes/n/occurrences", "projects"} {
			s.expect("GET", "/"+v+"/"+list+"?filter=filters_are_yet_to_be_implemented", "", 400, "filter")
		}
	}
}

func defectChecks(_ *testing.T, s *system) {
	s.expect("POST", "/v1beta1/projects/p/notes?noteId=a", `{"kind":"BUILD","attestationAuthority":{}}`, 200, `"kind":"ATTESTATION"`)
	s.expect("POST", "/v1beta1/projects/p/occurrences", `{"resource":{"uri":"r"},"noteName":"projects/p/notes/a","discovered":{"discovered":{"analysisStatus":"SCANNING"}}}`, 400, "is of kind ATTESTATION")
	s.expect("POST", "/v1beta1/projects/p/occurrences", `{"resource":{"uri":"r"},"noteName":"projects/p/notes/a","attestation":{"attestation":{"genericSignedAttestation":{}}}}`, 400, "generic_signed_attestation")
}

func defectSLSA(_ *testing.T, s *system) {
	s.expect("POST", "/v1beta1/projects/p/notes?noteId=b", `{"build":{"builderVersion":"1"}}`, 200)
	s.expect("POST", "/v1beta1/projects/p/occurrences", `{"resource":{"uri":"r"},"noteName":"projects/p/notes/b","build":{"inTotoSlsaProvenanceV1":{"_type":"https://in-toto.io/Statement/v1"}}}`,
		200, `"_type":"https://in-toto.io/Statement/v1"`)
}

func defectBatchIDs(_ *testing.T, s *system) {
	for _, v := range []string{"v1", "v1beta1"} {
		s.expect("POST", "/"+v+"/projects/p/notes:batchCreate", `{"notes":{"x/y":{"secret":{}}}}`, 400, "must not contain /")
		s.expect("POST", "/"+v+"/projects/p/notes:batchCreate", `{"notes":{"":{"secret":{}}}}`, 400, "a noteId must be specified")
	}
	s.expect("GET", "/v1/projects/p/notes", "", 200, "{}")
}

func defectLargePages(t *testing.T, s *system) {
	s.secrets("projects/p", 0)
	large := strings.Repeat("x", 5000)
	const rows = 1000
	req := &grafeas.BatchCreateOccurrencesRequest{Parent: "projects/p"}
	for i := range rows {
		req.Occurrences = append(req.Occurrences, &grafeas.Occurrence{
			ResourceUri: fmt.Sprint("r", i), NoteName: "projects/provider/notes/n", Remediation: large, Details: &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}},
		})
		if len(req.Occurrences) == 500 {
			_, err := s.rpc.BatchCreateOccurrences(t.Context(), req)
			check(t, err, codes.OK)
			req.Occurrences = nil
		}
	}
	seen := 0
	for list := (&beta.ListOccurrencesRequest{Parent: "projects/p", PageSize: 1000}); ; {
		page, err := beta.NewGrafeasV1Beta1Client(s.conn).ListOccurrences(t.Context(), list)
		check(t, err, codes.OK)
		seen += len(page.GetOccurrences())
		if list.PageToken = page.GetNextPageToken(); list.PageToken == "" {
			break
		}
	}
	for token := ""; ; {
		body := s.expect("GET", "/v1beta1/projects/p/occurrences?pageSize=1000&pageToken="+token, "", 200)
		seen += strings.Count(body, `"kind":"SECRET"`)
		if !strings.Contains(body, "nextPageToken") {
			break
		}
		token = body[strings.LastIndex(body, `"nextPageToken":"`)+len(`"nextPageToken":"`):]
		token, _, _ = strings.Cut(token, `"`)
	}
	if seen != 2*rows {
		t.Errorf("%d occurrences read over gRPC and REST, want %d each", seen, rows)
	}
}

func defectLocations(_ *testing.T, s *system) {
	for _, v := range []string{"v1", "v1beta1"} {
		at := "/" + v + "/projects/p/locations/" + v
		s.expect("POST", at+"/notes?noteId=n", `{"secret":{}}`, 200, "/locations/"+v+"/notes/n")
		s.expect("GET", at+"/notes/n", "", 200)
		s.expect("GET", at+"/notes", "", 200, "/notes/n")
		s.expect("GET", at+"/notes/n/occurrences", "", 200)
		s.expect("PATCH", at+"/notes/n", `{"shortDescription":"x"}`, 200)
		s.expect("DELETE", at+"/notes/n", "", 200)
	}
}

func defectPageSize(_ *testing.T, s *system) {
	for _, v := range []string{"v1", "v1beta1"} {
		s.expect("GET", "/"+v+"/projects/p/occurrences?pageSize=1000", "", 200)
		s.expect("GET", "/"+v+"/projects/p/occurrences?pageSize=1001", "", 400, "1000")
	}
}
