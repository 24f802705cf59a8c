package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxArtifacts bounds those of one image that are looked at.
	maxArtifacts = 64
	// maxLayers bounds those of an artifact; most have one.
	maxLayers = 64

	// subjectAnnotation names, on a build record in an index, the image that the
	// record is about, as BuildKit writes it.
	subjectAnnotation = "vnd.docker.reference.digest"
)

// An Artifact is something that a registry has about an image, such as an SBOM or
// signed statements: what refers to it (the referrers of the OCI specification), what
// is filed under the tags that cosign makes of its digest, and the records that
// BuildKit puts beside it in an index. Whoever may push to the repository may attach
// whatever they like.
type Artifact struct {
	Manifest image.Digest
	// Type is the artifact's type or else that of its configuration.
	Type string
	// Subject is the image that the artifact says it is about: the one asked for or, in
	// an index, one of its images.
	Subject image.Digest
	Layers  []Blob
}

// A Blob is part of an artifact.
type Blob struct {
	Digest image.Digest
	// MediaType and Annotations are as the artifact's manifest has them.
	MediaType   string
	Annotations map[string]string
	Size        int64
}

// Attached returns the artifacts that the registry has about an image. None is not an
// error. Manifests have been verified against their digests; the blobs that they name
// are to be had with [Resolver.Blob].
func (r *Resolver) Attached(ctx context.Context, ref image.Reference) ([]Artifact, error) {
	if err := ref.RequireDigest(); err != nil {
		return nil, fmt.Errorf("listing what is attached to an image: %w", err)
	}
	repo, err := name.NewRepository(ref.Repository(), name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("listing what is attached to %q: %w", ref, err)
	}
	puller, err := r.puller()
	if err != nil {
		return nil, fmt.Errorf("listing what is attached to %q: %w", ref, err)
	}
	l := &attachments{ref: ref, repo: repo, puller: puller, seen: map[image.Digest]bool{}}
	ctx = withBudget(ctx)
	for _, find := range []func(context.Context) error{l.records, l.cosign} {
		if err := find(ctx); err != nil {
			return nil, err
		}
	}
	index, err := remote.Referrers(repo.Digest(ref.Digest().String()), append(r.options(), remote.WithContext(ctx))...)
	if err != nil {
		return nil, explain("listing what refers to", ref, err)
	}
	if err := l.referrers(ctx, index); err != nil {
		return nil, err
	}
	return l.found, nil
}

// attachments is the state of one listing.
type attachments struct {
	ref    image.Reference
	repo   name.Repository
	puller *remote.Puller
	seen   map[image.Digest]bool
	found  []Artifact
}

// records finds the records that BuildKit puts into an index.
func (l *attachments) records(ctx context.Context) error {
	desc, err := l.get(ctx, l.repo.Digest(l.ref.Digest().String()))
	if err != nil {
		return err
	}
	if !desc.MediaType.IsIndex() {
		return nil
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(desc.Manifest))
	if err != nil {
		return fmt.Errorf("listing what is attached to %q: parsing the index: %s", l.ref, brief(err))
	}
	for _, m := range index.Manifests {
		if m.Annotations[recordAnnotation] != recordType {
			continue
		}
		subject, err := image.ParseDigest(m.Annotations[subjectAnnotation])
		if err != nil || !contains(index, subject) {
			continue // it is about nothing in this index
		}
		if err := l.add(ctx, m.Digest.String(), subject); err != nil {
			return err
		}
	}
	return nil
}

func contains(index *v1.IndexManifest, d image.Digest) bool {
	for _, m := range index.Manifests {
		if m.Digest.String() == d.String() {
			return true
		}
	}
	return false
}

// cosign finds what cosign files under tags made of the digest: attestations, and
// SBOMs as it once attached them.
func (l *attachments) cosign(ctx context.Context) error {
	prefix := strings.Replace(l.ref.Digest().String(), ":", "-", 1)
	for _, suffix := range []string{".att", ".sbom"} {
		desc, err := l.get(ctx, l.repo.Tag(prefix+suffix))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := l.add(ctx, image.DigestOf(desc.Manifest).String(), l.ref.Digest()); err != nil {
			return err
		}
	}
	return nil
}

