package transfer

import (
	"context"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	projects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A Version is one of the API's.
type Version string

// The versions. Auto is whichever a server serves, both if it does.
const (
	Auto    Version = "auto"
	V1      Version = "v1"
	V1Beta1 Version = "v1beta1"
)

// A query asks for one page of a list.
type query struct {
	parent, filter, token string
	size                  int32
}

// A remote is a server's API in one version. Its messages are those of the version.
type remote interface {
	version() Version
	projects(ctx context.Context, q query) (names []string, next string, err error)
	createProject(ctx context.Context, name string) error
	list(ctx context.Context, k sort, q query) (rows []proto.Message, next string, err error)
	get(ctx context.Context, k sort, name string) (proto.Message, error)
	// create creates one note, with its id, or one occurrence.
	create(ctx context.Context, k sort, parent, id string, m proto.Message) (proto.Message, error)
	// createAll creates them in one call, and returns those that were created.
	createAll(ctx context.Context, k sort, parent string, ids []string, all []proto.Message) ([]proto.Message, error)
	updateNote(ctx context.Context, name string, m proto.Message) error
}

// A remoteV1 is a remote of v1.
type remoteV1 struct {
	rpc    grafeas.GrafeasClient
	filing projects.ProjectsClient
}

func (r remoteV1) version() Version { return V1 }

func (r remoteV1) projects(ctx context.Context, q query) ([]string, string, error) {
	page, err := r.filing.ListProjects(ctx, &projects.ListProjectsRequest{PageSize: q.size, PageToken: q.token})
	return namesOf(page.GetProjects()), page.GetNextPageToken(), err
}

func (r remoteV1) createProject(ctx context.Context, name string) error {
	_, err := r.filing.CreateProject(ctx, &projects.CreateProjectRequest{Project: &projects.Project{Name: name}})
	return err
}

func (r remoteV1) list(ctx context.Context, k sort, q query) ([]proto.Message, string, error) {
	if k == notes {
		page, err := r.rpc.ListNotes(ctx, &grafeas.ListNotesRequest{Parent: q.parent, Filter: q.filter, PageSize: q.size, PageToken: q.token})
		return messages(page.GetNotes()), page.GetNextPageToken(), err
	}
	page, err := r.rpc.ListOccurrences(ctx, &grafeas.ListOccurrencesRequest{Parent: q.parent, Filter: q.filter, PageSize: q.size, PageToken: q.token})
	return messages(page.GetOccurrences()), page.GetNextPageToken(), err
}

func (r remoteV1) get(ctx context.Context, k sort, name string) (proto.Message, error) {
	if k == notes {
		return r.rpc.GetNote(ctx, &grafeas.GetNoteRequest{Name: name})
	}
	return r.rpc.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: name})
}

func (r remoteV1) create(ctx context.Context, k sort, parent, id string, m proto.Message) (proto.Message, error) {
	if k == notes {
		return r.rpc.CreateNote(ctx, &grafeas.CreateNoteRequest{Parent: parent, NoteId: id, Note: m.(*grafeas.Note)})
	}
	return r.rpc.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: parent, Occurrence: m.(*grafeas.Occurrence)})
}

func (r remoteV1) createAll(ctx context.Context, k sort, parent string, ids []string, all []proto.Message) ([]proto.Message, error) {
	if k == notes {
		done, err := r.rpc.BatchCreateNotes(ctx, &grafeas.BatchCreateNotesRequest{Parent: parent, Notes: byID[*grafeas.Note](ids, all)})
		return messages(done.GetNotes()), err
	}
	done, err := r.rpc.BatchCreateOccurrences(ctx, &grafeas.BatchCreateOccurrencesRequest{Parent: parent, Occurrences: typed[*grafeas.Occurrence](all)})
	return messages(done.GetOccurrences()), err
}

func (r remoteV1) updateNote(ctx context.Context, name string, m proto.Message) error {
	_, err := r.rpc.UpdateNote(ctx, &grafeas.UpdateNoteRequest{Name: name, Note: m.(*grafeas.Note)})
	return err
}

// A remoteBeta is a remote of v1beta1.
type remoteBeta struct {
	rpc    beta.GrafeasV1Beta1Client
	filing betaprojects.ProjectsClient
}

func (r remoteBeta) version() Version { return V1Beta1 }

func (r remoteBeta) projects(ctx context.Context, q query) ([]string, string, error) {
	page, err := r.filing.ListProjects(ctx, &betaprojects.ListProjectsRequest{PageSize: q.size, PageToken: q.token})
	return namesOf(page.GetProjects()), page.GetNextPageToken(), err
}

func (r remoteBeta) createProject(ctx context.Context, name string) error {
	_, err := r.filing.CreateProject(ctx, &betaprojects.CreateProjectRequest{Project: &betaprojects.Project{Name: name}})
	return err
}

