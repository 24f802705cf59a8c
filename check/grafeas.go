package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// pageSize keeps a page of vulnerabilities, a few KiB each, well below the
	// 4 MiB that a gRPC client accepts.
	pageSize = 200
	// maxOccurrences bounds what is read of one kind about one image. The most
	// vulnerable images have some thousands.
	maxOccurrences = 50_000
)

// A Lister lists occurrences, page by page, and reads notes. A grafeas.GrafeasClient
// is one.
type Lister interface {
	ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, opts ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error)
	GetNote(ctx context.Context, req *grafeas.GetNoteRequest, opts ...grpc.CallOption) (*grafeas.Note, error)
}

// Grafeas is [Metadata] that is kept by a Grafeas server. Make it with
// [NewGrafeas].
type Grafeas struct {
	lister   Lister
	projects []string
	byImage  bool
	feed     Feed
	interval time.Duration
}

// NewGrafeas returns metadata read from the projects given. Facts are believed
// whoever wrote them, so name only projects that none but trusted writers may
// write to.
func NewGrafeas(lister Lister, projects ...string) (*Grafeas, error) {
	if lister == nil {
		return nil, errors.New("reading metadata needs a Grafeas client")
	}
	if len(projects) == 0 {
		return nil, errors.New("reading metadata needs the project that holds it; set binauth_project or [gatehouse] metadata_projects")
	}
	for _, p := range projects {
		if p == "" || strings.ContainsAny(p, "/\"") {
			return nil, fmt.Errorf("metadata project %q is not the id of a project", p)
		}
	}
	return &Grafeas{lister: lister, projects: projects, interval: defaultInterval}, nil
}

// WithImageProject returns metadata that is read, besides, from the Google
// Cloud project that the image's repository belongs to, as Voucher does. Whoever
// may write to that project is believed about its images.
func (g *Grafeas) WithImageProject() *Grafeas {
	clone := *g
	clone.byImage = true
	return &clone
}

// Occurrences implements [Metadata]. The server's filter is not relied upon:
// what comes back is compared with the image and the kind again.
func (g *Grafeas) Occurrences(ctx context.Context, ref image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	if err := ref.RequireDigest(); err != nil {
		return nil, err
	}
	projects := g.projects
	if p := ProjectOf(ref); g.byImage && p != "" && !slices.Contains(projects, p) {
		projects = append([]string{p}, projects...)
	}
	var all []*grafeas.Occurrence
	for _, p := range projects {
		page := func(ctx context.Context, token string) ([]*grafeas.Occurrence, string, error) {
			resp, err := g.lister.ListOccurrences(ctx, &grafeas.ListOccurrencesRequest{
				Parent: "projects/" + p, Filter: Filter(ref, kind), PageSize: pageSize, PageToken: token,
			})
			return resp.GetOccurrences(), resp.GetNextPageToken(), err
		}
		found, err := List(ctx, page)
		if err != nil {
			return nil, fmt.Errorf("listing the %s metadata of %q in project %q: %w", strings.ToLower(kind.String()), ref, p, inTime(ctx, err))
		}
		for _, o := range found {
			if About(o, ref, kind) {
				all = append(all, o)
			}
		}
	}
	return all, nil
}

// Note implements [Metadata].
func (g *Grafeas) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	n, err := g.lister.GetNote(ctx, &grafeas.GetNoteRequest{Name: name})
	switch status.Code(err) {
	case codes.OK:
		return n, nil
	case codes.NotFound, codes.PermissionDenied:
		return nil, nil //nolint:nilnil // it says so
	}
	return nil, fmt.Errorf("reading the note %q: %w", name, inTime(ctx, err))
}

// inTime says that it was the metadata server that took too long.
func inTime(ctx context.Context, err error) error {
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the metadata server did not answer in time: %w", err)
	}
	return err
}

// Filter is the filter, in the spelling that every Grafeas server knows, for
// occurrences of one kind about an image.
func Filter(ref image.Reference, kind grafeas.NoteKind) string {
	return fmt.Sprintf("resourceUrl=%q AND kind=%q", ref.ResourceURI(), kind)
}

// About reports whether an occurrence is of the kind and about the image: the
// same repository as written and the same digest. A tag in it is nothing.
func About(o *grafeas.Occurrence, ref image.Reference, kind grafeas.NoteKind) bool {
	if o.GetKind() != kind {
		return false
	}
	about, err := image.ParseResourceURI(o.GetResourceUri())
	return err == nil && about.ResourceURI() == ref.ResourceURI()
}

// List reads pages to the end. A project or note that does not exist has
// nothing in it. A list that is not to be had whole is an error, because a check
// that passes on a part of the facts passes on none.
func List(ctx context.Context, page func(ctx context.Context, token string) ([]*grafeas.Occurrence, string, error)) ([]*grafeas.Occurrence, error) {
	var all []*grafeas.Occurrence
	for token, pages := "", 0; ; pages++ {
		found, next, err := page(ctx, token)
		if status.Code(err) == codes.NotFound && token == "" {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		if next == "" {
			return all, nil
		}
		// A page may be empty and not the last; a server may also never stop.
		if len(all) > maxOccurrences || pages > maxOccurrences/pageSize || next == token {
			return nil, fmt.Errorf("the server's list does not end after %d occurrences", len(all))
		}
		token = next
	}
}

// ProjectOf returns the Google Cloud project that a repository of Container
// Registry or Artifact Registry belongs to, and "" for any other.
func ProjectOf(ref image.Reference) string {
	host := ref.Registry()
	if host != "gcr.io" && !strings.HasSuffix(host, ".gcr.io") && !strings.HasSuffix(host, ".pkg.dev") {
		return ""
	}
	parts := strings.Split(ref.Path(), "/")
	if len(parts) >= 3 && strings.Contains(parts[0], ".") {
		return parts[0] + ":" + parts[1] // a project within a domain
	}
	if len(parts) < 2 {
		return ""
	}
	return parts[0]
}
