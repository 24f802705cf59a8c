package transfer_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/attestation"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

// A reference is a server with the faults of Grafeas's own: v1beta1 alone, without
// filters, kinds and rules, with the pages of its memory store or of its
// PostgreSQL store.
type reference struct {
	beta.UnimplementedGrafeasV1Beta1Server
	betaprojects.UnimplementedProjectsServer

	mu       sync.Mutex
	projects []string
	notes    []*beta.Note
	list     []*beta.Occurrence
	// pages makes a page of n rows of the token: where it begins and the token
	// after it.
	pages func(n, size int, token string) (begin, end int, next string)
	sent  []string // tokens
}

// offsets are the memory store's: a token beyond the end kills the process.
func offsets(n, size int, token string) (int, int, string) {
	begin, _ := strconv.Atoi(token)
	if begin > n {
		panic("the server is dead")
	}
	end := min(begin+size, n)
	if end == n {
		return begin, end, ""
	}
	return begin, end, strconv.Itoa(end)
}

func (r *reference) page(n int, size int32, token string) (int, int, string) {
	r.mu.Lock()
	r.sent = append(r.sent, token)
	r.mu.Unlock()
	return r.pages(n, int(size), token)
}

func (r *reference) ListProjects(_ context.Context, req *betaprojects.ListProjectsRequest) (*betaprojects.ListProjectsResponse, error) {
	begin, end, next := offsets(len(r.projects), int(req.GetPageSize()), req.GetPageToken())
	resp := &betaprojects.ListProjectsResponse{NextPageToken: next}
	for _, p := range r.projects[begin:end] {
		resp.Projects = append(resp.Projects, &betaprojects.Project{Name: p})
	}
	return resp, nil
}

func (r *reference) ListNotes(_ context.Context, req *beta.ListNotesRequest) (*beta.ListNotesResponse, error) {
	if req.GetParent() == "" {
		return nil, status.Error(codes.InvalidArgument, "no parent")
	}
	var rows []*beta.Note
	for _, n := range r.notes {
		if strings.HasPrefix(n.GetName(), req.GetParent()) {
			rows = append(rows, n)
		}
	}
	begin, end, next := r.page(len(rows), req.GetPageSize(), req.GetPageToken())
	return &beta.ListNotesResponse{Notes: rows[begin:end], NextPageToken: next}, nil
}

func (r *reference) ListOccurrences(_ context.Context, req *beta.ListOccurrencesRequest) (*beta.ListOccurrencesResponse, error) {
	var rows []*beta.Occurrence
	for _, o := range r.list {
		if strings.HasPrefix(o.GetName(), req.GetParent()) {
			rows = append(rows, o)
		}
	}
	begin, end, next := r.page(len(rows), req.GetPageSize(), req.GetPageToken())
	return &beta.ListOccurrencesResponse{Occurrences: rows[begin:end], NextPageToken: next}, nil
}

func (r *reference) CreateProject(_ context.Context, req *betaprojects.CreateProjectRequest) (*betaprojects.Project, error) {
	r.projects = append(r.projects, req.GetProject().GetName())
	return req.GetProject(), nil
}

func (r *reference) BatchCreateNotes(_ context.Context, req *beta.BatchCreateNotesRequest) (*beta.BatchCreateNotesResponse, error) {
	resp := &beta.BatchCreateNotesResponse{}
	for id, n := range req.GetNotes() {
		n.Name = req.GetParent() + "/notes/" + id
		r.notes, resp.Notes = append(r.notes, n), append(resp.Notes, n)
	}
	return resp, nil
}

func (r *reference) CreateNote(ctx context.Context, req *beta.CreateNoteRequest) (*beta.Note, error) {
	done, err := r.BatchCreateNotes(ctx, &beta.BatchCreateNotesRequest{Parent: req.GetParent(), Notes: map[string]*beta.Note{req.GetNoteId(): req.GetNote()}})
	return done.GetNotes()[0], err
}

// BatchCreateOccurrences drops those whose notes are missing, and says OK.
func (r *reference) BatchCreateOccurrences(ctx context.Context, req *beta.BatchCreateOccurrencesRequest) (*beta.BatchCreateOccurrencesResponse, error) {
	resp := &beta.BatchCreateOccurrencesResponse{}
	for _, o := range req.GetOccurrences() {
		if _, err := r.CreateOccurrence(ctx, &beta.CreateOccurrenceRequest{Parent: req.GetParent(), Occurrence: o}); err == nil {
			resp.Occurrences = append(resp.Occurrences, o)
		}
	}
	return resp, nil
}

