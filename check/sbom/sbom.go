// Package sbom is the check that an image has a list of its parts, a software bill of
// materials, that can be read and is of this image.
//
// It looks at what the registry has attached to the image: what refers to it, what cosign
// files beside it, and what BuildKit puts into its index; there an SBOM of each platform
// stands for the whole. One counts that is in JSON, SPDX 2 or 3 or CycloneDX, lists
// something, and says that it is of this image: as the subject of an in-toto statement or
// of the artifact that it is. With keys, it must be a statement that one of them signed;
// without, whoever may push to the repository is believed.
package sbom

import (
	"context"
	"errors"
	"fmt"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// Name is the name of the check.
const Name = "sbom"

// none begins the reason when there is no SBOM at all. It is Voucher's.
const none = "no SBOM was found"

// maxBlobs bounds what is read of what is attached to one image.
const maxBlobs = 32

// Settings are what the check is made from.
type Settings struct {
	// Keys are those that sign SBOMs. With any, nothing else counts.
	Keys []*signature.PublicKey
	// Platforms are those of an index that must have an SBOM; none means all.
	Platforms []resolve.Platform
}

// New returns the check.
func New(s Settings) check.Check {
	return check.Check{Name: Name, Doc: Doc(), Run: s.run}
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image has a software bill of materials",
		Proves: "The registry has an SBOM attached to the image, or to each of its platforms, that can be read, lists something, and is of this image by its digest. Read are SPDX 2 and 3 and CycloneDX in JSON: attached by the referrers of OCI, by cosign, or by BuildKit. With keys in gatehouse.sbom.keys one of them must have signed it, as a statement in a DSSE envelope. Whether the list is complete, or right, the check cannot see.",
		Needs:  []string{"the registry"},
		Settings: []check.Setting{
			{Key: "gatehouse.sbom.keys", Text: "public keys that sign SBOMs; with any, only SBOMs that one has signed count", Default: "none: whoever may push is believed"},
			{Key: "gatehouse.platforms", Text: "the platforms that are looked at", Default: "all that the image has"},
		},
		Fixes: []check.Fix{
			{Failure: none, Do: "make one and attach it by the image's digest: cosign attest --type spdxjson, oras attach --artifact-type application/spdx+json, or docker buildx build --sbom=true"},
			{Failure: "an SBOM does not count", Do: "do what the reason says: another format, the right digest, or a signature by one of the keys"},
		},
	}
}

func (s Settings) run(ctx context.Context, in *check.Input) (check.Result, error) {
	configs, err := in.Registry.Configs(ctx, in.Image, s.Platforms...)
	if err != nil {
		return check.Result{}, err
	}
	r := reader{Settings: s, registry: in.Registry, about: map[image.Digest]document{}}
	for _, ref := range []image.Reference{in.Image, in.Index} {
		if ref.Digest().IsZero() {
			continue
		}
		if err := r.read(ctx, in.Image, ref); err != nil {
			return check.Result{}, err
		}
	}
	for _, digest := range []image.Digest{in.Image.Digest(), in.Index.Digest()} {
		if d, ok := r.about[digest]; ok && !digest.IsZero() {
			return check.Pass(d.String()), nil
		}
	}
	var evidence []string
	for _, c := range configs {
		if _, ok := r.about[c.Manifest]; !ok && c.Manifest != in.Image.Digest() {
			if err := r.read(ctx, in.Image, in.Image.WithDigest(c.Manifest)); err != nil {
				return check.Result{}, err
			}
		}
		d, ok := r.about[c.Manifest]
		if !ok {
			return s.fail(ctx, in, c, r.rejected)
		}
		evidence = append(evidence, fmt.Sprintf("on %s, %s", c.Platform, d))
	}
	return check.Pass(evidence...), nil
}

func (s Settings) fail(ctx context.Context, in *check.Input, c resolve.Config, rejected []string) (check.Result, error) {
	text := none
	if c.Manifest != in.Image.Digest() {
		text += " of " + c.Platform.String()
	}
	if len(rejected) > 0 {
		return check.Fail("%s: an SBOM does not count: %s", text, builds.Join(rejected)), nil
	}
	references, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_SBOM_REFERENCE)
	if err != nil {
		return check.Result{}, err
	}
	if len(references) > 0 {
		at := references[0].GetSbomReference().GetPayload().GetPredicate().GetLocation()
		return check.Fail("%s attached to the image: the metadata refers to one at %q, and what is there is not read; attach it in the registry", text, builds.Clip(at)), nil
	}
	return check.Fail("%s attached to %q; attach one by its digest, as with cosign attest or docker buildx build --sbom=true", text, in.Image), nil
}

