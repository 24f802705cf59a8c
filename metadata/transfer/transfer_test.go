package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

// A gatehouse is a Gatehouse on a real socket, with clients of both versions.
type gatehouse struct {
	conn     *grpc.ClientConn
	v1       grafeas.GrafeasClient
	beta     beta.GrafeasV1Beta1Client
	projects betaprojects.ProjectsClient
	// fault, if set, is asked before and after each call of the connection.
	fault atomic.Pointer[fault]
}

// A fault says what goes wrong with a call: before it is made, and after it had
// its effect. nil is nothing.
type fault struct {
	before, after func(method string) error
}

func start(t testing.TB) *gatehouse {
	t.Helper()
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	handler, stop := grafeasapi.NewHandler(svc, grafeasapi.Options{})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: &protocols}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	g := &gatehouse{}
	g.dial(t, listener.Addr().String())
	t.Cleanup(func() {
		if err := errors.Join(g.conn.Close(), srv.Close()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// dial makes the clients, over a connection that fails as g.fault says.
func (g *gatehouse) dial(t testing.TB, addr string) {
	t.Helper()
	var err error
	g.conn, err = grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			f := g.fault.Load()
			if f != nil && f.before != nil {
				if err := f.before(method); err != nil {
					return err
				}
			}
			err := invoke(ctx, method, req, reply, cc, opts...)
			if f != nil && f.after != nil && err == nil {
				err = f.after(method)
			}
			return err
		}))
	if err != nil {
		t.Fatal(err)
	}
	g.v1, g.beta, g.projects = grafeas.NewGrafeasClient(g.conn), beta.NewGrafeasV1Beta1Client(g.conn), betaprojects.NewProjectsClient(g.conn)
}

// fails makes the n-th call of a method fail; after is whether the call had its
// effect. It returns the number of calls.
func (g *gatehouse) fails(method string, n int, code codes.Code, after bool) *atomic.Int64 {
	calls := new(atomic.Int64)
	hook := func(m string) error {
		if strings.HasSuffix(m, "/"+method) && int(calls.Add(1)) == n {
			return status.Error(code, "the test cut the line")
		}
		return nil
	}
	if after {
		g.fault.Store(&fault{after: hook})
	} else {
		g.fault.Store(&fault{before: hook})
	}
	return calls
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// A content is what a server keeps, as both versions show it, without what a
// server gives: names of occurrences, and times.
type content struct {
	Projects      []string
	Notes         []*grafeas.Note
	BetaNotes     []*beta.Note
	Occurrences   map[string][]*grafeas.Occurrence
	BetaOccurence map[string][]*beta.Occurrence
}

func (g *gatehouse) content(t testing.TB, parents ...string) content {
	t.Helper()
	c := content{Occurrences: map[string][]*grafeas.Occurrence{}, BetaOccurence: map[string][]*beta.Occurrence{}}
	list, err := g.projects.ListProjects(t.Context(), &betaprojects.ListProjectsRequest{PageSize: 1000})
	must(t, err)
	for _, p := range list.GetProjects() {
		c.Projects = append(c.Projects, p.GetName())
		parents = append(parents, p.GetName())
	}
	slices.Sort(parents)
	for _, parent := range slices.Compact(parents) {
		for token := "first"; token != ""; {
			page, err := g.v1.ListNotes(t.Context(), &grafeas.ListNotesRequest{Parent: parent, PageSize: 1000, PageToken: strings.TrimPrefix(token, "first")})
			must(t, err)
			c.Notes, token = append(c.Notes, page.GetNotes()...), page.GetNextPageToken()
		}
		for token := "first"; token != ""; {
			page, err := g.beta.ListNotes(t.Context(), &beta.ListNotesRequest{Parent: parent, PageSize: 1000, PageToken: strings.TrimPrefix(token, "first")})
			must(t, err)
			c.BetaNotes, token = append(c.BetaNotes, page.GetNotes()...), page.GetNextPageToken()
		}
		for token := "first"; token != ""; {
			page, err := g.v1.ListOccurrences(t.Context(), &grafeas.ListOccurrencesRequest{Parent: parent, PageSize: 1000, PageToken: strings.TrimPrefix(token, "first")})
			must(t, err)
			c.Occurrences[parent], token = append(c.Occurrences[parent], page.GetOccurrences()...), page.GetNextPageToken()
		}
		for token := "first"; token != ""; {
			page, err := g.beta.ListOccurrences(t.Context(), &beta.ListOccurrencesRequest{Parent: parent, PageSize: 1000, PageToken: strings.TrimPrefix(token, "first")})
			must(t, err)
			c.BetaOccurence[parent], token = append(c.BetaOccurence[parent], page.GetOccurrences()...), page.GetNextPageToken()
		}
	}
	return c
}

// same compares what two servers keep, order included.
func same(t testing.TB, want, got content) {
	t.Helper()
	diff := cmp.Diff(want, got, protocmp.Transform(),
		protocmp.IgnoreFields(&grafeas.Note{}, "create_time", "update_time"), protocmp.IgnoreFields(&beta.Note{}, "create_time", "update_time"),
		protocmp.IgnoreFields(&grafeas.Occurrence{}, "name", "create_time", "update_time"), protocmp.IgnoreFields(&beta.Occurrence{}, "name", "create_time", "update_time"))
	if diff != "" {
		t.Errorf("the servers differ (-want +got):\n%s", diff)
	}
}

func (g *gatehouse) project(t testing.TB, name string) {
	t.Helper()
	_, err := g.projects.CreateProject(t.Context(), &betaprojects.CreateProjectRequest{Project: &betaprojects.Project{Name: name}})
	must(t, err)
}

// secretNote creates a note that takes occurrences without rules.
func (g *gatehouse) secretNote(t testing.TB, parent, id string) string {
	t.Helper()
	n, err := g.v1.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: parent, NoteId: id, Note: &grafeas.Note{
		ShortDescription: id, Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}})
	must(t, err)
	return n.GetName()
}

