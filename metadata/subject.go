package metadata

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// A Question asks what there is about some digests ("sha256:…").
type Question struct {
	Digests []string
	// Notes are the names of notes, and Projects the ids of projects, whose statements
	// are asked for: occurrences of the kinds in Statements. Scans are the ids of
	// projects whose scans are.
	Notes, Projects, Scans []string
	Statements             Kinds
	// MaxRows bounds how many occurrences are read. More are an error of kind
	// ResourceExhausted.
	MaxRows int
}

// About answers a question from the store: it calls statement with each statement, once,
// and summary with what scans found in each resource, whose URI the summary of one that
// has nothing any more lacks. For the server's own parts: it asks nobody's permission.
func (s *Service) About(ctx context.Context, q Question, statement func(*grafeas.Occurrence) error, summary func(of *Summary, uri string) error) error {
	a := about{svc: s, q: q, statement: statement, summary: summary, seen: make(map[string]bool), resources: make(map[string]bool)}
	for _, note := range q.Notes {
		if err := a.note(ctx, note); err != nil {
			return err
		}
	}
	scans := make(map[string]bool)
	for _, project := range q.Scans {
		scans[project] = true
	}
	// What both want of a project is read at once.
	for _, project := range q.Projects {
		if err := a.project(ctx, project, q.Statements, scans[project]); err != nil {
			return err
		}
		delete(scans, project)
	}
	for project := range scans {
		if err := a.project(ctx, project, 0, true); err != nil {
			return err
		}
	}
	return nil
}

type about struct {
	svc       *Service
	q         Question
	statement func(*grafeas.Occurrence) error
	summary   func(*Summary, string) error
	rows      int
	seen      map[string]bool // occurrences
	resources map[string]bool
}

func (a *about) note(ctx context.Context, note string) error {
	name, err := ParseNoteName(note)
	if err != nil || len(a.q.Digests) == 0 {
		return err
	}
	subjects := make([]Key, 0, len(a.q.Digests))
	for _, d := range a.q.Digests {
		subjects = append(subjects, KeyOf(d))
	}
	return a.svc.eachOccurrence(ctx, OccurrenceQuery{Note: name, Subjects: subjects, Kinds: a.q.Statements}, note, a.take(ctx))
}

func (a *about) project(ctx context.Context, project string, kinds Kinds, scans bool) error {
	if scans {
		kinds |= KindSet(grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_DISCOVERY)
	}
	return a.svc.SubjectOccurrences(ctx, project, a.q.Digests, kinds, a.take(ctx))
}

func (a *about) take(ctx context.Context) func(*grafeas.Occurrence) error {
	return func(o *grafeas.Occurrence) error {
		if a.rows++; a.rows > a.q.MaxRows {
			return Errorf(ResourceExhausted, "there is more about the images than is read at once: %d occurrences", a.q.MaxRows)
		}
		if Summarized(o.GetKind()) {
			return a.scan(ctx, o)
		}
		if a.seen[o.GetName()] {
			return nil
		}
		a.seen[o.GetName()] = true
		return a.statement(o)
	}
}

func (a *about) scan(ctx context.Context, o *grafeas.Occurrence) error {
	name, err := ParseOccurrenceName(o.GetName())
	if err != nil {
		return fmt.Errorf("reading the name of occurrence %q: %w", o.GetName(), err)
	}
	resource := KeyOf(CanonicalURI(o.GetResourceUri()))
	of := name.Parent.String() + " " + string(resource[:])
	if a.resources[of] {
		return nil
	}
	a.resources[of] = true
	found, err := a.svc.ResourceSummary(ctx, name.Parent, resource)
	if err != nil {
		return err
	}
	return a.summary(found, o.GetResourceUri())
}
