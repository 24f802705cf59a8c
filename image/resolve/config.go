package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxPlatforms bounds the images of one index that are looked at. The
	// widest official images have about a dozen.
	maxPlatforms = 64
	// maxNesting bounds indexes within indexes. Real ones do not nest.
	maxNesting = 2

	// recordAnnotation has the value recordType on the entries of an index that
	// are build records, as BuildKit writes them.
	recordAnnotation, recordType = "vnd.docker.reference.type", "attestation-manifest"
)

// A Platform is what an image runs on. The zero Platform is unknown.
type Platform struct {
	OS, Architecture, Variant string
}

// ParsePlatform parses OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as
// "linux/amd64" and "linux/arm/v7".
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("parsing platform %q: want OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64", s)
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
			return Platform{}, fmt.Errorf("parsing platform %q: %q is not a lower-case name", s, p)
		}
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// String returns the platform as [ParsePlatform] reads it, or "unknown".
func (p Platform) String() string {
	switch {
	case p == Platform{}:
		return "unknown"
	case p.Variant == "":
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// covers reports whether someone who runs p may be given an image for q.
// Without a variant p means every variant. What q leaves out a runtime fills in
// for itself, and other spellings it takes for the same: whoever wrote the index
// must not be able to hide an image from checks by them.
func (p Platform) covers(q Platform) bool {
	p, q = p.canonical(), q.canonical()
	same := func(want, got string) bool { return got == "" || want == got }
	return same(p.OS, q.OS) && same(p.Architecture, q.Architecture) && (p.Variant == "" || same(p.Variant, q.Variant))
}

// canonical returns the platform in the spelling of Go, as container runtimes
// compare it.
func (p Platform) canonical() Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	return p
}

// isNone reports whether the platform is the one that build tools file their
// records under, "unknown/unknown". No runtime runs it.
func (p Platform) isNone() bool { return p.OS == "unknown" && p.Architecture == "unknown" }

// A Config is the configuration of an image on one platform.
type Config struct {
	// Manifest is the digest of the manifest that names this configuration:
	// the digest asked for, or one of those in the index.
	Manifest image.Digest
	Platform Platform
	// User is the user or UID, and optionally the group, as the image has it.
	User   string
	Labels map[string]string
	// Env are the variables of the environment, NAME=VALUE.
	Env, Entrypoint, Cmd []string
	WorkingDir           string
	// Ports are those that the image exposes, such as "8080/tcp", sorted.
	Ports []string
	// Created is when the image says it was made, and the zero time when it does not.
	Created time.Time
	// Layers are the digests of the layers, uncompressed, from the bottom up.
	Layers []string
	// Annotations are those of the manifest.
	Annotations map[string]string
}

// Config returns the configuration of the image for one platform. A reference
// to an image, rather than to an index, has only one, and p is not compared
// with it.
func (r *Resolver) Config(ctx context.Context, ref image.Reference, p Platform) (Config, error) {
	configs, err := r.Configs(ctx, ref, p)
	if err != nil {
		return Config{}, err
	}
	return configs[0], nil
}

// Configs returns the configuration of the image for each of the platforms
// wanted, or for all that it has when none is given. The digest of an index
// covers all its images: a statement about it that looked at one would say more
// than is known. There is at least one Config when the error is nil.
func (r *Resolver) Configs(ctx context.Context, ref image.Reference, wanted ...Platform) ([]Config, error) {
	if err := ref.RequireDigest(); err != nil {
		return nil, fmt.Errorf("reading the configuration of an image: %w", err)
	}
	return ask(ctx, r.copies(ref.Repository(), false), func(ctx context.Context, repository string) ([]Config, error) {
		return r.configs(withBudget(ctx), ref, repository, wanted)
	})
}

// configs is Configs of one copy of the image.
func (r *Resolver) configs(ctx context.Context, ref image.Reference, repository string, wanted []Platform) ([]Config, error) {
	repo, err := name.NewRepository(repository, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", ref, err)
	}
	puller, err := r.puller()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", ref, err)
	}
	w := &walk{ref: ref, repo: repo, puller: puller, wanted: wanted, found: make([]bool, len(wanted))}
	if err := w.visit(ctx, ref.Digest(), entry{}, 0); err != nil {
		return nil, err
	}
	if missing := w.missing(); len(missing) > 0 {
		return nil, fmt.Errorf("reading %q: %w %s; it has %s", ref, ErrNoPlatform, strings.Join(missing, ", "), list(w.seen))
	}
	if len(w.configs) == 0 {
		return nil, fmt.Errorf("reading %q: %w: the index holds no images", ref, ErrNotAnImage)
	}
	return w.configs, nil
}

