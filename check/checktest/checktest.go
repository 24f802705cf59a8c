// Package checktest is a kit for tests of checks: an image and what is known about it,
// in memory.
package checktest

import (
	"context"
	"crypto/rand"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// Hex is the digest of the image, without its algorithm.
	Hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	// Image is the image.
	Image = "registry.example/team/app@sha256:" + Hex
	// Commit is a commit it may have been built from.
	Commit = "1111111111111111111111111111111111111111"
)

// Ref parses an image reference.
func Ref(t testing.TB, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// Metadata is a check.Metadata with these occurrences and notes. An occurrence that has
// no resource is about whatever image is asked for. Set its fields before it is used.
type Metadata struct {
	List  []*grafeas.Occurrence
	Notes map[string]*grafeas.Note
	// Err, by kind, is the answer in the place of occurrences.
	Err map[grafeas.NoteKind]error
	// News, if it is set, is called by each wait of a Watch.
	News func(context.Context) error
}

// Occurrences implements check.Metadata.
func (m *Metadata) Occurrences(ctx context.Context, ref image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	if err := m.Err[kind]; err != nil {
		return nil, err
	}
	var list []*grafeas.Occurrence
	for _, o := range m.List {
		if o.GetKind() == kind && (o.GetResourceUri() == "" || o.GetResourceUri() == ref.ResourceURI()) {
			list = append(list, o)
		}
	}
	return list, ctx.Err()
}

// Note implements check.Metadata.
func (m *Metadata) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	return m.Notes[name], ctx.Err()
}

// Watch implements check.Metadata.
func (m *Metadata) Watch(...image.Reference) check.Watch {
	if m.News != nil {
		return m.News
	}
	return func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// Registry is a check.Registry with these images and artifacts.
type Registry struct {
	// Images are the configurations of images, by their references.
	Images    map[string][]resolve.Config
	Artifacts map[string][]resolve.Artifact
	Blobs     map[image.Digest][]byte
	Err       error
}

// Configs implements check.Registry.
func (r *Registry) Configs(ctx context.Context, ref image.Reference, _ ...resolve.Platform) ([]resolve.Config, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	configs, ok := r.Images[ref.String()]
	if !ok {
		return nil, resolve.ErrNotFound
	}
	return configs, ctx.Err()
}

// Attached implements check.Registry.
func (r *Registry) Attached(ctx context.Context, ref image.Reference) ([]resolve.Artifact, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	return r.Artifacts[ref.String()], ctx.Err()
}

// Blob implements check.Registry.
func (r *Registry) Blob(ctx context.Context, _ image.Reference, d image.Digest, most int64) ([]byte, error) {
	b, ok := r.Blobs[d]
	switch {
	case !ok:
		return nil, resolve.ErrNotFound
	case int64(len(b)) > most:
		return nil, resolve.ErrTooLarge
	}
	return b, ctx.Err()
}

// Run runs a check on [Image].
func Run(t testing.TB, c check.Check, m check.Metadata, r check.Registry) (check.Result, error) {
	t.Helper()
	return c.Run(t.Context(), &check.Input{Image: Ref(t, Image), Metadata: m, Registry: r})
}

// Signer returns a new key.
func Signer(t testing.TB) signature.Signer {
	t.Helper()
	key, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(key, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Envelope returns an in-toto statement in an envelope that the key has signed.
func Envelope(t testing.TB, s signature.Signer, statement string) *grafeas.Envelope {
	t.Helper()
	sig, err := s.Sign(t.Context(), signature.PAE(signature.PayloadTypeInToto, []byte(statement)))
	if err != nil {
		t.Fatal(err)
	}
	return &grafeas.Envelope{
		Payload: []byte(statement), PayloadType: signature.PayloadTypeInToto,
		Signatures: []*grafeas.EnvelopeSignature{{Sig: sig, Keyid: s.KeyID()}},
	}
}

// Build returns a Build record of the image, of a commit in a repository.
func Build(url, commit string) *grafeas.Occurrence {
	p := &grafeas.BuildProvenance{Creator: "ci@example", ProjectId: "builds", BuiltArtifacts: []*grafeas.Artifact{{Checksum: "sha256:" + Hex}}}
	p.SourceProvenance = &grafeas.Source{Context: &grafeas.SourceContext{Context: &grafeas.SourceContext_Git{Git: &grafeas.GitSourceContext{Url: url, RevisionId: commit}}}}
	return &grafeas.Occurrence{Kind: grafeas.NoteKind_BUILD, Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{Provenance: p}}}
}