func (r remoteBeta) list(ctx context.Context, k sort, q query) ([]proto.Message, string, error) {
	if k == notes {
		page, err := r.rpc.ListNotes(ctx, &beta.ListNotesRequest{Parent: q.parent, Filter: q.filter, PageSize: q.size, PageToken: q.token})
		return messages(page.GetNotes()), page.GetNextPageToken(), err
	}
	page, err := r.rpc.ListOccurrences(ctx, &beta.ListOccurrencesRequest{Parent: q.parent, Filter: q.filter, PageSize: q.size, PageToken: q.token})
	return messages(page.GetOccurrences()), page.GetNextPageToken(), err
}

func (r remoteBeta) get(ctx context.Context, k sort, name string) (proto.Message, error) {
	if k == notes {
		return r.rpc.GetNote(ctx, &beta.GetNoteRequest{Name: name})
	}
	return r.rpc.GetOccurrence(ctx, &beta.GetOccurrenceRequest{Name: name})
}

func (r remoteBeta) create(ctx context.Context, k sort, parent, id string, m proto.Message) (proto.Message, error) {
	if k == notes {
		return r.rpc.CreateNote(ctx, &beta.CreateNoteRequest{Parent: parent, NoteId: id, Note: m.(*beta.Note)})
	}
	return r.rpc.CreateOccurrence(ctx, &beta.CreateOccurrenceRequest{Parent: parent, Occurrence: m.(*beta.Occurrence)})
}

func (r remoteBeta) createAll(ctx context.Context, k sort, parent string, ids []string, all []proto.Message) ([]proto.Message, error) {
	if k == notes {
		done, err := r.rpc.BatchCreateNotes(ctx, &beta.BatchCreateNotesRequest{Parent: parent, Notes: byID[*beta.Note](ids, all)})
		return messages(done.GetNotes()), err
	}
	done, err := r.rpc.BatchCreateOccurrences(ctx, &beta.BatchCreateOccurrencesRequest{Parent: parent, Occurrences: typed[*beta.Occurrence](all)})
	return messages(done.GetOccurrences()), err
}

func (r remoteBeta) updateNote(ctx context.Context, name string, m proto.Message) error {
	_, err := r.rpc.UpdateNote(ctx, &beta.UpdateNoteRequest{Name: name, Note: m.(*beta.Note)})
	return err
}

func namesOf[P interface{ GetName() string }](list []P) []string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.GetName()
	}
	return names
}

func messages[M proto.Message](list []M) []proto.Message {
	all := make([]proto.Message, len(list))
	for i, m := range list {
		all[i] = m
	}
	return all
}

func typed[M proto.Message](list []proto.Message) []M {
	all := make([]M, len(list))
	for i, m := range list {
		all[i] = m.(M)
	}
	return all
}

func byID[M proto.Message](ids []string, list []proto.Message) map[string]M {
	all := make(map[string]M, len(ids))
	for i, id := range ids {
		all[id] = list[i].(M)
	}
	return all
}

// remotes returns the versions that a server serves, of those wanted, v1 first.
func remotes(ctx context.Context, conn grpc.ClientConnInterface, want Version, c caller) ([]remote, error) {
	all := []remote{
		remoteV1{grafeas.NewGrafeasClient(conn), projects.NewProjectsClient(conn)},
		remoteBeta{beta.NewGrafeasV1Beta1Client(conn), betaprojects.NewProjectsClient(conn)},
	}
	var served []remote
	for _, r := range all {
		if want != Auto && want != r.version() {
			continue
		}
		ok, err := serves(ctx, r, c)
		if err != nil {
			return nil, explain(err, "asking the server for Grafeas %s", r.version())
		}
		if ok {
			served = append(served, r)
		}
	}
	if len(served) == 0 {
		return nil, metadata.Errorf(metadata.Unimplemented, "the server does not serve Grafeas %s over gRPC; is the address that of its API, and not of its REST gateway?", wanted(want))
	}
	return served, nil
}

func wanted(v Version) string {
	if v == Auto {
		return "v1 or v1beta1"
	}
	return string(v)
}

// serves asks for the notes of no parent: a server refuses it in its own way, and
// one without the service says UNIMPLEMENTED.
func serves(ctx context.Context, r remote, c caller) (bool, error) {
	err := c.call(ctx, func(ctx context.Context) error {
		_, _, err := r.list(ctx, notes, query{size: 1})
		return err
	})
	switch codeOf(err) {
	case codes.Unimplemented:
		return false, nil
	case codes.OK:
		return err == nil, err
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.FailedPrecondition, codes.OutOfRange:
		return true, nil
	}
	return false, err
}

// clean makes text from elsewhere one line that cannot drive a terminal, and
// bounds it.
func clean(s string) string {
	const most = 1000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case !unicode.IsGraphic(r):
			return '\uFFFD'
		}
		return r
	}, s)
}