func (r *reference) CreateOccurrence(_ context.Context, req *beta.CreateOccurrenceRequest) (*beta.Occurrence, error) {
	for _, n := range r.notes {
		if n.GetName() == req.GetOccurrence().GetNoteName() {
			req.Occurrence.Name = fmt.Sprintf("%s/occurrences/%d", req.GetParent(), len(r.list))
			r.list = append(r.list, req.GetOccurrence())
			return req.GetOccurrence(), nil
		}
	}
	return nil, status.Error(codes.Internal, "Failed to insert Occurrence in database")
}

// startReference serves it.
func startReference(t *testing.T, r *reference) *gatehouse {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := grpc.NewServer()
	beta.RegisterGrafeasV1Beta1Server(srv, r)
	betaprojects.RegisterProjectsServer(srv, r)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	g := &gatehouse{}
	g.dial(t, listener.Addr().String())
	t.Cleanup(func() {
		if err := g.conn.Close(); err != nil {
			t.Error(err)
		}
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return g
}

// signed is an attestation without a kind, as the reference server keeps it.
func signed(project string, i int) *beta.Occurrence {
	return &beta.Occurrence{
		Name: fmt.Sprintf("%s/occurrences/%03d", project, i), NoteName: "projects/p/notes/attestor",
		Resource: &beta.Resource{Uri: fmt.Sprintf("https://reg.test/app@sha256:%064x", i)},
		Details: &beta.Occurrence_Attestation{Attestation: &attestation.Details{Attestation: &attestation.Attestation{
			Signature: &attestation.Attestation_PgpSignedAttestation{PgpSignedAttestation: &attestation.PgpSignedAttestation{
				Signature: fmt.Sprint("signature ", i), KeyId: &attestation.PgpSignedAttestation_PgpKeyId{PgpKeyId: "key"}}}}}},
	}
}

func newReference(n int) *reference {
	r := &reference{projects: []string{"projects/p", "projects/q"}, pages: offsets, notes: []*beta.Note{{
		Name: "projects/p/notes/attestor", Type: &beta.Note_AttestationAuthority{AttestationAuthority: &attestation.Authority{}}}}}
	for i := range n {
		r.list = append(r.list, signed([]string{"projects/p", "projects/q"}[i%2], i))
	}
	return r
}

func TestFromTheReferenceServer(t *testing.T) {
	t.Parallel()
	t.Run("everything, with kinds", func(t *testing.T) {
		r := newReference(30)
		r.list = append(r.list, signed("projects/p-unlisted", 99)) // listed with those of projects/p
		from, to := startReference(t, r), start(t)
		file := filepath.Join(t.TempDir(), "f")
		exported := from.export(t, file, transfer.ExportOptions{PageSize: 4})
		if exported.Notes != 1 || exported.Occurrences != 30 {
			t.Errorf("exported %+v", exported)
		}
		if len(exported.Warnings) != 1 || !strings.Contains(exported.Warnings[0], `"projects/p-unlisted"`) {
			t.Errorf("warnings are %q", exported.Warnings)
		}
		if imported := to.importFile(t, file, transfer.ImportOptions{}); imported.Refused() != 0 || imported.Occurrences.Created != 30 {
			t.Errorf("imported %+v", imported)
		}
		got := to.content(t)
		for _, project := range []string{"projects/p", "projects/q"} {
			if n := len(got.BetaOccurence[project]); n != 15 {
				t.Errorf("%s has %d occurrences, want 15", project, n)
			}
			for _, o := range got.BetaOccurence[project] {
				if o.GetKind() != common.NoteKind_ATTESTATION {
					t.Errorf("%s has kind %v", o.GetName(), o.GetKind())
				}
			}
		}
	})
	t.Run("an offset of an earlier run is not sent: one beyond the end kills it", func(t *testing.T) {
		r := newReference(30)
		from := startReference(t, r)
		from.fails("ListOccurrences", 3, codes.Unauthenticated, false)
		file := filepath.Join(t.TempDir(), "f")
		opts := transfer.ExportOptions{Source: "source", Sleep: noSleep, PageSize: 4}
		_, err := transfer.Export(t.Context(), from.conn, file, opts)
		wantError(t, err, "after 1 notes and 8 occurrences")
		from.fault.Store(nil)
		r.list, r.sent = r.list[:3], nil
		if got := from.export(t, file, opts); got.Occurrences != 9 || !got.Resumed {
			t.Errorf("exported %+v, want the 8 of before and one of projects/q", got)
		}
		for _, token := range r.sent {
			if token != "" {
				t.Errorf("token %q of the earlier run was sent", token)
			}
		}
	})
	for name, pages := range map[string]func(n, size int, token string) (int, int, string){
		"the first page again and again": func(n, size int, token string) (int, int, string) {
			at, _ := strconv.Atoi(strings.TrimPrefix(token, "t"))
			return 0, min(size, n), fmt.Sprint("t", at+1)
		},
		"an empty page, then the beginning": func(n, size int, token string) (int, int, string) {
			at, _ := strconv.Atoi(strings.TrimPrefix(token, "t"))
			begin := min(at%100, n)
			end := min(begin+size, n)
			if begin == n {
				return n, n, fmt.Sprint("t", (at/100+1)*100)
			}
			return begin, end, fmt.Sprint("t", at/100*100+end)
		},
		"the same token": func(n, size int, token string) (int, int, string) {
			if token == "" {
				return 0, min(size, n), "t"
			}
			return min(size, n), min(2*size, n), "t"
		},
		"empty pages for ever": func(n, _ int, token string) (int, int, string) {
			at, _ := strconv.Atoi(strings.TrimPrefix(token, "t"))
			return n, n, fmt.Sprint("t", at+1)
		},
	} {
		t.Run("paging that gives "+name+" is an error", func(t *testing.T) {
			r := newReference(12)
			r.pages = pages
			from := startReference(t, r)
			_, err := transfer.Export(t.Context(), from.conn, filepath.Join(t.TempDir(), "f"), transfer.ExportOptions{Source: "source", Sleep: noSleep, PageSize: 4})
			wantError(t, err, "paging does not work", "--salvage")
		})
	}
	t.Run("with salvage, all that comes in some walk", func(t *testing.T) {
		r := newReference(24)
		walks := 0
		// Each walk leaves out every third row, in turn, and then starts over.
		r.pages = func(n, size int, token string) (int, int, string) {
			at, _ := strconv.Atoi(strings.TrimPrefix(token, "t"))
			if token == "" {
				walks++
			}
			if at%3 == walks%3 {
				at++
			}
			at = min(at, n)
			if at == n {
				return 0, min(1, n), "t1"
			}
			return at, at + 1, fmt.Sprint("t", at+1)
		}
		from := startReference(t, r)
		got := from.export(t, filepath.Join(t.TempDir(), "f"), transfer.ExportOptions{Salvage: true, PageSize: 1})
		if got.Notes != 1 || got.Occurrences != 24 || len(got.Warnings) == 0 {
			t.Errorf("exported %+v", got)
		}
	})
}

func TestToTheReferenceServer(t *testing.T) {
	t.Parallel()
	from := start(t)
	from.filled(t, 20)
	file := filepath.Join(t.TempDir(), "f")
	from.export(t, file, transfer.ExportOptions{})
	r := &reference{pages: offsets}
	to := startReference(t, r)
	result := to.importFile(t, file, transfer.ImportOptions{})
	if result.Refused() != 0 || len(r.list) != 20 || len(r.notes) != 3 || len(r.projects) != 2 {
		t.Errorf("imported %+v: it has %d occurrences, %d notes", result, len(r.list), len(r.notes))
	}

	t.Run("what it drops without a word is found out", func(t *testing.T) {
		r := &reference{pages: offsets}
		to := startReference(t, r)
		var told []string
		to.fault.Store(&fault{before: func(method string) error {
			if strings.HasSuffix(method, "/CreateNote") { // that of projects/provider
				return status.Error(codes.PermissionDenied, "not yours")
			}
			return nil
		}})
		file := filepath.Join(t.TempDir(), "f")
		from.export(t, file, transfer.ExportOptions{})
		result := to.importFile(t, file, transfer.ImportOptions{Refused: func(_ int, name, reason string) { told = append(told, name+": "+reason) }})
		if result.Occurrences.Refused != 20 || result.Notes.Refused != 1 || len(r.list) != 0 {
			t.Errorf("imported %+v", result)
		}
		if len(told) != 21 || !strings.Contains(told[1], "Failed to insert Occurrence in database") {
			t.Errorf("told %q", told)
		}
	})
	t.Run("what v1beta1 cannot hold is refused", func(t *testing.T) {
		from := start(t)
		from.project(t, "projects/p")
		_, err := from.v1.CreateNote(t.Context(), v1Note("upgrade"))
		must(t, err)
		file := filepath.Join(t.TempDir(), "f")
		from.export(t, file, transfer.ExportOptions{})
		var told string
		to.importFile(t, file, transfer.ImportOptions{Refused: func(_ int, _, reason string) { told = reason }})
		if !strings.Contains(told, "v1beta1 alone, which cannot hold it") {
			t.Errorf("told %q", told)
		}
	})
}
