// Package hint reads, makes and ranks rollout hints: signed statements that of images
// with a name of some form the one with a digest is meant to run.
//
// An attestation says of a digest what it is; a hint says of a name which digest it
// stands for. So a hint resolves and never authorises: whatever it names has to pass the
// policy like any image, and it is signed by keys of its own, under a note of its own.
//
// # Names
//
//	reg/path/app@sha256:…   that digest, which must be the hinted one
//	reg/path/app:v1.2       that tag
//	reg/path/app:v1.*       tags that begin with "v1."
//	reg/path/app            that image: without tag, or with any tag or digest
//	reg/path/*              images directly in that path; a permission, it resolves nothing
//
// Of names that fit, the one furthest up counts, and of tag prefixes the longest. A bare
// name is wider here than among the exempt patterns of a policy, where it stands for
// itself.
//
// # Freshness
//
// Whoever can bring back an old hint can roll back. So hints of one name are numbered, the
// highest number counts, and every hint ends. A name whose highest hint has ended, was
// revoked or deleted stands for nothing: neither an older hint nor a wider name takes its
// place, until a newer hint does.
package hint

import (
	"cmp"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// Type is the critical.type of the payload of a hint. No attestation has it.
	Type = "gatehouse rollout hint"
	// MaxPayload bounds a payload, in bytes.
	MaxPayload = 16 << 10
	// MaxLife is how long after it was issued a hint may end.
	MaxLife = 366 * 24 * time.Hour
	// DefaultLife is when a hint ends that does not say so: of those without a type.
	DefaultLife = 30 * 24 * time.Hour
	// Leeway is how far a clock of a signer may be ahead.
	Leeway = 5 * time.Minute
)

// A Form is what a [Name] says of references.
type Form uint8

// The forms, from the widest to the narrowest. The zero Form fits nothing.
const (
	Directory Form = iota + 1
	Bare
	TagPrefix
	Tag
	Digest
)

// A Name tells which references a hint is about. It is a value and may be compared: names
// of the same references are equal, however they were written.
type Name struct {
	form       Form
	repository string // registry and path, normalised
	tag        string
	digest     image.Digest
}

// ParseName reads a name in one of the five forms.
func ParseName(text string) (Name, error) {
	fail := func(err error) (Name, error) {
		return Name{}, fmt.Errorf("parsing the name of a rollout hint %q: %w", clip(text), err)
	}
	if dir, ok := strings.CutSuffix(text, "/*"); ok {
		r, err := image.Parse(dir + "/x") // what is in it has a name
		if err != nil || strings.ContainsAny(dir, "*") || r.Tag() != "" {
			return fail(errors.New("want REGISTRY/PATH/*"))
		}
		return Name{form: Directory, repository: strings.TrimSuffix(r.Repository(), "/x")}, nil
	}
	plain, prefix := strings.CutSuffix(text, "*")
	if strings.Contains(plain, "*") {
		return fail(errors.New("one * is allowed, at the end of a tag or in place of the last name of a path"))
	}
	if prefix {
		return parsePrefix(text, plain)
	}
	r, err := image.Parse(text)
	if err != nil {
		return fail(err)
	}
	n := Name{form: Bare, repository: r.Repository(), tag: string(r.Tag()), digest: r.Digest()}
	switch {
	case n.tag != "" && !n.digest.IsZero():
		return fail(errors.New("want a tag or a digest, not both"))
	case n.tag != "":
		n.form = Tag
	case !n.digest.IsZero():
		n.form = Digest
	}
	return n, nil
}

// parsePrefix reads reg/path/app:v1.*.
func parsePrefix(text, plain string) (Name, error) {
	r, err := image.Parse(plain)
	if err != nil || r.Tag() == "" || !r.Digest().IsZero() {
		return Name{}, fmt.Errorf("parsing the name of a rollout hint %q: want REPOSITORY:PREFIX*, such as app:v1.*", clip(text))
	}
	return Name{form: TagPrefix, repository: r.Repository(), tag: string(r.Tag())}, nil
}

// Form returns which of the forms the name has.
func (n Name) Form() Form { return n.form }

// Repository returns the registry and the path, or of a [Directory] what is before "/*".
func (n Name) Repository() string { return n.repository }

// String returns the name in full, as [ParseName] reads it.
func (n Name) String() string {
	switch n.form {
	case Directory:
		return n.repository + "/*"
	case TagPrefix:
		return n.repository + ":" + n.tag + "*"
	case Tag:
		return n.repository + ":" + n.tag
	case Digest:
		return n.repository + "@" + n.digest.String()
	}
	return n.repository
}

// compare orders names from the narrowest to the widest.
func (n Name) compare(m Name) int {
	return cmp.Or(cmp.Compare(m.form, n.form), cmp.Compare(len(m.tag), len(n.tag)), cmp.Compare(len(m.repository), len(n.repository)),
		strings.Compare(n.String(), m.String()))
}

// A Hint says which digest is meant to run under a name.
type Hint struct {
	Name   Name
	Digest image.Digest
	// Sequence grows with each hint of a name.
	Sequence uint64
	// IssuedAt and ExpiresAt are when it begins and ends to count.
	IssuedAt, ExpiresAt time.Time
	// Cluster is the one that it is for, LOCATION.NAME; "" is for all.
	Cluster string
	// Revoked takes back what was hinted before: nothing is meant to run under the name.
	// Digest is the one that was.
	Revoked bool
}

