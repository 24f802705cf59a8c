// Package base is the check that an image was built on a base image that is allowed.
//
// What an image says of its base is a hint: the annotations and labels
// org.opencontainers.image.base.name and .digest, and the images among the materials of
// its provenance. What proves it are its layers. The base that is named has to be in an
// allowed repository, is read there by its digest, and its layers have to be the lowest
// layers of the image, all of them and in their order. No other repository is asked for
// anything, whatever an image says.
package base

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/repositories"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// Name is the name of the check.
const Name = "base"

// The annotations of the OCI image specification, which are in use as labels too.
const (
	nameKey   = "org.opencontainers.image.base.name"
	digestKey = "org.opencontainers.image.base.digest"
)

// maxCandidates bounds the bases that are looked at for one platform.
const maxCandidates = 20

// Settings are what the check is made from.
type Settings struct {
	// Allowed are repositories of base images, and what is beneath them, or single base
	// images by digest. At least one is needed.
	Allowed []string
	// Platforms are those of an index that are looked at; none means all.
	Platforms []resolve.Platform
	// Records reads how images were built.
	Records builds.Reader
}

type checker struct {
	Settings
	within repositories.Set
	pinned []image.Reference
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	const key = "gatehouse.base.allowed"
	if len(s.Allowed) == 0 {
		return check.Check{}, errors.New(key + ": it is empty, and no image would pass")
	}
	c := &checker{Settings: s}
	var list []string
	for _, a := range s.Allowed {
		if !strings.Contains(a, "@") {
			list = append(list, a)
			continue
		}
		ref, err := image.ParseDigested(a)
		if err != nil {
			return check.Check{}, fmt.Errorf("%s: %w", key, err)
		}
		c.pinned = append(c.pinned, ref)
	}
	var err error
	if c.within, err = repositories.Parse(key, list); err != nil {
		return check.Check{}, err
	}
	return check.Check{Name: Name, Doc: Doc(), Run: c.run}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image was built on an allowed base image",
		Proves: "The lowest layers of the image, for every platform, are all the layers of a base image that was read by its digest from a repository in gatehouse.base.allowed. Which base that is, the image's annotations, labels or provenance name. What was put on top, or removed there, the check does not look at; nor whether the base is a recent one.",
		Needs:  []string{"the registry of the image, and those of its bases", "BUILD occurrences, if the image does not name its base"},
		Settings: []check.Setting{
			{Key: "gatehouse.base.allowed", Text: "repositories of base images, and what is beneath them, or base images by digest", Default: "none: there is no check base"},
			{Key: "gatehouse.platforms", Text: "the platforms that are looked at", Default: "all that the image has"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: "it does not say which base image it was built on", Do: "build it with the annotations " + nameKey + " and " + digestKey + " (BuildKit and ko can write them), or record provenance with the base among its materials"},
			{Failure: "is not in gatehouse.base.allowed", Do: "build it FROM an allowed image, or add the base's repository there"},
			{Failure: "its lowest layers are not those of the base", Do: "build it again on the base that it names, without squashing the layers of the base"},
		},
	}
}