// walk is the state of one reading of an image and what is beneath it.
type walk struct {
	ref     image.Reference
	repo    name.Repository
	puller  *remote.Puller
	wanted  []Platform
	found   []bool
	seen    []Platform
	visits  int
	configs []Config
}

// entry is what an index says of a manifest. What type it says it has is not
// believed: runtimes choose by platform.
type entry struct {
	platform *Platform // nil when the index gives none
	record   bool      // marked as a build record
}

// visit reads one manifest, which an index said e of.
func (w *walk) visit(ctx context.Context, d image.Digest, e entry, depth int) error {
	if w.visits++; w.visits > maxPlatforms {
		return fmt.Errorf("reading %q: the index has more than %d entries", w.ref, maxPlatforms)
	}
	desc, err := w.puller.Get(ctx, w.repo.Digest(d.String()))
	if err != nil {
		return explain("reading", w.ref, err)
	}
	if image.DigestOf(desc.Manifest) != d {
		return explain("reading", w.ref, fmt.Errorf("manifest %s does not match requested digest", d))
	}
	desc.MediaType, err = mediaType(desc)
	if err != nil {
		return fmt.Errorf("reading %q: %s%w", w.ref, w.at(d), err)
	}
	switch desc.MediaType {
	case types.OCIImageIndex, types.DockerManifestList:
		return w.index(ctx, desc, depth)
	case types.OCIManifestSchema1, types.DockerManifestSchema2:
		return w.image(desc, d, e, depth)
	case types.DockerManifestSchema1, types.DockerManifestSchema1Signed:
		return fmt.Errorf("reading %q: %s%w that can be read: it has the obsolete schema 1; push it again with a current tool", w.ref, w.at(d), ErrNotAnImage)
	}
	return fmt.Errorf("reading %q: %s%w: media type %q", w.ref, w.at(d), ErrNotAnImage, clip(string(desc.MediaType)))
}

// at names a manifest that is not the one asked for, to begin an error with.
func (w *walk) at(d image.Digest) string {
	if d == w.ref.Digest() {
		return ""
	}
	return fmt.Sprintf("entry %s of the index: ", d)
}

// mediaType returns what the manifest is. The registry says so in a header,
// which no digest covers; content that could also be read as something else is
// refused, or one reader would see an index where another sees an image.
func mediaType(desc *remote.Descriptor) (types.MediaType, error) {
	header, _, _ := strings.Cut(string(desc.MediaType), ";")
	header = strings.TrimSpace(header)
	var m struct {
		MediaType string         `json:"mediaType"`
		Config    jsontext.Value `json:"config"`
		Layers    jsontext.Value `json:"layers"`
		Manifests jsontext.Value `json:"manifests"`
	}
	if err := json.Unmarshal(desc.Manifest, &m, json.MatchCaseInsensitiveNames(true)); err != nil {
		return "", fmt.Errorf("parsing the manifest: %s", brief(err))
	}
	if m.MediaType != "" && m.MediaType != header {
		return "", fmt.Errorf("%w: the registry calls it %q, the manifest calls itself %q", ErrNotAnImage, clip(header), clip(m.MediaType))
	}
	if m.Manifests != nil && (m.Config != nil || m.Layers != nil) {
		return "", fmt.Errorf("%w: the manifest can be read as an image and as an index", ErrNotAnImage)
	}
	t := types.MediaType(header)
	if t.IsIndex() && m.Manifests == nil || t.IsImage() && m.Config == nil {
		return "", fmt.Errorf("%w: the registry calls it %q, and that is not what it looks like", ErrNotAnImage, clip(header))
	}
	return t, nil
}