// wire is the form that is signed, in the order in which it is written.
type wire struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			DockerManifestDigest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type,omitempty"`
	} `json:"critical"`
	Optional optional `json:"optional"`
}

type optional struct {
	Sequence  uint64 `json:"sequence,omitempty"`
	IssuedAt  string `json:"issued-at,omitempty"`
	ExpiresAt string `json:"expires-at,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
	Revoked   bool   `json:"revoked,omitempty"`
}

// Payload returns the bytes to sign.
func (h *Hint) Payload() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("writing rollout hint for %q: %w", h.Name, err)
	}
	var w wire
	w.Critical.Identity.DockerReference = h.Name.String()
	w.Critical.Image.DockerManifestDigest = h.Digest.String()
	w.Critical.Type = Type
	w.Optional = optional{
		Sequence: h.Sequence, IssuedAt: h.IssuedAt.UTC().Format(time.RFC3339Nano), ExpiresAt: h.ExpiresAt.UTC().Format(time.RFC3339Nano),
		Cluster: h.Cluster, Revoked: h.Revoked,
	}
	return stdjson.Marshal(w)
}

// Parse reads a payload whose signature was verified with a key of hint signers, and
// only of them. One without a type is read too, as one of the number 0: it begins when it
// was filed, and ends after [DefaultLife], unless it says so itself.
func Parse(payload []byte, filed time.Time) (Hint, error) {
	fail := func(err error) (Hint, error) { return Hint{}, fmt.Errorf("reading rollout hint: %w", err) }
	if len(payload) > MaxPayload {
		return fail(fmt.Errorf("%d bytes, more than %d", len(payload), MaxPayload))
	}
	var w wire
	if err := json.Unmarshal(payload, &w); err != nil {
		return fail(errors.New(clip(err.Error())))
	}
	typeless := w.Critical.Type == ""
	if !typeless && w.Critical.Type != Type {
		return fail(fmt.Errorf("critical.type is %q, want %q: what a key signs of another kind is no hint", clip(w.Critical.Type), Type))
	}
	name, err := ParseName(w.Critical.Identity.DockerReference)
	if err != nil {
		return fail(err)
	}
	digest, err := image.ParseDigest(w.Critical.Image.DockerManifestDigest)
	if err != nil {
		return fail(fmt.Errorf("critical.image.docker-manifest-digest: %w", err))
	}
	h := Hint{Name: name, Digest: digest, Sequence: w.Optional.Sequence, Cluster: w.Optional.Cluster, Revoked: w.Optional.Revoked, IssuedAt: filed}
	if h.IssuedAt, err = moment("issued-at", w.Optional.IssuedAt, filed, typeless); err != nil {
		return fail(err)
	}
	if h.ExpiresAt, err = moment("expires-at", w.Optional.ExpiresAt, h.IssuedAt.Add(DefaultLife), typeless); err != nil {
		return fail(err)
	}
	if !typeless && h.Sequence == 0 {
		return fail(errors.New("optional.sequence is missing: hints of a name are numbered from 1"))
	}
	if err := h.check(); err != nil {
		return fail(err)
	}
	return h, nil
}

func moment(what, text string, otherwise time.Time, mayLack bool) (time.Time, error) {
	if text == "" && mayLack {
		return otherwise, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("optional.%s: want a time such as 2006-01-02T15:04:05Z, got %q", what, clip(text))
	}
	return t.UTC(), nil
}

// check holds a hint to what every hint is.
func (h *Hint) check() error {
	switch {
	case h.Name.form == 0:
		return errors.New("it has no name")
	case h.Digest.IsZero():
		return errors.New("it has no digest")
	case h.Name.form == Digest && h.Name.digest != h.Digest:
		return fmt.Errorf("its name has another digest than the hinted %s", h.Digest)
	case !h.ExpiresAt.After(h.IssuedAt):
		return errors.New("it ends before it begins")
	case h.ExpiresAt.Sub(h.IssuedAt) > MaxLife:
		return fmt.Errorf("it ends more than %d days after it was issued", int(MaxLife.Hours()/24))
	case len(h.Cluster) > maxCluster || strings.ContainsFunc(h.Cluster, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("its cluster %q: want LOCATION.NAME", clip(h.Cluster))
	}
	return nil
}

// maxCluster bounds the name of a cluster.
const maxCluster = 253

// ResourceURI returns what an occurrence of the hint is filed under: the digest, in the
// repository or path that it is about.
func (h *Hint) ResourceURI() string {
	return "https://" + h.Name.repository + "@" + h.Digest.String()
}

// newer orders hints of one name, the one that counts first.
func newer(a, b *Hint) int {
	return cmp.Or(cmp.Compare(b.Sequence, a.Sequence), b.IssuedAt.Compare(a.IssuedAt),
		// Of two with one number and one time the one that allows less counts.
		compareBool(b.Revoked, a.Revoked), strings.Compare(a.Digest.String(), b.Digest.String()))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Sorted returns hints from the narrowest name to the widest, and of each name the one
// that counts first.
func Sorted(hints []Hint) []Hint {
	sorted := slices.Clone(hints)
	slices.SortStableFunc(sorted, func(a, b Hint) int {
		return cmp.Or(a.Name.compare(b.Name), strings.Compare(a.Cluster, b.Cluster), newer(&a, &b))
	})
	return sorted
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
