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
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
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
	// that the policy names, of whatever project, and the system policy if it was
	// replaced. An attestor that was deleted by force is missing.
	Sources bundle.Sources
	// Seq is the number of the last change that they reflect at least.
	Seq uint64

	// named are the attestors that the policy names, missing ones too.
	named []string
}

// Empty reports whether no policy is stored for the project.
func (p Policies) Empty() bool { return len(p.Sources.Policies) == 0 }

// Read reads the policies of a project. It needs nobody's permission: it is for the
// gate in the same process.
func Read(ctx context.Context, source Source, project string) (Policies, error) {
	p := Policies{Seq: source.Head(), Sources: bundle.Sources{Project: project}}
	policy, err := newest(ctx, source, PolicyName(project))
	if err != nil {
		return p, err
	}
	if policy != nil {
		p.Sources.Policies = append(p.Sources.Policies, fileOf(policy))
		if err := p.readAttestors(ctx, source, policy); err != nil {
			return p, err
		}
	}
	system, err := newest(ctx, source, SystemPolicyName)
	if err != nil {
		return p, err
	}
	if system != nil {
		file := fileOf(system)
		p.Sources.System = &file
	}
	_, err = source.Documents(ctx, platformsOf(project), func(d *metadata.Document) error {
		p.Sources.Policies = append(p.Sources.Policies, fileOf(d))
		return nil
	})
	return p, err
}

// readAttestors reads those that a policy names.
func (p *Policies) readAttestors(ctx context.Context, source Source, policy *metadata.Document) error {
	text, err := parsePolicy(policy.Name, policy.Content)
	if err != nil {
		return fmt.Errorf("reading the stored %q: %w", policy.Name, err)
	}
	p.named = text.refers
	for _, name := range p.named {
		d, err := newest(ctx, source, name)
		if err != nil {
			return err
		}
		if d != nil {
			p.Sources.Attestors = append(p.Sources.Attestors, fileOf(d))
		}
	}
	return nil
}

func platformsOf(project string) string { return "projects/" + project + "/platforms/" }

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
