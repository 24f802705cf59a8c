package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
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
	// Policy is the project's, nil if none was ever stored: what
	// [Service.GetPolicy] then shows does not count. Its File tells which revision
	// it is.
	Policy *binauthz.Policy
	// Attestors are those that Policy names, of whatever project. One that was
	// deleted by force is missing here.
	Attestors []binauthz.Attestor
	// Platforms are the project's platform policies, in the order of their names.
	Platforms []Version
	// System takes the place of the built-in system policy, unless it is nil.
	System *binauthz.Policy
	// Seq is the number of the last change that they reflect at least.
	Seq uint64

	// named are the attestors that Policy names, missing ones too.
	named []string
}

// Empty reports whether nothing is stored for the project.
func (p Policies) Empty() bool { return p.Policy == nil && len(p.Platforms) == 0 }

// Read reads the policies of a project. It needs nobody's permission: it is for the
// gate in the same process.
func Read(ctx context.Context, source Source, project string) (Policies, error) {
	p := Policies{Seq: source.Head()}
	var err error
	if p.Policy, err = readPolicy(ctx, source, PolicyName(project)); err != nil {
		return p, err
	}
	if p.System, err = readPolicy(ctx, source, SystemPolicyName); err != nil {
		return p, err
	}
	if p.Policy != nil {
		text, err := p.Policy.EncodeJSON()
		if err != nil {
			return p, err
		}
		next, err := parsePolicy(nil, p.Policy.Name, text)
		if err != nil {
			return p, err
		}
		p.named = next.refers
	}
	for _, name := range p.named {
		d, err := newest(ctx, source, name)
		if err != nil {
			return p, err
		}
		if d == nil {
			continue
		}
		a, diags := binauthz.ParseAttestor(sourceOf(d), d.Content, d.Name)
		if a == nil {
			return p, fmt.Errorf("reading a stored attestor: %w", diags.Err())
		}
		p.Attestors = append(p.Attestors, *a)
	}
	_, err = source.Documents(ctx, platformsOf(project), func(d *metadata.Document) error {
		v, err := versionOf(d)
		p.Platforms = append(p.Platforms, v)
		return err
	})
	return p, err
}

func platformsOf(project string) string { return "projects/" + project + "/platforms/" }

// sourceOf is what a document is called in diagnostics and decisions.
func sourceOf(d *metadata.Document) string {
	return fmt.Sprintf("%s, revision %d", d.Name, d.Revision)
}

// newest returns the newest revision of a document, nil if it is not there.
func newest(ctx context.Context, source Source, name string) (*metadata.Document, error) {
	d, err := source.Document(ctx, name)
	if metadata.KindOf(err) == metadata.NotFound || err == nil && d.Deleted() {
		return nil, nil
	}
	return d, err
}

func readPolicy(ctx context.Context, source Source, name string) (*binauthz.Policy, error) {
	d, err := newest(ctx, source, name)
	if d == nil || err != nil {
		return nil, err
	}
	p, diags := binauthz.ParsePolicy(sourceOf(d), d.Content)
	if p == nil {
		return nil, fmt.Errorf("reading a stored policy: %w", diags.Err())
	}
	p.Name = name
	return p, nil
}

// touchedBy reports whether a change may have changed the policies.
func (p Policies) touchedBy(c metadata.Change, project string) bool {
	if c.Document == nil {
		return false
	}
	name := c.Document.Name
	return name == PolicyName(project) || name == SystemPolicyName ||
		strings.HasPrefix(name, platformsOf(project)) || slices.Contains(p.named, name)
}

// Follow calls apply whenever the policies of a project have changed since those
// that the caller has, with what they are then, until ctx ends. While the source
// fails, it logs that and tries again. It calls apply again only after that has
// returned, and then with the newest.
func Follow(ctx context.Context, source Source, project string, have Policies, logger *slog.Logger, apply func(context.Context, Policies)) {
	for ctx.Err() == nil {
		next, err := have.await(ctx, source, project)
		switch {
		case err == nil:
			have = next
			apply(ctx, have)
			continue
		case ctx.Err() != nil:
			return
		}
		logger.Error("the stored policy cannot be followed, the last one stays in force; trying again", "project", project, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryDelay):
		}
	}
}

// await waits for a change of the policies, and returns them.
func (p Policies) await(ctx context.Context, source Source, project string) (Policies, error) {
	for at := p.Seq; ; {
		changes, err := source.Changes(ctx, at, changesPage)
		touched := errors.Is(err, metadata.ErrCompacted)
		if err != nil && !touched {
			return p, err
		}
		for _, c := range changes {
			at = c.Seq
			touched = touched || p.touchedBy(c, project)
		}
		if touched {
			return Read(ctx, source, project)
		}
		if len(changes) > 0 {
			continue
		}
		if err := source.Wait(ctx, at); err != nil {
			return p, err
		}
	}
}