func secretOccurrence(note string, i int) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: fmt.Sprintf("https://reg.test/app@sha256:%064x", i/3), NoteName: note, Remediation: fmt.Sprint("remedy ", i),
		Details: &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}}}
}

// filled creates n occurrences, and two that are equal.
func (g *gatehouse) filled(t testing.TB, n int) {
	t.Helper()
	g.project(t, "projects/p")
	g.project(t, "projects/provider")
	note := g.secretNote(t, "projects/provider", "n")
	g.secretNote(t, "projects/p", "m")
	g.secretNote(t, "projects/p", "o")
	all := []*grafeas.Occurrence{secretOccurrence(note, 0)}
	for i := range n - 1 {
		all = append(all, secretOccurrence(note, i))
	}
	for batch := range slices.Chunk(all, 1000) {
		_, err := g.v1.BatchCreateOccurrences(t.Context(), &grafeas.BatchCreateOccurrencesRequest{Parent: "projects/p", Occurrences: batch})
		must(t, err)
	}
}

func (g *gatehouse) export(t testing.TB, file string, opts transfer.ExportOptions) transfer.ExportResult {
	t.Helper()
	opts.Source, opts.Sleep = "source", noSleep
	r, err := transfer.Export(t.Context(), g.conn, file, opts)
	must(t, err)
	return r
}

func (g *gatehouse) importFile(t testing.TB, file string, opts transfer.ImportOptions) transfer.ImportResult {
	t.Helper()
	opts.Target, opts.Sleep = "target", noSleep
	r, err := transfer.Import(t.Context(), g.conn, file, opts)
	must(t, err)
	return r
}