func (c *checker) run(ctx context.Context, in *check.Input) (check.Result, error) {
	configs, err := in.Registry.Configs(ctx, in.Image, c.Platforms...)
	if err != nil {
		return check.Result{}, err
	}
	if len(configs) == 0 {
		return check.Result{}, errors.New("the registry gave no configuration of the image")
	}
	materials, err := c.materials(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	var evidence []string
	for _, config := range configs {
		on, reason, err := c.platform(ctx, in, config, materials)
		if err != nil {
			return check.Result{}, err
		}
		if reason != "" {
			return check.Fail("image is not built on an allowed base on %s: %s", config.Platform, reason), nil
		}
		evidence = append(evidence, fmt.Sprintf("on %s, the lowest %d layers are those of %s", config.Platform, on.layers, on.ref))
	}
	return check.Pass(evidence...), nil
}

// A candidate is what may be the base of an image.
type candidate struct {
	ref    image.Reference
	layers int
}

// materials returns the images among what builds were made from.
func (c *checker) materials(ctx context.Context, in *check.Input) ([]image.Reference, error) {
	found, err := c.Records.Read(ctx, in)
	if err != nil {
		return nil, err
	}
	var refs []image.Reference
	for _, b := range found.Builds {
		for _, m := range b.Materials {
			if ref, ok := imageOf(m); ok {
				refs = append(refs, ref)
			}
		}
	}
	return refs, nil
}

// platform returns the base of the image on one platform, or why it has none that is
// allowed.
func (c *checker) platform(ctx context.Context, in *check.Input, config resolve.Config, materials []image.Reference) (candidate, string, error) {
	var named []image.Reference
	for _, words := range []map[string]string{config.Annotations, config.Labels} {
		if ref, ok := reference(words[nameKey], words[digestKey]); ok {
			named = append(named, ref)
		}
	}
	named = append(named, materials...)
	candidates := append(slices.Clone(named), c.pinned...)
	seen := map[string]bool{}
	var foreign, other []string
	for _, ref := range candidates {
		switch {
		case seen[ref.ResourceURI()]:
			continue
		case !c.allowed(ref):
			foreign = append(foreign, ref.String())
			continue
		case len(seen) == maxCandidates:
			return candidate{}, "", fmt.Errorf("looking for the base of %q: there are more than %d that may be it", in.Image, maxCandidates)
		}
		seen[ref.ResourceURI()] = true
		n, err := beneath(ctx, in.Registry, config, ref)
		switch {
		case errors.Is(err, resolve.ErrNotFound), errors.Is(err, resolve.ErrNoPlatform), errors.Is(err, resolve.ErrNotAnImage):
			other = append(other, err.Error())
		case err != nil:
			return candidate{}, "", err
		case n > 0:
			return candidate{ref, n}, "", nil
		default:
			other = append(other, fmt.Sprintf("its lowest layers are not those of the base %s", ref))
		}
	}
	switch {
	case len(other) > 0:
		return candidate{}, builds.Join(other), nil
	case len(foreign) > 0:
		return candidate{}, fmt.Sprintf("%s is not in gatehouse.base.allowed, which has: %s", builds.Join(foreign), strings.Join(c.Allowed[:min(len(c.Allowed), maxCandidates)], ", ")), nil
	}
	return candidate{}, "it does not say which base image it was built on, with its digest, in the annotations " + nameKey + " and " + digestKey + " or in its provenance", nil
}

func (c *checker) allowed(ref image.Reference) bool {
	return c.within.Covers(ref) || slices.ContainsFunc(c.pinned, func(p image.Reference) bool { return p.ResourceURI() == ref.ResourceURI() })
}

// beneath returns how many layers the base has, if they are the lowest ones of the image,
// and 0 otherwise.
func beneath(ctx context.Context, registry check.Registry, config resolve.Config, base image.Reference) (int, error) {
	configs, err := registry.Configs(ctx, base, config.Platform)
	if err != nil {
		return 0, err
	}
	for _, b := range configs {
		if n := len(b.Layers); n <= len(config.Layers) && slices.Equal(b.Layers, config.Layers[:n]) {
			return n, nil
		}
	}
	return 0, nil
}

// reference returns the image with this name, which may have a tag, and digest.
func reference(name, digest string) (image.Reference, bool) {
	d, err := image.ParseDigest(digest)
	if err != nil {
		return image.Reference{}, false
	}
	ref, err := image.Parse(name)
	if err != nil || !ref.Digest().IsZero() && ref.Digest() != d {
		return image.Reference{}, false
	}
	return ref.WithDigest(d), true
}

// imageOf returns the image that a material is, in the forms that builders write.
func imageOf(m builds.Material) (image.Reference, bool) {
	if m.Digest.IsZero() {
		return image.Reference{}, false
	}
	uri := m.URI
	for _, scheme := range []string{"oci://", "docker://", "docker-pullable://"} {
		uri = strings.TrimPrefix(uri, scheme)
	}
	if rest, ok := cutAny(uri, "pkg:docker/", "pkg:oci/"); ok {
		uri = packageName(rest)
	}
	uri, _, _ = strings.Cut(uri, "@")
	return reference(uri, m.Digest.String())
}

func cutAny(s string, prefixes ...string) (string, bool) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest, true
		}
	}
	return s, false
}

// packageName returns the name of the image in a package URL, NAME@VERSION?QUALIFIERS.
func packageName(rest string) string {
	name, qualifiers, _ := strings.Cut(rest, "?")
	name, _, _ = strings.Cut(name, "@")
	if n, err := url.PathUnescape(name); err == nil {
		name = n
	}
	if q, err := url.ParseQuery(qualifiers); err == nil {
		if repository := q.Get("repository_url"); repository != "" {
			// It is the repository for oci, and the registry for docker.
			if strings.HasSuffix(repository, "/"+name) {
				return repository
			}
			return strings.TrimSuffix(repository, "/") + "/" + name
		}
	}
	return name
}
