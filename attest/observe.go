package attest

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// maxEvidence is how much of what a check has looked at is told. The rest is counted.
const maxEvidence = 20

// Evidence is something that a check looked at.
type Evidence struct {
	// Kind is "configuration", of an image in a registry, or that of an occurrence,
	// such as "VULNERABILITY"; "more" counts what is left out.
	Kind string `json:"kind"`
	// Name is the digest of a manifest, or the name of an occurrence.
	Name string `json:"name,omitempty"`
	// Note is that of the occurrence.
	Note string `json:"note,omitempty"`
	// Text says what was found, for people.
	Text string `json:"text,omitempty"`
}

// observed is what one check of one image has looked at.
type observed struct {
	mu   sync.Mutex
	list []Evidence
	more int
}

func (o *observed) add(e Evidence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.list, e) {
		return
	}
	if len(o.list) >= maxEvidence {
		o.more++
		return
	}
	o.list = append(o.list, e)
}

func (o *observed) all() []Evidence {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more == 0 {
		return slices.Clone(o.list)
	}
	return append(slices.Clone(o.list), Evidence{Kind: "more", Text: fmt.Sprintf("and %d more", o.more)})
}

// observedRegistry tells what is read of a registry.
type observedRegistry struct {
	check.Registry
	seen *observed
}

func (r observedRegistry) Configs(ctx context.Context, ref image.Reference, wanted ...resolve.Platform) ([]resolve.Config, error) {
	configs, err := r.Registry.Configs(ctx, ref, wanted...)
	for _, c := range configs {
		user := "no user"
		if c.User != "" {
			user = fmt.Sprintf("user %q", clip(c.User))
		}
		r.seen.add(Evidence{Kind: "configuration", Name: c.Manifest.String(), Text: c.Platform.String() + ", " + user})
	}
	return configs, err
}

// observedMetadata tells what is read of a metadata server.
type observedMetadata struct {
	check.Metadata
	seen *observed
}

func (m observedMetadata) Occurrences(ctx context.Context, ref image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	found, err := m.Metadata.Occurrences(ctx, ref, kind)
	for _, o := range found {
		m.seen.add(Evidence{Kind: kind.String(), Name: o.GetName(), Note: o.GetNoteName(), Text: described(o)})
	}
	return found, err
}

// described says in a few words what an occurrence is.
func described(o *grafeas.Occurrence) string {
	switch {
	case o.GetVulnerability() != nil:
		v := o.GetVulnerability()
		severity := v.GetEffectiveSeverity()
		if severity == grafeas.Severity_SEVERITY_UNSPECIFIED {
			severity = v.GetSeverity()
		}
		return strings.ToLower(severity.String())
	case o.GetDiscovery() != nil:
		return strings.ToLower(o.GetDiscovery().GetAnalysisStatus().String())
	case o.GetBuild() != nil:
		return clip(o.GetBuild().GetProvenance().GetCreator())
	}
	return ""
}

// ofPlatform is what is known of an image of an index. A scan of the index is one of all
// that is in it, when the image has none of its own; and what was found in the index may
// be in each.
type ofPlatform struct {
	check.Metadata
	index image.Reference
}

func (m ofPlatform) Occurrences(ctx context.Context, ref image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	own, err := m.Metadata.Occurrences(ctx, ref, kind)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == grafeas.NoteKind_DISCOVERY && len(own) == 0, kind == grafeas.NoteKind_VULNERABILITY:
	default:
		return own, nil
	}
	all, err := m.Metadata.Occurrences(ctx, m.index, kind)
	return append(own, all...), err
}

// Watch watches the index, too.
func (m ofPlatform) Watch(refs ...image.Reference) check.Watch {
	return m.Metadata.Watch(append(slices.Clone(refs), m.index)...)
}

// memo reads each image of one request once, for all of its checks.
type memo struct {
	check.Registry
	mu    sync.Mutex
	reads map[string]*read
}

type read struct {
	done    chan struct{}
	configs []resolve.Config
	err     error
}

func newMemo(r check.Registry) *memo { return &memo{Registry: r, reads: map[string]*read{}} }

func memoKey(ref image.Reference, wanted []resolve.Platform) string {
	return fmt.Sprint(ref.ResourceURI(), wanted)
}

// Configs reads the configurations, or waits for who reads them already.
func (m *memo) Configs(ctx context.Context, ref image.Reference, wanted ...resolve.Platform) ([]resolve.Config, error) {
	m.mu.Lock()
	// An image that is no index is the same for whoever wants it.
	r := m.reads[memoKey(ref, nil)]
	if r == nil || !r.single(ref) {
		r = m.reads[memoKey(ref, wanted)]
	}
	if r == nil {
		r = &read{done: make(chan struct{})}
		m.reads[memoKey(ref, wanted)] = r
		go m.read(ctx, r, ref, wanted)
	}
	m.mu.Unlock()
	select {
	case <-r.done:
		return slices.Clone(r.configs), r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("reading %q from registry %s: %w", ref, ref.Registry(), context.Cause(ctx))
	}
}

// read reads the configurations. A panic is an error of the checks that want them.
func (m *memo) read(ctx context.Context, r *read, ref image.Reference, wanted []resolve.Platform) {
	defer close(r.done)
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("reading %q failed inside, which is a bug in Gatehouse: %v", ref, p)
		}
	}()
	r.configs, r.err = m.Registry.Configs(ctx, ref, wanted...)
}

// single reports whether it has been read that the image is no index.
func (r *read) single(ref image.Reference) bool {
	select {
	case <-r.done:
		return r.err == nil && len(r.configs) == 1 && r.configs[0].Manifest == ref.Digest()
	default:
		return false
	}
}

// keep takes what was read of an index for what would be read of the image in it.
func (m *memo) keep(ref image.Reference, c resolve.Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &read{done: make(chan struct{}), configs: []resolve.Config{c}}
	close(r.done)
	m.reads[memoKey(ref, nil)] = r
}

// forget has the image read again.
func (m *memo) forget(ref image.Reference, wanted []resolve.Platform) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reads, memoKey(ref, wanted))
}

func stack() string { return string(debug.Stack()) }