func TestEveryKindOfBothVersionsMoves(t *testing.T) {
	t.Parallel()
	from, to := start(t), start(t)
	from.project(t, "projects/p")
	refusedByRules := 0
	for _, member := range metadatatest.Members(&grafeas.Note{}, "type") {
		note := metadatatest.Filled(&grafeas.Note{}, member, 0)
		made, err := from.v1.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "v1-" + string(member), Note: note})
		must(t, err)
		if !slices.Contains(metadatatest.Members(&grafeas.Occurrence{}, "details"), member) {
			continue
		}
		o := metadatatest.Filled(&grafeas.Occurrence{}, member, 0)
		o.NoteName = made.GetName()
		_, err = from.v1.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: o})
		must(t, err)
	}
	ofNote := map[string]string{"base_image": "derived_image", "package": "installation", "deployable": "deployment",
		"discovery": "discovered", "attestation_authority": "attestation"}
	for variant := range 2 {
		for _, member := range metadatatest.Members(&beta.Note{}, "type") {
			n := metadatatest.Filled(&beta.Note{}, member, variant)
			made, err := from.beta.CreateNote(t.Context(), &beta.CreateNoteRequest{Parent: "projects/p", NoteId: fmt.Sprintf("beta-%s-%d", member, variant), Note: n})
			must(t, err)
			details := string(member)
			if other := ofNote[details]; other != "" {
				details = other
			}
			if !slices.Contains(namesOf(metadatatest.Members(&beta.Occurrence{}, "details")), details) {
				continue
			}
			for range 2 { // of equal ones there are as many afterwards
				o := metadatatest.Filled(&beta.Occurrence{}, nameOf(details), variant)
				o.NoteName = made.GetName()
				_, err = from.beta.CreateOccurrence(t.Context(), &beta.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: o})
				if status.Code(err) == codes.AlreadyExists {
					refusedByRules++
					continue
				}
				must(t, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "all.jsonl")
	exported := from.export(t, file, transfer.ExportOptions{PageSize: 7})
	imported := to.importFile(t, file, transfer.ImportOptions{})
	if n := imported.Refused(); n != 0 {
		t.Errorf("%d were refused", n)
	}
	if exported.Notes != imported.Notes.Created || exported.Occurrences != imported.Occurrences.Created || exported.Occurrences < 40 {
		t.Errorf("exported %+v, imported %+v", exported, imported)
	}
	same(t, from.content(t), to.content(t))
	text, err := os.ReadFile(file)
	must(t, err)
	for _, want := range []string{`"api":"v1"`, `"api":"v1beta1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file has nothing with %s", want)
		}
	}
	if strings.Contains(string(text), `"other":`) {
		t.Error("a message of Gatehouse needs both versions")
	}

	// What was exported from the copy is what was exported from the first.
	again := filepath.Join(t.TempDir(), "again.jsonl")
	if got := to.export(t, again, transfer.ExportOptions{}); got.Totals != exported.Totals {
		t.Errorf("the copy has %+v, want %+v", got.Totals, exported.Totals)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	t.Run("is the same each time but for its time", func(t *testing.T) {
		from := start(t)
		from.filled(t, 50)
		now := func() time.Time { return time.Unix(1, 0) }
		a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		from.export(t, a, transfer.ExportOptions{Now: now, PageSize: 7})
		from.export(t, b, transfer.ExportOptions{Now: now, PageSize: 1000})
		if diff := cmp.Diff(read(t, a), read(t, b)); diff != "" {
			t.Errorf("two exports differ (-first +second):\n%s", diff)
		}
	})
	t.Run("interrupted anywhere, it goes on without a loss or a repetition", func(t *testing.T) {
		from := start(t)
		from.filled(t, 50)
		now := func() time.Time { return time.Unix(1, 0) }
		whole := filepath.Join(t.TempDir(), "whole")
		from.export(t, whole, transfer.ExportOptions{Now: now, PageSize: 7})
		for _, method := range []string{"ListNotes", "ListOccurrences", "ListProjects"} {
			for n := 1; ; n++ {
				file := filepath.Join(t.TempDir(), "f")
				calls := from.fails(method, n, codes.Unauthenticated, false)
				opts := transfer.ExportOptions{Source: "source", Now: now, PageSize: 7, Sleep: noSleep}
				_, err := transfer.Export(t.Context(), from.conn, file, opts)
				from.fault.Store(nil)
				if int(calls.Load()) < n {
					if must(t, err); n < 3 {
						t.Fatalf("%s was called %d times", method, n-1)
					}
					break
				}
				wantError(t, err, "UNAUTHENTICATED")
				if _, there := os.Stat(file); there == nil {
					t.Fatalf("an interrupted export has left %s", file)
				}
				from.export(t, file, opts)
				if diff := cmp.Diff(read(t, whole), read(t, file)); diff != "" {
					t.Fatalf("interrupted in call %d of %s, the file differs (-want +got):\n%s", n, method, diff)
				}
				for _, left := range []string{".part", ".part-state"} {
					if _, err := os.Stat(file + left); err == nil {
						t.Errorf("%s was left", file+left)
					}
				}
			}
		}
	})
	t.Run("goes on only with its own file", func(t *testing.T) {
		from := start(t)
		from.filled(t, 20)
		file := filepath.Join(t.TempDir(), "f")
		from.fails("ListOccurrences", 3, codes.Unauthenticated, false)
		opts := transfer.ExportOptions{Source: "source", PageSize: 7, Sleep: noSleep}
		_, err := transfer.Export(t.Context(), from.conn, file, opts)
		wantError(t, err, "the same command goes on from there")
		from.fault.Store(nil)
		opts.Projects = []string{"p"}
		_, err = transfer.Export(t.Context(), from.conn, file, opts)
		wantError(t, err, "another export", "--restart")
		opts.Restart = true
		from.export(t, file, opts)
		_, err = transfer.Export(t.Context(), from.conn, file, opts)
		wantError(t, err, "exists", "--overwrite")
	})
	t.Run("of a location, and what is not listed", func(t *testing.T) {
		from, to := start(t), start(t)
		note := from.secretNote(t, "projects/p/locations/l", "n")
		_, err := from.v1.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p/locations/l", Occurrence: secretOccurrence(note, 1)})
		must(t, err)
		file := filepath.Join(t.TempDir(), "f")
		_, err = transfer.Export(t.Context(), from.conn, file, transfer.ExportOptions{Source: "source", Sleep: noSleep})
		wantError(t, err, "lists no projects", "--project")
		r := from.export(t, file, transfer.ExportOptions{Projects: []string{"p/locations/l"}, Restart: true})
		if r.Notes != 1 || r.Occurrences != 1 {
			t.Errorf("exported %+v", r)
		}
		to.importFile(t, file, transfer.ImportOptions{})
		same(t, from.content(t, "projects/p/locations/l"), to.content(t, "projects/p/locations/l"))
	})
	t.Run("while somebody writes, loses nothing that was there", func(t *testing.T) {
		from, to := start(t), start(t)
		from.filled(t, 30)
		note := "projects/provider/notes/n"
		written := 0
		from.fault.Store(&fault{after: func(method string) error {
			if strings.HasSuffix(method, "/ListOccurrences") && written < 5 {
				written++
				_, err := from.v1.CreateOccurrence(context.Background(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: secretOccurrence(note, 1000+written)})
				return err
			}
			return nil
		}})
		file := filepath.Join(t.TempDir(), "f")
		from.export(t, file, transfer.ExportOptions{PageSize: 7})
		to.importFile(t, file, transfer.ImportOptions{})
		remedies := map[string]int{}
		for _, o := range to.content(t).Occurrences["projects/p"] {
			remedies[o.GetRemediation()]++
		}
		if remedies["remedy 0"] != 2 || len(remedies) < 29 {
			t.Errorf("the copy has %v", remedies)
		}
		for i := 1; i < 29; i++ {
			if remedies[fmt.Sprint("remedy ", i)] != 1 {
				t.Errorf("remedy %d is there %d times", i, remedies[fmt.Sprint("remedy ", i)])
			}
		}
	})
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return string(text)
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}
