package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

const (
	// changesPage is how many changes are asked for at once.
	changesPage = 1000
	// retryDelay is how long a follower waits after the source failed.
	retryDelay = 200 * time.Millisecond
)

// SystemPolicyName is that of the system policy that gates enforce.
const SystemPolicyName = "locations/global/policy"

// A Source is where documents and the feed of their changes are;
// *metadata.Service is one.
type Source interface {
	// Document returns the newest revision of a document, which may be its deletion.
	Document(ctx context.Context, name string) (*metadata.Document, error)
	// Documents calls fn for every document whose name has the prefix, and returns
	// the sequence number that they reflect at least.
	Documents(ctx context.Context, prefix string, fn func(*metadata.Document) error) (asOf uint64, err error)
	// Head, Wait and Changes are those of [metadata.Service].
	Head() uint64
	Wait(ctx context.Context, after uint64) error
	Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error)
}

// Policies are what is stored for the gate of a project.
type Policies struct {
	// Sources are the texts, each named by its document and revision: the policy of
	// the project, if one was ever stored (what [Service.GetPolicy] shows of a
	// project that has none does not count), its platform policies, the attestors
	// that policies rest on, and the system policy if it was replaced. Those are the
	// attestors that a policy names, of whatever project, and for platform policies
	// all of the project, who may record uploads. One that was deleted by force is
	// missing.
	Sources bundle.Sources
	// Seq is the number of the last change that they reflect at least.
	Seq uint64
}

// Empty reports whether no policy is stored for the project.
func (p Policies) Empty() bool { return len(p.Sources.Policies) == 0 }

// Needs are what is enforced beside stored policies, and rests on what is stored.
type Needs struct {
	// Files are texts of policies.
	Files []bundle.File
	// Attestors are the names of attestors, and Uploads asks for all of the project.
	Attestors []string
	Uploads   bool
}

// Read reads the policies of a project, and the attestors that they and the policies
// in these files rest on. It needs nobody's permission: it is for the gate in the same
// process.
func Read(ctx context.Context, source Source, project string, files ...bundle.File) (Policies, error) {
	return ReadFor(ctx, source, project, Needs{Files: files})
}

// ReadFor is Read for more that rests on attestors.
func ReadFor(ctx context.Context, source Source, project string, needs Needs) (Policies, error) {
	p := Policies{Seq: source.Head(), Sources: bundle.Sources{Project: project}}
	policy, err := newest(ctx, source, PolicyName(project))
	if err != nil {
		return p, err
	}
	if policy != nil {
		p.Sources.Policies = append(p.Sources.Policies, fileOf(policy))
	}
	if _, err = source.Documents(ctx, platformsOf(project), func(d *metadata.Document) error {
		p.Sources.Policies = append(p.Sources.Policies, fileOf(d))
		return nil
	}); err != nil {
		return p, err
	}
	if p.Sources.Attestors, err = attestorsFor(ctx, source, project, p.Sources.Policies, needs); err != nil {
		return p, err
	}
	system, err := newest(ctx, source, SystemPolicyName)
	if err == nil && system != nil {
		file := fileOf(system)
		p.Sources.System = &file
	}
	return p, err
}

// attestorsFor returns the stored attestors that policies rest on, in the order of
// their names.
func attestorsFor(ctx context.Context, source Source, project string, policies []bundle.File, needs Needs) ([]bundle.File, error) {
	documents := map[string]*metadata.Document{}
	recorders := needs.Uploads
	for _, name := range needs.Attestors {
		documents[name] = nil
	}
	for _, f := range slices.Concat(policies, needs.Files) {
		switch bundle.SortOf(f.Data) {
		case bundle.PlatformPolicy:
			recorders = true
		case bundle.BinauthzPolicy:
			for _, name := range named(f.Data) {
				documents[name] = nil
			}
		case bundle.ClusterObjects:
			list, _ := objects.ParseFile(f.Name, f.Data)
			attestors, uploads := objects.Refers(list)
			for _, name := range attestors {
				documents[name] = nil
			}
			recorders = recorders || uploads
		}
	}
	for name := range documents {
		d, err := newest(ctx, source, name)
		if err != nil {
			return nil, err
		}
		documents[name] = d
	}
	if recorders {
		if _, err := source.Documents(ctx, "projects/"+project+"/attestors/", func(d *metadata.Document) error {
			documents[d.Name] = d
			return nil
		}); err != nil {
			return nil, err
		}
	}
	var files []bundle.File
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		if d := documents[name]; d != nil {
			files = append(files, fileOf(d))
		}
	}
	return files, nil
}

// named returns the attestors that a policy of Binary Authorization names, none if
// the text is not a valid one.
func named(policy []byte) []string {
	p, err := parsePolicy("", policy)
	if err != nil {
		return nil
	}
	return p.refers
}

// platformsOf is how the names of platform policies begin that are for gates: those
// of other platforms are kept for whoever asks.
func platformsOf(project string) string { return "projects/" + project + "/platforms/gke/policies/" }

// fileOf is a document as a text, by what it is called in diagnostics and decisions.
func fileOf(d *metadata.Document) bundle.File {
	return bundle.File{Name: fmt.Sprintf("%s, revision %d", d.Name, d.Revision), Data: d.Content}
}

// newest returns the newest revision of a document, nil if it is not there.
func newest(ctx context.Context, source Source, name string) (*metadata.Document, error) {
	d, err := source.Document(ctx, name)
	if metadata.KindOf(err) == metadata.NotFound || err == nil && d.Deleted() {
		return nil, nil
	}
	return d, err
}

// touches reports whether a change may have changed the policies of a project. Any
// attestor may be one that they name.
func touches(c metadata.Change, project string) bool {
	if c.Document == nil {
		return false
	}
	if strings.HasPrefix(c.Document.Name, objectsOf(project)) {
		return true
	}
	p, err := placeOf(c.Document.Name)
	return err == nil && (p.kind == attestorKind || p.project == project || c.Document.Name == SystemPolicyName)
}

// Follow calls changed after changes that may have changed the policies of a
// project, those after the change of number after, until ctx ends; [Read] tells what
// they are then. While the source fails, it logs that and tries again.
func Follow(ctx context.Context, source Source, project string, after uint64, logger *slog.Logger, changed func()) {
	for ctx.Err() == nil {
		reached, err := await(ctx, source, project, after)
		if err == nil {
			after = reached
			changed()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		logger.Error("the stored policy cannot be followed, the last one stays in force; trying again", "project", project, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryDelay):
		}
	}
}

// await waits for a change that counts, and returns the number of the change up to
// which the feed was read.
func await(ctx context.Context, source Source, project string, at uint64) (uint64, error) {
	for {
		changes, err := source.Changes(ctx, at, changesPage)
		if errors.Is(err, metadata.ErrCompacted) {
			return source.Head(), nil
		}
		if err != nil {
			return at, err
		}
		touched := false
		for _, c := range changes {
			at = c.Seq
			touched = touched || touches(c, project)
		}
		switch {
		case touched:
			return at, nil
		case len(changes) > 0:
			continue
		}
		if err := source.Wait(ctx, at); err != nil {
			return at, err
		}
	}
}