func (w *walk) index(ctx context.Context, desc *remote.Descriptor, depth int) error {
	if depth >= maxNesting {
		return fmt.Errorf("reading %q: indexes nest more than %d deep", w.ref, maxNesting)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(desc.Manifest))
	if err != nil {
		return fmt.Errorf("reading %q: parsing the index: %s", w.ref, brief(err))
	}
	for _, m := range index.Manifests {
		e := entry{platform: platformOf(m.Platform), record: m.Annotations[recordAnnotation] == recordType}
		if !w.want(e.platform) {
			continue
		}
		d, err := image.ParseDigest(m.Digest.String())
		if err != nil {
			return fmt.Errorf("reading %q: parsing the index: %w", w.ref, err)
		}
		if err := w.visit(ctx, d, e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// want decides whether an entry of an index is read. Those for another platform
// are passed over, and build records. One without platform is read: a runtime
// looks into its configuration, and so it may be what is run.
func (w *walk) want(p *Platform) bool {
	if p == nil {
		return true
	}
	if p.isNone() {
		return false
	}
	w.seen = append(w.seen, *p)
	return w.choose(*p)
}

// choose reports whether the platform is one of those wanted, and notes that it
// was found.
func (w *walk) choose(p Platform) bool {
	chosen := len(w.wanted) == 0
	for i, q := range w.wanted {
		if q.covers(p) {
			w.found[i], chosen = true, true
		}
	}
	return chosen
}

func (w *walk) image(desc *remote.Descriptor, d image.Digest, e entry, depth int) error {
	c, err := w.config(desc)
	if err != nil {
		return err
	}
	c.Manifest = d
	switch {
	case e.platform != nil:
		c.Platform = *e.platform
	case depth == 0:
		for i := range w.found {
			w.found[i] = true
		}
	case e.record && c.Platform.isNone():
		return nil
	default:
		w.seen = append(w.seen, c.Platform)
		if !w.choose(c.Platform) {
			return nil
		}
	}
	w.configs = append(w.configs, c)
	return nil
}

// config reads the configuration that a manifest names.
func (w *walk) config(desc *remote.Descriptor) (Config, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(desc.Manifest))
	if err != nil {
		return Config{}, fmt.Errorf("reading %q: parsing the manifest: %s", w.ref, brief(err))
	}
	if n := manifest.Config.Size; n < 0 || n > MaxResponse {
		return Config{}, fmt.Errorf("reading %q: %w: a configuration of %d bytes, more than %d", w.ref, ErrTooLarge, n, MaxResponse)
	}
	img, err := desc.Image()
	if err != nil {
		return Config{}, explain("reading", w.ref, err)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return Config{}, explain("reading the configuration of", w.ref, err)
	}
	c, err := parseConfig(raw)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration of %q: %w", w.ref, err)
	}
	c.Annotations = manifest.Annotations
	return c, nil
}

func (w *walk) missing() []string {
	var missing []string
	for i, ok := range w.found {
		if !ok {
			missing = append(missing, w.wanted[i].String())
		}
	}
	return missing
}

// configFile is the part of an image configuration that Gatehouse reads.
type configFile struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	Created      string `json:"created"`
	Config       *struct {
		User         string                    `json:"User"`
		Labels       map[string]string         `json:"Labels"`
		Env          []string                  `json:"Env"`
		Entrypoint   []string                  `json:"Entrypoint"`
		Cmd          []string                  `json:"Cmd"`
		WorkingDir   string                    `json:"WorkingDir"`
		ExposedPorts map[string]jsontext.Value `json:"ExposedPorts"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// parseConfig reads an image configuration. Container runtimes match names in
// any case, and the last of several wins; a document that could mean two things
// to two readers is refused.
func parseConfig(raw []byte) (Config, error) {
	var f configFile
	if err := json.Unmarshal(raw, &f, json.MatchCaseInsensitiveNames(true)); err != nil {
		return Config{}, errors.New(brief(err))
	}
	c := Config{
		Platform: Platform{OS: clip(f.OS), Architecture: clip(f.Architecture), Variant: clip(f.Variant)},
	}
	if err := c.Created.UnmarshalText([]byte(f.Created)); err != nil {
		c.Created = time.Time{} // what the image says of itself, and of no use so
	}
	c.Layers = f.RootFS.DiffIDs
	if f.Config != nil {
		c.User, c.Labels = f.Config.User, f.Config.Labels
		c.Env, c.Entrypoint, c.Cmd, c.WorkingDir = f.Config.Env, f.Config.Entrypoint, f.Config.Cmd, f.Config.WorkingDir
		c.Ports = slices.Sorted(maps.Keys(f.Config.ExposedPorts))
	}
	return c, nil
}

// artifactTypeOf reads the artifactType of a manifest, which the client library does
// not.
func artifactTypeOf(manifest []byte) string {
	var m struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return ""
	}
	return m.ArtifactType
}

func platformOf(p *v1.Platform) *Platform {
	if p == nil {
		return nil
	}
	return &Platform{OS: clip(p.OS), Architecture: clip(p.Architecture), Variant: clip(p.Variant)}
}

func list(platforms []Platform) string {
	if len(platforms) == 0 {
		return "none"
	}
	words := make([]string, 0, len(platforms))
	for _, p := range platforms {
		words = append(words, p.String())
		if len(words) == maxPlatforms {
			break
		}
	}
	return strings.Join(words, ", ")
}

// clip shortens a word that a registry chose.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