// A reader reads what is attached to an image and its platforms.
type reader struct {
	Settings
	registry check.Registry
	blobs    int
	seen     map[image.Digest]bool
	about    map[image.Digest]document
	rejected []string
}

func (r *reader) reject(format string, args ...any) {
	r.rejected = append(r.rejected, builds.Clip(fmt.Sprintf(format, args...)))
}

// read reads what is attached to one manifest. Blobs are in the repository of the image.
func (r *reader) read(ctx context.Context, in, ref image.Reference) error {
	artifacts, err := r.registry.Attached(ctx, ref)
	if err != nil {
		return err
	}
	for _, a := range artifacts {
		for _, b := range a.Layers {
			read := r.readerOf(a, b)
			if read == nil || r.seen[b.Digest] {
				continue
			}
			if r.seen == nil {
				r.seen = map[image.Digest]bool{}
			}
			r.seen[b.Digest] = true
			if r.blobs++; r.blobs > maxBlobs {
				return fmt.Errorf("looking for the SBOM of %q: more than %d things are attached that may be one; delete those that are of no use", in, maxBlobs)
			}
			content, err := r.registry.Blob(ctx, ref, b.Digest, signature.MaxEnvelope)
			switch {
			case errors.Is(err, resolve.ErrNotFound), errors.Is(err, resolve.ErrTooLarge):
				r.reject("%s: %v", b.Digest, err)
				continue
			case err != nil:
				return err
			}
			read(content)
		}
	}
	return nil
}

// readerOf returns what reads a blob, or nil if it is nothing that may be an SBOM.
func (r *reader) readerOf(a resolve.Artifact, b resolve.Blob) func([]byte) {
	if t := b.Annotations["predicateType"] + b.Annotations["in-toto.io/predicate-type"]; t != "" && formatOf(t) == "" {
		return nil // a statement about something else
	}
	mediaType, _, _ := strings.Cut(b.MediaType, ";")
	switch {
	case mediaType == "application/vnd.dsse.envelope.v1+json":
		return func(content []byte) { r.envelope(content, signature.ParseEnvelope) }
	case strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle"):
		return func(content []byte) { r.envelope(content, parseBundle) }
	case mediaType == "application/vnd.in-toto+json":
		return r.statementAlone
	case formatOf(mediaType) != "" || formatOf(a.Type) != "":
		return func(content []byte) { r.documentAlone(content, a.Subject) }
	}
	return nil
}

func (r *reader) envelope(content []byte, parse func([]byte) (*signature.Envelope, error)) {
	e, err := parse(content)
	if err != nil {
		r.reject("an envelope: %v", err)
		return
	}
	var st signature.Statement
	by := "unsigned"
	if len(r.Keys) > 0 {
		var key *signature.PublicKey
		if st, key, err = builds.VerifyEnvelope(e, r.Keys); err == nil {
			by = "signed by " + key.ID()
		}
	} else {
		st, err = e.InsecureStatement()
	}
	if err != nil {
		r.reject("an envelope: %v", err)
		return
	}
	r.statement(st, by)
}

func (r *reader) statementAlone(content []byte) {
	if len(r.Keys) > 0 {
		r.reject("a statement is not signed, and gatehouse.sbom.keys asks for it")
		return
	}
	st, err := signature.InsecureParseStatement(content)
	if err != nil {
		r.reject("%v", err)
		return
	}
	r.statement(st, "unsigned")
}

// statement takes an SBOM that is about the subjects of a statement.
func (r *reader) statement(st signature.Statement, by string) {
	if formatOf(st.PredicateType) == "" {
		return // a statement about something else
	}
	d, err := parse(predicateOf(st.Predicate))
	if err != nil {
		r.reject("a statement of type %q: %v", st.PredicateType, err)
		return
	}
	d.by = by
	for _, s := range st.Subjects {
		if !s.Digest.IsZero() {
			r.about[s.Digest] = d
		}
	}
}

// documentAlone takes an SBOM that an artifact is, about the artifact's subject.
func (r *reader) documentAlone(content []byte, subject image.Digest) {
	if len(r.Keys) > 0 {
		r.reject("a document is not signed, and gatehouse.sbom.keys asks for it")
		return
	}
	d, err := parse(content)
	switch {
	case err != nil:
		r.reject("a document: %v", err)
	case d.isOfAnother(subject):
		// It may be of one of the images of the index that it is attached to.
		r.reject("a document is of another image: it names %s", d.images[0])
		d.by = "unsigned"
		for _, named := range d.images {
			r.about[named] = d
		}
	default:
		d.by = "unsigned"
		r.about[subject] = d
	}
}
