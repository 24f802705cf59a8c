package feed

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxInterest bounds what one gate may ask for: a policy names some attestors, and
	// each has a note.
	maxInterest = 4096
	// maxName bounds what a gate calls itself and its cluster.
	maxName = 253
	// systemPolicy is the document that all gates follow.
	systemPolicy = "locations/global/policy"
)

// statements are the kinds of occurrences that may be signed statements.
var statements = metadata.KindSet(grafeas.NoteKind_ATTESTATION, grafeas.NoteKind_DSSE_ATTESTATION, grafeas.NoteKind_BUILD)

// An interest is what a gate is told of beside the documents of its project.
type interest struct {
	project                                     string
	notes, projects, scans, documents, scanners map[string]bool
}

func newInterest(project string) *interest {
	return &interest{project: project, notes: map[string]bool{}, projects: map[string]bool{}, scans: map[string]bool{}, documents: map[string]bool{}, scanners: map[string]bool{}}
}

func projectName(id string) string { return "projects/" + id }

func checkProject(id string) error {
	if p, err := metadata.ParseParent(projectName(id)); err != nil || p.Location != "" || strings.Contains(id, "/") {
		return metadata.Errorf(metadata.InvalidArgument, "project %q: want the id of a project", clip(id))
	}
	return nil
}

// permit returns nil if all that is asked for is well-formed and the caller may have
// it. Scanners are no request to be told of anything but of what is known already.
func permit(ctx context.Context, c *metadata.Call, project string, asked *gatehousev1.Interest) error {
	if err := c.Need(ctx, metadata.FeedWatch, projectName(project)); err != nil {
		return err
	}
	if n := size(asked); n > maxInterest {
		return metadata.Errorf(metadata.InvalidArgument, "the gate asks for %d things; %d are allowed", n, maxInterest)
	}
	// or returns nil if the caller watches all of another project, or has the permission.
	or := func(other string, permission metadata.Permission, resource string) error {
		if other == project || c.Need(ctx, metadata.FeedWatch, projectName(other)) == nil {
			return nil
		}
		return c.Need(ctx, permission, resource)
	}
	for _, note := range asked.GetNotes() {
		name, err := metadata.ParseNoteName(note)
		if err == nil {
			err = or(name.Parent.Project, metadata.NotesListOccurrences, note)
		}
		if err != nil {
			return err
		}
	}
	for _, id := range slices.Concat(asked.GetProjects(), asked.GetScans()) {
		if err := checkProject(id); err != nil {
			return err
		}
		if err := or(id, metadata.OccurrencesList, projectName(id)); err != nil {
			return err
		}
	}
	for _, document := range asked.GetDocuments() {
		other, ok := attestorIn(document)
		if !ok {
			return metadata.Errorf(metadata.InvalidArgument, "document %q: want the name of an attestor, projects/*/attestors/*", clip(document))
		}
		if err := or(other, metadata.AttestorsGet, document); err != nil {
			return err
		}
	}
	return nil
}

func size(i *gatehousev1.Interest) int {
	return len(i.GetNotes()) + len(i.GetProjects()) + len(i.GetScans()) + len(i.GetDocuments()) + len(i.GetScanners())
}

// attestorIn returns the id of the project that an attestor is of.
func attestorIn(document string) (project string, ok bool) {
	parts := strings.Split(document, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[2] != "attestors" || parts[3] == "" || len(document) > 1024 {
		return "", false
	}
	return parts[1], checkProject(parts[1]) == nil
}

// add adds what was permitted.
func (i *interest) add(asked *gatehousev1.Interest) {
	for to, names := range map[*map[string]bool][]string{
		&i.notes: asked.GetNotes(), &i.projects: asked.GetProjects(), &i.scans: asked.GetScans(), &i.documents: asked.GetDocuments(), &i.scanners: asked.GetScanners(),
	} {
		for _, name := range names {
			(*to)[name] = true
		}
	}
}

func (i *interest) size() int {
	return len(i.notes) + len(i.projects) + len(i.scans) + len(i.documents) + len(i.scanners)
}

// ofDocument reports whether the gate is told of a document.
func (i *interest) ofDocument(name string) bool {
	return name == systemPolicy || strings.HasPrefix(name, projectName(i.project)+"/") || i.documents[name]
}

// ofStatement reports whether the gate is told of an occurrence that may be one. Builds
// of its own project tell it which digest a tag was, which helps a person.
func (i *interest) ofStatement(o *grafeas.Occurrence) bool {
	if !statements.Has(o.GetKind()) {
		return false
	}
	project := projectOf(o.GetName())
	return i.notes[o.GetNoteName()] || i.projects[project] || o.GetKind() == grafeas.NoteKind_BUILD && project == i.project
}

// projectOf returns the id of the project in a name.
func projectOf(name string) string {
	rest, _ := strings.CutPrefix(name, "projects/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// clip shortens text from outside before it goes into an error.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
