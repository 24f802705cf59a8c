package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
)

// maxProfile bounds the text of a profile.
const maxProfile = 1 << 20

// A Profile says what the suite may expect of the gate under test.
type Profile struct {
	// Good is an image that the gate's policy admits, and Bad one that it denies.
	// The policy must cover every registry, so that an image of which it knows
	// nothing is denied.
	Good ProfileImage `yaml:"good"`
	Bad  ProfileImage `yaml:"bad"`
	// Namespace is where the reviews say that pods are made. Default "default". The
	// gate's policy must apply there.
	Namespace string `yaml:"namespace"`
	// Timeout is the webhook's timeoutSeconds: a later answer is none. Default 10s.
	Timeout Duration `yaml:"timeout"`
	// FailurePolicy is the webhook's: Fail (default), or Ignore, with which every
	// failure of the gate admits what was asked.
	FailurePolicy string `yaml:"failurePolicy"`
	// Versions are the AdmissionReview versions that the webhook lists: v1, v1beta1.
	// By default v1, and v1beta1 if the gate admits the good image in it.
	Versions []string `yaml:"versions"`
	// ResolvesTags says that the gate is a mutating webhook that puts the digest in
	// the place of a tag. Otherwise it has to deny tags.
	ResolvesTags bool `yaml:"resolvesTags"`
	// Kinds are the resources beside pods that the gate reviews: "deployments.apps",
	// "cronjobs.batch", "podtemplates". Cases on others are skipped.
	Kinds []string `yaml:"kinds"`
	// Exempt is what the gate's policy lets in unchecked.
	Exempt ProfileExemptions `yaml:"exempt"`
	// BreakGlass is the marker that overrides the gate.
	BreakGlass ProfileBreakGlass `yaml:"breakGlass"`
	// Denied are more images that the gate denies, for what the suite cannot make
	// itself, since it has no keys: evidence of another signer, or expired.
	Denied []ProfileDenied `yaml:"denied"`
}

// A ProfileImage is an image by digest, and optionally a tag of the same image.
type ProfileImage struct {
	Image string `yaml:"image"` // HOST/NAME@sha256:…
	Tag   string `yaml:"tag"`   // HOST/NAME:TAG
}

// ProfileExemptions are one image and one namespace that policy lets in unchecked.
type ProfileExemptions struct {
	Image     string `yaml:"image"`
	Namespace string `yaml:"namespace"`
}

// A ProfileBreakGlass is a label or an annotation, and its value.
type ProfileBreakGlass struct {
	Label      string `yaml:"label"`
	Annotation string `yaml:"annotation"`
	Value      string `yaml:"value"` // default "true"
	// None says that the gate has no such marker.
	None bool `yaml:"none"`
	// Use lets the suite break glass once, which may set off alarms.
	Use bool `yaml:"use"`
}

// A ProfileDenied is an image that the gate denies, and the class that it is for.
type ProfileDenied struct {
	Class string `yaml:"class"` // "B11" or "B12"
	Image string `yaml:"image"`
	Why   string `yaml:"why"`
}

// A Duration is written as "10s".
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	*d = Duration(parsed)
	return nil
}

// The values of [Profile.FailurePolicy].
const (
	failClosed = "Fail"
	failOpened = "Ignore"
)

// The versions of AdmissionReview.
const (
	v1      = "v1"
	v1beta1 = "v1beta1"
)

// ParseProfile reads a profile from YAML or JSON. A field that a profile does not
// have is an error.
func ParseProfile(file string, data []byte) (Profile, error) {
	var p Profile
	if len(data) > maxProfile {
		return p, fmt.Errorf("reading profile %q: longer than %d bytes", file, maxProfile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Profile{}, fmt.Errorf("reading profile %q: %w", file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Profile{}, fmt.Errorf("reading profile %q: more than one document", file)
	}
	return p, nil
}

// complete fills in defaults, and returns everything that is wrong.
func (p Profile) complete() (Profile, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for field, given := range map[string]ProfileImage{"good": p.Good, "bad": p.Bad} {
		if _, err := image.ParseDigested(given.Image); err != nil {
			bad("%s.image: want an image by digest, HOST/NAME@sha256:…: %w", field, err)
		}
		if given.Tag == "" {
			continue
		}
		if ref, err := image.Parse(given.Tag); err != nil || ref.Tag() == "" || !ref.Digest().IsZero() {
			bad("%s.tag %q: want HOST/NAME:TAG", field, given.Tag)
		}
	}
	if p.Good.Image != "" && p.Good.Image == p.Bad.Image {
		bad("good and bad are the same image")
	}
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	if p.Timeout == 0 {
		p.Timeout = Duration(10 * time.Second)
	}
	if t := time.Duration(p.Timeout); t < time.Second || t > 30*time.Second {
		bad("timeout %s: want 1s to 30s, as Kubernetes does", t)
	}
	switch p.FailurePolicy {
	case "":
		p.FailurePolicy = failClosed
	case failClosed, failOpened:
	default:
		bad("failurePolicy %q: want Fail or Ignore", p.FailurePolicy)
	}
	for _, v := range p.Versions {
		if v != v1 && v != v1beta1 {
			bad("versions: %q: want v1 or v1beta1", v)
		}
	}
	for _, k := range p.Kinds {
		if !slices.Contains(kindNames(), k) {
			bad("kinds: %q: want one of %s", k, strings.Join(kindNames(), ", "))
		}
	}
	if b := p.BreakGlass; b.Label != "" && b.Annotation != "" || b.None && b.Label+b.Annotation != "" {
		bad("breakGlass: want one of label, annotation and none")
	} else if (b.Label != "" || b.Annotation != "") && b.Value == "" {
		p.BreakGlass.Value = "true"
	}
	for i, d := range p.Denied {
		if d.Class != "B11" && d.Class != "B12" {
			bad("denied[%d].class %q: want B11 or B12", i, d.Class)
		}
		if _, err := image.Parse(d.Image); err != nil {
			bad("denied[%d].image: %w", i, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return p, fmt.Errorf("profile: %w", err)
	}
	return p, nil
}