// referrers reads the artifacts that a registry lists as referring to the image.
func (l *attachments) referrers(ctx context.Context, index v1.ImageIndex) error {
	list, err := index.IndexManifest()
	if err != nil {
		return explain("listing what refers to", l.ref, err)
	}
	for _, m := range list.Manifests {
		// The zero digest: the artifact must say itself what it is about.
		if err := l.add(ctx, m.Digest.String(), image.Digest{}); err != nil {
			return err
		}
	}
	return nil
}

func (l *attachments) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	desc, err := l.puller.Get(ctx, ref)
	if err != nil {
		return nil, explain("listing what is attached to", l.ref, err)
	}
	return desc, nil
}

// add reads an artifact, unless it is there already or is about something else.
func (l *attachments) add(ctx context.Context, digest string, subject image.Digest) error {
	d, err := image.ParseDigest(digest)
	if err != nil {
		return fmt.Errorf("listing what is attached to %q: %w", l.ref, err)
	}
	if l.seen[d] {
		return nil
	}
	if len(l.seen) == maxArtifacts {
		return fmt.Errorf("listing what is attached to %q: there are more than %d artifacts", l.ref, maxArtifacts)
	}
	l.seen[d] = true
	desc, err := l.get(ctx, l.repo.Digest(digest))
	if errors.Is(err, ErrNotFound) {
		return nil // listed, and gone since
	}
	if err != nil {
		return err
	}
	if image.DigestOf(desc.Manifest) != d {
		return explain("reading what is attached to", l.ref, fmt.Errorf("manifest %s does not match requested digest", d))
	}
	if !desc.MediaType.IsImage() {
		return nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(desc.Manifest))
	if err != nil {
		return fmt.Errorf("reading what is attached to %q: parsing artifact %s: %s", l.ref, d, brief(err))
	}
	a, err := artifactOf(d, m, desc.Manifest)
	if err != nil {
		return fmt.Errorf("reading what is attached to %q: artifact %s: %w", l.ref, d, err)
	}
	if !subject.IsZero() {
		a.Subject = subject
	} else if a.Subject != l.ref.Digest() {
		return nil
	}
	l.found = append(l.found, a)
	return nil
}

func artifactOf(d image.Digest, m *v1.Manifest, raw []byte) (Artifact, error) {
	a := Artifact{Manifest: d, Type: clip(artifactType(m, raw))}
	if m.Subject != nil {
		var err error
		if a.Subject, err = image.ParseDigest(m.Subject.Digest.String()); err != nil {
			return Artifact{}, err
		}
	}
	if len(m.Layers) > maxLayers {
		return Artifact{}, fmt.Errorf("it has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	for _, layer := range m.Layers {
		ld, err := image.ParseDigest(layer.Digest.String())
		if err != nil {
			return Artifact{}, err
		}
		a.Layers = append(a.Layers, Blob{Digest: ld, MediaType: clip(string(layer.MediaType)), Annotations: layer.Annotations, Size: layer.Size})
	}
	return a, nil
}

// artifactType returns the type that a manifest says it has, or its configuration's.
func artifactType(m *v1.Manifest, raw []byte) string {
	if t := artifactTypeOf(raw); t != "" {
		return t
	}
	if t := m.Config.MediaType; t != types.OCIConfigJSON && t != "application/vnd.oci.empty.v1+json" {
		return string(t)
	}
	return ""
}

// Blob returns a blob of the image's repository, which has the digest and at most so
// many bytes.
func (r *Resolver) Blob(ctx context.Context, ref image.Reference, digest image.Digest, most int64) ([]byte, error) {
	named, err := name.NewDigest(ref.Repository()+"@"+digest.String(), name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("reading a blob of %q: %w", ref, err)
	}
	larger := *r
	larger.transport = &guard{next: r.beneath, max: max(most, MaxResponse), services: r.services} // errors are answers too
	puller, err := larger.puller()
	if err != nil {
		return nil, fmt.Errorf("reading a blob of %q: %w", ref, err)
	}
	content, err := readBlob(withBudget(ctx), puller, named, most)
	if err != nil {
		return nil, explain("reading blob "+digest.String()+" of", ref, err)
	}
	return content, nil
}

// readBlob reads a blob to its end, which is where the client compares its digest.
func readBlob(ctx context.Context, puller *remote.Puller, ref name.Digest, most int64) ([]byte, error) {
	layer, err := puller.Layer(ctx, ref)
	if err != nil {
		return nil, err
	}
	body, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(body, most+1))
	if closed := body.Close(); err == nil && int64(len(content)) <= most {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	return content, nil
}
